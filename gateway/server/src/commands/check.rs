//! `check`: everything wrong in mappings, catalogue, calendar and configuration, and what the
//! mappings' own tests say. Connects to nothing.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};
use serde::Serialize;
use serde_json::json;
use time::Date;
use xinqiao_core::calendar::Calendar;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::diagnostic::{Bundle, Diagnostic, Diagnostics, Level};
use xinqiao_core::mapping;
use xinqiao_core::model::MappingId;

use super::global::{add_file, today, today_arg};
use super::{Command, CommandError, Global, found, out};
use crate::config;
use crate::domain::{Domain, duplicate_id};

pub(super) struct Check;

impl Command for Check {
    fn name(&self) -> &'static str {
        "check"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("检查映射规则、目录、日历与配置,运行映射规则自带的测试;不连接任何系统")
            .arg(
                Arg::new("files")
                    .value_name("文件")
                    .num_args(0..)
                    .value_parser(ValueParser::path_buf())
                    .help("映射规则文件;不写则检查整个映射目录和配置"),
            )
            .arg(today_arg())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let files: Vec<PathBuf> =
            matches.get_many("files").map(|files| files.cloned().collect()).unwrap_or_default();
        if files.is_empty() {
            let mut all = All::read(global.bundle()?, today(matches));
            let config = all.config(global)?;
            all.tell(global, config)
        } else {
            mappings(&files, today(matches), global)
        }
    }
}

/// Checks the given mapping files only.
pub(super) fn mappings(
    files: &[PathBuf],
    today: Date,
    global: &Global,
) -> Result<ExitCode, CommandError> {
    let (mut bundle, catalogue, _) = global.base()?;
    let names: Vec<String> =
        files.iter().map(|file| add_file(&mut bundle, file)).collect::<Result<_, _>>()?;
    let mut all = All { bundle, found: Diagnostics::default(), reports: Vec::new() };
    for name in names {
        all.mapping(&name, &catalogue, today);
    }
    all.tell(global, None)
}

/// What was found so far.
struct All {
    bundle: Bundle,
    found: Diagnostics,
    reports: Vec<Report>,
}

/// One mapping that can be used.
#[derive(Serialize)]
struct Report {
    file: String,
    mapping: MappingId,
    target: String,
    tests: usize,
    failed: Vec<Failed>,
    fields: Covered,
    branches: Covered,
    uncovered: Vec<String>,
}

#[derive(Serialize)]
struct Failed {
    name: String,
    line: u32,
    failures: Vec<String>,
}

#[derive(Serialize)]
struct Covered {
    covered: usize,
    of: usize,
}

impl From<(usize, usize)> for Covered {
    fn from((covered, of): (usize, usize)) -> Self {
        Self { covered, of }
    }
}

impl All {
    fn read(bundle: Bundle, today: Date) -> Self {
        let mut all = Self { bundle, found: Diagnostics::default(), reports: Vec::new() };
        if let Err(errors) = Calendar::load(&all.bundle) {
            all.found.0.extend(errors.0);
        }
        match Catalogue::load(&all.bundle) {
            Ok(catalogue) => {
                let names: Vec<String> = all
                    .bundle
                    .under("agencies/")
                    .filter(|(path, _)| path.ends_with(".yaml"))
                    .map(|(path, _)| path.to_owned())
                    .collect();
                for name in names {
                    all.mapping(&name, &catalogue, today);
                }
            }
            Err(errors) => all.found.0.extend(errors.0),
        }
        all
    }

    fn mapping(&mut self, name: &str, catalogue: &Catalogue, today: Date) {
        let text = self.bundle.get(name).unwrap_or_default();
        let (mapping, warnings) = match mapping::Mapping::parse(name, text, catalogue, &self.bundle)
        {
            Ok(read) => read,
            Err(errors) => return self.found.0.extend(errors.0),
        };
        self.found.0.extend(warnings.0);
        if let Some(other) = self.reports.iter().find(|report| report.mapping == mapping.id) {
            self.found.0.push(duplicate_id(&mapping.id, name, &other.file));
        }
        let report = mapping.run_tests(catalogue, today);
        let tests = report.outcomes.len();
        let failed = report.outcomes.into_iter().filter(|outcome| !outcome.failures.is_empty());
        self.reports.push(Report {
            file: name.to_owned(),
            target: mapping.target.reference(),
            mapping: mapping.id,
            tests,
            failed: failed
                .map(|outcome| Failed {
                    name: outcome.name,
                    line: outcome.line,
                    failures: outcome.failures,
                })
                .collect(),
            fields: report.fields_covered.into(),
            branches: report.branches_covered.into(),
            uncovered: report.uncovered,
        });
    }

    /// Checks the configuration if there is one; whether it is fine. It names mappings, so theirs
    /// must be free of errors.
    fn config(&mut self, global: &Global) -> Result<Option<bool>, CommandError> {
        let path = global.config.join("gateway.yaml");
        let there = path.try_exists().map_err(|error| super::global::unreadable(&path, &error))?;
        if !there || self.found.has_errors() {
            return Ok(None);
        }
        let domain = Domain::load(self.bundle.clone())
            .map_err(|error| CommandError::invalid("mappings.invalid", error.to_string()))?;
        let (files, found) = match config::load(&global.config, &domain) {
            Ok(config) => (config.files, config.warnings),
            Err(error) => (error.files, error.found),
        };
        let sound = !found.has_errors();
        self.bundle.0.extend(files.0);
        self.found.0.extend(found.0);
        Ok(Some(sound))
    }

    fn tell(self, global: &Global, config: Option<bool>) -> Result<ExitCode, CommandError> {
        let failed = self.reports.iter().any(|report| !report.failed.is_empty());
        let bad = failed || self.found.has_errors();
        if global.json {
            let diagnostics: Vec<_> = self.found.0.iter().map(plain).collect();
            out::json(&json!({
                "ok": !bad,
                "mappings": self.reports,
                "config": config,
                "diagnostics": diagnostics,
            }))?;
            return Ok(found(bad));
        }
        let mut out = out::stdout();
        for report in &self.reports {
            report.write(&mut out)?;
        }
        if config == Some(true) {
            writeln!(out, "配置 {}:正确", global.config.display())?;
        }
        if !bad {
            writeln!(out, "检查通过")?;
        }
        out.flush()?;
        if !self.found.0.is_empty() {
            eprint!("{}", self.found.render(&self.bundle, out::colour()));
        }
        Ok(found(bad))
    }
}

impl Report {
    fn write(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        let Self { file, mapping, target, tests, failed, fields, branches, uncovered } = self;
        writeln!(out, "{file}:{mapping} → {target}")?;
        match (tests, failed.len()) {
            // What nothing covers needs no list.
            (0, _) => {
                return writeln!(out, "  没有测试:请在 tests 里写上几行样本和应得的结果");
            }
            (_, 0) => writeln!(out, "  测试 {tests} 项,全部通过")?,
            (_, bad) => writeln!(out, "  测试 {tests} 项,{bad} 项未通过")?,
        }
        for test in failed {
            writeln!(out, "  × 第{}行 {}", test.line, test.name)?;
            for failure in &test.failures {
                writeln!(out, "      {failure}")?;
            }
        }
        writeln!(
            out,
            "  覆盖 字段 {}/{},分支 {}/{}",
            fields.covered, fields.of, branches.covered, branches.of
        )?;
        for branch in uncovered {
            writeln!(out, "    未覆盖 {branch}")?;
        }
        Ok(())
    }
}

fn plain(d: &Diagnostic) -> serde_json::Value {
    json!({
        "code": d.code,
        "level": match d.level { Level::Error => "error", Level::Warning => "warning" },
        "file": d.file,
        "line": d.line,
        "column": d.column,
        "message": d.message,
        "help": d.help,
    })
}
