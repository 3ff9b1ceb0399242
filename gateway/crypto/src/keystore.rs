//! Where private keys live: the one boundary that hardware replaces.
//!
//! Everything that is secret for long goes through [`KeyStore`]; all else of this crate is plain
//! functions on typed keys. A device (密码机, SDF of GM/T 0018) implements the same four acts: it
//! lists keys, signs an `e`, opens an SM2 ciphertext, and never shows a private key. `Z` and the
//! digest are computed here, because SDF takes `e` too; so the signer's id is in the [`Prehash`].

use xinqiao_core::fault::io_words;
use zeroize::Zeroizing;

use crate::pkcs8::KeyFileError;
use crate::sm2::{Prehash, PrivateKey, PublicKey, Signature, SignerId};
use crate::x509::Certificate;
use crate::{DecryptError, RandomError};

mod file;
mod id;

pub use file::{CertificateFolder, Existing, FileKeyStore, KeyFolder, publish};
pub use id::{InvalidKeyId, KeyId, KeyUse};

/// What went wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// No key of this id.
    #[error("没有密钥 {0}")]
    NotFound(KeyId),
    /// The key exists already; keys are never overwritten.
    #[error("密钥 {0} 已存在,不会覆盖")]
    Exists(KeyId),
    /// Signing asked of an encryption key, or opening of a signing key.
    #[error("密钥 {0} 的用途不符")]
    WrongUse(KeyId),
    /// The certificate holds another public key, or its key usage does not fit.
    #[error("证书与密钥 {0} 不匹配(公钥或密钥用途不同)")]
    WrongCertificate(KeyId),
    /// A key file that does not open.
    #[error("密钥文件 {file}:{error}")]
    KeyFile {
        /// Its name in the folder.
        file: String,
        /// Why.
        error: KeyFileError,
    },
    /// A certificate file that cannot be read.
    #[error("证书文件 {0} 无法识别")]
    CertificateFile(String),
    /// A file in the key folder that is not named as a key.
    #[error("密钥目录中的文件名 {0} 不符合规则")]
    FileName(String),
    /// A key file that others may read.
    #[error("密钥文件 {0} 可被其他用户读取,请执行 chmod 600")]
    Permissions(String),
    /// The ciphertext does not open.
    #[error(transparent)]
    Decrypt(#[from] DecryptError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Not a name for a key.
    #[error(
        "密钥名称 {0} 不可用:应为 1 至 64 个小写字母、数字或连字符,不以连字符开头,如 gateway;序号至多 9999"
    )]
    Name(String),
    /// No folder of keys.
    #[error("没有密钥目录 {0}:首次安装请执行 xinqiao keys init;若曾有过,请核对路径,或从备份恢复")]
    NoFolder(String),
    /// The disk, with what was being done. The error is told here whole.
    #[error("密钥目录读写失败({0}):{why}", why = io_words(.1))]
    Io(String, std::io::Error),
    /// A device's own failure, in its words.
    #[error("密码设备错误:{0}")]
    Device(String),
}

/// A key as [`KeyStore::list`] shows it.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// Its id.
    pub id: KeyId,
    /// Its public half.
    pub public_key: PublicKey,
    /// Its certificate and the issuers' that came with it, own first; empty until there is one.
    pub chain: Vec<Certificate>,
}

/// A place that holds private keys and uses them on request.
pub trait KeyStore: Send + Sync {
    /// All keys, by id.
    fn list(&self) -> Result<Vec<KeyEntry>, KeyStoreError>;

    /// One key. The default looks through [`Self::list`].
    fn entry(&self, key: &KeyId) -> Result<KeyEntry, KeyStoreError> {
        self.list()?
            .into_iter()
            .find(|entry| entry.id == *key)
            .ok_or_else(|| KeyStoreError::NotFound(key.clone()))
    }

    /// Signs an `e` that was made with this key's public half.
    fn sign(&self, key: &KeyId, e: &Prehash) -> Result<Signature, KeyStoreError>;

    /// Opens an SM2 ciphertext in DER.
    fn open(&self, key: &KeyId, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError>;

    /// The certificate of a key and its issuers, own first; empty if it has none.
    fn certificate(&self, key: &KeyId) -> Result<Vec<Certificate>, KeyStoreError> {
        Ok(self.entry(key)?.chain)
    }

    /// The generation in use: the newest that has a certificate, or the newest if none has. So a
    /// rotated key waits until its certificate has come.
    fn current(&self, name: &str, usage: KeyUse) -> Result<Option<KeyEntry>, KeyStoreError> {
        Ok(self
            .list()?
            .into_iter()
            .filter(|entry| entry.id.name() == name && entry.id.usage() == usage)
            .max_by_key(|entry| (!entry.chain.is_empty(), entry.id.generation())))
    }
}

/// Something that signs with one key: a [`PrivateKey`] in memory or a [`StoredKey`].
pub trait Signer {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs an `e` that was made with [`Self::public_key`].
    fn sign_prehash(&self, e: &Prehash) -> Result<Signature, KeyStoreError>;

    /// Signs a message as `id`.
    fn sign(&self, id: SignerId<'_>, message: &[u8]) -> Result<Signature, KeyStoreError> {
        self.sign_prehash(&self.public_key().prehash(id, message))
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        self.public_key()
    }

    fn sign_prehash(&self, e: &Prehash) -> Result<Signature, KeyStoreError> {
        Ok(self.sign_prehash(e)?)
    }
}

/// One key of a store, as a [`Signer`].
pub struct StoredKey<'a> {
    store: &'a dyn KeyStore,
    entry: KeyEntry,
}

impl<'a> StoredKey<'a> {
    /// Looks the key up.
    pub fn new(store: &'a dyn KeyStore, key: &KeyId) -> Result<Self, KeyStoreError> {
        let entry = store.entry(key)?;
        Ok(Self { store, entry })
    }

    /// What the store says of it.
    pub fn entry(&self) -> &KeyEntry {
        &self.entry
    }
}

impl Signer for StoredKey<'_> {
    fn public_key(&self) -> &PublicKey {
        &self.entry.public_key
    }

    fn sign_prehash(&self, e: &Prehash) -> Result<Signature, KeyStoreError> {
        self.store.sign(&self.entry.id, e)
    }
}
