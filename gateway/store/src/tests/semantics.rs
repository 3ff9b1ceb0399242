//! What the contract promises, one promise a test.

use xinqiao_core::model::Verdict;

use super::*;

#[test]
fn the_same_bytes_get_the_original_receipt_and_the_cursor_moves() {
    let mut bench = Bench::new();
    let first = bench.receive("f-1", b"abc");
    bench.clock.advance(5);
    let second = bench.receive("f-1", b"abc");
    assert!(second.duplicate);
    assert_eq!(Receipt { duplicate: false, ..second }, first);
    let again = arrival(b"abc");
    let moved = Arrival { cursor: Some(b"next".to_vec()), ..again };
    bench.run(bench.store().receive(&feed("f-1"), &agency(), moved, 10)).unwrap();
    assert_ne!(bench.receive("f-2", b"abc").message, first.message);
    bench.reopen();
    assert_eq!(bench.store().cursor(&feed("f-1")).unwrap().as_deref(), Some(&b"next"[..]));
    let counters = bench.counters();
    assert_eq!((counters.messages, counters.duplicate_messages), (1, 2));
    assert_eq!(counters.pending_messages, 1);
    bench.sound();
}

#[test]
fn of_a_source_that_keeps_order_the_same_bytes_are_news() {
    let mut bench = Bench::new();
    let (feed, agency) = (feed("f-1"), agency());
    let large = [7; 100_000];
    for body in [&b"abc"[..], &large] {
        let ids: Vec<_> = [&b"1"[..], b"2", b"3"]
            .into_iter()
            .map(|cursor| {
                let moved = Arrival { cursor: Some(cursor.to_vec()), ..arrival(body) };
                let received = bench.store().receive_in_order(&feed, &agency, moved, 1 << 20);
                let receipt = bench.run(received).unwrap();
                assert!(!receipt.duplicate);
                assert_eq!(bench.store().cursor(&feed).unwrap().as_deref(), Some(cursor));
                receipt.message
            })
            .collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        // By a road that knows no order they are what came last.
        let again = bench.receive("f-1", body);
        assert!(again.duplicate && again.message == ids[2], "{again:?}");
        for id in ids {
            assert_eq!(bench.bytes(id), body);
        }
    }
    bench.reopen();
    let counters = bench.counters();
    assert_eq!((counters.messages, counters.pending_messages), (6, 6));
    bench.sound();
}

#[test]
fn nobody_else_may_read_what_is_stored() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    bench.receive("f-1", &[7; 100_000]);
    let mut folders = vec![bench.dir.path().to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{:?}", entry.path());
            if meta.is_dir() {
                folders.push(entry.path());
            }
            seen += 1;
        }
    }
    assert!(seen > 4, "{seen}");
}

#[test]
fn large_bodies_are_files_and_read_back() {
    let mut bench = Bench::new();
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    let receipt = bench.receive("f-1", &body);
    assert_eq!(receipt.digest, xinqiao_crypto::hex(&xinqiao_crypto::sm3(&body)));
    let edge = vec![7; 64 << 10];
    let small = bench.receive("f-1", &edge).message;
    std::fs::write(bench.dir.path().join("spool/left-over"), b"half").unwrap();
    bench.reopen();
    assert_eq!(bench.bytes(receipt.message), body);
    assert_eq!(bench.bytes(small), edge);
    assert_eq!(std::fs::read_dir(bench.dir.path().join("spool")).unwrap().count(), 0);
    assert!(bench.blob(receipt.message).is_file());
    bench.sound();
}

#[test]
fn too_large_bodies_and_full_disks_leave_nothing() {
    let bench = Bench::new();
    let body = vec![1; 200_000];
    for limit in [10, 150_000] {
        let got = bench.run(bench.store().receive(&feed("f-1"), &agency(), arrival(&body), limit));
        assert!(matches!(got, Err(StoreError::TooLarge(at)) if at == limit));
    }
    assert_eq!(std::fs::read_dir(bench.dir.path().join("spool")).unwrap().count(), 0);
    let (_, outcome) = bench.put("m", upsert("1", "a"));
    assert_eq!(outcome, RowOutcome::New { seq: 1 });
    let Bench { dir, clock, key, store, runtime } = bench;
    drop(store);
    let full = StoreOptions { reserve_bytes: u64::MAX, ..options() };
    let store = Store::open(dir.path(), full, clock, key.clone()).unwrap();
    let bench = Bench { dir, clock: Arc::default(), key, store: Some(store), runtime };
    let got = bench.run(bench.store().receive(&feed("f-1"), &agency(), arrival(b"x"), 10));
    assert!(matches!(got, Err(StoreError::DiskFull)));
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
}

#[test]
fn pending_is_fair_and_attempts_are_counted_before_the_payload() {
    let mut bench = Bench::new();
    for n in 0..4 {
        bench.receive("f-1", format!("a{n}").as_bytes());
    }
    let other = bench.receive("f-2", b"b").message;
    let ids = |list: Vec<PendingMessage>| list.into_iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(ids(bench.store().pending(3, &[2].into()).unwrap()), [1, other, 3]);
    let begun = bench.run(bench.store().begin_processing(vec![1])).unwrap();
    assert_eq!(begun[0].attempts, 1);
    bench.reopen();
    assert_eq!(bench.store().pending(1, &Default::default()).unwrap()[0].attempts, 1);
    let gap = RowChunk { first: 1, ..chunk(1, vec![entry(upsert("1", "a"))]) };
    let got = bench.run(bench.store().commit_rows(vec![gap]));
    assert!(matches!(got, Err(StoreError::Conflict(_))));
    bench.sound();
}

#[test]
fn corrections_keep_the_clock_and_old_copies_are_stale() {
    let bench = Bench::new();
    assert_eq!(bench.put("1", upsert("1", "a")).1, RowOutcome::New { seq: 1 });
    assert_eq!(bench.put("2", upsert("1", "a")).1, RowOutcome::Duplicate);
    let mut later = upsert("1", "b");
    later.deadlines.pledged = date!(2027 - 01 - 01);
    later.deadlines.statutory = date!(2027 - 01 - 01);
    assert_eq!(bench.put("3", later).1, RowOutcome::Correction { seq: 2, version: 2 });
    assert_eq!(bench.put("4", upsert("1", "a")).1, RowOutcome::Stale);
    let record = bench.store().record(&bench.store().record_digest(&key("1"))).unwrap();
    assert_eq!((record.version, record.withdrawn), (2, false));
    assert_eq!(record.deadlines.statutory, date!(2026 - 12 - 01));
    // Undelivered, so the newest version alone goes out.
    let leased = bench.lease();
    assert_eq!(leased.iter().map(|l| l.version).collect::<Vec<_>>(), [2]);
    assert_eq!(bench.store().changes(1, 9).unwrap().len(), 1);
    bench.sound();
}

#[test]
fn a_withdrawal_is_never_resurrected_and_reaches_who_has_the_record() {
    let bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
    // The withdrawal's mapping names no target; the platform has the record all the same.
    let gone = version("1", "a", Operation::Withdraw, &[]);
    assert_eq!(bench.put("2", gone).1, RowOutcome::Correction { seq: 2, version: 2 });
    assert_eq!(bench.put("3", upsert("1", "a")).1, RowOutcome::Stale);
    let leased = bench.lease();
    assert_eq!((leased[0].version, leased[0].operation), (2, Operation::Withdraw));
    let record = bench.store().record(&bench.store().record_digest(&key("1"))).unwrap();
    assert!(record.withdrawn);
    // Of a record never seen: stored and delivered too.
    assert_eq!(bench.put("4", withdraw("2", "x")).1, RowOutcome::New { seq: 3 });
    assert_eq!(bench.lease()[0].operation, Operation::Withdraw);
    bench.sound();
}

#[test]
fn a_version_that_comes_during_a_lease_waits_for_its_end() {
    for end in [SettledAs::Accepted, refused(), SettledAs::Dead { error: "e".to_owned() }] {
        let bench = Bench::new();
        bench.put("1", upsert("1", "a"));
        let old = bench.lease().remove(0);
        bench.put("2", withdraw("1", "a"));
        assert!(bench.lease().is_empty());
        assert!(bench.settle(old.token, end));
        let new = bench.lease().remove(0);
        assert_eq!((new.version, new.operation, new.attempt), (2, Operation::Withdraw, 1));
        assert!(!bench.settle(old.token, SettledAs::Accepted));
        assert!(bench.settle(new.token, SettledAs::Accepted));
        bench.sound();
    }
}

#[test]
fn an_expired_lease_is_fenced_off_and_extending_keeps_one() {
    let bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    let first = bench.lease().remove(0);
    bench.clock.advance(LEASE - 1);
    bench.run(bench.store().extend(vec![first.token], LEASE)).unwrap();
    bench.clock.advance(LEASE - 1);
    assert!(bench.lease().is_empty());
    bench.clock.advance(1);
    let second = bench.lease().remove(0);
    assert_eq!(second.attempt, 2);
    assert!(!bench.settle(first.token, SettledAs::Accepted));
    assert!(bench.settle(second.token, SettledAs::Accepted));
    assert_eq!(bench.counters().retried, 1);
    bench.sound();
}

#[test]
fn a_refusal_reaches_the_row_and_a_correction_lifts_it() {
    let bench = Bench::new();
    let (first, _) = bench.put("1", upsert("1", "a"));
    assert!(bench.settle(bench.lease()[0].token, refused()));
    assert_eq!(bench.counters().refused, 1);
    let row = bench.store().verdicts(first, 0, 9).unwrap().remove(0);
    assert_eq!(row.verdict, Verdict::Reject);
    assert_eq!(row.findings[0].rule, "target.refused");
    assert!(row.findings[0].message.contains("1001"));
    assert_eq!(row.delivery, [(target("platform"), ItemState::Refused)]);

    let (second, _) = bench.put("2", upsert("1", "b"));
    assert_eq!(bench.counters().refused, 0);
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
    let rows = bench.store().verdicts(second, 0, 9).unwrap();
    assert_eq!((rows[0].verdict, rows.len()), (Verdict::Accept, 1));
    assert_eq!(bench.store().verdicts(first, 0, 9).unwrap()[0].verdict, Verdict::Reject);
    bench.sound();
}

#[test]
fn lateness_has_an_owner() {
    let late = 12 * DAY;
    let owner = |steps: &dyn Fn(&Bench)| {
        let bench = Bench::new();
        steps(&bench);
        assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
        bench.sound();
        let c = bench.counters();
        [c.on_time_statutory, c.late_agency, c.late_refusal, c.late_platform, c.late_gateway]
    };
    let put = |bench: &Bench| {
        bench.put("1", upsert("1", "a"));
    };
    assert_eq!(owner(&put), [1, 0, 0, 0, 0]);
    let agency = |bench: &Bench| {
        bench.clock.advance(late);
        put(bench);
    };
    assert_eq!(owner(&agency), [0, 1, 0, 0, 0]);
    let refusal = |bench: &Bench| {
        put(bench);
        bench.settle(bench.lease()[0].token, refused());
        bench.clock.advance(late);
        bench.put("2", upsert("1", "b"));
    };
    assert_eq!(owner(&refusal), [0, 0, 1, 0, 0]);
    let sent_back = |bench: &Bench, by: &str| {
        let message = bench.receive("f-1", by.as_bytes()).message;
        let sent_back = Some(key("1"));
        let row = RowEntry { record: None, sent_back, ..entry(upsert("1", "a")) };
        bench.run(bench.store().commit_rows(vec![chunk(message, vec![row])])).unwrap();
    };
    // Sent back here, before there was a record: it was first sent in time, and again.
    let returned = |bench: &Bench| {
        sent_back(bench, "x");
        bench.clock.advance(DAY);
        sent_back(bench, "y");
        bench.clock.advance(late);
        bench.put("2", upsert("1", "b"));
        let item = bench.store().item(1).unwrap().milestones;
        assert_eq!(item.received, Some(Timestamp(NOON)));
        assert_eq!(item.refused, Some(Timestamp(NOON + DAY)));
        assert_eq!(item.committed, Some(Timestamp(NOON + DAY + late)));
    };
    assert_eq!(owner(&returned), [0, 0, 1, 0, 0]);
    let returned_late = |bench: &Bench| {
        bench.clock.advance(late);
        sent_back(bench, "x");
        bench.clock.advance(DAY);
        bench.put("2", upsert("1", "b"));
    };
    assert_eq!(owner(&returned_late), [0, 1, 0, 0, 0]);
    let corrected_in_time = |bench: &Bench| {
        sent_back(bench, "x");
        bench.clock.advance(DAY);
        bench.put("2", upsert("1", "b"));
        // A row sent back of a record that there is does nothing to its clock.
        sent_back(bench, "y");
    };
    assert_eq!(owner(&corrected_in_time), [1, 0, 0, 0, 0]);
    let platform = |bench: &Bench| {
        put(bench);
        bench.lease();
        bench.clock.advance(late);
    };
    assert_eq!(owner(&platform), [0, 0, 0, 1, 0]);
    let gateway = |bench: &Bench| {
        put(bench);
        bench.clock.advance(late);
    };
    assert_eq!(owner(&gateway), [0, 0, 0, 0, 1]);
}

#[test]
fn a_feed_in_order_may_go_back_to_what_was() {
    let bench = Bench::new();
    let outcome = |name: &str, version| bench.put(name, version).1;
    outcome("1", upsert("1", "a"));
    outcome("2", upsert("1", "b"));
    assert_eq!(
        outcome("3", upsert("1", "a")),
        RowOutcome::Stale,
        "a late copy, as far as is known"
    );
    bench.run(bench.store().set_in_order([feed("f-1")].into())).unwrap();
    assert!(matches!(outcome("4", upsert("1", "a")), RowOutcome::Correction { version: 3, .. }));
    assert_eq!(outcome("5", upsert("1", "a")), RowOutcome::Duplicate);
    assert!(matches!(outcome("6", withdraw("1", "a")), RowOutcome::Correction { version: 4, .. }));
    assert!(matches!(outcome("7", upsert("1", "a")), RowOutcome::Correction { version: 5, .. }));
    let record = bench.store().record(&bench.store().record_digest(&key("1"))).unwrap();
    assert!(!record.withdrawn);
    bench.sound();
}

#[test]
fn a_target_that_takes_a_repetition_for_news_gets_none_by_itself() {
    let mut bench = Bench::new();
    bench.run(bench.store().set_undeduped([target("platform")].into())).unwrap();
    // The process ends with a delivery under way, and a lease runs out.
    bench.put("1", upsert("1", "a"));
    bench.lease();
    bench.reopen();
    assert!(bench.lease().is_empty(), "it may have been sent");
    bench.put("2", upsert("2", "a"));
    let late = bench.lease().remove(0);
    bench.clock.advance(LEASE);
    assert!(bench.lease().is_empty());
    assert!(!bench.settle(late.token, SettledAs::Accepted), "a person was asked already");
    for id in [1, 2] {
        let item = bench.store().item(id).unwrap();
        assert_eq!(item.state, ItemState::Dead);
        assert!(item.history.iter().any(|event| event.what == EventKind::Doubtful));
    }
    // A person decides; a correction is news.
    bench.act(1, QueueAct::Retry).unwrap();
    bench.put("3", upsert("2", "b"));
    assert_eq!(bench.lease().len(), 2);
    bench.run(bench.store().set_undeduped([].into())).unwrap();
    bench.reopen();
    assert_eq!(bench.lease().len(), 2, "this one tells a repetition by its key");
    bench.sound();
}

#[test]
fn operators_act_with_reasons_and_only_where_it_fits() {
    let bench = Bench::new();
    bench.put("1", upsert("1", "a"));
    assert!(matches!(bench.act(1, QueueAct::Release), Err(StoreError::Conflict(_))));
    assert!(matches!(bench.act(9, QueueAct::Hold), Err(StoreError::NotFound)));
    bench.act(1, QueueAct::Hold).unwrap();
    assert!(bench.lease().is_empty());
    bench.act(1, QueueAct::Release).unwrap();
    let leased = bench.lease().remove(0);
    assert!(matches!(bench.act(1, QueueAct::Drop), Err(StoreError::Conflict(_))));
    let due = Timestamp(NOON + DAY);
    bench.settle(leased.token, SettledAs::Retry { due, error: "忙".to_owned() });
    assert_eq!(bench.store().next_due(&target("platform")).unwrap(), Some(due));
    bench.act(1, QueueAct::Retry).unwrap();
    let item = bench.store().item(1).unwrap();
    assert_eq!((item.attempts, item.sends), (0, 1), "a reset forgets no sending");
    assert_eq!(bench.lease()[0].attempt, 1);
    bench.clock.advance(LEASE);
    assert_eq!(bench.lease()[0].attempt, 2);
    let item = bench.store().item(1).unwrap();
    assert_eq!((item.attempts, item.sends), (2, 3));
    let history = item.history;
    assert!(history.iter().any(|event| event.detail == "operator:试验"));
    let none = bench.run(bench.store().act(vec![1], QueueAct::Drop, String::new(), " ".to_owned()));
    assert!(matches!(none, Err(StoreError::Conflict(_))));
    bench.sound();
}

#[test]
fn every_row_and_record_stands_in_one_place_of_its_feeds_account() {
    let bench = Bench::new();
    let (first, _) = bench.put("1", upsert("1", "a"));
    let met = |message| bench.store().verdicts(message, 0, 9).unwrap()[0].met;
    assert_eq!(met(first), None, "not accepted yet");
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
    let in_time = Met { pledged: true, statutory: true, late: None };
    assert_eq!(met(first), Some(in_time));
    // A correction after both deadlines: the record met its clocks, so its row did.
    bench.clock.advance(20 * DAY);
    let (second, _) = bench.put("2", upsert("1", "b"));
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
    assert_eq!(met(second), Some(in_time));
    bench.put("3", upsert("1", "b"));
    let (late, _) = bench.put("4", upsert("2", "a"));
    assert!(bench.settle(bench.lease()[0].token, SettledAs::Accepted));
    let late_by = Some(LateOwner::AgencyArrival);
    assert_eq!(met(late), Some(Met { pledged: false, statutory: false, late: late_by }));
    bench.put("5", upsert("3", "a"));
    bench.act(3, QueueAct::Drop).unwrap();

    let c = bench.counters();
    assert_eq!((c.rows, c.rejected, c.repeated, c.committed), (5, 0, 1, 4));
    assert_eq!((c.corrections, c.accepted, c.open(), c.dropped), (1, 2, 1, 1));
    assert_eq!((c.on_time_statutory, c.late()), (1, 1));
    bench.sound();
}

#[test]
fn lists_page_in_order_of_deadline() {
    let bench = Bench::new();
    for n in 0..7u8 {
        let mut new = upsert(&n.to_string(), "a");
        new.deadlines.pledged =
            date!(2026 - 11 - 27).saturating_sub(time::Duration::days(n.into()));
        bench.put(&n.to_string(), new);
    }
    bench.act(7, QueueAct::Hold).unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let (page, next) = bench.store().items(&ItemFilter::default(), after, 3).unwrap();
        seen.extend(page.into_iter().map(|item| item.id));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
    let held = ItemFilter { state: Some(ItemState::Held), ..ItemFilter::default() };
    assert_eq!(bench.store().items(&held, None, 9).unwrap().0.len(), 1);
    let names = bench.store().messages(Some(&feed("f-1")), Some("a.csv"), Some(6), 2).unwrap();
    assert_eq!(names.iter().map(|m| m.id).collect::<Vec<_>>(), [5, 4]);
}
