//! What an agency has not been told yet.

use std::collections::BTreeMap;

use super::*;

/// Messages pending for the feed, with the rows noted one by one.
fn pending(bench: &Bench, name: &str) -> BTreeMap<u64, (PendingFeedback, Vec<u64>)> {
    let store = bench.store();
    let all = store.feedback_pending(&feed(name), None, usize::MAX).unwrap();
    let rows = |message| {
        let rows = store.feedback_rows(&feed(name), message, 0, usize::MAX).unwrap();
        rows.into_iter().map(|(index, _)| index).collect()
    };
    all.into_iter().map(|pending| (pending.message, (pending, rows(pending.message)))).collect()
}

fn on(bench: &Bench, names: &[&str]) {
    let feeds = names.iter().map(|name| feed(name)).collect();
    bench.run(bench.store().set_feedback(feeds)).unwrap();
}

fn given(bench: &Bench, pending: PendingFeedback) {
    let (message, mark) = (pending.message, pending.mark);
    bench.run(bench.store().feedback_given(&feed("f-1"), message, mark)).unwrap();
}

#[test]
fn nothing_is_noted_for_a_feed_without_feedback() {
    let bench = Bench::new();
    on(&bench, &["f-2"]);
    let (_, _) = bench.put("a", upsert("1", "甲"));
    let token = bench.lease()[0].token;
    assert!(bench.settle(token, refused()));
    // Turned on later: what comes after counts.
    on(&bench, &["f-1"]);
    assert!(pending(&bench, "f-1").is_empty());
    assert_eq!(bench.act(1, QueueAct::Drop).ok(), Some(()));
    assert!(pending(&bench, "f-1").is_empty(), "the row came before");
    bench.sound();
}

#[test]
fn a_refusal_is_told_in_every_message_its_version_came_in() {
    let bench = Bench::new();
    on(&bench, &["f-1", "f-2"]);
    let (first, _) = bench.put("a", upsert("1", "甲"));
    let again = bench.receive("f-2", b"b").message;
    let rows = vec![entry(upsert("2", "乙")), entry(upsert("1", "甲"))];
    bench.run(bench.store().commit_rows(vec![chunk(again, rows)])).unwrap();
    for name in ["f-1", "f-2"] {
        for (told, rows) in pending(&bench, name).into_values() {
            assert_eq!((told.whole, rows.len()), (Some(Timestamp(NOON)), 0));
            let feed = feed(name);
            bench.run(bench.store().feedback_given(&feed, told.message, told.mark)).unwrap();
        }
        assert!(pending(&bench, name).is_empty());
    }
    let leased = bench.lease();
    let item = leased.iter().find(|item| item.fields[0].1 == "1").unwrap();
    assert!(bench.settle(item.token, refused()));
    assert_eq!(pending(&bench, "f-1")[&first].1, [0]);
    let (told, rows) = &pending(&bench, "f-2")[&again];
    assert_eq!((told.whole, told.relieved, rows.as_slice()), (None, false, &[1_u64][..]));
    bench.act(item.token.id, QueueAct::Retry).unwrap();
    assert!(pending(&bench, "f-2")[&again].0.relieved);
    bench.sound();
}

#[test]
fn a_message_is_told_of_once_it_is_finished() {
    let mut bench = Bench::new();
    on(&bench, &["f-1"]);
    let message = bench.receive("f-1", b"two rows").message;
    let mut first = chunk(message, vec![entry(upsert("1", "甲"))]);
    first.finish = None;
    bench.run(bench.store().commit_rows(vec![first])).unwrap();
    let token = bench.lease()[0].token;
    assert!(bench.settle(token, refused()));
    assert!(pending(&bench, "f-1").is_empty(), "not finished");
    bench.reopen();
    let mut rest = chunk(message, vec![entry(upsert("2", "乙"))]);
    rest.first = 1;
    bench.run(bench.store().commit_rows(vec![rest])).unwrap();
    let (told, rows) = &pending(&bench, "f-1")[&message];
    assert_eq!((told.whole.is_some(), rows.as_slice()), (true, &[0_u64][..]));
    bench.sound();
}

#[test]
fn what_changes_while_the_agency_is_told_stays() {
    let mut bench = Bench::new();
    on(&bench, &["f-1"]);
    let message = bench.receive("f-1", b"two rows").message;
    let rows = vec![entry(upsert("1", "甲")), entry(upsert("2", "乙"))];
    bench.run(bench.store().commit_rows(vec![chunk(message, rows)])).unwrap();
    let leased = bench.lease();
    assert!(bench.settle(leased[0].token, refused()));
    let (told, _) = pending(&bench, "f-1")[&message].clone();
    // Meanwhile: another row is refused, and the one told of is refused by hand again.
    assert!(bench.settle(leased[1].token, refused()));
    bench.reopen();
    given(&bench, told);
    let (told, rows) = pending(&bench, "f-1")[&message].clone();
    assert_eq!((told.whole, rows.as_slice()), (None, &[1_u64][..]));
    given(&bench, told);
    assert!(pending(&bench, "f-1").is_empty());
    // The feeds are remembered over a restart; a store at hand without a gateway notes as well.
    bench.reopen();
    bench.act(leased[0].token.id, QueueAct::Drop).unwrap();
    assert_eq!(pending(&bench, "f-1")[&message].1, [0]);
    bench.sound();
}

#[test]
fn more_than_one_transaction_takes_off_is_taken_off() {
    let bench = Bench::new();
    on(&bench, &["f-1"]);
    let message = bench.receive("f-1", b"many").message;
    let new = |n: u32| entry(upsert(&n.to_string(), "甲"));
    let rows = (0..20_500).map(new).collect();
    bench.run(bench.store().commit_rows(vec![chunk(message, rows)])).unwrap();
    loop {
        let leased = bench.run(bench.store().lease(&target("platform"), 5_000, LEASE)).unwrap();
        let settle = |item: &Leased| Settlement { token: item.token, end: refused() };
        if leased.is_empty() {
            break;
        }
        bench.run(bench.store().settle(leased.iter().map(settle).collect())).unwrap();
    }
    let (told, rows) = pending(&bench, "f-1")[&message].clone();
    assert_eq!(rows.len(), 20_500);
    given(&bench, told);
    assert!(pending(&bench, "f-1").is_empty());
}

#[test]
fn a_store_from_before_feedback_opens() {
    let mut bench = Bench::new();
    bench.put("a", upsert("1", "甲"));
    let write = bench.store().shared.db.begin_write().unwrap();
    for name in ["feedback", "place", "sent_back"] {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new(name);
        assert!(write.delete_table(table).unwrap(), "{name}");
    }
    write.commit().unwrap();
    bench.reopen();
    on(&bench, &["f-1"]);
    let (message, _) = bench.put("b", upsert("1", "乙"));
    assert_eq!(pending(&bench, "f-1").into_keys().collect::<Vec<_>>(), [message]);
    bench.sound();
}

#[test]
fn fsck_tells_of_changes_and_places_that_are_nobodys() {
    let bench = Bench::new();
    on(&bench, &["f-1"]);
    let (message, _) = bench.put("a", upsert("1", "甲"));
    bench.sound();
    let shared = &bench.store().shared;
    let spoil = shared.committer().unwrap().commit(64, move |tx| {
        tx.dirty = true;
        let record = [7; 16];
        tx.tables.place.put_raw(&crate::feedback::place(&record, 1, message, 0), &[b"f-1"])?;
        crate::feedback::row_changed(tx, &feed("f-1"), (message, 9), false)
    });
    bench.run(spoil).unwrap();
    let found = bench.store().fsck().unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
}
