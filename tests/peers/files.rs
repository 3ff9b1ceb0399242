//! Sources and targets of files against real servers: every file is taken exactly once, whatever
//! happens to the server; what is put there is whole.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;
use xinqiao::clock::SystemClock;
use xinqiao_adapters::conformance::{
    Fixture, TestInbox, TestSecrets, nothing_is_lost_let_go_early_or_sent_again,
    nothing_is_lost_or_doubled_by_dying, run,
};
use xinqiao_adapters::{sources, targets};
use xinqiao_core::fault::Classify;
use xinqiao_core::model::{DatasetId, FeedId, Operation, TargetId, Timestamp};
use xinqiao_core::spi::{
    Arrival, BoxFuture, DecodeError, Fault, FeedbackRoad, Inbox, Outcome, Parcel, Receipt, Sealer,
    SecretRef, Secrets, Shutdown, ShutdownSignal, Source, SourceContext, Target, TargetError,
};

use servers::{Kind, PASSWORD, Server, USER, merge};

mod servers;

/// Sees the name and how much of it came.
type Eye = dyn Fn(&str, usize) + Send + Sync;

/// Keeps what it takes, by name; calls `eye` for every chunk on its way.
struct Desk {
    held: Mutex<Vec<(String, Vec<u8>)>>,
    faults: Mutex<Vec<String>>,
    cursor: Mutex<Option<Vec<u8>>>,
    eye: Box<Eye>,
    changed: watch::Sender<u64>,
}

impl Inbox for Desk {
    fn receive(&self, mut arrival: Arrival) -> BoxFuture<'_, Result<Receipt, Fault>> {
        Box::pin(async move {
            let name = arrival.name.unwrap_or_default();
            let mut bytes = Vec::new();
            while let Some(chunk) = next(&mut arrival.body).await {
                let chunk = chunk.map_err(|error| Box::new(DecodeError::Io(error)) as Fault)?;
                bytes.extend_from_slice(&chunk);
                (self.eye)(&name, bytes.len());
            }
            if let Some(cursor) = arrival.cursor {
                *self.cursor.lock().unwrap() = Some(cursor);
            }
            let bytes_len = bytes.len();
            self.held.lock().unwrap().push((name, bytes));
            self.changed.send_modify(|count| *count += 1);
            Ok(Receipt {
                message: 1,
                feed: FeedId::new("f").unwrap(),
                received: Timestamp(0),
                digest: String::new(),
                bytes: u64::try_from(bytes_len).unwrap(),
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

async fn next(
    body: &mut xinqiao_core::spi::ByteStream,
) -> Option<std::io::Result<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>> {
    std::future::poll_fn(|context| body.as_mut().poll_next(context)).await
}

struct Stop(watch::Sender<bool>);
impl ShutdownSignal for Stop {
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

struct Password(&'static str);
impl Secrets for Password {
    fn resolve(&self, _: &SecretRef) -> Result<String, String> {
        Ok(self.0.to_owned())
    }
}

impl Desk {
    fn new(eye: impl Fn(&str, usize) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::default(),
            faults: Mutex::default(),
            cursor: Mutex::default(),
            eye: Box::new(eye),
            changed: watch::Sender::new(0),
        })
    }

    fn count(&self) -> usize {
        self.held.lock().unwrap().len()
    }

    /// Runs a source by the system's clock until `what` holds, then stops it.
    async fn run(self: &Arc<Self>, source: Arc<dyn Source>, what: impl Fn(&Self) -> bool) {
        let stop = Arc::new(Stop(watch::Sender::new(false)));
        let running = tokio::spawn(source.run(SourceContext {
            inbox: Arc::clone(self) as _,
            clock: Arc::new(SystemClock),
            shutdown: Arc::clone(&stop) as Shutdown,
        }));
        let mut changed = self.changed.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(120), async {
            changed.wait_for(|_| what(self)).await.map(drop)
        });
        let in_time = waited.await.is_ok();
        stop.0.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        assert!(in_time, "{} held, faults {:?}", self.count(), self.faults.lock().unwrap());
        ended.expect("ends promptly").unwrap();
    }

    /// The first fault that a source reports.
    async fn fault(self: &Arc<Self>, source: Arc<dyn Source>) -> String {
        self.run(source, |desk| !desk.faults.lock().unwrap().is_empty()).await;
        assert_eq!(self.count(), 0);
        self.faults.lock().unwrap()[0].clone()
    }
}

fn source(server: &Server, params: &Value, password: &'static str) -> Arc<dyn Source> {
    let factory = sources::find(server.protocol()).unwrap();
    factory.build(params, &Password(password)).unwrap_or_else(|p| panic!("{p:?}"))
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
}

/// A thousand files, one of them large, one with a Chinese name, forty still growing; the server is
/// killed in the middle of the large one and started again.
async fn a_thousand_files(kind: Kind, after: &str) {
    let server = Arc::new(Server::start(kind));
    let folder = server.path("in");
    let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let old = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for n in 0..958 {
        expected.insert(format!("f{n:04}.csv"), format!("{n},甲\n").repeat(n % 7 + 1).into_bytes());
    }
    expected.insert("行政处罚 甲.csv".to_owned(), "一,二\n".into());
    expected.insert("f0500-large.csv".to_owned(), b"0123456789abcdef".repeat(1 << 19));
    for (name, bytes) in &expected {
        let path = folder.join(name);
        write(&path, bytes);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    let growing: Vec<String> = (0..40).map(|n| format!("growing{n:02}.csv")).collect();
    for name in &growing {
        write(&folder.join(name), b"begun ");
        expected.insert(name.clone(), [b"begun ".as_slice(), &b"more ".repeat(20)].concat());
    }
    let writer = {
        let (folder, growing) = (folder.clone(), growing.clone());
        // By itself, as an agency's program writes: a piece every tenth of a second for two seconds.
        tokio::spawn(async move {
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                for name in &growing {
                    let file = std::fs::File::options().append(true).open(folder.join(name));
                    std::io::Write::write_all(&mut file.unwrap(), b"more ").unwrap();
                }
            }
        })
    };
    let killed = Arc::new(AtomicBool::new(false));
    let desk = {
        let (server, killed) = (Arc::clone(&server), Arc::clone(&killed));
        Desk::new(move |name, _| {
            if name.contains("large") && !killed.swap(true, Ordering::Relaxed) {
                server.kill();
                server.again();
            }
        })
    };
    let params = server.source(after);
    let begun = Instant::now();
    // Stopped half-way too: what was taken is remembered by the cursor.
    desk.run(source(&server, &params, PASSWORD), |desk| desk.count() >= 700).await;
    desk.run(source(&server, &params, PASSWORD), |desk| desk.count() >= expected.len()).await;
    writer.await.unwrap();
    // One more look, by a source that starts anew, finds nothing new.
    let looked = desk.changed.borrow().wrapping_add(2);
    let stay = if after == "leave" { 1000 } else { 0 };
    let left = || std::fs::read_dir(&folder).unwrap().count();
    desk.run(source(&server, &params, PASSWORD), |desk| {
        *desk.changed.borrow() >= looked && left() == stay
    })
    .await;
    let held = desk.held.lock().unwrap().clone();
    println!("{kind:?}: {} files in {:?}", held.len(), begun.elapsed());
    assert!(killed.load(Ordering::Relaxed), "the server was killed in the middle of a file");
    assert_eq!(held.len(), expected.len(), "each once");
    let held: BTreeMap<_, _> = held.into_iter().collect();
    assert_eq!(held.len(), expected.len());
    for (name, bytes) in &expected {
        assert!(held.get(name) == Some(bytes), "{name} is not as it was put there");
    }
    assert_eq!(left(), stay);
    if after == "move" {
        assert_eq!(std::fs::read_dir(server.path("done")).unwrap().count(), 1000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_of_vsftpd() {
    a_thousand_files(Kind::Vsftpd, "leave").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_of_proftpd() {
    a_thousand_files(Kind::ProftpdTls, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_of_pure_ftpd() {
    a_thousand_files(Kind::Pureftpd, "delete").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_of_pyftpdlib() {
    a_thousand_files(Kind::Pyftpdlib, "move").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_files_of_openssh() {
    a_thousand_files(Kind::Openssh, "leave").await;
}

fn fixture(kind: Kind, after: &str, extra: &Value) -> Fixture {
    let server = Server::start(kind);
    let (folder, watched) = (server.path("in"), server.path("in"));
    let mut params = server.source(after);
    merge(&mut params, &json!({ "pattern": "*.CSV", "settle-seconds": 2 }));
    merge(&mut params, extra);
    Fixture {
        kind: server.protocol(),
        params,
        offer: Box::new(move |text| {
            let path = folder.join(format!("{text}.csv"));
            write(&path, text.as_bytes());
            let old = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }),
        released: Arc::new(move |text| !watched.join(format!("{text}.csv")).try_exists().unwrap()),
        lets_go: after != "leave",
        keep: Some(Box::new(server)),
    }
}

#[tokio::test]
async fn every_server_keeps_the_promises_of_every_source() {
    let none = json!({});
    let active = json!({ "mode": "active" });
    nothing_is_lost_let_go_early_or_sent_again(vec![
        fixture(Kind::Vsftpd, "move", &none),
        fixture(Kind::Vsftpd, "leave", &active),
        fixture(Kind::Vsftpd12, "delete", &none),
        fixture(Kind::VsftpdImplicit, "move", &none),
        fixture(Kind::Proftpd, "move", &active),
        fixture(Kind::ProftpdTls, "leave", &none),
        fixture(Kind::Pureftpd, "delete", &none),
        fixture(Kind::Pyftpdlib, "move", &none),
        fixture(Kind::Openssh, "move", &none),
        fixture(Kind::Openssh, "delete", &none),
    ])
    .await;
}

#[tokio::test]
async fn nothing_on_a_server_is_lost_or_doubled_by_dying() {
    let none = json!({});
    nothing_is_lost_or_doubled_by_dying(vec![
        fixture(Kind::Vsftpd, "move", &none),
        fixture(Kind::Pureftpd, "leave", &none),
        fixture(Kind::Openssh, "delete", &none),
        fixture(Kind::Openssh, "leave", &none),
    ])
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_told_clearly() {
    for kind in [Kind::Vsftpd, Kind::VsftpdImplicit, Kind::Pureftpd, Kind::Openssh] {
        let server = Server::start(kind);
        let params = server.source("leave");
        let with = |more: Value| {
            let mut params = params.clone();
            merge(&mut params, &more);
            params
        };
        let fault = async |params: &Value, password| {
            Desk::new(|_, _| {}).fault(source(&server, params, password)).await
        };
        if kind == Kind::Openssh {
            let mut by_password = params.clone();
            by_password.as_object_mut().unwrap().remove("key-file");
            merge(&mut by_password, &json!({ "password": { "env": "P" } }));
            let denied = fault(&by_password, "wrong").await;
            assert!(denied.starts_with("source.denied: 登录文件服务器被拒绝"), "{denied}");
            let (pinned, shown) = (server.fingerprint("other"), server.fingerprint("host"));
            let told = fault(&with(json!({ "host-key": pinned })), PASSWORD).await;
            assert!(told.starts_with("source.untrusted:"), "{told}");
            assert!(told.contains(&pinned) && told.contains(&shown), "{told}");
            // Of several keys any will do, and the right password lets in.
            merge(&mut by_password, &json!({ "host-key": [pinned, shown] }));
            write(&server.path("in").join("a.csv"), b"a");
            let desk = Desk::new(|_, _| {});
            desk.run(source(&server, &by_password, PASSWORD), |desk| desk.count() == 1).await;
            let locked =
                with(json!({ "key-file": server.path("locked"), "passphrase": { "env": "P" } }));
            let desk = Desk::new(|_, _| {});
            desk.run(source(&server, &locked, PASSWORD), |desk| desk.count() == 1).await;
            let factory = sources::find("sftp").unwrap();
            let problems = factory.build(&locked, &Password("wrong")).err().unwrap();
            assert_eq!(problems[0].at, "key-file", "{problems:?}");
            // A server that has an RSA key only.
            let config = std::fs::read_to_string(server.path("sshd_config")).unwrap();
            let old = config.replace("/host\n", "/old\n");
            std::fs::write(server.path("sshd_config"), old).unwrap();
            server.kill();
            server.again();
            let told = fault(&params, PASSWORD).await;
            assert!(told.starts_with("source.untrusted:") && told.contains("不支持 rsa"), "{told}");
            std::fs::write(server.path("sshd_config"), config).unwrap();
            server.kill();
            server.again();
            std::fs::remove_file(server.path("in").join("a.csv")).unwrap();
        } else {
            let denied = fault(&params, "wrong").await;
            assert!(denied.starts_with("source.denied: 登录文件服务器被拒绝"), "{denied}");
        }
        if matches!(kind, Kind::Vsftpd | Kind::VsftpdImplicit) {
            let told = fault(&with(json!({ "ca": server.path("stranger.pem") })), PASSWORD).await;
            assert!(told.starts_with("source.untrusted:") && told.contains("根证书"), "{told}");
        }
        let gone = fault(&with(json!({ "directory": server.path("none") })), PASSWORD).await;
        assert!(gone.starts_with("source.folder-unreadable:"), "{gone}");
        server.kill();
        let away = fault(&params, PASSWORD).await;
        assert!(away.starts_with("source.unreachable:"), "{away}");
    }
}

#[tokio::test]
async fn missing_numbers_are_told_and_stop_nothing() {
    let server = Server::start(Kind::Pureftpd);
    let mut params = server.source("delete");
    merge(
        &mut params,
        &json!({
            "settle-seconds": 0, "sequence": "{dept4}{table2}_{YYYYMMDD}_{seq5}",
        }),
    );
    let put = |n: u32| write(&server.path("in").join(format!("001501_20261123_{n:05}.xml")), b"x");
    let inbox = Arc::new(TestInbox::default());
    let gap = |inbox: &TestInbox, text: &str| {
        let faults = inbox.faults.lock().unwrap();
        faults.iter().any(|f| f.starts_with("source.sequence-gap") && f.contains(text))
    };
    for n in [1, 2, 5] {
        put(n);
    }
    run("ftp", &params, &inbox, |inbox| gap(inbox, "001501_20261123_# 缺号 3、4")).await;
    assert_eq!(inbox.held().len(), 3);
    // After a restart it is still known, and closes.
    put(3);
    put(7);
    run("ftp", &params, &inbox, |inbox| gap(inbox, "缺号 4、6")).await;
    assert_eq!(inbox.held().len(), 5);
}

#[tokio::test]
async fn feedback_is_put_beside_the_source() {
    for kind in [Kind::Vsftpd, Kind::Vsftpd12, Kind::ProftpdTls, Kind::Pyftpdlib, Kind::Openssh] {
        let server = Server::start(kind);
        let source = source(&server, &server.source("leave"), PASSWORD);
        let Some(FeedbackRoad::Files(sink)) = source.feedback() else { panic!("no road") };
        for size in [5, 300_000] {
            let bytes = vec![b'x'; size];
            let put = sink.put("处罚-反馈.csv".to_owned(), bytes.clone().into()).await;
            put.unwrap_or_else(|fault| panic!("{kind:?} {fault}"));
            assert_eq!(std::fs::read(server.path("back").join("处罚-反馈.csv")).unwrap(), bytes);
        }
        assert_eq!(std::fs::read_dir(server.path("back")).unwrap().count(), 1, "{kind:?}");
    }
}

fn parcel(key: &str) -> Parcel {
    Parcel {
        key: key.to_owned(),
        dataset: DatasetId::new("admin-penalty").unwrap(),
        generation: 2021,
        operation: Operation::Upsert,
        fields: vec![(Arc::from("CF_WFXW"), "未按规定公示".to_owned())],
    }
}

fn target(server: &Server, more: &Value) -> Arc<dyn Target> {
    let mut params = server.login();
    merge(&mut params, &json!({ "directory": server.path("in") }));
    merge(&mut params, more);
    let factory = targets::find(server.protocol()).unwrap();
    let id = TargetId::new("city").unwrap();
    factory.build(&id, &params, &TestSecrets).unwrap_or_else(|p| panic!("{p:?}"))
}

struct Reversed;
impl Sealer for Reversed {
    fn seal(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        Ok(content.iter().rev().copied().collect())
    }
}

#[tokio::test]
async fn batches_become_files_with_manifests() {
    for kind in [Kind::Vsftpd, Kind::Openssh] {
        let server = Server::start(kind);
        let folder = server.path("in");
        let files = || {
            let mut names: Vec<_> = std::fs::read_dir(&folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let batch = [parcel("5be1-1"), parcel("77aa-3")];
        for format in ["xml", "csv", "json"] {
            let target = target(&server, &json!({ "format": format, "charset": "gb18030" }));
            // Twice: a repeated batch replaces its file.
            for _ in 0..2 {
                let outcomes = target.deliver(&batch, None).await.unwrap();
                assert_eq!(outcomes, [Outcome::Accepted, Outcome::Accepted]);
            }
            let names = files();
            assert_eq!(names.len(), 2, "{names:?}");
            let bytes = std::fs::read(folder.join(&names[0])).unwrap();
            let text = encoding_rs::GB18030.decode(&bytes).0.into_owned();
            assert!(text.contains("未按规定公示") && text.contains("77aa-3"), "{text}");
            let manifest = std::fs::read(folder.join(&names[1])).unwrap();
            let manifest: Value = serde_json::from_slice(&manifest).unwrap();
            assert_eq!(manifest["file"], names[0]);
            assert_eq!(manifest["bytes"], bytes.len());
            let told = Command::new("sha256sum").arg(folder.join(&names[0])).output().unwrap();
            let told = String::from_utf8(told.stdout).unwrap();
            assert_eq!(manifest["sha256"], told.split(' ').next().unwrap());
            assert_eq!(manifest["keys"], json!(["5be1-1", "77aa-3"]));
            assert!(names[0].starts_with("admin-penalty_2-") && names[0].ends_with(format));
            for name in &names {
                std::fs::remove_file(folder.join(name)).unwrap();
            }
        }
        let target = target(&server, &json!({}));
        target.deliver(&batch, Some(&Reversed)).await.unwrap();
        let sealed = files().remove(0);
        assert!(sealed.ends_with(".xml.p7m"), "{sealed}");
        let bytes = std::fs::read(folder.join(sealed)).unwrap();
        assert!(bytes.ends_with(&b"<?xml".iter().rev().copied().collect::<Vec<_>>()));

        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o555)).unwrap();
        let refused = target.deliver(&[parcel("a-1")], None).await.unwrap_err();
        assert!(matches!(refused, TargetError::NotTaken { .. }), "{refused}");
        server.kill();
        let away = target.deliver(&batch, None).await.unwrap_err();
        assert!(matches!(away, TargetError::NotTaken { .. }), "{away}");
    }
}

#[test]
fn the_servers_know_a_user_of_the_tests_only() {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    assert!(
        passwd.lines().any(|line| line.starts_with(&format!("{USER}:"))),
        "run tests/peers/build"
    );
}
