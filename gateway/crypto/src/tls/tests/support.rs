//! A small PKI of each kind, and two ends that talk through memory.

use std::collections::VecDeque;
use std::io::{Cursor, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use zeroize::Zeroizing;

use super::super::*;
use crate::keystore::{KeyEntry, KeyId, KeyStore, KeyUse};
use crate::sm2::{Prehash, PrivateKey, Signature};
use crate::x509::crl::{Crl, Revoked};
use crate::x509::issue::{Role, Template, issue, issue_self_signed};
use crate::x509::{Certificate, UnixSeconds, parse_name};

pub(super) const HOST: &str = "gateway.test";

pub(super) fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

pub(super) fn days_ago(days: u64) -> UnixSeconds {
    UnixSeconds(now().0 - days * 86_400)
}

/// Stands for a device: signs when asked, shows no key, and counts.
#[derive(Default)]
pub(super) struct Device {
    keys: Mutex<Vec<(KeyEntry, Arc<PrivateKey>)>>,
    pub(super) signed: AtomicUsize,
}

impl Device {
    pub(super) fn add(&self, name: &str, key: PrivateKey, chain: Vec<Certificate>) {
        let id = KeyId::new(name, KeyUse::Sign, 1).unwrap();
        let entry = KeyEntry { id, public_key: key.public_key().clone(), chain };
        self.keys.lock().unwrap().push((entry, Arc::new(key)));
    }
}

impl KeyStore for Device {
    fn list(&self) -> Result<Vec<KeyEntry>, KeyStoreError> {
        Ok(self.keys.lock().unwrap().iter().map(|(entry, _)| entry.clone()).collect())
    }

    fn sign(&self, key: &KeyId, e: &Prehash) -> Result<Signature, KeyStoreError> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        let keys = self.keys.lock().unwrap();
        let found = keys.iter().find(|(entry, _)| entry.id == *key);
        let (_, key) = found.ok_or_else(|| KeyStoreError::NotFound(key.clone()))?;
        Ok(key.sign_prehash(e)?)
    }

    fn open(&self, key: &KeyId, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError> {
        Err(KeyStoreError::WrongUse(key.clone()))
    }
}

/// Root → CA → `server` and `client`, their keys in a device; files in a folder.
pub(super) struct Pki {
    pub(super) folder: tempfile::TempDir,
    pub(super) root: Certificate,
    pub(super) root_key: PrivateKey,
    pub(super) ca: Certificate,
    pub(super) ca_key: PrivateKey,
    pub(super) device: Arc<Device>,
    pub(super) notices: Arc<Mutex<Vec<Notice>>>,
}

impl Pki {
    pub(super) fn new() -> Self {
        let (root_key, ca_key) = (key(), key());
        let root = Template::new(name("root"), Role::Ca { path_length: None }, days_ago(900), 2000);
        let root = issue_self_signed(&root, &root_key).unwrap();
        let ca = Template::new(name("ca"), Role::Ca { path_length: Some(0) }, days_ago(900), 1900);
        let ca = issue(&ca, ca_key.public_key(), &root, &root_key).unwrap();
        let pki = Self {
            folder: tempfile::tempdir().unwrap(),
            root,
            root_key,
            ca,
            ca_key,
            device: Arc::default(),
            notices: Arc::default(),
        };
        std::fs::write(pki.path("root.pem"), pki.root.to_pem()).unwrap();
        pki.hold("server", &template("server", Role::Signing));
        pki.hold("client", &template("client", Role::Signing));
        pki.put_lists(&[], days_ago(1));
        pki
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Issues a certificate by the CA for a new key in the device.
    pub(super) fn hold(&self, name: &str, template: &Template) {
        let key = key();
        let own = issue(template, key.public_key(), &self.ca, &self.ca_key).unwrap();
        self.device.add(name, key, vec![own, self.ca.clone()]);
    }

    pub(super) fn store(&self) -> Arc<dyn KeyStore> {
        Arc::clone(&self.device) as _
    }

    pub(super) fn identity(&self, name: &str) -> Identity {
        Identity::from_store(&self.store(), name).unwrap()
    }

    pub(super) fn certificate(&self, name: &str) -> Certificate {
        self.device.current(name, KeyUse::Sign).unwrap().unwrap().chain.remove(0)
    }

    /// Writes lists of both issuers, valid for 30 days from `from`, into place by renaming.
    pub(super) fn put_lists(&self, revoked: &[&Certificate], from: UnixSeconds) {
        let lists = [
            list(&self.root, &self.root_key, revoked, from),
            list(&self.ca, &self.ca_key, revoked, from),
        ];
        self.put_file(&lists.map(|list| list.to_pem()).concat());
    }

    pub(super) fn put_file(&self, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path("lists.pem")).unwrap();
    }

    /// Believes the root, without looking at revocation.
    pub(super) fn plain_trust(&self) -> Trust {
        self.trust_by(&[], Stale::Accept)
    }

    /// Believes the root, by the lists.
    pub(super) fn trust(&self, stale: Stale) -> Trust {
        self.trust_by(&[self.path("lists.pem")], stale)
    }

    fn trust_by(&self, files: &[PathBuf], stale: Stale) -> Trust {
        let notices = Arc::clone(&self.notices);
        let notify: Notify = Arc::new(move |notice| notices.lock().unwrap().push(notice.clone()));
        let lists = Lists { files: files.to_vec(), stale, notify };
        Trust::read(&[self.path("root.pem")], lists).unwrap()
    }

    pub(super) fn codes(&self) -> Vec<String> {
        self.notices.lock().unwrap().iter().map(|notice| notice.code("tls")).collect()
    }

    pub(super) fn server(&self, clients: Clients) -> Server {
        self.server_as("server", clients)
    }

    pub(super) fn server_as(&self, name: &str, clients: Clients) -> Server {
        let gm = Some(self.identity(name));
        let options =
            ServerOptions { policy: Policy::Gm, classical: None, gm, clients, alpn: Vec::new() };
        Server::new(&options).unwrap()
    }

    pub(super) fn client(&self, identity: Option<&str>) -> Arc<ClientConfig> {
        let identity = identity.map(|name| self.identity(name));
        Arc::new(client(Suite::Gm, &self.plain_trust(), identity.as_ref()).unwrap())
    }
}

pub(super) fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn name(name: &str) -> crate::x509::Name {
    parse_name(&format!("CN={name},O=测试市信用办,C=CN")).unwrap()
}

/// Valid since yesterday, for 90 days, as [`HOST`].
pub(super) fn template(holder: &str, role: Role) -> Template {
    let template = Template::new(name(holder), role, days_ago(1), 90);
    Template { host_names: vec![HOST.to_owned()], ..template }
}

fn list(
    issuer: &Certificate,
    key: &PrivateKey,
    revoked: &[&Certificate],
    from: UnixSeconds,
) -> Crl {
    let entry =
        |one: &&Certificate| Revoked { serial: one.serial().to_vec(), at: from, reason: None };
    let mine = revoked.iter().filter(|one| one.issuer() == issuer.subject());
    let entries: Vec<_> = mine.map(entry).collect();
    Crl::issue(issuer, key, &entries, 1, from, from.plus_days(30)).unwrap()
}

/// ECDSA certificates by openssl: `ca.pem`, and chain and key of a server.
pub(super) fn classical(folder: &Path) -> Identity {
    let run = |args: &[&str]| {
        let common = ["req", "-x509", "-newkey", "ec", "-nodes", "-days", "9"];
        let curve = ["-pkeyopt", "ec_paramgen_curve:P-256", "-config", "openssl.cnf"];
        let output = Command::new("openssl")
            .args([&common[..], &curve, args].concat())
            .current_dir(folder)
            .output()
            .expect("openssl is installed: tests/run sees to it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let config = "[req]\ndistinguished_name=dn\n[dn]\n";
    std::fs::write(folder.join("openssl.cnf"), config).unwrap();
    let ca = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca"];
    run(&[&ca[..], &["-addext", "basicConstraints=critical,CA:TRUE"]].concat());
    let issuer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE"];
    let own = ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=server"];
    run(&[&issuer[..], &own, &["-addext", "subjectAltName=DNS:gateway.test"]].concat());
    Identity::from_files(&folder.join("server.pem"), &folder.join("server.key")).unwrap()
}

/// Two ends after a handshake, and what is on the line between them.
pub(super) struct Talk {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// How a handshake failed, as each end saw it.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) client: Option<rustls::Error>,
    pub(super) server: Option<rustls::Error>,
    pub(super) refusal: Option<Refusal>,
}

/// Shakes hands as a listener does: choice by the first message, then the rest, then the recheck.
pub(super) fn shake(server: &Server, client: &Arc<ClientConfig>) -> Result<Talk, Box<Failed>> {
    shake_as(server, client, HOST)
}

pub(super) fn shake_as(
    server: &Server,
    config: &Arc<ClientConfig>,
    host: &'static str,
) -> Result<Talk, Box<Failed>> {
    let name = ServerName::try_from(host).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut hello.as_slice()).unwrap();
    let accepted = acceptor.accept().map_err(|(error, _)| error).unwrap().unwrap();
    let chosen = match server.choose(&accepted.client_hello()) {
        Ok(chosen) => chosen,
        Err(refusal) => {
            let told = feed(&mut client, &Refusal::ALERT);
            return Err(Box::new(Failed {
                client: told.err(),
                server: None,
                refusal: Some(refusal),
            }));
        }
    };
    let mut server_end = match accepted.into_connection(chosen) {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            let mut bytes = Vec::new();
            alert.write_all(&mut bytes).unwrap();
            let told = feed(&mut client, &bytes);
            return Err(Box::new(Failed {
                client: told.err(),
                server: Some(error),
                refusal: None,
            }));
        }
    };
    pump(&mut client, &mut server_end)?;
    let failed = |error| Box::new(Failed { client: None, server: Some(error), refusal: None });
    server.recheck(&server_end).map_err(failed)?;
    Ok(Talk { client, server: server_end })
}

/// Carries bytes until neither end has more to say.
fn pump(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Box<Failed>> {
    let (mut at_client, mut at_server) = (None, None);
    while client.wants_write() || server.wants_write() {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        at_server = at_server.or(feed(server, &up).err());
        while server.wants_write() {
            server.write_tls(&mut down).unwrap();
        }
        at_client = at_client.or(feed(client, &down).err());
    }
    if at_client.is_none() && at_server.is_none() {
        return Ok(());
    }
    Err(Box::new(Failed { client: at_client, server: at_server, refusal: None }))
}

pub(super) fn feed<D>(
    end: &mut impl std::ops::DerefMut<Target = rustls::ConnectionCommon<D>>,
    bytes: &[u8],
) -> Result<(), rustls::Error> {
    let mut bytes = Cursor::new(bytes);
    while usize::try_from(bytes.position()).unwrap() < bytes.get_ref().len() {
        end.read_tls(&mut bytes).unwrap();
        end.process_new_packets()?;
    }
    Ok(())
}

impl Talk {
    /// Sends both ways and reads it back.
    pub(super) fn chat(&mut self, length: usize) {
        let text: VecDeque<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let text = Vec::from(text);
        let mut got = vec![0; length];
        for start in (0..length).step_by(10_000) {
            let part = &text[start..length.min(start + 10_000)];
            self.client.writer().write_all(part).unwrap();
            pump(&mut self.client, &mut self.server).unwrap();
            self.server.reader().read_exact(&mut got[start..start + part.len()]).unwrap();
            self.server.writer().write_all(part).unwrap();
            pump(&mut self.client, &mut self.server).unwrap();
            let mut back = vec![0; part.len()];
            self.client.reader().read_exact(&mut back).unwrap();
            assert_eq!(back, part);
        }
        assert_eq!(got, text);
    }
}
