//! What reports read: the records and the rows, in pages of one short read each, counted as they are
//! read. Memory is bounded by the number of feeds, days and late records of a page, not by records.

use std::collections::{BTreeMap, BTreeSet};

use time::Date;
use xinqiao_core::deadline::Milestones;
use xinqiao_core::model::{AgencyId, DatasetId, FeedId, Timestamp};
use xinqiao_core::report::{Figures, RecordFacts, RowFigures, Stand};
use xinqiao_crypto::hex;

use crate::commit::count_row;
use crate::encode::{ItemRow, ProgressRow, RecordRow, VerdictRow};
use crate::intake::message;
use crate::tables::{Snapshot, id_number, id_prefix, number, pair, two_numbers, unless_damaged};
use crate::{
    DayCount, FeedCounters, FeedRows, LateRecord, RecordDigest, RecordsPage, RecordsQuestion,
    ReportGroup, RowsPage, Shared, StoreError,
};

/// Late records told on one page.
const MOST_LATE: usize = 5_000;
/// Rows looked at on one page; a message is never divided.
const MOST_ROWS: u64 = 200_000;

impl Shared {
    pub(crate) fn report_records(
        &self,
        ask: &RecordsQuestion,
        after: Option<RecordDigest>,
        limit: usize,
    ) -> Result<RecordsPage, StoreError> {
        let tables = self.snapshot()?;
        let mut feeds = Feeds::new(&tables, ask.agency.as_ref());
        let mut page = RecordsPage::default();
        let mut groups: BTreeMap<(FeedId, DatasetId), Figures> = BTreeMap::new();
        let mut days: BTreeMap<(AgencyId, DatasetId, Date), u64> = BTreeMap::new();
        // The least key behind this one.
        let from = after.map(|key| [key.as_slice(), &[0]].concat()).unwrap_or_default();
        let (mut seen, mut last, mut more) = (0, None, false);
        tables.record.scan(&from, |key, value| {
            more = seen >= limit || page.late.len() >= MOST_LATE;
            if more {
                return Ok(false);
            }
            seen += 1;
            last = Some(hex(key));
            let Some(record) = unless_damaged(value.decode::<RecordRow>())? else {
                page.damaged += 1;
                return Ok(true);
            };
            let Some(agency) = feeds.agency(&record.feed)? else { return Ok(true) };
            let decided = record.deadlines.decided;
            if (ask.days_first..=ask.days_last).contains(&decided) {
                let key = (agency.clone(), record.dataset.clone(), decided);
                *days.entry(key).or_default() += 1;
            }
            let mut facts = facts(&record);
            if !(ask.first..=ask.last).contains(&facts.day(ask.basis)) {
                return Ok(true);
            }
            // Only a late record is asked of its items: who owns the delay, and what it is called.
            let items = match facts.stand(ask.now, ask.at_risk).owner() {
                None => Vec::new(),
                Some(_) => items(&tables, &record)?,
            };
            facts.milestones.sent = items.iter().filter_map(|(_, item)| item.sent).min();
            let group = groups.entry((record.feed.clone(), record.dataset.clone())).or_default();
            let stand = group.count(&facts, ask.now, ask.at_risk);
            if ask.late {
                page.late.extend(late(key, agency, &record, &facts, stand, items));
            }
            Ok(true)
        })?;
        page.next = last.filter(|_| more);
        for ((feed, dataset), figures) in groups {
            let Some(agency) = feeds.agency(&feed)?.cloned() else { continue };
            page.groups.push(ReportGroup { agency, feed, dataset, figures });
        }
        page.days = days
            .into_iter()
            .map(|((agency, dataset, day), records)| DayCount { agency, dataset, day, records })
            .collect();
        Ok(page)
    }

    pub(crate) fn report_rows(
        &self,
        agency: Option<&AgencyId>,
        (first, last): (Date, Date),
        after: Option<u64>,
        limit: usize,
    ) -> Result<RowsPage, StoreError> {
        let tables = self.snapshot()?;
        let mut rows: BTreeMap<(AgencyId, FeedId), RowFigures> = BTreeMap::new();
        let mut page = RowsPage::default();
        let Some(from) = after.unwrap_or(0).checked_add(1) else { return Ok(page) };
        let (mut seen, mut looked, mut at, mut more) = (0, 0, None, false);
        for key in tables.message.keys(from.to_be_bytes().as_slice()..)? {
            more = seen >= limit || looked >= MOST_ROWS;
            if more {
                break;
            }
            seen += 1;
            let id = number(&key?)?;
            at = Some(id);
            let Some(head) = unless_damaged(message(&tables.message, id))? else {
                page.damaged += 1;
                continue;
            };
            let came = head.received.shanghai_date();
            if agency.is_some_and(|only| *only != head.agency) || !(first..=last).contains(&came) {
                continue;
            }
            let counts = message_rows(&tables, id, &mut page.damaged)?;
            looked += counts.rows;
            let key = id_number(head.feed.as_str(), id);
            let progress = unless_damaged(tables.progress.read::<ProgressRow>(&key))?.flatten();
            let end = progress.and_then(|progress| progress.end);
            *rows.entry((head.agency, head.feed)).or_default() += RowFigures {
                messages: 1,
                failed: u64::from(end.is_some_and(|end| end.error.is_some())),
                rows: counts.rows,
                rejected: counts.rejected,
                repeated: counts.repeated,
                new: counts.committed - counts.corrections,
                corrections: counts.corrections,
                held: counts.held,
                mapped: counts.mapped,
            };
        }
        page.next = at.filter(|_| more);
        let feed = |((agency, feed), rows)| FeedRows { agency, feed, rows };
        page.feeds = rows.into_iter().map(feed).collect();
        Ok(page)
    }
}

/// The rows of a message as its feed counts them.
fn message_rows(tables: &Snapshot, id: u64, damaged: &mut u64) -> Result<FeedCounters, StoreError> {
    let mut counts = FeedCounters::default();
    tables.verdict.scan(&pair(id, 0), |key, value| {
        if two_numbers(key)?.0 != id {
            return Ok(false);
        }
        match unless_damaged(value.decode::<Vec<VerdictRow>>())? {
            Some(rows) => rows.iter().for_each(|row| count_row(&mut counts, row)),
            None => *damaged += 1,
        }
        Ok(true)
    })?;
    Ok(counts)
}

/// Without the first sending, which its items know.
fn facts(record: &RecordRow) -> RecordFacts {
    RecordFacts {
        deadlines: record.deadlines,
        milestones: record.milestones,
        late: record.late,
        refused: record.refused_items > 0,
        withdrawn: record.withdrawn,
    }
}

fn items(tables: &Snapshot, record: &RecordRow) -> Result<Vec<(u64, ItemRow)>, StoreError> {
    let mut items = Vec::with_capacity(record.items.len());
    for (_, id) in &record.items {
        let item = unless_damaged(tables.item.read::<ItemRow>(&id.to_be_bytes()))?.flatten();
        items.extend(item.map(|item| (*id, item)));
    }
    Ok(items)
}

fn late(
    key: &[u8],
    agency: &AgencyId,
    record: &RecordRow,
    facts: &RecordFacts,
    stand: Stand,
    items: Vec<(u64, ItemRow)>,
) -> Option<LateRecord> {
    let owner = stand.owner()?;
    let Milestones { received, sent, accepted, .. } = facts.milestones;
    let (item, state, document) = match items.into_iter().next() {
        Some((id, item)) => (Some(id), Some(item.state), item.document),
        None => (None, None, None),
    };
    Some(LateRecord {
        agency: agency.clone(),
        feed: record.feed.clone(),
        dataset: record.dataset.clone(),
        record: hex(key),
        document,
        item,
        state,
        deadlines: facts.deadlines,
        received: received.unwrap_or(Timestamp(0)),
        sent,
        accepted,
        owner,
    })
}

/// Whose each feed is, by its newest message.
struct Feeds<'a> {
    tables: &'a Snapshot,
    only: Option<&'a AgencyId>,
    known: BTreeMap<FeedId, AgencyId>,
    others: BTreeSet<FeedId>,
}

impl<'a> Feeds<'a> {
    fn new(tables: &'a Snapshot, only: Option<&'a AgencyId>) -> Self {
        Self { tables, only, known: BTreeMap::new(), others: BTreeSet::new() }
    }

    /// `None` for what is not asked for.
    fn agency(&mut self, feed: &FeedId) -> Result<Option<&AgencyId>, StoreError> {
        if self.others.contains(feed) {
            return Ok(None);
        }
        if !self.known.contains_key(feed) {
            let found = self.look(feed)?;
            match found.filter(|agency| self.only.is_none_or(|only| only == agency)) {
                Some(agency) => drop(self.known.insert(feed.clone(), agency)),
                None => drop(self.others.insert(feed.clone())),
            }
        }
        Ok(self.known.get(feed))
    }

    fn look(&self, feed: &FeedId) -> Result<Option<AgencyId>, StoreError> {
        let (from, end) = (id_prefix(feed.as_str()), id_number(feed.as_str(), u64::MAX));
        let keys = self.tables.progress.keys(from.as_slice()..=end.as_slice())?;
        for key in keys.rev() {
            let key = key?;
            let id = number(key.get(from.len()..).unwrap_or_default())?;
            if let Some(head) = unless_damaged(message(&self.tables.message, id))? {
                return Ok(Some(head.agency));
            }
        }
        Ok(None)
    }
}
