//! Lengths, in characters.

use super::Rule;
use crate::catalogue::{CheckContext, FieldKind, LengthIn};
use crate::model::{Dimension, Draft, Finding, Severity, Value};

/// More characters than the catalogue allows.
pub(super) const TOO_LONG: Rule = Rule {
    id: "field.too-long",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "内容不得超过规定长度",
    fix: "请精简内容,完整原文可另附",
    basis: "双公示数据标准:字段长度(按字符计)",
    check: Some(check),
};

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for at in 0..draft.slots.len() {
        let (Some(field), Some(slot)) = (draft.dataset.fields.get(at), draft.slots.get(at)) else {
            continue;
        };
        let (FieldKind::Text { max } | FieldKind::Code { max, .. }, Some(Value::Text(text))) =
            (&field.kind, &slot.value)
        else {
            continue;
        };
        // No way of counting gives more than the bytes of UTF-8.
        let max = *max as usize;
        if text.len() <= max || slot.failed {
            continue;
        }
        let length = draft.dataset.lengths.of(text);
        if length > max {
            let unit = match draft.dataset.lengths {
                LengthIn::Characters => "个字符",
                LengthIn::Gb18030 => "字节(汉字计2)",
                LengthIn::Utf8 => "字节(汉字计3)",
            };
            let message = format!("“{}”有{length}{unit},上限为{max}", slot.label(field));
            rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
        }
    }
}
