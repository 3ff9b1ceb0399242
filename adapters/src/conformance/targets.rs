//! Targets against a real HTTP server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};
use xinqiao_core::model::{DatasetId, Operation, TargetId};
use xinqiao_core::spi::{Outcome, Parcel, Target, TargetError};

use super::{TestSecrets, serve};
use crate::targets::{TARGETS, find};

fn parcel(key: &str) -> Parcel {
    Parcel {
        key: key.to_owned(),
        dataset: DatasetId::new("admin-penalty").unwrap(),
        generation: 2,
        operation: Operation::Upsert,
        fields: vec![(Arc::from("CF_WFXW"), "未按规定公示".to_owned())],
    }
}

fn build(params: &Value) -> Arc<dyn Target> {
    let id = TargetId::new("platform").unwrap();
    find("rest").unwrap().build(&id, params, &TestSecrets).unwrap_or_else(|p| panic!("{p:?}"))
}

/// Delivers parcels `a`, `b`, `a` to a server that answers so.
async fn deliver(
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Vec<Outcome>, TargetError> {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let body = body.to_owned();
    let answer = move || async move {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(name, value);
        }
        answer.body(Body::from(body)).unwrap()
    };
    let base = serve(Router::new().route("/", post(answer))).await;
    let params = json!({ "url": base, "answers": { "ok": ["00"], "retry": ["9001"] } });
    build(&params).deliver(&[parcel("a"), parcel("b"), parcel("a")], None).await
}

fn later(code: &str) -> impl Fn(&Outcome) -> bool + '_ {
    move |outcome| matches!(outcome, Outcome::Later { code: c, .. } if c == code)
}

#[tokio::test]
async fn every_target_has_a_suite_and_refuses_bad_parameters_at_once() {
    let id = TargetId::new("platform").unwrap();
    for target in TARGETS {
        let missing = match target.kind() {
            "rest" | "soap" => "参数 url:缺少此参数",
            // Their servers are of tests/peers.
            "ftp" | "sftp" => "参数 directory:缺少此参数",
            "front-db" => "参数 tables:缺少此参数",
            other => panic!("the target {other} needs a suite of its own"),
        };
        let problems = target.build(&id, &json!({ "nonsense": 1, "charset": "x" }), &TestSecrets);
        let problems = problems.err().unwrap();
        for expect in ["nonsense", "charset", missing] {
            assert!(problems.iter().any(|p| p.to_string().contains(expect)), "{problems:?}");
        }
    }
    let https = json!({ "url": "https://a/" });
    let problems = find("rest").unwrap().build(&id, &https, &TestSecrets).err().unwrap();
    assert!(problems.len() == 1 && problems[0].at == "ca", "{problems:?}");
}

#[tokio::test]
async fn rows_are_answered_one_by_one_in_any_order() {
    let body = json!({ "code": "00", "results": [
        { "key": "unknown", "code": "00" },
        { "key": "b", "code": 1001, "message": "主体\n91411702999999904X不匹配" },
        { "key": "a", "code": "00" },
    ]});
    let outcomes = deliver(200, &[], &body.to_string()).await.unwrap();
    let message = "主体91411702999999904X不匹配".to_owned();
    let refused = Outcome::Refused { code: "1001".to_owned(), message };
    assert_eq!(outcomes, [Outcome::Accepted, refused, Outcome::Accepted]);

    let body = json!({ "code": "00", "results": [
        { "key": "a", "code": "9001" }, { "key": "a", "code": "00" },
    ]});
    let outcomes = deliver(200, &[], &body.to_string()).await.unwrap();
    assert!(later("target.conflict")(&outcomes[0]), "{outcomes:?}");
    assert!(later("target.no-answer")(&outcomes[1]), "{outcomes:?}");
    let body = json!({ "code": "00", "results": [{ "key": "b", "code": "9001" }] });
    assert!(later("9001")(&deliver(200, &[], &body.to_string()).await.unwrap()[1]));
}

#[tokio::test]
async fn a_whole_batch_is_classed_by_what_the_target_may_have_done() {
    let asked = |error| match error {
        TargetError::NotTaken { retry_after, .. } => retry_after,
        other => panic!("{other}"),
    };
    for status in [429, 503] {
        let error = deliver(status, &[("retry-after", "7")], "").await.unwrap_err();
        assert_eq!(asked(error), Some(Duration::from_secs(7)));
    }
    let date = [
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
    ];
    assert_eq!(asked(deliver(503, &date, "").await.unwrap_err()), Some(Duration::from_secs(30)));
    assert_eq!(asked(deliver(200, &[], r#"{"code":"9001"}"#).await.unwrap_err()), None);
    for (status, body) in
        [(500, ""), (502, ""), (408, ""), (200, "<html>"), (200, ""), (200, "{}"), (204, "")]
    {
        let error = deliver(status, &[], body).await.unwrap_err();
        assert!(matches!(error, TargetError::Unknown { .. }), "{status} {body} {error}");
    }
    let other = r#"{"code":"1","message":"签名不符"}"#;
    for (status, body) in
        [(400, ""), (401, ""), (403, ""), (404, ""), (413, ""), (302, ""), (200, other)]
    {
        let error = deliver(status, &[("location", "/")], body).await.unwrap_err();
        assert!(matches!(error, TargetError::Rejected { .. }), "{status} {error}");
    }
}

#[tokio::test]
async fn broken_slow_and_absent_targets() {
    let broken = || async {
        let parts = [Ok("{\"code\":"), Err(std::io::Error::other("gone"))];
        Response::new(Body::from_stream(stream::iter(parts)))
    };
    let slow = || async { std::future::pending::<&'static str>().await };
    let long = || async { "x".repeat(100) };
    let router = Router::new()
        .route("/broken", post(broken))
        .route("/slow", post(slow))
        .route("/long", post(long));
    let base = serve(router).await;
    for path in ["broken", "slow", "long"] {
        let params =
            json!({ "url": format!("{base}/{path}"), "timeout-seconds": 0.2, "max-bytes": 50 });
        let error = build(&params).deliver(&[parcel("a")], None).await.unwrap_err();
        assert!(matches!(error, TargetError::Unknown { .. }), "{path} {error}");
    }
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let error = build(&json!({ "url": closed })).deliver(&[parcel("a")], None).await.unwrap_err();
    assert!(matches!(error, TargetError::NotTaken { .. }), "{error}");
    assert_eq!(build(&json!({ "url": closed })).deliver(&[], None).await.unwrap(), []);
    assert!(!build(&json!({ "url": closed, "dedupes": false })).dedupes());
}

#[tokio::test]
async fn the_request_is_as_documented_in_either_charset() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>> = Arc::default();
    let log = Arc::clone(&seen);
    let answer = move |headers: HeaderMap, body: Bytes| async move {
        log.lock().unwrap().push((headers, body));
        let text = r#"{"code":"00","results":[{"key":"a","code":"1","message":"主体不匹配"}]}"#;
        encoding_rs::GB18030.encode(text).0.into_owned()
    };
    let base = serve(Router::new().route("/", post(answer))).await;
    let params = json!({
        "url": base, "charset": "gb18030", "token": { "secret": { "env": "T" }, "prefix": "Bearer " },
    });
    let target = build(&params);
    for _ in 0..2 {
        let outcomes = target.deliver(&[parcel("a")], None).await.unwrap();
        let message = "主体不匹配".to_owned();
        assert_eq!(outcomes, [Outcome::Refused { code: "1".to_owned(), message }]);
    }
    let seen = seen.lock().unwrap();
    let (headers, body) = &seen[0];
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["content-type"], "application/json; charset=gb18030");
    assert_eq!(headers["idempotency-key"], seen[1].0["idempotency-key"]);
    let body: Value = serde_json::from_str(&encoding_rs::GB18030.decode(body).0).unwrap();
    assert_eq!(
        body,
        json!({
            "batch": headers["idempotency-key"].to_str().unwrap(), "count": 1,
            "rows": [{
                "key": "a", "dataset": "admin-penalty", "generation": 2, "operation": "upsert",
                "fields": { "CF_WFXW": "未按规定公示" },
            }],
        })
    );
}
