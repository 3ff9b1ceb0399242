//! Reading rows in order, a page at a time, as lines of JSON.

use std::io::Write as _;

use xinqiao_core::fault::Blame;

use super::config::{Database, Way};
use super::{SourceFault, fault};
use crate::wire::db::{Cell, Column, DbError, Kind, Query, Session};

/// A page ends early at this size, so that memory is bounded by it.
const PAGE_BYTES: usize = 8 << 20;
/// Times before this are none: `0000-00-00`, what a lax server made of a day that does not exist,
/// `-infinity`.
const FIRST_DAY: &str = "1000-01-01";
/// Rows without a time that are taken: all are remembered.
pub(super) const MOST_UNDATED: usize = 10_000;
/// A time further ahead than this many seconds is a slip of the pen, not a clock that is fast.
const AHEAD: i64 = 86_400;

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
    cell_bytes: usize,
}

/// Which rows a page is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// All.
    Whole,
    /// Those whose time is before this moment, and is one.
    Before(&'a str),
    /// Those whose time is none.
    Undated,
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
    /// A column that had a cell which was left out.
    pub(super) too_large: Option<String>,
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
                Some(text) if text.len() > self.cell_bytes => {
                    // U+FFFD: the row is sent back for it (`text.damaged`), with its key.
                    let text = format!("\u{FFFD}(本格{}字节,过大,未取)", text.len());
                    serde_json::to_writer(&mut *out, &text).map_err(Into::into)
                }
                Some(text) => serde_json::to_writer(&mut *out, text).map_err(Into::into),
                None => out.write_all(b"null"),
            };
        }
    }

    /// A column of which a row has a cell that is too large.
    fn too_large(&self, cells: &[Cell<'_>]) -> Option<&Column> {
        let large =
            |cell: &Cell<'_>| cell.as_ref().is_some_and(|text| text.len() > self.cell_bytes);
        self.columns.iter().zip(cells).find(|(_, cell)| large(cell)).map(|(column, _)| column)
    }

    /// Whether rows can be after this one in order. What an earlier edition took of a column that was
    /// NULL is an empty text, which no number or moment is.
    pub(super) fn orders(&self, after: &[String]) -> bool {
        let may_be_empty = |column: &Column| column.kind == Kind::Text;
        let mut cells = self.order.iter().zip(after);
        cells.all(|(column, text)| !text.is_empty() || may_be_empty(column))
    }

    /// A row's key as it may be told: numbers, but no words.
    fn shown_key(&self, order: &[String]) -> String {
        let cells = self.key.iter().filter_map(|at| self.order.get(*at).zip(order.get(*at)));
        let shown = cells.map(|(column, text)| match column.kind {
            Kind::Number => format!("{}={text}", column.name),
            _ => format!("{}=***", column.name),
        });
        shown.collect::<Vec<_>>().join("、")
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
        let cell_bytes = self.cell_bytes;
        Ok(Plan { heads: heads.collect(), columns, order, key: key.collect(), cell_bytes })
    }

    /// Rows after `after` in order, at most a page, each given to `take`. A cell that is too large is
    /// left out, so that its row holds up no other.
    pub(super) async fn read(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        after: Option<&[String]>,
        part: Part<'_>,
        take: &mut (dyn FnMut(&Taken<'_>) + Send),
    ) -> Result<Read, SourceFault> {
        let query = self.select(plan, after, part);
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
            let order: Vec<String> =
                order.iter().map(|cell| cell.as_deref().unwrap_or_default().to_owned()).collect();
            if read.last.as_ref().is_some_and(|last| *last == order) {
                odd = Some((
                    "source.key-not-unique",
                    format!(
                        "参数 key 的列({})合起来不唯一(如 {}),不能保证不漏行",
                        self.key.join("、"),
                        plan.shown_key(&order)
                    ),
                ));
                return Ok(());
            }
            if let Some(column) = plan.too_large(cells) {
                read.too_large = Some(column.name.clone());
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

    /// What there is to tell of rows that stand in the table and are not taken: no order reaches them.
    pub(super) async fn left_out(
        &self,
        session: &mut dyn Session,
        plan: &Plan,
        after: Option<&[String]>,
    ) -> Result<Option<SourceFault>, SourceFault> {
        let table = &self.table.shown;
        let engine = self.access.engine();
        let mut null = self.from(Query::new(engine, "SELECT '1'"));
        null.push(" AND (");
        for (at, column) in plan.order.iter().enumerate() {
            null.push(if at == 0 { "" } else { " OR " }).column(&column.name).push(" IS NULL");
        }
        null.push(")");
        if self.any(session, null).await? {
            let columns = plan.order.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
            let text = format!(
                "表 {table} 中有的行没有取:列 {} 为空(NULL)的行无法排序,请委办局补全",
                columns.join("、")
            );
            return Ok(Some(fault("source.null-key", Blame::Agency, text)));
        }
        let (Way::Ordered { column, lag, .. }, Some(first)) = (&self.way, plan.order.first())
        else {
            return Ok(None);
        };
        if lag.is_some() {
            let ahead = self.settled(session, -AHEAD).await?;
            let mut future = self.from(Query::new(engine, "SELECT '1'"));
            future
                .push(" AND ")
                .column(&first.name)
                .push(" > ")
                .value(moment(first, &ahead), first.kind);
            if self.any(session, future).await? {
                let text = format!(
                    "表 {table} 中有的行没有取:列 {column} 的时间比现在晚一天以上,到了那时才会取,请委办局核对"
                );
                return Ok(Some(fault("source.future-time", Blame::Agency, text)));
            }
        } else if let Some(taken) = after.and_then(<[String]>::first) {
            let mut beyond = self.from(Query::new(engine, "SELECT '1'"));
            beyond.push(" AND ").column(&first.name).push(" >= ").value(taken, first.kind);
            let some = self.from(Query::new(engine, "SELECT '1'"));
            if !self.any(session, beyond).await? && self.any(session, some).await? {
                let text = format!(
                    "表 {table} 中列 {column} 的最大值小于已取到的值:可能清空后重新编了号,新的行取不到。确是重新编号的,请写(或改)incremental.batch.start,即从头取起"
                );
                return Ok(Some(fault("source.numbered-anew", Blame::Agency, text)));
            }
        }
        Ok(None)
    }

    /// Whether a query gives a row.
    async fn any(&self, session: &mut dyn Session, mut query: Query) -> Result<bool, SourceFault> {
        query.push(" LIMIT 1");
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
        lag: i64,
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

    fn select(&self, plan: &Plan, after: Option<&[String]>, part: Part<'_>) -> Query {
        let names = plan.columns.iter().chain(&plan.order).map(|column| column.name.as_str());
        let mut query = Query::new(self.access.engine(), "SELECT ");
        query.cells(names);
        let mut query = self.from(query);
        let start = match &self.way {
            Way::Ordered { start, .. } if !matches!(part, Part::Undated) => start.as_deref(),
            _ => None,
        };
        // Where NULL comes last, nothing could follow it.
        for column in &plan.order {
            query.push(" AND ").column(&column.name).push(" IS NOT NULL");
        }
        if let Some(first) = plan.order.first() {
            let mut than = |sign: &str, value: &str| {
                query.push(" AND ").column(&first.name).push(sign).value(value, first.kind);
            };
            match part {
                Part::Whole => {}
                Part::Before(before) => {
                    than(" >= ", FIRST_DAY);
                    than(" < ", moment(first, before));
                }
                Part::Undated => than(" < ", FIRST_DAY),
            }
            match (after, start) {
                (None, Some(start)) => than(" > ", start),
                (None, None) => {}
                (Some(after), _) => {
                    query.push(" AND ");
                    beyond(&mut query, &plan.order, after);
                }
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

/// A moment as it is compared with a column: a day is settled when it is over.
fn moment<'a>(column: &Column, moment: &'a str) -> &'a str {
    if column.kind == Kind::Date { moment.get(..10).unwrap_or(moment) } else { moment }
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
