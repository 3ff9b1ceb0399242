//! Where a pull stands and what comes next: a pure function of the position, the time and what a
//! page said.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::macros::format_description;
use xinqiao_core::model::Timestamp;

use super::template::Values;
use crate::wire::params::Params;

/// How an interface hands out its data.
#[derive(Debug, Clone)]
pub(super) enum Paging {
    /// One answer, fetched anew every time.
    None,
    /// Every answer names where to go on; over once it names nothing, or nothing new.
    Cursor {
        /// Query parameter; left out while there is no cursor.
        param: Option<String>,
        /// JSON pointer to the next cursor.
        from: String,
    },
    /// Numbered pages; over at one with fewer than `size` rows.
    Page(Numbers),
    /// Windows of time `[from, to)` one after another, each when it lies `lag` in the past.
    Window {
        from_param: Option<String>,
        to_param: Option<String>,
        format: String,
        start: Timestamp,
        step: Duration,
        lag: Duration,
        /// Pages inside a window.
        page: Option<Numbers>,
    },
}

/// Numbered pages.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) param: Option<String>,
    pub(super) size_param: Option<String>,
    pub(super) size: u64,
    pub(super) first: u64,
    /// The list only grows at its end: the next round goes on at the last page. Otherwise every
    /// round begins at the first page, and the inbox knows what it has.
    pub(super) resume: bool,
}

/// What the cursor holds, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<u64>,
    /// Beginning of the next window, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
}

/// The step after a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Advance {
    pub(super) position: Position,
    /// Nothing more for now.
    pub(super) last: bool,
}

impl Position {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Where an interface with cursors goes on.
    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// Whether it is a numbered page of the same list as the one before.
    pub(super) fn follows(&self, before: &Self) -> bool {
        self.from == before.from && self.page > before.page
    }

    /// Tells pages apart in a message's name.
    pub(super) fn label(&self) -> String {
        let from = self.from.map(|from| format!("@{}", Timestamp(from)));
        let page = self.page.map(|page| format!("#{page}"));
        let cursor = self.cursor.as_ref().map(|cursor| format!("#{cursor}"));
        [from, page, cursor].into_iter().flatten().collect()
    }
}

impl Paging {
    /// The position committed last; from the beginning if there is none, or it cannot be read.
    pub(super) fn start(&self, cursor: Option<&[u8]>) -> Position {
        let at: Position = cursor.and_then(|c| serde_json::from_slice(c).ok()).unwrap_or_default();
        match self {
            Self::None => Position::default(),
            Self::Cursor { .. } => Position { cursor: at.cursor, ..Position::default() },
            Self::Page(page) => {
                Position { page: Some(at.page.unwrap_or(page.first)), ..Position::default() }
            }
            Self::Window { start, page, .. } => Position {
                from: Some(at.from.unwrap_or(start.0)),
                page: page.as_ref().map(|page| at.page.unwrap_or(page.first)),
                cursor: None,
            },
        }
    }

    /// Where to begin a list again in which something is wrong: at its first page, unless it only
    /// grows at its end.
    pub(super) fn anew(&self, at: &Position) -> Position {
        match self {
            Self::Page(page) | Self::Window { page: Some(page), .. } if !page.resume => {
                Position { page: Some(page.first), ..at.clone() }
            }
            _ => at.clone(),
        }
    }

    /// What to ask with; `None` while a window is not over yet.
    pub(super) fn values(&self, at: &Position, now: Timestamp) -> Option<Values> {
        let mut values = Values::from([("today".to_owned(), now.shanghai_date().to_string())]);
        values.extend(at.page.map(|page| ("page".to_owned(), page.to_string())));
        match self {
            Self::None => {}
            Self::Cursor { .. } => {
                values.insert("cursor".to_owned(), at.cursor.clone().unwrap_or_default());
            }
            Self::Page(page) => {
                values.insert("size".to_owned(), page.size.to_string());
            }
            Self::Window { format, step, lag, page, .. } => {
                let from = Timestamp(at.from.unwrap_or_default());
                let to = from.plus_millis(millis(*step));
                if to.plus_millis(millis(*lag)) > now {
                    return None;
                }
                values.insert("from".to_owned(), written(from, format));
                values.insert("to".to_owned(), written(to, format));
                values.extend(page.as_ref().map(|page| ("size".to_owned(), page.size.to_string())));
            }
        }
        Some(values)
    }

    /// Query parameters of these values: name and value.
    pub(super) fn query<'a>(&'a self, values: &'a Values) -> Vec<(&'a str, &'a str)> {
        let wanted: Vec<(&Option<String>, &str)> = match self {
            Self::None => Vec::new(),
            Self::Cursor { param, .. } => vec![(param, "cursor")],
            Self::Page(page) => vec![(&page.param, "page"), (&page.size_param, "size")],
            Self::Window { from_param, to_param, page, .. } => {
                let mut wanted = vec![(from_param, "from"), (to_param, "to")];
                if let Some(page) = page {
                    wanted.extend([(&page.param, "page"), (&page.size_param, "size")]);
                }
                wanted
            }
        };
        let given = wanted
            .into_iter()
            .filter_map(|(param, name)| Some((param.as_deref()?, values.get(name)?.as_str())));
        given.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The query parameters that are named.
    pub(super) fn query_names(&self) -> Vec<&str> {
        let named: Vec<&Option<String>> = match self {
            Self::None => Vec::new(),
            Self::Cursor { param, .. } => vec![param],
            Self::Page(page) => vec![&page.param, &page.size_param],
            Self::Window { from_param, to_param, page, .. } => {
                let pages = page.iter().flat_map(|page| [&page.param, &page.size_param]);
                [from_param, to_param].into_iter().chain(pages).collect()
            }
        };
        named.into_iter().filter_map(Option::as_deref).collect()
    }

    /// Whether there are numbered pages.
    pub(super) fn numbered(&self) -> bool {
        matches!(self, Self::Page(_) | Self::Window { page: Some(_), .. })
    }

    /// Where the next cursor stands.
    pub(super) fn cursor_path(&self) -> Option<&str> {
        match self {
            Self::Cursor { from, .. } => Some(from),
            _ => None,
        }
    }

    /// The position after a page with `rows` rows (`None`: not counted) that named `next`.
    pub(super) fn advance(
        &self,
        at: &Position,
        rows: Option<usize>,
        next: Option<&str>,
    ) -> Advance {
        let mut position = at.clone();
        let full = |page: &Numbers| {
            rows.is_some_and(|rows| u64::try_from(rows).unwrap_or(u64::MAX) >= page.size)
        };
        let following = at.page.map(|page| page.saturating_add(1));
        let last = match self {
            Self::None => true,
            Self::Cursor { .. } => {
                let next = next.filter(|next| !next.is_empty());
                let moved = next.is_some() && next != at.cursor.as_deref();
                if moved {
                    position.cursor = next.map(str::to_owned);
                }
                !moved || rows == Some(0)
            }
            Self::Page(page) if full(page) => {
                position.page = following;
                false
            }
            Self::Page(page) => {
                if !page.resume {
                    position.page = Some(page.first);
                }
                true
            }
            Self::Window { page: Some(page), .. } if full(page) => {
                position.page = following;
                false
            }
            Self::Window { step, page, .. } => {
                let from = Timestamp(at.from.unwrap_or_default());
                position.from = Some(from.plus_millis(millis(*step)).0);
                position.page = page.as_ref().map(|page| page.first);
                false
            }
        };
        Advance { position, last }
    }
}

/// A path that must begin with `/`.
pub(super) fn pointer(params: &mut Params<'_>, key: &'static str) -> String {
    let path = params.need_text(key);
    if !path.is_empty() && !path.starts_with('/') {
        params.problem_of(key, "应为以 / 开头的路径,如 /data/rows");
    }
    path
}

/// Reads `round-pages`.
pub(super) fn round(params: &mut Params<'_>) -> u64 {
    params.number("round-pages", 10_000)
}

/// Reads `paging`.
pub(super) fn read_paging(mut p: Params<'_>) -> Paging {
    let cursor = p.object("cursor").map(|mut p| {
        let paging = Paging::Cursor { param: p.text("param"), from: pointer(&mut p, "from") };
        p.done();
        paging
    });
    let page = p.object("page").map(|mut p| {
        let page = Numbers {
            param: p.text("param"),
            size_param: p.text("size-param"),
            size: p.number("size", 100),
            first: p.count("first", 1),
            resume: p.flag("resume", false),
        };
        p.done();
        page
    });
    let window = p.object("window").map(|mut p| {
        let second = Duration::from_secs(1);
        let from_param = p.text("from-param");
        let to_param = p.text("to-param");
        let format = p.text("format").unwrap_or_else(|| "yyyy-MM-dd HH:mm:ss".to_owned());
        let start = moment(&mut p);
        let step = p.seconds("step-seconds", Duration::from_secs(3600), second);
        let lag = p.seconds("lag-seconds", Duration::from_secs(600), Duration::ZERO);
        p.done();
        Paging::Window { from_param, to_param, format, start, step, lag, page: None }
    });
    match (cursor, page, window) {
        (Some(cursor), None, None) => {
            p.done();
            cursor
        }
        (None, Some(page), None) => {
            p.done();
            Paging::Page(page)
        }
        (
            None,
            page,
            Some(Paging::Window { from_param, to_param, format, start, step, lag, .. }),
        ) => {
            p.done();
            Paging::Window { from_param, to_param, format, start, step, lag, page }
        }
        _ => {
            p.problem("应给出其中一种:cursor、page、window(window 可与 page 合用)");
            p.done();
            Paging::None
        }
    }
}

/// `start`: a day or a time of day in Asia/Shanghai.
fn moment(p: &mut Params<'_>) -> Timestamp {
    let text = p.need_text("start");
    let day = format_description!("[year]-[month]-[day]");
    let time = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let parsed = time::PrimitiveDateTime::parse(&text, time)
        .or_else(|_| time::Date::parse(&text, day).map(time::Date::midnight));
    match parsed {
        Ok(at) => Timestamp::at_shanghai(at.date(), at.time()),
        Err(_) => {
            if !text.is_empty() {
                p.problem_of("start", "应为日期或时间,如 2026-01-01 或 2026-01-01 08:00:00");
            }
            Timestamp(0)
        }
    }
}

/// A time as the interface wants it: `millis`, `seconds`, or letters as in Java
/// (`yyyy-MM-dd HH:mm:ss`), in Asia/Shanghai.
fn written(at: Timestamp, format: &str) -> String {
    match format {
        "millis" => return at.0.to_string(),
        "seconds" => return (at.0 / 1000).to_string(),
        _ => {}
    }
    let text = at.to_string();
    let part = |range| text.get(range).unwrap_or_default();
    format
        .replace("yyyy", part(0..4))
        .replace("MM", part(5..7))
        .replace("dd", part(8..10))
        .replace("HH", part(11..13))
        .replace("mm", part(14..16))
        .replace("ss", part(17..19))
        .replace("SSS", part(20..23))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, time};

    fn numbers(resume: bool) -> Numbers {
        Numbers { param: Some("p".into()), size_param: None, size: 2, first: 1, resume }
    }

    #[test]
    fn pages_end_at_a_short_one() {
        let at = Position { page: Some(3), ..Position::default() };
        for (resume, rows, page, last) in
            [(true, 2, 4, false), (true, 1, 3, true), (true, 0, 3, true), (false, 1, 1, true)]
        {
            let advance = Paging::Page(numbers(resume)).advance(&at, Some(rows), None);
            assert_eq!((advance.position.page, advance.last), (Some(page), last));
        }
    }

    #[test]
    fn a_cursor_ends_where_it_stays() {
        let paging = Paging::Cursor { param: None, from: "/next".into() };
        let at = paging.start(Some(br#"{"cursor":"a"}"#));
        for (rows, next, cursor, last) in [
            (Some(1), Some("b"), "b", false),
            (Some(1), Some("a"), "a", true),
            (None, None, "a", true),
            (None, Some(""), "a", true),
            (Some(0), Some("b"), "b", true),
        ] {
            let advance = paging.advance(&at, rows, next);
            assert_eq!((advance.position.cursor.as_deref(), advance.last), (Some(cursor), last));
        }
    }

    #[test]
    fn windows_follow_one_another_and_never_reach_into_the_lag() {
        let start = Timestamp::at_shanghai(date!(2026 - 11 - 20), time!(00:00));
        let day = Duration::from_secs(86_400);
        let paging = Paging::Window {
            from_param: Some("f".into()),
            to_param: Some("t".into()),
            format: "yyyy-MM-dd HH:mm:ss".into(),
            start,
            step: day,
            lag: Duration::from_secs(600),
            page: Some(numbers(false)),
        };
        let at = paging.start(None);
        let over = Timestamp::at_shanghai(date!(2026 - 11 - 21), time!(00:10));
        assert!(paging.values(&at, Timestamp(over.0 - 1)).is_none());
        let values = paging.values(&at, over).unwrap();
        assert_eq!(
            paging.query(&values),
            [("f", "2026-11-20 00:00:00"), ("t", "2026-11-21 00:00:00"), ("p", "1")]
        );
        let full = paging.advance(&at, Some(2), None).position;
        assert_eq!((full.from, full.page), (Some(start.0), Some(2)));
        assert_eq!(paging.start(Some(&full.encode())), full);
        let done = paging.advance(&full, Some(1), None).position;
        assert_eq!((done.from, done.page), (Some(start.plus_millis(86_400_000).0), Some(1)));
        assert_eq!(written(start, "yyyyMMddHHmmssSSS"), "20261120000000000");
        assert_eq!(written(start, "seconds"), (start.0 / 1000).to_string());
    }
}
