//! XLSX and XLS workbooks (工作簿).

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use xinqiao_core::model::{
    CellKind, Columns, Finding, FormatKind, FormatSpec, HeaderSpec, Place, Row, Shape,
};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};

use super::book::{Book, SheetRow};
use super::{finding, header};

/// A lone text of this many characters under a wide heading is a note, not a record.
const NOTE_CHARS: usize = 12;
const NOTE_COLUMNS: usize = 4;

/// Workbooks, told by their bytes whatever the file's name. Every visible sheet on which a heading
/// row is found is read (or the one named, visible or not); rows above the heading and blank rows
/// are passed over; other visible sheets with rows are told of. Hidden sheets hold the code lists of drop-downs.
pub(super) struct Workbook;

impl Format for Workbook {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Workbook]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        let mut book = Book::open(input, limits)?;
        let (mut found, mut missed) = (Vec::new(), Vec::new());
        for sheet in book.sheets(spec.sheet.as_deref()) {
            match find_heading(&mut book, &sheet, spec, limits)? {
                Some((above, heading)) => found.push((sheet, above, heading)),
                None => missed.push(sheet),
            }
        }
        if found.is_empty() {
            return Err(match &spec.sheet {
                Some(name) if !book.has(name) => DecodeError::NoSheet(name.clone()),
                _ => DecodeError::NoHeading,
            });
        }
        let many = found.len() > 1;
        let mut count = 0;
        for (sheet, above, heading) in found {
            let mut out = Out::new(&heading, limits, &mut *sink, count);
            if many {
                out.row.place.sheet = Some(Arc::from(sheet.as_str()));
            }
            let mut skip = above + 1;
            let mut broke = false;
            book.rows(&sheet, limits, &mut |row| {
                if skip > 0 {
                    skip -= 1;
                    return Ok(ControlFlow::Continue(()));
                }
                let flow = out.give(row)?;
                broke = flow.is_break();
                Ok(flow)
            })?;
            count = out.count;
            if broke {
                return Ok(());
            }
        }
        for sheet in missed {
            let top = top_rows(&mut book, &sheet, limits)?;
            let Some(first) = top.first() else { continue };
            let place = Place { sheet: Some(Arc::from(sheet.as_str())), row: first.number };
            if sink.bad_row(&place, not_read(&sheet, &top)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A sheet that has rows and no heading, beside others that have one: a continuation perhaps, whose
/// rows would be missing. One of single texts explains the others.
fn not_read(sheet: &str, top: &[SheetRow]) -> Finding {
    if top.iter().all(|row| row.len() <= 1) {
        let message = format!("工作表“{sheet}”没有表头,像是填表说明,没有当作数据");
        return finding::instruction(message);
    }
    let message = format!("工作表“{sheet}”中没有找到表头,其中的行都未读取");
    let fix = "是续表的,请加上与其他工作表相同的表头后重新报送;不是数据的,请删去或隐藏";
    finding::malformed(message, fix)
}

/// The first filled rows of a sheet: as many as the heading may stand in.
pub(super) fn top_rows(
    book: &mut Book<'_>,
    sheet: &str,
    limits: &Limits,
) -> Result<Vec<SheetRow>, DecodeError> {
    let mut top: Vec<SheetRow> = Vec::new();
    book.rows(sheet, limits, &mut |row| {
        top.push(row.clone());
        Ok(if top.len() < header::WINDOW {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(top)
}

/// The heading row and how many filled rows stand above it.
fn find_heading(
    book: &mut Book<'_>,
    sheet: &str,
    spec: &FormatSpec,
    limits: &Limits,
) -> Result<Option<(u64, SheetRow)>, DecodeError> {
    match spec.header {
        HeaderSpec::Auto => {
            let mut top = top_rows(book, sheet, limits)?;
            let rows: Vec<Vec<&str>> = top.iter().map(SheetRow::texts).collect();
            let at = header::pick(&rows, &spec.known_headings);
            Ok(at.map(|at| (at as u64, top.swap_remove(at))))
        }
        HeaderSpec::Row(wanted) => {
            let (mut above, mut found) = (0, None);
            book.rows(sheet, limits, &mut |row| {
                if row.number < u64::from(wanted) {
                    above += 1;
                    return Ok(ControlFlow::Continue(()));
                }
                found = (row.number == u64::from(wanted)).then(|| row.clone());
                Ok(ControlFlow::Break(()))
            })?;
            Ok(found.map(|heading| (above, heading)))
        }
    }
}

struct Out<'a> {
    columns: Columns,
    /// The index of the column at each position of the sheet.
    at: Vec<Option<u16>>,
    heading: HashSet<(u32, String)>,
    row: Row,
    count: u64,
    limits: &'a Limits,
    sink: &'a mut dyn RowSink,
}

impl<'a> Out<'a> {
    fn new(heading: &SheetRow, limits: &'a Limits, sink: &'a mut dyn RowSink, count: u64) -> Self {
        let mut columns = Columns::new(Shape::Grid);
        let mut at = vec![None; limits.columns as usize];
        let mut cells: Vec<(u32, &str)> = heading.cells().map(|(c, text, _)| (c, text)).collect();
        cells.sort_unstable_by_key(|&(column, _)| column);
        for &(column, name) in &cells {
            if let Some(slot) = at.get_mut(column as usize) {
                *slot = columns.push(name.trim(), column);
            }
        }
        let heading = cells.into_iter().map(|(c, text)| (c, text.to_owned())).collect();
        Self { columns, at, heading, row: Row::new(), count, limits, sink }
    }

    fn give(&mut self, row: &SheetRow) -> Result<ControlFlow<()>, DecodeError> {
        // Sheets put together from several exports repeat the heading.
        if row.len() == self.heading.len()
            && row.cells().all(|(c, text, _)| self.heading.contains(&(c, text.to_owned())))
        {
            return Ok(ControlFlow::Continue(()));
        }
        self.count += 1;
        if self.count > self.limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: self.limits.rows });
        }
        if self.heading.len() >= NOTE_COLUMNS && is_note(row) {
            let place = Place { sheet: self.row.place.sheet.clone(), row: row.number };
            let message = "该行只有一格长文字,像是填表说明,没有当作数据".to_owned();
            return Ok(self.sink.bad_row(&place, finding::instruction(message)));
        }
        self.row.clear(row.number);
        for (column, text, kind) in row.cells() {
            let ix = match self.at.get(column as usize).copied().flatten() {
                Some(ix) => ix,
                // A filled cell without a heading is kept under a name of its own: a shifted row
                // shows as an unknown column.
                None => {
                    let name = format!("列{}", letters(column));
                    let Some(ix) = self.columns.push(&name, column) else { continue };
                    if let Some(slot) = self.at.get_mut(column as usize) {
                        *slot = Some(ix);
                    }
                    ix
                }
            };
            self.row.set(ix, text, kind);
        }
        Ok(self.sink.row(&self.columns, &self.row))
    }
}

fn is_note(row: &SheetRow) -> bool {
    let mut cells = row.cells();
    matches!(
        (cells.next(), cells.next()),
        (Some((_, text, CellKind::Text)), None) if text.chars().count() >= NOTE_CHARS
    )
}

/// Column letters: 0 → `A`, 26 → `AA`.
fn letters(column: u32) -> String {
    let mut left = column + 1;
    let mut letters = String::new();
    while left > 0 {
        let digit = u8::try_from((left - 1) % 26).unwrap_or(0);
        letters.insert(0, char::from(b'A' + digit));
        left = (left - 1) / 26;
    }
    letters
}
