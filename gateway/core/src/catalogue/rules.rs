//! The rules (校验规则), one file per rule or tight family, and their registry.
//!
//! To add a rule: write `rules/<rule>.rs`, add its `mod` line and its line in [`RULES`]. A family
//! that needs one pass over the draft has its check on the first rule; the others stand in the
//! registry with `check: None` and are raised by it.

mod agency;
pub(super) mod category;
mod code_set;
mod dates;
mod document;
mod legacy_code;
mod legal_rep;
mod length;
mod penalty;
mod person;
mod provenance;
pub mod raised;
mod required;
mod status;
#[cfg(test)]
mod tests;
mod text;
mod uscc;
mod uscc_map;

use super::{CheckContext, Field, Role};
use crate::model::{Dimension, Draft, Finding, Operation, Severity, Value};

pub(super) use document::is_short;
pub(super) use legal_rep::drop_id as drop_legal_rep_id;
pub(super) use penalty::fine_in_text;
pub(super) use provenance::check_provenance;
pub(crate) use text::CONTROL as TEXT_CONTROL;

pub(super) const USCC_LEGACY_CODE: &str = uscc::LEGACY_CODE.id;
pub(super) const USCC_SENTINEL: &str = uscc::SENTINEL_MISUSED.id;

/// A rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Stable id: part of the interface.
    pub id: &'static str,
    /// Error refuses the row.
    pub severity: Severity,
    /// The dimension it serves.
    pub dimension: Dimension,
    /// What it demands (Chinese).
    pub title: &'static str,
    /// How to put it right (Chinese): the default of [`Finding::fix`].
    pub fix: &'static str,
    /// Standard, clause or document it rests on.
    pub basis: &'static str,
    /// The check; `None` for rules raised while parsing, mapping or converting, and for those
    /// their family's first rule raises.
    pub check: Option<Check>,
}

/// A check: looks at a draft, may normalise it, appends findings.
pub type Check = fn(&Rule, &mut Draft, &CheckContext, &mut Vec<Finding>);

/// Every rule, in the order they run: what cleans or fills first, then what looks.
pub const RULES: &[Rule] = &[
    text::DAMAGED,
    text::PRIVATE_USE,
    text::CONTROL,
    text::NOT_NFC,
    text::SPECIAL,
    legal_rep::ID,
    code_set::CODE_SET,
    code_set::OTHER,
    code_set::REPEATED,
    status::INVALID,
    document::FROM_LICENCE,
    document::PLACEHOLDER,
    document::SHORT,
    required::REQUIRED,
    uscc::FORM,
    uscc::CHECK_DIGIT,
    uscc::INNER_CHECK_DIGIT,
    uscc::UNLISTED_KIND,
    uscc::LOWER_CASE,
    uscc::LEGACY_CODE,
    uscc::CITIZEN_ID,
    uscc::SENTINEL_MISUSED,
    legacy_code::REG_NO_FORM,
    legacy_code::REG_NO_CHECK_DIGIT,
    legacy_code::ORG_CODE,
    legacy_code::TAX_NO,
    legacy_code::INSTITUTION_NO,
    uscc_map::CODE,
    uscc_map::ORG_CODE,
    uscc_map::PERIOD,
    length::TOO_LONG,
    category::ORG_CODE,
    category::ORG_PERSONAL_ID,
    category::PERSON_ID,
    category::PERSON_ORG_CODE,
    category::SOLE_TRADER,
    category::PREFIX,
    person::CITIZEN_ID,
    person::BIRTH_DATE,
    person::PUBLIC_NUMBER,
    legal_rep::MISSING,
    agency::CODE,
    agency::DEPARTMENT,
    dates::DECISION_FUTURE,
    dates::VALID_ORDER,
    dates::VALID_BEFORE_DECISION,
    dates::VALID_TO,
    dates::PUBLICITY_END,
    dates::END_PAST,
    provenance::UPDATED_BEFORE_DECISION,
    provenance::UPDATED_FUTURE,
    provenance::DIVISION,
    penalty::FINE_MISSING,
    penalty::FINE_UNEXPECTED,
    penalty::FINE_DIFFERS,
    penalty::CONFISCATED,
    penalty::REVOKED,
    raised::VALUE_DATE,
    raised::VALUE_DATE_PLACEHOLDER,
    raised::VALUE_AMOUNT,
    raised::VALUE_DIGITS_LOST,
    raised::ROW_MALFORMED,
    raised::ROW_INSTRUCTION,
    raised::ROW_DAMAGED,
    raised::MAPPING_LOOKUP,
    raised::MAPPING_REQUIRED,
    raised::MAPPING_CHECK,
    raised::MAPPING_NO_COLUMN,
    raised::MAPPING_REPEATED_COLUMN,
    raised::SCOPE_SUMMARY_PROCEDURE,
    raised::SCOPE_STATE_SECRET,
    raised::SCOPE_MINOR_CORRECTED,
    raised::SCOPE_UNCLEAR,
    raised::STATUS_UNCLEAR,
    raised::SCOPE_MINOR,
    raised::SCOPE_NOT_PUBLIC,
    raised::SCOPE_RESTRICTED_USE,
    raised::USCC_FROM_LEGACY,
    raised::USCC_UNRESOLVED,
    raised::USCC_AMBIGUOUS,
    raised::CONVERT_UNSUPPORTED,
    raised::CONVERT_CATEGORY_UNKNOWN,
    raised::CONVERT_STATUS_DISPUTED,
    raised::CONVERT_STATUS_UNKNOWN,
    raised::CONVERT_VIOLATION_TYPE,
    raised::CONVERT_AMOUNT_DERIVED,
    raised::CONVERT_TAX_NO_DROPPED,
    raised::TARGET_REFUSED,
];

/// What runs on a withdrawal: a takedown needs its key, clean values and privacy. It must not be
/// held up because the record it takes down was incomplete.
const ON_WITHDRAWAL: &[&str] = &[
    text::DAMAGED.id,
    legal_rep::ID.id,
    code_set::CODE_SET.id,
    document::FROM_LICENCE.id,
    required::REQUIRED.id,
    uscc::FORM.id,
    uscc_map::CODE.id,
    person::CITIZEN_ID.id,
    dates::DECISION_FUTURE.id,
];

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

impl Rule {
    /// The one way findings are made: `message` says what is wrong with this value without
    /// repeating it; the rule gives the rest.
    pub fn finding(&self, field: Option<&Field>, column: Option<u16>, message: String) -> Finding {
        self.finding_with_fix(field, column, message, self.fix.to_owned())
    }

    /// The same with a fix of its own (Chinese, no value of the row in it either).
    pub fn finding_with_fix(
        &self,
        field: Option<&Field>,
        column: Option<u16>,
        message: String,
        fix: String,
    ) -> Finding {
        Finding {
            rule: self.id.into(),
            severity: self.severity,
            dimension: self.dimension,
            field: field.map(|field| field.code.clone()),
            column,
            cell: None,
            message,
            fix,
        }
    }

    /// Raises a finding on the field that plays `role`; an error marks its slot as failed.
    pub(super) fn raise(
        &self,
        draft: &mut Draft,
        role: Role,
        message: impl Into<String>,
        findings: &mut Vec<Finding>,
    ) {
        let slot = draft.dataset.role(role).map_or(usize::MAX, |ix| usize::from(ix.0));
        self.raise_at(draft, slot, message, self.fix.to_owned(), findings);
    }

    /// The same by slot, with a fix of its own.
    fn raise_at(
        &self,
        draft: &mut Draft,
        slot: usize,
        message: impl Into<String>,
        fix: String,
        findings: &mut Vec<Finding>,
    ) {
        let field = draft.dataset.fields.get(slot);
        let column = draft.slots.get(slot).and_then(|slot| slot.column);
        findings.push(self.finding_with_fix(field, column, message.into(), fix));
        if let (Severity::Error, Some(slot)) = (self.severity, draft.slots.get_mut(slot)) {
            slot.failed = true;
        }
    }
}

pub(super) fn run(draft: &mut Draft, context: &CheckContext, findings: &mut Vec<Finding>) {
    for rule in RULES {
        if let Some(check) = rule.check
            && (draft.operation == Operation::Upsert || ON_WITHDRAWAL.contains(&rule.id))
        {
            check(rule, draft, context, findings);
        }
    }
}

/// Sets the value of the field that plays `role`; nothing happens if the dataset has none.
pub(super) fn set(draft: &mut Draft, role: Role, value: Option<Value>) {
    let ix = draft.dataset.role(role);
    if let Some(slot) = ix.and_then(|ix| draft.slots.get_mut(usize::from(ix.0))) {
        slot.value = value;
    }
}

/// Whether the field that plays `role` has neither a value nor a finding: "missing" may be said.
fn is_missing(draft: &Draft, role: Role) -> bool {
    let slot = draft.dataset.role(role).and_then(|ix| draft.slot(ix));
    slot.is_some_and(|slot| slot.value.is_none() && !slot.failed)
}

/// What to call the field that plays `role`.
fn name(draft: &Draft, role: Role) -> &str {
    let ix = draft.dataset.role(role);
    let field = ix.and_then(|ix| Some((draft.dataset.field(ix)?, draft.slot(ix)?)));
    field.map_or("", |(field, slot)| slot.label(field))
}
