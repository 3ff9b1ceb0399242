//! Running the tests a mapping carries.

use std::collections::BTreeSet;
use std::sync::Arc;

use time::Date;

use super::file::{OptText, TestFile};
use super::program::{compared, line_of};
use super::{Applied, Mapping, TestOutcome, TestReport};
use crate::catalogue::{self, Catalogue, CheckContext};
use crate::model::{CellKind, Columns, Draft, Finding, Operation, Row, Severity, Shape};
use crate::yaml::At;

pub(super) fn run(mapping: &Mapping, catalogue: &Catalogue, today: Date) -> TestReport {
    let program = &mapping.program;
    let mut hits = vec![false; program.branches.len()];
    let mut touched = BTreeSet::new();
    let mut outcomes = Vec::with_capacity(program.tests.len());
    for At { value: test, span } in &program.tests {
        let run = TestRun::new(mapping, test, catalogue, today);
        for (hit, seen) in hits.iter_mut().zip(&run.hits) {
            *hit |= seen;
        }
        for (field, slot) in run.draft.dataset.fields.iter().zip(&run.draft.slots) {
            if slot.value.is_some() || slot.failed {
                touched.insert(Arc::clone(&field.code));
            }
        }
        outcomes.push(TestOutcome {
            name: test.name.clone(),
            line: line_of(&mapping.text, span),
            failures: run.failures(test),
        });
    }
    let untouched = program.fields.iter().filter(|field| !touched.contains(&field.code));
    let mut uncovered: Vec<String> =
        untouched.map(|field| format!("{}({}):没有测试", field.code, field.name)).collect();
    let fields = program.fields.len();
    let fields_covered = (fields - uncovered.len(), fields);
    let missed = program.branches.iter().zip(&hits).filter(|(_, hit)| !**hit);
    uncovered.extend(missed.map(|(words, _)| words.clone()));
    let branches_covered = (hits.iter().filter(|hit| **hit).count(), hits.len());
    TestReport { outcomes, fields_covered, branches_covered, uncovered }
}

/// What one test's row became.
struct TestRun {
    applied: Applied,
    draft: Draft,
    /// The record as the platform would get it and what the catalogue says, if the test asks.
    platform: Option<Draft>,
    mapped: Vec<Finding>,
    checked: Vec<Finding>,
    hits: Vec<bool>,
}

impl TestRun {
    fn new(mapping: &Mapping, test: &TestFile, catalogue: &Catalogue, today: Date) -> Self {
        let shape = if mapping.program.tree { Shape::Tree } else { Shape::Grid };
        let mut columns = Columns::new(shape);
        let mut row = Row::new();
        row.clear(1);
        for (name, cell) in &test.row.0 {
            columns.find_or_push(&name.value);
            row.push(&cell.text, cell.kind);
        }
        // A test of one field need not name the columns of scope and state.
        let program = &mapping.program;
        let keeps = program.excludes.iter().filter_map(|exclude| exclude.keep.as_ref());
        for keep in keeps.chain(program.withdraw.iter().filter_map(|w| w.keep.as_ref())) {
            let name = program.names.get(keep.name).map_or("", |name| &name.written);
            let given = |column: &At<String>| {
                compared(&column.value, program.tree, program.prefixes)
                    == compared(name, program.tree, program.prefixes)
            };
            if !test.row.0.iter().any(|(column, _)| given(column)) {
                columns.find_or_push(name);
                row.push(&keep.usual, CellKind::Text);
            }
        }
        let mut draft = Draft::new(Arc::clone(&mapping.target));
        let mut mapped = Vec::new();
        let mut plan = mapping.bind(&columns);
        let applied = plan.apply(&row, &mut draft, &mut mapped);
        let hits = plan.hits;
        let mut checked = Vec::new();
        let asks =
            test.reject.is_some() || !test.warn.is_empty() || !test.expect_platform.0.is_empty();
        let platform = (asks && applied == Applied::Mapped).then(|| {
            let context = CheckContext { today };
            let to = catalogue.in_force(&mapping.target.id, today).unwrap_or(&mapping.target);
            let mut converted = catalogue::convert(draft.clone(), to, &context, &mut checked);
            catalogue::check(&mut converted, &context, &mut checked);
            converted
        });
        Self { applied, draft, platform, mapped, checked, hits }
    }

    fn failures(&self, test: &TestFile) -> Vec<String> {
        let mut failures = Vec::new();
        let excluded = (self.applied == Applied::Excluded)
            .then(|| self.mapped.first().map_or("", |finding| &finding.rule));
        match (&test.exclude, excluded) {
            (Some(wanted), Some(rule)) if wanted.value == rule => return failures,
            (Some(wanted), Some(rule)) => {
                failures.push(format!("应按 {} 排除,实际按 {rule} 排除", wanted.value));
                return failures;
            }
            (Some(wanted), None) => failures.push(format!("应按 {} 排除,实际没有", wanted.value)),
            (None, Some(rule)) => {
                failures.push(format!("该行被排除({rule}),测试没有写 exclude"));
                return failures;
            }
            (None, None) => {}
        }
        expect(&self.draft, &test.expect.0, "", &mut failures);
        if let Some(platform) = &self.platform {
            let prefix = format!("转换到{}后,", platform.dataset.reference());
            expect(platform, &test.expect_platform.0, &prefix, &mut failures);
        }
        match (test.withdraw, self.draft.operation == Operation::Withdraw) {
            (true, false) => failures.push("应识别为撤销,实际没有".into()),
            (false, true) => failures.push("识别为撤销,测试没有写 withdraw: true".into()),
            _ => {}
        }
        self.findings(test, &mut failures);
        failures
    }

    /// Every mention is found; no error of the mapping is left unmentioned. What the catalogue
    /// finds need only be mentioned when the test says that the row passes (`reject: []`): a test
    /// of one field need not give a whole record.
    fn findings(&self, test: &TestFile, failures: &mut Vec<String>) {
        let all = || self.mapped.iter().chain(&self.checked);
        let empty = Vec::new();
        let reject = test.reject.as_ref().unwrap_or(&empty);
        for (mentions, severity, words) in
            [(reject, Severity::Error, "退回"), (&test.warn, Severity::Warning, "警告")]
        {
            for mention in mentions {
                let found = all().any(|f| f.severity == severity && mentions_it(f, &mention.value));
                if !found {
                    failures.push(format!("{}应{words},实际没有", mention.value));
                }
            }
        }
        let passes = test.reject.as_ref().is_some_and(Vec::is_empty);
        let strict = self.mapped.iter().chain(self.checked.iter().filter(|_| passes));
        for finding in strict.filter(|f| f.severity == Severity::Error) {
            if !reject.iter().any(|mention| mentions_it(finding, &mention.value)) {
                let field = finding.field.as_deref().unwrap_or("整行");
                failures.push(format!("{field}被退回({}):{}", finding.rule, finding.message));
            }
        }
    }
}

fn mentions_it(finding: &Finding, mention: &str) -> bool {
    finding.rule == mention || finding.field.as_deref() == Some(mention)
}

/// Fields that should have a value, or none. Values shown are those of the test.
fn expect(draft: &Draft, wanted: &[(At<String>, OptText)], prefix: &str, out: &mut Vec<String>) {
    for (code, OptText(wanted)) in wanted {
        let slot = draft.dataset.find(&code.value).and_then(|ix| draft.slot(ix));
        let Some(slot) = slot else {
            out.push(format!("{prefix}没有字段{}", code.value));
            continue;
        };
        let got = slot.value.as_ref().map(ToString::to_string);
        if got != *wanted {
            let show = |text: &Option<String>| match text {
                Some(text) => format!("“{text}”"),
                None => "空".to_owned(),
            };
            out.push(format!("{prefix}{}应为{},实为{}", code.value, show(wanted), show(&got)));
        }
    }
}
