//! Drains the inbox: decode → map → validate → commit, several messages at once.
//!
//! Small messages are taken together and committed in one transaction; a large one streams through
//! in chunks. An attempt is counted durably before the payload is touched, so a message that brings
//! the process down is set aside after [`MAX_ATTEMPTS`], its raw bytes kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc};
use xinqiao_core::model::FeedId;
use xinqiao_core::spi::{Clock, Scratch, Shutdown};
use xinqiao_store::{MessageEnd, PendingMessage, RowChunk, Store, StoreError};

use crate::config::FeedConfig;
use crate::domain::Domain;
use crate::keys::Keys;
use crate::pipeline::{Destination, Job, StoreMap, Unsealing, entry, message_end, process, unseal};

/// Rows committed in one transaction.
pub(super) const CHUNK: usize = 500;
/// Messages up to this size are taken together.
const SMALL_BYTES: u64 = 64 << 10;
/// Small messages taken together, at most.
const TOGETHER: usize = 256;
/// How long a message rests that could not be looked at.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// Attempts after which a message is set aside.
pub(super) const MAX_ATTEMPTS: u32 = 5;

/// What processing works with.
pub struct Processing {
    /// Durable state.
    pub store: Store,
    /// Catalogue, calendar.
    pub domain: Arc<Domain>,
    /// Feeds by id, with what their records carry.
    pub feeds: BTreeMap<FeedId, (FeedConfig, Destination)>,
    /// Opens envelopes.
    pub keys: Arc<Keys>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Messages processed at once.
    pub workers: usize,
}

impl Processing {
    /// Runs until shutdown, or until the store fails.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<(), StoreError> {
        let permits = Arc::new(Semaphore::new(self.workers));
        let busy = Arc::new(Mutex::new(Busy::default()));
        let mut last = None;
        let freed = Arc::new(Notify::new());
        let (failed, mut failure) = mpsc::channel(1);
        while !shutdown.has_begun() {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let (feeds, taken) = self.take(&busy, &mut last).await?;
            if feeds.is_empty() {
                drop(permit);
                tokio::select! {
                    () = self.store.pending_changed() => {}
                    () = freed.notified() => {}
                    () = shutdown.begun() => break,
                    Some(error) = failure.recv() => return Err(error),
                }
                continue;
            }
            let ids = taken.iter().map(|message| message.id).collect();
            let mut hold = Hold { ids, feeds, busy: Arc::clone(&busy), freed: Arc::clone(&freed) };
            if taken.is_empty() {
                // Damaged, all of them: others may stand behind.
                continue;
            }
            let (this, failed, shutdown) =
                (Arc::clone(&self), failed.clone(), Arc::clone(&shutdown));
            tokio::spawn(async move {
                let held = this.work(taken, &shutdown).await.unwrap_or_else(|error| {
                    tracing::error!(error = %error, "processing failed");
                    // Nobody listening means the coordinator has ended already.
                    let _ = failed.try_send(error);
                    Vec::new()
                });
                hold.keep(&held);
                drop(permit);
                if !held.is_empty() {
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = shutdown.begun() => {}
                    }
                }
            });
            if let Ok(error) = failure.try_recv() {
                return Err(error);
            }
        }
        // What is under way finishes before the store is closed.
        let all = u32::try_from(self.workers).unwrap_or(u32::MAX);
        let _ = permits.acquire_many(all).await;
        Ok(())
    }

    /// The next work, marked busy, and whose it is: one large or suspicious message, or many small
    /// ones. `last` is the feed served last.
    async fn take(
        &self,
        busy: &Mutex<Busy>,
        last: &mut Option<FeedId>,
    ) -> Result<(BTreeSet<FeedId>, Vec<PendingMessage>), StoreError> {
        let (store, held) = (self.store.clone(), lock(busy).messages.clone());
        let pending = tokio::task::spawn_blocking(move || store.pending(TOGETHER, &held));
        let pending = pending.await.map_err(|e| StoreError::Io(e.to_string()))??;
        let (feeds, ids) = {
            let mut busy = lock(busy);
            let taken = next(&pending, &busy.feeds, last.as_ref());
            let Some(first) = taken.first() else { return Ok(Default::default()) };
            *last = Some(first.feed.clone());
            let feeds: BTreeSet<FeedId> = taken.iter().map(|m| m.feed.clone()).collect();
            let ids: Vec<u64> = taken.iter().map(|message| message.id).collect();
            busy.feeds.extend(feeds.iter().cloned());
            busy.messages.extend(&ids);
            (feeds, ids)
        };
        Ok((feeds, self.store.begin_processing(ids).await?))
    }

    /// Gives the messages that a fault of ours has held up.
    async fn work(
        self: &Arc<Self>,
        messages: Vec<PendingMessage>,
        shutdown: &Shutdown,
    ) -> Result<Vec<u64>, StoreError> {
        let (sender, mut chunks) = mpsc::channel::<Vec<RowChunk>>(2);
        let feeds: BTreeMap<u64, FeedId> =
            messages.iter().map(|message| (message.id, message.feed.clone())).collect();
        let (this, stop) = (Arc::clone(self), Arc::clone(shutdown));
        let producer = tokio::task::spawn_blocking(move || {
            if let [message] = messages.as_slice() {
                return this.stream(message, &sender, &stop).err().into_iter().collect();
            }
            let (mut chunks, mut held) = (Vec::with_capacity(messages.len()), Vec::new());
            for message in &messages {
                match this.whole(message) {
                    Ok(chunk) => chunks.push(chunk),
                    Err(HeldUp) => held.push(message.id),
                }
            }
            let _ = sender.blocking_send(chunks);
            held
        });
        while let Some(chunk) = chunks.recv().await {
            let failed: Vec<_> = chunk.iter().filter_map(failed).collect();
            self.store.commit_rows(chunk).await?;
            for (id, code) in failed {
                let feed = feeds.get(&id).map(tracing::field::display);
                tracing::warn!(feed, id, code, "message could not be read in full");
            }
        }
        let Ok(held) = producer.await else {
            // The attempt is counted: alone next time, set aside in the end.
            tracing::error!("a message could not be processed");
            tokio::time::sleep(Duration::from_millis(200)).await;
            return Ok(Vec::new());
        };
        if !held.is_empty() {
            self.store.put_back(held.clone()).await?;
        }
        Ok(held)
    }

    /// A small message in one chunk.
    fn whole(&self, message: &PendingMessage) -> Result<RowChunk, HeldUp> {
        let mut rows = Vec::new();
        let end = self.rows(message, None, &mut |_, row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(RowChunk { message: message.id, first: message.rows_done, rows, finish: Some(end) })
    }

    /// A message of any size, chunk by chunk.
    fn stream(
        &self,
        message: &PendingMessage,
        sender: &mpsc::Sender<Vec<RowChunk>>,
        shutdown: &Shutdown,
    ) -> Result<(), u64> {
        let mut first = message.rows_done;
        let mut rows = Vec::with_capacity(CHUNK);
        let mut stopped = false;
        let end = self.rows(message, None, &mut |_, row| {
            rows.push(row);
            if rows.len() < CHUNK {
                return ControlFlow::Continue(());
            }
            let full = std::mem::replace(&mut rows, Vec::with_capacity(CHUNK));
            let next = first + u64::try_from(full.len()).unwrap_or(0);
            let chunk = RowChunk { message: message.id, first, rows: full, finish: None };
            first = next;
            stopped = sender.blocking_send(vec![chunk]).is_err() || shutdown.has_begun();
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let end = end.map_err(|HeldUp| message.id)?;
        if !stopped {
            let finish = Some(end);
            let _ =
                sender.blocking_send(vec![RowChunk { message: message.id, first, rows, finish }]);
        }
        Ok(())
    }

    /// Every row of a message with its index, or only some.
    pub(super) fn rows(
        &self,
        message: &PendingMessage,
        only: Option<&BTreeSet<u64>>,
        each: &mut dyn FnMut(u64, xinqiao_store::RowEntry) -> ControlFlow<()>,
    ) -> Result<MessageEnd, HeldUp> {
        let failed = |code: &str, text: &str| {
            let error = Some((code.to_owned(), text.to_owned()));
            Ok(MessageEnd { error, notes: Vec::new() })
        };
        if message.attempts > MAX_ATTEMPTS {
            return failed(
                "processing.poison",
                "处理该报文时程序多次中断,已隔离;原始报文保留,请联系平台运维",
            );
        }
        let Some((feed, destination)) = self.feeds.get(&message.feed) else {
            return failed("processing.no-feed", "接入任务已从配置中删除,报文未处理");
        };
        let mut input = match self.store.payload(message.id) {
            Ok(input) => input,
            // Neither the message's fault nor for good: too many open files, say.
            Err(error @ (StoreError::Io(_) | StoreError::OutcomeUnknown)) => {
                tracing::error!(id = message.id, %error, "a message could not be read");
                return Err(HeldUp);
            }
            Err(_) => return failed("processing.payload", "原始报文读取失败,请联系平台运维"),
        };
        let scratch = || Box::new(self.store.scratch()) as Box<dyn Scratch>;
        let uscc = StoreMap::of(&self.store).map_err(|error| {
            tracing::error!(%error, "the mapping table could not be asked");
            HeldUp
        })?;
        let job = Job {
            only,
            revision: uscc.revision,
            uscc: &uscc,
            scratch: &scratch,
            mapping: &feed.mapping,
            domain: &self.domain,
            today: self.clock.now().shanghai_date(),
            skip: message.rows_done,
        };
        if message.bytes == 0 && input.read(&mut [0]).is_ok_and(|n| n == 0) {
            return failed("decode.empty", "报文为空");
        }
        // Looked at again, an envelope is judged as of its arrival: its certificate may have ended.
        let at = if only.is_some() { message.received } else { self.clock.now() };
        let policy = feed.envelope.as_ref();
        let unsealing = Unsealing { keys: &self.keys, policy, at, store: &self.store };
        let mut input = match unseal(&unsealing, input) {
            Ok(input) => input,
            Err(error) if error.is_ours() => {
                let (feed, id) = (&message.feed, message.id);
                tracing::error!(%feed, id, %error, "an envelope could not be opened, to be tried again");
                return Err(HeldUp);
            }
            Err(error) => return failed(error.code(), &error.to_string()),
        };
        let outcome =
            process(&job, &mut *input, &mut |row| each(row.index, entry(row, destination)));
        Ok(message_end(outcome, job.today))
    }
}

/// What is under way.
#[derive(Default)]
struct Busy {
    /// Being worked on, or resting.
    messages: BTreeSet<u64>,
    /// Whose messages are being worked on.
    feeds: BTreeSet<FeedId>,
}

fn lock(busy: &Mutex<Busy>) -> MutexGuard<'_, Busy> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What comes next among the pending messages, which stand in order within each feed: feeds take
/// turns, so that no backlog holds up another feed, and a feed that is busy waits, so that what it
/// sent later does not overtake what it sent before.
fn next<'p>(
    pending: &'p [PendingMessage],
    busy: &BTreeSet<FeedId>,
    last: Option<&FeedId>,
) -> Vec<&'p PendingMessage> {
    let together = |m: &PendingMessage| m.bytes <= SMALL_BYTES && m.attempts == 0;
    let free = || pending.iter().filter(|message| !busy.contains(&message.feed));
    let first = match free().min_by_key(|message| Some(&message.feed) <= last) {
        Some(first) if together(first) => first,
        alone => return alone.into_iter().collect(),
    };
    // Small ones of every feed, of each up to its first that goes alone.
    let mut ended = BTreeSet::new();
    let small = free().filter(|message| {
        if !together(message) {
            ended.insert(&message.feed);
        }
        !ended.contains(&message.feed)
    });
    let (mut taken, others): (Vec<_>, Vec<_>) = small.partition(|m| m.feed == first.feed);
    taken.extend(others);
    taken
}

/// Messages and feeds marked busy. They are free again once this is dropped, whatever became of the
/// task that worked on them: none stays busy for ever.
struct Hold {
    ids: BTreeSet<u64>,
    feeds: BTreeSet<FeedId>,
    busy: Arc<Mutex<Busy>>,
    freed: Arc<Notify>,
}

impl Hold {
    /// Frees all but these messages.
    fn keep(&mut self, held: &[u64]) {
        let (kept, free): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.ids).into_iter().partition(|id| held.contains(id));
        self.ids = kept;
        let mut busy = lock(&self.busy);
        busy.messages.retain(|id| !free.contains(id));
        let feeds = std::mem::take(&mut self.feeds);
        busy.feeds.retain(|feed| !feeds.contains(feed));
        drop(busy);
        self.freed.notify_one();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keep(&[]);
    }
}

/// A fault that is not the message's: it stays pending, and is tried again after [`PAUSE`].
pub(super) struct HeldUp;

/// Number and code of a message that ends in an error. Its name and the error's text stay out of the
/// log: a file name may name a person, and so may what was taken for a heading.
fn failed(chunk: &RowChunk) -> Option<(u64, String)> {
    let (code, _) = chunk.finish.as_ref()?.error.clone()?;
    Some((chunk.message, code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xinqiao_core::model::{AgencyId, Timestamp};

    fn message(id: u64, feed: &str, bytes: u64) -> PendingMessage {
        PendingMessage {
            id,
            feed: FeedId::new(feed).unwrap(),
            agency: AgencyId::new("scjg").unwrap(),
            name: None,
            received: Timestamp(0),
            bytes,
            rows_done: 0,
            attempts: 0,
        }
    }

    fn ids(taken: &[&PendingMessage]) -> Vec<u64> {
        taken.iter().map(|message| message.id).collect()
    }

    const LARGE: u64 = SMALL_BYTES + 1;

    #[test]
    fn feeds_take_turns_and_keep_their_order() {
        let feed = |name: &str| FeedId::new(name).unwrap();
        let pending = [
            message(1, "aa", LARGE),
            message(9, "bb", 10),
            message(2, "aa", 10),
            message(10, "bb", LARGE),
            message(3, "aa", LARGE),
            message(11, "bb", 10),
        ];
        let none = BTreeSet::new();
        assert_eq!(ids(&next(&pending, &none, None)), [1]);
        assert_eq!(
            ids(&next(&pending, &none, Some(&feed("aa")))),
            [9],
            "not 2 before 1, 11 before 10"
        );
        assert_eq!(ids(&next(&pending, &none, Some(&feed("bb")))), [1], "round again");
        let busy = BTreeSet::from([feed("aa")]);
        assert_eq!(ids(&next(&pending, &busy, Some(&feed("bb")))), [9], "a busy feed waits");
        let busy = BTreeSet::from([feed("aa"), feed("bb")]);
        assert!(next(&pending, &busy, None).is_empty());
    }
}
