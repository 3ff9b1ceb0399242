//! TLS by RFC 8998 with OpenSSL 4 and Tongsuo, over real sockets: who talks to whom, with which
//! suite, and who is turned away.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection, Stream};
use xinqiao_crypto::keystore::{FileKeyStore, KeyFolder, KeyStore, KeyUse};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::tls::{
    CURVE_SM2, Clients, Identity, Lists, Policy, Refusal, SM4_GCM_SM3, Server, ServerOptions,
    Stale, Suite, Trust, client,
};
use xinqiao_crypto::x509::crl::{Crl, Revoked};
use xinqiao_crypto::x509::issue::{Role, Template, issue};
use xinqiao_crypto::x509::{Certificate, parse_name};
use xinqiao_tests::peers::Peer;

use crate::material::{Desk, key, now, root};

const PEERS: [Peer; 2] = [Peer::Openssl, Peer::Tongsuo];
const HOST: &str = "gateway.test";
const PASSPHRASE: &[u8] = b"1234";
/// What a peer's command line offers: national only, classical only, or both.
const GM: &str = "-ciphersuites TLS_SM4_GCM_SM3 -groups curveSM2 -sigalgs sm2sig_sm3";
const CLASSICAL: &str = "-ciphersuites TLS_AES_128_GCM_SHA256 -groups X25519";
const BOTH: &str = "-ciphersuites TLS_AES_128_GCM_SHA256:TLS_SM4_GCM_SM3 -groups X25519:curveSM2 \
                    -sigalgs ecdsa_secp256r1_sha256:sm2sig_sm3";

/// Keys and certificates of both sides under one root, at a peer's desk.
struct Pki {
    desk: Desk,
    root: Certificate,
    root_key: PrivateKey,
    client: Certificate,
    store: Arc<dyn KeyStore>,
}

impl Pki {
    fn new(peer: Peer) -> Self {
        let (desk, root_key) = (Desk::new(peer), key());
        let root = root(&root_key);
        desk.write("root.pem", root.to_pem());
        let folder = desk.path("keys");
        std::fs::create_dir(&folder).unwrap();
        let keys = KeyFolder::new(&folder, PASSPHRASE).unwrap();
        let [_, client] = ["server", "client"].map(|name| {
            let key = key();
            let subject = parse_name(&format!("CN={name},C=CN")).unwrap();
            let mut template = Template::new(subject, Role::Signing, root.not_before(), 20);
            template.host_names = vec![HOST.to_owned()];
            let own = issue(&template, key.public_key(), &root, &root_key).unwrap();
            desk.write(&format!("{name}.pem"), own.to_pem());
            desk.write_key(&format!("{name}.key"), &key);
            let id = keys.add(name, KeyUse::Sign, &key).unwrap();
            keys.put_chain(&id, &[own.clone(), root.clone()]).unwrap();
            own
        });
        let store = Arc::new(FileKeyStore::open(&folder, PASSPHRASE).unwrap());
        Self { desk, root, root_key, client, store }
    }

    fn identity(&self, name: &str) -> Identity {
        Identity::from_store(&self.store, name).unwrap()
    }

    /// Believes the root; where there is a list, by it.
    fn trust(&self, list: Option<&[Revoked]>) -> Trust {
        let files = list.map(|revoked| {
            let (from, issuer) = (self.root.not_before(), &self.root);
            let list = Crl::issue(issuer, &self.root_key, revoked, 1, from, from.plus_days(9));
            self.desk.write("list.pem", list.unwrap().to_pem());
            self.desk.path("list.pem")
        });
        let files = files.into_iter().collect();
        let lists = Lists { files, stale: Stale::Refuse, notify: Arc::new(|_| {}) };
        Trust::read(&[self.desk.path("root.pem")], lists).unwrap()
    }

    fn server(&self, policy: Policy, clients: Clients) -> Server {
        let classical = (policy != Policy::Gm).then(|| self.classical());
        let gm = (policy != Policy::Classical).then(|| self.identity("server"));
        Server::new(&ServerOptions { policy, classical, gm, clients, alpn: Vec::new() }).unwrap()
    }

    /// An ECDSA certificate of its own, made by the peer.
    fn classical(&self) -> Identity {
        self.desk.write("req.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
        self.desk.ok(
            "req -x509 -newkey ec -nodes -days 9 -pkeyopt ec_paramgen_curve:P-256 -config req.cnf \
             -subj /CN=classical -addext subjectAltName=DNS:gateway.test -keyout ec.key -out ec.pem",
        );
        Identity::from_files(&self.desk.path("ec.pem"), &self.desk.path("ec.key")).unwrap()
    }
}

/// What our server saw of a connection.
#[derive(Debug, PartialEq)]
enum Seen {
    Talked { gm: bool, kind: HandshakeKind, client: Option<Vec<u8>> },
    Refused(&'static str),
    Failed,
}

/// Starts our server for one connection; gives its port and what it will have seen.
fn serve(server: &Arc<Server>) -> (u16, thread::JoinHandle<Seen>) {
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").unwrap(), Arc::clone(server));
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || answer(listener.accept().unwrap().0, &server)))
}

/// Shakes hands and answers `ping` with `pong`.
fn answer(mut socket: TcpStream, server: &Server) -> Seen {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        if acceptor.read_tls(&mut socket).unwrap() == 0 {
            return Seen::Failed;
        }
        if let Some(accepted) = acceptor.accept().unwrap_or_else(|(e, _)| panic!("{e}")) {
            break accepted;
        }
    };
    let config = match server.choose(&accepted.client_hello()) {
        Ok(config) => config,
        Err(refusal) => {
            socket.write_all(&Refusal::ALERT).unwrap();
            return Seen::Refused(refusal.code());
        }
    };
    let Ok(mut connection) = accepted.into_connection(config) else { return Seen::Failed };
    let mut line = [0; 5];
    let talked = Stream::new(&mut connection, &mut socket).read_exact(&mut line);
    if talked.is_err() || server.recheck(&connection).is_err() {
        let _ = connection.complete_io(&mut socket);
        return Seen::Failed;
    }
    assert_eq!(&line, b"ping\n");
    Stream::new(&mut connection, &mut socket).write_all(b"pong\n").unwrap();
    connection.send_close_notify();
    connection.complete_io(&mut socket).unwrap();
    seen(&connection)
}

fn seen(connection: &ServerConnection) -> Seen {
    let gm = connection.negotiated_cipher_suite().unwrap().suite() == SM4_GCM_SM3;
    let group = connection.negotiated_key_exchange_group();
    // A resumed session may do without one.
    assert!(group.is_none_or(|group| (group.name() == CURVE_SM2) == gm));
    let client = connection.peer_certificates().map(|all| all[0].to_vec());
    Seen::Talked { gm, kind: connection.handshake_kind().unwrap(), client }
}

/// The peer calls our server; whether it was content, and what our server saw.
fn call(pki: &Pki, server: &Arc<Server>, arguments: &str) -> (bool, Seen) {
    let (port, seen) = serve(server);
    let arguments = format!(
        "s_client -connect 127.0.0.1:{port} -servername {HOST} -verify_hostname {HOST} -tls1_3 \
         -verify_return_error -CAfile root.pem -ign_eof {arguments}"
    );
    let (good, text) = pki.desk.run_with(&arguments, b"ping\n");
    let seen = seen.join().unwrap();
    assert_eq!(text.contains("pong"), matches!(seen, Seen::Talked { .. }), "{seen:?} {text}");
    (good && text.contains("pong"), seen)
}

fn full(client: Option<&Certificate>) -> Seen {
    let client = client.map(|one| one.to_der().to_vec());
    Seen::Talked { gm: true, kind: HandshakeKind::Full, client }
}

#[test]
fn their_clients_reach_our_server() {
    for peer in PEERS {
        let pki = Pki::new(peer);
        let open = Arc::new(pki.server(Policy::Gm, Clients::Unasked));
        assert_eq!(call(&pki, &open, GM), (true, full(None)), "{peer:?}");
        let saved = call(&pki, &open, &format!("{GM} -sess_out session"));
        assert_eq!(saved, (true, full(None)), "{peer:?}");
        let (good, seen) = call(&pki, &open, &format!("{GM} -sess_in session"));
        let resumed = Seen::Talked { gm: true, kind: HandshakeKind::Resumed, client: None };
        assert_eq!((good, seen), (true, resumed), "{peer:?}");
        // Our certificate is not of the root they believe.
        let strange = Pki::new(peer);
        let (good, seen) = call(&strange, &open, GM);
        assert_eq!((good, seen), (false, Seen::Failed), "{peer:?}");
    }
}

#[test]
fn their_clients_show_certificates_to_our_server() {
    for peer in PEERS {
        let pki = Pki::new(peer);
        let required =
            |revoked| Arc::new(pki.server(Policy::Gm, Clients::Required(pki.trust(Some(revoked)))));
        let server = required(&[]);
        let own = format!("{GM} -cert client.pem -key client.key");
        assert_eq!(call(&pki, &server, &own), (true, full(Some(&pki.client))), "{peer:?}");
        assert_eq!(call(&pki, &server, GM), (false, Seen::Failed), "{peer:?} without");
        let (strange, from) = (Pki::new(peer), pki.root.not_before());
        pki.desk.write("client.pem", strange.desk.read("client.pem"));
        pki.desk.write("client.key", strange.desk.read("client.key"));
        assert_eq!(call(&pki, &server, &own), (false, Seen::Failed), "{peer:?} a stranger");

        let pki = strange;
        let serial = pki.client.serial().to_vec();
        let revoked = [Revoked { serial, at: from, reason: None }];
        let trust = pki.trust(Some(&revoked));
        let server = Arc::new(pki.server(Policy::Gm, Clients::Required(trust)));
        assert_eq!(call(&pki, &server, &own), (false, Seen::Failed), "{peer:?} revoked");
    }
}

#[test]
fn our_policy_meets_their_clients() {
    for peer in PEERS {
        let pki = Pki::new(peer);
        let talked = |gm| Seen::Talked { gm, kind: HandshakeKind::Full, client: None };
        for (policy, offer, expected) in [
            (Policy::Gm, CLASSICAL, Seen::Refused("tls.downgrade-refused")),
            (Policy::Gm, BOTH, talked(true)),
            (Policy::Classical, GM, Seen::Refused("tls.nothing-in-common")),
            (Policy::Either, GM, talked(true)),
            (Policy::Either, BOTH, talked(true)),
            (Policy::Either, CLASSICAL, talked(false)),
        ] {
            let server = Arc::new(pki.server(policy, Clients::Unasked));
            // The classical certificate is its own root; the file was written with it.
            let root =
                if offer == CLASSICAL && policy == Policy::Either { "ec.pem" } else { "root.pem" };
            let (good, seen) = call(&pki, &server, &format!("{offer} -CAfile {root}"));
            assert_eq!(
                good,
                matches!(expected, Seen::Talked { .. }),
                "{peer:?} {policy:?} {offer}"
            );
            // HelloRetryRequest: their first guess is X25519.
            let again = Seen::Talked {
                gm: true,
                kind: HandshakeKind::FullWithHelloRetryRequest,
                client: None,
            };
            assert!(
                seen == expected || (offer == BOTH && seen == again),
                "{peer:?} {policy:?} {seen:?}"
            );
        }
    }
}

/// A peer that listens. Ends when dropped.
struct Listening {
    child: Child,
    port: u16,
}

impl Listening {
    fn new(pki: &Pki, arguments: &str) -> Self {
        let arguments = format!("s_server -accept 0 -rev -tls1_3 {arguments}");
        let mut child = Command::new(pki.desk.peer.program().unwrap())
            .args(arguments.split_whitespace())
            .current_dir(pki.desk.path("."))
            .env("OPENSSL_CONF", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "s_server does not listen");
            if let Some((_, port)) = line.trim_end().rsplit_once(':')
                && line.starts_with("ACCEPT")
            {
                break port.parse().unwrap();
            }
        };
        // It says a line for every connection, which somebody must take.
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, port }
    }

    /// Our client calls: how the handshake went, or that it failed.
    fn call(&self, config: &Arc<ClientConfig>) -> Result<HandshakeKind, std::io::Error> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let name = ServerName::try_from(HOST).unwrap();
        let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        stream.write_all(b"ping\n")?;
        let mut line = [0; 5];
        stream.read_exact(&mut line)?;
        assert_eq!(&line, b"gnip\n");
        assert_eq!(connection.negotiated_cipher_suite().unwrap().suite(), SM4_GCM_SM3);
        connection.send_close_notify();
        connection.complete_io(&mut socket)?;
        Ok(connection.handshake_kind().unwrap())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn our_client_reaches_their_servers() {
    for peer in PEERS {
        let pki = Pki::new(peer);
        let calling = |trust: &Trust, name: Option<&str>| {
            let identity = name.map(|name| pki.identity(name));
            Arc::new(client(Suite::Gm, trust, identity.as_ref()).unwrap())
        };
        let plain = calling(&pki.trust(None), None);
        let open = Listening::new(&pki, &format!("{GM} -cert server.pem -key server.key"));
        assert_eq!(open.call(&plain).unwrap(), HandshakeKind::Full, "{peer:?}");
        assert_eq!(open.call(&plain).unwrap(), HandshakeKind::Resumed, "{peer:?}");
        // Of another root, or revoked.
        let strange = calling(&Pki::new(peer).trust(None), None);
        assert!(open.call(&strange).is_err(), "{peer:?}");
        let server = pki.desk.certificate("server.pem");
        let serial = server.serial().to_vec();
        let revoked = [Revoked { serial, at: now(), reason: None }];
        assert!(open.call(&calling(&pki.trust(Some(&revoked)), None)).is_err(), "{peer:?}");

        let asking = format!("{GM} -cert server.pem -key server.key -Verify 2 -CAfile root.pem");
        let asking = Listening::new(&pki, &format!("{asking} -verify_return_error"));
        let shown = calling(&pki.trust(None), Some("client"));
        assert_eq!(asking.call(&shown).unwrap(), HandshakeKind::Full, "{peer:?}");
        assert!(asking.call(&plain).is_err(), "{peer:?} without a certificate");

        // A national client is not talked down: it does not speak with a classical server.
        drop(pki.classical());
        let classical = Listening::new(&pki, &format!("{CLASSICAL} -cert ec.pem -key ec.key"));
        assert!(classical.call(&plain).is_err(), "{peer:?}");
    }
}
