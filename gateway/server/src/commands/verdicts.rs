//! `verdicts`: what is to be told an agency about every row it sent.

mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, value_parser};
use xinqiao_core::model::FeedId;
use xinqiao_http::control::FeedReport;
use xinqiao_store::{MessageView, RowVerdictView};

use super::ask::Asking;
use super::{Command, CommandError, Global};
use crate::feedback::whole_verdict;
use write::Writer;

/// Messages and rows asked for at once.
const PAGE: usize = 10_000;

pub(super) struct Verdicts;

impl Command for Verdicts {
    fn name(&self) -> &'static str {
        "verdicts"
    }

    fn clap(&self) -> clap::Command {
        let option = |name: &'static str, value: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name(value).help(help)
        };
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        };
        clap::Command::new(self.name())
            .about("逐行反馈:每一行的结论、问题与改法,未能读取的报文另列一行(行为空或0);缺省只列有问题的行")
            .arg(
                option("feed", "接入任务", "哪个接入任务").required(true).value_parser(FeedId::new),
            )
            .arg(option("file", "文件名", "只列这个报文(文件)"))
            .arg(
                flag("tsv", "全部行,以制表符分隔,无表头:文书号、accept|warn|reject、行、位置、规则、原因、改法")
                    .conflicts_with("json"),
            )
            .arg(flag("header", "与 --tsv 同用:加表头").requires("tsv"))
            .arg(
                option("xlsx", "文件", "全部行,写成工作簿")
                    .value_parser(value_parser!(PathBuf))
                    .conflicts_with_all(["tsv", "json"]),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let Some(feed) = matches.get_one::<FeedId>("feed") else {
            return Err(CommandError::Broken("缺少参数:--feed".into()));
        };
        let asking = Asking::open(global)?;
        known(feed, &asking.wait(asking.client.feeds())?)?;
        let file = matches.get_one::<String>("file").map(String::as_str);
        let messages = messages(&asking, feed, file)?;
        if messages.is_empty() {
            eprintln!("还没有收到{}报文", if file.is_some() { "这个名字的" } else { "" });
        }
        let mut writer = match matches.get_one::<PathBuf>("xlsx") {
            Some(path) => Writer::xlsx(path)?,
            None if matches.get_flag("tsv") => Writer::tsv(matches.get_flag("header"))?,
            None if global.json => Writer::json()?,
            None => Writer::table(),
        };
        for message in &messages {
            tell_end(message);
            each_row(&asking, message.id, |row| writer.row(message, row))?;
            whole_verdict(message).map_or(Ok(()), |row| writer.row(message, row))?;
        }
        writer.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn known(feed: &FeedId, feeds: &[FeedReport]) -> Result<(), CommandError> {
    if feeds.iter().any(|known| known.id == *feed) {
        return Ok(());
    }
    let ids: Vec<_> = feeds.iter().map(|known| known.id.as_str()).collect();
    Err(CommandError::Broken(format!("没有接入任务“{feed}”,可用的有:{}", ids.join("、"))))
}

/// Every message, oldest first.
fn messages(
    asking: &Asking,
    feed: &FeedId,
    file: Option<&str>,
) -> Result<Vec<MessageView>, CommandError> {
    let mut all: Vec<MessageView> = Vec::new();
    loop {
        let before = all.last().map(|message| message.id);
        let page = asking.wait(asking.client.messages(Some(feed), file, before, PAGE))?;
        if page.is_empty() {
            all.reverse();
            return Ok(all);
        }
        all.extend(page);
    }
}

fn each_row(
    asking: &Asking,
    message: u64,
    mut tell: impl FnMut(RowVerdictView) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut from = 0;
    loop {
        let rows = asking.wait(asking.client.verdicts(message, from, PAGE))?;
        if rows.is_empty() {
            return Ok(());
        }
        from += rows.len() as u64;
        rows.into_iter().try_for_each(&mut tell)?;
    }
}

/// What is to be said of a message besides its rows.
fn tell_end(message: &MessageView) {
    let name = message.name.as_deref().unwrap_or("未命名");
    match &message.end {
        None => eprintln!("报文 {}({name})尚未处理完,只列出已处理的行", message.id),
        Some(end) => {
            for note in &end.notes {
                eprintln!("报文 {}({name}):{note}", message.id);
            }
        }
    }
}
