//! Sources against a real folder and a real HTTP server.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use xinqiao_core::fault::{Blame, Classify, Retry};
use xinqiao_core::model::{FeedId, Timestamp};
use xinqiao_core::spi::{
    Arrival, BoxFuture, Clock, Fault, Inbox, Receipt, ShutdownSignal, SourceContext,
};

use super::{TestSecrets, serve};
use crate::sources::{SOURCES, find};

/// 2026-11-23; every question moves it on by a second, so nothing has to be waited for.
struct TestClock(AtomicU64);
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1000, Ordering::Relaxed))
    }
}

struct TestShutdown(watch::Sender<bool>);
impl ShutdownSignal for TestShutdown {
    fn begun(&self) -> BoxFuture<'static, ()> {
        let mut signal = self.0.subscribe();
        Box::pin(async move {
            let _ = signal.wait_for(|begun| *begun).await;
        })
    }
    fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("测试故障")]
struct TestFault;
impl Classify for TestFault {
    fn code(&self) -> &'static str {
        "test.fault"
    }
    fn blame(&self) -> Blame {
        Blame::Operator
    }
    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

type Released = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Keeps what it takes. The first `failing` calls read the message and then fail.
#[derive(Default)]
struct TestInbox {
    failing: AtomicUsize,
    cursor: Mutex<Option<Vec<u8>>>,
    held: Mutex<Vec<String>>,
    faults: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    released: Mutex<Option<Released>>,
    changed: watch::Sender<usize>,
}

impl Inbox for TestInbox {
    fn receive(&self, arrival: Arrival) -> BoxFuture<'_, Result<Receipt, Fault>> {
        Box::pin(async move {
            let chunks: Result<Vec<_>, _> = arrival.body.try_collect().await;
            let Ok(chunks) = chunks else { return Err(Box::new(TestFault) as Fault) };
            let text = String::from_utf8(chunks.concat()).unwrap();
            if let Some(released) = self.released.lock().unwrap().as_ref()
                && released(&text)
            {
                self.violations.lock().unwrap().push(text.clone());
            }
            let failing = self.failing.load(Ordering::Relaxed);
            if failing > 0 {
                self.failing.store(failing - 1, Ordering::Relaxed);
                return Err(Box::new(TestFault) as Fault);
            }
            *self.cursor.lock().unwrap() = arrival.cursor;
            self.held.lock().unwrap().push(text);
            self.changed.send_modify(|count| *count += 1);
            Ok(Receipt {
                message: 1,
                feed: FeedId::new("f").unwrap(),
                received: Timestamp(0),
                digest: String::new(),
                bytes: 0,
                duplicate: false,
            })
        })
    }
    fn cursor(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async { Ok(self.cursor.lock().unwrap().clone()) })
    }
    fn progress(&self, outcome: Result<&str, &dyn Classify>) {
        if let Err(fault) = outcome {
            self.faults.lock().unwrap().push(format!("{}: {fault}", fault.code()));
        }
        self.changed.send_modify(|count| *count += 1);
    }
}

impl TestInbox {
    fn held(&self) -> Vec<String> {
        let mut held = self.held.lock().unwrap().clone();
        held.sort();
        held
    }
    async fn until(&self, what: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = changed.wait_for(|_| what(self));
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok();
        assert!(waited, "held {:?}, faults {:?}", self.held(), self.faults.lock().unwrap());
    }
}

/// Runs a source until `what` holds, stops it, and asserts that it ends promptly.
async fn run(
    kind: &str,
    params: &Value,
    inbox: &Arc<TestInbox>,
    what: impl Fn(&TestInbox) -> bool,
) {
    let source =
        find(kind).unwrap().build(params, &TestSecrets).unwrap_or_else(|p| panic!("{p:?}"));
    let shutdown = Arc::new(TestShutdown(watch::Sender::new(false)));
    let running = tokio::spawn(source.run(SourceContext {
        inbox: Arc::clone(inbox) as Arc<dyn Inbox>,
        clock: Arc::new(TestClock(AtomicU64::new(1_795_392_000_000))),
        shutdown: Arc::clone(&shutdown) as _,
    }));
    inbox.until(what).await;
    shutdown.0.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends promptly").unwrap();
}

/// One place to fetch from. `offer` makes a message available.
struct Fixture {
    kind: &'static str,
    params: Value,
    offer: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether the source has let go of the original.
    released: Released,
    _keep: Option<tempfile::TempDir>,
}

fn put(folder: &std::path::Path, name: &str, text: &str) {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).unwrap();
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

fn folder(after: &str) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (path, done) = (dir.path().join("in"), dir.path().join("done"));
    std::fs::create_dir(&path).unwrap();
    std::fs::create_dir(&done).unwrap();
    let mut params = json!({
        "path": path, "pattern": "*.CSV", "poll-seconds": 0.005, "settle-seconds": 2, "after": after,
    });
    if after == "move" {
        params["move-to"] = json!(done);
    }
    let watched = path.clone();
    Fixture {
        kind: "folder",
        params,
        offer: Box::new(move |text| put(&path, &format!("{text}.csv"), text)),
        released: Arc::new(move |text| !watched.join(format!("{text}.csv")).try_exists().unwrap()),
        _keep: Some(dir),
    }
}

/// Answers `{"code":"00","rows":[text],"next":n}` for cursor (or page) n, and remembers what it was asked for.
#[derive(Default)]
struct Pages {
    texts: Mutex<Vec<String>>,
    asked: Mutex<usize>,
}

async fn rest(paging: &str) -> Fixture {
    let pages = Arc::new(Pages::default());
    let answer = |State(pages): State<Arc<Pages>>, Query(query): Query<HashMap<String, usize>>| async move {
        let at = query.get("at").copied().unwrap_or(0);
        let mut asked = pages.asked.lock().unwrap();
        *asked = at.max(*asked);
        let texts = pages.texts.lock().unwrap();
        match texts.get(at) {
            Some(text) => json!({ "code": 0, "rows": [text], "next": at + 1 }).to_string(),
            None => json!({ "code": 0, "rows": [], "next": at }).to_string(),
        }
    };
    let base =
        serve(axum::Router::new().route("/d", get(answer)).with_state(Arc::clone(&pages))).await;
    let paging = match paging {
        "cursor" => json!({ "cursor": { "param": "at", "from": "/next" } }),
        _ => json!({ "page": { "param": "at", "size": 1, "first": 0, "resume": true } }),
    };
    let asked = Arc::clone(&pages);
    Fixture {
        kind: "rest",
        params: json!({
            "url": format!("{base}/d"), "paging": paging, "rows": "/rows", "poll-seconds": 0.005,
            "success": { "path": "/code", "ok": ["0"] },
        }),
        offer: Box::new(move |text| pages.texts.lock().unwrap().push(text.to_owned())),
        released: Arc::new(move |text| {
            let body: Value = serde_json::from_str(text).unwrap();
            *asked.asked.lock().unwrap() >= usize::try_from(body["next"].as_u64().unwrap()).unwrap()
        }),
        _keep: None,
    }
}

/// At least one fixture for every kind in the registry.
async fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for source in SOURCES {
        match source.kind() {
            "folder" => all.extend([folder("move"), folder("delete"), folder("leave")]),
            "rest" => all.extend([rest("cursor").await, rest("page").await]),
            other => panic!("no fixture for the source {other}"),
        }
    }
    all
}

#[tokio::test]
async fn nothing_is_lost_let_go_early_or_sent_again() {
    for fixture in fixtures().await {
        let inbox = Arc::new(TestInbox { failing: AtomicUsize::new(3), ..TestInbox::default() });
        if fixture.params["after"] != "leave" {
            *inbox.released.lock().unwrap() = Some(Arc::clone(&fixture.released));
        }
        (fixture.offer)("a");
        (fixture.offer)("b");
        run(fixture.kind, &fixture.params, &inbox, |inbox| inbox.held().len() == 2).await;
        (fixture.offer)("c");
        run(fixture.kind, &fixture.params, &inbox, |inbox| inbox.held().len() >= 3).await;
        let held = inbox.held();
        let what = &fixture.params;
        assert_eq!(held.len(), 3, "{what} {held:?}");
        for (text, held) in ["a", "b", "c"].iter().zip(&held) {
            assert!(held.contains(text), "{what} {held:?}");
        }
        assert_eq!(inbox.violations.lock().unwrap().len(), 0, "{what}");
        assert!(inbox.faults.lock().unwrap().iter().any(|f| f.starts_with("test.fault")), "{what}");
    }
}

#[tokio::test]
async fn every_source_refuses_unknown_and_missing_parameters_at_once() {
    for source in SOURCES {
        let problems =
            source.build(&json!({ "nonsense": 1, "rubbish": 2 }), &TestSecrets).err().unwrap();
        for expect in ["nonsense", "rubbish", "缺少此参数"] {
            assert!(
                problems.iter().any(|p| p.to_string().contains(expect)),
                "{} {problems:?}",
                source.kind()
            );
        }
    }
}

#[tokio::test]
async fn the_folder_leaves_what_is_not_whole_and_goes_on_past_trouble() {
    let fixture = folder("leave");
    let path = PathBuf::from(fixture.params["path"].as_str().unwrap());
    let mut params = fixture.params.clone();
    params["pattern"] = json!("*");
    params["max-bytes"] = json!(10);
    put(&path, "big.csv", "far too many bytes");
    for name in ["x.tmp", "y.part", ".z", "~$w.xlsx"] {
        put(&path, name, "half");
    }
    std::fs::create_dir(path.join("sub")).unwrap();
    put(&path.join("sub"), "s.csv", "sub");
    std::os::unix::fs::symlink(path.join("sub/s.csv"), path.join("link.csv")).unwrap();
    put(&path, "good.csv", "good");
    let inbox = Arc::new(TestInbox::default());
    let told = |inbox: &TestInbox| !inbox.faults.lock().unwrap().is_empty();
    run("folder", &params, &inbox, |inbox| inbox.held() == ["good"] && told(inbox)).await;
    assert!(inbox.faults.lock().unwrap().iter().all(|f| f.starts_with("source.too-large")));
}

#[tokio::test]
async fn a_flag_file_is_waited_for_and_goes_along() {
    let fixture = folder("move");
    let path = PathBuf::from(fixture.params["path"].as_str().unwrap());
    let mut params = fixture.params.clone();
    params["flag"] = json!(".ok");
    put(&path, "a.csv", "a");
    put(&path, "b.csv", "b");
    put(&path, "b.csv.ok", "");
    let inbox = Arc::new(TestInbox::default());
    let gone = path.join("b.csv.ok");
    run("folder", &params, &inbox, |_| !gone.try_exists().unwrap()).await;
    assert_eq!(inbox.held(), ["b"]);
    assert!(path.join("a.csv").try_exists().unwrap());
}

#[tokio::test]
async fn a_session_is_renewed_when_the_answer_says_it_is_over() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&logins);
    let login = move |headers: HeaderMap, body: String| async move {
        assert_eq!(
            (&headers["user"], body.as_str()),
            (&"甲\"".parse::<axum::http::HeaderValue>().unwrap(), r#"{"p":"s3cret"}"#)
        );
        json!({ "data": { "token": format!("t{}", count.fetch_add(1, Ordering::Relaxed)) } })
            .to_string()
    };
    // The first token is over in-band, the second by its status, the third is good.
    let data = |headers: HeaderMap| async move {
        match headers["token"].to_str().unwrap() {
            "t0" => (StatusCode::OK, json!({ "code": "403:login timeout" }).to_string()),
            "t1" => (StatusCode::UNAUTHORIZED, String::new()),
            _ => (StatusCode::OK, json!({ "code": "00", "x": 1 }).to_string()),
        }
    };
    let base = serve(axum::Router::new().route("/l", post(login)).route("/d", get(data))).await;
    let params = json!({
        "url": format!("{base}/d"), "poll-seconds": 0.005, "success": { "path": "/code" },
        "login": { "request": {
            "url": format!("{base}/l"), "user": "甲\"", "password": { "env": "P" },
            "headers": { "user": "{user}" }, "body": { "p": "{password}" },
            "token": "/data/token", "send-as": "token", "expired": ["403"],
        }},
    });
    let inbox = Arc::new(TestInbox::default());
    run("rest", &params, &inbox, |inbox| !inbox.held().is_empty()).await;
    assert_eq!(logins.load(Ordering::Relaxed), 3);
    assert!(inbox.held()[0].contains("\"x\":1"));
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_slow_interface_and_errors_are_told() {
    let slow = || async { std::future::pending::<&'static str>().await };
    let failed = || async { json!({ "code": "500", "rows": [] }).to_string() };
    let base =
        serve(axum::Router::new().route("/slow", get(slow)).route("/failed", get(failed))).await;
    let params = json!({ "url": format!("{base}/failed"), "poll-seconds": 0.005, "success": { "path": "/code" } });
    let inbox = Arc::new(TestInbox::default());
    run("rest", &params, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
    assert!(inbox.held().is_empty());
    let params = json!({ "url": format!("{base}/slow"), "poll-seconds": 0.005 });
    run("rest", &params, &Arc::new(TestInbox::default()), |_| true).await;
}
