//! SOAP with other people's clients: agencies push.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_adapters::conformance::TestSecrets;
use xinqiao_adapters::targets;
use xinqiao_core::model::{DatasetId, Operation, TargetId, Timestamp};
use xinqiao_core::spi::{Outcome, Parcel, TargetError};
use xinqiao_tests::{Row, World, mapping, ndjson, peers};

/// 2026-11-23 12:00 in Asia/Shanghai.
const START: Timestamp = Timestamp(1_795_406_400_000);

const RECORDS: (&str, &str) = ("soap-records", "a-token-for-records-only");
const JSON: (&str, &str) = ("soap-json", "a-token-for-json-only");
const XML: (&str, &str) = ("soap-xml", "a-token-for-xml-only");

pub(crate) fn drivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/drivers/soap")
}

/// A gateway with a feed of each profile.
struct Scene {
    world: World,
    _platform: Platform,
    gateway: Gateway,
}

impl Scene {
    async fn new() -> Self {
        let platform = Platform::start(PlatformOptions::default()).await.unwrap();
        let mut world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
        let source = "{ format: ndjson, on-unknown-column: ignore }";
        let feeds = [
            (
                RECORDS,
                "format: xml, unwrap: { at: /submit }, record: /submit/record",
                "token-argument: token",
            ),
            (
                JSON,
                "format: json, unwrap: { at: /execute/json }, record: /body",
                "profile: execute-json, style: rpc-encoded",
            ),
            (
                XML,
                "format: xml, unwrap: { at: /importPenalyXml/xml }",
                "profile: execute-xml, operation: importPenalyXml, token-argument: token",
            ),
        ];
        for ((id, token), read, params) in feeds {
            let text = mapping("ndjson")
                .replace("made-ndjson", &format!("made-{id}"))
                .replace(source, &format!("{{ {read}, on-unknown-column: ignore }}"))
                // Not the name of an element.
                .replace("罚款金额(万元)", "罚款金额");
            let feed = format!(
                "  {id}:\n    agency: made\n    mapping: made-{id}\n    targets: [platform]\n    source:\n      \
                 kind: soap-push\n      params: {{ token: {{ file: {id} }}, {params} }}\n"
            );
            std::fs::write(world.path().join(id), token).unwrap();
            world.add(&text, id, &feed).unwrap();
        }
        let clock = Arc::new(ShiftedClock::starting_at(START));
        let gateway = Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap();
        // Two good rows and one without its amount.
        let mut rows: Vec<Value> = ndjson([Row::new(0), Row::new(1), Row { number: 2, fine: 0 }])
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for row in &mut rows {
            let fine = row.as_object_mut().unwrap().remove("罚款金额(万元)").unwrap();
            row["罚款金额"] = fine;
        }
        let known = |name: &str| {
            ![
                "所在区",
                "案件等级",
                "承办科室",
                "承办人代号",
                "是否听证",
                "流水号",
                "办理状态",
                "入库时间",
            ]
            .contains(&name)
        };
        for row in &mut rows {
            row.as_object_mut().unwrap().retain(|name, _| known(name));
        }
        std::fs::write(world.path().join("rows.json"), json!(rows).to_string()).unwrap();
        std::fs::write(
            world.path().join("body.json"),
            json!({ "tableCode": "T1", "body": rows }).to_string(),
        )
        .unwrap();
        let mut lines = String::new();
        for row in &rows {
            for (name, value) in row.as_object().unwrap() {
                lines += &format!("{name}={}\n", value.as_str().unwrap());
            }
            lines.push('\n');
        }
        std::fs::write(world.path().join("rows.txt"), lines).unwrap();
        Self { world, _platform: platform, gateway }
    }

    fn wsdl(&self, feed: &str) -> String {
        let address = self.gateway.push_address().unwrap();
        format!("http://{address}/soap/made/{feed}?wsdl")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    async fn end(self) {
        let store = self.gateway.store().clone();
        self.gateway.stop().await;
        assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
    }
}

/// Runs a program for at most two minutes, and gives the last line it prints, as JSON.
async fn told(mut command: Command) -> Value {
    tokio::task::spawn_blocking(move || {
        let mut child = Command::new("timeout");
        child.args(["-k", "5", "120"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            child.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            child.current_dir(folder);
        }
        command = child;
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|_| {
            panic!("{command:?}: {text} {}", String::from_utf8_lossy(&out.stderr))
        })
    })
    .await
    .unwrap()
}

fn is_told(who: &str, said: &Value) {
    assert_eq!((&said["total"], &said["refused"]), (&json!(3), &json!(1)), "{who}: {said}");
    assert_eq!((&said["row"], &said["signed"]), (&json!(3), &json!(true)), "{who}: {said}");
    assert!(said["rule"].as_str().is_some_and(|rule| !rule.is_empty()), "{who}: {said}");
}

/// Zeep, suds, npm's soap and php-soap, each with both profiles and with a wrong token.
#[tokio::test(flavor = "multi_thread")]
async fn scripts_push_with_what_their_library_makes_of_our_wsdl() {
    let scene = Scene::new().await;
    let peers = peers::installed("soap").unwrap();
    for library in ["zeep", "suds", "node", "php"] {
        for (profile, (feed, token)) in [("records", RECORDS), ("execute-json", JSON)] {
            for token in [token, "a-wrong-token-of-nobody"] {
                let mut command = match library {
                    "node" => {
                        let mut command = Command::new("node");
                        command.arg(drivers().join("push.js"));
                        command.env("NODE_PATH", peers.join("node_modules"));
                        command
                    }
                    "php" => {
                        let mut command = Command::new("php");
                        command.arg(drivers().join("push.php"));
                        command
                    }
                    python => {
                        let mut command = Command::new(peers.join("venv/bin/python"));
                        command.arg(drivers().join("push.py")).arg(python);
                        command
                    }
                };
                command
                    .arg(scene.wsdl(feed))
                    .args([profile, feed, token])
                    .arg(scene.file("rows.json"));
                let said = told(command).await;
                let who = format!("{library} {profile}");
                if token.starts_with("a-wrong") {
                    let fault = said["fault"].as_str().unwrap_or_default();
                    assert!(fault.contains("令牌"), "{who}: {said}");
                } else {
                    is_told(&who, &said);
                }
            }
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jax_ws_pushes_records_with_classes_made_of_our_wsdl() {
    let scene = Scene::new().await;
    let peers = peers::installed("soap").unwrap();
    let made = tempfile::tempdir().unwrap();
    let classpath = std::fs::read_to_string(peers.join("classpath")).unwrap();
    let classpath = format!("{}:{}", classpath.trim(), made.path().display());
    let wsdl = scene.wsdl(RECORDS.0);
    let quiet = |mut command: Command| {
        let out = command.output().unwrap();
        assert!(out.status.success(), "{command:?} {}", String::from_utf8_lossy(&out.stderr));
    };
    let mut import = Command::new("timeout");
    import.args([
        "120",
        "java",
        "-cp",
        &classpath,
        "com.sun.tools.ws.WsImport",
        "-Xnocompile",
        "-quiet",
    ]);
    import.args(["-encoding", "UTF-8", "-p", "xinqiao.push", "-s"]).arg(made.path()).arg(&wsdl);
    tokio::task::block_in_place(|| quiet(import));
    let mut compile = Command::new("timeout");
    compile
        .args(["120", "javac", "-nowarn", "-encoding", "UTF-8", "-cp", &classpath, "-d"])
        .arg(made.path());
    compile.arg(drivers().join("java/Client.java"));
    for file in std::fs::read_dir(made.path().join("xinqiao/push")).unwrap() {
        compile.arg(file.unwrap().path());
    }
    tokio::task::block_in_place(|| quiet(compile));
    for token in [RECORDS.1, "a-wrong-token-of-nobody"] {
        let mut client = Command::new("java");
        client.args([
            "-Dfile.encoding=UTF-8",
            "-Dstdout.encoding=UTF-8",
            "-cp",
            &classpath,
            "Client",
            &wsdl,
            token,
        ]);
        client.arg(scene.file("rows.txt"));
        let said = told(client).await;
        match token == RECORDS.1 {
            true => is_told("JAX-WS", &said),
            false => assert!(said["fault"].as_str().unwrap_or_default().contains("令牌"), "{said}"),
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gsoap_pushes_with_code_made_of_our_wsdl() {
    let scene = Scene::new().await;
    let made = tempfile::tempdir().unwrap();
    let wsdl = scene.wsdl(JSON.0);
    let steps = format!(
        "set -e; cd '{}'; wsdl2h -c -o push.h '{wsdl}'; \
         soapcpp2 -c -C -CL -x -I/usr/share/gsoap/import push.h; \
         call=$(sed -n 's/.*SOAP_FMAC5 int SOAP_FMAC6 \\(soap_call_[A-Za-z0-9_]*\\)(.*/\\1/p' soapStub.h | head -n 1); \
         ns=$(ls *.nsmap | head -n 1); [ \"$ns\" = PushSoap.nsmap ] || cp \"$ns\" PushSoap.nsmap; \
         cc -I. -D'CALL(s,a,t,r)='$call'(s,a,\"\",t,r)' -o push '{}' soapC.c soapClient.c -lgsoap",
        made.path().display(),
        drivers().join("push.c").display()
    );
    let mut build = Command::new("timeout");
    build.args(["120", "bash", "-c", &steps]);
    tokio::task::block_in_place(|| {
        let out = build.output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{} {err}", String::from_utf8_lossy(&out.stdout));
    });
    let mut push = Command::new(made.path().join("push"));
    push.arg(wsdl.trim_end_matches("?wsdl")).args([JSON.0, JSON.1]).arg(scene.file("body.json"));
    let said = told(push).await;
    assert_eq!((&said["totalSize"], &said["errorSize"]), (&json!(3), &json!(1)), "{said}");
    let last = said["errorBody"].as_array().unwrap().last().unwrap();
    let refused = last["errors"].as_array().unwrap().iter().any(|one| one["level"] == "error");
    assert!(last["rowNum"] == 3 && refused, "{said}");
    scene.end().await;
}

/// One request on a connection of its own: status and body.
async fn http(scene: &Scene, head: &str, body: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream =
        tokio::net::TcpStream::connect(scene.gateway.push_address().unwrap()).await.unwrap();
    let request = format!(
        "{head}\r\nHost: gateway:1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_known_three_ways_and_told_in_their_version() {
    let scene = Scene::new().await;
    let ns =
        ["http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"];
    let wrap = |ns: &str, body: &str| {
        format!("<e:Envelope xmlns:e=\"{ns}\"><e:Body>{body}</e:Body></e:Envelope>")
    };
    let submit = |token: &str, n: u32| {
        format!(
            "<n:submit xmlns:n=\"u\"><token>{token}</token><record><行政处罚决定书文号>{n}</行政处罚决定书文号></record></n:submit>"
        )
    };
    let path = |feed: &str| format!("POST /soap/made{feed} HTTP/1.1");
    let with = |feed: &str, token: &str| format!("{}\r\nAuthorization: Bearer {token}", path(feed));
    let basic = |given: &str| format!("{}\r\nAuthorization: Basic {given}", path(""));
    // By the head, by the argument, at either address, in either version, alone and in a MIME body.
    let mime = format!(
        "--b\r\nContent-Type: application/xop+xml\r\nContent-ID: <r>\r\n\r\n{}\r\n--b--\r\n",
        wrap(ns[0], &submit(RECORDS.1, 3))
    );
    for (head, body, version) in [
        (with("/soap-records", RECORDS.1), wrap(ns[1], &submit("", 1)), ns[1]),
        (with("", RECORDS.1), wrap(ns[0], &submit("x", 2)), ns[0]),
        (path("/soap-records"), mime, ns[0]),
        (path(""), wrap(ns[0], &submit(RECORDS.1, 4)), ns[0]),
        // soap-records:a-token-for-records-only
        (
            basic("c29hcC1yZWNvcmRzOmEtdG9rZW4tZm9yLXJlY29yZHMtb25seQ=="),
            wrap(ns[1], &submit("", 5)),
            ns[1],
        ),
    ] {
        let (status, first) = http(&scene, &head, &body).await;
        assert_eq!(status, 200, "{head} {first}");
        for part in [
            version,
            "<code>00</code>",
            "<total>1</total>",
            "<refused>1</refused>",
            "<duplicate>false</duplicate>",
        ] {
            assert!(first.contains(part), "{head} {part} {first}");
        }
        let number = |text: &str| {
            text.split("<message>").nth(1).unwrap().split('<').next().unwrap().to_owned()
        };
        let (_, again) = http(&scene, &head, &body).await;
        assert!(
            again.contains("<duplicate>true</duplicate>") && number(&first) == number(&again),
            "{again}"
        );
    }
    let before =
        scene.gateway.store().status().unwrap().feeds.values().map(|f| f.messages).sum::<u64>();
    let one = submit("", 9);
    for (head, body, status, code) in [
        (path("/soap-records"), wrap(ns[0], &one), 500, "http.token"),
        (
            path("/soap-records"),
            wrap(ns[1], &submit("a-wrong-token-of-nobody", 9)),
            400,
            "http.token",
        ),
        (with("/soap-records", JSON.1), wrap(ns[0], &one), 500, "http.token"),
        (
            basic("c29hcC1qc29uOmEtdG9rZW4tZm9yLXJlY29yZHMtb25seQ=="),
            wrap(ns[0], &one),
            500,
            "http.token",
        ),
        (with("/soap-records", RECORDS.1), wrap(ns[0], "<other/>"), 500, "soap.operation"),
        (with("/soap-records", RECORDS.1), "<html/>".to_owned(), 500, "soap.no-envelope"),
        (with("/soap-records", RECORDS.1), String::new(), 500, "soap.no-envelope"),
        (with("/soap-records", RECORDS.1), "<!DOCTYPE a><a/>".to_owned(), 500, "soap.forbidden"),
        (with("/none", RECORDS.1), wrap(ns[0], &one), 404, "http.not-found"),
        (
            format!("{}\r\nContent-Encoding: gzip", with("/soap-records", RECORDS.1)),
            wrap(ns[0], &one),
            500,
            "http.content-encoding",
        ),
    ] {
        let (said, text) = http(&scene, &head, &body).await;
        assert_eq!(said, status, "{head} {body} {text}");
        assert!(text.contains(code), "{head} {body} {text}");
    }
    let after =
        scene.gateway.store().status().unwrap().feeds.values().map(|f| f.messages).sum::<u64>();
    assert_eq!(before, after, "what is refused is not kept");
    let (status, wsdl) = http(&scene, "GET /soap/made/soap-records?wsdl HTTP/1.1", "").await;
    assert!(status == 200 && wsdl.contains("http://gateway:1/soap/made/soap-records"), "{wsdl}");
    assert_eq!(http(&scene, "GET /soap/made?wsdl HTTP/1.1", "").await.0, 404, "which of three");
    scene.end().await;
}

/// Our own target against our own push, in the shape both have from the first years.
#[tokio::test(flavor = "multi_thread")]
async fn the_national_shape_is_spoken_on_both_sides() {
    let scene = Scene::new().await;
    let url = scene.wsdl(XML.0).trim_end_matches("?wsdl").to_owned();
    let params = json!({
        "url": url, "namespace": format!("urn:xinqiao:soap:{}", XML.0), "token": { "env": "T" },
        "datasets": { "admin-penalty": { "operation": "importPenalyXml" } },
    });
    // The token of the tests' secrets is another: the whole call is refused by a fault.
    let batch = [parcel("a", "甲"), parcel("b", "乙")];
    let refused = target(&params).deliver(&batch, None).await;
    assert!(matches!(refused, Err(TargetError::Rejected { .. })), "{refused:?}");
    // Two rows without most of their fields: each is refused by its line.
    let mut known = params;
    known["headers"] = json!({ "Authorization": format!("Bearer {}", XML.1) });
    let outcomes = target(&known).deliver(&batch, None).await.unwrap();
    assert!(outcomes.iter().all(|one| matches!(one, Outcome::Refused { .. })), "{outcomes:?}");
    scene.end().await;
}

pub(crate) fn parcel(key: &str, subject: &str) -> Parcel {
    Parcel {
        key: key.to_owned(),
        dataset: DatasetId::new("admin-penalty").unwrap(),
        generation: 1,
        operation: Operation::Upsert,
        fields: vec![
            (Arc::from("CF_WSH"), format!("{key}号")),
            (Arc::from("CF_XDR_MC"), format!("{subject} & <公司>")),
        ],
    }
}

pub(crate) fn target(params: &Value) -> Arc<dyn xinqiao_core::spi::Target> {
    let id = TargetId::new("platform").unwrap();
    let kind = targets::find("soap").unwrap();
    kind.build(&id, params, &TestSecrets).unwrap_or_else(|problems| panic!("{problems:?}"))
}
