//! A first draft of a mapping from a sample's headings.

use std::fmt::Write as _;

use crate::catalogue::{Dataset, Field, FieldKind, Requirement};
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
    let _ = writeln!(out, "fields:");
    if matched.iter().all(Option::is_none) {
        let _ = writeln!(out, "  {{}}");
    }
    let mut missing = Vec::new();
    for (field, column) in target.fields.iter().zip(matched) {
        match column {
            Some(column) => {
                let note = match &field.kind {
                    FieldKind::Amount => ", unit: wan }  # 来源若以元为单位改为 yuan;",
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
    for field in missing {
        let _ = writeln!(out, "  # 缺少 {}: {{ from: [\"\"] }}  # {}", field.code, field.name);
    }
    if !unmatched.is_empty() {
        let _ = writeln!(out, "# 样本里没有对应字段的列:");
        for column in unmatched {
            let _ = writeln!(out, "#   {}", quoted(column));
        }
    }
    out
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
            if let Some(score) = fit(field, &seen) {
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
    } else if bare(&field.name) == bare(seen) {
        Some(3)
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
