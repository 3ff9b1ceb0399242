//! `status`: what came, what became of it, and what still has to go out by when.
//!
//! Rows stand with the feed that sent them, records with the feed that sent their first version.
//! Two sums tie the columns of a feed together, whatever stops, restarts or comes twice
//! ([`FeedCounters`] says why; `fsck` checks them):
//!
//! - 收到行 = 退回 + 重复 + 暂存 + 对照 + 更正 + 平台接受 + 未受理
//! - 平台接受 = 法定按期 + 逾期
//!
//! 暂存 are rows that wait for the mapping table of legacy codes, 对照 the lines of that table a feed
//! brought. 更正 are rows, not records: a corrected record keeps its clock and is counted once. 未受理 are
//! records no target has accepted yet: under way, refused, given up. 平台拒绝 and 放弃 say what stands
//! refused or given up now, the correction of an accepted record included, so they are no part of
//! the sums. Rows of 待处理报文 are counted as they are judged; a 失败报文 could not be read in full,
//! its rows up to the fault are counted.

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::json;
use xinqiao_store::FeedCounters;

use super::ask::{Asking, state_name};
use super::{Command, CommandError, Global, out};

/// Heading and figure.
type Column = (&'static str, fn(&FeedCounters) -> String);

/// Every column of a feed.
const COLUMNS: [Column; 14] = [
    ("收到行", |of| of.rows.to_string()),
    ("退回", |of| of.rejected.to_string()),
    ("重复", |of| of.repeated.to_string()),
    ("暂存", |of| of.held.to_string()),
    ("对照", |of| of.mapped.to_string()),
    ("更正", |of| of.corrections.to_string()),
    ("平台接受", |of| of.accepted.to_string()),
    ("未受理", |of| of.open().to_string()),
    ("按期(承诺/法定)", |of| format!("{}/{}", of.on_time_pledged, of.on_time_statutory)),
    ("逾期", |of| of.late().to_string()),
    ("平台拒绝", |of| of.refused.to_string()),
    ("放弃", |of| of.dropped.to_string()),
    ("待处理报文", |of| of.pending_messages.to_string()),
    ("失败报文", |of| of.failed_messages.to_string()),
];

pub(super) struct Status;

impl Command for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("各接入任务的收发与按期情况,各投递目标的队列")
            .after_help(
                "账目:收到行 = 退回 + 重复 + 暂存 + 对照 + 更正 + 平台接受 + 未受理;平台接受 = 法定按期 + 逾期。\n\
                 暂存是缺统一社会信用代码、等待对照表的行(xinqiao uscc held);对照是装入对照表的行,不投递;\n\
                 更正(含撤销)是已有记录的新版本,时限仍从首次决定起算,不另计记录;未受理是任何版本都还没有被平台接受的记录;\n\
                 平台拒绝、放弃是目前处于该状态的记录和投递项,不参与上式。",
            )
    }

    fn run(&self, _: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let asking = Asking::open(global)?;
        let report = asking.wait(asking.client.status())?;
        let feeds = asking.wait(asking.client.feeds())?;
        if global.json {
            let (now, status) = (report.now, report.status);
            out::json(&json!({ "now": now, "status": status, "feeds": feeds }))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut headings = ["委办局", "数据集"].to_vec();
        headings.extend(COLUMNS.map(|(heading, _)| heading));
        let mut by_feed = out::table(headings, 2);
        for feed in feeds {
            let figures = COLUMNS.map(|(_, figure)| figure(&feed.counters));
            by_feed.add_row([feed.agency_name, feed.dataset].into_iter().chain(figures));
        }
        let mut by_target = out::table(["投递目标", "状态", "最早时限", "条数"], 3);
        for (target, counters) in report.status.targets {
            for (state, count) in counters.states.into_iter().filter(|(_, count)| *count > 0) {
                by_target.add_row([
                    target.to_string(),
                    state_name(state).to_owned(),
                    out::minute(counters.earliest_deadline),
                    count.to_string(),
                ]);
            }
        }
        let now = out::minute(Some(report.now));
        let records = report.status.records;
        out::text(format!("{now},共有记录 {records} 条\n{by_feed}\n{by_target}"))?;
        Ok(ExitCode::SUCCESS)
    }
}
