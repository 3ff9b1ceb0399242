//! The state of a record that asks to be taken down.

use super::Rule;
use crate::catalogue::{CheckContext, Generation, Role};
use crate::model::{Dimension, Draft, Finding, Operation, Severity};

/// 2 无效 means: take it down. (In generation 2016 the digit means something else; conversion
/// deals with it.)
pub(super) const INVALID: Rule = Rule {
    id: "status.invalid",
    severity: Severity::Warning,
    dimension: Dimension::Consistency,
    title: "当前状态为“无效”的记录按撤下处理",
    fix: "如该决定仍然有效,请将当前状态改为1(有效)后重报",
    basis: "行政处罚法(2021)第四十八条;双公示数据标准“当前状态”",
    check: Some(check),
};

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    if draft.dataset.generation > Generation(2016) && draft.text(Role::Status) == Some("2") {
        draft.operation = Operation::Withdraw;
        rule.raise(draft, Role::Status, "当前状态为2(无效):将从平台撤下,不作公示", findings);
    }
}
