//! The queue: one item per record and target, leased to workers, settled under a fence.

use std::collections::BTreeSet;

use xinqiao_core::deadline::{LateOwner, Milestones, late_owner};
use xinqiao_core::model::{FeedId, TargetId, Timestamp};

use crate::committer::Tx;
use crate::encode::{ItemRow, RecordRow, VersionRow, read_version};
use crate::feedback;
use crate::intake::gone;
use crate::tables::{id_prefix, queue_key, queue_prefix, two_numbers, unless_damaged, waiting_key};
use crate::{
    EventKind, FeedCounters, ItemState, LeaseToken, Leased, QueueAct, SettledAs, Settlement,
    Shared, StoreError,
};

/// The key in `meta` of the targets that do not tell a repetition from news.
pub(crate) const UNDEDUPED: &[u8] = b"undeduped";
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

    pub(crate) async fn set_undeduped(
        &self,
        targets: BTreeSet<TargetId>,
    ) -> Result<(), StoreError> {
        self.committer()?
            .commit(256, move |tx| {
                if tx.state.undeduped != targets {
                    tx.dirty = true;
                    tx.state.undeduped = targets;
                    tx.tables.meta.put(UNDEDUPED, &tx.state.undeduped)?;
                }
                Ok(())
            })
            .await
    }

    pub(crate) async fn set_in_order(&self, feeds: BTreeSet<FeedId>) -> Result<(), StoreError> {
        let set = move |tx: &mut Tx<'_>| {
            tx.state.in_order = feeds;
            Ok(())
        };
        self.committer()?.commit(0, set).await
    }

    pub(crate) async fn extend(
        &self,
        leases: Vec<LeaseToken>,
        lease_millis: u64,
    ) -> Result<Vec<bool>, StoreError> {
        self.committer()?
            .commit(0, move |tx| {
                let until = tx.now.plus_millis(lease_millis);
                let mut extended = Vec::with_capacity(leases.len());
                for token in leases {
                    let item = held(tx, token)?;
                    extended.push(item.is_some());
                    if let Some(item) = item {
                        let leases = tx.state.leases.entry(item.target).or_default();
                        leases.insert(token.id, until);
                    }
                }
                Ok(extended)
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
                        Err(
                            fault @ (StoreError::NotFound
                            | StoreError::Conflict(_)
                            | StoreError::Damaged(_)),
                        ) => Err(fault),
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
    tx.tables.queue.put_raw(&queue_key(item.state, &item.target, item.deadline, id), &[])?;
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
        tx.tables.waiting.put_raw(&waiting_key(&item.target, due, id), &[])?;
    }
    if was == ItemState::Leased
        && to != was
        && let Some(leases) = tx.state.leases.get_mut(&item.target)
    {
        leases.remove(&id);
    }
    if to != was {
        tx.tables.queue.delete(&queue_key(was, &item.target, item.deadline, id))?;
        tx.tables.queue.put_raw(&queue_key(to, &item.target, item.deadline, id), &[])?;
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

/// Ends every lease of a former process.
pub(crate) fn give_back_all(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    let targets: Vec<TargetId> = tx.state.targets.keys().cloned().collect();
    for target in targets {
        let prefix = queue_prefix(ItemState::Leased, &target);
        for id in ids(tx, &prefix, usize::MAX)? {
            unless_damaged(give_back(tx, id, EventKind::Restarted))?;
        }
    }
    Ok(())
}

/// Ids at the end of the first `limit` index keys under `prefix`, but for those known as damaged.
fn ids(tx: &Tx<'_>, prefix: &[u8], limit: usize) -> Result<Vec<u64>, StoreError> {
    let mut found = Vec::new();
    if limit > 0 {
        tx.tables.queue.scan_prefix(prefix, |rest| {
            let id = two_numbers(rest)?.1;
            if !tx.state.damaged.contains(&id) {
                found.push(id);
            }
            Ok(found.len() < limit)
        })?;
    }
    Ok(found)
}

/// Ends a lease whose holder is gone. Back into the queue, unless the target would take a repetition
/// for news: nobody knows whether it was sent, so a person must look.
fn give_back(tx: &mut Tx<'_>, id: u64, why: EventKind) -> Result<(), StoreError> {
    let mut item = item(tx, id)?;
    let record = record(tx, &item)?;
    let newer = newer(tx, &item, &record)?;
    item.note(tx.now, why, "");
    if tx.state.undeduped.contains(&item.target) {
        let error = "投递中途中断,不知目标是否已收;目标不按键去重,不自动重发".to_owned();
        return end(tx, id, item, record, newer, SettledAs::Doubtful { error });
    }
    if let Some(newer) = newer {
        take(&mut item, newer);
    }
    move_to(tx, id, &mut item, ItemState::Ready, None)
}

/// A version that came while the item was leased, and its position.
fn newer(
    tx: &Tx<'_>,
    item: &ItemRow,
    record: &RecordRow,
) -> Result<Option<(u64, VersionRow)>, StoreError> {
    if item.newest == item.version {
        return Ok(None);
    }
    let seq = record.seq(item.newest).ok_or_else(gone)?;
    Ok(Some((seq, version(tx, seq)?)))
}

/// Takes over the version found by [`newer`].
fn take(item: &mut ItemRow, (seq, version): (u64, VersionRow)) {
    item.seq = seq;
    item.version = item.newest;
    item.feed = version.feed;
    item.agency = version.agency;
    item.document = version.document;
    item.attempts = 0;
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
        if unless_damaged(give_back(tx, id, EventKind::Expired))?.is_none()
            && let Some(leases) = tx.state.leases.get_mut(target)
        {
            leases.remove(&id);
        }
    }
    let jumped = tx.state.jumped.contains(target);
    let mut due = Vec::new();
    tx.tables.waiting.scan_prefix(&id_prefix(target.as_str()), |rest| {
        let (at, id) = two_numbers(rest)?;
        let come = jumped || at <= now.0;
        if come {
            due.push((at, id));
        }
        Ok(come && due.len() < PROMOTED)
    })?;
    if due.len() < PROMOTED {
        tx.state.jumped.remove(target);
    }
    for (at, id) in due {
        match unless_damaged(item(tx, id))? {
            Some(mut item) => move_to(tx, id, &mut item, ItemState::Ready, None)?,
            // Else it would be due for ever.
            None => {
                tx.dirty = true;
                tx.tables.waiting.delete(&waiting_key(target, Timestamp(at), id))?;
            }
        }
    }

    let ready = queue_prefix(ItemState::Ready, target);
    let mut leased = Vec::new();
    loop {
        let first = ids(tx, &ready, limit.saturating_sub(leased.len()))?;
        let known = tx.state.damaged.len();
        for id in first {
            match unless_damaged(hand_out(tx, id, now.plus_millis(lease_millis)))? {
                Some(item) => leased.push(item),
                None => drop(tx.state.damaged.insert(id)),
            }
        }
        if tx.state.damaged.len() == known {
            return Ok(leased);
        }
    }
}

fn hand_out(tx: &mut Tx<'_>, id: u64, until: Timestamp) -> Result<Leased, StoreError> {
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
    let value = tx.tables.version.bytes(&seq.to_be_bytes())?;
    Ok(read_version(&value.ok_or_else(gone)?)?.1)
}

fn record(tx: &Tx<'_>, item: &ItemRow) -> Result<RecordRow, StoreError> {
    tx.tables.record.read(&item.record)?.ok_or_else(gone)
}

fn settle(tx: &mut Tx<'_>, settlement: Settlement) -> Result<bool, StoreError> {
    let id = settlement.token.id;
    let known = held(tx, settlement.token).and_then(|item| {
        let Some(item) = item else { return Ok(None) };
        let record = record(tx, &item)?;
        let newer = newer(tx, &item, &record)?;
        Ok(Some((item, record, newer)))
    });
    // What is damaged cannot be settled; it is not handed out again either.
    let Some((item, record, newer)) = unless_damaged(known)?.flatten() else {
        return Ok(false);
    };
    end(tx, id, item, record, newer, settlement.end)?;
    Ok(true)
}

/// Ends an attempt. A version that came meanwhile is to be sent, however this one ended.
fn end(
    tx: &mut Tx<'_>,
    id: u64,
    mut item: ItemRow,
    mut record: RecordRow,
    newer: Option<(u64, VersionRow)>,
    ended: SettledAs,
) -> Result<(), StoreError> {
    tx.dirty = true;
    if !matches!(ended, SettledAs::Retry { .. }) {
        feedback::version_changed(tx, &item.record, item.version, false)?;
    }
    let mut due = None;
    let end = match ended {
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
    let end = match newer {
        Some(newer) => {
            take(&mut item, newer);
            ItemState::Ready
        }
        None => end,
    };
    standing_change(tx, &mut record, ItemState::Leased, end);
    tx.tables.record.put(&item.record, &record)?;
    move_to(tx, id, &mut item, end, due)
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
    if to == Dropped || matches!(was, Refused | Dead) {
        feedback::version_changed(tx, &item.record, item.version, to == Ready)?;
    }
    item.note(tx.now, what, detail);
    standing_change(tx, &mut record, was, to);
    if was == Refused {
        tx.tables.record.put(&item.record, &record)?;
    }
    move_to(tx, id, &mut item, to, None)
}
