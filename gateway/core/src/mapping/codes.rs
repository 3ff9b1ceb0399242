//! Code tables (代码表): inline or from a CSV file of the bundle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::file::CodesFile;
use crate::catalogue::CodeSet;
use crate::diagnostic::Bundle;
use crate::yaml::{At, Entries, Reader, nearest};

/// A table and where its values were written.
pub(super) struct Table {
    pub(super) values: Arc<HashMap<String, String>>,
    written: Vec<At<String>>,
}

impl Table {
    /// Every value must be one the catalogue's set has.
    pub(super) fn check_against(&self, set: &CodeSet, reader: &mut Reader<'_>) {
        let mut told = HashSet::new();
        for value in self.written.iter().filter(|value| !allows(set, &value.value)) {
            if told.insert(&value.value) {
                not_in_set(reader, set, value);
            }
        }
    }
}

/// Whether a set has a value, by itself, as a synonym, or behind its open prefix.
pub(super) fn allows(set: &CodeSet, value: &str) -> bool {
    set.values.contains_key(value)
        || set.synonyms.contains_key(value)
        || set.open_prefix.as_ref().is_some_and(|prefix| value.starts_with(prefix.as_str()))
        || value.split(';').count() > 1 && value.split(';').all(|part| allows(set, part))
}

pub(super) fn not_in_set(reader: &mut Reader<'_>, set: &CodeSet, value: &At<String>) {
    let help = match nearest(&value.value, set.values.keys().map(String::as_str)) {
        Some(near) => format!("是否想写“{near}”?"),
        None => {
            let all: Vec<&str> = set.values.keys().map(String::as_str).take(12).collect();
            format!("可用:{}", all.join("、"))
        }
    };
    let message = format!("“{}”不在目录代码集“{}”中", value.value, set.name);
    reader.error("mapping.code-value", value.span.clone(), message, Some(help));
}

/// Reads every table; a file is looked for beside the mapping first, then from the root.
pub(super) fn load(
    codes: &Entries<CodesFile>,
    bundle: &Bundle,
    reader: &mut Reader<'_>,
) -> HashMap<String, Table> {
    let mut tables = HashMap::new();
    for (name, codes) in &codes.0 {
        let table = match codes {
            CodesFile::Inline(entries) => Table {
                values: Arc::new(
                    entries.0.iter().map(|(k, v)| (k.value.clone(), v.value.clone())).collect(),
                ),
                written: entries.0.iter().map(|(_, value)| value.clone()).collect(),
            },
            CodesFile::File(path) => from_file(path, bundle, reader),
        };
        tables.insert(name.value.clone(), table);
    }
    tables
}

/// Two columns with a comma between, no quotes, `#` for remarks. What is wrong inside is told at
/// the place that names the file, with the line.
fn from_file(path: &At<String>, bundle: &Bundle, reader: &mut Reader<'_>) -> Table {
    let folder = reader.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = format!("{folder}/{}", path.value);
    let mut table = HashMap::new();
    let mut written = Vec::new();
    match bundle.get(&beside).or_else(|| bundle.get(&path.value)) {
        None => {
            let message = format!("找不到代码表文件“{}”", path.value);
            let help = "路径从映射文件所在目录或映射根目录算起".to_owned();
            reader.error("mapping.codes-file", path.span.clone(), message, Some(help));
        }
        Some(text) => {
            for (ix, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let [from, to] = fields.as_slice() else {
                    let message = format!("代码表文件第{}行不是两列", ix + 1);
                    reader.error("mapping.codes-file", path.span.clone(), message, None);
                    continue;
                };
                if table.insert((*from).to_owned(), (*to).to_owned()).is_some() {
                    let message = format!("代码表文件第{}行与前面的行重复", ix + 1);
                    reader.error("mapping.codes-file", path.span.clone(), message, None);
                }
                written.push(At { value: (*to).to_owned(), span: path.span.clone() });
            }
        }
    }
    Table { values: Arc::new(table), written }
}
