use std::task::Poll;

use bytes::Bytes;
use serde_json::{Value, json};
use time::macros::date;
use tower::ServiceExt as _;
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::ident::{LegacyCode, LegacyKind, UsccEntry};
use xinqiao_core::model::{DatasetId, Operation, RecordKey, Subject};
use xinqiao_core::spi::Arrival;
use xinqiao_store::{
    ItemFilter, MessageEnd, NewVersion, RecordsQuestion, RowChunk, RowEntry, TableLine,
};

use super::*;
use crate::testing::{Bench, bench, stop};

fn state(bench: &Bench) -> ControlState {
    ControlState {
        store: bench.store.clone(),
        feeds: Arc::clone(&bench.feeds),
        feedback: Arc::default(),
        progress: Arc::default(),
        storage_key: Arc::new(|| Err("本测试没有密钥目录".to_owned())),
        clock: Arc::clone(&bench.clock) as _,
    }
}

async fn receive(bench: &Bench, name: &str) -> u64 {
    let feed = &bench.feeds[0];
    let body = futures_util::stream::iter([Ok(Bytes::from(name.to_owned()))]);
    let arrival = Arrival { name: Some(name.to_owned()), body: Box::pin(body), cursor: None };
    bench.store.receive(&feed.id, &feed.agency, arrival, 1 << 20).await.unwrap().message
}

/// All of January 2027, when the bench's clock stands.
fn question() -> RecordsQuestion {
    let (first, last) = (date!(2027 - 01 - 01), date!(2027 - 01 - 31));
    RecordsQuestion {
        agency: Some(AgencyId::new("jia").unwrap()),
        basis: Default::default(),
        first,
        last,
        days_first: first,
        days_last: last,
        now: Timestamp(1_800_000_000_000),
        at_risk: date!(2027 - 01 - 17),
        late: true,
    }
}

/// Everything a client can ask, as JSON.
async fn everything(client: &Client, feed: &FeedId, message: u64) -> Vec<Value> {
    let filter = ItemFilter {
        state: Some(xinqiao_store::ItemState::Dead),
        target: Some(TargetId::new("platform").unwrap()),
        agency: Some(AgencyId::new("jia").unwrap()),
        deadline_before: Some(Timestamp(1)),
    };
    let blank = ActRequest {
        ids: vec![7],
        act: QueueAct::Retry,
        actor: "张".to_owned(),
        reason: " ".to_owned(),
    };
    let act = ActRequest { reason: "已核对".to_owned(), ..blank.clone() };
    vec![
        json!(client.status().await.unwrap()),
        json!(client.feeds().await.unwrap()),
        json!(client.messages(Some(feed), Some("a b&c=甲"), Some(99), 10).await.unwrap()),
        json!(client.verdicts(message, 0, 10).await.unwrap()),
        json!(client.queue(&filter, Some("5-6"), 10).await.unwrap()),
        json!(client.act(&act).await.unwrap()),
        json!(client.act(&blank).await.unwrap_err().to_string()),
        json!(client.item(7).await.unwrap_err().to_string()),
        json!(client.queue(&filter, Some("x"), 10).await.unwrap_err().to_string()),
        json!(client.uscc_lines(None, 10).await.unwrap()),
        json!(client.uscc_lines(Some("x"), 10).await.unwrap_err().to_string()),
        json!(client.uscc_of(LegacyKind::RegNo, "411702000001236").await.unwrap()),
        json!(client.held().await.unwrap()),
        json!(client.rerun(Some(feed.clone())).await.unwrap()),
        json!(client.report_records(&question(), None, 10).await.unwrap()),
        json!(
            client.report_records(&question(), Some("x".into()), 10).await.unwrap_err().to_string()
        ),
        json!(
            client.report_rows(None, (question().first, question().last), None, 1).await.unwrap()
        ),
        json!(client.zero_reports().await.unwrap()),
    ]
}

#[tokio::test]
async fn the_socket_and_the_store_at_hand_answer_alike() {
    let bench = bench();
    let message = receive(&bench, "a b&c=甲").await;
    receive(&bench, "other").await;
    let path = bench.dir.path().join("control");
    assert_eq!(Client::socket(&path).err(), Some(ClientError::NotRunning));

    let code = LegacyCode::new(LegacyKind::RegNo, "411702000001236").unwrap();
    let entry = UsccEntry::new(code, "91411702999999904X", (None, None), "测试").unwrap();
    let line = TableLine { entry, operation: Operation::Upsert };
    let local = Client::local(state(&bench));
    assert_eq!(local.uscc_load(std::slice::from_ref(&line)).await.unwrap().added, 1);
    assert_eq!(local.uscc_load(&[line]).await.unwrap().known, 1);

    // A stale socket is in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(Client::socket(&path).err(), Some(ClientError::NotRunning));
    let (stop, shutdown) = stop();
    let (at, routes, until) = (path.clone(), router(state(&bench)), shutdown.clone());
    let mut served = Box::pin(async move { serve(&at, routes, until).await });
    // The first poll binds.
    assert!(std::future::poll_fn(|cx| Poll::Ready(served.as_mut().poll(cx).is_pending())).await);
    let served = tokio::spawn(served);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let feed = &bench.feeds[0].id;
    let by_socket = everything(&Client::socket(&path).unwrap(), feed, message).await;
    assert_eq!(by_socket, everything(&Client::local(state(&bench)), feed, message).await);
    assert_eq!(by_socket[0]["status"]["feeds"]["one"]["messages"], 2);
    assert_eq!(by_socket[1].as_array().map(Vec::len), Some(4));
    assert_eq!(by_socket[2][0]["id"], message);
    assert_eq!(by_socket[2].as_array().map(Vec::len), Some(1), "by name");
    assert_eq!(by_socket[5], json!([{ "id": 7, "error": "没有这一项" }]));
    assert!(by_socket[6].as_str().unwrap().contains("control.reason"));
    assert!(by_socket[8].as_str().unwrap().contains("http.malformed"));
    assert_eq!(by_socket[9]["total"], 1);
    assert!(by_socket[10].as_str().unwrap().contains("http.malformed"));
    assert_eq!(by_socket[11][0]["uscc"], "91411702999999904X");
    assert_eq!((&by_socket[12], &by_socket[13]), (&json!([]), &json!(0)));
    assert_eq!((&by_socket[14]["groups"], &by_socket[14]["next"]), (&json!([]), &Value::Null));
    assert!(by_socket[15].as_str().unwrap().contains("http.malformed"));
    assert_eq!(by_socket[16]["feeds"][0]["rows"]["messages"], 1);
    assert_eq!(by_socket[16]["next"], message, "one message a page");
    assert_eq!(by_socket[17], json!([]));

    let second = serve(&path, router(state(&bench)), shutdown).await.unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    stop.send_replace(true);
    served.await.unwrap().unwrap();
    assert!(!path.try_exists().unwrap());
}

#[tokio::test]
async fn what_a_person_types_is_kept_without_personal_numbers() {
    let bench = bench();
    let message = receive(&bench, "a").await;
    let version = NewVersion {
        key: RecordKey {
            dataset: DatasetId::new("admin-penalty").unwrap(),
            agency: "甲局".to_owned(),
            document: "样罚〔2026〕1号".to_owned(),
            decided: date!(2026 - 11 - 20),
            subject: Subject::Name("样例".to_owned()),
        },
        generation: 2021,
        operation: Operation::Upsert,
        fields: Vec::new(),
        mapping: [1; 8],
        deadlines: Deadlines {
            decided: date!(2026 - 11 - 20),
            pledged: date!(2026 - 11 - 27),
            statutory: date!(2026 - 12 - 01),
            provisional: false,
        },
        targets: [TargetId::new("platform").unwrap()].into(),
    };
    let row = RowEntry {
        row: 2,
        document: None,
        findings: Vec::new(),
        record: Some(version),
        sent_back: None,
        legacy: xinqiao_store::Legacy::None,
    };
    let finish = Some(MessageEnd { error: None, notes: Vec::new() });
    let chunk = RowChunk { message, first: 0, rows: vec![row], finish };
    bench.store.commit_rows(vec![chunk]).await.unwrap();
    let (items, _) = bench.store.items(&ItemFilter::default(), None, 1).unwrap();
    let act = ActRequest {
        ids: vec![items[0].id],
        act: QueueAct::Drop,
        actor: "张11010519491231002X".to_owned(),
        reason: "身份证４１１７０２-19900102-9913 电话13800138000,文号411702202611120101"
            .to_owned(),
    };
    let client = Client::local(state(&bench));
    assert_eq!(client.act(&act).await.unwrap()[0].error, None);
    let item = json!(client.item(items[0].id).await.unwrap()).to_string();
    assert!(item.contains("张***:身份证*** 电话***,文号411702202611120101"), "{item}");
    // A file is still found by the name it had.
    let message = receive(&bench, "甲_***.csv").await;
    let found = client.messages(None, Some("甲_411702199001029913.csv"), None, 10).await.unwrap();
    assert_eq!(found.iter().map(|m| m.id).collect::<Vec<_>>(), [message]);
}

#[tokio::test]
async fn a_zero_report_needs_a_feed_of_the_agency_a_reason_and_an_end() {
    let bench = bench();
    let client = Client::local(state(&bench));
    let request = |agency: &str, dataset: &str, period: &str, reason: &str| ZeroRequest {
        agency: AgencyId::new(agency).unwrap(),
        dataset: DatasetId::new(dataset).unwrap(),
        period: period.parse().unwrap(),
        declared: true,
        actor: "张11010519491231002X".to_owned(),
        reason: reason.to_owned(),
    };
    for (request, code) in [
        (request("bing", "admin-penalty", "2026-12", "无"), "report.no-feed"),
        (request("jia", "admin-licence", "2026-12", "无"), "report.no-feed"),
        (request("jia", "admin-penalty", "2026-12", ""), "report.reason"),
        (request("jia", "admin-penalty", "2027-W02", "无"), "report.not-over"),
    ] {
        let error = client.tell_zero(&request).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Problem { code: found, .. } if found == code),
            "{error}"
        );
    }
    let december = request("jia", "admin-penalty", "2026-12", "本月无决定");
    assert!(client.tell_zero(&december).await.unwrap().changed);
    assert!(!client.tell_zero(&december).await.unwrap().changed);
    let back = ZeroRequest { declared: false, reason: "有漏报".to_owned(), ..december };
    let told = client.tell_zero(&back).await.unwrap();
    assert!(told.changed && told.report.declared().is_none());
    let all = client.zero_reports().await.unwrap();
    assert_eq!(all, [told.report]);
    assert_eq!(all[0].events[0].by, "张***");
}

#[tokio::test]
async fn another_file_is_not_removed() {
    let bench = bench();
    let path = bench.dir.path().join("control");
    std::fs::write(&path, "x").unwrap();
    let error = serve(&path, router(state(&bench)), stop().1).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"x");
}

#[tokio::test]
async fn ready_while_pull_sources_report_and_do_well() {
    let bench = bench();
    let state = state(&bench);
    let ready = async || {
        let request = axum::http::Request::get("/readyz").body(axum::body::Body::empty());
        router(state.clone()).oneshot(request.unwrap()).await.unwrap().status().as_u16()
    };
    let pull = FeedId::new("pull").unwrap();
    let word = |error| FeedProgress { at: state.clock.now(), note: None, error };
    assert_eq!(ready().await, 503, "nothing said yet");
    state.progress.set(&pull, word(None));
    assert_eq!(ready().await, 200);
    bench.clock.on(600_001);
    assert_eq!(ready().await, 503, "silent");
    state.progress.set(&pull, word(Some(("folder.io".to_owned(), "目录不可读".to_owned()))));
    assert_eq!(ready().await, 503, "in error");
    assert!(bench.store.status().unwrap().feeds.is_empty(), "asking leaves no trace");
}
