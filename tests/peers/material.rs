//! What the tests share: random bytes, keys as drivers take them, a folder for command lines.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use tempfile::TempDir;
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_crypto::{pem, pkcs8};
use xinqiao_tests::peers::Peer;

/// The id of certificates and envelopes, as drivers take it.
pub(crate) const ID: &[u8] = b"1234567812345678";

pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// d‖04‖x‖y.
pub(crate) fn private(key: &PrivateKey) -> Vec<u8> {
    [&key.to_bytes()[..], &key.public_key().to_sec1()].concat()
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

pub(crate) fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.unwrap().as_secs())
}

/// A root of ours.
pub(crate) fn root(key: &PrivateKey) -> Certificate {
    issue_self_signed(&template("root", Role::Ca { path_length: None }), key).unwrap()
}

/// A certificate of ours.
pub(crate) fn certificate(
    name: &str,
    role: Role,
    key: &PrivateKey,
    by: (&Certificate, &PrivateKey),
) -> Certificate {
    issue(&template(name, role), key.public_key(), by.0, by.1).unwrap()
}

/// Valid from an hour ago, so that no clock disagrees.
fn template(name: &str, role: Role) -> Template {
    let name = parse_name(&format!("CN={name},O=测试市信用办,C=CN")).unwrap();
    let days = if matches!(role, Role::Ca { .. }) { 60 } else { 30 };
    Template::new(name, role, UnixSeconds(now().0 / 3600 * 3600 - 3600), days)
}

/// A peer's command line, in a folder of its own.
pub(crate) struct Desk {
    pub(crate) peer: Peer,
    folder: TempDir,
}

impl Desk {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn open(&self, name: &str) -> fs::File {
        fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(name))
            .unwrap()
    }

    /// A key of ours, in clear.
    pub(crate) fn write_key(&self, name: &str, key: &PrivateKey) {
        self.write(name, pem::encode("PRIVATE KEY", &pkcs8::encode_plain(key)).as_bytes());
    }

    /// A key of ours, under `passphrase`.
    pub(crate) fn write_encrypted_key(&self, name: &str, key: &PrivateKey, passphrase: &str) {
        let der = pkcs8::encrypt(key, passphrase.as_bytes()).unwrap();
        self.write(name, pem::encode(pkcs8::ENCRYPTED_LABEL, &der).as_bytes());
    }

    /// The one certificate in a file.
    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        let mut all = Certificate::from_file(&self.read(name)).unwrap();
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    }

    /// Runs the program with arguments that stand between blanks; whether it was content, and what
    /// it said.
    pub(crate) fn run(&self, arguments: &str) -> (bool, String) {
        self.run_with(arguments, b"")
    }

    /// As [`Self::run`], with a few bytes to read.
    pub(crate) fn run_with(&self, arguments: &str, input: &[u8]) -> (bool, String) {
        let program = self.peer.program().unwrap();
        let mut child = Command::new(&program)
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("OPENSSL_CONF", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; run tests/peers/build", program.display()));
        // A program that refuses at once does not read.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) fn ok(&self, arguments: &str) -> String {
        let (good, text) = self.run(arguments);
        assert!(good, "{} {arguments}: {text}", self.peer.name());
        text
    }

    pub(crate) fn refused(&self, arguments: &str) {
        let (good, text) = self.run(arguments);
        assert!(!good, "{} {arguments} should refuse: {text}", self.peer.name());
    }
}
