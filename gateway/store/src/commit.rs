//! Committing rows: records, versions, queue items, changes, verdicts, progress; one transaction.

use std::collections::{BTreeMap, btree_map::Entry};
use std::sync::Arc;

use xinqiao_core::deadline::{Deadlines, Milestones};
use xinqiao_core::model::{
    AgencyId, Dimension, FeedId, Finding, Operation, Severity, TargetId, Timestamp, Verdict,
};

use crate::committer::Tx;
use crate::encode::{
    ItemRow, ProgressRow, RecordRow, SentBack, VerdictRow, VersionMeta, VersionRow, content_digest,
    encode,
};
use crate::feedback;
use crate::held::{self, Holding};
use crate::intake::{gone, message};
use crate::queue::{self, standing_change};
use crate::tables::{id_number, pair, unless_damaged};
use crate::uscc::{self, Line};
use crate::{
    ChunkOutcome, EventKind, ItemState, Legacy, MessageEnd, NewVersion, PendingMessage,
    RecordDigest, RowChunk, RowEntry, RowOutcome, Shared, StoreError,
};

/// A chunk with everything done to it that needs no transaction.
struct Chunk {
    message: u64,
    first: u64,
    feed: FeedId,
    agency: AgencyId,
    received: Timestamp,
    rows: Vec<Entry_>,
    finish: Option<MessageEnd>,
}

/// A row with everything done to it that needs no transaction.
pub(crate) struct Entry_ {
    row: u64,
    document: Option<String>,
    findings: Vec<Finding>,
    version: Option<Version>,
    sent_back: Option<RecordDigest>,
    legacy: Prepared,
}

impl Entry_ {
    /// Row or line number for people.
    pub(crate) fn row(&self) -> u64 {
        self.row
    }

    /// Roughly what it writes.
    pub(crate) fn bytes(&self) -> usize {
        self.version.as_ref().map_or(128, |version| version.value.len() + 512)
    }
}

/// What legacy codes have to do with a row, digested.
pub(crate) enum Prepared {
    None,
    Held(Holding),
    Line(Line),
}

struct Version {
    record: RecordDigest,
    dataset: xinqiao_core::model::DatasetId,
    content: [u8; 8],
    operation: Operation,
    deadlines: Deadlines,
    targets: Arc<[TargetId]>,
    /// An encoded [`VersionRow`].
    value: Vec<u8>,
    /// The same for a record that came before its code did: its digest and value.
    former: Option<(RecordDigest, Vec<u8>)>,
}

impl Shared {
    pub(crate) async fn begin_processing(
        &self,
        messages: Vec<u64>,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.committer()?
            .commit(64 * messages.len(), move |tx| {
                let mut begun = Vec::with_capacity(messages.len());
                for id in messages {
                    let Some(head) = unless_damaged(message(&tx.tables.message, id))? else {
                        continue;
                    };
                    let key = id_number(head.feed.as_str(), id);
                    let progress: ProgressRow = tx.tables.progress.read(&key)?.ok_or_else(gone)?;
                    if progress.end.is_some() {
                        return Err(StoreError::Conflict("报文已处理完"));
                    }
                    begun.push((key, id, head, progress));
                }
                tx.dirty = true;
                let mut pending = Vec::with_capacity(begun.len());
                for (key, id, head, mut progress) in begun {
                    progress.attempts += 1;
                    tx.tables.progress.put(&key, &progress)?;
                    pending.push(crate::read::pending_message(id, head, &progress));
                }
                Ok(pending)
            })
            .await
    }

    pub(crate) async fn put_back(&self, messages: Vec<u64>) -> Result<(), StoreError> {
        self.committer()?
            .commit(64 * messages.len(), move |tx| {
                for id in messages {
                    let Some(head) = unless_damaged(message(&tx.tables.message, id))? else {
                        continue;
                    };
                    let key = id_number(head.feed.as_str(), id);
                    let mut progress: ProgressRow =
                        tx.tables.progress.read(&key)?.ok_or_else(gone)?;
                    progress.attempts = progress.attempts.saturating_sub(1);
                    tx.dirty = true;
                    tx.tables.progress.put(&key, &progress)?;
                }
                Ok(())
            })
            .await
    }

    pub(crate) async fn commit_rows(
        &self,
        chunks: Vec<RowChunk>,
    ) -> Result<Vec<ChunkOutcome>, StoreError> {
        let heads = self.snapshot()?;
        let mut prepared = Vec::with_capacity(chunks.len());
        let mut bytes = 0;
        for chunk in chunks {
            let head = message(&heads.message, chunk.message)?;
            let mut rows = Vec::with_capacity(chunk.rows.len());
            for row in chunk.rows {
                let row = self.prepare(row, &head.feed, &head.agency)?;
                bytes += row.bytes();
                rows.push(row);
            }
            prepared.push(Chunk {
                message: chunk.message,
                first: chunk.first,
                feed: head.feed,
                agency: head.agency,
                received: head.received,
                rows,
                finish: chunk.finish,
            });
        }
        drop(heads);
        let done = self.committer()?.commit(bytes, move |tx| commit(tx, prepared)).await?;
        let told = |outcome| matches!(outcome, &RowOutcome::Held | &RowOutcome::Mapped);
        if done.iter().flat_map(|chunk| &chunk.rows).any(told) {
            self.signals.rerun.send_modify(|n| *n += 1);
        }
        Ok(done)
    }

    /// Does to a row everything that needs no transaction.
    pub(crate) fn prepare(
        &self,
        row: RowEntry,
        feed: &FeedId,
        agency: &AgencyId,
    ) -> Result<Entry_, StoreError> {
        let (former, legacy) = match row.legacy {
            Legacy::None => (None, Prepared::None),
            Legacy::Formerly(key) => (Some(self.record_digest(&key)), Prepared::None),
            Legacy::Held(hold) => (None, Prepared::Held(self.prepare_hold(&hold))),
            Legacy::Line(line) => (None, Prepared::Line(self.prepare_line(line))),
        };
        let document = row.document.as_ref();
        let version = row
            .record
            .map(|new| self.prepare_version(new, former, feed, agency, document))
            .transpose()?;
        let sent_back = row.sent_back.map(|key| self.record_digest(&key));
        let (row, document, findings) = (row.row, row.document, row.findings);
        Ok(Entry_ { row, document, findings, version, sent_back, legacy })
    }

    fn prepare_version(
        &self,
        new: NewVersion,
        former: Option<RecordDigest>,
        feed: &FeedId,
        agency: &AgencyId,
        document: Option<&String>,
    ) -> Result<Version, StoreError> {
        let content = content_digest(new.operation, &new.fields);
        let mut row = VersionRow {
            record: self.record_digest(&new.key),
            feed: feed.clone(),
            agency: agency.clone(),
            document: document.cloned(),
            generation: new.generation,
            operation: new.operation,
            mapping: new.mapping,
            fields: new.fields,
        };
        let (record, value) = (row.record, encode(&row)?);
        let former = match former {
            Some(former) => {
                row.record = former;
                Some((former, encode(&row)?))
            }
            None => None,
        };
        Ok(Version {
            record,
            dataset: new.key.dataset,
            content,
            operation: new.operation,
            deadlines: new.deadlines,
            targets: new.targets,
            value,
            former,
        })
    }
}

fn commit(tx: &mut Tx<'_>, chunks: Vec<Chunk>) -> Result<Vec<ChunkOutcome>, StoreError> {
    // Decide first: after this loop nothing can be refused.
    let mut progress: BTreeMap<u64, ProgressRow> = BTreeMap::new();
    for chunk in &chunks {
        let now = match progress.entry(chunk.message) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let key = id_number(chunk.feed.as_str(), chunk.message);
                new.insert(tx.tables.progress.read(&key)?.ok_or_else(gone)?)
            }
        };
        if now.end.is_some() {
            return Err(StoreError::Conflict("报文已处理完"));
        }
        if now.rows_done != chunk.first {
            return Err(StoreError::Conflict("行号与已提交的进度不衔接"));
        }
        now.rows_done += chunk.rows.len() as u64;
        now.end = chunk.finish.clone();
    }

    tx.dirty = true;
    let mut outcomes = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let Some(now) = progress.get_mut(&chunk.message) else { continue };
        let mut rows = Vec::with_capacity(chunk.rows.len());
        let mut verdicts = Vec::with_capacity(chunk.rows.len());
        let feed = chunk.feed;
        for (entry, index) in chunk.rows.into_iter().zip(chunk.first..) {
            let place = Place {
                feed: &feed,
                agency: &chunk.agency,
                message: chunk.message,
                index,
                first: chunk.first,
                received: chunk.received,
                again: None,
            };
            let verdict = settle(tx, entry, &place)?;
            let outcome = verdict.outcome;
            tally(tx, &feed, &verdict, &mut now.rows);
            rows.push(outcome);
            verdicts.push(verdict);
        }
        if !verdicts.is_empty() {
            tx.tables.verdict.put(&pair(chunk.message, chunk.first), &verdicts)?;
        }
        if let Some(end) = &chunk.finish {
            let failed = u64::from(end.error.is_some());
            let counters = tx.feed(&feed);
            counters.pending_messages = counters.pending_messages.saturating_sub(1);
            counters.failed_messages += failed;
            tx.tables.pending.delete(&id_number(feed.as_str(), chunk.message))?;
            feedback::finished(tx, &feed, chunk.message)?;
        }
        tx.tables.progress.put(&id_number(feed.as_str(), chunk.message), now)?;
        outcomes.push(ChunkOutcome { rows });
    }
    Ok(outcomes)
}

/// Lets a row have its effect; its verdict.
pub(crate) fn settle(
    tx: &mut Tx<'_>,
    mut entry: Entry_,
    place: &Place<'_>,
) -> Result<VerdictRow, StoreError> {
    let at = (entry.row, entry.document.as_ref());
    let (outcome, record) = match (entry.version, entry.legacy) {
        (Some(version), _) => {
            let version = version.known(tx)?;
            let digest = version.record;
            match unless_damaged(apply(tx, version, place, at))? {
                Some((outcome, number)) => (outcome, Some((digest, number))),
                None => {
                    entry.findings.push(damaged());
                    (RowOutcome::Rejected, None)
                }
            }
        }
        (None, Prepared::None) => {
            if let Some(record) = entry.sent_back {
                send_back(tx, &record, place.received)?;
            }
            (RowOutcome::Rejected, None)
        }
        (None, Prepared::Held(hold)) => {
            held::hold(tx, &hold, place)?;
            (RowOutcome::Held, None)
        }
        (None, Prepared::Line(line)) => {
            uscc::apply(tx, &line)?;
            (RowOutcome::Mapped, None)
        }
    };
    if let Some(version) = record {
        feedback::placed(tx, place.feed, (place.message, place.index), version)?;
    }
    let (row, document, findings) = (entry.row, entry.document, entry.findings);
    Ok(VerdictRow { row, document, findings, outcome, record })
}

impl Version {
    /// As a version of the record that came before its code did, if there is one.
    fn known(mut self, tx: &Tx<'_>) -> Result<Self, StoreError> {
        if let Some((former, value)) = self.former.take()
            && !tx.tables.record.has(&self.record)?
            && tx.tables.record.has(&former)?
        {
            (self.record, self.value) = (former, value);
        }
        Ok(self)
    }
}

pub(crate) fn tally(tx: &mut Tx<'_>, feed: &FeedId, row: &VerdictRow, rows: &mut [u64; 3]) {
    count_row(tx.feed(feed), row);
    *by_verdict(rows, row.verdict()) += 1;
}

/// The count of a message's rows with this verdict.
pub(crate) fn by_verdict(rows: &mut [u64; 3], verdict: Verdict) -> &mut u64 {
    let [accepted, warned, rejected] = rows;
    match verdict {
        Verdict::Accept => accepted,
        Verdict::Warn => warned,
        Verdict::Reject => rejected,
    }
}

/// Counts one row verdict into its feed's counters.
pub(crate) fn count_row(counters: &mut crate::FeedCounters, row: &VerdictRow) {
    counters.rows += 1;
    match row.verdict() {
        Verdict::Accept => {}
        Verdict::Warn => counters.warned += 1,
        Verdict::Reject => counters.rejected += 1,
    }
    match row.outcome {
        RowOutcome::Rejected => {}
        RowOutcome::Duplicate | RowOutcome::Stale => counters.repeated += 1,
        RowOutcome::New { .. } => counters.committed += 1,
        RowOutcome::Correction { .. } => {
            counters.committed += 1;
            counters.corrections += 1;
        }
        RowOutcome::Held => counters.held += 1,
        RowOutcome::Mapped => counters.mapped += 1,
    }
}

/// Where a row comes from.
pub(crate) struct Place<'a> {
    pub feed: &'a FeedId,
    pub agency: &'a AgencyId,
    pub message: u64,
    /// 0-based count of rows in the message.
    pub index: u64,
    /// Index of the first row of its block of verdicts.
    pub first: u64,
    /// When the message came.
    pub received: Timestamp,
    /// It was held since then, and is looked at again: what came after it must not be undone.
    pub again: Option<Timestamp>,
}

/// Why a row that is in order was not taken.
fn damaged() -> Finding {
    Finding {
        rule: "store.damaged".into(),
        severity: Severity::Error,
        dimension: Dimension::Consistency,
        field: None,
        column: None,
        cell: None,
        message: "网关中该记录已有的内容损坏,无法更正".to_owned(),
        fix: "数据本身无误,请联系网关运维人员修复(xinqiao fsck)后重新报送".to_owned(),
    }
}

/// Remembers of a record that there is none of yet when it first came.
fn send_back(
    tx: &mut Tx<'_>,
    record: &RecordDigest,
    received: Timestamp,
) -> Result<(), StoreError> {
    if tx.tables.record.has(record)? {
        return Ok(());
    }
    let before: Option<SentBack> = tx.tables.sent_back.read(record)?;
    let received = before.map_or(received, |before| before.received.min(received));
    tx.tables.sent_back.put(record, &SentBack { received, refused: tx.now })
}

/// Applies one version; what became of it, and which version of its record it is or equals. Nothing
/// is written if what is there is damaged.
fn apply(
    tx: &mut Tx<'_>,
    new: Version,
    place: &Place<'_>,
    (row, document): (u64, Option<&String>),
) -> Result<(RowOutcome, u32), StoreError> {
    let known: Option<RecordRow> = tx.tables.record.read(&new.record)?;
    let first = known.is_none();
    let before: Option<SentBack> = match first {
        true => tx.tables.sent_back.read(&new.record)?,
        false => None,
    };
    let mut record = known.unwrap_or_else(|| RecordRow {
        dataset: new.dataset.clone(),
        feed: place.feed.clone(),
        withdrawn: false,
        deadlines: new.deadlines,
        milestones: Milestones {
            received: Some(before.map_or(place.received, |it| it.received.min(place.received))),
            committed: Some(tx.now),
            refused: before.map(|before| before.refused).or(place.again),
            ..Milestones::default()
        },
        versions: Vec::new(),
        items: Vec::new(),
        refused_items: 0,
        late: None,
    });
    let in_order = tx.state.in_order.contains(place.feed);
    let former = if in_order { record.versions.len().saturating_sub(1) } else { 0 };
    let same = record.versions.iter().rposition(|version| version.content == new.content);
    let same = same.filter(|index| *index >= former);
    if let Some(index) = same {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let current = number == record.version();
        return Ok((if current { RowOutcome::Duplicate } else { RowOutcome::Stale }, number));
    }
    let came = (place.message, row);
    let overtaken = |version: &VersionMeta| (version.message, version.row) > came;
    if place.again.is_some() && record.versions.iter().any(overtaken) {
        return Ok((RowOutcome::Stale, record.version()));
    }

    let read = |(_, id): &(TargetId, u64)| Ok((*id, queue::item(tx, *id)?));
    let items = record.items.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;

    tx.state.meta.seq += 1;
    let seq = tx.state.meta.seq;
    record.versions.push(VersionMeta {
        seq,
        content: new.content,
        message: place.message,
        row,
        received: place.received,
    });
    record.withdrawn = new.operation == Operation::Withdraw;
    record.milestones.received = record.milestones.received.min(Some(place.received));
    let number = record.version();
    tx.tables.version.put_raw(&seq.to_be_bytes(), &[&number.to_be_bytes(), &new.value])?;

    for (id, item) in items {
        supersede(tx, &mut record, id, item, place, document)?;
    }
    for target in new.targets.iter() {
        if record.items.iter().all(|(known, _)| known != target) {
            let id = enqueue(tx, &new.record, &record, target, place, document)?;
            record.items.push((target.clone(), id));
        }
    }
    tx.tables.record.put(&new.record, &record)?;
    if before.is_some() {
        tx.tables.sent_back.delete(&new.record)?;
    }
    if first {
        tx.state.meta.records += 1;
        Ok((RowOutcome::New { seq }, number))
    } else {
        Ok((RowOutcome::Correction { seq, version: number }, number))
    }
}

fn enqueue(
    tx: &mut Tx<'_>,
    digest: &RecordDigest,
    record: &RecordRow,
    target: &TargetId,
    place: &Place<'_>,
    document: Option<&String>,
) -> Result<u64, StoreError> {
    let id = tx.state.meta.next_item;
    tx.state.meta.next_item += 1;
    let version = record.version();
    let item = ItemRow {
        record: *digest,
        target: target.clone(),
        dataset: record.dataset.clone(),
        state: ItemState::Ready,
        version,
        seq: tx.state.meta.seq,
        feed: place.feed.clone(),
        agency: place.agency.clone(),
        document: document.cloned(),
        newest: version,
        deadline: Timestamp::end_of_day(record.deadlines.earlier()),
        attempts: 0,
        retried: 0,
        fence: 0,
        sent: None,
        due_at: None,
        accepted: None,
        refusals: Vec::new(),
        last_error: None,
        history: Vec::new(),
    };
    queue::insert(tx, id, &item)?;
    Ok(id)
}

/// Lets a newer version take the place of the one the item carries. A leased item takes it over
/// when it is settled, so that versions never overtake each other.
fn supersede(
    tx: &mut Tx<'_>,
    record: &mut RecordRow,
    id: u64,
    mut item: ItemRow,
    place: &Place<'_>,
    document: Option<&String>,
) -> Result<(), StoreError> {
    let version = record.version();
    item.newest = version;
    let was = item.state;
    if was != ItemState::Leased {
        item.version = version;
        item.seq = tx.state.meta.seq;
        item.feed = place.feed.clone();
        item.agency = place.agency.clone();
        item.document = document.cloned();
    }
    let to = match was {
        ItemState::Ready | ItemState::Waiting | ItemState::Leased | ItemState::Held => was,
        // What the target took must be put right or taken down there; what it never got stays away.
        ItemState::Dropped if item.accepted.is_none() => was,
        ItemState::Done | ItemState::Refused | ItemState::Dead | ItemState::Dropped => {
            item.attempts = 0;
            item.last_error = None;
            item.note(tx.now, EventKind::Corrected, "");
            ItemState::Ready
        }
    };
    let due = item.due_at;
    queue::move_to(tx, id, &mut item, to, due)?;
    standing_change(tx, record, was, to);
    Ok(())
}
