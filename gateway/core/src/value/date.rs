//! Dates as agencies write them.

use time::Date;

use crate::model::CellKind;

/// Why a text is not a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// No known form.
    #[error("不是可识别的日期")]
    Unrecognised,
    /// A known form, but no such day (2026-02-30).
    #[error("日历上没有这一天")]
    NoSuchDay,
    /// `0000-00-00`, `1899-12-31`, `1900-01-01`: what an empty cell becomes in Excel, Access or MySQL.
    #[error("是空日期的占位值")]
    Placeholder,
}

/// 2099-12-31, the catalogue's way to say 长期.
pub const LONG_TERM: Date = time::macros::date!(2099 - 12 - 31);

/// Dates that mean "no date" in real files.
pub const EMPTY_DATE_SENTINELS: &[Date] = &[];

/// Parses a date in any form seen in real files; a cell of kind `Number` may be an Excel serial.
/// `长期`, `长期有效` and 9999-… give [`LONG_TERM`].
pub fn parse_date(_text: &str, _kind: CellKind) -> Result<Date, DateError> {
    todo!()
}
