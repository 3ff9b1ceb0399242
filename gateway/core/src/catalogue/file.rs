//! The catalogue's files.
//!
//! `catalogue/code-sets.yaml`: one entry per closed list (代码集).
//! ```yaml
//! 当前状态:
//!   source: where it was read
//!   values: { "1": 有效, "2": 无效 }   # value: meaning
//!   open-prefix: 其他-                  # optional: 其他-xx is allowed as well
//!   synonyms: { 有效: "1" }             # optional: written so, meant so
//! ```
//!
//! `catalogue/<dataset>/<generation>.yaml`: one generation of one dataset.
//! ```yaml
//! dataset: admin-licence          # as in the path
//! generation: 2021                # as in the path
//! title: 行政许可(2021版)
//! source: what the file rests on; a field's own source overrides it
//! in-force: { from: 2021-07-15, to: 2030-12-31 }   # inclusive, `to` optional; never overlapping
//! clocks: { statutory-working-days: 7, pledged-days: 7 }
//! lengths: characters   # optional; what `max` counts: characters (if not given), gb18030 or utf-8 bytes
//! fields:
//!   - { code: XK_NR, name: 许可内容, type: text, max: 4000, requirement: required,
//!       sensitivity: public, role: content, aliases: [行政许可内容], source: … }
//! ```
//! `type` is `text` (with `max`, characters), `date`, `amount` (万元, six decimals) or `code`
//! (with `max`, `set`, and `several: true` where values are joined by `;`). `requirement` is
//! `required`, `conditional` (a rule decides) or `optional`; `sensitivity` is `public`,
//! `restricted` or `personal`; `role`, `aliases` and `source` are optional. Unknown keys are errors.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde_saphyr::{Location, Spanned};
use time::Date;
use time::macros::format_description;

use super::{
    Catalogue, CodeSet, Dataset, Field, FieldIx, FieldKind, Generation, LengthIn, Role, Sensitivity,
};
use crate::deadline::ClockPolicy;
use crate::diagnostic::{Bundle, Diagnostic, Diagnostics, Level};
use crate::model::DatasetId;

const FOLDER: &str = "catalogue/";
const CODE_SETS: &str = "catalogue/code-sets.yaml";

pub(super) fn load(bundle: &Bundle) -> Result<Catalogue, Diagnostics> {
    let mut errors = Vec::new();
    let sets = code_sets(bundle, &mut errors);
    let mut catalogue = Catalogue::default();
    for (path, text) in bundle.under(FOLDER).filter(|(path, _)| *path != CODE_SETS) {
        let mut file = File { path, errors: &mut errors };
        if let Some(dataset) = file.dataset(text, &sets) {
            file.refuse_overlap(&catalogue, &dataset);
            catalogue.datasets.insert((dataset.id.clone(), dataset.generation), Arc::new(dataset));
        }
    }
    if catalogue.datasets.is_empty() && errors.is_empty() {
        File { path: FOLDER, errors: &mut errors }.report(
            "catalogue.empty",
            None,
            "目录中没有任何数据集".to_owned(),
            "请放入 catalogue/<数据集>/<版本>.yaml",
        );
    }
    if errors.is_empty() {
        return Ok(catalogue);
    }
    errors.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    Err(Diagnostics(errors))
}

type CodeSets = BTreeMap<String, Arc<CodeSet>>;

fn code_sets(bundle: &Bundle, errors: &mut Vec<Diagnostic>) -> CodeSets {
    let mut file = File { path: CODE_SETS, errors };
    let Some(text) = bundle.get(CODE_SETS) else {
        file.report("catalogue.missing", None, "缺少代码集文件".to_owned(), "请放入该文件");
        return CodeSets::new();
    };
    let Some(raw) = file.parse::<BTreeMap<String, RawSet>>(text) else {
        return CodeSets::new();
    };
    raw.into_iter()
        .map(|(name, set)| {
            for (written, meant) in &set.synonyms {
                if !set.values.contains_key(&meant.value) {
                    file.report(
                        "catalogue.synonym",
                        Some(meant.referenced),
                        format!(
                            "代码集“{name}”中“{written}”所指的值“{}”不在 values 里",
                            meant.value
                        ),
                        "请改为 values 中的值,或先把它加入 values",
                    );
                }
            }
            let synonyms = set.synonyms.into_iter().map(|(k, v)| (k, v.value)).collect();
            let set = CodeSet {
                name: name.clone(),
                values: set.values,
                open_prefix: set.open_prefix,
                synonyms,
            };
            (name, Arc::new(set))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSet {
    #[expect(dead_code, reason = "required of the writer, shown to readers of the file only")]
    source: String,
    values: BTreeMap<String, String>,
    open_prefix: Option<String>,
    #[serde(default)]
    synonyms: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDataset {
    dataset: Spanned<String>,
    generation: Spanned<u16>,
    title: String,
    source: String,
    in_force: RawPeriod,
    clocks: ClockPolicy,
    #[serde(default)]
    lengths: LengthIn,
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeriod {
    from: Spanned<String>,
    to: Option<Spanned<String>>,
}

/// Closed words are read as text first, so that every wrong one is reported, not the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    code: Spanned<String>,
    name: String,
    #[serde(rename = "type")]
    kind: Spanned<String>,
    max: Option<Spanned<u32>>,
    set: Option<Spanned<String>>,
    #[serde(default)]
    several: bool,
    requirement: Spanned<String>,
    sensitivity: Spanned<String>,
    role: Option<Spanned<String>>,
    #[serde(default)]
    aliases: Vec<Spanned<String>>,
    source: Option<String>,
}

/// One file being read, and where its errors go.
struct File<'a> {
    path: &'a str,
    errors: &'a mut Vec<Diagnostic>,
}

impl File<'_> {
    fn report(
        &mut self,
        code: &'static str,
        at: Option<Location>,
        message: String,
        help: impl Into<String>,
    ) {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let span = at.map_or(0..0, |at| {
            let offset = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            let start = offset(at.span().byte_offset());
            start..start + offset(at.span().byte_len())
        });
        self.errors.push(Diagnostic {
            code,
            level: Level::Error,
            file: self.path.to_owned(),
            line: at.map_or(0, |at| number(at.line())),
            column: at.map_or(0, |at| number(at.column())),
            span,
            message,
            help: Some(help.into()),
        });
    }

    fn parse<T: serde::de::DeserializeOwned>(&mut self, text: &str) -> Option<T> {
        let error = match serde_saphyr::from_str(text) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let (message, help) = match error.without_snippet() {
            serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
                (format!("不认识的键“{field}”"), format!("可用的键:{}", expected.join("、")))
            }
            serde_saphyr::Error::SerdeMissingField { field, .. } => {
                (format!("缺少键“{field}”"), "请补上".to_owned())
            }
            serde_saphyr::Error::DuplicateMappingKey { .. } => {
                ("同一个键出现了两次".to_owned(), "请只保留一个".to_owned())
            }
            other => (
                "不是有效的YAML,或值的类型不符".to_owned(),
                format!("解析器提示:{}", other.render().lines().next().unwrap_or_default()),
            ),
        };
        self.report("catalogue.syntax", error.location(), message, help);
        None
    }

    /// `None` if anything is wrong with it: then it has been reported.
    fn dataset(&mut self, text: &str, sets: &CodeSets) -> Option<Dataset> {
        let raw: RawDataset = self.parse(text)?;
        let before = self.errors.len();

        let id = DatasetId::new(&raw.dataset.value);
        if let Err(error) = &id {
            self.report(
                "catalogue.id",
                Some(raw.dataset.referenced),
                error.to_string(),
                "请改用小写字母、数字和连字符",
            );
        }
        let expected = format!("{FOLDER}{}/{}.yaml", raw.dataset.value, raw.generation.value);
        if expected != self.path {
            self.report(
                "catalogue.path",
                Some(raw.generation.referenced),
                "数据集、版本与文件所在位置不一致".to_owned(),
                format!("文件应为 {expected}"),
            );
        }
        let from = self.date(&raw.in_force.from);
        let to = raw.in_force.to.as_ref().map(|to| self.date(to));
        if let (Some(from), Some(Some(to)), Some(at)) = (from, to, &raw.in_force.to)
            && to < from
        {
            self.report(
                "catalogue.period",
                Some(at.referenced),
                "施行截止日早于开始日".to_owned(),
                "请检查 in-force 的 from 与 to",
            );
        }

        let mut by_code = HashMap::new();
        let mut by_role = [None; Role::COUNT];
        let mut headings = HashMap::new();
        let mut fields = Vec::with_capacity(raw.fields.len());
        for (raw_field, ix) in raw.fields.into_iter().zip(0u16..) {
            let code: Arc<str> = Arc::from(raw_field.code.value.as_str());
            if by_code.insert(Arc::clone(&code), FieldIx(ix)).is_some() {
                self.report(
                    "catalogue.duplicate-field",
                    Some(raw_field.code.referenced),
                    format!("字段“{code}”重复"),
                    "每个字段代码只能出现一次",
                );
            }
            let role = raw_field.role.as_ref().and_then(|role| self.word::<Role>(role, "角色"));
            if let (Some(role), Some(at)) = (role, &raw_field.role)
                && let Some(slot) = by_role.get_mut(role as usize)
                && slot.replace(FieldIx(ix)).is_some()
            {
                self.report(
                    "catalogue.duplicate-role",
                    Some(at.referenced),
                    format!("角色“{}”已有字段担任", at.value),
                    "一个角色只能由一个字段担任",
                );
            }
            for alias in &raw_field.aliases {
                if headings.insert(alias.value.clone(), ix).is_some() {
                    self.report(
                        "catalogue.duplicate-alias",
                        Some(alias.referenced),
                        format!("别名“{}”重复", alias.value),
                        "一个列名只能指向一个字段",
                    );
                }
            }
            let kind = self.kind(&raw_field, sets);
            let requirement = self.word(&raw_field.requirement, "必填要求");
            let sensitivity = self.word::<Sensitivity>(&raw_field.sensitivity, "敏感级别");
            if let (Some(kind), Some(requirement), Some(sensitivity)) =
                (kind, requirement, sensitivity)
            {
                fields.push(Field {
                    code,
                    name: raw_field.name,
                    kind,
                    requirement,
                    sensitivity,
                    role,
                    aliases: raw_field.aliases.into_iter().map(|alias| alias.value).collect(),
                    source: raw_field.source.unwrap_or_else(|| raw.source.clone()),
                });
            }
        }
        if self.errors.len() > before {
            return None;
        }
        Some(Dataset {
            id: id.ok()?,
            generation: Generation(raw.generation.value),
            title: raw.title,
            in_force: (from?, to.flatten()),
            clocks: raw.clocks,
            lengths: raw.lengths,
            fields,
            by_code,
            by_role,
        })
    }

    fn kind(&mut self, field: &RawField, sets: &CodeSets) -> Option<FieldKind> {
        let kind = match (field.kind.value.as_str(), &field.max, &field.set) {
            ("text", Some(max), None) if !field.several => FieldKind::Text { max: max.value },
            ("date", None, None) if !field.several => FieldKind::Date,
            ("amount", None, None) if !field.several => FieldKind::Amount,
            ("code", Some(max), Some(name)) => {
                let Some(set) = sets.get(&name.value) else {
                    self.report(
                        "catalogue.unknown-set",
                        Some(name.referenced),
                        format!("没有名为“{}”的代码集", name.value),
                        format!("请在 {CODE_SETS} 中定义"),
                    );
                    return None;
                };
                let several = field.several;
                FieldKind::Code { set: Arc::clone(set), several, max: max.value }
            }
            ("text" | "date" | "amount" | "code", ..) => {
                self.report(
                    "catalogue.type-keys",
                    Some(field.kind.referenced),
                    format!("字段“{}”的 max、set、several 与类型不相配", field.code.value),
                    "text 要 max;code 要 max 和 set,可加 several;date、amount 都不要",
                );
                return None;
            }
            (other, ..) => {
                self.report(
                    "catalogue.unknown-type",
                    Some(field.kind.referenced),
                    format!("不认识的类型“{other}”"),
                    "可用:text、date、amount、code",
                );
                return None;
            }
        };
        Some(kind)
    }

    /// A word of a closed list, by the list's own serde names.
    fn word<'de, T: Deserialize<'de>>(
        &mut self,
        word: &'de Spanned<String>,
        what: &str,
    ) -> Option<T> {
        let text: StrDeserializer<'de, ValueError> = word.value.as_str().into_deserializer();
        let parsed = T::deserialize(text);
        if let Err(error) = &parsed {
            // serde's text ends in the list of words it would have taken.
            let mut allowed = String::from("可用:");
            let _ = write!(
                allowed,
                "{}",
                error.to_string().split('`').skip(3).step_by(2).collect::<Vec<_>>().join("、")
            );
            self.report(
                "catalogue.unknown-word",
                Some(word.referenced),
                format!("不认识的{what}“{}”", word.value),
                allowed,
            );
        }
        parsed.ok()
    }

    fn date(&mut self, text: &Spanned<String>) -> Option<Date> {
        let parsed = Date::parse(&text.value, format_description!("[year]-[month]-[day]"));
        if parsed.is_err() {
            self.report(
                "catalogue.date",
                Some(text.referenced),
                "不是有效日期".to_owned(),
                "请写成 2021-07-15 的形式",
            );
        }
        parsed.ok()
    }

    /// Two generations wanted on one day would make conversion a matter of luck.
    fn refuse_overlap(&mut self, catalogue: &Catalogue, new: &Dataset) {
        let overlap = catalogue.iter().find(|old| {
            old.id == new.id
                && old.in_force.1.is_none_or(|last| new.in_force.0 <= last)
                && new.in_force.1.is_none_or(|last| old.in_force.0 <= last)
        });
        if let Some(old) = overlap {
            self.report(
                "catalogue.overlap",
                None,
                format!("施行期与 {} 重叠", old.reference()),
                "请调整 in-force,使每一天只有一个版本",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bundle, catalogue};
    use super::*;
    use time::macros::date;

    #[test]
    fn the_shipped_files_load_and_agree_with_the_standards_notes() {
        let catalogue = catalogue();
        assert_eq!(catalogue.iter().count(), 7);
        let penalty = DatasetId::new("admin-penalty").unwrap();
        for (day, generation) in [
            (date!(2018 - 07 - 24), 2016),
            (date!(2018 - 07 - 25), 2018),
            (date!(2021 - 07 - 14), 2018),
            (date!(2021 - 07 - 15), 2021),
            (date!(2026 - 11 - 23), 2021),
        ] {
            assert_eq!(catalogue.in_force(&penalty, day).unwrap().generation.0, generation);
        }
        assert!(catalogue.in_force(&penalty, date!(2015 - 12 - 31)).is_none());
        let licence = catalogue.by_reference("admin-licence/2021").unwrap();
        let field = licence.field(licence.role(Role::SubjectUscc).unwrap()).unwrap();
        assert_eq!(&*field.code, "XK_XDR_SHXYM");
        assert_eq!(field.kind, FieldKind::Text { max: 18 });
        assert_eq!(licence.clocks.statutory_working_days, 7);
        for dataset in catalogue.iter() {
            for role in [Role::SubjectMixedId, Role::PersonIdNo, Role::LegalRepIdNo] {
                if let Some(field) = dataset.role(role).and_then(|ix| dataset.field(ix)) {
                    assert_eq!(field.sensitivity, Sensitivity::Personal, "{}", field.code);
                }
            }
        }
    }

    #[test]
    fn every_error_is_reported_at_its_place() {
        let mut bundle = bundle();
        let path = "catalogue/admin-penalty/2021.yaml";
        let text = bundle.0.get_mut(path).unwrap();
        *text = text
            .replacen("type: amount", "type: money", 1)
            .replacen("set: 证件类型", "set: 证件种类", 1)
            .replacen("role: facts", "role: fact", 1)
            .replacen("code: CF_YJ", "code: CF_SY", 1)
            .replacen("from: 2021-07-15", "from: 2021-02-30", 1);
        let text = text.clone();
        bundle.0.insert(
            "catalogue/admin-licence/2021.yaml".to_owned(),
            "dataset: admin-licence\ngenration: 2021\n".to_owned(),
        );
        let errors = Catalogue::load(&bundle).unwrap_err().0;
        let mut found: Vec<_> = errors.iter().map(|e| (e.file.as_str(), e.code)).collect();
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("catalogue/admin-licence/2021.yaml", "catalogue.syntax"),
                (path, "catalogue.date"),
                (path, "catalogue.duplicate-field"),
                (path, "catalogue.unknown-set"),
                (path, "catalogue.unknown-type"),
                (path, "catalogue.unknown-word"),
            ]
        );
        let role = errors.iter().find(|e| e.code == "catalogue.unknown-word").unwrap();
        assert_eq!(text.get(role.span.clone()), Some("fact"));
        let line = text.lines().nth(role.line as usize - 1).unwrap();
        assert_eq!(line.chars().skip(role.column as usize - 1).take(4).collect::<String>(), "fact");
        assert!(role.help.as_ref().unwrap().contains("legal-basis"), "{role:?}");
        assert!(errors.iter().any(|e| e.message.contains("genration") && e.line == 2));
    }

    #[test]
    fn generations_may_not_overlap_nor_stand_in_the_wrong_place() {
        let mut bundle = bundle();
        let path = "catalogue/admin-penalty/2018.yaml";
        let text = bundle.get(path).unwrap().replace("to: 2021-07-14", "to: 2021-07-15");
        bundle.0.insert(path.to_owned(), text.clone());
        bundle.0.insert("catalogue/admin-penalty/2017.yaml".to_owned(), text);
        let codes: Vec<_> =
            Catalogue::load(&bundle).unwrap_err().0.iter().map(|e| e.code).collect();
        assert_eq!(codes, ["catalogue.path", "catalogue.overlap"]);
    }
}
