//! `rest`: pulls pages from an agency's HTTP interface. Every page is one message, stored as the
//! bytes that came; the position after it is committed with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::Value;
use xinqiao_core::spi::{BoxFuture, ParamProblem, Secrets, Source, SourceContext, SourceFactory};

use super::SourceFault;
use super::paging::Paging;
use super::pull::{self, Page, Pages, Rows, check_status, denied, odd, shown, unreachable};
use super::template::Values;
use crate::wire::http::{Request, header_value};

mod config;

use config::{Login, Pull, pointed};

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
        Box::pin(async move { pull::run(&*self, &context).await })
    }
}

/// What a login gave: a header for every request.
type Session = Option<(HeaderName, HeaderValue)>;

impl Pages for Pull {
    type Session = Session;

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
        self.uri.path()
    }

    /// One page; logs in where needed, and once more if the session has expired.
    async fn page(&self, values: &Values, session: &mut Session) -> Result<Page, SourceFault> {
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
}

impl Pull {
    async fn fetch(&self, values: &Values, session: &Session) -> Result<Fetched, SourceFault> {
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
                return Err(odd(&format!("{} 处的代码“{}”不表示成功", success.path, shown(&code))));
            }
        }
        let rows = match &self.rows {
            None => None,
            Some(path) => match json.pointer(path) {
                Some(Value::Array(rows)) => Some(Rows::of(rows)),
                Some(Value::Null) => Some(Rows::none()),
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

    fn request(&self, values: &Values) -> Result<Request, SourceFault> {
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
