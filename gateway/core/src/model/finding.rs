//! What a check says about a row.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look; the row goes on.
    Warning,
    /// The row is refused.
    Error,
}

/// The quality dimension a rule serves (GB/T 36344-2018 信息技术 数据质量评价指标).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    /// 规范性
    Conformity,
    /// 完整性
    Completeness,
    /// 准确性
    Accuracy,
    /// 一致性
    Consistency,
    /// 时效性
    Timeliness,
    /// 可访问性
    Accessibility,
}

/// The gateway's answer to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Taken, nothing to say.
    Accept,
    /// Taken, with warnings.
    Warn,
    /// Not taken.
    Reject,
}

impl Verdict {
    /// The verdict that `findings` amount to.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|f| f.severity).max() {
            None => Self::Accept,
            Some(Severity::Warning) => Self::Warn,
            Some(Severity::Error) => Self::Reject,
        }
    }
}

/// One finding (问题项) on one row.
///
/// `message` and `fix` never contain a value of the row: columns shift, and a personal number may
/// stand anywhere. They may name fields, rules, positions, and dates that were parsed as dates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable id of the rule, e.g. `uscc.check-digit`.
    pub rule: Cow<'static, str>,
    /// Error refuses the row.
    pub severity: Severity,
    /// The dimension the rule serves.
    pub dimension: Dimension,
    /// Code of the catalogue field, e.g. `CF_JDRQ`.
    pub field: Option<Arc<str>>,
    /// Index of the source column the value came from, while the row is at hand.
    #[serde(skip)]
    pub column: Option<u16>,
    /// Where the cell stands, for a person; filled from `column` by [`crate::model::Columns`].
    pub cell: Option<String>,
    /// What is wrong (Chinese, no final stop).
    pub message: String,
    /// What to do about it (Chinese, no final stop).
    pub fix: String,
}
