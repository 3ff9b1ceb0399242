//! Reports as users of the store see them: the figures of the records and of the rows, and zero
//! reports (零报告).

use serde::{Deserialize, Serialize};
use time::Date;
use xinqiao_core::deadline::{Deadlines, LateOwner};
use xinqiao_core::model::{AgencyId, DatasetId, FeedId, Timestamp};
use xinqiao_core::period::Period;
use xinqiao_core::report::{Basis, Figures, RowFigures};

use crate::{ItemState, RecordDigest, Store, StoreError};

impl Store {
    /// The figures of up to `limit` records behind `after`, as one short read has them. Adding up
    /// the pages gives those of all; what changes in between is in one of them or in none.
    pub fn report_records(
        &self,
        ask: &RecordsQuestion,
        after: Option<RecordDigest>,
        limit: usize,
    ) -> Result<RecordsPage, StoreError> {
        self.shared.report_records(ask, after, limit)
    }

    /// The rows of messages that came on a day of `span` (inclusive, Asia/Shanghai), of up to
    /// `limit` messages behind `after`.
    pub fn report_rows(
        &self,
        agency: Option<&AgencyId>,
        span: (Date, Date),
        after: Option<u64>,
        limit: usize,
    ) -> Result<RowsPage, StoreError> {
        self.shared.report_rows(agency, span, after, limit)
    }

    /// Declares a period of an agency and dataset to have had no decision, or takes that back; who
    /// and why are kept. The same again changes nothing: the first is `false` then.
    ///
    /// # Errors
    /// `Conflict` without a reason or with one of over 200 characters; `NotFound` when there is
    /// nothing to be taken back.
    pub async fn tell_zero(
        &self,
        agency: AgencyId,
        dataset: DatasetId,
        period: Period,
        declared: bool,
        by: String,
        reason: String,
    ) -> Result<(bool, ZeroReport), StoreError> {
        self.shared.tell_zero(agency, dataset, period, (declared, by, reason)).await
    }

    /// Everything that was declared, by agency, dataset and period.
    pub fn zero_reports(&self) -> Result<Vec<ZeroReport>, StoreError> {
        self.shared.zero_reports()
    }
}

/// Which records to count, and as of when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsQuestion {
    /// Only this agency.
    pub agency: Option<AgencyId>,
    /// Which event puts a record into the span.
    pub basis: Basis,
    /// First day of the span.
    pub first: Date,
    /// Last day of the span.
    pub last: Date,
    /// Decision days from here on are told apart.
    pub days_first: Date,
    /// The last of them.
    pub days_last: Date,
    /// As of when deadlines are looked at.
    pub now: Timestamp,
    /// [`xinqiao_core::report::at_risk_until`] of that time.
    pub at_risk: Date,
    /// Whether late records are told one by one.
    pub late: bool,
}

/// Figures of some records.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecordsPage {
    /// By the feed of a record's first version, and dataset.
    pub groups: Vec<ReportGroup>,
    /// Records by decision day.
    pub days: Vec<DayCount>,
    /// Late records, in no order of theirs.
    pub late: Vec<LateRecord>,
    /// Records that do not open: counted nowhere else.
    pub damaged: u64,
    /// Continue from here.
    pub next: Option<String>,
}

/// Figures of the records of one feed and dataset.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReportGroup {
    /// Whose: the agency of the feed's newest message.
    pub agency: AgencyId,
    /// Of the records' first versions.
    pub feed: FeedId,
    /// Dataset.
    pub dataset: DatasetId,
    /// What was counted.
    pub figures: Figures,
}

/// How many records were decided on a day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DayCount {
    /// Whose.
    pub agency: AgencyId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Decision day.
    pub day: Date,
    /// Records.
    pub records: u64,
}

/// A record that missed its statutory day.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LateRecord {
    /// Whose.
    pub agency: AgencyId,
    /// Of its first version.
    pub feed: FeedId,
    /// Dataset.
    pub dataset: DatasetId,
    /// Digest, hex.
    pub record: String,
    /// Document number as it may be shown.
    pub document: Option<String>,
    /// Its first queue item.
    pub item: Option<u64>,
    /// Where that stands.
    pub state: Option<ItemState>,
    /// Both deadlines.
    pub deadlines: Deadlines,
    /// First arrival.
    pub received: Timestamp,
    /// First sending to any target.
    pub sent: Option<Timestamp>,
    /// First acceptance.
    pub accepted: Option<Timestamp>,
    /// Who is to answer for the delay.
    pub owner: LateOwner,
}

/// Rows of some messages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RowsPage {
    /// By agency and feed.
    pub feeds: Vec<FeedRows>,
    /// Messages and stretches of verdicts that do not open: counted nowhere else.
    pub damaged: u64,
    /// Continue from here.
    pub next: Option<u64>,
}

/// Rows of one feed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeedRows {
    /// Whose.
    pub agency: AgencyId,
    /// Which.
    pub feed: FeedId,
    /// What was counted.
    pub rows: RowFigures,
}

/// An agency's word that a period had no decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroReport {
    /// Whose.
    pub agency: AgencyId,
    /// Of what.
    pub dataset: DatasetId,
    /// Of when.
    pub period: Period,
    /// What was said, oldest first (the last 32 are kept); the last word counts.
    pub events: Vec<ZeroEvent>,
}

impl ZeroReport {
    /// The declaration, unless it was taken back.
    pub fn declared(&self) -> Option<&ZeroEvent> {
        self.events.last().filter(|event| event.declared)
    }
}

/// A declaration, or its withdrawal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroEvent {
    /// When.
    pub at: Timestamp,
    /// Declared; else taken back.
    pub declared: bool,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}
