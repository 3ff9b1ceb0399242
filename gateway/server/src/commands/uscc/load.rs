//! `uscc load`: a file of lines into the mapping table. The whole file is judged first, by the same
//! stages and rules as a feed's; one bad line and nothing of it is loaded.

use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;
use time::Date;
use xinqiao_adapters::formats::sniff;
use xinqiao_core::fault::{Classify as _, chain, io_words};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::{Finding, FormatKind, Operation, Severity, Verdict};
use xinqiao_core::spi::Limits;
use xinqiao_store::{Legacy, Loaded, TableLine};

use super::super::ask::Asking;
use super::super::global::{open_file, today, today_arg};
use super::super::{CommandError, Global, found, out};
use crate::domain::Domain;
use crate::pipeline::{CheckedRow, Job, process};

/// Lines sent at once.
const CHUNK: usize = 2_000;
/// Bad lines told; the rest is counted.
const TOLD: usize = 1_000;

/// The file's columns; `FORMAT` is what the file turns out to be.
const MAPPING: &str = "mapping: 1
id: uscc-load
title: 对照表文件
target: uscc-map/1
source: { format: FORMAT, on-unknown-column: warn }
fields:
  LX:    { from: [类型, 旧代码类型, 旧码类型, 代码类型], required: true }
  JDM:   { from: [旧码, 旧代码, 原代码, 旧号码], required: true }
  TYDM:  { from: [统一社会信用代码, 社会信用代码, 信用代码], required: true }
  SXRQ:  { from: [生效日期, 生效日] }
  SXRQ2: { from: [失效日期, 失效日] }
  LY:    { from: [来源, 数据来源] }
";

pub(super) fn clap() -> clap::Command {
    clap::Command::new("load")
        .about("把对照文件装入对照表;有一行不对就都不装,并一次说清所有不对的行")
        .arg(
            Arg::new("file")
                .value_name("文件")
                .required(true)
                .value_parser(ValueParser::path_buf())
                .help("CSV、TSV 或工作簿,表头为 类型、旧码、统一社会信用代码、生效日期、失效日期、来源"),
        )
        .arg(
            Arg::new("withdraw")
                .long("withdraw")
                .action(ArgAction::SetTrue)
                .help("不是装入,而是把文件中的条目从对照表撤下"),
        )
        .arg(today_arg())
}

pub(super) fn run(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let path: PathBuf = matches.get_one("file").cloned().unwrap_or_default();
    let withdraw = matches.get_flag("withdraw");
    let domain = global.domain()?;
    let mut file = open_file(&path)?;
    let mapping = mapping(&path, &mut file, &domain)?;
    let today = today(matches);
    let mut table = Table { path: &path, file, mapping: &mapping, domain: &domain, today };

    let mut report = Report::default();
    report.notes = table.read(&mut |row| {
        report.rows += 1;
        if row.verdict == Verdict::Reject {
            report.bad += 1;
            if report.lines.len() < TOLD {
                let at = row.place.row;
                report.lines.push(BadLine { row: at, findings: row.findings });
            }
        }
        ControlFlow::Continue(())
    })?;
    if report.rows > 0 && report.bad == 0 {
        report.loaded = Some(load(&mut table, withdraw, global)?);
    }
    report.tell(global.json, withdraw)?;
    Ok(found(report.loaded.is_none()))
}

/// The mapping for the format the file is of, found by looking at it.
fn mapping(path: &Path, file: &mut File, domain: &Domain) -> Result<Mapping, CommandError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let seen = sniff(name.as_deref(), file, &Limits::default())
        .map_err(|error| unread(path, error.code(), &chain(&error)))?;
    let format = match seen.kind {
        FormatKind::Csv => "csv",
        FormatKind::Tsv => "tsv",
        FormatKind::Workbook => "workbook",
        _ => return Err(unread(path, "uscc.format", "对照文件应为 CSV、TSV 或工作簿")),
    };
    let text = MAPPING.replace("FORMAT", format);
    let parsed = Mapping::parse("uscc-load", &text, &domain.catalogue, &domain.bundle);
    // The catalogue in force may be an operator's own.
    parsed.map(|(mapping, _)| mapping).map_err(|found| {
        CommandError::invalid("mapping.invalid", found.render(&domain.bundle, false))
    })
}

fn unread(path: &Path, code: &str, why: &str) -> CommandError {
    let message = format!("对照文件 {} 不能读取:{why}", path.display());
    CommandError::Coded { code: code.to_owned(), message, broken: true }
}

/// A file of lines, to be read more than once.
struct Table<'a> {
    path: &'a Path,
    file: File,
    mapping: &'a Mapping,
    domain: &'a Domain,
    today: Date,
}

impl Table<'_> {
    /// Every row from the beginning; what is to be said of the file as a whole.
    fn read(
        &mut self,
        each: &mut dyn FnMut(CheckedRow) -> ControlFlow<()>,
    ) -> Result<Vec<String>, CommandError> {
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(|error| unread(self.path, "command.broken", &io_words(&error)))?;
        let job = Job::dry(self.mapping, self.domain, self.today);
        let notes = process(&job, &mut self.file, each).map_err(|error| {
            let why = mask(&chain(&error), self.today).into_owned();
            unread(self.path, error.code(), &why)
        })?;
        match notes.refused {
            Some((code, why)) => Err(unread(self.path, &code, &why)),
            None => Ok(notes.warnings),
        }
    }
}

fn load(table: &mut Table<'_>, withdraw: bool, global: &Global) -> Result<Loaded, CommandError> {
    let asking = Asking::open(global)?;
    let mut sum = Loaded::default();
    let mut chunk: Vec<TableLine> = Vec::with_capacity(CHUNK);
    let mut failed = None;
    let mut send = |chunk: &mut Vec<TableLine>| -> Result<(), CommandError> {
        let loaded = asking.wait(asking.client.uscc_load(chunk))?;
        chunk.clear();
        sum.added += loaded.added;
        sum.known += loaded.known;
        sum.withdrawn += loaded.withdrawn;
        sum.ambiguous += loaded.ambiguous;
        Ok(())
    };
    table.read(&mut |row| {
        let Legacy::Line(mut line) = row.legacy else {
            let changed = "装入时文件被改动,未装完;请再装一次(已装入的不会重复)".to_owned();
            failed = Some(CommandError::Failed(changed));
            return ControlFlow::Break(());
        };
        if withdraw {
            line.operation = Operation::Withdraw;
        }
        chunk.push(line);
        if chunk.len() >= CHUNK
            && let Err(error) = send(&mut chunk)
        {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None if chunk.is_empty() => Ok(sum),
        None => {
            send(&mut chunk)?;
            Ok(sum)
        }
    }
}

#[derive(Default, Serialize)]
struct Report {
    rows: u64,
    bad: u64,
    /// Of the bad ones, as many as are told.
    lines: Vec<BadLine>,
    notes: Vec<String>,
    /// `null`: nothing was loaded.
    loaded: Option<Loaded>,
}

#[derive(Serialize)]
struct BadLine {
    row: u64,
    findings: Vec<Finding>,
}

impl Report {
    fn tell(&self, json: bool, withdraw: bool) -> Result<(), CommandError> {
        if json {
            return out::json(self);
        }
        for note in &self.notes {
            eprintln!("说明:{note}");
        }
        let mut text = Vec::new();
        for line in &self.lines {
            for finding in line.findings.iter().filter(|f| f.severity == Severity::Error) {
                let cell = finding.cell.as_deref().map(|cell| format!("[{cell}] "));
                text.push(format!(
                    "第{}行 {}{}({})\n    改法:{}",
                    line.row,
                    cell.unwrap_or_default(),
                    finding.message,
                    finding.rule,
                    finding.fix
                ));
            }
        }
        let more = self.bad - u64::try_from(self.lines.len()).unwrap_or(self.bad);
        if more > 0 {
            text.push(format!("另有 {more} 行不对,未一一列出"));
        }
        text.push(match &self.loaded {
            None => format!("共 {} 行,不对的 {} 行;没有装入任何条目", self.rows, self.bad),
            Some(done) if withdraw => {
                format!("共 {} 行:撤下 {},表中没有 {}", self.rows, done.withdrawn, done.known)
            }
            Some(done) => {
                let clash = match done.ambiguous {
                    0 => String::new(),
                    n => format!(
                        ";其中 {n} 条与其他条目矛盾,在重叠的日期内不作对照(xinqiao uscc show)"
                    ),
                };
                format!("共 {} 行:新装入 {},已有 {}{clash}", self.rows, done.added, done.known)
            }
        });
        out::text(text.join("\n"))
    }
}
