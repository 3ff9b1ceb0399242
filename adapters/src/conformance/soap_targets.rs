//! The target `soap` against a real HTTP server.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use xinqiao_core::model::{DatasetId, Operation, TargetId};
use xinqiao_core::spi::{Outcome, Parcel, TargetError};

use super::{TestSecrets, serve};
use crate::targets::find;
use crate::wire::soap::{Envelope, Style, Version, envelope, fault, operation};

fn parcel(key: &str, operation: Operation) -> Parcel {
    Parcel {
        key: key.to_owned(),
        dataset: DatasetId::new("admin-penalty").unwrap(),
        generation: 1,
        operation,
        fields: vec![
            (Arc::from("CF_WSH"), format!("{key}号")),
            (Arc::from("CF_XDR_MC"), "甲 & 乙<有限>公司".to_owned()),
            (Arc::from("CF_JDRQ"), "2026-11-23".to_owned()),
        ],
    }
}

fn returned(text: &str) -> String {
    let arguments = [("return", text)];
    let body = operation(Version::V11, Style::Document, "urn:x", "response", &arguments, false);
    envelope(Version::V11, "", &body)
}

/// Delivers `a`, `b` and a withdrawal `c` to a service that answers so; what it was sent, too.
async fn deliver(
    more: Value,
    status: u16,
    answer: String,
) -> (Result<Vec<Outcome>, TargetError>, Vec<String>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let answer = move |body: String| async move {
        kept.lock().unwrap().push(body);
        (StatusCode::from_u16(status).unwrap(), answer)
    };
    let base = serve(Router::new().route("/", post(answer))).await;
    let mut params = json!({
        "url": base, "namespace": "urn:x", "token": { "env": "T" },
        "datasets": { "admin-penalty": { "operation": "importPenalyXml", "table-code": "T1" } },
        "status": { "field": "CF_ZT", "upsert": "0", "withdraw": "1" },
    });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let id = TargetId::new("platform").unwrap();
    let target =
        find("soap").unwrap().build(&id, &params, &TestSecrets).unwrap_or_else(|p| panic!("{p:?}"));
    let batch = [
        parcel("a", Operation::Upsert),
        parcel("b", Operation::Upsert),
        parcel("c", Operation::Withdraw),
    ];
    let outcomes = target.deliver(&batch, None).await;
    let seen = seen.lock().unwrap().clone();
    (outcomes, seen)
}

fn refused(code: &str, message: &str) -> Outcome {
    Outcome::Refused { code: code.to_owned(), message: message.to_owned() }
}

#[tokio::test]
async fn the_national_shape_is_written_escaped_and_answered_by_lines() {
    let (outcomes, seen) = deliver(json!({}), 200, returned("<code>00</code><line>3</line>")).await;
    assert_eq!(outcomes.unwrap(), vec![Outcome::Accepted; 3]);
    let sent = Envelope::parse(&seen[0]).unwrap();
    let call = sent.first().unwrap();
    assert_eq!(call.local(), "importPenalyXml");
    assert_eq!((call.children[0].local(), &*call.children[0].text), ("token", "s3cret"));
    let rows = &call.child("xml").unwrap().text;
    assert!(
        rows.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ROWDATA><ROW><CF_WSH>a号")
    );
    assert!(rows.contains("甲 &amp; 乙&lt;有限&gt;公司") && rows.contains("2026/11/23"), "{rows}");
    assert!(rows.ends_with("<CF_ZT>1</CF_ZT></ROW></ROWDATA>"), "{rows}");

    let lines = "<?xml version=\"1.0\"?><result><code>00</code><line>2:主体信息不匹配</line>\
                 <line no=\"3\"><code>1001</code><msg>已存在</msg></line></result>";
    let (outcomes, _) = deliver(json!({}), 200, returned(lines)).await;
    let expect = [Outcome::Accepted, refused("00", "主体信息不匹配"), refused("1001", "已存在")];
    assert_eq!(outcomes.unwrap(), expect);
    // Lines before the code, with a number as people write it.
    let lines = "<result><line no=\"1\"><code>1001</code><msg>已存在</msg></line>\
                 <line>第 3 行:主体信息不匹配</line><line no=\"2\"><code>00</code></line><code>00</code></result>";
    let (outcomes, _) = deliver(json!({}), 200, returned(lines)).await;
    let expect = [refused("1001", "已存在"), Outcome::Accepted, refused("00", "主体信息不匹配")];
    assert_eq!(outcomes.unwrap(), expect);
    let only = "<result><line no=\"1\"><code>00</code></line></result>";
    let (outcomes, _) = deliver(json!({}), 200, returned(only)).await;
    assert!(matches!(outcomes, Err(TargetError::Unknown { .. })), "{outcomes:?}");
    let (outcomes, _) = deliver(json!({}), 200, returned("<code>01</code><line>2</line>")).await;
    let outcomes = outcomes.unwrap();
    assert!(matches!(&outcomes[1], Outcome::Refused { code, .. } if code == "01"), "{outcomes:?}");
    assert!(matches!(&outcomes[0], Outcome::Later { .. }), "{outcomes:?}");
}

#[tokio::test]
async fn the_vendors_shape_names_the_rows_it_refuses() {
    let shape = |more: Value| {
        let mut params = json!({ "shape": "execute", "department-code": "D1" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        params
    };
    let said = |body: Value, fail: u32, error: u32| {
        returned(
            &json!({ "errorCode": "200", "totalSize": 3, "successSize": 3 - fail - error,
            "failSize": fail, "errorSize": error, "errorBody": body })
            .to_string(),
        )
    };
    let by_key = json!([{ "CF_WSH": "b号", "errorMsg": "类别不在目录" }]);
    let key = shape(json!({ "key-field": "CF_WSH" }));
    let (outcomes, seen) = deliver(key, 200, said(by_key, 0, 1)).await;
    let outcomes = outcomes.unwrap();
    assert_eq!(outcomes[1], refused("error", "类别不在目录"));
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Accepted, &Outcome::Accepted));
    let sent = Envelope::parse(&seen[0]).unwrap();
    let sent: Value =
        serde_json::from_str(&sent.first().unwrap().child("json").unwrap().text).unwrap();
    assert_eq!((&sent["tableCode"], &sent["departmentCode"]), (&json!("T1"), &json!("D1")));
    assert_eq!(sent["body"][2]["CF_ZT"], "1");
    assert_eq!(sent["body"][0]["CF_JDRQ"], "2026-11-23");

    // The whole row comes back, in a text; and a number.
    let echo = json!([sent["body"][2], { "rowNum": 1, "code": 7 }]).to_string();
    let (outcomes, _) = deliver(shape(json!({})), 200, said(json!(echo), 1, 1)).await;
    let outcomes = outcomes.unwrap();
    assert_eq!(outcomes[1], Outcome::Accepted);
    assert!(matches!(&outcomes[0], Outcome::Refused { code, .. } if code == "7"));
    assert!(matches!(&outcomes[2], Outcome::Refused { .. }));

    for (body, fail, error) in
        [(json!([{ "CF_WSH": "x" }]), 0, 1), (json!([]), 0, 1), (json!("<x>"), 0, 1)]
    {
        let (outcomes, _) = deliver(shape(json!({})), 200, said(body, fail, error)).await;
        assert!(matches!(outcomes, Err(TargetError::Unknown { .. })), "{outcomes:?}");
    }
    let (outcomes, _) = deliver(shape(json!({})), 200, said(json!([]), 0, 3)).await;
    assert!(outcomes.unwrap().iter().all(|one| matches!(one, Outcome::Refused { .. })));
    let (outcomes, _) = deliver(shape(json!({})), 200, said(json!(""), 0, 0)).await;
    assert_eq!(outcomes.unwrap(), vec![Outcome::Accepted; 3]);
}

/// What is not said to be taken is not taken for taken.
#[tokio::test]
async fn the_vendors_numbers_must_add_up() {
    let sent = |said: Value| async move {
        let mut body = json!({ "errorCode": "200" });
        body.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        deliver(json!({ "shape": "execute" }), 200, returned(&body.to_string())).await.0
    };
    let two = json!([{ "rowNum": 1 }, { "rowNum": 2 }]);
    for said in [
        json!({}),
        json!({ "totalSize": 3, "successSize": 0 }),
        json!({ "totalSize": 12, "successSize": 0 }),
        json!({ "successSize": 2 }),
        json!({ "successSize": 3, "errorSize": 1, "errorBody": [{ "rowNum": 1 }] }),
        json!({ "totalSize": 3, "failSize": 4 }),
        // Doubtful, and nobody knows which.
        json!({ "totalSize": 3, "successSize": 2, "failSize": 1 }),
        json!({ "totalSize": 3, "failSize": 1, "errorBody": "" }),
        json!({ "totalSize": 3, "successSize": 2, "errorSize": 1, "errorBody": two }),
    ] {
        let outcomes = sent(said.clone()).await;
        assert!(matches!(outcomes, Err(TargetError::Unknown { .. })), "{said} {outcomes:?}");
    }
    for said in [
        json!({ "totalSize": 3, "successSize": 3 }),
        json!({ "successSize": "3" }),
        json!({ "totalSize": 3 }),
    ] {
        assert_eq!(sent(said.clone()).await.unwrap(), vec![Outcome::Accepted; 3], "{said}");
    }
    let all = sent(json!({ "totalSize": 3, "successSize": 0, "failSize": 3 })).await.unwrap();
    assert!(all.iter().all(|one| matches!(one, Outcome::Refused { .. })), "{all:?}");
}

#[tokio::test]
async fn faults_and_other_answers_are_classed_by_what_may_have_been_done() {
    let code = |code: &str| returned(&json!({ "errorCode": code, "errorMsg": "x" }).to_string());
    let unknown = |error: &TargetError| matches!(error, TargetError::Unknown { .. });
    let rejected = |error: &TargetError| matches!(error, TargetError::Rejected { .. });
    let not_taken = |error: &TargetError| matches!(error, TargetError::NotTaken { .. });
    type Is<'a> = &'a dyn Fn(&TargetError) -> bool;
    let cases: [(u16, String, Is<'_>); 9] = [
        (500, fault(Version::V11, false, "x", "系统忙"), &unknown),
        (200, fault(Version::V12, true, "x", "令牌无效"), &rejected),
        (500, fault(Version::V11, true, "x", "令牌无效"), &rejected),
        (200, code("500"), &not_taken),
        (200, code("3002"), &rejected),
        (200, returned("<html>"), &unknown),
        (200, "x".to_owned(), &unknown),
        (503, String::new(), &not_taken),
        (404, String::new(), &rejected),
    ];
    for (status, body, is) in cases {
        let (outcome, _) = deliver(json!({ "shape": "execute" }), status, body.clone()).await;
        let error = outcome.unwrap_err();
        assert!(is(&error), "{status} {body} {error:?}");
    }
}
