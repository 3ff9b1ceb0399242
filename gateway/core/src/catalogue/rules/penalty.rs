//! What a kind of penalty (处罚类别) has to say more.

use super::{Rule, set};
use crate::catalogue::{CheckContext, Requirement, Role};
use crate::model::{Dimension, Draft, Finding, Severity};
use crate::value::{Amount, Unit, parse_amount};

const BASIS: &str = "双公示数据标准:处罚类别与处罚内容";

/// 罚款 without an amount.
pub(super) const FINE_MISSING: Rule = Rule {
    id: "amount.fine-missing",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "处罚类别含罚款的,须填罚款金额且大于0",
    fix: "请填罚款金额,按该列的单位填写",
    basis: BASIS,
    check: Some(check_fine),
};

/// An amount without 罚款.
pub(super) const FINE_UNEXPECTED: Rule = Rule {
    id: "amount.fine-unexpected",
    severity: Severity::Error,
    dimension: Dimension::Consistency,
    title: "处罚类别不含罚款的,不得填罚款金额",
    fix: "请在处罚类别中加上罚款,或清空罚款金额",
    basis: BASIS,
    check: None,
};

/// 元 written where 万元 is meant, or the reverse: the text beside it tells.
pub(super) const FINE_DIFFERS: Rule = Rule {
    id: "amount.fine-differs",
    severity: Severity::Warning,
    dimension: Dimension::Accuracy,
    title: "罚款金额应与处罚内容所述一致",
    fix: "请核对数额,并按该列的单位填写",
    basis: BASIS,
    check: None,
};

/// 没收 without an amount.
pub(super) const CONFISCATED: Rule = Rule {
    id: "amount.confiscated",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "处罚类别含没收的,须填没收金额",
    fix: "请填没收违法所得、没收非法财物的金额,按该列的单位填写",
    basis: BASIS,
    check: Some(|rule, draft, _, findings| {
        if applies(draft, Role::ConfiscatedAmount) && has(draft, "没收") {
            let failed = failed(draft, Role::ConfiscatedAmount);
            if !failed && draft.amount(Role::ConfiscatedAmount).is_none_or(|a| a < Amount(0)) {
                let message = "处罚类别含没收,但没有填没收金额";
                raise(rule, draft, Role::ConfiscatedAmount, message, findings);
            }
        }
    }),
};

/// 暂扣 or 吊销 without saying of what.
pub(super) const REVOKED: Rule = Rule {
    id: "penalty.revoked-certificate",
    severity: Severity::Error,
    dimension: Dimension::Completeness,
    title: "处罚类别含暂扣或吊销的,须填证照名称及编号",
    fix: "请填暂扣或吊销的证照名称及编号",
    basis: BASIS,
    check: Some(|rule, draft, _, findings| {
        if applies(draft, Role::RevokedCertificate)
            && (has(draft, "暂扣") || has(draft, "吊销"))
            && super::is_missing(draft, Role::RevokedCertificate)
        {
            let message = "处罚类别含暂扣或吊销,但没有填证照名称及编号";
            rule.raise(draft, Role::RevokedCertificate, message, findings);
        }
    }),
};

/// The fine a text clearly names: the word 罚款 once, directly followed by one number and 元 or
/// 万元. Anything that may be read otherwise (several sums, ranges, rates, Chinese numerals) is `None`.
pub(crate) fn fine_in_text(text: &str) -> Option<Amount> {
    const RATES: [char; 3] = ['每', '倍', '%'];
    let (_, rest) = text.split_once("罚款")?;
    if rest.contains("罚款") || text.contains(RATES) {
        return None;
    }
    let rest = rest.strip_prefix("人民币").unwrap_or(rest).trim_start();
    let rest = rest.strip_prefix("金额").unwrap_or(rest);
    let rest = rest.trim_start_matches(['\u{FF1A}', ':', '¥', '\u{FFE5}']);
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let end = rest.find(|c: char| !is_number(c))?;
    let (number, rest) = rest.split_at_checked(end)?;
    let (unit, rest) = match (rest.strip_prefix("万元"), rest.strip_prefix('元')) {
        (Some(rest), _) => (Unit::Wan, rest),
        (None, Some(rest)) => (Unit::Yuan, rest),
        (None, None) => return None,
    };
    if rest.contains('元') || rest.starts_with(['以', '至', '到', '-', '~', '\u{FF5E}', '—'])
    {
        return None;
    }
    parse_amount(number, unit).ok().filter(|amount| *amount > Amount(0))
}

fn check_fine(rule: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    const ROLE: Role = Role::FineAmount;
    if !applies(draft, ROLE) || failed(draft, ROLE) {
        return;
    }
    let amount = draft.amount(ROLE);
    match (has(draft, "罚款"), amount) {
        (true, Some(amount)) if amount > Amount(0) => {
            let named = draft.text(Role::Content).and_then(fine_in_text);
            if named.is_some_and(|named| named != amount) {
                let message = "罚款金额与处罚内容中写的数额不一致";
                raise(&FINE_DIFFERS, draft, ROLE, message, findings);
            }
        }
        (true, _) => {
            raise(rule, draft, ROLE, "处罚类别含罚款,但没有填大于0的罚款金额", findings);
        }
        // A zero there is how many systems write "none".
        (false, Some(Amount(0))) => set(draft, ROLE, None),
        // A kind that was refused may have meant a fine.
        (false, Some(_)) if failed(draft, Role::PenaltyCategory) => {}
        (false, Some(_)) => {
            FINE_UNEXPECTED.raise(draft, ROLE, "处罚类别不含罚款,却填了罚款金额", findings);
        }
        (false, None) => {}
    }
}

/// Raises with advice in the unit of the agency's own column: the catalogue's 万元 in a column of 元
/// would make a fine ten thousand times too small.
fn raise(rule: &Rule, draft: &mut Draft, role: Role, message: &str, findings: &mut Vec<Finding>) {
    let Some(ix) = draft.dataset.role(role) else { return };
    let label = super::name(draft, role);
    let fix = match draft.slot(ix).and_then(|slot| slot.unit) {
        Some(unit) if rule.id == FINE_DIFFERS.id => {
            format!("请与决定书核对:“{label}”{}", unit.hint())
        }
        Some(unit) => format!("请填“{label}”,{}", unit.hint()),
        None => format!("请补报“{label}”;没有这一列的,请在处罚结果中写明数额,如“罚款2000元”"),
    };
    rule.raise_at(draft, usize::from(ix.0), message, fix, findings);
    // Without a column of its own, the sum has to stand in the text.
    let content = draft.dataset.role(Role::Content).and_then(|ix| draft.slot(ix)?.column);
    if let Some(finding) = findings.last_mut() {
        finding.column = finding.column.or(content);
    }
}

/// Whether the generation makes the field depend on the penalty's kind, and the kind is known.
fn applies(draft: &Draft, role: Role) -> bool {
    let field = draft.dataset.role(role).and_then(|ix| draft.dataset.field(ix));
    field.is_some_and(|field| field.requirement == Requirement::Conditional)
        && draft.text(Role::PenaltyCategory).is_some()
}

fn has(draft: &Draft, word: &str) -> bool {
    draft.text(Role::PenaltyCategory).is_some_and(|category| category.contains(word))
}

fn failed(draft: &Draft, role: Role) -> bool {
    draft.dataset.role(role).and_then(|ix| draft.slot(ix)).is_none_or(|slot| slot.failed)
}
