//! Dates against each other and against today.

use super::{Rule, name};
use crate::catalogue::Role;
use crate::model::{Dimension, Draft, Finding, Severity};

/// A decision not made yet.
pub(super) const DECISION_FUTURE: Rule = Rule {
    id: "date.decision-future",
    severity: Severity::Error,
    dimension: Dimension::Accuracy,
    title: "决定日期不得晚于今天",
    fix: "请核对决定日期;尚未作出的决定不得报送",
    basis: "双公示数据标准:决定日期不大于当前日期",
    check: Some(|rule, draft, context, findings| {
        if draft.date(Role::DecisionDate).is_some_and(|decided| decided > context.today) {
            rule.raise(draft, Role::DecisionDate, "决定日期晚于今天", findings);
        }
    }),
};

/// Ends before it begins.
pub(super) const VALID_ORDER: Rule = Rule {
    id: "date.valid-order",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "有效期自不得晚于有效期至",
    fix: "请核对两个日期;长期有效的,有效期至填2099/12/31",
    basis: "双公示数据标准:有效期",
    check: Some(|rule, draft, _, findings| {
        before(rule, draft, Role::ValidTo, Role::ValidFrom, findings);
    }),
};

/// A retroactive renewal does that: worth a look, not wrong.
pub(super) const VALID_BEFORE_DECISION: Rule = Rule {
    id: "date.valid-before-decision",
    severity: Severity::Warning,
    dimension: Dimension::Consistency,
    title: "有效期自一般不早于决定日期",
    fix: "请核对;确为追溯延续的,无须修改",
    basis: "双公示数据标准:有效期",
    check: Some(|rule, draft, _, findings| {
        before(rule, draft, Role::ValidFrom, Role::DecisionDate, findings);
    }),
};

/// Where validity has no beginning of its own, the decision is it.
pub(super) const VALID_TO: Rule = Rule {
    id: "date.valid-to",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "截止日期不得早于决定日期",
    fix: "请核对两个日期;长期有效的填2099/12/31",
    basis: "双公示数据标准:处罚有效期、许可截止期",
    check: Some(|rule, draft, _, findings| {
        if draft.date(Role::ValidFrom).is_none() {
            before(rule, draft, Role::ValidTo, Role::DecisionDate, findings);
        }
    }),
};

/// Publicity over before the decision.
pub(super) const PUBLICITY_END: Rule = Rule {
    id: "date.publicity-end",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "公示截止期不得早于决定日期",
    fix: "请核对两个日期",
    basis: "双公示数据标准:公示截止期",
    check: Some(|rule, draft, _, findings| {
        before(rule, draft, Role::PublicityEnd, Role::DecisionDate, findings);
    }),
};

/// Over already. A warning: a late record must still be delivered, and says by itself that it is late.
pub(super) const END_PAST: Rule = Rule {
    id: "date.end-past",
    severity: Severity::Warning,
    dimension: Dimension::Timeliness,
    title: "截止日期一般不早于今天",
    fix: "请核对日期;确已到期的,无须修改",
    basis: "双公示平台校验提示(2024,某市):截止日期不能小于当前日期",
    check: Some(|rule, draft, context, findings| {
        for role in [Role::ValidTo, Role::PublicityEnd] {
            let failed = draft.dataset.role(role).and_then(|ix| draft.slot(ix));
            if failed.is_some_and(|slot| !slot.failed)
                && draft.date(role).is_some_and(|end| end < context.today)
            {
                let message = format!("“{}”早于今天", name(draft, role));
                rule.raise(draft, role, message, findings);
            }
        }
    }),
};

/// Raises on `role` if its date is before that of `limit`.
fn before(rule: &Rule, draft: &mut Draft, role: Role, limit: Role, findings: &mut Vec<Finding>) {
    if let (Some(date), Some(bound)) = (draft.date(role), draft.date(limit))
        && date < bound
    {
        let message = format!("“{}”{date}早于“{}”{bound}", name(draft, role), name(draft, limit));
        rule.raise(draft, role, message, findings);
    }
}
