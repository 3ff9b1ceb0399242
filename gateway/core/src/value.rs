//! Parsing the values agencies write: amounts, dates, headings, text.

mod amount;
mod date;
mod text;

pub use amount::{Amount, AmountError, Unit, parse_amount};
pub use date::{DateError, EMPTY_DATE_SENTINELS, LONG_TERM, parse_date, parse_epoch_millis};
pub use text::{clean, has_hidden, heading, is_placeholder};
