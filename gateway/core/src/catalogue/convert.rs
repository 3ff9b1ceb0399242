//! From one generation to another.

use std::sync::Arc;

use super::Dataset;
use crate::model::{Draft, Finding};

/// Converts a draft of an older generation to `to` (same dataset). What cannot be carried over
/// truthfully becomes a finding, never a guess. Returns the draft unchanged if it is of `to` already.
pub fn convert(_draft: Draft, _to: &Arc<Dataset>, _findings: &mut Vec<Finding>) -> Draft {
    todo!()
}
