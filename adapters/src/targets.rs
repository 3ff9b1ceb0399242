//! Where records go: one file per protocol, and the registry.

use xinqiao_core::spi::TargetFactory;

mod files;
mod front_db;
mod ftp;
mod rest;
mod sftp;
mod soap;

/// Every kind of target.
pub const TARGETS: &[&dyn TargetFactory] =
    &[&front_db::FrontDb, &ftp::Ftp, &rest::Rest, &sftp::Sftp, &soap::Soap];

/// The kind of target with this name in `gateway.yaml`.
pub fn find(kind: &str) -> Option<&'static dyn TargetFactory> {
    TARGETS.iter().copied().find(|target| target.kind() == kind)
}
