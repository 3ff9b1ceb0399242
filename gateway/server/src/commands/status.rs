//! `status`: what came, what became of it, and what still has to go out by when.

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::json;

use super::ask::{Asking, state_name};
use super::{Command, CommandError, Global, out};

pub(super) struct Status;

impl Command for Status {
    fn name(&self) -> &'static str {
        "status"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name()).about("各接入任务的收发与按期情况,各投递目标的队列")
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
        let mut by_feed = out::table(
            [
                "委办局",
                "数据集",
                "收到行",
                "退回",
                "平台接受",
                "平台拒绝",
                "按期(承诺/法定)",
                "迟",
                "待处理报文",
            ],
            2,
        );
        for feed in feeds {
            let of = feed.counters;
            let late = of.late_agency + of.late_refusal + of.late_gateway + of.late_platform;
            by_feed.add_row([
                feed.agency_name,
                feed.dataset,
                of.rows.to_string(),
                of.rejected.to_string(),
                of.accepted.to_string(),
                of.refused.to_string(),
                format!("{}/{}", of.on_time_pledged, of.on_time_statutory),
                late.to_string(),
                of.pending_messages.to_string(),
            ]);
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
