//! The rules (校验规则), one file each, and their registry.

use super::CheckContext;
use crate::model::{Dimension, Draft, Finding, Severity};

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
    /// The check; `None` for rules raised while parsing, mapping or converting.
    pub check: Option<fn(&Rule, &mut Draft, &CheckContext, &mut Vec<Finding>)>,
}

/// Every rule, in the order they run.
pub const RULES: &[Rule] = &[];

/// The rule with this id.
pub fn find(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

pub(super) fn run(draft: &mut Draft, context: &CheckContext, findings: &mut Vec<Finding>) {
    for rule in RULES {
        if let Some(check) = rule.check {
            check(rule, draft, context, findings);
        }
    }
}
