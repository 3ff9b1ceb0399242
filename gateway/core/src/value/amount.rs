//! Amounts of money in 万元 (10,000 yuan) with six decimals, exact.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount in 万元, held as millionths (1 = 0.000001 万元 = 1 分): no floats anywhere.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Amount(pub i64);

/// The unit a text's number is in when the text does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// 万元, as the 双公示 catalogues want.
    #[default]
    Wan,
    /// 元.
    Yuan,
}

/// Why a text is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("不是十进制数字")]
    NotANumber,
    /// More decimals than 分 can hold.
    #[error("小数位过多,超出六位(精确到分)")]
    TooPrecise,
    /// Out of range: decimal(18,6).
    #[error("数值超出范围")]
    TooLarge,
}

/// Parses an amount.
pub fn parse_amount(_text: &str, _unit: Unit) -> Result<Amount, AmountError> {
    todo!()
}

impl fmt::Display for Amount {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
