//! Amounts of money in 万元 (10,000 yuan) with six decimals, exact.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::text::half_width;

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

impl Unit {
    /// For a clerk: the unit, and two thousand yuan written in it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Wan => "单位为万元(2000元填0.2)",
            Self::Yuan => "单位为元(2000元填2000)",
        }
    }
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

/// Parses an amount: an optional sign and 人民币 or ￥, digits (thousands separated by commas or
/// not), and an optional unit, which overrides `unit`. An exponent is refused: nobody levies 1e3.
/// Full-width digits and signs are read as half-width ones. Other currencies are no amounts.
///
/// A comma has to separate groups of three: `0,2` might mean a decimal comma and is refused.
pub fn parse_amount(text: &str, unit: Unit) -> Result<Amount, AmountError> {
    let text: String = text.trim().chars().map(half_width).collect();
    let (negative, rest) = strip_lead(&text);
    let end =
        rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ',' | '.'))).unwrap_or(rest.len());
    let (number, written) = rest.split_at_checked(end).ok_or(AmountError::NotANumber)?;
    let power = match unit_power(written).ok_or(AmountError::NotANumber)? {
        Some(power) => power,
        None if unit == Unit::Wan => 0,
        None => -4,
    };
    let (digits, decimals) = decimal(number).ok_or(AmountError::NotANumber)?;

    let significant = digits.trim_start_matches('0');
    let kept = significant.trim_end_matches('0');
    if kept.is_empty() {
        return Ok(Amount(0));
    }
    let dropped = len(significant).saturating_sub(len(kept));
    let exponent = dropped.saturating_add(power).saturating_add(DECIMALS).saturating_sub(decimals);
    if exponent.saturating_add(len(kept)) > DIGITS {
        return Err(AmountError::TooLarge);
    }
    let exponent = u32::try_from(exponent).map_err(|_| AmountError::TooPrecise)?;
    let value = kept
        .parse::<i64>()
        .ok()
        .and_then(|value| value.checked_mul(10_i64.checked_pow(exponent)?))
        .ok_or(AmountError::TooLarge)?;
    Ok(Amount(if negative { -value } else { value }))
}

/// Always six decimals: `0.200000`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let millionths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
    }
}

/// decimal(18,6).
const DIGITS: i64 = 18;
const DECIMALS: i64 = 6;

fn len(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Takes sign and currency off the front, in either order.
fn strip_lead(text: &str) -> (bool, &str) {
    let text = strip_currency(text);
    let (negative, text) = match text.strip_prefix(['-', '−']) {
        Some(text) => (true, text.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text).trim_start()),
    };
    (negative, strip_currency(text))
}

fn strip_currency(text: &str) -> &str {
    ["人民币", "RMB", "CNY", "￥", "¥"]
        .iter()
        .find_map(|mark| text.strip_prefix(mark))
        .unwrap_or(text)
        .trim_start()
}

/// The power of ten from the written unit to 万元; `Some(None)` when no unit is written, `None`
/// when what is written is no unit of 人民币.
fn unit_power(written: &str) -> Option<Option<i64>> {
    let word = written.trim();
    let word = word.strip_prefix('(').and_then(|w| w.strip_suffix(')')).unwrap_or(word).trim();
    let word = word.strip_suffix(['整', '正']).unwrap_or(word);
    let (word, currency) = match word.strip_prefix("人民币").or(word.strip_suffix("人民币")) {
        Some(word) => (word, true),
        None => (word, false),
    };
    let scale = word.strip_suffix(['元', '圆']);
    Some(Some(match scale.unwrap_or(word) {
        "" if scale.is_none() && !currency => {
            return if written.trim().is_empty() { Some(None) } else { None };
        }
        "" => -4,
        "百" => -2,
        "千" => -1,
        "万" => 0,
        "百万" => 2,
        "千万" => 3,
        "亿" => 4,
        _ => return None,
    }))
}

/// Splits a decimal into its digits and how many of them are decimals.
fn decimal(number: &str) -> Option<(String, i64)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let groups: Vec<&str> = whole.split(',').collect();
    let grouped = match groups.as_slice() {
        [_] => true,
        [first, rest @ ..] => {
            (1..=3).contains(&first.len())
                && !first.starts_with('0')
                && rest.iter().all(|group| group.len() == 3)
        }
        [] => false,
    };
    let digits = groups.concat() + fraction;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (grouped && plain).then(|| (digits, len(fraction)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wan(text: &str) -> Result<String, AmountError> {
        parse_amount(text, Unit::Wan).map(|amount| amount.to_string())
    }

    #[test]
    fn amounts_are_exact_in_every_form_seen() {
        for (text, expected) in [
            ("0.2", "0.200000"),
            ("2000元", "0.200000"),
            ("2,000.00元", "0.200000"),
            ("10,000.00", "10000.000000"),
            ("１０，０００．５０", "10000.500000"),
            ("￥3", "3.000000"),
            ("¥-3", "-3.000000"),
            ("-￥3", "-3.000000"),
            ("＋3", "3.000000"),
            ("人民币2000元整", "0.200000"),
            ("2000 元", "0.200000"),
            ("2000圆", "0.200000"),
            ("2000人民币", "0.200000"),
            ("12万", "12.000000"),
            ("12万元", "12.000000"),
            ("12 万人民币", "12.000000"),
            ("12（万元）", "12.000000"),
            ("12万元人民币", "12.000000"),
            ("1.2亿元", "12000.000000"),
            ("5千元", "0.500000"),
            ("0.01元", "0.000001"),
            ("0.2000000000", "0.200000"),
            (".5", "0.500000"),
            ("5.", "5.000000"),
            ("-0", "0.000000"),
            ("000012", "12.000000"),
            ("999999999999.999999", "999999999999.999999"),
            ("-999999999999.999999", "-999999999999.999999"),
        ] {
            assert_eq!(wan(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_given_unit_holds_only_when_none_is_written() {
        assert_eq!(parse_amount("2000", Unit::Yuan), Ok(Amount(200_000)));
        assert_eq!(parse_amount("￥2000", Unit::Yuan), Ok(Amount(200_000)));
        assert_eq!(parse_amount("2000万元", Unit::Yuan), Ok(Amount(2_000_000_000)));
        assert_eq!(parse_amount("2000", Unit::Wan), Ok(Amount(2_000_000_000)));
    }

    #[test]
    fn what_is_no_amount_says_why() {
        for text in [
            "",
            "无",
            "-",
            "元",
            "1,00",
            "0,2",
            "0,200",
            "1,2345",
            ",123",
            "1.2.3",
            "1e",
            "1e5000000",
            "1e3",
            "2E-1",
            "1E+3",
            "0e9",
            "1e3元",
            "--1",
            "1-",
            "100万美元",
            "贰仟元",
            "1 2",
            "0x10",
            "NaN",
            "inf",
            "(5)",
            "5()",
            "5整",
            "1.5,000",
        ] {
            assert_eq!(wan(text), Err(AmountError::NotANumber), "{text}");
        }
        for text in ["0.0000001", "0.001元", "0.1234567"] {
            assert_eq!(wan(text), Err(AmountError::TooPrecise), "{text}");
        }
        for text in ["1000000000000", "-10000000000000000000000", "100000000亿"] {
            assert_eq!(wan(text), Err(AmountError::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millionths in -999_999_999_999_999_999_i64..=999_999_999_999_999_999) {
            let amount = Amount(millionths);
            prop_assert_eq!(parse_amount(&amount.to_string(), Unit::Wan), Ok(amount));
        }

        #[test]
        fn fen_survive_as_yuan(fen in 0_i64..1_000_000_000_000) {
            let text = format!("{}.{:02}元", fen / 100, fen % 100);
            prop_assert_eq!(parse_amount(&text, Unit::Wan), Ok(Amount(fen)));
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.,eE元万亿￥ （）人民币]{0,20}") {
            if let Ok(amount) = parse_amount(&text, Unit::Wan) {
                prop_assert!(amount.0.unsigned_abs() < 1_000_000_000_000_000_000);
            }
        }
    }
}
