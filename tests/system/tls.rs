//! National and classical TLS at the real gateway, in and out.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};
use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::keystore::{FileKeyStore, KeyFolder, KeyStore, KeyUse};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::tls::{
    Clients, Identity, Lists, Policy, Server, ServerOptions, Stale, Suite, Trust, client,
};
use xinqiao_crypto::x509::crl::{Crl, Revoked};
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_tests::{Row, TOKEN, World, ndjson};

use crate::watch::{at_rest, until};

const PASSPHRASE: &str = "a passphrase for tests only";
const OTHER_TOKEN: &str = "another-token-for-tests";

/// A national CA in a gateway's folder, whose key store holds everybody's keys.
struct Ca {
    folder: PathBuf,
    certificate: Certificate,
    key: PrivateKey,
}

fn now() -> UnixSeconds {
    UnixSeconds(SystemClock.now().0 / 1_000)
}

fn template(name: &str, role: Role, from: UnixSeconds) -> Template {
    let subject = parse_name(&format!("CN={name},O=test,C=CN")).unwrap();
    let addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    Template { addresses, ..Template::new(subject, role, from, 30) }
}

impl Ca {
    /// `sm-ca.pem`, `sm.crl`, and a key with a certificate (`NAME.pem`) for each name.
    fn new(folder: &Path, names: &[&str]) -> Self {
        let ca = Self::valid_from(folder, UnixSeconds(now().0 - 3_600));
        for name in names {
            ca.give(name);
        }
        ca
    }

    /// The CA alone.
    fn valid_from(folder: &Path, from: UnixSeconds) -> Self {
        let key = PrivateKey::generate().unwrap();
        let role = Role::Ca { path_length: None };
        let certificate = issue_self_signed(&template("ca", role, from), &key).unwrap();
        let ca = Self { folder: folder.to_owned(), certificate, key };
        std::fs::write(ca.path("sm-ca.pem"), ca.certificate.to_pem()).unwrap();
        ca.revoke(&[]);
        ca
    }

    /// A key with a certificate, valid as long as the CA is, however long ago that was made: none
    /// is issued that outlives its CA.
    fn give(&self, name: &str) {
        let path = self.path("keys");
        let keys = KeyFolder::new(&path, PASSPHRASE.as_bytes()).unwrap().with_iterations(10);
        let own = PrivateKey::generate().unwrap();
        let template = template(name, Role::Signing, self.certificate.not_before());
        let shown = issue(&template, own.public_key(), &self.certificate, &self.key).unwrap();
        let id = keys.add(name, KeyUse::Sign, &own).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), shown.to_pem()).unwrap();
        keys.put_chain(&id, &[shown]).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn revoke(&self, names: &[&str]) {
        let revoked = names.iter().map(|name| {
            let file = std::fs::read(self.path(&format!("{name}.pem"))).unwrap();
            let certificate = Certificate::from_file(&file).unwrap().remove(0);
            Revoked { serial: certificate.serial().to_vec(), at: now(), reason: None }
        });
        let revoked: Vec<_> = revoked.collect();
        let (from, to) = (UnixSeconds(now().0 - 60), now().plus_days(9));
        let list = Crl::issue(&self.certificate, &self.key, &revoked, 1, from, to).unwrap();
        std::fs::write(self.path("sm.crl.new"), list.to_pem()).unwrap();
        std::fs::rename(self.path("sm.crl.new"), self.path("sm.crl")).unwrap();
    }

    fn identity(&self, name: &str) -> Identity {
        let store = FileKeyStore::open(&self.path("keys"), PASSPHRASE.as_bytes()).unwrap();
        let store: Arc<dyn KeyStore> = Arc::new(store);
        Identity::from_store(&store, name).unwrap()
    }

    fn trust(&self, roots: &str) -> Trust {
        let lists = Lists { files: vec![], stale: Stale::Accept, notify: Arc::new(|_| {}) };
        Trust::read(&[self.path(roots)], lists).unwrap()
    }

    fn gm(&self, name: Option<&str>) -> ClientConfig {
        let identity = name.map(|name| self.identity(name));
        client(Suite::Gm, &self.trust("sm-ca.pem"), identity.as_ref()).unwrap()
    }

    fn classical(&self) -> ClientConfig {
        client(Suite::Classical, &self.trust("classical.pem"), None).unwrap()
    }

    /// `classical.pem` signs itself, `server.pem` and `server.key` are by it.
    fn make_classical(&self) {
        std::fs::write(self.path("openssl.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
        let common = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -config openssl.cnf";
        for own in [
            "-keyout ca.key -out classical.pem -subj /CN=ca -addext basicConstraints=critical,CA:TRUE",
            "-keyout server.key -out server.pem -subj /CN=server -CA classical.pem -CAkey ca.key \
             -addext basicConstraints=CA:FALSE -addext subjectAltName=IP:127.0.0.1",
        ] {
            let args = common.split_whitespace().chain(own.split_whitespace());
            let made = Command::new("openssl").args(args).current_dir(&self.folder).output();
            let made = made.expect("openssl is installed: tests/run sees to it");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
    }
}

/// Replaces in a configuration file.
fn edit(world: &World, file: &str, edits: &[(&str, &str)]) {
    let path = world.path().join(file);
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (old, new) in edits {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    std::fs::write(path, text).unwrap();
}

async fn start(world: &World) -> Gateway {
    let config = world.config().unwrap();
    Gateway::start(config, world.domain(), Arc::new(SystemClock)).await.unwrap()
}

/// Pushes one row over a connection of its own.
async fn push(
    at: SocketAddr,
    config: ClientConfig,
    token: &str,
    row: u64,
) -> io::Result<(u16, Value)> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::from(at.ip());
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let body = ndjson([Row::new(row)]);
    let request = format!(
        "POST /api/v1/messages HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).map_err(io::Error::other)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, serde_json::from_str(body)?))
}

/// What stopped a handshake.
fn cause(error: io::Error) -> String {
    error.to_string()
}

#[test]
fn a_certificate_made_later_than_its_ca_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::valid_from(folder.path(), UnixSeconds(now().0 - 86_400));
    ca.give("late");
    let file = std::fs::read(ca.path("late.pem")).unwrap();
    let late = Certificate::from_file(&file).unwrap().remove(0);
    assert_eq!(late.not_after(), ca.certificate.not_after());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_takes_both_and_a_certificate_is_its_agency_s() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let ca = Ca::new(world.path(), &["tls", "agency", "other", "stranger"]);
    ca.make_classical();
    let listen = "listen: { address: \"127.0.0.1:0\", tls: { policy: either, cert: server.pem, \
                  key: server.key, gm-key: tls, clients: optional, roots: sm-ca.pem, crls: sm.crl } }";
    edit(&world, "gateway.yaml", &[("listen: { address: \"127.0.0.1:0\" }", listen)]);
    std::fs::write(world.path().join("other-token"), OTHER_TOKEN).unwrap();
    let agencies = "made: { name: 样例局, client-certificates: agency.pem }\n  \
                    open: { name: 未登记证书的局 }\n  other: { name: 另一局, client-certificates: other.pem }";
    let feed = |id: &str, agency: &str, token: &str| {
        format!(
            "feeds:\n  {id}: {{ agency: {agency}, mapping: made-ndjson, targets: [platform], \
             source: {{ kind: push, params: {{ token: {{ file: {token} }} }} }} }}\n"
        )
    };
    std::fs::write(world.path().join("third-token"), "a-third-token-for-tests").unwrap();
    let more = feed("open", "open", "other-token");
    let third = feed("third", "other", "third-token").replace("feeds:\n", "");
    edit(
        &world,
        "feeds.yaml",
        &[("made: { name: 样例局 }", agencies), ("feeds:\n", &(more + &third))],
    );
    let gateway = start(&world).await;
    let at = gateway.push_address().unwrap();

    // Its own certificate, over national TLS.
    assert_eq!(push(at, ca.gm(Some("agency")), TOKEN, 1).await.unwrap().0, 201);
    // An agency that registered none, over both, with or without a certificate nobody registered.
    assert_eq!(push(at, ca.classical(), OTHER_TOKEN, 2).await.unwrap().0, 201);
    assert_eq!(push(at, ca.gm(None), OTHER_TOKEN, 3).await.unwrap().0, 201);
    assert_eq!(push(at, ca.gm(Some("stranger")), OTHER_TOKEN, 4).await.unwrap().0, 201);
    // Another agency's certificate, none, and one that nobody registered.
    for (config, token) in [
        (ca.gm(Some("other")), TOKEN),
        (ca.gm(Some("other")), OTHER_TOKEN),
        (ca.gm(Some("stranger")), TOKEN),
        (ca.gm(None), TOKEN),
        (ca.classical(), TOKEN),
    ] {
        let (status, body) = push(at, config, token, 5).await.unwrap();
        assert_eq!((status, &body["code"]), (403, &"http.client-certificate".into()), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("登记"), "{body}");
    }
    // A wrong token tells nothing of certificates.
    assert_eq!(push(at, ca.gm(Some("agency")), "nonsense", 5).await.unwrap().0, 401);

    // Revoked while the gateway runs.
    ca.revoke(&["agency"]);
    let refused = push(at, ca.gm(Some("agency")), TOKEN, 6).await.unwrap_err();
    assert!(cause(refused).contains("CertificateRevoked"));
    ca.revoke(&[]);
    assert_eq!(push(at, ca.gm(Some("agency")), TOKEN, 7).await.unwrap().0, 201);

    until("all is delivered", || at_rest(gateway.store()) && platform.ledger().len() == 5).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_national_port_refuses_classical_clients_and_those_without_certificate() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let ca = Ca::new(world.path(), &["tls", "agency"]);
    ca.make_classical();
    let listen = "listen: { address: \"127.0.0.1:0\", tls: { policy: gm, gm-key: tls, \
                  clients: required, roots: sm-ca.pem, crls: sm.crl, stale-crls: refuse } }";
    edit(&world, "gateway.yaml", &[("listen: { address: \"127.0.0.1:0\" }", listen)]);
    let gateway = start(&world).await;
    let at = gateway.push_address().unwrap();
    let refused = push(at, ca.classical(), TOKEN, 1).await.unwrap_err();
    assert!(cause(refused).contains("InsufficientSecurity"));
    let refused = push(at, ca.gm(None), TOKEN, 1).await.unwrap_err();
    assert!(cause(refused).contains("CertificateRequired"));
    assert_eq!(push(at, ca.gm(Some("agency")), TOKEN, 1).await.unwrap().0, 201);
    gateway.stop().await;
}

/// National TLS in front of a platform; counts the certificates it was shown.
struct Front {
    at: SocketAddr,
    shown: Arc<Mutex<Vec<[u8; 32]>>>,
}

impl Front {
    async fn start(server: Server, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let shown: Arc<Mutex<Vec<[u8; 32]>>> = Arc::default();
        let (server, seen) = (Arc::new(server), Arc::clone(&shown));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, seen) = (Arc::clone(&server), Arc::clone(&seen));
                tokio::spawn(async move {
                    let start = LazyConfigAcceptor::new(Default::default(), stream).await?;
                    let config = server.choose(&start.client_hello());
                    let config = config.map_err(|_| io::Error::other("refused"))?;
                    let mut stream = start.into_stream(config).await?;
                    let shown = stream.get_ref().1.peer_certificates();
                    seen.lock()
                        .unwrap()
                        .extend(shown.and_then(xinqiao_crypto::tls::peer_fingerprint));
                    let mut behind = TcpStream::connect(behind).await?;
                    tokio::io::copy_bidirectional(&mut stream, &mut behind).await
                });
            }
        });
        Self { at, shown }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_out_over_national_tls_with_the_gateway_s_certificate() {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let theirs = Ca::new(folder.path(), &["platform"]);
    let options = |ca: &Ca, clients| ServerOptions {
        policy: Policy::Gm,
        classical: None,
        gm: Some(ca.identity("platform")),
        clients,
        alpn: vec![],
    };
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let ours = Ca::new(world.path(), &["out"]);
    let required = Clients::Required(ours.trust("sm-ca.pem"));
    let server = Server::new(&options(&theirs, required)).unwrap();
    let front = Front::start(server, platform.address()).await;
    for file in ["sm-ca.pem", "sm.crl"] {
        let to = world.path().join(format!("platform-{file}"));
        std::fs::copy(folder.path().join(file), to).unwrap();
    }
    let plain = format!("http://{}", platform.address());
    let tls = "retry-base-millis: 20\n    tls: { policy: gm, gm-key: out, roots: platform-sm-ca.pem, \
               crls: platform-sm.crl, stale-crls: refuse }";
    let edits = [(&*plain, &*format!("https://{}", front.at)), ("retry-base-millis: 20", tls)];
    edit(&world, "gateway.yaml", &edits);
    let gateway = start(&world).await;
    world.put("in", "a.csv", &xinqiao_tests::csv((0..20).map(Row::new))).unwrap();
    until("all is delivered", || platform.ledger().len() == 20 && at_rest(gateway.store())).await;
    let own = std::fs::read(world.path().join("out.pem")).unwrap();
    let own = Certificate::from_file(&own).unwrap().remove(0);
    let shown = front.shown.lock().unwrap().clone();
    assert!(!shown.is_empty());
    assert!(shown.iter().all(|one| *one == xinqiao_crypto::sm3(own.to_der())));
    gateway.stop().await;
}

#[test]
fn what_is_wrong_with_a_tls_section_is_told_at_its_place() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let ca = Ca::new(world.path(), &["tls"]);
    ca.make_classical();
    let listen = "listen: { address: \"127.0.0.1:0\" }";
    let path = world.path().join("gateway.yaml");
    let good = std::fs::read_to_string(&path).unwrap();
    for (tls, expect) in [
        ("policy: gmm", "应为 classical、gm、either"),
        ("policy: gm", "没有给出相应的证书与密钥"),
        ("policy: gm, gm-key: Tls", "密钥名应形如"),
        ("cert: server.pem", "cert 与 key 须同时给出"),
        ("cert: server.pem, key: server.key, gm-key: tls", "策略不用它"),
        ("policy: gm, gm-key: tls, clients: required", "须用 roots"),
        ("policy: gm, gm-key: tls, crls: sm.crl", "须同时写 clients"),
        ("policy: gm, gm-key: tls, clients: optional, roots: sm-ca.pem, stale-crls: x", "accept"),
    ] {
        let with = format!("listen: {{ address: \"127.0.0.1:0\", tls: {{ {tls} }} }}");
        std::fs::write(&path, good.replace(listen, &with)).unwrap();
        let told = world.config().err().unwrap_or_else(|| panic!("{tls}")).to_string();
        assert!(told.contains(expect) && told.contains("gateway.yaml"), "{tls}: {told}");
    }
    for (url, tls, expect) in [
        ("https://a/", "policy: either, roots: sm-ca.pem", "应为 classical、gm"),
        ("https://a/", "policy: gm, roots: []", "没有给出用来验证对方的根证书"),
        ("https://a/", "policy: gm, roots: none.pem", "none.pem"),
        ("https://a/", "policy: gm, roots: sm-ca.pem, crls: sm-ca.pem", "没有可用的吊销列表"),
        ("https://a/", "policy: gm, roots: sm-ca.pem, gm-key: absent", "没有签名密钥 absent"),
        ("https://a/", "policy: classical, roots: sm-ca.pem, gm-key: tls", "策略不用它"),
        ("http://a/", "policy: gm, roots: sm-ca.pem", "地址须都是 https"),
    ] {
        let with = format!("params: {{ url: \"{url}\" }}\n    tls: {{ {tls} }}");
        std::fs::write(&path, good.replace("params: { url: \"http://127.0.0.1:9/\" }", &with))
            .unwrap();
        let told = world.config().err().unwrap_or_else(|| panic!("{tls}")).to_string();
        assert!(told.contains(expect) && told.contains("gateway.yaml"), "{tls}: {told}");
    }
    // A certificate that would never be asked for.
    std::fs::write(&path, &good).unwrap();
    let named = "made: { name: 样例局, client-certificates: tls.pem }";
    edit(&world, "feeds.yaml", &[("made: { name: 样例局 }", named)]);
    let told = world.config().err().unwrap().to_string();
    assert!(told.contains("客户端不会出示证书"), "{told}");
}
