//! Figures of the timeliness reports (时效报表): what is counted, and what each rate is of what.
//!
//! Records and rows are two ledgers. A **record** (记录) is a decision by its natural key, however
//! often it came; it belongs to one period, by its decision date or by its first arrival
//! ([`Basis`]). A **row** (行) is a line of a message; it belongs to the period in which its message
//! came, because a refused row need not have a decision date. `gateway/docs/formats/reports.zh.md`
//! tells the same for people.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use time::Date;

use crate::calendar::Calendar;
use crate::deadline::{Deadlines, LateOwner, Milestones, late_owner};
use crate::model::Timestamp;

/// Which event puts a record into a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// 决定日期: what 双公示 is measured by.
    #[default]
    Decided,
    /// 首次收到, in Asia/Shanghai, of any version, even a refused one.
    Received,
}

/// A record as reports see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Of the first version.
    pub deadlines: Deadlines,
    /// With the first sending to any target.
    pub milestones: Milestones,
    /// Who owned the delay when it was accepted after its statutory day.
    pub late: Option<LateOwner>,
    /// A target's refusal stands now.
    pub refused: bool,
    /// Withdrawn now.
    pub withdrawn: bool,
}

/// Where a record stands against its statutory day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Accepted by it.
    Met,
    /// Accepted after it.
    MetLate(LateOwner),
    /// Not accepted, and it has passed.
    Overdue(LateOwner),
    /// Not accepted, and little time is left: [`at_risk_until`].
    AtRisk,
    /// Not accepted, time left.
    Open,
}

impl Stand {
    /// Who owns the delay, if it is late.
    pub fn owner(self) -> Option<LateOwner> {
        match self {
            Self::MetLate(owner) | Self::Overdue(owner) => Some(owner),
            Self::Met | Self::AtRisk | Self::Open => None,
        }
    }
}

impl RecordFacts {
    /// The day that puts it into its period.
    pub fn day(&self, basis: Basis) -> Date {
        match (basis, self.milestones.received) {
            (Basis::Received, Some(received)) => received.shanghai_date(),
            _ => self.deadlines.decided,
        }
    }

    /// Where it stands at `now`; `at_risk` is [`at_risk_until`] of that time. As
    /// [`crate::deadline::standing`] has it, but for who owned a delay that ended with acceptance:
    /// that was decided then.
    pub fn stand(&self, now: Timestamp, at_risk: Date) -> Stand {
        let due = self.deadlines.statutory;
        let end = Timestamp::end_of_day(due);
        let owner = || late_owner(&self.milestones, end);
        match self.milestones.accepted {
            Some(accepted) if accepted <= end => Stand::Met,
            Some(_) => Stand::MetLate(self.late.unwrap_or_else(owner)),
            None if now > end => Stand::Overdue(owner()),
            None if due <= at_risk => Stand::AtRisk,
            None => Stand::Open,
        }
    }
}

/// The last day whose deadline is at risk at `now`: at most one working day lies in the days after
/// today up to it.
pub fn at_risk_until(now: Timestamp, calendar: &Calendar) -> Date {
    let (second, _) = calendar.add_working_days(now.shanghai_date(), 2);
    second.previous_day().unwrap_or(Date::MIN)
}

macro_rules! sums {
    ($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $part:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub struct $name { $($(#[$field])* pub $part: $kind,)* }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$part += other.$part;)*
            }
        }
    };
}

sums! {
    /// Delays by who is to answer for them.
    ByOwner {
        /// 报送晚.
        agency_arrival: u64,
        /// 更正晚.
        agency_refusal: u64,
        /// 网关.
        gateway: u64,
        /// 平台.
        platform: u64,
    }
}

impl ByOwner {
    /// All.
    pub fn total(self) -> u64 {
        self.agency() + self.gateway + self.platform
    }

    /// The agency's own: late arrival or late correction.
    pub fn agency(self) -> u64 {
        self.agency_arrival + self.agency_refusal
    }

    fn count(&mut self, owner: LateOwner) {
        *match owner {
            LateOwner::AgencyArrival => &mut self.agency_arrival,
            LateOwner::AgencyRefusal => &mut self.agency_refusal,
            LateOwner::Gateway => &mut self.gateway,
            LateOwner::Platform => &mut self.platform,
        } += 1;
    }
}

sums! {
    /// The ledger of records. Always:
    ///
    /// - `records = accepted + open()` (报送 = 受理 + 未受理);
    /// - `accepted = on_time_statutory + late.total()` (受理 = 法定按期 + 逾期受理);
    /// - `accepted >= on_time_pledged`, and what was accepted after its pledged day is their difference;
    /// - `open_past_pledged <= open()`.
    ///
    /// Over all periods, by feed, they are the counters of `status`: records, accepted, on time,
    /// late by owner, refused.
    Figures {
        /// 报送: records whose day is in the period.
        records: u64,
        /// 受理: some version was accepted by some target.
        accepted: u64,
        /// 承诺按期: accepted by the end of the pledged day.
        on_time_pledged: u64,
        /// 法定按期: accepted by the end of the statutory day.
        on_time_statutory: u64,
        /// 逾期受理: accepted after the statutory day.
        late: ByOwner,
        /// 逾期未受理: not accepted, and the statutory day has passed.
        overdue: ByOwner,
        /// 临期: not accepted, and at most one working day is left.
        at_risk: u64,
        /// 未到期: not accepted, and more is left.
        in_time: u64,
        /// Not accepted, and the pledged day has passed.
        open_past_pledged: u64,
        /// 平台拒绝: a refusal stands now. No part of the sums.
        refused: u64,
        /// 撤销: withdrawn now. No part of the sums.
        withdrawn: u64,
        /// 暂定: the statutory day rests on days no notice covers. No part of the sums.
        provisional: u64,
    }
}

impl Figures {
    /// Counts one record as it stands at `now`.
    pub fn count(&mut self, record: &RecordFacts, now: Timestamp, at_risk: Date) -> Stand {
        let pledged = Timestamp::end_of_day(record.deadlines.pledged);
        self.records += 1;
        self.refused += u64::from(record.refused);
        self.withdrawn += u64::from(record.withdrawn);
        self.provisional += u64::from(record.deadlines.provisional);
        match record.milestones.accepted {
            Some(accepted) => {
                self.accepted += 1;
                self.on_time_pledged += u64::from(accepted <= pledged);
            }
            None => self.open_past_pledged += u64::from(now > pledged),
        }
        let stand = record.stand(now, at_risk);
        match stand {
            Stand::Met => self.on_time_statutory += 1,
            Stand::MetLate(owner) => self.late.count(owner),
            Stand::Overdue(owner) => self.overdue.count(owner),
            Stand::AtRisk => self.at_risk += 1,
            Stand::Open => self.in_time += 1,
        }
        stand
    }

    /// 未受理.
    pub fn open(&self) -> u64 {
        self.overdue.total() + self.at_risk + self.in_time
    }

    /// 法定逾期: accepted late, or open past the day.
    pub fn missed_statutory(&self) -> u64 {
        self.late.total() + self.overdue.total()
    }

    /// 承诺逾期.
    pub fn missed_pledged(&self) -> u64 {
        self.accepted.saturating_sub(self.on_time_pledged) + self.open_past_pledged
    }

    /// 入库率: accepted of reported.
    pub fn acceptance(&self) -> Rate {
        Rate { part: self.accepted, whole: self.records }
    }

    /// 法定按期率: on time of those whose end is known: accepted, or past their day.
    pub fn punctuality(&self) -> Rate {
        let part = self.on_time_statutory;
        Rate { part, whole: part + self.missed_statutory() }
    }

    /// 承诺按期率, likewise.
    pub fn pledged_punctuality(&self) -> Rate {
        let part = self.on_time_pledged;
        Rate { part, whole: part + self.missed_pledged() }
    }

    /// 迟报率: missed the statutory day, whoever owns it, of reported.
    pub fn lateness(&self) -> Rate {
        Rate { part: self.missed_statutory(), whole: self.records }
    }

    /// 单位迟报率: of those, the agency's own.
    pub fn agency_lateness(&self) -> Rate {
        Rate { part: self.late.agency() + self.overdue.agency(), whole: self.records }
    }
}

sums! {
    /// The ledger of rows, by when their message came. Always:
    /// `rows = rejected + repeated + new + corrections + held + mapped`.
    RowFigures {
        /// 报文.
        messages: u64,
        /// 失败报文: could not be read in full.
        failed: u64,
        /// 收到行.
        rows: u64,
        /// 退回.
        rejected: u64,
        /// 重复: equal to what is there, or an old copy.
        repeated: u64,
        /// 新记录.
        new: u64,
        /// 更正, withdrawals included.
        corrections: u64,
        /// 暂存: waits for the mapping table of legacy codes.
        held: u64,
        /// 对照: a line of that table.
        mapped: u64,
    }
}

impl RowFigures {
    /// 合规率: rows taken (new or correction) of rows judged (taken or sent back). What repeats, waits
    /// or is a line of the mapping table is neither.
    pub fn compliance(&self) -> Rate {
        let part = self.new + self.corrections;
        Rate { part, whole: part + self.rejected }
    }
}

/// A part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Numerator.
    pub part: u64,
    /// Denominator; of nothing there is no rate.
    pub whole: u64,
}

impl Rate {
    /// In hundredths of a percent, rounded half up; `None` of nothing. Never 100 % unless all, never
    /// 0 unless none.
    pub fn permyriad(self) -> Option<u64> {
        let (part, whole) = (u128::from(self.part), u128::from(self.whole));
        let rounded = (part * 20_000 + whole).checked_div(2 * whole)?;
        let rounded = match rounded {
            0 if part > 0 => 1,
            10_000.. if part < whole => 9_999,
            other => other,
        };
        u64::try_from(rounded).ok()
    }
}

/// `95.12%`, or `—` of nothing.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.permyriad() {
            Some(rate) => f.pad(&format!("{}.{:02}%", rate / 100, rate % 100)),
            None => f.pad("—"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::PUBLISHED;
    use crate::deadline::{ClockPolicy, Standing, standing};
    use proptest::prelude::*;
    use time::Duration;
    use time::macros::{date, time};

    const POLICY: ClockPolicy = ClockPolicy { statutory_working_days: 7, pledged_days: 7 };
    const BASE: Date = date!(2026 - 09 - 01);

    fn at(day: i64) -> Timestamp {
        Timestamp::at_shanghai(BASE + Duration::days(day), time!(12:00))
    }

    fn any_record() -> impl Strategy<Value = RecordFacts> {
        let moment = || proptest::option::of(0_i64..60);
        let flags = (any::<bool>(), any::<bool>());
        (0_i64..40, 0_i64..60, moment(), moment(), moment(), flags).prop_map(
            |(decided, received, sent, refused, accepted, (refused_now, withdrawn))| {
                let deadlines = Deadlines::of(BASE + Duration::days(decided), POLICY, &PUBLISHED);
                let milestones = Milestones {
                    received: Some(at(received)),
                    committed: Some(at(received)),
                    sent: sent.map(at),
                    refused: refused.map(at),
                    accepted: accepted.map(at),
                };
                let end = Timestamp::end_of_day(deadlines.statutory);
                let late = milestones.accepted.filter(|accepted| *accepted > end);
                let late = late.map(|_| late_owner(&milestones, end));
                RecordFacts { deadlines, milestones, late, refused: refused_now, withdrawn }
            },
        )
    }

    proptest! {
        /// Counted by the domain's own standing, one record at a time, written down naively.
        #[test]
        fn the_figures_are_what_a_naive_count_finds(
            records in proptest::collection::vec(any_record(), 0..60), now in 0_i64..70,
        ) {
            let now = at(now);
            let risk = at_risk_until(now, &PUBLISHED);
            let mut found = Figures::default();
            for record in &records {
                found.count(record, now, risk);
            }

            let stand = |record: &RecordFacts| {
                standing(&record.milestones, record.deadlines.statutory, now, &PUBLISHED)
            };
            let number = |of: &dyn Fn(&RecordFacts) -> bool| {
                records.iter().filter(|record| of(record)).count() as u64
            };
            let is = |wanted: Standing| number(&|record| stand(record).0 == wanted);
            let late = |accepted: bool, owner: LateOwner| number(&|record| {
                stand(record).1 == Some(owner) && record.milestones.accepted.is_some() == accepted
            });
            let owners = |accepted| ByOwner {
                agency_arrival: late(accepted, LateOwner::AgencyArrival),
                agency_refusal: late(accepted, LateOwner::AgencyRefusal),
                gateway: late(accepted, LateOwner::Gateway),
                platform: late(accepted, LateOwner::Platform),
            };
            let pledged = |record: &RecordFacts| {
                standing(&record.milestones, record.deadlines.pledged, now, &PUBLISHED).0
            };
            let naive = Figures {
                records: records.len() as u64,
                accepted: number(&|record| record.milestones.accepted.is_some()),
                on_time_pledged: number(&|record| pledged(record) == Standing::Met),
                on_time_statutory: is(Standing::Met),
                late: owners(true),
                overdue: owners(false),
                at_risk: is(Standing::AtRisk),
                in_time: is(Standing::OnTime),
                open_past_pledged: number(&|record| {
                    matches!(pledged(record), Standing::Overdue | Standing::Impossible)
                }),
                refused: number(&|record| record.refused),
                withdrawn: number(&|record| record.withdrawn),
                provisional: number(&|record| record.deadlines.provisional),
            };
            prop_assert_eq!(found, naive);

            // And the sums hold.
            prop_assert_eq!(found.records, found.accepted + found.open());
            prop_assert_eq!(found.accepted, found.on_time_statutory + found.late.total());
            prop_assert!(found.on_time_pledged <= found.accepted);
            prop_assert!(found.open_past_pledged <= found.open());
            prop_assert!(found.agency_lateness().part <= found.lateness().part);
            for rate in [
                found.acceptance(), found.punctuality(), found.pledged_punctuality(),
                found.lateness(), found.agency_lateness(),
            ] {
                prop_assert!(rate.part <= rate.whole);
            }
        }

        /// Months add up to the whole, whichever event puts a record into one.
        #[test]
        fn a_record_is_in_exactly_one_period(
            records in proptest::collection::vec(any_record(), 0..60), received in any::<bool>(),
        ) {
            use crate::period::{Every, Period};
            let basis = if received { Basis::Received } else { Basis::Decided };
            let (now, risk) = (at(70), at_risk_until(at(70), &PUBLISHED));
            let (mut whole, mut summed) = (Figures::default(), Figures::default());
            for record in &records {
                whole.count(record, now, risk);
            }
            let mut month = Some(Period::holding(Every::Month, BASE));
            while let Some(period) = month.filter(|period| period.first() < date!(2027 - 01 - 01)) {
                let mut figures = Figures::default();
                for record in &records {
                    if (period.first()..=period.last()).contains(&record.day(basis)) {
                        figures.count(record, now, risk);
                    }
                }
                summed += figures;
                month = period.next();
            }
            prop_assert_eq!(summed, whole);
        }

        #[test]
        fn a_rate_never_tells_all_or_none_of_some(part in 0_u64..2_000_000, rest in 0_u64..2_000_000) {
            let rate = Rate { part, whole: part + rest };
            match rate.permyriad() {
                None => prop_assert_eq!(rate.whole, 0),
                Some(found) => {
                    prop_assert_eq!(found == 0, part == 0);
                    prop_assert_eq!(found == 10_000, rest == 0);
                }
            }
        }
    }

    #[test]
    fn rates_are_rounded_and_shown() {
        let shown = |part, whole| Rate { part, whole }.to_string();
        assert_eq!(shown(0, 0), "—");
        assert_eq!(shown(1, 3), "33.33%");
        assert_eq!(shown(2, 3), "66.67%");
        assert_eq!(shown(99_999, 100_000), "99.99%");
        assert_eq!(shown(7, 7), "100.00%");
        let rows = RowFigures {
            rows: 12,
            rejected: 1,
            repeated: 2,
            new: 7,
            corrections: 1,
            held: 1,
            ..RowFigures::default()
        };
        assert_eq!(rows.compliance(), Rate { part: 8, whole: 9 });
    }
}
