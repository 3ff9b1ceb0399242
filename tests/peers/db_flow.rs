//! A lax GBK table through the whole gateway: what was damaged before it came is found.

use std::collections::BTreeMap;
use std::sync::Arc;

use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::domain::{self, Domain};
use xinqiao_core::model::Verdict;
use xinqiao_tests::World;
use xinqiao_tests::databases::{Engine, Server};

use crate::db_kill::{Way, at_rest, cells, configure, free_address, put_rows, quoted, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lax_server_damaged_is_found() {
    let options = ["--character-set-server=gbk", "--sql-mode="];
    let server = Server::start(Engine::MariaDb, &options).unwrap();
    let columns: Vec<_> = cells(0)
        .into_iter()
        .map(|(name, _)| {
            let kind = if name == "处罚决定日期" { "date" } else { "varchar(200)" };
            format!("{} {kind}", quoted(server.engine, &name))
        })
        .collect();
    server
        .sql(&format!(
            "CREATE TABLE punish (cd_id int PRIMARY KEY, opt_type char(1), news int, cd_time datetime, {}) CHARSET gbk",
            columns.join(", ")
        ))
        .unwrap();
    put_rows(&server, 0..4);
    server
        .sql(
            "UPDATE punish SET 处罚决定日期 = '2025-03-03';
             UPDATE punish SET 行政相对人名称 = '样例𠮷有限公司' WHERE cd_id = 1;
             UPDATE punish SET 处罚决定日期 = '2026-02-30' WHERE cd_id = 2;
             UPDATE punish SET opt_type = '?' WHERE cd_id = 3;",
        )
        .unwrap();

    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), &free_address()).unwrap();
    configure(&world, &server, Way::Time);
    let bundle = domain::bundle(Some(&world.path().join("mappings"))).unwrap();
    let domain = Arc::new(Domain::load(bundle).unwrap());
    let config = xinqiao::config::load(world.path(), &domain).unwrap();
    let gateway = Gateway::start(config, domain, Arc::new(SystemClock)).await.unwrap();
    let store = gateway.store();
    let first = || store.messages(None, None, None, 10).unwrap().first().map(|message| message.id);
    until("the message is taken", || first().is_some()).await;
    until("everything is settled", || at_rest(store)).await;
    let verdicts = store.verdicts(first().unwrap(), 0, 10).unwrap();
    let found: BTreeMap<_, Vec<_>> = verdicts
        .iter()
        .map(|row| {
            let rules = row.findings.iter().map(|finding| finding.rule.as_ref());
            (row.row, rules.collect())
        })
        .collect();
    gateway.stop().await;
    assert_eq!(found.len(), 4, "{found:?}");
    let [good, name, date, flag] = [1, 2, 3, 4].map(|row| &found[&row]);
    assert!(!good.contains(&"text.special"), "{found:?}");
    assert!(name.contains(&"text.special"), "{found:?}");
    assert!(date.contains(&"value.date-placeholder"), "{found:?}");
    assert!(flag.contains(&"status.unclear"), "{found:?}");
    let rejected = |row: u64| verdicts.iter().any(|v| v.row == row && v.verdict == Verdict::Reject);
    assert!(!rejected(1) && rejected(3) && rejected(4), "{found:?}");
}

/// What a row was before is news when it is so again: nothing of it is taken for a repeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_goes_back_to_what_it_was_is_a_message_of_its_own() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).unwrap();
        let columns: Vec<_> = cells(0)
            .into_iter()
            .map(|(name, _)| format!("{} varchar(200)", quoted(engine, &name)))
            .collect();
        let moment = if engine == Engine::Postgres { "timestamp" } else { "datetime" };
        server
            .sql(&format!(
                "CREATE TABLE punish (cd_id int PRIMARY KEY, opt_type char(1), news int, cd_time {moment}, {})",
                columns.join(", ")
            ))
            .unwrap();
        put_rows(&server, 0..1);
        let platform = Platform::start(PlatformOptions::default()).await.unwrap();
        let world = World::new(&platform.url(), &free_address()).unwrap();
        configure(&world, &server, Way::Flag);
        let bundle = domain::bundle(Some(&world.path().join("mappings"))).unwrap();
        let domain = Arc::new(Domain::load(bundle).unwrap());
        let config = xinqiao::config::load(world.path(), &domain).unwrap();
        let gateway = Gateway::start(config, domain, Arc::new(SystemClock)).await.unwrap();
        let store = gateway.store();
        let content = quoted(engine, "处罚内容");
        let first = server.sql(&format!("SELECT {content} FROM punish")).unwrap();
        let messages = || store.messages(None, None, None, 10).unwrap();
        let left = || server.sql("SELECT count(*) FROM punish WHERE news <> 0").unwrap();
        for (count, text) in [(1, first.as_str()), (2, "通报批评"), (3, first.as_str())] {
            if count > 1 {
                server.sql(&format!("UPDATE punish SET {content} = '{text}', news = 1")).unwrap();
            }
            until("the row is taken", || messages().len() >= count).await;
            until("it is acknowledged", || left() == "0").await;
            until("it is settled", || at_rest(store)).await;
            assert_eq!(messages().len(), count, "{engine:?}");
        }
        let all = messages();
        let of = |at: usize| all.iter().find(|message| message.id == at as u64).unwrap();
        assert_eq!(of(1).digest, of(3).digest, "{engine:?}: the same bytes");
        assert_eq!(store.verdicts(3, 0, 10).unwrap().len(), 1, "{engine:?}: looked at");
        assert_eq!(store.fsck().unwrap(), Vec::<String>::new(), "{engine:?}");
        gateway.stop().await;
    }
}
