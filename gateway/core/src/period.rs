//! Reporting periods (报送周期): calendar months, and weeks from Monday to Sunday (ISO 8601).

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Duration, Month, Weekday};

/// How often an agency has to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    /// 每周, from Monday to Sunday.
    Week,
    /// 每月.
    Month,
}

/// One period. Written `2026-10` (a month) or `2026-W41` (an ISO week).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period {
    first: Date,
    every: Every,
}

/// Why a text is no period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("周期应写成 2026-10(月)或 2026-W41(周)的样子,并且是历法上有的")]
pub struct InvalidPeriod;

impl Period {
    /// The period that holds a day.
    pub fn holding(every: Every, day: Date) -> Self {
        let back = match every {
            Every::Week => day.weekday().number_days_from_monday(),
            Every::Month => day.day() - 1,
        };
        let first = day.checked_sub(Duration::days(back.into())).unwrap_or(Date::MIN);
        Self { first, every }
    }

    /// Its first day.
    pub fn first(self) -> Date {
        self.first
    }

    /// Its last day.
    pub fn last(self) -> Date {
        self.next().and_then(|next| next.first.previous_day()).unwrap_or(Date::MAX)
    }

    /// A week or a month.
    pub fn every(self) -> Every {
        self.every
    }

    /// The period after it; none behind the end of time.
    pub fn next(self) -> Option<Self> {
        let days = match self.every {
            Every::Week => 7,
            Every::Month => self.first.month().length(self.first.year()),
        };
        let first = self.first.checked_add(Duration::days(days.into()))?;
        Some(Self { first, ..self })
    }

    /// Whether all of `other` lies within it.
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last() <= self.last()
    }

    /// As people say it: 2026年10月, 2026年第41周(10月5日至10月11日).
    pub fn shown(self) -> String {
        match self.every {
            Every::Month => format!("{}年{}月", self.first.year(), u8::from(self.first.month())),
            Every::Week => {
                let (year, week, _) = self.first.to_iso_week_date();
                let day = |day: Date| format!("{}月{}日", u8::from(day.month()), day.day());
                format!("{year}年第{week}周({}至{})", day(self.first), day(self.last()))
            }
        }
    }
}

/// The periods of a kind whose last day is in `first..=last`: a period belongs to the span in which
/// it ends.
pub fn ending_within(every: Every, first: Date, last: Date) -> impl Iterator<Item = Period> {
    let begin = Some(Period::holding(every, first));
    std::iter::successors(begin, |period| period.next()).take_while(move |p| p.last() <= last)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every {
            Every::Month => {
                write!(f, "{:04}-{:02}", self.first.year(), u8::from(self.first.month()))
            }
            Every::Week => {
                let (year, week, _) = self.first.to_iso_week_date();
                write!(f, "{year:04}-W{week:02}")
            }
        }
    }
}

impl FromStr for Period {
    type Err = InvalidPeriod;

    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let (year, part) = text.split_once('-').ok_or(InvalidPeriod)?;
        let (every, part) = match part.strip_prefix('W') {
            Some(week) => (Every::Week, week),
            None => (Every::Month, part),
        };
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if year.len() != 4 || part.len() != 2 || !digits(year) || !digits(part) {
            return Err(InvalidPeriod);
        }
        let year = year.parse().map_err(|_| InvalidPeriod)?;
        let number: u8 = part.parse().map_err(|_| InvalidPeriod)?;
        let first = match every {
            Every::Week => Date::from_iso_week_date(year, number, Weekday::Monday).ok(),
            Every::Month => Month::try_from(number)
                .ok()
                .and_then(|month| Date::from_calendar_date(year, month, 1).ok()),
        };
        Ok(Self { first: first.ok_or(InvalidPeriod)?, every })
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::date;

    fn period(text: &str) -> Period {
        text.parse().unwrap()
    }

    #[test]
    fn months_and_weeks_are_read_and_written() {
        for (text, first, last, shown) in [
            ("2026-10", date!(2026 - 10 - 01), date!(2026 - 10 - 31), "2026年10月"),
            ("2024-02", date!(2024 - 02 - 01), date!(2024 - 02 - 29), "2024年2月"),
            (
                "2026-W41",
                date!(2026 - 10 - 05),
                date!(2026 - 10 - 11),
                "2026年第41周(10月5日至10月11日)",
            ),
            // The first days of 2027 belong to the last week of 2026.
            (
                "2026-W53",
                date!(2026 - 12 - 28),
                date!(2027 - 01 - 03),
                "2026年第53周(12月28日至1月3日)",
            ),
        ] {
            let found = period(text);
            assert_eq!((found.first(), found.last(), &*found.shown()), (first, last, shown));
            assert_eq!(found.to_string(), text);
        }
        for bad in ["", "2026", "2026-13", "2026-1", "2026-W54", "2025-W53", "26-10", "2026-+1"] {
            assert_eq!(bad.parse::<Period>(), Err(InvalidPeriod), "{bad}");
        }
    }

    #[test]
    fn a_month_covers_the_weeks_within_it() {
        let month = period("2026-10");
        let covered: Vec<_> = ending_within(Every::Week, month.first(), month.last())
            .map(|w| w.to_string())
            .collect();
        assert_eq!(covered, ["2026-W40", "2026-W41", "2026-W42", "2026-W43"]);
        assert!(!month.covers(period("2026-W40")), "it begins in September");
        assert!(month.covers(period("2026-W41")) && month.covers(month));
        let months: Vec<_> =
            ending_within(Every::Month, date!(2026 - 09 - 15), date!(2026 - 11 - 29)).collect();
        assert_eq!(months, [period("2026-09"), period("2026-10")]);
    }

    proptest! {
        #[test]
        fn every_day_is_in_exactly_one_period(offset in 0_i64..30_000, week in any::<bool>()) {
            let every = if week { Every::Week } else { Every::Month };
            let day = date!(1990 - 01 - 01) + Duration::days(offset);
            let found = Period::holding(every, day);
            prop_assert!(found.first() <= day && day <= found.last());
            prop_assert_eq!(found.next().unwrap().first(), found.last().next_day().unwrap());
            prop_assert_eq!(found.to_string().parse(), Ok(found));
            prop_assert_eq!(Period::holding(every, found.last()), found);
        }
    }
}
