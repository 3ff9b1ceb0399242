//! Sealing (落盘加密): values under data keys (SM4-GCM), data keys under the storage key (SM2).
//!
//! A nonce is never used twice under a data key, by construction: a data key is made by the process
//! that seals with it, its counter lives in that process only, and neither outlives it. So no crash,
//! rollback or restored backup brings a counter back. The data key of a former process only opens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};
use xinqiao_crypto::aead::{Nonce, Sm4Gcm, TAG_LENGTH};
use xinqiao_crypto::keystore::KeyStoreError;
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::{DecryptError, DigestKey, hex};
use zeroize::Zeroizing;

use crate::committer::Tx;
use crate::storage_key::Wrapped;
use crate::{Shared, StorageKey, StorageKeyError, StoreError};

/// Length of the nonce at the head of a sealed value: segment (u32), counter (u64), big-endian.
pub(crate) const NONCE: usize = 12;
/// A data key is replaced after so many sealings, or so many bytes: far below what GCM bears.
const SEALINGS: u64 = 1 << 31;
const BYTES: u64 = 32 << 30;
/// Past this nothing is sealed at all.
const MOST_SEALINGS: u64 = 1 << 32;
/// Damaged values remembered, so that each is logged once.
const REMEMBERED: usize = 1_000;

/// What [`Store::rewrap`](crate::Store::rewrap) did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrapped {
    /// The generation that protects the store now, such as `storage.encrypt.0002`.
    pub key: String,
    /// Data keys it wraps.
    pub segments: u64,
    /// Data keys that no longer unwrap, because their rows are damaged: left as they are.
    pub damaged: u64,
}

impl Shared {
    /// What the disk knows a message's bytes by. Their SM3 would let a guess at the one personal
    /// number in a short message be proved.
    pub(crate) fn message_name(&self, sm3: &[u8; 32]) -> [u8; 32] {
        self.key.digest(&[b"xinqiao-store message\0".as_slice(), sm3].concat())
    }

    /// A segment whose key is on disk, for what is written outside transactions.
    pub(crate) async fn durable_segment(&self) -> Result<Arc<Current>, StoreError> {
        if let Some(current) = self.seals.durable() {
            return Ok(current);
        }
        let current = |tx: &mut Tx<'_>| {
            let current = tx.state.seals.current()?;
            tx.dirty = true;
            Ok(current)
        };
        self.committer()?.commit_receipt(256, current).await
    }

    pub(crate) async fn new_segment(&self) -> Result<u32, StoreError> {
        let renew = |tx: &mut Tx<'_>| {
            let id = tx.state.seals.renew()?.id();
            tx.dirty = true;
            Ok(id)
        };
        self.committer()?.commit(256, renew).await
    }

    pub(crate) async fn rewrap(&self, key: StorageKey) -> Result<Rewrapped, StoreError> {
        let (seals, with) = (Arc::clone(&self.seals), key.clone());
        let prepared = tokio::task::spawn_blocking(move || seals.rewrapped(&with)).await;
        let prepared = prepared.map_err(|error| StoreError::Io(error.to_string()))??;
        self.committer()?
            .commit(256, move |tx| {
                let damaged = prepared.damaged();
                let (identity, segments) = tx.state.seals.adopt(key, prepared)?;
                tx.dirty = true;
                for (id, wrapped) in &segments {
                    tx.tables.segment.put(&id.to_be_bytes(), wrapped)?;
                }
                tx.tables.meta.put(b"identity", &identity)?;
                let key = identity.key().to_owned();
                Ok(Rewrapped { key, segments: segments.len() as u64, damaged })
            })
            .await
    }
}

/// All that seals and opens. One per open store.
pub(crate) struct Seals {
    /// What records and messages are recognised by, without anybody else being able to.
    identity: OnceLock<DigestKey>,
    inner: RwLock<Inner>,
    damaged: Mutex<BTreeSet<(&'static str, Vec<u8>)>>,
}

struct Inner {
    storage: StorageKey,
    identity: Option<Wrapped>,
    segments: BTreeMap<u32, Segment>,
    current: Option<Arc<Current>>,
    /// Made, but not yet durable. Only a transaction makes segments, and saves them with what it
    /// sealed.
    unsaved: BTreeSet<u32>,
}

struct Segment {
    wrapped: Wrapped,
    /// Unwrapped when first needed.
    cipher: Option<Arc<Sm4Gcm>>,
}

/// The segment this process seals with.
pub(crate) struct Current {
    id: u32,
    cipher: Arc<Sm4Gcm>,
    sealings: AtomicU64,
    bytes: AtomicU64,
}

impl Current {
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn worn(&self) -> bool {
        self.sealings.load(Ordering::Relaxed) >= SEALINGS
            || self.bytes.load(Ordering::Relaxed) >= BYTES
    }

    /// Seals `buffer`, which is room for the nonce, then the plaintext.
    pub(crate) fn seal(
        &self,
        table: &str,
        key: &[u8],
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let counter = self.sealings.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        let room = || StoreError::Corrupt("加密缓冲区的长度不对".to_owned());
        let (head, plaintext) = buffer.split_first_chunk_mut::<NONCE>().ok_or_else(room)?;
        if counter >= MOST_SEALINGS {
            return Err(StoreError::Key("数据密钥已用尽".to_owned()));
        }
        *head = nonce(self.id, counter);
        let tag = self
            .cipher
            .seal_in_place(Nonce::from_protocol(*head), &associated(table, key), plaintext)
            .map_err(|error| StoreError::Io(error.to_string()))?;
        buffer.extend_from_slice(&tag);
        Ok(buffer)
    }
}

impl Seals {
    pub(crate) fn new(storage: StorageKey) -> Self {
        Self {
            identity: OnceLock::new(),
            inner: RwLock::new(Inner {
                storage,
                identity: None,
                segments: BTreeMap::new(),
                current: None,
                unsaved: BTreeSet::new(),
            }),
            damaged: Mutex::default(),
        }
    }

    /// Takes in what the store holds, or makes the identity key of a new one; gives the wrapped
    /// identity, to be written if it is new. Refuses if a key that is needed is not there.
    pub(crate) fn load(
        &self,
        identity: Option<Wrapped>,
        segments: Vec<(u32, Wrapped)>,
    ) -> Result<Wrapped, StorageKeyError> {
        let mut inner = self.write();
        let (wrapped, secret) = match identity {
            Some(wrapped) => {
                let secret = inner.storage.unwrap::<32>(&wrapped)?;
                (wrapped, secret)
            }
            None => {
                let mut secret = Zeroizing::new([0; 32]);
                for half in secret.chunks_mut(16) {
                    half.copy_from_slice(
                        Sm4Key::generate().map_err(KeyStoreError::from)?.as_bytes(),
                    );
                }
                (inner.storage.wrap(secret.as_slice())?, secret)
            }
        };
        let needed: BTreeSet<&str> = segments.iter().map(|(_, s)| s.key()).collect();
        needed.into_iter().try_for_each(|key| inner.storage.holds(key))?;
        let known = |(id, wrapped)| (id, Segment { wrapped, cipher: None });
        inner.segments = segments.into_iter().map(known).collect();
        inner.identity = Some(wrapped.clone());
        // Set once: a store is loaded once.
        let _ = self.identity.set(DigestKey::new(*secret));
        Ok(wrapped)
    }

    /// What records and messages are recognised by.
    pub(crate) fn identity(&self) -> Result<&DigestKey, StoreError> {
        self.identity.get().ok_or_else(|| StoreError::Key("存储尚未打开".to_owned()))
    }

    // ---- within a transaction ----

    /// The segment to seal with. Only within a transaction, which saves it if it is new.
    pub(crate) fn current(&self) -> Result<Arc<Current>, StoreError> {
        match &self.read().current {
            Some(current) if !current.worn() => return Ok(Arc::clone(current)),
            _ => {}
        }
        self.renew()
    }

    /// Makes a new segment, for all that is sealed from now on. Only within a transaction.
    pub(crate) fn renew(&self) -> Result<Arc<Current>, StoreError> {
        let mut inner = self.write();
        let last = inner.segments.last_key_value().map_or(0, |(id, _)| *id);
        let id = last.checked_add(1).ok_or_else(|| StoreError::Key("段号已用尽".to_owned()))?;
        let key = Sm4Key::generate().map_err(|error| StoreError::Key(error.to_string()))?;
        let mut secret = Zeroizing::new([0; 32]);
        let (head, tail) = secret.split_at_mut(16);
        head.copy_from_slice(key.as_bytes());
        tail.copy_from_slice(&self.check(id, &key)?);
        let wrapped = inner.storage.wrap(secret.as_slice())?;
        let cipher = Arc::new(Sm4Gcm::new(&key));
        inner.segments.insert(id, Segment { wrapped, cipher: Some(Arc::clone(&cipher)) });
        inner.unsaved.insert(id);
        let (sealings, bytes) = Default::default();
        let current = Arc::new(Current { id, cipher, sealings, bytes });
        inner.current = Some(Arc::clone(&current));
        Ok(current)
    }

    /// The segments to be written with this transaction.
    pub(crate) fn unsaved(&self) -> Vec<(u32, Wrapped)> {
        let inner = self.read();
        let of = |id: &u32| Some((*id, inner.segments.get(id)?.wrapped.clone()));
        inner.unsaved.iter().filter_map(of).collect()
    }

    /// The transaction is durable, and so are the segments it wrote.
    pub(crate) fn saved(&self) {
        if !self.read().unsaved.is_empty() {
            self.write().unsaved.clear();
        }
    }

    /// Wraps everything by `key` from now on; gives the rows to be written. `prepared` was made by
    /// [`Seals::rewrapped`]; segments that came after it are wrapped here.
    pub(crate) fn adopt(
        &self,
        key: StorageKey,
        prepared: Prepared,
    ) -> Result<(Wrapped, Vec<(u32, Wrapped)>), StoreError> {
        let mut inner = self.write();
        let mut rows = prepared.segments;
        for (id, segment) in &inner.segments {
            if !rows.contains_key(id) && !prepared.damaged.contains(id) {
                rows.insert(*id, key.wrap(key.unwrap::<32>(&segment.wrapped)?.as_slice())?);
            }
        }
        for (id, wrapped) in &rows {
            if let Some(segment) = inner.segments.get_mut(id) {
                segment.wrapped = wrapped.clone();
            }
        }
        inner.storage = key;
        inner.identity = Some(prepared.identity.clone());
        Ok((prepared.identity, rows.into_iter().collect()))
    }

    // ---- anywhere ----

    /// The current segment, if it is on disk.
    pub(crate) fn durable(&self) -> Option<Arc<Current>> {
        let inner = self.read();
        let current = inner.current.as_ref()?;
        (!current.worn() && !inner.unsaved.contains(&current.id)).then(|| Arc::clone(current))
    }

    /// Every wrapped key under the newest generation of `key`, nothing written yet.
    pub(crate) fn rewrapped(&self, key: &StorageKey) -> Result<Prepared, StorageKeyError> {
        let (identity, segments) = {
            let inner = self.read();
            let rows = inner.segments.iter().map(|(id, s)| (*id, s.wrapped.clone()));
            (inner.identity.clone(), rows.collect::<Vec<_>>())
        };
        let identity = identity.ok_or_else(|| StorageKeyError::None(key.name().to_owned()))?;
        let again = |old: &Wrapped| key.wrap(key.unwrap::<32>(old)?.as_slice());
        let mut prepared = Prepared {
            identity: again(&identity)?,
            segments: BTreeMap::new(),
            damaged: BTreeSet::new(),
        };
        for (id, old) in segments {
            match again(&old) {
                Ok(wrapped) => drop(prepared.segments.insert(id, wrapped)),
                Err(StorageKeyError::Wrong(_)) => drop(prepared.damaged.insert(id)),
                Err(error) => return Err(error),
            }
        }
        Ok(prepared)
    }

    /// Storage keys that are needed to open the store, and how many data keys each wraps.
    pub(crate) fn in_use(&self) -> BTreeMap<String, u64> {
        let inner = self.read();
        let mut counts = BTreeMap::new();
        if let Some(identity) = &inner.identity {
            counts.insert(identity.key().to_owned(), 0);
        }
        for segment in inner.segments.values() {
            *counts.entry(segment.wrapped.key().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Whether the data key of a segment can be had.
    pub(crate) fn opens(&self, id: u32) -> Result<bool, StoreError> {
        Ok(self.cipher(id)?.is_some())
    }

    /// Opens a value that was sealed for this place.
    pub(crate) fn open(
        &self,
        table: &'static str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let opened = self.try_open(table, key, sealed);
        if let Err(StoreError::Damaged(_)) = opened {
            self.log(table, key);
        }
        opened
    }

    /// Logs, once, that something does not open.
    pub(crate) fn log(&self, table: &'static str, key: &[u8]) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < REMEMBERED && damaged.insert((table, key.to_vec())) {
            tracing::error!(table, key = hex(key), "a stored value does not open");
        }
    }

    fn try_open(
        &self,
        table: &'static str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Damaged(table);
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>().ok_or_else(damaged)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LENGTH>().ok_or_else(damaged)?;
        let [a, b, c, d, ..] = *nonce;
        let cipher = self.cipher(u32::from_be_bytes([a, b, c, d]))?.ok_or_else(damaged)?;
        let mut buffer = ciphertext.to_vec();
        cipher
            .open_in_place(nonce, &associated(table, key), &mut buffer, tag)
            .map_err(|DecryptError| damaged())?;
        Ok(buffer)
    }

    /// A segment's cipher; `None` if there is no such segment, or its key was not made by us.
    fn cipher(&self, id: u32) -> Result<Option<Arc<Sm4Gcm>>, StoreError> {
        if let Some(cipher) = self.read().segments.get(&id).and_then(|s| s.cipher.as_ref()) {
            return Ok(Some(Arc::clone(cipher)));
        }
        let mut inner = self.write();
        let Inner { storage, segments, .. } = &mut *inner;
        let Some(segment) = segments.get_mut(&id) else { return Ok(None) };
        if let Some(cipher) = &segment.cipher {
            return Ok(Some(Arc::clone(cipher)));
        }
        let secret = match storage.unwrap::<32>(&segment.wrapped) {
            Err(StorageKeyError::Wrong(_)) => return Ok(None),
            other => other?,
        };
        let (key, check) = secret.split_at(16);
        let Some(key) = Sm4Key::from_slice(key) else { return Ok(None) };
        if self.check(id, &key)? != check {
            return Ok(None);
        }
        let cipher = Arc::new(Sm4Gcm::new(&key));
        segment.cipher = Some(Arc::clone(&cipher));
        Ok(Some(cipher))
    }

    /// Ties a data key to its segment and this store. Anybody can wrap a key for the storage key's
    /// public half; only who knows the identity key can make it pass as ours.
    fn check(&self, id: u32, key: &Sm4Key) -> Result<[u8; 16], StoreError> {
        let mut text = Zeroizing::new(b"xinqiao-store segment\0".to_vec());
        text.extend_from_slice(&id.to_be_bytes());
        text.extend_from_slice(key.as_bytes());
        Ok(crate::short(self.identity()?.digest(&text)))
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be written to have everything under another key.
pub(crate) struct Prepared {
    identity: Wrapped,
    segments: BTreeMap<u32, Wrapped>,
    damaged: BTreeSet<u32>,
}

impl Prepared {
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.len() as u64
    }
}

fn nonce(segment: u32, counter: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    let (head, tail) = nonce.split_at_mut(4);
    head.copy_from_slice(&segment.to_be_bytes());
    tail.copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Table and key of a value: elsewhere it does not open.
fn associated(table: &str, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(table.len() + 1 + key.len());
    bytes.extend_from_slice(table.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key);
    bytes
}
