//! Text as agencies write it.

use std::borrow::Cow;

/// Trims (also U+3000, U+00A0, BOM), drops control and invisible formatting characters, folds each
/// run of line breaks and tabs to one space. Borrowed when nothing changes.
pub fn clean(text: &str) -> Cow<'_, str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_dropped(c));
    // Every character to fold or drop is an ASCII control or begins with one of these lead bytes.
    if !text.bytes().any(|b| b < 0x20 || matches!(b, 0x7F | 0xC2 | 0xE2 | 0xEF)) {
        return Cow::Borrowed(text);
    }
    if !text.chars().any(|c| is_break(c) || is_dropped(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut in_break = false;
    for c in text.chars().filter(|c| !is_dropped(*c)) {
        let folds = is_break(c);
        match (folds, in_break) {
            (false, _) => out.push(c),
            (true, false) => out.push(' '),
            (true, true) => {}
        }
        in_break = folds;
    }
    Cow::Owned(out)
}

/// Whether [`clean`] drops something nobody sees: control characters, zero-width spaces, direction
/// marks. White space and line breaks do not count, nor does anything at the ends if `inside`.
pub fn has_hidden(text: &str, inside: bool) -> bool {
    let text = match inside {
        true => text.trim_matches(|c: char| c.is_whitespace() || is_dropped(c)),
        false => text,
    };
    text.bytes().any(|b| b < 0x20 || matches!(b, 0x7F | 0xC2 | 0xE2 | 0xEF))
        && text.chars().any(is_dropped)
}

/// A heading in the form headings are compared in: trimmed, inner white space removed, full-width
/// ASCII and brackets made half-width, ASCII letters upper-cased.
pub fn heading(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_whitespace() && !is_dropped(*c))
        .map(|c| half_width(c).to_ascii_uppercase())
        .collect()
}

/// Whether a text says "nothing here": blank, one of the usual words (空 无 暂无 N/A null …), the
/// zero date of MySQL, or only dashes, slashes, dots and stars.
pub fn is_placeholder(text: &str) -> bool {
    /// Bytes of the longest word: most texts are longer.
    const LONGEST: usize = 19;
    const WORDS: &[&str] = &[
        "空",
        "空值",
        "空白",
        "无文号",
        "无文书号",
        "无编号",
        "无证号",
        "无号",
        "未编号",
        "不适用",
        "待补",
        "待补充",
        "待定",
        "未填",
        "未提供",
        "无",
        "暂无",
        "没有",
        "无数据",
        "暂无数据",
        "不详",
        "未知",
        "N/A",
        "#N/A",
        "NA",
        "NULL",
        "(NULL)",
        "<NULL>",
        "NIL",
        "NONE",
        "UNDEFINED",
        "0000-00-00",
        "0000-00-00 00:00:00",
        "0000/00/00",
    ];
    let text = text.trim_matches(|c: char| c.is_whitespace() || is_dropped(c));
    text.chars().all(|c| r"/\-–—_.*·…。、,".contains(half_width(c)))
        || text.len() <= LONGEST && WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// The half-width form of a full-width ASCII character (U+FF01–U+FF5E); any other unchanged.
pub(super) fn half_width(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
        _ => c,
    }
}

/// Breaks a line or a column: becomes a space, so that the words on both sides stay apart.
fn is_break(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0B' | '\x0C' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Shows nothing: control characters, BOM, zero-width spaces, direction marks.
fn is_dropped(c: char) -> bool {
    (c.is_control() && !is_break(c))
        || matches!(c,
            '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clean_text_is_borrowed_and_dirt_is_not() {
        for same in ["", "驻马店市某某局", "a b", "（空格）\u{3000}在中间", "①é·“引号”"]
        {
            assert!(matches!(clean(same), Cow::Borrowed(out) if out == same), "{same:?}");
        }
        assert!(matches!(clean(" \u{FEFF}\u{3000}甲\u{A0} "), Cow::Borrowed("甲")));
        assert_eq!(clean("甲\r\n\t乙\0丙"), "甲 乙丙");
        assert_eq!(clean("甲\u{200B}乙\u{202E}丙\u{9F}丁"), "甲乙丙丁");
        assert_eq!(clean("\u{1}甲\u{2028}乙\n"), "甲 乙");
    }

    #[test]
    fn what_nobody_sees_is_seen() {
        for (text, anywhere, inside) in [
            ("20\0 00", true, true),
            ("甲\u{7}乙", true, true),
            ("\u{200E}2026-11-05", true, false),
            ("甲\u{200B}", true, false),
            ("甲\r\n\t乙\u{3000}é", false, false),
            ("", false, false),
        ] {
            assert_eq!((has_hidden(text, false), has_hidden(text, true)), (anywhere, inside));
        }
    }

    #[test]
    fn headings_compare_equal_however_they_are_written() {
        for written in [
            "行政相对人代码_2(工商注册号)",
            "行政相对人代码_2 (工商注册号)",
            "行政相对人代码＿２（工商注册号） ",
            "\u{FEFF}行政相对人\n代码_2（工商注册号）\u{3000}",
        ] {
            assert_eq!(heading(written), "行政相对人代码_2(工商注册号)", "{written:?}");
        }
        assert_eq!(heading("xk_Jdrq"), "XK_JDRQ");
    }

    #[test]
    fn placeholders_are_told_from_values() {
        for nothing in [
            "",
            " ",
            "空",
            " 无",
            "暂无",
            "/",
            "／",
            "\\",
            "-",
            "——",
            "……",
            "，",
            "N/A",
            "null",
            "NULL",
            "***",
            "无文号",
            "不适用",
        ] {
            assert!(is_placeholder(nothing), "{nothing:?}");
        }
        assert!(is_placeholder("0000-00-00"));
        assert!(is_placeholder("0000-00-00 00:00:00"));
        for value in ["0", "无锡某公司", "3", "1900-01-01", "长期", "-1", "空调"] {
            assert!(!is_placeholder(value), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_is_idempotent_and_leaves_nothing_to_clean(text in any::<String>()) {
            let once = clean(&text).into_owned();
            prop_assert_eq!(clean(&once), once.as_str());
            let dirty = once.chars().any(|c| c.is_control() || c == '\u{FEFF}');
            prop_assert!(!dirty);
            prop_assert_eq!(once.trim(), once.as_str());
        }

        #[test]
        fn a_heading_is_its_own_heading(text in any::<String>()) {
            let once = heading(&text);
            prop_assert_eq!(heading(&once), once);
        }
    }
}
