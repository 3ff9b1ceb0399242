//! `soap`: pulls answers from an agency's SOAP interface. Every answer is one message, stored as the
//! bytes that came (the mapping's `source.unwrap` says how to open it); the position after it is
//! committed with it. No WSDL is read, and nothing named in one is ever fetched.

use std::io::{BufReader, Cursor, Read as _, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use xinqiao_core::model::{Encoding, Unwrap};
use xinqiao_core::spi::{
    BoxFuture, DecodeError, Limits, ParamProblem, ReadSeek, Secrets, Source, SourceContext,
    SourceFactory,
};

use super::SourceFault;
use super::paging::Paging;
use super::pull::{self, Page, Pages, Rows, check_status, denied, odd, shown, unreachable};
use super::template::Values;
use crate::formats::unwrap::{Inner, Path, Paths, RowsSeen, document, look};
use crate::wire::http::{Answer, Request};
use crate::wire::params::scalar;
use crate::wire::soap::{Fault, Version, envelope};

mod config;

use config::{Call, Login, Pull};

/// Of a text in the place of a document, what is looked at.
const MAX_TEXT: u64 = 64 << 10;

/// The kind `soap`; its parameters are described in `soap/config.rs`.
pub(super) struct Soap;

impl SourceFactory for Soap {
    fn kind(&self) -> &'static str {
        "soap"
    }

    fn build(
        &self,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        Ok(Arc::new(Pull::from_params(params, secrets)?))
    }
}

impl Source for Pull {
    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()> {
        Box::pin(async move { pull::run(&*self, &context).await })
    }
}

impl Pages for Pull {
    /// The token of the last login.
    type Session = Option<String>;

    fn paging(&self) -> &Paging {
        &self.paging
    }

    fn poll(&self) -> Duration {
        self.poll
    }

    fn round(&self) -> u64 {
        self.round
    }

    fn name(&self) -> &str {
        self.call.uri.path()
    }

    async fn page(
        &self,
        values: &Values,
        session: &mut Self::Session,
    ) -> Result<Page, SourceFault> {
        let Some(login) = &self.login else {
            return match self.fetch(values, None).await? {
                Fetched::Page(page) => Ok(page),
                Fetched::Expired(fault) => Err(fault),
            };
        };
        // A session that was there before may have run out; one just made may not.
        let mut again = session.is_some();
        loop {
            let token = match session.take() {
                Some(token) => token,
                None => self.log_in(login).await?,
            };
            match self.fetch(values, Some((login, &token))).await {
                Ok(Fetched::Page(page)) => {
                    *session = Some(token);
                    return Ok(page);
                }
                Ok(Fetched::Expired(fault)) if !again => return Err(fault),
                Ok(Fetched::Expired(_)) => again = false,
                Err(fault) => {
                    *session = Some(token);
                    return Err(fault);
                }
            }
        }
    }
}

enum Fetched {
    Page(Page),
    /// The session is no longer good.
    Expired(SourceFault),
}

/// What an answer says in a document that was in its envelope, or in the envelope itself.
enum Said {
    /// The texts at the paths asked for, and the rows.
    Xml(Vec<Option<String>>, Option<RowsSeen>),
    Json(Value),
    /// Neither: an error, as a rule.
    Text(String),
    /// An empty text.
    Nothing,
}

impl Said {
    fn text(&self, ix: usize, path: &str) -> Option<String> {
        match self {
            Self::Xml(texts, _) => texts.get(ix)?.clone(),
            Self::Json(json) => json.pointer(path).and_then(scalar),
            Self::Text(_) | Self::Nothing => None,
        }
    }

    /// The rows; `None` of an answer that is neither rows nor known to have none.
    fn rows(&self, path: &str) -> Option<Rows> {
        match self {
            Self::Xml(_, seen) => seen.map(|seen| Rows { count: seen.count, print: seen.print }),
            Self::Json(json) => match json.pointer(path) {
                Some(Value::Array(rows)) => Some(Rows::of(rows)),
                // One row alone is written without its brackets by some.
                Some(row @ Value::Object(fields)) if !fields.is_empty() => {
                    Some(Rows::of(std::slice::from_ref(row)))
                }
                Some(other) => is_nothing(other).then(Rows::none),
                None => is_nothing(reached(json, path)).then(Rows::none),
            },
            Self::Text(_) => None,
            Self::Nothing => Some(Rows::none()),
        }
    }
}

/// As far down a JSON pointer as there is anything.
fn reached<'j>(json: &'j Value, path: &str) -> &'j Value {
    let ends = path.match_indices('/').map(|(at, _)| at).rev();
    ends.filter_map(|end| json.pointer(path.get(..end)?)).next().unwrap_or(json)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

impl Pull {
    async fn fetch(
        &self,
        values: &Values,
        session: Option<(&Login, &String)>,
    ) -> Result<Fetched, SourceFault> {
        let mut values = values.clone();
        values.extend(self.values.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut headers = HeaderMap::new();
        if let Some((login, token)) = session {
            values.insert("token".to_owned(), token.clone());
            headers.extend(login.headers(token)?);
        }
        let answer = self.exchange(&self.call, &values, headers).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Ok(Fetched::Expired(denied("HTTP 401,登录信息无效或已过期")));
        }
        let expired = |code: &str| session.is_some_and(|(login, _)| login.is_expired(code));
        let code_at = |in_body| {
            let success = self.success.as_ref().filter(|success| success.in_body == in_body);
            Path::new(success.map(|success| success.at.as_str()).unwrap_or_default())
        };
        let cursor = Path::new(self.paging.cursor_path().unwrap_or_default());
        let rows = self.rows.as_deref().map(Path::new);
        let paths = Paths { texts: vec![code_at(false), cursor], rows };
        let (said, body_code) = match open(&answer, &self.answer, paths, code_at(true)).await? {
            Ok(said) => said,
            Err(fault) => {
                let text = format!("SOAP故障(Fault),代码“{}”", shown(&fault.code));
                return match expired(&fault.code) || expired(&fault.text) {
                    true => Ok(Fetched::Expired(denied(&text))),
                    false => Err(odd(&text)),
                };
            }
        };
        let code = match (&self.success, &said) {
            (Some(success), _) if success.in_body => body_code,
            (_, Said::Text(text)) => Some(text.clone()),
            (Some(success), said) => said.text(0, &success.at),
            (None, _) => None,
        };
        if let Some(code) = &code
            && expired(code)
        {
            return Ok(Fetched::Expired(denied("答复代码表示登录已过期")));
        }
        if let Some(success) = &self.success {
            let code = code.unwrap_or_default();
            // A day without data may be answered by nothing at all.
            let nothing = matches!(said, Said::Nothing) && !success.in_body;
            if !nothing && !success.ok.contains(&code) {
                return Err(odd(&format!("{} 处的代码“{}”不表示成功", success.at, shown(&code))));
            }
        } else if let Said::Text(text) = &said
            && self.rows.is_some()
        {
            let code = text.split_once(':').map_or("", |(code, _)| code);
            return Err(odd(&format!("答复是一段文本而不是数据,代码“{}”", shown(code))));
        }
        let rows = match (&self.rows, &said) {
            (None, Said::Nothing) => Some(Rows::none()),
            (None, _) => None,
            (Some(path), said) => Some(said.rows(path).ok_or_else(|| {
                odd(&format!(
                    "{path} 处没有数据行,答复也不是“没有数据”的样子;请核对 rows.at(区分大小写)"
                ))
            })?),
        };
        let next = self.paging.cursor_path().and_then(|path| said.text(1, path));
        Ok(Fetched::Page(Page { body: answer.body, rows, next }))
    }

    async fn log_in(&self, login: &Login) -> Result<String, SourceFault> {
        let answer = self.exchange(&login.call, &login.values, HeaderMap::new()).await?;
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(denied("登录被拒绝,请检查用户名和密码"));
        }
        let paths = Paths { texts: vec![Path::new(&login.token)], rows: None };
        let said = match open(&answer, &login.answer, paths, Path::new("")).await? {
            Ok((said, _)) => said,
            Err(fault) => {
                let code = shown(&fault.code);
                return Err(denied(&format!("登录被拒绝:SOAP故障(Fault),代码“{code}”")));
            }
        };
        let token = match said {
            // The text itself, where no place in it is named.
            Said::Text(text) if login.token == "/" => Some(text),
            said => said.text(0, &login.token),
        };
        token
            .filter(|token| !token.is_empty())
            .ok_or_else(|| denied("登录答复里没有令牌,请检查用户名、密码和 login.token"))
    }

    async fn exchange(
        &self,
        call: &Call,
        values: &Values,
        more: HeaderMap,
    ) -> Result<Answer, SourceFault> {
        let header = call.header.as_ref().map(|header| header.fill(values)).unwrap_or_default();
        let body = call.request.fill(values);
        let body = match body.trim_start().starts_with("<?xml") || is_envelope(&body) {
            true => body,
            false => envelope(self.version, &(self.security.clone() + &header), &body),
        };
        let mut headers = call.headers(values).map_err(|why| odd(&why))?;
        let content_type = HeaderValue::from_str(&self.version.content_type(&call.action));
        headers.insert(header::CONTENT_TYPE, content_type.map_err(|_| odd("action 无效"))?);
        if self.version == Version::V11 {
            let action = HeaderValue::from_str(&format!("\"{}\"", call.action));
            headers.insert(
                HeaderName::from_static("soapaction"),
                action.map_err(|_| odd("action 无效"))?,
            );
        }
        headers.extend(more);
        let (method, uri) = (Method::POST, call.uri.clone());
        let request = Request { method, uri, headers, body: Bytes::from(body) };
        let answer = self.client.send(request).await.map_err(unreachable)?;
        Ok(Answer { body: from_boundary(&answer), ..answer })
    }
}

/// What an answer says, and what stands at the place outside of its document; or a fault.
type Opened = Result<(Said, Option<String>), Fault>;

/// Reads an answer: what it says at `paths` in its document, and at `outside` in its body.
async fn open(
    answer: &Answer,
    unwrap: &Option<Unwrap>,
    paths: Paths,
    outside: Path,
) -> Result<Opened, SourceFault> {
    let (body, unwrap) = (answer.body.clone(), unwrap.clone());
    let read = move || read(&body, unwrap.as_ref(), paths, outside);
    let read = tokio::task::spawn_blocking(read).await;
    let said = match read.unwrap_or_else(|_| Err(odd("答复无法读取"))) {
        Ok(Err(fault)) => return Ok(Err(fault)),
        said => said,
    };
    check_status(answer)?;
    said
}

/// Blocking.
fn read(
    body: &[u8],
    unwrap: Option<&Unwrap>,
    paths: Paths,
    outside: Path,
) -> Result<Opened, SourceFault> {
    let limits = limits(body);
    let mut ours = Paths::default();
    if unwrap.is_none() {
        ours = Paths { texts: paths.texts.clone(), rows: paths.rows.clone() };
    }
    ours.texts.push(outside);
    let unreadable = |error: DecodeError| odd(&format!("答复无法读取:{error}"));
    let mut looked =
        look(&mut Cursor::new(body), Encoding::Auto, &limits, &ours).map_err(unreadable)?;
    if let Some(fault) = looked.fault {
        return Ok(Err(fault));
    }
    if looked.version.is_none() {
        return Err(odd("答复不是SOAP信封"));
    }
    let body_code = looked.texts.pop().flatten();
    let Some(unwrap) = unwrap else {
        return Ok(Ok((Said::Xml(looked.texts, looked.rows), body_code)));
    };
    let scratch = Box::new(Vec::new());
    let inner = document(unwrap, Encoding::Auto, &mut Cursor::new(body), &limits, scratch)
        .map_err(unreadable)?;
    let Some(Inner { mut reader, encoding }) = inner else {
        return Ok(Ok((Said::Nothing, body_code)));
    };
    let first = first_of(&mut *reader).map_err(|error| unreadable(DecodeError::Io(error)))?;
    let said = match first {
        Some(b'{' | b'[') => {
            let json = serde_json::from_reader(BufReader::new(reader));
            Said::Json(json.map_err(|_| odd("答复里的JSON无法读取"))?)
        }
        Some(b'<' | 0xEF | 0xFE | 0xFF) => {
            let looked = look(&mut *reader, encoding, &limits, &paths).map_err(unreadable)?;
            Said::Xml(looked.texts, looked.rows)
        }
        _ => {
            // An error: its beginning tells its code.
            let mut text = Vec::new();
            let read = reader.take(MAX_TEXT).read_to_end(&mut text);
            read.map_err(|error| unreadable(DecodeError::Io(error)))?;
            Said::Text(String::from_utf8_lossy(&text).trim().to_owned())
        }
    };
    Ok(Ok((said, body_code)))
}

/// The first byte that is no white space; leaves the reader at its beginning.
fn first_of(reader: &mut dyn ReadSeek) -> std::io::Result<Option<u8>> {
    let mut piece = [0; 256];
    let first = loop {
        let read = reader.read(&mut piece)?;
        let text = piece.get(..read).unwrap_or_default();
        match text.trim_ascii_start().first() {
            None if read > 0 => {}
            first => break first.copied(),
        }
    };
    reader.seek(SeekFrom::Start(0))?;
    Ok(first)
}

fn is_envelope(body: &str) -> bool {
    let tag = body.trim_start().strip_prefix('<').unwrap_or_default();
    let name = tag.split(|c: char| c.is_whitespace() || c == '>').next().unwrap_or_default();
    crate::wire::xml::local(name) == "Envelope"
}

/// The answer as it is read and kept: a MIME body begins with its boundary, by which it is known.
fn from_boundary(answer: &Answer) -> Bytes {
    let kind = answer.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let mime = kind.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/"));
    if mime
        && !answer.body.trim_ascii_start().starts_with(b"--")
        && let Some(at) = memchr::memmem::find(&answer.body, b"\n--")
    {
        return answer.body.slice(at + 1..);
    }
    answer.body.clone()
}

/// An answer may grow while it is opened (references, escapes), in memory; so not by much.
fn limits(body: &[u8]) -> Limits {
    let inflated_bytes = (body.len() as u64).saturating_mul(8).saturating_add(1 << 20);
    Limits { inflated_bytes, ..Limits::default() }
}
