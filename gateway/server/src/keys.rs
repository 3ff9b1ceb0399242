//! The gateway's keys and whom it trusts, as the `keys` section of its configuration has them.

#[cfg(test)]
mod tests;

use std::io::{Cursor, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xinqiao_core::fault::io_words;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{Clock, Sealer};
use xinqiao_crypto::envelope::{EnvelopeError, Signing, sign_and_seal};
use xinqiao_crypto::hex;
use xinqiao_crypto::keystore::{
    Existing, FileKeyStore, KeyEntry, KeyFolder, KeyId, KeyStore, KeyStoreError, KeyUse, StoredKey,
    publish,
};
use xinqiao_crypto::lists::{Build, Lists, Notice, Stale, Unusable, Watched};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_crypto::x509::issue::{Role, Template, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, Expiry, IssueError, Name, UnixSeconds, X509Error};
use xinqiao_sdf::{DeviceConfig, SdfKeyStore};
use xinqiao_store::{StorageKey, Store};
use zeroize::Zeroizing;

use crate::config::SealTo;

/// The `keys` section, checked; nothing of it is opened yet.
#[derive(Clone)]
pub struct KeysConfig {
    /// Folder of the keys, or of the certificates only.
    pub folder: PathBuf,
    /// Where the private keys are.
    pub place: KeyPlace,
    /// Name of the keys the gateway signs with, and is sealed to.
    pub identity: String,
    /// Name of the encryption key that what is stored is sealed to.
    pub storage: String,
    /// Files of certificates trusted as issuers.
    pub trust: Vec<PathBuf>,
    /// Files of revocation lists; if there is any, every issuer must have one.
    pub revocations: Vec<PathBuf>,
    /// What a list past its next update means.
    pub stale: Stale,
}

/// Where private keys are.
#[derive(Clone)]
pub enum KeyPlace {
    /// In the folder; the passphrase opens all of them.
    Folder(Zeroizing<String>),
    /// In a device.
    Device(Box<DeviceConfig>),
}

impl KeysConfig {
    /// Opens the keys, without regard to whose they are.
    pub fn store(&self) -> Result<Arc<dyn KeyStore>, KeyStoreError> {
        Ok(match &self.place {
            KeyPlace::Folder(passphrase) => {
                Arc::new(FileKeyStore::open(&self.folder, passphrase.as_bytes())?)
            }
            KeyPlace::Device(device) => Arc::new(SdfKeyStore::open(device)?),
        })
    }

    /// Is there no storage key, but a store that only it opens? A new one would not help.
    pub fn storage_not_lost(&self, data: &Path) -> Result<(), KeysError> {
        if matches!(self.place, KeyPlace::Device(_)) {
            return Ok(());
        }
        storage_not_lost(&self.folder, &self.storage, data)
    }

    /// The folder, to make keys in.
    pub fn manage(&self) -> Result<KeyFolder<'_>, KeysError> {
        match &self.place {
            KeyPlace::Folder(passphrase) => {
                Ok(KeyFolder::new(&self.folder, passphrase.as_bytes())?)
            }
            KeyPlace::Device(_) => Err(KeysError::InDevice),
        }
    }
}

/// The keys, opened.
pub struct Keys {
    store: Arc<dyn KeyStore>,
    identity: String,
    storage: String,
    anchors: Vec<Certificate>,
    revocations: Watched<Vec<Crl>>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The store of keys does not open, or fails.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Private keys cannot be made in a device, or brought into it.
    #[error(
        "密钥在密码设备中:请用厂商的工具生成,再把索引写到 gateway.yaml 的 keys.device.keys(更换密钥时添加在后面)"
    )]
    InDevice,
    /// There is a store, but not the key that opens it.
    #[error(
        "密钥目录 {folder} 中没有落盘加密密钥 {name},而数据目录 {data} 中已有用它加密的存储:请从备份恢复密钥目录和口令文件。重新生成的密钥打不开已有的存储"
    )]
    StorageLost {
        /// The key's name.
        name: String,
        /// Where it should be.
        folder: String,
        /// Where the store is.
        data: String,
    },
    /// There is no key of this name and use, or it has no certificate.
    #[error("密钥目录中没有{what} {name}:请执行 xinqiao keys init,或核对 gateway.yaml 的 keys")]
    Missing {
        /// Its name.
        name: String,
        /// 签名密钥, 加密密钥, 证书.
        what: &'static str,
    },
    /// A certificate or revocation list that cannot be read.
    #[error("{path}:{why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
}

impl Keys {
    /// Opens the keys and reads whom to trust. Takes about 0.1 s per key.
    pub fn open(config: &KeysConfig) -> Result<Self, KeysError> {
        let store = config.store()?;
        let mut anchors = Vec::new();
        for path in &config.trust {
            anchors.extend(read_certificates(path)?);
        }
        let revocations = watch_revocations(config)?;
        let keys = Self {
            store,
            identity: config.identity.clone(),
            storage: config.storage.clone(),
            anchors,
            revocations,
        };
        keys.key(&keys.storage, KeyUse::Encrypt, "落盘加密密钥")?;
        keys.certified(KeyUse::Sign)?;
        keys.certified(KeyUse::Encrypt)?;
        Ok(keys)
    }

    /// Where the private keys are.
    pub fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Name of the key that what is stored is sealed to.
    pub fn storage(&self) -> &str {
        &self.storage
    }

    /// What protects the store.
    pub fn storage_key(&self) -> StorageKey {
        StorageKey::new(Arc::clone(&self.store), self.storage.as_str())
    }

    /// Name of the keys the gateway signs with, and is sealed to.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The gateway's key of this use, with its certificate first in `chain`.
    pub fn certified(&self, usage: KeyUse) -> Result<KeyEntry, KeysError> {
        let what = match usage {
            KeyUse::Sign => "签名密钥",
            KeyUse::Encrypt => "加密密钥",
        };
        let entry = self.key(&self.identity, usage, what)?;
        if entry.chain.is_empty() {
            let name = entry.id.to_string();
            return Err(KeysError::Missing { name, what: "证书" });
        }
        Ok(entry)
    }

    /// Certificates trusted as issuers.
    pub fn anchors(&self) -> &[Certificate] {
        &self.anchors
    }

    /// What is revoked, by the files of lists as they are; a file that has changed and cannot be
    /// used is told of, and the lists read before stay.
    pub fn revocations(&self, at: Timestamp) -> Arc<Vec<Crl>> {
        self.revocations.now(seconds(at).0)
    }

    /// What a revocation list past its next update means.
    pub fn stale(&self) -> Stale {
        self.revocations.stale()
    }

    /// Whom to trust at a time, with [`Self::revocations`].
    pub fn trust<'a>(&'a self, lists: &'a [Crl], at: Timestamp) -> Trust<'a> {
        let revocation = revocation(lists, self.stale());
        Trust { anchors: &self.anchors, revocation, at: seconds(at) }
    }

    fn key(&self, name: &str, usage: KeyUse, what: &'static str) -> Result<KeyEntry, KeysError> {
        let current = self.store.current(name, usage)?;
        current.ok_or_else(|| KeysError::Missing { name: name.to_owned(), what })
    }
}

/// Lists, if there are any, must say that nothing on a path is revoked.
pub fn revocation(lists: &[Crl], stale: Stale) -> Revocation<'_> {
    match (lists, stale) {
        ([], _) => Revocation::Unchecked,
        (lists, Stale::Accept) => Revocation::RequiredEvenStale(lists),
        (lists, Stale::Refuse) => Revocation::Required(lists),
    }
}

fn watch_revocations(config: &KeysConfig) -> Result<Watched<Vec<Crl>>, KeysError> {
    let notify = Arc::new(|notice: &Notice| {
        let code = notice.code("keys");
        match notice {
            Notice::Renewed => tracing::info!(code, "{notice}"),
            Notice::Unusable(..) => tracing::warn!(code, "{notice}"),
            // Told every day, and days before, by `watch_expiry`.
            Notice::Stale(_) => {}
        }
    });
    let lists = Lists { files: config.revocations.clone(), stale: config.stale, notify };
    let read: Box<Build<Vec<Crl>>> = Box::new(|files| {
        let (mut all, mut due) = (Vec::new(), Vec::new());
        for path in files {
            let lists = read_revocations(path).map_err(|error| match error {
                KeysError::File { path, why } => Unusable(path, why),
                other => Unusable(path.display().to_string(), other.to_string()),
            })?;
            due.extend(lists.iter().map(|list| list.next_update().0).min());
            all.extend(lists);
        }
        Ok((Arc::new(all), due))
    });
    Watched::new(lists, read).map_err(|Unusable(path, why)| KeysError::File { path, why })
}

/// [`KeysConfig::storage_not_lost`] of keys in a folder. Needs no passphrase.
pub fn storage_not_lost(folder: &Path, storage: &str, data: &Path) -> Result<(), KeysError> {
    if !Store::exists(data) {
        return Ok(());
    }
    let have = match FileKeyStore::ids(folder) {
        Err(KeyStoreError::NoFolder(_)) => Vec::new(),
        other => other?,
    };
    if have.iter().any(|id| id.name() == storage && id.usage() == KeyUse::Encrypt) {
        return Ok(());
    }
    Err(KeysError::StorageLost {
        name: storage.to_owned(),
        folder: folder.display().to_string(),
        data: data.display().to_string(),
    })
}

/// What protects the store, for who needs no other key: the folder of keys as it now is.
pub fn storage_key(config: &KeysConfig) -> Result<StorageKey, KeysError> {
    Ok(StorageKey::new(config.store()?, config.storage.as_str()))
}

/// Opens the storage key anew whenever it is called, with the generations made meanwhile.
pub fn reopening(config: KeysConfig) -> Arc<dyn Fn() -> Result<StorageKey, String> + Send + Sync> {
    Arc::new(move || storage_key(&config).map_err(|error| error.to_string()))
}

/// Days a self-signed certificate holds.
const SELF_SIGNED_DAYS: u32 = 3 * 365;

/// Makes what is missing of the keys that the gateway needs: its own with self-signed certificates
/// over `subject`, and the one for what is stored.
pub fn init(
    config: &KeysConfig,
    subject: &Name,
    at: Timestamp,
    iterations: u32,
) -> Result<Vec<KeyId>, KeysError> {
    let folder = config.manage()?.with_iterations(iterations);
    let have = folder.ids()?;
    let has = |name: &str, usage| have.iter().any(|id| id.name() == name && id.usage() == usage);
    let mut made = Vec::new();
    for (usage, role) in [(KeyUse::Sign, Role::Signing), (KeyUse::Encrypt, Role::Encryption)] {
        if has(&config.identity, usage) {
            continue;
        }
        let key = PrivateKey::generate().map_err(KeyStoreError::from)?;
        let template = Template::new(subject.clone(), role, seconds(at), SELF_SIGNED_DAYS);
        let certificate = issue_self_signed(&template, &key)?;
        let id = folder.add(&config.identity, usage, &key)?;
        folder.put_chain(&id, &[certificate])?;
        made.push(id);
    }
    if !has(&config.storage, KeyUse::Encrypt) {
        made.push(folder.generate(&config.storage, KeyUse::Encrypt)?);
    }
    Ok(made)
}

/// Writes a random passphrase into a file (0600), whole or not at all; one that is there stays,
/// unless it is empty: that is an error.
pub fn make_passphrase(file: &Path) -> std::io::Result<()> {
    let secret = PrivateKey::generate().map_err(std::io::Error::other)?;
    let passphrase = Zeroizing::new(hex(secret.to_bytes().as_slice()));
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match publish(file, passphrase.as_bytes(), Existing::Keep) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            match std::fs::metadata(file)?.len() {
                0 => Err(std::io::Error::new(
                    ErrorKind::InvalidData,
                    "口令文件是空的:若从未用过,请删除后再执行;否则请从备份恢复",
                )),
                _ => Ok(()),
            }
        }
        made => made,
    }
}

/// Signs what leaves as the gateway, and seals it to a target's certificates.
pub struct EnvelopeSealer {
    keys: Arc<Keys>,
    signing: KeyEntry,
    to: SealTo,
    clock: Arc<dyn Clock>,
}

impl EnvelopeSealer {
    /// With the gateway's signing key as it now is.
    pub fn new(keys: Arc<Keys>, to: SealTo, clock: Arc<dyn Clock>) -> Result<Self, KeysError> {
        let signing = keys.certified(KeyUse::Sign)?;
        Ok(Self { keys, signing, to, clock })
    }
}

impl EnvelopeSealer {
    /// Nothing leaves under a certificate that the receiver would refuse, or sealed to a key that
    /// its holder may have put away.
    fn in_force(&self, at: UnixSeconds) -> Result<(), String> {
        let own = self.signing.chain.first().map(|own| ("网关的签名证书", own));
        for (whose, one) in own.into_iter().chain(self.to.to.iter().map(|to| ("收件证书", to)))
        {
            let day = |at: UnixSeconds| Timestamp(at.0.saturating_mul(1_000)).shanghai_date();
            let why = match one.expiry(at) {
                Expiry::Fine | Expiry::Soon(_) => continue,
                Expiry::Expired => format!("已于{}过期,请换发后重启网关", day(one.not_after())),
                Expiry::NotYet => {
                    format!("自{}起才生效,请核对证书和本机时钟", day(one.not_before()))
                }
            };
            return Err(format!("无法签名加密:{whose}({}){why}", one.subject()));
        }
        Ok(())
    }
}

impl Sealer for EnvelopeSealer {
    fn seal(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        self.in_force(seconds(self.clock.now()))?;
        let sealed = || {
            let signer = StoredKey::new(&**self.keys.store(), &self.signing.id)?;
            let Some((certificate, chain)) = self.signing.chain.split_first() else {
                return Err(EnvelopeError::NoCertificate);
            };
            let at = seconds(self.clock.now());
            let signing = Signing { certificate, chain, signer: &signer, at };
            let SealTo { to, cipher } = &self.to;
            let mut out = Vec::with_capacity(content.len() + 4_096);
            sign_and_seal(&mut Cursor::new(content), &signing, to, *cipher, &mut out)?;
            Ok(out)
        };
        sealed().map_err(|error| format!("无法签名加密:{error}"))
    }
}

/// Certificates count in seconds.
pub fn seconds(at: Timestamp) -> UnixSeconds {
    UnixSeconds(at.0 / 1_000)
}

/// All certificates of a file, PEM or DER; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<Certificate>, KeysError> {
    read(path, Certificate::from_file)
}

/// All revocation lists of a file, PEM or DER; at least one.
pub fn read_revocations(path: &Path) -> Result<Vec<Crl>, KeysError> {
    read(path, Crl::from_file)
}

fn read<T>(
    path: &Path,
    parse: impl Fn(&[u8]) -> Result<Vec<T>, X509Error>,
) -> Result<Vec<T>, KeysError> {
    let shown = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| KeysError::File {
        path: shown(),
        why: format!("读取失败:{}", io_words(&error)),
    })?;
    parse(&bytes).map_err(|error| KeysError::File { path: shown(), why: error.to_string() })
}
