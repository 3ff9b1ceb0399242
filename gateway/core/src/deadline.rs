//! The two clocks of a 双公示 record, both from the decision date (day 0) in Asia/Shanghai.

use serde::{Deserialize, Serialize};
use time::Date;

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
    pub fn of(_decided: Date, _policy: ClockPolicy, _calendar: &Calendar) -> Self {
        todo!()
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
    /// The platform's last refusal.
    pub refused: Option<Timestamp>,
    /// The platform's first acceptance: stops the clock.
    pub accepted: Option<Timestamp>,
}

/// Where a record stands against the deadline ending `due`, and who owns the delay if it is late.
pub fn standing(
    _milestones: &Milestones,
    _due: Date,
    _now: Timestamp,
    _calendar: &Calendar,
) -> (Standing, Option<LateOwner>) {
    todo!()
}
