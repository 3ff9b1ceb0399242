//! Where messages come from: one file per protocol, and the registry.

use xinqiao_core::spi::SourceFactory;

/// Every kind of source.
pub const SOURCES: &[&dyn SourceFactory] = &[];
