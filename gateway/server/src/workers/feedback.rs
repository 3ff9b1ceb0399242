//! Tells an agency, by its own road, what became of what it sent (反馈).
//!
//! One for each feed with a road, so that a road which is broken holds up nobody else. It looks
//! every [`LOOK`], so what changes meanwhile is told together; a message that takes long to tell of
//! rests the longer. Only what the road has taken is taken off the store: whatever happens in
//! between, it is told again, and the receiving side sees the same file or row.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use xinqiao_core::fault::{Classify, chain};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{Clock, Fault, FeedbackRoad, FeedbackRow, FileSink, Shutdown, VerdictSink};
use xinqiao_http::{FeedProgress, Progress};
use xinqiao_store::{PendingFeedback, Store, StoreError};

use crate::config::FeedConfig;
use crate::feedback::Telling;

/// How often it looks for something to tell.
const LOOK: Duration = Duration::from_secs(1);
/// How long a message rests after it was told of, in times of how long that took.
const REST: u32 = 10;
/// How long a message rests that cannot be told of for what is stored of it.
const UNTOLD: Duration = Duration::from_secs(3_600);
/// Messages a road may refuse one after another before it is taken to be the road's own trouble.
const REFUSED: u32 = 3;
/// Waits after a failure.
const RETRY: RetryPolicy = RetryPolicy {
    base: Duration::from_secs(2),
    cap: Duration::from_secs(300),
    max_attempts: u32::MAX,
};
/// Messages looked at together.
const PAGE: usize = 100;

/// A feed's feedback.
pub struct Feedback {
    /// The feed.
    pub feed: FeedConfig,
    /// Its road.
    pub road: FeedbackRoad,
    /// What is told.
    pub store: Store,
    /// Where the last word is kept.
    pub progress: Arc<Progress>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why telling stopped.
enum Halt {
    /// The road: to be tried again.
    Road(Fault),
    /// The store.
    Store(StoreError),
    /// The gateway stops.
    Stopped,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Feedback {
    /// Runs until shutdown, or until the store fails.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<(), StoreError> {
        self.say(Ok("启动以来没有要反馈的".to_owned()));
        let mut resting = BTreeMap::new();
        let mut refused = BTreeMap::new();
        let mut failures = 0;
        while !shutdown.has_begun() {
            let wait = match self.round(&mut resting, &mut refused, &shutdown).await {
                Ok(told) => {
                    if told > 0 {
                        self.say(Ok(format!("反馈了{told}个报文")));
                    } else if failures > 0 && refused.is_empty() {
                        self.say(Ok("已恢复,没有要反馈的".to_owned()));
                    }
                    failures = 0;
                    LOOK
                }
                Err(Halt::Stopped) => break,
                Err(Halt::Store(StoreError::OutcomeUnknown)) => {
                    return Err(StoreError::OutcomeUnknown);
                }
                Err(Halt::Store(error)) => self.failed(&error, &mut failures),
                Err(Halt::Road(fault)) => self.failed(fault.as_ref(), &mut failures),
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.begun() => break,
            }
        }
        Ok(())
    }

    /// Says so; how long to wait.
    fn failed(&self, fault: &dyn Classify, failures: &mut u32) -> Duration {
        *failures = failures.saturating_add(1);
        self.say(Err(fault));
        RETRY.wait(*failures, None, self.clock.now().0).unwrap_or(RETRY.cap)
    }

    fn say(&self, word: Result<String, &dyn Classify>) {
        let at = self.clock.now();
        let feed = &self.feed.id;
        let word = match word {
            Ok(note) => FeedProgress { at, note: Some(note), error: None },
            Err(fault) => {
                let text = mask(&chain(fault), at.shanghai_date()).into_owned();
                tracing::warn!(%feed, code = fault.code(), error = text, "feedback failed");
                FeedProgress { at, note: None, error: Some((fault.code().to_owned(), text)) }
            }
        };
        self.progress.set(feed, word);
    }

    /// Tells of every message there is something to tell of, unless it rests; how many. `refused`:
    /// how often in a row the road has refused a message. It rests the longer, and holds up no other.
    async fn round(
        self: &Arc<Self>,
        resting: &mut BTreeMap<u64, Instant>,
        refused: &mut BTreeMap<u64, u32>,
        shutdown: &Shutdown,
    ) -> Result<u64, Halt> {
        resting.retain(|_, until| *until > Instant::now());
        let (mut after, mut told) = (None, 0_u64);
        let (mut in_a_row, mut trouble) = (0, None);
        'pages: loop {
            let (store, feed) = (self.store.clone(), self.feed.id.clone());
            let page = move || store.feedback_pending(&feed, after, PAGE);
            let page = blocking(page).await??;
            let Some(last) = page.last() else { break };
            after = Some(last.message);
            for pending in page {
                if resting.contains_key(&pending.message) {
                    continue;
                }
                let begun = Instant::now();
                let rest = match self.tell(pending, shutdown).await {
                    Ok(()) => {
                        told += 1;
                        in_a_row = 0;
                        refused.remove(&pending.message);
                        begun.elapsed() * REST
                    }
                    Err(Halt::Road(fault)) => {
                        let times = refused.entry(pending.message).or_default();
                        *times = times.saturating_add(1);
                        in_a_row += 1;
                        trouble = Some(fault);
                        RETRY.wait(*times, None, self.clock.now().0).unwrap_or(RETRY.cap)
                    }
                    // What is stored of this one: it holds up no other.
                    Err(Halt::Store(
                        error @ (StoreError::Damaged(_)
                        | StoreError::Corrupt(_)
                        | StoreError::NotFound),
                    )) => {
                        let (feed, message) = (&self.feed.id, pending.message);
                        tracing::error!(%feed, message, %error, "a message cannot be told of");
                        self.say(Err(&error));
                        UNTOLD
                    }
                    Err(halt) => return Err(halt),
                };
                resting.insert(pending.message, Instant::now() + rest);
                if in_a_row >= REFUSED {
                    break 'pages;
                }
            }
        }
        trouble.map_or(Ok(told), |fault| Err(Halt::Road(fault)))
    }

    async fn tell(
        self: &Arc<Self>,
        pending: PendingFeedback,
        shutdown: &Shutdown,
    ) -> Result<(), Halt> {
        match &self.road {
            FeedbackRoad::Files(sink) => self.by_files(&**sink, pending, shutdown).await?,
            FeedbackRoad::Rows(sink) => self.by_rows(sink, pending, shutdown).await?,
        }
        Ok(self.store.feedback_given(&self.feed.id, pending.message, pending.mark).await?)
    }

    async fn by_files(
        self: &Arc<Self>,
        sink: &dyn FileSink,
        pending: PendingFeedback,
        shutdown: &Shutdown,
    ) -> Result<(), Halt> {
        let (this, stop) = (Arc::clone(self), Arc::clone(shutdown));
        let files = move || this.telling(pending.message, &stop, |it| it.files(pending.relieved));
        for (name, bytes) in blocking(files).await?? {
            let put = sink.put(name, bytes);
            tokio::select! {
                put = put => put.map_err(Halt::Road)?,
                () = shutdown.begun() => return Err(Halt::Stopped),
            }
        }
        if shutdown.has_begun() { Err(Halt::Stopped) } else { Ok(()) }
    }

    async fn by_rows(
        self: &Arc<Self>,
        sink: &Arc<dyn VerdictSink>,
        pending: PendingFeedback,
        shutdown: &Shutdown,
    ) -> Result<(), Halt> {
        let (sender, mut batches) = mpsc::channel::<Vec<FeedbackRow>>(1);
        let (this, stop, columns) =
            (Arc::clone(self), Arc::clone(shutdown), sink.columns().to_vec());
        let reading = tokio::task::spawn_blocking(move || {
            let mut give = |batch| match sender.blocking_send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            this.telling(pending.message, &stop, |it| it.rows(&columns, &pending, &mut give))
        });
        let giving = async {
            while let Some(batch) = batches.recv().await {
                sink.give(&batch).await.map_err(Halt::Road)?;
            }
            Ok(())
        };
        let given = tokio::select! {
            given = giving => given,
            () = shutdown.begun() => Err(Halt::Stopped),
        };
        // Whoever still reads sees that nobody takes any more, and ends before the store is closed.
        drop(batches);
        let read = reading.await.map_err(|error| StoreError::Io(error.to_string()))?;
        given?;
        read?;
        // What was left off is not told.
        if shutdown.has_begun() { Err(Halt::Stopped) } else { Ok(()) }
    }

    /// Blocking.
    fn telling<T>(
        &self,
        message: u64,
        shutdown: &Shutdown,
        tell: impl FnOnce(&Telling<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let message = self.store.message(message)?;
        let unsealed = self.feed.envelope.is_none();
        tell(&Telling {
            store: &self.store,
            format: unsealed.then_some(&self.feed.mapping.format),
            message: &message,
            today: self.clock.now().shanghai_date(),
            stop: &|| shutdown.has_begun(),
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Io(error.to_string()))
}
