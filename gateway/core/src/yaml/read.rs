//! From YAML nodes to typed file structs, going on after every error.

use std::ops::Range;

use serde::de::{DeserializeOwned, IntoDeserializer};

use super::tree::{Node, Tree};
use crate::diagnostic::{Diagnostic, Diagnostics, Level, position};

/// Where diagnostics of one file go.
pub struct Reader<'a> {
    /// The file's path.
    pub path: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What was found so far.
    pub found: Diagnostics,
}

impl Reader<'_> {
    /// Tells an error at a place.
    pub fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        self.push(Level::Error, code, span, message, help);
    }

    /// Tells a warning at a place.
    pub fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        self.push(Level::Warning, code, span, message, help);
    }

    fn push(
        &mut self,
        level: Level,
        code: &'static str,
        span: Range<usize>,
        message: String,
        help: Option<String>,
    ) {
        let (line, column) = position(self.text, span.start);
        let file = self.path.to_owned();
        self.found.0.push(Diagnostic { code, level, file, line, column, span, message, help });
    }

    fn wrong_type(&mut self, node: &Node, wanted: &str) {
        let message = format!("此处应为{wanted},实为{}", node.kind());
        self.error("yaml.type", node.span.clone(), message, None);
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// The bytes it was written in.
    pub span: Range<usize>,
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }
}

/// A map whose order and key places count.
#[derive(Debug, Clone)]
pub struct Entries<T>(
    /// Key and value, in order.
    pub Vec<(At<String>, T)>,
);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Entries<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Map_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        std::collections::BTreeMap::<String, T>::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// One or several: `a` or `[a, b]`.
#[derive(Debug, Clone)]
pub struct Several<T>(
    /// The items.
    pub Vec<T>,
);

impl<T: schemars::JsonSchema> schemars::JsonSchema for Several<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Several_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = generator.subschema_for::<T>();
        let many = generator.subschema_for::<Vec<T>>();
        schemars::json_schema!({ "anyOf": [one, many] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Reads itself from a node. `None` means an error has been told.
pub trait FromNode: Sized {
    /// Reads a node, telling every error to `reader`.
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self>;

    /// What a missing key means; `None` if it must be there.
    fn absent() -> Option<Self> {
        None
    }
}

impl FromNode for String {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::Text(text) => Some(text.clone()),
            Tree::Null | Tree::List(_) | Tree::Map(_) => {
                reader.wrong_type(node, "文本");
                None
            }
        }
    }
}

impl FromNode for bool {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::Text(text) if text == "true" => Some(true),
            Tree::Text(text) if text == "false" => Some(false),
            _ => {
                reader.wrong_type(node, " true 或 false");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(false)
    }
}

impl FromNode for u32 {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let number = match &node.tree {
            Tree::Text(text) => text.parse().ok(),
            Tree::Null | Tree::List(_) | Tree::Map(_) => None,
        };
        if number.is_none() {
            reader.wrong_type(node, "非负整数");
        }
        number
    }
}

impl<T: FromNode> FromNode for Option<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        T::from_node(node, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromNode> FromNode for At<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let value = T::from_node(node, reader)?;
        Some(Self { value, span: node.span.clone() })
    }
}

impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::List(items) => {
                Some(items.iter().filter_map(|item| T::from_node(item, reader)).collect())
            }
            Tree::Null | Tree::Text(_) | Tree::Map(_) => {
                reader.wrong_type(node, "列表");
                None
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

impl<T: FromNode> FromNode for Several<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::List(_) => Vec::from_node(node, reader).map(Self),
            Tree::Null | Tree::Text(_) | Tree::Map(_) => {
                T::from_node(node, reader).map(|item| Self(vec![item]))
            }
        }
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
}

impl<T: FromNode> FromNode for Entries<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        // A key under which everything is commented out.
        if matches!(node.tree, Tree::Null) {
            return Some(Self(Vec::new()));
        }
        let entries = pairs(node, reader)?;
        Some(Self(
            entries
                .into_iter()
                .filter_map(|(key, node)| Some((key, T::from_node(node, reader)?)))
                .collect(),
        ))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }
}

/// The entries of a map with text keys; repeated keys are errors, the first stands.
pub fn pairs<'n>(node: &'n Node, reader: &mut Reader<'_>) -> Option<Vec<(At<String>, &'n Node)>> {
    let Tree::Map(entries) = &node.tree else {
        reader.wrong_type(node, "键值表");
        return None;
    };
    let mut seen = std::collections::HashMap::new();
    let mut found = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let Some(key) = At::<String>::from_node(key, reader) else { continue };
        if let Some(first) = seen.get(&key.value) {
            let message = format!("键“{}”重复,第{first}行已有", key.value);
            reader.error(
                "yaml.duplicate-key",
                key.span,
                message,
                Some("删去或合并其中一处".into()),
            );
            continue;
        }
        seen.insert(key.value.clone(), position(reader.text, key.span.start).0);
        found.push((key, value));
    }
    Some(found)
}

/// An enum of plain words, by its serde names.
pub fn word<T: DeserializeOwned>(node: &Node, reader: &mut Reader<'_>) -> Option<T> {
    let text = String::from_node(node, reader)?;
    match T::deserialize(text.as_str().into_deserializer()) {
        Ok(value) => Some(value),
        Err(Names(names)) => {
            let message = format!("“{text}”不是允许的值");
            let help = nearest(&text, names.iter().copied()).map_or_else(
                || format!("可用:{}", names.join("、")),
                |near| format!("是否想写“{near}”?可用:{}", names.join("、")),
            );
            reader.error("yaml.value", node.span.clone(), message, Some(help));
            // Told; any word lets the rest of the file be checked.
            let first: serde::de::value::StrDeserializer<'_, Names> =
                (*names.first()?).into_deserializer();
            T::deserialize(first).ok()
        }
    }
}

/// The names serde would have accepted.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl std::fmt::Display for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown variant")
    }
}

impl std::error::Error for Names {}

impl serde::de::Error for Names {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

/// An unknown key, with what was probably meant.
pub fn unknown_key(reader: &mut Reader<'_>, key: &At<String>, allowed: &[String]) {
    let help = nearest(&key.value, allowed.iter().map(String::as_str)).map_or_else(
        || format!("此处可用的键:{}", allowed.join("、")),
        |near| format!("是否想写“{near}”?"),
    );
    let message = format!("不认识的键“{}”", key.value);
    reader.error("yaml.unknown-key", key.span.clone(), message, Some(help));
}

/// The candidate a slip of the keyboard away from `text`, if there is one.
pub fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    if text.len() < 2 {
        return None;
    }
    let limit = (text.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| {
            let candidate: Vec<char> = c.to_lowercase().chars().collect();
            // Of two as near, the one of the same length: `=<` means `<=`, not `<`.
            ((distance(&text, &candidate), candidate.len().abs_diff(text.len())), c)
        })
        .filter(|((distance, _), _)| *distance <= limit)
        .min_by_key(|(key, _)| *key)
        .map(|(_, c)| c)
}

/// Edits between two texts, a swap of neighbours counting as one (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], ix: usize| row.get(ix).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = best;
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// Declares a struct of the file together with its reader and its schema, so that a key is named
/// once. Keys are the field names with `-` for `_`; unknown keys are refused.
#[macro_export]
macro_rules! file_struct {
    ($(#[doc = $doc:literal])* $vis:vis struct $name:ident { $($(#[doc = $field_doc:literal])* $field:ident: $ty:ty,)* }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(rename_all = "kebab-case", deny_unknown_fields, transform = Self::only_required)]
        $vis struct $name { $($(#[doc = $field_doc])* $vis $field: $ty,)* }

        impl $name {
            /// Lists as required in the schema what [`FromNode::absent`] cannot stand in for.
            fn only_required(schema: &mut schemars::Schema) {
                let mut required: Vec<String> = Vec::new();
                $(if <$ty as $crate::yaml::FromNode>::absent().is_none() {
                    required.push($crate::yaml::key(stringify!($field)));
                })*
                schema.remove("required");
                if !required.is_empty() {
                    schema.insert("required".to_owned(), required.into());
                }
            }
        }

        impl $crate::yaml::FromNode for $name {
            fn from_node(
                node: &$crate::yaml::Node,
                reader: &mut $crate::yaml::Reader<'_>,
            ) -> Option<Self> {
                let allowed = [$($crate::yaml::key(stringify!($field))),*];
                let entries = $crate::yaml::pairs(node, reader)?;
                for (key, _) in &entries {
                    if !allowed.contains(&key.value) {
                        $crate::yaml::unknown_key(reader, key, &allowed);
                    }
                }
                $(let $field = {
                    let key = $crate::yaml::key(stringify!($field));
                    match entries.iter().find(|(k, _)| k.value == key) {
                        Some((_, value)) => {
                            <$ty as $crate::yaml::FromNode>::from_node(value, reader)
                        }
                        None => {
                            let absent = <$ty as $crate::yaml::FromNode>::absent();
                            if absent.is_none() {
                                $crate::yaml::missing_key(reader, node, &key);
                            }
                            absent
                        }
                    }
                };)*
                // The error has been told: going on with what is known finds the others.
                Some(Self { $($field: match $field {
                    Some(value) => value,
                    None => <$ty as $crate::yaml::FromNode>::absent()?,
                },)* })
            }
        }
    };
}

/// The key of a struct's field.
pub fn key(field: &str) -> String {
    field.trim_start_matches("r#").replace('_', "-")
}

/// A key that must be there is not. Points at the first line of the map only.
pub fn missing_key(reader: &mut Reader<'_>, node: &Node, key: &str) {
    let start = node.span.start;
    let rest = reader.text.get(start..).unwrap_or("");
    let length = rest.find('\n').unwrap_or(rest.len());
    let end = (start + length).min(node.span.end.max(start));
    reader.error("yaml.missing-key", start..end, format!("缺少键“{key}”"), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let candidates = ["halfwidth", "upper", "CF_JDRQ", "行政处罚决定书文号"];
        for (slip, meant) in [
            ("halfwidht", "halfwidth"),
            ("uper", "upper"),
            ("cf_jdqr", "CF_JDRQ"),
            ("行政处罚决定书号", "行政处罚决定书文号"),
        ] {
            assert_eq!(nearest(slip, candidates), Some(meant));
        }
        assert_eq!(nearest("CF_SJLYDM", candidates), None);
        assert_eq!(nearest("", candidates), None);
        assert_eq!(nearest("9", ["0", "1"]), None);
        assert_eq!(nearest("=<", ["<", "<="]), Some("<="));
    }
}
