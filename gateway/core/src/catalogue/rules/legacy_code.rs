//! The codes that came before the 统一社会信用代码. They only warn: older forms exist.

use super::{Rule, set};
use crate::catalogue::{CheckContext, Role};
use crate::ident::{RegNoError, check_reg_no, org_code_check};
use crate::model::{Dimension, Draft, Finding, Severity, Value};
use crate::value::is_placeholder;

/// Not 15 digits: 13-digit numbers are real.
pub(super) const REG_NO_FORM: Rule = Rule {
    id: "reg-no.form",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "工商注册号一般为15位数字",
    fix: "请核对;确为2006年以前的旧号的,无须修改",
    basis: "GS 15-2006《工商行政管理市场主体注册号编制规则》",
    check: Some(check_reg_no_field),
};

/// Only a warning, for a wrong digit here misleads nobody: the code beside it identifies.
pub(super) const REG_NO_CHECK_DIGIT: Rule = Rule {
    id: "reg-no.check-digit",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "工商注册号的校验码应正确",
    fix: "多为抄录错误:请与执照核对",
    basis: "GS 15-2006《工商行政管理市场主体注册号编制规则》",
    check: None,
};

/// GB 11714.
pub(super) const ORG_CODE: Rule = Rule {
    id: "org-code.form",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "组织机构代码应为9位且校验码正确",
    fix: "请与组织机构代码证核对,或只填统一社会信用代码",
    basis: "GB 11714-1997《全国组织机构代码编制规则》",
    check: Some(check_org_code_field),
};

/// 纳税人识别号.
pub(super) const TAX_NO: Rule = Rule {
    id: "tax-no.form",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "税务登记号一般为15、17、18或20位数字和字母",
    fix: "请与税务登记证核对,或只填统一社会信用代码",
    basis: "双公示数据标准:税务登记号(纳税人识别号)",
    check: Some(|rule, draft, _, findings| {
        let message = "税务登记号不是15、17、18或20位数字和字母";
        lengths(rule, draft, Role::SubjectTaxNo, &[15, 17, 18, 20], message, findings);
    }),
};

/// 事业单位法人证书号.
pub(super) const INSTITUTION_NO: Rule = Rule {
    id: "institution-no.form",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "事业单位证书号一般为12位数字",
    fix: "请与事业单位法人证书核对,或只填统一社会信用代码",
    basis: "双公示数据标准:事业单位证书号",
    check: Some(|rule, draft, _, findings| {
        let message = "事业单位证书号不是12位";
        lengths(rule, draft, Role::SubjectInstitutionNo, &[12], message, findings);
    }),
};

fn lengths(
    rule: &Rule,
    draft: &mut Draft,
    role: Role,
    allowed: &[usize],
    message: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(text) = draft.text(role) else { return };
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_placeholder(text) {
        set(draft, role, None);
    } else if !plain || !allowed.contains(&text.len()) {
        rule.raise(draft, role, message, findings);
    }
}

fn check_reg_no_field(
    rule: &Rule,
    draft: &mut Draft,
    _: &CheckContext,
    findings: &mut Vec<Finding>,
) {
    const ROLE: Role = Role::SubjectRegNo;
    let Some(text) = draft.text(ROLE) else { return };
    match check_reg_no(text) {
        Ok(()) => {}
        Err(_) if is_placeholder(text) => set(draft, ROLE, None),
        Err(RegNoError::Form) => rule.raise(draft, ROLE, "工商注册号不是15位数字", findings),
        Err(error @ RegNoError::CheckDigit) => {
            REG_NO_CHECK_DIGIT.raise(draft, ROLE, format!("工商注册号{error}"), findings);
        }
    }
}

fn check_org_code_field(
    rule: &Rule,
    draft: &mut Draft,
    _: &CheckContext,
    findings: &mut Vec<Finding>,
) {
    const ROLE: Role = Role::SubjectOrgCode;
    let Some(text) = draft.text(ROLE) else { return };
    match org_code_check(text) {
        // The hyphen is for people; the catalogue counts nine characters.
        Ok(()) if text.contains('-') => {
            let plain = Value::Text(text.replace('-', ""));
            set(draft, ROLE, Some(plain));
        }
        Ok(()) => {}
        Err(_) if is_placeholder(text) => set(draft, ROLE, None),
        Err(error) => rule.raise(draft, ROLE, format!("组织机构代码{error}"), findings),
    }
}
