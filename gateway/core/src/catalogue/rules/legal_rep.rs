//! The legal representative (法定代表人): name wanted, document not.

use super::{Rule, category, is_missing, set};
use crate::catalogue::{CheckContext, Role};
use crate::model::{Dimension, Draft, Finding, Severity};

/// Optional and discouraged by the standard, personal by law: dropped, so that it goes nowhere.
pub(super) const ID: Rule = Rule {
    id: "legal-rep.id",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "法定代表人证件号码不建议填,系统不予保留",
    fix: "已删去;请勿再报法定代表人证件号码",
    basis: "双公示填报说明(2024):不建议填;个人信息保护法第二十八条",
    check: Some(|_, draft, _, findings| drop_id(draft, Role::LegalRepIdNo, findings)),
};

/// Wanted for organisations and sole traders. Only a warning: the notes give the condition from
/// memory, the table itself was not obtained.
pub(super) const MISSING: Rule = Rule {
    id: "legal-rep.missing",
    severity: Severity::Warning,
    dimension: Dimension::Completeness,
    title: "法人及非法人组织、个体工商户应填法定代表人(经营者)",
    fix: "请补填法定代表人或经营者姓名",
    basis: "双公示数据标准:法定代表人(条件必填)",
    check: Some(check_missing),
};

/// Drops the representative's document number in `role`, saying so, and its kind.
pub(crate) fn drop_id(draft: &mut Draft, role: Role, findings: &mut Vec<Finding>) {
    if draft.value(role).is_some() {
        let message = "填了法定代表人证件号码(不建议填),已删去";
        ID.raise(draft, role, message, findings);
        set(draft, role, None);
    }
    set(draft, Role::LegalRepIdType, None);
}

fn check_missing(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    let wanted = matches!(
        draft.text(Role::SubjectCategory),
        Some(category) if category == category::ORG || category == category::SOLE
    );
    if wanted && is_missing(draft, Role::LegalRep) {
        rule.raise(draft, Role::LegalRep, "没有填法定代表人(经营者)", findings);
    }
}
