//! ODS (OpenDocument). Source: OASIS OpenDocument 1.2 part 1.
//!
//! Our own reader: calamine loads a whole workbook, and believes how often a row or a cell says it
//! repeats, which is how a hundred bytes claim a thousand million cells.

use std::collections::HashSet;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use calamine::DataRef;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use xinqiao_core::spi::{DecodeError, Limits};

use super::super::guard::{Archive, ENCRYPTED, broken, zip_fault};
use super::super::text::record_bytes;
use super::{Go, Rows};

const CONTENT: &str = "content.xml";
const MAX_SHEETS: usize = 1_024;
const MAX_MANIFEST: u64 = 4 << 20;
/// All sheets stand in one part, which is read from its beginning for each: this many times what a
/// message may inflate to, and no more.
const PASSES: u64 = 4;

/// An open workbook.
pub(in super::super) struct Ods<'a> {
    zip: Archive<'a>,
    /// Name, whether it is visible.
    sheets: Vec<(String, bool)>,
    left: u64,
}

impl<'a> Ods<'a> {
    /// Finds the sheets.
    pub(super) fn open(mut zip: Archive<'a>, limits: &Limits) -> Result<Self, DecodeError> {
        if let Ok(manifest) = zip.by_name("META-INF/manifest.xml") {
            let mut text = Vec::new();
            manifest.take(MAX_MANIFEST).read_to_end(&mut text).map_err(|_| damaged())?;
            if memchr::memmem::find(&text, b"encryption-data").is_some() {
                return Err(ENCRYPTED);
            }
        }
        let left = limits.inflated_bytes.saturating_mul(PASSES);
        let mut book = Self { zip, sheets: Vec::new(), left };
        let (mut hidden, mut style) = (HashSet::new(), String::new());
        let mut sheets = Vec::new();
        book.each(&mut |event| {
            let Content::Start(tag) = event else { return Ok(ControlFlow::Continue(())) };
            match tag.name().as_ref() {
                "style:style" => style = attribute(tag, "style:name")?.unwrap_or_default(),
                "style:table-properties"
                    if attribute(tag, "table:display")?.as_deref() == Some("false") =>
                {
                    hidden.insert(std::mem::take(&mut style));
                }
                "table:table" => {
                    let name = attribute(tag, "table:name")?.unwrap_or_default();
                    let style = attribute(tag, "table:style-name")?.unwrap_or_default();
                    sheets.push((name, !hidden.contains(&style)));
                }
                _ => {}
            }
            if sheets.len() > MAX_SHEETS || hidden.len() > MAX_SHEETS {
                let limit = MAX_SHEETS as u64;
                return Err(DecodeError::Limit { what: "工作表数", limit });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if sheets.is_empty() {
            return Err(super::super::guard::wrong("压缩包内没有工作簿,可能是文档或普通压缩包"));
        }
        book.sheets = sheets;
        Ok(book)
    }

    /// Name and whether it is visible.
    pub(super) fn sheets(&self) -> impl Iterator<Item = (&str, bool)> {
        self.sheets.iter().map(|(name, visible)| (name.as_str(), *visible))
    }

    /// Gives every filled cell of a sheet.
    pub(super) fn rows(
        &mut self,
        sheet: &str,
        limits: &Limits,
        rows: &mut Rows<'_, '_>,
    ) -> Result<(), DecodeError> {
        let wanted = self.sheets.iter().position(|(name, _)| name == sheet);
        let mut next = 0;
        let mut table: Option<Table<'_>> = None;
        self.each(&mut |event| {
            if let Content::Start(tag) = &event
                && tag.name().as_ref() == "table:table"
            {
                table = (Some(next) == wanted).then(|| Table::new(limits));
                next += 1;
                return Ok(ControlFlow::Continue(()));
            }
            match &mut table {
                Some(table) => table.take(event, rows),
                None => Ok(ControlFlow::Continue(())),
            }
        })
    }

    /// Walks the content. What stands in comments, drawings, deleted parts and tables inside cells
    /// is left out.
    fn each(&mut self, each: &mut dyn FnMut(Content<'_, '_>) -> Go) -> Result<(), DecodeError> {
        let part = self.zip.by_name(CONTENT).map_err(zip_fault)?;
        let part = Counted { inner: part, left: &mut self.left };
        let mut reader = Reader::from_reader(BufReader::with_capacity(32 << 10, part));
        reader.config_mut().expand_empty_elements = true;
        let (mut buf, mut tables, mut left_out) = (Vec::new(), 0u32, 0u32);
        loop {
            buf.clear();
            let event = reader.read_event_into(&mut buf).map_err(|error| match error {
                quick_xml::Error::Io(error)
                    if error.get_ref().is_some_and(|e| e.is::<Enough>()) =>
                {
                    let limit = PASSES;
                    DecodeError::Limit {
                        what: "工作表太多或太大,须重复读取的遍数", limit
                    }
                }
                _ => damaged(),
            })?;
            let flow = match &event {
                Event::Start(tag) => {
                    let table = tag.name().as_ref() == "table:table";
                    tables += u32::from(table);
                    if left_out > 0
                        || (table && tables > 1)
                        || LEFT_OUT.contains(&tag.name().as_ref())
                    {
                        left_out += 1;
                        continue;
                    }
                    each(Content::Start(tag))?
                }
                Event::End(tag) => {
                    tables -= u32::from(tag.name().as_ref() == "table:table");
                    if left_out > 0 {
                        left_out -= 1;
                        continue;
                    }
                    each(Content::End(tag.name().as_ref()))?
                }
                _ if left_out > 0 => continue,
                Event::Text(text) => each(Content::Text(&text.xml10_content()))?,
                Event::CData(text) => each(Content::Text(&text.xml10_content()))?,
                Event::GeneralRef(entity) => {
                    let known = match entity.resolve_char_ref() {
                        Ok(Some(c)) => Some(String::from(c)),
                        _ => quick_xml::escape::resolve_predefined_entity(entity).map(String::from),
                    };
                    each(Content::Text(&known.ok_or(DecodeError::Forbidden("未知实体引用"))?))?
                }
                Event::DocType(_) => return Err(DecodeError::Forbidden("DOCTYPE声明")),
                Event::Eof => return Ok(()),
                _ => continue,
            };
            if flow.is_break() {
                return Ok(());
            }
        }
    }
}

const LEFT_OUT: &[&str] = &[
    "office:annotation",
    "table:shapes",
    "table:tracked-changes",
    "draw:frame",
    "draw:custom-shape",
];

enum Content<'t, 'b> {
    Start(&'t BytesStart<'b>),
    End(&'t str),
    Text(&'t str),
}

/// The sheet at hand.
struct Table<'a> {
    limits: &'a Limits,
    row: u32,
    /// How many rows of cells were given.
    given: u64,
    repeat: u32,
    column: u32,
    /// Filled cells of the row at hand: first column, how many, value.
    cells: Vec<(u32, u32, DataRef<'static>)>,
    held: usize,
    cell: Option<Cell>,
}

struct Cell {
    repeat: u32,
    kind: String,
    value: Option<String>,
    text: String,
    paragraphs: u32,
    inside: bool,
}

impl<'a> Table<'a> {
    fn new(limits: &'a Limits) -> Self {
        let cells = Vec::new();
        Self { limits, row: 0, given: 0, repeat: 1, column: 0, cells, held: 0, cell: None }
    }

    fn take(
        &mut self,
        event: Content<'_, '_>,
        rows: &mut Rows<'_, '_>,
    ) -> Result<ControlFlow<()>, DecodeError> {
        match event {
            Content::Start(tag) => self.start(tag)?,
            Content::Text(text) => {
                if let Some(cell) = self.cell.as_mut().filter(|cell| cell.inside) {
                    cell.text.push_str(text);
                    self.check(0)?;
                }
            }
            Content::End("text:p") => {
                if let Some(cell) = &mut self.cell {
                    cell.inside = false;
                }
            }
            Content::End("table:table-cell" | "table:covered-table-cell") => self.end_cell()?,
            Content::End("table:table-row") => return self.end_row(rows),
            Content::End("table:table") => return Ok(ControlFlow::Break(())),
            Content::End(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<(), DecodeError> {
        match (tag.name().as_ref(), &mut self.cell) {
            ("table:table-row", _) => {
                (self.column, self.held) = (0, 0);
                self.cells.clear();
                self.repeat = repeat(tag, "table:number-rows-repeated")?;
            }
            ("table:table-cell" | "table:covered-table-cell", _) => {
                let kind = attribute(tag, "office:value-type")?.unwrap_or_default();
                let value = attribute(
                    tag,
                    match kind.as_str() {
                        "date" => "office:date-value",
                        "time" => "office:time-value",
                        "boolean" => "office:boolean-value",
                        "string" => "office:string-value",
                        _ => "office:value",
                    },
                )?;
                let repeat = repeat(tag, "table:number-columns-repeated")?;
                let (text, paragraphs, inside) = (String::new(), 0, false);
                self.cell = Some(Cell { repeat, kind, value, text, paragraphs, inside });
            }
            ("text:p", Some(cell)) => {
                if cell.paragraphs > 0 {
                    cell.text.push('\n');
                }
                cell.paragraphs = cell.paragraphs.saturating_add(1);
                cell.inside = true;
            }
            ("text:s", Some(cell)) => {
                let spaces = repeat(tag, "text:c")? as usize;
                // One more than a cell may hold is refused as well.
                let most = self.limits.cell_bytes.saturating_add(1);
                cell.text.push_str(&" ".repeat(spaces.min(most)));
            }
            ("text:tab", Some(cell)) => cell.text.push('\t'),
            ("text:line-break", Some(cell)) => cell.text.push('\n'),
            _ => {}
        }
        self.check(0)
    }

    fn end_cell(&mut self) -> Result<(), DecodeError> {
        let Some(cell) = self.cell.take() else { return Ok(()) };
        let first = self.column;
        self.column = first.saturating_add(cell.repeat);
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
        let value = match (cell.kind.as_str(), cell.value) {
            ("float" | "currency" | "percentage", Some(value)) => match number(&value) {
                Some(number) => DataRef::Float(number),
                None => DataRef::String(value),
            },
            ("date", Some(value)) => DataRef::DateTimeIso(value),
            ("time", Some(value)) => DataRef::DurationIso(value),
            ("boolean", Some(value)) => DataRef::Bool(value == "true"),
            ("string", Some(value)) => DataRef::String(value),
            _ => DataRef::String(cell.text),
        };
        let len = match &value {
            DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
                if text.trim().is_empty() {
                    return Ok(());
                }
                text.len()
            }
            _ => 8,
        };
        self.held += len;
        self.check(len)?;
        let columns = self.limits.columns;
        if self.column > columns || self.cells.len() >= columns as usize {
            return Err(DecodeError::Limit { what: "列数", limit: u64::from(columns) });
        }
        self.cells.push((first, cell.repeat, value));
        Ok(())
    }

    fn end_row(&mut self, rows: &mut Rows<'_, '_>) -> Result<ControlFlow<()>, DecodeError> {
        let from = self.row;
        self.row = from.saturating_add(self.repeat);
        if self.cells.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        for row in from..self.row {
            self.given += 1;
            // Notes and the heading are no records; a sheet of nothing but them ends as well.
            if self.given > self.limits.rows.saturating_add(1_000) {
                return Err(DecodeError::Limit { what: "行数", limit: self.limits.rows });
            }
            for (first, times, value) in &self.cells {
                for column in *first..first.saturating_add(*times) {
                    if rows.cell(row, column, value)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether the cell at hand and the row with it are within the limits.
    fn check(&self, len: usize) -> Result<(), DecodeError> {
        let cell = self.cell.as_ref().map_or(len, |cell| cell.text.len());
        if cell > self.limits.cell_bytes {
            let limit = self.limits.cell_bytes as u64;
            return Err(DecodeError::Limit { what: "单元格的字节数", limit });
        }
        let limit = record_bytes(self.limits);
        if (self.held + cell) as u64 > limit.saturating_mul(2) {
            return Err(DecodeError::Limit { what: "一行的字节数", limit });
        }
        Ok(())
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, DecodeError> {
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| damaged())?;
        if attribute.key.as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0);
            return Ok(Some(
                value.map_err(|_| DecodeError::Forbidden("未知实体引用"))?.into_owned(),
            ));
        }
    }
    Ok(None)
}

fn repeat(tag: &BytesStart<'_>, name: &str) -> Result<u32, DecodeError> {
    match attribute(tag, name)? {
        None => Ok(1),
        Some(times) => times.trim().parse().map_err(|_| damaged()),
    }
}

fn damaged() -> DecodeError {
    broken("工作簿内容不合ODS规范,文件可能已损坏")
}

/// Counts what is inflated over all passes.
struct Counted<'l, R> {
    inner: R,
    left: &'l mut u64,
}

#[derive(Debug, thiserror::Error)]
#[error("enough")]
struct Enough;

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        *self.left = self.left.checked_sub(n as u64).ok_or_else(|| io::Error::other(Enough))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use xinqiao_core::model::{FormatKind, FormatSpec};

    use super::super::super::testing::{self, decode_within, made_zip};
    use super::*;

    fn spec() -> FormatSpec {
        let known = ["名称", "文号", "日期", "金额"].map(str::to_owned).to_vec();
        FormatSpec { known_headings: known, ..FormatSpec::new(FormatKind::Workbook) }
    }

    const HEADING: &str = "<table:table-row><table:table-cell table:number-columns-repeated='1'/>\
        <table:table-cell><text:p>名称</text:p></table:table-cell>\
        <table:table-cell><text:p>文号</text:p></table:table-cell>\
        <table:table-cell><text:p>日期</text:p></table:table-cell>\
        <table:table-cell><text:p>金额</text:p></table:table-cell></table:table-row>";

    fn ods(sheets: &str) -> Vec<u8> {
        let content = format!(
            "<?xml version='1.0' encoding='UTF-8'?><office:document-content>\
             <office:automatic-styles><style:style style:name='ta2' style:family='table'>\
             <style:table-properties table:display='false'/></style:style>\
             </office:automatic-styles><office:body><office:spreadsheet>{sheets}\
             </office:spreadsheet></office:body></office:document-content>"
        );
        let mimetype = b"application/vnd.oasis.opendocument.spreadsheet";
        made_zip(&[
            ("mimetype", mimetype),
            ("content.xml", content.as_bytes()),
            ("META-INF/manifest.xml", b"<manifest:manifest/>"),
        ])
    }

    fn sheet(name: &str, rows: &str) -> String {
        format!("<table:table table:name='{name}'>{HEADING}{rows}</table:table>")
    }

    #[test]
    fn cells_of_every_type_repeated_and_commented_come_out() {
        let rows = "<table:table-row table:number-rows-repeated='3'><table:table-cell \
             table:number-columns-repeated='16384'/></table:table-row>\
             <table:table-row table:number-rows-repeated='2'><table:table-cell/>\
             <table:table-cell office:value-type='string'><office:annotation><text:p>注\
             </text:p></office:annotation><text:p>甲<text:s text:c='2'/>公司 &amp; 子</text:p>\
             <text:p><text:span>二</text:span></text:p></table:table-cell>\
             <table:table-cell office:value-type='float' office:value='7.50'>\
             <text:p>7.5</text:p></table:table-cell><table:table-cell \
             office:value-type='date' office:date-value='2026-01-10T09:05:00'/>\
             <table:table-cell office:value-type='boolean' office:boolean-value='true' \
             table:number-columns-repeated='2'/></table:table-row>\
             <table:table-row table:number-rows-repeated='1048000'><table:table-cell/>\
             </table:table-row>";
        let hidden = format!(
            "<table:table table:name='码' table:style-name='ta2'>{HEADING}{rows}</table:table>"
        );
        let (told, end) = testing::decode(&spec(), &ods(&(hidden.clone() + &sheet("表", rows))));
        end.unwrap();
        let row = "名称=甲  公司 & 子\n二|文号=7.5:Number|日期=2026-01-10 09:05:00:Date\
                   |金额=true:Bool|列F=true:Bool";
        assert_eq!(told, [format!("B5|{row}"), format!("B6|{row}")]);
        let named = FormatSpec { sheet: Some("码".into()), ..spec() };
        let (told, end) = testing::decode(&named, &ods(&hidden));
        assert_eq!((told.len(), end.is_ok()), (2, true));
    }

    #[test]
    fn bombs_end_at_the_limits() {
        let cell = "<table:table-cell><text:p>a</text:p></table:table-cell>";
        for (row, said) in [
            (
                format!(
                    "<table:table-row table:number-rows-repeated='4000000000'>{cell}</table:table-row>"
                ),
                "行数",
            ),
            (
                "<table:table-row><table:table-cell table:number-columns-repeated='4000000000'>\
                 <text:p>a</text:p></table:table-cell></table:table-row>"
                    .to_owned(),
                "列数",
            ),
            (
                "<table:table-row><table:table-cell><text:p><text:s text:c='4000000000'/>\
                 </text:p></table:table-cell></table:table-row>"
                    .to_owned(),
                "单元格的字节数",
            ),
            (
                format!(
                    "<table:table-row><table:table-cell><text:p>{}</text:p></table:table-cell>\
                     </table:table-row>",
                    "<text:s text:c='9000'/>".repeat(10)
                ),
                "单元格的字节数",
            ),
            ("<table:table-row table:number-rows-repeated='-1'/>".to_owned(), "ODS规范"),
        ] {
            let limits = Limits { rows: 50_000, cell_bytes: 64 << 10, ..Limits::default() };
            let seen = decode_within(&spec(), &ods(&sheet("表", &row)), limits, usize::MAX);
            let end = seen.end.unwrap_err().to_string();
            assert!(end.contains(said), "{said}: {end}");
        }
    }

    #[test]
    fn what_is_no_sheet_or_not_whole_is_refused() {
        let manifest: &[u8] = b"<x><manifest:encryption-data/></x>";
        for (bytes, said) in [
            (ods(""), "没有工作簿"),
            (ods("<table:table table:name='a'>"), "ODS规范"),
            (ods("<!DOCTYPE a>"), "DOCTYPE"),
            (made_zip(&[("content.xml", b"\0\x01"), ("META-INF/manifest.xml", manifest)]), "加密"),
        ] {
            let end = testing::decode(&spec(), &bytes).1.unwrap_err().to_string();
            assert!(end.contains(said), "{said}: {end}");
        }
    }
}
