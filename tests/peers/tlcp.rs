//! TLCP through the proxy of `ops/tlcp`, as it is shipped but for addresses and folders: nginx on
//! Tongsuo in front of a whole gateway, keys and certificates by `xinqiao keys dev-ca`, clients by
//! Tongsuo.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use xinqiao::clock::SystemClock;
use xinqiao::compose::Gateway;
use xinqiao_crypto::pkcs8;
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::x509::UnixSeconds;
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_tests::peers::{Peer, tlcp_proxy};
use xinqiao_tests::{Row, TOKEN, World, ndjson};

use crate::material::{Desk, now};

/// `-bugs`: without it Tongsuo 8.5.0 puts an empty record before each of its own, as for TLS 1.0,
/// and has no room for it.
const TLCP: &str = "-enable_ntls -ntls -bugs -CAfile dev/ca.crt -verify_return_error";

/// Between proxy and gateway.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Clear,
    Rfc8998,
}

/// A gateway on loopback, and a desk with everybody's keys.
struct Scene {
    inside: Inside,
    world: World,
    gateway: Gateway,
    desk: Desk,
}

impl Scene {
    async fn new(inside: Inside) -> Self {
        let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
        if inside == Inside::Rfc8998 {
            let file = world.path().join("gateway.yaml");
            let clear = "{ address: \"127.0.0.1:0\" }";
            let tls = "{ address: \"127.0.0.1:0\", tls: { policy: gm, gm-key: gateway } }";
            let config = std::fs::read_to_string(&file).unwrap();
            assert!(config.contains(clear));
            std::fs::write(file, config.replace(clear, tls)).unwrap();
        }
        let config = world.config().unwrap();
        let gateway = Gateway::start(config, world.domain(), Arc::new(SystemClock)).await.unwrap();
        let scene = Self { inside, world, gateway, desk: Desk::new(Peer::Tongsuo) };
        let own = scene.world.path().join("keys/gateway.sign.0001.crt");
        scene.desk.write("gateway.crt", std::fs::read(own).unwrap());
        scene.dev_ca("dev proxy agency");
        scene.dev_ca("other stranger");
        for (ca, name) in [("dev", "proxy"), ("dev", "agency"), ("other", "stranger")] {
            for usage in ["sign", "encrypt"] {
                scene.open_key(ca, name, usage);
                let chain = scene.desk.read(&format!("{ca}/{name}/{name}.{usage}.0001.crt"));
                scene.desk.write(&format!("{name}.{usage}.crt"), chain);
            }
        }
        scene
    }

    fn dev_ca(&self, arguments: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xinqiao-of-tests"));
        command.args(["keys", "dev-ca"]).args(arguments.split(' '));
        let made = command.current_dir(self.desk.path(".")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Puts an empty list in place whose successor was due an hour ago.
    fn expire_list(&self) {
        let passphrase = self.desk.read("dev/passphrase");
        let key = self.desk.read("dev/ca/ca.sign.0001.key");
        let key = pkcs8::decrypt(&key, passphrase.trim_ascii_end()).unwrap();
        let (from, to) = (UnixSeconds(now().0 - 7_200), UnixSeconds(now().0 - 3_600));
        let list = Crl::issue(&self.desk.certificate("dev/ca.crt"), &key, &[], 1, from, to);
        self.desk.write("dev/ca.crl", list.unwrap().to_pem());
    }

    /// A key of a key folder in clear, by the recipe's script.
    fn open_key(&self, ca: &str, name: &str, usage: &str) {
        let opened = Command::new(recipe("open-key"))
            .arg(format!("{ca}/{name}/{name}.{usage}.0001.key"))
            .arg(format!("{ca}/passphrase"))
            .current_dir(self.desk.path("."))
            .env("TONGSUO", self.desk.peer.program().unwrap())
            .output()
            .unwrap();
        assert!(opened.status.success(), "{}", String::from_utf8_lossy(&opened.stderr));
        self.desk.write(&format!("{name}.{usage}.key"), opened.stdout);
    }

    /// What s_client takes to show a party's double certificate.
    fn shown(name: &str) -> String {
        format!(
            "{TLCP} -sign_cert {name}.sign.crt -sign_key {name}.sign.key \
             -enc_cert {name}.encrypt.crt -enc_key {name}.encrypt.key"
        )
    }

    /// Pushes by Tongsuo; what it said, and what the gateway answered if it was reached.
    fn push(&self, at: SocketAddr, arguments: &str, body: &str) -> (String, Option<(u16, Value)>) {
        let request = format!(
            "POST /api/v1/messages HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let arguments = format!("s_client -connect {at} -ign_eof -nocommands {arguments}");
        let (_, text) = self.desk.run_with(&arguments, request.as_bytes());
        let answer = text.split_once("HTTP/1.1 ").map(|(_, answer)| {
            let (status, rest) = answer.split_once(' ').unwrap();
            // The client says more after it.
            let body = rest.split_once("\r\n\r\n").unwrap().1;
            let body = serde_json::Deserializer::from_str(body).into_iter().next();
            (status.parse().unwrap(), body.unwrap().unwrap())
        });
        (text, answer)
    }

    /// Pushes, and checks the receipt; what Tongsuo said.
    fn arrives(&self, at: SocketAddr, arguments: &str, rows: Range<u64>) -> String {
        let body = ndjson(rows.map(Row::new));
        let (text, answer) = self.push(at, arguments, &body);
        let (status, receipt) = answer.unwrap_or_else(|| panic!("{arguments}: {text}"));
        assert_eq!(status, 201, "{receipt}");
        self.check(&receipt, &body);
        text
    }

    /// The receipt is the gateway's, for just these bytes.
    fn check(&self, answer: &Value, body: &str) {
        let anchors = [self.desk.certificate("gateway.crt")];
        let trust = Trust { anchors: &anchors, revocation: Revocation::Unchecked, at: now() };
        let statement = answer["statement"].as_str().unwrap();
        let signature = answer["signature"].as_str().unwrap();
        receipt::verify(&SignedReceipt { statement, signature }, &[], &trust).unwrap();
        let digest = xinqiao_crypto::sm3(body.as_bytes());
        assert!(statement.ends_with(&xinqiao_crypto::hex(&digest)), "{statement}");
    }

    fn refused(&self, front: &Front, arguments: &str, reason: &str) {
        let (text, answer) = self.push(front.at, arguments, &ndjson([Row::new(0)]));
        assert_eq!(answer, None, "{arguments}: {text}");
        front.until(reason);
    }
}

fn recipe(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/tlcp").join(file)
}

/// The proxy. Ends when dropped.
struct Front {
    child: Child,
    at: SocketAddr,
    log: Receiver<String>,
}

impl Front {
    /// `clients` is `ssl_verify_client`.
    fn start(scene: &Scene, clients: &str) -> Self {
        // Handed over open, as nginx does to its successor: no port is guessed, and who calls
        // before nginx is ready waits.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at = listener.local_addr().unwrap();
        let mut config = std::fs::read_to_string(recipe("nginx.conf")).unwrap();
        for (old, new) in [
            ("worker_processes auto", "worker_processes 1"),
            ("/run/xinqiao-tlcp/nginx.pid", "nginx.pid"),
            ("syslog:server=unix:/dev/log,nohostname,tag=xinqiao_tlcp", "access.log"),
            ("0.0.0.0:8444", &at.to_string()),
            ("127.0.0.1:8480", &scene.gateway.push_address().unwrap().to_string()),
            ("/run/credentials/xinqiao-tlcp.service/", "proxy."),
            ("certs/gateway-ca.crt", "gateway.crt"),
            ("gateway.example.gov.cn", "gateway"),
            ("certs/ca.", "dev/ca."),
            ("certs/", "proxy."),
            ("ssl_verify_client on", &format!("ssl_verify_client {clients}")),
        ] {
            assert!(config.contains(old), "nginx.conf has {old}");
            config = config.replace(old, new);
        }
        if scene.inside == Inside::Rfc8998 {
            assert!(config.contains("#proxy_ssl_verify on;"));
            config = config.replace("#proxy_ssl", "proxy_ssl");
        }
        scene.desk.write("nginx.conf", config);
        let mut child = Command::new(tlcp_proxy().unwrap())
            .arg("-p")
            .arg(scene.desk.path("."))
            .arg("-c")
            .arg(scene.desk.path("nginx.conf"))
            .args(["-e", "stderr"])
            .env("NGINX", "0;")
            .env("OPENSSL_CONF", "/dev/null")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{e}; run tests/peers/build"));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        // To its end: a full pipe would stop nginx.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, at, log }
    }

    /// Reads the log on until `what` is said.
    fn until(&self, what: &str) {
        let mut before = Vec::new();
        loop {
            match self.log.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(what) => return,
                Ok(line) => before.push(line),
                Err(error) => panic!("{error} before {what}: {before:#?}"),
            }
        }
    }

    /// Until the last worker with the former lists has ended.
    fn reload(&self) {
        self.signal(Signal::HUP);
        self.until("exited with code 0");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Not SIGKILL, which would leave its worker alone.
        self.signal(Signal::TERM);
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agencies_push_over_tlcp() {
    let scene = Scene::new(Inside::Clear).await;
    let front = Front::start(&scene, "on");
    // Megabytes, hundreds of records.
    for (rows, suite) in [(0..2_000, "ECC-SM2-SM4-GCM-SM3"), (1..2_000, "ECC-SM2-SM4-CBC-SM3")] {
        let arguments = format!("{} -cipher {suite}", Scene::shown("agency"));
        let text = scene.arrives(front.at, &arguments, rows);
        assert!(text.contains(&format!("NTLSv1.1, Cipher is {suite}")), "{text}");
    }
    drop(front);
    let log = String::from_utf8(scene.desk.read("access.log")).unwrap();
    assert!(log.contains("ECC-SM2-SM4-GCM-SM3 \"CN=agency"), "{log}");

    // Where certificates are optional, what is shown must still be good.
    let front = Front::start(&scene, "optional");
    scene.arrives(front.at, TLCP, 0..3);
    scene.arrives(front.at, &Scene::shown("agency"), 0..4);
    scene.refused(&front, &Scene::shown("stranger"), "client SSL certificate verify error");
    drop(front);
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_refuses_strangers_and_other_protocols() {
    let scene = Scene::new(Inside::Clear).await;
    let front = Front::start(&scene, "on");
    let agency = Scene::shown("agency");
    for (arguments, reason) in [
        (TLCP, "client sent no required SSL certificate"),
        (&Scene::shown("stranger"), "client SSL certificate verify error"),
        // The client refuses: this is no proxy of the CA it believes.
        (&format!("{agency} -CAfile other/ca.crt"), "alert unknown ca"),
        (&format!("{agency} -cipher ECDHE-SM2-SM4-GCM-SM3"), "no shared cipher"),
        ("-tls1_2", "no shared cipher"),
        ("-tls1_3", "no shared cipher"),
        ("-tls1_3 -ciphersuites TLS_SM4_GCM_SM3 -groups curveSM2", "no shared cipher"),
    ] {
        scene.refused(&front, arguments, reason);
    }
    scene.arrives(front.at, &agency, 0..1);

    scene.dev_ca("dev --revoke agency");
    front.reload();
    scene.refused(&front, &agency, "certificate revoked");
    scene.expire_list();
    front.reload();
    scene.refused(&front, &agency, "CRL has expired");
    drop(front);
    scene.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_reaches_a_gateway_by_rfc_8998() {
    let scene = Scene::new(Inside::Rfc8998).await;
    let front = Front::start(&scene, "on");
    scene.arrives(front.at, &Scene::shown("agency"), 0..100);
    // Not to a gateway of another certificate.
    scene.desk.write("gateway.crt", scene.desk.read("other/ca.crt"));
    front.reload();
    scene.refused(&front, &Scene::shown("agency"), "upstream SSL certificate verify error");
    drop(front);
    scene.gateway.stop().await;
}
