//! What every feed's source last did: health is progress, not liveness.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{FeedId, Timestamp};

/// The last word of one source.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct FeedProgress {
    /// When it last did anything.
    pub at: Timestamp,
    /// What it did (Chinese), if that went well.
    pub note: Option<String>,
    /// Code and text of its fault, if not.
    pub error: Option<(String, String)>,
}

/// The last word of every source.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<FeedId, FeedProgress>>);

impl Progress {
    /// Sets a feed's last word.
    pub fn set(&self, feed: &FeedId, word: FeedProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(feed.clone(), word);
    }

    /// A feed's last word.
    pub fn get(&self, feed: &FeedId) -> Option<FeedProgress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(feed).cloned()
    }
}
