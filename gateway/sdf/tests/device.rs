//! Against the test double of a vendor's library. Each test has a copy of it: a device of its own.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use xinqiao_crypto::envelope::{Cipher, Envelope, Opener, Signing, sign_and_seal};
use xinqiao_crypto::hex;
use xinqiao_crypto::keystore::{
    CertificateFolder, FileKeyStore, KeyFolder, KeyId, KeyStore, KeyStoreError, KeyUse,
    Signer as _, StoredKey,
};
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::sm2::{PrivateKey, PublicKey, SignerId};
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_sdf::{DecryptForm, DeviceConfig, SESSIONS, SdfKeyStore};

const PIN: &str = "12345678";
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// A copy of the library, its configuration and its keys.
struct Device {
    folder: tempfile::TempDir,
    keys: String,
}

impl Device {
    /// Keys of both uses at index 1, one to open with at 2, of both uses at 3.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(built(), folder.path().join("libvendor.so")).unwrap();
        let places = [(1, "sign"), (1, "encrypt"), (2, "encrypt"), (3, "sign"), (3, "encrypt")];
        let key = |(index, usage)| {
            let d = PrivateKey::generate().unwrap().to_bytes();
            format!("key {index} {usage} {}\n", hex(d.as_slice()))
        };
        let device = Self { folder, keys: places.map(key).concat() };
        device.set("");
        device
    }

    /// Has it behave otherwise, from its next call on.
    fn set(&self, lines: &str) {
        let conf = format!("pin {PIN}\n{}{lines}\n", self.keys);
        let temporary = self.folder.path().join("softsdf.tmp");
        fs::write(&temporary, conf).unwrap();
        fs::rename(temporary, self.folder.path().join("softsdf.conf")).unwrap();
    }

    fn config(&self) -> DeviceConfig {
        DeviceConfig {
            library: self.folder.path().join("libvendor.so"),
            pin: PIN.to_owned().into(),
            keys: BTreeMap::from([("gateway".into(), vec![1, 3]), ("storage".into(), vec![2])]),
            decrypt: DecryptForm::Plain,
            sessions: SESSIONS,
            certificates: self.folder.path().join("keys"),
        }
    }

    fn open(&self) -> Result<SdfKeyStore, KeyStoreError> {
        SdfKeyStore::open(&self.config())
    }

    /// Takes a function's name out of the library.
    fn without(&self, function: &str) {
        let path = self.folder.path().join("libvendor.so");
        let mut bytes = fs::read(&path).unwrap();
        let name = format!("\0{function}\0").into_bytes();
        let found: Vec<usize> =
            (0..bytes.len() - name.len()).filter(|at| bytes[*at..].starts_with(&name)).collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at + name.len() - 2] = b'?';
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Where cargo put the double: beside this test or one above.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = "libxinqiao_softsdf.so";
    let mut places = test.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    places
        .find(|path| path.try_exists().unwrap())
        .expect("cargo builds it as a dependency of this test")
}

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

/// The words of a failure of the device.
fn told<T>(result: Result<T, KeyStoreError>) -> String {
    match result {
        Err(KeyStoreError::Device(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no error"),
    }
}

fn signs(store: &dyn KeyStore, key: &str) -> Result<(), KeyStoreError> {
    let signer = StoredKey::new(store, &id(key))?;
    let signature = signer.sign(SignerId::STANDARD, b"message")?;
    assert_eq!(signer.public_key().verify(SignerId::STANDARD, b"message", &signature), Ok(()));
    Ok(())
}

fn opens(store: &dyn KeyStore, key: &str) -> Result<(), KeyStoreError> {
    let sealed = store.entry(&id(key))?.public_key.seal(b"sixteen bytes...").unwrap();
    assert_eq!(store.open(&id(key), &sealed)?.as_slice(), b"sixteen bytes...");
    Ok(())
}

/// What every [`KeyStore`] does that holds two generations of `gateway` for both uses and one of
/// `storage` to open with, none of them certified.
fn conforms(store: &dyn KeyStore, put: &dyn Fn(&KeyId, &PublicKey, &[Certificate])) {
    let ids: Vec<String> = store.list().unwrap().iter().map(|entry| entry.id.to_string()).collect();
    let [first, second] = ["gateway.sign.0001", "gateway.sign.0002"];
    let [third, fourth] = ["gateway.encrypt.0001", "gateway.encrypt.0002"];
    assert_eq!(ids, [first, second, third, fourth, "storage.encrypt.0001"]);
    for key in [first, second] {
        signs(store, key).unwrap();
    }
    for key in [third, fourth, "storage.encrypt.0001"] {
        opens(store, key).unwrap();
        let public = store.entry(&id(key)).unwrap().public_key;
        for len in [1, 16, 32, 256] {
            let plain = vec![7; len];
            let sealed = public.seal(&plain).unwrap();
            assert_eq!(*store.open(&id(key), &sealed).unwrap(), plain);
        }
        // Every changed byte, every other length, another's: one answer to all of them.
        let sealed = public.seal(b"k").unwrap();
        let wrong = |bytes: &[u8]| {
            let opened = store.open(&id(key), bytes);
            assert!(matches!(opened, Err(KeyStoreError::Decrypt(_))), "{opened:?}");
        };
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            wrong(&changed);
            wrong(&sealed[..at]);
        }
        let other = PrivateKey::generate().unwrap();
        wrong(&other.public_key().seal(b"sixteen bytes...").unwrap());
        opens(store, key).unwrap();
    }
    // Neither use does the other's work, and no key is not a failure of the place.
    let e = store.entry(&id(first)).unwrap().public_key.prehash(SignerId::STANDARD, b"m");
    assert!(matches!(store.sign(&id(third), &e), Err(KeyStoreError::WrongUse(_))));
    assert!(matches!(store.open(&id(first), b"0"), Err(KeyStoreError::WrongUse(_))));
    for unknown in ["gateway.sign.0003", "nobody.sign.0001"] {
        assert!(matches!(store.sign(&id(unknown), &e), Err(KeyStoreError::NotFound(_))));
        assert!(matches!(store.entry(&id(unknown)), Err(KeyStoreError::NotFound(_))));
    }
    assert!(matches!(
        store.open(&id("storage.encrypt.0002"), b"0"),
        Err(KeyStoreError::NotFound(_))
    ));
    assert_eq!(store.certificate(&id(first)).unwrap(), []);
    // Without certificates the newest is in use; see `certified` for the rest.
    let current = store.current("gateway", KeyUse::Sign).unwrap().unwrap();
    assert_eq!(current.id, id(second));
    let entry = store.entry(&id(first)).unwrap();
    put(&entry.id, &entry.public_key, &[certificate(&entry.public_key, Role::Signing)]);
}

/// The same place, opened again after `conforms` has certified the first signing key.
fn certified(store: &dyn KeyStore) {
    let current = store.current("gateway", KeyUse::Sign).unwrap().unwrap();
    assert_eq!(current.id, id("gateway.sign.0001"));
    assert_eq!(current.chain.len(), 1);
}

fn ca() -> (PrivateKey, Certificate) {
    let key = PrivateKey::from_bytes(&[5; 32]).unwrap();
    let name = parse_name("CN=测试根").unwrap();
    let template = Template::new(name, Role::Ca { path_length: None }, NOW, 30);
    let certificate = issue_self_signed(&template, &key).unwrap();
    (key, certificate)
}

fn certificate(key: &PublicKey, role: Role) -> Certificate {
    let (ca_key, ca) = ca();
    let template = Template::new(parse_name("CN=gateway").unwrap(), role, NOW, 30);
    issue(&template, key, &ca, &ca_key).unwrap()
}

#[test]
fn files_and_device_do_the_same() {
    let place = tempfile::tempdir().unwrap();
    let folder = KeyFolder::new(place.path(), b"passphrase").unwrap().with_iterations(1);
    for (name, usage) in [
        ("gateway", KeyUse::Sign),
        ("gateway", KeyUse::Sign),
        ("gateway", KeyUse::Encrypt),
        ("gateway", KeyUse::Encrypt),
        ("storage", KeyUse::Encrypt),
    ] {
        folder.generate(name, usage).unwrap();
    }
    let open = || FileKeyStore::open(place.path(), b"passphrase").unwrap();
    conforms(&open(), &|id, _, chain| folder.put_chain(id, chain).unwrap());
    certified(&open());

    let device = Device::new();
    let certificates = device.config().certificates;
    let store = device.open().unwrap();
    conforms(&store, &|id, key, chain| {
        CertificateFolder(&certificates).put_chain(id, key, chain).unwrap();
    });
    drop(store);
    certified(&device.open().unwrap());
}

#[test]
fn either_form_of_decryption() {
    let device = Device::new();
    device.set("with-algorithm");
    let config = DeviceConfig { decrypt: DecryptForm::WithAlgorithm, ..device.config() };
    let store = SdfKeyStore::open(&config).unwrap();
    opens(&store, "gateway.encrypt.0001").unwrap();
    drop(store);
    // A device that does not know the algorithm says so at the start.
    device.set("with-algorithm\nfail SDF_InternalDecrypt_ECC 01000009");
    assert!(told(SdfKeyStore::open(&config)).contains("0x01000009(不支持的算法)"));
}

#[test]
fn wrong_libraries_are_told_apart() {
    let device = Device::new();
    let library = device.folder.path().join("none.so");
    let text = told(SdfKeyStore::open(&DeviceConfig { library, ..device.config() }));
    assert!(text.contains("无法加载厂商库"), "{text}");

    device.without("SDF_InternalDecrypt_ECC");
    let text = told(device.open());
    assert!(
        text.contains("SDF_InternalDecrypt_ECC") && text.contains("不在GM/T 0018标准中"),
        "{text}"
    );

    device.without("SDF_InternalSign_ECC");
    let text = told(device.open());
    assert!(
        text.contains("SDF_InternalSign_ECC") && text.contains("keys.device.library"),
        "{text}"
    );
}

#[test]
fn missing_keys() {
    let device = Device::new();
    let keys = BTreeMap::from([("gateway".to_owned(), vec![9])]);
    let text = told(SdfKeyStore::open(&DeviceConfig { keys, ..device.config() }));
    assert!(text.contains("索引 9"), "{text}");
    // One use of the two is enough; what is not there is not listed.
    let keys = BTreeMap::from([("storage".to_owned(), vec![2])]);
    let store = SdfKeyStore::open(&DeviceConfig { keys, ..device.config() }).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn a_wrong_pin_is_tried_once() {
    let device = Device::new();
    let pin = "87654321".to_owned().into();
    let text = told(SdfKeyStore::open(&DeviceConfig { pin, ..device.config() }));
    assert!(text.contains("拒绝所配口令") && text.contains("0x01010041"), "{text}");
    assert!(!text.contains("87654321"));

    // Changed on the device while the gateway runs: asked for once and never again, even when the
    // device would take it.
    let store = device.open().unwrap();
    device.set("epoch 2\nfail SDF_GetPrivateKeyAccessRight 01010041");
    assert!(told(signs(&store, "gateway.sign.0001")).contains("0x01010041"));
    device.set("epoch 2");
    assert!(told(signs(&store, "gateway.sign.0001")).contains("不再尝试"));
    // Nor when the keys are opened again in the same process.
    assert!(told(device.open()).contains("不再尝试"));
}

#[test]
fn a_failing_device_recovers() {
    let device = Device::new();
    let store = device.open().unwrap();
    let signs_one = || signs(&store, "gateway.sign.0001");
    let opens_one = || opens(&store, "gateway.encrypt.0001");
    let acts: [(_, &dyn Fn() -> Result<(), KeyStoreError>); 4] = [
        ("SDF_InternalSign_ECC", &signs_one),
        ("SDF_InternalDecrypt_ECC", &opens_one),
        ("SDF_OpenSession", &signs_one),
        ("SDF_OpenDevice", &opens_one),
    ];
    for (function, act) in acts {
        // Its sessions are gone, and it does not come back.
        device.set(&format!("epoch {function}\nfail {function} 01000003"));
        let text = told(act());
        assert!(text.contains(function) && text.contains("与设备通信失败"), "{text}");
        // It is back, restarted: nobody sees an error.
        device.set(&format!("epoch {function} again"));
        act().unwrap();
    }
    // A restart in between costs nobody an error, of either use.
    device.set("epoch 99");
    signs(&store, "gateway.sign.0001").unwrap();
    device.set("epoch 100");
    opens(&store, "gateway.encrypt.0001").unwrap();
}

#[test]
fn wrong_answers_go_no_further() {
    let device = Device::new();
    let store = device.open().unwrap();
    device.set("fail SDF_InternalSign_ECC twist");
    assert!(told(signs(&store, "gateway.sign.0001")).contains("签名与公钥不符"));
    device.set("fail SDF_InternalDecrypt_ECC twist");
    assert!(told(opens(&store, "gateway.encrypt.0001")).contains("明文长度"));
    // A code that might mean the ciphertext, from a device that opens nothing: the device's fault.
    device.set("fail SDF_InternalDecrypt_ECC 01010042");
    assert!(told(opens(&store, "gateway.encrypt.0001")).contains("0x01010042"));
    drop(store);
    device.set("fail SDF_ExportSignPublicKey_ECC twist");
    assert!(told(device.open()).contains("公钥不是256位"));
}

#[test]
fn many_threads() {
    for sessions in [1, 3] {
        let device = Device::new();
        let store = SdfKeyStore::open(&DeviceConfig { sessions, ..device.config() }).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (store, device) = (&store, &device);
                scope.spawn(move || {
                    for round in 0..4 {
                        if thread == 0 && round == 2 {
                            // Restarted under load.
                            device.set(&format!("epoch {sessions}"));
                        }
                        signs(store, "gateway.sign.0002").unwrap();
                        opens(store, "storage.encrypt.0001").unwrap();
                    }
                });
            }
        });
    }
}

#[test]
fn certificates_must_fit_the_device() {
    let device = Device::new();
    let store = device.open().unwrap();
    let folder = device.config().certificates;
    let entry = store.entry(&id("gateway.sign.0001")).unwrap();
    drop(store);
    let put = |chain: &[Certificate]| {
        CertificateFolder(&folder).put_chain(&entry.id, &entry.public_key, chain)
    };
    let other = PrivateKey::generate().unwrap();
    for wrong in [
        certificate(other.public_key(), Role::Signing),
        certificate(&entry.public_key, Role::Encryption),
    ] {
        assert!(matches!(put(&[wrong]), Err(KeyStoreError::WrongCertificate(_))));
    }
    put(&[certificate(&entry.public_key, Role::Signing)]).unwrap();
    fs::copy(folder.join("gateway.sign.0001.crt"), folder.join("gateway.sign.0002.crt")).unwrap();
    assert!(matches!(device.open().err(), Some(KeyStoreError::WrongCertificate(_))));
    fs::remove_file(folder.join("gateway.sign.0002.crt")).unwrap();
    // Files of keys, or of others, do not belong beside a device.
    for stray in ["gateway.sign.0001.key", "gateway.sign.0003.crt", "notes.txt"] {
        fs::write(folder.join(stray), "").unwrap();
        assert!(matches!(device.open().err(), Some(KeyStoreError::FileName(_))));
        fs::remove_file(folder.join(stray)).unwrap();
    }
    device.open().unwrap();
}

/// An agency signs and seals to the gateway, whose keys are in the device; it opens and verifies,
/// and answers with a signed receipt.
#[test]
fn an_envelope_in_and_a_receipt_out() {
    let device = Device::new();
    let (_, root) = ca();
    {
        let store = device.open().unwrap();
        let folder = device.config().certificates;
        for (key, role) in
            [("gateway.sign.0001", Role::Signing), ("gateway.encrypt.0001", Role::Encryption)]
        {
            let entry = store.entry(&id(key)).unwrap();
            let own = certificate(&entry.public_key, role);
            CertificateFolder(&folder).put_chain(&entry.id, &entry.public_key, &[own]).unwrap();
        }
    }
    // A second time beside the first: one device.
    let (store, _beside) = (device.open().unwrap(), device.open().unwrap());
    let encryption = store.current("gateway", KeyUse::Encrypt).unwrap().unwrap();
    let agency_key = PrivateKey::generate().unwrap();
    let agency = certificate(agency_key.public_key(), Role::Signing);
    let trust =
        Trust { anchors: std::slice::from_ref(&root), revocation: Revocation::Unchecked, at: NOW };

    let content = "登记编号,单位名称\n0001,某公司\n".repeat(10_000).into_bytes();
    let signing = Signing { certificate: &agency, chain: &[], signer: &agency_key, at: NOW };
    let mut sealed = Vec::new();
    let to = &encryption.chain[..1];
    sign_and_seal(&mut Cursor::new(&content), &signing, to, Cipher::Gcm, &mut sealed).unwrap();

    let mut input = Cursor::new(&sealed);
    let envelope = Envelope::read(&mut input).unwrap();
    let open = |ciphertext: &[u8]| store.open(&encryption.id, ciphertext);
    let opener = Opener { certificate: &encryption.chain[0], open: &open };
    let opened = envelope.open(&opener).unwrap();
    let verified = envelope.verify(&mut input, Some(&opened), &[], &trust).unwrap();
    let mut out = Vec::new();
    envelope.write(&mut input, Some(&opened), &verified, &mut out).unwrap();
    assert_eq!(out, content);

    let entry = store.current("gateway", KeyUse::Sign).unwrap().unwrap();
    let signer = StoredKey::new(&store, &entry.id).unwrap();
    let signing = Signing { certificate: &entry.chain[0], chain: &[], signer: &signer, at: NOW };
    let signature = receipt::sign_together(&["arrived"], &signing).unwrap();
    let receipt = SignedReceipt { statement: "arrived", signature: &signature };
    assert_eq!(receipt::verify(&receipt, &[], &trust).unwrap(), entry.chain[..1]);
}
