//! A first draft of a mapping from a sample's headings.

use std::fmt::Write as _;

use crate::catalogue::{Dataset, Field, FieldKind, Requirement, Role};
use crate::model::{FormatKind, FormatSpec, HeaderSpec, MappingId};
use crate::value::heading;

pub(super) fn write(
    id: &MappingId,
    target: &Dataset,
    format: &FormatSpec,
    headings: &[String],
) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# yaml-language-server: $schema=../../mapping.schema.json");
    let _ =
        writeln!(out, "# 由样本生成的初稿:请核对每个字段的来源列,补齐标有“缺少”的字段,再加测试");
    let _ = writeln!(out, "mapping: 1\nid: {id}\ntitle: {}", quoted(&target.title));
    let _ = writeln!(out, "target: {}", target.reference());
    let _ = writeln!(out, "source:");
    source(format, &mut out);
    let (matched, unmatched) = assign(target, headings);
    let scoped = conditions(target, headings, &mut out);
    let _ = writeln!(out, "fields:");
    let mut missing = Vec::new();
    for (field, column) in target.fields.iter().zip(matched) {
        match column {
            Some(column) => {
                let note = match &field.kind {
                    FieldKind::Amount => unit(column),
                    FieldKind::Code { .. } => " }  # 取值若与目录不同,在 codes 里加代码表;",
                    FieldKind::Text { .. } | FieldKind::Date => " }  # ",
                };
                let _ = writeln!(
                    out,
                    "  {}: {{ from: [{}]{note}{}",
                    field.code,
                    quoted(column),
                    field.name
                );
            }
            None if field.requirement == Requirement::Required => missing.push(field),
            None => {}
        }
    }
    if !missing.is_empty() {
        let _ = writeln!(out, "  # 缺少下列必填字段:请写上列名,去掉行首的 #");
    }
    for field in missing {
        let _ = writeln!(out, "  # {}: {{ from: [列名] }}  # {}", field.code, field.name);
    }
    let left: Vec<_> = unmatched.into_iter().filter(|name| !scoped.contains(name)).collect();
    if !left.is_empty() {
        let _ = writeln!(out, "# 样本里没有对应字段的列:");
        for column in left {
            let _ = writeln!(out, "#   {}", quoted(column));
        }
    }
    out
}

/// How many of the target's fields have a heading among these.
pub(super) fn matches(target: &Dataset, headings: &[String]) -> usize {
    assign(target, headings).0.iter().flatten().count()
}

/// The unit a heading names. 万元 holds 元, so it is asked for first.
fn unit(column: &str) -> &'static str {
    if column.contains("万元") {
        ", unit: wan }  # "
    } else if column.contains('元') {
        ", unit: yuan }  # "
    } else {
        ", unit: wan }  # 表头没有写单位:来源若以元为单位改为 yuan;"
    }
}

/// Columns that decide whether a row is reported: words in the heading (or the whole last step of a
/// path), rule, values that keep the row here, values that let it go on.
const SCOPES: &[(&[&str], &str, &str, &str)] = &[
    (
        &["涉密", "密级", "SECRET", "SFSM"],
        "scope.state-secret",
        "[是, \"1\", \"true\", 涉密, 秘密, 机密, 绝密]",
        "[否, \"0\", \"false\", 不涉密, 非涉密]",
    ),
    (
        &["办案程序", "处罚程序", "程序类型", "适用程序", "CASEPROCESSTYPE"],
        "scope.summary-procedure",
        "[简易程序, 简易, 当场处罚, \"01\", \"1\"]",
        "[普通程序, 普通, 一般程序, 一般, \"02\", \"2\"]",
    ),
    (
        &["使用范围"],
        "scope.restricted-use",
        "[\"1\", \"2\", 仅政府共享, 授权查询]",
        "[\"0\", 公示, \"\"]",
    ),
    (&["未成年"], "scope.minor", "[是, \"1\"]", "[否, \"0\"]"),
    (&["社会影响"], "scope.not-public", "[否, \"0\"]", "[是, \"1\"]"),
];

/// Proposes `exclude` and `withdraw-when`, in the form that refuses what nobody thought of. The
/// headings used come back.
fn conditions<'h>(target: &Dataset, headings: &'h [String], out: &mut String) -> Vec<&'h String> {
    let mut used = Vec::new();
    for (words, rule, when, keep) in SCOPES {
        for column in headings.iter().filter(|name| names_one(name, words)) {
            if used.is_empty() {
                let _ = writeln!(out, "# 请核对各值:keep 之外的写法一律退回,不会照常报送");
                let _ = writeln!(out, "exclude:");
            }
            let name = quoted(column);
            let _ =
                writeln!(out, "  - {{ when: {{ {name}: {when} }}, keep: {keep}, rule: {rule} }}");
            used.push(column);
        }
    }
    let of_2016 = target.generation.0 <= 2016;
    let (when, keep) = match of_2016 {
        true => ("[\"1\", 撤销]", "[\"0\", 正常, \"2\", 异议, \"3\", 其他, \"\"]"),
        false => ("[\"2\", 无效, 撤销, 作废, 注销]", "[\"1\", 有效, 正常]"),
    };
    let states: &[(&[&str], &str, &str)] = &[
        (&["当前状态"], when, keep),
        (&["数据状态"], "[撤销, 作废, 无效]", "[正常, 有效]"),
        (&["删除标志", "DELFLAG"], "[\"1\", \"true\", 是]", "[\"0\", \"false\", 否]"),
    ];
    let state = states.iter().find_map(|(words, when, keep)| {
        let column = headings.iter().find(|name| names_one(name, words))?;
        Some((column, when, keep))
    });
    if let Some((column, when, keep)) = state {
        let _ = writeln!(out, "# 表示撤销的值;withdraw-keep 之外的写法一律退回");
        let _ =
            writeln!(out, "withdraw-when: {{ {}: {when} }}\nwithdraw-keep: {keep}", quoted(column));
        used.push(column);
    }
    used
}

fn names_one(name: &str, words: &[&str]) -> bool {
    let (_, last) = steps(name);
    words.iter().any(|word| if word.is_ascii() { last == *word } else { last.contains(word) })
}

/// The last step of a path and the one before, in the form they are compared in: upper case, no
/// namespace, no underscores, no `l_` some systems begin names with.
fn steps(path: &str) -> (String, String) {
    let plain = |step: &str| {
        let local = step.trim_start_matches('@');
        let name = heading(local.rsplit(':').next().unwrap_or(local));
        name.strip_prefix("L_").unwrap_or(&name).replace('_', "")
    };
    let mut steps = path.rsplit('/');
    let last = steps.next().map(plain).unwrap_or_default();
    (steps.next().map(plain).unwrap_or_default(), last)
}

fn source(format: &FormatSpec, out: &mut String) {
    let _ = writeln!(out, "  format: {}", name_of(&format.kind));
    if matches!(format.kind, FormatKind::Csv | FormatKind::Tsv | FormatKind::Xml) {
        let _ = writeln!(out, "  encoding: {}", name_of(&format.encoding));
    }
    if format.kind == FormatKind::Csv && format.delimiter != b',' {
        let _ = writeln!(out, "  delimiter: {}", quoted(&char::from(format.delimiter).to_string()));
    }
    if let HeaderSpec::Row(row) = format.header {
        let _ = writeln!(out, "  header: {{ row: {row} }}");
    }
    if let Some(sheet) = &format.sheet {
        let _ = writeln!(out, "  sheet: {}", quoted(sheet));
    }
    if let Some(record) = &format.record {
        let _ = writeln!(out, "  record: {}", quoted(record));
    }
    if !format.namespaces.is_empty() {
        let _ = writeln!(out, "  namespaces:");
        for (prefix, uri) in &format.namespaces {
            let _ = writeln!(out, "    {}: {}", quoted(prefix), quoted(uri));
        }
    }
}

/// For each field the heading that fits best, each heading used once; and the headings left over.
fn assign<'h>(
    target: &Dataset,
    headings: &'h [String],
) -> (Vec<Option<&'h String>>, Vec<&'h String>) {
    let mut pairs: Vec<(u8, usize, usize)> = Vec::new();
    for (column, text) in headings.iter().enumerate() {
        // Of a path, the last step says what the value is.
        let last = text.rsplit('/').next().unwrap_or(text).trim_start_matches('@');
        let seen = heading(last.rsplit(':').next().unwrap_or(last));
        for (ix, field) in target.fields.iter().enumerate() {
            if let Some(score) = fit(field, &seen).or_else(|| common(field, text)) {
                pairs.push((score, ix, column));
            }
        }
    }
    pairs.sort_unstable();
    let mut matched = vec![None; target.fields.len()];
    let mut used = vec![false; headings.len()];
    for (_, ix, column) in pairs {
        if let (Some(slot @ None), Some(used @ false)) = (matched.get_mut(ix), used.get_mut(column))
        {
            *slot = headings.get(column);
            *used = true;
        }
    }
    let left = headings.iter().zip(used).filter(|(text, used)| !used && !text.trim().is_empty());
    (matched, left.map(|(text, _)| text).collect())
}

/// How well a heading fits a field; 0 is best.
fn fit(field: &Field, seen: &str) -> Option<u8> {
    let is = |name: &str| heading(name) == seen;
    // `罚款金额(万元)` and `罚款金额` mean the same column.
    let bare = |name: &str| heading(name).split('(').next().unwrap_or("").to_owned();
    if seen.is_empty() {
        None
    } else if is(&field.code) {
        Some(0)
    } else if is(&field.name) {
        Some(1)
    } else if field.aliases.iter().any(|alias| is(alias)) {
        Some(2)
    } else if bare(&field.name) == bare(seen)
        || field.aliases.iter().any(|alias| bare(alias) == bare(seen))
    {
        Some(3)
    } else {
        None
    }
}

/// Names seen for a role in interfaces, English and pinyin: alone or with the step before.
const COMMON: &[(Role, &[&str])] = &[
    (
        Role::SubjectName,
        &[
            "SUBJECT/NAME",
            "PARTY/NAME",
            "COMPANY/NAME",
            "ENTERPRISE/NAME",
            "JSDW/MC",
            "XDR/MC",
            "DSR/MC",
            "QY/MC",
            "XDRMC",
            "ENTNAME",
            "QYMC",
            "DWMC",
            "DSRMC",
        ],
    ),
    (Role::SubjectCategory, &["SUBJECT/CATEGORY", "PARTY/CATEGORY", "JSDW/LB", "XDR/LB", "XDRLB"]),
    (Role::SubjectUscc, &["USCC", "UNISCID", "XYDM", "SHXYM", "TYSHXYDM", "CREDITCODE"]),
    (Role::SubjectRegNo, &["REGNO", "GSZCH", "ZCH"]),
    (Role::LegalRep, &["LEGALREP", "LEGALPERSON", "FRDB", "FDDBR"]),
    (Role::PersonIdType, &["CARDTYPE", "IDTYPE", "ZJLX"]),
    (Role::PersonIdNo, &["CARDNUM", "IDNO", "IDCARD", "ZJHM"]),
    (Role::DocTitle, &["LICENCE/TITLE", "LICENSE/TITLE", "DOCTITLE", "WSMC"]),
    (Role::DocNumber, &["DOCNO", "DOCNUMBER", "WSH", "WH"]),
    (Role::LicenceNumber, &["CERTNO", "LICENCENO", "LICENSENO", "XKBH", "XKZH", "SGXKZH"]),
    (Role::Content, &["LICENCE/SCOPE", "LICENSE/SCOPE", "CONTENT", "NR"]),
    (Role::DecisionDate, &["DECIDEDON", "DECISIONDATE", "JDRQ"]),
    (Role::ValidFrom, &["VALIDFROM", "YXQZ"]),
    (Role::ValidTo, &["VALIDTO", "YXQZI"]),
    (Role::AgencyName, &["AGENCY", "XKJG", "CFJG", "XZJG"]),
    (Role::Status, &["ZT", "STATUS"]),
    (Role::PenaltyCategory, &["PUNISHKIND", "CFLB"]),
    (Role::ViolationType, &["CASENAME", "WFXW"]),
    (Role::FineAmount, &["FINEAMOUNT", "FKJE"]),
    (Role::ConfiscatedAmount, &["CONFISCATED", "MSJE"]),
    (Role::RevokedCertificate, &["CERTIFICATE"]),
    (Role::Remark, &["REMARK", "BZ"]),
];

fn common(field: &Field, path: &str) -> Option<u8> {
    let (before, last) = steps(path);
    let names = COMMON.iter().find(|(role, _)| Some(*role) == field.role)?.1;
    let both = format!("{before}/{last}");
    if names.contains(&both.as_str()) {
        Some(4)
    } else if names.contains(&last.as_str()) {
        Some(5)
    } else {
        None
    }
}

/// The name serde gives a plain enum value.
fn name_of<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// A double-quoted YAML scalar: JSON's form is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
