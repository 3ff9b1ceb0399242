//! Protocol parts that sources and targets share.

pub(crate) mod db;
pub(crate) mod dial;
pub(crate) mod digest;
pub(crate) mod files;
pub(crate) mod ftp;
pub(crate) mod http;
pub(crate) mod params;
pub(crate) mod sftp;
pub(crate) mod soap;
pub(crate) mod tls;
pub(crate) mod xml;
