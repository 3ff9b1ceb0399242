//! Rows that have only legacy codes: resolved by the mapping table, held without it, delivered once
//! it has grown, by command and by feed, with the gateway killed in between.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::Value;
use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::platform::{Outcome, Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::ident::{LegacyCode, LegacyKind, UsccEntry};
use xinqiao_core::model::{FeedId, Operation, Timestamp};
use xinqiao_store::{RowOutcome, TableLine};
use xinqiao_tests::{Client, PUSH, Row, World, csv, mapping, ndjson, uscc};

use crate::at_rest::readable;
use crate::fault::kill::{Running, binary, open, settle};
use crate::watch::{at_rest, messages, until, verdicts};

const ROWS: u64 = 1_000;

/// How a row tells its subject: 30 % by a legacy code.
enum Told {
    /// 组织机构代码 in its own column.
    OrgCode(String),
    /// 工商注册号 in the column of the 统一社会信用代码.
    RegNo(String),
    /// 组织机构代码 there.
    Misplaced(String),
    Uscc,
}

fn told(number: u64) -> Told {
    let inner = uscc("91", number).get(8..17).unwrap().to_owned();
    match number % 10 {
        0 => {
            Told::OrgCode(inner.chars().enumerate().fold(String::new(), |code, (at, c)| match at {
                8 => format!("{code}-{c}"),
                _ => format!("{code}{c}"),
            }))
        }
        1 => Told::RegNo(reg_no(number)),
        2 => Told::Misplaced(inner),
        _ => Told::Uscc,
    }
}

/// GS 15: ISO 7064 MOD 11,10.
fn reg_no(number: u64) -> String {
    let body = format!("41170299{number:06}");
    let product = body.bytes().fold(10, |product, digit| {
        let sum = (product + u64::from(digit - b'0')) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    format!("{body}{}", (11 - product) % 10)
}

/// The agency's file: as [`csv`], with two columns more.
fn file(numbers: std::ops::Range<u64>) -> String {
    let plain = csv(numbers.clone().map(Row::new));
    let mut lines = plain.lines();
    let mut text = format!("{},组织机构代码,工商注册号\r\n", lines.next().unwrap());
    for (line, number) in lines.zip(numbers) {
        let code = format!("\"{}\"", uscc("91", number));
        let (column, org) = match told(number) {
            Told::OrgCode(org) => ("\"\"".to_owned(), org),
            Told::RegNo(code) | Told::Misplaced(code) => (format!("\"{code}\""), String::new()),
            Told::Uscc => (code.clone(), String::new()),
        };
        text += &format!("{},\"{org}\",\"\"\r\n", line.replace(&code, &column));
    }
    text
}

/// Lines of the table for some rows: kind, code, whose.
fn lines(of: impl Fn(u64) -> bool) -> Vec<(&'static str, String, String)> {
    let line = |number| {
        let whose = uscc("91", number);
        match told(number) {
            Told::OrgCode(code) | Told::Misplaced(code) => Some(("组织机构代码", code, whose)),
            Told::RegNo(code) => Some(("工商注册号", code, whose)),
            Told::Uscc => None,
        }
    };
    (0..ROWS).filter(|number| of(*number)).filter_map(line).collect()
}

/// The operator's half, and the registration authority's.
fn operators(number: u64) -> bool {
    number % 20 < 10
}

fn ask(world: &World, args: &[&str]) -> Output {
    Command::new(binary()).args(args).arg("--config").arg(world.path()).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn held(world: &World) -> u64 {
    let counts = json(&ask(world, &["uscc", "held", "--json"]));
    counts.as_array().unwrap().iter().map(|count| count["rows"].as_u64().unwrap()).sum()
}

/// A life of the gateway that answers.
async fn start(world: &World) -> Running {
    let gateway = Running::start(world);
    let socket = world.data().join("control.sock");
    until("the gateway answers", || UnixStream::connect(&socket).is_ok()).await;
    gateway
}

#[tokio::test(flavor = "multi_thread")]
async fn held_rows_are_delivered_when_the_table_grows_whatever_is_killed() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let legacy = mapping("csv").replace("id: made-csv", "id: made-legacy")
        + "  CF_XDR_ZZJG: { from: 组织机构代码 }\n  CF_XDR_GSZC: { from: 工商注册号 }\n";
    let table = include_str!("../../mappings/agencies/scjg/uscc-map.yaml").to_owned();
    let mappings = [("agencies/made/legacy.yaml", legacy), ("agencies/scjg/uscc-map.yaml", table)];
    let feed = |id: &str, mapping: &str, targets: &str| {
        format!(
            "  {id}:\n    agency: made\n    mapping: {mapping}\n    targets: [{targets}]\n    \
             source:\n      kind: folder\n      params: {{ path: in-{id}, settle-seconds: 0, \
             poll-seconds: 0.02 }}\n"
        )
    };
    let feeds = feed("legacy", "made-legacy", "platform") + &feed("table", "scjg-uscc-map", "");
    let world = World::with(&platform.url(), "127.0.0.1:0", &mappings, &feeds).unwrap();
    for folder in ["in-legacy", "in-table"] {
        std::fs::create_dir(world.path().join(folder)).unwrap();
    }
    let delivered = || platform.ledger().len() as u64;

    let mut gateway = start(&world).await;
    world.put("in-legacy", "一.csv", &file(0..400)).unwrap();
    world.put("in-legacy", "二.csv", &file(400..ROWS)).unwrap();
    let by_code = ROWS * 3 / 10;
    until("what needs no table is delivered", || delivered() == ROWS - by_code).await;
    until("the rest is held", || held(&world) == by_code).await;

    // One bad line, and nothing is loaded; every bad line is told.
    let heading = "类型,旧码,统一社会信用代码,生效日期,失效日期,来源\n";
    let good =
        lines(operators).into_iter().fold(heading.to_owned(), |text, (kind, code, whose)| {
            text + &format!("{kind},{code},{whose},2015-10-01,,样例登记机关\n")
        });
    let path = world.path().join("table.csv");
    std::fs::write(&path, format!("{good}工商注册号,1,坏,,,\n护照,x,{},,,\n", uscc("91", 1)))
        .unwrap();
    let load = ["uscc", "load", path.to_str().unwrap(), "--json"];
    let refused = ask(&world, &load);
    let report = json(&refused);
    assert_eq!(refused.status.code(), Some(1), "{report}");
    assert_eq!((report["bad"].as_u64(), report["loaded"].is_null()), (Some(2), true), "{report}");
    assert_eq!(report["lines"].as_array().unwrap().len(), 2);
    assert_eq!(held(&world), by_code);

    // The operator's half, in the encoding of the office; killed while rows are looked at again.
    std::fs::write(&path, encoding_rs::GB18030.encode(&good).0).unwrap();
    let report = json(&ask(&world, &load));
    assert_eq!(report["loaded"]["added"].as_u64(), Some(by_code / 2), "{report}");
    gateway.kill();
    let mut gateway = start(&world).await;
    until("the operator's half is delivered", || delivered() == ROWS - by_code / 2).await;
    until("the other half is held", || held(&world) == by_code / 2).await;
    let again = json(&ask(&world, &load));
    assert_eq!(again["loaded"]["known"].as_u64(), Some(by_code / 2), "{again}");
    let shown = ask(&world, &["uscc", "show", "工商注册号", &reg_no(1), "--json"]);
    assert_eq!(json(&shown)["lines"][0]["uscc"], uscc("91", 1));
    assert!(shown.status.success());

    // The other half by the feed; killed at once, twice.
    let other = lines(|number| !operators(number));
    let text = other.iter().fold("种类,旧号,统一代码,状态\n".to_owned(), |text, line| {
        let (kind, code, whose) = line;
        let kind = if *kind == "工商注册号" { "zch" } else { "zzjgdm" };
        text + &format!("{kind},{code},{whose},有效\n")
    });
    world.put("in-table", "对照.csv", &text).unwrap();
    gateway.kill();
    let mut gateway = start(&world).await;
    gateway.kill();
    let mut gateway = start(&world).await;
    until("everything is delivered", || delivered() == ROWS).await;
    until("nothing is held", || held(&world) == 0).await;
    gateway.kill();

    let store = open(&world);
    let store = if at_rest(&store) {
        store
    } else {
        drop(store);
        settle(&world).await;
        open(&world)
    };
    assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
    let ledger = platform.ledger();
    let documents: BTreeSet<_> = ledger.iter().filter_map(|row| row.document.clone()).collect();
    let expected: BTreeSet<_> = (0..ROWS).map(|n| Row::new(n).document()).collect();
    assert_eq!((documents, ledger.len() as u64), (expected, ROWS), "each decision once");
    assert!(ledger.iter().all(|row| row.outcome == Outcome::Accepted));
    let status = store.status().unwrap();
    let of = |id: &str| status.feeds[&FeedId::new(id).unwrap()].clone();
    let rows = of("legacy");
    assert_eq!((rows.rows, rows.rejected, rows.held, rows.committed), (ROWS, 0, 0, ROWS));
    assert_eq!((rows.accepted, rows.open()), (ROWS, 0));
    let brought = of("table");
    assert_eq!((brought.rows, brought.mapped, brought.committed), (by_code / 2, by_code / 2, 0));
    // Each row's verdict is of the row it always was.
    for message in messages(&store).iter().filter(|message| message.feed.as_str() == "legacy") {
        let first = if message.name.as_deref() == Some("一.csv") { 0 } else { 400 };
        for (number, row) in (first..).zip(verdicts(&store, message.id)) {
            assert_eq!(row.document, Some(Row::new(number).document()));
            assert!(matches!(row.outcome, RowOutcome::New { .. }), "{row:?}");
            let rules: BTreeMap<_, _> = row.findings.iter().map(|f| (&*f.rule, ())).collect();
            let by_table = !matches!(told(number), Told::Uscc);
            assert_eq!(rules.contains_key("uscc.from-legacy"), by_table, "{number}: {rules:?}");
        }
    }
    drop(store);
    let codes: Vec<String> = (0..ROWS)
        .filter_map(|number| match told(number) {
            Told::OrgCode(code) | Told::RegNo(code) | Told::Misplaced(code) => Some(code),
            Told::Uscc => None,
        })
        .step_by(37)
        .chain([uscc("91", 1), uscc("91", 2), "样例登记机关".to_owned()])
        .collect();
    assert_eq!(readable(&world.data(), &codes), 0, "no code lies readable");
}

/// 2026-11-23 12:00 in Asia/Shanghai.
const START: Timestamp = Timestamp(1_795_406_400_000);

fn rules(row: &Value) -> BTreeSet<&str> {
    let findings = row["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pushed_a_row_sees_it_held_and_then_delivered() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let clock = Arc::new(ShiftedClock::starting_at(START));
    let gateway = Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap();
    let body = ndjson([Row::new(1)]).replace(&uscc("91", 1), &reg_no(1));
    let mut client = Client::connect(gateway.push_address().unwrap()).await.unwrap();
    let message = client.push(&body).await.unwrap().body["message"].as_u64().unwrap();
    let told = format!("/api/v1/messages/{message}/verdicts");
    let counters = || gateway.store().status().unwrap().feeds[&FeedId::new(PUSH).unwrap()].clone();
    until("the row is held", || counters().held == 1).await;
    let row = client.get(&told).await.unwrap().body["rows"][0].clone();
    assert_eq!((&row["outcome"], &row["verdict"]), (&"Held".into(), &"warn".into()), "{row}");
    assert!(rules(&row).contains("uscc.unresolved"), "{row}");
    assert!(!row.to_string().contains(&reg_no(1)));
    let receipt = client.get(&format!("/api/v1/messages/{message}/receipt")).await.unwrap().body;
    let statement = receipt["outcome"]["statement"].as_str().unwrap();
    assert!(statement.contains("rows=1 rejected=0 accepted=0 refused=0 pending=1"), "{statement}");

    let code = LegacyCode::new(LegacyKind::RegNo, &reg_no(1)).unwrap();
    let entry = UsccEntry::new(code, &uscc("91", 1), (None, None), "样例登记机关").unwrap();
    let line = TableLine { entry, operation: Operation::Upsert };
    gateway.store().load_uscc(vec![line]).await.unwrap();
    until("it is delivered", || counters().accepted == 1).await;
    let row = client.get(&told).await.unwrap().body["rows"][0].clone();
    assert!(rules(&row).contains("uscc.from-legacy"), "{row}");
    assert!(row["outcome"]["New"]["seq"].is_u64(), "{row}");
    // The same row with its code is no second record.
    client.push(ndjson([Row::new(1)])).await.unwrap();
    until("it is known", || counters().repeated == 1).await;
    assert_eq!(platform.ledger().len(), 1);
    let store = gateway.store().clone();
    gateway.stop().await;
    assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
}
