//! SIGKILL at random moments while a table is taken, then the books are balanced: 20,000 rows of an
//! agency's table, of which a share is changed and a share deleted by flag; and fewer that are
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{LedgerRow, Outcome, Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::domain::{self, Domain};
use xinqiao_core::spi::Clock as _;
use xinqiao_store::{ItemState, Store};
use xinqiao_tests::databases::{Engine, Server};
use xinqiao_tests::{Row, World, mapping, ndjson};

const KILLS: u64 = 10;
/// The lives in which rows are put; in the others they change.
const PUTTING: u64 = 6;

/// How rows are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By time, read only.
    Time,
    /// By a flag that is changed once there is a receipt.
    Flag,
}

/// What becomes of a row once it is at the platform.
fn fate(number: u64) -> Option<&'static str> {
    match number % 25 {
        0 => Some("d"),
        1 | 2 => Some("u"),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_row_of_postgres() {
    kills(Engine::Postgres, Way::Time, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_row_of_mariadb() {
    kills(Engine::MariaDb, Way::Time, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_row_that_postgres_has_flagged() {
    kills(Engine::Postgres, Way::Flag, 5_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_row_that_mariadb_has_flagged() {
    kills(Engine::MariaDb, Way::Flag, 5_000).await;
}

async fn kills(engine: Engine, way: Way, rows: u64) {
    let seed = std::env::var("XINQIAO_SEED");
    let mut random =
        Random(seed.map_or_else(|_| SystemClock.now().0, |seed| seed.parse().unwrap()));
    println!("XINQIAO_SEED={}", random.0);
    let server = Server::start(engine, &[]).unwrap();
    let breaking = PlatformOptions { break_every: Some(7), ..PlatformOptions::default() };
    let platform = Platform::start(breaking).await.unwrap();
    let world = World::new(&platform.url(), &free_address()).unwrap();
    configure(&world, &server, way);
    let names = cells(0).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let columns: Vec<_> =
        names.iter().map(|n| format!("{} varchar(200)", quoted(engine, n))).collect();
    let moment = if engine == Engine::Postgres { "timestamp(0)" } else { "datetime" };
    server
        .sql(&format!(
            "CREATE TABLE punish (cd_id int PRIMARY KEY, opt_type char(1), news int,
             cd_time {moment}, {});
             CREATE INDEX taking ON punish (cd_time, cd_id);",
            columns.join(", ")
        ))
        .unwrap();

    let begun = Instant::now();
    let (mut put, mut changed, mut seen) = (0, BTreeSet::new(), Vec::new());
    for life in 0..KILLS {
        let mut gateway = Running::start(&world);
        if life < PUTTING {
            let share = rows * (life + 1) / PUTTING;
            put_rows(&server, put..share);
            put = share;
        } else {
            change(&server, rows, &platform.ledger(), &mut changed);
        }
        // A gateway takes rows a second or more after its start.
        tokio::time::sleep(Duration::from_millis(1_000 + random.below(rows / 5))).await;
        gateway.kill();
        seen.push(platform.ledger().len());
    }
    let domain = domain::bundle(Some(&world.path().join("mappings"))).unwrap();
    let domain = Arc::new(Domain::load(domain).unwrap());
    let config = xinqiao::config::load(world.path(), &domain).unwrap();
    let gateway = Gateway::start(config, domain, Arc::new(SystemClock)).await.unwrap();
    let whole = usize::try_from(rows).unwrap();
    until("every row is at the platform", || documents(&platform.ledger()).len() >= whole).await;
    change(&server, rows, &platform.ledger(), &mut changed);
    assert_eq!(changed.len() as u64, rows / 25 * 3, "every row has met its fate");
    let expected = whole + changed.len();
    until("every change is at the platform", || platform.ledger().len() >= expected).await;
    until("everything is settled", || at_rest(gateway.store())).await;
    assert_eq!(gateway.store().fsck().unwrap(), Vec::<String>::new());

    let ledger = platform.ledger();
    assert!(ledger.iter().all(|row| row.outcome == Outcome::Accepted));
    assert_eq!(gateway.store().status().unwrap().records, rows, "one record a row");
    assert_eq!(ledger.len(), expected, "every change once, and nothing else");
    let document = documents(&ledger);
    let all: BTreeSet<_> = document.values().cloned().collect();
    assert_eq!(all, (0..rows).map(|n| Row::new(n).document()).collect(), "every decision");
    let fates = |operation: &str, version: &str| -> BTreeSet<String> {
        let of = ledger.iter().filter(|row| row.operation == operation);
        of.filter(|row| row.key.ends_with(version))
            .map(|row| document[digest(row)].clone())
            .collect()
    };
    let destined = |what: &str| -> BTreeSet<String> {
        (0..rows).filter(|n| fate(*n) == Some(what)).map(|n| Row::new(n).document()).collect()
    };
    assert_eq!(fates("withdraw", "-2"), destined("d"), "every deletion is a withdrawal");
    assert_eq!(fates("upsert", "-2"), destined("u"), "every change is a second version");
    assert_eq!(taken(gateway.store()), expected, "every change was taken in one message only");
    if way == Way::Flag {
        let left = || server.sql("SELECT count(*) FROM punish WHERE news <> 0").unwrap();
        until("every row is acknowledged", || left() == "0").await;
    }
    gateway.stop().await;
    println!(
        "{engine:?} {way:?}: {KILLS} kills in {:.1?} with {seen:?} parcels delivered by then; {rows} rows, {} \
         changed or withdrawn, {} parcels",
        begun.elapsed(),
        changed.len(),
        ledger.len(),
    );
}

/// The feed and its mapping, in place of those the world comes with.
pub(crate) fn configure(world: &World, server: &Server, way: Way) {
    let text = mapping("ndjson")
        .replace("id: made-ndjson", "id: made-table")
        .replace("fields:\n", "withdraw-when: { opt_type: d }\nwithdraw-keep: [i, u]\nfields:\n");
    std::fs::write(world.path().join("mappings/agencies/made/table.yaml"), text).unwrap();
    std::fs::write(world.path().join("password"), "s3cret").unwrap();
    let (user, more) = match way {
        Way::Time => (
            "reader",
            json!({ "incremental": { "time": { "column": "cd_time", "lag-seconds": 2 } } }),
        ),
        Way::Flag => (
            "writer",
            json!({ "incremental": { "flag": { "column": "news" } }, "ack": { "news": "0" } }),
        ),
    };
    let mut params = server.access(user);
    params["password"] = json!({ "file": "password" });
    let always =
        json!({ "table": "punish", "key": ["cd_id"], "page-rows": 200, "poll-seconds": 0.1 });
    for some in [always, more] {
        params.as_object_mut().unwrap().extend(some.as_object().unwrap().clone());
    }
    let feeds = json!({
        "config": 1,
        "agencies": { "made": { "name": "样例局" } },
        "feeds": { "table": {
            "agency": "made", "mapping": "made-table", "targets": ["platform"],
            "source": { "kind": server.engine.kind(), "params": params },
        }},
    });
    std::fs::write(world.path().join("feeds.yaml"), feeds.to_string()).unwrap();
}

pub(crate) fn cells(number: u64) -> Map<String, Value> {
    serde_json::from_str(ndjson([Row::new(number)]).trim()).unwrap()
}

pub(crate) fn quoted(engine: Engine, name: &str) -> String {
    match engine {
        Engine::Postgres => format!("\"{name}\""),
        Engine::MariaDb => format!("`{name}`"),
    }
}

/// Small statements, each its own transaction: none lasts as long as the lag.
pub(crate) fn put_rows(server: &Server, numbers: std::ops::Range<u64>) {
    let mut text = String::new();
    for number in numbers {
        let cells = cells(number);
        let names: Vec<_> = cells.keys().map(|name| quoted(server.engine, name)).collect();
        let values: Vec<_> =
            cells.values().map(|value| format!("'{}'", value.as_str().unwrap())).collect();
        let _ = writeln!(
            text,
            "INSERT INTO punish (cd_id, opt_type, news, cd_time, {}) VALUES ({number}, 'i', 1, {}, {});",
            names.join(", "),
            now(server.engine),
            values.join(", "),
        );
    }
    server.sql(&text).unwrap();
}

/// Lets rows that are at the platform meet their fates.
fn change(server: &Server, rows: u64, ledger: &[LedgerRow], changed: &mut BTreeSet<u64>) {
    let there: BTreeSet<_> = documents(ledger).into_values().collect();
    let mut text = String::new();
    for number in 0..rows {
        let Some(fate) = fate(number) else { continue };
        if there.contains(&Row::new(number).document()) && changed.insert(number) {
            let _ = writeln!(
                text,
                "UPDATE punish SET opt_type = '{fate}', news = 2, cd_time = {}, {} = '通报批评' WHERE cd_id = {number};",
                now(server.engine),
                quoted(server.engine, "处罚内容"),
            );
        }
    }
    server.sql(&text).unwrap();
}

fn now(engine: Engine) -> &'static str {
    match engine {
        // The server's own zone is not ours.
        Engine::Postgres => "timezone('Asia/Shanghai', now())",
        Engine::MariaDb => "CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', '+08:00')",
    }
}

/// Which decision a record is, by its digest.
fn documents(ledger: &[LedgerRow]) -> BTreeMap<&str, String> {
    let of = |row: &'_ LedgerRow| row.document.clone();
    ledger.iter().filter_map(|row| Some((digest(row), of(row)?))).collect()
}

fn digest(row: &LedgerRow) -> &str {
    row.key.split_once('-').unwrap().0
}

/// Rows of all messages together.
fn taken(store: &Store) -> usize {
    let mut all: Vec<u64> = Vec::new();
    loop {
        let page = store.messages(None, None, all.last().copied(), 1_000).unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page.iter().map(|message| message.id));
    }
    all.iter().map(|message| store.verdicts(*message, 0, 1_000).unwrap().len()).sum()
}

pub(crate) fn at_rest(store: &Store) -> bool {
    let status = store.status().unwrap();
    let moving = [ItemState::Ready, ItemState::Waiting, ItemState::Leased];
    let items = status.targets.values().flat_map(|target| &target.states);
    status.feeds.values().all(|feed| feed.pending_messages == 0)
        && items.filter(|(state, _)| moving.contains(state)).all(|(_, count)| *count == 0)
}

pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The gateway as a process; never outlives the test.
struct Running(Child);

impl Running {
    fn start(world: &World) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_xinqiao-of-tests"))
            .args(["serve", "--config"])
            .arg(world.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL; it must have been alive.
    fn kill(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "the gateway ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already dead unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SplitMix64: the moments of the kills, repeatable by the printed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
