//! A natural person's citizen number: right in its place, and nowhere else.

use super::raised::SCOPE_MINOR;
use super::{Rule, set};
use time::Date;

use crate::catalogue::{CheckContext, Role, Sensitivity};
use crate::ident::{CitizenId, personal};
use crate::model::{Dimension, Draft, Finding, Severity, Value};

/// GB 11643.
pub(super) const CITIZEN_ID: Rule = Rule {
    id: "person.citizen-id",
    severity: Severity::Error,
    dimension: Dimension::Accuracy,
    title: "身份证号码应合乎编码规则",
    fix: "请与身份证逐位核对;证件不是身份证的,请改证件类型",
    basis: "GB 11643-1999《公民身份号码》",
    check: Some(check),
};

/// Born after the decision.
pub(super) const BIRTH_DATE: Rule = Rule {
    id: "person.birth-date",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "出生日期不得晚于决定日期",
    fix: "请核对身份证号码和决定日期",
    basis: "GB 11643-1999《公民身份号码》",
    check: None,
};

/// In a field that is published. Not asked of a withdrawal: what takes a number off the net must
/// not be held up for it, and goes on without it.
pub(super) const PUBLIC_NUMBER: Rule = Rule {
    id: "person.number-in-public-field",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "公示的内容不得含身份证号码",
    fix: "请删去号码,公示内容只写姓名;确需报送的,移到“证件号码”一栏",
    basis: "个人信息保护法第二十五条、第二十八条;GB 11643-1999《公民身份号码》",
    check: Some(check_public),
};

fn check_public(
    rule: &Rule,
    draft: &mut Draft,
    context: &CheckContext,
    findings: &mut Vec<Finding>,
) {
    let dataset = std::sync::Arc::clone(&draft.dataset);
    for (at, field) in dataset.fields.iter().enumerate() {
        let text = match draft.slots.get(at) {
            // What failed is refused already.
            Some(slot) if !slot.failed => slot.value.as_ref(),
            _ => None,
        };
        if field.sensitivity == Sensitivity::Public
            && matches!(text, Some(Value::Text(text)) if personal::holds_citizen_id(text, context.today))
        {
            let message = format!("“{}”中有身份证号码,而这一项要公示", field.name);
            rule.raise_at(draft, at, message, rule.fix.to_owned(), findings);
        }
    }
}

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    const ROLE: Role = Role::PersonIdNo;
    if draft.text(Role::PersonIdType) != Some("身份证") {
        return;
    }
    let Some(text) = draft.text(ROLE) else { return };
    match CitizenId::parse(text) {
        Ok(id) => {
            if draft.date(Role::DecisionDate).is_some_and(|decided| id.born > decided) {
                BIRTH_DATE.raise(draft, ROLE, "身份证号码中的出生日期晚于决定日期", findings);
            } else if draft
                .date(Role::DecisionDate)
                .is_some_and(|decided| is_minor(id.born, decided))
            {
                SCOPE_MINOR.raise(draft, ROLE, "作出决定时相对人未满18周岁", findings);
            }
            if draft.text(ROLE) != Some(id.expose()) {
                set(draft, ROLE, Some(Value::Text(id.expose().to_owned())));
            }
        }
        Err(error) => rule.raise(draft, ROLE, format!("身份证号码有误:{error}"), findings),
    }
}

/// Whether someone born on a day was younger than 18 on another.
fn is_minor(born: Date, on: Date) -> bool {
    let age = on.year() - born.year();
    age < 18 || age == 18 && (u8::from(on.month()), on.day()) < (u8::from(born.month()), born.day())
}
