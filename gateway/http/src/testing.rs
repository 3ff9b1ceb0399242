//! What the tests of both interfaces need: a store, a clock to move, a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_core::spi::{BoxFuture, Clock, Shutdown, ShutdownSignal};
use xinqiao_crypto::sm3;
use xinqiao_store::{Store, StoreOptions};

use crate::{FeedInfo, Feeds};

pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn on(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) struct Stop(watch::Receiver<bool>);

impl ShutdownSignal for Stop {
    fn begun(&self) -> BoxFuture<'static, ()> {
        let mut stop = self.0.clone();
        Box::pin(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
    }

    fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

pub(crate) fn stop() -> (watch::Sender<bool>, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (sender, Arc::new(Stop(receiver)))
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) feeds: Feeds,
    pub(crate) clock: Arc<Hand>,
}

/// Tokens are the feeds' ids with `-token`. `pull` has none.
pub(crate) fn bench() -> Bench {
    bench_with(StoreOptions { reserve_bytes: 0, ..StoreOptions::default() })
}

/// As [`bench`], with another store.
pub(crate) fn bench_with(options: StoreOptions) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000)));
    let store = Store::open(&dir.path().join("store"), options, Arc::clone(&clock) as _).unwrap();
    let feed = |id: &str, agency: &str, source: &str, per_minute| FeedInfo {
        id: FeedId::new(id).unwrap(),
        agency: AgencyId::new(agency).unwrap(),
        agency_name: "甲局".to_owned(),
        title: "行政处罚".to_owned(),
        dataset: "admin-penalty/2016".to_owned(),
        source: source.to_owned(),
        targets: vec![TargetId::new("platform").unwrap()],
        token: (source == "push").then(|| sm3(format!("{id}-token").as_bytes())),
        max_bytes: 100_000,
        per_minute,
    };
    let feeds = Arc::new(vec![
        feed("one", "jia", "push", 0),
        feed("two", "yi", "push", 0),
        feed("few", "jia", "push", 2),
        feed("pull", "jia", "folder", 0),
    ]);
    Bench { dir, store, feeds, clock }
}
