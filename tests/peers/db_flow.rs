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
