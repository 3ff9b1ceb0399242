//! The gateway's durable state: the only crate that names a storage engine (redb).
//!
//! One committer thread owns the write transaction; waiting requests are merged into one batch and
//! one sync (group commit). Nothing is answered before that sync.

pub mod model;

use std::path::Path;
use std::sync::Arc;

use xinqiao_core::deadline::Deadlines;
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{Arrival, Clock, ReadSeek, Receipt};

pub use model::*;

/// The store. Cheap to clone; the last clone dropped stops the committer.
#[derive(Clone)]
pub struct Store {}

/// What can go wrong at run time. Implements `Classify`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The commit's outcome is unknown: the store has stopped; reopen it, then ask again with the same key.
    #[error("提交结果未知,存储已停止")]
    OutcomeUnknown,
    /// Too many requests wait: answer 503 with Retry-After.
    #[error("存储繁忙,请稍后重试")]
    Busy,
    /// The disk's reserve is reached: intake stops, settling goes on.
    #[error("磁盘空间不足,已停止接收")]
    DiskFull,
    /// Stored bytes do not read back.
    #[error("存储内容损坏:{0}")]
    Corrupt(String),
    /// An I/O error outside a commit (spool files, reading payloads).
    #[error("存储读写失败:{0}")]
    Io(String),
    /// The body exceeds the limit given to `receive`.
    #[error("报文超出上限{0}字节")]
    TooLarge(u64),
    /// The source of the body failed.
    #[error("读取来源失败:{0}")]
    Body(String),
    /// No such message, item or record.
    #[error("没有这一项")]
    NotFound,
    /// The act does not fit the item's state.
    #[error("当前状态不允许此操作:{0}")]
    Conflict(&'static str),
}

impl Store {
    /// Opens (or creates) the store in `dir` (created 0700). Leases of a former process are given
    /// back to the queue with their attempt counted. Refuses a second process (redb's own lock).
    /// The 32-byte secret for keyed record digests lives in `dir/identity.key` (0600, made on
    /// first open, fsynced with its directory).
    pub fn open(
        _dir: &Path,
        _options: StoreOptions,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        todo!()
    }

    // ---- intake ----

    /// Spools the body (≤ 64 KiB in the engine, larger as a file `blobs/aa/<sm3>` synced with its
    /// directory first), then one transaction: message, payload, content index, feed cursor,
    /// pending entry, counters. The same bytes on the same feed get the original receipt with
    /// `duplicate: true` (the cursor is still advanced).
    pub async fn receive(
        &self,
        _feed: &FeedId,
        _agency: &AgencyId,
        _arrival: Arrival,
        _max_bytes: u64,
    ) -> Result<Receipt, StoreError> {
        todo!()
    }

    /// The cursor of a feed.
    pub fn cursor(&self, _feed: &FeedId) -> Result<Option<Vec<u8>>, StoreError> {
        todo!()
    }

    // ---- processing (decode → map → validate → commit) ----

    /// Pending messages (received, not finished), oldest first, at most `limit`, skipping those in
    /// `busy`. Fair: takes one per feed in turn.
    pub fn pending(
        &self,
        _limit: usize,
        _busy: &std::collections::BTreeSet<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        todo!()
    }

    /// Resolves when a message has been received since the last call (or at once if one is pending).
    pub async fn pending_changed(&self) {
        todo!()
    }

    /// Counts one more attempt to process these messages, durably, BEFORE their payload is touched.
    pub async fn begin_processing(
        &self,
        _messages: Vec<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        todo!()
    }

    /// The raw bytes of a message.
    pub fn payload(&self, _message: u64) -> Result<Box<dyn ReadSeek>, StoreError> {
        todo!()
    }

    /// Commits the next rows of one or more messages in one transaction: records, versions, queue
    /// items (one per target), change feed, dedupe, verdicts, counters, message progress. Rows must
    /// continue at the message's `rows_done` (else `Conflict`). Returns what became of each row.
    pub async fn commit_rows(
        &self,
        _chunks: Vec<RowChunk>,
    ) -> Result<Vec<ChunkOutcome>, StoreError> {
        todo!()
    }

    // ---- delivery ----

    /// Promotes what is due from waiting to ready, then leases the first `limit` of `target` by
    /// (deadline, id), counting the attempt, in one transaction. Empty if nothing is due.
    pub async fn lease(
        &self,
        _target: &TargetId,
        _limit: usize,
        _lease_millis: u64,
    ) -> Result<Vec<Leased>, StoreError> {
        todo!()
    }

    /// When `lease` may find something again: the earliest `due_at` waiting, or `None`.
    pub fn next_due(&self, _target: &TargetId) -> Result<Option<Timestamp>, StoreError> {
        todo!()
    }

    /// Resolves when an item of any target has become ready since the last call.
    pub async fn ready_changed(&self) {
        todo!()
    }

    /// Extends leases that are still held.
    pub async fn extend(
        &self,
        _leases: Vec<LeaseToken>,
        _lease_millis: u64,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Settles leased items in one transaction. A stale token (lease expired and taken again, or
    /// given back) is ignored and reported `false` in its place.
    pub async fn settle(&self, _settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> {
        todo!()
    }

    // ---- operators ----

    /// Acts on queue items by id. Every act needs a reason and is kept in the item's history.
    pub async fn act(
        &self,
        _ids: Vec<u64>,
        _act: QueueAct,
        _actor: String,
        _reason: String,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        todo!()
    }

    // ---- reading (each a short snapshot) ----

    /// Items matching a filter, in (deadline, id) order, from a cursor; the second value continues.
    pub fn items(
        &self,
        _filter: &ItemFilter,
        _after: Option<(u64, u64)>,
        _limit: usize,
    ) -> Result<(Vec<ItemView>, Option<(u64, u64)>), StoreError> {
        todo!()
    }

    /// One item with its whole history.
    pub fn item(&self, _id: u64) -> Result<ItemView, StoreError> {
        todo!()
    }

    /// Messages of a feed (newest first), or of all.
    pub fn messages(
        &self,
        _feed: Option<&FeedId>,
        _name: Option<&str>,
        _before: Option<u64>,
        _limit: usize,
    ) -> Result<Vec<MessageView>, StoreError> {
        todo!()
    }

    /// One message.
    pub fn message(&self, _id: u64) -> Result<MessageView, StoreError> {
        todo!()
    }

    /// Row verdicts of a message from row index `from` on, joined with what the targets said.
    pub fn verdicts(
        &self,
        _message: u64,
        _from: u64,
        _limit: usize,
    ) -> Result<Vec<RowVerdictView>, StoreError> {
        todo!()
    }

    /// Counters of every feed, and of the queue.
    pub fn status(&self) -> Result<StatusView, StoreError> {
        todo!()
    }

    /// A record by its keyed digest, with its versions.
    pub fn record(&self, _key: &RecordDigest) -> Result<RecordView, StoreError> {
        todo!()
    }

    /// The keyed digest of a record's natural key.
    pub fn record_digest(&self, _key: &xinqiao_core::model::RecordKey) -> RecordDigest {
        todo!()
    }

    /// Change feed entries after `seq`.
    pub fn changes(&self, _after: u64, _limit: usize) -> Result<Vec<ChangeView>, StoreError> {
        todo!()
    }

    /// Re-derives every index and counter from messages, records and items and compares; every
    /// difference is one line (Chinese). Empty = sound. The store must be idle.
    pub fn fsck(&self) -> Result<Vec<String>, StoreError> {
        todo!()
    }
}

/// Unused imports of the contract.
#[doc(hidden)]
pub type _Contract = (Deadlines, RetryPolicy);

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("存储已被另一个进程打开")]
    Locked,
    /// Reading or writing failed.
    #[error("打开存储失败:{0}")]
    Io(String),
    /// A newer program wrote it.
    #[error("存储格式版本{0}比本程序新")]
    TooNew(u32),
}
