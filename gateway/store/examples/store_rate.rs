//! How fast the store takes messages and rows on this machine: `cargo run --release -p
//! xinqiao-store --example store_rate [directory]`.
#![expect(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use time::macros::date;
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::model::{
    AgencyId, DatasetId, FeedId, Operation, RecordKey, Subject, TargetId, Timestamp,
};
use xinqiao_core::spi::{Arrival, Clock};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_store::{MessageEnd, NewVersion, RowChunk, RowEntry, StorageKey, Store, StoreOptions};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000)
    }
}

const TASKS: u64 = 64;
const PER_TASK: u64 = 500;
const BATCH: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "store-rate".to_owned());
    let key = StorageKey::held(PrivateKey::generate()?);
    let store = Store::open(Path::new(&dir), StoreOptions::default(), Arc::new(Fixed), key)?;
    let feed = FeedId::new("rate")?;
    let agency = AgencyId::new("rate")?;

    let began = Instant::now();
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (store, feed, agency) = (store.clone(), feed.clone(), agency.clone());
        tasks.push(tokio::spawn(async move {
            let mut messages = Vec::new();
            for n in 0..PER_TASK {
                let bytes = format!("{task}/{n}/{}", "报".repeat(330));
                let body = futures_util::stream::iter([Ok(Bytes::from(bytes))]);
                let arrival = Arrival { name: None, body: Box::pin(body), cursor: None };
                messages.push(store.receive(&feed, &agency, arrival, 1 << 20).await?.message);
            }
            Ok::<_, xinqiao_store::StoreError>(messages)
        }));
    }
    let mut messages = Vec::new();
    for task in tasks {
        messages.extend(task.await??);
    }
    report("durable receives of 1 KB, 64 tasks", messages.len(), began.elapsed());

    let targets: Arc<[TargetId]> = Arc::from([TargetId::new("platform")?]);
    let dataset = DatasetId::new("admin-penalty")?;
    let mut times = Vec::new();
    let began = Instant::now();
    for ids in messages.chunks(BATCH) {
        let mut chunks = Vec::with_capacity(ids.len());
        for id in ids {
            chunks.push(RowChunk {
                message: *id,
                first: 0,
                rows: vec![row(*id, &dataset, &targets)],
                finish: Some(MessageEnd { error: None, notes: Vec::new() }),
            });
        }
        let start = Instant::now();
        store.commit_rows(chunks).await?;
        times.push(start.elapsed());
    }
    report("rows of 25 fields, one per message, 500 a call", messages.len(), began.elapsed());
    times.sort();
    println!("  p50 of a call: {:?}", times.get(times.len() / 2));
    Ok(())
}

fn row(id: u64, dataset: &DatasetId, targets: &Arc<[TargetId]>) -> RowEntry {
    let decided = date!(2026 - 11 - 20);
    let fields = (0..25).map(|n| (Arc::from(format!("CF_{n:02}")), format!("字段值{n}-{id}")));
    RowEntry {
        row: 1,
        document: Some(format!("罚字{id}号")),
        findings: Vec::new(),
        legacy: Default::default(),
        record: Some(NewVersion {
            key: RecordKey {
                dataset: dataset.clone(),
                agency: "rate".to_owned(),
                document: id.to_string(),
                decided,
                subject: Subject::Name("虚构公司".to_owned()),
            },
            generation: 2021,
            operation: Operation::Upsert,
            fields: fields.collect(),
            mapping: [0; 8],
            deadlines: Deadlines {
                decided,
                pledged: date!(2026 - 11 - 27),
                statutory: date!(2026 - 12 - 01),
                provisional: false,
            },
            targets: Arc::clone(targets),
        }),
        sent_back: None,
    }
}

fn report(what: &str, count: usize, took: Duration) {
    let millis = took.as_millis().max(1);
    println!("{what}: {}/s", count as u128 * 1_000 / millis);
}
