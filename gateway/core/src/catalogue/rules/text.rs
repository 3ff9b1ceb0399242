//! Characters that stand for damage.

use super::Rule;
use crate::catalogue::CheckContext;
use crate::model::{Dimension, Draft, Finding, Severity, Value};
use crate::value::clean;

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
pub(super) const CONTROL: Rule = Rule {
    id: "text.control",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "文字不得含控制字符",
    fix: "已去除;请在源系统中删去不可见字符",
    basis: "双公示数据质量要求(特殊字符)",
    check: None,
};

fn check(_: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for at in 0..draft.slots.len() {
        let Some(Value::Text(text)) = draft.slots.get_mut(at).and_then(|s| s.value.as_mut()) else {
            continue;
        };
        // Every character looked for is an ASCII control or begins with one of these bytes.
        if !text.bytes().any(|b| b < 0x20 || matches!(b, 0x7F | 0xC2 | 0xE2 | 0xEE..)) {
            continue;
        }
        let damaged = text.contains('\u{FFFD}');
        let private = text.chars().any(is_private);
        let cleaned = clean(text);
        let changed = *text != cleaned;
        if changed {
            *text = cleaned.into_owned();
        }
        let name = draft.dataset.fields.get(at).map_or("", |field| &field.name);
        let raise = [
            (damaged, &DAMAGED, format!("“{name}”中有无法识别的字符(乱码)")),
            (private, &PRIVATE_USE, format!("“{name}”中有造字区字符,其他系统可能显示为乱码")),
            (changed, &CONTROL, format!("“{name}”中有控制字符或不可见字符")),
        ];
        for (_, rule, message) in raise.into_iter().filter(|(raised, ..)| *raised) {
            rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
        }
    }
}

fn is_private(c: char) -> bool {
    matches!(c, '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{10FFFF}')
}
