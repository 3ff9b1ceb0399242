//! Protocol parts that sources and targets share.

pub(crate) mod db;
pub(crate) mod dial;
pub(crate) mod digest;
pub(crate) mod http;
pub(crate) mod params;
pub(crate) mod tls;
