//! Held rows (暂存行): in order but for a 统一社会信用代码 that the mapping table does not give yet.
//!
//! A held row has a verdict like any other, with outcome `Held`, and stands in three places more:
//! `held` (exactly the rows held), `wanted` (which codes they wait for) and, once the table has
//! changed in one of those codes, `rerun`. A row looked at again loses all of them and gets its new
//! verdict in the transaction that commits its record, so that no crash loses or doubles it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{FeedId, Timestamp, Verdict};

use crate::commit::{Place, by_verdict, settle, tally};
use crate::committer::Tx;
use crate::encode::{ProgressRow, VerdictRow};
use crate::intake::{gone, message};
use crate::read::pending_message;
use crate::tables::{Snapshot, id_number, pair, two_numbers, unless_damaged};
use crate::{
    HeldCount, Hold, RecordDigest, Rerun, RowEntry, RowOutcome, Shared, StoreError, feedback, uscc,
};

/// A held row as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HeldRow {
    pub feed: FeedId,
    /// Index of the first row of the block its verdict stands in.
    pub first: u64,
    pub since: Timestamp,
    pub ambiguous: bool,
    pub wanted: Vec<RecordDigest>,
}

/// What a row waits for, digested.
pub(crate) struct Holding {
    wanted: Vec<RecordDigest>,
    ambiguous: bool,
    revision: u64,
}

impl Shared {
    pub(crate) fn prepare_hold(&self, hold: &Hold) -> Holding {
        let wanted: BTreeSet<_> = hold.wanted.iter().map(|code| self.legacy_digest(code)).collect();
        Holding {
            wanted: wanted.into_iter().collect(),
            ambiguous: hold.ambiguous,
            revision: hold.revision,
        }
    }

    pub(crate) async fn take_rerun(
        &self,
        limit: usize,
        attempts: u32,
    ) -> Result<Option<Rerun>, StoreError> {
        self.committer()?
            .commit(64 * limit, move |tx| {
                loop {
                    let (mut of, mut taken, mut spent) = (None, BTreeMap::new(), Vec::new());
                    tx.tables.rerun.scan(b"", |key, value| {
                        let (message, index) = two_numbers(key)?;
                        if *of.get_or_insert(message) != message {
                            return Ok(false);
                        }
                        match value.decode::<u32>()? + 1 {
                            tried if tried > attempts => spent.push(index),
                            tried => drop(taken.insert(index, tried)),
                        }
                        Ok(taken.len() < limit)
                    })?;
                    let Some(id) = of else { return Ok(None) };
                    tx.dirty = true;
                    let head = unless_damaged(message(&tx.tables.message, id))?;
                    let Some(head) = head.filter(|_| !taken.is_empty()) else {
                        // They stay held; by hand they can be had looked at again.
                        for index in spent.iter().chain(taken.keys()) {
                            tx.tables.rerun.delete(&pair(id, *index))?;
                        }
                        continue;
                    };
                    for index in spent {
                        tx.tables.rerun.delete(&pair(id, index))?;
                    }
                    for (index, tried) in &taken {
                        tx.tables.rerun.put(&pair(id, *index), tried)?;
                    }
                    let message = pending_message(id, head, &ProgressRow::default());
                    return Ok(Some(Rerun { message, rows: taken.into_keys().collect() }));
                }
            })
            .await
    }

    pub(crate) async fn commit_rerun(
        &self,
        id: u64,
        rows: Vec<(u64, RowEntry)>,
        gone_rows: Vec<u64>,
    ) -> Result<Vec<RowOutcome>, StoreError> {
        let head = message(&self.snapshot()?.message, id)?;
        let mut bytes = 64 * gone_rows.len();
        let mut prepared = Vec::with_capacity(rows.len());
        for (index, row) in rows {
            let row = self.prepare(row, &head.feed, &head.agency)?;
            bytes += row.bytes();
            prepared.push((index, row));
        }
        self.committer()?
            .commit(bytes, move |tx| {
                let key = id_number(head.feed.as_str(), id);
                let mut progress: ProgressRow = tx.tables.progress.read(&key)?.ok_or_else(gone)?;
                let mut blocks: BTreeMap<u64, Vec<VerdictRow>> = BTreeMap::new();
                // Decide first: what was settled meanwhile is left alone.
                let mut held = Vec::with_capacity(prepared.len());
                let mut gone_rows = gone_rows;
                for (index, row) in prepared {
                    let known = unless_damaged(tx.tables.held.read(&pair(id, index)))?.flatten();
                    let Some(HeldRow { first, since, wanted, .. }) = known else { continue };
                    if let std::collections::btree_map::Entry::Vacant(new) = blocks.entry(first) {
                        let block = tx.tables.verdict.read(&pair(id, first))?;
                        new.insert(block.ok_or_else(gone)?);
                    }
                    let at = usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX);
                    let verdict = blocks.get(&first).and_then(|block| block.get(at));
                    match verdict.filter(|verdict| verdict.outcome == RowOutcome::Held) {
                        None => {}
                        // The mapping was changed meanwhile, and counts other rows.
                        Some(verdict) if verdict.row != row.row() => gone_rows.push(index),
                        Some(_) => held.push((index, row, (first, at), since, wanted)),
                    }
                }
                tx.dirty = true;
                for index in gone_rows {
                    tx.tables.rerun.delete(&pair(id, index))?;
                }
                let mut outcomes = Vec::with_capacity(held.len());
                for (index, row, (first, at), since, wanted) in held {
                    let verdict = blocks.get_mut(&first).and_then(|block| block.get_mut(at));
                    let Some(verdict) = verdict else { continue };
                    release(tx, id, index, &wanted)?;
                    untally(tx, &head.feed, verdict, &mut progress.rows);
                    let place = Place {
                        feed: &head.feed,
                        agency: &head.agency,
                        message: id,
                        index,
                        first,
                        received: head.received,
                        again: Some(since),
                    };
                    *verdict = settle(tx, row, &place)?;
                    tally(tx, &head.feed, verdict, &mut progress.rows);
                    if verdict.outcome != RowOutcome::Held {
                        feedback::row_changed(tx, &head.feed, (id, index), true)?;
                    }
                    outcomes.push(verdict.outcome);
                }
                for (first, block) in blocks {
                    tx.tables.verdict.put(&pair(id, first), &block)?;
                }
                tx.tables.progress.put(&key, &progress)?;
                Ok(outcomes)
            })
            .await
    }

    pub(crate) async fn put_back_rerun(
        &self,
        message: u64,
        rows: BTreeSet<u64>,
    ) -> Result<(), StoreError> {
        self.committer()?
            .commit(64 * rows.len(), move |tx| {
                for key in rows.into_iter().map(|index| pair(message, index)) {
                    if tx.tables.rerun.has(&key)? {
                        tx.dirty = true;
                        tx.tables.rerun.put(&key, &0u32)?;
                    }
                }
                Ok(())
            })
            .await
    }

    pub(crate) async fn rerun_all(&self, feed: Option<FeedId>) -> Result<u64, StoreError> {
        let count = self
            .committer()?
            .commit(4096, move |tx| {
                let mut keys = Vec::new();
                tx.tables.held.scan(b"", |key, value| {
                    let row = unless_damaged(value.decode::<HeldRow>())?;
                    if row.is_some_and(|row| feed.as_ref().is_none_or(|feed| *feed == row.feed)) {
                        keys.push(key.to_vec());
                    }
                    Ok(true)
                })?;
                tx.dirty |= !keys.is_empty();
                keys.iter().try_for_each(|key| tx.tables.rerun.put(key, &0u32))?;
                Ok(keys.len() as u64)
            })
            .await?;
        self.signals.rerun.send_modify(|n| *n += 1);
        Ok(count)
    }

    pub(crate) fn held(&self) -> Result<Vec<HeldCount>, StoreError> {
        let mut counts: BTreeMap<(FeedId, bool), (u64, Timestamp)> = BTreeMap::new();
        self.snapshot()?.held.scan(b"", |_, value| {
            if let Some(row) = unless_damaged(value.decode::<HeldRow>())? {
                let known = counts.entry((row.feed, row.ambiguous)).or_insert((0, row.since));
                *known = (known.0 + 1, known.1.min(row.since));
            }
            Ok(true)
        })?;
        let count = |((feed, ambiguous), (rows, oldest))| {
            let reason = if ambiguous { "uscc.ambiguous" } else { "uscc.unresolved" };
            HeldCount { feed, reason: reason.to_owned(), rows, oldest }
        };
        Ok(counts.into_iter().map(count).collect())
    }
}

/// Holds a row. If the table has learned of its codes since it was asked, it is looked at again.
pub(crate) fn hold(tx: &mut Tx<'_>, hold: &Holding, place: &Place<'_>) -> Result<(), StoreError> {
    let key = pair(place.message, place.index);
    let row = HeldRow {
        feed: place.feed.clone(),
        first: place.first,
        since: place.again.unwrap_or(tx.now),
        ambiguous: hold.ambiguous,
        wanted: hold.wanted.clone(),
    };
    tx.tables.held.put(&key, &row)?;
    let mut known = false;
    for code in &hold.wanted {
        tx.tables.wanted.put_raw(&wanted_key(code, &key), &[])?;
        known |= uscc::knows(tx, code)?;
    }
    if known && uscc::revision(tx)? != hold.revision {
        tx.tables.rerun.put(&key, &0u32)?;
    }
    Ok(())
}

/// Has the rows looked at again that want a code.
pub(crate) fn look_again(tx: &mut Tx<'_>, code: &[u8]) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    tx.tables.wanted.scan_prefix(code, |row| {
        rows.push(row.to_vec());
        Ok(true)
    })?;
    rows.iter().try_for_each(|row| tx.tables.rerun.put(row, &0u32))
}

fn release(
    tx: &mut Tx<'_>,
    message: u64,
    index: u64,
    wanted: &[RecordDigest],
) -> Result<(), StoreError> {
    let key = pair(message, index);
    tx.tables.held.delete(&key)?;
    tx.tables.rerun.delete(&key)?;
    wanted.iter().try_for_each(|code| tx.tables.wanted.delete(&wanted_key(code, &key)))
}

fn untally(tx: &mut Tx<'_>, feed: &FeedId, held: &VerdictRow, rows: &mut [u64; 3]) {
    let verdict = held.verdict();
    let count = by_verdict(rows, verdict);
    *count = count.saturating_sub(1);
    let counters = tx.feed(feed);
    counters.rows = counters.rows.saturating_sub(1);
    counters.held = counters.held.saturating_sub(1);
    if verdict == Verdict::Warn {
        counters.warned = counters.warned.saturating_sub(1);
    }
}

fn wanted_key(code: &RecordDigest, row: &[u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    let (head, tail) = key.split_at_mut(16);
    head.copy_from_slice(code);
    tail.copy_from_slice(row);
    key
}

/// Checks that `held`, `wanted` and `rerun` are as the verdicts say. `expected`: message and index
/// of every row with outcome `Held`, and the first index of its block.
pub(crate) fn check(
    tables: &Snapshot,
    mut expected: BTreeMap<(u64, u64), u64>,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut wanted = 0;
    tables.held.scan(b"", |key, value| {
        let (message, index) = two_numbers(key)?;
        let first = expected.remove(&(message, index));
        let Some(row) = unless_damaged(value.decode::<HeldRow>())? else {
            found.push(format!("暂存行{message}-{index}:打不开,已损坏或被改动"));
            return Ok(true);
        };
        if first != Some(row.first) {
            found.push(format!("暂存行{message}-{index}:与行结论不符"));
        }
        for code in &row.wanted {
            wanted += 1;
            let row: [u8; 16] = pair(message, index);
            if !tables.wanted.has(&wanted_key(code, &row))? {
                found.push(format!("暂存行{message}-{index}:所缺代码的索引缺失"));
            }
        }
        Ok(true)
    })?;
    found.extend(expected.keys().map(|(message, index)| format!("暂存行{message}-{index}:缺失")));
    let stored = tables.wanted.len()?;
    if stored != wanted {
        found.push(format!("所缺代码的索引:存有{stored},应为{wanted}"));
    }
    tables.rerun.scan(b"", |key, _| {
        if !tables.held.has(key)? {
            let (message, index) = two_numbers(key)?;
            found.push(format!("待续办行{message}-{index}:没有暂存"));
        }
        Ok(true)
    })
}
