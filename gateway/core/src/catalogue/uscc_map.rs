//! The mapping table as a dataset: what a feed brings it by.

use super::{Dataset, Role};
use crate::ident::{EntryError, LegacyCode, LegacyKind, UsccEntry};
use crate::model::Draft;

/// Whether rows of this dataset are lines of the mapping table: they go there, not to a target.
pub fn is_uscc_map(dataset: &Dataset) -> bool {
    dataset.role(Role::LegacyCode).is_some()
}

/// The line that a draft is; `None` if it is no draft of such a dataset, or a part is missing or
/// has failed (then a rule has said so).
pub fn uscc_entry(draft: &Draft) -> Option<Result<UsccEntry, EntryError>> {
    let sound = |role| {
        let slot = draft.dataset.role(role).and_then(|ix| draft.slot(ix));
        slot.filter(|slot| !slot.failed).and_then(|_| draft.text(role))
    };
    let (kind, written) = (sound(Role::LegacyKind)?, sound(Role::LegacyCode)?);
    let uscc = sound(Role::SubjectUscc)?;
    let entry = || {
        let kind = LegacyKind::named(kind).ok_or(EntryError::Code)?;
        let code = LegacyCode::new(kind, written).ok_or(EntryError::Code)?;
        let period = (draft.date(Role::MappedFrom), draft.date(Role::MappedTo));
        UsccEntry::new(code, uscc, period, draft.text(Role::SourceName).unwrap_or_default())
    };
    Some(entry())
}
