//! Verdicts as lines of text, one a finding: what every form of them has in common.

use xinqiao_core::model::{Finding, Verdict};
use xinqiao_store::{RowOutcome, RowVerdictView};

/// What a row's verdict is called.
pub(crate) fn word(row: &RowVerdictView) -> &'static str {
    match row.verdict {
        Verdict::Warn if row.outcome == RowOutcome::Held => "暂存",
        Verdict::Accept => "接受",
        Verdict::Warn => "接受,有提醒",
        Verdict::Reject => "退回",
    }
}

/// One line a finding: document, verdict as it is called, cell, rule, message, fix; one with an
/// empty tail for a row without.
pub(crate) fn lines(row: &RowVerdictView, verdict: &str) -> Vec<[String; 6]> {
    let document = clean(row.document.as_deref().unwrap_or_default());
    let line = |tail: [&str; 4]| {
        let [cell, rule, message, fix] = tail.map(clean);
        [document.clone(), verdict.to_owned(), cell, rule, message, fix]
    };
    if row.findings.is_empty() {
        return vec![line([""; 4])];
    }
    let tail = |finding: &Finding| {
        let cell = finding.cell.as_deref().unwrap_or_default();
        line([cell, &finding.rule, &finding.message, &finding.fix])
    };
    row.findings.iter().map(tail).collect()
}

/// Without tabs, line ends and other control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
