//! Tables and keys. Integers in keys are big-endian, identifiers end in a zero byte, so that the
//! order of bytes is the order meant.

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{TargetId, Timestamp};

use crate::encode::{decode, encode};
use crate::{ItemState, StoreError};

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Every table, open for writing.
        pub(crate) struct Tables<'t> {
            $($(#[$doc])* pub(crate) $name: Table<'t, &'static [u8], &'static [u8]>,)*
        }

        impl<'t> Tables<'t> {
            pub(crate) fn open(write: &'t WriteTransaction) -> Result<Self, StoreError> {
                Ok(Self {
                    $($name: write
                        .open_table(TableDefinition::new(stringify!($name)))
                        .map_err(engine)?,)*
                })
            }
        }

        /// Every table, as of one commit.
        pub(crate) struct Snapshot {
            $($(#[$doc])* pub(crate) $name: ReadOnlyTable<&'static [u8], &'static [u8]>,)*
        }

        impl Snapshot {
            pub(crate) fn open(read: &ReadTransaction) -> Result<Self, StoreError> {
                Ok(Self {
                    $($name: read
                        .open_table(TableDefinition::new(stringify!($name)))
                        .map_err(engine)?,)*
                })
            }
        }
    };
}

tables! {
    /// name → format version, key check, positions
    meta,
    /// message → MessageRow and payload
    message,
    /// feed, message → ProgressRow
    progress,
    /// feed, message → nothing; exactly the unfinished
    pending,
    /// feed, SM3 → message
    content,
    /// feed → the source's cursor, as given
    cursor,
    /// record → RecordRow
    record,
    /// seq → version number and VersionRow: the versions are the change feed
    version,
    /// item → ItemRow
    item,
    /// state, target, deadline, item → nothing
    queue,
    /// target, due, item → nothing; exactly the waiting
    waiting,
    /// message, first row → [VerdictRow]
    verdict,
    /// feed → FeedCounters
    feed,
    /// target → counts by state
    target,
}

/// A readable table of bytes.
pub(crate) trait Rows: ReadableTable<&'static [u8], &'static [u8]> {
    /// Reads one value.
    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(key).map_err(engine)?.map(|guard| decode(guard.value())).transpose()
    }

    /// Visits the rows from `from` (inclusive) in order until `visit` answers `false`.
    fn scan(
        &self,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.range::<&[u8]>(from..).map_err(engine)? {
            let (key, value) = row.map_err(engine)?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }

    /// Visits the rows whose key begins with `prefix`; `visit` gets the rest of the key.
    fn scan_prefix(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.scan(prefix, |key, value| match key.strip_prefix(prefix) {
            Some(rest) => visit(rest, value),
            None => Ok(false),
        })
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Rows for T {}

/// Writing one value.
pub(crate) trait Writes {
    /// Puts an encoded value.
    fn put<T: Serialize>(&mut self, key: &[u8], value: &T) -> Result<(), StoreError>;
    /// Puts bytes as they are.
    fn put_raw(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError>;
    /// Deletes.
    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError>;
}

impl Writes for Table<'_, &'static [u8], &'static [u8]> {
    fn put<T: Serialize>(&mut self, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.put_raw(key, &encode(value)?)
    }

    fn put_raw(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.insert(key, value).map_err(engine).map(drop)
    }

    fn delete(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.remove(key).map_err(engine).map(drop)
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

/// Feed and digest.
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
