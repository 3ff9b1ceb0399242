//! validate (校验): drafts → verdicts, by every rule, all findings at once.

use std::sync::Arc;

use time::Date;
use xinqiao_core::catalogue::{CheckContext, Role, check, record_key};
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::model::{Columns, Draft, Finding, Operation, Place, RecordKey, Value, Verdict};

use super::Job;
use super::map::Mapped;

/// A row with its verdict: only this file makes one.
#[derive(Debug)]
#[expect(
    clippy::manual_non_exhaustive,
    reason = "non_exhaustive holds off other crates; this holds off other stages"
)]
pub struct CheckedRow {
    /// 0-based count of rows in the message, blank ones not counted.
    pub index: u64,
    /// Where it stands.
    pub place: Place,
    /// Document number for people, long digit runs masked.
    pub document: Option<String>,
    /// The record's key as it may be shown.
    pub key: Option<String>,
    /// Accept, warn or reject.
    pub verdict: Verdict,
    /// Everything found.
    pub findings: Vec<Finding>,
    /// The record, unless rejected.
    pub record: Option<CheckedRecord>,
    _made_here: (),
}

/// A record that passed.
#[derive(Debug)]
pub struct CheckedRecord {
    /// Natural key.
    pub key: RecordKey,
    /// Generation of the fields.
    pub generation: u16,
    /// Publish or take down.
    pub operation: Operation,
    /// Field code and value text, filled fields only, in catalogue order.
    pub fields: Vec<(Arc<str>, String)>,
    /// Both clocks.
    pub deadlines: Deadlines,
}

impl CheckedRow {
    /// A row the decoder could not make cells of.
    pub(super) fn unreadable(index: u64, place: Place, finding: Finding) -> Self {
        let findings = vec![finding];
        let verdict = Verdict::of(&findings);
        let (document, key, record) = (None, None, None);
        Self { index, place, document, key, verdict, findings, record, _made_here: () }
    }
}

/// Judges a row. The draft comes back to be used again.
pub(super) fn validate(
    job: &Job<'_>,
    index: u64,
    mapped: Mapped,
    columns: &Columns,
) -> (CheckedRow, Option<Draft>) {
    let Mapped { place, mut draft, mut findings, .. } = mapped;
    let (mut document, mut key, mut record) = (None, None, None);
    if let Some(draft) = &mut draft {
        check(draft, &CheckContext { today: job.today }, &mut findings);
        document = draft.text(Role::DocNumber).map(masked);
        let natural = record_key(draft);
        key = natural.as_ref().map(|key| masked(&key.to_string()));
        if Verdict::of(&findings) != Verdict::Reject
            && let Some(natural) = natural
        {
            record = Some(checked_record(job, draft, natural));
        }
    }
    for finding in &mut findings {
        if finding.cell.is_none() {
            finding.cell = finding.column.map(|column| columns.locate(&place, column));
        }
    }
    let verdict = Verdict::of(&findings);
    let row = CheckedRow { index, place, document, key, verdict, findings, record, _made_here: () };
    (row, draft)
}

fn checked_record(job: &Job<'_>, draft: &mut Draft, key: RecordKey) -> CheckedRecord {
    let decided: Date = key.decided;
    let deadlines = Deadlines::of(decided, draft.dataset.clocks, &job.domain.calendar);
    let dataset = Arc::clone(&draft.dataset);
    let fields = dataset
        .fields
        .iter()
        .zip(&mut draft.slots)
        .filter_map(|(field, slot)| {
            let text = match slot.value.take()? {
                Value::Text(text) => text,
                other => other.to_string(),
            };
            Some((Arc::clone(&field.code), text))
        })
        .collect();
    let (generation, operation) = (dataset.generation.0, draft.operation);
    CheckedRecord { key, generation, operation, fields, deadlines }
}

/// A personal number may stand in any column of a shifted row: runs of 15 or more digits show as
/// `***`, unless they are a credit code's (which has letters or stands for an organisation).
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() || (run.len() >= 15 && matches!(c, 'x' | 'X')) {
            run.push(c);
            continue;
        }
        if run.len() >= 15 && xinqiao_core::ident::Uscc::parse(&run).is_err() {
            shown.push_str("***");
        } else {
            shown.push_str(&run);
        }
        run.clear();
        if c != '\0' {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn personal_numbers_do_not_show_in_document_numbers() {
        assert_eq!(masked("驻罚字〔2026〕12号"), "驻罚字〔2026〕12号");
        assert_eq!(masked("411702199001019910"), "***");
        assert_eq!(masked("号41170219900101991x尾"), "号***尾");
        assert_eq!(masked("20261123000001"), "20261123000001");
    }
}
