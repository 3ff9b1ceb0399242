//! `uscc`: the mapping table from legacy codes to the 统一社会信用代码, and the rows that wait for it.

mod load;

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use time::Date;
use xinqiao_core::ident::LegacyKind;
use xinqiao_core::model::FeedId;
use xinqiao_store::UsccView;

use super::ask::Asking;
use super::global::{date, limit};
use super::{Command, CommandError, Global, found, out};

pub(super) struct Uscc;

impl Command for Uscc {
    fn name(&self) -> &'static str {
        "uscc"
    }

    fn clap(&self) -> clap::Command {
        let kind = Arg::new("kind")
            .value_name("类型")
            .required(true)
            .value_parser(PossibleValuesParser::new(LegacyKind::ALL.map(LegacyKind::name)))
            .help("旧码的类型");
        let code = Arg::new("code").value_name("旧码").required(true).help("旧码,带不带连字符都可");
        let feed = Arg::new("feed")
            .long("feed")
            .value_name("接入任务")
            .value_parser(FeedId::new)
            .help("只续办这个接入任务的");
        clap::Command::new(self.name())
            .about("旧代码与统一社会信用代码的对照表,以及等待对照的暂存行")
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(load::clap())
            .subcommand(
                clap::Command::new("ls").about("列出对照表的条目").arg(
                    Arg::new("limit")
                        .long("limit")
                        .value_name("条数")
                        .default_value("100")
                        .value_parser(limit)
                        .help("至多列多少条,缺省 100"),
                ),
            )
            .subcommand(
                clap::Command::new("show")
                    .about("查看一个旧码的全部条目;有相互矛盾的,退出码为 1")
                    .arg(kind)
                    .arg(code)
                    .arg(
                        Arg::new("on")
                            .long("on")
                            .value_name("日期")
                            .value_parser(date)
                            .help("只看这一天有效的"),
                    ),
            )
            .subcommand(
                clap::Command::new("held")
                    .about("暂存行的条数,按接入任务和原因")
                    .arg(
                        Arg::new("rerun")
                            .long("rerun")
                            .action(ArgAction::SetTrue)
                            .help("让暂存行立即重新对照一遍(对照表有变化时会自动续办)"),
                    )
                    .arg(feed.requires("rerun")),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        match matches.subcommand() {
            Some(("load", matches)) => load::run(matches, global),
            Some(("show", matches)) => show(matches, global),
            Some(("held", matches)) => held(matches, global),
            Some((_, matches)) => ls(matches, global),
            None => Err(CommandError::Broken("缺少命令".into())),
        }
    }
}

fn ls(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let limit = matches.get_one("limit").copied().unwrap_or(100);
    let asking = Asking::open(global)?;
    let page = asking.wait(asking.client.uscc_lines(None, limit))?;
    if global.json {
        out::json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let total = page.total;
    out::text(format!("{}\n共 {total} 条", table(page.lines)))?;
    if page.next.is_some() {
        eprintln!("只列出其中 {limit} 条,可用 --limit 增加");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let text = |name| matches.get_one::<String>(name).map_or("", String::as_str);
    let on = matches.get_one::<Date>("on").copied();
    let kind = LegacyKind::named(text("kind"))
        .ok_or_else(|| CommandError::Broken("没有这种旧码".into()))?;
    let asking = Asking::open(global)?;
    let mut lines = asking.wait(asking.client.uscc_of(kind, text("code")))?;
    let holds = |line: &UsccView, day: Date| {
        line.from.is_none_or(|from| from <= day) && line.to.is_none_or(|to| day <= to)
    };
    lines.retain(|line| on.is_none_or(|day| holds(line, day)));
    let apart = |a: &UsccView, b: &UsccView| a.to.zip(b.from).is_some_and(|(to, from)| to < from);
    let ambiguous = lines.iter().enumerate().any(|(at, one)| {
        let mut after = lines.iter().skip(at + 1);
        after.any(|other| one.uscc != other.uscc && !apart(one, other) && !apart(other, one))
    });
    if global.json {
        out::json(&json!({ "lines": lines, "ambiguous": ambiguous }))?;
    } else if lines.is_empty() {
        out::text("对照表中没有这个旧码")?;
    } else {
        let said = if ambiguous {
            "\n条目相互矛盾:在重叠的日期内不作对照,有关的行暂存"
        } else {
            ""
        };
        out::text(format!("{}{said}", table(lines)))?;
    }
    Ok(found(ambiguous))
}

fn held(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let asking = Asking::open(global)?;
    if matches.get_flag("rerun") {
        let rows = asking.wait(asking.client.rerun(matches.get_one("feed").cloned()))?;
        if global.json {
            out::json(&json!({ "rerun": rows }))?;
        } else {
            out::text(format!("已安排 {rows} 行重新对照"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let counts = asking.wait(asking.client.held())?;
    if global.json {
        out::json(&counts)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = out::table(["接入任务", "原因", "最早暂存于", "行数"], 3);
    let all: u64 = counts.iter().map(|count| count.rows).sum();
    for count in counts {
        let reason = match count.reason.as_str() {
            "uscc.ambiguous" => "对照有矛盾(uscc.ambiguous)",
            _ => "对照表中没有(uscc.unresolved)",
        };
        table.add_row([
            count.feed.to_string(),
            reason.to_owned(),
            out::minute(Some(count.oldest)),
            count.rows.to_string(),
        ]);
    }
    out::text(if all == 0 {
        "没有暂存的行".to_owned()
    } else {
        format!("{table}\n共 {all} 行")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn table(lines: Vec<UsccView>) -> comfy_table::Table {
    let headings = ["类型", "旧码", "统一社会信用代码", "生效日期", "失效日期", "来源", "装入时间"];
    let mut table = out::table(headings, 7);
    let day = |day: Option<Date>| day.map_or_else(|| "—".to_owned(), |day| day.to_string());
    for line in lines {
        table.add_row([
            line.kind.name().to_owned(),
            line.code,
            line.uscc,
            day(line.from),
            day(line.to),
            line.source,
            out::minute(Some(line.loaded)),
        ]);
    }
    table
}
