//! One year's file; the format stands at the head of [`crate::calendar`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::{Error, Location, Spanned};
use time::macros::format_description;
use time::{Date, Month};

use super::Day;
use crate::diagnostic::{Diagnostic, Diagnostics, Level};

/// A day as a file lists it.
pub(super) struct Listed {
    pub(super) day: Day,
    /// The file's path and the line.
    place: String,
}

#[derive(Default)]
pub(super) struct Reader {
    /// Each year, and whether its file names a notice.
    pub(super) years: BTreeMap<i32, bool>,
    pub(super) days: BTreeMap<Date, Listed>,
    pub(super) errors: Diagnostics,
}

impl Reader {
    pub(super) fn file(&mut self, path: &str, text: &str) {
        let file: YearFile = match serde_saphyr::from_str(text) {
            Ok(file) => file,
            Err(error) => return self.unreadable(path, &error),
        };
        let year = i32::from(file.year.value);
        if path != format!("calendar/{year}.yaml") {
            self.error(
                path,
                file.year.referenced,
                "calendar.file-name",
                format!("year 为{year},与文件名不一致"),
                "文件名应为<年份>.yaml",
            );
        }
        self.years.insert(year, !file.notices.is_empty());
        if let Some(published) = &file.published {
            self.date(path, published);
        }
        for Holiday { date, name } in &file.off {
            if name.value.trim().is_empty() {
                let (code, message) = ("calendar.name", "节日名称为空".to_owned());
                self.error(path, name.referenced, code, message, "写明是哪个节日");
            }
            self.list(path, year, date, Day::Off);
        }
        for date in &file.work {
            self.list(path, year, date, Day::Working);
        }
    }

    pub(super) fn nothing_covered(&mut self) {
        self.error(
            "calendar/",
            Location::UNKNOWN,
            "calendar.uncovered",
            "没有任何一年的节假日安排".to_owned(),
            "至少要有一年的文件在 notices 中写明国务院通知",
        );
    }

    fn date(&mut self, path: &str, text: &Spanned<String>) -> Option<Date> {
        let date = Date::parse(&text.value, format_description!("[year]-[month]-[day]")).ok();
        if date.is_none() {
            let message = format!("“{}”不是有效日期", text.value);
            self.error(path, text.referenced, "calendar.date", message, "写成 2026-01-31 的形式");
        }
        date
    }

    fn list(&mut self, path: &str, year: i32, text: &Spanned<String>, day: Day) {
        let Some(date) = self.date(path, text) else { return };
        let december_before = date.year() == year - 1 && date.month() == Month::December;
        if date.year() != year && !december_before {
            return self.error(
                path,
                text.referenced,
                "calendar.other-year",
                format!("{date}不在{year}年通知的范围内"),
                "只能列当年的日子和上一年12月的日子",
            );
        }
        let place = format!("{path}第{}行", text.referenced.line());
        match self.days.get(&date) {
            None => {
                self.days.insert(date, Listed { day, place });
            }
            Some(other) if other.day == day && !other.place.starts_with(path) => {}
            Some(other) => {
                let message = match other.day == day {
                    true => format!("{date}重复,已列于{}", other.place),
                    false => format!("{date}既是休息日又是工作日,另见{}", other.place),
                };
                let (code, help) = ("calendar.conflict", "核对国务院通知,只留一处");
                self.error(path, text.referenced, code, message, help);
            }
        }
    }

    fn unreadable(&mut self, path: &str, error: &Error) {
        let keys = "可用的键: year published notices off work,off 的每项有 date name";
        let (message, help) = match error.without_snippet() {
            Error::SerdeUnknownField { field, .. } => (format!("不认识的键“{field}”"), keys),
            Error::SerdeMissingField { field, .. } => (format!("缺少键“{field}”"), keys),
            Error::DuplicateMappingKey { .. } => ("键重复".to_owned(), keys),
            other => (format!("不是可读的日历文件({other})"), "对照其他年份的文件改正"),
        };
        let place = error.location().unwrap_or(Location::UNKNOWN);
        self.error(path, place, "calendar.unreadable", message, help);
    }

    fn error(
        &mut self,
        path: &str,
        place: Location,
        code: &'static str,
        message: String,
        help: &str,
    ) {
        let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let at = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let (start, length) = (at(place.span().byte_offset()), at(place.span().byte_len()));
        self.errors.0.push(Diagnostic {
            code,
            level: Level::Error,
            file: path.to_owned(),
            line: small(place.line()),
            column: small(place.column()),
            span: start..start + length,
            message,
            help: Some(help.to_owned()),
        });
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct YearFile {
    year: Spanned<u16>,
    published: Option<Spanned<String>>,
    notices: Vec<String>,
    off: Vec<Holiday>,
    work: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Holiday {
    date: Spanned<String>,
    /// For the people who read the file; must be there so that a moved day can be told.
    name: Spanned<String>,
}
