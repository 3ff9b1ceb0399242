//! Random histories against a model of two pages: records of several agencies for several targets,
//! items, leases, acts, restarts, crashes, and a clock that jumps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const RECORDS: [&str; 3] = ["1", "2", "3"];
const TARGETS: [&str; 3] = ["platform", "province", "ministry"];
/// Feeds and whose they are; any may correct what another has sent.
const FEEDS: [(&str, &str); 2] = [("f-1", "scjg"), ("f-2", "sthj")];

#[derive(Debug, Clone)]
enum Step {
    /// By which feed, record, content, withdraw, how many targets.
    Commit(usize, usize, u8, bool, usize),
    Lease(usize, usize),
    /// Which token ever given out, and how it ends.
    Settle(usize, u8),
    /// Which token ever given out.
    Extend(usize),
    Act(u64, QueueAct),
    Advance(u64),
    /// The clock jumps back.
    Back(u64),
    /// The agency is told of so many messages.
    Tell(usize),
    Reopen,
    /// What lies on the disk at this moment is opened elsewhere; nothing is closed before.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let act = prop_oneof![
        Just(QueueAct::Retry),
        Just(QueueAct::Hold),
        Just(QueueAct::Release),
        Just(QueueAct::Drop)
    ];
    prop_oneof![
        4 => (0..2usize, 0..3usize, 0..4u8, any::<bool>(), 1..4usize)
            .prop_map(|(f, r, c, w, t)| Step::Commit(f, r, c, w, t)),
        4 => (0..3usize, 1..3usize).prop_map(|(t, n)| Step::Lease(t, n)),
        5 => (0..40usize, 0..5u8).prop_map(|(n, e)| Step::Settle(n, e)),
        2 => (0..40usize).prop_map(Step::Extend),
        2 => (1..10u64, act).prop_map(|(id, act)| Step::Act(id, act)),
        2 => prop_oneof![Just(LEASE / 2), Just(LEASE), Just(3 * DAY)].prop_map(Step::Advance),
        1 => prop_oneof![Just(LEASE / 2), Just(2 * LEASE)].prop_map(Step::Back),
        2 => (1..4usize).prop_map(Step::Tell),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
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
    /// What the clock said last, and the targets whose waiting items are due since it jumped back.
    seen: u64,
    jumped: BTreeSet<usize>,
    /// Contents of each record's versions.
    records: BTreeMap<usize, Vec<(u8, bool)>>,
    /// The feeds they came by.
    feeds: BTreeMap<usize, Vec<usize>>,
    items: BTreeMap<u64, Item>,
    seq: u64,
    /// Messages that each version of a record came in.
    places: BTreeMap<(usize, usize), Vec<u64>>,
    /// Messages not told of yet: as a whole, or their only row.
    untold: BTreeSet<(u64, bool)>,
}

impl Model {
    fn commit(
        &mut self,
        feed: usize,
        record: usize,
        content: (u8, bool),
        targets: usize,
    ) -> RowOutcome {
        let versions = self.records.entry(record).or_default();
        if versions.last() == Some(&content) {
            return RowOutcome::Duplicate;
        }
        if versions.contains(&content) {
            return RowOutcome::Stale;
        }
        versions.push(content);
        self.feeds.entry(record).or_default().push(feed);
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

    /// The store looks at the clock.
    fn look(&mut self) {
        if self.now + 60_000 < self.seen {
            self.jumped = self.items.values().map(|item| item.target).collect();
        }
        self.seen = self.now;
    }

    /// Whoever held leases is gone.
    fn restart(&mut self) {
        (self.seen, self.jumped) = (0, BTreeSet::new());
        let leased = |(id, item): (&u64, &Item)| (item.state == ItemState::Leased).then_some(*id);
        for id in self.items.iter().filter_map(leased).collect::<Vec<_>>() {
            self.give_back(id);
        }
    }

    fn lease(&mut self, target: usize, limit: usize) -> Vec<(LeaseToken, usize, u32)> {
        let jumped = self.jumped.remove(&target);
        for id in self.items.keys().copied().collect::<Vec<_>>() {
            let (item, now) = (&self.items[&id], self.now);
            if item.target != target {
                continue;
            }
            match item.state {
                ItemState::Leased if item.until <= now => self.give_back(id),
                ItemState::Waiting if jumped || item.due <= now => {
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

    fn extend(&mut self, token: LeaseToken) {
        let until = self.now + LEASE;
        if let Some(item) = self.items.get_mut(&token.id)
            && item.state == ItemState::Leased
            && item.fence == token.fence
        {
            item.until = until;
        }
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
        use ItemState::*;
        item.state = [Done, Refused, Waiting, Dead, Dead][usize::from(end)];
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

fn content(record: usize, text: u8, withdrawn: bool, targets: usize) -> NewVersion {
    let operation = if withdrawn { Operation::Withdraw } else { Operation::Upsert };
    let targets = &TARGETS[..targets];
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
        3 => SettledAs::Dead { error: "用尽".to_owned() },
        _ => SettledAs::Doubtful { error: "不明".to_owned() },
    }
}

fn compare(bench: &Bench, model: &Model) -> Result<(), TestCaseError> {
    for (id, item) in &model.items {
        let view = bench.store().item(*id).unwrap();
        prop_assert_eq!(
            (view.state, view.version as usize, view.attempts),
            (item.state, item.version, item.attempts)
        );
        let (_, agency) = FEEDS[model.feeds[&item.record][item.version - 1]];
        prop_assert_eq!(view.agency.as_str(), agency);
    }
    let mut untold = BTreeSet::new();
    for feed in FEEDS.map(|(name, _)| feed(name)) {
        for pending in bench.store().feedback_pending(&feed, None, usize::MAX).unwrap() {
            let rows = bench.store().feedback_rows(&feed, pending.message, 0, 10).unwrap();
            untold.extend(pending.whole.map(|_| (pending.message, true)));
            untold.extend(rows.iter().map(|(index, _)| (pending.message, *index > 0)));
        }
    }
    prop_assert_eq!(&untold, &model.untold);
    prop_assert_eq!(bench.store().status().unwrap().seq, model.seq);
    prop_assert_eq!(bench.store().changes(0, usize::MAX).unwrap().len() as u64, model.seq);
    Ok(())
}

/// Commits one row in a message of its own, by a feed.
fn put(bench: &Bench, by: usize, body: &str, version: NewVersion) -> (u64, RowOutcome) {
    let (name, agency) = (feed(FEEDS[by].0), AgencyId::new(FEEDS[by].1).unwrap());
    let came = bench.run(bench.store().receive(&name, &agency, arrival(body.as_bytes()), 1 << 20));
    let message = came.unwrap().message;
    let done = bench.run(bench.store().commit_rows(vec![chunk(message, vec![entry(version)])]));
    (message, done.unwrap()[0].rows[0])
}

/// As many as `PROPTEST_CASES` says, or few enough for every build.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_store_behaves_as_its_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new();
        let feeds = FEEDS.map(|(name, _)| feed(name));
        bench.run(bench.store().set_feedback(feeds.clone().into())).unwrap();
        let mut model = Model { now: NOON, ..Model::default() };
        let mut tokens: Vec<LeaseToken> = Vec::new();
        for (n, step) in steps.into_iter().enumerate() {
            if !matches!(step, Step::Advance(_) | Step::Back(_) | Step::Tell(_) | Step::Reopen | Step::Crash) {
                model.look();
            }
            match step {
                Step::Commit(by, record, text, withdrawn, targets) => {
                    let new = content(record, text, withdrawn, targets);
                    let ours = model.commit(by, record, (text, withdrawn), targets);
                    let (message, outcome) = put(&bench, by, &format!("m{n}"), new);
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
                Step::Extend(which) => {
                    if let Some(token) = tokens.iter().rev().nth(which % tokens.len().max(1)) {
                        model.extend(*token);
                        bench.run(bench.store().extend(vec![*token], LEASE)).unwrap();
                    }
                }
                Step::Act(id, act) => {
                    prop_assert_eq!(bench.act(id, act).is_ok(), model.act(id, act));
                }
                Step::Advance(millis) => {
                    model.now += millis;
                    bench.clock.advance(millis);
                }
                Step::Back(millis) => {
                    model.now -= millis;
                    bench.clock.0.fetch_sub(millis, Ordering::SeqCst);
                }
                Step::Tell(count) => {
                    let store = bench.store();
                    for feed in &feeds {
                        for told in store.feedback_pending(feed, None, count).unwrap() {
                            let (message, mark) = (told.message, told.mark);
                            bench.run(store.feedback_given(feed, message, mark)).unwrap();
                            model.look();
                            model.untold.retain(|(untold, _)| *untold != message);
                        }
                    }
                }
                Step::Reopen => {
                    bench.reopen();
                    model.restart();
                }
                Step::Crash => {
                    bench.crash();
                    model.restart();
                    prop_assert_eq!(bench.store().fsck().unwrap(), Vec::<String>::new());
                }
            }
            compare(&bench, &model)?;
        }
        prop_assert_eq!(bench.store().fsck().unwrap(), Vec::<String>::new());
    }
}
