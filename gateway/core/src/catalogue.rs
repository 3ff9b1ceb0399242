//! The city's catalogue (目录): datasets in dated generations, their fields, and the rules.
//!
//! Data lives in `mappings/catalogue/<dataset>/<generation>.yaml`; this module parses it. Rules
//! are written against *roles* (decision date, subject code …) instead of field codes, so that one
//! rule serves every dataset that has the role.

mod convert;
mod file;
mod key;
mod resolve;
mod role;
pub mod rules;
mod uscc_map;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::Date;

use crate::deadline::ClockPolicy;
use crate::diagnostic::{Bundle, Diagnostics};
use crate::model::{DatasetId, Draft, Finding};

pub use convert::convert;
pub use key::record_key;
pub use resolve::{NoUsccMap, Resolution, Resolved, UsccMap, Wanted, resolve};
pub use role::Role;
pub use uscc_map::{is_uscc_map, uscc_entry};

/// A generation of a dataset's standard, named by its year: 2016 (A), 2018 (B), 2021 (C).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u16);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Index of a field in its dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldIx(pub u16);

/// What a field holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    /// Text of at most `max` characters.
    Text {
        /// Characters, not bytes.
        max: u32,
    },
    /// A date.
    Date,
    /// An amount in 万元, decimal(18,6).
    Amount,
    /// One value of a code set, or several joined by `;` where `several`.
    Code {
        /// The set.
        set: Arc<CodeSet>,
        /// Whether several values may be joined by `;`.
        several: bool,
        /// Characters, not bytes.
        max: u32,
    },
}

/// A closed list of values (代码集).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeSet {
    /// Its name in the catalogue.
    pub name: String,
    /// Allowed values and their names.
    pub values: BTreeMap<String, String>,
    /// A value of this set may carry free text after this prefix: `其他-xx` for prefix `其他-`.
    pub open_prefix: Option<String>,
    /// Values written in other ways that mean one of `values` (`一般` → `普通`).
    pub synonyms: BTreeMap<String, String>,
}

impl CodeSet {
    /// The value of this set that `text` means; `None` if it means none. Borrowed from the text
    /// or the set unless a dash had to be put right (`其他:xx` → `其他-xx`).
    pub fn resolve<'a>(&'a self, text: &'a str) -> Option<Cow<'a, str>> {
        if self.values.contains_key(text) {
            return Some(Cow::Borrowed(text));
        }
        if let Some(value) = self.synonyms.get(text) {
            return Some(Cow::Borrowed(value));
        }
        let prefix = self.open_prefix.as_deref()?;
        let word = self.open_word()?;
        let rest = text.strip_prefix(word)?.trim_start();
        let free = rest.trim_start_matches(['-', '\u{ff0d}', '—', '–', ':', '\u{ff1a}']);
        if free.len() == rest.len() || free.trim().is_empty() {
            return None;
        }
        if text.strip_prefix(prefix) == Some(free) {
            return Some(Cow::Borrowed(text));
        }
        Some(Cow::Owned(format!("{prefix}{}", free.trim())))
    }

    /// The open prefix without its dash: the word that must not stand alone (`其他`).
    pub fn open_word(&self) -> Option<&str> {
        self.open_prefix.as_deref().map(|prefix| prefix.trim_end_matches('-'))
    }
}

/// Whether a field must be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requirement {
    /// Always.
    Required,
    /// When a rule says so.
    Conditional,
    /// Never.
    Optional,
}

/// Who may see a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensitivity {
    /// May be published.
    Public,
    /// Shared between bodies, not published.
    Restricted,
    /// Identifies a natural person: never in logs, messages, receipts or published output.
    Personal,
}

/// One field (数据项) of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// `CF_JDRQ`.
    pub code: Arc<str>,
    /// 处罚决定日期.
    pub name: String,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether it must be filled.
    pub requirement: Requirement,
    /// Who may see it.
    pub sensitivity: Sensitivity,
    /// The part it plays for rules, if any.
    pub role: Option<Role>,
    /// Other headings seen for it in real files.
    pub aliases: Vec<String>,
    /// Where the definition comes from.
    pub source: String,
}

/// What the platform of a generation counts lengths in: some keep text in columns of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LengthIn {
    /// Characters.
    #[default]
    Characters,
    /// Bytes of GB 18030: one for ASCII, two for what GBK has, four for the rest.
    Gb18030,
    /// Bytes of UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
}

impl LengthIn {
    /// The length of a text.
    pub fn of(self, text: &str) -> usize {
        match self {
            Self::Characters => text.chars().count(),
            Self::Utf8 => text.len(),
            // Which characters of the basic plane GBK lacks is not known here: they count as two.
            Self::Gb18030 => text
                .chars()
                .map(|c| {
                    if c.is_ascii() {
                        1
                    } else if c < '\u{10000}' {
                        2
                    } else {
                        4
                    }
                })
                .sum(),
        }
    }
}

/// One generation of one dataset.
#[derive(Debug)]
pub struct Dataset {
    /// `admin-penalty`.
    pub id: DatasetId,
    /// Which generation.
    pub generation: Generation,
    /// 行政处罚(2021版).
    pub title: String,
    /// First and last day (inclusive; open if `None`) on which the platform wants this generation.
    pub in_force: (Date, Option<Date>),
    /// Both clocks, if the dataset has deadlines.
    pub clocks: ClockPolicy,
    /// What the fields' `max` counts.
    pub lengths: LengthIn,
    /// Fields in catalogue order.
    pub fields: Vec<Field>,
    by_code: HashMap<Arc<str>, FieldIx>,
    /// By `Role as usize`.
    by_role: [Option<FieldIx>; Role::COUNT],
}

impl Dataset {
    /// The index of the field with this code.
    pub fn find(&self, code: &str) -> Option<FieldIx> {
        self.by_code.get(code).copied()
    }

    /// The field at an index.
    pub fn field(&self, ix: FieldIx) -> Option<&Field> {
        self.fields.get(usize::from(ix.0))
    }

    /// The field that plays a role.
    pub fn role(&self, role: Role) -> Option<FieldIx> {
        *self.by_role.get(role as usize)?
    }

    /// `admin-penalty/2021`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.id, self.generation)
    }
}

/// Every dataset and generation.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    datasets: BTreeMap<(DatasetId, Generation), Arc<Dataset>>,
}

impl Catalogue {
    /// Reads `catalogue/` of a bundle; reports every error at once.
    pub fn load(bundle: &Bundle) -> Result<Self, Diagnostics> {
        file::load(bundle)
    }

    /// One generation of a dataset.
    pub fn dataset(&self, id: &DatasetId, generation: Generation) -> Option<&Arc<Dataset>> {
        self.datasets.get(&(id.clone(), generation))
    }

    /// By reference: `admin-penalty/2021`.
    pub fn by_reference(&self, reference: &str) -> Option<&Arc<Dataset>> {
        let (id, generation) = reference.split_once('/')?;
        self.dataset(&DatasetId::new(id).ok()?, Generation(generation.parse().ok()?))
    }

    /// The generation the platform wants on a day.
    pub fn in_force(&self, id: &DatasetId, on: Date) -> Option<&Arc<Dataset>> {
        self.datasets.values().rfind(|d| {
            d.id == *id && d.in_force.0 <= on && d.in_force.1.is_none_or(|last| on <= last)
        })
    }

    /// The datasets' ids, each once.
    pub fn ids(&self) -> impl Iterator<Item = &DatasetId> {
        let mut last = None;
        self.datasets.keys().map(|(id, _)| id).filter(move |id| last.replace(*id) != Some(*id))
    }

    /// All, in order of dataset and generation.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Dataset>> {
        self.datasets.values()
    }
}

/// What rules know besides the draft.
#[derive(Debug, Clone, Copy)]
pub struct CheckContext {
    /// Today in Asia/Shanghai.
    pub today: Date,
}

/// Runs every rule that applies to the draft's dataset; findings are appended. May normalise
/// values (lower-case codes) and fill derived ones, never invents.
pub fn check(draft: &mut Draft, context: &CheckContext, findings: &mut Vec<Finding>) {
    rules::run(draft, context, findings);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{CellKind, Slot, Value};
    use crate::value::{Unit, parse_amount, parse_date};
    use std::sync::LazyLock;

    /// The shipped catalogue's files.
    pub(crate) fn bundle() -> Bundle {
        macro_rules! files {
            ($($path:literal),*) => {
                [$(($path, include_str!(concat!("../../../mappings/", $path)))),*]
            };
        }
        let files = files![
            "catalogue/code-sets.yaml",
            "catalogue/admin-licence/2016.yaml",
            "catalogue/admin-licence/2018.yaml",
            "catalogue/admin-licence/2021.yaml",
            "catalogue/admin-penalty/2016.yaml",
            "catalogue/admin-penalty/2018.yaml",
            "catalogue/admin-penalty/2021.yaml",
            "catalogue/uscc-map/1.yaml"
        ];
        Bundle(files.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect())
    }

    /// The shipped catalogue.
    pub(crate) fn catalogue() -> Catalogue {
        static SHIPPED: LazyLock<Catalogue> = LazyLock::new(|| {
            Catalogue::load(&bundle()).unwrap_or_else(|errors| panic!("{errors}"))
        });
        SHIPPED.clone()
    }

    /// Sets a field by code: dates and amounts are parsed, an empty text empties the slot. The
    /// column is the field's own index.
    pub(crate) fn put(draft: &mut Draft, code: &str, text: &str) {
        let ix = draft.dataset.find(code).unwrap_or_else(|| panic!("no field {code}"));
        let value = match &draft.dataset.field(ix).unwrap().kind {
            _ if text.is_empty() => None,
            FieldKind::Date => Some(Value::Date(parse_date(text, CellKind::Text).unwrap())),
            FieldKind::Amount => Some(Value::Amount(parse_amount(text, Unit::Wan).unwrap())),
            _ => Some(Value::Text(text.to_owned())),
        };
        draft.slots[usize::from(ix.0)] = Slot { value, column: Some(ix.0), ..Slot::default() };
    }

    /// A draft with these fields.
    pub(crate) fn draft(reference: &str, fields: &[(&str, &str)]) -> Draft {
        let mut draft = Draft::new(Arc::clone(catalogue().by_reference(reference).unwrap()));
        fields.iter().for_each(|(code, text)| put(&mut draft, code, text));
        draft
    }

    /// An invented record of generation 2021 with nothing to say against it.
    pub(crate) fn sample(reference: &str) -> Draft {
        let fields: &[(&str, &str)] = match reference {
            "admin-licence/2021" => &[
                ("XK_XDR_MC", "天中测试商贸有限公司"),
                ("XK_XDR_LB", "法人及非法人组织"),
                ("XK_XDR_SHXYM", "91411702999999904X"),
                ("XK_FRDB", "张测试"),
                ("XK_XKWS", "准予许可决定书"),
                ("XK_WSH", "驿审许〔2026〕7号"),
                ("XK_XKLB", "普通"),
                ("XK_NR", "准予从事测试经营"),
                ("XK_JDRQ", "2026-03-02"),
                ("XK_YXQZ", "2026-03-02"),
                ("XK_YXQZI", "2099-12-31"),
                ("XK_XKJG", "驿城区测试审批局"),
                ("XK_XKJGDM", "114117009999999049"),
                ("XK_ZT", "1"),
                ("XK_LYDW", "驿城区测试审批局"),
                ("XK_LYDWDM", "114117009999999049"),
            ],
            "admin-penalty/2021" => &[
                ("CF_XDR_MC", "天中测试商贸有限公司"),
                ("CF_XDR_LB", "法人及非法人组织"),
                ("CF_XDR_SHXYM", "91411702999999904X"),
                ("CF_FRDB", "张测试"),
                ("CF_WSH", "驿城管罚〔2026〕12号"),
                ("CF_WFXW", "擅自占用城市道路"),
                ("CF_SY", "占用测试路人行道堆放物料"),
                ("CF_YJ", "城市道路管理条例第四十二条"),
                ("CF_CFLB", "警告;罚款"),
                ("CF_NR", "警告,罚款2000元"),
                ("CF_NR_FK", "0.2"),
                ("CF_JDRQ", "2026-03-02"),
                ("CF_YXQ", "2099-12-31"),
                ("CF_GSJZQ", "2027-03-02"),
                ("CF_CFJG", "驿城区测试城管局"),
                ("CF_CFJGDM", "114117009999999049"),
                ("CF_SJLY", "驿城区测试城管局"),
                ("CF_SJLYDM", "114117009999999049"),
            ],
            "uscc-map/1" => &[
                ("LX", "组织机构代码"),
                ("JDM", "99999990-4"),
                ("TYDM", "91411702999999904X"),
                ("SXRQ", "2015-10-01"),
                ("LY", "测试登记机关"),
            ],
            other => panic!("no sample of {other}"),
        };
        draft(reference, fields)
    }

    #[test]
    fn lengths_are_counted_as_the_platform_does() {
        let count =
            |text| [LengthIn::Characters, LengthIn::Gb18030, LengthIn::Utf8].map(|l| l.of(text));
        assert_eq!(count("A1"), [2, 2, 2]);
        assert_eq!(count("驻马店A"), [4, 7, 10]);
        assert_eq!(count("\u{20BB7}"), [1, 4, 4]);
    }

    #[test]
    fn datasets_are_found_by_reference_and_listed_once() {
        let catalogue = catalogue();
        let ids: Vec<_> = catalogue.ids().map(DatasetId::as_str).collect();
        assert_eq!(ids, ["admin-licence", "admin-penalty", "uscc-map"]);
        assert_eq!(catalogue.by_reference("admin-licence/2016").unwrap().title, "行政许可(2016版)");
        assert!(catalogue.by_reference("admin-licence/2017").is_none());
    }

    #[test]
    fn code_sets_resolve_synonyms_and_open_values() {
        let dataset = catalogue();
        let dataset = dataset.by_reference("admin-licence/2021").unwrap();
        let category = dataset.field(dataset.role(Role::LicenceCategory).unwrap()).unwrap();
        let FieldKind::Code { set, .. } = &category.kind else { panic!("a code field") };
        assert_eq!(set.resolve("普通").as_deref(), Some("普通"));
        assert_eq!(set.resolve("一般").as_deref(), Some("普通"));
        assert_eq!(set.resolve("其他-备案").as_deref(), Some("其他-备案"));
        assert_eq!(set.resolve("其他\u{ff1a}备案").as_deref(), Some("其他-备案"));
        for bad in ["其他", "其他-", "其他 - ", "其他备案", "许可", ""] {
            assert_eq!(set.resolve(bad), None, "{bad}");
        }
    }
}
