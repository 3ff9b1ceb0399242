//! The filled cells of a workbook, row by row, whichever container it came in.

mod ods;
mod xlsb;

use std::io::{BufReader, Cursor, SeekFrom};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use calamine::{DataType, ExcelDateTime, Reader, SheetType, SheetVisible, Xls, Xlsx, XlsxError};
use xinqiao_core::model::CellKind;
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};

use super::biff;
use super::guard::{self, Container, ENCRYPTED, Holds, broken};
use super::text::record_bytes;
use ods::Ods;
use xlsb::Xlsb;

/// An open workbook, checked by [`guard`] or [`biff`] before calamine saw it.
pub(super) enum Book<'a> {
    Xlsx(Box<Xlsx<BufReader<&'a mut dyn ReadSeek>>>),
    Xls(Box<Xls<Cursor<Vec<u8>>>>),
    Xlsb(Box<Xlsb<'a>>),
    Ods(Box<Ods<'a>>),
}

/// Whether to go on reading; `Break` ends it without an error.
type Go = Result<ControlFlow<()>, DecodeError>;

/// What [`Book::rows`] gives its rows to.
type Each<'f> = &'f mut dyn FnMut(&SheetRow) -> Go;

impl<'a> Book<'a> {
    /// Checks and opens.
    pub(super) fn open(input: &'a mut dyn ReadSeek, limits: &Limits) -> Result<Self, DecodeError> {
        match guard::container(input)? {
            None => Err(guard::not_a_workbook(input)),
            Some(Container::Zip) => {
                let held = guard::check_zip(input, limits)?;
                input.seek(SeekFrom::Start(0))?;
                match held {
                    Holds::Xlsb => {
                        let book = Xlsb::open(guard::open_zip(input)?, limits)?;
                        Ok(Self::Xlsb(Box::new(book)))
                    }
                    Holds::Ods => {
                        let book = Ods::open(guard::open_zip(input)?, limits)?;
                        Ok(Self::Ods(Box::new(book)))
                    }
                    _ => {
                        let book =
                            Xlsx::new(BufReader::new(input)).map_err(|e| xlsx_fault(&e, 1))?;
                        Ok(Self::Xlsx(Box::new(book)))
                    }
                }
            }
            // calamine indexes XLS records without checking. The check before it leaves no known
            // way to a panic; if there is an unknown one, it is the sender's file that is broken
            // and must not end the worker. Nothing is shared across the boundary: what was being
            // read is dropped.
            Some(Container::Compound) => catch_unwind(AssertUnwindSafe(|| {
                let clean = biff::clean(input, limits)?;
                let book = Xls::new(Cursor::new(clean))
                    .map_err(|_| broken("XLS记录不合规范,文件可能已损坏"))?;
                Ok(Self::Xls(Box::new(book)))
            }))
            .unwrap_or_else(|_| Err(broken("XLS结构损坏"))),
        }
    }

    /// The sheet of this name, or all visible ones.
    pub(super) fn sheets(&self, named: Option<&str>) -> Vec<String> {
        let pick = |sheets: &mut dyn Iterator<Item = (&str, bool)>| {
            let wanted = sheets.filter(|(name, visible)| named.map_or(*visible, |n| n == *name));
            wanted.map(|(name, _)| name.to_owned()).collect()
        };
        let meta = match self {
            Self::Xlsx(book) => book.sheets_metadata(),
            Self::Xls(book) => book.sheets_metadata(),
            Self::Xlsb(book) => return pick(&mut book.sheets()),
            Self::Ods(book) => return pick(&mut book.sheets()),
        };
        pick(
            &mut meta
                .iter()
                .filter(|sheet| sheet.typ == SheetType::WorkSheet)
                .map(|sheet| (sheet.name.as_str(), sheet.visible == SheetVisible::Visible)),
        )
    }

    /// Whether there is a sheet of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        !self.sheets(Some(name)).is_empty()
    }

    /// Gives every row of a sheet that has a filled cell.
    pub(super) fn rows(
        &mut self,
        sheet: &str,
        limits: &Limits,
        each: Each<'_>,
    ) -> Result<(), DecodeError> {
        let mut rows = Rows { row: SheetRow::default(), total: 0, stopped: false, limits, each };
        match self {
            Self::Xlsx(book) => {
                let mut cells =
                    book.worksheet_cells_reader(sheet).map_err(|e| xlsx_fault(&e, 1))?;
                while let Some(cell) =
                    cells.next_cell().map_err(|e| xlsx_fault(&e, rows.row.number))?
                {
                    let (row, column) = cell.get_position();
                    if rows.cell(row, column, cell.get_value())?.is_break() {
                        return Ok(());
                    }
                }
            }
            Self::Xlsb(book) => book.rows(sheet, limits, &mut rows)?,
            Self::Ods(book) => book.rows(sheet, limits, &mut rows)?,
            Self::Xls(book) => {
                let range = book
                    .worksheet_range(sheet)
                    .map_err(|_| broken("XLS记录不合规范,文件可能已损坏"))?;
                let (top, left) = range.start().unwrap_or_default();
                for (row, column, value) in range.used_cells() {
                    let row = u32::try_from(row).unwrap_or(u32::MAX).saturating_add(top);
                    let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(left);
                    if rows.cell(row, column, value)?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        if rows.stopped { Ok(()) } else { rows.flush().map(drop) }
    }
}

/// One row of a sheet: its filled cells only, in the file's order.
#[derive(Debug, Clone, Default)]
pub(super) struct SheetRow {
    /// From 1.
    pub(super) number: u64,
    text: String,
    cells: Vec<(u32, usize, usize, CellKind)>,
}

impl SheetRow {
    /// 0-based column, text, kind.
    pub(super) fn cells(&self) -> impl Iterator<Item = (u32, &str, CellKind)> {
        self.cells.iter().map(|&(column, start, end, kind)| {
            (column, self.text.get(start..end).unwrap_or(""), kind)
        })
    }

    /// The texts alone.
    pub(super) fn texts(&self) -> Vec<&str> {
        self.cells().map(|(_, text, _)| text).collect()
    }

    /// How many filled cells.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }
}

struct Rows<'a, 'f> {
    row: SheetRow,
    total: u64,
    /// Whoever takes the rows has enough.
    stopped: bool,
    limits: &'a Limits,
    each: Each<'f>,
}

impl Rows<'_, '_> {
    fn cell(
        &mut self,
        row: u32,
        column: u32,
        value: &impl DataType,
    ) -> Result<ControlFlow<()>, DecodeError> {
        let number = u64::from(row) + 1;
        let mut flow = ControlFlow::Continue(());
        if number != self.row.number {
            flow = self.flush()?;
            self.row.number = number;
        }
        let start = self.row.text.len();
        let kind = render(value, &mut self.row.text);
        let text = self.row.text.get(start..).unwrap_or("");
        if text.trim().is_empty() {
            self.row.text.truncate(start);
            return Ok(flow);
        }
        let over = |what, limit| Err(DecodeError::Limit { what, limit });
        let columns = self.limits.columns;
        if column >= columns || self.row.cells.len() >= columns as usize {
            return over("列数", u64::from(columns));
        }
        if text.len() > self.limits.cell_bytes {
            return over("单元格的字节数", self.limits.cell_bytes as u64);
        }
        // A shared text stands once in the file but may be pointed at by any number of cells.
        self.total += text.len() as u64;
        if self.total > self.limits.inflated_bytes {
            return over("报文解码后的字节数", self.limits.inflated_bytes);
        }
        let end = self.row.text.len();
        if end as u64 > record_bytes(self.limits) {
            return over("一行的字节数", record_bytes(self.limits));
        }
        self.row.cells.push((column, start, end, kind));
        Ok(flow)
    }

    fn flush(&mut self) -> Result<ControlFlow<()>, DecodeError> {
        if self.row.cells.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let flow = (self.each)(&self.row)?;
        self.stopped = flow.is_break();
        self.row.text.clear();
        self.row.cells.clear();
        Ok(flow)
    }
}

/// Appends a value as Excel shows it without a number format, dates as `YYYY-MM-DD`.
fn render(value: &impl DataType, into: &mut String) -> CellKind {
    if let Some(text) = value.get_string() {
        into.push_str(text);
        return if text.contains('\u{fffd}') { CellKind::Damaged } else { CellKind::Text };
    }
    if let Some(number) = value.get_float() {
        into.push_str(&number_text(number));
        return CellKind::Number;
    }
    if let Some(number) = value.get_int() {
        into.push_str(&number.to_string());
        return CellKind::Number;
    }
    if let Some(date) = value.get_datetime() {
        return render_date(date, into);
    }
    if let Some(truth) = value.get_bool() {
        into.push_str(if truth { "true" } else { "false" });
        return CellKind::Bool;
    }
    if let Some(iso) = value.get_datetime_iso() {
        let (date, time) = iso.split_once('T').unwrap_or((iso, ""));
        into.push_str(date);
        let time = time.trim_end_matches('Z');
        let time = time.split_once('.').map_or(time, |(seconds, _)| seconds);
        if !time.is_empty() && time != "00:00:00" {
            into.push(' ');
            into.push_str(time);
        }
        return CellKind::Date;
    }
    if let Some(text) = value.get_duration_iso() {
        into.push_str(text);
        return CellKind::Text;
    }
    match value.get_error() {
        Some(error) => {
            into.push_str(&error.to_string());
            CellKind::Text
        }
        None => CellKind::Absent,
    }
}

fn render_date(date: ExcelDateTime, into: &mut String) -> CellKind {
    let serial = date.as_f64();
    // A length of time, or a number no calendar has: what is stored is all there is to say.
    if date.is_duration() || !(0.0..2_958_466.0).contains(&serial) {
        into.push_str(&number_text(serial));
        return CellKind::Number;
    }
    let (year, month, day, hour, minute, second, _) = date.to_ymd_hms_milli();
    into.push_str(&format!("{year:04}-{month:02}-{day:02}"));
    if (hour, minute, second) != (0, 0, 0) {
        into.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
    }
    CellKind::Date
}

/// The shortest decimal text of a number's first 15 significant digits, all that Excel keeps: the
/// binary tail beyond is noise (0.1+0.2 is stored as 0.30000000000000004).
pub(super) fn number_text(number: f64) -> String {
    let rounded = format!("{number:.14e}").parse::<f64>().unwrap_or(number);
    if rounded == 0.0 { "0".to_owned() } else { rounded.to_string() }
}

fn xlsx_fault(error: &XlsxError, row: u64) -> DecodeError {
    match error {
        XlsxError::Password => ENCRYPTED,
        _ => DecodeError::Malformed {
            line: row.max(1),
            detail: "工作簿内容不合XLSX规范,文件可能已损坏".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_excel_shows_them() {
        for (number, text) in [
            (42473.0, "42473"),
            (0.300_000_000_000_000_04, "0.3"),
            (-0.0, "0"),
            (201_312_142.0, "201312142"),
            (330_106_199_001_011_234.0, "330106199001011000"),
            (1e-7, "0.0000001"),
            (-1.5, "-1.5"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }
}
