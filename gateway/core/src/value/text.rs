//! Text as agencies write it.

use std::borrow::Cow;

/// Trims (also U+3000, U+00A0, BOM), drops control characters, folds CR/LF to a space where
/// `single_line`. Borrowed when nothing changes.
pub fn clean(_text: &str) -> Cow<'_, str> {
    todo!()
}

/// A heading in the form headings are compared in: trimmed, inner white space removed, full-width
/// ASCII and brackets made half-width, ASCII letters upper-cased.
pub fn heading(_text: &str) -> String {
    todo!()
}

/// Whether a text says "nothing here": 空 无 暂无 / \ - — N/A null NULL 0000-00-00 …
pub fn is_placeholder(_text: &str) -> bool {
    todo!()
}
