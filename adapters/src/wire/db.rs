//! Databases: what sources and targets ask of one. A [`Session`] answers queries as text cells and
//! executes statements; everything above it is the same for every engine.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use xinqiao_core::spi::{BoxFuture, Secrets};

use super::dial::{DialError, Outbound};
use super::params::Params;

mod mysql;
mod postgres;

/// Most bytes of one row as it travels: more is refused before it is held.
const ROW_BYTES: usize = 16 << 20;
/// Most columns a table may have (PostgreSQL 1,600, MySQL 4,096).
const MOST_COLUMNS: usize = 1_024;

/// Which product, by the language it speaks on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// PostgreSQL, and what speaks like it (人大金仓 KingbaseES, openGauss).
    Postgres,
    /// MySQL 5.6 and MariaDB 10.0 or later.
    MySql,
}

/// Where a database is and how to get in.
#[derive(Clone)]
pub(crate) struct Access {
    engine: Engine,
    host: String,
    port: u16,
    database: String,
    user: String,
    password: String,
    tls: Option<Tls>,
    outbound: Outbound,
    connect: Duration,
    statement: Duration,
}

/// PEM files of one link.
#[derive(Clone)]
struct Tls {
    ca: String,
    identity: Option<(String, String)>,
    /// What PostgreSQL's connection uses; MySQL's driver makes its own of the same files.
    config: std::sync::Arc<rustls::ClientConfig>,
}

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Every transaction is read-only, so that a read-only account suffices.
    Read,
    /// Values that do not fit are errors, never cut or replaced.
    Write,
}

/// An open connection. Closes when dropped; what was not committed is then rolled back.
pub(crate) trait Session: Send {
    /// The columns a query has, without running it.
    fn describe<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<Vec<Column>, DbError>>;
    /// Gives every row of a query to `each`, one at a time. After an error the session is spent.
    fn rows<'a>(
        &'a mut self,
        query: &'a Query,
        each: &'a mut Each<'_>,
    ) -> BoxFuture<'a, Result<(), DbError>>;
    /// Executes a statement; gives the count of rows it touched.
    fn execute<'a>(&'a mut self, query: &'a Query) -> BoxFuture<'a, Result<u64, DbError>>;
}

/// What takes the cells of one row.
pub(crate) type Each<'e> = dyn FnMut(&[Cell<'_>]) -> Result<(), DbError> + Send + 'e;

/// A cell as the database writes it; what is not UTF-8 has become U+FFFD, which the rules flag.
pub(crate) type Cell<'a> = Option<Cow<'a, str>>;

/// A column of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: Kind,
}

/// What a column holds, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number: compared as one.
    Number,
    /// A day without time.
    Date,
    /// Bytes, which no record can carry.
    Bytes,
    /// Characters, of which there may be none.
    Text,
    /// All else, such as a moment: no value of it is written as an empty text.
    Other,
}

/// Why a database did not do as asked. No text holds a cell's value.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum DbError {
    /// No connection.
    #[error("连不上数据库:{0}")]
    Unreachable(String),
    /// The TLS handshake failed.
    #[error("TLS握手失败:{0}")]
    Tls(String),
    /// The server answered with an error.
    #[error("数据库报错 {state}{}", .text.as_ref().map(|text| format!(":{text}")).unwrap_or_default())]
    Server {
        /// SQLSTATE, five characters; of MySQL's own errors without one, its number.
        state: String,
        /// What it says, where that cannot hold a value: names of tables and columns.
        text: Option<String>,
        /// What kind of error.
        class: Class,
    },
    /// The connection broke, or what came is not the protocol.
    #[error("与数据库的连接中断:{0}")]
    Broken(String),
    /// No answer in time.
    #[error("数据库在{0}秒内没有答复")]
    Slow(u64),
    /// Something is larger than allowed.
    #[error("{0}")]
    TooLarge(String),
}

/// What kind of error a server tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Who asks, or what for, is not allowed.
    Denied,
    /// The database itself is not there.
    NoDatabase,
    /// The table is not there.
    NoTable,
    /// A column is not there.
    NoColumn,
    /// The values of a row do not fit.
    Row,
    /// Others are in the way; the same may work later.
    Busy,
    /// All else.
    Other,
}

impl Engine {
    /// A name as it stands in a statement. Quotes inside are doubled, so a name is never more than
    /// a name.
    pub(crate) fn quoted(self, name: &str) -> String {
        match self {
            Self::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
            Self::MySql => format!("`{}`", name.replace('`', "``")),
        }
    }

    /// A table's name, with its schema if it has one.
    pub(crate) fn table(self, schema: Option<&str>, name: &str) -> String {
        match schema {
            Some(schema) => format!("{}.{}", self.quoted(schema), self.quoted(name)),
            None => self.quoted(name),
        }
    }

    /// Whether two column names are one.
    pub(crate) fn same_name(self, one: &str, other: &str) -> bool {
        match self {
            Self::Postgres => one == other,
            Self::MySql => one.to_lowercase() == other.to_lowercase(),
        }
    }

    /// A column of the table `t` as text.
    fn cell(self, name: &str) -> String {
        let name = self.quoted(name);
        match self {
            Self::Postgres => format!("t.{name}::text"),
            Self::MySql => format!("t.{name}"),
        }
    }

    /// Begins a transaction that sees one moment of the database.
    pub(crate) fn begin_snapshot(self) -> &'static str {
        match self {
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Self::MySql => "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        }
    }

    /// A query for the moment `seconds` ago (ahead, if negative) by the database's own clock, as
    /// `2026-11-23 10:00:00`.
    pub(crate) fn moment_ago(self, seconds: i64) -> String {
        match self {
            Self::Postgres => format!(
                "SELECT to_char(LOCALTIMESTAMP - interval '{seconds} seconds', 'YYYY-MM-DD HH24:MI:SS')"
            ),
            Self::MySql => {
                format!(
                    "SELECT DATE_FORMAT(NOW() - INTERVAL {seconds} SECOND, '%Y-%m-%d %H:%i:%s')"
                )
            }
        }
    }
}

/// Why a name cannot be one of a table or a column (Chinese).
pub(crate) fn bad_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("不能为空");
    }
    if name.chars().count() > 64 {
        return Some("名称不超过64个字符");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '"' | '`' | '\'' | '\\' | ';')) {
        return Some("名称不能含引号、反斜杠、分号和控制字符");
    }
    None
}

/// A statement in the making: its text, and what is bound to it.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    engine: Engine,
    sql: String,
    values: Vec<String>,
}

impl Query {
    /// Begins with a text that holds no value.
    pub(crate) fn new(engine: Engine, sql: impl Into<String>) -> Self {
        Self { engine, sql: sql.into(), values: Vec::new() }
    }

    /// Adds text that holds no value.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds columns of the table `t`, as text.
    pub(crate) fn cells<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> &mut Self {
        let cells: Vec<_> = names.into_iter().map(|name| self.engine.cell(name)).collect();
        self.push(&cells.join(", "))
    }

    /// Adds a column of the table `t`.
    pub(crate) fn column(&mut self, name: &str) -> &mut Self {
        let name = self.engine.quoted(name);
        self.push("t.").push(&name)
    }

    /// Adds a value. PostgreSQL binds it; for MySQL it becomes a literal that has no quotes to leave
    /// by: a plain number, or hexadecimal digits.
    pub(crate) fn value(&mut self, value: &str, kind: Kind) -> &mut Self {
        match self.engine {
            Engine::Postgres => {
                self.values.push(value.to_owned());
                let _ = write!(self.sql, "${}", self.values.len());
            }
            Engine::MySql if kind == Kind::Number && is_number(value) => self.sql.push_str(value),
            Engine::MySql => {
                self.sql.push_str("_utf8mb4 X'");
                for byte in value.bytes() {
                    let _ = write!(self.sql, "{byte:02X}");
                }
                self.sql.push('\'');
            }
        }
        self
    }

    /// Adds a value or NULL.
    pub(crate) fn nullable(&mut self, value: Option<&str>, kind: Kind) -> &mut Self {
        match value {
            Some(value) => self.value(value, kind),
            None => self.push("NULL"),
        }
    }
}

/// `-12.50`: what stands in a statement without quotes.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(part)
}

impl Access {
    /// Reads `host`, `port`, `database`, `user`, `password`, `ca`, `client-cert`, `client-key`,
    /// `allow`, `connect-seconds` and `timeout-seconds`. With `ca` TLS is demanded.
    pub(crate) fn from_params(
        params: &mut Params<'_>,
        engine: Engine,
        secrets: &dyn Secrets,
    ) -> Self {
        let moment = Duration::from_millis(1);
        let host = params.need_text("host");
        let port = match engine {
            Engine::Postgres => 5432,
            Engine::MySql => 3306,
        };
        let port = u16::try_from(params.number("port", port)).unwrap_or_else(|_| {
            params.problem_of("port", "应为1到65535的整数");
            0
        });
        let database = params.need_text("database");
        let user = params.need_text("user");
        let password = params.need_secret("password", secrets);
        let connect = params.seconds("connect-seconds", Duration::from_secs(10), moment);
        let statement = params.seconds("timeout-seconds", Duration::from_secs(60), moment);
        let outbound = Outbound::from_params(params);
        outbound.check_host(params, "host", &host);
        let tls = Tls::from_params(params);
        Self { engine, host, port, database, user, password, tls, outbound, connect, statement }
    }

    /// Which product.
    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    /// Opens a session.
    pub(crate) async fn open(&self, purpose: Purpose) -> Result<Box<dyn Session>, DbError> {
        let opened = async {
            let session: Box<dyn Session> = match self.engine {
                Engine::Postgres => Box::new(postgres::open(self, purpose).await?),
                Engine::MySql => Box::new(mysql::open(self, purpose).await?),
            };
            Ok(session)
        };
        let opened = tokio::time::timeout(self.connect, opened).await;
        opened.unwrap_or_else(|_| {
            let text = format!("{}毫秒内未连通", self.connect.as_millis());
            Err(DbError::Unreachable(text))
        })
    }

    /// The server cancels first, so that it tells which statement; we wait a little longer.
    fn patience(&self) -> Duration {
        self.statement + Duration::from_secs(5)
    }
}

impl Tls {
    fn from_params(params: &mut Params<'_>) -> Option<Self> {
        let (ca, cert, key) =
            (params.text("ca"), params.text("client-cert"), params.text("client-key"));
        let Some(ca) = ca else {
            if cert.is_some() || key.is_some() {
                params.problem_of("ca", "写了 client-cert、client-key 的,须用此参数给出对方CA证书");
            }
            return None;
        };
        match super::tls::tls(Some(&ca), cert.as_deref(), key.as_deref()) {
            Ok(config) => Some(Self { ca, identity: cert.zip(key), config: config.into() }),
            Err((param, why)) => {
                params.problem_of(param, &why);
                None
            }
        }
    }
}

impl From<DialError> for DbError {
    fn from(error: DialError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// Waits no longer than the server itself would.
async fn patiently<T>(
    access: &Access,
    work: impl Future<Output = Result<T, DbError>>,
) -> Result<T, DbError> {
    let slow = |_| DbError::Slow(access.statement.as_secs().max(1));
    tokio::time::timeout(access.patience(), work).await.map_err(slow)?
}

fn too_many_columns() -> DbError {
    DbError::TooLarge(format!("超过{MOST_COLUMNS}列,请用参数 columns 只取需要的列"))
}

fn row_too_large() -> DbError {
    DbError::TooLarge(format!("一行超过{ROW_BYTES}字节,请用参数 columns 去掉大字段"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_more_than_a_name_and_a_value_never_more_than_a_value() {
        assert_eq!(Engine::Postgres.quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(Engine::MySql.quoted("a`b"), "`a``b`");
        assert_eq!(Engine::MySql.table(Some("库"), "表"), "`库`.`表`");
        for bad in ["", "a\"b", "a`b", "a'b", "a\\", "a;b", "a\nb", &"长".repeat(65)] {
            assert!(bad_name(bad).is_some(), "{bad}");
        }
        for good in ["CF_WSH", "罚款金额(万元)", "a b", "t$1"] {
            assert!(bad_name(good).is_none(), "{good}");
        }
        let mut query = Query::new(Engine::MySql, "SELECT ");
        query.value("' OR 1=1 -- ", Kind::Text).push(", ").value("1;--", Kind::Number);
        assert_eq!(query.sql, "SELECT _utf8mb4 X'27204F5220313D31202D2D20', _utf8mb4 X'313B2D2D'");
        let mut query = Query::new(Engine::MySql, "");
        query
            .value("-12.50", Kind::Number)
            .push(",")
            .value("12", Kind::Text)
            .nullable(None, Kind::Text);
        assert_eq!(query.sql, "-12.50,_utf8mb4 X'3132'NULL");
        let mut query = Query::new(Engine::Postgres, "");
        query.value("'", Kind::Text).push(",").value("1", Kind::Number);
        assert_eq!(
            (query.sql.as_str(), query.values),
            ("$1,$2", vec!["'".to_owned(), "1".to_owned()])
        );
    }

    #[test]
    fn only_plain_numbers_stand_without_quotes() {
        for good in ["0", "-1", "12.50", "18446744073709551615"] {
            assert!(is_number(good), "{good}");
        }
        for bad in ["", "-", ".", "1.", ".5", "1e5", "0x10", "1 2", "+1", "--1", "1.2.3", "１"] {
            assert!(!is_number(bad), "{bad}");
        }
    }
}
