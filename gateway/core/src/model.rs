//! The nouns of the gateway, shared by every stage.
//!
//! ```text
//! Message (报文) ─decode→ Row (one row, its cells, where they stand)
//!                 ─map→   Draft (one slot per catalogue field, each knowing its column)
//!                 ─check→ RowVerdict (accept | warn | reject, with Findings)
//!                 ─commit→ Record (记录) under a RecordKey, versioned
//! ```

mod finding;
mod format;
mod id;
mod record;
mod row;
mod timestamp;

pub use finding::{Dimension, Finding, Severity, Verdict};
pub use format::{
    Encoding, FixedColumn, FormatKind, FormatSpec, HeaderSpec, UnknownColumn, Unwrap, UnwrapStep,
};
pub use id::{AgencyId, DatasetId, FeedId, InvalidId, MappingId, TargetId};
pub use record::{Draft, Operation, RecordKey, Slot, Subject, Value};
pub use row::{Cell, CellKind, Columns, Place, Row, Shape};
pub use timestamp::Timestamp;
