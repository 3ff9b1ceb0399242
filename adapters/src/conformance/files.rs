//! Files on a bad day: those that are written to after they were taken, and servers that fail over
//! one file.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::faulty_ftp::{Fate, Shelf, serve};
use super::harness::{TestInbox, run};

fn long_ago(path: &Path) {
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

fn told(inbox: &TestInbox, what: &str) -> bool {
    inbox.faults.lock().unwrap().iter().any(|fault| fault.contains(what))
}

fn rounds(inbox: &TestInbox) -> usize {
    inbox.rounds.load(Ordering::Relaxed)
}

/// The clock of the tests goes on by a second at every look.
fn folder(path: &Path, after: &str) -> Value {
    let mut params = json!({
        "path": path, "poll-seconds": 0.005, "settle-seconds": 2, "after": after,
    });
    if after != "leave" {
        params["confirm-seconds"] = json!(60);
    }
    if after == "move" {
        params["move-to"] = json!(path.with_file_name("done"));
    }
    params
}

#[tokio::test]
async fn what_is_written_after_a_file_was_taken_is_not_destroyed() {
    for after in ["delete", "move", "leave"] {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("in");
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(dir.path().join("done")).unwrap();
        let file = path.join("a.csv");
        std::fs::write(&file, "1\n").unwrap();
        long_ago(&file);
        // The writer stalls with the file open, and goes on after it was taken.
        let writer = File::options().append(true).open(&file).unwrap();
        let went_on = AtomicBool::new(false);
        let inbox = Arc::new(TestInbox::default());
        let what = |inbox: &TestInbox| {
            let taken = !inbox.held().is_empty();
            if taken && rounds(inbox) > 3 && !went_on.swap(true, Ordering::Relaxed) {
                (&writer).write_all(b"2\n").unwrap();
                long_ago(&file);
            }
            inbox.held().len() == 2 && (after == "leave" || !file.try_exists().unwrap())
        };
        let inbox_seen = Arc::clone(&inbox);
        run("folder", &folder(&path, after), &inbox_seen, what).await;
        assert_eq!(inbox.held(), ["1\n", "1\n2\n"], "{after}");
        assert!(told(&inbox, "source.file-grew: 文件 a.csv"), "{:?}", inbox.faults);
        if after == "move" {
            let moved = std::fs::read_to_string(dir.path().join("done/a.csv")).unwrap();
            assert_eq!(moved, "1\n2\n");
        }
    }
}

/// Parameters for `in` of a [`Shelf`].
async fn ftp(shelf: &Arc<Shelf>, more: Value) -> Value {
    let mut params = json!({
        "host": "127.0.0.1", "port": serve(shelf).await, "security": "plain", "user": "u",
        "password": { "env": "P" }, "directory": "/in", "poll-seconds": 0.005, "settle-seconds": 2,
    });
    for (key, value) in more.as_object().unwrap() {
        params[key] = value.clone();
    }
    params
}

#[tokio::test]
async fn one_file_that_is_refused_does_not_stop_the_others() {
    let shelf = Arc::new(Shelf::default());
    // The oldest comes first.
    shelf.put(b"/in/p.csv", "p", "20200101000000", Fate::NotConfirmed);
    shelf.put(b"/in/a.csv", "a", "20210101000000", Fate::Sent);
    let params = ftp(&shelf, json!({})).await;
    let inbox = Arc::new(TestInbox::default());
    run("ftp", &params, &inbox, |inbox| {
        inbox.held() == ["a"]
            && told(inbox, "source.file-unreadable: 无法读取文件 p.csv(451 Read error.)")
            && shelf.retrieved(b"/in/p.csv") > 1
    })
    .await;
}

#[tokio::test]
async fn files_that_break_the_connection_do_not_stop_the_others() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(b"/in/p1.csv", "p", "20200101000000", Fate::Breaks);
    shelf.put(b"/in/p2.csv", "p", "20200102000000", Fate::Breaks);
    shelf.put(b"/in/p3.csv", "p", "20200103000000", Fate::Breaks);
    shelf.put(b"/in/p4.csv", "p", "20200104000000", Fate::Breaks);
    shelf.put(b"/in/a.csv", "a", "20210101000000", Fate::Sent);
    shelf.put(b"/in/b.csv", "b", "20210102000000", Fate::Sent);
    let params = ftp(&shelf, json!({})).await;
    let inbox = Arc::new(TestInbox::default());
    run("ftp", &params, &inbox, |inbox| inbox.held() == ["a", "b"]).await;
    assert!(told(&inbox, "source.broken-answer: 文件 p3.csv"), "{:?}", inbox.faults);
    assert!(!told(&inbox, "source.file-grew"));
}

#[tokio::test]
async fn names_of_gb18030_are_taken_whatever_their_bytes_and_flags_are_found() {
    let shelf = Arc::new(Shelf::default());
    // 誠, whose second byte is that of a backslash.
    shelf.put(b"/in/\xd5\x5c.csv", "a", "20200101000000", Fate::Sent);
    shelf.put(b"/in/\xd5\x5c.csv.\xcd\xea\xb3\xc9", "", "20200101000000", Fate::Sent);
    shelf.put(b"/in/../x.csv", "never", "20200101000000", Fate::Sent);
    let params = ftp(&shelf, json!({ "names": "gb18030", "flag": ".完成" })).await;
    let inbox = Arc::new(TestInbox::default());
    run("ftp", &params, &inbox, |inbox| inbox.held() == ["a"] && told(inbox, "source.file-name"))
        .await;
    assert!(told(&inbox, "../x.csv"), "{:?}", inbox.faults);
    assert_eq!(inbox.held(), ["a"]);
}

#[tokio::test]
async fn what_a_server_refuses_is_told_in_its_words() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(b"/in/locked.csv", "x", "20200101000000", Fate::Unreadable);
    shelf.put(b"/in/hidden.csv", "h", "20200102000000", Fate::StateHidden);
    let params = ftp(&shelf, json!({ "after": "delete", "confirm-seconds": 5 })).await;
    let inbox = Arc::new(TestInbox::default());
    run("ftp", &params, &inbox, |inbox| {
        told(inbox, "source.file-unreadable") && told(inbox, "source.file-not-moved")
    })
    .await;
    assert!(told(&inbox, "locked.csv(550 Failed to open file.)"), "{:?}", inbox.faults);
    assert!(told(&inbox, "550 Could not do that."), "{:?}", inbox.faults);
    assert_eq!(inbox.held(), ["h"]);
}

#[tokio::test]
async fn a_file_that_grew_while_it_was_moved_is_put_back_and_taken_again() {
    let shelf = Arc::new(Shelf::default());
    shelf.put(b"/in/a.csv", "1", "20200101000000", Fate::GrowsWhenMoved);
    let more = json!({ "after": "move", "confirm-seconds": 5, "done-directory": "/done" });
    let params = ftp(&shelf, more).await;
    let inbox = Arc::new(TestInbox::default());
    run("ftp", &params, &inbox, |inbox| {
        inbox.held().len() == 2 && shelf.has(b"/done/a.csv") && !shelf.has(b"/in/a.csv")
    })
    .await;
    assert_eq!(inbox.held(), ["1", "1+"]);
}
