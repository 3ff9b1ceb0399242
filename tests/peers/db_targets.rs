//! The target `front-db` and feedback by rows against PostgreSQL 15 and MariaDB 10.11.

use std::sync::Arc;

use serde_json::{Value, json};
use xinqiao_adapters::conformance::TestSecrets;
use xinqiao_adapters::{sources, targets};
use xinqiao_core::model::{DatasetId, Operation, TargetId, Timestamp};
use xinqiao_core::spi::{
    FeedbackRoad, FeedbackRow, Outcome, Parcel, Standing, Target, TargetError, VerdictSink,
};
use xinqiao_tests::databases::{Engine, Server};

use crate::db::params;

fn target(server: &Server, more: Value) -> Arc<dyn Target> {
    let mut params = server.access("writer");
    let all = params.as_object_mut().unwrap();
    let engine = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
    all.insert("engine".to_owned(), json!(engine));
    all.insert("tables".to_owned(), json!({ "admin-penalty": "xzcf" }));
    all.extend(more.as_object().unwrap().clone());
    let id = TargetId::new("front").unwrap();
    let built = targets::find("front-db").unwrap().build(&id, &params, &TestSecrets);
    built.unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn parcel(key: &str, operation: Operation, fields: &[(&str, &str)]) -> Parcel {
    Parcel {
        key: key.to_owned(),
        dataset: DatasetId::new("admin-penalty").unwrap(),
        generation: 2021,
        operation,
        fields: fields.iter().map(|(code, text)| (Arc::from(*code), (*text).to_owned())).collect(),
    }
}

/// As documented in gateway/docs/formats/front-db.zh.md.
fn create(server: &Server) {
    let (moment, options) = match server.engine {
        Engine::Postgres => ("timestamptz", ""),
        Engine::MariaDb => ("datetime", "CHARACTER SET utf8mb4"),
    };
    server
        .sql(
            &format!(
                "CREATE TABLE xzcf (
                 guid char(36) NOT NULL, version int NOT NULL, batch_no int NOT NULL,
                 change_flag smallint NOT NULL, create_time {moment} NOT NULL,
                 \"CF_WSH\" varchar(30) NOT NULL, \"CF_NR_FK\" decimal(18,6), \"CF_JDRQ\" date,
                 PRIMARY KEY (guid, version), UNIQUE (guid, batch_no),
                 CHECK (\"CF_NR_FK\" >= 0)) {options}"
            )
            .replace('"', if server.engine == Engine::Postgres { "\"" } else { "`" }),
        )
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_database_holds_every_change_once() {
    use Operation::{Upsert, Withdraw};
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        create(&server);
        let to = target(&server, json!({}));
        assert!(to.dedupes());
        let whole =
            [("CF_WSH", "样罚〔2026〕1号"), ("CF_NR_FK", "0.200000"), ("CF_JDRQ", "2026-03-03")];
        let first = [
            parcel("aa-1", Upsert, &whole),
            parcel("bb-1", Upsert, &[("CF_WSH", "样罚'); DROP TABLE xzcf; --")]),
            parcel("cc-1", Upsert, &[("CF_WSH", &"长".repeat(31))]),
            parcel("dd-1", Upsert, &[("CF_WSH", "4"), ("CF_NR_FK", "-1")]),
            parcel("ee-1", Upsert, &[("CF_WSH", "5"), ("CF_JDRQ", "2026-02-30")]),
            parcel("ff-1", Upsert, &[("CF_NR_FK", "1")]),
        ];
        for _ in 0..2 {
            let outcomes = to.deliver(&first, None).await.unwrap();
            assert_eq!(outcomes[..2], [Outcome::Accepted, Outcome::Accepted], "{engine:?}");
            let codes = ["22001", "23514", "22", "23502"];
            for ((outcome, code), words) in
                outcomes[2..].iter().zip(codes).zip(["过长", "检查约束", "日期", "必填"])
            {
                let Outcome::Refused { code: told, message } = outcome else {
                    panic!("{engine:?} {outcome:?}")
                };
                assert!(
                    told.starts_with(code) && message.contains(words),
                    "{engine:?} {outcome:?}"
                );
                assert!(!message.contains('长') || words == "过长", "{message}");
            }
        }
        // Another life of the gateway: a change, a repeat, an overtaken version, a withdrawal.
        let to = target(&server, json!({}));
        let second = [
            parcel("aa-2", Upsert, &[("CF_WSH", "样罚〔2026〕1号"), ("CF_NR_FK", "0.3")]),
            parcel("aa-1", Upsert, &whole),
            parcel("bb-3", Withdraw, &[]),
            parcel("bb-2", Upsert, &[("CF_WSH", "2")]),
            parcel("aa-2", Upsert, &[("CF_WSH", "样罚〔2026〕1号"), ("CF_NR_FK", "0.3")]),
        ];
        let outcomes = to.deliver(&second, None).await.unwrap();
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Accepted), "{outcomes:?}");
        let quote = if engine == Engine::Postgres { "\"" } else { "`" };
        let rows = server
            .sql(&format!(
                "SELECT version, batch_no, change_flag, {quote}CF_WSH{quote} FROM xzcf ORDER BY {quote}CF_WSH{quote}, version"
            ))
            .unwrap();
        let rows: std::collections::BTreeSet<_> = rows.lines().collect();
        let expected = [
            "1\t1\t1\t样罚〔2026〕1号",
            "2\t2\t2\t样罚〔2026〕1号",
            "1\t1\t1\t样罚'); DROP TABLE xzcf; --",
            "3\t2\t3\t样罚'); DROP TABLE xzcf; --",
        ];
        assert_eq!(rows, std::collections::BTreeSet::from(expected), "{engine:?}");
        assert_eq!(server.sql("SELECT count(DISTINCT guid) FROM xzcf").unwrap(), "2");
    }
}

/// A platform that was away accepts what a later message has put right, or got wrong.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_message_never_overwrites_what_a_newer_one_was_told() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        server
            .sql(
                "CREATE TABLE t (cd_id varchar(20) PRIMARY KEY, standing varchar(10), reason varchar(20), nr bigint);
                 INSERT INTO t (cd_id) VALUES ('甲'), ('乙')",
            )
            .unwrap();
        let all = "SELECT cd_id, standing, reason FROM t WHERE cd_id = '甲'";
        let of = |message: u64, standing: Standing, reason: &str| FeedbackRow {
            message,
            ..row(0, Some("甲"), standing, reason)
        };
        let guarded = json!({ "message": "nr" });
        let to = sink(&server, guarded.clone());
        to.give(&[of(1, Standing::Taken, "")]).await.unwrap();
        to.give(&[of(2, Standing::Refused, "日期")]).await.unwrap();
        let refused = "甲\trefused\t日期";
        for to in [to, sink(&server, guarded.clone())] {
            to.give(&[of(1, Standing::Accepted, "")]).await.unwrap();
            assert_eq!(server.sql(all).unwrap(), refused, "{engine:?}: in this life and the next");
        }
        // Without a column, as long as the gateway runs.
        server.sql("UPDATE t SET standing = NULL, reason = NULL").unwrap();
        let to = sink(&server, json!({}));
        to.give(&[of(2, Standing::Refused, "日期")]).await.unwrap();
        to.give(&[of(1, Standing::Accepted, ""), row(1, Some("乙"), Standing::Held, "")])
            .await
            .unwrap();
        assert_eq!(server.sql(all).unwrap(), refused, "{engine:?}");
        let other = "SELECT standing FROM t WHERE cd_id = '乙'";
        assert_eq!(server.sql(other).unwrap(), "held", "{engine:?}: others are told");
        to.give(&[of(2, Standing::Accepted, "")]).await.unwrap();
        to.give(&[of(3, Standing::Held, "等待")]).await.unwrap();
        assert_eq!(server.sql(all).unwrap(), "甲\theld\t等待", "{engine:?}");
    }
}

/// Tables have columns of their receiver's beside the documented ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_copies_nothing_that_is_the_databases_or_the_receivers() {
    use Operation::{Upsert, Withdraw};
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let (table, moment) = match engine {
            Engine::Postgres => (
                "id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, nr uuid DEFAULT gen_random_uuid() UNIQUE,
                 twice int GENERATED ALWAYS AS (version * 2) STORED",
                "timestamptz",
            ),
            Engine::MariaDb => (
                "id int AUTO_INCREMENT PRIMARY KEY, nr varchar(36) DEFAULT uuid() UNIQUE,
                 twice int GENERATED ALWAYS AS (version * 2) STORED",
                "datetime",
            ),
        };
        server
            .sql(&format!(
                "CREATE TABLE xzcf ({table}, taken int NOT NULL DEFAULT 0, slip varchar(20) UNIQUE,
                 guid char(36) NOT NULL, version int NOT NULL, batch_no int NOT NULL,
                 change_flag smallint NOT NULL, create_time {moment} NOT NULL,
                 cf_wsh varchar(30) NOT NULL, cf_sy varchar(30),
                 UNIQUE (guid, version), UNIQUE (guid, batch_no))"
            ))
            .unwrap();
        for schema in [json!({}), json!({ "schema": "public" })] {
            if engine == Engine::MariaDb && schema != json!({}) {
                continue;
            }
            let key = if schema == json!({}) { "aa" } else { "bb" };
            let to = target(&server, schema);
            let first = parcel(
                &format!("{key}-1"),
                Upsert,
                &[("cf_wsh", "样罚〔2026〕1号"), ("cf_sy", "占道")],
            );
            assert_eq!(
                to.deliver(&[first], None).await.unwrap(),
                [Outcome::Accepted],
                "{engine:?}"
            );
            server.sql(&format!("UPDATE xzcf SET taken = 1, slip = '{key}'")).unwrap();
            let second = parcel(&format!("{key}-2"), Withdraw, &[]);
            let outcomes = to.deliver(&[second], None).await.unwrap();
            assert_eq!(outcomes, [Outcome::Accepted], "{engine:?}");
            let last =
                "SELECT change_flag, taken, cf_wsh, cf_sy, twice FROM xzcf WHERE slip IS NULL";
            assert_eq!(server.sql(last).unwrap(), "3\t0\t样罚〔2026〕1号\t占道\t4", "{engine:?}");
            server.sql("DELETE FROM xzcf").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fault_of_a_record_refuses_none() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        create(&server);
        let rejected = |error: TargetError, word: &str| {
            assert!(
                matches!(&error, TargetError::Rejected { detail } if detail.contains(word)),
                "{engine:?} {word}: {error}"
            );
        };
        let one = [parcel("aa-1", Operation::Upsert, &[("CF_WSH", "1")])];
        let odd = [parcel("aa-1", Operation::Upsert, &[("CF_QT", "1")])];
        rejected(target(&server, json!({})).deliver(&odd, None).await.unwrap_err(), "CF_QT");
        let renamed = target(&server, json!({ "columns": { "CF_QT": "CF_WSH" } }));
        assert_eq!(renamed.deliver(&odd, None).await.unwrap(), [Outcome::Accepted]);
        let gone = target(&server, json!({ "tables": { "admin-penalty": "gone" } }));
        rejected(gone.deliver(&one, None).await.unwrap_err(), "tables");
        let stranger = target(&server, json!({ "user": "stranger" }));
        rejected(stranger.deliver(&one, None).await.unwrap_err(), "password");
        let reader = target(&server, json!({ "user": "reader" }));
        let two = [parcel("zz-1", Operation::Upsert, &[("CF_WSH", "1")])];
        rejected(reader.deliver(&two, None).await.unwrap_err(), "权限");
        let other = target(&server, json!({ "tables": { "admin-licence": "xzcf" } }));
        let outcomes = other.deliver(&one, None).await.unwrap();
        assert!(matches!(&outcomes[0], Outcome::Later { code, .. } if code == "target.no-table"));
        // The server goes away and comes back on another port: the batch was certainly not taken.
        let to = target(&server, json!({}));
        to.deliver(&one, None).await.unwrap();
        drop(server);
        let error = to.deliver(&two, None).await.unwrap_err();
        assert!(matches!(error, TargetError::NotTaken { .. }), "{engine:?} {error}");
        let error = to.deliver(&two, None).await.unwrap_err();
        assert!(matches!(error, TargetError::NotTaken { .. }), "{engine:?} {error}");
    }
}

fn row(index: u64, key: Option<&str>, standing: Standing, reason: &str) -> FeedbackRow {
    FeedbackRow {
        message: 7,
        index,
        row: index + 2,
        cells: vec![key.map(str::to_owned)],
        standing,
        reason: reason.to_owned(),
        at: Timestamp(1_795_392_000_000),
    }
}

fn sink(server: &Server, feedback: Value) -> Arc<dyn VerdictSink> {
    let params = params(
        server,
        "writer",
        json!({ "table": "t", "key": ["cd_id"], "incremental": { "full": {} }, "feedback": feedback }),
    );
    let source = sources::find(server.engine.kind()).unwrap().build(&params, &TestSecrets);
    match source.unwrap_or_else(|problems| panic!("{problems:?}")).feedback() {
        Some(FeedbackRoad::Rows(sink)) => sink,
        _ => panic!("no road"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_are_written_as_rows_all_or_none_and_once() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let moment = if engine == Engine::Postgres { "timestamp" } else { "datetime" };
        server
            .sql(&format!(
                "CREATE TABLE t (cd_id varchar(20) PRIMARY KEY, sync_sign char(1), sync_error_desc varchar(20));
                 INSERT INTO t (cd_id) VALUES ('甲'), ('乙');
                 CREATE TABLE verdicts (message_no bigint, row_no bigint, cd_id varchar(20), standing varchar(10),
                     reason varchar(20) NOT NULL, told_at {moment}, PRIMARY KEY (message_no, row_no));"
            ))
            .unwrap();
        let to = sink(&server, json!({ "table": "verdicts", "reason-chars": 20 }));
        assert_eq!(to.columns(), ["cd_id"]);
        let first = [
            row(0, Some("甲"), Standing::Taken, ""),
            row(1, Some("乙"), Standing::Refused, &"处罚决定日期'晚于'".repeat(9)),
            row(2, None, Standing::Held, "等待"),
        ];
        for _ in 0..2 {
            to.give(&first).await.unwrap();
        }
        to.give(&[row(0, Some("甲"), Standing::Accepted, "")]).await.unwrap();
        let all = "SELECT row_no, cd_id, standing, told_at FROM verdicts ORDER BY row_no";
        let at = "2026-11-23 08:00:00";
        let none = if engine == Engine::Postgres { "" } else { "NULL" };
        assert_eq!(
            server.sql(all).unwrap(),
            format!("0\t甲\taccepted\t{at}\n1\t乙\trefused\t{at}\n2\t{none}\theld\t{at}")
        );
        // One that does not fit takes the others with it.
        let long = sink(&server, json!({ "table": "verdicts", "reason-chars": 21 }));
        let rows =
            [row(3, None, Standing::Held, ""), row(4, None, Standing::Refused, &"长".repeat(21))];
        let told = long.give(&rows).await.unwrap_err().to_string();
        assert!(told.contains("反馈") && !told.contains('长'), "{told}");
        assert_eq!(server.sql("SELECT count(*) FROM verdicts").unwrap(), "3");
        let missing =
            sink(&server, json!({ "table": "verdikts" })).give(&first[..1]).await.unwrap_err();
        assert_eq!(missing.code(), "source.no-table");
        assert!(missing.to_string().contains("feedback.table"), "{missing}");

        // Beside the agency's own rows (Jiangsu).
        let beside = json!({
            "standing": "sync_sign", "reason": "sync_error_desc", "reason-chars": 20,
            "words": { "taken": "1", "accepted": "2", "refused": "9", "held": "1" },
        });
        let to = sink(&server, beside);
        to.give(&[first[0].clone(), first[1].clone(), first[2].clone()]).await.unwrap();
        let own = server.sql("SELECT cd_id, sync_sign FROM t ORDER BY sync_sign").unwrap();
        assert_eq!(own, "甲\t1\n乙\t9");
        let wrong = sink(&server, json!({ "standing": "gone", "reason": "sync_error_desc" }));
        let told = wrong.give(&first[..1]).await.unwrap_err();
        assert_eq!(told.code(), "source.no-column");
        assert!(told.to_string().contains("feedback.standing"), "{told}");
    }
}
