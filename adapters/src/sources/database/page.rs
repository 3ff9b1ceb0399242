//! Reading rows in order, a page at a time, as lines of JSON.

use std::io::Write as _;

use xinqiao_core::fault::Blame;

use super::config::{Database, Way};
use super::{SourceFault, fault};
use crate::wire::db::{Cell, Column, DbError, Kind, Query, Session};

/// A page ends early at this size, so that memory is bounded by it.
const PAGE_BYTES: usize = 8 << 20;

/// What is read of a row, found by asking the database.
pub(super) struct Plan {
    /// Columns that go into the message.
    pub(super) columns: Vec<Column>,
    /// Their names as members of a JSON object: `"name":`.
    heads: Vec<Vec<u8>>,
    /// Columns the rows are ordered by; read after the others.
    pub(super) order: Vec<Column>,
    /// Where the columns of the key stand in the order.
    pub(super) key: Vec<usize>,
}

/// A row as it is read.
pub(super) struct Taken<'a> {
    /// `"a":"1","b":null`, without braces.
    pub(super) line: &'a [u8],
    /// The order columns.
    pub(super) order: &'a [String],
    /// The cells of [`Plan::columns`].
    pub(super) cells: &'a [Cell<'a>],
}

/// What a page came to.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) rows: usize,
    /// Order columns of the last row.
    pub(super) last: Option<Vec<String>>,
    /// There may be more rows after it.
    pub(super) more: bool,
}

impl Plan {
    /// Some columns of a row as members of a JSON object: `"a":"1","b":null`.
    pub(super) fn members(
        &self,
        out: &mut Vec<u8>,
        cells: &[Cell<'_>],
        of: impl Fn(&Column) -> bool,
    ) {
        let start = out.len();
        for ((column, head), cell) in self.columns.iter().zip(&self.heads).zip(cells) {
            if !of(column) {
                continue;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(head);
            // Writing to memory does not fail.
            let _ = match cell {
                Some(text) => serde_json::to_writer(&mut *out, text).map_err(Into::into),
                None => out.write_all(b"null"),
            };
        }
    }
}

impl Database {
    /// Asks what columns there are, and holds the parameters against them.
    pub(super) async fn plan(&self, session: &mut dyn Session) -> Result<Plan, SourceFault> {
        let engine = self.access.engine();
        let listed = self.named();
        let what = if self.columns.is_empty() {
            "*".to_owned()
        } else {
            listed.iter().map(|name| engine.quoted(name)).collect::<Vec<_>>().join(", ")
        };
        let sql = format!("SELECT {what} FROM {} WHERE 1 = 0", self.table.sql);
        let there = session.describe(&sql).await.map_err(|error| self.told(error))?;
        let find = |name: &str| {
            let found = there.iter().find(|column| engine.same_name(&column.name, name));
            found.cloned().ok_or_else(|| self.no_column(name))
        };
        for name in &listed {
            find(name)?;
        }
        let columns: Vec<Column> = if self.columns.is_empty() {
            there.iter().filter(|column| !self.writes(&column.name)).cloned().collect()
        } else {
            self.columns.iter().map(|name| find(name)).collect::<Result<_, _>>()?
        };
        if let Some(column) = columns.iter().find(|column| column.kind == Kind::Bytes) {
            let text = format!(
                "表 {} 的列 {} 是二进制类型,不能作为文字报送:请用参数 columns 只列需要的列",
                self.table.shown, column.name
            );
            return Err(fault("source.binary-column", Blame::Operator, text));
        }
        if matches!(self.way, Way::Full { .. })
            && columns.iter().any(|column| column.name.eq_ignore_ascii_case("_op"))
        {
            let text = format!("表 {} 已有名为 _op 的列,不能再加操作列", self.table.shown);
            return Err(fault("source.odd-answer", Blame::Operator, text));
        }
        let heads = columns.iter().map(|column| {
            let mut head = serde_json::to_vec(&column.name).unwrap_or_default();
            head.push(b':');
            head
        });
        let names = self.order();
        let order: Vec<Column> = names.iter().map(|name| find(name)).collect::<Result<_, _>>()?;
        let key = self.key.iter().filter_map(|key| names.iter().position(|name| name == key));
        Ok(Plan { heads: heads.collect(), columns, order, key: key.collect() })
    }

    /// Rows after `after` in order, at most a page, each given to `take`.
    pub(super) async fn read(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        after: Option<&[String]>,
        before: Option<&str>,
        take: &mut (dyn FnMut(&Taken<'_>) + Send),
    ) -> Result<Read, SourceFault> {
        let query = self.select(plan, after, before);
        let mut read = Read::default();
        let (mut bytes, mut cut) = (0, false);
        let mut odd = None;
        let mut line = Vec::new();
        let mut each = |cells: &[Cell<'_>]| {
            // What comes after a page's end or a fault is read past, so that the session stays good.
            if cut || odd.is_some() || read.rows >= self.page_rows {
                cut |= read.rows >= self.page_rows;
                return Ok(());
            }
            let (cells, order) = cells.split_at_checked(plan.columns.len()).unwrap_or_default();
            let too_large =
                |cell: &Cell<'_>| cell.as_ref().is_some_and(|text| text.len() > self.cell_bytes);
            if let Some(at) = cells.iter().position(too_large) {
                let name = plan.columns.get(at).map_or("", |column| &column.name);
                let limit = self.cell_bytes;
                odd = Some((
                    "source.too-large",
                    format!("列 {name} 有一格超过{limit}字节:请核对数据,或加大参数 cell-bytes"),
                ));
                return Ok(());
            }
            let order: Vec<String> =
                order.iter().map(|cell| cell.as_deref().unwrap_or_default().to_owned()).collect();
            if read.last.as_ref().is_some_and(|last| *last == order) {
                odd = Some((
                    "source.key-not-unique",
                    format!("参数 key 的列({})合起来不唯一,不能保证不漏行", self.key.join("、")),
                ));
                return Ok(());
            }
            line.clear();
            plan.members(&mut line, cells, |_| true);
            bytes += line.len();
            read.rows += 1;
            take(&Taken { line: &line, order: &order, cells });
            read.last = Some(order);
            cut = bytes >= PAGE_BYTES;
            Ok(())
        };
        session.rows(&query, &mut each).await.map_err(|error| self.told(error))?;
        read.more = cut || read.rows >= self.page_rows;
        match odd {
            None => Ok(read),
            Some((code, text)) => {
                let text = format!("表 {}:{text}", self.table.shown);
                Err(fault(code, Blame::Agency, text))
            }
        }
    }

    /// Whether rows stand in the table that no order can reach: a column of it is NULL.
    pub(super) async fn has_unreachable(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
    ) -> Result<bool, SourceFault> {
        let mut query = self.from(Query::new(self.access.engine(), "SELECT '1'"));
        query.push(" AND (");
        for (at, column) in plan.order.iter().enumerate() {
            query.push(if at == 0 { "" } else { " OR " }).column(&column.name).push(" IS NULL");
        }
        query.push(") LIMIT 1");
        let mut found = false;
        let mut each = |_: &[Cell<'_>]| {
            found = true;
            Ok(())
        };
        session.rows(&query, &mut each).await.map_err(|error| self.told(error))?;
        Ok(found)
    }

    /// The moment before which rows are settled, by the database's clock.
    pub(super) async fn settled(
        &self,
        session: &mut dyn Session,
        lag: u64,
    ) -> Result<String, SourceFault> {
        let engine = self.access.engine();
        let query = Query::new(engine, engine.moment_ago(lag));
        let mut moment = None;
        let mut each = |cells: &[Cell<'_>]| {
            moment = cells.first().cloned().flatten().map(|text| text.into_owned());
            Ok::<_, DbError>(())
        };
        session.rows(&query, &mut each).await.map_err(|error| self.told(error))?;
        moment.ok_or_else(|| self.told(DbError::Broken("没有给出时间".to_owned())))
    }

    fn select(&self, plan: &Plan, after: Option<&[String]>, before: Option<&str>) -> Query {
        let names = plan.columns.iter().chain(&plan.order).map(|column| column.name.as_str());
        let mut query = Query::new(self.access.engine(), "SELECT ");
        query.cells(names);
        let mut query = self.from(query);
        let start = match &self.way {
            Way::Ordered { start, .. } => start.as_deref(),
            Way::Queue { .. } | Way::Full { .. } => None,
        };
        if let Some(first) = plan.order.first() {
            if let Some(after) = after {
                query.push(" AND ");
                beyond(&mut query, &plan.order, after);
            } else if let Some(start) = start {
                query.push(" AND ").column(&first.name).push(" > ").value(start, first.kind);
            }
            if let Some(before) = before {
                // A day is settled when it is over.
                let day = before.get(..10).unwrap_or(before);
                let before = if first.kind == Kind::Date { day } else { before };
                query.push(" AND ").column(&first.name).push(" < ").value(before, first.kind);
            }
        }
        query.push(" ORDER BY ");
        for (at, column) in plan.order.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " }).column(&column.name);
        }
        query.push(&format!(" LIMIT {}", self.page_rows));
        query
    }

    /// ` FROM … WHERE …`, so far as the parameters choose rows.
    fn from(&self, mut query: Query) -> Query {
        query.push(" FROM ").push(&self.table.sql).push(" AS t WHERE ");
        match &self.filter {
            Some(filter) => query.push("(").push(filter).push(")"),
            None => query.push("1 = 1"),
        };
        if let Way::Queue { column, values } | Way::Full { flag: Some((column, values)), .. } =
            &self.way
        {
            query.push(" AND ").column(column).push(" IN (");
            for (at, value) in values.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).value(value, Kind::Text);
            }
            query.push(")");
        }
        query
    }
}

/// Rows after these values in order: `a >= x AND (a > x OR (a = x AND (b > y OR …)))`, which an index
/// on the columns serves in every engine.
fn beyond(query: &mut Query, order: &[Column], after: &[String]) {
    let Some(((first, rest), (value, values))) = order.split_first().zip(after.split_first())
    else {
        query.push("1 = 0");
        return;
    };
    if rest.is_empty() {
        query.column(&first.name).push(" > ").value(value, first.kind);
        return;
    }
    query.push("(").column(&first.name).push(" >= ").value(value, first.kind).push(" AND (");
    query.column(&first.name).push(" > ").value(value, first.kind).push(" OR (");
    query.column(&first.name).push(" = ").value(value, first.kind).push(" AND ");
    beyond(query, rest, values);
    query.push(")))");
}
