//! A table of MariaDB, page by page.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::TryStreamExt as _;
use serde_json::json;
use xinqiao::clock::SystemClock;
use xinqiao::domain::{self, Domain};
use xinqiao::pipeline::{Job, process};
use xinqiao::shutdown::Stopper;
use xinqiao_core::fault::Classify;
use xinqiao_core::model::{FeedId, Timestamp, Verdict};
use xinqiao_core::spi::{
    Arrival, BoxFuture, Clock as _, Fault, Inbox, Receipt, SecretRef, Secrets, SourceContext,
};
use xinqiao_tests::databases::{Engine, Server};
use xinqiao_tests::{Result, Row, Scale};

use crate::files::{NAMES, mapping_of};
use crate::measure::{compare, measure, ourselves, report, script};

const ROWS: u64 = 100_000;

/// The flag of our child: a mapping, a port and a count of rows follow.
pub(crate) const CHILD: &str = "--read-table";

/// A table with an index on what it is read by.
pub(crate) fn bench(scale: Scale) -> Result<()> {
    let server = Server::start(Engine::MariaDb, &[])?;
    let rows = ROWS / scale.part;
    fill(&server, rows)?;
    let folder = tempfile::tempdir()?;
    let mapping = folder.path().join("table.yaml");
    std::fs::write(&mapping, mapping_of("ndjson"))?;
    let (port, count) = (server.port.to_string(), rows.to_string());
    let mut ours = || measure(ourselves(CHILD)?.arg(&mapping).args([&port, &count]));
    let mut theirs = || measure(script("database", "by_pymysql.py")?.arg(&port));
    compare(scale, "MariaDB", rows, &mut ours, &mut theirs)
}

fn fill(server: &Server, rows: u64) -> Result<()> {
    let columns: Vec<_> = NAMES.iter().map(|name| format!("{name} varchar(200)")).collect();
    let mut text = format!(
        "CREATE TABLE punish (id int PRIMARY KEY, at datetime NOT NULL, {}, KEY (at, id));\n",
        columns.join(", ")
    );
    let numbers: Vec<u64> = (0..rows).collect();
    for numbers in numbers.chunks(1000) {
        let row = |number: &u64| {
            let cells = Row::new(*number).cells().map(|cell| format!("'{cell}'"));
            // A hundred rows share a second.
            let (hour, minute, second) =
                (number / 360_000 % 24, number / 6_000 % 60, number / 100 % 60);
            format!(
                "({number}, '2026-01-01 {hour:02}:{minute:02}:{second:02}', {})",
                cells.join(", ")
            )
        };
        let values: Vec<_> = numbers.iter().map(row).collect();
        let _ = writeln!(text, "INSERT INTO punish VALUES {};", values.join(",\n"));
    }
    server.sql(&text)?;
    Ok(())
}

/// Takes the table to its end.
pub(crate) fn child(arguments: &[String]) -> Result<()> {
    let [mapping, port, rows] = arguments else { return Err("a mapping, a port, a count".into()) };
    let mut bundle = domain::bundle(None)?;
    bundle.0.retain(|path, _| !path.starts_with("agencies/"));
    bundle.0.insert("agencies/made/table.yaml".into(), std::fs::read_to_string(mapping)?);
    let domain = Domain::load(bundle).map_err(|errors| errors.to_string())?;
    let (stopper, shutdown) = Stopper::new();
    let pages = Arc::new(Pages {
        feed: FeedId::new("table").map_err(|_| "no feed")?,
        domain,
        rows: rows.parse()?,
        stopper,
        state: Mutex::default(),
    });
    let params = json!({
        "host": "127.0.0.1", "port": port.parse::<u16>()?, "database": "front", "user": "reader",
        "password": { "env": "P" }, "table": "punish", "key": ["id"], "page-rows": 1000,
        "incremental": { "time": { "column": "at" } },
    });
    let source = xinqiao_adapters::sources::find("mysql").ok_or("no such source")?;
    let source = source.build(&params, &Password).map_err(|problems| format!("{problems:?}"))?;
    let context =
        SourceContext { inbox: Arc::clone(&pages) as _, clock: Arc::new(SystemClock), shutdown };
    let begun = Instant::now();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(source.run(context));
    let state = pages.state.lock().unwrap_or_else(PoisonError::into_inner);
    match &state.fault {
        Some(fault) => Err(fault.clone().into()),
        None => report(state.accepted, begun.elapsed()),
    }
}

struct Password;

impl Secrets for Password {
    fn resolve(&self, _: &SecretRef) -> std::result::Result<String, String> {
        Ok("s3cret".to_owned())
    }
}

/// Reads each page to its end as it comes.
struct Pages {
    feed: FeedId,
    domain: Domain,
    rows: u64,
    stopper: Stopper,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: u64,
    accepted: u64,
    cursor: Option<Vec<u8>>,
    fault: Option<String>,
}

impl Pages {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, body: Vec<u8>) -> Result<()> {
        let (_, mapping) = self.domain.mappings.values().next().ok_or("no mapping")?;
        let today = SystemClock.now().shanghai_date();
        let job = Job::dry(mapping, &self.domain, today);
        let (mut seen, mut accepted) = (0, 0);
        process(&job, &mut std::io::Cursor::new(body), &mut |row| {
            seen += 1;
            accepted += u64::from(row.verdict != Verdict::Reject);
            ControlFlow::Continue(())
        })?;
        let mut state = self.state();
        state.seen += seen;
        state.accepted += accepted;
        if state.seen >= self.rows {
            self.stopper.stop();
        }
        Ok(())
    }
}

impl Inbox for Pages {
    fn receive(&self, arrival: Arrival) -> BoxFuture<'_, std::result::Result<Receipt, Fault>> {
        Box::pin(async move {
            let chunks: Vec<bytes::Bytes> = arrival.body.try_collect().await.unwrap_or_default();
            if let Err(error) = self.page(chunks.concat()) {
                self.state().fault = Some(error.to_string());
                self.stopper.stop();
            }
            self.state().cursor = arrival.cursor;
            let (feed, received) = (self.feed.clone(), Timestamp(0));
            let digest = String::new();
            Ok(Receipt { message: 1, feed, received, digest, bytes: 0, duplicate: false })
        })
    }

    fn cursor(&self) -> BoxFuture<'_, std::result::Result<Option<Vec<u8>>, Fault>> {
        let cursor = self.state().cursor.clone();
        Box::pin(async move { Ok(cursor) })
    }

    fn progress(&self, outcome: std::result::Result<&str, &dyn Classify>) {
        if let Err(fault) = outcome {
            self.state().fault = Some(fault.to_string());
            self.stopper.stop();
        }
    }
}
