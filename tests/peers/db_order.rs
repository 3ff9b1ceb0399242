//! Rows of a table that have no place in the order, come back to what they were, or cannot be carried:
//! none holds up others, none is passed over in silence.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use xinqiao_adapters::conformance::{TestInbox, TestSecrets, run};
use xinqiao_adapters::sources;
use xinqiao_core::spi::Source;
use xinqiao_tests::databases::{Engine, Server};

use crate::db::{params, rows};

/// A row that has no place in the order is told of, and no other waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_order_column_holds_up_no_other_row() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let moment = if engine == Engine::Postgres { "timestamp" } else { "datetime" };
        for (table, way) in [
            ("by_time", json!({ "time": { "column": "at", "lag-seconds": 0 } })),
            ("by_batch", json!({ "batch": { "column": "n" } })),
            ("by_flag", json!({ "flag": { "column": "flag", "values": ["1"] } })),
            ("by_full", json!({ "full": {} })),
        ] {
            server
                .sql(&format!(
                    "CREATE TABLE {table} (n int, id int, flag int, word varchar(20), at {moment} NULL);
                     INSERT INTO {table} VALUES (1, 1, 1, 'a', '2026-01-01'), (2, 2, 1, 'b', '2026-01-02'),
                         (NULL, 3, 1, 'x', NULL), (2, NULL, 1, 'y', '2026-01-02'), (NULL, NULL, 1, 'z', NULL);"
                ))
                .unwrap();
            for size in 1..4 {
                let key = if table == "by_batch" { "id" } else { "n" };
                let mut way = params(
                    &server,
                    "writer",
                    json!({ "table": table, "key": [key, "id"], "columns": ["word"],
                            "page-rows": size, "incremental": way }),
                );
                if key == "id" {
                    way["key"] = json!(["id"]);
                }
                if table == "by_flag" {
                    server.sql("UPDATE by_flag SET flag = 1").unwrap();
                    way["ack"] = json!({ "flag": "0" });
                }
                let inbox = Arc::new(TestInbox::default());
                let words = |rows: &[Value]| -> Vec<String> {
                    rows.iter().map(|row| row["word"].as_str().unwrap().to_owned()).collect()
                };
                let first = rows(engine, &way, &inbox, 2).await;
                assert_eq!(words(&first), ["a", "b"], "{engine:?} {table} {size}");
                let told = inbox.faults.lock().unwrap().clone();
                assert!(told.iter().all(|told| told.starts_with("source.null-key")), "{told:?}");
                // What an earlier edition left in the cursor: a row that was NULL there.
                let cursor = inbox.cursor.lock().unwrap().clone().unwrap();
                let end = cursor.iter().position(|byte| *byte == b'\n').unwrap();
                let mut head: Value = serde_json::from_slice(&cursor[..end]).unwrap();
                if let Some(after) = head["after"].as_array_mut() {
                    after[0] = json!("");
                    let mut cursor = cursor.clone();
                    cursor.splice(..end, head.to_string().into_bytes());
                    let old = Arc::new(TestInbox::default());
                    *old.cursor.lock().unwrap() = Some(cursor);
                    if table != "by_flag" {
                        assert_eq!(words(&rows(engine, &way, &old, 2).await), ["a", "b"]);
                    }
                }
                server
                    .sql(&format!("INSERT INTO {table} VALUES (3, 4, 1, 'c', '2026-01-03')"))
                    .unwrap();
                let second = rows(engine, &way, &inbox, 3).await;
                assert_eq!(words(&second), ["a", "b", "c"], "{engine:?} {table} {size}");
                run(engine.kind(), &way, &inbox, |inbox| {
                    inbox
                        .faults
                        .lock()
                        .unwrap()
                        .iter()
                        .any(|told| told.starts_with("source.null-key"))
                })
                .await;
                assert_eq!(inbox.held.lock().unwrap().concat().lines().count(), 3);
                server.sql(&format!("DELETE FROM {table} WHERE id = 4")).unwrap();
            }
        }
    }
}

/// Days that do not exist, days that have not come (inputs of real peers).
#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_is_none_or_to_come_is_not_passed_over() {
    for engine in Engine::ALL {
        let options: &[&str] = if engine == Engine::Postgres { &[] } else { &["--sql-mode="] };
        let server = Server::start(engine, options).unwrap();
        let (moment, none, other) = match engine {
            Engine::Postgres => ("timestamp", "-infinity", "-infinity"),
            Engine::MariaDb => ("datetime", "0000-00-00", "2026-02-30"),
        };
        server
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, word varchar(20), at {moment});
                 INSERT INTO t VALUES (5, 'a', '2026-01-01'), (6, 'b', '{none}');"
            ))
            .unwrap();
        let way = params(
            &server,
            "reader",
            json!({ "table": "t", "key": ["id"], "columns": ["word"], "page-rows": 2,
                    "incremental": { "time": { "column": "at" } } }),
        );
        let inbox = Arc::new(TestInbox::default());
        let mut words = Vec::new();
        // Before and after the row that was taken in the order of the keys; and one changes.
        for (change, count) in [
            (String::new(), 2),
            (
                format!(
                    "INSERT INTO t VALUES (1, 'c', '{none}'), (9, 'd', '{other}'), (3, 'e', '2026-01-02')"
                ),
                5,
            ),
            ("UPDATE t SET word = 'f' WHERE id = 6".to_owned(), 6),
            ("UPDATE t SET at = '2026-01-03' WHERE id = 1".to_owned(), 7),
        ] {
            server.sql(&change).unwrap();
            let all = rows(engine, &way, &inbox, count).await;
            let texts = all.iter().map(|row| row["word"].as_str().unwrap().to_owned());
            words = texts.collect();
            assert_eq!(words.len(), count, "{engine:?} {words:?}");
            assert!(inbox.faults.lock().unwrap().is_empty(), "{engine:?}");
        }
        words.sort_unstable();
        assert_eq!(words, ["a", "b", "c", "c", "d", "e", "f"], "{engine:?}");
        server.sql("INSERT INTO t VALUES (2, 'g', '2062-01-05'), (4, 'h', '2026-01-04')").unwrap();
        run(engine.kind(), &way, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
        let told = inbox.faults.lock().unwrap()[0].clone();
        assert!(told.starts_with("source.future-time") && told.contains("at"), "{told}");
        assert!(inbox.held.lock().unwrap().last().unwrap().contains("\"h\""), "{engine:?}");
    }
}

/// A row that goes back to what it was, or comes back, is news however it is found.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_back_is_news() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let moment = if engine == Engine::Postgres { "timestamp" } else { "datetime" };
        for (table, way) in [
            ("by_time", json!({ "time": { "column": "at", "lag-seconds": 0 } })),
            ("by_batch", json!({ "batch": { "column": "n" } })),
            ("by_flag", json!({ "flag": { "column": "flag", "values": ["1", "3"] } })),
            ("by_full", json!({ "full": { "withdraw": ["word"], "accept-gone": 1 } })),
        ] {
            server
                .sql(&format!(
                    "CREATE TABLE {table} (id int PRIMARY KEY, n int, flag int, word varchar(20), at {moment});
                     INSERT INTO {table} VALUES (7, 0, 0, '', '2026-01-01');"
                ))
                .unwrap();
            let mut way = params(
                &server,
                "writer",
                json!({ "table": table, "key": ["id"], "columns": ["id", "word"], "incremental": way }),
            );
            assert!(source(engine, &way).keeps_order());
            if table == "by_flag" {
                way["ack"] = json!({ "flag": "0" });
            }
            let inbox = Arc::new(TestInbox::default());
            for (round, word) in [(1, "A"), (2, "B"), (3, "A")] {
                server
                    .sql(&format!(
                        "UPDATE {table} SET word = '{word}', n = {round}, flag = 1, at = '2026-01-0{round}'"
                    ))
                    .unwrap();
                rows(engine, &way, &inbox, round).await;
                if table == "by_flag" {
                    let left = "SELECT count(*) FROM by_flag WHERE flag <> 0";
                    run(engine.kind(), &way, &inbox, |_| server.sql(left).unwrap() == "0").await;
                }
            }
            {
                let held = inbox.held.lock().unwrap();
                assert_eq!(held.len(), 3, "{engine:?} {table} {held:?}");
                assert_eq!(held[0], held[2], "{engine:?} {table}: the same bytes");
                assert_ne!(held[0], held[1], "{engine:?} {table}");
            }
            if table != "by_full" {
                continue;
            }
            server.sql("DELETE FROM by_full").unwrap();
            rows(engine, &way, &inbox, 4).await;
            server.sql("INSERT INTO by_full VALUES (7, 0, 0, 'A', NULL)").unwrap();
            let all = rows(engine, &way, &inbox, 5).await;
            assert_eq!(all[3], json!({ "word": "A", "_op": "delete" }));
            assert_eq!(all[4], all[0], "{engine:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_numbered_anew_is_told_of() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        server
            .sql("CREATE TABLE t (id int PRIMARY KEY, word varchar(20)); INSERT INTO t VALUES (8, 'a'), (9, 'b')")
            .unwrap();
        let mut way = params(
            &server,
            "reader",
            json!({ "table": "t", "key": ["id"], "incremental": { "batch": { "column": "id" } } }),
        );
        let inbox = Arc::new(TestInbox::default());
        rows(engine, &way, &inbox, 2).await;
        // Cleared away after it was taken: nothing is amiss.
        server.sql("DELETE FROM t").unwrap();
        let rounds = || inbox.rounds.load(Ordering::Relaxed);
        let before = rounds();
        run(engine.kind(), &way, &inbox, |_| rounds() > before + 1).await;
        assert!(inbox.faults.lock().unwrap().is_empty(), "{engine:?}");
        server.sql("INSERT INTO t VALUES (1, 'c'), (2, 'd')").unwrap();
        run(engine.kind(), &way, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
        let told = inbox.faults.lock().unwrap()[0].clone();
        assert!(
            told.starts_with("source.numbered-anew") && told.contains("incremental.batch.start"),
            "{engine:?} {told}"
        );
        way["incremental"]["batch"]["start"] = json!("0");
        let all = rows(engine, &way, &inbox, 4).await;
        assert_eq!((&all[2]["word"], &all[3]["word"]), (&json!("c"), &json!("d")), "{engine:?}");
    }
}

/// One cell costs its own row, which goes back with its key; no other waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_is_too_large_costs_its_row_only() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let large = "长".repeat(40);
        server
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, word varchar(200), flag int);
                 INSERT INTO t VALUES (1, 'a', 1), (2, '{large}', 1), (3, 'c', 1)"
            ))
            .unwrap();
        for (way, acks) in [
            (json!({ "batch": { "column": "id" } }), false),
            (json!({ "full": {} }), false),
            (json!({ "flag": { "column": "flag", "values": ["1"] } }), true),
        ] {
            let mut way = params(
                &server,
                "writer",
                json!({ "table": "t", "key": ["id"], "columns": ["id", "word"], "incremental": way,
                        "cell-bytes": 100 }),
            );
            if acks {
                way["ack"] = json!({ "flag": "0" });
            }
            let inbox = Arc::new(TestInbox::default());
            let all = rows(engine, &way, &inbox, 3).await;
            assert_eq!((&all[0]["word"], &all[2]["word"]), (&json!("a"), &json!("c")));
            assert_eq!(all[1]["id"], "2");
            let word = all[1]["word"].as_str().unwrap();
            // U+FFFD is what `text.damaged` sends a row back for.
            assert!(word.starts_with('\u{FFFD}') && word.contains("120"), "{engine:?} {word}");
            if acks {
                let left = "SELECT count(*) FROM t WHERE flag <> 0";
                run(engine.kind(), &way, &inbox, |_| server.sql(left).unwrap() == "0").await;
                server.sql("UPDATE t SET flag = 1").unwrap();
            }
        }
    }
}

fn source(engine: Engine, params: &Value) -> Arc<dyn Source> {
    let built = sources::find(engine.kind()).unwrap().build(params, &TestSecrets);
    built.unwrap_or_else(|problems| panic!("{problems:?}"))
}
