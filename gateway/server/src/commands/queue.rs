//! `queue`: what is on its way to the targets, and what an operator does about it.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches};
use time::Date;
use xinqiao_core::calendar::Calendar;
use xinqiao_core::deadline::{Standing, standing};
use xinqiao_core::model::{AgencyId, TargetId, Timestamp};
use xinqiao_core::spi::Clock as _;
use xinqiao_http::control::ActRequest;
use xinqiao_store::{EventKind, ItemFilter, ItemState, ItemView, QueueAct};

use super::ask::{Asking, state_name};
use super::global::{limit, number};
use super::{Command, CommandError, Global, found, out};
use crate::clock::SystemClock;
use crate::report::owner_name;

const STATES: [&str; 8] =
    ["ready", "waiting", "leased", "done", "refused", "dead", "held", "dropped"];

/// Name on the command line, act, what it does, what is said when it is done.
const ACTS: [(&str, QueueAct, &str, &str); 4] = [
    ("retry", QueueAct::Retry, "立即重新投递", "已安排重新投递"),
    ("hold", QueueAct::Hold, "暂停投递", "已暂停"),
    ("release", QueueAct::Release, "恢复已暂停的投递", "已恢复"),
    ("drop", QueueAct::Drop, "放弃投递", "已放弃"),
];

pub(super) struct Queue;

impl Command for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn clap(&self) -> clap::Command {
        let id = Arg::new("id").value_name("编号").required(true).value_parser(number);
        let act = |(name, _, about, _): (&'static str, QueueAct, &'static str, &str)| {
            let reason = Arg::new("reason").long("reason").value_name("原因").required(true);
            clap::Command::new(name)
                .about(about)
                .arg(id.clone().num_args(1..).help("投递项编号,可写多个"))
                .arg(reason.help("为何这样处置,记入投递项的历史"))
        };
        clap::Command::new(self.name())
            .about("查看与处置投递队列")
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(list())
            .subcommand(
                clap::Command::new("show")
                    .about("查看一个投递项及其历史")
                    .arg(id.clone().help("投递项编号")),
            )
            .subcommands(ACTS.map(act))
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let Some((verb, matches)) = matches.subcommand() else {
            return Err(CommandError::Broken("缺少命令".into()));
        };
        match (verb, ACTS.iter().find(|(name, ..)| *name == verb)) {
            (_, Some((_, does, _, done))) => act(*does, done, matches, global),
            ("show", None) => show(matches, global),
            _ => ls(matches, global),
        }
    }
}

fn list() -> clap::Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    clap::Command::new("ls")
        .about("列出投递项,时限早者在前")
        .arg(
            option(
                "state",
                "状态",
                "只列这个状态:ready 待投递、waiting 等待重试、leased 投递中、done 已受理、refused 被拒绝、dead 需处置、held 已暂停、dropped 已放弃",
            )
            .value_parser(PossibleValuesParser::new(STATES)),
        )
        .arg(option("target", "投递目标", "只列这个投递目标").value_parser(TargetId::new))
        .arg(option("agency", "委办局", "只列这个委办局").value_parser(AgencyId::new))
        .arg(
            option("limit", "条数", "至多列多少条,缺省 100")
                .default_value("100")
                .value_parser(limit),
        )
}

fn ls(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let state = matches.get_one::<String>("state").map(|name| state(name)).transpose()?;
    let filter = ItemFilter {
        state,
        target: matches.get_one("target").cloned(),
        agency: matches.get_one("agency").cloned(),
        deadline_before: None,
    };
    let limit = matches.get_one("limit").copied().unwrap_or(100);
    let clocks = Clocks::read(global)?;
    let asking = Asking::open(global)?;
    let page = asking.wait(asking.client.queue(&filter, None, limit))?;
    if global.json {
        out::json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = out::table(
        [
            "编号",
            "状态",
            "委办局",
            "投递目标",
            "文书号",
            "承诺时限",
            "法定时限",
            "时限状况",
            "次数",
            "最近错误",
        ],
        10,
    );
    for item in page.items {
        let standing = clocks.statutory(&item);
        table.add_row([
            item.id.to_string(),
            state_name(item.state).to_owned(),
            item.agency.to_string(),
            item.target.to_string(),
            item.document.unwrap_or_default(),
            item.deadlines.pledged.to_string(),
            item.deadlines.statutory.to_string(),
            standing,
            item.sends.to_string(),
            item.last_error.unwrap_or_default(),
        ]);
    }
    out::text(table)?;
    if page.next.is_some() {
        eprintln!("只列出前 {limit} 条,可用 --limit 增加");
    }
    Ok(ExitCode::SUCCESS)
}

fn state(name: &str) -> Result<ItemState, CommandError> {
    Ok(serde_json::from_value(name.into())?)
}

fn show(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let id = matches.get_one::<u64>("id").copied().unwrap_or_default();
    let clocks = Clocks::read(global)?;
    let asking = Asking::open(global)?;
    let item = asking.wait(asking.client.item(id))?;
    if global.json {
        out::json(&item)?
    } else {
        out::text(told(item, &clocks))?
    }
    Ok(ExitCode::SUCCESS)
}

fn told(item: ItemView, clocks: &Clocks) -> String {
    let mut table = out::table(["项目", "内容"], 2);
    let due = out::minute(item.due_at);
    let (pledged, statutory) = (clocks.pledged(&item), clocks.statutory(&item));
    let provisional = if item.deadlines.provisional { "(暂定)" } else { "" };
    for (name, text) in [
        ("编号", item.id.to_string()),
        ("状态", state_name(item.state).to_owned()),
        ("委办局", item.agency.to_string()),
        ("接入任务", item.feed.to_string()),
        ("数据集", item.dataset.to_string()),
        ("投递目标", item.target.to_string()),
        ("文书号", item.document.unwrap_or_else(|| "—".to_owned())),
        ("版本", item.version.to_string()),
        ("已投递次数", item.sends.to_string()),
        ("下次投递", due),
        ("承诺时限", format!("{},{pledged}", item.deadlines.pledged)),
        ("法定时限", format!("{}{provisional},{statutory}", item.deadlines.statutory)),
        ("首次收到", out::minute(item.milestones.received)),
        ("首次发出", out::minute(item.milestones.sent)),
        ("首次受理", out::minute(item.milestones.accepted)),
        ("最近错误", item.last_error.unwrap_or_else(|| "—".to_owned())),
    ] {
        table.add_row([name.to_owned(), text]);
    }
    let mut history = out::table(["时间", "事件", "说明"], 3);
    for event in item.history {
        let what = event_name(event.what).to_owned();
        history.add_row([out::minute(Some(event.at)), what, event.detail]);
    }
    format!("{table}\n历史\n{history}")
}

fn act(
    act: QueueAct,
    done: &str,
    matches: &ArgMatches,
    global: &Global,
) -> Result<ExitCode, CommandError> {
    let request = ActRequest {
        ids: matches.get_many("id").into_iter().flatten().copied().collect(),
        act,
        actor: actor(),
        reason: matches.get_one::<String>("reason").cloned().unwrap_or_default(),
    };
    let asking = Asking::open(global)?;
    let results = asking.wait(asking.client.act(&request))?;
    let failed = results.iter().any(|result| result.error.is_some());
    if global.json {
        out::json(&results)?;
    } else {
        let line = |(id, error): (u64, Option<String>)| match error {
            None => format!("{id}:{done}"),
            Some(error) => format!("{id}:未处置,{error}"),
        };
        let lines: Vec<_> = results.into_iter().map(|r| line((r.id, r.error))).collect();
        out::text(lines.join("\n"))?;
    }
    Ok(found(failed))
}

/// What is needed to tell how a record stands against its deadlines.
struct Clocks {
    calendar: Calendar,
    now: Timestamp,
}

impl Clocks {
    fn read(global: &Global) -> Result<Self, CommandError> {
        let (_, _, calendar) = global.base()?;
        Ok(Self { calendar, now: SystemClock.now() })
    }

    fn pledged(&self, item: &ItemView) -> String {
        self.against(item, item.deadlines.pledged)
    }

    fn statutory(&self, item: &ItemView) -> String {
        self.against(item, item.deadlines.statutory)
    }

    fn against(&self, item: &ItemView, due: Date) -> String {
        let (standing, owner) = standing(&item.milestones, due, self.now, &self.calendar);
        let standing = match standing {
            Standing::OnTime => "未到期",
            Standing::AtRisk => "临期",
            Standing::Overdue => "已逾期",
            Standing::Impossible => "无法按期",
            Standing::Met => "按期",
            Standing::MetLate => "逾期受理",
        };
        owner.map_or_else(
            || standing.to_owned(),
            |owner| format!("{standing}({})", owner_name(owner)),
        )
    }
}

fn event_name(event: EventKind) -> &'static str {
    match event {
        EventKind::Sent => "发出",
        EventKind::Accepted => "受理",
        EventKind::Refused => "被拒绝",
        EventKind::Retry => "待重试",
        EventKind::Dead => "多次不成,需处置",
        EventKind::Doubtful => "未得答复,需核实",
        EventKind::Expired => "投递超时,收回",
        EventKind::Restarted => "网关重启,收回",
        EventKind::Corrected => "换成更正后的版本",
        EventKind::RetriedByHand => "人工重投",
        EventKind::Held => "人工暂停",
        EventKind::Released => "人工恢复",
        EventKind::Dropped => "人工放弃",
    }
}

/// Who acts, as far as the shell says.
pub(super) fn actor() -> String {
    let named = |name| std::env::var(name).ok().filter(|name| !name.trim().is_empty());
    named("LOGNAME").or_else(|| named("USER")).unwrap_or_else(|| "cli".to_owned())
}
