//! Personal numbers (个人号码) standing in any text: found however they are typed, and hidden.
//!
//! No personal number is shown, stored or logged outside the sealed fields of its record, so every
//! text from outside (document numbers, file names, reasons, a target's answers) passes [`mask`].
//! What is read as one:
//! - a citizen number (公民身份号码, GB 11643) of 18 characters with a province's digits and a real
//!   birth date: whatever its check digit if that person would be ten years old (a typing error
//!   is personal too); with the right one from one year on. A 施工许可证号 has the same form
//!   (division, date, serial), but its date is a recent one;
//! - one of the old form, 15 digits;
//! - a mobile number, 11 digits.
//!
//! Full-width digits count, characters nobody sees do not, and spaces, hyphens, dots, slashes and
//! underscores may stand between groups of digits. Digits amid more letters or digits are part of
//! another number, except a citizen number with the right check digit: it is found in `ID…` or in
//! the old tax number of a sole trader (two more digits) as well.
//!
//! 统一社会信用代码 (GB 32100) stay readable. A text that is both a valid code and a valid citizen
//! number counts as a citizen number: one of 31 citizen numbers passes the other check as well,
//! while a code passes this one only if its division ends in 18, 19 or 20 and eight of its
//! characters happen to be a date. Practically none does.

use std::borrow::Cow;
use std::ops::Range;

use time::Date;

use super::citizen::look;
use super::uscc::Uscc;

/// What shows in a number's place.
const HIDDEN: &str = "***";
/// From this age on a wrong check digit excuses nothing.
const GROWN: i32 = 10;
/// First two digits of the divisions (GB/T 2260).
const PROVINCES: &[&str] = &[
    "11", "12", "13", "14", "15", "21", "22", "23", "31", "32", "33", "34", "35", "36", "37", "41",
    "42", "43", "44", "45", "46", "50", "51", "52", "53", "54", "61", "62", "63", "64", "65", "71",
    "81", "82", "83",
];

/// `text` with `***` for each personal number in it. Borrowed when there is none.
pub fn mask(text: &str, today: Date) -> Cow<'_, str> {
    let found = find(text, today);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = 0;
    for (_, at) in found {
        shown.push_str(text.get(rest..at.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        rest = at.end;
    }
    shown.push_str(text.get(rest..).unwrap_or_default());
    Cow::Owned(shown)
}

/// Whether a citizen number with the right check digit stands in `text`.
pub fn holds_citizen_id(text: &str, today: Date) -> bool {
    find(text, today).iter().any(|(number, _)| *number == Number::Citizen)
}

/// Whether `text` as a whole is a citizen number of 18 characters of somebody alive, its check
/// digit right. True even if it passes for a 统一社会信用代码.
pub fn is_citizen_id(text: &str, today: Date) -> bool {
    citizen(text, today) == Some(Number::Citizen)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    /// Its check digit holds.
    Citizen,
    /// Its check digit does not hold, or the old form has none.
    Likely,
    Mobile,
}

/// A letter or digit, upper case and half-width, and where it stands.
struct Sign {
    byte: u8,
    at: Range<usize>,
}

/// Letters and digits with nothing between them that shows.
struct Group {
    signs: Vec<Sign>,
    /// Only spaces, hyphens and the like stand between this group and the one before.
    joined: bool,
}

/// The numbers and where they stand, in order, none overlapping.
fn find(text: &str, today: Date) -> Vec<(Number, Range<usize>)> {
    // A full-width digit begins with the byte EF.
    if text.bytes().filter(|b| b.is_ascii_digit() || *b == 0xEF).count() < 11 {
        return Vec::new();
    }
    // What passes here most is a code of 18 signs, which is one number or none.
    if text.len() == 18 && text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let number = in_a_province(text).then(|| citizen(&text.to_ascii_uppercase(), today));
        return number.flatten().map(|number| (number, 0..18)).into_iter().collect();
    }
    let groups = groups(text);
    let mut found = Vec::new();
    let mut rest = groups.as_slice();
    while let [group, after @ ..] = rest {
        rest = match alone(rest, today) {
            Some((number, at, count)) => {
                found.push((number, at));
                rest.get(count..).unwrap_or_default()
            }
            None => {
                amid(&group.signs, today, &mut found);
                after
            }
        };
    }
    found
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // Whether the next sign belongs to the last group, and to its chain of groups.
    let (mut same, mut joined) = (false, false);
    for (start, character) in text.char_indices() {
        match part(character) {
            Part::Sign(byte) => {
                let sign = Sign { byte, at: start..start + character.len_utf8() };
                match groups.last_mut() {
                    Some(group) if same => group.signs.push(sign),
                    _ => groups.push(Group { signs: vec![sign], joined }),
                }
                (same, joined) = (true, true);
            }
            Part::Unseen => {}
            Part::Joint => same = false,
            Part::Other => (same, joined) = (false, false),
        }
    }
    groups
}

enum Part {
    Sign(u8),
    Unseen,
    Joint,
    Other,
}

fn part(character: char) -> Part {
    let half = match character {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(character) - 0xFEE0),
        // The Roman ten and the Cyrillic letter are typed for X.
        'Ⅹ' | 'ⅹ' | 'Х' | 'х' => Some('X'),
        _ => None,
    };
    match half.unwrap_or(character) {
        c if c.is_ascii_alphanumeric() => {
            u8::try_from(c).map_or(Part::Other, |byte| Part::Sign(byte.to_ascii_uppercase()))
        }
        c if c.is_whitespace() => Part::Joint,
        '-'
        | '.'
        | '/'
        | '_'
        | '\u{2010}'..='\u{2015}'
        | '\u{2212}'
        | '\u{FE63}'
        | '·'
        | '•'
        | '・' => Part::Joint,
        '\u{AD}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}' => Part::Unseen,
        c if c.is_control() => Part::Unseen,
        _ => Part::Other,
    }
}

/// The longest number made of the first group and those joined to it, and of how many.
fn alone(groups: &[Group], today: Date) -> Option<(Number, Range<usize>, usize)> {
    let start = groups.first()?.signs.first()?.at.start;
    let mut text = String::new();
    let mut sizes = Vec::new();
    let mut best = None;
    for group in groups {
        if !sizes.is_empty() && !group.joined || text.len() + group.signs.len() > 18 {
            break;
        }
        text.extend(group.signs.iter().map(|sign| char::from(sign.byte)));
        sizes.push(group.signs.len());
        if let (Some(number), Some(last)) = (number(&text, &sizes, today), group.signs.last()) {
            best = Some((number, start..last.at.end, sizes.len()));
        }
    }
    best
}

/// What a text of letters and digits written in groups of `sizes` is.
fn number(text: &str, sizes: &[usize], today: Date) -> Option<Number> {
    // The shorter forms say less: only the usual groups count, or one sign each.
    let usual = |ways: &[&[usize]]| ways.contains(&sizes) || sizes.iter().all(|size| *size == 1);
    match text.len() {
        18 => citizen(text, today),
        15 if usual(&[&[15], &[6, 6, 3]]) => {
            (in_a_province(text) && look(text).is_ok()).then_some(Number::Likely)
        }
        11 if usual(&[&[11], &[3, 4, 4], &[3, 8], &[7, 4]]) => match text.as_bytes() {
            [b'1', b'3'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
                Some(Number::Mobile)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Citizen numbers amid other letters and digits. 18 of them are a number of their own kind.
fn amid(signs: &[Sign], today: Date, found: &mut Vec<(Number, Range<usize>)>) {
    if signs.len() <= 18 {
        return;
    }
    let mut free = 0;
    for window in signs.windows(18) {
        let (Some(first), Some(last)) = (window.first(), window.last()) else { continue };
        if first.at.start < free || !first.byte.is_ascii_digit() {
            continue;
        }
        let text: String = window.iter().map(|sign| char::from(sign.byte)).collect();
        if is_citizen_id(&text, today)
            && look(&text).is_ok_and(|(born, _)| age(born, today) >= GROWN)
        {
            free = last.at.end;
            found.push((Number::Citizen, first.at.start..last.at.end));
        }
    }
}

fn citizen(text: &str, today: Date) -> Option<Number> {
    if text.len() != 18 || !in_a_province(text) {
        return None;
    }
    let (born, checks) = look(text).ok()?;
    if born.year() < 1800 {
        return None;
    }
    match (checks, age(born, today)) {
        (true, 1..) => Some(Number::Citizen),
        // One wrong digit of a citizen number makes a code now and then, but hardly one that is
        // right inside too.
        (false, GROWN..) if Uscc::parse(text).is_ok_and(|code| code.warnings.is_empty()) => None,
        (false, GROWN..) => Some(Number::Likely),
        _ => None,
    }
}

fn in_a_province(text: &str) -> bool {
    text.get(..2).is_some_and(|province| PROVINCES.contains(&province))
}

/// Whole years; negative before birth.
fn age(born: Date, today: Date) -> i32 {
    let birthday_to_come = (today.month() as u8, today.day()) < (born.month() as u8, born.day());
    today.year() - born.year() - i32::from(birthday_to_come)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::date;

    const TODAY: Date = date!(2026 - 11 - 23);

    fn masked(text: &str) -> String {
        mask(text, TODAY).into_owned()
    }

    /// `body` of 17 digits and the check character that fits.
    fn with_check(body: &str) -> String {
        let all = "0123456789X".chars().map(|check| format!("{body}{check}"));
        all.into_iter().find(|text| look(text).is_ok_and(|(_, checks)| checks)).unwrap()
    }

    #[test]
    fn numbers_are_seen_however_they_are_typed() {
        for (text, shown) in [
            ("411702199001029913", "***"),
            ("号41170219900101991x尾", "号***尾"),
            ("４１１７０２１９９００１０２９９１３", "***"),
            ("411702 19900102 9913", "***"),
            ("411702-19900102-9913", "***"),
            ("411702\u{A0}19900102．9913", "***"),
            ("4\u{200B}11702\u{FEFF}199001029913", "***"),
            ("4 1 1 7 0 2 1 9 9 0 0 1 0 2 9 9 1 3", "***"),
            ("411702/1990/01/02/9913", "***"),
            ("1101051949123100 2 Ⅹ,", "***,"),
            ("第3页 411702 19900102 9913 页1", "第3页 *** 页1"),
            ("处罚_411702199001029913_2.csv", "处罚_***_2.csv"),
            ("身份证411702199001029913,手机13800138000。", "身份证***,手机***。"),
            ("411702199001029913 13800138000", "*** ***"),
            ("138-0013-8000", "***"),
            ("１３８００１３８０００", "***"),
            ("(411702900102991)", "(***)"),
            ("411702 900102 991", "***"),
            // Amid other signs, with the right check digit.
            ("ID11010519491231002X.csv", "ID***.csv"),
            ("11010519491231002X00", "***00"),
            // Both a code and a citizen number.
            ("411702199001010788", "***"),
            ("11010119900101012X", "***"),
            // A child's, the check digit right.
            (&with_check("41170220240301001"), "***"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
            assert!(matches!(mask(shown, TODAY), Cow::Borrowed(_)), "{shown}");
        }
    }

    #[test]
    fn other_numbers_stay_readable() {
        for text in [
            "",
            "91411702999999904X",
            "92411721999999904B",
            "N2411722999999904C",
            "114117009999999049",
            "124117009999999046",
            "514117009999999045",
            "00000000000000000X",
            "411702202611120101",
            "411702202611120101、411702202611120201",
            "驻环罚决字〔2026〕1001号",
            "驻市监处罚〔2026〕13800138号",
            "豫(驻)食许字411702-2026-000123",
            "JY14117020001234",
            "6901234567892",
            "20261123000001",
            "2026-11-23 13:00:00",
            "411702000001236",
            "15-2026-110001",
            "19-2026-00012",
            "A13800138000",
            "138001380001",
            "41170219900102991",
            "411702199013029913",
            "991702199001029913",
            "A411702199001029914",
        ] {
            assert!(matches!(mask(text, TODAY), Cow::Borrowed(shown) if shown == text), "{text}");
            assert!(!holds_citizen_id(text, TODAY), "{text}");
        }
    }

    #[test]
    fn only_a_right_check_digit_is_certain() {
        assert!(holds_citizen_id("持证人11010519491231002X", TODAY));
        assert!(!holds_citizen_id("持证人110105194912310021", TODAY), "typing error");
        assert!(!holds_citizen_id("电话13800138000", TODAY));
        assert!(is_citizen_id("11010519491231002x", TODAY));
        assert!(!is_citizen_id(" 11010519491231002X", TODAY));
        let unborn = with_check("41170220261112001");
        assert!(!is_citizen_id(&unborn, TODAY) && masked(&unborn) == unborn);
    }

    /// Everything that may stand between two digits of one number.
    fn disguised(number: &str, between: &[&str], wide: bool) -> String {
        let mut text = String::new();
        for (at, digit) in number.chars().enumerate() {
            if at > 0 {
                text.push_str(between[at % between.len()]);
            }
            let full = char::from_u32(u32::from(digit) + 0xFEE0).unwrap();
            text.push(if wide { full } else { digit });
        }
        text
    }

    proptest! {
        #[test]
        fn no_digit_of_a_citizen_number_stays(
            province in prop::sample::select(PROVINCES),
            division in "[0-9]{4}",
            days in 0_i64..36_500,
            serial in "[0-9]{4}",
            right in any::<bool>(),
            between in prop::collection::vec(
                prop::sample::select(vec!["", "", " ", "-", ".", "\u{A0}", "\u{200B}", "\u{3000}", "—"]), 1..6),
            wide in any::<bool>(),
            before in "[甲号:(〔, ]{0,3}",
            after in "[乙号:)〕, ]{0,3}",
        ) {
            let born = date!(2016 - 11 - 22) - time::Duration::days(days);
            let born = born.to_string().replace('-', "");
            let mut number = format!("{province}{division}{born}{serial}");
            if right {
                number = with_check(number.get(..17).unwrap());
            }
            // Practically no typing error makes a code that is right inside too.
            prop_assume!(right || Uscc::parse(&number).is_err());
            let text = format!("{before}{}{after}", disguised(&number, &between, wide));
            prop_assert_eq!(masked(&text), format!("{before}***{after}"));
            prop_assert!(!right || holds_citizen_id(&text, TODAY));
        }

        /// Any code whose 18 signs are not a citizen's as well.
        #[test]
        fn codes_are_never_cut(body in "(1[1-3]|5[1-3]|9[1-3]|N[1-3])[0-9]{6}[0-9A-HJ-NPQRTUWXY]{9}") {
            let checks = "0123456789ABCDEFGHJKLMNPQRTUWXY".chars();
            let code = checks.map(|check| format!("{body}{check}")).find(|c| Uscc::parse(c).is_ok()).unwrap();
            prop_assume!(look(&code).is_err());
            prop_assert_eq!(masked(&code), code);
        }

        #[test]
        fn nothing_panics_and_masking_twice_is_masking_once(text in "[0-9０-９ Xx甲\u{200B}-]{0,60}", other in any::<String>()) {
            let once = masked(&text);
            prop_assert_eq!(masked(&once), once);
            let _ = masked(&other);
        }
    }
}
