//! 工商注册号, GS 15-2006.

/// Why a text is not a registration number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegNoError {
    /// Not 15 digits. (Older 13-digit numbers and numbers with suffixes exist: callers warn.)
    #[error("应为15位数字")]
    Form,
    /// The check digit is wrong.
    #[error("第15位校验码不符")]
    CheckDigit,
}

/// Checks a registration number by ISO 7064 MOD 11,10.
pub fn check_reg_no(text: &str) -> Result<(), RegNoError> {
    let digits = text.as_bytes();
    if digits.len() != 15 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RegNoError::Form);
    }
    let last = digits.len() - 1;
    let mut product = 10;
    for digit in &digits[..last] {
        let sum = (product + (digit - b'0')) % 10;
        product = if sum == 0 { 10 } else { sum } * 2 % 11;
    }
    match (product + (digits[last] - b'0')) % 10 {
        1 => Ok(()),
        _ => Err(RegNoError::CheckDigit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn invented_numbers_of_the_city() {
        assert_eq!(check_reg_no("411700000000015"), Ok(()));
        assert_eq!(check_reg_no("411702000001236"), Ok(()));
        assert_eq!(check_reg_no("411702000001237"), Err(RegNoError::CheckDigit));
        for text in ["", "41170200000123", "4117020000012360", "41170200000123X", "４1170200000012"]
        {
            assert_eq!(check_reg_no(text), Err(RegNoError::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_changed_digit_is_caught(body in "[0-9]{14}", at in 0_usize..15, by in 1_u8..10) {
            let number = (0..10).map(|d| format!("{body}{d}")).find(|n| check_reg_no(n).is_ok());
            let mut bytes = number.expect("one of the ten digits checks").into_bytes();
            bytes[at] = b'0' + (bytes[at] - b'0' + by) % 10;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(check_reg_no(&changed), Err(RegNoError::CheckDigit));
        }
    }
}
