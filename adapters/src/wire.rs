//! Protocol parts that sources and targets share.

pub(crate) mod dial;
pub(crate) mod digest;
pub(crate) mod http;
pub(crate) mod params;
pub(crate) mod soap;
pub(crate) mod tls;
pub(crate) mod xml;
