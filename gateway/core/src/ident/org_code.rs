//! 组织机构代码, GB 11714-1997.

/// Why a text is not an organisation code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrgCodeError {
    /// Not 8 characters and a check character (`12345678-9` or without the hyphen).
    #[error("应为8位本体代码加1位校验码")]
    Form,
    /// The check character is wrong.
    #[error("校验码不符")]
    CheckDigit,
}

/// Checks an organisation code, with or without its hyphen; case does not matter.
pub fn org_code_check(text: &str) -> Result<(), OrgCodeError> {
    let (body, check) = match text.as_bytes() {
        [body @ .., b'-', check] | [body @ .., check] => (body, check.to_ascii_uppercase()),
        [] => return Err(OrgCodeError::Form),
    };
    let body: [u8; 8] = body.try_into().map_err(|_| OrgCodeError::Form)?;
    if !matches!(check, b'0'..=b'9' | b'X') {
        return Err(OrgCodeError::Form);
    }
    match check_character(body) {
        None => Err(OrgCodeError::Form),
        Some(expected) if expected != check => Err(OrgCodeError::CheckDigit),
        Some(_) => Ok(()),
    }
}

/// The check character of eight characters (`0`–`9`, letters count 10–35); `None` if one is
/// neither.
pub(super) fn check_character(body: [u8; 8]) -> Option<u8> {
    const WEIGHTS: [u8; 8] = [3, 7, 9, 10, 5, 8, 4, 2];
    let mut sum = 0;
    for (character, weight) in body.iter().zip(WEIGHTS) {
        let value = char::from(*character).to_digit(36)?;
        sum += value * u32::from(weight);
    }
    Some(b"0X987654321"[sum as usize % 11])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_with_and_without_hyphen() {
        // Characters 9–17 of the example in GB 32100-2015, and of invented codes.
        for code in ["M000100Y-4", "M000100Y4", "m000100y4", "999999904", "99999990-4"] {
            assert_eq!(org_code_check(code), Ok(()), "{code}");
        }
    }

    #[test]
    fn errors_tell_form_from_check() {
        for text in [
            "",
            "-",
            "4",
            "M000100Y",
            "M000100Y--4",
            "M000100Y-44",
            "M0001-00Y4",
            "M000100Y-A",
            "机构代码4",
            "M000100+-4",
        ] {
            assert_eq!(org_code_check(text), Err(OrgCodeError::Form), "{text}");
        }
        assert_eq!(org_code_check("M000100Y-5"), Err(OrgCodeError::CheckDigit));
        assert_eq!(org_code_check("M000100Y-X"), Err(OrgCodeError::CheckDigit));
    }

    #[test]
    fn ten_is_x_and_eleven_is_zero() {
        // Σ = 1 → 10 → X needs weight·value ≡ 1 (mod 11): 3·4 = 12. Σ = 0 → 11 → 0.
        assert_eq!(check_character(*b"40000000"), Some(b'X'));
        assert_eq!(check_character(*b"00000000"), Some(b'0'));
        assert_eq!(org_code_check("40000000-x"), Ok(()));
    }

    proptest! {
        #[test]
        fn one_changed_digit_is_caught(body in "[0-9]{8}", at in 0_usize..8, by in 1_u8..10) {
            let mut bytes: [u8; 8] = body.as_bytes().try_into().unwrap();
            let before = check_character(bytes);
            bytes[at] = b'0' + (bytes[at] - b'0' + by) % 10;
            prop_assert_ne!(check_character(bytes), before);
        }

        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = org_code_check(&text);
        }
    }
}
