//! Codes from before the 统一社会信用代码 (旧代码), and what a mapping table says of them.

use serde::{Deserialize, Serialize};
use time::Date;

use super::{CitizenId, Uscc, check_reg_no, org_code_check};

/// Which register a legacy code is from. The order is part of the store's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LegacyKind {
    /// 组织机构代码 (GB 11714).
    OrgCode,
    /// 工商注册号 (GS 15).
    RegNo,
    /// 税务登记号 (纳税人识别号).
    TaxNo,
    /// 事业单位证书号.
    InstitutionNo,
    /// 社会组织登记证号.
    SocialNo,
}

impl LegacyKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::OrgCode, Self::RegNo, Self::TaxNo, Self::InstitutionNo, Self::SocialNo];

    /// What people call it; the value of the code set 旧代码类型.
    pub fn name(self) -> &'static str {
        match self {
            Self::OrgCode => "组织机构代码",
            Self::RegNo => "工商注册号",
            Self::TaxNo => "税务登记号",
            Self::InstitutionNo => "事业单位证书号",
            Self::SocialNo => "社会组织登记证号",
        }
    }

    /// The kind called so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A legacy code in its one form: upper case, without hyphens and spaces. Never a citizen number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct LegacyCode {
    kind: LegacyKind,
    text: String,
}

#[derive(Deserialize)]
struct Written {
    kind: LegacyKind,
    text: String,
}

impl TryFrom<Written> for LegacyCode {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Self::new(written.kind, &written.text).ok_or("no code of this kind")
    }
}

impl LegacyCode {
    /// A code of a kind as an agency writes it; `None` if it cannot be one. A sole trader's tax
    /// number that holds a citizen number (18 characters, or two more) is none either: it tells a
    /// person, and no table of organisations may have it.
    pub fn new(kind: LegacyKind, written: &str) -> Option<Self> {
        let joint = |c: &char| {
            !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{FF0D}')
        };
        let half = |c| match c {
            '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFEE0).unwrap_or(c),
            c => c,
        };
        let text: String =
            written.chars().filter(joint).map(half).map(|c| c.to_ascii_uppercase()).collect();
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
        let fits = match kind {
            LegacyKind::OrgCode => org_code_check(&text).is_ok(),
            LegacyKind::RegNo => plain && (6..=50).contains(&text.len()),
            LegacyKind::TaxNo => plain && matches!(text.len(), 15 | 17 | 18 | 20),
            LegacyKind::InstitutionNo => plain && text.len() == 12,
            LegacyKind::SocialNo => {
                let length = text.chars().count();
                (4..=50).contains(&length) && !text.chars().any(char::is_control)
            }
        };
        let personal = text.get(..18).is_some_and(|head| CitizenId::parse(head).is_ok());
        (fits && !personal).then_some(Self { kind, text })
    }

    /// What a text in the column of the 统一社会信用代码 may be instead of one: nothing, one code,
    /// or several readings of the same 15 characters.
    pub fn read(text: &str) -> Vec<Self> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let kinds: &[LegacyKind] = if check_reg_no(text).is_ok() || digits && text.len() == 13 {
            &[LegacyKind::RegNo]
        } else if CitizenId::parse(text).is_ok() {
            &[]
        } else if org_code_check(text).is_ok() {
            &[LegacyKind::OrgCode]
        } else if digits && text.len() == 15 {
            &[LegacyKind::RegNo, LegacyKind::TaxNo]
        } else {
            &[]
        };
        kinds.iter().filter_map(|kind| Self::new(*kind, text)).collect()
    }

    /// Its kind.
    pub fn kind(&self) -> LegacyKind {
        self.kind
    }

    /// Its one form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The 组织机构代码 within a 税务登记号 of 15: its last nine characters, if they check.
    pub fn inner(&self) -> Option<Self> {
        if self.kind != LegacyKind::TaxNo || self.text.len() != 15 {
            return None;
        }
        Self::new(LegacyKind::OrgCode, self.text.get(6..)?)
    }
}

/// One line of the mapping table (对照表): this code was, on these days, that organisation's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawEntry")]
pub struct UsccEntry {
    code: LegacyCode,
    uscc: String,
    from: Option<Date>,
    to: Option<Date>,
    source: String,
}

/// Why a line of the table is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The legacy code is none of its kind.
    #[error("旧代码与类型不符")]
    Code,
    /// The other one is no 统一社会信用代码.
    #[error("统一社会信用代码有误")]
    Uscc,
    /// 组织机构代码 are characters 9–17 of the 统一社会信用代码.
    #[error("组织机构代码与统一社会信用代码第9至17位不一致")]
    OrgCode,
    /// Ends before it begins.
    #[error("失效日期早于生效日期")]
    Period,
    /// The source is longer than 64 characters.
    #[error("来源超过64字")]
    Source,
}

#[derive(Deserialize)]
struct RawEntry {
    code: LegacyCode,
    uscc: String,
    from: Option<Date>,
    to: Option<Date>,
    source: String,
}

impl TryFrom<RawEntry> for UsccEntry {
    type Error = EntryError;

    fn try_from(raw: RawEntry) -> Result<Self, EntryError> {
        Self::new(raw.code, &raw.uscc, (raw.from, raw.to), &raw.source)
    }
}

/// Characters 9–17 of a 统一社会信用代码.
const ORG_CODE: std::ops::Range<usize> = 8..17;

impl UsccEntry {
    /// A line of the table; both days belong to the period, none is open.
    pub fn new(
        code: LegacyCode,
        uscc: &str,
        (from, to): (Option<Date>, Option<Date>),
        source: &str,
    ) -> Result<Self, EntryError> {
        let uscc = Uscc::parse(uscc).map_err(|_| EntryError::Uscc)?.as_str().to_owned();
        if code.kind == LegacyKind::OrgCode && uscc.get(ORG_CODE) != Some(code.as_str()) {
            return Err(EntryError::OrgCode);
        }
        if from.zip(to).is_some_and(|(from, to)| to < from) {
            return Err(EntryError::Period);
        }
        if source.chars().count() > 64 {
            return Err(EntryError::Source);
        }
        Ok(Self { code, uscc, from, to, source: source.to_owned() })
    }

    /// The legacy code.
    pub fn code(&self) -> &LegacyCode {
        &self.code
    }

    /// The code that took its place.
    pub fn uscc(&self) -> &str {
        &self.uscc
    }

    /// First and last day, open if `None`.
    pub fn period(&self) -> (Option<Date>, Option<Date>) {
        (self.from, self.to)
    }

    /// Who says so.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it held on a day.
    pub fn holds_on(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::date;

    fn code(kind: LegacyKind, text: &str) -> Option<String> {
        LegacyCode::new(kind, text).map(|code| code.text)
    }

    #[test]
    fn one_form_however_it_is_written() {
        let org = Some("M000100Y4".to_owned());
        for written in ["M000100Y-4", "m000100y4", " M000100Y－４ ", "Ｍ000100Y-4"] {
            assert_eq!(code(LegacyKind::OrgCode, written), org, "{written}");
        }
        for (kind, written) in [
            (LegacyKind::OrgCode, "M000100Y5"),
            (LegacyKind::RegNo, "无"),
            (LegacyKind::RegNo, "12345"),
            (LegacyKind::TaxNo, "41170299999990"),
            // A citizen number, and one with a suffix.
            (LegacyKind::TaxNo, "000000199002281231"),
            (LegacyKind::TaxNo, "00000019900228123101"),
            (LegacyKind::InstitutionNo, "1234"),
            (LegacyKind::SocialNo, "无"),
        ] {
            assert_eq!(code(kind, written), None, "{written}");
        }
        assert!(code(LegacyKind::SocialNo, "驻社证字第0123号").is_some());
    }

    #[test]
    fn what_stands_in_the_column_of_the_new_code_is_told() {
        let kinds = |text: &str| -> Vec<_> {
            LegacyCode::read(text).iter().map(LegacyCode::kind).collect()
        };
        use LegacyKind::{OrgCode, RegNo, TaxNo};
        assert_eq!(kinds("411702000001236"), [RegNo]);
        assert_eq!(kinds("4117020000123"), [RegNo]);
        assert_eq!(kinds("411702000001237"), [RegNo, TaxNo]);
        assert_eq!(kinds("99999990-4"), [OrgCode]);
        for none in ["", "无", "000000199002281231", "91411702999999904X", "00000000000000000X"] {
            assert_eq!(kinds(none), [], "{none}");
        }
        let tax = LegacyCode::new(TaxNo, "411702999999904").unwrap();
        assert_eq!(tax.inner().unwrap().as_str(), "999999904");
        assert!(LegacyCode::new(TaxNo, "411702999999905").unwrap().inner().is_none());
    }

    #[test]
    fn a_line_of_the_table_holds_or_says_why_not() {
        let entry = |kind, code: &str, uscc: &str, period| {
            UsccEntry::new(LegacyCode::new(kind, code).unwrap(), uscc, period, "")
        };
        const USCC: &str = "91411702999999904X";
        let (from, to) = (date!(2015 - 10 - 01), date!(2017 - 12 - 31));
        let found =
            entry(LegacyKind::OrgCode, "99999990-4", "91411702999999904x", (None, Some(to)))
                .unwrap();
        assert_eq!((found.uscc(), found.code().as_str()), (USCC, "999999904"));
        assert!(found.holds_on(to) && !found.holds_on(to.next_day().unwrap()));
        for (kind, code, uscc, period, error) in [
            (LegacyKind::OrgCode, "M000100Y4", USCC, (None, None), EntryError::OrgCode),
            (
                LegacyKind::RegNo,
                "411702000001236",
                "91411702999999904Y",
                (None, None),
                EntryError::Uscc,
            ),
            (
                LegacyKind::RegNo,
                "411702000001236",
                USCC,
                (Some(to), Some(from)),
                EntryError::Period,
            ),
        ] {
            assert_eq!(entry(kind, code, uscc, period), Err(error));
        }
        let json = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<UsccEntry>(&json).unwrap(), found);
        assert!(serde_json::from_str::<UsccEntry>(&json.replace("904X", "904Y")).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_a_form_is_its_own(text in any::<String>()) {
            for kind in LegacyKind::ALL {
                if let Some(code) = LegacyCode::new(kind, &text) {
                    prop_assert_eq!(LegacyCode::new(kind, code.as_str()), Some(code));
                }
            }
            LegacyCode::read(&text);
        }
    }
}
