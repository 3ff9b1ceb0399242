//! A stand-in for the municipal platform (市公共信用信息平台): the receiver that
//! `docs/formats/rest-target.md` describes, in memory, on loopback. For the demo and for tests; it
//! has no part in serving.
//!
//! It recognises repeats by row key: a key seen before gets the answer it got first, without a
//! second effect. On demand it refuses rows, goes down, or breaks off its answer after taking the
//! rows, which is where senders lose or double records.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The code real platforms answer when a subject is not in their register.
const REFUSAL: (&str, &str) = ("1001", "验证规则代码:1001 未查询到主体或查询到的主体信息不匹配");

/// How the stand-in behaves; the default takes everything at once.
#[derive(Debug, Clone, Default)]
pub struct PlatformOptions {
    /// Refuses the subjects whose name's digest is a multiple of this: about one in so many, the
    /// same ones every time.
    pub refuse_one_in: Option<u64>,
    /// Goes down once, by itself.
    pub outage: Option<Outage>,
    /// Breaks off every so many-th answer halfway, with the rows already taken.
    pub break_every: Option<u64>,
    /// Waits before every answer.
    pub delay: Duration,
}

/// A time of answering 503 with `Retry-After: 1`.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Begins once so many rows have been taken.
    pub after_rows: u64,
    /// When it ends.
    pub lasts: Lasts,
}

/// How long an outage lasts.
#[derive(Debug, Clone, Copy)]
pub enum Lasts {
    /// For so many requests.
    Requests(u64),
    /// For so long from the first request it refuses.
    Time(Duration),
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Code `00`.
    Accepted,
    /// Code `1001`.
    Refused,
}

/// What the stand-in holds of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The row's key.
    pub key: String,
    /// `admin-penalty`.
    pub dataset: String,
    /// `upsert` or `withdraw`.
    pub operation: String,
    /// The decision's document number.
    pub document: Option<String>,
    /// How often it came.
    pub attempts: u32,
    /// The answer it got.
    pub outcome: Outcome,
}

/// Counts of requests and rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that came.
    pub requests: u64,
    /// Requests answered 503.
    pub turned_away: u64,
    /// Answers broken off.
    pub broken: u64,
    /// Rows whose key had come before.
    pub repeats: u64,
}

/// Takes the envelope off a request; `None` refuses it.
pub type Unseal = Box<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// The running stand-in. Dropping it stops it.
pub struct Platform {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Platform {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(options: PlatformOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { options, unseal: OnceLock::new(), state: Mutex::default() });
        let app = Router::new()
            .route("/rows", post(take))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            // Ends with the task; nothing else stops it.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes rows: the target's `url`.
    pub fn url(&self) -> String {
        format!("http://{}/rows", self.address)
    }

    /// From now on takes nothing but envelopes.
    pub fn takes_envelopes(&self, unseal: Unseal) {
        // Set once; a second time has no meaning.
        let _ = self.shared.unseal.set(unseal);
    }

    /// Every row taken, by key.
    pub fn ledger(&self) -> Vec<LedgerRow> {
        self.shared.state().rows.values().cloned().collect()
    }

    /// Counts so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    /// Answers 503 from now on, or no longer.
    pub fn set_down(&self, down: bool) {
        self.shared.state().down = down;
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    options: PlatformOptions,
    unseal: OnceLock<Unseal>,
    state: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    rows: BTreeMap<String, LedgerRow>,
    traffic: Traffic,
    answers: u64,
    down: bool,
    outage: Progress,
}

/// Where the outage by itself stands.
#[derive(Debug, Default)]
enum Progress {
    #[default]
    Ahead,
    During {
        since: Instant,
        requests: u64,
    },
    Over,
}

#[derive(Deserialize)]
struct Batch {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    key: String,
    dataset: String,
    operation: String,
    fields: Map<String, Value>,
}

impl Row {
    /// The first field whose code ends so: codes differ by dataset and generation.
    fn field(&self, endings: &[&str]) -> Option<&str> {
        let (_, value) =
            self.fields.iter().find(|(code, _)| endings.iter().any(|end| code.ends_with(end)))?;
        value.as_str()
    }
}

async fn take(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    tokio::time::sleep(shared.options.delay).await;
    if shared.is_away() {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let content = match shared.unseal.get() {
        Some(unseal) => unseal(&body).map(Bytes::from),
        None => Some(body),
    };
    let batch = content.and_then(|content| serde_json::from_slice::<Batch>(&content).ok());
    let Some(batch) = batch else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let (answer, breaks) = shared.record(batch);
    let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    if breaks {
        let half = Bytes::copy_from_slice(answer.as_bytes().split_at(answer.len() / 2).0);
        // Without a pause the server would close before a byte of the answer has left.
        let parts = stream::once(std::future::ready(Ok(half))).chain(stream::once(async {
            tokio::task::yield_now().await;
            Err(io::Error::from(io::ErrorKind::ConnectionReset))
        }));
        return (content_type, Body::from_stream(parts)).into_response();
    }
    (content_type, answer).into_response()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, Records> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request; whether it is turned away.
    fn is_away(&self) -> bool {
        let mut state = self.state();
        state.traffic.requests += 1;
        let away = state.down || self.options.outage.is_some_and(|outage| state.is_out(outage));
        state.traffic.turned_away += u64::from(away);
        away
    }

    /// Takes a batch's rows; the answer, and whether it is to be broken off.
    fn record(&self, batch: Batch) -> (String, bool) {
        let mut state = self.state();
        let results: Vec<Value> = batch
            .rows
            .into_iter()
            .map(|row| match state.take(row, self.options.refuse_one_in) {
                (key, Outcome::Accepted) => json!({ "key": key, "code": "00" }),
                (key, Outcome::Refused) => {
                    json!({ "key": key, "code": REFUSAL.0, "message": REFUSAL.1 })
                }
            })
            .collect();
        state.answers += 1;
        let breaks = self
            .options
            .break_every
            .is_some_and(|every| every > 0 && state.answers.is_multiple_of(every));
        state.traffic.broken += u64::from(breaks);
        (json!({ "code": "00", "message": "", "results": results }).to_string(), breaks)
    }
}

impl Records {
    fn is_out(&mut self, outage: Outage) -> bool {
        if matches!(self.outage, Progress::Ahead) && self.rows.len() as u64 >= outage.after_rows {
            self.outage = Progress::During { since: Instant::now(), requests: 0 };
        }
        let Progress::During { since, requests } = &mut self.outage else { return false };
        let out = match outage.lasts {
            Lasts::Requests(count) => *requests < count,
            Lasts::Time(time) => since.elapsed() < time,
        };
        *requests += 1;
        if !out {
            self.outage = Progress::Over;
        }
        out
    }

    fn take(&mut self, row: Row, refuse_one_in: Option<u64>) -> (String, Outcome) {
        if let Some(known) = self.rows.get_mut(&row.key) {
            known.attempts += 1;
            self.traffic.repeats += 1;
            return (row.key, known.outcome);
        }
        let document = row.field(&["_WSH"]).map(str::to_owned);
        // A withdrawal may carry no fields at all, and is never refused for its subject.
        let subject = row.field(&["_XDR_MC", "XK_XDR"]).filter(|_| row.operation != "withdraw");
        let refused = subject
            .zip(refuse_one_in)
            .is_some_and(|(name, one_in)| one_in > 0 && digest(name).is_multiple_of(one_in));
        let outcome = if refused { Outcome::Refused } else { Outcome::Accepted };
        let Row { key, dataset, operation, .. } = row;
        let entry =
            LedgerRow { key: key.clone(), dataset, operation, document, attempts: 1, outcome };
        self.rows.insert(key.clone(), entry);
        (key, outcome)
    }
}

/// FNV-1a: the same on every run and machine.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, Limited};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    use super::*;

    struct Answer {
        status: StatusCode,
        retry_after: Option<String>,
        /// `None` if it broke off.
        codes: Option<Vec<String>>,
    }

    async fn send(platform: &Platform, keys: std::ops::Range<u32>) -> Answer {
        let rows: Vec<Value> = keys
            .map(|n| {
                json!({ "key": format!("k{n:04}-1"), "dataset": "admin-penalty", "generation": 2021,
                    "operation": "upsert",
                    "fields": { "CF_XDR_MC": format!("样例{n}公司"), "CF_WSH": format!("样罚〔2026〕{n}号") } })
            })
            .collect();
        let body = json!({ "batch": "b", "count": rows.len(), "rows": rows }).to_string();
        let request = http::Request::post(platform.url())
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response = client.request(request).await.unwrap();
        let status = response.status();
        let retry_after =
            response.headers().get(header::RETRY_AFTER).map(|v| v.to_str().unwrap().to_owned());
        #[expect(clippy::disallowed_methods, reason = "Limited stands right inside")]
        let body = BodyExt::collect(Limited::new(response.into_body(), 1 << 20)).await;
        let codes = body.ok().map(|body| {
            let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            let results = answer["results"].as_array().cloned().unwrap_or_default();
            results.iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect()
        });
        Answer { status, retry_after, codes }
    }

    async fn start(options: PlatformOptions) -> Platform {
        Platform::start(options).await.unwrap()
    }

    #[tokio::test]
    async fn a_repeated_key_gets_the_first_answer_and_no_second_effect() {
        let platform =
            start(PlatformOptions { refuse_one_in: Some(3), ..Default::default() }).await;
        let first = send(&platform, 0..60).await.codes.unwrap();
        let refused = first.iter().filter(|code| *code == "1001").count();
        assert!((5..40).contains(&refused), "about a third of 60, not {refused}");
        assert_eq!(first.iter().filter(|code| *code == "00").count(), 60 - refused);
        let ledger = platform.ledger();

        assert_eq!(send(&platform, 0..60).await.codes.unwrap(), first);
        let again = platform.ledger();
        assert_eq!(again.len(), 60);
        assert!(again.iter().all(|row| row.attempts == 2));
        assert!(ledger.iter().zip(&again).all(|(a, b)| a.outcome == b.outcome));
        assert_eq!(again[7].document.as_deref(), Some("样罚〔2026〕7号"));
        assert_eq!(platform.traffic().repeats, 60);
    }

    #[tokio::test]
    async fn an_outage_turns_requests_away_and_takes_nothing() {
        let outage = Outage { after_rows: 10, lasts: Lasts::Requests(2) };
        let platform = start(PlatformOptions { outage: Some(outage), ..Default::default() }).await;
        assert_eq!(send(&platform, 0..10).await.status, StatusCode::OK);
        for _ in 0..2 {
            let away = send(&platform, 10..20).await;
            assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(away.retry_after.as_deref(), Some("1"));
        }
        assert_eq!(platform.ledger().len(), 10);
        assert_eq!(send(&platform, 10..20).await.status, StatusCode::OK);
        assert_eq!(platform.ledger().len(), 20);
        assert_eq!(platform.traffic().turned_away, 2);
    }

    #[tokio::test]
    async fn it_goes_down_and_comes_back_when_told() {
        let platform = start(PlatformOptions::default()).await;
        platform.set_down(true);
        assert_eq!(send(&platform, 0..1).await.status, StatusCode::SERVICE_UNAVAILABLE);
        platform.set_down(false);
        assert_eq!(send(&platform, 0..1).await.status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_broken_answer_leaves_the_rows_taken() {
        let platform = start(PlatformOptions { break_every: Some(2), ..Default::default() }).await;
        assert!(send(&platform, 0..5).await.codes.is_some());
        assert!(send(&platform, 5..10).await.codes.is_none(), "broken off");
        assert_eq!(platform.ledger().len(), 10);
        assert_eq!(send(&platform, 5..10).await.codes.unwrap(), vec!["00"; 5]);
        assert_eq!(platform.ledger().len(), 10);
        assert_eq!(platform.traffic().broken, 1);
    }
}
