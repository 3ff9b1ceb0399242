//! Receipts a second under 64 clients, each durable before it is given.
//!
//! `bench-intake [--rounds N | --short]`. Ten seconds a round of single records over kept-alive connections,
//! then every receipt is looked up, and what is still queued is delivered. The peer of the same round
//! is the disk itself: a loop that appends a group of 64 such records and syncs, which no durable
//! store can beat one sync at a time.
#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(clippy::float_arithmetic, reason = "rates and ratios")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_store::FeedCounters;
use xinqiao_tests::{Client, Result, Row, World, ndjson, scale, spread};

const CLIENTS: usize = 64;
const ROUND: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut rates, mut halves, mut tails) = (Vec::new(), Vec::new(), Vec::new());
    let (mut syncs, mut ratios, mut receipts) = (Vec::new(), Vec::new(), 0);
    let (mut meanwhile, mut after) = (Vec::new(), Vec::new());
    let scale = scale(&arguments)?;
    let length = ROUND.div_f64(scale.part as f64);
    for _ in 0..scale.rounds {
        let sync = disk(length / 5)?;
        let Round { mut waits, accepted, rest } = runtime.block_on(round(length))?;
        waits.sort();
        receipts += waits.len();
        let rate = waits.len() as f64 / length.as_secs_f64();
        let wait = |part: usize| {
            waits.get(waits.len() * part / 100).map_or(f64::NAN, |w| w.as_secs_f64() * 1e3)
        };
        rates.push(rate);
        halves.push(wait(50));
        tails.push(wait(99));
        meanwhile.push(accepted as f64 / length.as_secs_f64());
        after.push((waits.len() as u64 - accepted) as f64 / rest.as_secs_f64());
        syncs.push(sync);
        ratios.push(rate / (sync * CLIENTS as f64));
    }
    println!("receipts, {CLIENTS} clients             {} /s", spread(&mut rates));
    println!("waiting, half of them            {} ms", spread(&mut halves));
    println!("waiting, 99 of 100               {} ms", spread(&mut tails));
    println!("accepted by the platform meanwhile {} /s", spread(&mut meanwhile));
    println!("accepted by it afterwards        {} /s", spread(&mut after));
    println!("the disk: append {CLIENTS}, fdatasync   {} syncs/s", spread(&mut syncs));
    println!("ratio to the disk's bound        {}", spread(&mut ratios));
    println!("{receipts} receipts given, every one found in the store");
    Ok(())
}

struct Round {
    /// How long each receipt took.
    waits: Vec<Duration>,
    /// Records the platform had accepted when the last client ended.
    accepted: u64,
    /// How long the others took from then on.
    rest: Duration,
}

async fn round(length: Duration) -> Result<Round> {
    let platform = Platform::start(PlatformOptions::default()).await?;
    let world = World::new(&platform.url(), "127.0.0.1:0")?;
    let gateway = Gateway::start(world.config()?, world.domain(), Arc::new(SystemClock)).await?;
    let address = gateway.push_address().ok_or("no listener")?;
    let next = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + length;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let next = Arc::clone(&next);
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut given = Vec::new();
            while Instant::now() < end {
                let body = ndjson([Row::new(next.fetch_add(1, Ordering::Relaxed))]);
                let begun = Instant::now();
                let answer = client.push(&body).await?;
                if answer.status != 201 {
                    return Err(format!("{}: {}", answer.status, answer.body).into());
                }
                let message = answer.body.get("message").and_then(serde_json::Value::as_u64);
                given.push((message.ok_or("no number in the receipt")?, begun.elapsed()));
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(given)
        });
    }
    let (mut waits, mut numbers) = (Vec::new(), BTreeSet::new());
    while let Some(given) = clients.join_next().await {
        for (message, wait) in given?? {
            numbers.insert(message);
            waits.push(wait);
        }
    }
    let count = |what: fn(&FeedCounters) -> u64| -> Result<u64> {
        Ok(gateway.store().status()?.feeds.values().map(what).sum())
    };
    let (accepted, ended) = (count(|feed| feed.accepted)?, Instant::now());
    while count(|feed| feed.accepted)? < waits.len() as u64 {
        if ended.elapsed() > Duration::from_secs(120) {
            return Err("not all was delivered".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rest = ended.elapsed();
    for message in &numbers {
        gateway.store().message(*message)?;
    }
    let held = count(|feed| feed.messages)?;
    gateway.stop().await;
    if numbers.len() != waits.len() || held != waits.len() as u64 {
        return Err(format!("{} receipts, {held} messages held", waits.len()).into());
    }
    Ok(Round { waits, accepted, rest })
}

/// Groups a second the disk can make durable.
fn disk(length: Duration) -> Result<f64> {
    let group = ndjson((0..CLIENTS as u64).map(Row::new));
    let mut file = tempfile::tempfile()?;
    let (begun, mut groups) = (Instant::now(), 0_u32);
    while begun.elapsed() < length {
        file.write_all(group.as_bytes())?;
        file.sync_data()?;
        groups += 1;
    }
    Ok(f64::from(groups) / begun.elapsed().as_secs_f64())
}
