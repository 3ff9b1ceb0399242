//! commit (提交): verdicts → the store's one transaction.

use std::sync::Arc;

use time::Date;
use xinqiao_core::fault::{Classify, chain};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::TargetId;
use xinqiao_core::spi::DecodeError;
use xinqiao_store::{MessageEnd, NewVersion, RowEntry};

use super::{CheckedRow, Notes};

/// What a feed's records carry with them.
#[derive(Debug, Clone)]
pub struct Destination {
    /// First 8 bytes of the SM3 of the mapping's text.
    pub mapping: [u8; 8],
    /// Where records go.
    pub targets: Arc<[TargetId]>,
}

/// A checked row as the store takes it.
pub fn entry(row: CheckedRow, destination: &Destination) -> RowEntry {
    let CheckedRow { place, document, findings, record, sent_back, legacy, .. } = row;
    let record = record.map(|record| NewVersion {
        key: record.key,
        generation: record.generation,
        operation: record.operation,
        fields: record.fields,
        mapping: destination.mapping,
        deadlines: record.deadlines,
        targets: Arc::clone(&destination.targets),
    });
    RowEntry { row: place.row, document, findings, record, sent_back, legacy }
}

/// How a message ended. What a decoder says may name parts of the message, such as sheets.
pub fn message_end(outcome: Result<Notes, DecodeError>, today: Date) -> MessageEnd {
    match outcome {
        Ok(notes) => MessageEnd { error: notes.refused, notes: notes.warnings },
        Err(error) => {
            let text = mask(&chain(&error), today).into_owned();
            let error = Some((error.code().to_owned(), text));
            MessageEnd { error, notes: Vec::new() }
        }
    }
}
