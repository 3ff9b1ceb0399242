//! The mapping table and the rows that wait for it: single acts, then random histories against a
//! model, in which the table grows and shrinks, rows are looked at again, and the process dies.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use xinqiao_core::catalogue::Resolution;
use xinqiao_core::ident::{LegacyCode, LegacyKind, UsccEntry};
use xinqiao_core::model::Verdict;

use super::*;

const CODES: [&str; 3] = ["411702000001236", "411700000000015", "4117020000123"];
const USCCS: [&str; 2] = ["91411702999999904X", "92411721999999904B"];
const DAY_OF: time::Date = date!(2026 - 11 - 20);
const TRIES: u32 = 1_000_000;

fn code(at: usize) -> LegacyCode {
    LegacyCode::new(LegacyKind::RegNo, CODES[at]).unwrap()
}

fn line(at: usize, uscc: usize, operation: Operation) -> TableLine {
    let entry = UsccEntry::new(code(at), USCCS[uscc], (None, None), "测试登记机关").unwrap();
    TableLine { entry, operation }
}

fn load(bench: &Bench, at: usize, uscc: usize) -> Loaded {
    bench.run(bench.store().load_uscc(vec![line(at, uscc, Operation::Upsert)])).unwrap()
}

fn withdraw_line(bench: &Bench, at: usize, uscc: usize) -> Loaded {
    bench.run(bench.store().load_uscc(vec![line(at, uscc, Operation::Withdraw)])).unwrap()
}

/// What a worker makes of a row that has only a code.
fn judged(store: &Store, document: &str, at: usize) -> RowEntry {
    let revision = store.uscc_revision().unwrap();
    let found = store.look_up_uscc(&code(at), DAY_OF).unwrap();
    let hold = |ambiguous| RowEntry {
        record: None,
        legacy: Legacy::Held(Hold { wanted: vec![code(at)], ambiguous, revision }),
        ..entry(upsert(document, ""))
    };
    match found {
        Resolution::One { uscc, .. } => entry(upsert(document, &uscc)),
        Resolution::None => hold(false),
        Resolution::Many => hold(true),
    }
}

/// Looks at everything due until nothing is; how many rows got another end than being held.
fn drain(bench: &Bench, rows: &BTreeMap<(u64, u64), (String, usize)>) -> usize {
    let mut settled = 0;
    while let Some(due) = bench.run(bench.store().take_rerun(2, TRIES)).unwrap() {
        let id = due.message.id;
        let again = |index: &u64| {
            let (document, at) = &rows[&(id, *index)];
            (*index, judged(bench.store(), document, *at))
        };
        let again = due.rows.iter().map(again).collect();
        let ends = bench.run(bench.store().commit_rerun(id, again, Vec::new())).unwrap();
        settled += ends.iter().filter(|end| **end != RowOutcome::Held).count();
    }
    settled
}

/// Message and index of a row, its document and which code it has.
type Known = ((u64, u64), (String, usize));

/// A message of rows with these codes, in two blocks.
fn receive(bench: &Bench, name: &str, codes: &[usize]) -> Vec<Known> {
    let id = bench.receive("f-1", name.as_bytes()).message;
    let rows: Vec<_> = (0u64..)
        .zip(codes)
        .map(|(index, at)| ((id, index), (format!("{name}-{index}"), *at)))
        .collect();
    let of = |rows: &[Known]| {
        rows.iter().map(|(_, (document, at))| judged(bench.store(), document, *at)).collect()
    };
    let (head, tail) = rows.split_at(rows.len() / 2);
    let first = RowChunk { message: id, first: 0, rows: of(head), finish: None };
    let second = RowChunk { first: head.len() as u64, ..chunk(id, of(tail)) };
    bench.run(bench.store().commit_rows(vec![first])).unwrap();
    bench.run(bench.store().commit_rows(vec![second])).unwrap();
    rows
}

#[test]
fn a_held_row_waits_is_told_and_goes_on_when_the_table_grows() {
    let mut bench = Bench::new();
    let rows: BTreeMap<_, _> = receive(&bench, "甲", &[0, 1, 0]).into_iter().collect();
    let message = rows.keys().next().unwrap().0;
    let told = bench.store().verdicts(message, 0, 10).unwrap();
    assert!(told.iter().all(|row| row.outcome == RowOutcome::Held));
    let counts = bench.store().held().unwrap();
    assert_eq!((counts[0].rows, &*counts[0].reason), (3, "uscc.unresolved"));
    let c = bench.counters();
    assert_eq!((c.rows, c.held, c.committed, c.open()), (3, 3, 0, 0));
    bench.sound();
    assert_eq!(drain(&bench, &rows), 0, "nothing is due");

    bench.clock.advance(3 * DAY);
    assert_eq!(load(&bench, 0, 0), Loaded { added: 1, ..Loaded::default() });
    assert_eq!(load(&bench, 0, 0), Loaded { known: 1, ..Loaded::default() });
    bench.reopen();
    bench.sound();
    assert_eq!(drain(&bench, &rows), 2);
    bench.sound();
    let item = bench.store().item(1).unwrap();
    assert_eq!(item.milestones.received, Some(Timestamp(NOON)), "it came when it came");
    assert_eq!(item.milestones.committed, Some(Timestamp(NOON + 3 * DAY)));
    assert_eq!(item.deadlines.decided, DAY_OF);
    assert_eq!(item.milestones.refused, Some(Timestamp(NOON)), "late for that, it is the agency's");

    // Contradicted: the last row is held for another reason, until that line is taken back.
    assert_eq!(load(&bench, 1, 0).ambiguous, 0);
    assert_eq!(load(&bench, 1, 1).ambiguous, 1);
    assert_eq!(drain(&bench, &rows), 0);
    assert_eq!(bench.store().held().unwrap()[0].reason, "uscc.ambiguous");
    assert_eq!(bench.store().uscc_of(LegacyKind::RegNo, CODES[1]).unwrap().len(), 2);
    assert_eq!(withdraw_line(&bench, 1, 1).withdrawn, 1);
    assert_eq!(withdraw_line(&bench, 1, 1).known, 1);
    assert_eq!(drain(&bench, &rows), 1);
    let c = bench.counters();
    assert_eq!((c.rows, c.held, c.committed, c.open()), (3, 0, 3, 3));
    assert!(bench.store().held().unwrap().is_empty());
    bench.sound();
}

#[test]
fn lines_have_their_days_and_pages() {
    let bench = Bench::new();
    let entry = |uscc, from, to| {
        let entry = UsccEntry::new(code(0), uscc, (from, to), "").unwrap();
        TableLine { entry, operation: Operation::Upsert }
    };
    let (last, next) = (date!(2017 - 12 - 31), date!(2018 - 01 - 01));
    let lines = vec![entry(USCCS[0], None, Some(last)), entry(USCCS[1], Some(next), None)];
    let loaded = bench.run(bench.store().load_uscc(lines)).unwrap();
    assert_eq!((loaded.added, loaded.ambiguous), (2, 0));
    for (day, whose) in [(last, USCCS[0]), (next, USCCS[1])] {
        let found = bench.store().look_up_uscc(&code(0), day).unwrap();
        assert!(matches!(&found, Resolution::One { uscc, .. } if uscc == whose), "{found:?}");
    }
    assert_eq!(bench.store().look_up_uscc(&code(1), last).unwrap(), Resolution::None);
    let first = bench.store().uscc_lines(None, 1).unwrap();
    assert_eq!((first.lines.len(), first.total), (1, 2));
    let next = first.next.unwrap();
    let mut after = [0; 32];
    for (byte, at) in after.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(next.get(at..at + 2).unwrap(), 16).unwrap();
    }
    let second = bench.store().uscc_lines(Some(after), 1).unwrap();
    assert_eq!((second.lines.len(), second.next), (1, None));
    assert_ne!(second.lines, first.lines);
}

#[test]
fn a_line_is_closed_by_the_same_line_with_an_end() {
    let bench = Bench::new();
    let begun = date!(2015 - 10 - 01);
    let line = |uscc, from, to| {
        let entry = UsccEntry::new(code(0), uscc, (Some(from), to), "").unwrap();
        TableLine { entry, operation: Operation::Upsert }
    };
    let (last, next) = (date!(2020 - 12 - 31), date!(2021 - 01 - 01));
    for lines in [
        vec![line(USCCS[0], begun, None)],
        vec![line(USCCS[0], begun, Some(last)), line(USCCS[1], next, None)],
    ] {
        let loaded = bench.run(bench.store().load_uscc(lines)).unwrap();
        assert_eq!(loaded.ambiguous, 0);
    }
    for (day, whose) in [(last, USCCS[0]), (next, USCCS[1])] {
        let found = bench.store().look_up_uscc(&code(0), day).unwrap();
        assert!(matches!(&found, Resolution::One { uscc, .. } if uscc == whose), "{found:?}");
    }
    assert_eq!(bench.store().uscc_lines(None, 9).unwrap().total, 2);
    bench.sound();
}

#[test]
fn another_row_does_not_take_the_place_of_a_held_one() {
    let bench = Bench::new();
    let rows: BTreeMap<_, _> = receive(&bench, "甲", &[0]).into_iter().collect();
    let (id, index) = *rows.keys().next().unwrap();
    load(&bench, 0, 0);
    assert!(bench.run(bench.store().take_rerun(1, TRIES)).unwrap().is_some());
    // The mapping was changed meanwhile: this index is another row's now.
    let other = RowEntry { row: 3, ..judged(bench.store(), "乙", 0) };
    let ends = bench.run(bench.store().commit_rerun(id, vec![(index, other)], Vec::new())).unwrap();
    assert!(ends.is_empty());
    assert_eq!(bench.store().verdicts(id, 0, 1).unwrap()[0].outcome, RowOutcome::Held);
    assert!(bench.run(bench.store().take_rerun(1, TRIES)).unwrap().is_none(), "not for ever");
    bench.sound();
}

#[test]
fn what_came_later_is_not_undone_by_a_row_looked_at_again() {
    let bench = Bench::new();
    let rows: BTreeMap<_, _> = receive(&bench, "甲", &[0]).into_iter().collect();
    // Corrected, then withdrawn, by rows that had the code.
    bench.put("2", upsert("甲-0", "更正"));
    bench.put("3", withdraw("甲-0", "撤销"));
    load(&bench, 0, 0);
    assert_eq!(drain(&bench, &rows), 1);
    let (message, _) = *rows.keys().next().unwrap();
    assert_eq!(bench.store().verdicts(message, 0, 1).unwrap()[0].outcome, RowOutcome::Stale);
    let digest = bench.store().record_digest(&key("甲-0"));
    assert!(bench.store().record(&digest).unwrap().withdrawn);
    bench.sound();
}

#[test]
fn a_record_that_came_before_its_code_did_is_the_same_record() {
    let bench = Bench::new();
    let mut first = upsert("1", "a");
    first.key.subject = Subject::Code("GS:411702000001236".to_owned());
    let former = first.key.clone();
    assert!(matches!(bench.put("1", first).1, RowOutcome::New { .. }));
    let mut second = upsert("1", "b");
    second.key.subject = Subject::Code(USCCS[0].to_owned());
    for (body, corrects) in [("2", true), ("3", false)] {
        let message = bench.receive("f-1", body.as_bytes()).message;
        let new = upsert("1", "b");
        let new = NewVersion { key: second.key.clone(), ..new };
        let row = RowEntry { legacy: Legacy::Formerly(former.clone()), ..entry(new) };
        let done = bench.run(bench.store().commit_rows(vec![chunk(message, vec![row])])).unwrap();
        let corrected = matches!(done[0].rows[0], RowOutcome::Correction { version: 2, .. });
        assert_eq!(corrected, corrects, "{done:?}");
    }
    assert_eq!(bench.store().status().unwrap().records, 1);
    bench.sound();
}

#[test]
fn a_row_that_brings_the_process_down_is_left_held_and_can_be_had_again() {
    let mut bench = Bench::new();
    let rows: BTreeMap<_, _> = receive(&bench, "甲", &[0]).into_iter().collect();
    load(&bench, 0, 0);
    for _ in 0..2 {
        assert!(bench.run(bench.store().take_rerun(9, 2)).unwrap().is_some());
        bench.reopen();
    }
    assert!(bench.run(bench.store().take_rerun(9, 2)).unwrap().is_none());
    bench.sound();
    assert_eq!(bench.run(bench.store().rerun_all(Some(feed("other")))).unwrap(), 0);
    assert_eq!(bench.run(bench.store().rerun_all(None)).unwrap(), 1);
    // A fault that is not the row's costs no attempt.
    for _ in 0..4 {
        let due = bench.run(bench.store().take_rerun(9, 2)).unwrap().unwrap();
        bench.run(bench.store().put_back_rerun(due.message.id, due.rows)).unwrap();
    }
    assert_eq!(drain(&bench, &rows), 1);
    bench.sound();
}

#[test]
fn counters_of_format_3_read_and_outcomes_keep_their_places() {
    #[derive(serde::Serialize)]
    struct Of3([u64; 20], Option<Timestamp>);
    let mut old = [0; 20];
    (old[0], old[19]) = (300, 7);
    let bytes = crate::encode::encode(&Of3(old, Some(Timestamp(NOON)))).unwrap();
    let read = crate::encode::feed_counters(&bytes).unwrap();
    let wanted = FeedCounters {
        messages: 300,
        dropped: 7,
        last_received: Some(Timestamp(NOON)),
        ..FeedCounters::default()
    };
    assert_eq!(read, wanted);
    let new = FeedCounters { held: 200, mapped: 3, ..wanted };
    let bytes = crate::encode::encode(&new).unwrap();
    assert_eq!(crate::encode::feed_counters(&bytes).unwrap(), new);
    let outcomes = [RowOutcome::Rejected, RowOutcome::Duplicate, RowOutcome::Stale];
    let places = outcomes.map(|outcome| postcard::to_allocvec(&outcome).unwrap());
    assert_eq!(places, [[0], [3], [4]]);
}

#[test]
fn a_store_of_format_3_opens() {
    let mut bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    let shared = Arc::clone(&bench.store().shared);
    bench
        .run(shared.committer().unwrap().commit(9, |tx| {
            tx.dirty = true;
            tx.tables.meta.put(b"format", &3u32)
        }))
        .unwrap();
    drop(shared);
    bench.reopen();
    assert_eq!(bench.counters().committed, 1);
    bench.sound();
}

#[test]
fn neither_codes_nor_lines_lie_readable_on_the_disk() {
    let mut bench = Bench::new();
    let rows: BTreeMap<_, _> = receive(&bench, "甲", &[0, 1, 2]).into_iter().collect();
    load(&bench, 0, 0);
    drain(&bench, &rows);
    bench.store = None;
    let disk = std::fs::read(bench.dir.path().join("store.redb")).unwrap();
    for text in CODES.iter().chain(&USCCS).chain(&["测试登记机关"]) {
        assert!(memchr::memmem::find(&disk, text.as_bytes()).is_none(), "{text}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Codes of a message's rows.
    Receive(Vec<usize>),
    /// A row judged before the table changes in its code, and committed after.
    Race(usize, usize),
    Load(usize, usize),
    Withdraw(usize, usize),
    /// Everything due, until nothing is.
    Drain,
    /// The process dies with rows in hand; what it did may have been committed or not.
    Die(bool),
    All,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..3usize, 1..5).prop_map(Step::Receive),
        2 => (0..3usize, 0..2usize).prop_map(|(at, uscc)| Step::Race(at, uscc)),
        3 => (0..3usize, 0..2usize).prop_map(|(at, uscc)| Step::Load(at, uscc)),
        2 => (0..3usize, 0..2usize).prop_map(|(at, uscc)| Step::Withdraw(at, uscc)),
        2 => Just(Step::Drain),
        2 => any::<bool>().prop_map(Step::Die),
        1 => Just(Step::All),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_row_is_lost_doubled_or_forgotten(steps in prop::collection::vec(step(), 1..40)) {
        let mut bench = Bench::new();
        let mut table: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut rows: BTreeMap<(u64, u64), (String, usize)> = BTreeMap::new();
        for (n, step) in steps.into_iter().chain([Step::Drain]).enumerate() {
            match step {
                Step::Receive(codes) => rows.extend(receive(&bench, &format!("m{n}"), &codes)),
                Step::Race(at, uscc) => {
                    let document = format!("m{n}-0");
                    let id = bench.receive("f-1", document.as_bytes()).message;
                    let row = judged(bench.store(), &document, at);
                    load(&bench, at, uscc);
                    table.insert((at, uscc));
                    bench.run(bench.store().commit_rows(vec![chunk(id, vec![row])])).unwrap();
                    rows.insert((id, 0), (document, at));
                }
                Step::Load(at, uscc) => {
                    let new = table.insert((at, uscc));
                    prop_assert_eq!(load(&bench, at, uscc).added, u64::from(new));
                }
                Step::Withdraw(at, uscc) => {
                    let was = table.remove(&(at, uscc));
                    prop_assert_eq!(withdraw_line(&bench, at, uscc).withdrawn, u64::from(was));
                }
                Step::Drain => drop(drain(&bench, &rows)),
                Step::Die(committed) => {
                    if let Some(due) = bench.run(bench.store().take_rerun(2, TRIES)).unwrap() {
                        let id = due.message.id;
                        let judge = |index: &u64| {
                            let (document, at) = &rows[&(id, *index)];
                            (*index, judged(bench.store(), document, *at))
                        };
                        if committed {
                            let again: Vec<_> = due.rows.iter().map(judge).collect();
                            bench.run(bench.store().commit_rerun(id, again, Vec::new())).unwrap();
                            // Its answer never came: the same once more changes nothing.
                            let again: Vec<_> = due.rows.iter().map(judge).collect();
                            let settled: Vec<_> = again.iter().map(|(_, row)| row.record.is_some()).collect();
                            let ends = bench.run(bench.store().commit_rerun(id, again, Vec::new())).unwrap();
                            prop_assert!(ends.iter().all(|end| *end == RowOutcome::Held));
                            prop_assert_eq!(ends.len(), settled.iter().filter(|done| !**done).count());
                        }
                    }
                    bench.reopen();
                }
                Step::All => {
                    let held: u64 = bench.store().held().unwrap().iter().map(|count| count.rows).sum();
                    prop_assert_eq!(bench.run(bench.store().rerun_all(None)).unwrap(), held);
                }
            }
        }
        let whose = |at: usize| table.iter().filter(|(code, _)| *code == at).count();
        let (mut held, mut ambiguous) = (0, 0);
        for ((message, index), (_, at)) in &rows {
            let row = &bench.store().verdicts(*message, *index, 1).unwrap()[0];
            if row.outcome == RowOutcome::Held {
                held += 1;
                ambiguous += u64::from(whose(*at) > 1);
                prop_assert_ne!(whose(*at), 1, "the table settles it, and nobody looked");
            } else {
                prop_assert!(matches!(row.outcome, RowOutcome::New { .. }), "{:?}", row.outcome);
                prop_assert_eq!(row.verdict, Verdict::Accept);
            }
        }
        let told = bench.store().held().unwrap();
        let of = |reason| told.iter().filter(|c| c.reason == reason).map(|c| c.rows).sum::<u64>();
        prop_assert_eq!(of("uscc.ambiguous"), ambiguous);
        prop_assert_eq!(of("uscc.unresolved"), held - ambiguous);
        let status = bench.store().status().unwrap();
        prop_assert_eq!(status.records, rows.len() as u64 - held);
        prop_assert_eq!(status.feeds.values().map(|feed| feed.held).sum::<u64>(), held);
        prop_assert_eq!(bench.store().fsck().unwrap(), Vec::<String>::new());
    }
}
