use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use xinqiao_core::spi::{Listener, PushAnswer, PushCall, PushRefusal, Receipt, Written};
use xinqiao_store::StoreOptions;

use super::*;
use crate::testing::{Bench, bench, bench_with, stop};

struct Running {
    bench: Bench,
    at: std::net::SocketAddr,
    stop: tokio::sync::watch::Sender<bool>,
    served: JoinHandle<std::io::Result<()>>,
}

struct Said {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Said {
    /// A refusal must be a problem with Chinese text.
    fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)));
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        for text in ["title", "detail"] {
            assert!(!self.body[text].as_str().unwrap().is_ascii(), "{text}");
        }
    }

    fn receipt(&self) -> Receipt {
        serde_json::from_value(self.body.clone()).unwrap()
    }
}

impl Running {
    async fn start() -> Self {
        Self::start_on(bench()).await
    }

    async fn start_on(bench: Bench) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, shutdown) = stop();
        let state = PushState {
            store: bench.store.clone(),
            feeds: Arc::clone(&bench.feeds),
            receipts: bench.receipts(),
            clock: Arc::clone(&bench.clock) as _,
            tls: false,
        };
        let served = tokio::spawn(serve(listener, None, router(state), shutdown));
        Self { bench, at, stop, served }
    }

    async fn connect(&self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.at).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn ask(&self, request: Request<Body>) -> Said {
        let response = self.connect().await.send_request(request).await.unwrap();
        let (head, body) = response.into_parts();
        #[expect(clippy::disallowed_methods, reason = "limited, as the ban asks")]
        let body = Limited::new(body, 1 << 20).collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap();
        Said { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn post(&self, feed: &str, body: impl Into<Body>) -> Said {
        self.ask(with(feed, Request::post("/api/v1/messages")).body(body.into()).unwrap()).await
    }

    async fn get(&self, feed: &str, path: &str) -> Said {
        self.ask(with(feed, Request::get(path)).body(Body::empty()).unwrap()).await
    }
}

fn with(feed: &str, request: axum::http::request::Builder) -> axum::http::request::Builder {
    request.header("host", "gateway").header("authorization", format!("Bearer {feed}-token"))
}

#[tokio::test]
async fn a_receipt_names_a_message_that_is_durably_held() {
    let running = Running::start().await;
    let request = with("one", Request::post("/api/v1/messages?name=%E5%A4%84%E7%BD%9A.csv"));
    let said = running.ask(request.body(Body::from("甲,乙\n")).unwrap()).await;
    assert_eq!(said.status, 201);
    let receipt = said.receipt();
    assert!(!receipt.duplicate);
    running.bench.certified(&said.body);
    assert_eq!(said.headers["location"], format!("/api/v1/messages/{}", receipt.message));

    let seen = running.get("one", &format!("/api/v1/messages/{}", receipt.message)).await;
    assert_eq!((seen.status, seen.body["name"].as_str()), (200, Some("处罚.csv")));

    running.stop.send_replace(true);
    running.served.await.unwrap().unwrap();
    // The store is opened anew, as after a restart.
    let Bench { dir, key, store, clock, .. } = running.bench;
    drop(store);
    let store = Store::open(&dir.path().join("store"), Default::default(), clock, key).unwrap();
    let held = store.message(receipt.message).unwrap();
    assert_eq!((held.digest, held.bytes), (receipt.digest, 8));
    let mut bytes = String::new();
    std::io::Read::read_to_string(&mut *store.payload(receipt.message).unwrap(), &mut bytes)
        .unwrap();
    assert_eq!(bytes, "甲,乙\n");
}

#[tokio::test]
async fn the_same_bytes_get_the_original_receipt() {
    let running = Running::start().await;
    let first = running.post("one", "a").await.receipt();
    running.bench.clock.on(5_000);
    let again = running.post("one", "a").await;
    assert_eq!(again.status, 200);
    assert_eq!(again.receipt(), Receipt { duplicate: true, ..first.clone() });
    // So does who asks for it, and the line is the same.
    let path = format!("/api/v1/messages/{}/receipt", first.message);
    let asked = running.get("one", &path).await;
    assert_eq!(asked.body["arrival"]["statement"], again.body["statement"]);
    running.bench.certified(&asked.body["arrival"]);
    assert!(asked.body["outcome"].is_null(), "nothing has processed it yet");
    running.get("two", &path).await.refused(404, "http.not-found");
    // Another feed's same bytes are another message.
    assert_eq!(running.post("two", "a").await.status, 201);
}

#[tokio::test]
async fn no_path_opens_without_a_token() {
    let running = Running::start().await;
    let paths = ["/api/v1/messages", "/api/v1/messages/1", "/api/v1/zero-reports", "/", "/x"];
    let tokens = [
        None,
        Some("Bearer "),
        Some("Bearer pull-token"),
        Some("Basic one-token"),
        Some("one-token"),
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE"] {
            for token in tokens {
                let mut request = Request::builder().method(method).uri(path).header("host", "g");
                if let Some(token) = token {
                    request = request.header("authorization", token);
                }
                let said = running.ask(request.body(Body::from("a")).unwrap()).await;
                said.refused(401, "http.token");
                assert_eq!(said.headers["www-authenticate"], "Bearer");
            }
        }
    }
    assert!(running.bench.store.messages(None, None, None, 1).unwrap().is_empty());
}

#[tokio::test]
async fn another_agency_s_message_looks_absent() {
    let running = Running::start().await;
    let id = running.post("one", "a").await.receipt().message;
    for path in [format!("/api/v1/messages/{id}"), format!("/api/v1/messages/{id}/verdicts")] {
        running.get("two", &path).await.refused(404, "http.not-found");
        assert_eq!(running.get("few", &path).await.status, 200, "same agency, other feed");
    }
    running.get("one", "/api/v1/messages/999").await.refused(404, "http.not-found");
    running.get("one", "/api/v1/messages/一").await.refused(404, "http.not-found");
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_and_not_kept() {
    let running = Running::start().await;
    running.post("one", vec![b'a'; 100_001]).await.refused(413, "intake.too-large");
    let chunks =
        futures_util::stream::iter([60_000; 2].map(|n| std::io::Result::Ok("a".repeat(n))));
    running.post("one", Body::from_stream(chunks)).await.refused(413, "intake.too-large");
    running.post("one", "").await.refused(422, "intake.empty");
    for (header, value, code) in [
        ("content-encoding", "gzip", "http.content-encoding"),
        ("content-type", "multipart/form-data; boundary=x", "http.multipart"),
    ] {
        let request = with("one", Request::post("/api/v1/messages")).header(header, value);
        running.ask(request.body(Body::from("a")).unwrap()).await.refused(415, code);
    }
    running.get("one", "/api/v1/messages/1/verdicts?limit=x").await.refused(400, "http.malformed");
    running.get("one", "/api/v1/messages").await.refused(405, "http.no-method");
    running.get("one", "/x").await.refused(404, "http.no-route");
    assert!(running.bench.store.messages(None, None, None, 1).unwrap().is_empty());
}

#[tokio::test]
async fn a_full_disk_asks_for_patience_and_keeps_nothing() {
    let full = StoreOptions { reserve_bytes: u64::MAX, ..StoreOptions::default() };
    let running = Running::start_on(bench_with(full)).await;
    let said = running.post("one", "a").await;
    said.refused(503, "store.disk-full");
    assert_eq!(said.headers["retry-after"], "300");
    assert_eq!(running.bench.store.status().unwrap().feeds.len(), 0);
}

#[tokio::test]
async fn a_feed_s_rate_is_its_own_and_recovers() {
    let running = Running::start().await;
    for body in ["a", "b"] {
        assert_eq!(running.post("few", body).await.status, 201);
    }
    let said = running.post("few", "c").await;
    said.refused(429, "http.rate-limit");
    assert_eq!(said.headers["retry-after"], "30");
    assert_eq!(running.post("one", "c").await.status, 201);
    running.bench.clock.on(30_000);
    assert_eq!(running.post("few", "c").await.status, 201);
}

/// Reads a token from the request, if it is one that does.
#[derive(Debug)]
struct Dialect(bool);

impl Listener for Dialect {
    fn holds_token(&self) -> bool {
        self.0
    }

    fn call(&self, beginning: &[u8]) -> Result<PushCall, PushRefusal> {
        let text = std::str::from_utf8(beginning).unwrap();
        let token = text.split_once("token=").map(|(_, token)| token.trim().to_owned());
        Ok(PushCall { variant: 1, token: token.filter(|_| self.0) })
    }

    fn answer(&self, _: &PushCall, answer: &PushAnswer) -> Written {
        self.written(200, &format!("{{\"message\":{}}}", answer.receipt.message))
    }

    fn refuse(&self, _: Option<&PushCall>, refusal: &PushRefusal) -> Written {
        self.written(500, &serde_json::json!({ "code": refusal.code }).to_string())
    }

    fn describe(&self, _: &str) -> Written {
        self.written(200, "{}")
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn base(&self) -> Option<&str> {
        None
    }
}

impl Dialect {
    fn written(&self, status: u16, body: &str) -> Written {
        Written { status, content_type: "application/json", body: body.to_owned() }
    }
}

/// Strangers who begin a request and never go on take no room that callers with a token need.
#[tokio::test]
async fn strangers_shut_nobody_out() {
    let mut bench = bench();
    let feeds = Arc::get_mut(&mut bench.feeds).unwrap();
    // `jia` has none that reads a token in a request; `yi` has.
    feeds[0].listener = Some(Arc::new(Dialect(false)));
    feeds[1].listener = Some(Arc::new(Dialect(true)));
    let running = Running::start_on(bench).await;
    let begin = async |path: &str| {
        let mut stream = TcpStream::connect(running.at).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\n\r\n<");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    // Where no request could hold a token, nothing of it is waited for.
    let mut stream = begin("/soap/jia/one").await;
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("http.token"), "{answer}");

    let post = |path: &str, token: Option<&str>, body: &str| {
        let mut request = Request::post(path).header("host", "g");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    // More of them than there is room for all callers.
    let mut strangers = Vec::new();
    let mut refused = false;
    while strangers.len() < 600 || !refused {
        assert!(strangers.len() < 4_000, "strangers are waited for without end");
        strangers.push(begin("/soap/yi/two").await);
        if strangers.len() % 100 == 0 {
            let said = running.ask(post("/soap/yi/two", None, "token=two-token")).await;
            refused = said.body["code"] == "http.overload";
        }
    }
    assert_eq!(running.post("one", "a").await.status, 201);
    assert_eq!(running.ask(post("/soap/jia/one", Some("one-token"), "x")).await.status, 200);
    assert_eq!(running.ask(post("/soap/yi/two", Some("two-token"), "y")).await.status, 200);
    drop(strangers);
    // Their places are free again, and a token in the request opens.
    let began = std::time::Instant::now();
    loop {
        let said = running.ask(post("/soap/yi/two", None, "token=two-token")).await;
        if said.status == 200 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", said.body);
    }
    let said = running.ask(post("/soap/yi/two", None, "token=one-token")).await;
    assert_eq!(said.body["code"], "http.token");
}

#[tokio::test]
async fn a_zero_report_is_the_token_s_agency_s_and_told_once() {
    let running = Running::start().await;
    let zero = async |feed: &str, body: &str| {
        let request = with(feed, Request::post("/api/v1/zero-reports"));
        let request = request.header("content-type", "application/json");
        running.ask(request.body(Body::from(body.to_owned())).unwrap()).await
    };
    // It is 2027-01-15.
    let december = r#"{"period":"2026-12","reason":"张11010519491231002X核对:本月无处罚决定"}"#;
    let said = zero("one", december).await;
    assert_eq!((said.status, &said.body["changed"]), (201, &true.into()));
    let report = &said.body["report"];
    assert_eq!((&report["agency"], &report["dataset"]), (&"jia".into(), &"admin-penalty".into()));
    let event = &report["events"][0];
    assert_eq!(event["by"], "接口推送(one)");
    assert_eq!(event["reason"], "张***核对:本月无处罚决定");
    let again = zero("one", december).await;
    assert_eq!((again.status, &again.body["changed"]), (200, &false.into()));
    assert_eq!(zero("two", december).await.body["report"]["agency"], "yi");

    let not_over = r#"{"period":"2027-01","reason":"本月无"}"#;
    zero("one", not_over).await.refused(422, "report.not-over");
    zero("one", r#"{"period":"2027-W01","reason":" "}"#).await.refused(422, "report.reason");
    for body in ["", "{}", r#"{"period":"2026-13","reason":"无"}"#, r#"{"period":"2026-12"}"#] {
        zero("one", body).await.refused(400, "http.malformed");
    }
    zero("none", december).await.refused(401, "http.token");
    assert_eq!(running.bench.store.zero_reports().unwrap().len(), 2);
    // It counts against the feed's rate as a message does.
    assert_eq!(
        (zero("few", december).await.status, zero("few", december).await.status),
        (200, 200)
    );
    zero("few", december).await.refused(429, "http.rate-limit");
}
