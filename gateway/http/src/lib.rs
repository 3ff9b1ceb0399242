//! The gateway's own HTTP surface: agencies push by [`push`], commands (and later the console) ask
//! by [`control`]. The only crate that names axum's routing for our own interface.

pub mod control;
mod extract;
mod problem;
mod progress;
pub mod push;
pub mod receipts;
mod serve;
#[cfg(test)]
mod testing;
mod tls;

use std::sync::Arc;

use xinqiao_core::model::{AgencyId, FeedId, TargetId};
use xinqiao_core::spi::Listener;

use crate::problem::Problem;

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
    /// SM3 of each TLS client certificate of the agency. If there is any, a push must come with
    /// one of them.
    pub client_certificates: Vec<[u8; 32]>,
    /// Largest message taken.
    pub max_bytes: u64,
    /// Messages a minute, for push feeds; 0 is no limit.
    pub per_minute: u32,
    /// How its agency speaks to it, if not by the plain push interface.
    pub listener: Option<Arc<dyn Listener>>,
}

/// All feeds.
pub type Feeds = Arc<Vec<FeedInfo>>;

/// Reads the store off the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, xinqiao_store::StoreError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Problem::from),
        Err(_) => Err(Problem::defect()),
    }
}
