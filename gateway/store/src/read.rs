//! Reading: each call takes one short snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::{Arc, MutexGuard, PoisonError};

use redb::ReadableDatabase as _;
use xinqiao_core::model::{Dimension, FeedId, Finding, Severity, TargetId, Timestamp, Verdict};
use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::hex;

use crate::blob::Blob;
use crate::encode::{
    ItemRow, MessageRow, Meta, ProgressRow, RecordRow, VerdictRow, VersionRow, decode_head,
    feed_counters, read_version,
};
use crate::intake::{gone, message};
use crate::open::parse_id;
use crate::tables::{
    Keys, STATES, Snapshot, engine, id_number, id_prefix, number, pair, queue_prefix, two_numbers,
    unless_damaged,
};
use crate::{
    ChangeView, ItemFilter, ItemPage, ItemState, ItemView, MessageView, PendingMessage,
    RecordDigest, RecordView, RowVerdictView, Shared, StatusView, StoreError, TargetCounters,
};

impl Shared {
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.signals.check()?;
        Snapshot::open(&self.db.begin_read().map_err(engine)?, &self.seals)
    }

    pub(crate) fn cursor(&self, feed: &FeedId) -> Result<Option<Vec<u8>>, StoreError> {
        self.snapshot()?.cursor.bytes(feed.as_str().as_bytes())
    }

    pub(crate) fn pending(
        &self,
        limit: usize,
        busy: &BTreeSet<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        loop {
            let known = self.damaged().len();
            let found = self.readable(limit, busy)?;
            // What was found damaged took the place of others, and is left out the next time.
            if self.damaged().len() == known {
                return Ok(found);
            }
        }
    }

    /// As [`Shared::pending`], fewer if some of those looked at are damaged.
    fn readable(
        &self,
        limit: usize,
        busy: &BTreeSet<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        let tables = self.snapshot()?;
        let damaged = self.damaged().clone();
        let mut feeds: Vec<std::vec::IntoIter<u64>> = Vec::new();
        let mut from = Vec::new();
        // One seek per feed that has something, however much the others have.
        while let Some(feed) = next_feed(&tables, &from)? {
            let mut ids = Vec::new();
            if limit > 0 {
                tables.pending.scan_prefix(&feed, |rest| {
                    let id = number(rest)?;
                    if !busy.contains(&id) && !damaged.contains(&id) {
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
        let read = |id| {
            let head = message(&tables.message, id)?;
            let progress = progress(&tables, &head.feed, id)?;
            Ok(pending_message(id, head, &progress))
        };
        let mut found = Vec::with_capacity(taken.len());
        for id in taken {
            match unless_damaged(read(id))? {
                Some(message) => found.push(message),
                None => drop(self.damaged().insert(id)),
            }
        }
        Ok(found)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn payload(&self, id: u64) -> Result<Box<dyn ReadSeek>, StoreError> {
        let tables = self.snapshot()?;
        let mut value = tables.message.bytes(&id.to_be_bytes())?.ok_or(StoreError::NotFound)?;
        let (head, payload): (MessageRow, &[u8]) = decode_head(&value)?;
        if head.inline {
            let begin = value.len() - payload.len();
            value.drain(..begin);
            return Ok(Box::new(Cursor::new(value)));
        }
        Ok(Box::new(self.blob(&head.digest)?))
    }

    /// The sealed file of a message with this SM3.
    pub(crate) fn blob(&self, sm3: &[u8; 32]) -> Result<Blob, StoreError> {
        let name = self.message_name(sm3);
        Blob::open(self.layout.blob(&name), name, Arc::clone(&self.seals))
    }

    pub(crate) fn next_due(&self, target: &TargetId) -> Result<Option<Timestamp>, StoreError> {
        let tables = self.snapshot()?;
        let mut due = None;
        tables.waiting.scan_prefix(&id_prefix(target.as_str()), |rest| {
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
            let Some(item) = unless_damaged(tables.item.read::<ItemRow>(&id.to_be_bytes()))? else {
                continue;
            };
            let item = item.ok_or_else(gone)?;
            if filter.agency.as_ref().is_none_or(|only| *only == item.agency) {
                views.extend(unless_damaged(view(&tables, id, item))?);
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
        let keys = match feed {
            Some(feed) => {
                let from = id_number(feed.as_str(), 0);
                tables
                    .progress
                    .keys(from.as_slice()..id_number(feed.as_str(), before).as_slice())?
            }
            None => tables.message.keys(..before.to_be_bytes().as_slice())?,
        };
        let mut views = Vec::new();
        for key in keys.rev() {
            if views.len() >= limit {
                break;
            }
            let key = key?;
            let id = number(key.get(key.len().saturating_sub(8)..).unwrap_or_default())?;
            let Some(head) = unless_damaged(message(&tables.message, id))? else { continue };
            if name.is_none_or(|name| head.name.as_deref() == Some(name)) {
                views.extend(unless_damaged(message_view(&tables, id, head))?);
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
        let mut blocks = tables.verdict.keys(begin.as_slice()..=upto.as_slice())?;
        if let Some(key) = blocks.next_back() {
            begin = key?.try_into().map_err(|_| gone())?;
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
            let rows: Vec<VerdictRow> = value.decode()?;
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
            status.feeds.insert(parse_id(name, FeedId::new)?, feed_counters(&value.open()?)?);
            Ok(true)
        })?;
        for (target, mut states) in targets(&tables)? {
            states.retain(|_, count| *count > 0);
            let mut earliest: Option<u64> = None;
            for state in STATES {
                if matches!(state, ItemState::Done | ItemState::Dropped) {
                    continue;
                }
                tables.queue.scan_prefix(&queue_prefix(state, &target), |rest| {
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
        let value = tables.version.bytes(&seq.to_be_bytes())?;
        let (_, version) = read_version(&value.ok_or_else(gone)?)?;
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
            let seq = number(key)?;
            if let Some(value) = unless_damaged(value.open())? {
                let (version, VersionRow { record, operation, .. }) = read_version(&value)?;
                changes.push(ChangeView { seq, record: hex(&record), version, operation });
            }
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
        targets.insert(parse_id(name, TargetId::new)?, value.decode()?);
        Ok(true)
    })?;
    Ok(targets)
}

/// Items of one state and target in (deadline, id) order, one ahead.
struct Ordered {
    keys: Keys,
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
        let keys = tables.queue.keys(from.as_slice()..)?;
        let mut stream = Self { keys, prefix, next: None };
        stream.advance()?;
        Ok(stream)
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        self.next = match self.keys.next() {
            None => None,
            Some(key) => key?.strip_prefix(self.prefix.as_slice()).map(two_numbers).transpose()?,
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
    if let Some((digest, version)) = row.record
        && let Some(record) = unless_damaged(tables.record.read::<RecordRow>(&digest))?
    {
        let record = record.ok_or_else(gone)?;
        met = record.met();
        for (target, id) in record.items {
            let Some(item) = unless_damaged(tables.item.read::<ItemRow>(&id.to_be_bytes()))? else {
                continue;
            };
            let item = item.ok_or_else(gone)?;
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
