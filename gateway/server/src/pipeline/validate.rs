//! validate (校验): drafts → verdicts, by every rule, all findings at once.

use std::borrow::Cow;
use std::sync::Arc;

use time::Date;
use xinqiao_core::catalogue::{
    CheckContext, Resolved, Role, Sensitivity, check, is_uscc_map, record_key, uscc_entry,
};
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::{
    Columns, Draft, Finding, Operation, Place, RecordKey, Subject, Value, Verdict,
};
use xinqiao_store::{Hold, Legacy, TableLine};

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
    /// Document number for people, personal numbers masked; then the row is added, to tell it apart.
    pub document: Option<String>,
    /// The record's key as it may be shown.
    pub key: Option<String>,
    /// Accept, warn or reject.
    pub verdict: Verdict,
    /// Everything found.
    pub findings: Vec<Finding>,
    /// The record, unless rejected.
    pub record: Option<CheckedRecord>,
    /// The natural key of a rejected row, if it has one.
    pub sent_back: Option<RecordKey>,
    /// What legacy codes have to do with it.
    pub legacy: Legacy,
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
    /// Whether it waits for the mapping table.
    pub fn is_held(&self) -> bool {
        matches!(self.legacy, Legacy::Held(_))
    }

    /// A row the decoder could not make cells of.
    pub(super) fn unreadable(
        job: &Job<'_>,
        index: u64,
        place: &Place,
        mut finding: Finding,
    ) -> Self {
        let place = shown(place, job.today);
        finding.cell = finding.cell.map(|cell| mask(&cell, job.today).into_owned());
        let findings = vec![finding];
        let verdict = Verdict::of(&findings);
        Self {
            index,
            place,
            document: None,
            key: None,
            verdict,
            findings,
            record: None,
            sent_back: None,
            legacy: Legacy::None,
            _made_here: (),
        }
    }
}

/// Judges a row. The draft comes back to be used again.
pub(super) fn validate(
    job: &Job<'_>,
    index: u64,
    mapped: Mapped,
    columns: &Columns,
) -> (CheckedRow, Option<Draft>) {
    let Mapped { place, mut draft, mut findings, resolved, .. } = mapped;
    let place = shown(&place, job.today);
    let (mut document, mut key, mut record, mut sent_back) = (None, None, None, None);
    let mut legacy = Legacy::None;
    if let Some(draft) = &mut draft {
        check(draft, &CheckContext { today: job.today }, &mut findings);
        let mark = mark(&place);
        document = draft.text(Role::DocNumber).map(|number| match mask(number, job.today) {
            Cow::Borrowed(whole) => whole.to_owned(),
            Cow::Owned(rest) => rest + &mark,
        });
        let natural = record_key(draft);
        key = natural.as_ref().map(|key| key.shown(job.today, &mark));
        legacy = legacy_of(job, draft, &resolved, natural.as_ref(), &mut findings);
        if Verdict::of(&findings) == Verdict::Reject {
            sent_back = natural;
        } else if matches!(legacy, Legacy::None | Legacy::Formerly(_)) {
            record = natural.map(|natural| checked_record(job, draft, natural));
        }
    }
    for finding in &mut findings {
        if finding.cell.is_none() {
            // A file without headings has values for names of columns.
            let cell = finding.column.map(|column| columns.locate(&place, column));
            finding.cell = cell.map(|cell| mask(&cell, job.today).into_owned());
        }
    }
    let verdict = Verdict::of(&findings);
    let row = CheckedRow {
        index,
        place,
        document,
        key,
        verdict,
        findings,
        record,
        sent_back,
        legacy,
        _made_here: (),
    };
    (row, draft)
}

/// Whether the row is a line of the mapping table, waits for it, or had its code from it.
fn legacy_of(
    job: &Job<'_>,
    draft: &Draft,
    resolved: &Resolved,
    natural: Option<&RecordKey>,
    findings: &mut Vec<Finding>,
) -> Legacy {
    if is_uscc_map(&draft.dataset) {
        return match uscc_entry(draft) {
            Some(Ok(entry)) if Verdict::of(findings) != Verdict::Reject => {
                Legacy::Line(TableLine { entry, operation: draft.operation })
            }
            _ => Legacy::None,
        };
    }
    match resolved {
        Resolved::Wanted(wanted) if wanted.hold(draft, findings) => Legacy::Held(Hold {
            wanted: wanted.codes.clone(),
            ambiguous: wanted.ambiguous,
            revision: job.revision,
        }),
        // Before the table knew it, a sole trader was told by its registration number.
        Resolved::Filled => match (draft.text(Role::SubjectRegNo), natural) {
            (Some(reg_no), Some(natural)) => {
                let subject = Subject::Code(format!("GS:{reg_no}"));
                Legacy::Formerly(RecordKey { subject, ..natural.clone() })
            }
            _ => Legacy::None,
        },
        Resolved::Wanted(_) | Resolved::NotNeeded => Legacy::None,
    }
}

fn checked_record(job: &Job<'_>, draft: &mut Draft, key: RecordKey) -> CheckedRecord {
    let decided: Date = key.decided;
    let deadlines = Deadlines::of(decided, draft.dataset.clocks, &job.domain.calendar);
    let dataset = Arc::clone(&draft.dataset);
    let withdrawn = draft.operation == Operation::Withdraw;
    let fields = dataset
        .fields
        .iter()
        .zip(&mut draft.slots)
        .filter_map(|(field, slot)| {
            let text = match slot.value.take()? {
                // A withdrawal is not refused for a citizen number, so it must not carry one on.
                Value::Text(text) if withdrawn && field.sensitivity == Sensitivity::Public => {
                    mask(&text, job.today).into_owned()
                }
                Value::Text(text) => text,
                other => other.to_string(),
            };
            Some((Arc::clone(&field.code), text))
        })
        .collect();
    let (generation, operation) = (dataset.generation.0, draft.operation);
    CheckedRecord { key, generation, operation, fields, deadlines }
}

/// Where a row stands; a sheet's name may hold a personal number too.
fn shown(place: &Place, today: Date) -> Place {
    let sheet = place.sheet.as_ref().map(|sheet| match mask(sheet, today) {
        Cow::Borrowed(_) => Arc::clone(sheet),
        Cow::Owned(masked) => masked.into(),
    });
    Place { sheet, row: place.row }
}

/// Tells rows apart of which something is hidden: `#7`, `#表一!7`.
fn mark(place: &Place) -> String {
    match &place.sheet {
        Some(sheet) => format!("#{sheet}!{}", place.row),
        None => format!("#{}", place.row),
    }
}
