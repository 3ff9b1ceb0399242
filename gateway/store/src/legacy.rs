//! Legacy codes (旧代码) as users of the store see them: the mapping table, and the rows that wait
//! for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use time::Date;
use tokio::sync::watch;
use xinqiao_core::catalogue::Resolution;
use xinqiao_core::ident::{LegacyCode, LegacyKind, UsccEntry};
use xinqiao_core::model::{FeedId, Operation, RecordKey, Timestamp};

use crate::{PendingMessage, RowEntry, RowOutcome, Store, StoreError};

impl Store {
    /// Adds lines to the mapping table or takes lines back, in one transaction of at most 10,000.
    /// The same again changes nothing. Rows held for want of one of the codes become due.
    pub async fn load_uscc(&self, lines: Vec<TableLine>) -> Result<Loaded, StoreError> {
        self.shared.load_uscc(lines).await
    }

    /// Grows with every change of the mapping table. A row is held with the revision from before
    /// the table was asked, so that no change in between is missed.
    pub fn uscc_revision(&self) -> Result<u64, StoreError> {
        self.shared.uscc_revision()
    }

    /// Whose a legacy code was on a day.
    pub fn look_up_uscc(&self, code: &LegacyCode, on: Date) -> Result<Resolution, StoreError> {
        self.shared.look_up_uscc(code, on)
    }

    /// Every line of one code.
    pub fn uscc_of(&self, kind: LegacyKind, code: &str) -> Result<Vec<UsccView>, StoreError> {
        self.shared.uscc_of(kind, code)
    }

    /// Lines of the table, behind a former page's `next` (its 32 bytes).
    pub fn uscc_lines(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<UsccPage, StoreError> {
        self.shared.uscc_lines(after, limit)
    }

    /// How many rows are held, by feed and reason.
    pub fn held(&self) -> Result<Vec<HeldCount>, StoreError> {
        self.shared.held()
    }

    /// Has every held row (of a feed) looked at again; how many.
    pub async fn rerun_all(&self, feed: Option<FeedId>) -> Result<u64, StoreError> {
        self.shared.rerun_all(feed).await
    }

    /// Held rows of one message that are due, at most `limit`; the attempt is counted durably. A row
    /// tried `attempts` times stays held, and is not due any more.
    pub async fn take_rerun(
        &self,
        limit: usize,
        attempts: u32,
    ) -> Result<Option<Rerun>, StoreError> {
        self.shared.take_rerun(limit, attempts).await
    }

    /// Takes back the attempts counted by [`Store::take_rerun`]: they could not be made, for a fault
    /// that is not the rows'.
    pub async fn put_back_rerun(
        &self,
        message: u64,
        rows: BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        self.shared.put_back_rerun(message, rows).await
    }

    /// Gives held rows of a message a new end, in one transaction: verdict, record, counters. Rows
    /// not held any more are left alone; `gone` are not due any more, and stay held. What became of
    /// each that was held.
    pub async fn commit_rerun(
        &self,
        message: u64,
        rows: Vec<(u64, RowEntry)>,
        gone: Vec<u64>,
    ) -> Result<Vec<RowOutcome>, StoreError> {
        self.shared.commit_rerun(message, rows, gone).await
    }

    /// Changes when held rows may have become due; also at once.
    pub fn rerun_signal(&self) -> watch::Receiver<u64> {
        let mut signal = self.shared.signals.rerun.subscribe();
        signal.mark_changed();
        signal
    }
}

/// What legacy codes have to do with a row.
#[derive(Debug, Default)]
pub enum Legacy {
    /// Nothing.
    #[default]
    None,
    /// The record's 统一社会信用代码 came from the mapping table: under this key it is known if it
    /// came before the table did.
    Formerly(RecordKey),
    /// The row waits for the mapping table; it has no record.
    Held(Hold),
    /// The row is a line of the mapping table; it has no record.
    Line(TableLine),
}

/// What a held row waits for.
#[derive(Debug)]
pub struct Hold {
    /// Codes any of which may settle it.
    pub wanted: Vec<LegacyCode>,
    /// The table contradicts itself, or the codes each other; else it does not know them.
    pub ambiguous: bool,
    /// [`crate::Store::uscc_revision`] from before the table was asked.
    pub revision: u64,
}

/// A line for the mapping table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableLine {
    /// What it says.
    pub entry: UsccEntry,
    /// To be added; or to be taken back: every line of this code and 统一社会信用代码.
    pub operation: Operation,
}

/// What loading lines into the mapping table did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Lines that are new.
    pub added: u64,
    /// Lines that were there already, or were not there to be taken back.
    pub known: u64,
    /// Lines that took others back.
    pub withdrawn: u64,
    /// Lines another line contradicts: same code, overlapping days, another 统一社会信用代码.
    pub ambiguous: u64,
}

/// A line of the mapping table, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsccView {
    /// The legacy code's kind.
    pub kind: LegacyKind,
    /// The legacy code.
    pub code: String,
    /// Its 统一社会信用代码.
    pub uscc: String,
    /// First day, open if `None`.
    pub from: Option<Date>,
    /// Last day, open if `None`.
    pub to: Option<Date>,
    /// Who says so.
    pub source: String,
    /// When it was loaded.
    pub loaded: Timestamp,
}

/// Lines of the mapping table, in no order of theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsccPage {
    /// Some lines.
    pub lines: Vec<UsccView>,
    /// How many the table has.
    pub total: u64,
    /// Continue from here.
    pub next: Option<String>,
}

/// How many rows of a feed are held for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCount {
    /// The feed.
    pub feed: FeedId,
    /// `uscc.unresolved` or `uscc.ambiguous`.
    pub reason: String,
    /// Rows.
    pub rows: u64,
    /// Since when the oldest is held.
    pub oldest: Timestamp,
}

/// Held rows of one message, to be looked at again.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// The message; its `rows_done` and `attempts` are 0.
    pub message: PendingMessage,
    /// Indexes of the rows.
    pub rows: BTreeSet<u64>,
}
