//! Telling the agency's table that rows were taken (回写), once there is a receipt.

use super::SourceFault;
use super::config::{Database, Way};
use super::page::Plan;
use super::position::{Mark, short};
use crate::wire::db::{Cell, Column, Engine, Query, Session};

/// Rows looked up and set by one statement.
const AT_ONCE: usize = 100;

impl Database {
    /// Sets the columns of `ack` on rows that still are as they were taken: one that has changed
    /// since is news, and stays. Doing it twice does nothing.
    pub(super) async fn acknowledge(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        marks: &[Mark],
    ) -> Result<(), SourceFault> {
        let engine = self.access.engine();
        let begin = Query::new(engine, "BEGIN");
        session.execute(&begin).await.map_err(|error| self.told(error))?;
        let key: Vec<&Column> = plan.key.iter().filter_map(|at| plan.order.get(*at)).collect();
        for marks in marks.chunks(AT_ONCE) {
            let names = plan.columns.iter().chain(key.iter().copied());
            let mut query = Query::new(engine, "SELECT ");
            query.cells(names.map(|column| column.name.as_str()));
            query.push(" FROM ").push(&self.table.sql).push(" AS t WHERE ");
            any_of(&mut query, &key, marks.iter().map(|mark| mark.key.as_slice()));
            query.push(" FOR UPDATE");
            let mut unchanged: Vec<Vec<String>> = Vec::new();
            let mut each = |cells: &[Cell<'_>]| {
                let (cells, key) = cells.split_at_checked(plan.columns.len()).unwrap_or_default();
                let key: Vec<String> =
                    key.iter().map(|cell| cell.as_deref().unwrap_or_default().to_owned()).collect();
                let row = row_digest(plan, cells);
                if marks.iter().any(|mark| mark.key == key && mark.row == row) {
                    unchanged.push(key);
                }
                Ok(())
            };
            session.rows(&query, &mut each).await.map_err(|error| self.told(error))?;
            if unchanged.is_empty() {
                continue;
            }
            let query = self.set(&key, &unchanged);
            session.execute(&query).await.map_err(|error| self.told(error))?;
        }
        let commit = Query::new(engine, "COMMIT");
        session.execute(&commit).await.map_err(|error| self.told(error))?;
        Ok(())
    }

    fn set(&self, key: &[&Column], rows: &[Vec<String>]) -> Query {
        let engine = self.access.engine();
        let mut query = Query::new(engine, "UPDATE ");
        query.push(&self.table.sql).push(" AS t SET ");
        for (at, (column, value)) in self.ack.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " });
            assign(&mut query, engine, column);
            match value.as_str() {
                "{now}" => query.push("CURRENT_TIMESTAMP"),
                value => query.value(value, crate::wire::db::Kind::Text),
            };
        }
        if let (Way::Ordered { column, .. }, Engine::MySql) = (&self.way, engine) {
            // A column that follows every UPDATE by itself would make the row look new.
            query.push(", ");
            assign(&mut query, engine, column);
            query.push(&engine.quoted(column));
        }
        query.push(" WHERE ");
        any_of(&mut query, key, rows.iter().map(Vec::as_slice));
        query
    }
}

/// `name = `, as UPDATE wants it: PostgreSQL allows no alias there, MySQL needs none.
pub(super) fn assign(query: &mut Query, engine: Engine, column: &str) {
    query.push(&engine.quoted(column)).push(" = ");
}

/// Digest of a row's cells, the same as of the line that was sent.
pub(super) fn row_digest(plan: &Plan, cells: &[Cell<'_>]) -> u64 {
    let mut line = Vec::new();
    plan.members(&mut line, cells, |_| true);
    short([line.as_slice()])
}

/// `((a = x AND b = y) OR …)`.
fn any_of<'a>(query: &mut Query, key: &[&Column], rows: impl Iterator<Item = &'a [String]>) {
    query.push("(");
    for (at, row) in rows.enumerate() {
        query.push(if at == 0 { "(" } else { " OR (" });
        for (at, (column, value)) in key.iter().zip(row).enumerate() {
            query.push(if at == 0 { "" } else { " AND " });
            query.column(&column.name).push(" = ").value(value, column.kind);
        }
        query.push(")");
    }
    query.push(")");
}
