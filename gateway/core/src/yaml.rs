//! Files that people write: YAML read so that every error is told at once, each with its place.
//!
//! [`file_struct!`](crate::file_struct) declares a struct of a file: its keys are named once and
//! give the reader, the list of known keys, and the JSON Schema.

mod read;
mod tree;

use crate::diagnostic::Diagnostics;

pub use read::{
    At, Entries, FromNode, Reader, Several, key, missing_key, nearest, pairs, unknown_key, word,
};
pub use tree::{Node, Tree, parse};

/// Reads one file. The struct is `None` when something that cannot be done without is missing; the
/// diagnostics say what.
pub fn read_file<T: FromNode>(path: &str, text: &str) -> (Option<T>, Diagnostics) {
    let mut reader = Reader { path, text, found: Diagnostics::default() };
    let file = parse(&mut reader).and_then(|node| T::from_node(&node, &mut reader));
    (file, reader.found)
}
