//! The findings a decoder can make on one row.

use xinqiao_core::catalogue::rules::raised;
use xinqiao_core::model::Finding;

/// `row.malformed`: the row cannot be taken apart; it is refused, the rest goes on.
pub(super) fn malformed(message: String, fix: &str) -> Finding {
    raised::ROW_MALFORMED.finding_with_fix(None, None, message, fix.to_owned())
}

/// `row.instruction`: a note left among the data (填表说明); it is passed over.
pub(super) fn instruction(message: String) -> Finding {
    raised::ROW_INSTRUCTION.finding(None, None, message)
}
