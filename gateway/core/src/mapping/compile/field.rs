//! One field of a mapping: where its value comes from and what becomes of it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Compiler, unknown};
use crate::catalogue::{Field, FieldIx, FieldKind, Requirement, Role};
use crate::mapping::codes;
use crate::mapping::file::{CheckKind, FieldFile, OnMiss, UnitFile};
use crate::mapping::op::{DatePattern, Op, pattern};
use crate::mapping::program::{Check, FieldPlan, From, Kind, Lookup, RequiredWhen};
use crate::model::{CellKind, Value};
use crate::value::{Unit, parse_amount, parse_date};
use crate::yaml::At;

impl Compiler<'_, '_> {
    pub(super) fn field(
        &mut self,
        ix: FieldIx,
        target: &Field,
        code: &At<String>,
        field: &FieldFile,
    ) -> Option<FieldPlan> {
        let from = self.from(target, code, field);
        let constant = field.r#const.is_some();
        if constant {
            self.only_for_sources(code, field);
        }
        let table = field.code.as_ref().and_then(|name| self.table(target, name));
        let label = &target.code;
        let ops =
            field.r#do.iter().filter_map(|op| Op::compile(op, self.reader)).collect::<Vec<_>>();
        let ops = ops
            .into_iter()
            .map(|op| {
                let branch = if op.can_fail() {
                    self.program.branch(format!("{label}:提取不到"))
                } else {
                    usize::MAX
                };
                (op, branch)
            })
            .collect();
        let keep_missing = field.on_miss.is_some_and(|w| w.0 == OnMiss::Keep);
        let lookup = table.map(|table| Lookup {
            table,
            keep_missing,
            hit: self.program.branch(format!("{label}:代码表查到")),
            miss: self.program.branch(format!("{label}:代码表查不到")),
        });
        if field.on_miss.is_some() && field.code.is_none() {
            self.misplaced(code, "on-miss", "只用于有 code 的字段");
        }
        let default = field.default.as_ref().and_then(|text| {
            let value = self.value(target, text)?;
            Some((value, self.program.branch(format!("{label}:用缺省值"))))
        });
        let kind = self.kind(target, code, field);
        let separators = self.split(target, code, field);
        let checks = field.check.0.iter().filter_map(|c| self.compile_check(c)).collect::<Vec<_>>();
        if !checks.is_empty() && !matches!(kind, Kind::Text) {
            self.misplaced(code, "check", "只用于文本字段");
        }
        let check_failed = if checks.is_empty() {
            usize::MAX
        } else {
            self.program.branch(format!("{label}:检查不通过"))
        };
        let required = (field.required && !constant)
            .then(|| self.program.branch(format!("{label}:必填而为空")));
        let required_when = field.required_when.as_ref().map(|when| {
            let conditions = when.value.0.iter();
            let when = conditions
                .filter_map(|(c, values)| Some((self.mapped_field(c)?, values.0.clone())))
                .collect();
            RequiredWhen {
                when,
                holds: self.program.branch(format!("{label}:条件必填,条件成立")),
                not: self.program.branch(format!("{label}:条件必填,条件不成立")),
            }
        });
        let is_key = matches!(target.role, Some(Role::DocNumber | Role::LicenceNumber));
        let text = matches!(kind, Kind::Text);
        let must = target.requirement == Requirement::Required;
        Some(FieldPlan {
            field: ix,
            code: Arc::clone(&target.code),
            name: target.name.clone(),
            from: from?,
            ops,
            split: separators,
            lookup,
            default,
            kind,
            // A required text keeps its "无": whether that will do is for the catalogue's rules.
            drop_placeholder: !(field.keep_placeholder || is_key || text && must),
            identifier: target.role.is_some_and(is_identifier),
            checks,
            check_failed,
            required,
            required_when,
        })
    }

    fn from(&mut self, target: &Field, code: &At<String>, field: &FieldFile) -> Option<From> {
        let ways = usize::from(!field.from.0.is_empty())
            + usize::from(field.concat.is_some())
            + usize::from(field.r#const.is_some());
        if ways != 1 {
            let (message, help) = if ways == 0 {
                (format!("字段{}没有取值来源", code.value), "请写 from、concat 或 const")
            } else {
                (format!("字段{}有几种取值来源", code.value), "from、concat、const 只能写一种")
            };
            self.reader.error("mapping.no-source", code.span.clone(), message, Some(help.into()));
            return None;
        }
        if let Some(text) = &field.r#const {
            return self.value(target, text).map(From::Const);
        }
        if let Some(concat) = &field.concat {
            let names = concat.from.iter().map(|name| self.name(name)).collect();
            let branch = self.program.branch(format!("{}:由几列连接", target.code));
            return Some(From::Concat(names, concat.with.clone().unwrap_or_default(), branch));
        }
        let mut names = Vec::new();
        for name in &field.from.0 {
            let ix = self.name(name);
            if names.iter().any(|(known, _)| *known == ix) {
                let message = format!("列名“{}”重复", name.value);
                self.reader.warning("mapping.repeated-name", name.span.clone(), message, None);
                continue;
            }
            let branch = self.program.branch(format!("{}:取自“{}”", target.code, name.value));
            names.push((ix, branch));
        }
        Some(From::First(names))
    }

    /// A constant or default as a value of the field.
    fn value(&mut self, target: &Field, text: &At<String>) -> Option<Value> {
        let parsed = match &target.kind {
            FieldKind::Date => {
                parse_date(&text.value, CellKind::Text).map(Value::Date).map_err(|e| e.to_string())
            }
            // In 万元, as the catalogue has it; `unit` is about the source.
            FieldKind::Amount => {
                parse_amount(&text.value, Unit::Wan).map(Value::Amount).map_err(|e| e.to_string())
            }
            FieldKind::Code { set, .. } => {
                if codes::allows(set, &text.value) {
                    Ok(Value::Text(text.value.clone()))
                } else {
                    codes::not_in_set(self.reader, set, text);
                    return None;
                }
            }
            FieldKind::Text { .. } => Ok(Value::Text(text.value.clone())),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(why) => {
                let message = format!("{}的值{why}", target.name);
                self.reader.error("yaml.value", text.span.clone(), message, None);
                None
            }
        }
    }

    fn table(&mut self, target: &Field, name: &At<String>) -> Option<Arc<HashMap<String, String>>> {
        let Some(table) = self.tables.get(&name.value) else {
            let known: Vec<String> = self.tables.keys().cloned().collect();
            unknown(self.reader, "mapping.unknown-codes", "没有代码表", name, &known);
            return None;
        };
        self.used_tables.insert(name.value.clone());
        if let FieldKind::Code { set, .. } = &target.kind {
            table.check_against(set, self.reader);
        }
        Some(Arc::clone(&table.values))
    }

    fn kind(&mut self, target: &Field, code: &At<String>, field: &FieldFile) -> Kind {
        let unit = field.unit.as_ref().map(|unit| unit.value.0);
        let has = |word: &str| field.date.0.iter().any(|p| p.value == word);
        let (epoch, serial) = (has("epoch-ms"), has("serial"));
        if epoch && !self.program.tree {
            self.misplaced(code, "date: epoch-ms", "只用于 XML 和 JSON 来源");
        }
        let written = field.date.0.iter().filter(|p| !["epoch-ms", "serial"].contains(&&*p.value));
        let patterns: Vec<DatePattern> =
            written.filter_map(|p| DatePattern::compile(p, self.reader)).collect();
        let serial = serial || self.program.workbook && patterns.is_empty();
        if unit.is_some() && target.kind != FieldKind::Amount {
            self.misplaced(code, "unit", "只用于金额字段");
        }
        if !field.date.0.is_empty() && target.kind != FieldKind::Date {
            self.misplaced(code, "date", "只用于日期字段");
        }
        let mut failed = |what| match field.r#const {
            // Parsed here and now: no row can fail it.
            Some(_) => usize::MAX,
            None => self.program.branch(format!("{}:{what}", target.code)),
        };
        match target.kind {
            FieldKind::Text { .. } | FieldKind::Code { .. } => Kind::Text,
            FieldKind::Date => {
                Kind::Date { patterns, epoch, serial, failed: failed("日期有误") }
            }
            FieldKind::Amount => {
                let unit = if unit == Some(UnitFile::Yuan) { Unit::Yuan } else { Unit::Wan };
                Kind::Amount { unit, failed: failed("金额有误") }
            }
        }
    }

    fn split(
        &mut self,
        target: &Field,
        code: &At<String>,
        field: &FieldFile,
    ) -> Option<(Vec<char>, String)> {
        let Some(split) = &field.split else {
            if field.join.is_some() {
                self.misplaced(code, "join", "要与 split 一起用");
            }
            return None;
        };
        if split.value.is_empty() {
            self.misplaced(code, "split", "应写至少一个分隔符");
        }
        if matches!(target.kind, FieldKind::Date | FieldKind::Amount) {
            self.misplaced(code, "split", "只用于文本和代码字段");
        }
        let join = field.join.as_ref().map_or(";", |j| &j.value);
        Some((split.value.chars().collect(), join.to_owned()))
    }

    /// A constant is taken as it stands: what tells how to read a source would do nothing, and
    /// `unit: yuan` would be believed.
    fn only_for_sources(&mut self, code: &At<String>, field: &FieldFile) {
        for (written, key) in [
            (!field.r#do.is_empty(), "do"),
            (field.split.is_some(), "split"),
            (field.code.is_some(), "code"),
            (field.default.is_some(), "default"),
            (field.unit.is_some(), "unit"),
            (!field.date.0.is_empty(), "date"),
            (field.keep_placeholder, "keep-placeholder"),
            (!field.check.0.is_empty(), "check"),
        ] {
            if written {
                self.misplaced(code, key, "对固定值(const)不起作用,请删去");
            }
        }
    }

    fn misplaced(&mut self, code: &At<String>, key: &str, why: &str) {
        let message = format!("字段{}的 {key} {why}", code.value);
        self.reader.error("mapping.misplaced", code.span.clone(), message, None);
    }

    fn compile_check(&mut self, check: &At<CheckKind>) -> Option<Check> {
        Some(match &check.value {
            CheckKind::Uscc => Check::Uscc,
            CheckKind::CitizenId => Check::CitizenId,
            CheckKind::OrgCode => Check::OrgCode,
            CheckKind::RegNo => Check::RegNo,
            CheckKind::OneOf(values) => Check::OneOf(values.clone()),
            CheckKind::Matches(text) => {
                let whole = At { value: format!("^(?:{text})$"), span: check.span.clone() };
                Check::Matches(pattern(&whole, self.reader)?)
            }
        })
    }
}

/// Fields whose digits all count.
fn is_identifier(role: Role) -> bool {
    matches!(
        role,
        Role::SubjectUscc
            | Role::SubjectRegNo
            | Role::SubjectOrgCode
            | Role::SubjectTaxNo
            | Role::SubjectInstitutionNo
            | Role::SubjectSocialNo
            | Role::SubjectMixedId
            | Role::LegalRepIdNo
            | Role::PersonIdNo
            | Role::DocNumber
            | Role::LicenceNumber
            | Role::AgencyCode
            | Role::SourceCode
    )
}
