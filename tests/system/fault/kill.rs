//! SIGKILL at random moments of an intake, then the books are balanced.
//!
//! The gateway is a process of its own; the platform stand-in lives here and survives it. Every
//! promise the gateway gave (a receipt, an accepted row) is kept here and asked for at the end.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Outcome, Platform, PlatformOptions};
use xinqiao_core::spi::Clock as _;
use xinqiao_store::{Store, StoreOptions};
use xinqiao_tests::{Client, Row, World, csv, ndjson};

use crate::watch::{at_rest, counts, messages, until, verdicts};

const FILES: u64 = 38;
const ROWS_PER_FILE: u64 = 500;
const PUSHED: u64 = 1_000;
const ROWS: u64 = FILES * ROWS_PER_FILE + PUSHED;

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_loses_or_doubles_a_record() {
    let kills = if std::env::var_os("XINQIAO_LONG").is_some() { 50 } else { 8 };
    let mut random = Random(
        std::env::var("XINQIAO_SEED")
            .map_or_else(|_| SystemClock.now().0, |seed| seed.parse().unwrap()),
    );
    println!("XINQIAO_SEED={} ({kills} kills)", random.0);

    let breaking = PlatformOptions { break_every: Some(7), ..PlatformOptions::default() };
    let platform = Platform::start(breaking).await.unwrap();
    let address = free_address();
    let world = Arc::new(World::new(&platform.url(), &address.to_string()).unwrap());

    let stop = Arc::new(AtomicBool::new(false));
    let receipts = tokio::spawn(push_all(address, Arc::clone(&stop)));
    let mut files = 0;
    let mut rows_seen = Vec::new();
    let begun = Instant::now();
    for kill in 0..=kills {
        let mut gateway = Running::start(&world);
        // The files are spread over the lives, so that every kill falls into an intake.
        let share = if kill == kills { FILES } else { FILES * (kill + 1) / (kills + 1) };
        while files < share {
            let rows = files * ROWS_PER_FILE..(files + 1) * ROWS_PER_FILE;
            world.put("in", &format!("{files:03}.csv"), &csv(rows.map(Row::new))).unwrap();
            files += 1;
        }
        if kill < kills {
            tokio::time::sleep(Duration::from_millis(random.below(1_500))).await;
            gateway.kill();
            rows_seen.push(platform.ledger().len());
            continue;
        }
        until("every row is at the platform", || {
            assert!(gateway.is_running(), "the gateway ended by itself");
            platform.ledger().len() as u64 >= ROWS
        })
        .await;
        stop.store(true, Ordering::Relaxed);
        gateway.kill();
    }
    let receipts = receipts.await.unwrap();

    // The last life was killed too: let one more settle what it had not yet written down.
    let store = open(&world);
    if !at_rest(&store) {
        drop(store);
        settle(&world).await;
    } else {
        drop(store);
    }
    let store = open(&world);
    assert!(at_rest(&store), "everything is settled");
    assert_eq!(store.fsck().unwrap(), Vec::<String>::new());

    let ledger = platform.ledger();
    let documents: BTreeSet<_> = ledger.iter().filter_map(|row| row.document.clone()).collect();
    let expected: BTreeSet<_> = (0..ROWS).map(|n| Row::new(n).document()).collect();
    assert_eq!(documents, expected, "every decision is at the platform");
    assert_eq!(ledger.len() as u64, ROWS, "and none under two keys");
    assert!(ledger.iter().all(|row| row.outcome == Outcome::Accepted));
    let status = store.status().unwrap();
    assert_eq!(status.records, ROWS);
    assert_eq!(status.feeds.values().map(|feed| feed.accepted).sum::<u64>(), ROWS);

    assert_eq!(receipts.len() as u64, PUSHED);
    for (number, message) in &receipts {
        let rows = verdicts(&store, *message);
        assert_eq!(counts(&rows), (1, 0), "message {message}");
        assert_eq!(rows[0].document.as_deref(), Some(&*Row::new(*number).document()));
    }
    let messages = messages(&store);
    assert_eq!(messages.len() as u64, FILES + PUSHED);
    let repeats: u32 = ledger.iter().map(|row| row.attempts - 1).sum();
    println!(
        "{kills} kills in {:.1?} with {rows_seen:?} rows delivered; {ROWS} rows, {} messages, \
         {} receipts held; {repeats} rows sent again after a kill or a broken answer, none taken twice",
        begun.elapsed(),
        messages.len(),
        receipts.len(),
    );
}

/// Pushes single rows until each has its receipt; after a broken connection the same again.
async fn push_all(address: SocketAddr, stop: Arc<AtomicBool>) -> Vec<(u64, u64)> {
    let mut receipts = Vec::new();
    let mut client = None;
    for number in FILES * ROWS_PER_FILE..ROWS {
        let body = ndjson([Row::new(number)]);
        let message = loop {
            assert!(!stop.load(Ordering::Relaxed), "stopped before row {number} had its receipt");
            if client.is_none() {
                client = Client::connect(address).await.ok();
            }
            if let Some(open) = &mut client
                && let Ok(answer) = open.push(&body).await
                && matches!(answer.status, 200..=202)
            {
                break answer.body["message"].as_u64().unwrap();
            }
            client = None;
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        receipts.push((number, message));
        // Spread over the lives of the gateway.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    receipts
}

pub(crate) async fn settle(world: &World) {
    let clock = Arc::new(SystemClock);
    let config = world.config().unwrap();
    let gateway = xinqiao::compose::Gateway::start(config, world.domain(), clock).await.unwrap();
    until("what the last life left is settled", || at_rest(gateway.store())).await;
    gateway.stop().await;
}

pub(crate) fn open(world: &World) -> Store {
    let key = xinqiao::keys::storage_key(&world.config().unwrap().keys).unwrap();
    Store::open(&world.data(), StoreOptions::default(), Arc::new(SystemClock), key).unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The gateway as a process; never outlives the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(world: &World) -> Self {
        let child = Command::new(binary())
            .args(["serve", "--config"])
            .arg(world.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
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

/// `xinqiao`.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_xinqiao-of-tests"))
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
