//! Characters that stand for damage.

use super::Rule;
use crate::catalogue::{CheckContext, Role};
use crate::model::{Dimension, Draft, Finding, Severity, Value};
use crate::value::{clean, is_placeholder};
use unicode_normalization::{IsNormalized, UnicodeNormalization as _, is_nfc_quick};

/// Bytes that could not be decoded.
pub(super) const DAMAGED: Rule = Rule {
    id: "text.damaged",
    severity: Severity::Error,
    dimension: Dimension::Accuracy,
    title: "文字不得有无法识别的字符",
    fix: "请核对该文件的字符编码(GB18030或UTF-8),重新导出后再报",
    basis: "Unicode U+FFFD替换字符;双公示数据质量要求(特殊字符)",
    check: Some(check),
};

/// Characters only one computer's fonts know.
pub(super) const PRIVATE_USE: Rule = Rule {
    id: "text.private-use",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "文字不宜含造字区字符",
    fix: "请用国家标准字符(GB 18030-2022)重新录入该字",
    basis: "GB 18030-2022;Unicode专用区(U+E000起)",
    check: None,
};

/// Characters nobody sees.
pub(crate) const CONTROL: Rule = Rule {
    id: "text.control",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "文字不得含控制字符",
    fix: "已去除;请在源系统中删去不可见字符",
    basis: "双公示数据质量要求(特殊字符)",
    check: None,
};

/// A composed letter written in pieces, or a compatibility character: looks the same, compares unequal.
pub(super) const NOT_NFC: Rule = Rule {
    id: "text.not-nfc",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "文字应为Unicode规范形式(NFC)",
    fix: "已改为规范形式;请在源系统中重新录入该字",
    basis: "Unicode标准附件15:NFC;双公示数据质量要求(特殊字符)",
    check: None,
};

/// Characters no name has: what a failed conversion leaves, or a mask.
pub(super) const SPECIAL: Rule = Rule {
    id: "text.special",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "名称中不应有?*□等特殊字符",
    fix: "请按证照上的名称重新录入",
    basis: "双公示平台校验提示(2024,某市):特殊字符",
    check: None,
};

fn check(_: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for at in 0..draft.slots.len() {
        let Some(Value::Text(text)) = draft.slots.get_mut(at).and_then(|s| s.value.as_mut()) else {
            continue;
        };
        let named = draft.dataset.fields.get(at).is_some_and(|field| {
            matches!(field.role, Some(Role::SubjectName | Role::LegalRep | Role::AgencyName))
        });
        let special = named && text.chars().any(is_special) && !is_placeholder(text);
        if !special && !unusual(text) {
            continue;
        }
        let composed = (is_nfc_quick(text.chars()) != IsNormalized::Yes)
            .then(|| text.nfc().collect::<String>())
            .filter(|composed| composed != text);
        let decomposed = composed.is_some();
        if let Some(composed) = composed {
            *text = composed;
        }
        let damaged = text.contains('\u{FFFD}');
        let private = text.chars().any(is_private);
        let cleaned = clean(text);
        let changed = *text != cleaned;
        if changed {
            *text = cleaned.into_owned();
        }
        let labelled = draft.dataset.fields.get(at).zip(draft.slots.get(at));
        let name = labelled.map_or("", |(field, slot)| slot.label(field));
        let raise = [
            (damaged, &DAMAGED, format!("“{name}”中有无法识别的字符(乱码)")),
            (private, &PRIVATE_USE, format!("“{name}”中有造字区字符,其他系统可能显示为乱码")),
            (changed, &CONTROL, format!("“{name}”中有控制字符或不可见字符")),
            (decomposed, &NOT_NFC, format!("“{name}”中有非规范形式的字符")),
            (special, &SPECIAL, format!("“{name}”中有特殊字符,可能是缺字或遮盖")),
        ];
        for (_, rule, message) in raise.into_iter().filter(|(raised, ..)| *raised) {
            rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
        }
    }
}

/// Whether a text needs a closer look. Nearly none does: what is looked for is neither printable
/// ASCII, nor a common ideograph (U+4000 to U+9FFF), nor the punctuation of U+3000 to U+303F, nor
/// full-width (U+FF00 to U+FF7F). This runs over every text of every row, hence over bytes.
fn unusual(text: &str) -> bool {
    let bytes = text.as_bytes();
    let following = bytes.iter().skip(1).chain(std::iter::once(&0));
    bytes.iter().zip(following).any(|(byte, next)| match byte {
        0x20..=0x7E | 0x80..=0xBF | 0xE4..=0xE9 => false,
        0xE3 => *next != 0x80,
        0xEF => !matches!(next, 0xBC | 0xBD),
        _ => true,
    })
}

fn is_special(c: char) -> bool {
    matches!(
        c,
        '?' | '\u{FF1F}'
            | '*'
            | '\u{FF0A}'
            | '□'
            | '■'
            | '#'
            | '@'
            | '$'
            | '%'
            | '^'
            | '~'
            | '|'
            | '\\'
            | '<'
            | '>'
            | '{'
            | '}'
    )
}

fn is_private(c: char) -> bool {
    matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}
