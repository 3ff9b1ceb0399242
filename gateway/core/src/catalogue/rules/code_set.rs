//! Values of code sets, synonyms normalised.

use std::borrow::Cow;

use super::Rule;
use crate::catalogue::{CheckContext, CodeSet, FieldKind};
use crate::model::{Dimension, Draft, Finding, Severity, Value};

/// A value outside the set.
pub(super) const CODE_SET: Rule = Rule {
    id: "field.code-set",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "代码类字段应填代码集内的值",
    fix: "请改填代码集内的值",
    basis: "双公示数据标准代码集",
    check: Some(check),
};

/// `其他` without saying which.
pub(super) const OTHER: Rule = Rule {
    id: "field.code-other",
    severity: Severity::Error,
    dimension: Dimension::Conformity,
    title: "选“其他”应注明具体内容",
    fix: "请写成“其他-具体内容”",
    basis: "双公示填报说明(2024):其他须注明",
    check: None,
};

/// 罚款;罚款: one of them was meant to be something else, or is one too many.
pub(super) const REPEATED: Rule = Rule {
    id: "field.code-repeated",
    severity: Severity::Warning,
    dimension: Dimension::Consistency,
    title: "同一项中的值不应重复",
    fix: "已去除重复;如另有所指请更正后重报",
    basis: "双公示数据标准代码集",
    check: None,
};

fn check(_: &Rule, draft: &mut Draft, _: &CheckContext, findings: &mut Vec<Finding>) {
    for at in 0..draft.slots.len() {
        let (Some(field), Some(slot)) = (draft.dataset.fields.get(at), draft.slots.get_mut(at))
        else {
            continue;
        };
        let label = slot.heading.clone();
        let label = label.as_deref().unwrap_or(&field.name);
        let (FieldKind::Code { set, several, .. }, Some(Value::Text(text))) =
            (&field.kind, &mut slot.value)
        else {
            continue;
        };
        let resolved = if *several { resolve_several(set, text) } else { set.resolve(text) };
        match resolved {
            Some(value) => {
                let once = if *several { each_once(&value) } else { None };
                let repeated = once.is_some();
                let value = once.unwrap_or_else(|| value.into_owned());
                if *text != value {
                    *text = value;
                }
                if repeated {
                    let message = format!("“{label}”中有重复的值");
                    REPEATED.raise_at(draft, at, message, REPEATED.fix.to_owned(), findings);
                }
            }
            None => {
                let bare = separated(text).any(|part| Some(part) == set.open_word());
                let (rule, message, fix) = if bare {
                    (&OTHER, format!("“{label}”选了“其他”而未注明"), OTHER.fix.to_owned())
                } else {
                    (&CODE_SET, format!("“{label}”的值不在代码集内"), allowed(set, *several))
                };
                rule.raise_at(draft, at, message, fix, findings);
            }
        }
    }
}

/// Several values joined by `;`, each resolved. Borrowed if nothing changes.
fn resolve_several<'a>(set: &'a CodeSet, text: &'a str) -> Option<Cow<'a, str>> {
    if text.split(';').all(|part| set.values.contains_key(part)) {
        return Some(Cow::Borrowed(text));
    }
    let parts: Option<Vec<_>> =
        separated(text).filter(|part| !part.is_empty()).map(|part| set.resolve(part)).collect();
    parts.filter(|parts| !parts.is_empty()).map(|parts| Cow::Owned(parts.join(";")))
}

/// The values with each said once; `None` if it is so already.
fn each_once(text: &str) -> Option<String> {
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(';') {
        if !seen.contains(&part) {
            seen.push(part);
        }
    }
    (seen.len() < text.split(';').count()).then(|| seen.join(";"))
}

/// A full-width semicolon separates as well. `、` does not: it stands inside values.
fn separated(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', '\u{FF1B}']).map(str::trim)
}

fn allowed(set: &CodeSet, several: bool) -> String {
    let values: Vec<_> = set
        .values
        .iter()
        .map(
            |(value, meaning)| {
                if value.is_ascii() { format!("{value}({meaning})") } else { value.clone() }
            },
        )
        .chain(set.open_prefix.iter().map(|prefix| format!("{prefix}具体内容")))
        .collect();
    let join = if several { ",多个值用英文分号“;”隔开" } else { "" };
    format!("请改填:{}{join}", values.join("/"))
}
