//! Drains the queue towards one target.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use xinqiao_core::spi::{Clock, Sealer, Shutdown};
use xinqiao_store::{LeaseToken, Leased, Store, StoreError};

use crate::config::TargetConfig;
use crate::pipeline::{Delivery, deliver};

/// From this attempt on an item is sent alone, so that one record the target chokes on does not
/// take its neighbours down again and again.
const ALONE_FROM: u32 = 4;
/// How long to sleep at most with nothing to do: leases that expired make no noise.
const IDLE: Duration = Duration::from_secs(5);

/// One sender. `failures` is shared by the senders of a target: how often in a row it was unwell.
pub async fn send(
    store: Store,
    target: TargetConfig,
    sealer: Option<Arc<dyn Sealer>>,
    failures: Arc<AtomicU32>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), StoreError> {
    let lease_millis = millis(target.lease);
    while !shutdown.has_begun() {
        let leased = store.lease(&target.id, target.batch, lease_millis).await?;
        if leased.is_empty() {
            let due = store.next_due(&target.id)?;
            let idle = due.map_or(IDLE, |due| {
                Duration::from_millis(due.millis_since(clock.now()).max(10)).min(IDLE)
            });
            tokio::select! {
                () = store.ready_changed() => {}
                () = tokio::time::sleep(idle) => {}
                () = shutdown.begun() => break,
            }
            continue;
        }
        let mut unwell = None;
        let mut left = VecDeque::from(batches(leased));
        while let Some(batch) = left.pop_front() {
            let tokens = batch.iter().chain(left.iter().flatten()).map(|item| item.token);
            let tokens: Vec<LeaseToken> = tokens.collect();
            let delivery =
                deliver(&*target.target, sealer.as_deref(), target.retry, batch, || clock.now());
            let Delivery { settlements, unwell: now_unwell } =
                held(&store, target.lease, &tokens, delivery).await;
            let settled = settlements.len();
            store.settle(settlements).await?;
            unwell = now_unwell;
            let rest = tokens.into_iter().skip(settled).collect();
            keep_ours(&mut left, &store.extend(rest, lease_millis).await?);
        }
        match unwell {
            None => failures.store(0, Ordering::Relaxed),
            Some(asked) => {
                let times = failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                tracing::warn!(target = %target.id, times, "target unwell");
                let policy =
                    xinqiao_core::schedule::RetryPolicy { max_attempts: u32::MAX, ..target.retry };
                let wait = policy.wait(times, asked, clock.now().0).unwrap_or(target.retry.cap);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.begun() => break,
                }
            }
        }
    }
    Ok(())
}

/// Items often tried go alone, the rest together.
fn batches(leased: Vec<Leased>) -> Vec<Vec<Leased>> {
    let (alone, together): (Vec<_>, Vec<_>) =
        leased.into_iter().partition(|item| item.attempt >= ALONE_FROM);
    let mut batches: Vec<_> = Vec::with_capacity(alone.len() + 1);
    if !together.is_empty() {
        batches.push(together);
    }
    batches.extend(alone.into_iter().map(|item| vec![item]));
    batches
}

/// Delivers while keeping alive every lease that is not settled yet: of this batch, and of those
/// that wait behind it.
async fn held(
    store: &Store,
    lease: Duration,
    tokens: &[LeaseToken],
    delivery: impl Future<Output = Delivery>,
) -> Delivery {
    tokio::pin!(delivery);
    loop {
        tokio::select! {
            done = &mut delivery => return done,
            () = tokio::time::sleep(lease / 3) => {
                // A failing store shows at the settlement.
                let _ = store.extend(tokens.to_vec(), millis(lease)).await;
            }
        }
    }
}

/// Drops what is leased to us no more, in order of the items: somebody else may be sending it.
fn keep_ours(left: &mut VecDeque<Vec<Leased>>, ours: &[bool]) {
    let mut ours = ours.iter();
    for batch in left.iter_mut() {
        batch.retain(|_| ours.next().is_some_and(|ours| *ours));
    }
    left.retain(|batch| !batch.is_empty());
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
