//! Parsing the values agencies write: amounts, dates, headings, text.

mod amount;
mod date;
mod text;

pub use amount::{Amount, AmountError, Unit, parse_amount};
pub use date::{DateError, EMPTY_DATE_SENTINELS, LONG_TERM, parse_date};
pub use text::{clean, heading, is_placeholder};
