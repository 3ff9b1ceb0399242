//! Bytes → rows: one file per family of formats, and the registry.

use xinqiao_core::model::FormatKind;
use xinqiao_core::spi::Format;

/// Every family.
pub const FORMATS: &[&dyn Format] = &[];

/// The decoder of a kind.
pub fn find(kind: FormatKind) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.kinds().contains(&kind))
}
