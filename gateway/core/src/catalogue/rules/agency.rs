//! The codes of the deciding agency and of the source.

use super::{Rule, name, set, uscc};
use crate::catalogue::{CheckContext, Role};
use crate::ident::Uscc;
use crate::model::{Dimension, Draft, Finding, Severity, Value};

/// Both are codes.
pub(super) const CODE: Rule = Rule {
    id: "agency.code",
    severity: Severity::Error,
    dimension: Dimension::Accuracy,
    title: "机关和数据来源单位的统一社会信用代码应正确",
    fix: "请按机关的统一社会信用代码证书填写",
    basis: "GB 32100-2015;双公示填报说明(2024)",
    check: Some(check),
};

/// An agency is registered by the 机构编制 department; delegated organisations are the exception.
pub(super) const DEPARTMENT: Rule = Rule {
    id: "agency.department",
    severity: Severity::Warning,
    dimension: Dimension::Consistency,
    title: "机关代码一般以1(机构编制)开头",
    fix: "请核对;确为法律法规授权或受委托的组织的,无须修改",
    basis: "GB 32100-2015表1",
    check: None,
};

fn check(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for role in [Role::AgencyCode, Role::SourceCode] {
        let Some(text) = draft.text(role) else { continue };
        let code = match Uscc::parse(text) {
            Ok(code) => code,
            Err(error) => {
                let failed = draft.dataset.role(role).and_then(|ix| draft.slot(ix));
                if failed.is_none_or(|slot| !slot.failed) {
                    let message = format!("“{}”有误:{error}", name(draft, role));
                    rule.raise(draft, role, message, findings);
                }
                continue;
            }
        };
        if code.as_str() != text {
            set(draft, role, Some(Value::Text(code.as_str().to_owned())));
        }
        for warning in &code.warnings {
            uscc::warn(draft, role, *warning, findings);
        }
        if code.department() != '1' {
            let message = format!("“{}”不以1(机构编制)开头", name(draft, role));
            DEPARTMENT.raise(draft, role, message, findings);
        }
    }
}
