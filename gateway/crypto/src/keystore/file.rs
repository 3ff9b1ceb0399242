//! Keys in a folder: encrypted PKCS#8 beside certificates. The layout is described in
//! `gateway/docs/formats/keys.md`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyEntry, KeyId, KeyStore, KeyStoreError, KeyUse};
use crate::sm2::{Prehash, PrivateKey, PublicKey, Signature};
use crate::x509::request::Request;
use crate::x509::{Certificate, IssueError, Name};
use crate::{hex, pem, pkcs8, random};

const KEY: &str = "key";
const CERTIFICATE: &str = "crt";
/// Larger files are no keys and no chains.
const MAX_FILE: u64 = 1 << 20;

/// All keys of a folder, opened. A picture of the folder at one time: open it again to see what
/// was added.
pub struct FileKeyStore {
    keys: BTreeMap<KeyId, (PrivateKey, Vec<Certificate>)>,
}

impl FileKeyStore {
    /// Opens all keys of a folder with its passphrase. All or nothing: one wrong file is an error.
    /// Takes about 0.1 s per key, on purpose (PBKDF2).
    pub fn open(folder: &Path, passphrase: &[u8]) -> Result<Self, KeyStoreError> {
        let mut keys = BTreeMap::new();
        for id in key_ids(folder)? {
            let key = read_key(folder, &id, passphrase)?;
            let chain = read_chain(folder, &id)?;
            if let Some(own) = chain.first() {
                check_certificate(&id, key.public_key(), own)?;
            }
            keys.insert(id, (key, chain));
        }
        Ok(Self { keys })
    }

    /// The keys of a folder, in order, without opening any.
    pub fn ids(folder: &Path) -> Result<Vec<KeyId>, KeyStoreError> {
        key_ids(folder)
    }

    fn key(&self, id: &KeyId, usage: KeyUse) -> Result<&PrivateKey, KeyStoreError> {
        let (key, _) = self.keys.get(id).ok_or_else(|| KeyStoreError::NotFound(id.clone()))?;
        (id.usage() == usage).then_some(key).ok_or_else(|| KeyStoreError::WrongUse(id.clone()))
    }
}

impl KeyStore for FileKeyStore {
    fn list(&self) -> Result<Vec<KeyEntry>, KeyStoreError> {
        let entry = |(id, (key, chain)): (&KeyId, &(PrivateKey, Vec<Certificate>))| KeyEntry {
            id: id.clone(),
            public_key: key.public_key().clone(),
            chain: chain.clone(),
        };
        Ok(self.keys.iter().map(entry).collect())
    }

    fn sign(&self, key: &KeyId, e: &Prehash) -> Result<Signature, KeyStoreError> {
        Ok(self.key(key, KeyUse::Sign)?.sign_prehash(e)?)
    }

    fn open(&self, key: &KeyId, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError> {
        Ok(self.key(key, KeyUse::Encrypt)?.open(ciphertext)?)
    }
}

/// The folder as those who manage keys see it: every change is one file that appears whole or not
/// at all, on disk when the call returns.
pub struct KeyFolder<'a> {
    folder: &'a Path,
    passphrase: &'a [u8],
    iterations: u32,
}

impl<'a> KeyFolder<'a> {
    /// A folder, made (0700) if it is not there. One passphrase opens all its keys.
    pub fn new(folder: &'a Path, passphrase: &'a [u8]) -> Result<Self, KeyStoreError> {
        make(folder)?;
        Ok(Self { folder, passphrase, iterations: pkcs8::ITERATIONS })
    }

    /// With other than the usual work to try a passphrase: tests make and open many keys.
    #[must_use]
    pub fn with_iterations(self, iterations: u32) -> Self {
        Self { iterations, ..self }
    }

    /// The keys that are there, in order.
    pub fn ids(&self) -> Result<Vec<KeyId>, KeyStoreError> {
        key_ids(self.folder)
    }

    /// Makes the next generation of a key: the first, or a rotation. It comes into use when its
    /// certificate does ([`KeyStore::current`]); older ones stay, to open what was sealed to them.
    pub fn generate(&self, name: &str, usage: KeyUse) -> Result<KeyId, KeyStoreError> {
        self.add(name, usage, &PrivateKey::generate()?)
    }

    /// Adds a key that was made elsewhere as the next generation.
    pub fn add(&self, name: &str, usage: KeyUse, key: &PrivateKey) -> Result<KeyId, KeyStoreError> {
        let existing = key_ids(self.folder)?;
        if let Some(id) = existing.first() {
            // One passphrase for all: a mistyped one shows now, not at the next start.
            read_key(self.folder, id, self.passphrase)?;
        }
        let newest = existing
            .iter()
            .filter(|id| id.name() == name && id.usage() == usage)
            .map(KeyId::generation)
            .max();
        let id = KeyId::new(name, usage, newest.unwrap_or(0) + 1)
            .map_err(|_| KeyStoreError::Name(name.to_owned()))?;
        let der = pkcs8::encrypt_with(key, self.passphrase, self.iterations)?;
        let text = pem::encode(pkcs8::ENCRYPTED_LABEL, &der);
        let path = path(self.folder, &id, KEY);
        match publish(&path, text.as_bytes(), Existing::Keep) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(KeyStoreError::Exists(id))
            }
            Err(error) => Err(failed(&path, error)),
            Ok(()) => Ok(id),
        }
    }

    /// A request for a certificate over a key, signed by that key: an encryption key's too, which
    /// signs nothing else.
    pub fn request(&self, id: &KeyId, subject: &Name) -> Result<Request, IssueError> {
        Request::new(subject, &read_key(self.folder, id, self.passphrase)?)
    }

    /// Puts a key's certificate, own first and then its issuers', in place of an earlier one.
    pub fn put_chain(&self, id: &KeyId, chain: &[Certificate]) -> Result<(), KeyStoreError> {
        let key = read_key(self.folder, id, self.passphrase)?;
        put_chain(self.folder, id, key.public_key(), chain)
    }
}

/// The certificates of keys that a device holds: the same folder without `.key` files.
pub struct CertificateFolder<'a>(pub &'a Path);

impl CertificateFolder<'_> {
    /// Adds its chain to each key. A folder that is not there holds none; a file that belongs to
    /// none of the keys is an error, lest a misnamed one be missed.
    pub fn entries(&self, keys: Vec<(KeyId, PublicKey)>) -> Result<Vec<KeyEntry>, KeyStoreError> {
        let names = match fs::read_dir(self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(|error| failed(self.0, error))?),
        };
        for entry in names.into_iter().flatten() {
            let name = entry.map_err(|error| failed(self.0, error))?.file_name();
            let name = name.to_string_lossy().into_owned();
            let ours = |(id, _): &(KeyId, PublicKey)| name == format!("{id}.{CERTIFICATE}");
            if !name.starts_with('.') && !keys.iter().any(ours) {
                return Err(KeyStoreError::FileName(name));
            }
        }
        let entry = |(id, public_key): (KeyId, PublicKey)| {
            let chain = read_chain(self.0, &id)?;
            if let Some(own) = chain.first() {
                check_certificate(&id, &public_key, own)?;
            }
            Ok(KeyEntry { id, public_key, chain })
        };
        keys.into_iter().map(entry).collect()
    }

    /// As [`KeyFolder::put_chain`]; makes the folder (0700) if it is not there.
    pub fn put_chain(
        &self,
        id: &KeyId,
        key: &PublicKey,
        chain: &[Certificate],
    ) -> Result<(), KeyStoreError> {
        make(self.0)?;
        put_chain(self.0, id, key, chain)
    }
}

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written: [`io::ErrorKind::AlreadyExists`].
    Keep,
    /// The new one takes its place.
    Replace,
}

/// Writes a file (0600) under a temporary name, makes it durable, then gives it its name: it
/// appears whole or not at all.
pub fn publish(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let suffix = random::<8>().map_err(io::Error::other)?;
    let temporary = folder.join(format!(".{}.tmp", hex(suffix.as_slice())));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match existing {
            // Fails if the name is taken, unlike a rename.
            Existing::Keep => fs::hard_link(&temporary, path),
            Existing::Replace => fs::rename(&temporary, path),
        }
    };
    let written = write();
    if written.is_err() || matches!(existing, Existing::Keep) {
        // What is left over is ignored by its name; the outcome is that of the writing.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// The keys of a folder. A file that is named like none is an error, lest a misnamed key be
/// missed; hidden files are left alone.
fn key_ids(folder: &Path) -> Result<Vec<KeyId>, KeyStoreError> {
    let mut ids = Vec::new();
    let mut certificates = Vec::new();
    let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyStoreError::NoFolder(folder.display().to_string()),
        _ => failed(folder, error),
    })?;
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let (id, kind) = name
            .rsplit_once('.')
            .and_then(|(id, kind)| Some((id.parse::<KeyId>().ok()?, kind)))
            .ok_or_else(|| KeyStoreError::FileName(name.clone()))?;
        match kind {
            KEY => ids.push(id),
            CERTIFICATE => certificates.push(id),
            _ => return Err(KeyStoreError::FileName(name)),
        }
    }
    if let Some(alone) = certificates.into_iter().find(|id| !ids.contains(id)) {
        return Err(KeyStoreError::NotFound(alone));
    }
    ids.sort();
    Ok(ids)
}

fn read_key(folder: &Path, id: &KeyId, passphrase: &[u8]) -> Result<PrivateKey, KeyStoreError> {
    let path = path(folder, id, KEY);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeyStoreError::NotFound(id.clone()));
        }
        other => other.map_err(|error| failed(&path, error))?,
    };
    let mode = file.metadata().map_err(|error| failed(&path, error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeyStoreError::Permissions(file_name(&path)));
    }
    let bytes = Zeroizing::new(read(file).map_err(|error| failed(&path, error))?);
    pkcs8::decrypt(&bytes, passphrase)
        .map_err(|error| KeyStoreError::KeyFile { file: file_name(&path), error })
}

fn read_chain(folder: &Path, id: &KeyId) -> Result<Vec<Certificate>, KeyStoreError> {
    let path = path(folder, id, CERTIFICATE);
    let bytes = match File::open(&path).and_then(read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| failed(&path, error))?,
    };
    Certificate::from_file(&bytes).map_err(|_| KeyStoreError::CertificateFile(file_name(&path)))
}

fn make(folder: &Path) -> Result<(), KeyStoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed(folder, error))
}

fn put_chain(
    folder: &Path,
    id: &KeyId,
    key: &PublicKey,
    chain: &[Certificate],
) -> Result<(), KeyStoreError> {
    let own = chain.first().ok_or_else(|| KeyStoreError::WrongCertificate(id.clone()))?;
    check_certificate(id, key, own)?;
    let text: String = chain.iter().map(Certificate::to_pem).collect();
    let path = path(folder, id, CERTIFICATE);
    publish(&path, text.as_bytes(), Existing::Replace).map_err(|error| failed(&path, error))
}

fn check_certificate(
    id: &KeyId,
    key: &PublicKey,
    certificate: &Certificate,
) -> Result<(), KeyStoreError> {
    let usage = match id.usage() {
        // A CA's key signs too, certificates.
        KeyUse::Sign => certificate.may_sign() || certificate.is_ca(),
        KeyUse::Encrypt => certificate.may_encrypt(),
    };
    (usage && certificate.public_key() == key)
        .then_some(())
        .ok_or_else(|| KeyStoreError::WrongCertificate(id.clone()))
}

fn read(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn path(folder: &Path, id: &KeyId, kind: &str) -> PathBuf {
    folder.join(format!("{id}.{kind}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn failed(path: &Path, error: io::Error) -> KeyStoreError {
    KeyStoreError::Io(file_name(path), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::{Signer as _, StoredKey};
    use crate::pkcs8::KeyFileError;
    use crate::sm2::SignerId;
    use crate::x509::issue::{Role, Template, issue, issue_self_signed};
    use crate::x509::{UnixSeconds, parse_name};

    const PASSPHRASE: &[u8] = "口令".as_bytes();

    fn self_signed(key: &PrivateKey, role: Role) -> Certificate {
        let name = parse_name("CN=gateway").unwrap();
        let template = Template::new(name, role, UnixSeconds(1_800_000_000), 30);
        issue_self_signed(&template, key).unwrap()
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn manage<'a>(folder: &'a Path, passphrase: &'a [u8]) -> Result<KeyFolder<'a>, KeyStoreError> {
        Ok(KeyFolder::new(folder, passphrase)?.with_iterations(10))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_made_kept_and_used() {
        let root = folder();
        let place = root.path().join("keys");
        let folder = manage(&place, PASSPHRASE).unwrap();
        let sign = folder.generate("gateway", KeyUse::Sign).unwrap();
        let encrypt = folder.generate("gateway", KeyUse::Encrypt).unwrap();
        assert_eq!(sign.to_string(), "gateway.sign.0001");
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&place.join("gateway.sign.0001.key")), 0o600);

        let store = FileKeyStore::open(&place, PASSPHRASE).unwrap();
        let ids: Vec<_> = store.list().unwrap().into_iter().map(|e| e.id).collect();
        assert_eq!(ids, [sign.clone(), encrypt.clone()]);
        let signer = StoredKey::new(&store, &sign).unwrap();
        let signature = signer.sign(SignerId::STANDARD, b"m").unwrap();
        let public = signer.public_key();
        assert_eq!(public.verify(SignerId::STANDARD, b"m", &signature), Ok(()));
        let sealed = store.entry(&encrypt).unwrap().public_key.seal(b"secret");
        let opened = store.open(&encrypt, &sealed.unwrap()).unwrap();
        assert_eq!(opened.as_slice(), b"secret");

        // Neither does the other's work.
        let e = public.prehash(SignerId::STANDARD, b"m");
        let wrong = store.sign(&encrypt, &e);
        assert!(matches!(wrong, Err(KeyStoreError::WrongUse(_))));
        let sealed = public.seal(b"secret").unwrap();
        let wrong = store.open(&sign, &sealed);
        assert!(matches!(wrong, Err(KeyStoreError::WrongUse(_))));
        let unknown = "other.sign.0001".parse().unwrap();
        let wrong = store.sign(&unknown, &e);
        assert!(matches!(wrong, Err(KeyStoreError::NotFound(_))));
    }

    #[test]
    fn a_rotated_key_waits_for_its_certificate() {
        let root = folder();
        let folder = manage(root.path(), PASSPHRASE).unwrap();
        let keys = [(); 2].map(|()| PrivateKey::generate().unwrap());
        let current = || {
            let store = FileKeyStore::open(root.path(), PASSPHRASE).unwrap();
            let entry = store.current("gateway", KeyUse::Sign).unwrap();
            entry.map(|entry| entry.id.generation())
        };
        assert_eq!(current(), None);
        let first = folder.add("gateway", KeyUse::Sign, &keys[0]).unwrap();
        assert_eq!(current(), Some(1));
        let chain = [self_signed(&keys[0], Role::Signing)];
        folder.put_chain(&first, &chain).unwrap();
        let second = folder.add("gateway", KeyUse::Sign, &keys[1]).unwrap();
        assert_eq!(second.generation(), 2);
        assert_eq!(current(), Some(1));
        let chain = [self_signed(&keys[1], Role::Signing)];
        folder.put_chain(&second, &chain).unwrap();
        assert_eq!(current(), Some(2));
        let store = FileKeyStore::open(root.path(), PASSPHRASE).unwrap();
        assert_eq!(store.certificate(&second).unwrap(), chain);
    }

    #[test]
    fn certificates_must_fit_their_keys() {
        let root = folder();
        let folder = manage(root.path(), PASSPHRASE).unwrap();
        let key = PrivateKey::generate().unwrap();
        let id = folder.add("gateway", KeyUse::Sign, &key).unwrap();
        let ca_key = PrivateKey::generate().unwrap();
        let ca = self_signed(&ca_key, Role::Ca { path_length: None });
        let template =
            Template::new(parse_name("CN=gateway").unwrap(), Role::Signing, ca.not_before(), 1);
        let good = issue(&template, key.public_key(), &ca, &ca_key).unwrap();
        let wrong_use = self_signed(&key, Role::Encryption);
        for chain in [vec![], vec![ca.clone()], vec![wrong_use], vec![ca.clone(), good.clone()]] {
            let outcome = folder.put_chain(&id, &chain);
            assert!(matches!(outcome, Err(KeyStoreError::WrongCertificate(_))));
        }
        folder.put_chain(&id, &[good.clone(), ca.clone()]).unwrap();
        let store = FileKeyStore::open(root.path(), PASSPHRASE).unwrap();
        assert_eq!(store.certificate(&id).unwrap(), [good, ca]);
    }

    #[test]
    fn folders_that_are_not_right_do_not_open() {
        let root = folder();
        let folder = manage(root.path(), PASSPHRASE).unwrap();
        let id = folder.generate("gateway", KeyUse::Sign).unwrap();
        let key = path(root.path(), &id, KEY);
        let open = || FileKeyStore::open(root.path(), PASSPHRASE).err();
        assert!(open().is_none());
        assert!(matches!(
            FileKeyStore::open(root.path(), b"wrong").err(),
            Some(KeyStoreError::KeyFile { error: KeyFileError::Passphrase, .. })
        ));
        let mistyped = manage(root.path(), b"wrong").unwrap();
        assert!(mistyped.generate("gateway", KeyUse::Sign).is_err());

        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(), Some(KeyStoreError::Permissions(_))));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

        for stray in ["gateway.key", "gateway.sign.0002.pem", "notes.txt"] {
            fs::write(root.path().join(stray), "").unwrap();
            assert!(matches!(open(), Some(KeyStoreError::FileName(_))));
            fs::remove_file(root.path().join(stray)).unwrap();
        }
        let alone = root.path().join("gateway.sign.0002.crt");
        fs::write(&alone, "").unwrap();
        assert!(matches!(open(), Some(KeyStoreError::NotFound(_))));
        fs::remove_file(alone).unwrap();

        // Left over by a crash: not a key.
        fs::write(root.path().join(".0123.tmp"), "half").unwrap();
        assert!(open().is_none());

        // A key that is not encrypted is not taken silently.
        let plain = pkcs8::encode_plain(&PrivateKey::generate().unwrap());
        fs::write(&key, pem::encode("PRIVATE KEY", &plain).as_bytes()).unwrap();
        assert!(matches!(
            open(),
            Some(KeyStoreError::KeyFile { error: KeyFileError::NotEncrypted, .. })
        ));
    }

    #[test]
    fn nothing_is_overwritten_or_left_over() {
        let root = folder();
        let target = root.path().join("a.sign.0001.key");
        publish(&target, b"first", Existing::Keep).unwrap();
        let again = publish(&target, b"second", Existing::Keep).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"first");
        publish(&target, b"third", Existing::Replace).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"third");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
