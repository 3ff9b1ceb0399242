//! Timeliness reports (时效报表) of a real gateway whose clock is moved by hand: the table, the
//! workbook as an independent reader finds it, and the sums that tie both to `status`.

use std::io::Cursor;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use calamine::{Data, Reader as _};
use serde_json::Value;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::model::{FeedId, Timestamp};
use xinqiao_core::spi::Clock;
use xinqiao_store::FeedCounters;
use xinqiao_tests::{Client, Row, World, csv};

use crate::fault::kill::binary;
use crate::watch::until;

/// 2025-03-05 12:00 in Asia/Shanghai, a Wednesday.
const START: u64 = 1_741_147_200_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A clock that is set by hand, and goes on by a millisecond whenever somebody looks: a file is
/// settled when time has passed since it was first seen.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

struct Scene {
    world: World,
    clock: Arc<Hand>,
    gateway: Gateway,
    _platform: Platform,
}

impl Scene {
    /// Three agencies: one that reports, one whose target never answers, one that says nothing.
    async fn new() -> Self {
        let platform = Platform::start(PlatformOptions::default()).await.unwrap();
        let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
        let file = world.path().join("gateway.yaml");
        // Nobody listens on the port of a listener that is gone.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let down = format!("  down:\n    kind: rest\n    params: {{ url: \"http://{gone}/\" }}\n");
        let gateway = std::fs::read_to_string(&file).unwrap() + &down;
        std::fs::write(&file, gateway).unwrap();
        let file = world.path().join("feeds.yaml");
        let agencies = "  made:\n    name: 样例局\n    duties:\n      \
             admin-penalty: { every: month, since: 2025-02-01 }\n  \
             slow: { name: 滞后局 }\n  \
             quiet:\n    name: 静默局\n    duties:\n      \
             admin-penalty: { every: week, since: 2025-03-03 }\nfeeds:\n";
        let feed = |agency: &str, target: &str| {
            format!(
                "  {agency}:\n    agency: {agency}\n    mapping: made-csv\n    \
                 targets: [{target}]\n    source:\n      kind: folder\n      \
                 params: {{ path: in-{agency}, settle-seconds: 0, poll-seconds: 0.02 }}\n"
            )
        };
        let feeds = std::fs::read_to_string(&file).unwrap();
        let feeds = feeds.replace("  made: { name: 样例局 }\nfeeds:\n", agencies)
            + &feed("slow", "down")
            + &feed("quiet", "platform");
        std::fs::write(&file, feeds).unwrap();
        for agency in ["slow", "quiet"] {
            std::fs::create_dir(world.path().join(format!("in-{agency}"))).unwrap();
        }
        let clock = Arc::new(Hand(AtomicU64::new(START)));
        let by = Arc::clone(&clock) as Arc<dyn Clock>;
        let gateway = Gateway::start(world.config().unwrap(), world.domain(), by).await.unwrap();
        Self { world, clock, gateway, _platform: platform }
    }

    fn counters(&self, feed: &str) -> FeedCounters {
        let mut feeds = self.gateway.store().status().unwrap().feeds;
        feeds.remove(&FeedId::new(feed).unwrap()).unwrap_or_default()
    }

    /// Sends a file of rows decided on some days, and waits for its rows to be judged.
    async fn send(&self, folder: &str, feed: &str, rows: &[(u64, &str, u32)]) {
        let before = self.counters(feed).rows;
        let text: String = rows
            .iter()
            .enumerate()
            .map(|(at, (number, decided, fine))| {
                let text = csv([Row { number: *number, fine: *fine }]);
                let text = text.replace("2025年3月3日", decided);
                let lines = text.lines().skip(usize::from(at > 0));
                lines.map(|line| format!("{line}\r\n")).collect::<String>()
            })
            .collect();
        self.world.put(folder, &format!("{before}.csv"), &text).unwrap();
        let rows = before + rows.len() as u64;
        until("the rows are judged", || {
            let counters = self.counters(feed);
            assert_eq!(counters.failed_messages, 0, "{counters:?}");
            (counters.rows, counters.pending_messages) == (rows, 0)
        })
        .await;
    }

    async fn accepted(&self, records: u64) {
        until("the platform has them", || self.counters("folder").accepted == records).await;
    }

    fn on(&self, millis: u64) {
        self.clock.0.store(START + millis, Ordering::SeqCst);
    }

    fn ask(&self, args: &[&str]) -> Output {
        ask(&self.world, args)
    }

    /// Everything that the tests below report on.
    async fn play(&self) {
        // In time by both clocks; one of February, one sent back.
        let first: Vec<_> = (0..6)
            .map(|number| (number, "2025-03-03", 2))
            .chain([(30, "2025-02-27", 2), (6, "2025-03-03", 0)])
            .collect();
        self.send("in", "folder", &first).await;
        self.send("in-slow", "slow", &[(40, "2025-03-03", 2)]).await;
        self.accepted(7).await;
        until("the other target has been tried", || {
            let items = self.gateway.store().items(&Default::default(), None, 100).unwrap().0;
            items.iter().any(|item| item.target.as_str() == "down" && item.sends > 0)
        })
        .await;
        // 03-12: past the pledge of 03-10, on the last statutory day.
        self.on(7 * DAY);
        self.send("in", "folder", &[(10, "2025-03-03", 2), (11, "2025-03-03", 2)]).await;
        self.accepted(9).await;
        // 03-14: a correction and an arrival too late, a repeat, and two that still have time.
        self.on(9 * DAY);
        let last = [(6, "2025-03-03", 2), (20, "2025-03-03", 2), (0, "2025-03-03", 2)];
        self.send("in", "folder", &last).await;
        self.accepted(11).await;
        self.send("in-slow", "slow", &[(41, "2025-03-06", 2), (42, "2025-03-13", 2)]).await;
    }
}

fn ask(world: &World, args: &[&str]) -> Output {
    Command::new(binary()).args(args).arg("--config").arg(world.path()).output().unwrap()
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code < 2), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

/// Compares with what was agreed. `XINQIAO_BLESS=1` writes it anew.
fn agreed(name: &str, found: &str) {
    let golden =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("system/golden/{name}.txt"));
    if std::env::var_os("XINQIAO_BLESS").is_some() {
        std::fs::write(&golden, found).unwrap();
    }
    let agreed = std::fs::read_to_string(&golden).unwrap();
    let differs = found.lines().zip(agreed.lines()).find(|(found, agreed)| found != agreed);
    assert_eq!((differs, found.len()), (None, agreed.len()), "{found}");
}

/// Every cell of a workbook that holds something, formulas behind `=`.
fn dumped(bytes: Vec<u8>) -> String {
    let mut book = calamine::Xlsx::new(Cursor::new(bytes)).unwrap();
    let mut all = String::new();
    for name in book.sheet_names() {
        all += &format!("[{name}]\n");
        let formulas = book.worksheet_formula(&name).unwrap();
        let range = book.worksheet_range(&name).unwrap();
        for (at, row) in range.rows().enumerate() {
            let mut cells: Vec<String> = Vec::new();
            for (column, cell) in row.iter().enumerate() {
                let place = (at as u32, column as u32);
                let formula = formulas.get_value(place).filter(|formula| !formula.is_empty());
                let shown = match cell {
                    Data::DateTime(day) => {
                        let (year, month, day, ..) = day.to_ymd_hms_milli();
                        format!("{year}-{month:02}-{day:02}")
                    }
                    other => other.to_string(),
                };
                cells.push(match formula {
                    Some(formula) => format!("{shown}={formula}"),
                    None => shown,
                });
            }
            all += cells.join("|").trim_end_matches('|');
            all += "\n";
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_told_by_both_clocks_and_adds_up() {
    let scene = Scene::new().await;
    scene.play().await;

    // A zero report of an agency that has data is void; one of an agency that is silent stands.
    let mut client = Client::connect(scene.gateway.push_address().unwrap()).await.unwrap();
    let body = "{\"period\":\"2025-02\",\"reason\":\"二月没有处罚决定\"}";
    assert_eq!(client.post("/api/v1/zero-reports", body).await.unwrap().status, 201);
    let zero = |period: &'static str| {
        let what = ["report", "zero", "--agency", "quiet", "--dataset", "admin-penalty"];
        scene.ask(&[&what[..], &["--week", period, "--reason", "本周没有处罚决定"]].concat())
    };
    assert!(text(&zero("2025-W10")).contains("2025年第10周(3月3日至3月9日)"));
    let early = zero("2025-W11");
    assert_eq!(early.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&early.stderr).contains("report.not-over"));

    let month = ["report", "timeliness", "--month", "2025-03"];
    let february = text(&scene.ask(&["report", "timeliness", "--month", "2025-02"]));
    let march = text(&scene.ask(&month));
    agreed("report", &format!("{february}\n{march}"));

    let folder = scene.world.path();
    let (xlsx, comma) = (folder.join("r.xlsx"), folder.join("r.csv"));
    let files = ["--xlsx", xlsx.to_str().unwrap(), "--csv", comma.to_str().unwrap()];
    let written = scene.ask(&[&month[..], &files].concat());
    assert_eq!(text(&written), "");
    let book = dumped(std::fs::read(&xlsx).unwrap());
    // The shell says who declared it.
    let actor = ["LOGNAME", "USER"].into_iter().filter_map(|name| std::env::var(name).ok()).next();
    let book = book.replace(&format!("|{}|本周", actor.as_deref().unwrap_or("cli")), "|某人|本周");
    agreed("report-book", &book);
    assert!(!book.contains("公司"), "nobody is named");
    let figures = std::fs::read_to_string(&comma).unwrap();
    assert!(figures.starts_with("\u{feff}\"时期\",\"截至\",\"委办局\""));
    assert_eq!(figures.lines().count(), 5, "{figures}");
    let again = scene.ask(&[&month[..], &files].concat());
    assert_eq!(again.status.code(), Some(1), "what is there is not written over");

    // The months add up to `status`; so does the other way of putting records into them.
    let made =
        |args: &[&str]| json(&scene.ask(&[&["report", "timeliness", "--json"], args].concat()));
    let whole = made(&["--from", "2025-01-01", "--to", "2025-12-31"]);
    let received = made(&["--from", "2025-01-01", "--to", "2025-12-31", "--by", "received"]);
    let figure = |report: &Value, path: &str| {
        report.pointer(&format!("/total/{path}")).and_then(Value::as_u64).unwrap()
    };
    let months: Vec<_> =
        (1..=12).map(|month| made(&["--month", &format!("2025-{month:02}")])).collect();
    let status = scene.gateway.store().status().unwrap();
    let counted = |of: fn(&FeedCounters) -> u64| status.feeds.values().map(of).sum::<u64>();
    for (path, counter) in [
        ("records/records", status.records),
        ("records/accepted", counted(|of| of.accepted)),
        ("records/on_time_pledged", counted(|of| of.on_time_pledged)),
        ("records/on_time_statutory", counted(|of| of.on_time_statutory)),
        ("records/late/agency_arrival", counted(|of| of.late_agency)),
        ("records/late/agency_refusal", counted(|of| of.late_refusal)),
        ("records/late/gateway", counted(|of| of.late_gateway)),
        ("records/late/platform", counted(|of| of.late_platform)),
        ("rows/rows", counted(|of| of.rows)),
        ("rows/rejected", counted(|of| of.rejected)),
        ("rows/repeated", counted(|of| of.repeated)),
        ("rows/corrections", counted(|of| of.corrections)),
        ("rows/messages", counted(|of| of.messages)),
    ] {
        assert_eq!(figure(&whole, path), counter, "{path}");
        assert_eq!(figure(&received, path), counter, "{path} by arrival");
        assert_eq!(months.iter().map(|month| figure(month, path)).sum::<u64>(), counter, "{path}");
    }
    assert_eq!(whole["moved"], false);
    let only = made(&["--month", "2025-03", "--agency", "slow"]);
    assert_eq!(figure(&only, "records/records"), 3);
    assert_eq!(only["lines"].as_array().unwrap().len(), 1);

    // A month later the silent weeks are missing, but for the one declared empty.
    scene.on(40 * DAY);
    let missing = scene.ask(&["report", "missing", "--from", "2025-02-01", "--to", "2025-04-14"]);
    assert_eq!(missing.status.code(), Some(1));
    agreed("report-missing", &text(&missing));
    // Data of the week that was declared empty, however late: the declaration is void.
    scene.send("in-quiet", "quiet", &[(50, "2025-03-05", 2)]).await;
    let after = made(&["--from", "2025-03-01", "--to", "2025-03-09", "--agency", "quiet"]);
    let period = &after["periods"][0];
    assert_eq!((&period["standing"], &period["contradicted"]), (&"data".into(), &true.into()));

    // The same with nobody running, and the store is sound.
    let Scene { world, gateway, .. } = scene;
    let store = gateway.store().clone();
    gateway.stop().await;
    assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
    drop(store);
    let offline = json(&ask(&world, &["report", "timeliness", "--month", "2025-03", "--json"]));
    assert_eq!(figure(&offline, "records/records"), figure(&months[2], "records/records") + 1);
    let quiet = json(&ask(&world, &["report", "zeros", "--agency", "quiet", "--json"]));
    assert_eq!(quiet[0]["events"].as_array().unwrap().len(), 1);
}
