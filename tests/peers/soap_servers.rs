//! SOAP with other people's servers: we pull from them and deliver to them.

use std::io::{BufRead as _, BufReader, Cursor};
use std::ops::ControlFlow;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use xinqiao_adapters::conformance::{TestInbox, run};
use xinqiao_adapters::formats;
use xinqiao_core::model::{
    Columns, Finding, FormatKind, FormatSpec, Place, Row as DecodedRow, Unwrap,
};
use xinqiao_core::spi::{Limits, Outcome, RowSink, TargetError};
use xinqiao_tests::peers;

use crate::soap::{drivers, parcel, target};

/// A program of ours on somebody's library; it ends when its input does, or is killed.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    base: String,
}

impl Server {
    fn java() -> Self {
        let peers = peers::installed("soap").unwrap();
        let classpath = std::fs::read_to_string(peers.join("classpath")).unwrap();
        let classpath = format!("{}:{}", classpath.trim(), peers.join("java").display());
        let mut child = Command::new("java")
            .args(["-Dfile.encoding=UTF-8", "-cp", &classpath, "peers.Server"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap();
        Self { child, input, base: format!("http://127.0.0.1:{port}") }
    }

    async fn php() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("php")
            .args(["-S", &free.to_string()])
            .arg(drivers().join("server.php"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, input: None, base: format!("http://{free}") };
        let begun = Instant::now();
        while std::net::TcpStream::connect(free).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "php does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Default)]
struct Texts(Vec<Vec<String>>);

impl RowSink for Texts {
    fn row(&mut self, columns: &Columns, row: &DecodedRow) -> ControlFlow<()> {
        let cells = (0_u16..).zip(columns.names());
        self.0.push(cells.map(|(ix, name)| format!("{name}={}", row.get(ix).text)).collect());
        ControlFlow::Continue(())
    }

    fn bad_row(&mut self, _: &Place, finding: Finding) -> ControlFlow<()> {
        panic!("{finding:?}")
    }
}

/// The rows of a stored answer, as a mapping with this `unwrap.at` reads it.
fn rows(message: &str, at: &str) -> Vec<Vec<String>> {
    let unwrap = Some(Unwrap { at: Some(at.to_owned()), steps: Vec::new() });
    let spec = FormatSpec { unwrap, ..FormatSpec::new(FormatKind::Xml) };
    let mut texts = Texts::default();
    let mut input = Cursor::new(message.as_bytes().to_vec());
    let scratch = || Box::new(Vec::new()) as _;
    formats::decode(&spec, &mut input, &Limits::default(), &scratch, &mut texts).unwrap();
    texts.0
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_pulled_from_jax_ws_and_faults_told() {
    let server = Server::java();
    let params = |key: &str, call: &str| {
        json!({
            "endpoint": format!("{}/data", server.base), "poll-seconds": 0.05,
            "values": { "key": key },
            "request": format!("<d:{call} xmlns:d=\"http://data.peers/\"><key>{{key}}</key><page>{{page}}</page><size>{{size}}</size></d:{call}>"),
            "answer": { "at": format!("/{call}Response/return") }, "rows": { "at": "/DATAS/DATA" },
            "paging": { "page": { "size": 10, "resume": true } },
        })
    };
    let inbox = Arc::new(TestInbox::default());
    run("soap", &params("s3cret", "getData"), &inbox, |inbox| inbox.held().len() >= 3).await;
    let all: Vec<_> =
        inbox.held().iter().flat_map(|page| rows(page, "/getDataResponse/return")).collect();
    assert_eq!(all.len(), 21);
    assert!(all.contains(&vec!["wsh=测罚〔2026〕20号".to_owned(), "mc=测试 & 样例".to_owned()]));
    for (params, told) in [(params("x", "getData"), "代码“403”"), (params("x", "fail"), "Fault")]
    {
        let inbox = Arc::new(TestInbox::default());
        run("soap", &params, &inbox, |inbox| !inbox.faults.lock().unwrap().is_empty()).await;
        assert!(inbox.faults.lock().unwrap()[0].contains(told), "{:?}", inbox.faults);
        assert!(inbox.held().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encoded_arrays_that_share_parts_are_pulled_from_php() {
    let server = Server::php().await;
    let params = json!({
        "endpoint": server.base, "action": "urn:peers#list_", "poll-seconds": 0.05,
        "values": { "key": { "env": "K" } },
        "request": "<p:list_ xmlns:p=\"urn:peers\" soapenv:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\" xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\">\
            <key xsi:type=\"xsd:string\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">{key}</key>\
            <page xsi:type=\"xsd:int\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">{page}</page></p:list_>",
        "rows": { "at": "/list_Response/return/item" },
        "paging": { "page": { "size": 2, "resume": true } },
    });
    let inbox = Arc::new(TestInbox::default());
    run("soap", &params, &inbox, |inbox| inbox.held().len() >= 2).await;
    assert!(inbox.held()[0].contains("href=\"#"), "no reference: {:?}", inbox.held());
    let all: Vec<_> =
        inbox.held().iter().flat_map(|page| rows(page, "/list_Response/return")).collect();
    assert_eq!(all.len(), 4);
    for (n, row) in all.iter().enumerate() {
        assert_eq!(row, &[format!("wsh=测罚〔2026〕{n}号"), "party/name=测试 & 样例".to_owned()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_delivered_to_jax_ws_in_both_shapes() {
    let server = Server::java();
    let batch = [parcel("a", "甲"), parcel("b", "拒"), parcel("c", "丙")];
    let national = json!({
        "url": format!("{}/national", server.base), "namespace": "http://national.peers/",
        "token": { "env": "T" }, "datasets": { "admin-penalty": { "operation": "importPenalyXml" } },
    });
    let vendor = json!({
        "url": format!("{}/vendor", server.base), "namespace": "http://vendor.peers/", "shape": "execute",
        "datasets": { "admin-penalty": { "table-code": "T1" } },
    });
    for (params, text) in [(national, "主体信息不匹配"), (vendor.clone(), "类别不在目录")]
    {
        let outcomes = target(&params).deliver(&batch, None).await.unwrap();
        assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Accepted, &Outcome::Accepted));
        assert!(
            matches!(&outcomes[1], Outcome::Refused { message, .. } if message == text),
            "{outcomes:?}"
        );
    }
    let mut wrong = vendor;
    wrong["datasets"]["admin-penalty"]["table-code"] = json!("T2");
    let refused = target(&wrong).deliver(&batch, None).await;
    assert!(matches!(refused, Err(TargetError::Rejected { .. })), "{refused:?}");
}
