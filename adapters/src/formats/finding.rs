//! The findings a decoder can make on one row.

use std::borrow::Cow;

use xinqiao_core::model::{Dimension, Finding, Severity};

/// `row.malformed`: the row cannot be taken apart; it is refused, the rest goes on.
pub(super) fn malformed(message: String, fix: &str) -> Finding {
    Finding {
        rule: Cow::Borrowed("row.malformed"),
        severity: Severity::Error,
        dimension: Dimension::Conformity,
        field: None,
        column: None,
        cell: None,
        message,
        fix: fix.to_owned(),
    }
}
