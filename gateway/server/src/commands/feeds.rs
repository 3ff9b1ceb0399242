//! `feeds`: the feeds and what their sources last did.

use std::process::ExitCode;

use clap::ArgMatches;
use xinqiao_core::model::TargetId;
use xinqiao_http::FeedProgress;

use super::ask::Asking;
use super::{Command, CommandError, Global, out};

pub(super) struct Feeds;

impl Command for Feeds {
    fn name(&self) -> &'static str {
        "feeds"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("查看接入任务")
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(clap::Command::new("ls").about("列出接入任务及其来源的最近进展"))
    }

    fn run(&self, _: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let asking = Asking::open(global)?;
        let feeds = asking.wait(asking.client.feeds())?;
        if global.json {
            out::json(&feeds)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = out::table(
            [
                "接入任务",
                "委办局",
                "数据集",
                "来源",
                "投递目标",
                "最近收到",
                "失败报文",
                "最近进展",
                "反馈",
            ],
            9,
        );
        for feed in feeds {
            let targets: Vec<_> = feed.targets.iter().map(TargetId::as_str).collect();
            table.add_row([
                feed.id.to_string(),
                feed.agency_name,
                feed.dataset,
                feed.source,
                targets.join("、"),
                out::minute(feed.counters.last_received),
                feed.counters.failed_messages.to_string(),
                feed.progress.map_or_else(|| "—".to_owned(), last_word),
                feed.feedback.map_or_else(|| "—".to_owned(), last_word),
            ]);
        }
        out::text(table)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn last_word(progress: FeedProgress) -> String {
    let word = match progress.error {
        Some((code, text)) => format!("出错({code}):{text}"),
        None => progress.note.unwrap_or_else(|| "正常".to_owned()),
    };
    format!("{} {word}", out::minute(Some(progress.at)))
}
