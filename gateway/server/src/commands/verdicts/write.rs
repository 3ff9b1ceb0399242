//! The forms row verdicts are written in.

use std::io::{BufWriter, StdoutLock, Write as _};
use std::path::{Path, PathBuf};

use comfy_table::Table;
use rust_xlsxwriter::{Workbook, XlsxError};
use serde::Serialize;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::Verdict;
use xinqiao_store::{MessageView, RowOutcome, RowVerdictView};

use super::super::{CommandError, out};
use crate::feedback::{WHOLE, clean, lines, word};

const HEADINGS: [&str; 8] = ["文书号", "结论", "行", "位置", "规则", "原因", "改法", "文件"];
/// Name of the worksheet; further ones add a number.
const SHEET_NAME: &str = "逐行反馈";
/// Rows of a worksheet, by its format.
const SHEET: u32 = 1 << 20;

/// Writes rows one by one, so that a feed of any size goes through.
pub(super) enum Writer {
    Tsv(BufWriter<StdoutLock<'static>>),
    Json { out: BufWriter<StdoutLock<'static>>, first: bool },
    Table { table: Box<Table>, rows: u64, shown: u64, failed: u64 },
    Xlsx { book: Box<Workbook>, path: PathBuf, sheet: usize, next: u32 },
}

/// A row in JSON: with the message it stands in.
#[derive(Serialize)]
struct InMessage<'a> {
    message: u64,
    name: Option<&'a str>,
    #[serde(flatten)]
    row: RowVerdictView,
}

impl Writer {
    pub(super) fn tsv(header: bool) -> Result<Self, CommandError> {
        let mut out = out::stdout();
        if header {
            writeln!(out, "{}", HEADINGS.get(..7).unwrap_or_default().join("\t"))?;
        }
        Ok(Self::Tsv(out))
    }

    pub(super) fn json() -> Result<Self, CommandError> {
        let mut out = out::stdout();
        write!(out, "[")?;
        Ok(Self::Json { out, first: true })
    }

    /// Rows with findings only, for a screen.
    pub(super) fn table() -> Self {
        Self::Table { table: Box::new(out::table(HEADINGS, 8)), rows: 0, shown: 0, failed: 0 }
    }

    pub(super) fn xlsx(path: &Path) -> Result<Self, CommandError> {
        let path = path.to_owned();
        let mut writer =
            Self::Xlsx { book: Box::new(Workbook::new()), path, sheet: 0, next: SHEET };
        if let Self::Xlsx { book, path, next, .. } = &mut writer {
            add_sheet(book, 0).map_err(|error| unwritten(path, &error))?;
            *next = 1;
        }
        Ok(writer)
    }

    pub(super) fn row(
        &mut self,
        message: &MessageView,
        row: RowVerdictView,
    ) -> Result<(), CommandError> {
        let name = message.name.as_deref();
        match self {
            Self::Tsv(out) => {
                for line in lines(&row, code(&row)) {
                    let line = cells(row.row.to_string(), line);
                    writeln!(out, "{}", line.join("\t"))?;
                }
            }
            Self::Json { out, first } => {
                writeln!(out, "{}", if std::mem::take(first) { "" } else { "," })?;
                serde_json::to_writer(out, &InMessage { message: message.id, name, row })?;
            }
            Self::Table { table, rows, shown, failed } => {
                let is_row = u64::from(row.row != WHOLE);
                *rows += is_row;
                *failed += 1 - is_row;
                if !row.findings.is_empty() {
                    *shown += is_row;
                    let number = if row.row == WHOLE { String::new() } else { row.row.to_string() };
                    for line in lines(&row, word(&row)) {
                        let line = cells(number.clone(), line);
                        table.add_row(line.into_iter().chain([clean(name.unwrap_or_default())]));
                    }
                }
            }
            Self::Xlsx { book, path, sheet, next } => {
                for line in lines(&row, word(&row)) {
                    let line = cells(String::new(), line).into_iter();
                    let line = line.chain([clean(name.unwrap_or_default())]);
                    put(book, sheet, next, row.row, line)
                        .map_err(|error| unwritten(path, &error))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), CommandError> {
        match self {
            Self::Tsv(mut out) => Ok(out.flush()?),
            Self::Json { mut out, .. } => {
                writeln!(out, "\n]")?;
                Ok(out.flush()?)
            }
            Self::Table { table, rows, shown, failed } => {
                let mut told = format!("共 {rows} 行,有问题的 {shown} 行");
                if failed > 0 {
                    told += &format!(";另有 {failed} 个报文未能(完整)读取");
                }
                out::text(if shown + failed == 0 { told } else { format!("{table}\n{told}") })
            }
            Self::Xlsx { mut book, path, .. } => {
                book.save(&path).map_err(|error| unwritten(&path, &error))?;
                eprintln!("已写出 {}", path.display());
                Ok(())
            }
        }
    }
}

/// Column of the row's number among the cells.
const NUMBER: usize = 2;

/// Number and other cells of a line, put together.
fn cells(number: String, [document, verdict, tail @ ..]: [String; 6]) -> [String; 7] {
    let [cell, rule, message, fix] = tail;
    [document, verdict, number, cell, rule, message, fix]
}

fn code(row: &RowVerdictView) -> &'static str {
    match row.verdict {
        Verdict::Warn if row.outcome == RowOutcome::Held => "held",
        Verdict::Accept => "accept",
        Verdict::Warn => "warn",
        Verdict::Reject => "reject",
    }
}

fn add_sheet(book: &mut Workbook, index: usize) -> Result<(), XlsxError> {
    let sheet = book.add_worksheet_with_constant_memory()?;
    let more = if index == 0 { String::new() } else { (index + 1).to_string() };
    sheet.set_name(format!("{SHEET_NAME}{more}"))?;
    for (column, heading) in (0..).zip(HEADINGS) {
        sheet.write_string(0, column, heading)?;
    }
    Ok(())
}

fn put(
    book: &mut Workbook,
    sheet: &mut usize,
    next: &mut u32,
    number: u64,
    line: impl Iterator<Item = String>,
) -> Result<(), XlsxError> {
    if *next == SHEET {
        *sheet += 1;
        add_sheet(book, *sheet)?;
        *next = 1;
    }
    let to = book.worksheet_from_index(*sheet)?;
    for (column, text) in (0u16..).zip(line) {
        match u32::try_from(number) {
            Ok(number) if usize::from(column) == NUMBER => {
                if u64::from(number) != WHOLE {
                    to.write_number(*next, column, number)?;
                }
            }
            _ => drop(to.write_string(*next, column, text)?),
        }
    }
    *next += 1;
    Ok(())
}

fn unwritten(path: &Path, error: &XlsxError) -> CommandError {
    let why = match error {
        XlsxError::IoError(error) => io_words(error),
        other => other.to_string().into(),
    };
    CommandError::Failed(format!("写出 {} 失败:{why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xinqiao_core::model::{Dimension, Finding, Severity};

    fn row(findings: Vec<Finding>) -> RowVerdictView {
        RowVerdictView {
            row: 3,
            document: Some("甲\t〔2018〕\n1号".into()),
            verdict: Verdict::of(&findings),
            findings,
            outcome: RowOutcome::Rejected,
            delivery: Vec::new(),
            met: None,
        }
    }

    #[test]
    fn every_row_has_a_line_and_every_line_seven_cells() {
        let finding = Finding {
            rule: "uscc.check-digit".into(),
            severity: Severity::Error,
            dimension: Dimension::Accuracy,
            field: None,
            column: None,
            cell: Some("B3".into()),
            message: "校验位\r不对".into(),
            fix: "核对".into(),
        };
        let bad = row(vec![finding.clone(), finding]);
        let told = lines(&bad, code(&bad));
        assert_eq!(told.len(), 2);
        let join = |line: &[String; 6]| cells("3".to_owned(), line.clone()).join("\t");
        let line = join(&told[0]);
        assert_eq!(line, "甲 〔2018〕 1号\treject\t3\tB3\tuscc.check-digit\t校验位 不对\t核对");
        let good = row(Vec::new());
        let told = lines(&good, code(&good));
        assert_eq!(told.len(), 1);
        assert_eq!(join(&told[0]), "甲 〔2018〕 1号\taccept\t3\t\t\t\t");
        let held =
            RowVerdictView { verdict: Verdict::Warn, outcome: RowOutcome::Held, ..row(Vec::new()) };
        assert_eq!((code(&held), word(&held)), ("held", "暂存"));
    }
}
