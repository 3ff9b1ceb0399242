//! Lines of the mapping table (对照表) from legacy codes to the 统一社会信用代码.

use super::Rule;
use crate::catalogue::{CheckContext, Role, is_uscc_map, uscc_entry};
use crate::ident::EntryError;
use crate::model::{Dimension, Draft, Finding, Operation, Severity};

const BASIS: &str = "驻政〔2018〕85号:完成旧代码与统一社会信用代码的对照";

/// No code of its kind.
pub(super) const CODE: Rule = Rule {
    id: "uscc-map.code",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "旧代码应符合所填的类型,且不是个人号码",
    fix: "请核对类型和旧代码;组织机构代码9位且校验码正确,税务登记号15、17、18或20位,身份证号码不得入表",
    basis: BASIS,
    check: Some(check),
};

/// Computable, so it must be right.
pub(super) const ORG_CODE: Rule = Rule {
    id: "uscc-map.org-code",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "组织机构代码应与统一社会信用代码第9至17位一致",
    fix: "请与证照核对:两者必有一个抄错",
    basis: "GB 32100-2015:第9至17位为主体标识码(组织机构代码)",
    check: None,
};

/// Over before it begins.
pub(super) const PERIOD: Rule = Rule {
    id: "uscc-map.period",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "失效日期不得早于生效日期",
    fix: "请核对两个日期;一直有效的都留空",
    basis: BASIS,
    check: None,
};

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    match uscc_entry(draft) {
        // A takedown is asked for less than a record, but this one needs all three.
        None if draft.operation == Operation::Withdraw
            && is_uscc_map(&draft.dataset)
            && !draft.slots.iter().any(|slot| slot.failed) =>
        {
            let message = "撤下一条对照须写明类型、旧码和统一社会信用代码";
            rule.raise(draft, Role::LegacyCode, message, findings);
        }
        None | Some(Ok(_)) => {}
        Some(Err(EntryError::Code)) => {
            rule.raise(draft, Role::LegacyCode, "旧代码与类型不符", findings);
        }
        Some(Err(error @ EntryError::OrgCode)) => {
            ORG_CODE.raise(draft, Role::LegacyCode, error.to_string(), findings);
        }
        Some(Err(error @ EntryError::Period)) => {
            PERIOD.raise(draft, Role::MappedTo, error.to_string(), findings);
        }
        // Its own rules have said so.
        Some(Err(EntryError::Uscc | EntryError::Source)) => {}
    }
}
