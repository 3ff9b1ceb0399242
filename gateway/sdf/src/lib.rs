//! Keys in a cryptographic device (密码机, 密码卡): [`KeyStore`] over the library that a vendor gives
//! along, loaded by its path at run time. The interface is GM/T 0018-2012 (SDF).
//!
//! Only the two private-key operations are the device's. `Z`, digests and SM4 are computed here,
//! and nothing the device gives is believed: a signature is verified with the key's public half
//! before it leaves (a broken or attacked device could otherwise give its key away), a point goes
//! to the device only if it is on the curve, every length is compared.
//!
//! Opening a ciphertext needs `SDF_InternalDecrypt_ECC`, which is **not** in the standard: it knows
//! only the import of a session key that stays inside. Vendors have the function nevertheless, in
//! two forms that a program cannot tell apart ([`DecryptForm`]).

mod abi;
mod fault;
mod pool;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use xinqiao_crypto::DecryptError;
use xinqiao_crypto::keystore::{
    CertificateFolder, KeyEntry, KeyId, KeyStore, KeyStoreError, KeyUse,
};
use xinqiao_crypto::sm2::encryption::convert;
use xinqiao_crypto::sm2::{CiphertextFormat, Prehash, PublicKey, Signature, SignerId};
use zeroize::Zeroizing;

use abi::{MAX_PLAINTEXT, Sealed, Session};
use fault::Fault;
use pool::Pool;

/// How a vendor's `SDF_InternalDecrypt_ECC` is called. The wrong one crashes the process; opening
/// the store tries it, so that this happens at the start or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecryptForm {
    /// Session, index, ciphertext, plaintext, length.
    Plain,
    /// Session, index, algorithm (`SGD_SM2_3`), ciphertext, plaintext, length.
    WithAlgorithm,
}

/// A device and what is in it.
#[derive(Clone)]
pub struct DeviceConfig {
    /// The vendor's library. A path with a `/`, or the system's search path decides.
    pub library: PathBuf,
    /// Gives the right to use the private keys (私钥使用权限), the same for all of them.
    pub pin: Zeroizing<String>,
    /// Indexes in the device by name, first generation first. Each index has a signing and an
    /// encryption key, or one of them.
    pub keys: BTreeMap<String, Vec<u32>>,
    /// Which form the vendor has.
    pub decrypt: DecryptForm,
    /// Sessions at once, at least 1.
    pub sessions: usize,
    /// Holds the certificates, `<id>.crt`.
    pub certificates: PathBuf,
}

/// Sessions unless told otherwise: devices allow some hundreds, for all who use them.
pub const SESSIONS: usize = 8;

/// The keys of a device. Its certificates and list are a picture of the time it was opened.
pub struct SdfKeyStore {
    pool: Arc<Pool>,
    keys: BTreeMap<KeyId, (u32, KeyEntry)>,
}

impl SdfKeyStore {
    /// Loads the library, reads the public keys, and has each private key work once.
    pub fn open(config: &DeviceConfig) -> Result<Self, KeyStoreError> {
        let pool = Pool::of(config)?;
        let mut found = Vec::new();
        let mut places = BTreeMap::new();
        for (name, indexes) in &config.keys {
            for (generation, index) in (1..).zip(indexes) {
                let both = pool.with(None, |session| {
                    let signing = if_any(session.signing_key(*index))?;
                    let encryption = if_any(session.encryption_key(*index))?;
                    Ok([(KeyUse::Sign, signing), (KeyUse::Encrypt, encryption)])
                })?;
                if both.iter().all(|(_, key)| key.is_none()) {
                    let text = format!("索引 {index} 处没有 SM2 密钥({name}):请用厂商的工具生成");
                    return Err(KeyStoreError::Device(text));
                }
                for (usage, key) in both {
                    let Some(key) = key else { continue };
                    let id = KeyId::new(name, usage, generation)
                        .map_err(|_| KeyStoreError::FileName(name.clone()))?;
                    places.insert(id.clone(), *index);
                    found.push((id, key));
                }
            }
        }
        let entries = CertificateFolder(&config.certificates).entries(found)?;
        let place = |entry: KeyEntry| {
            let index = places.get(&entry.id).copied().unwrap_or_default();
            (entry.id.clone(), (index, entry))
        };
        let store = Self { pool, keys: entries.into_iter().map(place).collect() };
        store.keys.keys().try_for_each(|id| store.try_out(id))?;
        Ok(store)
    }

    /// Has a private key work once.
    fn try_out(&self, id: &KeyId) -> Result<(), KeyStoreError> {
        match id.usage() {
            KeyUse::Sign => {
                let (_, entry) = self.key(id, KeyUse::Sign)?;
                let e = entry.public_key.prehash(SignerId::STANDARD, b"xinqiao");
                self.sign(id, &e).map(|_| ())
            }
            KeyUse::Encrypt => {
                let (index, entry) = self.key(id, KeyUse::Encrypt)?;
                Ok(self
                    .pool
                    .with(Some(*index), |session| probe(session, *index, &entry.public_key))?)
            }
        }
    }

    fn key(&self, id: &KeyId, usage: KeyUse) -> Result<&(u32, KeyEntry), KeyStoreError> {
        let key = self.keys.get(id).ok_or_else(|| KeyStoreError::NotFound(id.clone()))?;
        (id.usage() == usage).then_some(key).ok_or_else(|| KeyStoreError::WrongUse(id.clone()))
    }
}

impl KeyStore for SdfKeyStore {
    fn list(&self) -> Result<Vec<KeyEntry>, KeyStoreError> {
        Ok(self.keys.values().map(|(_, entry)| entry.clone()).collect())
    }

    fn sign(&self, key: &KeyId, e: &Prehash) -> Result<Signature, KeyStoreError> {
        let (index, entry) = self.key(key, KeyUse::Sign)?;
        Ok(self.pool.with(Some(*index), |session| {
            let signature = session.sign(*index, e)?;
            let verified = entry.public_key.verify_prehash(e, &signature);
            verified.map_err(|_| Fault::Wrong("签名与公钥不符"))?;
            Ok(signature)
        })?)
    }

    fn open(&self, key: &KeyId, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError> {
        let (index, entry) = self.key(key, KeyUse::Encrypt)?;
        let sealed = take_apart(ciphertext)?;
        // Vendors tell of a wrong ciphertext by whatever code. If the same session then opens one
        // of ours, the device is well and the ciphertext was wrong.
        let opened =
            self.pool.with(Some(*index), |session| match session.decrypt(*index, &sealed) {
                Err(fault) if fault.is_own() => Err(fault),
                Err(_) => probe(session, *index, &entry.public_key).map(|()| None),
                Ok(plaintext) => Ok(Some(plaintext)),
            })?;
        Ok(opened.ok_or(DecryptError)?)
    }
}

/// Seals something to a key and has the device open it.
fn probe(session: &Session, index: u32, key: &PublicKey) -> Result<(), Fault> {
    const PROBE: [u8; 16] = *b"xinqiao probing.";
    let sealed = key.seal(&PROBE).map_err(|_| Fault::Wrong("没有随机数"))?;
    let sealed = take_apart(&sealed).map_err(|_| Fault::Wrong("密文格式"))?;
    let opened = session.decrypt(index, &sealed)?;
    if *opened == PROBE { Ok(()) } else { Err(Fault::Wrong("解密结果与原文不符")) }
}

/// From DER to what a device takes; refuses points off the curve, lest the device does not.
fn take_apart(ciphertext: &[u8]) -> Result<Sealed, DecryptError> {
    let raw = convert(ciphertext, CiphertextFormat::Der, CiphertextFormat::C1C3C2)?;
    let (point, rest) = raw.split_first_chunk::<65>().ok_or(DecryptError)?;
    PublicKey::from_sec1(point).map_err(|_| DecryptError)?;
    let (digest, cipher) = rest.split_first_chunk::<32>().ok_or(DecryptError)?;
    let (x, y) = point[1..].split_at(32);
    let mut ciphertext = [0; MAX_PLAINTEXT];
    ciphertext.get_mut(..cipher.len()).ok_or(DecryptError)?.copy_from_slice(cipher);
    Ok(Sealed {
        x: x.try_into().map_err(|_| DecryptError)?,
        y: y.try_into().map_err(|_| DecryptError)?,
        digest: *digest,
        len: u32::try_from(cipher.len()).map_err(|_| DecryptError)?,
        ciphertext,
    })
}

/// A key that is not there is none, and no failure.
fn if_any(key: Result<PublicKey, Fault>) -> Result<Option<PublicKey>, Fault> {
    match key {
        Err(fault) if fault.is_no_key() => Ok(None),
        other => other.map(Some),
    }
}
