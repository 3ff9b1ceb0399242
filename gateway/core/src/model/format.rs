//! How a message's bytes are to be read: what a mapping's `source:` block says and a decoder needs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The family of decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FormatKind {
    /// 逗号分隔文本 (delimiter configurable; `tsv` is the same with a tab)
    Csv,
    /// 制表符分隔文本
    Tsv,
    /// 工作簿:按内容识别 XLSX 或 XLS,不看扩展名
    Workbook,
    /// XML
    Xml,
    /// JSON:数组、单个对象,或含数组的对象
    Json,
    /// 每行一个 JSON 对象
    Ndjson,
}

/// Text encoding of the bytes. GBK and GB2312 are read as GB18030, their superset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// BOM first, else UTF-8 if the bytes are valid UTF-8, else GB18030.
    #[default]
    Auto,
    /// UTF-8, with or without BOM.
    #[serde(rename = "utf-8", alias = "utf8")]
    Utf8,
    /// GB18030 (also GBK, GB2312).
    #[serde(alias = "gbk", alias = "gb2312")]
    Gb18030,
    /// UTF-16 by BOM, little-endian without.
    #[serde(rename = "utf-16", alias = "utf16")]
    Utf16,
}

/// Where the heading row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderSpec {
    /// The first of the first 30 rows holding the most of the headings the mapping names: at
    /// least two, or all if it names fewer.
    #[default]
    Auto,
    /// A row number, from 1.
    Row(u32),
}

/// What to do with a source column no field uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnknownColumn {
    /// Say nothing.
    Ignore,
    /// One warning for the message.
    #[default]
    Warn,
    /// Refuse the message.
    Reject,
}

/// Everything a decoder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatSpec {
    /// The family.
    pub kind: FormatKind,
    /// Text encoding, for the text formats.
    pub encoding: Encoding,
    /// Delimiter of `csv`; a comma unless told.
    pub delimiter: u8,
    /// Heading row, for delimited and workbook sources.
    pub header: HeaderSpec,
    /// All headings the mapping names, for [`HeaderSpec::Auto`] (already normalised by
    /// [`crate::value::heading`]).
    pub known_headings: Vec<String>,
    /// The sheet's name; `None` takes every sheet on which a heading row is found.
    pub sheet: Option<String>,
    /// Path of the record element (`/DATA/ROW`) or array (`/data/rows`); `None` guesses: the array
    /// itself for JSON, the children of the root for XML.
    pub record: Option<String>,
    /// XML namespace prefixes used in `record` and field paths. Without any, names match without
    /// regard to prefixes.
    pub namespaces: BTreeMap<String, String>,
}

impl FormatSpec {
    /// A spec of one kind with everything else at its default.
    pub fn new(kind: FormatKind) -> Self {
        Self {
            kind,
            encoding: Encoding::Auto,
            delimiter: if kind == FormatKind::Tsv { b'\t' } else { b',' },
            header: HeaderSpec::Auto,
            known_headings: Vec::new(),
            sheet: None,
            record: None,
            namespaces: BTreeMap::new(),
        }
    }
}
