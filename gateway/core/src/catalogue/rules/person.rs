//! A natural person's citizen number.

use super::raised::SCOPE_MINOR;
use super::{Rule, set};
use crate::catalogue::{CheckContext, Role};
use crate::ident::CitizenId;
use time::Date;

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
