//! What goes in and out of the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::Date;
use xinqiao_core::deadline::{Deadlines, LateOwner, Milestones};
use xinqiao_core::model::{
    AgencyId, DatasetId, FeedId, Finding, Operation, RecordKey, TargetId, Timestamp, Verdict,
};

/// First 16 bytes of the keyed SM3 of a record's natural key.
pub type RecordDigest = [u8; 16];

/// How the store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// redb's cache in bytes.
    pub cache_bytes: usize,
    /// Two syncs a commit and a reopen in milliseconds, or one and a walk after a crash.
    pub quick_repair: bool,
    /// Intake stops when less than this is free on the disk.
    pub reserve_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, quick_repair: true, reserve_bytes: 256 << 20 }
    }
}

/// A message waiting to be processed.
#[derive(Debug, Clone)]
pub struct PendingMessage {
    /// Its number.
    pub id: u64,
    /// Whose.
    pub feed: FeedId,
    /// Whose.
    pub agency: AgencyId,
    /// Name given by the source.
    pub name: Option<String>,
    /// When it came.
    pub received: Timestamp,
    /// Length of its raw bytes.
    pub bytes: u64,
    /// Rows already committed: decoding skips this many.
    pub rows_done: u64,
    /// How often processing was begun.
    pub attempts: u32,
}

/// A stretch of rows of one message, in order.
#[derive(Debug)]
pub struct RowChunk {
    /// The message.
    pub message: u64,
    /// Index of the first row (0-based count of rows seen, blank rows not counted).
    pub first: u64,
    /// The rows.
    pub rows: Vec<RowEntry>,
    /// The message is finished with this chunk; with it, what is said about the message as a whole.
    pub finish: Option<MessageEnd>,
}

/// How a message ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageEnd {
    /// The message as a whole could not be (fully) read: stable code and Chinese text.
    pub error: Option<(String, String)>,
    /// Warnings about the message as a whole (unknown columns …).
    pub notes: Vec<String>,
}

/// One row, ready to commit.
#[derive(Debug)]
pub struct RowEntry {
    /// Row or line number for people.
    pub row: u64,
    /// Document number for people, if there is one and it may be shown.
    pub document: Option<String>,
    /// What was found; the verdict follows from it.
    pub findings: Vec<Finding>,
    /// The record, unless the row was rejected.
    pub record: Option<NewVersion>,
    /// The natural key of a rejected row that has one: when its correction comes, the record's clock
    /// tells that the agency had sent it before.
    pub sent_back: Option<RecordKey>,
    /// What legacy codes (旧代码) have to do with it.
    pub legacy: crate::Legacy,
}

/// A record version to commit.
#[derive(Debug)]
pub struct NewVersion {
    /// Natural key.
    pub key: RecordKey,
    /// Generation of `fields`.
    pub generation: u16,
    /// Publish or take down.
    pub operation: Operation,
    /// Field code and value text, filled fields only, in catalogue order.
    pub fields: Vec<(Arc<str>, String)>,
    /// First 8 bytes of the SM3 of the mapping that made it.
    pub mapping: [u8; 8],
    /// Both deadlines.
    pub deadlines: Deadlines,
    /// Where it goes.
    pub targets: Arc<[TargetId]>,
}

/// What became of a chunk.
#[derive(Debug, Clone)]
pub struct ChunkOutcome {
    /// One per row.
    pub rows: Vec<RowOutcome>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowOutcome {
    /// Not taken.
    Rejected,
    /// A new record.
    New {
        /// Position in the change feed.
        seq: u64,
    },
    /// A new version of a known record; its clock stays.
    Correction {
        /// Position in the change feed.
        seq: u64,
        /// The new version, from 2.
        version: u32,
    },
    /// Equal to the current version: one record, by two channels or twice.
    Duplicate,
    /// Equal to a former version, or an upsert of what was withdrawn under the same content: an
    /// old copy arriving late, not applied.
    Stale,
    /// Waits for the mapping table of legacy codes; looked at again when it grows.
    Held,
    /// A line of the mapping table, taken; it may have been there already.
    Mapped,
}

/// A message whose agency is to be told something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingFeedback {
    /// The message; finished.
    pub message: u64,
    /// Its state as looked at: see [`crate::Store::feedback_given`].
    pub mark: u64,
    /// When it was finished, if its agency has not been told since: every row is to be told.
    pub whole: Option<Timestamp>,
    /// A refusal of a row no longer stands.
    pub relieved: bool,
}

/// Proof that a worker holds an item: fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseToken {
    /// The item.
    pub id: u64,
    /// Grows with every lease of the item.
    pub fence: u64,
}

/// An item handed to a worker.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Proof.
    pub token: LeaseToken,
    /// Idempotency key: digest hex, `-`, version.
    pub key: String,
    /// Version handed out.
    pub version: u32,
    /// Dataset.
    pub dataset: DatasetId,
    /// Generation of the fields.
    pub generation: u16,
    /// Publish or take down.
    pub operation: Operation,
    /// Field code and value text.
    pub fields: Vec<(Arc<str>, String)>,
    /// Attempts including this one.
    pub attempt: u32,
    /// End of the earlier deadline.
    pub deadline: Timestamp,
}

/// How a leased item ends.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Proof.
    pub token: LeaseToken,
    /// The end.
    pub end: SettledAs,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettledAs {
    /// Accepted: if a newer version waits, the item goes back to ready with it; else it is done.
    Accepted,
    /// Refused for good: back to the agency. A corrected version re-opens the item.
    Refused {
        /// The target's code.
        code: String,
        /// The target's text.
        message: String,
    },
    /// Try again at a time.
    Retry {
        /// When.
        due: Timestamp,
        /// Short error.
        error: String,
    },
    /// Attempts used up.
    Dead {
        /// Short error.
        error: String,
    },
    /// Outcome unknown at a target that does not dedupe: a person decides. Parked as dead.
    Doubtful {
        /// Short error.
        error: String,
    },
}

/// What an operator does to items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueAct {
    /// Ready now, attempts reset (dead, waiting, refused or held items).
    Retry,
    /// Not delivered until released (ready or waiting items).
    Hold,
    /// Given back to the queue (held items).
    Release,
    /// Never delivered (anything not done or leased).
    Drop,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemState {
    /// Due now, earliest deadline first.
    Ready,
    /// Waits for `due_at`.
    Waiting,
    /// With a worker.
    Leased,
    /// Accepted.
    Done,
    /// Refused by the target.
    Refused,
    /// Attempts used up, or outcome unknown.
    Dead,
    /// Held by an operator.
    Held,
    /// Dropped by an operator.
    Dropped,
}

/// Which items to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemFilter {
    /// Only this state.
    pub state: Option<ItemState>,
    /// Only this target.
    pub target: Option<TargetId>,
    /// Only this agency.
    pub agency: Option<AgencyId>,
    /// Only deadlines ending before this time.
    pub deadline_before: Option<Timestamp>,
}

/// One line of an item's history (the last 32 are kept).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemEvent {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub what: EventKind,
    /// Error, reason, actor; no personal data.
    pub detail: String,
}

/// What can happen to a queue item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Handed to a sender.
    Sent,
    /// Accepted by the target.
    Accepted,
    /// Refused by the target.
    Refused,
    /// To be tried again.
    Retry,
    /// Given up by the retry policy.
    Dead,
    /// Sent without an answer, to a target that may take it twice.
    Doubtful,
    /// Its lease ran out.
    Expired,
    /// The gateway was started again while it was leased.
    Restarted,
    /// A newer version took its place.
    Corrected,
    /// An operator had it sent again.
    RetriedByHand,
    /// An operator stopped it.
    Held,
    /// An operator let it go on.
    Released,
    /// An operator gave it up.
    Dropped,
}

/// A queue item: one record on its way to one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemView {
    /// Its number.
    pub id: u64,
    /// To where.
    pub target: TargetId,
    /// Whose.
    pub agency: AgencyId,
    /// Feed of the version to deliver.
    pub feed: FeedId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Document number for people.
    pub document: Option<String>,
    /// Record digest, hex.
    pub record: String,
    /// State.
    pub state: ItemState,
    /// Version to deliver.
    pub version: u32,
    /// Attempts at `version` since it came or an operator had it sent again: what the retry policy
    /// counts.
    pub attempts: u32,
    /// How often the item was sent in its whole life, every version and attempt.
    pub sends: u64,
    /// When it is due again.
    pub due_at: Option<Timestamp>,
    /// Both deadlines.
    pub deadlines: Deadlines,
    /// Times that decide lateness.
    pub milestones: Milestones,
    /// Last error or refusal.
    pub last_error: Option<String>,
    /// What happened.
    pub history: Vec<ItemEvent>,
}

/// Items in order, and the cursor that continues after them; `None` at the end.
pub type ItemPage = (Vec<ItemView>, Option<(u64, u64)>);

/// A message, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageView {
    /// Its number.
    pub id: u64,
    /// Whose.
    pub feed: FeedId,
    /// Whose.
    pub agency: AgencyId,
    /// Name given by the source.
    pub name: Option<String>,
    /// When it came.
    pub received: Timestamp,
    /// Length of its raw bytes.
    pub bytes: u64,
    /// SM3, hex.
    pub digest: String,
    /// Rows committed so far: accepted, with warnings, rejected.
    pub rows: [u64; 3],
    /// How it ended; `None` while pending.
    pub end: Option<MessageEnd>,
}

/// A row's verdict, for people, with what targets said since.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowVerdictView {
    /// Row or line number.
    pub row: u64,
    /// Document number.
    pub document: Option<String>,
    /// The gateway's verdict, or `reject` when a target has refused the row's version.
    pub verdict: Verdict,
    /// What was found, here and by targets (rule `target.<code>`).
    pub findings: Vec<Finding>,
    /// What became of the row.
    pub outcome: RowOutcome,
    /// Target and state of delivery of the record's version.
    pub delivery: Vec<(TargetId, ItemState)>,
    /// How the row's record met its clocks; `None` until a target has accepted some version of it.
    /// A correction's row tells the standing of its record: the clock is the first version's.
    pub met: Option<Met>,
}

/// How an accepted record met its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Accepted by the end of the pledged day (承诺时限).
    pub pledged: bool,
    /// Accepted by the end of the statutory day (法定时限).
    pub statutory: bool,
    /// Who is to answer for missing the statutory day; set exactly when it was missed.
    pub late: Option<LateOwner>,
}

/// Counters of one feed. Rows stand with the feed that sent them, records with the feed that sent
/// their first version. Three sums always hold (`fsck` and the demo check them):
///
/// - `rows = rejected + repeated + committed + held + mapped` (收到行 = 退回 + 重复 + 新记录和更正 +
///   暂存 + 对照);
/// - `committed = corrections + accepted + open()` (每个新记录不是已被平台接受,就是未受理);
/// - `accepted = on_time_statutory + late()` (平台接受 = 法定按期 + 逾期).
///
/// `refused` and `dropped` say where records stand now. They are no part of these sums: a record
/// that was accepted once may have a correction refused or given up.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct FeedCounters {
    /// Messages received (duplicates not counted).
    pub messages: u64,
    /// Duplicate messages.
    pub duplicate_messages: u64,
    /// Messages that could not be read as a whole.
    pub failed_messages: u64,
    /// Messages not finished yet.
    pub pending_messages: u64,
    /// Rows seen in finished and unfinished messages.
    pub rows: u64,
    /// Rows rejected by the gateway.
    pub rejected: u64,
    /// Rows taken with warnings.
    pub warned: u64,
    /// Rows that were duplicates or stale copies.
    pub repeated: u64,
    /// Rows that became a new record or version.
    pub committed: u64,
    /// Of the committed rows, those that are a further version of a known record: corrections and
    /// withdrawals.
    pub corrections: u64,
    /// Records accepted by their first target (records, counted once).
    pub accepted: u64,
    /// Records refused by the target and not corrected since.
    pub refused: u64,
    /// Records accepted by the end of the pledged day.
    pub on_time_pledged: u64,
    /// Records accepted by the end of the statutory day.
    pub on_time_statutory: u64,
    /// Accepted late, by the agency's late arrival.
    pub late_agency: u64,
    /// Accepted late, the agency's correction came late.
    pub late_refusal: u64,
    /// Accepted late, held by the gateway.
    pub late_gateway: u64,
    /// Accepted late, held by the platform.
    pub late_platform: u64,
    /// Attempts beyond the first.
    pub retried: u64,
    /// Queue items an operator has given up.
    pub dropped: u64,
    /// When a message last came.
    pub last_received: Option<Timestamp>,
    // Later than the first release; stored behind the others, see `encode::feed_counters`.
    /// Rows that wait for the mapping table of legacy codes.
    pub held: u64,
    /// Rows that are lines of the mapping table.
    pub mapped: u64,
}

impl FeedCounters {
    /// Records accepted after their statutory day, whoever is to answer for it.
    pub fn late(&self) -> u64 {
        self.late_agency + self.late_refusal + self.late_gateway + self.late_platform
    }

    /// Records no target has accepted in any version: on their way, refused, or given up.
    pub fn open(&self) -> u64 {
        self.committed.saturating_sub(self.corrections + self.accepted)
    }
}

/// Counts of one target's items by state.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct TargetCounters {
    /// State and count.
    pub states: std::collections::BTreeMap<ItemState, u64>,
    /// Earliest deadline among the unfinished.
    pub earliest_deadline: Option<Timestamp>,
}

/// Everything `status` shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct StatusView {
    /// By feed.
    pub feeds: std::collections::BTreeMap<FeedId, FeedCounters>,
    /// By target.
    pub targets: std::collections::BTreeMap<TargetId, TargetCounters>,
    /// Records held.
    pub records: u64,
    /// Last position of the change feed.
    pub seq: u64,
}

/// A record, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordView {
    /// Digest, hex.
    pub digest: String,
    /// Dataset.
    pub dataset: DatasetId,
    /// Decision date.
    pub decided: Date,
    /// Current version.
    pub version: u32,
    /// Whether it is withdrawn.
    pub withdrawn: bool,
    /// Message, row and time of each version.
    pub versions: Vec<(u64, u64, Timestamp)>,
    /// Fields of the current version.
    pub fields: Vec<(String, String)>,
    /// Both deadlines, of the first version.
    pub deadlines: Deadlines,
}

/// One entry of the change feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Position; gapless, in commit order.
    pub seq: u64,
    /// Record digest, hex.
    pub record: String,
    /// Version.
    pub version: u32,
    /// Publish or take down.
    pub operation: Operation,
}
