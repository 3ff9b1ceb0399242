//! Timeliness reports (时效报表): per agency and dataset, what came in a period, what became of it,
//! by both clocks, and which periods brought nothing. `docs/formats/reports.zh.md` defines every
//! figure.
//!
//! Everything is asked through the control interface, page by page, so it is the same of a running
//! gateway and of the store at hand; what is held here is bounded by agencies, datasets, periods and
//! [`MOST_LATE`].

pub(crate) mod book;
pub(crate) mod columns;
mod duty;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use serde::Serialize;
use time::Date;
use xinqiao_core::calendar::Calendar;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::deadline::LateOwner;
use xinqiao_core::model::{AgencyId, DatasetId, FeedId, Timestamp};
use xinqiao_core::report::{Basis, Figures, RowFigures, at_risk_until};
use xinqiao_http::control::{Client, ClientError, FeedReport};
use xinqiao_store::{FeedCounters, LateRecord, RecordsQuestion, StatusView};

use crate::config::Duties;

pub(crate) use duty::{DutyFigures, DutyLine, Standing};

/// Late records told one by one; more are counted.
const MOST_LATE: usize = 50_000;
/// Records of a page.
const RECORDS: usize = 50_000;
/// Messages of a page.
const MESSAGES: usize = 10_000;

/// What to report on.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// First and last day.
    pub(crate) span: (Date, Date),
    /// As people say it.
    pub(crate) title: String,
    /// Which event puts a record into the span.
    pub(crate) basis: Basis,
    /// Only this agency.
    pub(crate) agency: Option<AgencyId>,
    /// Only this dataset.
    pub(crate) dataset: Option<DatasetId>,
}

/// A report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// 2026年10月.
    pub(crate) title: String,
    /// First day.
    pub(crate) first: Date,
    /// Last day.
    pub(crate) last: Date,
    /// Which event put a record into it.
    pub(crate) basis: Basis,
    /// As of when.
    pub(crate) now: Timestamp,
    /// Something changed while it was read: the figures may be apart by what changed.
    pub(crate) moved: bool,
    /// What did not open, and is counted nowhere.
    pub(crate) damaged: u64,
    /// By agency and dataset.
    pub(crate) lines: Vec<Line>,
    /// All of them.
    pub(crate) total: Line,
    /// Periods that were to be reported, or were declared empty.
    pub(crate) periods: Vec<DutyLine>,
    /// Late records by agency, dataset, statutory day; at most [`MOST_LATE`].
    pub(crate) late: Vec<Late>,
    /// How many there are.
    pub(crate) late_total: u64,
}

/// The figures of one agency and dataset.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Line {
    /// `scjg`; none for the total.
    pub(crate) agency: Option<AgencyId>,
    /// 市场监督管理局.
    pub(crate) agency_name: String,
    /// `admin-penalty`; none if no feed tells.
    pub(crate) dataset: Option<DatasetId>,
    /// 行政处罚.
    pub(crate) dataset_title: String,
    /// Kinds of source.
    pub(crate) sources: BTreeSet<String>,
    /// The ledger of rows.
    pub(crate) rows: RowFigures,
    /// The ledger of records.
    pub(crate) records: Figures,
    /// Periods.
    pub(crate) periods: DutyFigures,
}

impl AddAssign<&Self> for Line {
    fn add_assign(&mut self, other: &Self) {
        self.rows += other.rows;
        self.records += other.records;
        self.periods += other.periods;
    }
}

/// A late record with what people call things.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Late {
    /// 市场监督管理局.
    pub(crate) agency_name: String,
    /// 行政处罚.
    pub(crate) dataset_title: String,
    /// Calendar days from the statutory day to acceptance, or to now.
    pub(crate) days_late: i64,
    /// The record.
    #[serde(flatten)]
    pub(crate) record: LateRecord,
}

type Key = (AgencyId, Option<DatasetId>);

/// What things are called.
struct Names<'a> {
    agencies: BTreeMap<AgencyId, String>,
    catalogue: &'a Catalogue,
    on: Date,
}

impl Names<'_> {
    fn agency(&self, id: &AgencyId) -> String {
        self.agencies.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Without its generation.
    fn dataset(&self, id: &DatasetId) -> String {
        let known = self.catalogue.in_force(id, self.on);
        let known =
            known.or_else(|| self.catalogue.iter().filter(|dataset| dataset.id == *id).last());
        let title = known.map_or(id.as_str(), |dataset| dataset.title.as_str());
        title.split(['(', '(']).next().unwrap_or(title).to_owned()
    }
}

/// Makes a report.
pub(crate) async fn make(
    client: &Client,
    ask: &Ask,
    duties: &Duties,
    catalogue: &Catalogue,
    calendar: &Calendar,
) -> Result<Report, ClientError> {
    let before = client.status().await?;
    let now = before.now;
    let feeds = client.feeds().await?;
    let zeros = client.zero_reports().await?;
    let mut agencies: BTreeMap<_, _> = duties.agencies.iter().cloned().collect();
    for feed in &feeds {
        agencies.entry(feed.agency.clone()).or_insert_with(|| feed.agency_name.clone());
    }
    let names = Names { agencies, catalogue, on: ask.span.1 };

    let plan = duty::Plan::new(ask, &duties.duties, zeros);
    let (days_first, days_last) = plan.span().unwrap_or(ask.span);
    let question = RecordsQuestion {
        agency: ask.agency.clone(),
        basis: ask.basis,
        first: ask.span.0,
        last: ask.span.1,
        days_first,
        days_last,
        now,
        at_risk: at_risk_until(now, calendar),
        late: true,
    };
    let mut found = Found::new(ask, &feeds);
    found.records(client, &question).await?;
    found.rows(client).await?;
    let periods = plan.stand(&found.days, now, &names, calendar);
    let moved = counters(client.status().await?.status) != counters(before.status);
    Ok(found.report(ask, periods, &names, now, moved))
}

/// What must stand still for the figures to add up: another attempt changes none.
fn counters(status: StatusView) -> BTreeMap<FeedId, FeedCounters> {
    let mut feeds = status.feeds;
    feeds.values_mut().for_each(|feed| feed.retried = 0);
    feeds
}

/// What was found so far.
struct Found<'a> {
    ask: &'a Ask,
    lines: BTreeMap<Key, Line>,
    /// Dataset of the records of each feed.
    datasets: BTreeMap<FeedId, DatasetId>,
    days: BTreeMap<(AgencyId, DatasetId, Date), u64>,
    late: Vec<LateRecord>,
    late_total: u64,
    damaged: u64,
}

impl<'a> Found<'a> {
    fn new(ask: &'a Ask, feeds: &[FeedReport]) -> Self {
        let mut found = Self {
            ask,
            lines: BTreeMap::new(),
            datasets: BTreeMap::new(),
            days: BTreeMap::new(),
            late: Vec::new(),
            late_total: 0,
            damaged: 0,
        };
        for feed in feeds {
            let dataset = feed.dataset.split('/').next().and_then(|id| DatasetId::new(id).ok());
            let Some(dataset) = dataset else { continue };
            found.datasets.insert(feed.id.clone(), dataset.clone());
            // A feed without a target brings no records.
            if !feed.targets.is_empty()
                && let Some(line) = found.line(&feed.agency, Some(&dataset))
            {
                line.sources.insert(feed.source.clone());
            }
        }
        found
    }

    /// The line of an agency and dataset, if it is asked for.
    fn line(&mut self, agency: &AgencyId, dataset: Option<&DatasetId>) -> Option<&mut Line> {
        let asked = self.ask.agency.as_ref().is_none_or(|only| only == agency)
            && self.ask.dataset.as_ref().is_none_or(|only| Some(only) == dataset);
        asked.then(|| self.lines.entry((agency.clone(), dataset.cloned())).or_default())
    }

    async fn records(
        &mut self,
        client: &Client,
        question: &RecordsQuestion,
    ) -> Result<(), ClientError> {
        let mut after = None;
        loop {
            let page = client.report_records(question, after, RECORDS).await?;
            for group in page.groups {
                self.datasets.entry(group.feed).or_insert_with(|| group.dataset.clone());
                if let Some(line) = self.line(&group.agency, Some(&group.dataset)) {
                    line.records += group.figures;
                }
            }
            for day in page.days {
                *self.days.entry((day.agency, day.dataset, day.day)).or_default() += day.records;
            }
            for late in page.late {
                if self.ask.dataset.as_ref().is_none_or(|only| *only == late.dataset) {
                    self.late_total += 1;
                    if self.late.len() < MOST_LATE {
                        self.late.push(late);
                    }
                }
            }
            self.damaged += page.damaged;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn rows(&mut self, client: &Client) -> Result<(), ClientError> {
        let mut after = None;
        loop {
            let (agency, span) = (self.ask.agency.clone(), self.ask.span);
            let page = client.report_rows(agency, span, after, MESSAGES).await?;
            for feed in page.feeds {
                let dataset = self.datasets.get(&feed.feed).cloned();
                if let Some(line) = self.line(&feed.agency, dataset.as_ref()) {
                    line.rows += feed.rows;
                }
            }
            self.damaged += page.damaged;
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn report(
        mut self,
        ask: &Ask,
        periods: Vec<DutyLine>,
        names: &Names<'_>,
        now: Timestamp,
        moved: bool,
    ) -> Report {
        for period in &periods {
            if let Some(line) = self.line(&period.agency, Some(&period.dataset)) {
                line.periods.count(period);
            }
        }
        let today = now.shanghai_date();
        let tell = |record: LateRecord| {
            let end = record.accepted.map_or(today, Timestamp::shanghai_date);
            Late {
                agency_name: names.agency(&record.agency),
                dataset_title: names.dataset(&record.dataset),
                days_late: (end - record.deadlines.statutory).whole_days(),
                record,
            }
        };
        let mut late: Vec<_> = self.late.into_iter().map(tell).collect();
        late.sort_by(|a, b| late_order(a).cmp(&late_order(b)));
        let mut total = Line { agency_name: "合计".to_owned(), ..Line::default() };
        let mut lines = Vec::with_capacity(self.lines.len());
        for ((agency, dataset), line) in self.lines {
            total += &line;
            let dataset_title = match &dataset {
                Some(dataset) => names.dataset(dataset),
                None => "(任务已撤销)".to_owned(),
            };
            let agency_name = names.agency(&agency);
            lines.push(Line { agency: Some(agency), agency_name, dataset, dataset_title, ..line });
        }
        Report {
            title: ask.title.clone(),
            first: ask.span.0,
            last: ask.span.1,
            basis: ask.basis,
            now,
            moved,
            damaged: self.damaged,
            lines,
            total,
            periods,
            late,
            late_total: self.late_total,
        }
    }
}

fn late_order(late: &Late) -> (&AgencyId, &DatasetId, Date, Option<&str>, &str) {
    let record = &late.record;
    let (due, document) = (record.deadlines.statutory, record.document.as_deref());
    (&record.agency, &record.dataset, due, document, &record.record)
}

/// What people call whoever owns a delay.
pub(crate) fn owner_name(owner: LateOwner) -> &'static str {
    match owner {
        LateOwner::AgencyArrival => "报送晚",
        LateOwner::AgencyRefusal => "更正晚",
        LateOwner::Gateway => "网关",
        LateOwner::Platform => "平台",
    }
}
