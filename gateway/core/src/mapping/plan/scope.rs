//! Which rows go on, and which column is meant where several bear one heading.

use super::super::Plan;
use super::super::program::{FieldPlan, From, Keep, When};
use crate::catalogue::Field;
use crate::catalogue::rules::{Rule, raised};
use crate::model::{Finding, Row, Slot};
use crate::value::{clean, heading};

impl Plan<'_> {
    /// Whether the row stays here: because an `exclude` matches, or because a column that decides
    /// it holds a word that stands on neither side. Nothing of such a row is copied.
    pub(super) fn excluded(&mut self, row: &Row, findings: &mut Vec<Finding>) -> bool {
        let mapping = self.mapping;
        for exclude in &mapping.program.excludes {
            if self.holds(&exclude.when, row) {
                self.hit(exclude.branch);
                let message = "该行不属于报送范围,不生成记录,不报送".to_owned();
                let decides = exclude.when.0.first();
                let column = decides.and_then(|(name, _)| self.columns(*name).next());
                findings.push(exclude.rule.finding(None, column, message));
                return true;
            }
        }
        let keeps = mapping.program.excludes.iter().filter_map(|exclude| exclude.keep.as_ref());
        let mut clear = true;
        for keep in keeps {
            clear &= self.keeps(keep, &raised::SCOPE_UNCLEAR, row, findings);
        }
        !clear
    }

    pub(super) fn holds(&self, when: &When, row: &Row) -> bool {
        when.0.iter().all(|(name, values)| {
            self.columns(*name).any(|column| values.contains(&heading(row.get(column).text)))
        })
    }

    /// Whether the column says that the row goes on. A column the source does not have is empty.
    pub(super) fn keeps(
        &mut self,
        keep: &Keep,
        rule: &Rule,
        row: &Row,
        findings: &mut Vec<Finding>,
    ) -> bool {
        let text = |column: Option<u16>| {
            column.map(|column| heading(row.get(column).text)).unwrap_or_default()
        };
        let mut column = self.bound.get(keep.name).copied().flatten();
        let kept = |column: &Option<u16>| keep.values.contains(&text(*column));
        if kept(&column) {
            column = match self.columns(keep.name).map(Some).find(|column| !kept(column)) {
                Some(other) => other,
                None => return true,
            };
        }
        let text = text(column);
        self.hit(keep.unclear);
        let name = self.mapping.program.names.get(keep.name).map_or("", |name| &name.written);
        let message = match column {
            None => format!("报文中没有“{name}”列"),
            Some(_) if text.is_empty() => format!("“{name}”为空"),
            Some(_) => format!("“{name}”的取值不在映射规则所列之内"),
        };
        let field = self.field_from(keep.name);
        findings.push(rule.finding_with_fix(field, column, message, keep.words.clone()));
        false
    }

    /// The field that is filled from a column, if any is.
    fn field_from(&self, name: usize) -> Option<&Field> {
        let fields = &self.mapping.program.fields;
        let plan = fields.iter().find(|plan| match &plan.from {
            From::First(names) => names.iter().any(|(known, _)| *known == name),
            From::Const(_) | From::Concat(..) => false,
        })?;
        self.mapping.target.field(plan.field)
    }

    /// Whether several columns bear a heading the field is made of and differ in this row. The slot
    /// then points at the first of them.
    pub(super) fn torn(&self, field: &FieldPlan, row: &Row, slot: &mut Slot) -> bool {
        let names: Vec<usize> = match &field.from {
            _ if self.twins.is_empty() => return false,
            From::Const(_) => return false,
            From::First(names) => names.iter().map(|(name, _)| *name).collect(),
            From::Concat(names, ..) => names.clone(),
        };
        let torn = names.into_iter().find_map(|name| {
            let first = self.bound.get(name).copied().flatten()?;
            let text = clean(row.get(first).text);
            let twins = self.twins.get(&name)?;
            let differs = twins.iter().any(|column| clean(row.get(*column).text) != text);
            differs.then_some((name, first))
        });
        if let Some((name, column)) = torn {
            self.stands(slot, name, column);
        }
        torn.is_some()
    }

    /// Every column that bears a name.
    fn columns(&self, name: usize) -> impl Iterator<Item = u16> {
        let twins = self.twins.get(&name).into_iter().flatten().copied();
        self.bound.get(name).copied().flatten().into_iter().chain(twins)
    }
}
