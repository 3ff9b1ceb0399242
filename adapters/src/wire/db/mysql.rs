//! MySQL's and MariaDB's session, by mysql_async. Queries go by the text protocol: cells come as
//! the server writes them, also a date of zeros.

use mysql_async::consts::{ColumnFlags, ColumnType};
use mysql_async::prelude::Queryable;
use mysql_async::{
    ClientIdentity, Conn, DriverError, Error, IoError, OptsBuilder, SslOpts, TlsError, Value,
};
use std::path::PathBuf;
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::BoxFuture;

use super::{
    Access, Class, Column, DbError, Each, Kind, MOST_COLUMNS, Purpose, Query, ROW_BYTES, Session,
    patiently, row_too_large, too_many_columns,
};
use crate::wire::tls::tls_words;

pub(super) async fn open(access: &Access, purpose: Purpose) -> Result<MySql, DbError> {
    let addresses = access.outbound.resolve(&access.host, access.port).await?;
    let addresses: Vec<_> = addresses.iter().map(std::net::SocketAddr::ip).collect();
    let tls = access.tls.as_ref().map(|tls| {
        let identity = tls.identity.clone().map(|(cert, key)| {
            ClientIdentity::new(PathBuf::from(cert).into(), PathBuf::from(key).into())
        });
        SslOpts::default()
            .with_root_certs(vec![PathBuf::from(&tls.ca).into()])
            .with_disable_built_in_roots(true)
            .with_client_identity(identity)
    });
    let options = OptsBuilder::default()
        .ip_or_hostname(access.host.clone())
        .resolved_ips(Some(addresses))
        .tcp_port(access.port)
        .user(Some(access.user.clone()))
        .pass(Some(access.password.clone()))
        .db_name(Some(access.database.clone()))
        .ssl_opts(tls)
        // Given here, neither is asked of the server; the first bounds what it may send at once.
        .max_allowed_packet(Some(ROW_BYTES))
        .wait_timeout(Some(28_800))
        // Never by a socket that the server names instead of the address that was allowed.
        .prefer_socket(false)
        .stmt_cache_size(0)
        // An UPDATE that changes nothing has found its row all the same.
        .client_found_rows(true);
    let mut conn = Conn::new(options).await.map_err(|error| failed(&error))?;
    let (mode, access_mode) = match purpose {
        // Nothing is written, and what is stored shall come however odd it is.
        Purpose::Read => ("", "READ ONLY"),
        Purpose::Write => (
            "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO",
            "READ WRITE",
        ),
    };
    for sql in [
        "SET NAMES utf8mb4".to_owned(),
        format!("SET SESSION sql_mode = '{mode}', time_zone = '+08:00'"),
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ".to_owned(),
        format!("SET SESSION TRANSACTION {access_mode}"),
    ] {
        conn.query_drop(sql).await.map_err(|error| failed(&error))?;
    }
    // MariaDB's name for it, then MySQL's (which is for SELECT only); older ones have neither, and
    // are waited for no longer all the same.
    let seconds = access.statement.as_secs().max(1);
    let limits = [
        format!("SET SESSION max_statement_time = {seconds}"),
        format!("SET SESSION max_execution_time = {}", seconds.saturating_mul(1000)),
    ];
    for sql in limits {
        match conn.query_drop(sql).await {
            Ok(()) => break,
            Err(Error::Server(told)) if told.code == UNKNOWN_VARIABLE => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(MySql { conn, access: access.clone() })
}

/// ER_UNKNOWN_SYSTEM_VARIABLE.
const UNKNOWN_VARIABLE: u16 = 1193;
/// The character set of bytes.
const BINARY: u16 = 63;

pub(super) struct MySql {
    conn: Conn,
    access: Access,
}

impl Session for MySql {
    fn describe<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<Vec<Column>, DbError>> {
        let Self { conn, access } = self;
        Box::pin(patiently(access, async move {
            let mut result = conn.query_iter(sql).await.map_err(|error| failed(&error))?;
            let columns = result.columns().unwrap_or_default();
            if columns.len() > MOST_COLUMNS {
                return Err(too_many_columns());
            }
            // The query has no rows; its end has to be read.
            while result.next().await.map_err(|error| failed(&error))?.is_some() {}
            Ok(columns
                .iter()
                .map(|column| Column { name: column.name_str().into_owned(), kind: kind(column) })
                .collect())
        }))
    }

    fn rows<'a>(
        &'a mut self,
        query: &'a Query,
        each: &'a mut Each<'_>,
    ) -> BoxFuture<'a, Result<(), DbError>> {
        let Self { conn, access } = self;
        Box::pin(patiently(access, async move {
            let sql = query.sql.as_str();
            let mut result = conn.query_iter(sql).await.map_err(|error| failed(&error))?;
            while let Some(row) = result.next().await.map_err(|error| failed(&error))? {
                let mut cells = Vec::with_capacity(row.len());
                for at in 0..row.len() {
                    cells.push(match row.as_ref(at) {
                        Some(Value::Bytes(bytes)) => Some(String::from_utf8_lossy(bytes)),
                        Some(Value::NULL) | None => None,
                        // By the text protocol everything else is bytes.
                        Some(other) => Some(other.as_sql(true).into()),
                    });
                }
                each(&cells)?;
            }
            Ok(())
        }))
    }

    fn execute<'a>(&'a mut self, query: &'a Query) -> BoxFuture<'a, Result<u64, DbError>> {
        let Self { conn, access } = self;
        Box::pin(patiently(access, async move {
            let done = conn.query_drop(query.sql.as_str()).await;
            done.map_err(|error| failed(&error))?;
            Ok(conn.affected_rows())
        }))
    }
}

fn kind(column: &mysql_async::Column) -> Kind {
    use ColumnType as T;
    match column.column_type() {
        T::MYSQL_TYPE_TINY
        | T::MYSQL_TYPE_SHORT
        | T::MYSQL_TYPE_INT24
        | T::MYSQL_TYPE_LONG
        | T::MYSQL_TYPE_LONGLONG
        | T::MYSQL_TYPE_DECIMAL
        | T::MYSQL_TYPE_NEWDECIMAL
        | T::MYSQL_TYPE_FLOAT
        | T::MYSQL_TYPE_DOUBLE
        | T::MYSQL_TYPE_YEAR => Kind::Number,
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => Kind::Date,
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIME => Kind::Other,
        T::MYSQL_TYPE_BIT | T::MYSQL_TYPE_GEOMETRY => Kind::Bytes,
        T::MYSQL_TYPE_STRING
        | T::MYSQL_TYPE_VAR_STRING
        | T::MYSQL_TYPE_VARCHAR
        | T::MYSQL_TYPE_TINY_BLOB
        | T::MYSQL_TYPE_MEDIUM_BLOB
        | T::MYSQL_TYPE_LONG_BLOB
        | T::MYSQL_TYPE_BLOB
            if column.character_set() == BINARY
                && column.flags().contains(ColumnFlags::BINARY_FLAG) =>
        {
            Kind::Bytes
        }
        _ => Kind::Text,
    }
}

fn failed(error: &Error) -> DbError {
    match error {
        Error::Server(told) => {
            let class = class(told.code, &told.state);
            let named = matches!(
                class,
                Class::Denied | Class::NoDatabase | Class::NoTable | Class::NoColumn
            );
            let text = named.then(|| told.message.chars().take(200).collect());
            let state = match (told.code, &*told.state) {
                // The subclasses of ISO/IEC 9075 where the server tells the class only, or none.
                (1062 | 1586, _) => "23505".to_owned(),
                (1048 | 1364, _) => "23502".to_owned(),
                (1216 | 1217 | 1451 | 1452, _) => "23503".to_owned(),
                (3819 | 4025, _) => "23514".to_owned(),
                (code, "" | "HY000" | "01000") => code.to_string(),
                (_, state) => state.to_owned(),
            };
            DbError::Server { state, text, class }
        }
        Error::Io(IoError::Io(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                DbError::Unreachable(io_words(error).into_owned())
            }
            // A failed handshake comes inside an error of the stream.
            _ => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(error) => handshake(error),
                None => DbError::Broken(io_words(error).into_owned()),
            },
        },
        Error::Io(IoError::Tls(TlsError::Tls(error))) => handshake(error),
        Error::Io(IoError::Tls(_)) => DbError::Tls("证书或主机名无效".to_owned()),
        Error::Driver(DriverError::PacketTooLarge) => row_too_large(),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            DbError::Tls("数据库没有开启TLS".to_owned())
        }
        Error::Driver(DriverError::MysqlOldPasswordDisabled) => DbError::Server {
            state: "28000".to_owned(),
            text: Some("账号用的是4.1以前的旧口令算法,请数据库管理员重设口令".to_owned()),
            class: Class::Denied,
        },
        _ => DbError::Broken("连接已断开,或答复不符合协议".to_owned()),
    }
}

fn handshake(error: &rustls::Error) -> DbError {
    DbError::Tls(tls_words(error).unwrap_or("证书无效").to_owned())
}

/// By the numbers of MySQL and MariaDB where SQLSTATE says too little.
fn class(code: u16, state: &str) -> Class {
    match code {
        1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => Class::Denied,
        1049 => Class::NoDatabase,
        1146 => Class::NoTable,
        1054 => Class::NoColumn,
        // Does not fit its column, lacks a value, breaks a CHECK.
        1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1411 | 3819 | 4025 => Class::Row,
        // Lock wait, deadlock, too many connections, killed or timed out, shutting down, read-only.
        1040 | 1053 | 1203 | 1205 | 1213 | 1226 | 1290 | 1317 | 1836 | 1969 | 3024 => Class::Busy,
        _ if state.starts_with("22") || state.starts_with("23") => Class::Row,
        _ if state.starts_with("40") => Class::Busy,
        _ => Class::Other,
    }
}
