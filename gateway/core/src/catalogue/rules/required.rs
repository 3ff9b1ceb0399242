//! Fields that must always be filled.

use super::Rule;
use crate::catalogue::{CheckContext, Requirement, Role};
use crate::model::{Dimension, Draft, Finding, Operation, Severity, Value};
use crate::value::is_placeholder;

/// Nothing stands where something must.
pub(super) const REQUIRED: Rule = Rule {
    id: "field.required",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "必填项不得为空",
    fix: "请补填后重报",
    basis: "双公示数据标准:必填项",
    check: Some(check),
};

/// What a withdrawal has to name.
const KEY: &[Role] = &[Role::SubjectName, Role::DocNumber, Role::DecisionDate, Role::AgencyName];

/// No placeholder is longer.
const LONGEST_PLACEHOLDER: usize = 24;

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for at in 0..draft.slots.len() {
        let (Some(field), Some(slot)) = (draft.dataset.fields.get(at), draft.slots.get(at)) else {
            continue;
        };
        let wanted = field.requirement == Requirement::Required
            && (draft.operation == Operation::Upsert
                || field.role.is_some_and(|role| KEY.contains(&role)));
        if !wanted || slot.failed {
            continue;
        }
        let message = match &slot.value {
            None => format!("必填项“{}”为空", slot.label(field)),
            Some(Value::Text(text))
                if text.len() <= LONGEST_PLACEHOLDER && is_placeholder(text) =>
            {
                format!("必填项“{}”填的是占位文字", slot.label(field))
            }
            Some(_) => continue,
        };
        rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
    }
}
