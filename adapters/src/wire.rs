//! Protocol parts that sources and targets share.
