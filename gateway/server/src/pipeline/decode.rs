//! decode (解码): stored bytes → rows, each cell knowing where it came from. Can be run again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use xinqiao_adapters::formats;
use xinqiao_core::model::{Columns, Finding, Place, Row, UnknownColumn};
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek, RowSink};

use super::map::Mapper;
use super::validate::{self, CheckedRow};
use super::{Job, Notes};

/// A row fresh from the decoder: only this file makes one.
pub(super) struct Decoded<'a> {
    pub(super) columns: &'a Columns,
    pub(super) row: &'a Row,
    _made_here: (),
}

pub(super) fn decode(
    job: &Job<'_>,
    input: &mut dyn ReadSeek,
    each: &mut dyn FnMut(CheckedRow) -> ControlFlow<()>,
) -> Result<Notes, DecodeError> {
    let mut rows =
        Rows { job, mapper: Mapper::new(job), each, notes: Notes::default(), last: None };
    formats::decode(&job.mapping.format, input, &Limits::default(), job.scratch, &mut rows)?;
    rows.column_notes();
    Ok(rows.notes)
}

/// What is said of columns stands once for the message, and of so many kinds at most.
const MOST_NOTES: usize = 50;

struct Rows<'a, 'e> {
    job: &'a Job<'a>,
    mapper: Mapper<'a>,
    each: &'e mut dyn FnMut(CheckedRow) -> ControlFlow<()>,
    notes: Notes,
    /// The columns as last seen.
    last: Option<Columns>,
}

impl Rows<'_, '_> {
    /// Notes what is to be said of the columns seen last.
    fn column_notes(&mut self) {
        let Some(columns) = &self.last else { return };
        for note in self.mapper.column_notes(columns) {
            let warnings = &mut self.notes.warnings;
            if warnings.len() < MOST_NOTES && !warnings.contains(&note) {
                warnings.push(note);
            }
        }
    }

    /// The index of the next row, unless it was committed before.
    fn next(&mut self) -> Option<u64> {
        let index = self.notes.rows;
        self.notes.rows += 1;
        let wanted = self.job.only.is_none_or(|only| only.contains(&index));
        (index >= self.job.skip && wanted).then_some(index)
    }

    /// Whether a row can still be wanted after one that was not.
    fn passed(&self) -> ControlFlow<()> {
        match self.job.only.map(BTreeSet::last) {
            Some(last) if last.is_none_or(|last| self.notes.rows > *last) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl RowSink for Rows<'_, '_> {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        // Another sheet or member may have as many columns in another order.
        if self.last.as_ref().is_none_or(|last| last.names() != columns.names()) {
            let grown = |last: &Columns| columns.names().starts_with(last.names());
            if self.last.as_ref().is_some_and(|last| !grown(last)) {
                self.column_notes();
            }
            self.last = Some(columns.clone());
            self.mapper.bind(columns);
            if self.job.mapping.on_unknown_column == UnknownColumn::Reject
                && let Some(names) = self.mapper.unknown(columns)
            {
                let text = format!("报文中有映射规则未列的列:{names}");
                self.notes.refused = Some(("mapping.unknown-column".to_owned(), text));
                return ControlFlow::Break(());
            }
        }
        let Some(index) = self.next() else { return self.passed() };
        let decoded = Decoded { columns, row, _made_here: () };
        let mapped = self.mapper.map(decoded);
        let (checked, draft) = validate::validate(self.job, index, mapped, columns);
        self.mapper.reuse(draft);
        (self.each)(checked)
    }

    fn bad_row(&mut self, place: &Place, finding: Finding) -> ControlFlow<()> {
        let Some(index) = self.next() else { return self.passed() };
        (self.each)(CheckedRow::unreadable(self.job, index, place, finding))
    }
}
