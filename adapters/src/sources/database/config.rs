//! Parameters of `postgres` and `mysql`.
//!
//! | name | meaning | default |
//! |---|---|---|
//! | `host`, `port` | where the database is | required, 5432 or 3306 |
//! | `database`, `user`, `password` | what to open, as whom; the password by reference | required |
//! | `ca`, `client-cert`, `client-key` | PEM files; with `ca` TLS is demanded | none |
//! | `allow` | addresses that may be connected to | any |
//! | `schema`, `table` | the table or view | none, required |
//! | `columns` | which columns to take | all |
//! | `where` | a condition, as it stands in SQL | none |
//! | `key` | columns that name a row, together unique | required |
//! | `incremental` | `{time}`, `{batch}`, `{flag}` or `{full}`: how changes are found | required |
//! | `ack` | columns to set once there is a receipt, and their values; `{now}` is the moment | none |
//! | `feedback` | where verdicts go, see [`super::feedback`] | none |
//! | `page-rows` | rows of a message | 1,000 |
//! | `round-rows` | rows of a round | 1,000,000 |
//! | `cell-bytes` | a larger cell is left out, and its row refused | 1 MiB |
//! | `poll-seconds` | how often to look | 60 |
//! | `connect-seconds`, `timeout-seconds` | of connecting, of a statement | 10, 60 |

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use xinqiao_core::spi::{ParamProblem, Secrets};

use super::feedback::Feedback;
use crate::wire::db::{Access, Engine, bad_name};
use crate::wire::digest::digest;
use crate::wire::params::{Params, Problems};

/// One table, and how to take its rows.
pub(super) struct Database {
    pub(super) access: Access,
    pub(super) table: Table,
    /// Empty: all but those the gateway writes.
    pub(super) columns: Vec<String>,
    pub(super) filter: Option<String>,
    pub(super) key: Vec<String>,
    pub(super) way: Way,
    pub(super) ack: Vec<(String, String)>,
    pub(super) feedback: Option<Arc<Feedback>>,
    pub(super) page_rows: usize,
    pub(super) round_rows: u64,
    pub(super) cell_bytes: usize,
    pub(super) poll: Duration,
}

/// A table's name.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// As in a statement.
    pub(super) sql: String,
    /// As people write it.
    pub(super) shown: String,
}

/// How changes are found.
#[derive(Debug)]
pub(super) enum Way {
    /// Rows after the last one by a column that only grows, then by the key.
    Ordered {
        column: String,
        /// Of a time: rows younger than this many seconds wait.
        lag: Option<u64>,
        start: Option<String>,
    },
    /// Rows whose flag has one of the values; `ack` changes it.
    Queue { column: String, values: Vec<String> },
    /// All rows, compared with what they were.
    Full {
        /// Only rows whose flag has one of the values.
        flag: Option<(String, Vec<String>)>,
        max_rows: usize,
        /// Columns remembered of every row, so that one that is gone can be withdrawn.
        remember: Vec<String>,
        most_percent: u64,
        accept_gone: u64,
    },
}

impl Database {
    pub(super) fn from_params(
        engine: Engine,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Self, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let access = Access::from_params(&mut params, engine, secrets);
        let schema = params.text("schema");
        let name = params.need_text("table");
        names(&params, "schema", &Vec::from_iter(schema.clone()));
        if !name.is_empty() {
            names(&params, "table", std::slice::from_ref(&name));
        }
        let columns = params.list("columns", &[]);
        names(&params, "columns", &columns);
        let filter = params.text("where");
        if filter.as_ref().is_some_and(|text| text.trim().is_empty()) {
            params.problem_of("where", "不能为空");
        }
        let key = params.list("key", &[]);
        if key.is_empty() {
            params.problem_of("key", "缺少此参数:合起来唯一的列,如 [\"id\"]");
        }
        names(&params, "key", &key);
        let ack = params.pairs("ack", None);
        names(&params, "ack", &ack.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>());
        let way = Way::from_params(&mut params, &ack);
        let table = Table {
            sql: engine.table(schema.as_deref(), &name),
            shown: schema.map(|schema| format!("{schema}.")).unwrap_or_default() + &name,
        };
        let keep = match &way {
            Way::Ordered { column, .. } => Some(column.as_str()),
            Way::Queue { .. } | Way::Full { .. } => None,
        };
        let feedback = Feedback::from_params(&mut params, &access, &table, &key, keep);
        let most = usize::MAX;
        let page_rows = usize::try_from(params.number("page-rows", 1_000)).unwrap_or(most);
        if page_rows > 100_000 {
            params.problem_of("page-rows", "不超过100000");
        }
        let cell_bytes = usize::try_from(params.number("cell-bytes", 1 << 20)).unwrap_or(most);
        let database = Self {
            access,
            table,
            columns,
            filter,
            key,
            way,
            ack,
            feedback: feedback.map(Arc::new),
            page_rows,
            round_rows: params.number("round-rows", 1_000_000),
            cell_bytes,
            poll: params.seconds("poll-seconds", Duration::from_secs(60), Duration::from_millis(1)),
        };
        params.done();
        let problems = problems.into_inner();
        if problems.is_empty() { Ok(database) } else { Err(problems) }
    }

    /// The columns rows are ordered by: together they name a row.
    pub(super) fn order(&self) -> Vec<&str> {
        let first = match &self.way {
            Way::Ordered { column, .. } => Some(column.as_str()),
            Way::Queue { .. } | Way::Full { .. } => None,
        };
        let rest = self.key.iter().map(String::as_str).filter(|column| Some(*column) != first);
        first.into_iter().chain(rest).collect()
    }

    /// Columns of the table that the gateway itself writes.
    pub(super) fn writes(&self, column: &str) -> bool {
        let engine = self.access.engine();
        self.ack.iter().any(|(own, _)| engine.same_name(own, column))
            || self.feedback.as_ref().is_some_and(|feedback| feedback.writes_beside(column))
    }

    /// Tells positions of one way of reading from those of another.
    pub(super) fn fingerprint(&self) -> String {
        let way = match self.way {
            Way::Ordered { .. } => "ordered",
            Way::Queue { .. } => "queue",
            Way::Full { .. } => "full",
        };
        let start = match &self.way {
            Way::Ordered { start, .. } => start.as_deref(),
            Way::Queue { .. } | Way::Full { .. } => None,
        };
        let parts = [way, self.table.sql.as_str()].into_iter().chain(self.order()).chain(start);
        format!("{:032x}", digest(parts.map(str::as_bytes)))
    }

    /// Which parameters name a column.
    pub(super) fn parameter_of(&self, column: &str) -> Option<&'static str> {
        let engine = self.access.engine();
        let is = |own: &str| engine.same_name(own, column);
        let any = |list: &[String]| list.iter().any(|own| is(own));
        let of_way = match &self.way {
            Way::Ordered { column, lag, .. } if is(column) => Some(if lag.is_some() {
                "incremental.time.column"
            } else {
                "incremental.batch.column"
            }),
            Way::Queue { column, .. } | Way::Full { flag: Some((column, _)), .. } if is(column) => {
                Some("incremental.flag.column")
            }
            Way::Full { remember, .. } if any(remember) => Some("incremental.full.withdraw"),
            _ => None,
        };
        of_way
            .or_else(|| any(&self.key).then_some("key"))
            .or_else(|| any(&self.columns).then_some("columns"))
            .or_else(|| self.ack.iter().any(|(own, _)| is(own)).then_some("ack"))
    }

    /// Every column that a parameter names.
    pub(super) fn named(&self) -> Vec<&str> {
        let of_way: Vec<&str> = match &self.way {
            Way::Ordered { column, .. } | Way::Queue { column, .. } => vec![column],
            Way::Full { flag, remember, .. } => {
                let flag = flag.iter().map(|(column, _)| column.as_str());
                flag.chain(remember.iter().map(String::as_str)).collect()
            }
        };
        let ack = self.ack.iter().map(|(column, _)| column.as_str());
        let rest = self.key.iter().chain(&self.columns).map(String::as_str);
        of_way.into_iter().chain(rest).chain(ack).collect()
    }
}

impl Way {
    fn from_params(params: &mut Params<'_>, ack: &[(String, String)]) -> Self {
        let nothing = Self::Queue { column: String::new(), values: Vec::new() };
        let Some(mut way) = params.object("incremental") else {
            params.problem_of(
                "incremental",
                "缺少此参数:time、batch、flag、full 之一,说明怎样找出新的和改动过的行",
            );
            return nothing;
        };
        let given = ["time", "batch", "flag", "full"].into_iter().filter(|key| way.has(key));
        let given: Vec<_> = given.collect();
        if given.len() != 1 && given != ["flag", "full"] {
            way.problem("time、batch、flag、full 只能写一个(flag 可与 full 并列)");
        }
        let mut made = None;
        if let Some(mut time) = way.object("time") {
            made = Some(Self::Ordered {
                column: column(&mut time),
                lag: Some(time.count("lag-seconds", 60)),
                start: time.text("start"),
            });
            time.done();
        }
        if let Some(mut batch) = way.object("batch") {
            made = Some(Self::Ordered {
                column: column(&mut batch),
                lag: None,
                start: batch.text("start"),
            });
            batch.done();
        }
        let mut flagged = None;
        if let Some(mut flag) = way.object("flag") {
            let column = column(&mut flag);
            let values = flag.some_of("values", &["1", "2", "3"]);
            let changes = ack.iter().find(|(own, _)| *own == column);
            if changes.is_some_and(|(_, to)| values.contains(to)) {
                flag.problem("ack 给标志列写的值不能在 values 中,否则同一行会一再取到");
            }
            if changes.is_some() && !way.has("full") {
                made = Some(Self::Queue { column, values });
            } else {
                flagged = Some((column, values));
            }
            flag.done();
        }
        let full = way.object("full");
        if full.is_some() || flagged.is_some() {
            let mut way = Self::Full {
                flag: flagged,
                max_rows: 200_000,
                remember: Vec::new(),
                most_percent: 10,
                accept_gone: 0,
            };
            if let (
                Self::Full { max_rows, remember, most_percent, accept_gone, .. },
                Some(mut full),
            ) = (&mut way, full)
            {
                *max_rows = usize::try_from(full.number("max-rows", 200_000)).unwrap_or(usize::MAX);
                *remember = full.list("withdraw", &[]);
                names(&full, "withdraw", remember);
                *most_percent = full.count("most-percent", 10);
                *accept_gone = full.count("accept-gone", 0);
                full.done();
            }
            made = made.or(Some(way));
        }
        way.done();
        made.unwrap_or(nothing)
    }
}

fn column(params: &mut Params<'_>) -> String {
    let column = params.need_text("column");
    if !column.is_empty() {
        names(params, "column", std::slice::from_ref(&column));
    }
    column
}

/// Tells of what cannot be a name of a table or a column, and of names given twice.
pub(super) fn names(params: &Params<'_>, key: &str, given: &[String]) {
    for (at, name) in given.iter().enumerate() {
        if let Some(why) = bad_name(name) {
            params.problem_of(key, why);
        } else if given.iter().take(at).any(|other| other == name) {
            params.problem_of(key, &format!("“{name}”写了两次"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::conformance::TestSecrets;

    fn told(more: &Value) -> Vec<String> {
        let mut params = json!({
            "host": "127.0.0.1", "database": "d", "user": "u", "password": { "env": "P" },
            "table": "t", "key": ["id"], "incremental": { "full": {} },
        });
        if let (Some(params), Some(more)) = (params.as_object_mut(), more.as_object()) {
            params.extend(more.clone());
        }
        let built = Database::from_params(Engine::Postgres, &params, &TestSecrets);
        built.err().unwrap_or_default().into_iter().map(|problem| problem.at).collect()
    }

    #[test]
    fn what_cannot_work_is_told_at_its_parameter() {
        assert_eq!(told(&json!({})), [""; 0]);
        for (more, at) in [
            (json!({ "key": [] }), "key"),
            (json!({ "key": ["id", "id"] }), "key"),
            (json!({ "table": "t; DROP TABLE t" }), "table"),
            (json!({ "columns": ["a`b"] }), "columns"),
            (json!({ "host": "169.254.169.254" }), "host"),
            (json!({ "port": 70000 }), "port"),
            (json!({ "where": " " }), "where"),
            (json!({ "page-rows": 1_000_000 }), "page-rows"),
            (json!({ "client-cert": "a" }), "ca"),
            (json!({ "incremental": {} }), "incremental"),
            (json!({ "incremental": { "full": {}, "batch": { "column": "b" } } }), "incremental"),
            (json!({ "incremental": { "time": {} } }), "incremental.time.column"),
            (
                json!({ "incremental": { "flag": { "column": "f" } }, "ack": { "f": "2" } }),
                "incremental.flag",
            ),
            (json!({ "feedback": { "reason": "standing" } }), "feedback"),
            (json!({ "feedback": { "schema": "s" } }), "feedback.schema"),
            (json!({ "feedback": { "message": "reason" } }), "feedback"),
            (json!({ "feedback": { "table": "v", "message": "m" } }), "feedback.message"),
        ] {
            assert_eq!(told(&more), [at], "{more}");
        }
    }
}
