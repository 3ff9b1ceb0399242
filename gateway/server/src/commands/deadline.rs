//! `deadline`: both clocks of a decision, or of every decision day of a period.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;
use time::{Date, Duration, Weekday};
use xinqiao_core::calendar::Calendar;
use xinqiao_core::catalogue::{Catalogue, Dataset};
use xinqiao_core::deadline::{ClockPolicy, Deadlines};
use xinqiao_core::model::DatasetId;

use super::global::date;
use super::{Command, CommandError, Global, out};

/// No administrative decision of the People's Republic is older.
const FIRST_YEAR: i32 = 1949;

pub(super) struct Deadline;

impl Command for Deadline {
    fn name(&self) -> &'static str {
        "deadline"
    }

    fn clap(&self) -> clap::Command {
        let day = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).value_name("日期").value_parser(date).help(help)
        };
        clap::Command::new(self.name())
            .about("按决定日期计算承诺时限(自然日)与法定时限(工作日)")
            .arg(
                Arg::new("dataset")
                    .long("dataset")
                    .value_name("数据集")
                    .required(true)
                    .help("数据集,如 admin-penalty、admin-licence"),
            )
            .arg(
                day("decided", "决定日期,如 2018-12-28")
                    .required_unless_present("from")
                    .conflicts_with_all(["from", "to"]),
            )
            .arg(day("from", "一段时间的第一个决定日期,与 --to 同用").requires("to"))
            .arg(day("to", "一段时间的最后一个决定日期(含)").requires("from"))
            .arg(
                Arg::new("tsv").long("tsv").action(ArgAction::SetTrue).conflicts_with("json").help(
                    "每天一行,以制表符分隔,无表头:决定日期、承诺时限、法定时限、是否暂定(true 或 false)",
                ),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let (_, catalogue, calendar) = global.base()?;
        let named = matches.get_one::<String>("dataset").map_or("", String::as_str);
        let clocks = Clocks::find(&catalogue, &calendar, named)?;
        let given = |name| matches.get_one::<Date>(name).copied();
        ["decided", "from", "to"].into_iter().filter_map(given).try_for_each(|d| clocks.sure(d))?;
        match (given("decided"), given("from").zip(given("to"))) {
            (Some(day), _) if matches.get_flag("tsv") => clocks.tsv(day, day)?,
            (Some(day), _) if global.json => out::json(&clocks.of(day))?,
            (Some(day), _) => clocks.plain(day)?,
            (None, Some((from, to))) if to < from => {
                return Err(CommandError::Broken("--to 不能早于 --from".into()));
            }
            (None, Some((from, to))) if global.json => clocks.json(from, to)?,
            (None, Some((from, to))) if matches.get_flag("tsv") => clocks.tsv(from, to)?,
            (None, Some((from, to))) => clocks.table(from, to)?,
            (None, None) => return Err(CommandError::Broken("缺少 --decided".into())),
        }
        Ok(ExitCode::SUCCESS)
    }
}

struct Clocks<'a> {
    calendar: &'a Calendar,
    id: DatasetId,
    generations: Vec<&'a Arc<Dataset>>,
}

/// One line of the answer.
#[derive(Serialize)]
struct Line<'a> {
    dataset: &'a DatasetId,
    decided: String,
    pledged: String,
    statutory: String,
    provisional: bool,
    calendar: &'a str,
}

impl<'a> Clocks<'a> {
    fn find(
        catalogue: &'a Catalogue,
        calendar: &'a Calendar,
        named: &str,
    ) -> Result<Self, CommandError> {
        match catalogue.ids().find(|id| id.as_str() == named) {
            Some(id) => {
                let generations = catalogue.iter().filter(|dataset| dataset.id == *id).collect();
                Ok(Self { calendar, id: id.clone(), generations })
            }
            None => {
                let known: Vec<_> = catalogue.ids().map(DatasetId::as_str).collect();
                Err(CommandError::Broken(format!(
                    "没有数据集“{named}”,可用的有:{}",
                    known.join("、")
                )))
            }
        }
    }

    /// Refuses a day whose clocks would be guessed at: a slip of the pen, or past the last day there
    /// is, where a deadline would be cut short.
    fn sure(&self, decided: Date) -> Result<(), CommandError> {
        let refused = |why: &str| {
            let message = format!("决定日期 {decided} 不能计算:{why},请核对年份");
            Err(CommandError::invalid("deadline.out-of-range", message))
        };
        if decided.year() < FIRST_YEAR {
            return refused(&format!("早于{FIRST_YEAR}年,没有这样早的行政决定"));
        }
        let policy = self.policy(decided);
        let (last, _) = self.calendar.add_working_days(decided, policy.statutory_working_days);
        let pledged = decided.checked_add(Duration::days(policy.pledged_days.into()));
        let counted =
            decided.next_day().map_or(0, |first| self.calendar.working_days_between(first, last));
        if pledged.is_none() || counted < policy.statutory_working_days {
            return refused(&format!("时限会超出能表示的最后一天({})", Date::MAX));
        }
        Ok(())
    }

    fn deadlines(&self, decided: Date) -> Deadlines {
        Deadlines::of(decided, self.policy(decided), self.calendar)
    }

    fn policy(&self, decided: Date) -> ClockPolicy {
        // The generation in force on the day; before the first, the first.
        let begun = self.generations.iter().rfind(|dataset| dataset.in_force.0 <= decided);
        let dataset = begun.or(self.generations.first());
        dataset.map_or(ClockPolicy { statutory_working_days: 7, pledged_days: 7 }, |dataset| {
            dataset.clocks
        })
    }

    fn of(&self, decided: Date) -> Line<'_> {
        let deadlines = self.deadlines(decided);
        Line {
            dataset: &self.id,
            decided: decided.to_string(),
            pledged: deadlines.pledged.to_string(),
            statutory: deadlines.statutory.to_string(),
            provisional: deadlines.provisional,
            calendar: self.calendar.version(),
        }
    }

    fn tsv(&self, from: Date, to: Date) -> Result<(), CommandError> {
        let mut out = out::stdout();
        for line in days(from, to).map(|day| self.of(day)) {
            let Line { decided, pledged, statutory, provisional, .. } = line;
            writeln!(out, "{decided}\t{pledged}\t{statutory}\t{provisional}")?;
        }
        Ok(out.flush()?)
    }

    fn json(&self, from: Date, to: Date) -> Result<(), CommandError> {
        let mut out = out::stdout();
        for day in days(from, to) {
            out.write_all(if day == from { b"[\n  " } else { b",\n  " })?;
            serde_json::to_writer(&mut out, &self.of(day))?;
        }
        writeln!(out, "\n]")?;
        Ok(out.flush()?)
    }

    fn table(&self, from: Date, to: Date) -> Result<(), CommandError> {
        let mut table = out::table(["决定日期", "承诺时限", "法定时限", ""], 4);
        for deadlines in days(from, to).map(|day| self.deadlines(day)) {
            let Deadlines { decided, pledged, statutory, provisional } = deadlines;
            let note = if provisional { "暂定" } else { "" };
            table.add_row([told(decided), told(pledged), told(statutory), note.to_owned()]);
        }
        out::text(table)
    }

    fn plain(&self, decided: Date) -> Result<(), CommandError> {
        let deadlines = self.deadlines(decided);
        let mut out = out::stdout();
        writeln!(out, "数据集   {}", self.id)?;
        writeln!(out, "决定日期 {},为第0天", told(decided))?;
        writeln!(out, "承诺时限 {},当日24时止", told(deadlines.pledged))?;
        writeln!(out, "法定时限 {},当日24时止", told(deadlines.statutory))?;
        let (first, last) = self.calendar.coverage();
        if deadlines.provisional {
            writeln!(
                out,
                "法定时限是暂定的:所涉日期有国务院办公厅放假通知尚未覆盖的(已收录{first}至{last}),这些日期按周一至周五上班推算,通知收录后可能变动"
            )?;
        } else {
            writeln!(out, "法定时限所涉日期均有国务院办公厅放假通知为据")?;
        }
        writeln!(out, "日历版本 {}", self.calendar.version())?;
        Ok(out.flush()?)
    }
}

fn days(from: Date, to: Date) -> impl Iterator<Item = Date> {
    std::iter::successors(Some(from), |day| day.next_day()).take_while(move |day| *day <= to)
}

/// `2018-12-28(星期五)`.
fn told(date: Date) -> String {
    let weekday = match date.weekday() {
        Weekday::Monday => "一",
        Weekday::Tuesday => "二",
        Weekday::Wednesday => "三",
        Weekday::Thursday => "四",
        Weekday::Friday => "五",
        Weekday::Saturday => "六",
        Weekday::Sunday => "日",
    };
    format!("{date}(星期{weekday})")
}
