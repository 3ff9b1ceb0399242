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
pub fn check_reg_no(_text: &str) -> Result<(), RegNoError> {
    todo!()
}
