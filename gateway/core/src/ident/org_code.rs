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

/// Checks an organisation code, with or without its hyphen.
pub fn org_code_check(_text: &str) -> Result<(), OrgCodeError> {
    todo!()
}
