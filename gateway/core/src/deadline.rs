//! The two clocks of a 双公示 record, both from the decision date (day 0) in Asia/Shanghai.

use serde::{Deserialize, Serialize};
use time::{Date, Duration};

use crate::calendar::Calendar;
use crate::model::Timestamp;

/// How long an agency has, per dataset (catalogue data).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockPolicy {
    /// 法定: working days after the decision (发改办财金〔2018〕424号: 7).
    #[serde(rename = "statutory-working-days")]
    pub statutory_working_days: u32,
    /// 承诺: calendar days after the decision (驻政〔2018〕85号: 7天).
    #[serde(rename = "pledged-days")]
    pub pledged_days: u32,
}

/// Both deadlines of one decision. Each passes at the end of its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// The decision date.
    pub decided: Date,
    /// 承诺时限.
    pub pledged: Date,
    /// 法定时限.
    pub statutory: Date,
    /// Whether `statutory` rests on days no notice covers.
    pub provisional: bool,
}

impl Deadlines {
    /// Computes both clocks.
    pub fn of(decided: Date, policy: ClockPolicy, calendar: &Calendar) -> Self {
        let pledged = decided
            .checked_add(Duration::days(i64::from(policy.pledged_days)))
            .unwrap_or(Date::MAX);
        let (statutory, provisional) =
            calendar.add_working_days(decided, policy.statutory_working_days);
        Self { decided, pledged, statutory, provisional }
    }

    /// The earlier of the two: what scheduling and alarms go by.
    pub fn earlier(&self) -> Date {
        self.pledged.min(self.statutory)
    }
}

/// Where a record stands against one deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Not accepted yet, time left.
    OnTime,
    /// Not accepted yet, and the deadline's day is today or tomorrow by working days.
    AtRisk,
    /// Not accepted, deadline passed while the gateway or the platform had it.
    Overdue,
    /// Already late when it arrived.
    Impossible,
    /// Accepted in time.
    Met,
    /// Accepted late.
    MetLate,
}

/// Who is to answer for a record being late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LateOwner {
    /// It arrived after the deadline.
    AgencyArrival,
    /// It was refused and corrected too late.
    AgencyRefusal,
    /// Held by the gateway.
    Gateway,
    /// Sent in time, accepted late.
    Platform,
}

/// The times that decide a record's standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Milestones {
    /// First arrival of any version, even a refused one.
    pub received: Option<Timestamp>,
    /// First commit.
    pub committed: Option<Timestamp>,
    /// First sending to the platform.
    pub sent: Option<Timestamp>,
    /// The last refusal by the platform, or here before there was a record; before any, since when
    /// the record was held for want of a code the agency did not give.
    pub refused: Option<Timestamp>,
    /// The platform's first acceptance: stops the clock.
    pub accepted: Option<Timestamp>,
}

/// Where a record stands against the deadline ending `due`, and who owns the delay if it is late.
/// `end` is the last millisecond of `due` in Asia/Shanghai; the first line that fits holds.
///
/// | Accepted | Now | | Standing |
/// |---|---|---|---|
/// | by `end` | | | [`Standing::Met`] |
/// | after `end` | | | [`Standing::MetLate`], with owner |
/// | no | after `end` | received after `end`, or never | [`Standing::Impossible`], with owner |
/// | no | after `end` | received by `end` | [`Standing::Overdue`], with owner |
/// | no | by `end` | at most one working day in the days after today up to `due` | [`Standing::AtRisk`] |
/// | no | by `end` | more | [`Standing::OnTime`] |
///
/// | Who owns a delay | |
/// |---|---|
/// | received after `end`, or never | [`LateOwner::AgencyArrival`] |
/// | refused at some time, here or by the platform: the clock ran while it was corrected | [`LateOwner::AgencyRefusal`] |
/// | sent by `end` | [`LateOwner::Platform`] |
/// | sent after `end`, or never | [`LateOwner::Gateway`] |
pub fn standing(
    milestones: &Milestones,
    due: Date,
    now: Timestamp,
    calendar: &Calendar,
) -> (Standing, Option<LateOwner>) {
    let end = Timestamp::end_of_day(due);
    match milestones.accepted {
        Some(accepted) if accepted <= end => (Standing::Met, None),
        Some(_) => (Standing::MetLate, Some(late_owner(milestones, end))),
        None if now > end => match late_owner(milestones, end) {
            LateOwner::AgencyArrival => (Standing::Impossible, Some(LateOwner::AgencyArrival)),
            owner => (Standing::Overdue, Some(owner)),
        },
        None => {
            let tomorrow = now.shanghai_date().next_day().unwrap_or(Date::MAX);
            match calendar.working_days_between(tomorrow, due) {
                0 | 1 => (Standing::AtRisk, None),
                _ => (Standing::OnTime, None),
            }
        }
    }
}

/// Who owns the delay of a record late against the deadline whose last millisecond is `end`, as
/// [`standing`] tells.
pub fn late_owner(milestones: &Milestones, end: Timestamp) -> LateOwner {
    let by_end = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment <= end);
    if !by_end(milestones.received) {
        LateOwner::AgencyArrival
    } else if milestones.refused.is_some() {
        LateOwner::AgencyRefusal
    } else if by_end(milestones.sent) {
        LateOwner::Platform
    } else {
        LateOwner::Gateway
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::PUBLISHED;
    use proptest::prelude::*;
    use time::macros::{date, time};

    const POLICY: ClockPolicy = ClockPolicy { statutory_working_days: 7, pledged_days: 7 };

    fn day(month_day: &str, year: i32) -> Date {
        let (month, day) = month_day.split_once('-').unwrap();
        let month = month.parse::<u8>().unwrap().try_into().unwrap();
        Date::from_calendar_date(year, month, day.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_clocks_of_eighteen_decisions() {
        // Decided | 7th working day | 7th calendar day | 3rd working day; days before the decided
        // one are of the next year.
        for (decided, statutory, pledged, third) in [
            ("2018-09-28", "10-12", "10-05", "10-08"),
            ("2018-12-13", "12-24", "12-20", "12-18"),
            ("2018-12-28", "01-09", "01-04", "01-03"),
            ("2019-01-31", "02-14", "02-07", "02-03"),
            ("2019-04-29", "05-10", "05-06", "05-06"),
            ("2020-01-22", "02-10", "01-29", "02-04"),
            ("2020-09-30", "10-16", "10-07", "10-12"),
            ("2021-02-10", "02-25", "02-17", "02-20"),
            ("2022-09-30", "10-14", "10-07", "10-10"),
            ("2023-09-28", "10-13", "10-05", "10-09"),
            ("2024-02-09", "02-26", "02-16", "02-20"),
            ("2024-09-13", "09-25", "09-20", "09-19"),
            ("2025-01-27", "02-12", "02-03", "02-07"),
            ("2025-09-30", "10-16", "10-07", "10-11"),
            ("2026-02-13", "03-02", "02-20", "02-25"),
            ("2026-03-01", "03-10", "03-08", "03-04"),
            ("2026-09-24", "10-12", "10-01", "09-30"),
        ] {
            let (year, month_day) = decided.split_once('-').unwrap();
            let year = year.parse().unwrap();
            let after = |text: &str| day(text, if text < month_day { year + 1 } else { year });
            let deadlines = Deadlines::of(day(month_day, year), POLICY, &PUBLISHED);
            assert_eq!(deadlines.statutory, after(statutory), "{decided}");
            assert_eq!(deadlines.pledged, after(pledged), "{decided}");
            assert!(!deadlines.provisional, "{decided}");
            assert_eq!(PUBLISHED.add_working_days(day(month_day, year), 3), (after(third), false));
            assert_eq!(deadlines.earlier(), after(pledged), "{decided}");
        }
        let beyond = Deadlines::of(date!(2026 - 12 - 24), POLICY, &PUBLISHED);
        assert!(beyond.provisional);
        assert_eq!(beyond.pledged, date!(2026 - 12 - 31));
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let deadlines = Deadlines::of(Date::MAX, POLICY, &PUBLISHED);
        assert_eq!((deadlines.pledged, deadlines.statutory), (Date::MAX, Date::MAX));
    }

    const DUE: Date = date!(2026 - 10 - 12);

    fn at(date: Date) -> Option<Timestamp> {
        Some(Timestamp::at_shanghai(date, time!(12:00)))
    }

    const EARLY: Date = date!(2026 - 09 - 25);
    const LATE: Date = date!(2026 - 10 - 13);

    fn stand(milestones: Milestones, now: Date) -> (Standing, Option<LateOwner>) {
        standing(&milestones, DUE, at(now).unwrap(), &PUBLISHED)
    }

    #[test]
    fn each_line_of_the_standing_table() {
        let none = Milestones::default();
        let here = Milestones { received: at(EARLY), committed: at(EARLY), ..none };
        let accepted_early = Milestones { accepted: at(DUE), ..here };
        let accepted_late = Milestones { accepted: at(LATE), ..here };
        assert_eq!(stand(accepted_early, LATE), (Standing::Met, None));
        let gateway = Some(LateOwner::Gateway);
        assert_eq!(stand(accepted_late, LATE), (Standing::MetLate, gateway));
        let arrival = Some(LateOwner::AgencyArrival);
        let arrived_late = Milestones { received: at(LATE), ..none };
        assert_eq!(stand(arrived_late, LATE), (Standing::Impossible, arrival));
        assert_eq!(stand(none, LATE), (Standing::Impossible, arrival));
        assert_eq!(stand(here, LATE), (Standing::Overdue, gateway));
        assert_eq!(stand(here, EARLY), (Standing::OnTime, None));
    }

    #[test]
    fn risk_is_counted_in_working_days() {
        let here = Milestones { received: at(EARLY), ..Milestones::default() };
        // 2026-10-12 is a Monday; Saturday 10-10 is worked in exchange, Sunday 10-11 is not.
        for (now, expected) in [
            (date!(2026 - 10 - 08), Standing::OnTime),
            (date!(2026 - 10 - 09), Standing::OnTime),
            (date!(2026 - 10 - 10), Standing::AtRisk),
            (date!(2026 - 10 - 11), Standing::AtRisk),
            (date!(2026 - 10 - 12), Standing::AtRisk),
            (date!(2026 - 10 - 13), Standing::Overdue),
        ] {
            assert_eq!(stand(here, now).0, expected, "{now}");
        }
        // A pledged deadline may end on a day off: the whole holiday is at risk.
        let now = at(date!(2026 - 09 - 30)).unwrap();
        let pledged = date!(2026 - 10 - 01);
        assert_eq!(standing(&here, pledged, now, &PUBLISHED).0, Standing::AtRisk);
    }

    #[test]
    fn each_line_of_the_owner_table() {
        let none = Milestones::default();
        let here = Milestones { received: at(EARLY), committed: at(EARLY), ..none };
        for (milestones, owner) in [
            (
                Milestones { received: at(LATE), refused: at(LATE), ..none },
                LateOwner::AgencyArrival,
            ),
            (Milestones { sent: at(EARLY), refused: at(EARLY), ..here }, LateOwner::AgencyRefusal),
            (Milestones { sent: at(EARLY), ..here }, LateOwner::Platform),
            (Milestones { sent: at(DUE), ..here }, LateOwner::Platform),
            (Milestones { sent: at(LATE), ..here }, LateOwner::Gateway),
            (here, LateOwner::Gateway),
        ] {
            assert_eq!(stand(milestones, LATE).1, Some(owner), "{milestones:?}");
            let accepted = Milestones { accepted: at(LATE), ..milestones };
            assert_eq!(stand(accepted, LATE), (Standing::MetLate, Some(owner)), "{milestones:?}");
        }
    }

    #[test]
    fn the_deadline_passes_with_the_last_millisecond_of_its_day() {
        let end = Timestamp::end_of_day(DUE);
        let here = Milestones { received: at(EARLY), sent: at(EARLY), ..Milestones::default() };
        let stands = |milestones: Milestones, now| standing(&milestones, DUE, now, &PUBLISHED).0;
        assert_eq!(stands(here, end), Standing::AtRisk);
        assert_eq!(stands(here, end.plus_millis(1)), Standing::Overdue);
        assert_eq!(stands(Milestones { accepted: Some(end), ..here }, end), Standing::Met);
        let late = Some(end.plus_millis(1));
        assert_eq!(stands(Milestones { accepted: late, ..here }, end), Standing::MetLate);
        let arrived = Milestones { received: late, ..Milestones::default() };
        assert_eq!(stands(arrived, end.plus_millis(1)), Standing::Impossible);
    }

    proptest! {
        #[test]
        fn a_later_decision_never_has_an_earlier_deadline(
            offset in -100_i64..8_000, later in 0_i64..60, working in 0_u32..30, days in 0_u32..30,
        ) {
            let policy = ClockPolicy { statutory_working_days: working, pledged_days: days };
            let decided = date!(2007 - 01 - 01) + Duration::days(offset);
            let first = Deadlines::of(decided, policy, &PUBLISHED);
            let second = Deadlines::of(decided + Duration::days(later), policy, &PUBLISHED);
            prop_assert!(first.statutory <= second.statutory);
            prop_assert!(first.pledged <= second.pledged);
            prop_assert!(first.statutory >= decided && first.pledged >= decided);
        }

        #[test]
        fn a_deadline_is_provisional_if_and_only_if_it_leaves_the_coverage(offset in -60_i64..60) {
            let (first, last) = PUBLISHED.coverage();
            for edge in [first, last] {
                let decided = edge + Duration::days(offset);
                let deadlines = Deadlines::of(decided, POLICY, &PUBLISHED);
                let leaves = decided.next_day().unwrap() < first || deadlines.statutory > last;
                prop_assert_eq!(deadlines.provisional, leaves);
            }
        }

        #[test]
        fn an_owner_is_named_exactly_when_late(
            received in proptest::option::of(-9_i64..9), sent in proptest::option::of(-9_i64..9),
            refused in proptest::option::of(-9_i64..9), accepted in proptest::option::of(-9_i64..9),
            now in -9_i64..9,
        ) {
            let moment = |days: i64| at(DUE + Duration::days(days)).unwrap();
            let milestones = Milestones {
                received: received.map(moment),
                committed: None,
                sent: sent.map(moment),
                refused: refused.map(moment),
                accepted: accepted.map(moment),
            };
            let (standing, owner) = standing(&milestones, DUE, moment(now), &PUBLISHED);
            let late = matches!(
                standing,
                Standing::Overdue | Standing::Impossible | Standing::MetLate
            );
            prop_assert_eq!(owner.is_some(), late);
            prop_assert_eq!(late, accepted.map_or(now > 0, |accepted| accepted > 0));
        }
    }
}
