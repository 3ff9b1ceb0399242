//! Running a compiled mapping over rows.

mod scope;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::file::Compare;
use super::program::{
    Check, FieldPlan, From, Kind, Name, Program, RecordCheck, RequiredWhen, compared,
};
use super::{Applied, Mapping, Plan};
use crate::catalogue::rules::{Rule, TEXT_CONTROL, raised};
use crate::catalogue::{FieldIx, Requirement};
use crate::ident::{CitizenId, LegacyCode, Uscc, check_reg_no, org_code_check};
use crate::model::{
    CellKind, Columns, Dimension, Draft, Finding, Operation, Row, Severity, Slot, Value,
};
use crate::value::{
    DateError, clean, has_hidden, is_placeholder, parse_amount, parse_date, parse_epoch_millis,
};

pub(super) fn bind<'m>(mapping: &'m Mapping, columns: &Columns) -> Plan<'m> {
    let program: &Program = &mapping.program;
    let headings: Vec<String> =
        columns.names().iter().map(|n| compared(n, program.tree, program.prefixes)).collect();
    let found = |wanted: &str| {
        let matching = headings.iter().enumerate().filter(|(_, heading)| *heading == wanted);
        matching.filter_map(|(at, _)| u16::try_from(at).ok()).collect::<Vec<_>>()
    };
    let mut twins = HashMap::new();
    let bound = program.names.iter().enumerate().map(|(ix, name)| {
        let columns = found(&name.compared);
        match (columns.as_slice(), &name.nth) {
            ([], Some((base, nth))) => found(base).get(nth - 1).copied(),
            ([], None) => None,
            ([first], _) => Some(*first),
            ([first, others @ ..], _) => {
                twins.insert(ix, others.to_vec());
                Some(*first)
            }
        }
    });
    let bound = bound.collect();
    Plan { mapping, bound, twins, width: columns.len(), hits: vec![false; program.branches.len()] }
}

impl Plan<'_> {
    /// Whether the columns have grown since binding.
    pub fn is_stale(&self, columns: &Columns) -> bool {
        columns.len() != self.width
    }

    /// Source columns no field uses.
    pub fn unknown_columns(&self, columns: &Columns) -> Vec<u16> {
        let program = &self.mapping.program;
        let unused = |name: &str| {
            let name = compared(name, program.tree, program.prefixes);
            !name.is_empty() && {
                let known = |n: &Name| n.compared == name || n.heading() == name;
                !program.names.iter().any(known)
            }
        };
        let indexed = columns.names().iter().enumerate();
        indexed.filter(|(_, n)| unused(n)).filter_map(|(ix, _)| u16::try_from(ix).ok()).collect()
    }

    /// One finding per field that must be filled, by catalogue or mapping, and has none of its
    /// columns in the source: every row would be refused; and one per heading the mapping uses that
    /// several columns bear: rows in which they differ will be. Tree sources name columns as they come,
    /// so ask after the last row.
    pub fn missing_columns(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut repeated: Vec<_> = self.twins.keys().collect();
        repeated.sort_unstable();
        for name in repeated {
            let name = self.mapping.program.names.get(*name).map_or("", |name| &name.written);
            let message = format!("有几列都用表头“{name}”,内容不同的行将退回");
            findings.push(raised::MAPPING_REPEATED_COLUMN.finding(None, None, message));
        }
        for plan in &self.mapping.program.fields {
            let Some(field) = self.mapping.target.field(plan.field) else { continue };
            let must = plan.required.is_some() || field.requirement == Requirement::Required;
            let names = match &plan.from {
                From::Const(_) => continue,
                From::First(names) => names.iter().map(|(name, _)| *name).collect(),
                From::Concat(names, _, _) => names.clone(),
            };
            let bound = |name: &usize| self.bound.get(*name).copied().flatten().is_some();
            if must && plan.default.is_none() && !names.iter().any(bound) {
                let message = format!("{}:报文中没有映射规则所列的列", field.name);
                findings.push(raised::MAPPING_NO_COLUMN.finding(Some(field), None, message));
            }
        }
        findings
    }

    /// Maps one row. `draft` is cleared first (and made one of the mapping's target if it is of
    /// another dataset); findings are appended, all of the row at once.
    pub fn apply(&mut self, row: &Row, draft: &mut Draft, findings: &mut Vec<Finding>) -> Applied {
        let mapping = self.mapping;
        if Arc::ptr_eq(&draft.dataset, &mapping.target) {
            draft.clear();
        } else {
            *draft = Draft::new(Arc::clone(&mapping.target));
        }
        if self.excluded(row, findings) {
            return Applied::Excluded;
        }
        if let Some(withdraw) = &mapping.program.withdraw {
            if self.holds(&withdraw.when, row) {
                self.hit(withdraw.branch);
                draft.operation = Operation::Withdraw;
            } else if let Some(keep) = &withdraw.keep {
                self.keeps(keep, &raised::STATUS_UNCLEAR, row, findings);
            }
        }
        for field in &mapping.program.fields {
            let mut slot = Slot::default();
            self.fill(field, row, &mut slot, findings);
            if let Some(place) = draft.slots.get_mut(usize::from(field.field.0)) {
                *place = slot;
            }
        }
        // A takedown must not be held up because what it takes down was incomplete or odd.
        if draft.operation == Operation::Upsert {
            for field in &mapping.program.fields {
                self.require(field, draft, findings);
            }
            for check in &mapping.program.checks {
                self.compare(check, draft, findings);
            }
        }
        Applied::Mapped
    }

    fn hit(&mut self, branch: usize) {
        if let Some(hit) = self.hits.get_mut(branch) {
            *hit = true;
        }
    }

    fn fill(&mut self, field: &FieldPlan, row: &Row, slot: &mut Slot, findings: &mut Vec<Finding>) {
        let raw = match &field.from {
            From::Const(value) => {
                slot.value = Some(value.clone());
                return;
            }
            From::First(names) => self.first(field, names, row, slot),
            From::Concat(names, with, branch) => self.concat(names, with, *branch, row, slot),
        };
        if let Kind::Amount { unit, .. } = field.kind {
            slot.unit = Some(unit);
        }
        let hidden = self.hidden(field, row, slot.column);
        let torn = self.torn(field, row, slot);
        let mapping = self.mapping;
        let mut fail = |slot: &mut Slot, rule: &Rule, what: &dyn std::fmt::Display| {
            slot.failed = rule.severity == Severity::Error;
            let message = format!("{}:{what}", slot.heading.as_deref().unwrap_or(&field.name));
            let fix = match slot.unit {
                Some(unit) if rule.id == raised::VALUE_AMOUNT.id => {
                    format!("请只填数字,{}", unit.hint())
                }
                _ => rule.fix.to_owned(),
            };
            let target = mapping.target.field(field.field);
            findings.push(rule.finding_with_fix(target, slot.column, message, fix));
        };
        if torn {
            let what = "有几列用这个表头,内容又不相同,不能判定取哪一列";
            return fail(slot, &raised::MAPPING_REPEATED_COLUMN, &what);
        }
        let Some((text, kind)) = raw else {
            if let Some((value, branch)) = &field.default {
                self.hit(*branch);
                slot.value = Some(value.clone());
            }
            return;
        };
        if kind == CellKind::Damaged {
            return fail(slot, &raised::ROW_DAMAGED, &"有无法解码的字符");
        }
        if let Some(inside) = hidden {
            let refusing = match &field.kind {
                Kind::Date { .. } => Some(&raised::VALUE_DATE),
                Kind::Amount { .. } => Some(&raised::VALUE_AMOUNT),
                Kind::Text => None,
            };
            // A digit may be among what nobody sees: no sum is made of what is left.
            let rule = refusing.filter(|_| inside).unwrap_or(&TEXT_CONTROL);
            fail(slot, rule, &"夹有控制字符或不可见字符");
            if slot.failed {
                return;
            }
        }
        if field.identifier && kind == CellKind::Number && digits_lost(&text) {
            return fail(slot, &raised::VALUE_DIGITS_LOST, &"长号码被存成了数值,末尾数字已丢失");
        }
        let mut text = text;
        for (op, failed) in &field.ops {
            match op.run(text) {
                Some(changed) => text = changed,
                None => {
                    self.hit(*failed);
                    return fail(slot, &raised::MAPPING_CHECK, &"内容与映射规则中的提取格式不符");
                }
            }
        }
        let text = match self.translate(field, text) {
            Some(text) => text,
            None => return fail(slot, &raised::MAPPING_LOOKUP, &"取值不在映射规则的代码表中"),
        };
        if text.is_empty() {
            return;
        }
        let mut refused = None;
        let value = match &field.kind {
            Kind::Text => Some(Value::Text(text.into_owned())),
            Kind::Date { patterns, epoch, serial, failed } => {
                let by_pattern = patterns.iter().find_map(|pattern| pattern.parse(&text));
                let parsed = match by_pattern {
                    Some(date) => Ok(date),
                    None if *epoch && is_digits(&text, 13) => parse_epoch_millis(&text),
                    None if *serial && is_serial(&text) => parse_date(&text, CellKind::Number),
                    None if kind == CellKind::Text && !patterns.is_empty() => {
                        Err(DateError::Unrecognised)
                    }
                    None => parse_date(&text, kind),
                };
                match parsed {
                    Ok(date) => Some(Value::Date(date)),
                    // An empty cell in disguise: a warning, and empty it is.
                    Err(error @ DateError::Placeholder) => {
                        refused = Some((raised::VALUE_DATE_PLACEHOLDER, error.to_string()));
                        None
                    }
                    Err(error) => {
                        self.hit(*failed);
                        refused = Some((raised::VALUE_DATE, error.to_string()));
                        None
                    }
                }
            }
            Kind::Amount { unit, failed } => match parse_amount(&text, *unit) {
                Ok(amount) => Some(Value::Amount(amount)),
                Err(error) => {
                    self.hit(*failed);
                    refused = Some((raised::VALUE_AMOUNT, error.to_string()));
                    None
                }
            },
        };
        if let Some((rule, what)) = refused {
            return fail(slot, &rule, &what);
        }
        if let Some(Value::Text(text)) = &value {
            let complaint = field.checks.iter().find_map(|check| complaint(check, text));
            if let Some(what) = complaint {
                self.hit(field.check_failed);
                return fail(slot, &raised::MAPPING_CHECK, &what);
            }
        }
        slot.value = value;
    }

    /// Whether a cell the field is made of holds something nobody sees; whether in its midst.
    fn hidden(&self, field: &FieldPlan, row: &Row, column: Option<u16>) -> Option<bool> {
        let judge = |column: u16| {
            let text = row.get(column).text;
            has_hidden(text, false).then(|| has_hidden(text, true))
        };
        match &field.from {
            From::Const(_) => None,
            From::First(_) => judge(column?),
            From::Concat(names, ..) => {
                let bound = names.iter().filter_map(|n| self.bound.get(*n).copied().flatten());
                bound.filter_map(judge).max()
            }
        }
    }

    /// Notes where a value stands, or would.
    fn stands(&self, slot: &mut Slot, name: usize, column: u16) {
        let program = &self.mapping.program;
        slot.column = Some(column);
        slot.heading =
            program.names.get(name).filter(|_| !program.tree).map(|n| Arc::clone(&n.written));
    }

    /// The first source that is not empty. The slot points at it, else at the first there is.
    fn first<'r>(
        &mut self,
        field: &FieldPlan,
        names: &[(usize, usize)],
        row: &'r Row,
        slot: &mut Slot,
    ) -> Option<(Cow<'r, str>, CellKind)> {
        for (name, branch) in names {
            let Some(column) = self.bound.get(*name).copied().flatten() else { continue };
            if slot.column.is_none() {
                self.stands(slot, *name, column);
            }
            let cell = row.get(column);
            if cell.kind == CellKind::Absent {
                continue;
            }
            let text = clean(cell.text);
            // The zero date is for the date's own parser to tell.
            let zero = matches!(field.kind, Kind::Date { .. }) && text.starts_with("0000");
            if text.is_empty() || (field.drop_placeholder && !zero && says_nothing(&text)) {
                continue;
            }
            self.hit(*branch);
            self.stands(slot, *name, column);
            return Some((text, cell.kind));
        }
        None
    }

    /// Every source that is not empty, joined. The slot points at the first.
    fn concat<'r>(
        &mut self,
        names: &[usize],
        with: &str,
        branch: usize,
        row: &'r Row,
        slot: &mut Slot,
    ) -> Option<(Cow<'r, str>, CellKind)> {
        let mut joined = String::new();
        let mut kind = CellKind::Text;
        let mut empty = true;
        for name in names {
            let Some(column) = self.bound.get(*name).copied().flatten() else { continue };
            if slot.column.is_none() {
                self.stands(slot, *name, column);
            }
            let cell = row.get(column);
            let text = clean(cell.text);
            if text.is_empty() || says_nothing(&text) {
                continue;
            }
            if empty {
                self.stands(slot, *name, column);
                empty = false;
            } else {
                joined.push_str(with);
            }
            if cell.kind == CellKind::Damaged {
                kind = CellKind::Damaged;
            }
            joined.push_str(&text);
        }
        if empty {
            return None;
        }
        self.hit(branch);
        Some((Cow::Owned(joined), kind))
    }

    /// Splitting, the code table, joining; `None` if the table does not know a part.
    fn translate<'t>(&mut self, field: &FieldPlan, text: Cow<'t, str>) -> Option<Cow<'t, str>> {
        let Some((separators, with)) = &field.split else { return self.look_up(field, text) };
        let mut joined = String::with_capacity(text.len());
        for part in text.split(separators.as_slice()) {
            let part = clean(part);
            if part.is_empty() {
                continue;
            }
            if !joined.is_empty() {
                joined.push_str(with);
            }
            joined.push_str(&self.look_up(field, part)?);
        }
        Some(Cow::Owned(joined))
    }

    fn look_up<'t>(&mut self, field: &FieldPlan, text: Cow<'t, str>) -> Option<Cow<'t, str>> {
        let Some(lookup) = &field.lookup else { return Some(text) };
        match lookup.table.get(&*text) {
            Some(value) => {
                self.hit(lookup.hit);
                Some(Cow::Owned(value.clone()))
            }
            None => {
                self.hit(lookup.miss);
                lookup.keep_missing.then_some(text)
            }
        }
    }

    fn require(&mut self, field: &FieldPlan, draft: &mut Draft, findings: &mut Vec<Finding>) {
        let wanted = match &field.required_when {
            Some(RequiredWhen { when, holds, not }) => {
                let all = when.iter().all(|(ix, values)| {
                    slot_text(draft, *ix).is_some_and(|t| holds_one(&t, values))
                });
                self.hit(if all { *holds } else { *not });
                all
            }
            None => false,
        };
        let Some(slot) = draft.slots.get_mut(usize::from(field.field.0)) else { return };
        if slot.value.is_some() || slot.failed || !(wanted || field.required.is_some()) {
            return;
        }
        slot.failed = true;
        let label = slot.heading.as_deref().unwrap_or(&field.name);
        let message = format!("{label}:按映射规则必填,来源为空");
        let target = self.mapping.target.field(field.field);
        findings.push(raised::MAPPING_REQUIRED.finding(target, slot.column, message));
        if let Some(branch) = field.required {
            self.hit(branch);
        }
    }

    fn compare(&mut self, check: &RecordCheck, draft: &Draft, findings: &mut Vec<Finding>) {
        let value = |ix: FieldIx| draft.slot(ix).and_then(|slot| slot.value.as_ref());
        let (Some(left), Some(right)) = (value(check.left), value(check.right)) else { return };
        let ordering = match (left, right) {
            (Value::Date(l), Value::Date(r)) => l.cmp(r),
            (Value::Amount(l), Value::Amount(r)) => l.cmp(r),
            (Value::Text(l), Value::Text(r)) => l.cmp(r),
            _ => return,
        };
        let holds = match check.op {
            Compare::Lt => ordering == Ordering::Less,
            Compare::Le => ordering != Ordering::Greater,
            Compare::Eq => ordering == Ordering::Equal,
            Compare::Ne => ordering != Ordering::Equal,
            Compare::Ge => ordering != Ordering::Less,
            Compare::Gt => ordering == Ordering::Greater,
        };
        self.hit(if holds { check.holds } else { check.broken });
        if holds {
            return;
        }
        let column = draft.slot(check.left).and_then(|slot| slot.column);
        findings.push(Finding {
            rule: Cow::Owned(check.rule.clone()),
            severity: check.severity,
            dimension: Dimension::Consistency,
            field: Some(Arc::clone(&check.code)),
            column,
            cell: None,
            message: check.message.clone(),
            fix: check.fix.clone(),
        });
    }
}

/// [`is_placeholder`], asked only of texts that could be one: no word among them is longer.
fn says_nothing(text: &str) -> bool {
    (text.len() <= 24 || !text.starts_with(char::is_alphanumeric)) && is_placeholder(text)
}

fn is_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|b| b.is_ascii_digit())
}

/// A text that is one of Excel's days: of 1927 to 2173, with or without a time.
fn is_serial(text: &str) -> bool {
    let (days, time) = text.split_once('.').unwrap_or((text, ""));
    is_digits(days, 5) && time.bytes().all(|b| b.is_ascii_digit())
}

/// A workbook keeps 15 digits of a number; more, or an exponent, means that some are gone.
fn digits_lost(text: &str) -> bool {
    text.bytes().filter(u8::is_ascii_digit).count() > 15 || text.contains(['e', 'E'])
}

fn slot_text(draft: &Draft, ix: FieldIx) -> Option<Cow<'_, str>> {
    match draft.slot(ix)?.value.as_ref()? {
        Value::Text(text) => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

/// Whether a value, or one of several joined by `;`, is among `values`.
fn holds_one(text: &str, values: &[String]) -> bool {
    text.split(';').any(|part| values.iter().any(|value| value == part))
}

/// What a check has against a text, without quoting it.
fn complaint(check: &Check, text: &str) -> Option<String> {
    match check {
        // An older code in its place is for the catalogue to tell, and for the table to resolve.
        Check::Uscc => {
            let error = Uscc::parse(text).err().filter(|_| LegacyCode::read(text).is_empty());
            error.map(|e| e.to_string())
        }
        Check::CitizenId => CitizenId::parse(text).err().map(|e| e.to_string()),
        Check::OrgCode => org_code_check(text).err().map(|e| e.to_string()),
        Check::RegNo => check_reg_no(text).err().map(|e| e.to_string()),
        Check::Matches(pattern) => {
            (!pattern.is_match(text)).then(|| "与映射规则要求的格式不符".to_owned())
        }
        Check::OneOf(values) => (!values.iter().any(|value| value == text))
            .then(|| "不在映射规则允许的取值之中".to_owned()),
    }
}
