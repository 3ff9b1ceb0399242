//! The closed list of operations on one text. Each is compiled once and runs without looking
//! anything up; a text that needs no change is passed on as it is.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};
use time::{Date, Month};

use super::file::{OpFile, Side};
use crate::yaml::{At, Reader};

/// Texts longer than this are not made by `pad`.
const PAD_LIMIT: u32 = 256;
/// Compiled size of a pattern, in bytes.
const PATTERN_LIMIT: usize = 1 << 20;

/// A compiled operation.
#[derive(Debug)]
pub(super) enum Op {
    Halfwidth,
    Upper,
    Strip,
    Brackets,
    Replace { find: String, with: String },
    Pad { to: usize, with: char, side: Side },
    Substr { skip: usize, take: usize },
    Extract { pattern: Regex, group: usize },
}

impl Op {
    /// Compiles an operation; what is wrong with its parameters is told to `reader`.
    pub(super) fn compile(op: &At<OpFile>, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match &op.value {
            OpFile::Halfwidth => Self::Halfwidth,
            OpFile::Upper => Self::Upper,
            OpFile::Strip => Self::Strip,
            OpFile::Brackets => Self::Brackets,
            OpFile::Replace(replace) => {
                if replace.find.value.is_empty() {
                    let message = "要找的文本不能为空".into();
                    reader.error("yaml.value", replace.find.span.clone(), message, None);
                    return None;
                }
                Self::Replace {
                    find: replace.find.value.clone(),
                    with: replace.with.clone().unwrap_or_default(),
                }
            }
            OpFile::Pad(pad) => {
                if pad.to.value > PAD_LIMIT {
                    let message = format!("最多补到{PAD_LIMIT}个字符");
                    reader.error("yaml.value", pad.to.span.clone(), message, None);
                    return None;
                }
                let with = match &pad.with {
                    None => '0',
                    Some(text) => one_char(text, reader)?,
                };
                let to = usize::try_from(pad.to.value).ok()?;
                Self::Pad { to, with, side: pad.side.map_or(Side::Left, |side| side.0) }
            }
            OpFile::Substr(substr) => {
                let Some(skip) = substr.start.value.checked_sub(1) else {
                    let message = "字符从 1 数起".into();
                    reader.error("yaml.value", substr.start.span.clone(), message, None);
                    return None;
                };
                let take = substr.length.map_or(Some(usize::MAX), |n| usize::try_from(n).ok());
                Self::Substr { skip: usize::try_from(skip).ok()?, take: take? }
            }
            OpFile::RegexExtract(extract) => {
                let pattern = pattern(&extract.pattern, reader)?;
                let groups = pattern.captures_len() - 1;
                let group = match &extract.group {
                    None => usize::from(groups > 0),
                    Some(group) => {
                        let wanted = usize::try_from(group.value).ok()?;
                        if wanted > groups {
                            let message = format!("表达式里只有{groups}对括号");
                            reader.error("yaml.value", group.span.clone(), message, None);
                            return None;
                        }
                        wanted
                    }
                };
                Self::Extract { pattern, group }
            }
        })
    }

    /// Whether the operation may refuse a text.
    pub(super) fn can_fail(&self) -> bool {
        matches!(self, Self::Extract { .. })
    }

    /// The new text; `None` if the operation refuses it.
    pub(super) fn run<'a>(&self, text: Cow<'a, str>) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Halfwidth => each_char(text, |b| matches!(b, 0xe3 | 0xef), halfwidth),
            Self::Upper => {
                if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_lowercase()) {
                    text
                } else {
                    Cow::Owned(text.to_uppercase())
                }
            }
            Self::Strip => {
                if text.contains(char::is_whitespace) {
                    Cow::Owned(text.chars().filter(|c| !c.is_whitespace()).collect())
                } else {
                    text
                }
            }
            Self::Brackets => each_char(text, |b| b"[](){}\xe3\xef".contains(&b), bracket),
            Self::Replace { find, with } => {
                if text.contains(find.as_str()) {
                    Cow::Owned(text.replace(find.as_str(), with))
                } else {
                    text
                }
            }
            Self::Pad { to, with, side } => {
                let missing = to.saturating_sub(text.chars().count());
                if missing == 0 {
                    return Some(text);
                }
                let padding = std::iter::repeat_n(*with, missing);
                Cow::Owned(match side {
                    Side::Left => padding.chain(text.chars()).collect(),
                    Side::Right => text.chars().chain(padding).collect(),
                })
            }
            Self::Substr { skip, take } => {
                Cow::Owned(text.chars().skip(*skip).take(*take).collect())
            }
            Self::Extract { pattern, group } => {
                let found = pattern.captures(&text)?.get(*group)?.as_str().to_owned();
                Cow::Owned(found)
            }
        })
    }
}

/// Compiles a pattern of limited size.
pub(super) fn pattern(text: &At<String>, reader: &mut Reader<'_>) -> Option<Regex> {
    match RegexBuilder::new(&text.value).size_limit(PATTERN_LIMIT).build() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = match error {
                regex::Error::CompiledTooBig(_) => "正则表达式过大",
                _ => "正则表达式有语法错误",
            };
            let help = "不支持前后查找和反向引用;反斜杠在双引号里要写两个,或改用单引号";
            reader.error("mapping.pattern", text.span.clone(), message.into(), Some(help.into()));
            None
        }
    }
}

fn one_char(text: &At<String>, reader: &mut Reader<'_>) -> Option<char> {
    let mut chars = text.value.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Some(c),
        _ => {
            reader.error("yaml.value", text.span.clone(), "应为一个字符".into(), None);
            None
        }
    }
}

/// Changes characters one by one. `touches` tells from a byte alone whether it may begin or be a
/// character that changes; most Chinese text has none and is passed on after one quick scan.
fn each_char(
    text: Cow<'_, str>,
    touches: fn(u8) -> bool,
    change: fn(char) -> char,
) -> Cow<'_, str> {
    if !text.bytes().any(touches) || text.chars().all(|c| change(c) == c) {
        return text;
    }
    let mut changed = String::with_capacity(text.len());
    changed.extend(text.chars().map(change));
    Cow::Owned(changed)
}

/// Full-width ASCII (FF01–FF5E) and the ideographic space to half-width.
fn halfwidth(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xff01 + 0x21).unwrap_or(c),
        _ => c,
    }
}

/// Brackets to 〔〕, as the rules on document numbers (GB/T 9704) have them.
fn bracket(c: char) -> char {
    match c {
        '[' | '【' | '(' | '{' | '\u{ff08}' | '\u{ff3b}' | '\u{ff5b}' | '﹝' | '〖' => '〔',
        ']' | '】' | ')' | '}' | '\u{ff09}' | '\u{ff3d}' | '\u{ff5d}' | '﹞' | '〗' => '〕',
        _ => c,
    }
}

/// A date written by a pattern of `YYYY`, `MM`, `DD` (or `M`, `D`: one or two digits).
#[derive(Debug)]
pub(super) struct DatePattern(Vec<DatePart>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatePart {
    Year,
    Month { exact: bool },
    Day { exact: bool },
    Literal(char),
}

impl DatePattern {
    /// Compiles a pattern: each of year, month and day once.
    pub(super) fn compile(text: &At<String>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text.value.as_str();
        let known = [
            ("YYYY", DatePart::Year),
            ("MM", DatePart::Month { exact: true }),
            ("M", DatePart::Month { exact: false }),
            ("DD", DatePart::Day { exact: true }),
            ("D", DatePart::Day { exact: false }),
        ];
        'next: while let Some(c) = rest.chars().next() {
            for (name, part) in known {
                if let Some(after) = rest.strip_prefix(name) {
                    parts.push(part);
                    rest = after;
                    continue 'next;
                }
            }
            parts.push(DatePart::Literal(c));
            rest = rest.get(c.len_utf8()..).unwrap_or("");
        }
        let count = |wanted: fn(&DatePart) -> bool| parts.iter().filter(|p| wanted(p)).count();
        let each_once = count(|p| *p == DatePart::Year) == 1
            && count(|p| matches!(p, DatePart::Month { .. })) == 1
            && count(|p| matches!(p, DatePart::Day { .. })) == 1;
        if !each_once {
            let help = "例如 DD/MM/YYYY;M 和 D 表示一位或两位".to_owned();
            let message = "日期写法里 YYYY、MM、DD 应各出现一次".into();
            reader.error("mapping.date-pattern", text.span.clone(), message, Some(help));
            return None;
        }
        Some(Self(parts))
    }

    /// The date, if the whole text is written by the pattern and the day exists.
    pub(super) fn parse(&self, text: &str) -> Option<Date> {
        let (mut year, mut month, mut day) = (0, 0, 0);
        let mut rest = text;
        for part in &self.0 {
            rest = match part {
                DatePart::Literal(c) => rest.strip_prefix(*c)?,
                DatePart::Year => digits(rest, 4, 4, &mut year)?,
                DatePart::Month { exact } => digits(rest, 1 + usize::from(*exact), 2, &mut month)?,
                DatePart::Day { exact } => digits(rest, 1 + usize::from(*exact), 2, &mut day)?,
            };
        }
        let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
        rest.is_empty().then_some(date)
    }
}

/// Takes `least..=most` digits off the front.
fn digits<'t>(text: &'t str, least: usize, most: usize, into: &mut i32) -> Option<&'t str> {
    let count = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < least {
        return None;
    }
    *into = text.get(..count)?.parse().ok()?;
    text.get(count..)
}
