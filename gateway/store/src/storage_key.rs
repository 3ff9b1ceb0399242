//! The storage key (存储密钥) and what is wrapped by it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xinqiao_crypto::keystore::{KeyEntry, KeyId, KeyStore, KeyStoreError, KeyUse};
use xinqiao_crypto::sm2::{Prehash, PrivateKey, SealError, Signature};
use zeroize::Zeroizing;

use crate::StoreError;

/// The key that protects a store (存储密钥): an SM2 encryption key of a key store, a file under a
/// passphrase or a device. Its newest generation wraps; any generation still there unwraps.
#[derive(Clone)]
pub struct StorageKey {
    keys: Arc<dyn KeyStore>,
    name: String,
}

impl StorageKey {
    /// The encryption key `name` of `keys`.
    pub fn new(keys: Arc<dyn KeyStore>, name: impl Into<String>) -> Self {
        Self { keys, name: name.into() }
    }

    /// A key that is in memory only: for tests, and for stores thrown away with the program.
    pub fn held(key: PrivateKey) -> Self {
        Self::new(Arc::new(Held(key)), HELD)
    }

    /// Whether the generation is there that a key was wrapped by.
    pub(crate) fn holds(&self, key: &str) -> Result<(), StorageKeyError> {
        let id: KeyId = key.parse().map_err(|_| StorageKeyError::Wrong(key.to_owned()))?;
        self.keys.entry(&id).map(drop).map_err(|error| match error {
            KeyStoreError::NotFound(id) => StorageKeyError::Lost(id),
            error => StorageKeyError::Unusable(error),
        })
    }

    /// Name of the key, whatever its generation.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Wraps a secret by the newest generation.
    pub(crate) fn wrap(&self, secret: &[u8]) -> Result<Wrapped, StorageKeyError> {
        let current = self.keys.current(&self.name, KeyUse::Encrypt)?;
        let KeyEntry { id, public_key, .. } =
            current.ok_or_else(|| StorageKeyError::None(self.name.clone()))?;
        let secret = public_key.seal(secret).map_err(|error| match error {
            SealError::Random(error) => error.into(),
            other => KeyStoreError::Device(other.to_string()),
        })?;
        Ok(Wrapped { key: id.to_string(), secret })
    }

    /// Unwraps a secret of `N` bytes.
    pub(crate) fn unwrap<const N: usize>(
        &self,
        wrapped: &Wrapped,
    ) -> Result<Zeroizing<[u8; N]>, StorageKeyError> {
        let wrong = || StorageKeyError::Wrong(wrapped.key.clone());
        let id: KeyId = wrapped.key.parse().map_err(|_| wrong())?;
        let secret = self.keys.open(&id, &wrapped.secret).map_err(|error| match error {
            KeyStoreError::NotFound(id) => StorageKeyError::Lost(id),
            KeyStoreError::Decrypt(_) => wrong(),
            error => StorageKeyError::Unusable(error),
        })?;
        <[u8; N]>::try_from(secret.as_slice()).map(Zeroizing::new).map_err(|_| wrong())
    }
}

impl std::fmt::Debug for StorageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StorageKey({})", self.name)
    }
}

/// Why the storage key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageKeyError {
    /// The key store has no encryption key of this name.
    #[error("没有存储密钥{0}(用途 encrypt):请执行 xinqiao keys init,或核对 gateway.yaml 的 keys")]
    None(String),
    /// A generation that the store still needs is not there.
    #[error("存储由密钥{0}保护,而这把密钥不在了,其内容无法读取:请从备份恢复该密钥,不要另行生成")]
    Lost(KeyId),
    /// The key of this id is another one, or the wrapped key is damaged.
    #[error("密钥{0}打不开这个存储(不是当初的那一把,或存储已损坏):请恢复当初的密钥,或恢复备份")]
    Wrong(String),
    /// The key store or device fails.
    #[error("存储密钥暂不可用:{0}")]
    Unusable(#[from] KeyStoreError),
}

/// A secret under the storage key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wrapped {
    /// The [`KeyId`] that opens it.
    key: String,
    /// SM2 ciphertext in DER.
    secret: Vec<u8>,
}

impl Wrapped {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl From<StorageKeyError> for StoreError {
    fn from(error: StorageKeyError) -> Self {
        Self::Key(error.to_string())
    }
}

/// Name of a [`StorageKey::held`].
const HELD: &str = "storage";

struct Held(PrivateKey);

impl Held {
    fn id() -> Result<KeyId, KeyStoreError> {
        KeyId::new(HELD, KeyUse::Encrypt, 1).map_err(|e| KeyStoreError::Device(e.to_string()))
    }
}

impl KeyStore for Held {
    fn list(&self) -> Result<Vec<KeyEntry>, KeyStoreError> {
        let public_key = self.0.public_key().clone();
        Ok(vec![KeyEntry { id: Self::id()?, public_key, chain: Vec::new() }])
    }

    fn sign(&self, key: &KeyId, _: &Prehash) -> Result<Signature, KeyStoreError> {
        Err(KeyStoreError::WrongUse(key.clone()))
    }

    fn open(&self, key: &KeyId, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError> {
        if *key != Self::id()? {
            return Err(KeyStoreError::NotFound(key.clone()));
        }
        Ok(self.0.open(ciphertext)?)
    }
}
