//! The mapping language (映射规则): a closed, declarative YAML from an agency's columns to a dataset.

mod file;
mod read;
mod yaml;

use std::sync::Arc;

use time::Date;

use crate::catalogue::{Catalogue, Dataset};
use crate::diagnostic::{Bundle, Diagnostics};
use crate::model::{Columns, Draft, Finding, FormatSpec, MappingId, Row, UnknownColumn};

/// A parsed, checked mapping.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Its id.
    pub id: MappingId,
    /// 市城管局 · 行政处罚(XLSX).
    pub title: String,
    /// The generation its fields are of.
    pub target: Arc<Dataset>,
    /// How the bytes are to be read.
    pub format: FormatSpec,
    /// What to do with columns no field uses.
    pub on_unknown_column: UnknownColumn,
    /// The mapping file's text, for its digest (the digest rides with every record it made).
    pub text: Arc<str>,
}

impl Mapping {
    /// Parses and checks a mapping file; reports every error at once. Code tables it names are
    /// read from `bundle`.
    pub fn parse(
        _path: &str,
        _text: &str,
        _catalogue: &Catalogue,
        _bundle: &Bundle,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        todo!()
    }

    /// Binds the mapping to a source's columns.
    pub fn bind(&self, _columns: &Columns) -> Plan<'_> {
        todo!()
    }

    /// Runs the tests in the file.
    pub fn run_tests(&self, _catalogue: &Catalogue, _today: Date) -> TestReport {
        todo!()
    }
}

/// A mapping bound to columns.
#[derive(Debug)]
pub struct Plan<'m> {
    _mapping: &'m Mapping,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The draft is filled (findings may still refuse it).
    Mapped,
    /// An `exclude` matched: the row must not be reported (涉密, 简易程序 …); one finding says so
    /// and the draft is empty.
    Excluded,
}

impl Plan<'_> {
    /// Whether the columns have grown since binding.
    pub fn is_stale(&self, _columns: &Columns) -> bool {
        todo!()
    }

    /// Source columns no field uses.
    pub fn unknown_columns(&self, _columns: &Columns) -> Vec<u16> {
        todo!()
    }

    /// Maps one row. `draft` is cleared first; findings are appended.
    pub fn apply(
        &mut self,
        _row: &Row,
        _draft: &mut Draft,
        _findings: &mut Vec<Finding>,
    ) -> Applied {
        todo!()
    }
}

/// What the tests in a mapping file gave.
#[derive(Debug, Clone, Default)]
pub struct TestReport {
    /// One per test.
    pub outcomes: Vec<TestOutcome>,
    /// Fields the tests filled or refused, of all mapped fields.
    pub fields_covered: (usize, usize),
    /// Branches taken (each source name, op outcome, code-table hit and miss, condition), of all.
    pub branches_covered: (usize, usize),
    /// Branches no test takes, for a person.
    pub uncovered: Vec<String>,
}

/// One test's outcome.
#[derive(Debug, Clone)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// Line in the file.
    pub line: u32,
    /// What differed; empty if it passed.
    pub failures: Vec<String>,
}

/// A mapping skeleton for a sample: `(heading, example kind)` in source order.
pub fn skeleton(
    _id: &MappingId,
    _target: &Dataset,
    _format: &FormatSpec,
    _headings: &[String],
) -> String {
    todo!()
}

/// JSON Schema (2020-12) of mapping files, for editors.
pub fn json_schema() -> serde_json::Value {
    todo!()
}
