//! Where records go: one file per protocol, and the registry.

use xinqiao_core::spi::TargetFactory;

/// Every kind of target.
pub const TARGETS: &[&dyn TargetFactory] = &[];
