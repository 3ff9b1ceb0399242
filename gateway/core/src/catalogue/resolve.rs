//! From a legacy code to the 统一社会信用代码, by a dated mapping table (对照表).
//!
//! It stands before [`super::convert`]: an older generation tells the subject's category by its
//! codes, so what the table gives must be there by then. What the table does not give makes no
//! verdict of its own: [`Wanted::hold`] asks, after every rule has spoken, whether the missing code
//! is all that stands against the row.

use time::Date;

use super::Role;
use super::convert::resolved;
use super::rules::category::PERSON;
use super::rules::{self, raised};
use crate::ident::{LegacyCode, LegacyKind, SENTINEL, Uscc};
use crate::model::{Draft, Finding, Operation, Severity, Slot, Value};
use crate::value::is_placeholder;

/// The mapping table, as the rules ask it.
pub trait UsccMap {
    /// Whose this code was on a day.
    fn look_up(&self, code: &LegacyCode, on: Date) -> Resolution;
}

/// What the table says of a code on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Nothing.
    None,
    /// One organisation.
    One {
        /// Its 统一社会信用代码.
        uscc: String,
        /// Who says so.
        source: String,
    },
    /// Several, by contradicting lines.
    Many,
}

/// No table: for those who have no store.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoUsccMap;

impl UsccMap for NoUsccMap {
    fn look_up(&self, _: &LegacyCode, _: Date) -> Resolution {
        Resolution::None
    }
}

/// What became of a row's need for a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// It has a code, needs none, or has nothing to find one by.
    NotNeeded,
    /// The table gave it.
    Filled,
    /// It has legacy codes, and the table does not settle whose they are.
    Wanted(Wanted),
}

/// Legacy codes the table does not settle (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Every code that would settle it.
    pub codes: Vec<LegacyCode>,
    /// The table, or the row's codes, contradict themselves; else the table knows none of them.
    pub ambiguous: bool,
    finding: Finding,
}

/// Fills the 统一社会信用代码 of an organisation or sole trader that has only legacy codes, by the
/// table as of the decision date. All its codes are asked for: they must agree.
pub fn resolve(draft: &mut Draft, map: &dyn UsccMap, findings: &mut Vec<Finding>) -> Resolved {
    let codes = wanted(draft);
    let (false, Some(decided)) = (codes.is_empty(), draft.date(Role::DecisionDate)) else {
        return Resolved::NotNeeded;
    };
    let mut found: Option<(String, String, LegacyKind)> = None;
    let mut many = false;
    for code in &codes {
        match map.look_up(code, decided) {
            Resolution::None => {}
            Resolution::Many => many = true,
            Resolution::One { uscc, source } => match &found {
                Some((known, ..)) => many |= *known != uscc,
                None => found = Some((uscc, source, code.kind())),
            },
        }
    }
    let column = slot(draft).and_then(|slot| slot.column);
    let field = draft.dataset.role(Role::SubjectUscc).and_then(|ix| draft.dataset.field(ix));
    let kinds = || {
        let mut names: Vec<_> = codes.iter().map(|code| code.kind().name()).collect();
        names.dedup();
        names.join("、")
    };
    match found {
        Some((uscc, source, kind)) if !many => {
            let by = if source.is_empty() { String::new() } else { format!("(来源:{source})") };
            let message = format!("统一社会信用代码由{}按对照表{by}得出", kind.name());
            findings.push(raised::USCC_FROM_LEGACY.finding(field, column, message));
            // What the mapping said against the empty or old value no longer stands.
            let code = field.map(|field| field.code.clone());
            findings.retain(|finding| !(finding.field == code && lack_of_mapping(finding)));
            if let Some(slot) = slot(draft) {
                let (heading, unit) = (slot.heading.take(), slot.unit);
                let value = Some(Value::Text(uscc));
                *slot = Slot { value, column, heading, unit, failed: false, derived: true };
            }
            Resolved::Filled
        }
        found => {
            let ambiguous = many || found.is_some();
            let (rule, message) = if ambiguous {
                let message = format!("按{}查到不止一个统一社会信用代码", kinds());
                (&raised::USCC_AMBIGUOUS, message)
            } else {
                let message = format!("没有统一社会信用代码,按{}在对照表中也查不到", kinds());
                (&raised::USCC_UNRESOLVED, message)
            };
            let finding = rule.finding(field, column, message);
            Resolved::Wanted(Wanted { codes, ambiguous, finding })
        }
    }
}

impl Wanted {
    /// Whether the row waits for the table: nothing but the missing code stands against it. Then
    /// its findings say so, none of them an error. A withdrawal that could not name its subject
    /// waits as well: without the code it would take down another record, or none.
    pub fn hold(&self, draft: &Draft, findings: &mut Vec<Finding>) -> bool {
        let uscc = draft.dataset.role(Role::SubjectUscc).and_then(|ix| draft.dataset.field(ix));
        let lack = |finding: &Finding| {
            LACK.contains(&&*finding.rule)
                || lack_of_mapping(finding)
                    && (finding.field == self.finding.field
                        || finding.field.as_deref() == uscc.map(|field| &*field.code))
        };
        let mut errors = findings.iter().filter(|f| f.severity == Severity::Error).peekable();
        let refused = errors.peek().is_some();
        if !errors.all(lack) {
            return false;
        }
        let nameless =
            draft.operation == Operation::Withdraw && draft.value(Role::SubjectUscc).is_none();
        if !refused && !nameless {
            return false;
        }
        findings.retain(|finding| !lack(finding));
        findings.push(self.finding.clone());
        true
    }
}

/// What is said of a row only because its code is missing, or an old one stands in its place.
const LACK: [&str; 5] = [
    rules::category::ORG_CODE_RULE,
    rules::category::SOLE_TRADER_RULE,
    rules::USCC_LEGACY_CODE,
    rules::USCC_SENTINEL,
    raised::CONVERT_CATEGORY_UNKNOWN.id,
];

fn lack_of_mapping(finding: &Finding) -> bool {
    *finding.rule == *raised::MAPPING_REQUIRED.id || *finding.rule == *raised::MAPPING_CHECK.id
}

/// The legacy codes of a draft that lacks the new one; none for a natural person.
fn wanted(draft: &Draft) -> Vec<LegacyCode> {
    let mut codes = match draft.text(Role::SubjectUscc) {
        None => Vec::new(),
        Some(text) if is_placeholder(text) || text.eq_ignore_ascii_case(SENTINEL) => Vec::new(),
        Some(text) if Uscc::parse(text).is_ok() => return Vec::new(),
        Some(text) => match LegacyCode::read(text) {
            // A code misspelt is the agency's to put right: what else stands there may be another's.
            read if read.is_empty() => return Vec::new(),
            read => read,
        },
    };
    if resolved(draft, Role::SubjectCategory).as_deref() == Some(PERSON) {
        return Vec::new();
    }
    const FIELDS: [(Role, LegacyKind); 5] = [
        (Role::SubjectOrgCode, LegacyKind::OrgCode),
        (Role::SubjectRegNo, LegacyKind::RegNo),
        (Role::SubjectTaxNo, LegacyKind::TaxNo),
        (Role::SubjectInstitutionNo, LegacyKind::InstitutionNo),
        (Role::SubjectSocialNo, LegacyKind::SocialNo),
    ];
    for (role, kind) in FIELDS {
        let text = draft.text(role).filter(|text| !is_placeholder(text));
        codes.extend(text.and_then(|text| LegacyCode::new(kind, text)));
    }
    let inner: Vec<_> = codes.iter().filter_map(LegacyCode::inner).collect();
    codes.extend(inner);
    codes.sort();
    codes.dedup();
    codes
}

fn slot(draft: &mut Draft) -> Option<&mut Slot> {
    let ix = draft.dataset.role(Role::SubjectUscc)?;
    draft.slots.get_mut(usize::from(ix.0))
}

#[cfg(test)]
mod tests;
