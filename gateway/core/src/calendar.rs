//! Working days, from the State Council's yearly notices as data.
//!
//! One file per notice year, `calendar/<year>.yaml`:
//!
//! ```yaml
//! year: 2019                      # the year in the notice's title, and in the file's name
//! published: 2018-12-06           # optional: when the first notice was published
//! notices:                        # where it can be read; later amendments follow
//!   - http://www.gov.cn/…/content_5346276.htm
//! off:                            # days off, weekends named in the notice included
//!   - { date: 2018-12-30, name: 元旦 }
//! work:                           # weekend days worked in exchange (调休)
//!   - 2018-12-29
//! ```
//!
//! A day no file lists is a working day from Monday to Friday. A notice may move days of the
//! December before its year, as the one for 2019 did; such days stand in the file of the notice
//! and so change the former year. If two files list one day and disagree, that is an error: an
//! amendment is made in the file it amends.
//!
//! A year without `notices` is a draft: its days are used, but every answer resting on them is
//! provisional, as is every answer after a missing year. The last days of the last covered
//! December are answered as covered, although the next notice may still move them.

mod file;

use std::collections::BTreeMap;
use std::fmt;

use time::{Date, Month};

use crate::diagnostic::{Bundle, Diagnostics};
use file::{Listed, Reader};

/// The published calendar. Past its coverage every answer is provisional: Monday to Friday is a
/// guess, and said to be one.
#[derive(Clone)]
pub struct Calendar {
    first: Date,
    last: Date,
    version: String,
    /// Julian days the table below knows of: from `start` to before `end`.
    start: i32,
    end: i32,
    /// Working days before each day of the table, counted from `start`.
    rank: Vec<i32>,
    /// The julian day of each working day of the table, in order.
    working: Vec<i32>,
}

/// What the calendar says of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// A working day, by notice or weekday.
    Working,
    /// A day off.
    Off,
}

impl Calendar {
    /// Reads `calendar/<year>.yaml` of a bundle; every error of every file at once.
    pub fn load(bundle: &Bundle) -> Result<Self, Diagnostics> {
        let mut reader = Reader::default();
        let files = bundle.under("calendar/").filter(|(path, _)| path.ends_with(".yaml"));
        files.for_each(|(path, text)| reader.file(path, text));
        let mut covered = reader.years.iter().filter(|year| *year.1).map(|year| *year.0);
        let first = covered.next();
        let last = first.map(|first| {
            covered
                .zip(first + 1..)
                .take_while(|(a, b)| a == b)
                .last()
                .map_or(first, |(year, _)| year)
        });
        let first = first.and_then(|year| Date::from_calendar_date(year, Month::January, 1).ok());
        let last = last.and_then(|year| Date::from_calendar_date(year, Month::December, 31).ok());
        match (first, last) {
            _ if reader.errors.has_errors() => Err(reader.errors),
            (Some(first), Some(last)) => Ok(Self::build(first, last, &reader.days)),
            _ => {
                reader.nothing_covered();
                Err(reader.errors)
            }
        }
    }

    /// First and last day covered by notices.
    pub fn coverage(&self) -> (Date, Date) {
        (self.first, self.last)
    }

    /// A short text naming the data in force, e.g. `2007-2026#3fa9c1d2`: changes when any day changes.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What a day is, and whether that is only a guess (not covered).
    pub fn day(&self, date: Date) -> (Day, bool) {
        let works = self.working_days_between(date, date) == 1;
        (if works { Day::Working } else { Day::Off }, !self.covers(date, date))
    }

    /// The `n`th working day after `from` (day 0), and whether any day on the way was a guess.
    ///
    /// Nothing is walked: four additions and a look-up. Past 9999-12-31 it is that day.
    pub fn add_working_days(&self, from: Date, n: u32) -> (Date, bool) {
        if n == 0 {
            return (from, false);
        }
        let next = from.to_julian_day() + 1;
        let index = i64::from(self.before(next)) + i64::from(n) - 1;
        let found = i32::try_from(index).ok().map(|index| self.nth(index));
        let found = found.and_then(|day| Date::from_julian_day(day).ok()).unwrap_or(Date::MAX);
        (found, !self.covers(from.next_day().unwrap_or(Date::MAX), found))
    }

    /// Working days in `from..=to` (0 when `to` is before `from`).
    pub fn working_days_between(&self, from: Date, to: Date) -> u32 {
        let days = self.before(to.to_julian_day() + 1) - self.before(from.to_julian_day());
        u32::try_from(days).unwrap_or(0)
    }

    fn build(first: Date, last: Date, days: &BTreeMap<Date, Listed>) -> Self {
        let listed_first = days.first_key_value().map_or(first, |(date, _)| *date);
        let listed_last = days.last_key_value().map_or(last, |(date, _)| *date);
        let start = first.min(listed_first).to_julian_day();
        let end = last.max(listed_last).to_julian_day() + 1;
        let mut rank = Vec::new();
        let mut working = Vec::new();
        for day in start..end {
            rank.push(count(&working));
            let listed = Date::from_julian_day(day).ok().and_then(|date| days.get(&date));
            if listed.map_or(day.rem_euclid(7) < 5, |listed| listed.day == Day::Working) {
                working.push(day);
            }
        }
        let bounds = [first.to_julian_day(), last.to_julian_day()];
        let hash = fnv1a(bounds.iter().chain(&working).flat_map(|day| day.to_le_bytes()));
        let version = format!("{}-{}#{hash:08x}", first.year(), last.year());
        Self { first, last, version, start, end, rank, working }
    }

    fn covers(&self, from: Date, to: Date) -> bool {
        self.first <= from && to <= self.last
    }

    /// Working days from `start` to before `day`; negative if `day` is before `start`.
    fn before(&self, day: i32) -> i32 {
        if day < self.start {
            weekdays_before(day) - weekdays_before(self.start)
        } else if day >= self.end {
            count(&self.working) + weekdays_before(day) - weekdays_before(self.end)
        } else {
            usize::try_from(day - self.start).ok().and_then(|i| self.rank.get(i)).map_or(0, |r| *r)
        }
    }

    /// The working day that `index` working days stand before: the inverse of `before`.
    fn nth(&self, index: i32) -> i32 {
        match usize::try_from(index).map(|i| self.working.get(i)) {
            Ok(Some(day)) => *day,
            Ok(None) => {
                let beyond = index - count(&self.working);
                nth_weekday(weekdays_before(self.end).saturating_add(beyond))
            }
            Err(_) => nth_weekday(weekdays_before(self.start) + index),
        }
    }
}

/// The version only: the tables would fill a log.
impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({})", self.version)
    }
}

/// Days from Monday to Friday in `0..day`: julian day 0 was a Monday.
fn weekdays_before(day: i32) -> i32 {
    day.div_euclid(7) * 5 + day.rem_euclid(7).min(5)
}

/// The inverse of [`weekdays_before`].
fn nth_weekday(index: i32) -> i32 {
    index.div_euclid(5).saturating_mul(7).saturating_add(index.rem_euclid(5))
}

fn count(days: &[i32]) -> i32 {
    i32::try_from(days.len()).unwrap_or(i32::MAX)
}

/// FNV-1a, 32 bits: tells calendars apart, protects nothing.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The product's own calendar, read once.
#[cfg(test)]
pub(crate) static PUBLISHED: std::sync::LazyLock<Calendar> =
    std::sync::LazyLock::new(|| Calendar::load(&published()).unwrap());

/// The product's own files.
#[cfg(test)]
fn published() -> Bundle {
    macro_rules! files {
        ($($year:literal)*) => {
            [$((
                concat!("calendar/", $year, ".yaml"),
                include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"), "/../../mappings/calendar/", $year, ".yaml"
                )),
            )),*]
        };
    }
    let files = files!(2007 2008 2009 2010 2011 2012 2013 2014 2015 2016 2017 2018 2019 2020 2021
        2022 2023 2024 2025 2026);
    Bundle(files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::{date, format_description};

    fn bundle(files: &[(&str, &str)]) -> Bundle {
        Bundle(files.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect())
    }

    fn year(year: i32, off: &str, work: &str) -> String {
        format!("year: {year}\nnotices: [通知]\noff: [{off}]\nwork: [{work}]\n")
    }

    fn codes(files: &[(&str, &str)]) -> Vec<(&'static str, String, u32)> {
        let errors = Calendar::load(&bundle(files)).unwrap_err();
        errors.0.into_iter().map(|d| (d.code, d.file, d.line)).collect()
    }

    #[test]
    fn the_published_years_are_covered() {
        let calendar = &*PUBLISHED;
        assert_eq!(calendar.coverage(), (date!(2007 - 01 - 01), date!(2026 - 12 - 31)));
        assert!(calendar.version().starts_with("2007-2026#"), "{}", calendar.version());
        assert_eq!(calendar.version().len(), "2007-2026#".len() + 8);
    }

    #[test]
    fn the_notice_for_2019_moved_three_days_of_2018() {
        let calendar = &*PUBLISHED;
        assert_eq!(calendar.day(date!(2018 - 12 - 29)), (Day::Working, false));
        assert_eq!(calendar.day(date!(2018 - 12 - 31)), (Day::Off, false));
        let mut before = published();
        before.0.retain(|path, _| path.as_str() <= "calendar/2018.yaml");
        let before = Calendar::load(&before).unwrap();
        assert_eq!(before.day(date!(2018 - 12 - 29)), (Day::Off, false));
        assert_eq!(before.day(date!(2019 - 01 - 01)), (Day::Working, true));
        assert_ne!(before.version(), calendar.version());
    }

    /// What the files list, read without the reader under test: whether a day is worked.
    static LISTED: std::sync::LazyLock<BTreeMap<Date, bool>> = std::sync::LazyLock::new(|| {
        let mut listed = BTreeMap::new();
        for line in published().0.values().flat_map(|text| text.lines()) {
            let item = line.trim_start().trim_start_matches("- ");
            let (text, works) = match item.strip_prefix("{ date: ") {
                Some(rest) => (rest.split(',').next().unwrap_or(""), false),
                None => (item, true),
            };
            if let Ok(date) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
                listed.insert(date, works);
            }
        }
        listed
    });

    #[test]
    fn every_listed_day_is_what_its_file_says() {
        assert_eq!(LISTED.len(), 678);
        for (date, works) in &*LISTED {
            let expected = if *works { Day::Working } else { Day::Off };
            let guess = date.year() == 2006;
            assert_eq!(PUBLISHED.day(*date), (expected, guess), "{date}");
        }
    }

    #[test]
    fn a_year_without_notice_or_after_a_gap_is_provisional() {
        let covered = year(2020, "", "");
        let draft = year(2021, "{ date: 2021-01-04, name: 元旦 }", "").replace("[通知]", "[]");
        let gap = year(2023, "", "");
        let calendar = Calendar::load(&bundle(&[
            ("calendar/2020.yaml", &covered),
            ("calendar/2021.yaml", &draft),
            ("calendar/2023.yaml", &gap),
            ("calendar/NOTICE", "no calendar"),
        ]));
        let calendar = calendar.unwrap();
        assert_eq!(calendar.coverage(), (date!(2020 - 01 - 01), date!(2020 - 12 - 31)));
        assert_eq!(calendar.day(date!(2021 - 01 - 04)), (Day::Off, true));
        assert_eq!(calendar.day(date!(2023 - 01 - 02)), (Day::Working, true));
        assert_eq!(
            calendar.add_working_days(date!(2020 - 12 - 31), 2),
            (date!(2021 - 01 - 05), true)
        );
    }

    #[test]
    fn the_version_follows_the_days_and_not_the_words() {
        let load = |text: &str| {
            let calendar = Calendar::load(&bundle(&[("calendar/2020.yaml", text)])).unwrap();
            calendar.version().to_owned()
        };
        let base = year(2020, "{ date: 2020-01-01, name: 元旦 }", "");
        assert_eq!(load(&base), load(&base.replace("元旦", "新年")));
        assert_ne!(load(&base), load(&base.replace("01-01", "01-02")));
    }

    #[test]
    fn all_errors_are_reported_at_once_with_their_places() {
        let wrong = "year: 2020\nnotices: [通知]\noff:\n  - { date: 2020-02-30, name: 春节 }\n  \
                     - { date: 2020-05-01, name: '' }\n  - { date: 2018-12-31, name: 元旦 }\nwork:\n  \
                     - 2020-05-01\n  - 2020-05-02\n  - 2020-05-02\n  - 5月3日\n";
        let named = year(2022, "", "");
        let unknown = format!("{}holidays: []\n", year(2023, "", ""));
        let found = codes(&[
            ("calendar/2020.yaml", wrong),
            ("calendar/2021.yaml", &named),
            ("calendar/2023.yaml", &unknown),
            ("calendar/2024.yaml", "year: 2024\nnotices: []\noff: []\n"),
            ("calendar/2025.yaml", "year: ["),
        ]);
        let at = |code, year, line| (code, format!("calendar/{year}.yaml"), line);
        assert_eq!(
            found[..7],
            [
                at("calendar.date", 2020, 4),
                at("calendar.name", 2020, 5),
                at("calendar.other-year", 2020, 6),
                at("calendar.conflict", 2020, 8),
                at("calendar.conflict", 2020, 10),
                at("calendar.date", 2020, 11),
                at("calendar.file-name", 2021, 1),
            ]
        );
        assert_eq!(found[7], at("calendar.unreadable", 2023, 5));
        assert_eq!(found[8].0, "calendar.unreadable");
        assert_eq!(found[9].0, "calendar.unreadable");
        assert_eq!(found.len(), 10);
    }

    #[test]
    fn an_error_underlines_the_date() {
        let text = year(2020, "{ date: 2020-02-30, name: 春节 }", "");
        let errors = Calendar::load(&bundle(&[("calendar/2020.yaml", &text)])).unwrap_err();
        assert_eq!(text.get(errors.0[0].span.clone()), Some("2020-02-30"));
        assert_eq!(
            errors.to_string(),
            "calendar/2020.yaml:3:15: 错误[calendar.date]: “2020-02-30”不是有效日期。写成 2026-01-31 的形式"
        );
    }

    #[test]
    fn files_that_disagree_are_errors_and_files_that_agree_are_not() {
        let former = year(2020, "{ date: 2020-12-31, name: 元旦 }", "");
        let agrees = year(2021, "{ date: 2020-12-31, name: 元旦 }", "");
        let disagrees = year(2021, "", "2020-12-31");
        let files =
            |later| bundle(&[("calendar/2020.yaml", &former), ("calendar/2021.yaml", later)]);
        assert!(Calendar::load(&files(&agrees)).is_ok());
        let errors = Calendar::load(&files(&disagrees)).unwrap_err();
        assert_eq!(errors.0.len(), 1);
        assert!(errors.0[0].message.contains("calendar/2020.yaml第3行"), "{errors}");
    }

    #[test]
    fn without_a_notice_there_is_no_calendar() {
        assert_eq!(codes(&[]), [("calendar.uncovered", "calendar/".to_owned(), 0)]);
        let draft = year(2020, "", "").replace("[通知]", "[]");
        assert_eq!(codes(&[("calendar/2020.yaml", &draft)])[0].0, "calendar.uncovered");
        let later = year(2021, "", "");
        let files = [("calendar/2020.yaml", &*draft), ("calendar/2021.yaml", &later)];
        let calendar = Calendar::load(&bundle(&files)).unwrap();
        assert_eq!(calendar.coverage(), (date!(2021 - 01 - 01), date!(2021 - 12 - 31)));
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        let calendar = &*PUBLISHED;
        assert_eq!(calendar.add_working_days(Date::MAX, 1), (Date::MAX, true));
        for n in [u32::MAX, i32::MAX.unsigned_abs(), i32::MAX.unsigned_abs() - 5_000] {
            assert_eq!(calendar.add_working_days(date!(2026 - 01 - 01), n), (Date::MAX, true));
        }
        assert_eq!(
            calendar.add_working_days(date!(2026 - 02 - 15), 0),
            (date!(2026 - 02 - 15), false)
        );
        assert_eq!(calendar.working_days_between(Date::MAX, Date::MIN), 0);
        assert!(calendar.working_days_between(Date::MIN, Date::MAX) > 5_000_000);
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_walk_day_by_day(offset in -400_i64..8_000, n in 0_u32..300) {
            let calendar = &*PUBLISHED;
            let from = date!(2007 - 01 - 01) + time::Duration::days(offset);
            let (mut at, mut left) = (from, n);
            while left > 0 {
                at = at.next_day().unwrap();
                let weekday = at.weekday().number_from_monday() <= 5;
                left -= u32::from(LISTED.get(&at).copied().unwrap_or(weekday));
            }
            let (found, guess) = calendar.add_working_days(from, n);
            prop_assert_eq!(found, at);
            let after = from.next_day().unwrap();
            prop_assert_eq!(calendar.working_days_between(after, at), n);
            let beyond = at > date!(2026 - 12 - 31) || after < date!(2007 - 01 - 01);
            prop_assert_eq!(guess, n > 0 && beyond);
        }

        #[test]
        fn an_unlisted_day_goes_by_its_weekday(offset in 0_i64..3_000) {
            let date = date!(2027 - 01 - 01) + time::Duration::days(offset);
            let weekday = date.weekday().number_from_monday() <= 5;
            let expected = if weekday { Day::Working } else { Day::Off };
            prop_assert_eq!(PUBLISHED.day(date), (expected, true));
        }
    }
}
