//! A first look at an unknown file: what it is, where its heading stands, what its columns hold.
//! The start of a mapping written by hand.

use std::io::{self, Read, SeekFrom};
use std::ops::ControlFlow;

use xinqiao_core::model::{
    CellKind, Columns, Encoding, Finding, FormatKind, FormatSpec, HeaderSpec, Place, Row,
};
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek, RowSink, Scratch};

use super::book::Book;
use super::guard::{Container, Holds};
use super::{archive, dbf, find, guard, header, text, workbook};

/// How much of a text is looked at to tell what it is.
const HEAD: u64 = 64 << 10;
const EXAMPLES: usize = 5;

/// What a file seems to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sniffed {
    /// The family, by content first and by the name's ending second.
    pub kind: FormatKind,
    /// The encoding found; [`Encoding::Auto`] for a workbook, which has none, and a table, which says
    /// its own.
    pub encoding: Encoding,
    /// The heading row, from 1; `None` for trees and tables.
    pub header_row: Option<u32>,
    /// The sheet looked at; `None` if the workbook has only one, and for texts.
    pub sheet: Option<String>,
    /// Path of the JSON array of records inside an object; `None` where the default finds them
    /// (always for XML: the children of the root).
    pub record: Option<String>,
    /// Headings in the file's order; for trees the paths of the first five records.
    pub headings: Vec<String>,
    /// Kinds of the cells of up to five rows, one a heading.
    pub examples: Vec<Vec<CellKind>>,
}

impl Sniffed {
    /// An empty template has no row to bring its headings along: take them as seen.
    fn complete(&mut self, seen: Vec<&str>) {
        if self.headings.is_empty() {
            self.headings = seen.into_iter().map(|name| name.trim().to_owned()).collect();
        }
    }
}

/// Looks at `input`; of an archive, at the member with the most columns. `name` is the file's name,
/// if known. Errors are those of decoding: [`DecodeError::NoHeading`] if no row looks like a
/// heading. Fixed-width text cannot be told from other text.
pub fn sniff(
    name: Option<&str>,
    input: &mut dyn ReadSeek,
    limits: &Limits,
) -> Result<Sniffed, DecodeError> {
    match guard::container(input)? {
        Some(Container::Compound) => sniff_workbook(input, limits),
        Some(Container::Zip) if guard::holds(&guard::open_zip(input)?) == Holds::Files => {
            sniff_archive(input, limits)
        }
        Some(Container::Zip) => sniff_workbook(input, limits),
        None if dbf::is_table(input)? => {
            look(FormatSpec::new(FormatKind::Dbf), None, input, limits)
        }
        None => sniff_text(name, input, limits),
    }
}

/// Members are held in memory: a sample is small, and this is more than one may be.
const SAMPLE: u64 = 256 << 20;

fn sniff_archive(input: &mut dyn ReadSeek, limits: &Limits) -> Result<Sniffed, DecodeError> {
    let Some(mut zip) = archive::open(input)? else { return Err(DecodeError::NoHeading) };
    let mut left = SAMPLE.min(limits.inflated_bytes);
    let room = || -> Box<dyn Scratch> { Box::new(Vec::new()) };
    let (mut first, mut widest) = (None, None::<Sniffed>);
    // Of a table's members, the table alone.
    for member in archive::members(&mut zip, FormatKind::Dbf)? {
        let seen = member.read(&mut zip, limits, &mut left, &room).and_then(|mut input| {
            let name = Some(member.name.as_str());
            sniff(name, &mut *input, limits)
        });
        match seen {
            // A note beside the data looks like a table of one column.
            Ok(seen) if widest.as_ref().is_none_or(|w| w.headings.len() < seen.headings.len()) => {
                widest = Some(seen);
            }
            Ok(_) => {}
            Err(fault @ DecodeError::Limit { .. }) => return Err(member.fault(fault)),
            Err(fault) => first = first.or(Some(member.fault(fault))),
        }
    }
    widest.ok_or_else(|| first.unwrap_or_else(|| guard::broken("压缩包里没有文件")))
}

fn sniff_text(
    name: Option<&str>,
    input: &mut dyn ReadSeek,
    limits: &Limits,
) -> Result<Sniffed, DecodeError> {
    let encoding = text::detect(Encoding::Auto, input)?;
    let mut head = Vec::new();
    text::TextReader::new(input, encoding, u64::MAX, u64::MAX / 2)
        .take(HEAD)
        .read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut spec = FormatSpec::new(text_kind(name, &head));
    spec.encoding = match encoding.name() {
        "UTF-8" => Encoding::Utf8,
        "gb18030" => Encoding::Gb18030,
        _ => Encoding::Utf16,
    };
    match spec.kind {
        FormatKind::Csv | FormatKind::Tsv => {
            let rows: Vec<(u32, Vec<&str>)> = (1u32..)
                .zip(head.lines())
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(n, line)| (n, line.split(char::from(spec.delimiter)).collect()))
                .take(header::WINDOW)
                .collect();
            let cells: Vec<Vec<&str>> = rows.iter().map(|(_, row)| row.clone()).collect();
            let at = guess(&cells).ok_or(DecodeError::NoHeading)?;
            let row = rows.get(at).map_or(1, |&(row, _)| row);
            spec.header = HeaderSpec::Row(row);
            let seen: Vec<&str> = cells.get(at).cloned().unwrap_or_default();
            let mut sniffed = look(spec, Some(row), input, limits)?;
            sniffed.complete(seen);
            Ok(sniffed)
        }
        FormatKind::Json => {
            spec.record = record_array(&head);
            look(spec, None, input, limits)
        }
        _ => look(spec, None, input, limits),
    }
}

fn sniff_workbook(input: &mut dyn ReadSeek, limits: &Limits) -> Result<Sniffed, DecodeError> {
    let mut best = None;
    let sheets = {
        let mut book = Book::open(&mut *input, limits)?;
        let sheets = book.sheets(None);
        for sheet in &sheets {
            let top = workbook::top_rows(&mut book, sheet, limits)?;
            let rows: Vec<Vec<&str>> = top.iter().map(|row| row.texts()).collect();
            if let Some(row) = guess(&rows).and_then(|at| top.get(at)) {
                best = Some((sheet.clone(), row.clone()));
                break;
            }
        }
        sheets.len()
    };
    let (sheet, heading) = best.ok_or(DecodeError::NoHeading)?;
    let row = u32::try_from(heading.number).unwrap_or(u32::MAX);
    let mut spec = FormatSpec::new(FormatKind::Workbook);
    spec.header = HeaderSpec::Row(row);
    spec.sheet = Some(sheet);
    let mut sniffed = look(spec, Some(row), input, limits)?;
    sniffed.complete(heading.texts());
    if sheets == 1 {
        sniffed.sheet = None;
    }
    Ok(sniffed)
}

/// The first row of at least three texts that most of the rows below it about equal in width; else
/// what the decoders would take.
fn guess(rows: &[Vec<&str>]) -> Option<usize> {
    let filled = |row: &Vec<&str>| row.iter().filter(|c| !c.trim().is_empty()).count();
    let texts = |row: &Vec<&str>| {
        let is_text = |c: &&&str| !c.trim().is_empty() && c.trim().parse::<f64>().is_err();
        row.iter().filter(is_text).count()
    };
    let at = rows.iter().enumerate().position(|(ix, row)| {
        let width = filled(row);
        let below = rows.get(ix + 1..).unwrap_or(&[]);
        let alike = below.iter().filter(|r| filled(r) * 2 > width && filled(r) <= width).count();
        texts(row) >= 3 && alike * 2 >= below.len()
    });
    at.or_else(|| header::pick(rows, &[]))
}

fn text_kind(name: Option<&str>, head: &str) -> FormatKind {
    let start = head.trim_start();
    let ending = name.and_then(|n| n.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    match start.chars().next() {
        Some('<') => return FormatKind::Xml,
        Some('[') => return FormatKind::Json,
        // A whole object on the first line and something below it: one object a line.
        Some('{') => {
            let mut lines = start.lines();
            let whole = lines
                .next()
                .is_some_and(|l| serde_json::from_str::<serde::de::IgnoredAny>(l).is_ok());
            let more = lines.any(|line| line.trim_start().starts_with('{'));
            let lines_named = matches!(ending.as_deref(), Some("ndjson" | "jsonl"));
            return if whole && (more || lines_named) {
                FormatKind::Ndjson
            } else {
                FormatKind::Json
            };
        }
        _ => {}
    }
    let count = |delimiter| start.lines().take(20).map(|l| l.matches(delimiter).count()).sum();
    let (tabs, commas): (usize, usize) = (count('\t'), count(','));
    let tsv = tabs > commas || (tabs == commas && ending.as_deref() == Some("tsv"));
    if tsv { FormatKind::Tsv } else { FormatKind::Csv }
}

/// The path of the first array of objects inside an object, told from the text's beginning (which
/// may end anywhere); `None` if the text is an array itself or holds none.
fn record_array(head: &str) -> Option<String> {
    let mut path: Vec<String> = Vec::new();
    let mut key = String::new();
    let mut rest = head.trim_start();
    if rest.starts_with('[') {
        return None;
    }
    while let Some(c) = rest.chars().next() {
        match c {
            '"' => {
                let mut de = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                key = de.next()?.ok()?;
                rest = rest.get(de.byte_offset()..)?.trim_start();
                continue;
            }
            '{' => path.push(std::mem::take(&mut key)),
            '}' => {
                path.pop();
            }
            '[' if rest.get(1..).is_some_and(|r| r.trim_start().starts_with('{')) => {
                let names = path.iter().skip(1).chain(std::iter::once(&key));
                return Some(names.map(|name| format!("/{name}")).collect());
            }
            _ => {}
        }
        rest = rest.get(c.len_utf8()..)?;
    }
    None
}

fn look(
    spec: FormatSpec,
    header_row: Option<u32>,
    input: &mut dyn ReadSeek,
    limits: &Limits,
) -> Result<Sniffed, DecodeError> {
    input.seek(SeekFrom::Start(0))?;
    let mut first = First::default();
    let format = find(spec.kind).ok_or_else(|| io::Error::other("no decoder"))?;
    format.decode(&spec, input, limits, &mut first)?;
    // A table names its columns even where it has no record.
    if spec.kind == FormatKind::Dbf && first.headings.is_empty() {
        first.headings = dbf::names(input)?;
    }
    Ok(Sniffed {
        kind: spec.kind,
        encoding: spec.encoding,
        header_row,
        sheet: spec.sheet,
        record: spec.record,
        headings: first.headings,
        examples: first.rows,
    })
}

#[derive(Default)]
struct First {
    headings: Vec<String>,
    rows: Vec<Vec<CellKind>>,
}

impl RowSink for First {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        self.headings = columns.names().iter().map(|name| name.to_string()).collect();
        self.rows.push((0u16..).zip(columns.names()).map(|(ix, _)| row.get(ix).kind).collect());
        if self.rows.len() < EXAMPLES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn bad_row(&mut self, _: &Place, _: Finding) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::testing;
    use super::*;

    fn look_at(name: &str, bytes: &[u8]) -> Sniffed {
        sniff(Some(name), &mut Cursor::new(bytes.to_vec()), &Limits::default()).unwrap()
    }

    #[test]
    fn texts_are_told_by_content_and_their_heading_found() {
        let csv = "填表说明\n名称,文号,日期\n甲,1,2026-01-01\n乙,2,\n";
        let (gbk, _, _) = encoding_rs::GB18030.encode(csv);
        let seen = look_at("a.txt", &gbk);
        assert_eq!((seen.kind, seen.encoding), (FormatKind::Csv, Encoding::Gb18030));
        assert_eq!(
            (seen.header_row, seen.headings),
            (Some(2), vec!["名称".to_owned(), "文号".to_owned(), "日期".to_owned()])
        );
        assert_eq!(seen.examples.len(), 2);
        assert_eq!(seen.examples[1][2], CellKind::Absent);
        assert_eq!(look_at("a", "名称,文号,日期\n".as_bytes()).headings.len(), 3);
        assert_eq!(look_at("a.csv", csv.replace(',', "\t").as_bytes()).kind, FormatKind::Tsv);
    }

    #[test]
    fn trees_give_their_paths() {
        let seen =
            look_at("a.txt", br#"{"code":0,"data":{"note":["x"],"rows":[{"a":1,"b":"c"}]}}"#);
        assert_eq!((seen.kind, seen.record.as_deref()), (FormatKind::Json, Some("/data/rows")));
        assert_eq!(seen.headings, ["a", "b"]);
        assert_eq!(seen.examples, [[CellKind::Number, CellKind::Text]]);
        assert_eq!(look_at("a", b"{\"a\":1}\n{\"a\":2}").kind, FormatKind::Ndjson);
        let xml = look_at("a.csv", b"<DATAS><DATA><a>1</a><b>2</b></DATA></DATAS>");
        assert_eq!((xml.kind, xml.headings.len()), (FormatKind::Xml, 2));
    }

    #[test]
    fn a_workbook_named_csv_is_a_workbook() {
        let mut book = rust_xlsxwriter::Workbook::new();
        let sheet = book.add_worksheet();
        sheet.write(0, 0, "请按要求填写").unwrap();
        for (column, heading) in (0u16..).zip(["名称", "文号", "金额"]) {
            sheet.write(1, column, heading).unwrap();
        }
        sheet.write(2, 0, "甲").unwrap();
        sheet.write(2, 1, "一号").unwrap();
        sheet.write(2, 2, 3).unwrap();
        let seen = look_at("a.csv", &book.save_to_buffer().unwrap());
        assert_eq!((seen.kind, seen.header_row, seen.sheet), (FormatKind::Workbook, Some(2), None));
        assert_eq!(seen.headings, ["名称", "文号", "金额"]);
        assert_eq!(seen.examples, [[CellKind::Text, CellKind::Text, CellKind::Number]]);
    }

    #[test]
    fn tables_and_archives_are_told_by_content() {
        let cells: &[&[u8]] = &[b"x", b"  1"];
        let columns = [("WSH", 'C', 4), ("JE", 'N', 3)];
        let table = testing::made_table(0x03, &columns, &[(b' ', cells)]);
        let seen = look_at("a.csv", &table);
        assert_eq!((seen.kind, seen.header_row), (FormatKind::Dbf, None));
        assert_eq!(seen.headings, ["WSH", "JE"]);
        assert_eq!(seen.examples, [[CellKind::Text, CellKind::Number]]);
        let empty = testing::made_table(0x03, &columns, &[]);
        assert_eq!(look_at("a.dbf", &empty).headings, ["WSH", "JE"]);
        let zip = testing::made_zip(&[("a.fpt", b"memo"), ("a.dbf", &table)]);
        assert_eq!(look_at("a.zip", &zip), seen);
        let csv = "名称,文号,日期\n甲,1,2\n".as_bytes();
        let zip = testing::made_zip(&[("说明.txt", b"x"), ("数据.csv", csv)]);
        let seen = look_at("a.zip", &zip);
        assert_eq!((seen.kind, seen.headings.len()), (FormatKind::Csv, 3));
    }
}
