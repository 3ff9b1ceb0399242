//! What each category of subject (行政相对人类别) must and must not carry.

use super::{Rule, is_missing, name};
use crate::catalogue::Role;
use crate::ident::SENTINEL;
use crate::model::{Dimension, Draft, Finding, Severity};

/// 法人及非法人组织: organisations.
pub(crate) const ORG: &str = "法人及非法人组织";
/// 自然人: natural persons.
pub(crate) const PERSON: &str = "自然人";
/// 个体工商户: sole traders.
pub(crate) const SOLE: &str = "个体工商户";

pub(crate) const ORG_CODE_RULE: &str = ORG_CODE.id;
pub(crate) const SOLE_TRADER_RULE: &str = SOLE_TRADER.id;

const BASIS: &str = "双公示填报说明(2024):行政相对人类别与代码";

/// An organisation without its code.
pub(super) const ORG_CODE: Rule = Rule {
    id: "category.org-code",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "法人及非法人组织须填统一社会信用代码",
    fix: "请填写统一社会信用代码;相对人实为自然人的,请改类别",
    basis: "双公示填报说明(2024);河南省社会信用条例第十六条",
    check: Some(|rule, draft, _, findings| {
        if is(draft, ORG) && is_missing(draft, Role::SubjectUscc) {
            rule.raise(draft, Role::SubjectUscc, "法人及非法人组织没有统一社会信用代码", findings);
        }
    }),
};

/// An organisation with a person's document.
pub(super) const ORG_PERSONAL_ID: Rule = Rule {
    id: "category.org-personal-id",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "法人及非法人组织不得填自然人证件",
    fix: "请清空自然人证件类型和号码;相对人实为自然人的,请改类别",
    basis: BASIS,
    check: Some(|rule, draft, _, findings| {
        if is(draft, ORG) {
            refuse(rule, draft, &[Role::PersonIdType, Role::PersonIdNo], ORG, findings);
        }
    }),
};

/// A person without a document; a sole trader with half of one.
pub(super) const PERSON_ID: Rule = Rule {
    id: "category.person-id",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "自然人须填证件类型和证件号码",
    fix: "请补填证件类型和证件号码(号码加密传输,不公示)",
    basis: "双公示填报说明(2024);河南省社会信用条例第十六条",
    check: Some(|rule, draft, _, findings| {
        let half = is(draft, SOLE)
            && (draft.value(Role::PersonIdType).is_some()
                != draft.value(Role::PersonIdNo).is_some());
        if !is(draft, PERSON) && !half {
            return;
        }
        for role in [Role::PersonIdType, Role::PersonIdNo] {
            if is_missing(draft, role) {
                let message = format!("没有填“{}”", name(draft, role));
                rule.raise(draft, role, message, findings);
            }
        }
    }),
};

/// A person with an organisation's codes.
pub(super) const PERSON_ORG_CODE: Rule = Rule {
    id: "category.person-org-code",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "自然人不得填单位代码和法定代表人",
    fix: "请清空代码一至六和法定代表人;相对人实为单位或个体工商户的,请改类别",
    basis: BASIS,
    check: Some(|rule, draft, _, findings| {
        const ROLES: &[Role] = &[
            Role::SubjectUscc,
            Role::SubjectRegNo,
            Role::SubjectOrgCode,
            Role::SubjectTaxNo,
            Role::SubjectInstitutionNo,
            Role::SubjectSocialNo,
            Role::LegalRep,
        ];
        if is(draft, PERSON) {
            refuse(rule, draft, ROLES, PERSON, findings);
        }
    }),
};

/// A sole trader without any code.
pub(super) const SOLE_TRADER: Rule = Rule {
    id: "category.sole-trader",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "个体工商户须填统一社会信用代码,没有的填17个0加X并填工商注册号",
    fix: "请填写统一社会信用代码;没有的填00000000000000000X并填工商注册号",
    basis: "双公示填报说明(2024):个体工商户",
    check: Some(|rule, draft, _, findings| {
        if is(draft, SOLE) && is_missing(draft, Role::SubjectUscc) {
            rule.raise(draft, Role::SubjectUscc, "个体工商户没有统一社会信用代码", findings);
        }
    }),
};

/// The code says one thing, the category another.
pub(super) const PREFIX: Rule = Rule {
    id: "category.prefix",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "统一社会信用代码前两位应与类别一致(92为个体工商户)",
    fix: "请核对类别:代码以92开头的是个体工商户,其余的不是",
    basis: "GB 32100-2015表1;双公示填报说明(2024)",
    check: Some(|rule, draft, _, findings| {
        // Before 2021 there was no such category: sole traders were organisations.
        let knows_sole = matches!(
            draft.dataset.role(Role::SubjectCategory).and_then(|ix| draft.dataset.field(ix)),
            Some(field) if matches!(&field.kind, crate::catalogue::FieldKind::Code { set, .. }
                if set.values.contains_key(SOLE))
        );
        let failed = draft
            .dataset
            .role(Role::SubjectUscc)
            .and_then(|ix| draft.slot(ix))
            .is_none_or(|slot| slot.failed);
        let Some(code) = draft.text(Role::SubjectUscc) else { return };
        if failed || !knows_sole || code == SENTINEL {
            return;
        }
        let message = match (is(draft, SOLE), code.starts_with("92")) {
            (true, false) => "类别是个体工商户,但统一社会信用代码不以92开头",
            (false, true) if is(draft, ORG) => "统一社会信用代码以92开头,类别却不是个体工商户",
            _ => return,
        };
        rule.raise(draft, Role::SubjectCategory, message, findings);
    }),
};

fn is(draft: &Draft, category: &str) -> bool {
    draft.text(Role::SubjectCategory) == Some(category)
}

fn refuse(
    rule: &Rule,
    draft: &mut Draft,
    roles: &[Role],
    category: &str,
    findings: &mut Vec<Finding>,
) {
    for role in roles {
        if draft.value(*role).is_some() {
            let message = format!("类别是{category},不应填“{}”", name(draft, *role));
            rule.raise(draft, *role, message, findings);
        }
    }
}
