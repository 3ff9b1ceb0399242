//! Random histories against a model a page long: records, items, leases, acts, restarts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const RECORDS: [&str; 3] = ["1", "2", "3"];
const TARGETS: [&str; 2] = ["platform", "province"];

#[derive(Debug, Clone)]
enum Step {
    /// Record, content, withdraw, second target too.
    Commit(usize, u8, bool, bool),
    Lease(usize, usize),
    /// Which token ever given out, and how it ends.
    Settle(usize, u8),
    Act(u64, QueueAct),
    Advance(u64),
    /// The agency is told of so many messages.
    Tell(usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        Just(QueueAct::Retry),
        Just(QueueAct::Hold),
        Just(QueueAct::Release),
        Just(QueueAct::Drop)
    ];
    prop_oneof![
        4 => (0..3usize, 0..4u8, any::<bool>(), any::<bool>())
            .prop_map(|(r, c, w, t)| Step::Commit(r, c, w, t)),
        4 => (0..2usize, 1..3usize).prop_map(|(t, n)| Step::Lease(t, n)),
        5 => (0..40usize, 0..4u8).prop_map(|(n, e)| Step::Settle(n, e)),
        2 => (1..7u64, act).prop_map(|(id, act)| Step::Act(id, act)),
        2 => prop_oneof![Just(LEASE / 2), Just(LEASE), Just(3 * DAY)].prop_map(Step::Advance),
        2 => (1..4usize).prop_map(Step::Tell),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug)]
struct Item {
    record: usize,
    target: usize,
    state: ItemState,
    version: usize,
    attempts: u32,
    fence: u64,
    until: u64,
    due: u64,
    delivered: bool,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// Contents of each record's versions.
    records: BTreeMap<usize, Vec<(u8, bool)>>,
    items: BTreeMap<u64, Item>,
    seq: u64,
    /// Messages that each version of a record came in.
    places: BTreeMap<(usize, usize), Vec<u64>>,
    /// Messages not told of yet: as a whole, or their only row.
    untold: BTreeSet<(u64, bool)>,
}

impl Model {
    fn commit(&mut self, record: usize, content: (u8, bool), targets: usize) -> RowOutcome {
        let versions = self.records.entry(record).or_default();
        if versions.last() == Some(&content) {
            return RowOutcome::Duplicate;
        }
        if versions.contains(&content) {
            return RowOutcome::Stale;
        }
        versions.push(content);
        let version = versions.len();
        self.seq += 1;
        for item in self.items.values_mut().filter(|item| item.record == record) {
            match item.state {
                ItemState::Leased => continue,
                ItemState::Done | ItemState::Refused | ItemState::Dead => item.reset(),
                ItemState::Dropped if item.delivered => item.reset(),
                _ => {}
            }
            item.version = version;
        }
        for target in 0..targets {
            if self.items.values().all(|i| (i.record, i.target) != (record, target)) {
                let id = self.items.len() as u64 + 1;
                let state = ItemState::Ready;
                let item = Item {
                    record,
                    target,
                    state,
                    version,
                    attempts: 0,
                    fence: 0,
                    until: 0,
                    due: 0,
                    delivered: false,
                };
                self.items.insert(id, item);
            }
        }
        let seq = self.seq;
        match version {
            1 => RowOutcome::New { seq },
            _ => RowOutcome::Correction { seq, version: version as u32 },
        }
    }

    fn came(&mut self, record: usize, content: (u8, bool), message: u64) {
        let index = self.records[&record].iter().rposition(|known| *known == content).unwrap();
        self.places.entry((record, index + 1)).or_default().push(message);
        self.untold.insert((message, true));
    }

    /// The version that an item carries has come to stand otherwise.
    fn changed(&mut self, id: u64) {
        let item = &self.items[&id];
        let messages = &self.places[&(item.record, item.version)];
        self.untold.extend(messages.iter().map(|message| (*message, false)));
    }

    fn give_back(&mut self, id: u64) {
        let item = self.items.get_mut(&id).unwrap();
        let newest = self.records[&item.record].len();
        item.state = ItemState::Ready;
        if newest != item.version {
            item.version = newest;
            item.attempts = 0;
        }
    }

    fn lease(&mut self, target: usize, limit: usize) -> Vec<(LeaseToken, usize, u32)> {
        for id in self.items.keys().copied().collect::<Vec<_>>() {
            let (item, now) = (&self.items[&id], self.now);
            if item.target != target {
                continue;
            }
            match item.state {
                ItemState::Leased if item.until <= now => self.give_back(id),
                ItemState::Waiting if item.due <= now => {
                    self.items.get_mut(&id).unwrap().state = ItemState::Ready;
                }
                _ => {}
            }
        }
        let until = self.now + LEASE;
        let ready = |item: &&mut Item| item.target == target && item.state == ItemState::Ready;
        let mut first: Vec<_> = self.items.iter_mut().filter(|(_, item)| ready(item)).collect();
        // Deadlines differ by record: a later one is due sooner.
        first.sort_by_key(|(id, item)| (std::cmp::Reverse(item.record), **id));
        first
            .into_iter()
            .take(limit)
            .map(|(id, item)| {
                item.state = ItemState::Leased;
                item.attempts += 1;
                item.fence += 1;
                item.until = until;
                (LeaseToken { id: *id, fence: item.fence }, item.version, item.attempts)
            })
            .collect()
    }

    fn settle(&mut self, token: LeaseToken, end: u8) -> bool {
        let Some(item) = self.items.get_mut(&token.id) else { return false };
        if item.state != ItemState::Leased || item.fence != token.fence {
            return false;
        }
        if end != 2 {
            self.changed(token.id);
        }
        let Some(item) = self.items.get_mut(&token.id) else { return false };
        let newest = self.records[&item.record].len();
        item.delivered |= end == 0;
        item.due = self.now + LEASE / 2;
        item.state = [ItemState::Done, ItemState::Refused, ItemState::Waiting, ItemState::Dead]
            [usize::from(end)];
        if newest != item.version {
            item.reset();
            item.version = newest;
        }
        true
    }

    fn act(&mut self, id: u64, act: QueueAct) -> bool {
        use ItemState::*;
        let Some(was) = self.items.get(&id).map(|item| item.state) else { return false };
        let item = self.items.get_mut(&id).unwrap();
        let to = match (act, was) {
            (QueueAct::Retry, Dead | Waiting | Refused | Held) => {
                item.reset();
                Ready
            }
            (QueueAct::Hold, Ready | Waiting) => Held,
            (QueueAct::Release, Held) => Ready,
            (QueueAct::Drop, Ready | Waiting | Refused | Dead | Held) => Dropped,
            _ => return false,
        };
        item.state = to;
        if to == Dropped || matches!(was, Refused | Dead) {
            self.changed(id);
        }
        true
    }
}

impl Item {
    fn reset(&mut self) {
        self.state = ItemState::Ready;
        self.attempts = 0;
    }
}

fn content(record: usize, text: u8, withdrawn: bool, both: bool) -> NewVersion {
    let operation = if withdrawn { Operation::Withdraw } else { Operation::Upsert };
    let targets = if both { &TARGETS[..] } else { &TARGETS[..1] };
    let mut new = version(RECORDS[record], &text.to_string(), operation, targets);
    let days = time::Duration::days(record as i64);
    new.deadlines.pledged = date!(2026 - 11 - 27).saturating_sub(days);
    new
}

fn end(kind: u8, now: u64) -> SettledAs {
    match kind {
        0 => SettledAs::Accepted,
        1 => refused(),
        2 => SettledAs::Retry { due: Timestamp(now + LEASE / 2), error: "忙".to_owned() },
        _ => SettledAs::Dead { error: "用尽".to_owned() },
    }
}

fn compare(bench: &Bench, model: &Model) -> Result<(), TestCaseError> {
    for (id, item) in &model.items {
        let view = bench.store().item(*id).unwrap();
        prop_assert_eq!(
            (view.state, view.version as usize, view.attempts),
            (item.state, item.version, item.attempts)
        );
    }
    let mut untold = BTreeSet::new();
    for pending in bench.store().feedback_pending(&feed("f-1"), None, usize::MAX).unwrap() {
        let rows = bench.store().feedback_rows(&feed("f-1"), pending.message, 0, 10).unwrap();
        untold.extend(pending.whole.map(|_| (pending.message, true)));
        untold.extend(rows.iter().map(|(index, _)| (pending.message, *index > 0)));
    }
    prop_assert_eq!(&untold, &model.untold);
    prop_assert_eq!(bench.store().status().unwrap().seq, model.seq);
    prop_assert_eq!(bench.store().changes(0, usize::MAX).unwrap().len() as u64, model.seq);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_as_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        bench.run(bench.store().set_feedback([feed("f-1")].into())).unwrap();
        let mut model = Model { now: NOON, ..Model::default() };
        let mut tokens: Vec<LeaseToken> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Commit(record, text, withdrawn, both) => {
                    let new = content(record, text, withdrawn, both);
                    let ours = model.commit(record, (text, withdrawn), 1 + usize::from(both));
                    let (message, outcome) = bench.put(&format!("m{n}"), new);
                    prop_assert_eq!(outcome, ours);
                    model.came(record, (text, withdrawn), message);
                }
                Step::Lease(at, limit) => {
                    let leased =
                        bench.run(bench.store().lease(&target(TARGETS[at]), limit, LEASE)).unwrap();
                    let leased: Vec<_> =
                        leased.iter().map(|l| (l.token, l.version as usize, l.attempt)).collect();
                    let ours = model.lease(at, limit);
                    tokens.extend(ours.iter().map(|(token, ..)| *token));
                    prop_assert_eq!(leased, ours);
                }
                Step::Settle(which, kind) => {
                    if let Some(token) = tokens.iter().rev().nth(which % tokens.len().max(1)) {
                        let ours = model.settle(*token, kind);
                        prop_assert_eq!(bench.settle(*token, end(kind, model.now)), ours);
                    }
                }
                Step::Act(id, act) => {
                    prop_assert_eq!(bench.act(id, act).is_ok(), model.act(id, act));
                }
                Step::Advance(millis) => {
                    model.now += millis;
                    bench.clock.advance(millis);
                }
                Step::Tell(count) => {
                    let store = bench.store();
                    for told in store.feedback_pending(&feed("f-1"), None, count).unwrap() {
                        let (message, mark) = (told.message, told.mark);
                        bench.run(store.feedback_given(&feed("f-1"), message, mark)).unwrap();
                        model.untold.retain(|(untold, _)| *untold != message);
                    }
                }
                Step::Reopen => {
                    bench.reopen();
                    for (id, item) in &model.items.iter().map(|(i, m)| (*i, m.state)).collect::<Vec<_>>() {
                        if *item == ItemState::Leased {
                            model.give_back(*id);
                        }
                    }
                }
            }
            compare(&bench, &model)?;
        }
        prop_assert_eq!(bench.store().fsck().unwrap(), Vec::<String>::new());
    }
}
