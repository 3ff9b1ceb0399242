//! The mapping language (映射规则): a closed, declarative YAML from an agency's columns to a dataset.
//! For its writers it is described in `gateway/docs/formats/mapping.zh.md`.
//!
//! ```text
//! text ─yaml→ nodes with places ─file (read)→ file structs ─compile→ Program ─bind→ Plan ─apply→ Draft
//! ```
//!
//! Reading goes on after every error, so that all are told at once; the keys are named once, in
//! `file`, from which the reader and the JSON Schema both come. A field's value is made in a fixed
//! order: source (first that is not empty, or several joined, or a constant) → [`clean`] →
//! operations → splitting and code table → the catalogue's type → checks. Required fields and
//! comparisons follow when all fields stand, and not on a withdrawal. A failing value leaves its
//! slot empty and marked; it never changes another field.
//!
//! [`clean`]: crate::value::clean

mod codes;
mod compile;
mod file;
mod op;
mod plan;
mod program;
mod skeleton;
mod testing;

use std::collections::HashMap;
use std::sync::Arc;

use time::Date;

use crate::catalogue::{Catalogue, Dataset};
use crate::diagnostic::{Bundle, Diagnostics};
use crate::model::{Columns, FormatSpec, MappingId, UnknownColumn};
use crate::yaml;

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
    program: Arc<program::Program>,
}

impl Mapping {
    /// Parses and checks a mapping file; reports every error at once. Code tables it names are
    /// read from `bundle`.
    pub fn parse(
        path: &str,
        text: &str,
        catalogue: &Catalogue,
        bundle: &Bundle,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut reader = yaml::Reader { path, text, found: Diagnostics::default() };
        let mapping = yaml::parse(&mut reader)
            .and_then(|node| yaml::FromNode::from_node(&node, &mut reader))
            .and_then(|file| compile::compile(file, catalogue, bundle, &mut reader));
        let mut found = reader.found;
        found.0.sort_by_key(|d| (d.span.start, d.span.end));
        match mapping {
            Some(mapping) if !found.has_errors() => Ok((mapping, found)),
            _ => Err(found),
        }
    }

    /// The source's columns it uses, as written, each once.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for name in &self.program.names {
            if !columns.iter().any(|known| **known == *name.written) {
                columns.push(name.written.to_string());
            }
        }
        columns
    }

    /// Binds the mapping to a source's columns.
    pub fn bind(&self, columns: &Columns) -> Plan<'_> {
        plan::bind(self, columns)
    }

    /// Runs the tests in the file, as if on `today`.
    pub fn run_tests(&self, catalogue: &Catalogue, today: Date) -> TestReport {
        testing::run(self, catalogue, today)
    }
}

/// A mapping bound to columns.
#[derive(Debug)]
pub struct Plan<'m> {
    mapping: &'m Mapping,
    /// The column of each name the mapping uses.
    bound: Vec<Option<u16>>,
    /// Further columns with the same heading, by name: nobody said which is meant.
    twins: HashMap<usize, Vec<u16>>,
    /// Columns known when this was bound.
    width: usize,
    /// Branches taken so far, for coverage.
    hits: Vec<bool>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The draft is filled (findings may still refuse it).
    Mapped,
    /// The row must not be reported: an `exclude` matched (涉密, 简易程序 …), or a column that decides
    /// it holds a word on neither side (`scope.unclear`). Findings say so and the draft is empty.
    Excluded,
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

/// A mapping skeleton for a sample's headings, in source order: fields in catalogue order with the
/// heading that fits code, name or alias best; required fields without one and headings without a
/// field stand as comments. The result parses.
pub fn skeleton(
    id: &MappingId,
    target: &Dataset,
    format: &FormatSpec,
    headings: &[String],
) -> String {
    skeleton::write(id, target, format, headings)
}

/// How many fields of a dataset a skeleton would fill from these headings: what it is chosen by.
pub fn headings_known(target: &Dataset, headings: &[String]) -> usize {
    skeleton::matches(target, headings)
}

/// JSON Schema (2020-12) of mapping files, for editors.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(file::MappingFile).to_value()
}

#[cfg(test)]
mod tests;
