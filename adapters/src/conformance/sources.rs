//! Sources against a real folder and a real HTTP server.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::harness::{self, Fixture, TestInbox, run};
use super::{TestSecrets, serve};
use crate::sources::SOURCES;

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
    if after != "leave" {
        params["confirm-seconds"] = json!(3);
    }
    let watched = path.clone();
    // Named after how a text begins.
    let name = |text: &str| format!("{}.csv", text.chars().take(20).collect::<String>());
    Fixture {
        kind: "folder",
        params,
        offer: Box::new(move |text| put(&path, &name(text), text)),
        released: Arc::new(move |text| !watched.join(name(text)).try_exists().unwrap()),
        lets_go: after != "leave",
        keep: Some(Box::new(dir)),
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
        lets_go: true,
        keep: None,
    }
}

/// What a SOAP interface has, and what it was asked for last.
#[derive(Default)]
struct Service {
    texts: Vec<String>,
    /// Which window each text was given out in, by the window's beginning.
    windows: BTreeMap<u64, usize>,
    asked: u64,
}

impl Service {
    /// The text at a page or cursor, or in a window: the next one that no window has yet.
    fn text(&mut self, paging: &str, at: u64) -> Option<String> {
        self.asked = self.asked.max(at);
        let mut ix = usize::try_from(at).unwrap();
        if paging == "window" {
            let next = self.windows.len();
            ix = match self.windows.get(&at) {
                Some(known) => *known,
                None if next < self.texts.len() => *self.windows.entry(at).or_insert(next),
                None => return None,
            };
        }
        self.texts.get(ix).cloned()
    }
}

/// Answers a page, a cursor or a window as a document in a text in an envelope.
async fn soap(version: &str, paging: &'static str) -> Fixture {
    let service = Arc::new(Mutex::new(Service::default()));
    let ns = match version {
        "1.1" => "http://schemas.xmlsoap.org/soap/envelope/",
        _ => "http://www.w3.org/2003/05/soap-envelope",
    };
    let answer = move |State(service): State<Arc<Mutex<Service>>>,
                       headers: HeaderMap,
                       body: String| async move {
        let kind = headers["content-type"].to_str().unwrap();
        assert_eq!(kind.starts_with("application/soap+xml"), ns.contains("2003"));
        assert_eq!(headers.contains_key("soapaction"), !ns.contains("2003"));
        assert!(body.contains(ns) && body.contains("<k>s3cret</k>"), "{body}");
        let at = body.split("<at>").nth(1).unwrap().split('<').next().unwrap();
        let at: u64 = at.parse().unwrap_or(0);
        let text = service.lock().unwrap().text(paging, at);
        let rows =
            text.map(|text| format!("&lt;R&gt;{text}&lt;/R&gt;&lt;n&gt;{}&lt;/n&gt;", at + 1));
        format!(
            "<e:Envelope xmlns:e=\"{ns}\"><e:Body><g xmlns=\"u\"><at>{at}</at><return>&lt;D code=\"0\"&gt;&lt;c&gt;00&lt;/c&gt;{}\
             &lt;/D&gt;</return></g></e:Body></e:Envelope>",
            rows.unwrap_or_default()
        )
    };
    let router = axum::Router::new().route("/s", post(answer));
    let base = serve(router.with_state(Arc::clone(&service))).await;
    let (place, paging) = match paging {
        "cursor" => ("cursor", json!({ "cursor": { "from": "/D/n" } })),
        // From the clock's beginning on, each over soon.
        "window" => {
            let window = json!({ "start": "2026-11-23 08:00:00", "format": "seconds", "step-seconds": 10, "lag-seconds": 5 });
            ("from", json!({ "window": window }))
        }
        _ => ("page", json!({ "page": { "size": 1, "first": 0, "resume": true } })),
    };
    let asked = Arc::clone(&service);
    Fixture {
        kind: "soap",
        params: json!({
            "endpoint": format!("{base}/s"), "version": version, "poll-seconds": 0.005,
            "values": { "key": { "env": "K" } },
            "request": format!("<g xmlns=\"u\"><k>{{key}}</k><at>{{{place}}}</at></g>"),
            "answer": { "at": "/g/return" }, "rows": { "at": "/D/R" },
            "success": { "at": "/D/c", "ok": ["00"] }, "paging": paging,
        }),
        offer: Box::new(move |text| service.lock().unwrap().texts.push(text.to_owned())),
        released: Arc::new(move |text| {
            let at: u64 =
                text.split("<at>").nth(1).unwrap().split('<').next().unwrap().parse().unwrap();
            asked.lock().unwrap().asked > at
        }),
        lets_go: true,
        keep: None,
    }
}

/// Kinds whose other side is a server that tests/peers brings.
const IN_PEERS: &[&str] = &["ftp", "mysql", "postgres", "sftp"];

/// At least one fixture for every kind in the registry, but those that tests/peers has.
async fn fixtures() -> Vec<Fixture> {
    let mut all = Vec::new();
    for source in SOURCES {
        match source.kind() {
            "folder" => all.extend([folder("move"), folder("delete"), folder("leave")]),
            "rest" => all.extend([rest("cursor").await, rest("page").await]),
            "soap" => all.extend([
                soap("1.1", "page").await,
                soap("1.2", "page").await,
                soap("1.1", "cursor").await,
                soap("1.2", "window").await,
            ]),
            kind if IN_PEERS.contains(&kind) => {}
            other => panic!("no fixture for the source {other}"),
        }
    }
    all
}

#[tokio::test]
async fn nothing_is_lost_let_go_early_or_sent_again() {
    harness::nothing_is_lost_let_go_early_or_sent_again(fixtures().await).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_by_dying() {
    harness::nothing_is_lost_or_doubled_by_dying(fixtures().await).await;
}

#[tokio::test]
async fn what_is_too_large_is_told_and_not_taken() {
    harness::what_is_too_large_is_told_and_not_taken(fixtures().await).await;
}

#[tokio::test]
async fn progress_tells_how_much_and_nothing_of_it() {
    harness::progress_tells_how_much_and_nothing_of_it(fixtures().await).await;
}

/// However large a file is, it comes in small pieces, and no faster than it is taken.
#[tokio::test]
async fn a_great_file_is_never_whole_in_memory() {
    const GREAT: u64 = 1 << 30;
    let fixture = folder("leave");
    let path = PathBuf::from(fixture.params["path"].as_str().unwrap()).join("great.csv");
    put(path.parent().unwrap(), "great.csv", "");
    // A hole: it takes no room on the disk.
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(GREAT).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
    let inbox = Arc::new(TestInbox::counting());
    run("folder", &fixture.params, &inbox, |inbox| !inbox.held().is_empty()).await;
    assert_eq!(inbox.held(), [GREAT.to_string()]);
    assert!(*inbox.largest.lock().unwrap() <= 1 << 20, "{:?}", inbox.largest);
}

/// An answer without end is cut off where the limit is, not read on.
#[tokio::test]
async fn an_answer_without_end_is_given_up_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endless = move || async move {
        let piece = "x".repeat(64 << 10);
        let pieces = futures_util::stream::repeat_with(move || {
            counted.fetch_add(piece.len(), Ordering::Relaxed);
            std::io::Result::Ok(piece.clone())
        });
        axum::body::Body::from_stream(pieces)
    };
    let base = serve(axum::Router::new().route("/", get(endless.clone()).post(endless))).await;
    for (kind, params) in [
        ("rest", json!({ "url": base, "max-bytes": LIMIT, "poll-seconds": 3600 })),
        (
            "soap",
            json!({ "endpoint": base, "request": "<q/>", "max-bytes": LIMIT, "poll-seconds": 3600 }),
        ),
    ] {
        sent.store(0, Ordering::Relaxed);
        let inbox = Arc::new(TestInbox::default());
        run(kind, &params, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
        assert!(inbox.faults.lock().unwrap()[0].starts_with("source.too-large"), "{kind}");
        // What the system holds between two sockets comes on top.
        assert!(sent.load(Ordering::Relaxed) < LIMIT + (16 << 20), "{kind} {sent:?}");
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

#[tokio::test]
async fn a_soap_session_is_renewed_whatever_way_its_end_is_told() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&logins);
    let wrap = |body: &str| {
        format!(
            "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\"><e:Body>{body}</e:Body></e:Envelope>"
        )
    };
    let login = move |headers: HeaderMap, body: String| async move {
        assert_eq!(headers["user"].as_bytes(), "甲".as_bytes());
        assert_eq!(headers["soapaction"], "\"urn:login\"");
        assert!(body.contains("<p>s3cret</p>"), "{body}");
        let n = count.fetch_add(1, Ordering::Relaxed);
        wrap(&format!("<r><return>{{\"data\":{{\"t\":\"t{n}&amp;\"}}}}</return></r>"))
    };
    // The first token is over in-band, the second by a fault (with status 200), the third by its
    // status; the fourth is good, and the answer is a MIME body with text before its boundary.
    let data = move |headers: HeaderMap, body: String| async move {
        let token = headers["token"].to_str().unwrap().to_owned();
        assert!(body.contains(&format!("<t>{}</t>", token.replace('&', "&amp;"))), "{body}");
        let fault =
            "<e:Fault><faultcode>e:Session.Over</faultcode><faultstring>x</faultstring></e:Fault>";
        let (status, kind, body) = match token.as_str() {
            "t0&" => (200, "text/xml", wrap("<r><return>403:login timeout</return></r>")),
            "t1&" => (200, "text/xml", wrap(fault)),
            "t2&" => (401, "text/xml", String::new()),
            _ => {
                let envelope = wrap("<r><return>&lt;D&gt;&lt;R/&gt;&lt;/D&gt;</return></r>");
                let body = format!(
                    "preamble\r\n--b\r\nContent-Type: application/xop+xml\r\n\r\n{envelope}\r\n--b--\r\n"
                );
                (200, "multipart/related; boundary=b", body)
            }
        };
        (StatusCode::from_u16(status).unwrap(), [("content-type", kind)], body)
    };
    let base = serve(axum::Router::new().route("/l", post(login)).route("/d", post(data))).await;
    let params = json!({
        "endpoint": format!("{base}/d"), "poll-seconds": 0.005,
        "request": "<q><t>{token}</t></q>", "answer": {}, "rows": { "at": "/D/R" },
        "login": {
            "endpoint": format!("{base}/l"), "action": "urn:login", "user": "甲", "password": { "env": "P" },
            "headers": { "user": "{user}" }, "request": "<l><p>{password}</p></l>", "answer": {},
            "token": "/data/t", "send-as": "token", "expired": ["403", "Session.Over"],
        },
    });
    let inbox = Arc::new(TestInbox::default());
    run("soap", &params, &inbox, |inbox| !inbox.held().is_empty()).await;
    assert!(logins.load(Ordering::Relaxed) >= 4);
    assert!(inbox.held()[0].starts_with("--b\r\n"), "{:?}", inbox.held());
}

#[tokio::test]
async fn what_a_soap_interface_does_wrong_is_told_and_not_kept() {
    let fault = |status: u16| {
        let body = "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\"><e:Body><e:Fault>\
            <faultcode>e:Server.Busy</faultcode><faultstring>11010519491231002X</faultstring></e:Fault></e:Body></e:Envelope>";
        move || async move { (StatusCode::from_u16(status).unwrap(), body) }
    };
    let bomb = || async { "<!DOCTYPE a><a/>" };
    let router = axum::Router::new()
        .route("/500", post(fault(500)))
        .route("/200", post(fault(200)))
        .route("/bomb", post(bomb))
        .route("/html", post(|| async { "<html/>" }));
    let base = serve(router).await;
    for (path, told) in [
        ("500", "ServerBusy"),
        ("200", "ServerBusy"),
        ("bomb", "DOCTYPE"),
        ("html", "不是SOAP信封"),
    ] {
        let params = json!({ "endpoint": format!("{base}/{path}"), "poll-seconds": 0.005, "request": "<q/>" });
        let inbox = Arc::new(TestInbox::default());
        run("soap", &params, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
        assert!(inbox.held().is_empty());
        let faults = inbox.faults.lock().unwrap();
        assert!(faults[0].contains(told) && !faults[0].contains("1949"), "{faults:?}");
    }
}
