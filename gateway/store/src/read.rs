//! Reading: each call takes one short snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Cursor;

use redb::ReadableDatabase as _;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{Dimension, FeedId, Finding, Severity, TargetId, Timestamp, Verdict};
use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::hex;

use crate::encode::{
    ItemRow, MessageRow, Meta, ProgressRow, RecordRow, VerdictRow, decode, decode_head,
    read_version,
};
use crate::intake::{gone, message};
use crate::open::parse_id;
use crate::tables::{
    Rows as _, STATES, Snapshot, engine, id_number, id_prefix, number, pair, queue_prefix,
    two_numbers,
};
use crate::{
    ChangeView, ItemFilter, ItemPage, ItemState, ItemView, MessageView, PendingMessage,
    RecordDigest, RecordView, RowVerdictView, Shared, StatusView, StoreError, TargetCounters,
};

impl Shared {
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.signals.check()?;
        Snapshot::open(&self.db.begin_read().map_err(engine)?)
    }

    pub(crate) fn cursor(&self, feed: &FeedId) -> Result<Option<Vec<u8>>, StoreError> {
        let tables = self.snapshot()?;
        let row = tables.cursor.get(feed.as_str().as_bytes()).map_err(engine)?;
        Ok(row.map(|guard| guard.value().to_vec()))
    }

    pub(crate) fn pending(
        &self,
        limit: usize,
        busy: &BTreeSet<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let tables = self.snapshot()?;
        let mut feeds: Vec<std::vec::IntoIter<u64>> = Vec::new();
        let mut from = Vec::new();
        // One seek per feed that has something, however much the others have.
        while let Some(feed) = next_feed(&tables, &from)? {
            let mut ids = Vec::new();
            if limit > 0 {
                tables.pending.scan_prefix(&feed, |rest, _| {
                    let id = number(rest)?;
                    if !busy.contains(&id) {
                        ids.push(id);
                    }
                    Ok(ids.len() < limit)
                })?;
            }
            feeds.push(ids.into_iter());
            from = feed;
            if let Some(end) = from.last_mut() {
                *end = 1;
            }
        }
        let mut taken = Vec::new();
        while taken.len() < limit {
            let round: Vec<u64> = feeds.iter_mut().filter_map(Iterator::next).collect();
            if round.is_empty() {
                break;
            }
            taken.extend(round);
        }
        taken.truncate(limit);
        taken
            .into_iter()
            .map(|id| {
                let head = message(&tables.message, id)?;
                let progress = progress(&tables, &head.feed, id)?;
                Ok(pending_message(id, head, &progress))
            })
            .collect()
    }

    pub(crate) fn payload(&self, id: u64) -> Result<Box<dyn ReadSeek>, StoreError> {
        let tables = self.snapshot()?;
        let guard = tables.message.get(id.to_be_bytes().as_slice()).map_err(engine)?;
        let guard = guard.ok_or(StoreError::NotFound)?;
        let (head, payload): (MessageRow, &[u8]) = decode_head(guard.value())?;
        if head.inline {
            return Ok(Box::new(Cursor::new(payload.to_vec())));
        }
        let file = File::open(self.layout.blob(&hex(&head.digest)));
        Ok(Box::new(file.map_err(|error| StoreError::Io(io_words(&error).into_owned()))?))
    }

    pub(crate) fn next_due(&self, target: &TargetId) -> Result<Option<Timestamp>, StoreError> {
        let tables = self.snapshot()?;
        let mut due = None;
        tables.waiting.scan_prefix(&id_prefix(target.as_str()), |rest, _| {
            due = Some(Timestamp(two_numbers(rest)?.0));
            Ok(false)
        })?;
        Ok(due)
    }

    pub(crate) fn items(
        &self,
        filter: &ItemFilter,
        after: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<ItemPage, StoreError> {
        let tables = self.snapshot()?;
        let mut streams = Vec::new();
        for target in targets(&tables)?.into_keys() {
            if filter.target.as_ref().is_some_and(|only| *only != target) {
                continue;
            }
            for state in STATES {
                if filter.state.is_none_or(|only| only == state) {
                    streams.push(Ordered::open(&tables, queue_prefix(state, &target), after)?);
                }
            }
        }
        let mut views = Vec::new();
        let mut last = None;
        let until = filter.deadline_before.map_or(u64::MAX, |time| time.0);
        while views.len() < limit {
            let next = streams.iter_mut().filter(|s| s.next.is_some()).min_by_key(|s| s.next);
            let Some(stream) = next else { return Ok((views, None)) };
            let Some((deadline, id)) = stream.next else { return Ok((views, None)) };
            if deadline >= until {
                return Ok((views, None));
            }
            stream.advance()?;
            last = Some((deadline, id));
            let item: ItemRow = tables.item.read(&id.to_be_bytes())?.ok_or_else(gone)?;
            if filter.agency.as_ref().is_none_or(|only| *only == item.agency) {
                views.push(view(&tables, id, item)?);
            }
        }
        let more = streams.iter().any(|stream| stream.next.is_some());
        Ok((views, last.filter(|_| more)))
    }

    pub(crate) fn item(&self, id: u64) -> Result<ItemView, StoreError> {
        let tables = self.snapshot()?;
        let item = tables.item.read(&id.to_be_bytes())?.ok_or(StoreError::NotFound)?;
        view(&tables, id, item)
    }

    pub(crate) fn messages(
        &self,
        feed: Option<&FeedId>,
        name: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MessageView>, StoreError> {
        let tables = self.snapshot()?;
        let before = before.unwrap_or(u64::MAX);
        let (table, from, to) = match feed {
            Some(feed) => {
                (&tables.progress, id_number(feed.as_str(), 0), id_number(feed.as_str(), before))
            }
            None => (&tables.message, Vec::new(), before.to_be_bytes().to_vec()),
        };
        let mut views = Vec::new();
        let range = table.range::<&[u8]>(from.as_slice()..to.as_slice()).map_err(engine)?;
        for row in range.rev() {
            if views.len() >= limit {
                break;
            }
            let (key, _) = row.map_err(engine)?;
            let key = key.value();
            let id = number(key.get(key.len().saturating_sub(8)..).unwrap_or_default())?;
            let head = message(&tables.message, id)?;
            if name.is_none_or(|name| head.name.as_deref() == Some(name)) {
                views.push(message_view(&tables, id, head)?);
            }
        }
        Ok(views)
    }

    pub(crate) fn message(&self, id: u64) -> Result<MessageView, StoreError> {
        let tables = self.snapshot()?;
        let head = message(&tables.message, id)?;
        message_view(&tables, id, head)
    }

    pub(crate) fn verdicts(
        &self,
        id: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<RowVerdictView>, StoreError> {
        let tables = self.snapshot()?;
        message(&tables.message, id)?;
        // The block that holds `from` is the last to begin at or before it.
        let upto = pair(id, from);
        let mut begin = pair(id, 0);
        let mut range =
            tables.verdict.range::<&[u8]>(begin.as_slice()..=upto.as_slice()).map_err(engine)?;
        if let Some(row) = range.next_back() {
            begin = row.map_err(engine)?.0.value().try_into().map_err(|_| gone())?;
        }
        let mut views = Vec::new();
        if limit == 0 {
            return Ok(views);
        }
        tables.verdict.scan(&begin, |key, value| {
            let (message, first) = two_numbers(key)?;
            if message != id {
                return Ok(false);
            }
            let rows: Vec<VerdictRow> = decode(value)?;
            for (row, index) in rows.into_iter().zip(first..) {
                if index >= from && views.len() < limit {
                    views.push(verdict_view(&tables, row)?);
                }
            }
            Ok(views.len() < limit)
        })?;
        Ok(views)
    }

    pub(crate) fn status(&self) -> Result<StatusView, StoreError> {
        let tables = self.snapshot()?;
        let meta: Meta = tables.meta.read(b"positions")?.unwrap_or_default();
        let mut status =
            StatusView { records: meta.records, seq: meta.seq, ..StatusView::default() };
        tables.feed.scan(b"", |name, value| {
            status.feeds.insert(parse_id(name, FeedId::new)?, decode(value)?);
            Ok(true)
        })?;
        for (target, mut states) in targets(&tables)? {
            states.retain(|_, count| *count > 0);
            let mut earliest: Option<u64> = None;
            for state in STATES {
                if matches!(state, ItemState::Done | ItemState::Dropped) {
                    continue;
                }
                tables.queue.scan_prefix(&queue_prefix(state, &target), |rest, _| {
                    let (deadline, _) = two_numbers(rest)?;
                    earliest = Some(earliest.map_or(deadline, |known| known.min(deadline)));
                    Ok(false)
                })?;
            }
            let earliest_deadline = earliest.map(Timestamp);
            status.targets.insert(target, TargetCounters { states, earliest_deadline });
        }
        Ok(status)
    }

    pub(crate) fn record(&self, key: &RecordDigest) -> Result<RecordView, StoreError> {
        let tables = self.snapshot()?;
        let record: RecordRow = tables.record.read(key)?.ok_or(StoreError::NotFound)?;
        let number = record.version();
        let seq = record.seq(number).ok_or_else(gone)?;
        let value = tables.version.get(seq.to_be_bytes().as_slice()).map_err(engine)?;
        let (_, version) = read_version(value.ok_or_else(gone)?.value())?;
        Ok(RecordView {
            digest: hex(key),
            dataset: record.dataset,
            decided: record.deadlines.decided,
            version: number,
            withdrawn: record.withdrawn,
            versions: record.versions.iter().map(|v| (v.message, v.row, v.received)).collect(),
            fields: version
                .fields
                .into_iter()
                .map(|(code, text)| (code.as_ref().to_owned(), text))
                .collect(),
            deadlines: record.deadlines,
        })
    }

    pub(crate) fn changes(&self, after: u64, limit: usize) -> Result<Vec<ChangeView>, StoreError> {
        let tables = self.snapshot()?;
        let mut changes = Vec::new();
        let Some(from) = after.checked_add(1).filter(|_| limit > 0) else { return Ok(changes) };
        tables.version.scan(&from.to_be_bytes(), |key, value| {
            let (version, row) = read_version(value)?;
            changes.push(ChangeView {
                seq: number(key)?,
                record: hex(&row.record),
                version,
                operation: row.operation,
            });
            Ok(changes.len() < limit)
        })?;
        Ok(changes)
    }
}

/// A pending message as its worker sees it.
pub(crate) fn pending_message(id: u64, head: MessageRow, progress: &ProgressRow) -> PendingMessage {
    PendingMessage {
        id,
        feed: head.feed,
        agency: head.agency,
        name: head.name,
        received: head.received,
        bytes: head.bytes,
        rows_done: progress.rows_done,
        attempts: progress.attempts,
    }
}

/// Counts by state of every target known.
pub(crate) fn targets(
    tables: &Snapshot,
) -> Result<BTreeMap<TargetId, BTreeMap<ItemState, u64>>, StoreError> {
    let mut targets = BTreeMap::new();
    tables.target.scan(b"", |name, value| {
        targets.insert(parse_id(name, TargetId::new)?, decode(value)?);
        Ok(true)
    })?;
    Ok(targets)
}

/// Items of one state and target in (deadline, id) order, one ahead.
struct Ordered {
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
    prefix: Vec<u8>,
    next: Option<(u64, u64)>,
}

impl Ordered {
    fn open(
        tables: &Snapshot,
        prefix: Vec<u8>,
        after: Option<(u64, u64)>,
    ) -> Result<Self, StoreError> {
        let mut from = prefix.clone();
        if let Some((deadline, id)) = after {
            from.extend_from_slice(&pair(deadline, id.saturating_add(1)));
        }
        let range = tables.queue.range::<&[u8]>(from.as_slice()..).map_err(engine)?;
        let mut stream = Self { range, prefix, next: None };
        stream.advance()?;
        Ok(stream)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.next = match self.range.next() {
            None => None,
            Some(row) => {
                let (key, _) = row.map_err(engine)?;
                key.value().strip_prefix(self.prefix.as_slice()).map(two_numbers).transpose()?
            }
        };
        Ok(())
    }
}

/// The prefix of the first feed at or after `from` that has a pending message.
fn next_feed(tables: &Snapshot, from: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut feed = None;
    tables.pending.scan(from, |key, _| {
        feed = key.get(..key.len().saturating_sub(8)).map(<[u8]>::to_vec);
        Ok(false)
    })?;
    Ok(feed)
}

fn progress(tables: &Snapshot, feed: &FeedId, id: u64) -> Result<ProgressRow, StoreError> {
    tables.progress.read(&id_number(feed.as_str(), id))?.ok_or_else(gone)
}

fn message_view(tables: &Snapshot, id: u64, head: MessageRow) -> Result<MessageView, StoreError> {
    let progress = progress(tables, &head.feed, id)?;
    Ok(MessageView {
        id,
        feed: head.feed,
        agency: head.agency,
        name: head.name,
        received: head.received,
        bytes: head.bytes,
        digest: hex(&head.digest),
        rows: progress.rows,
        end: progress.end,
    })
}

fn view(tables: &Snapshot, id: u64, item: ItemRow) -> Result<ItemView, StoreError> {
    let record: RecordRow = tables.record.read(&item.record)?.ok_or_else(gone)?;
    Ok(item.view(id, &record))
}

fn verdict_view(tables: &Snapshot, row: VerdictRow) -> Result<RowVerdictView, StoreError> {
    let mut verdict = row.verdict();
    let mut findings = row.findings;
    let mut delivery = Vec::new();
    let mut met = None;
    if let Some((digest, version)) = row.record {
        let record: RecordRow = tables.record.read(&digest)?.ok_or_else(gone)?;
        met = record.met();
        for (target, id) in record.items {
            let item: ItemRow = tables.item.read(&id.to_be_bytes())?.ok_or_else(gone)?;
            if let Some(state) = item.state_of(version) {
                delivery.push((target, state));
            }
            for (_, code, text) in item.refusals.iter().filter(|(refused, ..)| *refused == version)
            {
                verdict = Verdict::Reject;
                findings.push(refusal(&item.target, code, text));
            }
        }
    }
    Ok(RowVerdictView {
        row: row.row,
        document: row.document,
        verdict,
        findings,
        outcome: row.outcome,
        delivery,
        met,
    })
}

/// A target's refusal as a finding.
fn refusal(target: &TargetId, code: &str, text: &str) -> Finding {
    Finding {
        rule: "target.refused".into(),
        severity: Severity::Error,
        dimension: Dimension::Accuracy,
        field: None,
        column: None,
        cell: None,
        message: format!("{target}拒收,代码{code}:{text}"),
        fix: "按平台说明更正后重新报送,时限仍从决定日期起算".to_owned(),
    }
}
