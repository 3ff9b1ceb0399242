//! What a mapping file holds: the one place its keys are named. The Chinese doc comments become
//! the descriptions in the JSON Schema, so they are written for the people who write mappings.

mod ops;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::model::{Encoding, FormatKind, HeaderSpec, Severity, UnknownColumn, UnwrapStep};
use crate::yaml::{At, Entries, FromNode, Reader, Several, unknown_key, word};
use crate::yaml::{Node, Tree};
use ops::single;
pub(super) use ops::{CheckKind, OpFile, Side};

crate::file_struct! {
    /// 信桥映射规则:把一个委办局的列变成目录数据集的字段
    pub(in crate::mapping) struct MappingFile {
        /// 映射语言版本,现为 1
        mapping: At<u32>,
        /// 本映射的标识:小写字母开头,只含小写字母、数字和连字符
        id: At<String>,
        /// 标题,如“市城管局 · 行政处罚(CSV)”
        title: String,
        /// 目标数据集与版本,如 admin-penalty/2016
        target: At<String>,
        /// 来源格式
        source: SourceFile,
        /// 代码表:来源写法 → 目录写法
        codes: Entries<CodesFile>,
        /// 不得报送的行(涉密、简易程序等):任一条匹配即排除,不生成记录
        exclude: Vec<ExcludeFile>,
        /// 表示撤销(撤下公示)的行:列出的列都取到列出的值
        withdraw_when: Option<At<Entries<Several<String>>>>,
        /// withdraw-when 那一列里表示照常报送的值;写了之后,两边都没有列出的值(空也算一个值)一律退回
        withdraw_keep: Option<At<Several<String>>>,
        /// 目标字段代码 → 取值办法
        fields: Entries<FieldFile>,
        /// 字段之间的比较
        checks: Vec<CheckFile>,
        /// 随规则保存的测试
        tests: Vec<At<TestFile>>,
    }
}

crate::file_struct! {
    /// 来源格式
    pub(in crate::mapping) struct SourceFile {
        /// 格式:csv、tsv、fixed(定长文本)、workbook(XLSX/XLS/XLSB/ODS)、dbf、xml、json、ndjson;都可以装在 ZIP 里
        format: Word<FormatKind>,
        /// 文本编码,缺省 auto(自动识别)
        encoding: Option<Word<Encoding>>,
        /// csv 的分隔符,一个 ASCII 字符
        delimiter: Option<At<String>>,
        /// 表头所在:auto(自动)或 {row: 行号}
        header: Option<HeaderFile>,
        /// 工作表名;不写则取所有能找到表头的工作表
        sheet: Option<String>,
        /// 记录所在路径,如 /DATA/ROW(XML)或 /data/rows(JSON)
        record: Option<At<String>>,
        /// XML 命名空间前缀
        namespaces: Entries<String>,
        /// fixed 的各列,按次序:列名 → 所占宽度
        columns: Option<At<Entries<At<u32>>>>,
        /// fixed 的宽度按 bytes 字节(缺省,指原编码的字节)还是 characters 字符
        widths: Option<Word<Widths>>,
        /// 报文是 SOAP 信封,或记录的文档作为文本装在另一份文档里:先怎样取出来
        unwrap: Option<At<UnwrapFile>>,
        /// 规则没有提到的列:ignore 忽略、warn 警告(缺省)、reject 退回整个报文
        on_unknown_column: Option<Word<UnknownColumn>>,
    }
}

crate::file_struct! {
    /// 怎样从 SOAP 信封或外层文档里取出记录的文档
    pub(in crate::mapping) struct UnwrapFile {
        /// 所在元素的路径,如 /getListResponse/return;SOAP 信封从 Body 以下算起。不写则取 Body 下的第一个元素
        at: Option<At<String>>,
        /// 对取出的文本依次做:unescape、url-decode、url-decode-gb18030、base64。里面那份文档自称的编码不算数
        r#do: Vec<Word<UnwrapStep>>,
    }
}

crate::file_struct! {
    /// 一条排除
    pub(in crate::mapping) struct ExcludeFile {
        /// 条件:列名 → 值(多个值任一即可;多列须同时满足)
        when: At<Entries<Several<String>>>,
        /// 同一列里表示照常报送的值;写了之后,两边都没有列出的值(空也算一个值)一律退回,不猜
        keep: Option<At<Several<String>>>,
        /// 依据的规则编号,如 scope.summary-procedure
        rule: At<String>,
    }
}

crate::file_struct! {
    /// 一个字段的取值办法。次序:取值 → 去空白 → do → split → code → default → 类型转换 → check
    pub(in crate::mapping) struct FieldFile {
        /// 来源列名(可多个,取第一个非空的);树形来源写路径,如 party/name、@wsh;同名的几列写“备注#2”指第几列
        from: Several<At<String>>,
        /// 由几列连接而成
        concat: Option<ConcatFile>,
        /// 固定值
        r#const: Option<At<String>>,
        /// 来源为空时的值
        default: Option<At<String>>,
        /// 依次执行的操作
        r#do: Vec<At<OpFile>>,
        /// 分隔符(其中任一字符都算),先拆开,各自查代码表,再连接
        split: Option<At<String>>,
        /// 拆开后重新连接用的文本,缺省 ";"
        join: Option<At<String>>,
        /// 代码表名
        code: Option<At<String>>,
        /// 代码表查不到时:reject 退回(缺省)、keep 原样保留
        on_miss: Option<Word<OnMiss>>,
        /// 金额字段的来源单位:wan 万元(缺省)、yuan 元
        unit: Option<At<Word<UnitFile>>>,
        /// 日期写法,用 YYYY MM DD 表示,如 DD/MM/YYYY;不写则自动识别常见写法。另可写 epoch-ms(13位毫秒数,限 XML、JSON)、serial(Excel 序列数)
        date: Several<At<String>>,
        /// 必填(目录已要求必填的不用再写)
        required: bool,
        /// 条件必填:字段代码 → 值(多个字段须同时满足)
        required_when: Option<At<Entries<Several<String>>>>,
        /// 保留“无”“/”“空”等占位文本,缺省视为空
        keep_placeholder: bool,
        /// 对结果的检查
        check: Several<At<CheckKind>>,
    }
}

crate::file_struct! {
    /// 几列连接
    pub(in crate::mapping) struct ConcatFile {
        /// 列名,按次序
        from: Vec<At<String>>,
        /// 连接文本,缺省没有
        with: Option<String>,
    }
}

crate::file_struct! {
    /// 两个字段的比较;任一为空则不比较
    pub(in crate::mapping) struct CheckFile {
        /// 编号,问题项里显示为 check.<编号>
        id: At<String>,
        /// 左边的字段代码
        left: At<String>,
        /// 应当成立的关系
        op: Word<Compare>,
        /// 右边的字段代码
        right: At<String>,
        /// 不成立时的说明
        message: At<String>,
        /// 怎样改正
        fix: Option<String>,
        /// error 退回(缺省)、warning 只警告
        severity: Option<Word<SeverityFile>>,
    }
}

crate::file_struct! {
    /// 一个测试
    pub(in crate::mapping) struct TestFile {
        /// 名称
        name: String,
        /// 来源行:列名 → 单元格
        row: Entries<CellFile>,
        /// 应得的字段值;null 表示应为空
        expect: Entries<OptText>,
        /// 转换到现行目录版本后应得的字段值
        expect_platform: Entries<OptText>,
        /// 应退回的字段代码或规则编号;写 [] 表示整行应通过全部检查
        reject: Option<Vec<At<String>>>,
        /// 应警告的字段代码或规则编号
        warn: Vec<At<String>>,
        /// 应识别为撤销
        withdraw: bool,
        /// 应排除,写规则编号
        exclude: Option<At<String>>,
    }
}

/// A word of an enum whose names serde knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<T>(pub(super) T);

impl<T: serde::de::DeserializeOwned> FromNode for Word<T> {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        word(node, reader).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Word<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// 宽度的单位
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Widths {
    /// 原编码的字节
    Bytes,
    /// 字符
    Characters,
}

/// 查不到代码时怎么办
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnMiss {
    /// 退回
    Reject,
    /// 原样保留
    Keep,
}

/// 金额单位
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum UnitFile {
    /// 万元
    Wan,
    /// 元
    Yuan,
}

/// 问题的轻重
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeverityFile {
    /// 退回
    Error,
    /// 警告
    Warning,
}

impl From<SeverityFile> for Severity {
    fn from(severity: SeverityFile) -> Self {
        match severity {
            SeverityFile::Error => Self::Error,
            SeverityFile::Warning => Self::Warning,
        }
    }
}

/// 关系
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, JsonSchema)]
pub(super) enum Compare {
    /// 小于(日期:早于)
    #[serde(rename = "<")]
    Lt,
    /// 小于或等于
    #[serde(rename = "<=")]
    Le,
    /// 等于
    #[serde(rename = "=")]
    Eq,
    /// 不等于
    #[serde(rename = "!=")]
    Ne,
    /// 大于或等于
    #[serde(rename = ">=")]
    Ge,
    /// 大于(日期:晚于)
    #[serde(rename = ">")]
    Gt,
}

/// `auto` or `{row: 2}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderFile(pub(super) HeaderSpec);

crate::file_struct! {
    /// 表头行号,从 1 起
    pub(in crate::mapping) struct HeaderRow {
        /// 行号
        row: At<u32>,
    }
}

impl FromNode for HeaderFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::Text(text) if text == "auto" => Some(Self(HeaderSpec::Auto)),
            Tree::Map(_) => {
                let row = HeaderRow::from_node(node, reader)?.row;
                if row.value == 0 {
                    reader.error("yaml.value", row.span, "行号从 1 起".into(), None);
                    return None;
                }
                Some(Self(HeaderSpec::Row(row.value)))
            }
            Tree::Null | Tree::Text(_) | Tree::List(_) => {
                let message = "表头应写 auto 或 {row: 行号}".into();
                reader.error("yaml.value", node.span.clone(), message, None);
                None
            }
        }
    }
}

impl JsonSchema for HeaderFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Header".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let row = generator.subschema_for::<HeaderRow>();
        json_schema!({ "anyOf": [{ "const": "auto", "description": "自动识别" }, row] })
    }
}

/// A code table in place, or in a file beside.
#[derive(Debug, Clone)]
pub(super) enum CodesFile {
    /// `{甲: 乙, …}`
    Inline(Entries<At<String>>),
    /// `{file: codes/x.csv}`: the only key is `file`.
    File(At<String>),
}

impl FromNode for CodesFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut entries = Entries::<At<String>>::from_node(node, reader)?;
        match entries.0.as_slice() {
            [(key, _)] if key.value == "file" => entries.0.pop().map(|(_, path)| Self::File(path)),
            _ => Some(Self::Inline(entries)),
        }
    }
}

impl JsonSchema for CodesFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Codes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "来源写法 → 目录写法;或 {file: 路径},两列的 CSV 文件",
            "type": "object",
            "additionalProperties": { "type": "string" }
        })
    }
}

/// A text, or nothing expected.
#[derive(Debug, Clone)]
pub(super) struct OptText(pub(super) Option<String>);

impl FromNode for OptText {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.tree {
            Tree::Null => Some(Self(None)),
            _ => String::from_node(node, reader).map(|text| Self(Some(text))),
        }
    }
}

impl JsonSchema for OptText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "OptText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean", "null"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A cell of a test's row: a text, or `{number: …}`, `{date: …}`, `{damaged: …}`.
#[derive(Debug, Clone)]
pub(super) struct CellFile {
    pub(super) text: String,
    pub(super) kind: crate::model::CellKind,
}

const CELL_KINDS: [(&str, crate::model::CellKind); 3] = [
    ("number", crate::model::CellKind::Number),
    ("date", crate::model::CellKind::Date),
    ("damaged", crate::model::CellKind::Damaged),
];

impl FromNode for CellFile {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match &node.tree {
            Tree::Null => Some(Self { text: String::new(), kind: crate::model::CellKind::Absent }),
            Tree::Map(_) => {
                let (name, value) = single(node, reader, "单元格")?;
                let names = CELL_KINDS.map(|(name, _)| name.to_owned());
                match CELL_KINDS.iter().find(|(known, _)| *known == name.value) {
                    Some((_, kind)) => {
                        Some(Self { text: String::from_node(value, reader)?, kind: *kind })
                    }
                    None => {
                        unknown_key(reader, &name, &names);
                        None
                    }
                }
            }
            Tree::Text(_) | Tree::List(_) => {
                let text = String::from_node(node, reader)?;
                Some(Self { text, kind: crate::model::CellKind::Text })
            }
        }
    }
}

impl JsonSchema for CellFile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cell".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = json_schema!({ "type": ["string", "number"] });
        json_schema!({
            "description": "文本,或 {number: 数值}、{date: 日期}、{damaged: 乱码文本}",
            "anyOf": [
                { "type": ["string", "number", "boolean", "null"] },
                {
                    "type": "object", "additionalProperties": false, "maxProperties": 1,
                    "properties": { "number": text, "date": text, "damaged": text }
                }
            ]
        })
    }
}
