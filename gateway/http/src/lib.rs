//! The gateway's own HTTP surface: agencies push by [`push`], commands (and later the console) ask
//! by [`control`]. The only crate that names axum's routing for our own interface.

pub mod control;
mod progress;
pub mod push;

use std::sync::Arc;

use xinqiao_core::model::{AgencyId, FeedId, TargetId};

pub use progress::{FeedProgress, Progress};

/// What the interfaces know of a feed (接入任务).
#[derive(Debug, Clone)]
pub struct FeedInfo {
    /// Its id.
    pub id: FeedId,
    /// Whose.
    pub agency: AgencyId,
    /// 市场监督管理局.
    pub agency_name: String,
    /// Title of its mapping.
    pub title: String,
    /// `admin-penalty/2016`.
    pub dataset: String,
    /// Kind of source: `folder`, `rest`, `push`.
    pub source: String,
    /// Where its records go.
    pub targets: Vec<TargetId>,
    /// SM3 of the bearer token, for push feeds: the token itself is not kept.
    pub token: Option<[u8; 32]>,
    /// Largest message taken.
    pub max_bytes: u64,
    /// Messages a minute, for push feeds.
    pub per_minute: u32,
}

/// All feeds.
pub type Feeds = Arc<Vec<FeedInfo>>;
