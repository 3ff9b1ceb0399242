//! 公民身份号码, GB 11643-1999.

use time::Date;

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
    pub fn parse(_text: &str) -> Result<Self, CitizenError> {
        todo!()
    }

    /// The normalised 18 characters. Personal: digest or seal it, never print it.
    pub fn expose(&self) -> &str {
        &self.text
    }
}
