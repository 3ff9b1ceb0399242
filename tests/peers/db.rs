//! Sources `postgres` and `mysql` against PostgreSQL 15 and MariaDB 10.11.

use std::sync::Arc;

use serde_json::{Value, json};
use xinqiao_adapters::conformance::{
    Fixture, TestInbox, nothing_is_lost_let_go_early_or_sent_again,
    nothing_is_lost_or_doubled_by_dying, run,
};
use xinqiao_tests::databases::{Engine, Server};

/// Parameters of a table, by an account.
pub(crate) fn params(server: &Server, user: &str, more: Value) -> Value {
    let mut params = server.access(user);
    let all = params.as_object_mut().unwrap();
    all.insert("poll-seconds".to_owned(), json!(0.02));
    all.extend(more.as_object().unwrap().clone());
    params
}

fn fixtures(server: &Arc<Server>) -> Vec<Fixture> {
    let engine = server.engine;
    let ways = [
        ("by_time", json!({ "time": { "column": "at", "lag-seconds": 0 } }), false),
        ("by_batch", json!({ "batch": { "column": "id" } }), false),
        ("by_full", json!({ "full": {} }), false),
        ("by_flag", json!({ "flag": { "column": "flag", "values": ["1"] } }), true),
    ];
    let fixture = |(table, incremental, acks): (&'static str, Value, bool)| {
        let moment = match engine {
            Engine::Postgres => "timestamp",
            Engine::MariaDb => "datetime",
        };
        let serial = match engine {
            Engine::Postgres => "serial PRIMARY KEY",
            Engine::MariaDb => "int AUTO_INCREMENT PRIMARY KEY",
        };
        server
            .sql(&format!(
                "CREATE TABLE {table} (id {serial}, word varchar(20), flag int, at {moment})"
            ))
            .unwrap();
        let mut params = params(
            server,
            if acks { "writer" } else { "reader" },
            json!({ "table": table, "key": ["id"], "incremental": incremental, "page-rows": 1,
                    "columns": ["word"] }),
        );
        if acks {
            params["ack"] = json!({ "flag": "0" });
        }
        let (offering, looking) = (Arc::clone(server), Arc::clone(server));
        Fixture {
            kind: engine.kind(),
            params,
            offer: Box::new(move |text| {
                let insert = format!(
                    "INSERT INTO {table} (word, flag, at) VALUES ('{text}', 1, '2026-11-01 08:00:00')"
                );
                offering.sql(&insert).unwrap();
            }),
            released: Arc::new(move |text| {
                let word = text.split('"').nth(3).unwrap();
                let left =
                    format!("SELECT count(*) FROM {table} WHERE word = '{word}' AND flag = 1");
                looking.sql(&left).unwrap() == "0"
            }),
            lets_go: acks,
            keep: Some(Box::new(Arc::clone(server))),
        }
    };
    ways.map(fixture).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_loses_nothing_and_sends_nothing_twice() {
    let server = Arc::new(Server::start(Engine::Postgres, &[]).unwrap());
    nothing_is_lost_let_go_early_or_sent_again(fixtures(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_loses_nothing_and_sends_nothing_twice() {
    let server = Arc::new(Server::start(Engine::MariaDb, &[]).unwrap());
    nothing_is_lost_let_go_early_or_sent_again(fixtures(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_table_is_lost_or_doubled_by_dying() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let server = Arc::new(Server::start(engine, &[]).unwrap());
        nothing_is_lost_or_doubled_by_dying(fixtures(&server)).await;
    }
}

/// Runs until there are this many rows; gives them in the order they came.
pub(crate) async fn rows(
    engine: Engine,
    params: &Value,
    inbox: &Arc<TestInbox>,
    count: usize,
) -> Vec<Value> {
    let all = |inbox: &TestInbox| {
        let held = inbox.held.lock().unwrap();
        held.iter()
            .flat_map(|text| text.lines())
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    run(engine.kind(), params, inbox, |inbox| {
        let rows: Vec<Value> = all(inbox);
        rows.len() >= count
    })
    .await;
    all(inbox)
}

/// Runs until a fault is reported; gives the first.
async fn fault(engine: Engine, params: &Value) -> String {
    let inbox = Arc::new(TestInbox::default());
    run(engine.kind(), params, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
    let faults = inbox.faults.lock().unwrap();
    faults[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_with_its_parameter() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let bytes = if engine == Engine::Postgres { "bytea" } else { "blob" };
        server
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, word varchar(2000), at date);
                 INSERT INTO t VALUES (1, '{}', '2026-01-01');
                 CREATE TABLE twice (id int, word varchar(20));
                 INSERT INTO twice VALUES (1, 'a'), (1, 'b');
                 CREATE TABLE nulls (id int, word varchar(20));
                 INSERT INTO nulls VALUES (1, 'a'), (NULL, 'b');
                 CREATE TABLE picture (id int PRIMARY KEY, face {bytes});",
                "长".repeat(500)
            ))
            .unwrap();
        let of = |user: &str, more: Value| {
            let mut all = json!({ "table": "t", "key": ["id"], "incremental": { "full": {} } });
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params(&server, user, all)
        };
        let mut elsewhere = of("reader", json!({}));
        elsewhere["database"] = json!("nowhere");
        let mut closed = of("reader", json!({}));
        closed["port"] =
            json!(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let cases = [
            (of("stranger", json!({})), "source.denied", "user、password"),
            (of("writer", json!({ "table": "gone" })), "source.no-table", "参数 table"),
            (of("reader", json!({ "key": ["nr"] })), "source.no-column", "参数 key"),
            (
                of("reader", json!({ "columns": ["id", "wrod"] })),
                "source.no-column",
                "参数 columns",
            ),
            (of("reader", json!({ "where": "wrod = '1'" })), "source.no-column", "where"),
            (of("reader", json!({ "where": "word = = 1" })), "source.odd-answer", "where"),
            (
                of("reader", json!({ "incremental": { "time": { "column": "att" } } })),
                "source.no-column",
                "incremental.time.column",
            ),
            (of("reader", json!({ "table": "picture" })), "source.binary-column", "face"),
            (of("reader", json!({ "cell-bytes": 100 })), "source.too-large", "word"),
            (of("reader", json!({ "table": "twice" })), "source.key-not-unique", "key"),
            (of("reader", json!({ "table": "nulls" })), "source.null-key", "id"),
            (of("reader", json!({ "ack": { "word": "1" } })), "source.denied", "回写"),
            (closed, "source.unreachable", "host、port"),
        ];
        for (params, code, words) in cases {
            let told = fault(engine, &params).await;
            assert!(told.starts_with(code) && told.contains(words), "{engine:?} {code}: {told}");
            assert!(!told.contains('长'), "{engine:?}: {told}");
        }
        // MariaDB does not tell strangers whether a database exists.
        let told = fault(engine, &elsewhere).await;
        let code = if engine == Engine::Postgres { "source.no-database" } else { "source.denied" };
        assert!(told.starts_with(code), "{engine:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_same_second_come_once_each_and_as_they_are_stored() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let moment = if engine == Engine::Postgres { "timestamp" } else { "datetime(6)" };
        server
            .sql(&format!(
                "CREATE TABLE t (k varchar(40), n bigint, amount decimal(20,4), day date, at {moment},
                                 note text, PRIMARY KEY (k, n))"
            ))
            .unwrap();
        let insert = |k: &str, n: u64, at: &str| {
            format!("INSERT INTO t VALUES ('{k}', {n}, 0.1000, '2026-03-03', '{at}', NULL);")
        };
        // Names that no number precision, collation or quoting may mix up.
        let keys = ["甲", "乙", "O''Brien", "a", "b", "1", "10", "9"];
        let mut all = String::new();
        for at in ["2026-11-01 08:00:00", "2026-11-01 08:00:00.000001", "2026-11-01 08:00:01"] {
            for (step, key) in keys.iter().enumerate() {
                let n = 9_007_199_254_740_990
                    + step as u64
                    + u64::from(at.ends_with("01")) * 100
                    + u64::from(at.ends_with(":01")) * 1000;
                all += &insert(key, n, at);
            }
        }
        server.sql(&all).unwrap();
        let way = json!({ "table": "t", "key": ["k", "n"], "page-rows": 5,
                          "incremental": { "time": { "column": "at", "lag-seconds": 1 } } });
        let inbox = Arc::new(TestInbox::default());
        let params = params(&server, "reader", way);
        let first = rows(engine, &params, &inbox, 24).await;
        assert_eq!(first.len(), 24, "{engine:?}");
        let names: std::collections::BTreeSet<_> =
            first.iter().map(|row| (row["k"].to_string(), row["n"].to_string())).collect();
        assert_eq!(names.len(), 24, "{engine:?}: none twice");
        let row = first.iter().find(|row| row["k"] == "O'Brien").unwrap();
        assert_eq!(row["amount"], "0.1000");
        assert_eq!(row["day"], "2026-03-03");
        assert_eq!(row["note"], Value::Null);
        // A change shows by its time; what has not changed does not come again.
        let now = if engine == Engine::Postgres { "LOCALTIMESTAMP(0)" } else { "NOW()" };
        server.sql(&format!("UPDATE t SET at = {now}, note = 'x' WHERE k = '甲'")).unwrap();
        let second = rows(engine, &params, &inbox, 27).await;
        assert_eq!(second.len(), 27, "{engine:?}");
        assert!(second[24..].iter().all(|row| row["k"] == "甲" && row["note"] == "x"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_table_is_compared_and_its_deletions_are_careful() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        server.sql("CREATE TABLE t (id int PRIMARY KEY, word varchar(20))").unwrap();
        let values: Vec<_> = (0..30).map(|id| format!("({id}, 'w{id}')")).collect();
        server.sql(&format!("INSERT INTO t VALUES {}", values.join(","))).unwrap();
        let way = |full: Value| {
            params(
                &server,
                "reader",
                json!({ "table": "t", "key": ["id"], "page-rows": 7, "incremental": { "full": full } }),
            )
        };
        let careful = way(json!({ "withdraw": ["word"] }));
        let inbox = Arc::new(TestInbox::default());
        let first = rows(engine, &careful, &inbox, 30).await;
        assert!(first.iter().all(|row| row["_op"] == "upsert"), "{engine:?}");
        server.sql("UPDATE t SET word = 'new' WHERE id = 3; DELETE FROM t WHERE id = 4;").unwrap();
        let second = rows(engine, &careful, &inbox, 32).await;
        assert_eq!(second[30], json!({ "id": "3", "word": "new", "_op": "upsert" }));
        assert_eq!(second[31], json!({ "word": "w4", "_op": "delete" }));
        // Truncated, and half filled: nothing is withdrawn.
        for left in ["DELETE FROM t", "INSERT INTO t VALUES (0, 'w0')"] {
            server.sql(left).unwrap();
            inbox.faults.lock().unwrap().clear();
            run(engine.kind(), &careful, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty())
                .await;
            let told = inbox.faults.lock().unwrap()[0].clone();
            assert!(told.starts_with("source.rows-gone"), "{told}");
        }
        // Filled again as it was: nothing is news.
        let values: Vec<_> = values
            .iter()
            .filter(|v| !["(0,", "(3,", "(4,"].iter().any(|n| v.starts_with(n)))
            .cloned()
            .collect();
        server
            .sql(&format!("INSERT INTO t VALUES {}, (3, 'new'), (40, 'last')", values.join(",")))
            .unwrap();
        let third = rows(engine, &careful, &inbox, 33).await;
        assert_eq!(third.len(), 33, "{engine:?} {third:?}");
        assert_eq!(third[32]["word"], "last");
        // With an operator's word many may go.
        server.sql("DELETE FROM t WHERE id > 10").unwrap();
        let gone = 20;
        let told = way(json!({ "withdraw": ["word"], "accept-gone": gone }));
        let fourth = rows(engine, &told, &inbox, 33 + gone).await;
        assert_eq!(fourth.len(), 33 + gone, "{engine:?}");
        assert!(fourth[33..].iter().all(|row| row["_op"] == "delete"));
        let few = fault(engine, &way(json!({ "max-rows": 5 }))).await;
        assert!(few.starts_with("source.too-many-rows") && few.contains("max-rows"), "{few}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_changed_before_its_acknowledgement_is_news() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        server
            .sql(
                "CREATE TABLE t (id int PRIMARY KEY, word varchar(20), sync_sign int, read_date timestamp NULL);
                 INSERT INTO t (id, word, sync_sign) VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 9)",
            )
            .unwrap();
        let way = params(
            &server,
            "writer",
            json!({ "table": "t", "key": ["id"], "columns": ["id", "word", "sync_sign"],
                    "incremental": { "flag": { "column": "sync_sign" } },
                    "ack": { "sync_sign": "0", "read_date": "{now}" } }),
        );
        let inbox = Arc::new(TestInbox::default());
        assert_eq!(rows(engine, &way, &inbox, 3).await.len(), 3, "{engine:?}");
        let left = "SELECT count(*) FROM t WHERE sync_sign <> 0 OR read_date IS NULL";
        // All but the foreign one are acknowledged, by this life or the next.
        run(engine.kind(), &way, &inbox, |_| server.sql(left).unwrap() == "1").await;
        assert_eq!(inbox.held.lock().unwrap().len(), 1, "{engine:?}: and none comes again");
        // The life after a crash between receipt and acknowledgement: the cursor knows what was
        // taken; one row has changed since.
        server
            .sql("UPDATE t SET sync_sign = id WHERE id < 3; UPDATE t SET word = 'B' WHERE id = 2")
            .unwrap();
        let all = rows(engine, &way, &inbox, 4).await;
        assert_eq!(all.len(), 4, "{engine:?} {all:?}");
        assert_eq!(all[3], json!({ "id": "2", "word": "B", "sync_sign": "2" }));
        run(engine.kind(), &way, &inbox, |_| server.sql(left).unwrap() == "1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gbk_table_of_a_lax_server_comes_as_it_is_stored() {
    let options = ["--character-set-server=gbk", "--sql-mode="];
    let server = Server::start(Engine::MariaDb, &options).unwrap();
    server
        .sql(
            "CREATE TABLE t (名称 varchar(40) PRIMARY KEY, 决定日期 date, 登记 datetime) CHARSET gbk;
             INSERT INTO t VALUES ('样例甲有限公司', '2026-02-30', '2026-11-01'),
                                  ('样例𠮷有限公司', '0000-00-00', '0000-00-00 00:00:00'),
                                  ('样例乙有限公司', '2026-02-03', '2026-11-01 08:00:00');",
        )
        .unwrap();
    let way = params(
        &server,
        "reader",
        json!({ "table": "t", "key": ["名称"], "incremental": { "time": { "column": "登记" } }, "page-rows": 1 }),
    );
    let inbox = Arc::new(TestInbox::default());
    let all = rows(Engine::MariaDb, &way, &inbox, 3).await;
    assert_eq!(
        all,
        [
            json!({ "名称": "样例?有限公司", "决定日期": "0000-00-00", "登记": "0000-00-00 00:00:00" }),
            json!({ "名称": "样例甲有限公司", "决定日期": "0000-00-00", "登记": "2026-11-01 00:00:00" }),
            json!({ "名称": "样例乙有限公司", "决定日期": "2026-02-03", "登记": "2026-11-01 08:00:00" }),
        ]
    );
}

/// A server that asks for the password in clear, or for a login nobody here knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_only_where_it_stays_secret() {
    let server = Server::start(Engine::Postgres, &[]).unwrap();
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
    let way = json!({ "table": "t", "key": ["id"], "incremental": { "full": {} } });
    let params = params(&server, "reader", way);
    for (method, words) in [("password", "明文口令"), ("gss", "登录方式")] {
        server.admit_by(method).unwrap();
        let inbox = Arc::new(TestInbox::default());
        let told = |inbox: &TestInbox| {
            let faults = inbox.faults.lock().unwrap();
            faults.iter().any(|told| told.starts_with("source.denied") && told.contains(words))
        };
        run("postgres", &params, &inbox, told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_demanded_where_an_authority_is_given() {
    for engine in Engine::ALL {
        let server = Server::start_secured(engine).unwrap();
        let other = Server::start_secured(engine).unwrap();
        let plain = match engine {
            Engine::Postgres => Server::start(engine, &["-c", "ssl=off"]),
            Engine::MariaDb => Server::start(engine, &["--skip-ssl"]),
        };
        let plain = plain.unwrap();
        for server in [&server, &plain] {
            server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
        }
        // Only this account shows that TLS is really used.
        server
            .sql(match engine {
                Engine::Postgres => "CREATE VIEW v AS SELECT 1 AS id, ssl::text AS word FROM pg_stat_ssl WHERE pid = pg_backend_pid(); GRANT SELECT ON v TO reader",
                Engine::MariaDb => "ALTER USER reader@'127.0.0.1' REQUIRE SSL; CREATE VIEW v AS SELECT 1 AS id, 'true' AS word",
            })
            .unwrap();
        let of = |server: &Server, table: &str, ca: &Server| {
            let way = json!({ "table": table, "key": ["id"], "incremental": { "full": {} }, "ca": ca.ca() });
            params(server, "reader", way)
        };
        let inbox = Arc::new(TestInbox::default());
        let all = rows(engine, &of(&server, "v", &server), &inbox, 1).await;
        assert_eq!(all[0]["word"], "true", "{engine:?}");
        let told = fault(engine, &of(&server, "t", &other)).await;
        assert!(
            told.starts_with("source.unreachable") && told.contains("根证书"),
            "{engine:?} {told}"
        );
        let told = fault(engine, &of(&plain, "t", &server)).await;
        assert!(told.contains("没有开启TLS"), "{engine:?} {told}");
        let mut elsewhere = of(&server, "t", &server);
        elsewhere["host"] = json!("localhost");
        let told = fault(engine, &elsewhere).await;
        assert!(told.contains("不是签发给这个地址"), "{engine:?} {told}");
    }
}
