//! Verdicts as rows (反馈): into a table of their own, or into columns of the agency's table.
//!
//! | name | meaning | default |
//! |---|---|---|
//! | `table`, `schema` | the feedback table; without it the columns stand in the agency's own | none |
//! | `standing`, `reason`, `at` | names of the columns; without `at` no time is written beside rows | `standing`, `reason`, `told_at` |
//! | `words` | `{taken, accepted, refused, held}`: what is written for each standing | the same words |
//! | `reason-chars` | a longer reason is cut | 500 |
//! | `message` | beside rows: a column for the message's number; an older message never overwrites | none |
//!
//! A feedback table has the columns of `key`, and `message_no` and `row_no`, which together are its
//! primary key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;
use time::macros::{format_description, offset};
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{BoxFuture, Fault, FeedbackRow, Standing, VerdictSink};

use super::ack::assign;
use super::config::{Table, names};
use super::position::short;
use super::{SourceFault, db_fault};
use crate::wire::db::{Access, Engine, Kind, Purpose, Query};
use crate::wire::params::Params;

/// Keys whose newest message is remembered where no column does; beyond that all are forgotten.
const MOST_NEWEST: usize = 200_000;

/// Where verdicts go.
pub(super) struct Feedback {
    access: Access,
    table: Table,
    /// A table of verdicts, or the agency's own.
    own_table: bool,
    key: Vec<String>,
    standing: String,
    reason: String,
    at: Option<String>,
    words: [String; 4],
    reason_chars: usize,
    /// A column of the agency's table that holds the newest message told of.
    message: Option<String>,
    /// The newest message told of, by the digest of the key, as far as this life knows.
    newest: Mutex<HashMap<u64, u64>>,
    /// A column of the agency's table that must not follow an UPDATE by itself: rows are taken by it.
    keep: Option<String>,
}

impl Feedback {
    pub(super) fn from_params(
        params: &mut Params<'_>,
        access: &Access,
        table: &Table,
        key: &[String],
        keep: Option<&str>,
    ) -> Option<Self> {
        let mut given = params.object("feedback")?;
        let engine = access.engine();
        let schema = given.text("schema");
        let own = given.text("table");
        if own.is_none() && schema.is_some() {
            given.problem_of("schema", "要与 feedback.table 一起用");
        }
        let standing = given.text("standing").unwrap_or_else(|| "standing".to_owned());
        let reason = given.text("reason").unwrap_or_else(|| "reason".to_owned());
        let at = given.text("at").or_else(|| own.is_some().then(|| "told_at".to_owned()));
        let mut word = ["taken", "accepted", "refused", "held"].map(str::to_owned);
        if let Some(mut words) = given.object("words") {
            for (slot, key) in word.iter_mut().zip(["taken", "accepted", "refused", "held"]) {
                *slot = words.text(key).unwrap_or_else(|| slot.clone());
            }
            words.done();
        }
        let reason_chars = usize::try_from(given.number("reason-chars", 500)).unwrap_or(500);
        let message = given.text("message");
        if own.is_some() && message.is_some() {
            given.problem_of("message", "反馈表已有 message_no,不写此参数");
        }
        for (param, name) in [
            ("schema", &schema),
            ("table", &own),
            ("standing", &Some(standing.clone())),
            ("reason", &Some(reason.clone())),
            ("at", &at),
            ("message", &message),
        ] {
            names(&given, param, &Vec::from_iter(name.clone()));
        }
        let mut columns: Vec<_> =
            [&standing, &reason].into_iter().chain(&at).chain(&message).collect();
        let given_columns = columns.len();
        columns.sort_unstable();
        columns.dedup();
        if columns.len() < given_columns {
            given.problem("standing、reason、at、message 须是不同的列");
        }
        given.done();
        let own_table = own.is_some();
        let table = match own {
            Some(name) => Table {
                sql: engine.table(schema.as_deref(), &name),
                shown: schema.map(|schema| format!("{schema}.")).unwrap_or_default() + &name,
            },
            None => table.clone(),
        };
        let (access, key) = (access.clone(), key.to_vec());
        Some(Self {
            access,
            table,
            own_table,
            key,
            standing,
            reason,
            at,
            words: word,
            reason_chars,
            message,
            newest: Mutex::default(),
            keep: keep.map(str::to_owned),
        })
    }

    /// Whether a column of the agency's table is one that verdicts are written to.
    pub(super) fn writes_beside(&self, column: &str) -> bool {
        let engine = self.access.engine();
        let own = [&self.standing, &self.reason].into_iter().chain(&self.at).chain(&self.message);
        !self.own_table && own.into_iter().any(|own| engine.same_name(own, column))
    }

    async fn write(&self, rows: &[FeedbackRow]) -> Result<(), SourceFault> {
        let told = |error| {
            let mut fault = db_fault(error, &self.table.shown, "feedback.table", |column| {
                let ours =
                    [("feedback.standing", &self.standing), ("feedback.reason", &self.reason)];
                let at = self.at.iter().map(|at| ("feedback.at", at));
                let at = at.chain(self.message.iter().map(|own| ("feedback.message", own)));
                let key = self.key.iter().map(|key| ("key", key));
                let mut all = ours.into_iter().chain(at).chain(key);
                all.find(|(_, own)| self.access.engine().same_name(own, column)).map(|(p, _)| p)
            });
            fault.text = format!("反馈未写成:{}", fault.text);
            fault
        };
        let mut session = self.access.open(Purpose::Write).await.map_err(told)?;
        let engine = self.access.engine();
        session.execute(&Query::new(engine, "BEGIN")).await.map_err(told)?;
        for row in rows.iter().filter(|row| self.own_table || !self.overtaken(row)) {
            let query = if self.own_table { self.upsert(row) } else { self.beside(row) };
            if let Some(query) = query {
                session.execute(&query).await.map_err(told)?;
            }
        }
        session.execute(&Query::new(engine, "COMMIT")).await.map_err(told)?;
        if !self.own_table {
            self.remember(rows);
        }
        Ok(())
    }

    /// Whether a later message had a row of this key: what it was told stands.
    fn overtaken(&self, row: &FeedbackRow) -> bool {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        key_digest(row).and_then(|key| newest.get(&key).copied()).is_some_and(|m| m > row.message)
    }

    fn remember(&self, rows: &[FeedbackRow]) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() > MOST_NEWEST {
            newest.clear();
        }
        for row in rows {
            if let Some(key) = key_digest(row) {
                let message = newest.entry(key).or_default();
                *message = row.message.max(*message);
            }
        }
    }

    /// Verdict columns and what stands in them.
    fn cells(&self, row: &FeedbackRow) -> Vec<(&str, String)> {
        let reason: String = row.reason.chars().take(self.reason_chars).collect();
        let [taken, accepted, refused, held] = &self.words;
        let word = match row.standing {
            Standing::Taken => taken,
            Standing::Accepted => accepted,
            Standing::Refused => refused,
            Standing::Held => held,
        };
        let mut cells = vec![(self.standing.as_str(), word.clone()), (&self.reason, reason)];
        cells.extend(self.at.as_deref().map(|at| (at, shanghai(row.at))));
        cells
    }

    fn upsert(&self, row: &FeedbackRow) -> Option<Query> {
        let engine = self.access.engine();
        let (message, number) = (row.message.to_string(), row.index.to_string());
        let verdict = self.cells(row);
        let key = self.key.iter().map(String::as_str).zip(row.cells.iter().map(Option::as_deref));
        let all: Vec<(&str, Option<&str>)> =
            [("message_no", Some(&*message)), ("row_no", Some(&*number))]
                .into_iter()
                .chain(key)
                .chain(verdict.iter().map(|(name, text)| (*name, Some(text.as_str()))))
                .collect();
        let columns: Vec<_> = all.iter().map(|(name, _)| engine.quoted(name)).collect();
        let mut query = Query::new(engine, "INSERT INTO ");
        query.push(&self.table.sql).push(" (").push(&columns.join(", ")).push(") VALUES (");
        for (at, (_, value)) in all.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " }).nullable(*value, Kind::Text);
        }
        query.push(match engine {
            Engine::Postgres => ") ON CONFLICT (message_no, row_no) DO UPDATE SET ",
            Engine::MySql => ") ON DUPLICATE KEY UPDATE ",
        });
        for (at, (name, _)) in verdict.iter().enumerate() {
            let name = engine.quoted(name);
            query.push(if at == 0 { "" } else { ", " });
            query.push(&match engine {
                Engine::Postgres => format!("{name} = EXCLUDED.{name}"),
                Engine::MySql => format!("{name} = VALUES({name})"),
            });
        }
        Some(query)
    }

    /// A row without its key is nobody's.
    fn beside(&self, row: &FeedbackRow) -> Option<Query> {
        let engine = self.access.engine();
        let key: Vec<&str> = row.cells.iter().map(Option::as_deref).collect::<Option<_>>()?;
        if key.len() != self.key.len() {
            return None;
        }
        let mut query = Query::new(engine, "UPDATE ");
        query.push(&self.table.sql).push(" AS t SET ");
        for (at, (name, text)) in self.cells(row).iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " });
            assign(&mut query, engine, name);
            query.value(text, Kind::Text);
        }
        let message = row.message.to_string();
        if let Some(own) = &self.message {
            query.push(", ");
            assign(&mut query, engine, own);
            query.value(&message, Kind::Number);
        }
        if let (Some(keep), Engine::MySql) = (&self.keep, engine) {
            query.push(", ");
            assign(&mut query, engine, keep);
            query.push(&engine.quoted(keep));
        }
        for (at, (name, value)) in self.key.iter().zip(key).enumerate() {
            query.push(if at == 0 { " WHERE " } else { " AND " }).column(name).push(" = ");
            query.value(value, Kind::Text);
        }
        if let Some(own) = &self.message {
            query.push(" AND (").column(own).push(" IS NULL OR ").column(own).push(" <= ");
            query.value(&message, Kind::Number).push(")");
        }
        Some(query)
    }
}

/// Of a row with a whole key.
fn key_digest(row: &FeedbackRow) -> Option<u64> {
    let key: Vec<&[u8]> =
        row.cells.iter().map(|cell| cell.as_ref().map(String::as_bytes)).collect::<Option<_>>()?;
    Some(short(key))
}

impl VerdictSink for Feedback {
    fn columns(&self) -> &[String] {
        &self.key
    }

    fn give<'a>(&'a self, rows: &'a [FeedbackRow]) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(());
            }
            self.write(rows).await.map_err(|fault| Box::new(fault) as Fault)
        })
    }
}

/// `2026-11-23 10:00:00` in Shanghai.
fn shanghai(at: Timestamp) -> String {
    let moment =
        i64::try_from(at.0 / 1000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    moment.and_then(|at| at.to_offset(offset!(+8)).format(format).ok()).unwrap_or_default()
}
