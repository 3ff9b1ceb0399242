//! 公民身份号码, GB 11643-1999.

use std::fmt;

use time::{Date, Month};

/// A number whose form, birth date and check digit hold. Its `Debug` is masked and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct CitizenId {
    text: String,
    /// Date of birth.
    pub born: Date,
}

/// Why a text is not a citizen number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CitizenError {
    /// Neither 18 nor 15 characters.
    #[error("应为18位(或旧15位)")]
    Length,
    /// A character that is not allowed at this 1-based position.
    #[error("第{0}位不是允许的字符")]
    Character(u8),
    /// No such birth date.
    #[error("出生日期码不是有效日期")]
    BirthDate,
    /// The check digit is wrong.
    #[error("第18位校验码不符")]
    CheckDigit,
}

impl CitizenId {
    /// Parses a trimmed text: 18 digits with `X`/`x` allowed last, or 15 old digits (no check), which become 18.
    pub fn parse(text: &str) -> Result<Self, CitizenError> {
        let (full, born) = digits(text)?;
        if full[17] != check_character(&full) {
            return Err(CitizenError::CheckDigit);
        }
        Ok(Self { text: full.iter().copied().map(char::from).collect(), born })
    }

    /// The normalised 18 characters. Personal: digest or seal it, never print it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// Shows nothing of the number, nor of the date of birth in it.
impl fmt::Debug for CitizenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CitizenId(******************)")
    }
}

/// The date of birth in a text of the form of a number, and whether its check digit holds.
pub(super) fn look(text: &str) -> Result<(Date, bool), CitizenError> {
    let (full, born) = digits(text)?;
    Ok((born, full[17] == check_character(&full)))
}

/// The 18 characters, the last one unchecked, and the date of birth.
fn digits(text: &str) -> Result<([u8; 18], Date), CitizenError> {
    let length = text.chars().count();
    if !matches!(length, 15 | 18) {
        return Err(CitizenError::Length);
    }
    for (character, position) in text.chars().zip(1_u8..) {
        if !(character.is_ascii_digit() || position == 18 && matches!(character, 'X' | 'x')) {
            return Err(CitizenError::Character(position));
        }
    }
    let bytes = text.as_bytes();
    let mut full = [0; 18];
    if length == 15 {
        full[..6].copy_from_slice(&bytes[..6]);
        full[6..8].copy_from_slice(b"19");
        full[8..17].copy_from_slice(&bytes[6..]);
        full[17] = check_character(&full);
    } else {
        full.copy_from_slice(bytes);
        full[17].make_ascii_uppercase();
    }
    let born = birth_date(&full).ok_or(CitizenError::BirthDate)?;
    Ok((full, born))
}

/// The check character of the first 17 digits: ISO 7064 MOD 11-2.
fn check_character(full: &[u8; 18]) -> u8 {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = full.iter().zip(WEIGHTS).map(|(d, weight)| u32::from(d - b'0') * weight).sum();
    b"10X98765432"[sum as usize % 11]
}

fn birth_date(full: &[u8; 18]) -> Option<Date> {
    let number = |digits: &[u8]| digits.iter().fold(0_u16, |n, d| n * 10 + u16::from(d - b'0'));
    let month = Month::try_from(u8::try_from(number(&full[10..12])).ok()?).ok()?;
    let day = u8::try_from(number(&full[12..14])).ok()?;
    Date::from_calendar_date(i32::from(number(&full[6..10])), month, day).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::date;

    /// Invented: the division 000000 is given to nobody.
    const BODY: &str = "00000019900228123";

    fn with_check(body: &str) -> String {
        let mut full = [b'0'; 18];
        full[..17].copy_from_slice(body.as_bytes());
        full[17] = check_character(&full);
        full.iter().copied().map(char::from).collect()
    }

    #[test]
    fn the_check_character_is_the_standards() {
        // The example number of GB 11643-1999, annex A.
        assert!(CitizenId::parse("11010519491231002X").is_ok());
        assert!(CitizenId::parse("440524188001010014").is_ok());
    }

    #[test]
    fn old_and_new_numbers_of_one_person_are_equal() {
        let new = CitizenId::parse(&with_check(BODY)).unwrap();
        let old = CitizenId::parse("000000900228123").unwrap();
        assert_eq!(new, old);
        assert_eq!(new.born, date!(1990 - 02 - 28));
        assert_eq!(new.expose().len(), 18);
    }

    #[test]
    fn lower_case_is_made_upper_case() {
        assert_eq!(CitizenId::parse("11010519491231002x").unwrap().expose(), "11010519491231002X");
    }

    #[test]
    fn each_error_names_its_place() {
        for (text, error) in [
            ("", CitizenError::Length),
            ("1101051949123100", CitizenError::Length),
            ("110105194912310X2X", CitizenError::Character(16)),
            ("１10105194912310021", CitizenError::Character(1)),
            ("11010519491231002Y", CitizenError::Character(18)),
            ("00000090022812X", CitizenError::Character(15)),
            ("110105194913310021", CitizenError::BirthDate),
            ("000000900230123", CitizenError::BirthDate),
            ("110105194912310021", CitizenError::CheckDigit),
        ] {
            assert_eq!(CitizenId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_number() {
        let shown = format!("{:?}", CitizenId::parse(&with_check(BODY)).unwrap());
        assert!(!shown.contains(|c: char| c.is_ascii_digit()), "{shown}");
    }

    proptest! {
        #[test]
        fn one_changed_digit_is_caught(serial in 0_u32..1000, at in 0_usize..18, by in 1_u8..10) {
            let mut bytes = with_check(&format!("00000019900228{serial:03}")).into_bytes();
            let old = if bytes[at] == b'X' { 0 } else { bytes[at] - b'0' };
            let new = b'0' + (old + by) % 10;
            prop_assume!(bytes[at] != new);
            bytes[at] = new;
            prop_assert!(CitizenId::parse(&String::from_utf8(bytes).unwrap()).is_err());
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = CitizenId::parse(&text);
        }
    }
}
