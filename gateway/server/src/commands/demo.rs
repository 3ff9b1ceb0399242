//! `demo`.

pub mod platform;
