//! What the six agencies (委办局) send in the demo: real bytes in each one's own shape, the same on
//! every run. Every name and number is invented.
//!
//! The shapes are those of the samples beside the mappings. Of a hundred rows one must not be
//! reported (excluded), three are refused by a rule, three are dirty but fine, one was decided so
//! long ago that it is late on arrival; the rest is clean. After the first wave a second one sends
//! copies, corrections and withdrawals of records the city already has.

mod numbers;
mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use numbers::Chance;

/// An agency and its feed.
#[derive(Debug, Clone, Copy)]
pub struct Agency {
    /// `sthj`.
    pub id: &'static str,
    /// 市生态环境局.
    pub name: &'static str,
    /// The feed's id, which is also its mapping's.
    pub feed: &'static str,
    /// How its messages come.
    pub channel: Channel,
    /// What its messages are, for people.
    pub shape: &'static str,
}

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Files in a watched folder.
    Folder,
    /// The gateway pulls pages.
    Pull,
    /// The agency pushes.
    Push,
}

/// The six.
pub const AGENCIES: [Agency; 6] = [
    agency("scjg", "市市场监督管理局", "scjg-admin-licence", Channel::Folder, "XLS工作簿"),
    agency("sthj", "市生态环境局", "sthj-admin-penalty", Channel::Folder, "CSV(GB18030)"),
    agency("zjj", "市住房和城乡建设局", "zjj-admin-licence", Channel::Folder, "XML"),
    agency("jtj", "市交通运输局", "jtj-admin-penalty", Channel::Pull, "REST分页JSON"),
    agency("cgj", "市城市管理局", "cgj-admin-penalty", Channel::Folder, "XLSX工作簿"),
    agency("yjj", "市应急管理局", "yjj-admin-licence", Channel::Push, "HTTP推送NDJSON"),
];

const fn agency(
    id: &'static str,
    name: &'static str,
    feed: &'static str,
    channel: Channel,
    shape: &'static str,
) -> Agency {
    Agency { id, name, feed, channel, shape }
}

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// The feed.
    pub feed: &'static str,
    /// File name; of a page its number.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Rows in it.
    pub rows: u64,
    /// Rows the gateway has to turn down: refused by a rule, or not to be reported.
    pub turned_down: u64,
}

/// Rows of one generated feed in the first wave.
const ROWS: u32 = 2_000;
/// Rows on one page of the REST service.
pub const PAGE: u64 = 500;

/// What is sent first.
pub fn first_wave() -> Result<Vec<Message>, String> {
    let mut messages = vec![Message {
        feed: "scjg-admin-licence",
        name: "行政许可2026年11月.xls".to_owned(),
        bytes: include_bytes!("../../../../../mappings/agencies/scjg/bulk.xls").to_vec(),
        rows: 1_500,
        // Every 33rd row of that file.
        turned_down: 45,
    }];
    for (feed, files) in [
        ("sthj-admin-penalty", 4),
        ("zjj-admin-licence", 2),
        ("jtj-admin-penalty", 4),
        ("cgj-admin-penalty", 1),
        ("yjj-admin-licence", 5),
    ] {
        let size = ROWS / files;
        for file in 0..files {
            let cases: Vec<Case> =
                (file * size..(file + 1) * size).map(|n| Case::of(n, Wave::First)).collect();
            messages.push(shapes::message(feed, file + 1, &cases)?);
        }
    }
    Ok(messages)
}

/// What is sent once the first wave is through: records the city has, again, corrected and taken
/// back.
pub fn second_wave() -> Result<Vec<Message>, String> {
    ["sthj-admin-penalty", "zjj-admin-licence", "cgj-admin-penalty", "yjj-admin-licence"]
        .into_iter()
        .map(|feed| {
            let clean = (0..ROWS).filter(|n| n % 50 == 20 || n % 50 == 30 || n % 400 == 40);
            let cases: Vec<Case> = clean
                .map(|n| match n % 50 {
                    20 => Case::of(n, Wave::Again),
                    30 => Case::of(n, Wave::Corrected),
                    _ => Case::of(n, Wave::Withdrawn),
                })
                .collect();
            shapes::message(feed, 9, &cases)
        })
        .collect()
}

/// Which telling of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wave {
    First,
    /// The same once more.
    Again,
    /// Another content under the same key.
    Corrected,
    /// Taken back.
    Withdrawn,
}

/// What is odd about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clean,
    /// Dirty but fine, in one of three ways.
    Dirty(u8),
    /// Refused by a rule, for one of three reasons.
    Refused(u8),
    Excluded,
}

/// One row to be written in an agency's shape.
#[derive(Debug, Clone, Copy)]
struct Case {
    n: u32,
    kind: Kind,
    wave: Wave,
    /// Day and month of 2026.
    decided: (u8, u8),
}

impl Case {
    fn of(n: u32, wave: Wave) -> Self {
        let kind = match n % 100 {
            0 => Kind::Excluded,
            k @ 1..=3 => Kind::Refused(u8::try_from(k - 1).unwrap_or_default()),
            k @ 4..=6 => Kind::Dirty(u8::try_from(k - 4).unwrap_or_default()),
            _ => Kind::Clean,
        };
        // Working days from the 12th (the last in time by the statutory clock, no longer by the
        // pledge) on.
        const DAYS: [u8; 12] = [12, 13, 16, 17, 18, 19, 20, 16, 17, 18, 19, 20];
        let day = Chance(u64::from(n)).below(DAYS.len() as u64);
        let day = usize::try_from(day).ok().and_then(|at| DAYS.get(at)).copied().unwrap_or(18);
        let decided = if n % 100 == 7 { (15, 10) } else { (day, 11) };
        Self { n, kind, wave, decided }
    }

    fn date(&self, between: &str) -> String {
        let (day, month) = self.decided;
        format!("2026{between}{month:02}{between}{day:02}")
    }

    fn turned_down(&self) -> bool {
        matches!(self.kind, Kind::Refused(_) | Kind::Excluded)
    }
}

/// 市交通运输局's REST service: a login, then pages. Every session lasts for two pages, as short
/// sessions are what real ones surprise with. Dropping it stops it.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Pages {
    pages: BTreeMap<String, Vec<u8>>,
    password: String,
    sessions: AtomicU64,
    served: AtomicU64,
    open: AtomicBool,
}

impl Service {
    /// Serves these messages as pages 1, 2 … on a free port of 127.0.0.1.
    pub async fn start(messages: &[Message], password: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let pages = (1..).zip(messages).map(|(n, m): (u32, _)| (n.to_string(), m.bytes.clone()));
        let state = Arc::new(Pages {
            pages: pages.collect(),
            password: password.to_owned(),
            sessions: AtomicU64::new(0),
            served: AtomicU64::new(0),
            open: AtomicBool::new(false),
        });
        let app = Router::new()
            .route("/login", post(log_in))
            .route("/penalties", get(page))
            .with_state(state);
        let task = tokio::spawn(async move {
            // Ends with the task; nothing else stops it.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn log_in(State(state): State<Arc<Pages>>, Json(body): Json<Value>) -> Response {
    if body.get("password").and_then(Value::as_str) != Some(&state.password) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let session = state.sessions.fetch_add(1, Ordering::Relaxed) + 1;
    state.served.store(0, Ordering::Relaxed);
    state.open.store(true, Ordering::Relaxed);
    Json(json!({ "code": "00", "token": format!("session-{session}") })).into_response()
}

async fn page(
    State(state): State<Arc<Pages>>,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let session = format!("Bearer session-{}", state.sessions.load(Ordering::Relaxed));
    let given = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let used = state.served.fetch_add(1, Ordering::Relaxed);
    if !state.open.load(Ordering::Relaxed) || given != Some(&session) || used >= 2 {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let known = query.get("page").and_then(|page| state.pages.get(page));
    let empty = || json!({ "code": "00", "msg": "", "rows": [] }).to_string().into_bytes();
    let json = [(http::header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (json, known.cloned().unwrap_or_else(empty)).into_response()
}
