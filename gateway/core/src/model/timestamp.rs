//! Points in time.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Date, Duration, OffsetDateTime, Time, UtcOffset, macros::offset};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Shown in Asia/Shanghai, which has
/// been +08:00 without daylight saving since 1991-09-15. JSON has it as text in RFC 3339, as shown;
/// binary forms have the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

const SHANGHAI: UtcOffset = offset!(+8);

impl Timestamp {
    /// The date in Asia/Shanghai.
    pub fn shanghai_date(self) -> Date {
        self.shanghai().date()
    }

    /// The last millisecond of `date` in Asia/Shanghai: when a deadline of that day passes.
    pub fn end_of_day(date: Date) -> Self {
        let next = date.next_day().unwrap_or(Date::MAX);
        Self(Self::at_shanghai(next, Time::MIDNIGHT).0.saturating_sub(1))
    }

    /// A wall-clock time in Asia/Shanghai. Before 1970 it is 0.
    pub fn at_shanghai(date: Date, time: Time) -> Self {
        let millis =
            date.with_time(time).assume_offset(SHANGHAI).unix_timestamp_nanos() / 1_000_000;
        Self(u64::try_from(millis).unwrap_or(0))
    }

    /// Later by `millis`.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`, 0 if it is not earlier.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    fn shanghai(self) -> OffsetDateTime {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        OffsetDateTime::UNIX_EPOCH
            .checked_add(Duration::milliseconds(millis))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .to_offset(SHANGHAI)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)?;
        let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000);
        millis.map(Self).map_err(|_| D::Error::custom("before 1970"))
    }
}

/// RFC 3339 with milliseconds, in Asia/Shanghai: `2026-11-23T09:00:00.000+08:00`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.shanghai();
        let (hour, minute, second, milli) = t.to_hms_milli();
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{milli:03}+08:00", t.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, time};

    #[test]
    fn json_has_text_and_it_comes_back() {
        let t = Timestamp::at_shanghai(date!(2026 - 11 - 23), time!(09:00:00.25));
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(json, "\"2026-11-23T09:00:00.250+08:00\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), t);
        assert_eq!(serde_json::from_str::<Timestamp>("\"2026-11-23T01:00:00.25Z\"").unwrap(), t);
        assert!(serde_json::from_str::<Timestamp>("\"1969-12-31T23:59:59Z\"").is_err());
        assert_eq!(serde_json::to_string(&t.shanghai_date()).unwrap(), "\"2026-11-23\"");
    }

    #[test]
    fn the_day_turns_in_shanghai() {
        let t = Timestamp::at_shanghai(date!(2026 - 11 - 23), time!(00:00));
        assert_eq!(t.to_string(), "2026-11-23T00:00:00.000+08:00");
        assert_eq!(Timestamp(t.0 - 1).shanghai_date(), date!(2026 - 11 - 22));
        assert_eq!(Timestamp::end_of_day(date!(2026 - 11 - 22)), Timestamp(t.0 - 1));
    }
}
