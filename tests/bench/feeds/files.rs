//! Files: XLSX, XML.

use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use rust_xlsxwriter::{ExcelDateTime, Format, Workbook};
use xinqiao::clock::SystemClock;
use xinqiao::domain::{self, Domain};
use xinqiao::pipeline::{Job, in_memory, process};
use xinqiao_core::model::{MappingId, Verdict};
use xinqiao_core::spi::Clock as _;
use xinqiao_tests::{HEADINGS, Result, Row, Scale, mapping};

use crate::measure::{compare, measure, ourselves, report, script};

const ROWS: u64 = 100_000;

/// The flag of our child: a mapping and a file follow.
pub(crate) const CHILD: &str = "--read-file";

/// Column names that every format can hold (a DBF: ten bytes), in the order of the made cells.
pub(crate) const NAMES: [&str; 21] = [
    "CF_XDR_MC",
    "CF_XDR_SHX",
    "CF_FRDB",
    "CF_WSH",
    "CF_WFXW",
    "CF_SY",
    "CF_YJ",
    "CF_CFLB",
    "CF_NR",
    "CF_NR_FK",
    "CF_JDRQ",
    "CF_YXQ",
    "CF_GSJZQ",
    "SZQ",
    "AJDJ",
    "CBKS",
    "CBRDH",
    "SFTZ",
    "LSH",
    "BLZT",
    "RKSJ",
];

/// Columns whose made cells are an amount and a date.
const AMOUNT: usize = 9;
const DATE: usize = 10;

/// Each format in turn.
pub(crate) fn bench(scale: Scale) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rows = ROWS / scale.part;
    for (name, format, write, by) in [
        ("XLSX", "workbook", xlsx as fn(&Path, u64) -> _, "by_openpyxl.py"),
        ("XML", "xml, record: /DATAS/DATA", xml, "by_lxml.py"),
    ] {
        let kind = name.to_lowercase();
        let file = folder.path().join(format!("rows.{kind}"));
        let mapping = folder.path().join(format!("{kind}.yaml"));
        write(&file, rows)?;
        std::fs::write(&mapping, mapping_of(format))?;
        let mut ours = || measure(ourselves(CHILD)?.arg(&mapping).arg(&file));
        let mut theirs = || measure(script("formats", by)?.arg(&file));
        compare(scale, name, rows, &mut ours, &mut theirs)?;
    }
    Ok(())
}

/// Reads a file to its end and reports the rows that no rule refused.
pub(crate) fn child(arguments: &[String]) -> Result<()> {
    let [mapping, file] = arguments else { return Err("a mapping and a file".into()) };
    let mut bundle = domain::bundle(None)?;
    bundle.0.retain(|path, _| !path.starts_with("agencies/"));
    bundle.0.insert("agencies/made/file.yaml".into(), std::fs::read_to_string(mapping)?);
    let domain = Domain::load(bundle).map_err(|errors| errors.to_string())?;
    let id = MappingId::new("made-csv")?;
    let (_, mapping) = domain.mappings.get(&id).ok_or("no such mapping")?;
    let today = SystemClock.now().shanghai_date();
    let job = Job { mapping, domain: &domain, today, skip: 0, scratch: &in_memory };
    let mut input = std::fs::File::open(file)?;
    let mut accepted = 0;
    let begun = Instant::now();
    process(&job, &mut input, &mut |row| {
        accepted += u64::from(row.verdict != Verdict::Reject);
        ControlFlow::Continue(())
    })?;
    report(accepted, begun.elapsed())
}

/// The mapping of made rows, by our column names.
pub(crate) fn mapping_of(format: &str) -> String {
    let mut text =
        mapping("csv").replace("format: csv, encoding: auto", &format!("format: {format}"));
    for (heading, name) in HEADINGS.iter().zip(NAMES) {
        text = text.replace(&format!("from: {heading} "), &format!("from: {name} "));
        text = text.replace(&format!("from: {heading},"), &format!("from: {name},"));
    }
    text
}

fn xlsx(file: &Path, rows: u64) -> Result<()> {
    let mut book = Workbook::new();
    let dates = Format::new().set_num_format("yyyy-mm-dd");
    let sheet = book.add_worksheet_with_low_memory()?;
    for (column, name) in (0u16..).zip(NAMES) {
        sheet.write(0, column, name)?;
    }
    let day = ExcelDateTime::from_ymd(2025, 3, 3)?;
    for (line, number) in (1u32..).zip(0..rows) {
        for (ix, (column, cell)) in (0u16..).zip(Row::new(number).cells()).enumerate() {
            match ix {
                AMOUNT => sheet.write(line, column, cell.parse::<f64>()?)?,
                DATE => sheet.write_with_format(line, column, &day, &dates)?,
                _ => sheet.write(line, column, cell)?,
            };
        }
    }
    Ok(book.save(file)?)
}

fn xml(file: &Path, rows: u64) -> Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DATAS>")?;
    for number in 0..rows {
        write!(out, "<DATA>")?;
        for (name, cell) in NAMES.iter().zip(Row::new(number).cells()) {
            write!(out, "<{name}>{cell}</{name}>")?;
        }
        writeln!(out, "</DATA>")?;
    }
    writeln!(out, "</DATAS>")?;
    Ok(out.flush()?)
}
