//! The way data goes: the stages in order. Each takes the former's output by value, and only its
//! own file can make its output, so none can be skipped.
//!
//! ```text
//! receive  bytes → Receipt        raw bytes and cursor durable, then the receipt
//! unseal   envelope → what it holds  if the feed takes envelopes; its signature is checked first
//! decode   stored bytes → rows    can be run again
//! map      rows → drafts          the agency's columns to catalogue fields, then to the generation in force
//! resolve  (between the two)      a legacy code to the 统一社会信用代码, by the mapping table
//! validate drafts → verdicts      every rule, all findings at once
//! commit   verdicts → store       record versions, queue items, verdicts: one transaction
//! deliver  items → target         outcome back into the queue
//! ```
//!
//! [`process`] runs decode, map and validate over one message; dry runs and real ones share it.

mod commit;
mod decode;
mod deliver;
mod map;
mod receive;
mod resolve;
#[cfg(test)]
mod tests;
mod unseal;
mod validate;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use time::Date;
use xinqiao_core::catalogue::{NoUsccMap, UsccMap};
use xinqiao_core::mapping::Mapping;
use xinqiao_core::spi::{DecodeError, ReadSeek, Scratch, ScratchSpace};

use crate::domain::Domain;

pub use commit::{Destination, entry, message_end};
pub use deliver::{Delivery, deliver};
pub use receive::FeedInbox;
pub use resolve::StoreMap;
pub use unseal::{UnsealError, Unsealing, unseal};
pub use validate::{CheckedRecord, CheckedRow};

/// What a message is processed by.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The feed's mapping.
    pub mapping: &'a Mapping,
    /// Catalogue and calendar.
    pub domain: &'a Domain,
    /// Today in Asia/Shanghai.
    pub today: Date,
    /// Rows already committed: decoded again, but not mapped.
    pub skip: u64,
    /// Only these rows are mapped, and decoding ends behind them; `None`: all.
    pub only: Option<&'a BTreeSet<u64>>,
    /// The mapping table of legacy codes.
    pub uscc: &'a dyn UsccMap,
    /// Its revision, from before it was asked.
    pub revision: u64,
    /// Room for what decoding has to hold.
    pub scratch: ScratchSpace<'a>,
}

impl<'a> Job<'a> {
    /// A whole message, without a store: no mapping table of legacy codes, room in memory.
    pub fn dry(mapping: &'a Mapping, domain: &'a Domain, today: Date) -> Self {
        let uscc = &NoUsccMap;
        Self { mapping, domain, today, skip: 0, only: None, uscc, revision: 0, scratch: &in_memory }
    }
}

fn in_memory() -> Box<dyn Scratch> {
    Box::new(Vec::new())
}

/// What is to be said about the message as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Warnings (Chinese).
    pub warnings: Vec<String>,
    /// Rows seen, those skipped included.
    pub rows: u64,
    /// Code and text, if the mapping refuses the message for its columns; no row was taken then.
    pub refused: Option<(String, String)>,
}

/// Decodes, maps and validates a message row by row. Blocking: call it off the runtime.
pub fn process(
    job: &Job<'_>,
    input: &mut dyn ReadSeek,
    each: &mut dyn FnMut(CheckedRow) -> ControlFlow<()>,
) -> Result<Notes, DecodeError> {
    let mut notes = decode::decode(job, input, each)?;
    if notes.rows == 0 && notes.refused.is_none() {
        notes.warnings.push("文件中没有数据行(只有表头,或内容为空)".to_owned());
    }
    Ok(notes)
}
