//! Lengths, in characters.

use super::Rule;
use crate::catalogue::{CheckContext, FieldKind};
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
        // There are never more characters than bytes.
        let max = *max as usize;
        if text.len() <= max || slot.failed {
            continue;
        }
        let length = text.chars().count();
        if length > max {
            let message = format!("“{}”有{length}个字符,上限为{max}个", field.name);
            rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
        }
    }
}
