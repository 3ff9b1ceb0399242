//! The way data goes, through a whole gateway in process, to a platform stand-in.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use xinqiao::clock::{ShiftedClock, SystemClock};
use xinqiao::commands::demo::platform::{Outcome, Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::pipeline::{Job, process};
use xinqiao_core::model::{MappingId, Timestamp};
use xinqiao_core::spi::Clock as _;
use xinqiao_store::{ItemFilter, RowOutcome, Store};
use xinqiao_tests::{Client, HEADINGS, Row, World, csv, ndjson};

use crate::watch::{at_rest, counts, messages, until, verdicts};

/// 2026-11-23 12:00 in Asia/Shanghai.
const START: Timestamp = Timestamp(1_795_406_400_000);

struct Scene {
    platform: Platform,
    world: World,
    gateway: Gateway,
}

impl Scene {
    async fn new(options: PlatformOptions) -> Self {
        let platform = Platform::start(options).await.unwrap();
        let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
        let gateway = start(&world, START).await;
        Self { platform, world, gateway }
    }

    fn store(&self) -> &Store {
        self.gateway.store()
    }

    async fn rest(&self, messages: u64) {
        until("the gateway has settled everything", || {
            let status = self.store().status().unwrap();
            let came: u64 = status.feeds.values().map(|f| f.messages + f.duplicate_messages).sum();
            came >= messages && at_rest(self.store())
        })
        .await;
    }

    async fn push(&self, body: &str) -> serde_json::Value {
        let address: SocketAddr = self.gateway.push_address().unwrap();
        let answer = Client::connect(address).await.unwrap().push(body).await.unwrap();
        assert!(matches!(answer.status, 200..=202), "{}: {}", answer.status, answer.body);
        answer.body
    }

    /// Stops the gateway and looks for damage.
    async fn end(self) {
        let Self { platform, world, gateway } = self;
        let store = gateway.store().clone();
        gateway.stop().await;
        assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
        drop((platform, world));
    }
}

async fn start(world: &World, at: Timestamp) -> Gateway {
    let clock = Arc::new(ShiftedClock::starting_at(at));
    Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap()
}

fn rows(numbers: std::ops::Range<u64>) -> impl Iterator<Item = Row> {
    numbers.map(Row::new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_reaches_the_platform() {
    let scene = Scene::new(PlatformOptions::default()).await;
    scene.world.put("in", "a.csv", &csv(rows(0..250))).unwrap();
    scene.rest(1).await;
    let mut documents: Vec<_> =
        scene.platform.ledger().into_iter().filter_map(|row| row.document).collect();
    documents.sort();
    let mut expected: Vec<_> = rows(0..250).map(|row| row.document()).collect();
    expected.sort();
    assert_eq!(documents, expected);
    let status = scene.store().status().unwrap();
    let feed = status.feeds.values().next().unwrap();
    assert_eq!((feed.rows, feed.committed, feed.accepted), (250, 250, 250));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_message_twice_gets_the_original_receipt() {
    let scene = Scene::new(PlatformOptions::default()).await;
    let body = ndjson(rows(0..3));
    let first = scene.push(&body).await;
    let again = scene.push(&body).await;
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&false.into(), &true.into()));
    for key in ["message", "received", "digest", "bytes"] {
        assert_eq!(first[key], again[key], "{key}");
    }
    scene.world.put("in", "a.csv", &csv(rows(10..13))).unwrap();
    scene.rest(3).await;
    // The same bytes under another name.
    scene.world.put("in", "b.csv", &csv(rows(10..13))).unwrap();
    scene.rest(4).await;
    assert_eq!(scene.store().status().unwrap().records, 6);
    assert_eq!(scene.platform.ledger().len(), 6);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_by_two_channels_is_one_record() {
    let scene = Scene::new(PlatformOptions::default()).await;
    scene.world.put("in", "a.csv", &csv(rows(0..5))).unwrap();
    scene.rest(1).await;
    let receipt = scene.push(&ndjson(rows(0..5))).await;
    scene.rest(2).await;
    let pushed = verdicts(scene.store(), receipt["message"].as_u64().unwrap());
    assert_eq!(pushed.len(), 5);
    assert!(pushed.iter().all(|row| row.outcome == RowOutcome::Duplicate), "{pushed:?}");
    assert_eq!(scene.store().status().unwrap().records, 5);
    assert_eq!(scene.platform.ledger().len(), 5);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_is_a_new_version_with_the_original_clock() {
    let scene = Scene::new(PlatformOptions::default()).await;
    scene.push(&ndjson(rows(0..1))).await;
    scene.rest(1).await;
    let deadlines = |scene: &Scene| {
        let (items, _) = scene.store().items(&ItemFilter::default(), None, 10).unwrap();
        assert_eq!(items.len(), 1);
        (items[0].deadlines, items[0].version)
    };
    let (clock, version) = deadlines(&scene);
    assert_eq!(version, 1);
    let receipt = scene.push(&ndjson([Row { number: 0, fine: 3 }])).await;
    scene.rest(2).await;
    let corrected = verdicts(scene.store(), receipt["message"].as_u64().unwrap());
    assert!(matches!(corrected[0].outcome, RowOutcome::Correction { version: 2, .. }));
    assert_eq!(deadlines(&scene), (clock, 2));
    let keys: Vec<_> = scene.platform.ledger().into_iter().map(|row| row.key).collect();
    assert_eq!(keys.len(), 2, "both versions, each under its key: {keys:?}");
    assert!(keys[0].ends_with("-1") && keys[1].ends_with("-2"));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_platform_comes_back_as_the_rows_verdict() {
    let refusing = PlatformOptions { refuse_one_in: Some(4), ..PlatformOptions::default() };
    let scene = Scene::new(refusing).await;
    let receipt = scene.push(&ndjson(rows(0..60))).await;
    scene.rest(1).await;
    let refused: Vec<_> = scene
        .platform
        .ledger()
        .into_iter()
        .filter(|row| row.outcome == Outcome::Refused)
        .filter_map(|row| row.document)
        .collect();
    assert!(!refused.is_empty() && refused.len() < 60);
    for row in verdicts(scene.store(), receipt["message"].as_u64().unwrap()) {
        let told = row.findings.iter().any(|finding| &*finding.rule == "target.refused");
        let is_refused = row.document.as_ref().is_some_and(|d| refused.contains(d));
        assert_eq!(told, is_refused, "{row:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_the_platform_is_down() {
    let breaking = PlatformOptions { break_every: Some(2), ..PlatformOptions::default() };
    let scene = Scene::new(breaking).await;
    scene.platform.set_down(true);
    scene.world.put("in", "a.csv", &csv(rows(0..500))).unwrap();
    until("the platform has turned a batch away", || scene.platform.traffic().turned_away > 0)
        .await;
    assert!(scene.platform.ledger().is_empty());
    scene.platform.set_down(false);
    scene.rest(1).await;
    assert_eq!(scene.platform.ledger().len(), 500);
    assert_eq!(
        scene.store().status().unwrap().feeds.values().map(|f| f.accepted).sum::<u64>(),
        500
    );
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_does_not_stop_its_batch() {
    let scene = Scene::new(PlatformOptions::default()).await;
    let mixed = (0..20).map(|number| Row { number, fine: if number % 5 == 0 { 0 } else { 2 } });
    scene.world.put("in", "a.csv", &csv(mixed)).unwrap();
    scene.rest(1).await;
    let message = messages(scene.store())[0].id;
    let rows = verdicts(scene.store(), message);
    assert_eq!(counts(&rows), (16, 4));
    let bad = rows.iter().filter(|row| !row.findings.is_empty());
    assert!(bad.clone().all(|row| row.findings.iter().all(|f| !f.message.contains("样例"))));
    assert_eq!(scene.platform.ledger().len(), 16);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_loses_and_doubles_nothing() {
    let Scene { platform, world, mut gateway } = Scene::new(PlatformOptions::default()).await;
    for file in 0..5_u64 {
        world.put("in", &format!("{file}.csv"), &csv(rows(file * 200..(file + 1) * 200))).unwrap();
    }
    for stop in 1..4_u64 {
        let store = gateway.store().clone();
        let committed = || store.status().unwrap().records;
        until("some rows are committed", || committed() >= (stop * 100).min(1_000)).await;
        gateway.stop().await;
        drop(store);
        gateway = start(&world, START.plus_millis(stop * 60_000)).await;
    }
    let scene = Scene { platform, world, gateway };
    scene.rest(5).await;
    assert_eq!(scene.store().status().unwrap().records, 1_000);
    assert_eq!(scene.platform.ledger().len(), 1_000);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_file_waits_until_it_is_whole() {
    let scene = Scene::new(PlatformOptions::default()).await;
    let whole = csv(rows(0..10));
    let folder = scene.world.path().join("in");
    let half: String = whole.chars().take(whole.chars().count() / 2).collect();
    std::fs::write(folder.join("a.csv.part"), half).unwrap();
    scene.world.put("in", "b.csv", &csv(rows(10..12))).unwrap();
    scene.rest(1).await;
    assert_eq!(scene.platform.ledger().len(), 2, "only the whole file is taken");
    std::fs::write(folder.join("a.csv.part"), &whole).unwrap();
    std::fs::rename(folder.join("a.csv.part"), folder.join("a.csv")).unwrap();
    scene.rest(2).await;
    assert_eq!(scene.platform.ledger().len(), 12);
    scene.end().await;
}

#[test]
fn members_with_their_columns_in_another_order_are_each_read_by_their_own() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let domain = world.domain();
    let (_, mapping) = &domain.mappings[&MappingId::new("made-csv").unwrap()];
    let whole = csv([Row::new(1)]);
    // The same row, its columns from last to first.
    let back = |cells: Vec<String>| cells.into_iter().rev().collect::<Vec<_>>().join(",");
    let headings = HEADINGS.map(str::to_owned).to_vec();
    let cells = Row::new(1).cells().map(|cell| format!("\"{cell}\"")).to_vec();
    let turned = [back(headings), back(cells)].join("\n");
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in [("a.csv", &whole), ("b.csv", &turned)] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    let today = SystemClock.now().shanghai_date();
    let job = Job::dry(mapping, &domain, today);
    let mut fields = Vec::new();
    let notes = process(&job, &mut zip.finish().unwrap(), &mut |row| {
        fields.push(row.record.unwrap_or_else(|| panic!("{:?}", row.findings)).fields);
        ControlFlow::Continue(())
    });
    assert_eq!(notes.unwrap().rows, 2);
    assert!(fields[0] == fields[1], "{fields:?}");
}
