//! Invented rows of 行政处罚 (administrative penalties). Numbers are formed as the standards say,
//! by code independent of the product, and belong to nobody.

use std::fmt::Write as _;

/// One decision.
#[derive(Debug, Clone)]
pub struct Row {
    /// Tells decisions apart.
    pub number: u64,
    /// 罚款金额 in units of 0.1 万元; 0 leaves the amount out, which refuses the row.
    pub fine: u32,
}

impl Row {
    /// Decision `number`, with a fine of 2000元.
    pub fn new(number: u64) -> Self {
        Self { number, fine: 2 }
    }

    /// 文书号: names the decision everywhere.
    pub fn document(&self) -> String {
        format!("样罚决字〔2025〕{}号", self.number)
    }

    /// 行政相对人名称.
    pub fn subject(&self) -> String {
        format!("样例{}有限公司", self.number)
    }

    /// The cells, in the order of [`HEADINGS`].
    pub fn cells(&self) -> [String; 21] {
        let fine = match self.fine {
            0 => String::new(),
            tenths => format!("{}.{}", tenths / 10, tenths % 10),
        };
        [
            self.subject(),
            uscc("91", self.number),
            "样例甲".to_owned(),
            self.document(),
            "违反规定排放污染物".to_owned(),
            format!("第{}次检查发现该单位未按规定运行治理设施,并留有现场记录", self.number),
            "《样例条例》第三十条第一款".to_owned(),
            "罚款".to_owned(),
            "责令改正,并处以罚款".to_owned(),
            fine,
            "2025年3月3日".to_owned(),
            "2028-03-03".to_owned(),
            "2026/3/3".to_owned(),
            "甲区".to_owned(),
            "一般".to_owned(),
            "乙科".to_owned(),
            "丙".to_owned(),
            "否".to_owned(),
            format!("{:06}", self.number),
            "已结案".to_owned(),
            "2025-03-04 09:30:00".to_owned(),
        ]
    }
}

/// Column headings in the order of the cells; the last eight are an agency's own and not mapped.
pub const HEADINGS: [&str; 21] = [
    "行政相对人名称",
    "统一社会信用代码",
    "法定代表人",
    "行政处罚决定书文号",
    "违法行为类型",
    "违法事实",
    "处罚依据",
    "处罚类别",
    "处罚内容",
    "罚款金额(万元)",
    "处罚决定日期",
    "处罚有效期",
    "公示截止期",
    "所在区",
    "案件等级",
    "承办科室",
    "承办人代号",
    "是否听证",
    "流水号",
    "办理状态",
    "入库时间",
];

/// A CSV file with headings.
pub fn csv(rows: impl IntoIterator<Item = Row>) -> String {
    let mut text = HEADINGS.join(",") + "\r\n";
    for row in rows {
        let quoted = row.cells().map(|cell| format!("\"{cell}\""));
        let _ = write!(text, "{}\r\n", quoted.join(","));
    }
    text
}

/// The same as lines of JSON.
pub fn ndjson(rows: impl IntoIterator<Item = Row>) -> String {
    let mut text = String::new();
    for row in rows {
        let object: serde_json::Map<_, _> = HEADINGS
            .iter()
            .zip(row.cells())
            .map(|(heading, cell)| ((*heading).to_owned(), cell.into()))
            .collect();
        let _ = writeln!(text, "{}", serde_json::Value::Object(object));
    }
    text
}

/// A mapping of these rows: `made-csv` or `made-ndjson`.
pub fn mapping(format: &str) -> String {
    let source = match format {
        "csv" => "{ format: csv, encoding: auto, on-unknown-column: ignore }",
        _ => "{ format: ndjson, on-unknown-column: ignore }",
    };
    let agency = uscc("11", 1);
    format!(
        "mapping: 1
id: made-{format}
title: 样例局 · 行政处罚
target: admin-penalty/2021
source: {source}
fields:
  CF_XDR_MC:    {{ from: 行政相对人名称, do: [halfwidth] }}
  CF_XDR_LB:    {{ const: 法人及非法人组织 }}
  CF_XDR_SHXYM: {{ from: 统一社会信用代码, do: [strip, upper] }}
  CF_FRDB:      {{ from: 法定代表人 }}
  CF_WSH:       {{ from: 行政处罚决定书文号, do: [brackets] }}
  CF_WFXW:      {{ from: 违法行为类型 }}
  CF_SY:        {{ from: 违法事实 }}
  CF_YJ:        {{ from: 处罚依据 }}
  CF_CFLB:      {{ from: 处罚类别 }}
  CF_NR:        {{ from: 处罚内容 }}
  CF_NR_FK:     {{ from: 罚款金额(万元) }}
  CF_JDRQ:      {{ from: 处罚决定日期 }}
  CF_YXQ:       {{ from: 处罚有效期 }}
  CF_GSJZQ:     {{ from: 公示截止期 }}
  CF_CFJG:      {{ const: 样例市样例局 }}
  CF_CFJGDM:    {{ const: {agency} }}
  CF_SJLY:      {{ const: 样例市样例局 }}
  CF_SJLYDM:    {{ const: {agency} }}
"
    )
}

/// A 统一社会信用代码 by GB 32100 with its inner GB 11714 digit; `kind` is its first two characters.
pub fn uscc(kind: &str, number: u64) -> String {
    const ALPHABET: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
    let value = |c: char| ALPHABET.find(c).unwrap_or(0);
    let base = format!("99{:06}", number % 1_000_000);
    let sum: usize = base.chars().zip([3, 7, 9, 10, 5, 8, 4, 2]).map(|(c, w)| value(c) * w).sum();
    let inner = match 11 - sum % 11 {
        10 => 'X',
        11 => '0',
        digit => char::from_digit(u32::try_from(digit).unwrap_or(0), 10).unwrap_or('0'),
    };
    let body = format!("{kind}411702{base}{inner}");
    let (sum, _) =
        body.chars().fold((0, 1), |(sum, weight), c| (sum + value(c) * weight, weight * 3 % 31));
    let check = ALPHABET.chars().nth((31 - sum % 31) % 31).unwrap_or('0');
    format!("{body}{check}")
}
