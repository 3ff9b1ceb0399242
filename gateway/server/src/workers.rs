//! The way data goes.
