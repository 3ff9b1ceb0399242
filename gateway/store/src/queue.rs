//! The queue: one item per record and target, leased to workers, settled under a fence.

use redb::ReadableTable as _;
use xinqiao_core::deadline::{LateOwner, Milestones, late_owner};
use xinqiao_core::model::{TargetId, Timestamp};

use crate::committer::Tx;
use crate::encode::{ItemRow, RecordRow, VersionRow, read_version};
use crate::intake::gone;
use crate::tables::{
    Rows as _, Writes as _, engine, id_prefix, queue_key, queue_prefix, two_numbers, waiting_key,
};
use crate::{
    EventKind, FeedCounters, ItemState, LeaseToken, Leased, QueueAct, SettledAs, Settlement,
    Shared, StoreError,
};

/// Items promoted from waiting to ready by one lease.
const PROMOTED: usize = 1_000;

impl Shared {
    pub(crate) async fn lease(
        &self,
        target: TargetId,
        limit: usize,
        lease_millis: u64,
    ) -> Result<Vec<Leased>, StoreError> {
        self.committer()?
            .commit(limit.saturating_mul(512), move |tx| lease(tx, &target, limit, lease_millis))
            .await
    }

    pub(crate) async fn extend(
        &self,
        leases: Vec<LeaseToken>,
        lease_millis: u64,
    ) -> Result<(), StoreError> {
        self.committer()?
            .commit(0, move |tx| {
                let until = tx.now.plus_millis(lease_millis);
                for token in leases {
                    if let Some(item) = held(tx, token)? {
                        let leases = tx.state.leases.entry(item.target).or_default();
                        leases.insert(token.id, until);
                    }
                }
                Ok(())
            })
            .await
    }

    pub(crate) async fn settle(
        &self,
        settlements: Vec<Settlement>,
    ) -> Result<Vec<bool>, StoreError> {
        self.committer()?
            .commit(settlements.len() * 1_024, move |tx| {
                settlements.into_iter().map(|settlement| settle(tx, settlement)).collect()
            })
            .await
    }

    pub(crate) async fn act(
        &self,
        ids: Vec<u64>,
        act_: QueueAct,
        actor: String,
        reason: String,
    ) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        if reason.trim().is_empty() {
            return Err(StoreError::Conflict("须说明原因"));
        }
        self.committer()?
            .commit(ids.len() * 1_024, move |tx| {
                let detail = format!("{actor}:{reason}");
                let mut done = Vec::with_capacity(ids.len());
                for id in ids {
                    done.push(match act(tx, id, act_, &detail) {
                        Err(fault @ (StoreError::NotFound | StoreError::Conflict(_))) => Err(fault),
                        other => Ok(other?),
                    });
                }
                Ok(done)
            })
            .await
    }
}

/// Writes a new item.
pub(crate) fn insert(tx: &mut Tx<'_>, id: u64, item: &ItemRow) -> Result<(), StoreError> {
    tx.dirty = true;
    tx.tables.item.put(&id.to_be_bytes(), item)?;
    tx.tables.queue.put_raw(&queue_key(item.state, &item.target, item.deadline, id), b"")?;
    tx.count(&item.target, None, item.state);
    tx.ready = true;
    Ok(())
}

/// Reads an item.
pub(crate) fn item(tx: &Tx<'_>, id: u64) -> Result<ItemRow, StoreError> {
    tx.tables.item.read(&id.to_be_bytes())?.ok_or(StoreError::NotFound)
}

/// Writes an item back in state `to` and moves it in every index and count. `due` counts only for
/// `Waiting`.
pub(crate) fn move_to(
    tx: &mut Tx<'_>,
    id: u64,
    item: &mut ItemRow,
    to: ItemState,
    due: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.dirty = true;
    let was = item.state;
    if let Some(due) = item.due_at.take() {
        tx.tables.waiting.delete(&waiting_key(&item.target, due, id))?;
    }
    if to == ItemState::Waiting {
        let due = due.unwrap_or(tx.now);
        item.due_at = Some(due);
        tx.tables.waiting.put_raw(&waiting_key(&item.target, due, id), b"")?;
    }
    if was == ItemState::Leased
        && to != was
        && let Some(leases) = tx.state.leases.get_mut(&item.target)
    {
        leases.remove(&id);
    }
    if to != was {
        tx.tables.queue.delete(&queue_key(was, &item.target, item.deadline, id))?;
        tx.tables.queue.put_raw(&queue_key(to, &item.target, item.deadline, id), b"")?;
        tx.count(&item.target, Some(was), to);
        // A new waiting item may be due before what a worker sleeps for.
        tx.ready |= matches!(to, ItemState::Ready | ItemState::Waiting);
    }
    item.state = to;
    tx.tables.item.put(&id.to_be_bytes(), item)
}

/// Keeps the number of refused items of a record, and of refused records and dropped items of its
/// feed.
pub(crate) fn standing_change(
    tx: &mut Tx<'_>,
    record: &mut RecordRow,
    was: ItemState,
    is: ItemState,
) {
    match (was == ItemState::Dropped, is == ItemState::Dropped) {
        (false, true) => tx.feed(&record.feed).dropped += 1,
        (true, false) => {
            let counters = tx.feed(&record.feed);
            counters.dropped = counters.dropped.saturating_sub(1);
        }
        _ => {}
    }
    let stood = record.refused_items > 0;
    if was == ItemState::Refused {
        record.refused_items = record.refused_items.saturating_sub(1);
    }
    if is == ItemState::Refused {
        record.refused_items += 1;
    }
    match (stood, record.refused_items > 0) {
        (false, true) => tx.feed(&record.feed).refused += 1,
        (true, false) => {
            let counters = tx.feed(&record.feed);
            counters.refused = counters.refused.saturating_sub(1);
        }
        _ => {}
    }
}

/// Gives every lease of a former process back.
pub(crate) fn give_back_all(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let targets: Vec<TargetId> = tx.state.targets.keys().cloned().collect();
    for target in targets {
        let prefix = queue_prefix(ItemState::Leased, &target);
        for id in ids(tx, &prefix, usize::MAX)? {
            give_back(tx, id, EventKind::Restarted)?;
        }
    }
    Ok(())
}

/// Ids at the end of the first `limit` index keys under `prefix`.
fn ids(tx: &Tx<'_>, prefix: &[u8], limit: usize) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    if limit > 0 {
        tx.tables.queue.scan_prefix(prefix, |rest, _| {
            found.push(two_numbers(rest)?.1);
            Ok(found.len() < limit)
        })?;
    }
    Ok(found)
}

fn give_back(tx: &mut Tx<'_>, id: u64, why: EventKind) -> Result<(), StoreError> {
    let mut item = item(tx, id)?;
    item.note(tx.now, why, "");
    take_newest(tx, &mut item)?;
    move_to(tx, id, &mut item, ItemState::Ready, None)
}

/// Takes over a version that came while the item was leased; whether there was one.
fn take_newest(tx: &Tx<'_>, item: &mut ItemRow) -> Result<bool, StoreError> {
    if item.newest == item.version {
        return Ok(false);
    }
    item.seq = record(tx, item)?.seq(item.newest).ok_or_else(gone)?;
    item.version = item.newest;
    let version = version(tx, item.seq)?;
    item.feed = version.feed;
    item.agency = version.agency;
    item.document = version.document;
    item.attempts = 0;
    Ok(true)
}

fn lease(
    tx: &mut Tx<'_>,
    target: &TargetId,
    limit: usize,
    lease_millis: u64,
) -> Result<Vec<Leased>, StoreError> {
    let now = tx.now;
    let leases = tx.state.leases.get(target);
    let expired: Vec<u64> = leases
        .into_iter()
        .flatten()
        .filter(|(_, until)| **until <= now)
        .map(|(id, _)| *id)
        .collect();
    for id in expired {
        give_back(tx, id, EventKind::Expired)?;
    }
    let mut due = Vec::new();
    tx.tables.waiting.scan_prefix(&id_prefix(target.as_str()), |rest, _| {
        let (at, id) = two_numbers(rest)?;
        let come = at <= now.0;
        if come {
            due.push(id);
        }
        Ok(come && due.len() < PROMOTED)
    })?;
    for id in due {
        let mut item = item(tx, id)?;
        move_to(tx, id, &mut item, ItemState::Ready, None)?;
    }

    let first = ids(tx, &queue_prefix(ItemState::Ready, target), limit)?;
    let mut leased = Vec::with_capacity(first.len());
    for id in first {
        leased.push(take(tx, id, now.plus_millis(lease_millis))?);
    }
    Ok(leased)
}

fn take(tx: &mut Tx<'_>, id: u64, until: Timestamp) -> Result<Leased, StoreError> {
    let mut item = item(tx, id)?;
    let version = version(tx, item.seq)?;
    item.sent = item.sent.or(Some(tx.now));
    if item.attempts > 0 {
        item.retried += 1;
        let feed = record(tx, &item)?.feed;
        tx.feed(&feed).retried += 1;
    }
    item.attempts += 1;
    item.fence += 1;
    item.note(tx.now, EventKind::Sent, "");
    move_to(tx, id, &mut item, ItemState::Leased, None)?;
    tx.state.leases.entry(item.target.clone()).or_default().insert(id, until);
    Ok(Leased {
        token: LeaseToken { id, fence: item.fence },
        key: format!("{}-{}", xinqiao_crypto::hex(&item.record), item.version),
        version: item.version,
        dataset: item.dataset,
        generation: version.generation,
        operation: version.operation,
        fields: version.fields,
        attempt: item.attempts,
        deadline: item.deadline,
    })
}

/// The item, if the token still holds it. A lease past its time holds until it is taken again.
fn held(tx: &Tx<'_>, token: LeaseToken) -> Result<Option<ItemRow>, StoreError> {
    let item: Option<ItemRow> = tx.tables.item.read(&token.id.to_be_bytes())?;
    Ok(item.filter(|item| item.state == ItemState::Leased && item.fence == token.fence))
}

fn version(tx: &Tx<'_>, seq: u64) -> Result<VersionRow, StoreError> {
    let value = tx.tables.version.get(seq.to_be_bytes().as_slice()).map_err(engine)?;
    Ok(read_version(value.ok_or_else(gone)?.value())?.1)
}

fn record(tx: &Tx<'_>, item: &ItemRow) -> Result<RecordRow, StoreError> {
    tx.tables.record.read(&item.record)?.ok_or_else(gone)
}

fn settle(tx: &mut Tx<'_>, settlement: Settlement) -> Result<bool, StoreError> {
    let id = settlement.token.id;
    let Some(mut item) = held(tx, settlement.token)? else { return Ok(false) };
    let mut record = record(tx, &item)?;
    tx.dirty = true;
    let mut due = None;
    let end = match settlement.end {
        SettledAs::Accepted => {
            item.accepted = Some(item.version);
            item.last_error = None;
            item.forgive();
            item.note(tx.now, EventKind::Accepted, "");
            accept(tx, &mut record, &item);
            ItemState::Done
        }
        SettledAs::Refused { code, message } => {
            item.refuse(&code, &message);
            item.note(tx.now, EventKind::Refused, &code);
            item.last_error = Some(format!("{code} {message}"));
            record.milestones.refused = Some(tx.now);
            ItemState::Refused
        }
        SettledAs::Retry { due: at, error } => {
            item.note(tx.now, EventKind::Retry, &error);
            item.last_error = Some(error);
            due = Some(at);
            ItemState::Waiting
        }
        SettledAs::Dead { error } => {
            item.note(tx.now, EventKind::Dead, &error);
            item.last_error = Some(error);
            ItemState::Dead
        }
        SettledAs::Doubtful { error } => {
            item.note(tx.now, EventKind::Doubtful, &error);
            item.last_error = Some(error);
            ItemState::Dead
        }
    };
    let end = if take_newest(tx, &mut item)? { ItemState::Ready } else { end };
    standing_change(tx, &mut record, ItemState::Leased, end);
    tx.tables.record.put(&item.record, &record)?;
    move_to(tx, id, &mut item, end, due)?;
    Ok(true)
}

/// The first acceptance of a record stops its clock and decides who owns a delay.
fn accept(tx: &mut Tx<'_>, record: &mut RecordRow, item: &ItemRow) {
    if record.milestones.accepted.is_some() {
        return;
    }
    record.milestones.accepted = Some(tx.now);
    let end = Timestamp::end_of_day(record.deadlines.statutory);
    if tx.now > end {
        let index = usize::try_from(item.version).unwrap_or_default().wrapping_sub(1);
        let arrived = record.versions.get(index).map(|version| version.received);
        // A refusal the target took back of itself cost the agency nothing.
        let refused = record.milestones.refused.filter(|refused| arrived > Some(*refused));
        let times = Milestones { sent: item.sent, refused, ..record.milestones };
        record.late = Some(late_owner(&times, end));
    }
    count_accepted(tx.feed(&record.feed), record);
}

/// Counts an accepted record into its feed's counters.
pub(crate) fn count_accepted(counters: &mut FeedCounters, record: &RecordRow) {
    let Some(met) = record.met() else { return };
    counters.accepted += 1;
    counters.on_time_pledged += u64::from(met.pledged);
    match met.late {
        None => counters.on_time_statutory += 1,
        Some(LateOwner::AgencyArrival) => counters.late_agency += 1,
        Some(LateOwner::AgencyRefusal) => counters.late_refusal += 1,
        Some(LateOwner::Gateway) => counters.late_gateway += 1,
        Some(LateOwner::Platform) => counters.late_platform += 1,
    }
}

fn act(tx: &mut Tx<'_>, id: u64, act: QueueAct, detail: &str) -> Result<(), StoreError> {
    use ItemState::{Dead, Done, Dropped, Held, Leased, Ready, Refused, Waiting};
    let mut item = item(tx, id)?;
    let was = item.state;
    let (to, what) = match (act, was) {
        (QueueAct::Retry, Dead | Waiting | Refused | Held) => (Ready, EventKind::RetriedByHand),
        (QueueAct::Hold, Ready | Waiting) => (Held, EventKind::Held),
        (QueueAct::Release, Held) => (Ready, EventKind::Released),
        (QueueAct::Drop, Ready | Waiting | Refused | Dead | Held) => (Dropped, EventKind::Dropped),
        (_, Leased) => return Err(StoreError::Conflict("正在投递")),
        (_, Done) => return Err(StoreError::Conflict("已被受理")),
        (_, Dropped) => return Err(StoreError::Conflict("已放弃投递")),
        (QueueAct::Retry, Ready) => return Err(StoreError::Conflict("已在待投递队列中")),
        (QueueAct::Hold, _) => {
            return Err(StoreError::Conflict("只有待投递或等待重试的项可以暂停"));
        }
        (QueueAct::Release, _) => return Err(StoreError::Conflict("没有暂停")),
    };
    let mut record = record(tx, &item)?;
    tx.dirty = true;
    if act == QueueAct::Retry {
        item.attempts = 0;
        item.forgive();
    }
    item.note(tx.now, what, detail);
    standing_change(tx, &mut record, was, to);
    if was == Refused {
        tx.tables.record.put(&item.record, &record)?;
    }
    move_to(tx, id, &mut item, to, None)
}
