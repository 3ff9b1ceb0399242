//! Where a database source stands: what its cursor holds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::wire::digest::digest;

/// What has been taken, and what is still to be acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The order columns of the last row taken.
    pub(super) after: Option<Vec<String>>,
    /// Rows taken whose acknowledgement may not stand in the database yet: at most a page.
    pub(super) pending: Vec<Mark>,
    /// Of the way `full`: every row there was.
    pub(super) known: HashMap<u64, Known>,
}

/// A row as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Its key.
    pub(super) key: Vec<String>,
    /// Digest of its cells.
    pub(super) row: u64,
}

/// What is remembered of a row between two looks, under the digest of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Digest of its cells.
    pub(super) row: u64,
    /// What a withdrawal of it would say: members of a JSON object without braces.
    pub(super) remembered: Box<[u8]>,
}

/// The first line of the cursor, as JSON. What is known follows: of each row the digest of its key
/// (8 bytes), of its cells (8), the length of what is remembered (4), and that.
#[derive(Serialize, Deserialize)]
struct Head {
    of: String,
    after: Option<Vec<String>>,
    pending: Vec<Mark>,
}

impl Position {
    pub(super) fn encode(&self, of: &str) -> Vec<u8> {
        let head =
            Head { of: of.to_owned(), after: self.after.clone(), pending: self.pending.clone() };
        let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
        bytes.push(b'\n');
        for (key, known) in &self.known {
            bytes.extend(key.to_be_bytes());
            bytes.extend(known.row.to_be_bytes());
            let length = u32::try_from(known.remembered.len()).unwrap_or(u32::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(&known.remembered);
        }
        bytes
    }

    /// A cursor of another table, or of another way of reading it, is no position in this one.
    pub(super) fn decode(cursor: &[u8], of: &str) -> Self {
        let end = cursor.iter().position(|byte| *byte == b'\n').unwrap_or(cursor.len());
        let (head, mut rest) = cursor.split_at(end);
        let head: Head = match serde_json::from_slice(head) {
            Ok(head) => head,
            Err(_) => return Self::default(),
        };
        if head.of != of {
            return Self::default();
        }
        let mut known = HashMap::new();
        rest = rest.get(1..).unwrap_or_default();
        while let Some((key, after)) = rest.split_first_chunk()
            && let Some((row, after)) = after.split_first_chunk()
            && let Some((length, after)) = after.split_first_chunk()
        {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((remembered, after)) = after.split_at_checked(length) else { break };
            let entry = Known { row: u64::from_be_bytes(*row), remembered: remembered.into() };
            known.insert(u64::from_be_bytes(*key), entry);
            rest = after;
        }
        Self { after: head.after, pending: head.pending, known }
    }
}

/// Tells rows and keys apart: half of the 128-bit digest.
pub(super) fn short<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let whole = digest(parts).to_be_bytes();
    let (high, low) = whole.split_at(8);
    let number = |half: &[u8]| half.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    number(high) ^ number(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_reads_back_and_foreign_ones_are_the_beginning() {
        let known = Known { row: 7, remembered: b"\"a\":\"\n\"".as_slice().into() };
        let bare = Known { row: u64::MAX, remembered: Box::default() };
        let position = Position {
            after: Some(vec!["2026-11-23 10:00:00".to_owned(), "\n甲".to_owned()]),
            pending: vec![Mark { key: vec!["1".to_owned()], row: u64::MAX }],
            known: HashMap::from([(1, known), (u64::MAX, bare)]),
        };
        let bytes = position.encode("of");
        assert_eq!(Position::decode(&bytes, "of"), position);
        assert_eq!(Position::decode(&bytes, "other"), Position::default());
        for foreign in [&b""[..], b"f1", b"{}", b"\n\n"] {
            assert_eq!(Position::decode(foreign, "of"), Position::default());
        }
        assert_eq!(Position::decode(&bytes[..bytes.len() - 1], "of").known.len(), 1, "cut short");
    }
}
