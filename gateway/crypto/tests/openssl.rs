//! OpenSSL reads what we write and we read what it writes. Fails where `openssl` is not installed.
//!
//! OpenSSL 3 takes an *empty* signer id unless told (`distid`), and has neither SM4-GCM nor
//! HMAC-SM3 in key files: the former is compared elsewhere, the latter is written for GmSSL.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails if its own material cannot be made, or openssl is missing"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;
use xinqiao_crypto::pem;
use xinqiao_crypto::sm2::{PrivateKey, Signature, SignerId};
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::x509::chain::{ChainReason, Purpose, Revocation, Trust, verify};
use xinqiao_crypto::x509::crl::{Crl, Revoked};
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::request::Request;
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_crypto::{cbc, hex, pkcs8};

const ID: &str = "distid:1234567812345678";

/// A folder in which `openssl` runs.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    /// A key of ours, in clear, as `name`.
    fn write_key(&self, name: &str, key: &PrivateKey) {
        let der = pkcs8::encode_plain(key);
        self.write(name, pem::encode("PRIVATE KEY", &der).as_bytes());
    }

    /// A key of theirs.
    fn make_key(&self, name: &str) -> PrivateKey {
        self.ok(&["genpkey", "-algorithm", "SM2", "-out", name]);
        pkcs8::read_plain(&self.read(name)).unwrap()
    }

    fn runs(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.path())
            .env("OPENSSL_CONF", "/dev/null")
            .output()
            .expect("openssl must be installed");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (good, text) = self.runs(arguments);
        assert!(good, "openssl {arguments:?}: {text}");
        text
    }

    fn refused(&self, arguments: &[&str]) {
        let (good, _) = self.runs(arguments);
        assert!(!good, "openssl {arguments:?} should refuse");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[expect(clippy::disallowed_methods, reason = "openssl takes this time too")]
fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.unwrap().as_secs())
}

#[test]
fn signatures_verify_both_ways() {
    let bench = Bench::new();
    let key = bench.make_key("key.pem");
    bench.ok(&["pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"]);
    bench.write("m", "报文");
    let id = SignerId::STANDARD;
    let with = |mode: &'static str, file: &'static str, id: &'static str| {
        let (key, name) = match mode {
            "-sign" => ("key.pem", "-out"),
            _ => ("pub.pem", "-sigfile"),
        };
        let mut arguments = vec!["pkeyutl", mode, "-rawin", "-digest", "sm3", "-inkey", key];
        if mode == "-verify" {
            arguments.push("-pubin");
        }
        arguments.extend(["-in", "m", name, file, "-pkeyopt", id]);
        arguments
    };
    for round in 0..8 {
        let ours = key.sign(id, "报文".as_bytes()).unwrap();
        bench.write("ours.sig", ours.to_der());
        bench.ok(&with("-verify", "ours.sig", ID));
        bench.ok(&with("-sign", "theirs.sig", ID));
        let theirs = Signature::from_der(&bench.read("theirs.sig")).unwrap();
        let verified = key.public_key().verify(id, "报文".as_bytes(), &theirs);
        assert_eq!(verified, Ok(()), "round {round}");
    }
    bench.refused(&with("-verify", "ours.sig", "distid:other"));
    bench.ok(&with("-sign", "other.sig", "distid:other"));
    let other = Signature::from_der(&bench.read("other.sig")).unwrap();
    let message = "报文".as_bytes();
    assert!(key.public_key().verify(id, message, &other).is_err());
    let named = SignerId::new(b"other").unwrap();
    assert_eq!(key.public_key().verify(named, message, &other), Ok(()));
}

#[test]
fn ciphertexts_open_both_ways() {
    let bench = Bench::new();
    let key = PrivateKey::generate().unwrap();
    bench.write_key("key.pem", &key);
    for zeros in 0..16 {
        let mut session = [0; 16];
        getrandom::fill(&mut session[zeros..]).unwrap();
        bench.write("plain", session);
        bench.write("ours", key.public_key().seal(&session).unwrap());
        bench.ok(&["pkeyutl", "-decrypt", "-inkey", "key.pem", "-in", "ours", "-out", "opened"]);
        assert_eq!(bench.read("opened"), session);
        bench.ok(&["pkeyutl", "-encrypt", "-inkey", "key.pem", "-in", "plain", "-out", "theirs"]);
        assert_eq!(*key.open(&bench.read("theirs")).unwrap(), session);
    }
}

#[test]
fn key_files_are_read_both_ways() {
    let bench = Bench::new();
    let key = PrivateKey::generate().unwrap();
    bench.write_key("ours.pem", &key);
    let text = bench.ok(&["pkey", "-in", "ours.pem", "-noout", "-text"]);
    assert!(text.contains("ASN1 OID: SM2"), "{text}");
    for (cipher, prf) in [
        ("sm4-cbc", "hmacWithSHA256"),
        ("sm4-cbc", "hmacWithSHA1"),
        ("aes-128-cbc", "hmacWithSHA256"),
        ("aes-256-cbc", "hmacWithSHA1"),
    ] {
        bench.ok(&[
            "pkcs8",
            "-topk8",
            "-in",
            "ours.pem",
            "-v2",
            cipher,
            "-v2prf",
            prf,
            "-passout",
            "pass:口令",
            "-out",
            "theirs",
        ]);
        let read = pkcs8::decrypt(&bench.read("theirs"), "口令".as_bytes()).unwrap();
        assert_eq!(read.to_bytes(), key.to_bytes(), "{cipher} {prf}");
        assert!(pkcs8::decrypt(&bench.read("theirs"), b"other").is_err());
    }
    // With the curve in a block of its own before the key, and the older form (SEC1).
    bench.ok(&["ecparam", "-name", "SM2", "-genkey", "-out", "p8.pem"]);
    bench.ok(&["ec", "-in", "p8.pem", "-out", "sec1.pem"]);
    let [pkcs8, sec1] =
        [("p8.pem", "SM2 PARAMETERS"), ("sec1.pem", "SM2 PRIVATE KEY")].map(|(name, label)| {
            let file = bench.read(name);
            assert!(String::from_utf8_lossy(&file).contains(label));
            pkcs8::read_plain(&file).unwrap().to_bytes()
        });
    assert_eq!(sec1, pkcs8);
    // Another curve is another curve.
    bench.ok(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "p256"]);
    assert!(pkcs8::read_plain(&bench.read("p256")).is_err());
}

#[test]
fn sm4_cbc_agrees() {
    let bench = Bench::new();
    let (key, iv) = ([0x2a; 16], [0x17; 16]);
    let plaintext = "一段明文".repeat(100);
    bench.write("plain", &plaintext);
    bench.ok(&[
        "enc",
        "-sm4-cbc",
        "-K",
        &hex(&key),
        "-iv",
        &hex(&iv),
        "-in",
        "plain",
        "-out",
        "theirs",
    ]);
    let ours = cbc::encrypt(&Sm4Key::new(key), &iv, plaintext.as_bytes());
    assert_eq!(bench.read("theirs"), ours);
}

#[test]
fn our_certificates_and_lists_verify_there() {
    let bench = Bench::new();
    let [root_key, ca_key, leaf_key] = [(); 3].map(|()| PrivateKey::generate().unwrap());
    let from = now();
    let name = |text: &str| parse_name(text).unwrap();
    let template = |text: &str, role| Template::new(name(text), role, from, 30);
    let root = template("CN=根,C=CN", Role::Ca { path_length: None });
    let root = issue_self_signed(&root, &root_key).unwrap();
    let ca = Role::Ca { path_length: Some(0) };
    let ca = issue(&template("CN=ca,C=CN", ca), ca_key.public_key(), &root, &root_key).unwrap();
    let mut leaf = template("CN=市住建局,O=测试,C=CN", Role::Signing);
    leaf.host_names = vec!["gateway.example".to_owned()];
    leaf.addresses = vec![std::net::Ipv4Addr::LOCALHOST.into()];
    let leaf = issue(&leaf, leaf_key.public_key(), &ca, &ca_key).unwrap();
    bench.write("root.pem", root.to_pem());
    bench.write("ca.pem", ca.to_pem());
    bench.write("leaf.pem", leaf.to_pem());
    // OpenSSL 3 tells the id to the last certificate only: link by link.
    for (anchor, certificate) in
        [("root.pem", "root.pem"), ("root.pem", "ca.pem"), ("ca.pem", "leaf.pem")]
    {
        let mut arguments = vec!["verify", "-x509_strict", "-partial_chain", "-vfyopt", ID];
        if certificate == "leaf.pem" {
            arguments.extend(["-verify_hostname", "gateway.example"]);
        }
        arguments.extend(["-CAfile", anchor, certificate]);
        bench.ok(&arguments);
    }
    // Without the id OpenSSL 3 verifies with an empty one: proof that ours is in.
    bench.refused(&["verify", "-CAfile", "root.pem", "ca.pem"]);

    // OpenSSL 3 cannot be told the id for a list, so its signature is verified by itself.
    let revoked = Revoked { serial: leaf.serial().to_vec(), at: from, reason: None };
    let list = Crl::issue(&ca, &ca_key, &[revoked], 1, from, from.plus_days(7)).unwrap();
    bench.write("list.der", list.to_der());
    let text = bench.ok(&["crl", "-inform", "DER", "-in", "list.der", "-noout", "-text"]);
    assert!(text.contains(&leaf.serial_hex().to_uppercase()), "{text}");
    let tree = bench.ok(&["asn1parse", "-inform", "DER", "-in", "list.der"]);
    let offset = |kind: &str| {
        let mut lines = tree.lines().filter(|line| line.contains("d=1 "));
        let line = lines.find(|line| line.contains(kind)).unwrap();
        line.split_once(':').unwrap().0.trim().to_owned()
    };
    for (kind, file) in [("SEQUENCE", "tbs"), ("BIT STRING", "sig")] {
        bench.ok(&[
            "asn1parse",
            "-inform",
            "DER",
            "-in",
            "list.der",
            "-strparse",
            &offset(kind),
            "-out",
            file,
            "-noout",
        ]);
    }
    bench.write_key("ca.key", &ca_key);
    bench.ok(&[
        "pkeyutl", "-verify", "-rawin", "-digest", "sm3", "-inkey", "ca.key", "-in", "tbs",
        "-sigfile", "sig", "-pkeyopt", ID,
    ]);

    let request = Request::new(&name("CN=网关"), &leaf_key).unwrap();
    bench.write("r.csr", request.to_pem());
    bench.ok(&["req", "-in", "r.csr", "-verify", "-noout", "-vfyopt", ID]);
}

#[test]
fn their_certificates_and_lists_verify_here() {
    let bench = Bench::new();
    let ca_key = bench.make_key("ca.key");
    let leaf_key = bench.make_key("leaf.key");
    bench.write(
        "ca.cnf",
        "[req]\ndistinguished_name=dn\n[dn]\n[usage]\nkeyUsage=critical,digitalSignature\n\
         basicConstraints=CA:FALSE\n[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\n\
         crlnumber=number\ndefault_md=sm3\ndefault_crl_days=7\n",
    );
    bench.ok(&[
        "req",
        "-x509",
        "-new",
        "-sm3",
        "-sigopt",
        ID,
        "-key",
        "ca.key",
        "-subj",
        "/CN=root",
        "-days",
        "30",
        "-out",
        "ca.pem",
        "-config",
        "ca.cnf",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "subjectKeyIdentifier=hash",
    ]);
    bench.ok(&[
        "req",
        "-new",
        "-sm3",
        "-sigopt",
        ID,
        "-key",
        "leaf.key",
        "-utf8",
        "-subj",
        "/C=CN/CN=市住建局",
        "-out",
        "leaf.csr",
        "-config",
        "ca.cnf",
    ]);
    let request = Request::from_file(&bench.read("leaf.csr")).unwrap();
    assert_eq!(request.public_key(), leaf_key.public_key());
    assert_eq!(request.subject().to_string(), "CN=市住建局,C=CN");
    bench.ok(&[
        "x509",
        "-req",
        "-sm3",
        "-in",
        "leaf.csr",
        "-vfyopt",
        ID,
        "-sigopt",
        ID,
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "10",
        "-extfile",
        "ca.cnf",
        "-extensions",
        "usage",
        "-out",
        "leaf.pem",
    ]);
    let one = |name| {
        let mut all = Certificate::from_file(&bench.read(name)).unwrap();
        assert_eq!(all.len(), 1);
        all.pop().unwrap()
    };
    let (ca, leaf) = (one("ca.pem"), one("leaf.pem"));
    assert_eq!(ca.public_key(), ca_key.public_key());
    bench.write("index.txt", "");
    bench.write("number", "01");
    let list = [
        "ca", "-config", "ca.cnf", "-gencrl", "-keyfile", "ca.key", "-cert", "ca.pem", "-sigopt",
        ID, "-out", "crl.pem",
    ];
    bench.ok(&list);
    let good = Crl::from_file(&bench.read("crl.pem")).unwrap();
    bench.ok(&[
        "ca", "-config", "ca.cnf", "-revoke", "leaf.pem", "-keyfile", "ca.key", "-cert", "ca.pem",
    ]);
    bench.ok(&list);
    let revoked = Crl::from_file(&bench.read("crl.pem")).unwrap();
    let reason = |crls: &[Crl]| {
        let trust = Trust {
            anchors: std::slice::from_ref(&ca),
            revocation: Revocation::Required(crls),
            at: now(),
        };
        let outcome = verify(&leaf, Purpose::Signing, &[], &trust);
        outcome.err().map(|error| error.reason)
    };
    assert_eq!(reason(&good), None);
    assert_eq!(reason(&revoked), Some(ChainReason::Revoked));
    assert_eq!(reason(&[]), Some(ChainReason::NoRevocationList));

    // Signed with the empty id, as OpenSSL 3 does unless told: not a certificate of the standard.
    bench.ok(&[
        "x509",
        "-req",
        "-sm3",
        "-in",
        "leaf.csr",
        "-vfyopt",
        ID,
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-days",
        "10",
        "-extfile",
        "ca.cnf",
        "-extensions",
        "usage",
        "-out",
        "empty.pem",
    ]);
    let empty = one("empty.pem");
    let trust =
        Trust { anchors: std::slice::from_ref(&ca), revocation: Revocation::Unchecked, at: now() };
    let error = verify(&empty, Purpose::Signing, &[], &trust).unwrap_err();
    assert_eq!(error.reason, ChainReason::Signature);
}
