//! 统一社会信用代码, GB 32100-2015.

use super::org_code;

/// The placeholder for a 个体工商户 without a code (generation C). It fails the check digit (the
/// right one would be 0), is allowed only beside a 注册号, and is never a key.
pub const SENTINEL: &str = "00000000000000000X";

/// A code whose form and check digit hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uscc {
    text: String,
    /// What is odd but not wrong.
    pub warnings: Vec<UsccWarning>,
}

/// Odd, not wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsccWarning {
    /// The GB 11714 digit inside (character 17) does not hold; 79 of 1.1 million real codes.
    InnerCheckDigit,
    /// The second character is not in the published table for the first (99 exists all the same).
    UnlistedKind,
    /// Lower-case letters were made upper-case.
    LowerCase,
}

/// Why a text is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsccError {
    /// Not 18 characters.
    #[error("应为18位")]
    Length,
    /// A character outside the alphabet (I O Z S V are not in it); 1-based position.
    #[error("第{0}位不是允许的字符")]
    Character(u8),
    /// The first character is no registration department.
    #[error("第1位不是登记管理部门代码")]
    Department,
    /// Characters 3–8 are not digits; 1-based position.
    #[error("第{0}位(登记管理机关行政区划)应为数字")]
    Division(u8),
    /// The check digit is wrong.
    #[error("第18位校验码不符")]
    CheckDigit,
}

impl Uscc {
    /// Parses a trimmed text; lower case is normalised.
    ///
    /// Of several errors the one that says most is given: a misplaced character before the check
    /// digit, which it breaks too; the department last, as it is the one a right check digit
    /// cannot excuse.
    pub fn parse(text: &str) -> Result<Self, UsccError> {
        if text.chars().count() != LENGTH {
            return Err(UsccError::Length);
        }
        let mut warnings = Vec::new();
        let mut code = [0; LENGTH];
        let mut sum = 0;
        for ((character, position), weight) in text.chars().zip(1_u8..).zip(WEIGHTS) {
            let upper = character.to_ascii_uppercase();
            let value = ALPHABET
                .iter()
                .position(|c| char::from(*c) == upper)
                .ok_or(UsccError::Character(position))?;
            sum += value * weight;
            code[usize::from(position) - 1] = ALPHABET[value];
        }
        if let Some(at) = code[DIVISION].iter().zip(3_u8..).find(|(c, _)| !c.is_ascii_digit()) {
            return Err(UsccError::Division(at.1));
        }
        if !sum.is_multiple_of(ALPHABET.len()) {
            return Err(UsccError::CheckDigit);
        }
        let kinds = listed_kinds(code[0]).ok_or(UsccError::Department)?;
        if !kinds.contains(&code[1]) {
            warnings.push(UsccWarning::UnlistedKind);
        }
        let inner = code[ORG_CODE].try_into().ok().and_then(org_code::check_character);
        if inner != Some(code[INNER_CHECK]) {
            warnings.push(UsccWarning::InnerCheckDigit);
        }
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            warnings.push(UsccWarning::LowerCase);
        }
        Ok(Self { text: code.iter().copied().map(char::from).collect(), warnings })
    }

    /// The normalised code.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// First character: registration department (登记管理部门).
    pub fn department(&self) -> char {
        self.character(0)
    }

    /// Second character: kind within the department (机构类别).
    pub fn kind(&self) -> char {
        self.character(1)
    }

    fn character(&self, at: usize) -> char {
        char::from(self.text.as_bytes()[at])
    }
}

const LENGTH: usize = 18;
const DIVISION: std::ops::Range<usize> = 2..8;
const ORG_CODE: std::ops::Range<usize> = 8..16;
const INNER_CHECK: usize = 16;
const ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
/// 3^i mod 31, and 1 for the check digit itself: a right code's sum is a multiple of 31.
const WEIGHTS: [usize; LENGTH] =
    [1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28, 1];

/// The published kinds (机构类别) of a department, `None` if there is no such department.
fn listed_kinds(department: u8) -> Option<&'static [u8]> {
    Some(match department {
        b'1' | b'5' | b'N' => b"1239",
        b'2' | b'4' | b'8' | b'A' => b"19",
        b'3' => b"123459",
        b'6' | b'7' => b"129",
        b'9' => b"123",
        b'Y' => b"1",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `body` and the check digit that fits.
    fn with_check(body: &str) -> String {
        let sum: usize = body
            .bytes()
            .zip(WEIGHTS)
            .map(|(b, weight)| ALPHABET.iter().position(|c| *c == b).unwrap() * weight)
            .sum();
        format!("{body}{}", char::from(ALPHABET[(31 - sum % 31) % 31]))
    }

    /// Bodies of every department, 17 characters.
    fn bodies() -> impl Strategy<Value = String> {
        "[1-9ANY][0-9A-HJ-NPQRTUWXY][0-9]{6}[0-9A-HJ-NPQRTUWXY]{9}"
    }

    #[test]
    fn the_standards_example_and_one_of_each_kind() {
        for (code, department, kind) in [
            ("91350100M000100Y43", '9', '1'),
            ("114117009999999049", '1', '1'),
            ("124117009999999046", '1', '2'),
            ("91411702999999904X", '9', '1'),
            ("92411721999999904B", '9', '2'),
            ("93411729999999904U", '9', '3'),
            ("514117009999999045", '5', '1'),
            ("N2411722999999904C", 'N', '2'),
        ] {
            let parsed = Uscc::parse(code).unwrap();
            assert_eq!(parsed.as_str(), code);
            assert_eq!((parsed.department(), parsed.kind()), (department, kind));
            assert_eq!(parsed.warnings, [], "{code}");
        }
    }

    #[test]
    fn odd_is_not_wrong() {
        let lower = Uscc::parse("91411702999999904x").unwrap();
        assert_eq!(lower.as_str(), "91411702999999904X");
        assert_eq!(lower.warnings, [UsccWarning::LowerCase]);
        for kind in ["99", "94", "95", "9A", "Y9", "N4"] {
            let code = Uscc::parse(&with_check(&format!("{kind}411702999999904"))).unwrap();
            assert_eq!(code.warnings, [UsccWarning::UnlistedKind], "{kind}");
        }
        let inner = Uscc::parse(&with_check("91411702999999905")).unwrap();
        assert_eq!(inner.warnings, [UsccWarning::InnerCheckDigit]);
    }

    #[test]
    fn each_error_names_its_place() {
        let department = with_check("B1411702999999904");
        for (text, error) in [
            ("", UsccError::Length),
            ("9135010M000100Y43", UsccError::Length),
            ("91350100M000100Y433", UsccError::Length),
            ("91350100M0OO100Y43", UsccError::Character(11)),
            ("9135010OM000100Y43", UsccError::Character(8)),
            ("91350100M000100Y4I", UsccError::Character(18)),
            ("９1350100M000100Y43", UsccError::Character(1)),
            ("9135A100M000100Y43", UsccError::Division(5)),
            ("91350100M000100Y44", UsccError::CheckDigit),
            (department.as_str(), UsccError::Department),
        ] {
            assert_eq!(Uscc::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_sentinel_is_no_code() {
        assert_eq!(Uscc::parse(SENTINEL), Err(UsccError::CheckDigit));
    }

    proptest! {
        #[test]
        fn every_body_has_a_code(body in bodies()) {
            let code = with_check(&body);
            let parsed = Uscc::parse(&code);
            prop_assert_eq!(parsed.as_ref().map(Uscc::as_str), Ok(code.as_str()));
            let lower = Uscc::parse(&code.to_lowercase()).unwrap();
            prop_assert_eq!(lower.as_str(), code);
        }

        #[test]
        fn one_changed_character_is_caught(body in bodies(), at in 0_usize..18, by in 1_usize..31) {
            let mut code = with_check(&body).into_bytes();
            let value = ALPHABET.iter().position(|c| *c == code[at]).unwrap();
            code[at] = ALPHABET[(value + by) % 31];
            prop_assert!(Uscc::parse(&String::from_utf8(code).unwrap()).is_err());
        }

        #[test]
        fn two_swapped_neighbours_are_caught(body in bodies(), at in 0_usize..17) {
            let mut code = with_check(&body).into_bytes();
            prop_assume!(code[at] != code[at + 1]);
            code.swap(at, at + 1);
            // Weights 28 and 1 of the last two places differ as well, so no pair escapes.
            prop_assert!(Uscc::parse(&String::from_utf8(code).unwrap()).is_err());
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = Uscc::parse(&text);
        }
    }
}
