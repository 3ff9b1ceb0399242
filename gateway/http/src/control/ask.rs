//! The questions' query strings, written by the client and read by the routes.

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_store::ItemState;

/// How many of anything, if not asked otherwise.
pub(super) const LIMIT: usize = 100;
/// How many of anything at most.
pub(super) const MAX_LIMIT: usize = 100_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskMessages {
    pub(super) feed: Option<FeedId>,
    pub(super) name: Option<String>,
    pub(super) before: Option<u64>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskVerdicts {
    pub(super) from: Option<u64>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskQueue {
    pub(super) state: Option<ItemState>,
    pub(super) target: Option<TargetId>,
    pub(super) agency: Option<AgencyId>,
    pub(super) deadline_before: Option<Timestamp>,
    pub(super) after: Option<String>,
    pub(super) limit: Option<usize>,
}

/// The limit to apply.
pub(super) fn limit(asked: Option<usize>) -> usize {
    asked.unwrap_or(LIMIT).min(MAX_LIMIT)
}
