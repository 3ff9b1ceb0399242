//! CSV and TSV.

use std::ops::ControlFlow;

use csv::{Reader, ReaderBuilder, StringRecord};
use xinqiao_core::model::{
    CellKind, Columns, FormatKind, FormatSpec, HeaderSpec, Place, Row, Shape,
};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};

use super::text::{Budget, Hit, TextReader, contradiction, detect, io_fault, record_bytes};
use super::{finding, header};

/// Delimited text: quoted fields may hold delimiters and line breaks, rows may have any number of
/// cells, and a heading row may stand below note rows.
pub(super) struct Delimited;

impl Format for Delimited {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Csv, FormatKind::Tsv]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        match read(spec, input, limits, sink) {
            Err(DecodeError::NoHeading) => {
                Err(contradiction(spec.encoding, input)?.unwrap_or(DecodeError::NoHeading))
            }
            end => end,
        }
    }
}

fn read(
    spec: &FormatSpec,
    input: &mut dyn ReadSeek,
    limits: &Limits,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    let encoding = detect(spec.encoding, input)?;
    let text = TextReader::new(input, encoding, limits.inflated_bytes, record_bytes(limits));
    let budget = text.budget();
    let reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(spec.delimiter)
        .buffer_capacity(128 << 10)
        .from_reader(text);
    let mut records = Records { reader, budget, limits, fault: None };

    let mut window: Vec<(u64, StringRecord)> = Vec::new();
    let wanted = match spec.header {
        HeaderSpec::Auto => usize::MAX,
        HeaderSpec::Row(n) => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let mut record = StringRecord::new();
    let mut rows_seen = 0;
    while window.len() < header::WINDOW
        && let Some(line) = records.next(&mut record)
    {
        rows_seen += 1;
        if !is_blank(&record) {
            window.push((line, record.clone()));
        }
        // A declared row is the line it begins on or, where earlier cells hold line breaks,
        // the row of that number.
        if wanted != usize::MAX && (rows_seen >= wanted || line >= wanted as u64) {
            break;
        }
    }
    if window.is_empty() {
        return records.finish();
    }
    let at = match spec.header {
        HeaderSpec::Row(_) => Some(window.len() - 1),
        HeaderSpec::Auto => {
            let rows: Vec<Vec<&str>> = window.iter().map(|(_, r)| r.iter().collect()).collect();
            header::pick(&rows, &spec.known_headings)
        }
    };
    let Some(at) = at else {
        // The heading may stand behind what is broken.
        return records.finish().and(Err(DecodeError::NoHeading));
    };
    let mut rest = window.drain(at..);
    let Some((_, heading)) = rest.next() else { return Ok(()) };
    let mut columns = Columns::new(Shape::Delimited);
    // Trailing delimiters make nameless columns; cells under them are extra cells.
    let width = (0..heading.len())
        .rfind(|&ix| heading.get(ix).is_some_and(|c| !c.trim().is_empty()))
        .map_or(0, |ix| ix + 1);
    if width > limits.columns as usize {
        return Err(DecodeError::Limit { what: "列数", limit: u64::from(limits.columns) });
    }
    for (position, name) in heading.iter().take(width).enumerate() {
        columns.push(name.trim(), u32::try_from(position).unwrap_or(u32::MAX));
    }

    let mut out = Out { columns, heading, width, row: Row::new(), count: 0, limits, sink };
    for (line, record) in rest {
        if out.give(line, &record)?.is_break() {
            return Ok(());
        }
    }
    while let Some(line) = records.next(&mut record) {
        if out.give(line, &record)?.is_break() {
            return Ok(());
        }
    }
    records.finish()
}

struct Records<'a> {
    reader: Reader<TextReader<'a>>,
    budget: Budget,
    limits: &'a Limits,
    /// What ended the reading before the text did.
    fault: Option<DecodeError>,
}

impl Records<'_> {
    /// Reads the next record and gives the line it begins on; `None` at the end or at a fault,
    /// which [`Self::finish`] tells when the rows before it are given.
    fn next(&mut self, record: &mut StringRecord) -> Option<u64> {
        if self.fault.is_some() {
            return None;
        }
        self.budget.refill();
        let from = self.reader.position().line();
        let read = self.reader.read_record(record);
        let line = self.reader.position().line();
        let breaks = |text: &str| memchr::memchr_iter(b'\n', text.as_bytes()).count() as u64;
        self.fault = Some(match read.map_err(csv::Error::into_kind) {
            Ok(false) => return None,
            // The text ends with a line break, which ends every record but one inside quotes.
            Ok(true) if self.budget.ended() => unpaired(
                line.saturating_sub(record.iter().next_back().map_or(0, breaks)).max(1),
                "英文双引号没有配对,从该处到文件末尾都成了一格,没有读取",
            ),
            // Counted back from the record's end: the parser's own start lies before any empty
            // lines it skipped.
            Ok(true) => {
                return Some(line.saturating_sub(1 + breaks(record.as_slice())).max(1));
            }
            Err(csv::ErrorKind::Io(error)) if Hit::of(&error) == Some(Hit::Record) => {
                unpaired(from, "该行起的一条记录过长,可能有英文双引号没有配对")
            }
            Err(csv::ErrorKind::Io(error)) => io_fault(error, self.limits),
            Err(_) => {
                DecodeError::Malformed { line, detail: "无法按分隔文本解析".to_owned() }
            }
        });
        None
    }

    /// Whether the whole text was read.
    fn finish(self) -> Result<(), DecodeError> {
        self.fault.map_or(Ok(()), Err)
    }
}

fn unpaired(line: u64, what: &str) -> DecodeError {
    let fix = "请补上结束的引号(内容中的引号要连写两个),或从原系统重新导出";
    DecodeError::Malformed { line, detail: format!("{what};{fix}") }
}

struct Out<'a> {
    columns: Columns,
    heading: StringRecord,
    width: usize,
    row: Row,
    count: u64,
    limits: &'a Limits,
    sink: &'a mut dyn RowSink,
}

impl Out<'_> {
    fn give(&mut self, line: u64, record: &StringRecord) -> Result<ControlFlow<()>, DecodeError> {
        // Files put together from several exports repeat the heading.
        if is_blank(record) || *record == self.heading {
            return Ok(ControlFlow::Continue(()));
        }
        self.count += 1;
        if self.count > self.limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: self.limits.rows });
        }
        let extra = record.iter().skip(self.width).any(|cell| !cell.trim().is_empty());
        if extra {
            let message = format!(
                "表头有{}列,该行却有{}列,可能是内容中的分隔符没有加引号,使各列错位",
                self.width,
                record.len()
            );
            let fix = "请用英文双引号括住含分隔符的内容,或从原系统重新导出";
            let place = Place { sheet: None, row: line };
            return Ok(self.sink.bad_row(&place, finding::malformed(message, fix)));
        }
        let damaged =
            memchr::memmem::find(record.as_slice().as_bytes(), "\u{fffd}".as_bytes()).is_some();
        self.row.clear(line);
        for cell in record.iter().take(self.width) {
            if cell.len() > self.limits.cell_bytes {
                return Err(DecodeError::Limit {
                    what: "单元格的字节数",
                    limit: self.limits.cell_bytes as u64,
                });
            }
            let kind = if cell.is_empty() {
                CellKind::Absent
            } else if damaged && cell.contains('\u{fffd}') {
                CellKind::Damaged
            } else {
                CellKind::Text
            };
            self.row.push(unguard(cell), kind);
        }
        Ok(self.sink.row(&self.columns, &self.row))
    }
}

/// Takes off the guard that keeps Excel from reading `001` as a number: `="001"`.
fn unguard(cell: &str) -> &str {
    cell.strip_prefix("=\"").and_then(|c| c.strip_suffix('"')).unwrap_or(cell)
}

fn is_blank(record: &StringRecord) -> bool {
    record.iter().all(|cell| cell.trim().is_empty())
}
