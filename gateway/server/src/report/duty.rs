//! Which periods were to be reported (报送责任), which were declared empty (零报告), and what came.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;
use time::Date;
use xinqiao_core::calendar::Calendar;
use xinqiao_core::deadline::Deadlines;
use xinqiao_core::model::{AgencyId, DatasetId, Timestamp};
use xinqiao_core::period::Period;
use xinqiao_core::report::Rate;
use xinqiao_store::{ZeroEvent, ZeroReport};

use super::{Ask, Names};
use crate::config::Duty;

/// Records by agency, dataset and decision day.
type Days = BTreeMap<(AgencyId, DatasetId, Date), u64>;

/// Where a period stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// 有数据: a record decided in it has come.
    Data,
    /// 零报告: declared empty, and nothing of it has come.
    Zero,
    /// 缺报: neither, and the statutory time of its last day has passed.
    Missing,
    /// 待报: neither, and there is time.
    Waiting,
}

impl Standing {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Data => "有数据",
            Self::Zero => "零报告",
            Self::Missing => "缺报",
            Self::Waiting => "待报",
        }
    }
}

/// One period of an agency and dataset.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DutyLine {
    pub(crate) agency: AgencyId,
    pub(crate) agency_name: String,
    pub(crate) dataset: DatasetId,
    pub(crate) dataset_title: String,
    pub(crate) period: Period,
    pub(crate) first: Date,
    pub(crate) last: Date,
    /// It is missing from the day after: the statutory day of a decision of its last day.
    pub(crate) due: Date,
    /// There is a duty to report it; else it was only declared empty.
    pub(crate) expected: bool,
    /// Records decided in it.
    pub(crate) records: u64,
    pub(crate) standing: Standing,
    /// The declaration that covers it, if there is one, and the period it was made for.
    pub(crate) declared: Option<(Period, ZeroEvent)>,
    /// 作废: data of the declared period have come.
    pub(crate) contradicted: bool,
}

/// How many periods stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct DutyFigures {
    /// 应报.
    pub(crate) expected: u64,
    /// Of them 有数据.
    pub(crate) data: u64,
    /// Of them 零报告.
    pub(crate) zero: u64,
    /// Of them 缺报.
    pub(crate) missing: u64,
    /// Of them 待报.
    pub(crate) waiting: u64,
    /// Standing declarations of periods without a duty.
    pub(crate) unasked: u64,
    /// 作废, expected or not.
    pub(crate) contradicted: u64,
}

impl DutyFigures {
    pub(super) fn count(&mut self, line: &DutyLine) {
        self.contradicted += u64::from(line.contradicted);
        if !line.expected {
            self.unasked += u64::from(line.standing == Standing::Zero);
            return;
        }
        self.expected += 1;
        *match line.standing {
            Standing::Data => &mut self.data,
            Standing::Zero => &mut self.zero,
            Standing::Missing => &mut self.missing,
            Standing::Waiting => &mut self.waiting,
        } += 1;
    }

    /// 报送率: periods with data or a zero report, of those that had to be there by now.
    pub(crate) fn reported(&self) -> Rate {
        let part = self.data + self.zero;
        Rate { part, whole: part + self.missing }
    }
}

impl AddAssign for DutyFigures {
    fn add_assign(&mut self, other: Self) {
        self.expected += other.expected;
        self.data += other.data;
        self.zero += other.zero;
        self.missing += other.missing;
        self.waiting += other.waiting;
        self.unasked += other.unasked;
        self.contradicted += other.contradicted;
    }
}

/// The periods to look at.
pub(super) struct Plan {
    /// Agency, dataset, period, and whether it is expected.
    periods: Vec<(AgencyId, DatasetId, Period, bool)>,
    /// Declarations that touch one of them.
    zeros: Vec<ZeroReport>,
}

impl Plan {
    /// The periods that end in the span.
    pub(super) fn new(ask: &Ask, duties: &[Duty], zeros: Vec<ZeroReport>) -> Self {
        let asked = |agency: &AgencyId, dataset: &DatasetId| {
            ask.agency.as_ref().is_none_or(|only| only == agency)
                && ask.dataset.as_ref().is_none_or(|only| only == dataset)
        };
        let (first, last) = ask.span;
        let mut periods = Vec::new();
        for duty in duties.iter().filter(|duty| asked(&duty.agency, &duty.dataset)) {
            for period in duty.periods(first, last) {
                periods.push((duty.agency.clone(), duty.dataset.clone(), period, true));
            }
        }
        let declared = |zero: &ZeroReport| asked(&zero.agency, &zero.dataset);
        let zeros: Vec<_> =
            zeros.into_iter().filter(|zero| declared(zero) && zero.declared().is_some()).collect();
        for zero in &zeros {
            let end = zero.period.last();
            let one = (zero.agency.clone(), zero.dataset.clone(), zero.period, true);
            if first <= end && end <= last && !periods.contains(&one) {
                periods.push((one.0, one.1, one.2, false));
            }
        }
        periods.sort();
        Self { periods, zeros }
    }

    /// The days whose records must be known.
    pub(super) fn span(&self) -> Option<(Date, Date)> {
        let all = || {
            let zeros = self.zeros.iter().map(|zero| zero.period);
            self.periods.iter().map(|(_, _, period, _)| *period).chain(zeros)
        };
        Some((all().map(Period::first).min()?, all().map(Period::last).max()?))
    }

    /// Where each stands.
    pub(super) fn stand(
        self,
        days: &Days,
        now: Timestamp,
        names: &Names<'_>,
        calendar: &Calendar,
    ) -> Vec<DutyLine> {
        let came = |agency: &AgencyId, dataset: &DatasetId, period: Period| -> u64 {
            let key = |day| (agency.clone(), dataset.clone(), day);
            days.range(key(period.first())..=key(period.last())).map(|(_, records)| records).sum()
        };
        let mut lines = Vec::with_capacity(self.periods.len());
        for (agency, dataset, period, expected) in self.periods {
            let records = came(&agency, &dataset, period);
            let covering = self.zeros.iter().filter(|zero| {
                zero.agency == agency && zero.dataset == dataset && zero.period.covers(period)
            });
            // One that stands before one that does not, and the narrowest.
            let best = covering
                .map(|zero| (came(&agency, &dataset, zero.period) > 0, zero.period.every(), zero))
                .min_by_key(|(contradicted, every, _)| (*contradicted, *every));
            let contradicted = best.as_ref().is_some_and(|(contradicted, ..)| *contradicted);
            let due = due(names, &dataset, period.last(), calendar);
            let standing = match &best {
                _ if records > 0 => Standing::Data,
                Some((false, ..)) => Standing::Zero,
                _ if now > Timestamp::end_of_day(due) => Standing::Missing,
                _ => Standing::Waiting,
            };
            let declared =
                best.and_then(|(_, _, zero)| Some((zero.period, zero.declared().cloned()?)));
            lines.push(DutyLine {
                agency_name: names.agency(&agency),
                dataset_title: names.dataset(&dataset),
                agency,
                dataset,
                period,
                first: period.first(),
                last: period.last(),
                due,
                expected,
                records,
                standing,
                declared,
                contradicted,
            });
        }
        lines
    }
}

fn due(names: &Names<'_>, dataset: &DatasetId, last: Date, calendar: &Calendar) -> Date {
    match names.catalogue.in_force(dataset, last) {
        Some(dataset) => Deadlines::of(last, dataset.clocks, calendar).statutory,
        None => last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{self, Domain};
    use time::macros::{date, time};
    use xinqiao_core::period::Every;
    use xinqiao_core::report::Basis;

    fn zero(period: &str, declared: bool) -> ZeroReport {
        let event = ZeroEvent {
            at: Timestamp(1),
            declared,
            by: "甲".to_owned(),
            reason: "本期无决定".to_owned(),
        };
        ZeroReport {
            agency: AgencyId::new("jia").unwrap(),
            dataset: DatasetId::new("admin-penalty").unwrap(),
            period: period.parse().unwrap(),
            events: vec![event],
        }
    }

    /// Standings of the weeks that end in October 2026, as of a day; records on some days.
    fn stand(zeros: Vec<ZeroReport>, on: &[Date], today: Date) -> (Vec<String>, DutyFigures) {
        let domain = Domain::load(domain::bundle(None).unwrap()).unwrap();
        let names = Names {
            agencies: BTreeMap::new(),
            catalogue: &domain.catalogue,
            on: date!(2026 - 10 - 31),
        };
        let ask = Ask {
            span: (date!(2026 - 10 - 01), date!(2026 - 10 - 31)),
            title: String::new(),
            basis: Basis::Decided,
            agency: None,
            dataset: None,
        };
        let (agency, dataset) = (zero("2026-10", true).agency, zero("2026-10", true).dataset);
        let duty = Duty {
            agency: agency.clone(),
            dataset: dataset.clone(),
            every: Every::Week,
            since: date!(2026 - 01 - 01),
            until: None,
        };
        let days = on.iter().map(|day| ((agency.clone(), dataset.clone(), *day), 2)).collect();
        let now = Timestamp::at_shanghai(today, time!(09:00));
        let plan = Plan::new(&ask, &[duty], zeros);
        let lines = plan.stand(&days, now, &names, &domain.calendar);
        let mut figures = DutyFigures::default();
        lines.iter().for_each(|line| figures.count(line));
        let tell = |line: &DutyLine| {
            let void = if line.contradicted { "(作废)" } else { "" };
            format!("{} {}{void}", line.period, line.standing.name())
        };
        (lines.iter().map(tell).collect(), figures)
    }

    #[test]
    fn a_silent_week_is_missing_once_its_last_day_could_have_been_reported() {
        // 2026-W40 ends on 10-04, in the holiday: its 7th working day is 10-15.
        let (lines, figures) = stand(vec![], &[date!(2026 - 10 - 12)], date!(2026 - 10 - 16));
        assert_eq!(lines, ["2026-W40 缺报", "2026-W41 待报", "2026-W42 有数据", "2026-W43 待报"]);
        assert_eq!((figures.expected, figures.missing, figures.waiting), (4, 1, 2));
        assert_eq!(figures.reported().to_string(), "50.00%");
        let (lines, _) = stand(vec![], &[], date!(2026 - 10 - 15));
        assert_eq!(lines[0], "2026-W40 待报");
    }

    #[test]
    fn a_zero_report_stands_until_data_come() {
        let late = date!(2026 - 11 - 30);
        let month = || vec![zero("2026-10", true)];
        let (lines, figures) = stand(month(), &[], late);
        // The first week began in September: the month does not cover it.
        assert_eq!(
            lines,
            [
                "2026-W40 缺报",
                "2026-10 零报告",
                "2026-W41 零报告",
                "2026-W42 零报告",
                "2026-W43 零报告"
            ]
        );
        assert_eq!((figures.zero, figures.missing, figures.unasked), (3, 1, 1));
        // One decision in the month, and its zero report covers no week of it any more.
        let (lines, figures) = stand(month(), &[date!(2026 - 10 - 13)], late);
        assert_eq!(
            lines,
            [
                "2026-W40 缺报",
                "2026-10 有数据(作废)",
                "2026-W41 缺报(作废)",
                "2026-W42 有数据(作废)",
                "2026-W43 缺报(作废)"
            ]
        );
        assert_eq!((figures.zero, figures.missing, figures.contradicted), (0, 3, 4));
        // But a week's own does.
        let both = vec![zero("2026-10", true), zero("2026-W41", true)];
        let (lines, _) = stand(both, &[date!(2026 - 10 - 13)], late);
        assert!(lines.contains(&"2026-W41 零报告".to_owned()), "{lines:?}");
        // What was taken back is none.
        let (lines, _) = stand(vec![zero("2026-W41", false)], &[], late);
        assert_eq!(lines[1], "2026-W41 缺报");
        assert_eq!(lines.len(), 4);
    }
}
