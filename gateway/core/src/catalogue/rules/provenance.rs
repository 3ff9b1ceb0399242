//! What says where and when a record was made: fields of generation 2016 that later ones have not.
//! Conversion drops them, so it has them looked at first.

use super::Rule;
use crate::catalogue::{CheckContext, Role};
use crate::model::{Dimension, Draft, Finding, Severity};

const BASIS: &str = "双公示数据标准(2016版):地方编码、数据更新时间戳";

/// Written down before it was decided. A warning: nothing published depends on it.
pub(super) const UPDATED_BEFORE_DECISION: Rule = Rule {
    id: "date.updated-before-decision",
    severity: Severity::Warning,
    dimension: Dimension::Consistency,
    title: "数据更新时间不得早于决定日期",
    fix: "请核对两个日期",
    basis: BASIS,
    check: Some(check),
};

/// Written down tomorrow.
pub(super) const UPDATED_FUTURE: Rule = Rule {
    id: "date.updated-future",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "数据更新时间不得晚于今天",
    fix: "请核对数据更新时间和源系统的时钟",
    basis: BASIS,
    check: None,
};

/// GB/T 2260: six digits.
pub(super) const DIVISION: Rule = Rule {
    id: "division.form",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "地方编码应为6位数字",
    fix: "请填6位行政区划代码,如411700",
    basis: "GB/T 2260《中华人民共和国行政区划代码》;双公示数据标准(2016版):地方编码",
    check: None,
};

/// Looks at all of them.
pub(crate) fn check_provenance(
    draft: &mut Draft,
    context: &CheckContext,
    findings: &mut Vec<Finding>,
) {
    check(&UPDATED_BEFORE_DECISION, draft, context, findings);
}

fn check(rule: &Rule, draft: &mut Draft, context: &CheckContext, findings: &mut Vec<Finding>) {
    if let Some(updated) = draft.date(Role::UpdatedAt) {
        if updated > context.today {
            UPDATED_FUTURE.raise(draft, Role::UpdatedAt, "数据更新时间晚于今天", findings);
        } else if draft.date(Role::DecisionDate).is_some_and(|decided| updated < decided) {
            rule.raise(draft, Role::UpdatedAt, "数据更新时间早于决定日期", findings);
        }
    }
    let six = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit());
    if draft.text(Role::DivisionCode).is_some_and(|text| !six(text)) {
        DIVISION.raise(draft, Role::DivisionCode, "地方编码不是6位数字", findings);
    }
}
