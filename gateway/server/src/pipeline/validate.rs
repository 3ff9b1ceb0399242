//! validate (校验): drafts → verdicts, by every rule, all findings at once.

use std::borrow::Cow;
use std::sync::Arc;

use time::Date;
use xinqiao_core::catalogue::{CheckContext, Role, Sensitivity, check, record_key};
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::ident::personal::mask;
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
    let Mapped { place, mut draft, mut findings, .. } = mapped;
    let place = shown(&place, job.today);
    let (mut document, mut key, mut record, mut sent_back) = (None, None, None, None);
    if let Some(draft) = &mut draft {
        check(draft, &CheckContext { today: job.today }, &mut findings);
        let mark = mark(&place);
        document = draft.text(Role::DocNumber).map(|number| match mask(number, job.today) {
            Cow::Borrowed(whole) => whole.to_owned(),
            Cow::Owned(rest) => rest + &mark,
        });
        let natural = record_key(draft);
        key = natural.as_ref().map(|key| key.shown(job.today, &mark));
        if Verdict::of(&findings) == Verdict::Reject {
            sent_back = natural;
        } else {
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
        _made_here: (),
    };
    (row, draft)
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
