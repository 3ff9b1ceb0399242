//! Operations and checks as they are written.

use std::ops::Range;

use schemars::JsonSchema;

use super::Word;
use crate::yaml::{At, FromNode, Reader, nearest, pairs};
use crate::yaml::{Node, Tree};

crate::file_struct! {
    /// 替换文本(按字面,不是正则)
    pub(in crate::mapping) struct Replace {
        /// 要找的文本
        find: At<String>,
        /// 换成的文本,缺省删去
        with: Option<String>,
    }
}

crate::file_struct! {
    /// 补足位数
    pub(in crate::mapping) struct Pad {
        /// 补到几个字符
        to: At<u32>,
        /// 用哪个字符补,缺省 0
        with: Option<At<String>>,
        /// 补在 left 左边(缺省)或 right 右边
        side: Option<Word<Side>>,
    }
}

crate::file_struct! {
    /// 截取,按字符
    pub(in crate::mapping) struct Substr {
        /// 从第几个字符起,从 1 数
        start: At<u32>,
        /// 取几个字符,缺省到末尾
        length: Option<u32>,
    }
}

crate::file_struct! {
    /// 按正则表达式提取;不匹配则该值有误
    pub(in crate::mapping) struct Extract {
        /// 正则表达式
        pattern: At<String>,
        /// 取第几个括号,0 为整个匹配;缺省有括号取 1,没有取 0
        group: Option<At<u32>>,
    }
}

/// 哪一边
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::mapping) enum Side {
    /// 左边
    Left,
    /// 右边
    Right,
}

/// 一个操作
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub(in crate::mapping) enum OpFile {
    /// 全角字母、数字、标点变半角
    Halfwidth,
    /// 字母变大写
    Upper,
    /// 去掉文本中所有空白
    Strip,
    /// 〔〕【】[]()()等括号统一为〔〕
    Brackets,
    /// 替换文本(按字面)
    Replace(Replace),
    /// 补足位数
    Pad(Pad),
    /// 按字符截取
    Substr(Substr),
    /// 按正则表达式提取
    RegexExtract(Extract),
}

/// Names of the ops, those without parameters first.
const PLAIN_OPS: [(&str, OpFile); 4] = [
    ("halfwidth", OpFile::Halfwidth),
    ("upper", OpFile::Upper),
    ("strip", OpFile::Strip),
    ("brackets", OpFile::Brackets),
];
const OPS_WITH_PARAMETERS: [&str; 4] = ["replace", "pad", "substr", "regex-extract"];

impl FromNode for OpFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (name, span, value) = named(node, reader, "操作")?;
        match (name.as_str(), value) {
            ("replace", Some(v)) => Replace::from_node(v, reader).map(Self::Replace),
            ("pad", Some(v)) => Pad::from_node(v, reader).map(Self::Pad),
            ("substr", Some(v)) => Substr::from_node(v, reader).map(Self::Substr),
            ("regex-extract", Some(v)) => Extract::from_node(v, reader).map(Self::RegexExtract),
            (name, value) => {
                let plain = PLAIN_OPS.iter().find(|(known, _)| *known == name);
                if let (Some((_, op)), None) = (plain, value) {
                    return Some(op.clone());
                }
                let all = PLAIN_OPS.iter().map(|(n, _)| *n).chain(OPS_WITH_PARAMETERS);
                unknown_name(reader, "mapping.unknown-op", "操作", name, span, all);
                None
            }
        }
    }
}

/// 对结果的检查
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub(in crate::mapping) enum CheckKind {
    /// 统一社会信用代码(GB 32100)
    Uscc,
    /// 公民身份号码(GB 11643)
    CitizenId,
    /// 组织机构代码(GB 11714)
    OrgCode,
    /// 工商注册号
    RegNo,
    /// 整个文本与正则表达式相符
    Matches(String),
    /// 只能是这些值
    OneOf(Vec<String>),
}

impl FromNode for CheckKind {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let (name, span, value) = named(node, reader, "检查")?;
        match (name.as_str(), value) {
            ("uscc", None) => Some(Self::Uscc),
            ("citizen-id", None) => Some(Self::CitizenId),
            ("org-code", None) => Some(Self::OrgCode),
            ("reg-no", None) => Some(Self::RegNo),
            ("matches", Some(v)) => String::from_node(v, reader).map(Self::Matches),
            ("one-of", Some(v)) => Vec::from_node(v, reader).map(Self::OneOf),
            (name, _) => {
                let all = ["uscc", "citizen-id", "org-code", "reg-no", "matches", "one-of"];
                unknown_name(reader, "mapping.unknown-check", "检查", name, span, all);
                None
            }
        }
    }
}

/// `name` or `{name: parameters}`.
fn named<'n>(
    node: &'n Node,
    reader: &mut Reader<'_>,
    what: &str,
) -> Option<(String, Range<usize>, Option<&'n Node>)> {
    match &node.tree {
        Tree::Text(name) => Some((name.clone(), node.span.clone(), None)),
        Tree::Null | Tree::List(_) | Tree::Map(_) => {
            let (name, value) = single(node, reader, what)?;
            Some((name.value, name.span, Some(value)))
        }
    }
}

pub(super) fn single<'n>(
    node: &'n Node,
    reader: &mut Reader<'_>,
    what: &str,
) -> Option<(At<String>, &'n Node)> {
    let mut entries = pairs(node, reader)?;
    if entries.len() != 1 {
        let message = format!("一个{what}只能有一个键");
        reader.error("yaml.type", node.span.clone(), message, None);
        return None;
    }
    entries.pop()
}

fn unknown_name<'c>(
    reader: &mut Reader<'_>,
    code: &'static str,
    what: &str,
    name: &str,
    span: Range<usize>,
    all: impl IntoIterator<Item = &'c str>,
) {
    let all: Vec<&str> = all.into_iter().collect();
    let (message, help) = if all.contains(&name) {
        let help = if OPS_WITH_PARAMETERS.contains(&name) || ["matches", "one-of"].contains(&name) {
            format!("应写成 {name}: 参数")
        } else {
            format!("只写 {name},不带参数")
        };
        (format!("{what}“{name}”的参数不对"), help)
    } else {
        let list = all.join("、");
        let help = nearest(name, all.iter().copied())
            .map_or_else(|| format!("可用:{list}"), |n| format!("是否想写“{n}”?可用:{list}"));
        (format!("没有“{name}”这个{what}"), help)
    };
    reader.error(code, span, message, Some(help));
}
