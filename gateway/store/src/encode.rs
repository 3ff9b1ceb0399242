//! The values behind the keys: what each row of each table holds (`docs/formats/disk.md`).
//!
//! A value is one layout byte, then postcard. Unknown layout bytes are refused, never guessed at.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xinqiao_core::deadline::{Deadlines, LateOwner, Milestones};
use xinqiao_core::model::{
    AgencyId, DatasetId, FeedId, Finding, Operation, TargetId, Timestamp, Verdict,
};

use std::sync::Arc;

use crate::{
    EventKind, FeedCounters, ItemEvent, ItemState, ItemView, MessageEnd, Met, RecordDigest,
    RowOutcome, StoreError,
};

/// Layout of every value of this format version.
const LAYOUT: u8 = 1;
/// Lines kept of an item's history, and refusals kept of an item.
const HISTORY: usize = 32;

/// Row counts and positions of the whole store; one row of `meta`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub next_message: u64,
    pub next_item: u64,
    pub seq: u64,
    pub records: u64,
}

/// A message; never changed. An inline payload follows it in the same value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageRow {
    pub feed: FeedId,
    pub agency: AgencyId,
    pub name: Option<String>,
    pub received: Timestamp,
    pub bytes: u64,
    pub digest: [u8; 32],
    /// The payload follows; else it is the file named by `digest`.
    pub inline: bool,
}

/// How far a message has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ProgressRow {
    pub rows_done: u64,
    pub attempts: u32,
    /// Accepted, accepted with warnings, rejected.
    pub rows: [u64; 3],
    pub end: Option<MessageEnd>,
    /// How often the same bytes came again, and when last.
    pub repeats: u64,
    pub last_repeat: Option<Timestamp>,
}

/// A version, as the head of its record knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VersionMeta {
    /// Position in the change feed: the key of its [`VersionRow`].
    pub seq: u64,
    /// First 8 bytes of [`content_digest`].
    pub content: [u8; 8],
    pub message: u64,
    pub row: u64,
    /// When its message came.
    pub received: Timestamp,
}

/// The head of a record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RecordRow {
    pub dataset: DatasetId,
    /// Feed of the first version: whose counters the record belongs to.
    pub feed: FeedId,
    pub withdrawn: bool,
    /// Of the first version.
    pub deadlines: Deadlines,
    /// Without `sent`: each of its items knows its own.
    pub milestones: Milestones,
    pub versions: Vec<VersionMeta>,
    pub items: Vec<(TargetId, u64)>,
    /// How many of the items stand refused.
    pub refused_items: u32,
    /// Set when accepted after the statutory day.
    pub late: Option<LateOwner>,
}

impl RecordRow {
    /// How it met its clocks, once accepted.
    pub(crate) fn met(&self) -> Option<Met> {
        let accepted = self.milestones.accepted?;
        Some(Met {
            pledged: accepted <= Timestamp::end_of_day(self.deadlines.pledged),
            statutory: self.late.is_none(),
            late: self.late,
        })
    }

    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.versions.len()).unwrap_or(u32::MAX)
    }

    /// The position of a version in the change feed.
    pub(crate) fn seq(&self, version: u32) -> Option<u64> {
        let index = usize::try_from(version).ok()?.checked_sub(1)?;
        self.versions.get(index).map(|version| version.seq)
    }
}

/// A record that there is none of yet: a row of it came, and was sent back.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct SentBack {
    /// When the first such row came.
    pub received: Timestamp,
    /// When the last one was sent back.
    pub refused: Timestamp,
}

/// What a version says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VersionRow {
    pub record: RecordDigest,
    pub feed: FeedId,
    pub agency: AgencyId,
    pub document: Option<String>,
    pub generation: u16,
    pub operation: Operation,
    pub mapping: [u8; 8],
    pub fields: Vec<(Arc<str>, String)>,
}

/// One record on its way to one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ItemRow {
    pub record: RecordDigest,
    pub target: TargetId,
    pub dataset: DatasetId,
    pub state: ItemState,
    /// Version to deliver, or being delivered; feed, agency and document are its own.
    pub version: u32,
    /// The position of `version` in the change feed.
    pub seq: u64,
    pub feed: FeedId,
    pub agency: AgencyId,
    pub document: Option<String>,
    /// The record's newest version; above `version` only while leased.
    pub newest: u32,
    /// End of the earlier deadline; never changes, because corrections keep the clock.
    pub deadline: Timestamp,
    /// Attempts at `version` since it was last reset.
    pub attempts: u32,
    /// Attempts beyond the first, over the item's life.
    pub retried: u64,
    /// Grows with every lease: also how often the item was sent.
    pub fence: u64,
    /// When it was first sent.
    pub sent: Option<Timestamp>,
    /// Set exactly while waiting.
    pub due_at: Option<Timestamp>,
    /// The last version accepted.
    pub accepted: Option<u32>,
    /// Version, code and text of refusals that stand.
    pub refusals: Vec<(u32, String, String)>,
    pub last_error: Option<String>,
    pub history: Vec<ItemEvent>,
}

impl ItemRow {
    pub(crate) fn note(&mut self, at: Timestamp, what: EventKind, detail: &str) {
        keep(&mut self.history, ItemEvent { at, what, detail: detail.to_owned() });
    }

    pub(crate) fn refuse(&mut self, code: &str, message: &str) {
        self.forgive();
        keep(&mut self.refusals, (self.version, code.to_owned(), message.to_owned()));
    }

    /// The refusal of the version at hand no longer stands.
    pub(crate) fn forgive(&mut self) {
        let version = self.version;
        self.refusals.retain(|(refused, ..)| *refused != version);
    }

    /// Where the item stands for a reader of `version`; `None` if a newer one took its place.
    pub(crate) fn state_of(&self, version: u32) -> Option<ItemState> {
        if self.version == version {
            Some(self.state)
        } else if self.accepted == Some(version) {
            Some(ItemState::Done)
        } else if self.refusals.iter().any(|(refused, ..)| *refused == version) {
            Some(ItemState::Refused)
        } else {
            None
        }
    }

    pub(crate) fn view(self, id: u64, record: &RecordRow) -> ItemView {
        ItemView {
            id,
            target: self.target,
            agency: self.agency,
            feed: self.feed,
            dataset: self.dataset,
            document: self.document,
            record: xinqiao_crypto::hex(&self.record),
            state: self.state,
            version: self.version,
            attempts: self.attempts,
            sends: self.fence,
            due_at: self.due_at,
            deadlines: record.deadlines,
            milestones: Milestones { sent: self.sent, ..record.milestones },
            last_error: self.last_error,
            history: self.history,
        }
    }
}

/// One row's verdict inside a block.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VerdictRow {
    pub row: u64,
    pub document: Option<String>,
    pub findings: Vec<Finding>,
    pub outcome: RowOutcome,
    /// The record and the version that the row is, was, or equals.
    pub record: Option<(RecordDigest, u32)>,
}

impl VerdictRow {
    /// The gateway's own verdict.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.outcome == RowOutcome::Rejected {
            Verdict::Reject
        } else {
            Verdict::of(&self.findings)
        }
    }
}
/// Encodes a value.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    encode_after(Vec::new(), value)
}

/// Encodes a value behind what is there.
pub(crate) fn encode_after<T: Serialize>(
    mut head: Vec<u8>,
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    head.push(LAYOUT);
    postcard::to_extend(value, head).map_err(|e| StoreError::Corrupt(e.to_string()))
}

/// Decodes a value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    decode_head(bytes).map(|(value, _)| value)
}

/// Decodes a value and gives what follows it.
pub(crate) fn decode_head<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), StoreError> {
    match bytes.split_first() {
        Some((&LAYOUT, rest)) => {
            postcard::take_from_bytes(rest).map_err(|e| StoreError::Corrupt(e.to_string()))
        }
        Some((other, _)) => Err(StoreError::Corrupt(format!("未知的值版本{other}"))),
        None => Err(StoreError::Corrupt("空值".to_owned())),
    }
}

/// Decodes a feed's counters. Those that later programs added stand last and are 0 in what former
/// ones wrote; a postcard 0 is one zero byte.
pub(crate) fn feed_counters(bytes: &[u8]) -> Result<FeedCounters, StoreError> {
    decode(&[bytes, &[0; 2]].concat())
}

/// What tells versions of one record apart: the first 8 bytes of the SM3 of the operation (`U` or
/// `W`) and, per field, length and bytes of its code and of its text (lengths as u32, big-endian).
pub(crate) fn content_digest(operation: Operation, fields: &[(Arc<str>, String)]) -> [u8; 8] {
    let mut sm3 = xinqiao_crypto::Sm3Stream::default();
    sm3.update(match operation {
        Operation::Upsert => b"U",
        Operation::Withdraw => b"W",
    });
    for part in fields.iter().flat_map(|(code, text)| [code.as_ref(), text.as_str()]) {
        sm3.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        sm3.update(part.as_bytes());
    }
    let mut short = [0; 8];
    short.iter_mut().zip(sm3.finish()).for_each(|(to, from)| *to = from);
    short
}

fn keep<T>(list: &mut Vec<T>, entry: T) {
    if list.len() >= HISTORY {
        list.remove(0);
    }
    list.push(entry);
}

/// Number and content of a stored version: the number (u32, big-endian), then the encoded
/// [`VersionRow`], which is encoded before the transaction, when its number is not known yet.
pub(crate) fn read_version(value: &[u8]) -> Result<(u32, VersionRow), StoreError> {
    let (number, row) = value
        .split_first_chunk()
        .ok_or_else(|| StoreError::Corrupt("版本的长度不对".to_owned()))?;
    Ok((u32::from_be_bytes(*number), decode(row)?))
}
