//! `run --dry-run`: what the gateway would say of a file, without keeping anything.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use time::Date;
use xinqiao_core::fault::{Classify as _, chain};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::{Finding, Severity, Verdict};
use xinqiao_core::spi::DecodeError;

use super::global::{number, open_file, today, today_arg};
use super::{Command, CommandError, Global, found, out};
use crate::pipeline::{CheckedRow, Job, Notes, process};

pub(super) struct Run;

impl Command for Run {
    fn name(&self) -> &'static str {
        "run"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("试跑一个文件:解码、映射、校验,不保存、不投递")
            .arg(
                Arg::new("file")
                    .value_name("文件")
                    .required(true)
                    .value_parser(clap::builder::ValueParser::path_buf())
                    .help("委办局报送的文件"),
            )
            .arg(
                Arg::new("mapping")
                    .long("mapping")
                    .value_name("映射规则")
                    .required(true)
                    .help("映射规则的标识,或映射文件的路径"),
            )
            .arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .required(true)
                    .help("试跑。正式处理由 serve 按接入任务进行,因此必须写明"),
            )
            .arg(
                Arg::new("limit")
                    .long("limit")
                    .value_name("行数")
                    .value_parser(number)
                    .help("只跑前若干行"),
            )
            .arg(today_arg())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let domain = global.domain()?;
        let named = matches.get_one::<String>("mapping").map_or("", String::as_str);
        let mapping = global.mapping(&domain, named)?;
        let path = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
        let mut file = open_file(&path)?;
        let today = today(matches);
        let job = Job::dry(&mapping, &domain, today);
        let limit = matches.get_one::<u64>("limit").copied().unwrap_or(u64::MAX);

        let mut stdout = out::stdout();
        let mut report: Box<dyn Report> = if global.json {
            let head = Head {
                file: mask(&path.to_string_lossy(), today).into_owned(),
                mapping: mapping.id.to_string(),
                target: mapping.target.reference(),
            };
            Box::new(Json::begin(&mut stdout, &head)?)
        } else {
            Box::new(Text::begin(&mut stdout))
        };
        let mut summary = Summary::default();
        let mut unread = None;
        let outcome = process(&job, &mut file, &mut |row| {
            if summary.rows() >= limit {
                return ControlFlow::Break(());
            }
            summary.count(&row);
            match report.row(&row) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    unread = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(error) = unread {
            return Err(error.into());
        }
        let (notes, error) = ended(outcome, today);
        let failed = error.is_some();
        report.end(&summary, &notes, error.as_ref())?;
        drop(report);
        stdout.flush()?;
        // A file without a row to judge is no file to report.
        let empty = summary.rows() == 0 && limit > 0;
        Ok(found(failed || empty || summary.reject > 0))
    }
}

/// What is said of the message as a whole: notes, and why it could not be (fully) taken.
fn ended(outcome: Result<Notes, DecodeError>, today: Date) -> (Vec<String>, Option<Failure>) {
    match outcome {
        Ok(notes) => {
            let error = notes.refused.map(|(code, message)| Failure { code, message });
            (notes.warnings, error)
        }
        Err(error) => {
            let message = mask(&chain(&error), today).into_owned();
            let failure = Failure { code: error.code().to_owned(), message };
            (Vec::new(), Some(failure))
        }
    }
}

#[derive(Serialize)]
struct Head {
    file: String,
    mapping: String,
    target: String,
}

#[derive(Serialize)]
struct Failure {
    code: String,
    message: String,
}

#[derive(Default, Serialize)]
struct Summary {
    accept: u64,
    warn: u64,
    /// Would wait for the mapping table of legacy codes, which is not asked here.
    held: u64,
    reject: u64,
    /// Findings by rule.
    #[serde(skip)]
    rules: BTreeMap<String, (Severity, u64)>,
}

impl Summary {
    fn rows(&self) -> u64 {
        self.accept + self.warn + self.held + self.reject
    }

    fn count(&mut self, row: &CheckedRow) {
        match row.verdict {
            Verdict::Accept => self.accept += 1,
            Verdict::Warn if row.is_held() => self.held += 1,
            Verdict::Warn => self.warn += 1,
            Verdict::Reject => self.reject += 1,
        }
        for finding in &row.findings {
            let known = self.rules.entry(finding.rule.to_string());
            known.or_insert((finding.severity, 0)).1 += 1;
        }
    }
}

/// Where rows are told as they come, so that a file of any length needs no memory.
trait Report {
    fn row(&mut self, row: &CheckedRow) -> std::io::Result<()>;
    fn end(
        &mut self,
        summary: &Summary,
        notes: &[String],
        error: Option<&Failure>,
    ) -> Result<(), CommandError>;
}

/// One JSON object, its rows one a line.
struct Json<'w> {
    out: &'w mut dyn Write,
    first: bool,
}

#[derive(Serialize)]
struct RowJson<'a> {
    row: u64,
    sheet: Option<&'a str>,
    document: Option<&'a str>,
    key: Option<&'a str>,
    verdict: Verdict,
    findings: &'a [Finding],
}

impl<'w> Json<'w> {
    fn begin(out: &'w mut dyn Write, head: &Head) -> Result<Self, CommandError> {
        let head = serde_json::to_string(head)?;
        write!(out, "{},\"rows\":[", head.trim_end_matches('}'))?;
        Ok(Self { out, first: true })
    }
}

impl Report for Json<'_> {
    fn row(&mut self, row: &CheckedRow) -> std::io::Result<()> {
        self.out.write_all(if std::mem::take(&mut self.first) { b"\n" } else { b",\n" })?;
        let row = RowJson {
            row: row.place.row,
            sheet: row.place.sheet.as_deref(),
            document: row.document.as_deref(),
            key: row.key.as_deref(),
            verdict: row.verdict,
            findings: &row.findings,
        };
        Ok(serde_json::to_writer(&mut self.out, &row)?)
    }

    fn end(
        &mut self,
        summary: &Summary,
        notes: &[String],
        error: Option<&Failure>,
    ) -> Result<(), CommandError> {
        let summary = serde_json::to_string(summary)?;
        let notes = serde_json::to_string(notes)?;
        let error = serde_json::to_string(&error)?;
        writeln!(self.out, "\n],\"summary\":{summary},\"notes\":{notes},\"error\":{error}}}")?;
        Ok(())
    }
}

/// Lines for a person.
struct Text<'w> {
    out: &'w mut dyn Write,
    bar: ProgressBar,
}

impl<'w> Text<'w> {
    fn begin(out: &'w mut dyn Write) -> Self {
        // Draws on a terminal's stderr only.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} 已检查 {pos} 行 {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { out, bar }
    }
}

impl Report for Text<'_> {
    fn row(&mut self, row: &CheckedRow) -> std::io::Result<()> {
        self.bar.inc(1);
        if row.findings.is_empty() {
            return Ok(());
        }
        let verdict = match row.verdict {
            Verdict::Accept => "通过",
            Verdict::Warn if row.is_held() => "暂存",
            Verdict::Warn => "提示",
            Verdict::Reject => "退回",
        };
        let document = row.document.as_deref().unwrap_or("(无文书号)");
        writeln!(self.out, "第{}行 {verdict} {document}", row.place.row)?;
        for finding in &row.findings {
            let mark = match finding.severity {
                Severity::Error => "✗",
                Severity::Warning => "!",
            };
            let cell = finding.cell.as_deref().map(|cell| format!("[{cell}] ")).unwrap_or_default();
            writeln!(self.out, "  {mark} {cell}{}({})", finding.message, finding.rule)?;
            if !finding.fix.is_empty() {
                writeln!(self.out, "    改法:{}", finding.fix)?;
            }
        }
        Ok(())
    }

    fn end(
        &mut self,
        summary: &Summary,
        notes: &[String],
        error: Option<&Failure>,
    ) -> Result<(), CommandError> {
        self.bar.finish_and_clear();
        for note in notes {
            writeln!(self.out, "说明:{note}")?;
        }
        if !summary.rules.is_empty() {
            let mut table = out::table(["规则", "程度", "次数"], 2);
            for (rule, (severity, count)) in &summary.rules {
                let severity = match severity {
                    Severity::Error => "退回",
                    Severity::Warning => "提示",
                };
                table.add_row([rule.as_str(), severity, &count.to_string()]);
            }
            writeln!(self.out, "{table}")?;
        }
        writeln!(
            self.out,
            "共{}行:通过{},提示{},暂存{},退回{}",
            summary.rows(),
            summary.accept,
            summary.warn,
            summary.held,
            summary.reject
        )?;
        if let Some(error) = error {
            writeln!(
                self.out,
                "报文未能{}读取[{}]:{}",
                if summary.rows() > 0 { "全部" } else { "" },
                error.code,
                error.message
            )?;
        }
        Ok(())
    }
}
