//! From a file that could be read to a mapping that can run: everything that needs the catalogue.

mod field;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Mapping;
use super::codes::{self, Table};
use super::file::{CheckFile, MappingFile, TestFile, Widths};
use super::program::{Exclude, Keep, Name, NameIx, Program, RecordCheck, When, Withdraw, compared};
use crate::catalogue::rules::{self, Rule};
use crate::catalogue::{Catalogue, Dataset, FieldIx, FieldKind, Requirement};
use crate::diagnostic::Bundle;
use crate::model::{
    Encoding, FixedColumn, FormatKind, FormatSpec, HeaderSpec, MappingId, Severity, UnknownColumn,
    Unwrap,
};
use crate::value::heading;
use crate::yaml::{At, Entries, Reader, Several, nearest};

/// The language version this build reads.
const VERSION: u32 = 1;

/// Compiles a file. `None` if it names no usable target; else errors are with the reader.
pub(super) fn compile(
    file: MappingFile,
    catalogue: &Catalogue,
    bundle: &Bundle,
    reader: &mut Reader<'_>,
) -> Option<Mapping> {
    if file.mapping.value != VERSION {
        let message = format!("映射语言版本应为 {VERSION}");
        reader.error("mapping.version", file.mapping.span.clone(), message, None);
    }
    let id = MappingId::new(&file.id.value);
    if let Err(error) = &id {
        reader.error("mapping.id", file.id.span.clone(), error.to_string(), None);
    }
    let format = format(&file, reader);
    let Some(target) = catalogue.by_reference(&file.target.value) else {
        let known: Vec<String> = catalogue.iter().map(|d| d.reference()).collect();
        unknown(reader, "mapping.unknown-target", "目录里没有数据集", &file.target, &known);
        return None;
    };
    let tables = codes::load(&file.codes, bundle, reader);
    let tree = matches!(format.kind, FormatKind::Xml | FormatKind::Json | FormatKind::Ndjson);
    let workbook = format.kind == FormatKind::Workbook;
    let prefixes = !format.namespaces.is_empty();
    let mut compiler = Compiler {
        reader,
        dataset: target,
        tables,
        used_tables: BTreeSet::new(),
        program: Program { tree, workbook, prefixes, ..Program::default() },
        names: HashMap::new(),
        mapped: BTreeSet::new(),
    };
    compiler.run(&file);
    let program = compiler.program;
    let known_headings = program.names.iter().map(|n| n.heading().to_owned()).collect();
    let on_unknown = file.source.on_unknown_column.map_or(UnknownColumn::default(), |w| w.0);
    Some(Mapping {
        id: id.ok()?,
        title: file.title,
        target: Arc::clone(target),
        format: FormatSpec { known_headings, ..format },
        on_unknown_column: on_unknown,
        text: Arc::from(reader.text),
        program: Arc::new(program),
    })
}

fn format(file: &MappingFile, reader: &mut Reader<'_>) -> FormatSpec {
    let source = &file.source;
    let mut spec = FormatSpec::new(source.format.0);
    spec.encoding = source.encoding.map_or(Encoding::Auto, |w| w.0);
    spec.header = source.header.map_or(HeaderSpec::Auto, |h| h.0);
    spec.sheet.clone_from(&source.sheet);
    spec.record = source.record.as_ref().map(|r| r.value.clone());
    spec.namespaces =
        source.namespaces.0.iter().map(|(k, v)| (k.value.clone(), v.clone())).collect();
    if let Some(delimiter) = &source.delimiter {
        match delimiter.value.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => {
                spec.delimiter = *byte;
            }
            _ => reader.error(
                "yaml.value",
                delimiter.span.clone(),
                "分隔符应为一个 ASCII 字符".into(),
                Some("制表符写成 \"\\t\",或改用 format: tsv".into()),
            ),
        }
    }
    spec.in_characters = source.widths.is_some_and(|w| w.0 == Widths::Characters);
    spec.unwrap = source.unwrap.as_ref().map(|unwrap| Unwrap {
        at: unwrap.value.at.as_ref().map(|at| at.value.clone()),
        steps: unwrap.value.r#do.iter().map(|step| step.0).collect(),
    });
    fixed_columns(file, &mut spec, reader);
    spec
}

/// Columns stand with `fixed` and nowhere else.
fn fixed_columns(file: &MappingFile, spec: &mut FormatSpec, reader: &mut Reader<'_>) {
    let is_fixed = spec.kind == FormatKind::Fixed;
    let Some(columns) = &file.source.columns else {
        if is_fixed {
            let (span, message) =
                (file.target.span.clone(), "定长文本须在 source.columns 写明各列");
            let help = "columns: { 列名: 宽度, … }".to_owned();
            reader.error("mapping.fixed-columns", span, message.into(), Some(help));
        }
        return;
    };
    if !is_fixed {
        let message = "columns 只用于 format: fixed".into();
        reader.error("mapping.misplaced", columns.span.clone(), message, None);
    }
    for (name, width) in &columns.value.0 {
        if !(1..=1 << 20).contains(&width.value) {
            let message = "宽度应为 1 到 1048576 的整数".into();
            reader.error("yaml.value", width.span.clone(), message, None);
        }
        spec.columns.push(FixedColumn { name: name.value.clone(), width: width.value });
    }
}

struct Compiler<'c, 'r> {
    reader: &'c mut Reader<'r>,
    dataset: &'c Dataset,
    tables: HashMap<String, Table>,
    used_tables: BTreeSet<String>,
    program: Program,
    names: HashMap<String, NameIx>,
    mapped: BTreeSet<FieldIx>,
}

impl Compiler<'_, '_> {
    fn run(&mut self, file: &MappingFile) {
        for exclude in &file.exclude {
            let when = self.when(&exclude.when);
            let open = (exclude.when.span.clone(), "mapping.open-scope");
            let keep = self.keep(&when, &exclude.when, exclude.keep.as_ref(), open);
            let in_scope = |rule: &&Rule| rule.id.starts_with("scope.");
            let Some(rule) = rules::find(&exclude.rule.value).filter(in_scope) else {
                let known: Vec<String> =
                    rules::RULES.iter().filter(in_scope).map(|r| r.id.to_owned()).collect();
                let what = "没有这样的排除规则:";
                unknown(self.reader, "mapping.unknown-rule", what, &exclude.rule, &known);
                continue;
            };
            let branch = self.program.branch(format!("排除({})", rule.id));
            self.program.excludes.push(Exclude { when, keep, rule, branch });
        }
        if let Some(when) = &file.withdraw_when {
            let open = (when.span.clone(), "mapping.open-status");
            let written = when;
            let when = self.when(written);
            let keep = self.keep(&when, written, file.withdraw_keep.as_ref(), open);
            let branch = self.program.branch("识别为撤销".into());
            self.program.withdraw = Some(Withdraw { when, keep, branch });
        } else if let Some(keep) = &file.withdraw_keep {
            let message = "withdraw-keep 要与 withdraw-when 一起用".into();
            self.reader.error("mapping.misplaced", keep.span.clone(), message, None);
        }
        self.mapped =
            file.fields.0.iter().filter_map(|(c, _)| self.dataset.find(&c.value)).collect();
        for (code, field) in &file.fields.0 {
            let Some(ix) = self.field_ix(code) else { continue };
            let Some(target) = self.dataset.field(ix) else { continue };
            let plan = self.field(ix, target, code, field);
            self.program.fields.extend(plan);
        }
        self.gaps(file);
        let mut seen = BTreeSet::new();
        for check in &file.checks {
            if !seen.insert(&check.id.value) {
                let message = format!("检查编号“{}”重复", check.id.value);
                self.reader.error("yaml.value", check.id.span.clone(), message, None);
            }
            self.check(check);
        }
        for test in &file.tests {
            self.test(&test.value);
        }
        self.program.tests.clone_from(&file.tests);
    }

    /// Required fields nobody fills and tables nobody uses.
    fn gaps(&mut self, file: &MappingFile) {
        let fields = self.dataset.fields.iter();
        let missing: Vec<String> = fields
            .filter(|f| f.requirement == Requirement::Required)
            .filter(|f| self.dataset.find(&f.code).is_none_or(|ix| !self.mapped.contains(&ix)))
            .map(|f| format!("{}({})", f.code, f.name))
            .collect();
        if !missing.is_empty() {
            let message = format!("目录必填的字段没有映射:{}", missing.join("、"));
            let help = "没有这些字段,每一行都会被退回".to_owned();
            let span = file.target.span.clone();
            self.reader.warning("mapping.missing-field", span, message, Some(help));
        }
        for (name, _) in &file.codes.0 {
            if !self.used_tables.contains(&name.value) {
                let message = format!("代码表“{}”没有用到", name.value);
                self.reader.warning("mapping.unused-codes", name.span.clone(), message, None);
            }
        }
    }

    fn field_ix(&mut self, code: &At<String>) -> Option<FieldIx> {
        let found = self.dataset.find(&code.value);
        if found.is_none() {
            let fields = &self.dataset.fields;
            let named =
                fields.iter().find(|f| f.name == code.value || f.aliases.contains(&code.value));
            match named {
                Some(field) => {
                    let message = format!("此处应写字段代码,“{}”是名称", code.value);
                    let help = format!("请写 {}", field.code);
                    let span = code.span.clone();
                    self.reader.error("mapping.unknown-field", span, message, Some(help));
                }
                None => {
                    let known: Vec<String> = fields.iter().map(|f| f.code.to_string()).collect();
                    let what = format!("{}里没有字段", self.dataset.title);
                    unknown(self.reader, "mapping.unknown-field", &what, code, &known);
                }
            }
        }
        found
    }

    /// A field this mapping fills.
    fn mapped_field(&mut self, code: &At<String>) -> Option<FieldIx> {
        let ix = self.field_ix(code)?;
        if !self.mapped.contains(&ix) {
            let message = format!("字段{}没有映射", code.value);
            let help = "请先在 fields 里写它的取值办法".to_owned();
            self.reader.error("mapping.unmapped-field", code.span.clone(), message, Some(help));
            return None;
        }
        Some(ix)
    }

    fn name(&mut self, name: &At<String>) -> NameIx {
        let compared = compared(&name.value, self.program.tree, self.program.prefixes);
        if compared.is_empty() {
            let message = "列名不能为空".into();
            self.reader.error("yaml.value", name.span.clone(), message, None);
        }
        if let Some(ix) = self.names.get(&compared) {
            return *ix;
        }
        let ix = self.program.names.len();
        self.program.names.push(Name::new(&name.value, compared.clone(), self.program.tree));
        self.names.insert(compared, ix);
        ix
    }

    fn when(&mut self, when: &At<Entries<Several<String>>>) -> When {
        if when.value.0.is_empty() || when.value.0.iter().any(|(_, values)| values.0.is_empty()) {
            let message = "条件不能为空,否则每一行都会符合或都不符合".into();
            self.reader.error("yaml.value", when.span.clone(), message, None);
        }
        let compared = |values: &Several<String>| values.0.iter().map(|v| heading(v)).collect();
        let conditions = when.value.0.iter();
        When(conditions.map(|(name, values)| (self.name(name), compared(values))).collect())
    }

    /// The other side of a condition. Without it whatever is not listed goes on, which is worth a
    /// warning (`open`: where, and its code).
    fn keep(
        &mut self,
        when: &When,
        written: &At<Entries<Several<String>>>,
        keep: Option<&At<Several<String>>>,
        open: (std::ops::Range<usize>, &'static str),
    ) -> Option<Keep> {
        let key = if open.1 == "mapping.open-scope" { "keep" } else { "withdraw-keep" };
        let Some(keep) = keep else {
            let message = "条件没有列出照常报送的值:没有想到的写法会照常报送".to_owned();
            let help = format!("请用 {key} 列出该列表示照常报送的值,其余的值就会退回");
            self.reader.warning(open.1, open.0, message, Some(help));
            return None;
        };
        let ([(name, values)], [(column, listed)]) = (when.0.as_slice(), &*written.value.0) else {
            let message = format!("{key} 只用于一列的条件");
            self.reader.error("mapping.misplaced", keep.span.clone(), message, None);
            return None;
        };
        let kept: Vec<String> = keep.value.0.iter().map(|value| heading(value)).collect();
        let Some(usual) = keep.value.0.first().cloned() else {
            let message = format!("{key} 不能为空,否则每一行都会退回");
            self.reader.error("yaml.value", keep.span.clone(), message, None);
            return None;
        };
        if kept.iter().any(|value| values.contains(value)) {
            let message = format!("{key} 与条件有相同的值");
            self.reader.error("yaml.value", keep.span.clone(), message, None);
            return None;
        }
        let list = |values: &[String]| {
            let shown = |v: &String| if v.is_empty() { "(空)".to_owned() } else { v.clone() };
            values.iter().map(shown).collect::<Vec<_>>().join("、")
        };
        let meaning = if key == "keep" { "不报送" } else { "撤销" };
        let words =
            format!("请改填:{}(照常报送),或{}({meaning})", list(&keep.value.0), list(&listed.0));
        let unclear = self.program.branch(format!("“{}”取值不明", column.value));
        Some(Keep { name: *name, values: kept, usual, words, unclear })
    }

    fn check(&mut self, check: &CheckFile) {
        let (left, right) = (self.mapped_field(&check.left), self.mapped_field(&check.right));
        let (Some(left), Some(right)) = (left, right) else { return };
        let kind = |ix| {
            self.dataset.field(ix).map(|f| match f.kind {
                FieldKind::Text { .. } | FieldKind::Code { .. } => "文本",
                FieldKind::Date => "日期",
                FieldKind::Amount => "金额",
            })
        };
        let (l, r) = (kind(left).unwrap_or(""), kind(right).unwrap_or(""));
        if l != r {
            let message = format!("不能比较:{}是{l},{}是{r}", check.left.value, check.right.value);
            self.reader.error("mapping.compare", check.right.span.clone(), message, None);
            return;
        }
        let id = &check.id.value;
        let Some(code) = self.dataset.field(left).map(|f| Arc::clone(&f.code)) else { return };
        let plan = RecordCheck {
            rule: format!("check.{id}"),
            left,
            op: check.op.0,
            right,
            message: check.message.value.clone(),
            fix: check.fix.clone().unwrap_or_else(|| "请核对这两项".into()),
            severity: check.severity.map_or(Severity::Error, |s| s.0.into()),
            code,
            holds: self.program.branch(format!("check.{id}:成立")),
            broken: self.program.branch(format!("check.{id}:不成立")),
        };
        self.program.checks.push(plan);
    }

    /// A test names only columns, fields and rules that exist.
    fn test(&mut self, test: &TestFile) {
        for (column, _) in &test.row.0 {
            let name = compared(&column.value, self.program.tree, self.program.prefixes);
            if !self.names.contains_key(&name) {
                let known: Vec<String> =
                    self.program.names.iter().map(|n| n.written.to_string()).collect();
                unknown(
                    self.reader,
                    "mapping.unknown-column",
                    "映射规则没有用到列",
                    column,
                    &known,
                );
            }
        }
        for (code, _) in &test.expect.0 {
            self.mapped_field(code);
        }
        let mentions = test.reject.iter().flatten().chain(&test.warn).chain(&test.exclude);
        for mention in mentions {
            let name = mention.value.as_str();
            let known = self.dataset.find(name).is_some()
                || rules::find(name).is_some()
                || self.program.checks.iter().any(|c| c.rule == name);
            if !known {
                let mut names: Vec<String> =
                    self.dataset.fields.iter().map(|f| f.code.to_string()).collect();
                names.extend(rules::RULES.iter().map(|r| r.id.to_owned()));
                names.extend(self.program.checks.iter().map(|c| c.rule.clone()));
                unknown(self.reader, "mapping.unknown-rule", "没有字段或规则", mention, &names);
            }
        }
    }
}

/// Something named that does not exist, with what was probably meant.
fn unknown(
    reader: &mut Reader<'_>,
    code: &'static str,
    what: &str,
    name: &At<String>,
    known: &[String],
) {
    let help = match nearest(&name.value, known.iter().map(String::as_str)) {
        Some(near) => Some(format!("是否想写“{near}”?")),
        None if known.is_empty() || known.len() > 12 => None,
        None => Some(format!("现有:{}", known.join("、"))),
    };
    let message = format!("{what}“{}”", name.value);
    reader.error(code, name.span.clone(), message, help);
}
