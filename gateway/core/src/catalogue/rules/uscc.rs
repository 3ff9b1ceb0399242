//! The subject's 统一社会信用代码 (GB 32100-2015).

use super::{Rule, set};
use crate::catalogue::{CheckContext, Role};
use crate::ident::{
    CitizenId, SENTINEL, Uscc, UsccError, UsccWarning, check_reg_no, org_code_check, personal,
};
use crate::model::{Dimension, Draft, Finding, Severity, Value};
use crate::value::is_placeholder;

const BASIS: &str = "GB 32100-2015《法人和其他组织统一社会信用代码编码规则》";

/// Length, alphabet, department, division.
pub(super) const FORM: Rule = Rule {
    id: "uscc.form",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "统一社会信用代码应为18位,且只用规定的字符",
    fix: "请按营业执照或登记证书上的统一社会信用代码填写",
    basis: BASIS,
    check: Some(check),
};

/// Character 18.
pub(super) const CHECK_DIGIT: Rule = Rule {
    id: "uscc.check-digit",
    severity: Severity::Error,
    dimension: Dimension::Accuracy,
    title: "统一社会信用代码的校验码应正确",
    fix: "多为抄录错误:请与营业执照或登记证书逐位核对",
    basis: BASIS,
    check: None,
};

/// Character 17: 79 of 1.1 million real codes fail it, so it only warns.
pub(super) const INNER_CHECK_DIGIT: Rule = Rule {
    id: "uscc.inner-check-digit",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "统一社会信用代码内含的组织机构代码校验码应正确",
    fix: "请核对第9至17位;登记机关所发证照确实如此的,无须修改",
    basis: "GB 32100-2015;GB 11714-1997《全国组织机构代码编制规则》",
    check: None,
};

/// Second character outside the table.
pub(super) const UNLISTED_KIND: Rule = Rule {
    id: "uscc.unlisted-kind",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "统一社会信用代码第2位应在机构类别表内",
    fix: "请核对前两位;登记机关所发证照确实如此的,无须修改",
    basis: BASIS,
    check: None,
};

/// Lower case, put right.
pub(super) const LOWER_CASE: Rule = Rule {
    id: "uscc.lower-case",
    severity: Severity::Warning,
    dimension: Dimension::Conformity,
    title: "统一社会信用代码应用大写字母",
    fix: "已改为大写;请在源系统中更正",
    basis: BASIS,
    check: None,
};

/// An older number in the code's place.
pub(super) const LEGACY_CODE: Rule = Rule {
    id: "uscc.legacy-code",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "统一社会信用代码一栏不得填旧号码",
    fix: "请把该号码移到对应的旧代码栏,并填写统一社会信用代码",
    basis: "驻政〔2018〕85号:统一社会信用代码是报送的必要条件",
    check: None,
};

/// A citizen's number in a public column.
pub(super) const CITIZEN_ID: Rule = Rule {
    id: "uscc.citizen-id",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "统一社会信用代码一栏不得填身份证号码",
    fix: "相对人是自然人的,请把号码移到“证件号码”一栏;是单位的,请填单位的统一社会信用代码",
    basis: "双公示填报说明(2024):自然人的代码一至六为空",
    check: None,
};

/// The placeholder code where it has no place.
pub(super) const SENTINEL_MISUSED: Rule = Rule {
    id: "uscc.sentinel",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "17个0加X只用于没有统一社会信用代码的个体工商户,且须填工商注册号",
    fix: "个体工商户请补填工商注册号;其他相对人请填真实的统一社会信用代码",
    basis: "双公示填报说明(2024):个体工商户",
    check: None,
};

const IS_CITIZEN_ID: &str = "填的是身份证号码,不是统一社会信用代码";

fn check(_: &Rule, draft: &mut Draft, context: &CheckContext, findings: &mut Vec<Finding>) {
    const ROLE: Role = Role::SubjectUscc;
    let Some(text) = draft.text(ROLE) else { return };
    if text.eq_ignore_ascii_case(SENTINEL) {
        return sentinel(draft, findings);
    }
    match Uscc::parse(text) {
        // One citizen number of 31 passes the other check as well: it stays a person's.
        Ok(_) if personal::is_citizen_id(text, context.today) => {
            CITIZEN_ID.raise(draft, ROLE, IS_CITIZEN_ID, findings);
        }
        Ok(code) => {
            if code.as_str() != text {
                set(draft, ROLE, Some(Value::Text(code.as_str().to_owned())));
            }
            for warning in &code.warnings {
                warn(draft, ROLE, *warning, findings);
            }
        }
        // "无" is no code: the category rules say whether one is needed.
        Err(_) if is_placeholder(text) => set(draft, ROLE, None),
        Err(error) => {
            let (rule, message) = judge(text, error);
            rule.raise(draft, ROLE, message, findings);
        }
    }
}

/// Raises what is odd about a code in `role`; the agency's codes use it too.
pub(super) fn warn(
    draft: &mut Draft,
    role: Role,
    warning: UsccWarning,
    findings: &mut Vec<Finding>,
) {
    let (rule, message) = match warning {
        UsccWarning::InnerCheckDigit => (&INNER_CHECK_DIGIT, "第17位(组织机构代码校验码)不符"),
        UsccWarning::UnlistedKind => (&UNLISTED_KIND, "第2位不在公布的机构类别表内"),
        UsccWarning::LowerCase => (&LOWER_CASE, "含小写字母,已改为大写"),
    };
    let message = format!("“{}”{message}", super::name(draft, role));
    rule.raise(draft, role, message, findings);
}

fn sentinel(draft: &mut Draft, findings: &mut Vec<Finding>) {
    let sole_trader =
        draft.text(Role::SubjectCategory).is_none_or(|category| category == super::category::SOLE);
    let has_reg_no = draft.text(Role::SubjectRegNo).is_some_and(|number| !is_placeholder(number));
    let message = match (sole_trader, has_reg_no) {
        (true, true) => {
            if draft.text(Role::SubjectUscc) != Some(SENTINEL) {
                warn(draft, Role::SubjectUscc, UsccWarning::LowerCase, findings);
            }
            return set(draft, Role::SubjectUscc, Some(Value::Text(SENTINEL.into())));
        }
        (true, false) => "填了占位代码(17个0加X),但没有工商注册号",
        (false, _) => "占位代码(17个0加X)只用于个体工商户",
    };
    SENTINEL_MISUSED.raise(draft, Role::SubjectUscc, message, findings);
}

/// Which rule a text that is no code breaks: the clerk is told what it is, if that can be told.
fn judge(text: &str, error: UsccError) -> (&'static Rule, String) {
    let old_reg_no = text.len() == 13 && text.bytes().all(|b| b.is_ascii_digit());
    if check_reg_no(text).is_ok() || old_reg_no {
        return (&LEGACY_CODE, "填的是工商注册号,不是统一社会信用代码".to_owned());
    }
    if CitizenId::parse(text).is_ok() {
        return (&CITIZEN_ID, IS_CITIZEN_ID.to_owned());
    }
    if org_code_check(text).is_ok() {
        return (&LEGACY_CODE, "填的是组织机构代码,不是统一社会信用代码".to_owned());
    }
    if text.len() == 15 && text.bytes().all(|b| b.is_ascii_digit()) {
        return (&LEGACY_CODE, "填的是15位旧号码,不是统一社会信用代码".to_owned());
    }
    match error {
        UsccError::CheckDigit => (&CHECK_DIGIT, format!("统一社会信用代码{error}")),
        _ => (&FORM, format!("统一社会信用代码格式不对:{error}")),
    }
}
