//! 统一社会信用代码, GB 32100-2015.

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
    pub fn parse(_text: &str) -> Result<Self, UsccError> {
        todo!()
    }

    /// The normalised code.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// First character: registration department (登记管理部门).
    pub fn department(&self) -> char {
        todo!()
    }

    /// Second character: kind within the department (机构类别).
    pub fn kind(&self) -> char {
        todo!()
    }
}
