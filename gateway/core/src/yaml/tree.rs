//! YAML as a tree that knows where every node stands.
//!
//! Reading goes by a tree instead of derived structs because serde stops at the first error, and a
//! person who mends a mapping wants all of them. Nothing is converted on the way: a plain `01` or
//! `yes` stays the text that was written.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Error, Location, Spanned};

use super::read::Reader;

/// A node and the bytes it was written in.
#[derive(Debug, Clone)]
pub struct Node {
    /// The bytes it was written in.
    pub span: Range<usize>,
    /// What it is.
    pub tree: Tree,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Tree {
    /// Nothing, `~` or `null`.
    Null,
    /// A scalar as written.
    Text(String),
    /// Items in order.
    List(Vec<Node>),
    /// Entries in order, repeated keys included.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What the node is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.tree {
            Tree::Null => "空值",
            Tree::Text(_) => "文本",
            Tree::List(_) => "列表",
            Tree::Map(_) => "键值表",
        }
    }
}

/// Parses a file; syntax errors and folded scalars are told to `reader`.
pub fn parse(reader: &mut Reader<'_>) -> Option<Node> {
    let text = reader.text;
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.merge_keys = MergeKeyPolicy::AsOrdinary;
    options.with_snippet = false;
    match serde_saphyr::from_str_with_options::<Raw>(text, options) {
        Ok(raw) => Some(resolve(raw, reader)),
        Err(error) => {
            let span = error.location().map_or(0..0, |place| within(&place, text));
            match tab(text, span.start) {
                Some(tab) => {
                    let message = "缩进里有制表符,YAML 的缩进只能用空格".to_owned();
                    let help = Some("把制表符换成空格,与同级的键对齐".to_owned());
                    reader.error("yaml.syntax", tab, message, help);
                }
                None => {
                    reader.error("yaml.syntax", span, syntax(&error), Some(SYNTAX_HELP.to_owned()));
                }
            }
            None
        }
    }
}

const SYNTAX_HELP: &str =
    "检查缩进是否一致、冒号后是否有空格、引号和括号是否成对;含有 : # @ 等符号的文本请加引号";

struct Raw(Spanned<RawTree>);

enum RawTree {
    Null,
    Text(String),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawTree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = RawTree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<RawTree, E> {
        Ok(RawTree::Null)
    }

    fn visit_none<E>(self) -> Result<RawTree, E> {
        Ok(RawTree::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, d: D) -> Result<RawTree, D::Error> {
        d.deserialize_any(Any)
    }

    fn visit_str<E>(self, text: &str) -> Result<RawTree, E> {
        Ok(RawTree::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawTree, E> {
        Ok(RawTree::Text(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawTree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawTree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawTree::Map(entries))
    }
}

/// Gives scalars the text they were written in and finds plain ones that run over lines: there a
/// badly indented key has been swallowed by the value above it.
fn resolve(raw: Raw, reader: &mut Reader<'_>) -> Node {
    let mut span = bytes(&raw.0.defined.span(), reader.text);
    let tree = match raw.0.value {
        RawTree::Null => Tree::Null,
        RawTree::List(items) => Tree::List(items.into_iter().map(|i| resolve(i, reader)).collect()),
        RawTree::Map(entries) => Tree::Map(
            entries.into_iter().map(|(k, v)| (resolve(k, reader), resolve(v, reader))).collect(),
        ),
        RawTree::Text(value) => {
            let source = reader.text.get(span.clone()).unwrap_or("");
            let written = source.trim_end();
            span.end = span.start + written.len();
            let plain = !written.starts_with(['"', '\'', '|', '>', '!', '&', '*']);
            if plain && written.contains('\n') {
                reader.error(
                    "yaml.folded",
                    span.clone(),
                    "没有引号的文本跨了行,下面的行被并入了这个值".to_owned(),
                    Some("下面的行若是新的键,请与上一个键对齐;确是长文本请加引号".to_owned()),
                );
            }
            Tree::Text(if plain && !written.is_empty() && !written.contains('\n') {
                written.to_owned()
            } else {
                value
            })
        }
    };
    Node { span, tree }
}

fn bytes(span: &serde_saphyr::Span, text: &str) -> Range<usize> {
    let size = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let start = size(span.byte_offset()).min(text.len());
    start..(start + size(span.byte_len())).min(text.len())
}

/// Where an error is. The scanner gives line and column, not always bytes.
fn within(place: &Location, text: &str) -> Range<usize> {
    let span = bytes(&place.span(), text);
    if !span.is_empty() {
        return span;
    }
    let size = |n: u64| usize::try_from(n.saturating_sub(1)).unwrap_or(0);
    let start: usize = text.split_inclusive('\n').take(size(place.line())).map(str::len).sum();
    let line = text.get(start..).unwrap_or("").lines().next().unwrap_or("");
    let before: usize = line.chars().take(size(place.column())).map(char::len_utf8).sum();
    start + before..start + before
}

/// The tab in the indentation that an error at `from` comes of: on the error's own line, or on the
/// next that has something, as the parser takes such a line into the value above it.
fn tab(text: &str, from: usize) -> Option<Range<usize>> {
    let mut start = text.get(..from)?.rfind('\n').map_or(0, |end| end + 1);
    let mut lines = 0;
    for line in text.get(start..)?.split_inclusive('\n') {
        let content = line.trim_start_matches([' ', '\t']);
        if let Some(at) = line.get(..line.len() - content.len())?.find('\t') {
            return Some(start + at..start + at + 1);
        }
        start += line.len();
        lines += usize::from(!content.trim_end().is_empty() && !content.starts_with('#'));
        if lines == 2 {
            break;
        }
    }
    None
}

/// What is wrong with the YAML itself, in Chinese. The parser's own words are English, so only
/// what can be told apart by type is told.
fn syntax(error: &Error) -> String {
    match error.without_snippet() {
        Error::Eof { .. } => "文件是空的,或在此处中断",
        Error::MultipleDocuments { .. } => "一个文件只能有一份映射规则,不能用 --- 分成几份",
        Error::UnknownAnchor { .. } => "引用了没有定义的锚点(*名称)",
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "文件过大、嵌套过深或锚点展开过多",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "锚点引用了自身",
        Error::QuotingRequired { .. } => "此文本须加引号",
        Error::InvalidUtf8Input => "文件不是 UTF-8 编码",
        Error::IndentationError { .. } => "缩进不一致",
        Error::CannotBorrowTransformedString { .. } | Error::InvalidScalar { .. } => {
            "此处的值无法读取"
        }
        _ => "YAML 语法错误",
    }
    .to_owned()
}
