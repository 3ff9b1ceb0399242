//! `rest`: pulls pages from an agency's HTTP interface. Every page is one message, stored as the
//! bytes that came; the position after it is committed with it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use xinqiao_core::fault::{Blame, Retry};
use xinqiao_core::spi::{
    Arrival, BoxFuture, Fault, ParamProblem, Secrets, Source, SourceContext, SourceFactory,
};

use super::{SourceFault, pause, wait_after};
use crate::wire::http::{Answer, HttpError, Request, header_value};

mod config;
mod paging;
mod template;

use config::{Login, Pull, pointed};
use paging::Position;

/// The kind `rest`; its parameters are described in `rest/config.rs`.
pub(super) struct Rest;

impl SourceFactory for Rest {
    fn kind(&self) -> &'static str {
        "rest"
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
        Box::pin(async move {
            let mut position: Option<Position> = None;
            let mut session = None;
            let mut attempt = 0;
            while !context.shutdown.has_begun() {
                let wait = match self.sweep(&context, &mut position, &mut session).await {
                    Ok(()) => {
                        attempt = 0;
                        self.poll
                    }
                    Err(fault) => {
                        context.inbox.progress(Err(fault.as_ref()));
                        attempt += 1;
                        wait_after(attempt, fault.retry(), self.poll, &context)
                    }
                };
                pause(wait, &context.shutdown).await;
            }
        })
    }
}

/// What a login gave: a header for every request.
type Session = Option<(HeaderName, HeaderValue)>;

impl Pull {
    /// Pulls until there is nothing more for now. The position moves only with a receipt, or past
    /// a page without rows.
    async fn sweep(
        &self,
        context: &SourceContext,
        position: &mut Option<Position>,
        session: &mut Session,
    ) -> Result<(), Fault> {
        let mut at = match position.take() {
            Some(at) => at,
            None => {
                let cursor = context.inbox.cursor().await?;
                self.paging.start(cursor.as_deref())
            }
        };
        *position = Some(at.clone());
        let mut count = 0_u64;
        while !context.shutdown.has_begun() {
            let Some(values) = self.paging.values(&at, context.clock.now()) else { break };
            let begun = context.shutdown.begun();
            // Nothing has been taken yet: stopping may cut the exchange short.
            let page = tokio::select! {
                page = self.page(&values, session) => page.map_err(|fault| Box::new(fault) as Fault)?,
                () = begun => break,
            };
            let advance = self.paging.advance(&at, page.rows, page.next.as_deref());
            if page.rows != Some(0) {
                let arrival = Arrival {
                    name: Some(format!("{}{}", self.uri.path(), at.label())),
                    body: Box::pin(stream::iter([Ok(page.body)])),
                    cursor: Some(advance.position.encode()),
                };
                context.inbox.receive(arrival).await?;
                count += 1;
            }
            at = advance.position;
            *position = Some(at.clone());
            if advance.last {
                break;
            }
            context.inbox.progress(Ok(&format!("已接收{count}页")));
        }
        let text = if count == 0 {
            "没有新数据".to_owned()
        } else {
            format!("本轮接收{count}页")
        };
        context.inbox.progress(Ok(&text));
        Ok(())
    }

    /// One page; logs in where needed, and once more if the session has expired.
    async fn page(
        &self,
        values: &template::Values,
        session: &mut Session,
    ) -> Result<Page, SourceFault> {
        let had_session = session.is_some();
        if session.is_none() {
            *session = self.log_in().await?;
        }
        match self.fetch(values, session).await? {
            Fetched::Page(page) => return Ok(page),
            Fetched::Expired(fault) => {
                *session = None;
                if !had_session || !matches!(self.login, Login::Request(_)) {
                    return Err(fault);
                }
            }
        }
        *session = self.log_in().await?;
        match self.fetch(values, session).await? {
            Fetched::Page(page) => Ok(page),
            Fetched::Expired(fault) => {
                *session = None;
                Err(fault)
            }
        }
    }

    async fn fetch(
        &self,
        values: &template::Values,
        session: &Session,
    ) -> Result<Fetched, SourceFault> {
        let mut request = self.request(values)?;
        if let Some((name, value)) = session {
            request.headers.insert(name.clone(), value.clone());
        }
        let answer = self.client.send(request).await.map_err(unreachable)?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Ok(Fetched::Expired(denied("HTTP 401,登录信息无效或已过期")));
        }
        check_status(&answer)?;
        if !self.needs_json() {
            return Ok(Fetched::Page(Page { body: answer.body, rows: None, next: None }));
        }
        let json = self.json(&answer.body)?;
        if let Some(success) = &self.success {
            let code = pointed(&json, &success.path).unwrap_or_default();
            if let Login::Request(login) = &self.login
                && login.is_expired(&code)
            {
                return Ok(Fetched::Expired(denied("答复代码表示登录已过期")));
            }
            if !success.ok.contains(&code) {
                let code: String =
                    code.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
                return Err(odd(&format!("{} 处的代码“{code}”不表示成功", success.path)));
            }
        }
        let rows = match &self.rows {
            None => None,
            Some(path) => match json.pointer(path) {
                Some(Value::Array(rows)) => Some(rows.len()),
                Some(Value::Null) => Some(0),
                _ => return Err(odd(&format!("{path} 处应为数组"))),
            },
        };
        let next = self.paging.cursor_path().and_then(|path| pointed(&json, path));
        Ok(Fetched::Page(Page { body: answer.body, rows, next }))
    }

    async fn log_in(&self) -> Result<Session, SourceFault> {
        let Login::Request(login) = &self.login else { return Ok(None) };
        let answer = self.client.send(login.request()).await.map_err(unreachable)?;
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(denied("登录被拒绝,请检查用户名和密码"));
        }
        check_status(&answer)?;
        let token = pointed(&self.json(&answer.body)?, &login.token)
            .filter(|token| !token.is_empty())
            .ok_or_else(|| denied(&format!("登录答复的 {} 处没有令牌", login.token)))?;
        let value = header_value(&format!("{}{token}", login.prefix))
            .ok_or_else(|| denied("登录得到的令牌不能放在请求头里"))?;
        Ok(Some((login.header.clone(), value)))
    }

    fn json(&self, body: &Bytes) -> Result<Value, SourceFault> {
        serde_json::from_str(&self.charset.decode(body).0).map_err(|_| odd("答复不是JSON"))
    }

    fn needs_json(&self) -> bool {
        self.success.is_some() || self.rows.is_some() || self.paging.cursor_path().is_some()
    }

    fn request(&self, values: &template::Values) -> Result<Request, SourceFault> {
        let uri = self.target(values).ok_or_else(|| odd("代入参数后的网址无效"))?;
        let body = self.body.as_ref().map(|body| body.fill(values)).unwrap_or_default();
        let mut headers: HeaderMap = self.headers.clone();
        if let Login::Header(name, value) = &self.login {
            headers.insert(name.clone(), value.clone());
        }
        if self.body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Request { method: self.method.clone(), uri, headers, body: Bytes::from(body) })
    }
}

enum Fetched {
    Page(Page),
    /// The session is no longer good.
    Expired(SourceFault),
}

struct Page {
    body: Bytes,
    /// How many rows, where `rows` says where they stand.
    rows: Option<usize>,
    /// The next cursor.
    next: Option<String>,
}

fn check_status(answer: &Answer) -> Result<(), SourceFault> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        403 => ",没有访问权限",
        404 => ",请检查 url",
        300..=399 => "(重定向),不跟随,请改正 url",
        _ => "",
    };
    let mut fault = odd(&format!("HTTP {}{hint}", status.as_u16()));
    fault.retry = answer.retry_after().map_or(Retry::Backoff, Retry::After);
    Err(fault)
}

fn unreachable(error: HttpError) -> SourceFault {
    let code = match error {
        HttpError::NotSent(_) => "source.unreachable",
        HttpError::Unknown(_) => "source.broken-answer",
        HttpError::TooBig(_) => "source.too-large",
    };
    SourceFault { code, blame: Blame::Agency, retry: Retry::Backoff, text: error.to_string() }
}

fn odd(text: &str) -> SourceFault {
    let (code, retry) = ("source.odd-answer", Retry::Backoff);
    SourceFault { code, blame: Blame::Agency, retry, text: text.to_owned() }
}

fn denied(text: &str) -> SourceFault {
    let (code, retry) = ("source.denied", Retry::Backoff);
    SourceFault { code, blame: Blame::Operator, retry, text: text.to_owned() }
}
