//! Document numbers that do not tell documents apart.

use super::{Rule, set};
use crate::catalogue::{CheckContext, Role};
use crate::model::{Dimension, Draft, Finding, Severity, Value};
use crate::value::is_placeholder;

/// No number of its own: the licence number stands in.
pub(super) const FROM_LICENCE: Rule = Rule {
    id: "document.number-from-licence",
    severity: Severity::Warning,
    dimension: Dimension::Completeness,
    title: "无许可决定文书号的,以许可编号代替",
    fix: "已以许可编号作为文书号;如有文书号请补报",
    basis: "双公示填报说明(2024):无文书号的填许可编号",
    check: Some(check),
};

/// `空`, `无`, `/`: all such records would be one.
pub(super) const PLACEHOLDER: Rule = Rule {
    id: "document.number-placeholder",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "决定文书号不得以“空”“无”“/”等代替",
    fix: "请填写决定书上的文书号;许可没有文书号的,请填许可编号",
    basis: "双公示填报说明(2024);文书号是记录主键的一部分",
    check: None,
};

/// `3`: hardly a document number.
pub(super) const SHORT: Rule = Rule {
    id: "document.number-short",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "决定文书号过短",
    fix: "请填写完整文书号,含机关代字、年份和序号",
    basis: "文书号是记录主键的一部分;党政机关公文格式GB/T 9704-2012发文字号",
    check: None,
};

/// Fewer characters than a number that tells documents apart has.
pub(crate) fn is_short(number: &str) -> bool {
    number.chars().nth(3).is_none()
}

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    let number = draft.text(Role::DocNumber);
    let Some(ix) = draft.dataset.role(Role::DocNumber) else { return };
    let placeholder = number.is_some_and(is_placeholder);
    if number.is_some() && !placeholder {
        if number.is_some_and(is_short) {
            SHORT.raise(draft, Role::DocNumber, "决定文书号过短,不像完整的文书号", findings);
        }
        return;
    }
    let licence = draft.text(Role::LicenceNumber).filter(|number| !is_placeholder(number));
    if let Some(licence) = licence.map(str::to_owned) {
        set(draft, Role::DocNumber, Some(Value::Text(licence)));
        let column = draft
            .dataset
            .role(Role::LicenceNumber)
            .and_then(|ix| draft.slot(ix))
            .and_then(|slot| slot.column);
        if let Some(slot) = draft.slots.get_mut(usize::from(ix.0)) {
            slot.column = slot.column.or(column);
            slot.derived = true;
            slot.failed = false;
        }
        rule.raise(draft, Role::DocNumber, "没有可用的决定文书号,已用许可编号代替", findings);
    } else if placeholder {
        PLACEHOLDER.raise(draft, Role::DocNumber, "决定文书号填的是占位文字", findings);
    }
}
