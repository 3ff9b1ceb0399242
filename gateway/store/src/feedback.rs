//! Feedback (反馈): what an agency has not been told yet.
//!
//! Of feeds with feedback, the table `place` keeps which rows a record's versions came in, and the
//! table `feedback` which rows have come to stand otherwise since their agency was told last. A
//! change is noted in the transaction that makes it, so neither a crash nor a broken road loses
//! one; what has been told is taken off by a mark, so a change that comes meanwhile stays.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{FeedId, Timestamp};

use crate::committer::Tx;
use crate::open::parse_id;
use crate::tables::{Snapshot, id_number, id_prefix, number, pair, two_numbers};
use crate::{PendingFeedback, RecordDigest, Shared, StoreError};

/// In the place of a row's index: every row, because the message has been finished.
const WHOLE: u64 = u64::MAX;
/// In the place of a row's index: a refusal no longer stands.
const RELIEVED: u64 = u64::MAX - 1;
/// Entries taken off in one transaction.
const TAKEN_OFF: usize = 10_000;

/// One row of `meta`: which feeds have feedback, and how many changes were ever noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FeedbackMeta {
    pub feeds: BTreeSet<FeedId>,
    pub changes: u64,
}

/// The key of [`FeedbackMeta`].
pub(crate) const META: &[u8] = b"feedback";

/// A change: its number, and when.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Change {
    pub number: u64,
    pub at: Timestamp,
}

impl Shared {
    pub(crate) async fn set_feedback(&self, feeds: BTreeSet<FeedId>) -> Result<(), StoreError> {
        self.committer()?
            .commit(256, move |tx| {
                if tx.state.feedback.feeds != feeds {
                    tx.dirty = true;
                    tx.state.feedback.feeds = feeds;
                    tx.tables.meta.put(META, &tx.state.feedback)?;
                }
                Ok(())
            })
            .await
    }

    pub(crate) fn feedback_pending(
        &self,
        feed: &FeedId,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<PendingFeedback>, StoreError> {
        let tables = self.snapshot()?;
        let mark = meta(&tables)?.changes;
        let prefix = id_prefix(feed.as_str());
        let mut found = Vec::new();
        let mut next = after.map_or(Some(0), |last| last.checked_add(1));
        while let Some(from) = next.filter(|_| found.len() < limit) {
            let mut message = None;
            tables.feedback.scan(&id_number(feed.as_str(), from), |key, _| {
                message = key.strip_prefix(prefix.as_slice()).map(two_numbers).transpose()?;
                Ok(false)
            })?;
            let Some((message, _)) = message else { break };
            next = message.checked_add(1);
            if tables.pending.has(&id_number(feed.as_str(), message))? {
                continue;
            }
            let noted = |index| -> Result<Option<Change>, StoreError> {
                tables.feedback.read(&entry(feed, message, index))
            };
            found.push(PendingFeedback {
                message,
                mark,
                whole: noted(WHOLE)?.map(|change| change.at),
                relieved: noted(RELIEVED)?.is_some(),
            });
        }
        Ok(found)
    }

    pub(crate) fn feedback_rows(
        &self,
        feed: &FeedId,
        message: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Timestamp)>, StoreError> {
        let tables = self.snapshot()?;
        let prefix = id_number(feed.as_str(), message);
        let mut rows = Vec::new();
        if limit == 0 {
            return Ok(rows);
        }
        tables.feedback.scan(&entry(feed, message, from), |key, value| {
            let Some(index) = key.strip_prefix(prefix.as_slice()) else { return Ok(false) };
            let index = number(index)?;
            if index >= RELIEVED {
                return Ok(false);
            }
            rows.push((index, value.decode::<Change>()?.at));
            Ok(rows.len() < limit)
        })?;
        Ok(rows)
    }

    pub(crate) async fn feedback_given(
        &self,
        feed: &FeedId,
        message: u64,
        mark: u64,
    ) -> Result<(), StoreError> {
        let prefix = id_number(feed.as_str(), message);
        let mut from = Some(prefix.clone());
        while let Some(begin) = from {
            let prefix = prefix.clone();
            from = self
                .committer()?
                .commit(64 * TAKEN_OFF, move |tx| take_off(tx, &prefix, &begin, mark))
                .await?;
        }
        Ok(())
    }
}

/// Notes that a message has been finished: all its rows are to be told.
pub(crate) fn finished(tx: &mut Tx<'_>, feed: &FeedId, message: u64) -> Result<(), StoreError> {
    note(tx, feed, message, WHOLE)
}

/// Notes that the row at this index of a message has come to stand otherwise. `relieved`: because
/// what it was sent back or held for no longer stands.
pub(crate) fn row_changed(
    tx: &mut Tx<'_>,
    feed: &FeedId,
    (message, index): (u64, u64),
    relieved: bool,
) -> Result<(), StoreError> {
    note(tx, feed, message, index)?;
    if relieved { note(tx, feed, message, RELIEVED) } else { Ok(()) }
}

/// Keeps in which row a version of a record came, or came again.
pub(crate) fn placed(
    tx: &mut Tx<'_>,
    feed: &FeedId,
    (message, index): (u64, u64),
    (record, version): (RecordDigest, u32),
) -> Result<(), StoreError> {
    if tx.state.feedback.feeds.contains(feed) {
        let key = place(&record, version, message, index);
        tx.tables.place.put_raw(&key, &[feed.as_str().as_bytes()])?;
    }
    Ok(())
}

/// Notes that a version has come to stand otherwise, in every row it came in. `relieved`: because a
/// refusal of it no longer stands.
pub(crate) fn version_changed(
    tx: &mut Tx<'_>,
    record: &RecordDigest,
    version: u32,
    relieved: bool,
) -> Result<(), StoreError> {
    if tx.state.feedback.feeds.is_empty() {
        return Ok(());
    }
    let prefix = [record.as_slice(), &version.to_be_bytes()].concat();
    let mut rows = Vec::new();
    tx.tables.place.scan(&prefix, |key, feed| {
        let Some(at) = key.strip_prefix(prefix.as_slice()) else { return Ok(false) };
        rows.push((two_numbers(at)?, parse_id(&feed.open()?, FeedId::new)?));
        Ok(true)
    })?;
    rows.into_iter().try_for_each(|(row, feed)| row_changed(tx, &feed, row, relieved))
}

fn note(tx: &mut Tx<'_>, feed: &FeedId, message: u64, index: u64) -> Result<(), StoreError> {
    if !tx.state.feedback.feeds.contains(feed) {
        return Ok(());
    }
    tx.dirty = true;
    tx.state.feedback.changes += 1;
    let change = Change { number: tx.state.feedback.changes, at: tx.now };
    tx.tables.feedback.put(&entry(feed, message, index), &change)?;
    tx.noted = true;
    Ok(())
}

/// Takes off the entries of a message from `begin` on that are not after `mark`, so many at most;
/// where to go on.
fn take_off(
    tx: &mut Tx<'_>,
    prefix: &[u8],
    begin: &[u8],
    mark: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let (mut told, mut seen, mut next) = (Vec::new(), 0, None);
    tx.tables.feedback.scan(begin, |key, value| {
        if !key.starts_with(prefix) {
            return Ok(false);
        }
        if seen == TAKEN_OFF {
            next = Some(key.to_vec());
            return Ok(false);
        }
        seen += 1;
        if value.decode::<Change>()?.number <= mark {
            told.push(key.to_vec());
        }
        Ok(true)
    })?;
    for key in told {
        tx.dirty = true;
        tx.tables.feedback.delete(&key)?;
    }
    Ok(next)
}

/// The key of a change: feed, message, index of the row.
fn entry(feed: &FeedId, message: u64, index: u64) -> Vec<u8> {
    let mut key = id_prefix(feed.as_str());
    key.extend_from_slice(&pair(message, index));
    key
}

/// The key of a place: record, version, message, index of the row.
pub(crate) fn place(record: &RecordDigest, version: u32, message: u64, index: u64) -> Vec<u8> {
    let mut key = [record.as_slice(), &version.to_be_bytes()].concat();
    key.extend_from_slice(&pair(message, index));
    key
}

fn meta(tables: &Snapshot) -> Result<FeedbackMeta, StoreError> {
    Ok(tables.meta.read(META)?.unwrap_or_default())
}

/// Compares the changes noted with the messages they speak of: feed, rows done and whether finished.
pub(crate) fn check(
    tables: &Snapshot,
    message: impl Fn(u64) -> Option<(FeedId, u64, bool)>,
    found: &mut Vec<String>,
) -> Result<(), StoreError> {
    let changes = meta(tables)?.changes;
    tables.feedback.scan(b"", |key, value| {
        let split = key.len().saturating_sub(17);
        let (feed, rest) = key.split_at_checked(split).unwrap_or_default();
        let feed = parse_id(feed, FeedId::new)?;
        let (id, index) = two_numbers(rest.get(1..).unwrap_or_default())?;
        let sound = message(id).is_some_and(|(of, rows, ended)| {
            of == feed
                && match index {
                    WHOLE => ended,
                    RELIEVED => true,
                    row => row < rows,
                }
        });
        if !sound || value.decode::<Change>()?.number > changes {
            found.push(format!("报文{id}:待反馈的变化与报文不符"));
        }
        Ok(true)
    })
}
