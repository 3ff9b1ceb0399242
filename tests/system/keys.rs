//! The commands about keys and envelopes, from the real binary.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use xinqiao_crypto::envelope::Signing;
use xinqiao_crypto::keystore::{FileKeyStore, KeyStore as _, KeyUse, StoredKey};
use xinqiao_crypto::receipt::sign_together;
use xinqiao_crypto::x509::issue::{Role, Template, issue};
use xinqiao_crypto::x509::request::Request;
use xinqiao_tests::world::KEYS;

use crate::fault::kill::binary;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a `gateway.yaml` that has no keys yet.
    fn configured() -> Self {
        let folder = Self::new();
        folder.write("gateway.yaml", &format!("config: 1\ndata: data\n{KEYS}\ntargets: {{}}\n"));
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }

    fn run(&self, line: &str) -> Output {
        let args = line.split(' ');
        Command::new(binary()).current_dir(self.path()).args(args).output().unwrap()
    }

    /// Runs a command that must do; its stdout.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; what it says.
    fn told(&self, line: &str) -> String {
        let output = self.run(line);
        assert_ne!(output.status.code(), Some(0), "{line}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs a command that must fail; the code it says.
    fn refused(&self, line: &str) -> String {
        let output = self.run(&format!("{line} --json"));
        assert_ne!(output.status.code(), Some(0), "{line}");
        let told: Value = serde_json::from_slice(&output.stderr).unwrap();
        told["error"]["code"].as_str().unwrap().to_owned()
    }
}

#[test]
fn keys_are_made_certified_rotated_and_shown() {
    let folder = Folder::configured();
    let told = folder.ok("keys init --subject CN=gateway,O=center,C=CN");
    assert!(told.contains("gateway.sign.0001") && told.contains("storage.encrypt.0001"), "{told}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("passphrase")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    // A second time there is nothing to do, and nothing is lost.
    let before = folder.read("keys/gateway.sign.0001.key");
    assert!(folder.ok("keys init --subject CN=other").contains("没有改动"));
    assert_eq!(folder.read("keys/gateway.sign.0001.key"), before);

    let list: Value = serde_json::from_str(&folder.ok("keys list --json")).unwrap();
    let keys: Vec<&str> =
        list.as_array().unwrap().iter().map(|k| k["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["gateway.sign.0001", "gateway.encrypt.0001", "storage.encrypt.0001"]);
    assert_eq!(list[0]["certificate"]["state"], "fine");
    assert!(list[2]["certificate"].is_null());

    // Rotated, requested, issued by an authority, imported: then it is the one in use.
    folder.ok("keys rotate gateway");
    let list: Value = serde_json::from_str(&folder.ok("keys list --json")).unwrap();
    let current = |list: &Value, key: &str| {
        let keys = list.as_array().unwrap();
        keys.iter().find(|k| k["key"] == key).unwrap()["current"].as_bool().unwrap()
    };
    assert!(current(&list, "gateway.sign.0001") && !current(&list, "gateway.sign.0002"));
    folder.ok("keys request gateway.sign.0002 --subject CN=gateway,O=center,C=CN -o sign.csr");
    folder.ok("keys dev-ca ca");
    let passphrase = folder.read("ca/passphrase");
    let store = FileKeyStore::open(&folder.path().join("ca/ca"), &passphrase).unwrap();
    let root = store.current("ca", KeyUse::Sign).unwrap().unwrap();
    let request = Request::from_file(&folder.read("sign.csr")).unwrap();
    let from = root.chain[0].not_before();
    let template = Template::new(request.subject().clone(), Role::Signing, from, 40);
    let signer = StoredKey::new(&store, &root.id).unwrap();
    let own = issue(&template, request.public_key(), &root.chain[0], &signer).unwrap();
    folder.write("sign.crt", &(own.to_pem() + &root.chain[0].to_pem()));
    folder.ok("keys import gateway.sign.0002 sign.crt");
    // It ends in 39 days: worth a warning, and exit 1.
    let output = folder.run("keys list");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("提醒:gateway.sign.0002") && told.contains("不足60天"), "{told}");
    let pem = folder.ok("keys export-cert gateway.sign.0002 --chain");
    assert_eq!(pem.matches("BEGIN CERTIFICATE").count(), 2);

    // What does not belong together is refused.
    assert_eq!(folder.refused("keys import gateway.encrypt.0001 sign.crt"), "keys.failed");
    assert_eq!(folder.refused("keys import gateway.sign.0001 sign.crt"), "keys.failed");
    assert_eq!(folder.refused("keys export-cert gateway.sign.0009"), "keys.failed");
    assert_eq!(folder.refused("keys rotate nobody"), "keys.failed");
}

#[test]
fn a_lost_storage_key_is_not_made_anew() {
    let folder = Folder::configured();
    folder.ok("keys init --subject CN=gateway");
    // A store, as far as anybody looks before it is opened.
    std::fs::create_dir(folder.path().join("data")).unwrap();
    folder.write("data/store.redb", "");
    assert!(folder.ok("keys init --subject CN=gateway").contains("没有改动"));
    // The passphrase is lost: another would open nothing.
    let passphrase = folder.path().join("passphrase");
    std::fs::rename(&passphrase, folder.path().join("aside")).unwrap();
    let told = folder.told("keys init --subject CN=gateway");
    assert!(told.contains("请从备份恢复"), "{told}");
    assert!(!passphrase.is_file());
    // The keys are lost.
    std::fs::remove_dir_all(folder.path().join("keys")).unwrap();
    let told = folder.told("keys init --subject CN=gateway");
    assert!(told.contains("从备份恢复密钥目录"), "{told}");
    assert!(!folder.path().join("keys").is_dir() && !passphrase.is_file());
    std::fs::rename(folder.path().join("aside"), &passphrase).unwrap();
    folder.write("feeds.yaml", "config: 1\nagencies: {}\nfeeds: {}\n");
    let told = folder.told("serve");
    assert!(told.contains("从备份恢复密钥目录") && !told.contains("keys init"), "{told}");
}

#[test]
fn what_is_wrong_with_a_key_is_said_plainly() {
    let folder = Folder::configured();
    folder.ok("keys init --subject CN=gateway");
    let request = "keys request gateway.sign.0001 --subject CN=gateway -o";
    assert!(folder.ok(&format!("{request} sign.csr")).contains("已写到 sign.csr"));
    let json: Value =
        serde_json::from_str(&folder.ok(&format!("{request} two.csr --json"))).unwrap();
    assert_eq!(json["written"], "two.csr");
    let told = folder.told("keys import gateway.sign.0001 sign.csr");
    assert!(told.contains("这是证书申请"), "{told}");
    folder.write("notes.txt", "nothing of the kind\n");
    let told = folder.told("keys import gateway.sign.0001 notes.txt");
    assert!(told.contains("既不是证书,也不是私钥"), "{told}");
    let told = folder.told("keys new Bad_Name");
    assert!(told.contains("密钥名称 Bad_Name 不可用") && told.contains("小写字母"), "{told}");
    let pem = folder.ok("keys export-cert gateway.sign.0001");
    folder.write("own.crt", &pem);
    let json = folder.ok("keys import gateway.sign.0001 own.crt --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["certified"], "gateway.sign.0001");
    let json = folder.ok("keys rotate storage --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["made"][0], "storage.encrypt.0002");
    assert!(json.get("rewrapped").is_some_and(Value::is_null), "there is no store: {json}");
}

#[test]
fn a_key_of_openssl_is_imported() {
    let folder = Folder::configured();
    folder.ok("keys init --subject CN=gateway");
    let made = Command::new("openssl")
        .current_dir(folder.path())
        .args(["genpkey", "-algorithm", "SM2", "-out", "foreign.pem"])
        .output()
        .unwrap();
    assert!(made.status.success(), "openssl is needed");
    assert!(folder.ok("keys import gateway.encrypt foreign.pem").contains("gateway.encrypt.0002"));
    assert_eq!(folder.refused("keys import gateway foreign.pem"), "keys.failed");
}

#[test]
fn files_are_signed_sealed_opened_and_verified() {
    let folder = Folder::new();
    folder.ok("keys dev-ca dev a b c");
    folder.write("plain.txt", "内容\n");
    let a = "--keys dev/a --passphrase-file dev/passphrase";
    let b = "--keys dev/b --passphrase-file dev/passphrase";
    let trust = "--trust dev/ca.crt --crl dev/ca.crl";
    let to_b = "--to dev/b/b.encrypt.0001.crt --to dev/c/c.encrypt.0001.crt";

    let told = folder.ok(&format!("seal plain.txt {to_b} {a} -o sealed.p7"));
    assert!(told.contains("已写到 sealed.p7"), "{told}");
    let told = folder.ok(&format!("open sealed.p7 {b} {trust} -o opened.txt"));
    assert!(told.contains("签名有效:C=CN,O=仅供开发测试,CN=a") || told.contains("CN=a"), "{told}");
    assert_eq!(folder.read("opened.txt"), "内容\n".as_bytes());
    folder.ok(&format!("verify sealed.p7 --keys dev/c --passphrase-file dev/passphrase {trust}"));
    folder.ok(&format!("seal plain.txt {to_b} {a} --gcm --pem -o sealed.pem"));
    folder.ok(&format!("open sealed.pem {b} {trust} -o opened2.txt"));
    assert_eq!(folder.read("opened2.txt"), "内容\n".as_bytes());
    folder.ok(&format!("sign plain.txt {a} -o signed.p7"));
    folder.ok(&format!("verify signed.p7 {trust}"));

    // Nothing is overwritten, and nothing is left of what did not hold.
    assert_eq!(
        folder.refused(&format!("open sealed.p7 {b} {trust} -o opened.txt")),
        "command.failed"
    );
    let not_opened = |line: &str, code: &str| {
        assert_eq!(folder.refused(&format!("{line} -o none.txt")), code, "{line}");
        assert!(!folder.path().join("none.txt").is_file(), "{line}");
    };
    not_opened(&format!("open sealed.p7 {a} {trust}"), "envelope.not-for-us");
    folder.ok("keys dev-ca other");
    not_opened(&format!("open sealed.p7 {b} --trust other/ca.crt"), "envelope.untrusted");
    let mut changed = folder.read("sealed.p7");
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(folder.path().join("changed.p7"), changed).unwrap();
    assert_ne!(
        folder.run(&format!("open changed.p7 {b} {trust} -o none.txt")).status.code(),
        Some(0)
    );
    folder.ok(&format!("seal plain.txt --unsigned {to_b} -o unsigned.p7"));
    not_opened(&format!("open unsigned.p7 {b} {trust}"), "envelope.unsigned");
    folder.ok(&format!("open unsigned.p7 --unsigned {b} -o opened3.txt"));

    // A list alone is added to what the configuration trusts.
    let configured = "config: 1\ndata: data\nkeys: { folder: dev/b, passphrase: { file: dev/passphrase }, identity: b, trust: dev/ca.crt }\ntargets: {}\n";
    folder.write("gateway.yaml", configured);
    folder.ok("verify signed.p7");
    folder.ok("verify signed.p7 --crl dev/ca.crl");

    // Revoked, nobody believes it any more; the others go on.
    folder.ok("keys dev-ca dev --revoke a");
    not_opened(&format!("open sealed.p7 {b} {trust}"), "envelope.untrusted");
    assert_eq!(folder.refused("verify signed.p7 --crl dev/ca.crl"), "envelope.untrusted");
    folder.ok(&format!("sign plain.txt {b} -o by-b.p7"));
    folder.ok(&format!("verify by-b.p7 {trust}"));
}

#[test]
fn only_the_gateway_signs_receipts() {
    let folder = Folder::new();
    folder.ok("keys dev-ca dev gateway agency");
    let passphrase = folder.read("dev/passphrase");
    for name in ["gateway", "agency"] {
        let store = FileKeyStore::open(&folder.path().join("dev").join(name), &passphrase).unwrap();
        let entry = store.current(name, KeyUse::Sign).unwrap().unwrap();
        let signer = StoredKey::new(&store, &entry.id).unwrap();
        let certificate = &entry.chain[0];
        let at = certificate.not_before().plus_days(1);
        let signing = Signing { certificate, chain: &[], signer: &signer, at };
        let statement = "xinqiao-receipt/1 arrival message=1";
        let signature = sign_together(&[statement], &signing).unwrap();
        let receipt = serde_json::json!({ "statement": statement, "signature": signature });
        folder.write(&format!("{name}.json"), &receipt.to_string());
    }
    let gateway = "--signer dev/gateway/gateway.sign.0001.crt";
    for trust in ["", " --trust dev/ca.crt --crl dev/ca.crl"] {
        assert!(
            folder
                .ok(&format!("verify receipt gateway.json {gateway}{trust}"))
                .contains("回执有效")
        );
        let forged = folder.refused(&format!("verify receipt agency.json {gateway}{trust}"));
        assert!(["receipt.signer", "envelope.untrusted"].contains(&forged.as_str()), "{forged}");
    }
    let told = folder.run("verify receipt gateway.json");
    assert_eq!(told.status.code(), Some(2), "whose receipt it is must be known");
    folder.write("other.json", "{}");
    assert_eq!(
        folder.refused(&format!("verify receipt other.json {gateway}")),
        "receipt.malformed"
    );
}
