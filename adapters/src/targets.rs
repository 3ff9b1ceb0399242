//! Where records go: one file per protocol, and the registry.

use xinqiao_core::spi::TargetFactory;

mod rest;
mod soap;

/// Every kind of target.
pub const TARGETS: &[&dyn TargetFactory] = &[&rest::Rest, &soap::Soap];

/// The kind of target with this name in `gateway.yaml`.
pub fn find(kind: &str) -> Option<&'static dyn TargetFactory> {
    TARGETS.iter().copied().find(|target| target.kind() == kind)
}
