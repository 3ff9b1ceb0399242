//! The gateway's durable state: the only crate that names a storage engine (redb).
//!
//! One committer thread owns the write transaction; waiting requests are merged into one batch and
//! one sync (group commit). Nothing is answered before that sync.
//!
//! Content touches the disk only sealed (`docs/formats/disk.md`): values at the boundary of the
//! tables, long payloads in files of their own, all under data keys that the storage key wraps.

mod blob;
mod commit;
mod committer;
mod encode;
mod error;
mod feedback;
mod fsck;
mod held;
mod intake;
mod legacy;
pub mod model;
mod open;
mod queue;
mod read;
mod reports;
mod scratch;
mod seal;
mod storage_key;
mod tables;
mod tally;
#[cfg(test)]
mod tests;
mod uscc;
mod zero;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redb::{Builder, Database};
use tokio::sync::watch;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_core::spi::{Arrival, Clock, ReadSeek, Receipt};
use xinqiao_crypto::DigestKey;

use crate::committer::{Committer, Signals};
use crate::intake::Repeats;
use crate::open::Layout;
use crate::seal::Seals;

pub use error::{OpenError, StoreError};
pub use legacy::*;
pub use model::*;
pub use reports::*;
pub use scratch::Scratch;
pub use seal::Rewrapped;
pub use storage_key::{StorageKey, StorageKeyError};

/// The store. Cheap to clone; the last clone dropped stops the committer.
///
/// What `pending_changed` and `ready_changed` have told is kept per clone: give each worker its own.
pub struct Store {
    shared: Arc<Shared>,
    seen_received: AtomicU64,
    seen_ready: AtomicU64,
}

impl Store {
    /// Opens (or creates) the store in `dir` (created 0700). Leases of a former process are given
    /// back to the queue with their attempt counted. Refuses a second process (redb's own lock).
    /// Everything in it is protected by `key`: nothing opens without it.
    pub fn open(
        dir: &Path,
        options: StoreOptions,
        clock: Arc<dyn Clock>,
        key: StorageKey,
    ) -> Result<Self, OpenError> {
        open::open(dir, &options, clock, key, |builder: &Builder, path| builder.create(path))
    }

    /// Whether a store was ever opened in `dir`.
    pub fn exists(dir: &Path) -> bool {
        dir.join(open::DATABASE).is_file()
    }

    // ---- intake ----

    /// Spools the body (≤ 64 KiB in the engine, larger as a file `blobs/aa/<sm3>` synced with its
    /// directory first), then one transaction: message, payload, content index, feed cursor,
    /// pending entry, counters. The same bytes on the same feed get the original receipt with
    /// `duplicate: true` (the cursor is still advanced).
    pub async fn receive(
        &self,
        feed: &FeedId,
        agency: &AgencyId,
        arrival: Arrival,
        max_bytes: u64,
    ) -> Result<Receipt, StoreError> {
        self.shared.receive(feed, agency, arrival, max_bytes, Repeats::Known).await
    }

    /// [`Store::receive`] of a source that keeps order ([`Source::keeps_order`]): the same bytes again
    /// are news. Its cursor alone keeps a message from coming twice.
    ///
    /// [`Source::keeps_order`]: xinqiao_core::spi::Source::keeps_order
    pub async fn receive_in_order(
        &self,
        feed: &FeedId,
        agency: &AgencyId,
        arrival: Arrival,
        max_bytes: u64,
    ) -> Result<Receipt, StoreError> {
        self.shared.receive(feed, agency, arrival, max_bytes, Repeats::News).await
    }

    /// The cursor of a feed.
    pub fn cursor(&self, feed: &FeedId) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.cursor(feed)
    }

    // ---- processing (decode → map → validate → commit) ----

    /// Pending messages (received, not finished), oldest first, at most `limit`, skipping those in
    /// `busy`. Fair: takes one per feed in turn.
    pub fn pending(
        &self,
        limit: usize,
        busy: &std::collections::BTreeSet<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.shared.pending(limit, busy)
    }

    /// Resolves when a message has been received since the last call (or at once if one is pending).
    pub async fn pending_changed(&self) {
        changed(&self.shared.signals.received, &self.seen_received).await;
    }

    /// Counts one more attempt to process these messages, durably, BEFORE their payload is touched.
    pub async fn begin_processing(
        &self,
        messages: Vec<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.shared.begin_processing(messages).await
    }

    /// Takes back the attempt counted by [`Store::begin_processing`]: it could not be made, for a
    /// fault that is not the message's.
    pub async fn put_back(&self, messages: Vec<u64>) -> Result<(), StoreError> {
        self.shared.put_back(messages).await
    }

    /// The raw bytes of a message.
    pub fn payload(&self, message: u64) -> Result<Box<dyn ReadSeek>, StoreError> {
        self.shared.payload(message)
    }

    /// Commits the next rows of one or more messages in one transaction: records, versions, queue
    /// items (one per target), change feed, dedupe, verdicts, counters, message progress. Rows must
    /// continue at the message's `rows_done` (else `Conflict`). Returns what became of each row.
    pub async fn commit_rows(
        &self,
        chunks: Vec<RowChunk>,
    ) -> Result<Vec<ChunkOutcome>, StoreError> {
        self.shared.commit_rows(chunks).await
    }

    // ---- delivery ----

    /// Promotes what is due from waiting to ready, then leases the first `limit` of `target` by
    /// (deadline, id), counting the attempt, in one transaction. Empty if nothing is due.
    pub async fn lease(
        &self,
        target: &TargetId,
        limit: usize,
        lease_millis: u64,
    ) -> Result<Vec<Leased>, StoreError> {
        self.shared.lease(target.clone(), limit, lease_millis).await
    }

    /// When `lease` may find something again: the earliest `due_at` waiting, or `None`.
    pub fn next_due(&self, target: &TargetId) -> Result<Option<Timestamp>, StoreError> {
        self.shared.next_due(target)
    }

    /// Resolves when an item of any target has become ready since the last call.
    pub async fn ready_changed(&self) {
        changed(&self.shared.signals.ready, &self.seen_ready).await;
    }

    /// Which targets take a repetition for news, from now on; kept. A lease of theirs that ends
    /// without a settlement leaves the item to a person: it is not sent again by itself.
    pub async fn set_undeduped(&self, targets: BTreeSet<TargetId>) -> Result<(), StoreError> {
        self.shared.set_undeduped(targets).await
    }

    /// Which feeds tell what they tell in order, until the store is closed: a row of theirs that is as
    /// it was before another version is no late copy of that, but what the record is again.
    pub async fn set_in_order(&self, feeds: BTreeSet<FeedId>) -> Result<(), StoreError> {
        self.shared.set_in_order(feeds).await
    }

    /// Extends leases; `false` in the place of each that is held no more: its item may be with
    /// another worker and must not be sent.
    pub async fn extend(
        &self,
        leases: Vec<LeaseToken>,
        lease_millis: u64,
    ) -> Result<Vec<bool>, StoreError> {
        self.shared.extend(leases, lease_millis).await
    }

    /// Settles leased items in one transaction. A stale token (lease expired and taken again, or
    /// given back) is ignored and reported `false` in its place.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> {
        self.shared.settle(settlements).await
    }

    // ---- feedback ----

    /// Which feeds have feedback from now on; kept. Changes are noted for them only, and only of
    /// messages processed since.
    pub async fn set_feedback(&self, feeds: BTreeSet<FeedId>) -> Result<(), StoreError> {
        self.shared.set_feedback(feeds).await
    }

    /// Finished messages of a feed with something its agency has not been told, oldest first, after
    /// message `after`, at most `limit`.
    pub fn feedback_pending(
        &self,
        feed: &FeedId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PendingFeedback>, StoreError> {
        self.shared.feedback_pending(feed, after, limit)
    }

    /// Rows of a message that have come to stand otherwise one by one, by 0-based index from `from`
    /// on, and when; at most `limit`.
    pub fn feedback_rows(
        &self,
        feed: &FeedId,
        message: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Timestamp)>, StoreError> {
        self.shared.feedback_rows(feed, message, from, limit)
    }

    /// The agency has been told all of a message that was so at `mark`: takes it off. What has
    /// changed since stays.
    pub async fn feedback_given(
        &self,
        feed: &FeedId,
        message: u64,
        mark: u64,
    ) -> Result<(), StoreError> {
        self.shared.feedback_given(feed, message, mark).await
    }

    // ---- operators ----

    /// Acts on queue items by id. Every act needs a reason and is kept in the item's history.
    pub async fn act(
        &self,
        ids: Vec<u64>,
        act: QueueAct,
        actor: String,
        reason: String,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        self.shared.act(ids, act, actor, reason).await
    }

    // ---- reading (each a short snapshot) ----

    /// Items matching a filter, in (deadline, id) order, from a cursor; the second value continues.
    pub fn items(
        &self,
        filter: &ItemFilter,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<ItemPage, StoreError> {
        self.shared.items(filter, after, limit)
    }

    /// One item with its whole history.
    pub fn item(&self, id: u64) -> Result<ItemView, StoreError> {
        self.shared.item(id)
    }

    /// Messages of a feed (newest first), or of all.
    pub fn messages(
        &self,
        feed: Option<&FeedId>,
        name: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MessageView>, StoreError> {
        self.shared.messages(feed, name, before, limit)
    }

    /// One message.
    pub fn message(&self, id: u64) -> Result<MessageView, StoreError> {
        self.shared.message(id)
    }

    /// Row verdicts of a message from row index `from` on, joined with what the targets said.
    pub fn verdicts(
        &self,
        message: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<RowVerdictView>, StoreError> {
        self.shared.verdicts(message, from, limit)
    }

    /// Counters of every feed, and of the queue.
    pub fn status(&self) -> Result<StatusView, StoreError> {
        self.shared.status()
    }

    /// A record by its keyed digest, with its versions.
    pub fn record(&self, key: &RecordDigest) -> Result<RecordView, StoreError> {
        self.shared.record(key)
    }

    /// The keyed digest of a record's natural key.
    pub fn record_digest(&self, key: &xinqiao_core::model::RecordKey) -> RecordDigest {
        self.shared.record_digest(key)
    }

    /// Change feed entries after `seq`.
    pub fn changes(&self, after: u64, limit: usize) -> Result<Vec<ChangeView>, StoreError> {
        self.shared.changes(after, limit)
    }

    /// Room for content on its way, sealed where it touches the disk.
    pub fn scratch(&self) -> Scratch {
        let number = self.shared.spooled.fetch_add(1, Ordering::Relaxed);
        Scratch::new(self.shared.layout.spool().join(number.to_string()))
    }

    /// Opens every value and file, re-derives every index and counter from messages, records and
    /// items and compares; every difference is one line (Chinese). Empty = sound. The store must be
    /// idle.
    pub fn fsck(&self) -> Result<Vec<String>, StoreError> {
        fsck::check(&self.shared)
    }

    // ---- keys ----

    /// Wraps every data key under the newest generation of `key`, in one transaction and in service:
    /// older generations are not needed afterwards. `key` must hold those in use too: give it a key
    /// store opened anew, because one opened before the rotation does not know the new generation.
    /// What is stored is not sealed again; a data key that may be known is left by
    /// [`Store::new_segment`] for what comes, and its content must be received anew.
    pub async fn rewrap(&self, key: StorageKey) -> Result<Rewrapped, StoreError> {
        self.shared.rewrap(key).await
    }

    /// Seals with a fresh data key from now on; its number. The store does so by itself at its first
    /// write after opening, and after 2³¹ sealings or 32 GiB.
    pub async fn new_segment(&self) -> Result<u32, StoreError> {
        self.shared.new_segment().await
    }

    /// The generations of the storage key that must be kept, such as `storage.encrypt.0001`, and how
    /// many data keys each wraps.
    pub fn storage_keys(&self) -> std::collections::BTreeMap<String, u64> {
        self.shared.seals.in_use()
    }
}

impl Store {
    fn of(shared: Arc<Shared>) -> Self {
        Self { shared, seen_received: AtomicU64::new(0), seen_ready: AtomicU64::new(0) }
    }
}

impl Clone for Store {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.shared.layout.dir).finish_non_exhaustive()
    }
}

/// What all clones share.
struct Shared {
    /// `None` only while being dropped.
    committer: Option<Committer>,
    thread: Option<std::thread::JoinHandle<()>>,
    db: Arc<Database>,
    signals: Arc<Signals>,
    layout: Layout,
    seals: Arc<Seals>,
    /// The identity key.
    key: DigestKey,
    gauge: Gauge,
    /// Names spool files.
    spooled: AtomicU64,
    /// Pending messages that do not open: passed over, lest they stand in the way of others.
    damaged: Mutex<BTreeSet<u64>>,
}

impl Shared {
    fn committer(&self) -> Result<&Committer, StoreError> {
        self.committer.as_ref().ok_or(StoreError::OutcomeUnknown)
    }

    fn record_digest(&self, key: &xinqiao_core::model::RecordKey) -> RecordDigest {
        short(self.key.digest(key.canonical().as_bytes()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closing the channel ends the thread; waiting for it frees the database's lock.
        self.committer = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks at the free space of a disk, at most once a second.
struct Gauge {
    reserve: u64,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Gauge {
    fn new(reserve: u64) -> Self {
        Self { reserve, last: Mutex::new(None) }
    }

    fn check(&self, dir: &Path) -> Result<(), StoreError> {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let full = match *last {
            Some((at, full)) if at.elapsed() < Duration::from_secs(1) => full,
            _ => {
                let disk = rustix::fs::statvfs(dir)
                    .map_err(|error| StoreError::Io(io_words(&error.into()).into_owned()))?;
                let full = disk.f_bavail.saturating_mul(disk.f_frsize) < self.reserve;
                *last = Some((Instant::now(), full));
                full
            }
        };
        if full { Err(StoreError::DiskFull) } else { Ok(()) }
    }
}

/// The first 16 bytes of a digest.
fn short(digest: [u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    short
}

/// Waits until `signal` differs from what was `seen`.
async fn changed(signal: &watch::Sender<u64>, seen: &AtomicU64) {
    let mut signal = signal.subscribe();
    loop {
        let now = *signal.borrow_and_update();
        if seen.swap(now, Ordering::AcqRel) != now || signal.changed().await.is_err() {
            return;
        }
    }
}
