//! What interfaces that are pulled from answer when they are not what they were said to be.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Query;
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::harness::{TestInbox, run};
use super::serve;

const NS11: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn wrap(body: &str) -> String {
    format!("<e:Envelope xmlns:e=\"{NS11}\"><e:Body>{body}</e:Body></e:Envelope>")
}

/// The text of an element in a request.
fn asked(body: &str, name: &str) -> String {
    let rest = body.split(&format!("<{name}>")).nth(1).unwrap();
    rest.split('<').next().unwrap().to_owned()
}

fn faults(inbox: &TestInbox) -> Vec<String> {
    inbox.faults.lock().unwrap().clone()
}

fn rounds(inbox: &TestInbox) -> usize {
    inbox.rounds.load(Ordering::Relaxed)
}

/// Asks day by day, where every answer is `document` in a text; the days asked for.
async fn days(
    document: &str,
    rows: &str,
    what: impl Fn(&TestInbox) -> bool,
) -> (Arc<TestInbox>, BTreeSet<String>) {
    let days = Arc::new(Mutex::new(BTreeSet::new()));
    let (seen, document) = (Arc::clone(&days), document.replace('<', "&lt;"));
    let answer = move |body: String| async move {
        seen.lock().unwrap().insert(asked(&body, "f"));
        wrap(&format!("<r><return>{document}</return></r>"))
    };
    let base = serve(Router::new().route("/", post(answer))).await;
    let params = json!({
        "endpoint": base, "poll-seconds": 0.005, "answer": {}, "rows": { "at": rows },
        "request": "<q><f>{from}</f></q>",
        "paging": { "window": { "start": "2026-11-18", "step-seconds": 86_400, "lag-seconds": 0 } },
    });
    let inbox = Arc::new(TestInbox::default());
    run("soap", &params, &inbox, what).await;
    let days = days.lock().unwrap().clone();
    (inbox, days)
}

/// An answer that is not known for an empty one keeps the window where it is.
#[tokio::test]
async fn an_answer_of_another_shape_is_no_empty_day() {
    for (document, rows) in [
        ("<result><code>500</code><msg>系统繁忙</msg></result>", "/DATAS/DATA"),
        ("<result>系统繁忙</result>", "/DATAS/DATA"),
        ("<DATAS><data><a>1</a></data></DATAS>", "/DATAS/DATA"),
        ("<datas><DATA><a>1</a></DATA></datas>", "/DATAS/DATA"),
        ("<DATAS><DATA><a>1</a></DATA><DATA><a>2</a></DATA></DATAS>", "/DATAS/DTA"),
        ("<row><a>1</a></row>", "/DATA"),
        ("<D><rows n=\"1\"/></D>", "/D/DATAS/DATA"),
        ("{\"code\":500}", "/data/rows"),
        ("{\"data\":{\"Rows\":[1]}}", "/data/rows"),
        ("{\"data\":{\"rows\":7}}", "/data/rows"),
    ] {
        let told = |inbox: &TestInbox| faults(inbox).len() >= 2;
        let (inbox, days) = days(document, rows, told).await;
        assert!(faults(&inbox).iter().all(|f| f.starts_with("source.odd-answer")), "{document}");
        assert_eq!((days.len(), rounds(&inbox)), (1, 0), "{document} {days:?}");
        assert!(inbox.held().is_empty(), "{document}");
    }
    for (document, rows) in [
        ("", "/DATAS/DATA"),
        ("<DATAS/>", "/DATAS/DATA"),
        ("<DATAS><total>0</total><page><no>1</no></page></DATAS>", "/DATAS/DATA"),
        ("<D><DATAS/></D>", "/D/DATAS/DATA"),
        // Nothing at all in it: nothing can be lost.
        ("<D/>", "/D/DATAS/DATA"),
        ("<other><a/></other>", "/D/DATAS/DATA"),
        ("{\"data\":{\"rows\":[]}}", "/data/rows"),
        ("{\"data\":{\"rows\":null}}", "/data/rows"),
        ("{\"data\":null}", "/data/rows"),
        ("{\"data\":{}}", "/data/rows"),
    ] {
        let (inbox, days) = days(document, rows, |inbox| rounds(inbox) > 5).await;
        assert_eq!(faults(&inbox), Vec::<String>::new(), "{document}");
        assert_eq!(days.len(), 5, "{document}");
        assert!(inbox.held().is_empty(), "{document}");
    }
}

/// Beans in the way of Axis and of SOAP 1.2: rows, code and cursor all stand behind references.
#[tokio::test]
async fn what_stands_behind_references_is_counted() {
    let axis = "<n:gResponse xmlns:n=\"u\"><gReturn href=\"#id0\"/></n:gResponse>\
        <multiRef id=\"id0\"><code href=\"#id9\"/><next href=\"#id8\"/><rows href=\"#id1\"/></multiRef>\
        <multiRef id=\"id9\">00</multiRef><multiRef id=\"id8\">NEXT</multiRef>\
        <multiRef id=\"id1\"><row href=\"#id2\"/><row href=\"#id2\"/></multiRef>\
        <multiRef id=\"id2\"><n>甲</n></multiRef>";
    let newer = "<n:gResponse xmlns:n=\"u\" xmlns:c=\"http://www.w3.org/2003/05/soap-encoding\">\
        <gReturn><code c:id=\"a\">00</code><next>NEXT</next><rows c:ref=\"r\"/></gReturn>\
        <kept c:id=\"r\"><row c:id=\"s\"><n>甲</n></row><row c:ref=\"#s\"/></kept></n:gResponse>";
    for body in [axis, newer] {
        let answer = move |request: String| async move {
            match asked(&request, "c").as_str() {
                "" => wrap(&body.replace("NEXT", "two")),
                _ => wrap(&body.replace("NEXT", "")),
            }
        };
        let base = serve(Router::new().route("/", post(answer))).await;
        let params = json!({
            "endpoint": base, "poll-seconds": 0.005, "request": "<q><c>{cursor}</c></q>",
            "rows": { "at": "/gResponse/gReturn/rows/row" },
            "success": { "at": "/gResponse/gReturn/code", "ok": ["00"] },
            "paging": { "cursor": { "from": "/gResponse/gReturn/next" } },
        });
        let inbox = Arc::new(TestInbox::default());
        run("soap", &params, &inbox, |inbox| inbox.held().len() >= 2).await;
        // A success that is looked for in the envelope stands behind one, too.
        let mut params = params;
        params["success"] = json!({ "at": "/gResponse/gReturn/code", "ok": ["01"], "in": "body" });
        let inbox = Arc::new(TestInbox::default());
        run("soap", &params, &inbox, |inbox| !faults(inbox).is_empty()).await;
        assert!(faults(&inbox)[0].contains("“00”"), "{:?}", faults(&inbox));
    }
}

/// Two rows for every page asked for, the same ones, with something that changes around them.
#[tokio::test]
async fn a_page_number_nobody_heeds_ends_the_round() {
    let count = Arc::new(AtomicUsize::new(0));
    let (of_soap, of_rest) = (Arc::clone(&count), count);
    let soap = move || async move {
        let n = of_soap.fetch_add(1, Ordering::Relaxed);
        wrap(&format!("<r><at>{n}</at><row><a>1</a></row><row><a>2</a></row></r>"))
    };
    let rest = move || async move {
        let n = of_rest.fetch_add(1, Ordering::Relaxed);
        json!({ "at": n, "rows": [{ "a": 1 }, { "a": 2 }] }).to_string()
    };
    let base = serve(Router::new().route("/", post(soap)).route("/r", get(rest))).await;
    let page = json!({ "size": 2, "resume": true });
    let window = json!({ "start": "2026-11-01", "step-seconds": 86_400, "lag-seconds": 0 });
    for paging in [json!({ "page": page }), json!({ "page": page, "window": window })] {
        for (kind, params) in [
            ("soap", json!({ "endpoint": base, "request": "<q/>", "rows": { "at": "/r/row" } })),
            ("rest", json!({ "url": format!("{base}/r"), "rows": "/rows" })),
        ] {
            let mut params = params;
            params["paging"] = paging.clone();
            params["poll-seconds"] = json!(3600);
            let inbox = Arc::new(TestInbox::default());
            run(kind, &params, &inbox, |inbox| !faults(inbox).is_empty()).await;
            assert!(faults(&inbox)[0].starts_with("source.same-page"), "{:?}", faults(&inbox));
            assert_eq!(inbox.held().len(), 1, "{kind} {:?}", inbox.held());
        }
    }
}

/// The page before is known in the next round, too.
#[tokio::test]
async fn a_page_number_nobody_heeds_is_not_followed_round_by_round() {
    let answer = |Query(query): Query<HashMap<String, usize>>| async move {
        json!({ "at": query["p"], "rows": [1, 2] }).to_string()
    };
    let base = serve(Router::new().route("/", get(answer))).await;
    let params = json!({
        "url": base, "rows": "/rows", "poll-seconds": 0.005,
        "paging": { "page": { "param": "p", "size": 2, "resume": true } },
    });
    let inbox = Arc::new(TestInbox::default());
    run("rest", &params, &inbox, |inbox| faults(inbox).len() >= 4).await;
    assert_eq!(inbox.held().len(), 1, "{:?}", inbox.held());
}

#[tokio::test]
async fn a_cursor_that_turns_in_a_ring_ends_the_round() {
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move |Query(query): Query<HashMap<String, String>>| async move {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let next = match query.get("c").map(String::as_str) {
            Some("a") => "b",
            Some("b") => "c",
            _ => "a",
        };
        json!({ "n": n, "rows": [n], "next": next }).to_string()
    };
    let base = serve(Router::new().route("/", get(answer))).await;
    let params = json!({
        "url": base, "rows": "/rows", "poll-seconds": 3600,
        "paging": { "cursor": { "param": "c", "from": "/next" } },
    });
    let inbox = Arc::new(TestInbox::default());
    run("rest", &params, &inbox, |inbox| !faults(inbox).is_empty()).await;
    assert!(faults(&inbox)[0].starts_with("source.cursor-ring"), "{:?}", faults(&inbox));
    // What came with the cursor that leads back is kept; the position stays before it.
    assert_eq!(inbox.held().len(), 4, "{:?}", inbox.held());
    let cursor = inbox.cursor.lock().unwrap().clone().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&cursor).unwrap(), json!({ "cursor": "c" }));
}

#[tokio::test]
async fn a_round_has_a_last_page() {
    let answer = |Query(query): Query<HashMap<String, usize>>| async move {
        let at = query.get("at").copied().unwrap_or(0);
        json!({ "rows": [at], "next": at + 1 }).to_string()
    };
    let base = serve(Router::new().route("/", get(answer))).await;
    let params = json!({
        "url": base, "rows": "/rows", "poll-seconds": 3600, "round-pages": 7,
        "paging": { "cursor": { "param": "at", "from": "/next" } },
    });
    let inbox = Arc::new(TestInbox::default());
    let at_rest = |inbox: &TestInbox| {
        inbox.told.lock().unwrap().last().is_some_and(|text| text.contains("先歇一次"))
    };
    run("rest", &params, &inbox, at_rest).await;
    assert_eq!((inbox.held().len(), faults(&inbox).len()), (7, 0));
}

/// A code is told as a code; of a text in its place not so much that it could be a person's number.
#[tokio::test]
async fn no_number_of_a_person_is_told_for_a_code() {
    let text = "11010519491231002X:not found";
    let soap = move || async move { wrap(&format!("<r><return>{text}</return></r>")) };
    let inside = move || async move {
        wrap(&format!("<r><return>&lt;D>&lt;c>{text}&lt;/c>&lt;/D></return></r>"))
    };
    let rest = move || async move { json!({ "code": text }).to_string() };
    let base = serve(
        Router::new().route("/", post(soap)).route("/i", post(inside)).route("/r", get(rest)),
    )
    .await;
    let success = json!({ "at": "/D/c" });
    for (kind, params) in [
        (
            "soap",
            json!({ "endpoint": base, "request": "<q/>", "answer": {}, "rows": { "at": "/D/R" } }),
        ),
        ("soap", json!({ "endpoint": base, "request": "<q/>", "answer": {}, "success": success })),
        (
            "soap",
            json!({ "endpoint": format!("{base}/i"), "request": "<q/>", "answer": {}, "success": success }),
        ),
        ("rest", json!({ "url": format!("{base}/r"), "success": { "path": "/code" } })),
    ] {
        let mut params = params;
        params["poll-seconds"] = json!(0.005);
        let inbox = Arc::new(TestInbox::default());
        run(kind, &params, &inbox, |inbox| !faults(inbox).is_empty()).await;
        let told = &faults(&inbox)[0];
        assert!(told.contains("110105") && !told.contains("1101051"), "{kind} {told}");
    }
}

/// One part of a MIME body that is included again and again would fill any memory.
#[tokio::test]
async fn a_part_that_is_included_again_and_again_is_refused() {
    let include = "<i:Include xmlns:i=\"http://www.w3.org/2004/08/xop/include\" href=\"cid:d\"/>";
    let envelope = wrap(&format!("<r><return>{}</return></r>", include.repeat(60)));
    let body = format!(
        "--b\r\nContent-Type: application/xop+xml\r\n\r\n{envelope}\r\n--b\r\nContent-ID: <d>\r\n\r\n{}\r\n--b--\r\n",
        "x".repeat(1 << 20)
    );
    let answer =
        move || async move { ([("content-type", "multipart/related; boundary=b")], body.clone()) };
    let base = serve(Router::new().route("/", post(answer))).await;
    for at in ["/r/return", "/r"] {
        let params = json!({
            "endpoint": base, "poll-seconds": 0.005, "request": "<q/>", "answer": { "at": at },
            "rows": { "at": "/D/R" },
        });
        let inbox = Arc::new(TestInbox::default());
        run("soap", &params, &inbox, |inbox| !faults(inbox).is_empty()).await;
        assert!(faults(&inbox)[0].contains("附件"), "{at} {:?}", faults(&inbox));
        assert!(inbox.held().is_empty());
    }
}
