//! PostgreSQL's session, by tokio-postgres over a connection of our own.

use std::borrow::Cow;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_util::TryStreamExt;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls};
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::BoxFuture;

use super::{
    Access, Class, Column, DbError, Each, Kind, MOST_COLUMNS, Purpose, Query, ROW_BYTES, Session,
    patiently, row_too_large, too_many_columns,
};
use crate::wire::tls::tls_words;

pub(super) async fn open(access: &Access, purpose: Purpose) -> Result<Postgres, DbError> {
    let stream = access.outbound.connect(&access.host, access.port, access.connect).await?;
    let (stream, secret): (Box<dyn Stream>, bool) = match &access.tls {
        None => (Box::new(stream), false),
        Some(tls) => (Box::new(secured(stream, &access.host, &tls.config).await?), true),
    };
    let mut config = Config::new();
    config.user(&access.user).password(&access.password).dbname(&access.database);
    config.application_name("xinqiao");
    // TLS, if any, is there already, inside the stream.
    let (client, connection) = config
        .connect_raw(Bounded::new(stream, secret), NoTls)
        .await
        .map_err(|error| failed(&error))?;
    let connection = tokio::spawn(async move {
        // What goes wrong shows at the statement under way.
        let _ = connection.await;
    });
    let session = Postgres { client, connection, access: access.clone() };
    let read_only = match purpose {
        Purpose::Read => "on",
        Purpose::Write => "off",
    };
    let set = format!(
        "SET TimeZone = 'Asia/Shanghai'; SET DateStyle = 'ISO'; SET statement_timeout = {}; \
         SET default_transaction_read_only = {read_only}",
        access.statement.as_millis()
    );
    session.client.batch_execute(&set).await.map_err(|error| failed(&error))?;
    Ok(session)
}

/// Asks for TLS as the protocol has it (SSLRequest), and takes no for an error.
async fn secured(
    mut stream: TcpStream,
    host: &str,
    config: &Arc<rustls::ClientConfig>,
) -> Result<impl Stream + use<>, DbError> {
    let broken = |error: std::io::Error| DbError::Broken(io_words(&error).into_owned());
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F]).await.map_err(broken)?;
    if stream.read_u8().await.map_err(broken)? != b'S' {
        return Err(DbError::Tls("数据库没有开启TLS".to_owned()));
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| DbError::Tls("参数 host 不是有效的主机名".to_owned()))?;
    let connected =
        tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    connected.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let words = inner.and_then(tls_words).map(Into::into);
        DbError::Tls(words.unwrap_or_else(|| io_words(&error)).into_owned())
    })
}

pub(super) struct Postgres {
    client: Client,
    connection: JoinHandle<()>,
    access: Access,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Session for Postgres {
    fn describe<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<Vec<Column>, DbError>> {
        Box::pin(patiently(&self.access, async {
            let statement = self.client.prepare(sql).await.map_err(|error| failed(&error))?;
            if statement.columns().len() > MOST_COLUMNS {
                return Err(too_many_columns());
            }
            let column = |column: &tokio_postgres::Column| Column {
                name: column.name().to_owned(),
                kind: kind(column.type_()),
            };
            Ok(statement.columns().iter().map(column).collect())
        }))
    }

    fn rows<'a>(
        &'a mut self,
        query: &'a Query,
        each: &'a mut Each<'_>,
    ) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(patiently(&self.access, async {
            let values = query.values.iter().map(|value| AsText(value));
            let rows = self.client.query_raw(query.sql.as_str(), values).await;
            let mut rows = std::pin::pin!(rows.map_err(|error| failed(&error))?);
            while let Some(row) = rows.try_next().await.map_err(|error| failed(&error))? {
                let cell = |at| row.try_get::<_, Option<Bytes<'_>>>(at);
                let cells = (0..row.len()).map(|at| cell(at).map(|cell| cell.map(|bytes| bytes.0)));
                let cells: Result<Vec<_>, _> = cells.collect();
                each(&cells.map_err(|error| failed(&error))?)?;
            }
            Ok(())
        }))
    }

    fn execute<'a>(&'a mut self, query: &'a Query) -> BoxFuture<'a, Result<u64, DbError>> {
        Box::pin(patiently(&self.access, async {
            let done = if query.values.is_empty() {
                self.client.batch_execute(&query.sql).await.map(|()| 0)
            } else {
                let values = query.values.iter().map(|value| AsText(value));
                self.client.execute_raw(query.sql.as_str(), values).await
            };
            done.map_err(|error| failed(&error))
        }))
    }
}

/// A value in the text form that every type has: the server reads it as the type it wants there.
#[derive(Debug)]
struct AsText<'a>(&'a str);

impl ToSql for AsText<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}

/// The bytes of a text, which a database without an encoding (SQL_ASCII) may have filled with
/// anything.
struct Bytes<'a>(Cow<'a, str>);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw)))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn kind(of: &Type) -> Kind {
    match *of {
        Type::BYTEA => Kind::Bytes,
        Type::DATE => Kind::Date,
        Type::INT2 | Type::INT4 | Type::INT8 | Type::NUMERIC | Type::FLOAT4 | Type::FLOAT8 => {
            Kind::Number
        }
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR => Kind::Text,
        _ => Kind::Other,
    }
}

fn failed(error: &tokio_postgres::Error) -> DbError {
    if let Some(told) = error.as_db_error() {
        let state = told.code().code();
        let class = class(state);
        let named =
            matches!(class, Class::Denied | Class::NoDatabase | Class::NoTable | Class::NoColumn);
        let text = named.then(|| told.message().chars().take(200).collect());
        return DbError::Server { state: state.to_owned(), text, class };
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::FileTooLarge => row_too_large(),
                std::io::ErrorKind::PermissionDenied => {
                    denied("数据库要求发送明文口令,而连接没有加密:请用参数 ca 开启TLS")
                }
                _ => DbError::Broken(io_words(io).into_owned()),
            };
        }
        cause = inner.source();
    }
    // The driver gives its errors no kinds.
    if error.to_string().starts_with("authentication error") {
        return denied("数据库要求的登录方式不受支持,应为 md5 或 SCRAM-SHA-256");
    }
    DbError::Broken("连接已断开,或答复不符合协议".to_owned())
}

fn denied(text: &str) -> DbError {
    DbError::Server { state: "28000".to_owned(), text: Some(text.to_owned()), class: Class::Denied }
}

/// By the classes of SQLSTATE (ISO/IEC 9075, PostgreSQL appendix A).
fn class(state: &str) -> Class {
    match state {
        "42501" => Class::Denied,
        "3D000" => Class::NoDatabase,
        "42P01" | "3F000" => Class::NoTable,
        "42703" => Class::NoColumn,
        _ if state.starts_with("28") => Class::Denied,
        _ if state.starts_with("22") || state.starts_with("23") => Class::Row,
        _ if ["40", "53", "57"].iter().any(|busy| state.starts_with(busy)) => Class::Busy,
        "55P03" => Class::Busy,
        _ => Class::Other,
    }
}

/// A connection, plain or secured.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + Sync> Stream for S {}

/// Follows the frames of the protocol (a type, then a length of four bytes) and ends the
/// connection before a frame that is too large is gathered: the driver itself has no bound. Nor
/// would it keep a password from whoever asks for it in clear on a connection that is not secret.
struct Bounded<S> {
    stream: S,
    secret: bool,
    /// Bytes of the frame's head seen so far; of a request to authenticate, also its kind.
    head: [u8; 9],
    seen: usize,
    /// Bytes of its content still to come.
    rest: usize,
}

impl<S> Bounded<S> {
    fn new(stream: S, secret: bool) -> Self {
        Self { stream, secret, head: [0; 9], seen: 0, rest: 0 }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while let Some((first, after)) = bytes.split_first() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                self.rest -= taken;
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            if let Some(slot) = self.head.get_mut(self.seen) {
                *slot = *first;
            }
            self.seen += 1;
            bytes = after;
            let [kind, a, b, c, d, asked @ ..] = self.head;
            let whole = if kind == b'R' { 9 } else { 5 };
            if self.seen < whole {
                continue;
            }
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            if length > ROW_BYTES {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            // AuthenticationCleartextPassword
            if kind == b'R' && asked == [0, 0, 0, 3] && !self.secret {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            (self.seen, self.rest) = (0, length.saturating_sub(whole - 1));
        }
        Ok(())
    }
}

impl<S: Stream> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        Poll::Ready(this.follow(buf.filled().get(before..).unwrap_or_default()))
    }
}

impl<S: Stream> AsyncWrite for Bounded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_too_large_is_refused_at_its_head_however_it_is_cut() {
        let frame = |length: u32, content: usize| {
            [&b"D"[..], &length.to_be_bytes(), &vec![7; content]].concat()
        };
        let bytes = [frame(4, 0), frame(9, 5), frame(1_000, 996), frame(u32::MAX, 0)].concat();
        for piece in [1, 2, 3, 7, 4096] {
            let mut bounded = Bounded::new((), false);
            let results: Vec<_> =
                bytes.chunks(piece).map(|chunk| bounded.follow(chunk).is_ok()).collect();
            let (last, before) = results.split_last().unwrap();
            assert!(!last && before.iter().all(|ok| *ok), "{piece}");
        }
    }

    #[test]
    fn a_password_is_not_given_in_clear() {
        let asked = |kind: u32| [&b"R"[..], &8_u32.to_be_bytes(), &kind.to_be_bytes()].concat();
        let salted = [
            asked(0),
            [&b"R"[..], &12_u32.to_be_bytes(), &5_u32.to_be_bytes(), b"salt"].concat(),
            asked(0),
        ];
        for piece in [1, 4, 64] {
            let follows = |bytes: &[u8], secret| {
                let mut bounded = Bounded::new((), secret);
                bytes.chunks(piece).all(|chunk| bounded.follow(chunk).is_ok())
            };
            assert!(follows(&salted.concat(), false), "{piece}");
            assert!(!follows(&asked(3), false), "{piece}");
            assert!(follows(&asked(3), true), "{piece}");
        }
    }
}
