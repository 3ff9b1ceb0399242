//! Tables and keys. Integers in keys are big-endian, identifiers end in a zero byte, so that the
//! order of bytes is the order meant.

use std::borrow::Cow;
use std::sync::Arc;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{TargetId, Timestamp};

use crate::encode::{decode, encode_after};
use crate::seal::{NONCE, Seals};
use crate::{ItemState, StoreError};

type Bytes = &'static [u8];

/// Room for an encoded value: most rows fit.
const USUAL: usize = 480;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $kind:ident),* $(,)?) => {
        /// Every table, open for writing.
        pub(crate) struct Tables<'t> {
            $($(#[$doc])* pub(crate) $name: Keyspace<Table<'t, Bytes, Bytes>>,)*
        }

        impl<'t> Tables<'t> {
            pub(crate) fn open(
                write: &'t WriteTransaction,
                seals: &Arc<Seals>,
            ) -> Result<Self, StoreError> {
                Ok(Self {
                    $($name: Keyspace {
                        rows: write
                            .open_table(TableDefinition::new(stringify!($name)))
                            .map_err(engine)?,
                        name: stringify!($name),
                        seals: $kind(seals),
                    },)*
                })
            }
        }

        /// Every table, as of one commit.
        pub(crate) struct Snapshot {
            $($(#[$doc])* pub(crate) $name: Keyspace<ReadOnlyTable<Bytes, Bytes>>,)*
        }

        impl Snapshot {
            pub(crate) fn open(
                read: &ReadTransaction,
                seals: &Arc<Seals>,
            ) -> Result<Self, StoreError> {
                Ok(Self {
                    $($name: Keyspace {
                        rows: read
                            .open_table(TableDefinition::new(stringify!($name)))
                            .map_err(engine)?,
                        name: stringify!($name),
                        seals: $kind(seals),
                    },)*
                })
            }
        }
    };
}

// No key of any table, and no value of a plain one, may hold content.
tables! {
    /// name → format version, identity key (wrapped), positions
    meta: plain,
    /// segment → data key (wrapped)
    segment: plain,
    /// message → MessageRow and payload
    message: sealed,
    /// feed, message → ProgressRow
    progress: sealed,
    /// feed, message → nothing; exactly the unfinished
    pending: plain,
    /// feed, keyed digest of the bytes → message
    content: plain,
    /// feed → the source's cursor, as given
    cursor: sealed,
    /// record → SentBack: no record yet, but a row of it was sent back
    sent_back: plain,
    /// record → RecordRow
    record: sealed,
    /// seq → version number and VersionRow: the versions are the change feed
    version: sealed,
    /// item → ItemRow
    item: sealed,
    /// state, target, deadline, item → nothing
    queue: plain,
    /// target, due, item → nothing; exactly the waiting
    waiting: plain,
    /// message, first row → [VerdictRow]
    verdict: sealed,
    /// feed, message, index of a row → Change: what its agency has not been told
    feedback: plain,
    /// record, version, message, index of a row → feed: the rows a version came in
    place: plain,
    /// feed → FeedCounters
    feed: plain,
    /// target → counts by state
    target: plain,
    /// keyed digest of a legacy code, keyed digest of what it is mapped to → UsccRow
    uscc: sealed,
    /// message, row index → HeldRow
    held: sealed,
    /// keyed digest of a legacy code, message, row index → nothing; exactly what held rows want
    wanted: plain,
    /// message, row index → attempts; held rows to be looked at again
    rerun: plain,
    /// agency, dataset, period → ZeroRow
    zero: sealed,
}

/// The mapping table alone, as of the last commit: it is asked for row by row.
pub(crate) fn uscc_table(
    read: &ReadTransaction,
    seals: &Arc<Seals>,
) -> Result<Keyspace<ReadOnlyTable<Bytes, Bytes>>, StoreError> {
    let rows = read.open_table(TableDefinition::new("uscc")).map_err(engine)?;
    Ok(Keyspace { rows, name: "uscc", seals: sealed(seals) })
}

fn plain(_: &Arc<Seals>) -> Option<Arc<Seals>> {
    None
}

fn sealed(seals: &Arc<Seals>) -> Option<Arc<Seals>> {
    Some(Arc::clone(seals))
}

/// A table of bytes. Here, and nowhere else, values are sealed and opened.
pub(crate) struct Keyspace<T> {
    rows: T,
    name: &'static str,
    /// `None`: its values stand in the clear.
    seals: Option<Arc<Seals>>,
}

/// A value as it was found, not yet opened.
pub(crate) struct Value<'a> {
    bytes: &'a [u8],
    key: &'a [u8],
    seals: Option<(&'a Seals, &'static str)>,
}

impl<'a> Value<'a> {
    /// What it holds.
    pub(crate) fn open(&self) -> Result<Cow<'a, [u8]>, StoreError> {
        match self.seals {
            None => Ok(Cow::Borrowed(self.bytes)),
            Some((seals, table)) => seals.open(table, self.key, self.bytes).map(Cow::Owned),
        }
    }

    /// What it holds, decoded.
    pub(crate) fn decode<V: DeserializeOwned>(&self) -> Result<V, StoreError> {
        decode(&self.open()?)
    }
}

impl<T: ReadableTable<Bytes, Bytes>> Keyspace<T> {
    /// Reads one value.
    pub(crate) fn read<V: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<V>, StoreError> {
        let found = self.rows.get(key).map_err(engine)?;
        found.map(|guard| self.value(key, guard.value()).decode()).transpose()
    }

    /// Reads one value as bytes.
    pub(crate) fn bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.rows.get(key).map_err(engine)?;
        found.map(|guard| Ok(self.value(key, guard.value()).open()?.into_owned())).transpose()
    }

    /// Whether there is a row.
    pub(crate) fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.rows.get(key).map_err(engine)?.is_some())
    }

    /// Visits the rows from `from` (inclusive) in order until `visit` answers `false`.
    pub(crate) fn scan(
        &self,
        from: &[u8],
        mut visit: impl FnMut(&[u8], Value<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.rows.range::<&[u8]>(from..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            let key = key.value();
            if !visit(key, self.value(key, value.value()))? {
                break;
            }
        }
        Ok(())
    }

    /// Visits the keys that begin with `prefix`; `visit` gets the rest of each.
    pub(crate) fn scan_prefix(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(prefix, |key, _| match key.strip_prefix(prefix) {
            Some(rest) => visit(rest),
            None => Ok(false),
        })
    }

    fn value<'a>(&'a self, key: &'a [u8], bytes: &'a [u8]) -> Value<'a> {
        Value { bytes, key, seals: self.seals.as_deref().map(|seals| (seals, self.name)) }
    }
}

impl<T: ReadableTableMetadata> Keyspace<T> {
    /// How many rows there are.
    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        self.rows.len().map_err(engine)
    }
}

impl Keyspace<ReadOnlyTable<Bytes, Bytes>> {
    /// The keys of a range, from either end.
    pub(crate) fn keys<'k>(
        &self,
        range: impl std::ops::RangeBounds<&'k [u8]> + 'k,
    ) -> Result<Keys, StoreError> {
        self.rows.range::<&[u8]>(range).map(Keys).map_err(engine)
    }
}

/// Keys of a table, from either end.
pub(crate) struct Keys(redb::Range<'static, Bytes, Bytes>);

impl Iterator for Keys {
    type Item = Result<Vec<u8>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|row| Ok(row.map_err(engine)?.0.value().to_vec()))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|row| Ok(row.map_err(engine)?.0.value().to_vec()))
    }
}

impl Keyspace<Table<'_, Bytes, Bytes>> {
    /// Puts an encoded value.
    pub(crate) fn put<V: Serialize>(&mut self, key: &[u8], value: &V) -> Result<(), StoreError> {
        let encoded = encode_after(self.room(USUAL), value)?;
        self.insert(key, encoded)
    }

    /// Puts bytes as they are, one part after the other.
    pub(crate) fn put_raw(&mut self, key: &[u8], parts: &[&[u8]]) -> Result<(), StoreError> {
        let mut value = self.room(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| value.extend_from_slice(part));
        self.insert(key, value)
    }

    /// Deletes.
    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.rows.remove(key).map_err(engine).map(drop)
    }

    /// The beginning of a value of about this length: where its nonce goes, if it gets one.
    fn room(&self, length: usize) -> Vec<u8> {
        let mut room = Vec::with_capacity(length + 2 * NONCE + 16);
        if self.seals.is_some() {
            room.resize(NONCE, 0);
        }
        room
    }

    fn insert(&mut self, key: &[u8], mut value: Vec<u8>) -> Result<(), StoreError> {
        if let Some(seals) = &self.seals {
            value = seals.current()?.seal(self.name, key, value)?;
        }
        self.rows.insert(key, value.as_slice()).map_err(engine).map(drop)
    }
}

#[cfg(test)]
impl<T: ReadableTable<Bytes, Bytes>> Keyspace<T> {
    /// Rows as they lie on the disk.
    pub(crate) fn raw(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let owned = |row: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, Bytes>, redb::AccessGuard<'_, Bytes>) =
                row.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        };
        self.rows.range::<&[u8]>(..).unwrap().map(owned).collect()
    }
}

#[cfg(test)]
impl Keyspace<Table<'_, Bytes, Bytes>> {
    /// Puts a row as it is to lie on the disk.
    pub(crate) fn put_sealed(&mut self, key: &[u8], sealed: &[u8]) {
        self.rows.insert(key, sealed).unwrap();
    }
}

/// What is damaged is passed over, so that it stops nothing else: it was logged when it did not
/// open, and `fsck` tells it.
pub(crate) fn unless_damaged<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(StoreError::Damaged(_)) => Ok(None),
        other => other.map(Some),
    }
}

/// An engine's error as ours.
pub(crate) fn engine(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Corrupted(what) => StoreError::Corrupt(what.to_string()),
        redb::Error::Io(error) => StoreError::Io(io_words(&error).into_owned()),
        other => StoreError::Io(other.to_string()),
    }
}

/// An identifier as the head of a key.
pub(crate) fn id_prefix(id: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(id.len() + 17);
    key.extend_from_slice(id.as_bytes());
    key.push(0);
    key
}

/// Identifier and number.
pub(crate) fn id_number(id: &str, number: u64) -> Vec<u8> {
    let mut key = id_prefix(id);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// Feed and the keyed digest of the bytes.
pub(crate) fn content_key(feed: &str, digest: &[u8; 32]) -> Vec<u8> {
    let mut key = id_prefix(feed);
    key.extend_from_slice(digest);
    key
}

/// Two numbers.
pub(crate) fn pair(first: u64, second: u64) -> [u8; 16] {
    ((u128::from(first) << 64) | u128::from(second)).to_be_bytes()
}

/// Every state, in the order of its byte in a key.
pub(crate) const STATES: [ItemState; 8] = [
    ItemState::Ready,
    ItemState::Waiting,
    ItemState::Leased,
    ItemState::Done,
    ItemState::Refused,
    ItemState::Dead,
    ItemState::Held,
    ItemState::Dropped,
];

/// State and target: all of a target's items in one state.
pub(crate) fn queue_prefix(state: ItemState, target: &TargetId) -> Vec<u8> {
    let mut key = vec![state as u8];
    key.extend_from_slice(target.as_str().as_bytes());
    key.push(0);
    key
}

/// State, target, deadline, item.
pub(crate) fn queue_key(
    state: ItemState,
    target: &TargetId,
    deadline: Timestamp,
    id: u64,
) -> Vec<u8> {
    let mut key = queue_prefix(state, target);
    key.extend_from_slice(&pair(deadline.0, id));
    key
}

/// Target, due time, item.
pub(crate) fn waiting_key(target: &TargetId, due: Timestamp, id: u64) -> Vec<u8> {
    let mut key = id_prefix(target.as_str());
    key.extend_from_slice(&pair(due.0, id));
    key
}

/// A number from the tail of a key.
pub(crate) fn number(bytes: &[u8]) -> Result<u64, StoreError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| bad_key())
}

/// Two numbers from the tail of a key.
pub(crate) fn two_numbers(bytes: &[u8]) -> Result<(u64, u64), StoreError> {
    let (first, second) = bytes.split_at_checked(8).ok_or_else(bad_key)?;
    Ok((number(first)?, number(second)?))
}

fn bad_key() -> StoreError {
    StoreError::Corrupt("键的长度不对".to_owned())
}
