//! `front-db`: writes records into the platform's front-end database (前置库), a row for every change.
//! The table, precise enough to write a receiver: `gateway/docs/formats/front-db.zh.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::Mutex;
use xinqiao_core::model::{Operation, TargetId};
use xinqiao_core::spi::{
    BoxFuture, Outcome, ParamProblem, Parcel, Sealer, Secrets, Target, TargetError, TargetFactory,
};

use crate::wire::db::{
    Access, Cell, Class, DbError, Engine, Kind, Purpose, Query, Session, bad_name,
};
use crate::wire::digest::digest;
use crate::wire::params::{Params, Problems};

mod columns;

/// The kind `front-db`. Parameters:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `engine` | `postgres` or `mysql` | `postgres` |
/// | `host`, `port`, `database`, `user`, `password`, `ca`, … | as of the sources | |
/// | `schema` | of the tables | none |
/// | `tables` | dataset and table | required |
/// | `columns` | field code and column, where they differ | none |
/// | `guid`, `version`, `batch`, `flag`, `created` | names of the gateway's own columns | `guid`, `version`, `batch_no`, `change_flag`, `create_time` |
pub(super) struct FrontDb;

struct FrontDbTarget {
    access: Access,
    /// By dataset: as in a statement, and as people write it.
    tables: BTreeMap<String, (String, String)>,
    schema: Option<String>,
    columns: HashMap<String, String>,
    own: Own,
    /// One connection, so that batches are written one after the other and their numbers ascend.
    open: Mutex<Option<Open>>,
}

/// Names of the gateway's own columns.
struct Own {
    guid: String,
    version: String,
    batch: String,
    flag: String,
    created: String,
}

struct Open {
    session: Box<dyn Session>,
    /// Of the tables asked for so far.
    tables: HashMap<String, Columns>,
}

/// Columns of a table.
#[derive(Default)]
struct Columns {
    all: Vec<String>,
    /// Those a withdrawal copies.
    copied: Vec<String>,
}

/// What a table holds of a record.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    version: u64,
    batch: u64,
}

impl Own {
    fn names(&self) -> [&str; 5] {
        let Self { guid, version, batch, flag, created } = self;
        [guid, version, batch, flag, created]
    }
}

impl TargetFactory for FrontDb {
    fn kind(&self) -> &'static str {
        "front-db"
    }

    fn build(
        &self,
        _: &TargetId,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Target>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let engines = [("postgres", Engine::Postgres), ("mysql", Engine::MySql)];
        let engine = params.choice("engine", &engines, Engine::Postgres);
        let access = Access::from_params(&mut params, engine, secrets);
        let name = |params: &Params<'_>, key: &str, name: &str| {
            if let Some(why) = bad_name(name) {
                params.problem_of(key, why);
            }
        };
        let schema = params.text("schema");
        if let Some(schema) = &schema {
            name(&params, "schema", schema);
        }
        let tables = params.pairs("tables", None);
        if tables.is_empty() {
            params.problem_of("tables", "缺少此参数:目录代码与表名,如 { admin-penalty: xzcf }");
        }
        let columns = params.pairs("columns", None);
        for (key, pairs) in [("tables", &tables), ("columns", &columns)] {
            for (code, column) in pairs {
                name(&params, &format!("{key}.{code}"), column);
            }
        }
        let mut text = |key, default: &str| {
            let text = params.text(key).unwrap_or_else(|| default.to_owned());
            name(&params, key, &text);
            text
        };
        let own = Own {
            guid: text("guid", "guid"),
            version: text("version", "version"),
            batch: text("batch", "batch_no"),
            flag: text("flag", "change_flag"),
            created: text("created", "create_time"),
        };
        params.done();
        let problems = problems.into_inner();
        if !problems.is_empty() {
            return Err(problems);
        }
        let table = |name: String| (engine.table(schema.as_deref(), &name), name);
        let tables = tables.into_iter().map(|(dataset, name)| (dataset, table(name))).collect();
        let columns = columns.into_iter().collect();
        let open = Mutex::new(None);
        Ok(Arc::new(FrontDbTarget { access, tables, schema, columns, own, open }))
    }
}

impl Target for FrontDbTarget {
    fn deliver<'a>(
        &'a self,
        batch: &'a [Parcel],
        sealer: Option<&'a dyn Sealer>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, TargetError>> {
        Box::pin(async move {
            if sealer.is_some() {
                let detail = "前置库逐列写入,不能加封数字信封,请去掉 seal".to_owned();
                return Err(TargetError::Rejected { detail });
            }
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            let mut held = self.open.lock().await;
            // After a failure the connection is not used again: what was not committed is rolled back.
            let mut open = match held.take() {
                Some(open) => open,
                None => Open {
                    session: self
                        .access
                        .open(Purpose::Write)
                        .await
                        .map_err(|e| whole(&e, false))?,
                    tables: HashMap::new(),
                },
            };
            match self.write(&mut open, batch).await {
                Ok(outcomes) => {
                    *held = Some(open);
                    Ok(outcomes)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn dedupes(&self) -> bool {
        true
    }
}

impl FrontDbTarget {
    /// A batch in one transaction, each parcel behind a savepoint.
    async fn write(&self, open: &mut Open, batch: &[Parcel]) -> Result<Vec<Outcome>, TargetError> {
        let before = |error: DbError| whole(&error, false);
        for dataset in batch.iter().map(|parcel| parcel.dataset.as_str()) {
            if let Some((sql, shown)) = self.tables.get(dataset) {
                self.know(open, sql, shown).await?;
            }
        }
        self.run(open, "BEGIN").await.map_err(before)?;
        let mut held = self.held(open, batch).await.map_err(before)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for parcel in batch {
            let Some((sql, shown)) = self.tables.get(parcel.dataset.as_str()) else {
                let message = format!("参数 tables 中没有目录 {} 的表", parcel.dataset.as_str());
                outcomes.push(Outcome::Later { code: "target.no-table".to_owned(), message });
                continue;
            };
            let Some((guid, version)) = named(&parcel.key) else {
                let detail = "记录的键不是约定的写法".to_owned();
                return Err(TargetError::Rejected { detail });
            };
            let known = held.entry((sql.clone(), guid.clone())).or_default();
            // The same version again, or one that a later one has overtaken.
            if known.version >= version {
                outcomes.push(Outcome::Accepted);
                continue;
            }
            let held_before = *known;
            let previous = match (parcel.operation, held_before.version) {
                (Operation::Withdraw, 1..) => {
                    self.previous(open, sql, &guid, held_before.version).await.map_err(before)?
                }
                _ => Vec::new(),
            };
            let there = open.tables.get(sql).map(|table| table.all.as_slice()).unwrap_or_default();
            let place = (sql.as_str(), shown.as_str(), there);
            let query = self.insert(place, parcel, (&guid, version), held_before, &previous)?;
            self.run(open, "SAVEPOINT parcel").await.map_err(before)?;
            match open.session.execute(&query).await {
                Ok(_) => {
                    self.run(open, "RELEASE SAVEPOINT parcel").await.map_err(before)?;
                    *known = Held { version, batch: held_before.batch + 1 };
                    outcomes.push(Outcome::Accepted);
                }
                Err(DbError::Server { state, class: Class::Row, .. }) => {
                    self.run(open, "ROLLBACK TO SAVEPOINT parcel").await.map_err(before)?;
                    // A connection believed lost may have committed the same in the meantime.
                    if state == DUPLICATE {
                        let alone = std::slice::from_ref(parcel);
                        let again = self.held(open, alone).await.map_err(before)?;
                        *known = again.into_values().next().unwrap_or_default();
                    }
                    if known.version >= version {
                        outcomes.push(Outcome::Accepted);
                        continue;
                    }
                    let message = format!("前置库不接受此条({}),表 {shown}", meaning(&state));
                    outcomes.push(Outcome::Refused { code: state, message });
                }
                Err(error) => return Err(before(error)),
            }
        }
        // From here on nobody knows without the answer.
        self.run(open, "COMMIT").await.map_err(|error| whole(&error, true))?;
        Ok(outcomes)
    }

    async fn run(&self, open: &mut Open, sql: &str) -> Result<u64, DbError> {
        open.session.execute(&Query::new(self.access.engine(), sql)).await
    }

    /// Asks which columns a table has, once a connection, and whether ours are among them.
    async fn know(&self, open: &mut Open, sql: &str, shown: &str) -> Result<(), TargetError> {
        if open.tables.contains_key(sql) {
            return Ok(());
        }
        let columns = open.session.describe(&format!("SELECT * FROM {sql} WHERE 1 = 0")).await;
        let columns = columns.map_err(|error| whole(&error, false))?;
        let all: Vec<_> = columns.into_iter().map(|column| column.name).collect();
        for own in self.own.names() {
            self.present(&all, shown, own)?;
        }
        let kept = self.kept_by_database(open.session.as_mut(), shown).await;
        let kept = kept.map_err(|error| whole(&error, false))?;
        let engine = self.access.engine();
        let is = |list: &[&str], name: &str| list.iter().any(|own| engine.same_name(own, name));
        let kept: Vec<&str> = kept.iter().map(String::as_str).collect();
        let copied = all.iter().filter(|name| !is(&self.own.names(), name) && !is(&kept, name));
        let columns = Columns { copied: copied.cloned().collect(), all };
        open.tables.insert(sql.to_owned(), columns);
        Ok(())
    }

    fn present(&self, there: &[String], shown: &str, column: &str) -> Result<(), TargetError> {
        if there.iter().any(|name| self.access.engine().same_name(name, column)) {
            return Ok(());
        }
        let detail = format!("前置库表 {shown} 中没有列 {column},请补列,或用参数 columns 改列名");
        Err(TargetError::Rejected { detail })
    }

    /// What the tables hold of a batch's records; waits for others who write them.
    async fn held(
        &self,
        open: &mut Open,
        batch: &[Parcel],
    ) -> Result<HashMap<(String, String), Held>, DbError> {
        let mut held = HashMap::new();
        for (dataset, (sql, _)) in &self.tables {
            let of = batch.iter().filter(|parcel| parcel.dataset.as_str() == dataset);
            let mut guids: Vec<_> =
                of.filter_map(|parcel| named(&parcel.key)).map(|n| n.0).collect();
            guids.sort_unstable();
            guids.dedup();
            if guids.is_empty() {
                continue;
            }
            let engine = self.access.engine();
            let Own { guid, version, batch, .. } = &self.own;
            let mut query = Query::new(engine, "SELECT ");
            query.cells([guid.as_str(), version, batch]);
            query.push(" FROM ").push(sql).push(" AS t WHERE ").column(guid).push(" IN (");
            for (at, guid) in guids.iter().enumerate() {
                query.push(if at == 0 { "" } else { ", " }).value(guid, Kind::Text);
            }
            query.push(") FOR UPDATE");
            let mut each = |cells: &[Cell<'_>]| {
                if let [Some(guid), version, batch] = cells {
                    let number = |cell: &Cell<'_>| {
                        cell.as_deref().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
                    };
                    let known: &mut Held = held.entry((sql.clone(), guid.to_string())).or_default();
                    known.version = known.version.max(number(version));
                    known.batch = known.batch.max(number(batch));
                }
                Ok(())
            };
            open.session.rows(&query, &mut each).await?;
        }
        Ok(held)
    }

    /// What was last published of a record. A withdrawal repeats it, so that it stands where columns
    /// must be filled, and says what it takes down.
    async fn previous(
        &self,
        open: &mut Open,
        sql: &str,
        guid: &str,
        version: u64,
    ) -> Result<Vec<(String, Option<String>)>, DbError> {
        let engine = self.access.engine();
        let Own { guid: g, version: v, .. } = &self.own;
        let names = open.tables.get(sql).map(|table| table.copied.clone()).unwrap_or_default();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Query::new(engine, "SELECT ");
        query.cells(names.iter().map(String::as_str)).push(" FROM ").push(sql);
        query.push(" AS t WHERE ").column(g).push(" = ").value(guid, Kind::Text);
        query.push(" AND ").column(v).push(" = ").value(&version.to_string(), Kind::Number);
        let mut previous = Vec::new();
        let mut each = |cells: &[Cell<'_>]| {
            let cells = cells.iter().map(|cell| cell.as_deref().map(str::to_owned));
            previous = names.iter().cloned().zip(cells).collect();
            Ok(())
        };
        open.session.rows(&query, &mut each).await?;
        Ok(previous)
    }

    fn insert(
        &self,
        (sql, shown, there): (&str, &str, &[String]),
        parcel: &Parcel,
        (guid, version): (&str, u64),
        known: Held,
        previous: &[(String, Option<String>)],
    ) -> Result<Query, TargetError> {
        let engine = self.access.engine();
        let flag = match (parcel.operation, known.version) {
            (Operation::Withdraw, _) => "3",
            (Operation::Upsert, 0) => "1",
            (Operation::Upsert, _) => "2",
        };
        let (version, batch) = (version.to_string(), (known.batch + 1).to_string());
        let fields = parcel.fields.iter().map(|(code, text)| {
            (self.columns.get(&**code).map_or(&**code, String::as_str), text.as_str())
        });
        let fields: Vec<(&str, &str)> = fields.collect();
        for (column, _) in &fields {
            self.present(there, shown, column)?;
        }
        let given = |name: &str| fields.iter().any(|(own, _)| engine.same_name(own, name));
        let previous = previous.iter().filter(|(name, _)| !given(name));
        let own: [(&str, &str); 4] = [
            (&self.own.guid, guid),
            (&self.own.version, &version),
            (&self.own.batch, &batch),
            (&self.own.flag, flag),
        ];
        let filled = own.into_iter().chain(fields.iter().copied());
        let filled = filled.map(|(name, text)| (name, Some(text)));
        let cells: Vec<(&str, Option<&str>)> =
            filled.chain(previous.map(|(name, cell)| (name.as_str(), cell.as_deref()))).collect();
        let mut query = Query::new(engine, "INSERT INTO ");
        query.push(sql).push(" (").push(&engine.quoted(&self.own.created));
        for (name, _) in &cells {
            query.push(", ").push(&engine.quoted(name));
        }
        query.push(") VALUES (CURRENT_TIMESTAMP");
        for (_, cell) in cells {
            query.push(", ").nullable(cell, Kind::Text);
        }
        query.push(")");
        Ok(query)
    }
}

/// SQLSTATE of a row that is there already.
const DUPLICATE: &str = "23505";

/// A record's GUID and the version, of a parcel's key.
fn named(key: &str) -> Option<(String, u64)> {
    let (record, version) = key.rsplit_once('-')?;
    let hex = format!("{:032x}", digest([record.as_bytes()]));
    let part = |range: std::ops::Range<usize>| hex.get(range);
    let guid = [part(0..8)?, part(8..12)?, part(12..16)?, part(16..20)?, part(20..32)?].join("-");
    Some((guid, version.parse().ok().filter(|version| *version > 0)?))
}

/// What an error means for the whole batch. Before the commit nothing has been taken for certain.
fn whole(error: &DbError, committing: bool) -> TargetError {
    let detail = error.to_string();
    match error {
        DbError::Server { class: Class::Denied, .. } => TargetError::Rejected {
            detail: format!("{detail};请检查参数 user、password 和表的权限"),
        },
        DbError::Server { class: Class::NoDatabase, .. } => {
            TargetError::Rejected { detail: format!("{detail};请检查参数 database") }
        }
        DbError::Server { class: Class::NoTable, .. } => {
            TargetError::Rejected { detail: format!("{detail};请检查参数 tables") }
        }
        DbError::Server { class: Class::NoColumn | Class::Other, .. } if !committing => {
            TargetError::Rejected { detail }
        }
        _ if committing => TargetError::Unknown { detail },
        _ => TargetError::NotTaken { detail, retry_after: None },
    }
}

/// What the commonest reasons mean, in words.
fn meaning(state: &str) -> &'static str {
    match state {
        "22001" | "1406" => "文字过长",
        "22003" | "1264" => "数字超出范围",
        "22007" | "22008" | "1292" => "日期写法不符",
        "23502" | "1048" | "1364" => "必填列为空",
        "23505" => "与已有的行重复",
        "23503" | "1452" => "引用的数据不存在",
        "23514" | "3819" | "4025" => "不符合表的检查约束",
        "22021" | "1366" => "有不能存入的字符或数字",
        _ if state.starts_with("23") => "不符合表的约束",
        _ => "值与列的类型不符",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_one_guid_whatever_its_version() {
        let (one, first) = named("5be1aa-1").unwrap();
        let (same, second) = named("5be1aa-12").unwrap();
        assert_eq!((&one, first, second), (&same, 1, 12));
        assert_eq!(one.len(), 36);
        assert_ne!(named("5be1ab-1").unwrap().0, one);
        for bad in ["", "abc", "abc-", "abc-0", "abc-x"] {
            assert!(named(bad).is_none(), "{bad}");
        }
    }
}
