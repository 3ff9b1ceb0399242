//! `report`: how the clocks were met in a period, what is missing, and zero reports (零报告).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches};
use time::Date;
use xinqiao_core::model::{AgencyId, DatasetId};
use xinqiao_core::period::{Every, Period};
use xinqiao_core::report::Basis;
use xinqiao_http::control::ZeroRequest;

use super::ask::Asking;
use super::global::date;
use super::queue::actor;
use super::{Command, CommandError, Global, found, out};
use crate::config;
use crate::report::columns::COLUMNS;
use crate::report::{self, Ask, DutyLine, Line, Report as Made, Standing, book};

/// Late records of a report on a terminal.
const LATE: usize = 20;

pub(super) struct Report;

impl Command for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn clap(&self) -> clap::Command {
        let agency = || id("agency", "委办局").value_parser(AgencyId::new);
        let dataset = || id("dataset", "数据集").value_parser(DatasetId::new);
        let file = |name: &'static str, help: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("文件")
                .value_parser(ValueParser::path_buf())
                .conflicts_with("json")
                .help(help)
        };
        clap::Command::new(self.name())
            .about("时效报表(双公示月报)、缺报周期与零报告")
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(
                span(clap::Command::new("timeliness"))
                    .about("各委办局、各数据集在一个时期内的报送、受理、按期与逾期")
                    .arg(agency().help("只报这个委办局"))
                    .arg(dataset().help("只报这个数据集"))
                    .arg(
                        Arg::new("by")
                            .long("by")
                            .value_name("日期")
                            .default_value("decided")
                            .value_parser(PossibleValuesParser::new(["decided", "received"]))
                            .help("记录按哪个日期归入时期:decided 决定日期(缺省)、received 首次收到日期"),
                    )
                    .arg(file("csv", "把全部指标写成 CSV 文件"))
                    .arg(file("xlsx", "写成 XLSX 工作簿:双公示月报、时效、逾期明细、报送周期、口径"))
                    .after_help("每个指标的口径见工作簿的“口径”表和 docs/formats/reports.zh.md。"),
            )
            .subcommand(
                span(clap::Command::new("missing"))
                    .about("列出缺报的周期:应报而既无数据、也无零报告;有缺报时退出码为 1")
                    .arg(agency().help("只列这个委办局"))
                    .arg(dataset().help("只列这个数据集")),
            )
            .subcommand(
                clap::Command::new("zero")
                    .about("代委办局申报零报告:本期没有产生数据。出现该期数据后自动作废")
                    .arg(agency().required(true).help("哪个委办局"))
                    .arg(dataset().required(true).help("哪个数据集,如 admin-penalty"))
                    .arg(month().required_unless_present("week"))
                    .arg(week())
                    .arg(
                        Arg::new("reason")
                            .long("reason")
                            .value_name("原因")
                            .required(true)
                            .help("为什么没有数据,或为什么收回,不超过200字"),
                    )
                    .arg(
                        Arg::new("withdraw")
                            .long("withdraw")
                            .action(ArgAction::SetTrue)
                            .help("收回先前的申报"),
                    ),
            )
            .subcommand(
                clap::Command::new("zeros")
                    .about("列出全部零报告及其申报、收回的经过")
                    .arg(agency().help("只列这个委办局")),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        match matches.subcommand() {
            Some(("timeliness", matches)) => timeliness(matches, global),
            Some(("missing", matches)) => missing(matches, global),
            Some(("zero", matches)) => zero(matches, global),
            Some((_, matches)) => zeros(matches, global),
            None => Err(CommandError::Broken("缺少命令".into())),
        }
    }
}

fn id(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

fn month() -> Arg {
    Arg::new("month")
        .long("month")
        .value_name("月")
        .value_parser(|text: &str| period(text, Every::Month))
        .conflicts_with("week")
        .help("一个月,如 2026-10")
}

fn week() -> Arg {
    Arg::new("week")
        .long("week")
        .value_name("周")
        .value_parser(|text: &str| period(text, Every::Week))
        .help("一周(周一至周日),如 2026-W41")
}

/// With the arguments that name a span of days.
fn span(command: clap::Command) -> clap::Command {
    let day = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("日期")
            .value_parser(date)
            .conflicts_with_all(["month", "week"])
            .help(help)
    };
    command
        .arg(month().required_unless_present_any(["week", "from"]))
        .arg(week())
        .arg(day("from", "一段时间的第一天,与 --to 同用").requires("to"))
        .arg(day("to", "一段时间的最后一天(含)").requires("from"))
}

fn period(text: &str, every: Every) -> Result<Period, String> {
    let form = match every {
        Every::Month => "应写成 2026-10 的样子",
        Every::Week => "应写成 2026-W41 的样子,并且那一年有这一周",
    };
    text.parse().ok().filter(|period: &Period| period.every() == every).ok_or_else(|| form.into())
}

fn asked_period(matches: &ArgMatches) -> Option<Period> {
    let named = |name| matches.get_one::<Period>(name).copied();
    named("month").or_else(|| named("week"))
}

fn made(matches: &ArgMatches, global: &Global, basis: Basis) -> Result<Made, CommandError> {
    let day = |name| matches.get_one::<Date>(name).copied();
    let (span, title) = match (asked_period(matches), day("from").zip(day("to"))) {
        (Some(period), _) => ((period.first(), period.last()), period.shown()),
        (None, Some((from, to))) if from <= to => ((from, to), format!("{from}至{to}")),
        (None, _) => return Err(CommandError::Broken("--to 不能早于 --from".into())),
    };
    let ask = Ask {
        span,
        title,
        basis,
        agency: matches.get_one("agency").cloned(),
        dataset: matches.get_one("dataset").cloned(),
    };
    let (_, catalogue, calendar) = global.base()?;
    let duties = config::duties(&global.config, &catalogue)
        .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))?;
    let asking = Asking::open(global)?;
    asking.wait(report::make(&asking.client, &ask, &duties, &catalogue, &calendar))
}

fn timeliness(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let basis = match matches.get_one::<String>("by").map(String::as_str) {
        Some("received") => Basis::Received,
        _ => Basis::Decided,
    };
    let files = ["csv", "xlsx"].map(|name| matches.get_one::<PathBuf>(name));
    let report = made(matches, global, basis)?;
    if global.json {
        out::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let [csv, xlsx] = files;
    if let Some(path) = csv {
        write(path, comma_separated(&report).as_bytes())?;
    }
    if let Some(path) = xlsx {
        let book = book::book(&report)
            .map_err(|error| CommandError::Failed(format!("编制工作簿失败:{error}")))?;
        write(path, &book)?;
    }
    if csv.is_none() && xlsx.is_none() {
        out::text(told(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a new file, and says so.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    let written = |error| out::unwritten(path, &error);
    let mut file = out::create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(written)?;
    eprintln!("已写入 {}", path.display());
    Ok(())
}

/// The report as people read it on a terminal.
fn told(report: &Made) -> String {
    let brief = || COLUMNS.iter().filter(|column| column.brief);
    let headings = ["委办局", "数据集"].into_iter().chain(brief().map(|column| column.heading));
    let mut table = out::table(headings.collect::<Vec<_>>(), 2);
    for line in report.lines.iter().chain([&report.total]) {
        let figures = brief().map(|column| (column.cell)(line).to_string());
        let names = [line.agency_name.clone(), line.dataset_title.clone()];
        table.add_row(names.into_iter().chain(figures));
    }
    let now = out::minute(Some(report.now));
    let mut text = format!(
        "双公示时效 {},截至 {now};记录按{}归入本期\n{table}",
        report.title,
        book::basis(report.basis)
    );
    if !report.late.is_empty() {
        let headings =
            ["委办局", "数据集", "文书号", "决定日期", "法定时限", "首次受理", "责任", "逾期天数"];
        let mut late = out::table(headings, 7);
        for line in report.late.iter().take(LATE) {
            let record = &line.record;
            late.add_row([
                line.agency_name.clone(),
                line.dataset_title.clone(),
                record.document.clone().unwrap_or_else(|| "—".to_owned()),
                record.deadlines.decided.to_string(),
                record.deadlines.statutory.to_string(),
                out::minute(record.accepted),
                report::owner_name(record.owner).to_owned(),
                line.days_late.to_string(),
            ]);
        }
        text += &format!("\n法定逾期 {} 条\n{late}", report.late_total);
        if report.late_total > LATE as u64 {
            text += &format!("\n只列出前 {LATE} 条,其余见 --xlsx");
        }
    }
    let silent: Vec<_> =
        report.periods.iter().filter(|p| p.standing == Standing::Missing).collect();
    if !silent.is_empty() {
        text += &format!("\n缺报 {} 期\n{}", silent.len(), periods(silent));
    }
    if report.moved {
        text += "\n编制期间有数据变化,各项之间可能相差变化的部分";
    }
    if report.damaged > 0 {
        text += &format!("\n有 {} 处内容打不开,未计入任何一项:请运行 xinqiao fsck", report.damaged);
    }
    text
}

fn periods<'l>(lines: impl IntoIterator<Item = &'l DutyLine>) -> comfy_table::Table {
    let headings = ["委办局", "数据集", "周期", "第一天", "最后一天", "报送截止", "零报告"];
    let mut table = out::table(headings, 7);
    for line in lines {
        let zero = match &line.declared {
            Some((period, _)) if line.contradicted => format!("{period} 已作废"),
            Some((period, _)) => period.to_string(),
            None => "—".to_owned(),
        };
        table.add_row([
            line.agency_name.clone(),
            line.dataset_title.clone(),
            line.period.to_string(),
            line.first.to_string(),
            line.last.to_string(),
            line.due.to_string(),
            zero,
        ]);
    }
    table
}

/// All figures, as Excel opens them by itself. There is nothing of an agency's writing in it.
fn comma_separated(report: &Made) -> String {
    // Without it Excel takes the text for GBK.
    let mut text = "\u{feff}".to_owned();
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        let quoted: Vec<_> =
            cells.map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
        text += &quoted.join(",");
        text += "\r\n";
    };
    let fixed = ["时期", "截至", "委办局", "数据集"].map(str::to_owned);
    let headings = COLUMNS.iter().map(|column| column.heading.to_owned());
    line(&mut fixed.into_iter().chain(headings));
    let row = |of: &Line| {
        let now = out::minute(Some(report.now));
        let names = [report.title.clone(), now, of.agency_name.clone(), of.dataset_title.clone()];
        let figures: Vec<_> = COLUMNS.iter().map(|column| (column.cell)(of).to_string()).collect();
        names.into_iter().chain(figures)
    };
    for of in report.lines.iter().chain([&report.total]) {
        line(&mut row(of));
    }
    text
}

fn missing(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let report = made(matches, global, Basis::Decided)?;
    let missing = |line: &&DutyLine| line.standing == Standing::Missing;
    let lines: Vec<_> = report.periods.iter().filter(missing).collect();
    let waiting = report.periods.iter().filter(|line| line.standing == Standing::Waiting).count();
    let some = !lines.is_empty();
    if global.json {
        out::json(&lines)?;
    } else if report.periods.iter().all(|line| !line.expected) {
        out::text("这段时间内没有应报的周期:报送责任在 feeds.yaml 的 agencies 下以 duties 写明")?;
    } else if some {
        let count = lines.len();
        out::text(format!("{}\n缺报 {count} 期,另有 {waiting} 期待报", periods(lines)))?;
    } else {
        out::text(format!("没有缺报的周期,有 {waiting} 期待报"))?;
    }
    Ok(found(some))
}

fn zero(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let (Some(agency), Some(dataset), Some(period)) = (
        matches.get_one::<AgencyId>("agency").cloned(),
        matches.get_one::<DatasetId>("dataset").cloned(),
        asked_period(matches),
    ) else {
        return Err(CommandError::Broken("缺少 --month 或 --week".into()));
    };
    let request = ZeroRequest {
        agency,
        dataset,
        period,
        declared: !matches.get_flag("withdraw"),
        actor: actor(),
        reason: matches.get_one::<String>("reason").cloned().unwrap_or_default(),
    };
    let asking = Asking::open(global)?;
    let told = asking.wait(asking.client.tell_zero(&request))?;
    if global.json {
        out::json(&told)?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = period.shown();
    out::text(match (request.declared, told.changed) {
        (true, true) => format!("已记下:{shown}零报告;出现该期数据后自动作废"),
        (true, false) => format!("{shown}此前已申报零报告,没有变化"),
        (false, true) => format!("已收回{shown}的零报告"),
        (false, false) => format!("{shown}的零报告此前已收回,没有变化"),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn zeros(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let asking = Asking::open(global)?;
    let mut reports = asking.wait(asking.client.zero_reports())?;
    if let Some(only) = matches.get_one::<AgencyId>("agency") {
        reports.retain(|report| report.agency == *only);
    }
    if global.json {
        out::json(&reports)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        out::table(["委办局", "数据集", "周期", "时间", "申报或收回", "由谁", "原因"], 7);
    for report in reports {
        for event in report.events {
            table.add_row([
                report.agency.to_string(),
                report.dataset.to_string(),
                report.period.to_string(),
                out::minute(Some(event.at)),
                if event.declared { "申报" } else { "收回" }.to_owned(),
                event.by,
                event.reason,
            ]);
        }
    }
    out::text(table)?;
    Ok(ExitCode::SUCCESS)
}
