use std::path::Path;

use xinqiao_crypto::envelope::Cipher;
use xinqiao_crypto::x509::crl::Revoked;

use super::*;

const FROM: UnixSeconds = UnixSeconds(1_800_000_000);

fn millis(at: UnixSeconds) -> Timestamp {
    Timestamp(at.0 * 1_000)
}

struct At(UnixSeconds);

impl Clock for At {
    fn now(&self) -> Timestamp {
        millis(self.0)
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn certificate(role: Role, key: &PrivateKey, days: u32) -> Certificate {
    let template = Template::new("CN=one".parse().unwrap(), role, FROM, days);
    issue_self_signed(&template, key).unwrap()
}

/// Keys made at `FROM`, which hold for three years.
fn config(folder: &Path) -> KeysConfig {
    let config = KeysConfig {
        folder: folder.join("keys"),
        place: KeyPlace::Folder(Zeroizing::new("a passphrase for tests".to_owned())),
        identity: "gateway".to_owned(),
        storage: "storage".to_owned(),
        trust: Vec::new(),
        revocations: Vec::new(),
        stale: Stale::Accept,
    };
    init(&config, &"CN=gateway".parse().unwrap(), millis(FROM), 10).unwrap();
    config
}

#[test]
fn a_passphrase_is_made_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets/passphrase");
    make_passphrase(&file).unwrap();
    let made = std::fs::read(&file).unwrap();
    assert_eq!(made.len(), 64);
    make_passphrase(&file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), made);
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    // What a crash of an earlier version could leave.
    std::fs::write(&file, "").unwrap();
    let error = make_passphrase(&file).unwrap_err();
    assert!(io_words(&error).contains("口令文件是空的"), "{error}");
}

#[test]
fn nothing_is_signed_or_sealed_by_certificates_out_of_force() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(Keys::open(&config(folder.path())).unwrap());
    let receiver = certificate(Role::Encryption, &key(), 10);
    let sealed = |days: u32| {
        let to = SealTo { to: vec![receiver.clone()], cipher: Cipher::Cbc };
        let clock = Arc::new(At(FROM.plus_days(days)));
        EnvelopeSealer::new(Arc::clone(&keys), to, clock).unwrap().seal(b"content")
    };
    assert!(sealed(0).is_ok());
    let why = sealed(11).unwrap_err();
    assert!(why.contains("收件证书(CN=one)已于") && why.contains("过期"), "{why}");
    let why = sealed(4 * 365).unwrap_err();
    assert!(why.contains("网关的签名证书(CN=gateway)已于"), "{why}");
    let early = SealTo { to: vec![receiver.clone()], cipher: Cipher::Cbc };
    let clock = Arc::new(At(UnixSeconds(FROM.0 - 1)));
    let why = EnvelopeSealer::new(Arc::clone(&keys), early, clock).unwrap().seal(b"").unwrap_err();
    assert!(why.contains("才生效"), "{why}");
}

#[test]
fn revocation_lists_are_read_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, list) = (key(), folder.path().join("ca.crl"));
    let issuer = certificate(Role::Ca { path_length: None }, &ca, 100);
    let write = |revoked: &[Revoked], number| {
        let made = Crl::issue(&issuer, &ca, revoked, number, FROM, FROM.plus_days(30)).unwrap();
        std::fs::write(folder.path().join("new"), made.to_pem()).unwrap();
        std::fs::rename(folder.path().join("new"), &list).unwrap();
    };
    write(&[], 1);
    let config = KeysConfig { revocations: vec![list.clone()], ..config(folder.path()) };
    let keys = Keys::open(&config).unwrap();
    let lists = |serial: &[u8]| keys.revocations(millis(FROM))[0].lists(serial);
    assert!(!lists(&[7]));
    write(&[Revoked { serial: vec![7], at: FROM, reason: None }], 2);
    assert!(lists(&[7]));
    // A file that cannot be used leaves what was read.
    std::fs::write(&list, "half a li").unwrap();
    assert!(lists(&[7]));
    std::fs::remove_file(&list).unwrap();
    assert!(lists(&[7]));
    write(&[], 3);
    assert!(!lists(&[7]));
    // At the start it must be there.
    std::fs::write(&list, "half a li").unwrap();
    assert!(matches!(Keys::open(&config), Err(KeysError::File { .. })));
}

#[test]
fn an_outdated_list_counts_unless_it_must_not() {
    let issuer = key();
    let of = certificate(Role::Ca { path_length: None }, &issuer, 100);
    let lists = [Crl::issue(&of, &issuer, &[], 1, FROM, FROM.plus_days(30)).unwrap()];
    assert!(matches!(revocation(&[], Stale::Refuse), Revocation::Unchecked));
    assert!(matches!(revocation(&lists, Stale::Accept), Revocation::RequiredEvenStale([_])));
    assert!(matches!(revocation(&lists, Stale::Refuse), Revocation::Required([_])));
}

#[test]
fn a_folder_that_is_not_there_is_told_of_plainly() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::remove_dir_all(&config.folder).unwrap();
    let error = Keys::open(&config).err().unwrap();
    let told = xinqiao_core::fault::chain(&error);
    assert!(told.contains("没有密钥目录") && told.contains("keys init"), "{told}");
    assert!(!told.contains("os error"), "{told}");
}
