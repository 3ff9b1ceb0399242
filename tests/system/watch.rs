//! Waiting for what another task or process does, and reading what a store holds.

use std::time::{Duration, Instant};

use xinqiao_core::model::Verdict;
use xinqiao_store::{ItemState, MessageView, RowVerdictView, Store};

/// Looks again and again until `met`; fails after two minutes, naming what it waited for.
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nothing is under way: every message finished, every item at an end.
pub(crate) fn at_rest(store: &Store) -> bool {
    let status = store.status().unwrap();
    let moving = [ItemState::Ready, ItemState::Waiting, ItemState::Leased];
    let items = status.targets.values().flat_map(|target| &target.states);
    status.feeds.values().all(|feed| feed.pending_messages == 0)
        && items.filter(|(state, _)| moving.contains(state)).all(|(_, count)| *count == 0)
}

/// Every message, newest first.
pub(crate) fn messages(store: &Store) -> Vec<MessageView> {
    let mut all: Vec<MessageView> = Vec::new();
    loop {
        let page = store.messages(None, None, all.last().map(|m| m.id), 1_000).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Every verdict of a message.
pub(crate) fn verdicts(store: &Store, message: u64) -> Vec<RowVerdictView> {
    let mut all = Vec::new();
    loop {
        let page = store.verdicts(message, all.len() as u64, 1_000).unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// How many rows were taken, refused.
pub(crate) fn counts(rows: &[RowVerdictView]) -> (usize, usize) {
    let refused = rows.iter().filter(|row| row.verdict == Verdict::Reject).count();
    (rows.len() - refused, refused)
}
