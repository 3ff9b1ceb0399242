//! Lines of a listing: MLSD (RFC 3659 §7), and what `LIST` prints on Unix and on Windows.

use time::{Date, Month, PrimitiveDateTime, Time};
use xinqiao_core::model::Timestamp;

use crate::wire::digest::digest;
use crate::wire::files::{Listed, Stamp};

/// One file of an MLSD line; `None` for folders, links and what is no such line.
pub(super) fn mlsd(line: &[u8]) -> Option<Listed> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (facts, name) = (line.get(..space)?, line.get(space + 1..)?);
    let facts = std::str::from_utf8(facts).ok()?;
    let (mut file, mut size, mut modified, mut unique) = (false, None, None, 0);
    for fact in facts.split(';') {
        let Some((key, value)) = fact.split_once('=') else { continue };
        match key.to_ascii_lowercase().as_str() {
            "type" => file = value.eq_ignore_ascii_case("file"),
            "size" => size = value.parse().ok(),
            "modify" => modified = digits(value),
            "unique" => unique = fold(value),
            _ => {}
        }
    }
    let stamp = Stamp::told(size?, modified, unique);
    (file && !name.is_empty()).then(|| Listed { name: name.to_vec(), stamp })
}

/// One file of a `LIST` line.
pub(super) fn list(line: &[u8], now: Timestamp) -> Option<Listed> {
    let listed = if line.first()?.is_ascii_digit() { windows(line) } else { unix(line, now) }?;
    (!listed.name.is_empty()).then_some(listed)
}

/// `YYYYMMDDHHMMSS`, UTC, as MLSD and MDTM tell times; fractions are dropped.
pub(super) fn digits(text: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u16>().ok();
    let month = Month::try_from(u8::try_from(number(4, 6)?).ok()?).ok()?;
    let date = Date::from_calendar_date(number(0, 4)?.into(), month, small(number(6, 8)?)?).ok()?;
    let (hour, minute) = (small(number(8, 10)?)?, small(number(10, 12)?)?);
    let time = Time::from_hms(hour, minute, small(number(12, 14)?)?).ok()?;
    let millis = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp().checked_mul(1000);
    Some(Timestamp(u64::try_from(millis?).ok()?))
}

/// `-rw-r--r-- 1 owner group 123 Nov 23 12:00 name`: the month is what the rest is found by, since
/// owners have spaces and columns are missing.
fn unix(line: &[u8], now: Timestamp) -> Option<Listed> {
    if line.first() != Some(&b'-') {
        return None;
    }
    let tokens = tokens(line);
    let text = |i: usize| {
        let (from, to) = *tokens.get(i)?;
        line.get(from..to)
    };
    let number = |i: usize| std::str::from_utf8(text(i)?).ok()?.parse::<u64>().ok();
    (2..tokens.len()).find_map(|at| {
        let size = number(at - 1)?;
        let (modified, last) = if let Some(month) = text(at).and_then(month) {
            let day = u8::try_from(number(at + 1)?).ok()?;
            (dated(month, day, std::str::from_utf8(text(at + 2)?).ok()?, now)?, at + 2)
        } else {
            let date = iso(std::str::from_utf8(text(at)?).ok()?)?;
            let time = clock(std::str::from_utf8(text(at + 1)?).ok()?)?;
            (Timestamp::at_shanghai(date, time), at + 1)
        };
        // The name begins after one space: it may have more of its own.
        let name = line.get(tokens.get(last)?.1 + 1..)?;
        Some(Listed { name: name.to_vec(), stamp: Stamp::told(size, Some(modified), 0) })
    })
}

/// `11-23-26  12:00PM  123 name`, also with four digits of the year, a 24-hour clock, `2026-11-23`.
fn windows(line: &[u8]) -> Option<Listed> {
    let tokens = tokens(line);
    let text = |i: usize| {
        let (from, to) = *tokens.get(i)?;
        std::str::from_utf8(line.get(from..to)?).ok()
    };
    let date = iso(text(0)?).or_else(|| american(text(0)?))?;
    let time = clock(text(1)?)?;
    let size = text(2)?.replace(',', "").parse().ok()?;
    let name = line.get(tokens.get(2)?.1 + 1..)?;
    let modified = Timestamp::at_shanghai(date, time);
    Some(Listed { name: name.to_vec(), stamp: Stamp::told(size, Some(modified), 0) })
}

/// Where the words of a line begin and end.
fn tokens(line: &[u8]) -> Vec<(usize, usize)> {
    let mut tokens = Vec::new();
    let mut begun = None;
    for (i, byte) in line.iter().chain(b" ").enumerate() {
        match (begun, *byte == b' ') {
            (None, false) => begun = Some(i),
            (Some(from), true) => {
                tokens.push((from, i));
                begun = None;
                // Names are not looked into.
                if tokens.len() == 16 {
                    break;
                }
            }
            _ => {}
        }
    }
    tokens
}

/// `Nov`, and `11月` in UTF-8 and GB18030.
fn month(token: &[u8]) -> Option<Month> {
    const NAMES: [&[u8; 3]; 12] = [
        b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov",
        b"dec",
    ];
    let number = match token.strip_suffix("月".as_bytes()).or(token.strip_suffix(b"\xd4\xc2")) {
        Some(number) => std::str::from_utf8(number).ok()?.parse().ok()?,
        None => {
            let at = NAMES.iter().position(|name| token.eq_ignore_ascii_case(*name))?;
            u8::try_from(at + 1).ok()?
        }
    };
    Month::try_from(number).ok()
}

/// A day and either a year or a time, which is of the last twelve months.
fn dated(month: Month, day: u8, rest: &str, now: Timestamp) -> Option<Timestamp> {
    let Some(time) = clock(rest) else {
        let date = Date::from_calendar_date(rest.parse().ok()?, month, day).ok()?;
        return Some(Timestamp::at_shanghai(date, Time::MIDNIGHT));
    };
    let today = now.shanghai_date();
    let of = |year| Date::from_calendar_date(year, month, day).ok();
    // The server's clock may be a day ahead of ours; 29 February is not in every year.
    let latest = today.next_day().unwrap_or(today);
    let date = of(today.year()).filter(|date| *date <= latest).or_else(|| of(today.year() - 1))?;
    Some(Timestamp::at_shanghai(date, time))
}

fn iso(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let year = year.parse().ok().filter(|_| year.len() == 4)?;
    Date::from_calendar_date(year, month, day.parse().ok()?).ok()
}

fn american(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let short: i32 = year.parse().ok()?;
    let year = if year.len() == 4 { short } else { short + if short < 70 { 2000 } else { 1900 } };
    Date::from_calendar_date(year, month, day.parse().ok()?).ok()
}

/// `12:00`, `12:00:30`, `12:00PM`.
fn clock(text: &str) -> Option<Time> {
    let upper = text.to_ascii_uppercase();
    let (text, half) = match (upper.strip_suffix("AM"), upper.strip_suffix("PM")) {
        (Some(text), _) => (text, Some(0)),
        (_, Some(text)) => (text, Some(12)),
        _ => (upper.as_str(), None),
    };
    let mut parts = text.split(':');
    let hour: u8 = parts.next()?.parse().ok()?;
    let minute = parts.next()?.parse().ok()?;
    let second = parts.next().map_or(Some(0), |second| second.parse().ok())?;
    let hour = match half {
        None => hour,
        Some(half) => hour % 12 + half,
    };
    Time::from_hms(hour, minute, second).ok()
}

fn small(number: u16) -> Option<u8> {
    u8::try_from(number).ok()
}

fn fold(text: &str) -> u64 {
    let [low, high] = {
        let wide = digest([text.as_bytes()]);
        [wide, wide >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0))
    };
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 12:00 in Shanghai.
    const NOW: Timestamp = Timestamp(1_795_406_400_000);

    #[track_caller]
    fn is(listed: Option<Listed>, name: &str, size: u64, at: &str) {
        let listed = listed.unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.name), name);
        assert_eq!(listed.stamp.size, size);
        assert_eq!(listed.stamp.modified(), digits(at).unwrap(), "{at}");
    }

    #[test]
    fn mlsd_lines() {
        let line = b"type=file;size=12;modify=20261123040000.123;unique=801U1;perm=adfr; a  b.csv";
        is(mlsd(line), "a  b.csv", 12, "20261123040000");
        let other = mlsd(b"Type=file;Size=12;Modify=20261123040000;unique=801U2; a  b.csv");
        assert_ne!(mlsd(line).unwrap().stamp, other.unwrap().stamp, "another file of that name");
        for none in [
            &b"type=dir;modify=20261123040000; sub"[..],
            b"type=cdir;modify=20261123040000; .",
            b"type=OS.unix=slink:/x;size=1; link",
            b"type=file;modify=20261123040000; unsized",
            b"type=file;size=1; ",
            b"",
        ] {
            assert_eq!(mlsd(none), None, "{}", String::from_utf8_lossy(none));
        }
    }

    #[test]
    fn list_lines_of_unix_and_windows() {
        let list = |line: &str| list(line.as_bytes(), NOW);
        // Times are Shanghai's, eight hours before which it is in UTC.
        is(list("-rw-r--r--    1 1000  1000  7 Nov 23 11:59 a.csv"), "a.csv", 7, "20261123035900");
        is(list("-rw-r--r-- 1 u g 7 Dec 31 23:00 a.csv"), "a.csv", 7, "20251231150000");
        is(list("-rw-r--r-- 1 u g 7 Feb  3  2019  a b"), " a b", 7, "20190202160000");
        is(list("-rw-r--r-- 1 u 7 Nov 24 01:00 ahead"), "ahead", 7, "20261123170000");
        is(list("-rw-r--r-- 1 domain users x 7 Nov 1 01:00 n"), "n", 7, "20261031170000");
        is(list("-rw-r--r-- 1 u g 7 2026-11-23 12:00 a.csv"), "a.csv", 7, "20261123040000");
        is(list("-rw-r--r-- 1 u g 7 11月 23 12:00 处罚.csv"), "处罚.csv", 7, "20261123040000");
        is(list("11-23-26  12:00PM       1,234 处罚 1.csv"), "处罚 1.csv", 1234, "20261123040000");
        is(list("11-23-2026  12:30AM  5 x"), "x", 5, "20261122163000");
        is(list("2026-11-23  12:00  5 x"), "x", 5, "20261123040000");
        for none in [
            "total 12",
            "drwxr-xr-x 2 u g 4096 Nov 23 12:00 sub",
            "lrwxrwxrwx 1 u g 4 Nov 23 12:00 link -> a.csv",
            "11-23-26  12:00PM  <DIR>  sub",
            "-rw-r--r-- 1 u g 7 Nov 23 12:00",
            "-",
            "",
        ] {
            assert_eq!(list(none), None, "{none}");
        }
        let gb = super::list(b"-rw-r--r-- 1 u g 7 11\xd4\xc2 23 12:00 \xb4\xa6.csv", NOW).unwrap();
        assert_eq!(gb.name, b"\xb4\xa6.csv");
        // 誠 ends with the byte of a backslash.
        let gb = mlsd(b"type=file;size=1; \xd5\x5c.csv").unwrap();
        let out = mlsd(b"type=file;size=1; ../../etc/passwd").unwrap();
        let mut listing = crate::wire::files::Listing::default();
        listing.add(gb.clone());
        listing.add(out.clone());
        assert_eq!((listing.files, listing.odd), (vec![gb], vec![out.name]));
    }

    #[test]
    fn odd_times_are_none() {
        for odd in ["", "2026", "20261323000000", "20260230000000", "2026112312000x", "二〇二六年"]
        {
            assert_eq!(digits(odd), None, "{odd}");
        }
    }
}
