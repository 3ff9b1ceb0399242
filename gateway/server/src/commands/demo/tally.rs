//! The reckoning: every generated row against the store's verdicts, these against the store's
//! counters, and the store against the platform's ledger.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xinqiao_core::deadline::LateOwner;
use xinqiao_core::model::{FeedId, Verdict};
use xinqiao_store::{FeedCounters, ItemState, Met, RowOutcome, RowVerdictView, Store, StoreError};

use super::agencies::AGENCIES;
use super::platform::{LedgerRow, Outcome};

/// What became of one feed's rows. Two sums hold, see [`FeedTally::balances`]:
///
/// - `received = accepted + refused + refused_by_platform + repeated + held + open`;
/// - `accepted` is on time and late by the statutory clock together.
#[derive(Debug, Clone, Default)]
pub(super) struct FeedTally {
    pub(super) id: &'static str,
    pub(super) agency: &'static str,
    /// Rows generated, byte-identical messages counted once.
    pub(super) sent: u64,
    /// Rows with a verdict.
    pub(super) received: u64,
    /// Rows turned down by a rule, or not to be reported.
    pub(super) refused: u64,
    pub(super) refused_by_platform: u64,
    pub(super) accepted: u64,
    /// Of the accepted, those that corrected or withdrew what the city had: rows, but no records of
    /// their own. `status` counts records.
    pub(super) corrected: u64,
    /// How the accepted rows' records met their clocks.
    pub(super) clocks: Clocks,
    /// The same by record: what the store's counters must say.
    records: Clocks,
    /// Further versions of known records, accepted or not.
    corrections: u64,
    /// Copies of what the city has already.
    pub(super) repeated: u64,
    /// Rows that wait for the mapping table of legacy codes.
    pub(super) held: u64,
    /// Rows taken whose end is still open.
    pub(super) open: u64,
    pub(super) counters: FeedCounters,
}

/// How many met which clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Clocks {
    pub(super) on_time_pledged: u64,
    pub(super) on_time_statutory: u64,
    pub(super) late_agency: u64,
    pub(super) late_refusal: u64,
    pub(super) late_gateway: u64,
    pub(super) late_platform: u64,
}

impl Clocks {
    /// After the statutory deadline.
    pub(super) fn late(&self) -> u64 {
        self.late_agency + self.late_refusal + self.late_gateway + self.late_platform
    }

    fn add(&mut self, met: Met) {
        self.on_time_pledged += u64::from(met.pledged);
        self.on_time_statutory += u64::from(met.statutory);
        match met.late {
            None => {}
            Some(LateOwner::AgencyArrival) => self.late_agency += 1,
            Some(LateOwner::AgencyRefusal) => self.late_refusal += 1,
            Some(LateOwner::Gateway) => self.late_gateway += 1,
            Some(LateOwner::Platform) => self.late_platform += 1,
        }
    }

    fn of(counters: &FeedCounters) -> Self {
        Self {
            on_time_pledged: counters.on_time_pledged,
            on_time_statutory: counters.on_time_statutory,
            late_agency: counters.late_agency,
            late_refusal: counters.late_refusal,
            late_gateway: counters.late_gateway,
            late_platform: counters.late_platform,
        }
    }
}

/// All feeds.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) feeds: Vec<FeedTally>,
    /// Rows on which the store and the platform's ledger differ.
    pub(super) differing: u64,
}

impl FeedTally {
    /// Whether the feed's account adds up in itself, and agrees with the store's counters.
    pub(super) fn balances(&self) -> bool {
        let c = &self.counters;
        let ends =
            self.accepted + self.refused + self.refused_by_platform + self.repeated + self.open;
        self.received == ends + self.held
            && self.accepted == self.clocks.on_time_statutory + self.clocks.late()
            && (c.rows, c.rejected, c.repeated, c.corrections, c.held)
                == (self.received, self.refused, self.repeated, self.corrections, self.held)
            && self.records == Clocks::of(c)
            && c.accepted == c.on_time_statutory + c.late()
    }

    /// Counts one row's verdict.
    fn add(&mut self, row: &RowVerdictView) {
        self.received += 1;
        let correction = matches!(row.outcome, RowOutcome::Correction { .. });
        match row.outcome {
            RowOutcome::Rejected => return self.refused += 1,
            RowOutcome::Duplicate | RowOutcome::Stale => return self.repeated += 1,
            RowOutcome::Held => return self.held += 1,
            // No feed of the demo brings lines of the mapping table.
            RowOutcome::Mapped => return self.open += 1,
            RowOutcome::Correction { .. } => self.corrections += 1,
            RowOutcome::New { .. } => row.met.into_iter().for_each(|met| self.records.add(met)),
        }
        let is = |wanted| row.delivery.iter().any(|(_, state)| *state == wanted);
        // A refused version stays refused when a correction follows it.
        if row.verdict == Verdict::Reject || is(ItemState::Refused) {
            self.refused_by_platform += 1;
            return;
        }
        match row.met.filter(|_| is(ItemState::Done) || overtaken(&row.delivery)) {
            Some(met) => {
                self.accepted += 1;
                self.corrected += u64::from(correction);
                self.clocks.add(met);
            }
            None => self.open += 1,
        }
    }

    fn unaccounted(&self) -> u64 {
        self.sent.abs_diff(self.received) + self.open
    }

    fn json(&self) -> Value {
        let (c, clocks) = (&self.counters, &self.clocks);
        json!({
            "id": self.id,
            "agency": self.agency,
            "received": self.received,
            "refused": self.refused + self.refused_by_platform,
            "accepted": self.accepted,
            "refused_by_platform": self.refused_by_platform,
            "corrected": self.corrected,
            "repeated": self.repeated,
            "held": self.held,
            "unaccounted": self.unaccounted(),
            "duplicate_messages": c.duplicate_messages,
            "on_time_pledged": clocks.on_time_pledged,
            "on_time_statutory": clocks.on_time_statutory,
            "late": clocks.late(),
            "late_by": {
                "agency": clocks.late_agency, "refusal": clocks.late_refusal,
                "gateway": clocks.late_gateway, "platform": clocks.late_platform,
            },
            "retried": c.retried,
        })
    }
}

impl Tally {
    /// Reads every verdict of every message; `sent` are the rows generated by feed.
    pub(super) fn take(
        store: &Store,
        sent: &BTreeMap<&'static str, u64>,
        ledger: &[LedgerRow],
    ) -> Result<Self, StoreError> {
        let status = store.status()?;
        let mut tally = Self::default();
        for agency in AGENCIES {
            let mut feed = FeedTally {
                id: agency.feed,
                agency: agency.name,
                sent: sent.get(agency.feed).copied().unwrap_or_default(),
                ..FeedTally::default()
            };
            if let Ok(id) = FeedId::new(agency.feed) {
                feed.counters = status.feeds.get(&id).cloned().unwrap_or_default();
                count(store, &id, &mut feed)?;
            }
            tally.feeds.push(feed);
        }
        tally.differing = differing(store, ledger, &tally.feeds)?;
        Ok(tally)
    }

    /// Rows nobody can say the end of; 0 is what the demo proves.
    pub(super) fn unaccounted(&self) -> u64 {
        self.sum(FeedTally::unaccounted) + self.differing
    }

    /// Feeds whose account does not add up; none is what the demo proves.
    pub(super) fn unbalanced(&self) -> Vec<&'static str> {
        self.feeds.iter().filter(|feed| !feed.balances()).map(|feed| feed.id).collect()
    }

    /// A sum over the feeds.
    pub(super) fn sum(&self, of: impl Fn(&FeedTally) -> u64) -> u64 {
        self.feeds.iter().map(of).sum()
    }

    /// The last line of `--json`. Counts are rows, but for `retried` (attempts beyond a record's
    /// first) and `duplicate_messages`. `refused` counts both the rules' refusals and the
    /// platform's. When nothing is unaccounted, over all and in every feed:
    ///
    /// - `received = accepted + refused + repeated + held`;
    /// - `accepted = on_time_statutory + late`: an accepted row counts by the standing of its
    ///   record, so that a correction's row (`corrected`) is as timely as what it corrects.
    pub(super) fn json(&self) -> Value {
        json!({
            "received": self.sum(|f| f.received),
            "refused": self.sum(|f| f.refused + f.refused_by_platform),
            "accepted": self.sum(|f| f.accepted),
            "corrected": self.sum(|f| f.corrected),
            "repeated": self.sum(|f| f.repeated),
            "held": self.sum(|f| f.held),
            "unaccounted": self.unaccounted(),
            "differs_from_platform": self.differing,
            "on_time_pledged": self.sum(|f| f.clocks.on_time_pledged),
            "on_time_statutory": self.sum(|f| f.clocks.on_time_statutory),
            "late": self.sum(|f| f.clocks.late()),
            "retried": self.sum(|f| f.counters.retried),
            "feeds": self.feeds.iter().map(FeedTally::json).collect::<Vec<_>>(),
        })
    }
}

fn count(store: &Store, id: &FeedId, feed: &mut FeedTally) -> Result<(), StoreError> {
    const PAGE: usize = 1_000;
    for message in store.messages(Some(id), None, None, usize::MAX)? {
        let mut from = 0;
        loop {
            let rows = store.verdicts(message.id, from, PAGE)?;
            rows.iter().for_each(|row| feed.add(row));
            from += rows.len() as u64;
            if rows.len() < PAGE {
                break;
            }
        }
    }
    Ok(())
}

/// A version neither the current nor the accepted one: it went out, or waited, and a newer one took
/// its place. The ledger, compared by key, tells whether the platform has it.
fn overtaken(delivery: &[(xinqiao_core::model::TargetId, ItemState)]) -> bool {
    delivery.is_empty()
}

/// Versions in the store that the ledger lacks, rows in the ledger the store does not know, and
/// the difference in what was accepted and refused.
fn differing(store: &Store, ledger: &[LedgerRow], feeds: &[FeedTally]) -> Result<u64, StoreError> {
    let mut known: std::collections::BTreeSet<&str> =
        ledger.iter().map(|row| row.key.as_str()).collect();
    let mut missing = 0;
    let mut after = 0;
    loop {
        let changes = store.changes(after, 1_000)?;
        let Some(last) = changes.last() else { break };
        after = last.seq;
        for change in &changes {
            let key = format!("{}-{}", change.record, change.version);
            missing += u64::from(!known.remove(key.as_str()));
        }
    }
    let outcome = |outcome| ledger.iter().filter(|row| row.outcome == outcome).count() as u64;
    let accepted: u64 = feeds.iter().map(|f| f.accepted).sum();
    let refused: u64 = feeds.iter().map(|f| f.refused_by_platform).sum();
    let counts = accepted
        .abs_diff(outcome(Outcome::Accepted))
        .max(refused.abs_diff(outcome(Outcome::Refused)));
    Ok(missing.max(counts) + known.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xinqiao_core::model::TargetId;

    fn row(outcome: RowOutcome, state: Option<ItemState>, met: Option<Met>) -> RowVerdictView {
        let delivery = state.map(|state| (TargetId::new("city").unwrap(), state));
        RowVerdictView {
            row: 2,
            document: None,
            verdict: Verdict::Accept,
            findings: Vec::new(),
            outcome,
            delivery: delivery.into_iter().collect(),
            met,
        }
    }

    #[test]
    fn accepted_rows_are_on_time_or_late_by_their_records_standing() {
        let in_time = Some(Met { pledged: false, statutory: true, late: None });
        let late =
            Some(Met { pledged: false, statutory: false, late: Some(LateOwner::AgencyArrival) });
        let (new, done) = (RowOutcome::New { seq: 1 }, Some(ItemState::Done));
        let correction = RowOutcome::Correction { seq: 2, version: 2 };
        let mut feed = FeedTally::default();
        for row in [
            row(new, None, in_time),
            row(correction, done, in_time),
            row(new, done, late),
            row(new, Some(ItemState::Refused), None),
            row(RowOutcome::Rejected, None, None),
            row(RowOutcome::Stale, done, in_time),
        ] {
            feed.add(&row);
        }
        assert_eq!((feed.received, feed.accepted, feed.corrected, feed.open), (6, 3, 1, 0));
        assert_eq!((feed.clocks.on_time_statutory, feed.clocks.late()), (2, 1));
        feed.counters = FeedCounters {
            rows: 6,
            rejected: 1,
            repeated: 1,
            committed: 4,
            corrections: 1,
            accepted: 2,
            on_time_statutory: 1,
            late_agency: 1,
            ..FeedCounters::default()
        };
        assert!(feed.balances());
        // The error this guards against: records counted where rows are told.
        feed.clocks = feed.records;
        assert!(!feed.balances());
        feed.clocks.on_time_statutory += 1;
        assert!(feed.balances());
        feed.counters.corrections = 0;
        assert!(!feed.balances(), "the store says otherwise");
    }

    #[test]
    fn a_version_nobody_took_is_open_however_it_was_overtaken() {
        let mut feed = FeedTally::default();
        feed.add(&row(RowOutcome::New { seq: 1 }, None, None));
        feed.add(&row(RowOutcome::New { seq: 2 }, Some(ItemState::Dead), None));
        assert_eq!((feed.accepted, feed.open), (0, 2));
    }
}
