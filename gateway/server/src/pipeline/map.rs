//! map (映射): rows → drafts of the generation in force, each field knowing its source column.

use std::sync::Arc;

use xinqiao_core::catalogue::{CheckContext, Dataset, Resolved, convert, resolve};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::mapping::{Applied, Plan};
use xinqiao_core::model::{Columns, Draft, Finding, Place};

use super::Job;
use super::decode::Decoded;

/// A mapped row: only this file makes one.
pub(super) struct Mapped {
    pub(super) place: Place,
    /// `None` when the row must not be reported and nothing of it was copied.
    pub(super) draft: Option<Draft>,
    pub(super) findings: Vec<Finding>,
    /// Whether it lacked a 统一社会信用代码, and what the mapping table says.
    pub(super) resolved: Resolved,
    _made_here: (),
}

/// A mapping bound to the columns at hand, with a draft to reuse.
pub(super) struct Mapper<'a> {
    job: &'a Job<'a>,
    plan: Option<Plan<'a>>,
    /// The generation the platform wants today.
    wanted: Arc<Dataset>,
    spare: Option<Draft>,
}

impl<'a> Mapper<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Self {
        let target = &job.mapping.target;
        let in_force = job.domain.catalogue.in_force(&target.id, job.today);
        Self { job, plan: None, wanted: Arc::clone(in_force.unwrap_or(target)), spare: None }
    }

    pub(super) fn bind(&mut self, columns: &Columns) {
        self.plan = Some(self.job.mapping.bind(columns));
    }

    pub(super) fn map(&mut self, decoded: Decoded<'_>) -> Mapped {
        let mut findings = Vec::new();
        let place = decoded.row.place.clone();
        let target = &self.job.mapping.target;
        let mut draft = self.spare.take().unwrap_or_else(|| Draft::new(Arc::clone(target)));
        let plan = self.plan.get_or_insert_with(|| self.job.mapping.bind(decoded.columns));
        let applied = plan.apply(decoded.row, &mut draft, &mut findings);
        let mut resolved = Resolved::NotNeeded;
        let draft = match applied {
            Applied::Excluded => {
                self.spare = Some(draft);
                None
            }
            Applied::Mapped => {
                resolved = resolve(&mut draft, self.job.uscc, &mut findings);
                let context = CheckContext { today: self.job.today };
                Some(convert(draft, &self.wanted, &context, &mut findings))
            }
        };
        Mapped { place, draft, findings, resolved, _made_here: () }
    }

    /// Takes a draft back; one of another generation is of no use to the plan.
    pub(super) fn reuse(&mut self, draft: Option<Draft>) {
        self.spare = draft
            .filter(|d| Arc::ptr_eq(&d.dataset, &self.job.mapping.target))
            .or(self.spare.take());
    }

    /// Names of columns the mapping does not use, if there are any.
    pub(super) fn unknown(&self, columns: &Columns) -> Option<String> {
        let unknown = self.plan.as_ref()?.unknown_columns(columns);
        let names = columns.names();
        let names: Vec<&str> =
            unknown.iter().filter_map(|ix| names.get(usize::from(*ix))).map(|n| n.trim()).collect();
        // A heading row found in the wrong place would be a row of values: say no more than ten
        // names, none that looks like a number, and no personal number.
        let shown: Vec<&str> = names
            .iter()
            .copied()
            .filter(|name| !name.bytes().any(|b| b.is_ascii_digit()) || name.len() < 12)
            .take(10)
            .collect();
        let more = if names.len() > shown.len() { "等" } else { "" };
        let said = || format!("{}{more}({}列)", shown.join("、"), names.len());
        (!names.is_empty()).then(|| mask(&said(), self.job.today).into_owned())
    }

    /// What is to be said about the columns once all are known.
    pub(super) fn column_notes(&self, columns: &Columns) -> Vec<String> {
        let mut notes = Vec::new();
        if self.job.mapping.on_unknown_column == xinqiao_core::model::UnknownColumn::Warn
            && let Some(names) = self.unknown(columns)
        {
            notes.push(format!("映射规则未列的列:{names}"));
        }
        let missing = self.plan.iter().flat_map(Plan::missing_columns);
        notes.extend(missing.map(|finding| finding.message));
        notes
    }
}
