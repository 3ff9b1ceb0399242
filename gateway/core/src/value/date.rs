//! Dates as agencies write them.

use std::borrow::Cow;

use time::macros::date;
use time::{Date, Duration, Month};

use super::text::{clean, half_width};
use crate::model::CellKind;

/// Why a text is not a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// No known form.
    #[error("不是可识别的日期")]
    Unrecognised,
    /// A known form, but no such day (2026-02-30).
    #[error("日历上没有这一天")]
    NoSuchDay,
    /// `0000-00-00`, `1899-12-31`, `1900-01-01`: what an empty cell becomes in Excel, Access or MySQL.
    #[error("是空日期的占位值")]
    Placeholder,
}

/// 2099-12-31, the catalogue's way to say 长期.
pub const LONG_TERM: Date = date!(2099 - 12 - 31);

/// Dates that mean "no date" in real files: the zero of Access and OLE (1899-12-30), of Excel as
/// others read it (1899-12-31) and as it reads itself (1900-01-01), and of .NET (0001-01-01).
pub const EMPTY_DATE_SENTINELS: &[Date] =
    &[date!(1899 - 12 - 30), date!(1899 - 12 - 31), date!(1900 - 01 - 01), date!(0001 - 01 - 01)];

/// Parses a date in any form seen in real files; a cell of kind `Number` may be an Excel serial.
/// `长期`, `长期有效` and 9999-… give [`LONG_TERM`].
///
/// | Form | Example |
/// |---|---|
/// | year first, one separator used twice (`-` `/` `.`) | `2018-7-27` `2018.07.27` |
/// | 年月日 | `2026年11月5日` |
/// | either of them with a time of day, which is dropped | `2019-5-22 0:00:00` |
/// | with a zone: the day it is in Asia/Shanghai | `2026-11-04T16:00:00.000Z` |
/// | a zone without a time (`xs:date`): the day as written | `2026-11-05+08:00` |
/// | compact, also with a time | `20200316` `20200316093000` |
/// | serial of Excel's 1900 system (`Number` only) | `42473` `42473.5` |
///
/// Milliseconds since 1970 look like any long number: see [`parse_epoch_millis`]. Full-width digits
/// and signs are read as half-width ones. Years before 1800 are taken for typing
/// errors, a bare year in a number cell for no date.
pub fn parse_date(text: &str, kind: CellKind) -> Result<Date, DateError> {
    let text = clean(text);
    let text: Cow<'_, str> = match text.is_ascii() {
        true => text,
        false => text.chars().map(half_width).collect(),
    };
    if LONG_TERM_WORDS.contains(&&*text) {
        return Ok(LONG_TERM);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if is_digits(whole) && fraction.bytes().all(|b| b.is_ascii_digit()) {
        return from_number(whole, fraction, kind);
    }
    let (parts, rest) = year_month_day(&text).ok_or(DateError::Unrecognised)?;
    let moment = time_of_day(rest).ok_or(DateError::Unrecognised)?;
    let date = from_parts(parts)?;
    match moment {
        Some(moment) => shanghai_day(date, moment),
        None => Ok(date),
    }
}

/// The day in Asia/Shanghai of a moment in milliseconds since 1970, 13 digits: only for a source that
/// is said to write its dates so, for a text of 13 digits may be any number.
pub fn parse_epoch_millis(text: &str) -> Result<Date, DateError> {
    let millis = Some(text).filter(|text| text.len() == 13 && is_digits(text));
    let millis: i64 = millis.and_then(|text| text.parse().ok()).ok_or(DateError::Unrecognised)?;
    let seconds = millis / 1000 + SHANGHAI_SECONDS;
    checked(date!(1970 - 01 - 01).checked_add(Duration::days(seconds / 86_400)))
}

const LONG_TERM_WORDS: &[&str] =
    &["长期", "长期有效", "永久", "永久有效", "无固定期限", "无期限", "无限期"];
const SHANGHAI_SECONDS: i64 = 8 * 3600;

/// Year, month and day as written.
type Parts = (u16, u8, u8);

/// A time of day with a zone: seconds since midnight, seconds east of UTC.
struct Zoned {
    seconds: i64,
    east: i64,
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn from_number(whole: &str, fraction: &str, kind: CellKind) -> Result<Date, DateError> {
    let number: i64 = whole.parse().map_err(|_| DateError::Unrecognised)?;
    let exact = fraction.bytes().all(|b| b == b'0');
    match whole.len() {
        1..=7 if kind == CellKind::Number => from_serial(number),
        8 | 14 if exact => {
            if whole.len() == 14 && !is_compact_time(number % 1_000_000) {
                return Err(DateError::Unrecognised);
            }
            let day = if whole.len() == 14 { number / 1_000_000 } else { number };
            let parts = (u16::try_from(day / 10_000), u8::try_from(day / 100 % 100));
            match (parts, u8::try_from(day % 100)) {
                ((Ok(year), Ok(month)), Ok(day)) => from_parts((year, month, day)),
                _ => Err(DateError::Unrecognised),
            }
        }
        _ => Err(DateError::Unrecognised),
    }
}

fn is_compact_time(hms: i64) -> bool {
    hms / 10_000 < 24 && hms / 100 % 100 < 60 && hms % 100 < 60
}

/// Excel's 1900 system, which has a 1900-02-29 (serial 60) that never was.
fn from_serial(serial: i64) -> Result<Date, DateError> {
    let epoch = match serial {
        0 | 1 => return Err(DateError::Placeholder),
        60 => return Err(DateError::NoSuchDay),
        // A year typed where a date belongs; read as a serial it would be a day of 1905.
        1900..=2100 => return Err(DateError::Unrecognised),
        ..60 => date!(1899 - 12 - 31),
        _ => date!(1899 - 12 - 30),
    };
    checked(epoch.checked_add(Duration::days(serial)))
}

fn from_parts((year, month, day): Parts) -> Result<Date, DateError> {
    if matches!((year, month, day), (0, 0, 0) | (1900, 1, 0)) {
        return Err(DateError::Placeholder);
    }
    if year == 9999 {
        return Ok(LONG_TERM);
    }
    let month = Month::try_from(month).map_err(|_| DateError::NoSuchDay)?;
    let date =
        Date::from_calendar_date(i32::from(year), month, day).map_err(|_| DateError::NoSuchDay)?;
    checked(Some(date))
}

/// What holds for a date however it was written.
fn checked(date: Option<Date>) -> Result<Date, DateError> {
    match date {
        None => Err(DateError::Unrecognised),
        Some(date) if EMPTY_DATE_SENTINELS.contains(&date) => Err(DateError::Placeholder),
        Some(date) if date.year() == 9999 => Ok(LONG_TERM),
        Some(date) if date.year() < 1800 => Err(DateError::Unrecognised),
        Some(date) => Ok(date),
    }
}

/// The date at the front of a text, and what follows it.
fn year_month_day(text: &str) -> Option<(Parts, &str)> {
    let (year, rest) = number(text, 4..=4)?;
    let separator = rest.trim_start().chars().next()?;
    let (second, third) = match separator {
        '-' | '/' | '.' => (separator, None),
        '年' => ('月', Some(['日', '号'])),
        _ => return None,
    };
    let rest = rest.trim_start().strip_prefix(separator)?;
    let (month, rest) = number(rest.trim_start(), 1..=2)?;
    let rest = rest.trim_start().strip_prefix(second)?;
    let (day, rest) = number(rest.trim_start(), 1..=2)?;
    let rest = match third {
        Some(third) => rest.trim_start().strip_prefix(third)?,
        None => rest,
    };
    Some(((year, u8::try_from(month).ok()?, u8::try_from(day).ok()?), rest))
}

/// What follows a date: nothing, or a time of day. `Some(Some(_))` only with a zone, as only then
/// the day may change.
#[expect(clippy::option_option, reason = "unreadable, without a zone, with one: all three differ")]
fn time_of_day(rest: &str) -> Option<Option<Zoned>> {
    let time = rest.strip_prefix(['T', 't']).unwrap_or(rest).trim();
    if time.is_empty() {
        return rest.trim().is_empty().then_some(None);
    }
    // An `xs:date` may carry a zone: it names a day, not a moment, so the day stays.
    if rest.contains([':', 'Z']) && zone_seconds(rest).is_some() {
        return Some(None);
    }
    let time = time.strip_prefix("上午").or(time.strip_prefix("下午")).unwrap_or(time).trim_start();
    let (hour, time) = number(time, 1..=2)?;
    let (minute, time) = number(time.strip_prefix(':')?, 1..=2)?;
    let (second, time) = match time.strip_prefix(':') {
        Some(time) => number(time, 1..=2)?,
        None => (0, time),
    };
    let time = match time.strip_prefix(['.', ',']) {
        Some(time) if time.starts_with(|c: char| c.is_ascii_digit()) => {
            time.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        Some(_) => return None,
        None => time,
    };
    if hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    match time.trim_start() {
        "" | "AM" | "PM" | "am" | "pm" => Some(None),
        zone => Some(Some(Zoned { seconds, east: zone_seconds(zone)? })),
    }
}

/// `Z`, `+08:00`, `+0800`, `+08` as seconds east of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+')?),
    };
    let digits = digits.replacen(':', "", 1);
    if !is_digits(&digits) || !matches!(digits.len(), 2 | 4) {
        return None;
    }
    let hhmm: i64 = format!("{digits:0<4}").parse().ok()?;
    let (hour, minute) = (hhmm / 100, hhmm % 100);
    (hour <= 14 && minute < 60).then_some(sign * (hour * 3600 + minute * 60))
}

fn shanghai_day(date: Date, moment: Zoned) -> Result<Date, DateError> {
    if date == LONG_TERM {
        return Ok(date);
    }
    let seconds = moment.seconds - moment.east + SHANGHAI_SECONDS;
    checked(date.checked_add(Duration::days(seconds.div_euclid(86_400))))
}

/// The run of digits at the front, if its length is in `width`.
fn number(text: &str, width: std::ops::RangeInclusive<usize>) -> Option<(u16, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    let value = digits.parse().ok()?;
    width.contains(&end).then_some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: CellKind = CellKind::Text;
    const NUMBER: CellKind = CellKind::Number;

    #[test]
    fn every_form_seen_in_real_files() {
        for (text, expected) in [
            ("2018-7-27", date!(2018 - 07 - 27)),
            ("2018-07-27", date!(2018 - 07 - 27)),
            ("2019-5-22 0:00:00", date!(2019 - 05 - 22)),
            ("2019/5/22 12:00:00 AM", date!(2019 - 05 - 22)),
            ("2019/5/22 下午 11:30", date!(2019 - 05 - 22)),
            ("20200316", date!(2020 - 03 - 16)),
            ("20200316235959", date!(2020 - 03 - 16)),
            ("2018.7.27", date!(2018 - 07 - 27)),
            ("2018/7/27", date!(2018 - 07 - 27)),
            ("2026年11月5日", date!(2026 - 11 - 05)),
            ("2026 年 11 月 5 日 08:30", date!(2026 - 11 - 05)),
            ("2026年11月5号", date!(2026 - 11 - 05)),
            ("２０２６－１１－０５", date!(2026 - 11 - 05)),
            ("２０２６年１１月５日", date!(2026 - 11 - 05)),
            (" \u{FEFF}2026-11-05\u{3000}", date!(2026 - 11 - 05)),
            ("2026-11-05T08:00:00.000+08:00", date!(2026 - 11 - 05)),
            ("2026-11-05T23:59:59", date!(2026 - 11 - 05)),
            ("2026-11-04T16:00:00Z", date!(2026 - 11 - 05)),
            ("2026-11-04T15:59:59.999Z", date!(2026 - 11 - 04)),
            ("2026-11-05T00:30:00+0900", date!(2026 - 11 - 04)),
            ("2026-11-05T11:00:00-05", date!(2026 - 11 - 06)),
            ("2026-12-31T16:00:00Z", date!(2027 - 01 - 01)),
            ("2026-11-05+08:00", date!(2026 - 11 - 05)),
            ("2026-11-05Z", date!(2026 - 11 - 05)),
            ("2020-02-29", date!(2020 - 02 - 29)),
            ("2099/12/31", LONG_TERM),
            ("长期", LONG_TERM),
            ("长期有效 ", LONG_TERM),
            ("永久", LONG_TERM),
            ("无固定期限", LONG_TERM),
            ("9999-12-31", LONG_TERM),
            ("99991231", LONG_TERM),
            ("9999-12-31T00:00:00Z", LONG_TERM),
        ] {
            assert_eq!(parse_date(text, TEXT), Ok(expected), "{text}");
        }
    }

    #[test]
    fn milliseconds_are_a_date_only_where_they_are_asked_for() {
        for (text, day) in [
            ("1793836800000", date!(2026 - 11 - 05)),
            ("1793807999999", date!(2026 - 11 - 04)),
            ("1793808000000", date!(2026 - 11 - 05)),
        ] {
            assert_eq!(parse_epoch_millis(text), Ok(day), "{text}");
            assert_eq!(parse_date(text, TEXT), Err(DateError::Unrecognised), "{text}");
            assert_eq!(parse_date(text, NUMBER), Err(DateError::Unrecognised), "{text}");
        }
        for text in ["", "179383680000", "17938368000000", "1793836800000.0", "-793836800000"] {
            assert_eq!(parse_epoch_millis(text), Err(DateError::Unrecognised), "{text}");
        }
    }

    #[test]
    fn excel_serials_count_a_day_that_never_was() {
        for (text, expected) in [
            ("42473", Ok(date!(2016 - 04 - 13))),
            ("42473.0", Ok(date!(2016 - 04 - 13))),
            ("42473.99", Ok(date!(2016 - 04 - 13))),
            ("2", Ok(date!(1900 - 01 - 02))),
            ("59", Ok(date!(1900 - 02 - 28))),
            ("60", Err(DateError::NoSuchDay)),
            ("61", Ok(date!(1900 - 03 - 01))),
            ("2958465", Ok(LONG_TERM)),
            ("2958466", Err(DateError::Unrecognised)),
            ("0", Err(DateError::Placeholder)),
            ("1", Err(DateError::Placeholder)),
            ("0.5", Err(DateError::Placeholder)),
            ("2018", Err(DateError::Unrecognised)),
            ("2018.7", Err(DateError::Unrecognised)),
            ("-5", Err(DateError::Unrecognised)),
            ("20200316", Ok(date!(2020 - 03 - 16))),
            ("20200316.0", Ok(date!(2020 - 03 - 16))),
        ] {
            assert_eq!(parse_date(text, NUMBER), expected, "{text}");
        }
        assert_eq!(parse_date("42473", TEXT), Err(DateError::Unrecognised));
    }

    #[test]
    fn empty_dates_in_disguise() {
        for text in [
            "0000-00-00",
            "0000-00-00 00:00:00",
            "00000000",
            "1899-12-30",
            "1899-12-31",
            "1899/12/31 0:00:00",
            "1899-12-30T00:00:00",
            "1900-1-0",
            "1900-1-1",
            "1900-1-1 0:00:00",
            "1900/01/00",
            "1900年1月1日",
            "0001-01-01T00:00:00",
            "19000101",
        ] {
            assert_eq!(parse_date(text, TEXT), Err(DateError::Placeholder), "{text}");
        }
    }

    #[test]
    fn days_that_are_not_on_the_calendar() {
        for text in
            ["2026-02-30", "2026-13-01", "2026-00-10", "2026-04-00", "20261301", "2026年2月29日"]
        {
            assert_eq!(parse_date(text, TEXT), Err(DateError::NoSuchDay), "{text}");
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "无处罚期限",
            "无",
            "2018",
            "2018-7",
            "2018.7",
            "2018-7/27",
            "2018/7-27",
            "18-7-27",
            "7/27/2018",
            "2018-7-27-1",
            "2018-7-27-08",
            "2018-7-27x",
            "2018-7-27 25:00",
            "2018-7-27 1:60",
            "2018-7-27T",
            "2018-7-271:00",
            "2018-7-27 10",
            "2018-7-27 10:00:00.",
            "2018年7月27",
            "2018-007-27",
            "0218-07-27",
            "123456789",
            "12345678901234567890123",
            "2018-7-27 10:00:00+8",
            "2018-7-27 10:00 CST",
            "20200316250000",
            "true",
            "2018-7-27至2019-7-27",
        ] {
            assert_eq!(parse_date(text, TEXT), Err(DateError::Unrecognised), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_day_reads_back_in_every_form(offset in 3_000_i64..70_000) {
            let day = date!(1900 - 01 - 01) + Duration::days(offset);
            let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
            for text in [
                format!("{y}-{m}-{d}"), format!("{y}/{m:02}/{d:02} 0:00"), format!("{y}.{m}.{d}"),
                format!("{y}年{m}月{d}日"), format!("{y}{m:02}{d:02}"),
                format!("{y}-{m:02}-{d:02}T00:00:00+08:00"),
            ] {
                prop_assert_eq!(parse_date(&text, TEXT), Ok(day), "{}", text);
            }
            // Serial 2 is 1900-01-02, and all after February 1900 are one higher.
            prop_assert_eq!(parse_date(&(offset + 2).to_string(), NUMBER), Ok(day));
        }

        #[test]
        fn nothing_panics(text in "[0-9年月日:TZ+./ -]{0,24}", as_number in any::<bool>()) {
            let kind = if as_number { NUMBER } else { TEXT };
            if let Ok(day) = parse_date(&text, kind) {
                prop_assert!((1800..9999).contains(&day.year()));
            }
        }
    }
}
