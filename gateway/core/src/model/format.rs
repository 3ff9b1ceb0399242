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
    /// 定长文本:每列占固定的位置
    Fixed,
    /// 工作簿:按内容识别 XLSX、XLS、XLSB 或 ODS,不看扩展名
    Workbook,
    /// dBase、FoxPro 的数据表(DBF)
    Dbf,
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

/// One column of fixed-width text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedColumn {
    /// Its name, which mapping fields use.
    pub name: String,
    /// How many bytes (or characters, see [`FormatSpec::in_characters`]) it takes, from 1.
    pub width: u32,
}

/// What has to be undone before the records can be read: the message is a SOAP envelope, or a
/// document with the records' document as a text inside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unwrap {
    /// Path of the element that holds the records or the text with them, from the outermost
    /// element, or below `Body` where the message is a SOAP envelope: `/getListResponse/return`.
    /// `None` takes the whole of the first element below `Body`, or the only text in it.
    pub at: Option<String>,
    /// What is done to the text there, in order.
    pub steps: Vec<UnwrapStep>,
}

/// One act on a text that holds a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UnwrapStep {
    /// 再去一层 XML 转义(`&lt;` 变成 `<`)
    Unescape,
    /// 网址解码(UTF-8;`+` 是空格)
    UrlDecode,
    /// 网址解码(GB18030)
    UrlDecodeGb18030,
    /// Base64 解码
    Base64,
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
    /// Columns of fixed-width text, in order.
    pub columns: Vec<FixedColumn>,
    /// Widths of [`Self::columns`] count characters, not bytes of the text's encoding.
    pub in_characters: bool,
    /// What is undone before the format's own decoder reads.
    pub unwrap: Option<Unwrap>,
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
            columns: Vec::new(),
            in_characters: false,
            unwrap: None,
        }
    }
}
