//! Numbered files (按序编号): which numbers are missing. Only told; nothing waits for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::name::split;

/// Series remembered; the one seen longest ago goes first.
const MOST_SERIES: usize = 256;
/// Missing numbers remembered per series, and told at once.
const MOST_MISSING: usize = 1000;
const TOLD: usize = 20;

/// How names are numbered: `{dept4}{table2}_{YYYYMMDD}_{seq5}`. `{seq5}` are the five digits of the
/// number; any other word in braces stands for as many characters as its last digits say, or a word
/// of `Y`, `M`, `D`, `H` for as many as it has, and names the series: files that differ there are
/// numbered apart. `?` is a character that does not matter, the rest stands for itself. A name's
/// extension need not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbering(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(char),
    Any,
    Series(usize),
    Number(usize),
}

impl Numbering {
    /// Reads the parameter, or tells what is wrong with it (Chinese).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '?' => Part::Any,
                '{' => {
                    let Some((word, after)) = rest.as_str().split_once('}') else {
                        return Err("“{”没有对应的“}”".to_owned());
                    };
                    rest = after.chars();
                    let name = word.trim_end_matches(|c: char| c.is_ascii_digit());
                    let digits = word.strip_prefix(name).unwrap_or_default();
                    let dated = digits.is_empty() && name.chars().all(|c| "YMDH".contains(c));
                    let width = if dated { name.len() } else { digits.parse().unwrap_or(0) };
                    if !(1..=18).contains(&width) {
                        let why = "应写成 {名称位数},位数为1到18,如 {seq5}、{dept4},或 {YYYYMMDD}";
                        return Err(format!("“{{{word}}}”{why}"));
                    }
                    if name == "seq" { Part::Number(width) } else { Part::Series(width) }
                }
                c => Part::Literal(c),
            });
        }
        let numbers = parts.iter().filter(|part| matches!(part, Part::Number(_))).count();
        if numbers == 1 {
            Ok(Self(parts))
        } else {
            Err("须有且只有一个 {seq位数}".to_owned())
        }
    }

    /// The series a name is of, and its number.
    pub(super) fn read(&self, name: &str) -> Option<(String, u64)> {
        let stem = std::str::from_utf8(split(name.as_bytes()).0).ok()?;
        self.read_whole(name).or_else(|| self.read_whole(stem))
    }

    fn read_whole(&self, name: &str) -> Option<(String, u64)> {
        let mut rest = name.chars();
        let (mut series, mut number) = (String::new(), None);
        for part in &self.0 {
            match part {
                Part::Literal(c) => {
                    if rest.next()? != *c {
                        return None;
                    }
                    series.push(*c);
                }
                Part::Any => {
                    rest.next()?;
                    series.push('?');
                }
                Part::Series(width) => {
                    for _ in 0..*width {
                        series.push(rest.next()?);
                    }
                }
                Part::Number(width) => {
                    let digits: String = rest.by_ref().take(*width).collect();
                    if digits.len() != *width || !digits.bytes().all(|b| b.is_ascii_digit()) {
                        return None;
                    }
                    number = digits.parse().ok();
                    series.push('#');
                }
            }
        }
        Some((series, number.filter(|_| rest.next().is_none())?))
    }
}

/// What has been seen of every series, the latest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Series(Vec<One>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    name: String,
    /// The highest number seen.
    high: u64,
    missing: BTreeSet<u64>,
}

impl Series {
    /// A file of this number was taken. `first` is where every series begins, if that is known;
    /// else it begins with the number seen first.
    pub(super) fn take(&mut self, name: &str, number: u64, first: Option<u64>) {
        let at = self.0.iter().position(|one| one.name == name);
        let mut one = match at {
            Some(at) => self.0.remove(at),
            None => One {
                name: name.to_owned(),
                high: first.map_or(number, |first| first.saturating_sub(1)),
                missing: BTreeSet::new(),
            },
        };
        one.missing.remove(&number);
        if number > one.high {
            let room = MOST_MISSING.saturating_sub(one.missing.len());
            one.missing.extend((one.high + 1..number).take(room));
            one.high = number;
        }
        self.0.push(one);
        if self.0.len() > MOST_SERIES {
            self.0.remove(0);
        }
    }

    /// The missing numbers (Chinese), without those of files that are `waiting` to be taken; empty
    /// if there are none.
    pub(super) fn gaps(&self, waiting: &BTreeMap<String, BTreeSet<u64>>) -> String {
        let mut text = String::new();
        let none = BTreeSet::new();
        for one in &self.0 {
            let waiting = waiting.get(&one.name).unwrap_or(&none);
            let missing: Vec<_> = one.missing.difference(waiting).collect();
            if missing.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push(';');
            }
            let _ = write!(text, "{} 缺号 ", one.name);
            for (i, number) in missing.iter().take(TOLD).enumerate() {
                let _ = write!(text, "{}{number}", if i > 0 { "、" } else { "" });
            }
            if missing.len() > TOLD {
                let _ = write!(text, " 等{}个", missing.len());
            }
        }
        text
    }

    /// `name`, tab, highest number, tab, missing numbers by commas; a line per series.
    pub(super) fn encode(&self) -> String {
        let mut text = String::new();
        for One { name, high, missing } in &self.0 {
            let missing: Vec<_> = missing.iter().map(u64::to_string).collect();
            let _ = writeln!(text, "{name}\t{high}\t{}", missing.join(","));
        }
        text
    }

    /// What [`Series::encode`] wrote; lines that make no sense are left out.
    pub(super) fn decode(text: &str) -> Self {
        let one = |line: &str| {
            let mut parts = line.split('\t');
            let (name, high) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
            let missing = parts.next()?.split(',').filter_map(|n| n.parse().ok()).collect();
            Some(One { name, high, missing })
        };
        Self(text.lines().filter_map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbering_of_a_real_platform_is_read() {
        let numbering = Numbering::parse("{dept4}{table2}_{YYYYMMDD}_{seq5}").unwrap();
        let read = |name| numbering.read(name);
        assert_eq!(read("001501_20180307_00012.xml"), Some(("001501_20180307_#".into(), 12)));
        assert_eq!(read("001501_20180307_00012"), Some(("001501_20180307_#".into(), 12)));
        for other in ["001501_20180307_0001x.xml", "001501_20180307_000012.xml", "x.xml", ""] {
            assert_eq!(read(other), None, "{other}");
        }
        let on = Numbering::parse("处罚?{seq3}.csv").unwrap();
        assert_eq!(on.read("处罚甲007.csv"), Some(("处罚?#.csv".into(), 7)));
        for bad in ["", "{seq}", "{seq0}", "{seq5}{seq5}", "{dept}", "{seq5", "{seq99}"] {
            assert!(Numbering::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn gaps_are_told_until_they_close() {
        let mut series = Series::default();
        let none = BTreeMap::new();
        for number in [7, 8, 11] {
            series.take("a_#", number, None);
        }
        assert_eq!(series.gaps(&none), "a_# 缺号 9、10");
        let waiting = BTreeMap::from([("a_#".to_owned(), BTreeSet::from([9]))]);
        assert_eq!(series.gaps(&waiting), "a_# 缺号 10");
        assert_eq!(Series::decode(&series.encode()), series);
        series.take("a_#", 9, None);
        series.take("a_#", 10, None);
        assert_eq!(series.gaps(&none), "");
        series.take("b_#", 3, Some(1));
        assert_eq!(series.gaps(&none), "b_# 缺号 1、2");
    }

    #[test]
    fn a_jump_and_many_series_stay_bounded() {
        let mut series = Series::default();
        series.take("a", 1, None);
        series.take("a", 99_999_999, None);
        assert!(series.gaps(&BTreeMap::new()).ends_with("等1000个"));
        for n in 0..1000 {
            series.take(&format!("s{n}"), 1, None);
        }
        assert_eq!(series.0.len(), MOST_SERIES);
    }
}
