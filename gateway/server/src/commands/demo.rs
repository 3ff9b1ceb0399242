//! `demo`.

pub mod agencies;
pub mod platform;
