//! How long the figures of a report take over a million records, and how much memory: `cargo run
//! --release -p xinqiao-store --example report_rate [directory [records]]`. One record in ten is
//! accepted too late, one in fifty never.
#![expect(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use time::macros::date;
use time::{Date, Duration};
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::model::{
    AgencyId, DatasetId, FeedId, Operation, RecordKey, Subject, TargetId, Timestamp,
};
use xinqiao_core::report::{Basis, Figures, RowFigures};
use xinqiao_core::spi::{Arrival, Clock};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_store::{
    MessageEnd, NewVersion, RecordsQuestion, RowChunk, RowEntry, SettledAs, Settlement, StorageKey,
    Store, StoreOptions,
};

struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// Rows of a message.
const BATCH: u64 = 500;
/// Records of a page, as the command asks.
const PAGE: usize = 50_000;
const FEEDS: u64 = 40;
const FIRST: Date = date!(2026 - 01 - 01);
const DAYS: u64 = 300;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "report-rate".to_owned());
    let records: u64 = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let clock = Arc::new(Hand(AtomicU64::new(Timestamp::end_of_day(FIRST).0)));
    let key = StorageKey::held(PrivateKey::generate()?);
    let by = Arc::clone(&clock) as Arc<dyn Clock>;
    let store = Store::open(Path::new(&dir), StoreOptions::default(), by, key)?;
    let target = TargetId::new("platform")?;
    let targets: Arc<[TargetId]> = Arc::from([target.clone()]);
    let dataset = DatasetId::new("admin-penalty")?;

    let began = Instant::now();
    for message in 0..records / BATCH {
        let feed = FeedId::new(&format!("feed-{}", message % FEEDS))?;
        let agency = AgencyId::new(&format!("agency-{}", message % FEEDS))?;
        let day = FIRST + Duration::days(i64::try_from(message * BATCH * DAYS / records)?);
        clock.0.store(Timestamp::end_of_day(day).0, Ordering::Relaxed);
        let body = futures_util::stream::iter([Ok(Bytes::from(message.to_string()))]);
        let arrival = Arrival { name: None, body: Box::pin(body), cursor: None };
        let id = store.receive(&feed, &agency, arrival, 1 << 20).await?.message;
        let row = |n| row(message * BATCH + n, day, &dataset, &targets);
        let finish = Some(MessageEnd { error: None, notes: Vec::new() });
        let rows = (0..BATCH).map(row).collect();
        store.commit_rows(vec![RowChunk { message: id, first: 0, rows, finish }]).await?;
        let leased = store.lease(&target, usize::try_from(BATCH)?, 60_000).await?;
        let settled = leased.iter().map(|item| {
            let end = match item.token.id % 50 {
                0 => SettledAs::Dead { error: "never".to_owned() },
                _ => SettledAs::Accepted,
            };
            Settlement { token: item.token, end }
        });
        store.settle(settled.collect()).await?;
    }
    println!("{records} records made in {:.1?}", began.elapsed());

    let now = clock.now();
    for (what, basis, first, last) in [
        ("one month", Basis::Decided, date!(2026 - 06 - 01), date!(2026 - 06 - 30)),
        ("one month by arrival", Basis::Received, date!(2026 - 06 - 01), date!(2026 - 06 - 30)),
        ("everything", Basis::Decided, date!(2025 - 01 - 01), date!(2027 - 12 - 31)),
    ] {
        let at_risk = now.shanghai_date() + Duration::days(2);
        let (agency, days_first, days_last) = (None, first, last);
        let ask = RecordsQuestion {
            agency,
            basis,
            first,
            last,
            days_first,
            days_last,
            now,
            at_risk,
            late: true,
        };
        let (before, began) = (peak_kilobytes(), Instant::now());
        let (mut figures, mut late, mut pages) = (Figures::default(), 0, 0);
        let mut after = None;
        loop {
            let page = store.report_records(&ask, after, PAGE)?;
            page.groups.iter().for_each(|group| figures += group.figures);
            late += page.late.len();
            pages += 1;
            let Some(next) = page.next else { break };
            after = Some(u128::from_str_radix(&next, 16)?.to_be_bytes());
        }
        let took = began.elapsed();
        println!(
            "{what}: {} records, {late} late, {pages} pages in {took:.2?}, peak memory +{} MB",
            figures.records,
            (peak_kilobytes() - before) / 1024
        );
    }
    let began = Instant::now();
    let (mut rows, mut after) = (RowFigures::default(), None);
    loop {
        let span = (date!(2025 - 01 - 01), date!(2027 - 12 - 31));
        let page = store.report_rows(None, span, after, 10_000)?;
        page.feeds.iter().for_each(|feed| rows += feed.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    println!("rows: {} of {} messages in {:.2?}", rows.rows, rows.messages, began.elapsed());
    println!("peak memory {} MB", peak_kilobytes() / 1024);
    Ok(())
}

fn row(n: u64, today: Date, dataset: &DatasetId, targets: &Arc<[TargetId]>) -> RowEntry {
    let back = if n.is_multiple_of(10) { 15 } else { 3 };
    let decided = today - Duration::days(back);
    let fields = (0..25).map(|f| (Arc::from(format!("CF_{f:02}")), format!("字段值{f}-{n}")));
    RowEntry {
        row: n % BATCH + 1,
        document: Some(format!("罚字{n}号")),
        findings: Vec::new(),
        legacy: Default::default(),
        record: Some(NewVersion {
            key: RecordKey {
                dataset: dataset.clone(),
                agency: "rate".to_owned(),
                document: n.to_string(),
                decided,
                subject: Subject::Name("虚构公司".to_owned()),
            },
            generation: 2021,
            operation: Operation::Upsert,
            fields: fields.collect(),
            mapping: [0; 8],
            deadlines: Deadlines {
                decided,
                pledged: decided + Duration::days(7),
                statutory: decided + Duration::days(9),
                provisional: false,
            },
            targets: Arc::clone(targets),
        }),
        sent_back: None,
    }
}

/// The most memory the process has had, in KB (`VmHWM`).
fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
