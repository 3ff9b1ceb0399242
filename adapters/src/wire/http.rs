//! The one HTTP client: HTTP/1.1 with pooled connections, TLS against pinned roots only, time-outs
//! and a bound on answers. Never follows a redirect: a redirect would carry data and credentials
//! to a place nobody configured.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::ClientConfig;
use tokio::time::timeout;
use tower_service::Service;
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::Secrets;

use super::dial::{DialError, Outbound};
use super::params::Params;
use super::tls::{tls, tls_words};

/// A pool of connections and the bounds of every exchange.
pub(crate) struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    read: Duration,
    total: Duration,
    max_body: u64,
}

/// A request; the body is small enough to be in memory.
pub(crate) struct Request {
    /// Method.
    pub(crate) method: Method,
    /// Absolute address.
    pub(crate) uri: Uri,
    /// Headers; `Host` and lengths are added.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Bytes,
}

/// An answer of any status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: StatusCode,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body, whole.
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The other side has seen nothing of the request.
    #[error("无法建立连接({0})")]
    NotSent(String),
    /// The request may have been seen and acted on.
    #[error("请求发出后{0}")]
    Unknown(String),
    /// The answer is longer than allowed.
    #[error("答复超过上限{0}字节")]
    TooBig(u64),
}

impl Client {
    /// Reads `allow`, `ca`, `client-cert`, `client-key`, `connect-seconds` (10), `read-seconds` (30)
    /// and `timeout-seconds` (60). `uris` are the addresses it is for: `https` needs `ca`, or
    /// what the link's `tls` section made.
    pub(crate) fn from_params(
        params: &mut Params<'_>,
        secrets: &dyn Secrets,
        uris: &[&Uri],
        max_body: u64,
    ) -> Option<Self> {
        let moment = Duration::from_millis(1);
        let connect = params.seconds("connect-seconds", Duration::from_secs(10), moment);
        let read = params.seconds("read-seconds", Duration::from_secs(30), moment);
        let total = params.seconds("timeout-seconds", Duration::from_secs(60), moment);
        let outbound = Outbound::from_params(params);
        for uri in uris {
            outbound.check_host(params, "url", uri.host().unwrap_or_default());
        }
        let ca = params.text("ca");
        let cert = params.text("client-cert");
        let key = params.text("client-key");
        let given = secrets.tls().and_then(|tls| tls.downcast::<ClientConfig>().ok());
        let is = |scheme| uris.iter().any(|uri| uri.scheme_str() == Some(scheme));
        if given.is_some() && (is("http") || ca.is_some() || cert.is_some() || key.is_some()) {
            params
                .problem("已写 tls 的,地址须都是 https,且不能再用参数 ca、client-cert、client-key");
            return None;
        }
        if given.is_none() && ca.is_none() && is("https") {
            params.problem_of(
                "ca",
                "https 地址须用此参数(或 tls.roots)给出对方CA证书(PEM文件),不使用系统根证书",
            );
            return None;
        }
        let made = match given {
            Some(given) => Ok(ClientConfig::clone(&given)),
            None => tls(ca.as_deref(), cert.as_deref(), key.as_deref()),
        };
        let tls = match made {
            Ok(tls) => tls,
            Err((key, why)) => {
                params.problem_of(key, &why);
                return None;
            }
        };
        let mut http = HttpConnector::new_with_resolver(Resolver(outbound.clone()));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(15))
            .build(Connector { https, outbound, within: connect });
        Some(Self { pool, read, total, max_body })
    }

    /// Sends and reads the whole answer.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, HttpError> {
        let exchange = timeout(self.total, self.exchange(request)).await;
        exchange.unwrap_or_else(|_| Err(late("在时限内未完成", self.total)))
    }

    async fn exchange(&self, request: Request) -> Result<Answer, HttpError> {
        let mut outgoing = http::Request::new(Full::new(request.body));
        *outgoing.method_mut() = request.method;
        *outgoing.uri_mut() = request.uri;
        *outgoing.headers_mut() = request.headers;
        let answer = match self.pool.request(outgoing).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Err(HttpError::NotSent(root(&error))),
            Err(error) => return Err(HttpError::Unknown(format!("连接中断({})", root(&error)))),
        };
        let (head, mut incoming) = answer.into_parts();
        let mut body = BytesMut::new();
        loop {
            let frame = timeout(self.read, incoming.frame())
                .await
                .map_err(|_| late("等待答复内容超时", self.read))?;
            let Some(frame) = frame else { break };
            let frame = frame
                .map_err(|error| HttpError::Unknown(format!("答复未完即中断({})", root(&error))))?;
            if let Some(chunk) = frame.data_ref() {
                if u64::try_from(body.len() + chunk.len()).unwrap_or(u64::MAX) > self.max_body {
                    return Err(HttpError::TooBig(self.max_body));
                }
                body.extend_from_slice(chunk);
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, body: body.freeze() })
    }
}

impl Answer {
    /// How long the other side asks to wait (`Retry-After`, RFC 9110 §10.2.3), at most a day. A
    /// date is compared with the answer's own `Date`, so that neither clock has to be right.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let text = |name| self.headers.get(name)?.to_str().ok().map(str::trim);
        let asked = text(header::RETRY_AFTER)?;
        let wait = match asked.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => {
                let until = http_date(asked)? - http_date(text(header::DATE)?)?;
                Duration::try_from(until).unwrap_or_default()
            }
        };
        Some(wait.min(Duration::from_secs(86_400)))
    }
}

/// IMF-fixdate: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<time::OffsetDateTime> {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc2822).ok()
}

/// Parses an absolute `http` or `https` address; Chinese letters in it are percent-encoded.
pub(crate) fn address(params: &mut Params<'_>, key: &'static str) -> Option<Uri> {
    let text = params.need_text(key);
    if text.is_empty() {
        return None;
    }
    parse_address(&text).map_err(|why| params.problem_of(key, why)).ok()
}

/// See [`address`].
pub(crate) fn parse_address(text: &str) -> Result<Uri, &'static str> {
    const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'{').add(b'}');
    let uri: Uri = utf8_percent_encode(text.trim(), UNSAFE)
        .to_string()
        .parse()
        .map_err(|_| "不是有效的网址")?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(host)) if host.as_str().contains('@') => {
            Err("网址中不能带用户名和密码,请用 login 参数")
        }
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err("应为以 http:// 或 https:// 开头的完整网址"),
    }
}

/// Makes headers of named texts; every value is marked sensitive, so that it is never logged.
pub(crate) fn headers(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("请求头名称“{name}”无效"))?;
        map.insert(name.clone(), header_value(value).ok_or(format!("请求头 {name} 的值无效"))?);
    }
    Ok(map)
}

/// A sensitive header value; `None` if the text cannot stand in a header.
pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent-encodes all but letters and digits and `-._~` (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    const KEEP: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, KEEP).to_string()
}

/// The value of an `Authorization: Basic` header (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let bits =
            (0..3).fold(0_u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * i) & 63).unwrap_or(0);
            text.push(if i > group.len() { '=' } else { char::from(DIGITS[digit]) });
        }
    }
    text
}

fn late(what: &str, limit: Duration) -> HttpError {
    HttpError::Unknown(format!("{what}({}毫秒)", limit.as_millis()))
}

/// The innermost cause: the outer ones only say "client error". I/O and TLS errors in Chinese.
fn root(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    if let Some(error) = error.downcast_ref() {
        return io_words(error).into_owned();
    }
    let words = error.downcast_ref().and_then(tls_words);
    words.map_or_else(|| error.to_string(), |words| format!("{words}: {error}"))
}

/// Bounds the connection, TLS handshake included: until it stands nothing has been sent, and the
/// error must say so.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<HttpConnector<Resolver>>,
    outbound: Outbound,
    within: Duration,
}

/// Looks names up, and gives the addresses that may be connected to.
#[derive(Clone)]
struct Resolver(Outbound);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let outbound = self.0.clone();
        Box::pin(async move { Ok(outbound.resolve(name.as_str(), 0).await?.into_iter()) })
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector<Resolver>> as Service<Uri>>::Response;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let within = self.within;
        // An address in the place of a name is not looked up.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let permitted = host.parse().map_or(Ok(()), |address| self.outbound.permits(address));
        let connecting = self.https.call(uri);
        Box::pin(async move {
            permitted?;
            let late = |_| format!("{}毫秒内未连通", within.as_millis());
            timeout(within, connecting).await.map_err(late)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_padded_base64() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("a", "b"), "Basic YTpi");
        assert_eq!(basic("a", "bc"), "Basic YTpiYw==");
        assert_eq!(basic("a", "bcd"), "Basic YTpiY2Q=");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |after: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(after));
            date.map(|d| headers.insert(header::DATE, HeaderValue::from_static(d)));
            Answer { status: StatusCode::OK, headers, body: Bytes::new() }.retry_after()
        };
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(wait("7", None), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT", date), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:07 GMT", date), Some(Duration::ZERO));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT", None), None);
        assert_eq!(wait("soon", date), None);
        assert_eq!(wait("99999999", None), Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn addresses_are_absolute_and_carry_no_password() {
        assert_eq!(parse_address("http://a/数据?x=1").unwrap(), "http://a/%E6%95%B0%E6%8D%AE?x=1");
        for bad in ["", "a/b", "ftp://a/", "http://u:p@a/", "http://"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}
