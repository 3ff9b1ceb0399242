//! The control interface: what the commands ask, of a running gateway through a socket in its data
//! folder, or of the store itself when no gateway runs. One router serves both.

mod ask;
mod client;
mod report;
mod routes;
mod socket;
#[cfg(test)]
mod tests;
mod uscc;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_core::spi::Clock;
use xinqiao_store::{FeedCounters, ItemView, QueueAct, StatusView, StorageKey, Store};

use crate::{FeedProgress, Feeds, Progress};

pub use client::{Client, ClientError};
pub use report::{ZeroRequest, ZeroTold};
pub(crate) use report::{admissible, dataset};
pub use routes::router;
pub use socket::serve;

/// What the control interface works on.
#[derive(Clone)]
pub struct ControlState {
    /// What is asked and acted on.
    pub store: Store,
    /// Every feed.
    pub feeds: Feeds,
    /// What their sources last did.
    pub progress: Arc<Progress>,
    /// How feedback goes to those who get it by their own road.
    pub feedback: Arc<Progress>,
    /// Reads the storage key from where it is kept, newest generation included, or says why it
    /// cannot (Chinese).
    pub storage_key: Arc<dyn Fn() -> Result<StorageKey, String> + Send + Sync>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Answer of `GET /control/v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusReport {
    /// The gateway's clock.
    pub now: Timestamp,
    /// Counters.
    pub status: StatusView,
}

/// One feed in the answer of `GET /control/v1/feeds`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeedReport {
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
    /// Kind of source.
    pub source: String,
    /// Where its records go.
    pub targets: Vec<TargetId>,
    /// What the source last did, when a gateway runs.
    pub progress: Option<FeedProgress>,
    /// How feedback goes, when a gateway runs and the feed has a road for it.
    pub feedback: Option<FeedProgress>,
    /// Counters.
    pub counters: FeedCounters,
}

/// Answer of `GET /control/v1/queue`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueuePage {
    /// Items by (deadline, id).
    pub items: Vec<ItemView>,
    /// Continue from here: `deadline-id`.
    pub next: Option<String>,
}

/// Body of `POST /control/v1/queue/act`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Items.
    pub ids: Vec<u64>,
    /// What to do.
    pub act: QueueAct,
    /// Who.
    pub actor: String,
    /// Why; must not be blank.
    pub reason: String,
}

/// What became of one item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActResult {
    /// The item.
    pub id: u64,
    /// Why not (Chinese), if not.
    pub error: Option<String>,
}

/// Answer of `GET /readyz`: 200 when ready, 503 with reasons when not.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Readiness {
    /// Whether there is no reason against it.
    pub ready: bool,
    /// What is wrong (Chinese), one line each.
    pub reasons: Vec<String>,
}
