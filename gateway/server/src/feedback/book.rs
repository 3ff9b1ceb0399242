//! The annotated copy (批注表): a workbook of the agency's own rows, those that something is to be
//! said of, each with why in front. Held in memory, within bounds: its content is an agency's and
//! must not lie on a disk unsealed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rust_xlsxwriter::{Color, Format, FormatAlign, Workbook, Worksheet, XlsxError};
use time::Date;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::{CellKind, Columns, Finding, Place, Row, Verdict};
use xinqiao_core::spi::RowSink;

use super::{MOST_BYTES, ToldRow, clean};

/// What stands in front of the agency's own columns.
const HEADINGS: [&str; 3] = ["位置", "结论", "原因"];
/// Name of a worksheet; further ones add a number.
const SHEET: &str = "反馈";
/// Characters of a cell: Excel takes 32,767 units of UTF-16.
const MOST_LETTERS: usize = 16_000;
/// Bytes that a cell counts for besides its text.
const CELL: usize = 32;

pub(super) struct Book<'a> {
    told: &'a BTreeMap<u64, ToldRow>,
    today: Date,
    book: Workbook,
    /// Of the worksheet at hand, if there is one yet: the source's names, and the next row.
    heading: Option<Vec<Arc<str>>>,
    next: u32,
    sheets: usize,
    /// Of the next row decoded.
    index: u64,
    written: usize,
    bytes: usize,
    /// The rows are not those that were judged: the mapping has changed since.
    strange: bool,
    failed: Option<XlsxError>,
}

impl<'a> Book<'a> {
    pub(super) fn new(told: &'a BTreeMap<u64, ToldRow>, today: Date) -> Self {
        Self {
            told,
            today,
            book: Workbook::new(),
            heading: None,
            next: 0,
            sheets: 0,
            index: 0,
            written: 0,
            bytes: 0,
            strange: false,
            failed: None,
        }
    }

    /// The file; `None` if it would tell of other rows than were judged.
    pub(super) fn finish(mut self) -> Option<Bytes> {
        if self.told.is_empty() {
            let told = self.add_sheet(&[]).and_then(|()| {
                let nothing = "没有需要更正的行";
                self.sheet()?.write_string(1, 2, nothing).map(drop)
            });
            told.map_err(|error| self.failed = Some(error)).ok();
        }
        if self.written < self.told.len() && self.sheets > 0 && !self.strange {
            let next = self.next;
            let rest = "其余的行没有列入,见清单";
            let told = self.sheet().and_then(|sheet| sheet.write_string(next, 2, rest).map(drop));
            told.map_err(|error| self.failed = Some(error)).ok();
        }
        if let Some(error) = &self.failed {
            tracing::error!(%error, "an annotated copy could not be made");
        }
        let sound = !self.strange && self.failed.is_none() && self.sheets > 0;
        let bytes = sound.then(|| self.book.save_to_buffer())?;
        bytes.ok().map(Bytes::from)
    }

    fn step(&mut self, place: &Place, cells: Option<(&Columns, &Row)>) -> ControlFlow<()> {
        let index = self.index;
        self.index += 1;
        let told = self.told;
        let Some(row) = told.get(&index) else { return ControlFlow::Continue(()) };
        self.strange = row.row != place.row;
        if self.strange {
            return ControlFlow::Break(());
        }
        if let Err(error) = self.write(place, row, cells) {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        self.written += 1;
        if self.written == told.len() || self.bytes >= MOST_BYTES {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn write(
        &mut self,
        place: &Place,
        told: &ToldRow,
        cells: Option<(&Columns, &Row)>,
    ) -> Result<(), XlsxError> {
        let names = cells.map(|(columns, _)| columns.names());
        if names.is_some_and(|names| self.heading.as_deref() != Some(names))
            || self.heading.is_none()
        {
            self.add_sheet(names.unwrap_or_default())?;
        }
        let marked = match told.verdict {
            Verdict::Reject => Format::new().set_background_color(Color::RGB(0xFF_C7CE)),
            _ => Format::new().set_background_color(Color::RGB(0xFF_EB9C)),
        };
        let place = match &place.sheet {
            Some(sheet) => format!("{sheet}!{}", place.row),
            None => place.row.to_string(),
        };
        let front = [place.as_str(), told.word, told.reason.as_str()];
        let front = front.map(|text| self.shown(text));
        let mut own = Vec::new();
        if let Some((columns, row)) = cells {
            for column in (0..u16::try_from(columns.len()).unwrap_or(u16::MAX)).take(row.len()) {
                let cell = row.get(column);
                if cell.kind != CellKind::Absent && !cell.text.is_empty() {
                    let at = mask(&columns.locate(&row.place, column), self.today).into_owned();
                    own.push((column, self.shown(cell.text), told.cells.contains(&at)));
                }
            }
        }
        let next = self.next;
        self.next += 1;
        let sheet = self.sheet()?;
        for (column, text) in (0..).zip(front) {
            sheet.write_string_with_format(next, column, text, &marked)?;
        }
        for (column, text, bad) in own {
            let column = column.saturating_add(u16::try_from(HEADINGS.len()).unwrap_or(0));
            // As text, always: what begins with `=` stays what it is.
            if bad {
                sheet.write_string_with_format(next, column, text, &marked)?;
            } else {
                sheet.write_string(next, column, text)?;
            }
        }
        Ok(())
    }

    fn add_sheet(&mut self, names: &[Arc<str>]) -> Result<(), XlsxError> {
        self.sheets += 1;
        let name = match self.sheets {
            1 => SHEET.to_owned(),
            more => format!("{SHEET}{more}"),
        };
        let own: Vec<String> = names.iter().map(|name| self.shown(name)).collect();
        let bold = Format::new().set_bold().set_align(FormatAlign::Center);
        let sheet = self.book.add_worksheet();
        sheet.set_name(name)?;
        let all = HEADINGS.into_iter().map(str::to_owned).chain(own);
        for (column, heading) in (0u16..).zip(all) {
            sheet.write_string_with_format(0, column, heading, &bold)?;
        }
        sheet.set_freeze_panes(1, 3)?;
        sheet.set_column_width(2, 60)?;
        self.heading = Some(names.to_vec());
        self.next = 1;
        Ok(())
    }

    fn sheet(&mut self) -> Result<&mut Worksheet, XlsxError> {
        self.book.worksheet_from_index(self.sheets.saturating_sub(1))
    }

    /// A text as it may be shown.
    fn shown(&mut self, text: &str) -> String {
        let text: String = clean(&mask(text, self.today)).chars().take(MOST_LETTERS).collect();
        self.bytes += text.len() + CELL;
        text
    }
}

impl RowSink for Book<'_> {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        self.step(&row.place, Some((columns, row)))
    }

    fn bad_row(&mut self, place: &Place, _: Finding) -> ControlFlow<()> {
        self.step(place, None)
    }
}
