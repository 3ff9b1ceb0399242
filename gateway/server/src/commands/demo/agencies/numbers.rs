//! Nobody's numbers whose check characters hold, and a small source of chance.

/// Knuth's MMIX generator: the same rows on every run.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `limit` (which is above 0).
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// 统一社会信用代码 (GB 32100): department and class, 驿城区, an organisation code of `serial`
/// (up to six digits) under the unused beginning 99.
pub(super) fn uscc(kind: &str, serial: u32) -> String {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
    let body = format!("{kind}411702{}", org_code(&format!("99{serial:06}")));
    let mut weight = 1;
    let mut sum = 0;
    for character in body.bytes() {
        let value = ALPHABET.iter().position(|c| *c == character).unwrap_or_default();
        sum += value * weight;
        weight = weight * 3 % 31;
    }
    let check = ALPHABET.get((31 - sum % 31) % 31).copied().unwrap_or(b'0');
    format!("{body}{}", char::from(check))
}

/// The same number with another check character.
pub(super) fn wrong(code: &str) -> String {
    let mut code = code.to_owned();
    let check = if code.pop() == Some('0') { '1' } else { '0' };
    code.push(check);
    code
}

/// 公民身份号码 (GB 11643) of the `n`-th invented person, born in 1990.
pub(super) fn citizen(n: u32) -> String {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let body = format!("4117021990{:02}{:02}99{}", n / 28 % 12 + 1, n % 28 + 1, n / 336 % 10);
    let sum: u32 =
        body.chars().filter_map(|c| c.to_digit(10)).zip(WEIGHTS).map(|(d, w)| d * w).sum();
    let check = b"10X98765432".get(sum as usize % 11).copied().unwrap_or(b'0');
    format!("{body}{}", char::from(check))
}

/// 组织机构代码 (GB 11714) of eight digits.
fn org_code(body: &str) -> String {
    let sum: u32 = body
        .chars()
        .filter_map(|c| c.to_digit(10))
        .zip([3, 7, 9, 10, 5, 8, 4, 2])
        .map(|(d, w)| d * w)
        .sum();
    let check = b"0X987654321".get(sum as usize % 11).copied().unwrap_or(b'0');
    format!("{body}{}", char::from(check))
}

#[cfg(test)]
mod tests {
    use xinqiao_core::ident::{CitizenId, Uscc};

    use super::*;

    #[test]
    fn the_numbers_hold_and_the_wrong_ones_do_not() {
        for n in (0..12_000).step_by(7) {
            let code = uscc("91", n);
            assert!(Uscc::parse(&code).is_ok_and(|code| code.warnings.is_empty()), "{code}");
            assert!(Uscc::parse(&wrong(&code)).is_err(), "{code}");
            assert!(CitizenId::parse(&citizen(n)).is_ok(), "{n}");
            assert!(CitizenId::parse(&wrong(&citizen(n))).is_err(), "{n}");
        }
    }
}
