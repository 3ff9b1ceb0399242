//! A compiled mapping: what [`super::compile`] makes and [`super::plan`] runs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use regex::Regex;

use super::file::{Compare, TestFile};
use super::op::{DatePattern, Op};
use crate::catalogue::FieldIx;
use crate::catalogue::rules::Rule;
use crate::model::{Severity, Value};
use crate::value::Unit;
use crate::yaml::At;

/// Index into [`Program::names`].
pub(super) type NameIx = usize;
/// Index into [`Program::branches`].
pub(super) type Branch = usize;

#[derive(Debug, Default)]
pub(super) struct Program {
    /// Source names used, as written and as compared.
    pub(super) names: Vec<Name>,
    /// Whether names are paths.
    pub(super) tree: bool,
    /// Whether text cells may hold Excel's serial days.
    pub(super) workbook: bool,
    /// Whether path segments keep their namespace prefixes.
    pub(super) prefixes: bool,
    pub(super) excludes: Vec<Exclude>,
    pub(super) withdraw: Option<Withdraw>,
    pub(super) fields: Vec<FieldPlan>,
    pub(super) checks: Vec<RecordCheck>,
    /// Every branch a test can take, in words.
    pub(super) branches: Vec<String>,
    pub(super) tests: Vec<At<TestFile>>,
}

impl Program {
    pub(super) fn branch(&mut self, words: String) -> Branch {
        self.branches.push(words);
        self.branches.len() - 1
    }
}

#[derive(Debug)]
pub(super) struct Name {
    pub(super) written: Arc<str>,
    pub(super) compared: String,
    /// `备注#2`: the heading as compared and which of several it is, from 1.
    pub(super) nth: Option<(String, usize)>,
}

impl Name {
    pub(super) fn new(written: &str, compared: String, tree: bool) -> Self {
        let nth = written.rsplit_once('#').filter(|_| !tree).and_then(|(base, nth)| {
            let nth = nth.trim().parse().ok().filter(|nth| *nth > 0)?;
            Some((crate::value::heading(base), nth)).filter(|(base, _)| !base.is_empty())
        });
        Self { written: Arc::from(written), compared, nth }
    }

    /// The heading to look for.
    pub(super) fn heading(&self) -> &str {
        self.nth.as_ref().map_or(&self.compared, |(base, _)| base)
    }
}

/// All columns hold one of their values (in the form of [`crate::value::heading`]).
#[derive(Debug)]
pub(super) struct When(pub(super) Vec<(NameIx, Vec<String>)>);

/// What the one column of a [`When`] holds in rows that go on. Anything else is refused: a word
/// nobody thought of must not publish a secret.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) name: NameIx,
    /// As compared.
    pub(super) values: Vec<String>,
    /// The first as written, which a test's row gets that does not name the column.
    pub(super) usual: String,
    /// All accepted words, for the fix.
    pub(super) words: String,
    pub(super) unclear: Branch,
}

/// What takes a record down.
#[derive(Debug)]
pub(super) struct Withdraw {
    pub(super) when: When,
    pub(super) keep: Option<Keep>,
    pub(super) branch: Branch,
}

#[derive(Debug)]
pub(super) struct Exclude {
    pub(super) when: When,
    pub(super) keep: Option<Keep>,
    pub(super) rule: &'static Rule,
    pub(super) branch: Branch,
}

/// How one target field is filled.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) field: FieldIx,
    pub(super) code: Arc<str>,
    pub(super) name: String,
    pub(super) from: From,
    pub(super) ops: Vec<(Op, Branch)>,
    pub(super) split: Option<(Vec<char>, String)>,
    pub(super) lookup: Option<Lookup>,
    pub(super) default: Option<(Value, Branch)>,
    pub(super) kind: Kind,
    /// Placeholder texts (无, /) mean nothing.
    pub(super) drop_placeholder: bool,
    /// A number of more than 15 digits has lost some.
    pub(super) identifier: bool,
    pub(super) checks: Vec<Check>,
    pub(super) check_failed: Branch,
    pub(super) required: Option<Branch>,
    pub(super) required_when: Option<RequiredWhen>,
}

#[derive(Debug)]
pub(super) enum From {
    Const(Value),
    /// The first that is not empty.
    First(Vec<(NameIx, Branch)>),
    Concat(Vec<NameIx>, String, Branch),
}

#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) table: Arc<HashMap<String, String>>,
    pub(super) keep_missing: bool,
    pub(super) hit: Branch,
    pub(super) miss: Branch,
}

/// What the text becomes.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Date {
        patterns: Vec<DatePattern>,
        /// 13 digits are milliseconds since 1970.
        epoch: bool,
        /// A text of five digits is a day of Excel's, as in a workbook's text cells.
        serial: bool,
        failed: Branch,
    },
    Amount {
        unit: Unit,
        failed: Branch,
    },
}

#[derive(Debug)]
pub(super) enum Check {
    Uscc,
    CitizenId,
    OrgCode,
    RegNo,
    Matches(Regex),
    OneOf(Vec<String>),
}

/// All of these target fields hold one of their values.
#[derive(Debug)]
pub(super) struct RequiredWhen {
    pub(super) when: Vec<(FieldIx, Vec<String>)>,
    pub(super) holds: Branch,
    pub(super) not: Branch,
}

#[derive(Debug)]
pub(super) struct RecordCheck {
    /// `check.<id>`
    pub(super) rule: String,
    pub(super) left: FieldIx,
    pub(super) op: Compare,
    pub(super) right: FieldIx,
    pub(super) message: String,
    pub(super) fix: String,
    pub(super) severity: Severity,
    /// The left field's code, for the finding.
    pub(super) code: Arc<str>,
    pub(super) holds: Branch,
    pub(super) broken: Branch,
}

/// The form in which source names are compared.
pub(super) fn compared(name: &str, tree: bool, prefixes: bool) -> String {
    if !tree {
        return crate::value::heading(name);
    }
    let segments = name.trim().trim_start_matches('/').split('/').map(|segment| {
        let (at, local) = match segment.strip_prefix('@') {
            Some(rest) => ("@", rest),
            None => ("", segment),
        };
        let local = if prefixes { local } else { local.rsplit(':').next().unwrap_or(local) };
        format!("{at}{}", crate::value::heading(local))
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The line of a span, from 1.
pub(super) fn line_of(text: &str, span: &Range<usize>) -> u32 {
    crate::diagnostic::position(text, span.start).0
}
