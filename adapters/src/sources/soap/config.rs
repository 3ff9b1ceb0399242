//! The parameters of `soap`.
//!
//! | name | meaning | default |
//! |---|---|---|
//! | `endpoint` | where to; never taken from a WSDL | required |
//! | `version`, `action` | SOAP `1.1` or `1.2`; SOAPAction | `1.1`, empty |
//! | `request` | XML inside `Body`, with places; or a whole envelope | required |
//! | `header` | XML inside `Header`, with places | none |
//! | `values` | further places: names and texts, or secrets by reference | none |
//! | `headers` | HTTP headers: names and texts with places, or secrets | none |
//! | `security` | `{user, password}`: WS-Security UsernameToken, as text | none |
//! | `login` | an operation that gives a token, see below | none |
//! | `answer` | `{at, do}`: where the document is, as in a mapping's `source.unwrap` | the body |
//! | `success` | `{at, ok: [codes], in: document or body}` | none |
//! | `rows` | `{at}`: path of the rows, how an empty page is known | with `page` |
//! | `paging` | as of `rest`; its `cursor.from` is a path in the document | none |
//! | `poll-seconds`, `round-pages` | how often; pages before a pause | 60, 10,000 |
//! | `max-bytes` | of an answer | 16 MiB |
//! | `ca`, `client-cert`, `client-key`, `allow`, `…-seconds` | see `wire::http` | |
//!
//! `login`: `endpoint` (that of the pull), `action`, `request`, `header`, `headers`, `user`,
//! `password`, `answer`, `token` (path), `send-as` (a header; else the place `{token}`), `prefix`,
//! `expired` (codes).

use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};
use serde_json::Value;
use xinqiao_core::model::{Unwrap, UnwrapStep};
use xinqiao_core::spi::{ParamProblem, Secrets};

use super::super::SourceFault;
use super::super::paging::{Paging, pointer, read_paging, round};
use super::super::pull::denied;
use super::super::template::{Escape, Template, Values};
use crate::wire::http::{Client, address, header_value, headers};
use crate::wire::params::{Params, Problems};
use crate::wire::soap::Version;
use crate::wire::xml::{Element, escape};

pub(super) struct Pull {
    pub(super) client: Client,
    pub(super) version: Version,
    pub(super) call: Call,
    pub(super) values: Values,
    /// A UsernameToken, written.
    pub(super) security: String,
    pub(super) login: Option<Login>,
    pub(super) answer: Option<Unwrap>,
    pub(super) success: Option<Success>,
    pub(super) rows: Option<String>,
    pub(super) paging: Paging,
    pub(super) poll: Duration,
    pub(super) round: u64,
}

/// One operation.
pub(super) struct Call {
    pub(super) uri: Uri,
    pub(super) action: String,
    pub(super) request: Template,
    pub(super) header: Option<Template>,
    headers: Vec<(String, Template)>,
}

impl Call {
    pub(super) fn headers(&self, values: &Values) -> Result<HeaderMap, String> {
        let filled: Vec<_> =
            self.headers.iter().map(|(name, text)| (name.clone(), text.fill(values))).collect();
        headers(&filled)
    }
}

/// How an answer says in itself that all went well.
pub(super) struct Success {
    pub(super) at: String,
    pub(super) ok: Vec<String>,
    /// `at` counts from the body, not in the document.
    pub(super) in_body: bool,
}

pub(super) struct Login {
    pub(super) call: Call,
    pub(super) values: Values,
    pub(super) answer: Option<Unwrap>,
    pub(super) token: String,
    send_as: Option<HeaderName>,
    prefix: String,
    expired: Vec<String>,
}

impl Login {
    /// Headers that show the token.
    pub(super) fn headers(&self, token: &str) -> Result<HeaderMap, SourceFault> {
        let mut map = HeaderMap::new();
        if let Some(name) = &self.send_as {
            let value = header_value(&format!("{}{token}", self.prefix))
                .ok_or_else(|| denied("登录得到的令牌不能放在请求头里"))?;
            map.insert(name.clone(), value);
        }
        Ok(map)
    }

    /// Whether an in-band code says so; `403:login timeout` counts as `403`.
    pub(super) fn is_expired(&self, code: &str) -> bool {
        let code = code.trim();
        let short = code.split([':', ':']).next().unwrap_or(code).trim();
        self.expired.iter().any(|known| known == code || known == short)
    }
}

impl Pull {
    pub(super) fn from_params(
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Self, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut p = Params::new(params, &problems);
        let uri = address(&mut p, "endpoint");
        let version = p.choice("version", Version::WORDS, Version::V11);
        let values: Values = p.pairs("values", Some(secrets)).into_iter().collect();
        for name in values.keys().filter(|name| RESERVED.contains(&name.as_str())) {
            p.problem_of(&format!("values.{name}"), "这是程序自己填的占位符,请换一个名称");
        }
        let call = call(&mut p, uri.clone(), secrets);
        let security = p.object("security").map(|mut p| {
            let user = p.need_text("user");
            let password = p.need_secret("password", secrets);
            p.done();
            username_token(&user, &password)
        });
        let answer = unwrap(&mut p);
        let login = p.object("login").and_then(|p| read_login(p, uri.as_ref(), secrets));
        let success = p.object("success").map(|mut p| {
            let at = pointer(&mut p, "at");
            let ok = p.some_of("ok", &["00", "200"]);
            let in_body = p.choice("in", &[("document", false), ("body", true)], false);
            p.done();
            Success { at, ok, in_body }
        });
        let rows = p.object("rows").map(|mut p| {
            let at = pointer(&mut p, "at");
            p.done();
            at
        });
        let paging = match p.object("paging") {
            Some(paging) => read_paging(paging),
            None => Paging::None,
        };
        if !paging.query_names().is_empty() {
            let text = "SOAP 没有查询参数:请去掉 param、size-param、from-param、to-param,在 request 里写占位符";
            p.problem_of("paging", text);
        }
        if rows.is_none() && paging.numbered() {
            p.problem_of("rows", "按页码取数时须指明数据行在答复中的位置,如 { at: /DATAS/DATA }");
        }
        let poll = p.seconds("poll-seconds", Duration::from_secs(60), Duration::from_millis(1));
        let round = round(&mut p);
        let max_bytes = p.number("max-bytes", 16 << 20);
        let mut uris: Vec<&Uri> = uri.iter().collect();
        uris.extend(login.as_ref().map(|login| &login.call.uri));
        let client = Client::from_params(&mut p, secrets, &uris, max_bytes);
        p.done();
        match (call, client, problems.into_inner()) {
            (Some(call), Some(client), problems) if problems.is_empty() => Ok(Self {
                client,
                version,
                call,
                values,
                security: security.unwrap_or_default(),
                login,
                answer,
                success,
                rows,
                paging,
                poll,
                round,
            }),
            (_, _, problems) => Err(problems),
        }
    }
}

/// Places that are filled by the source.
const RESERVED: &[&str] = &["cursor", "page", "size", "from", "to", "today", "token"];

/// `action`, `request`, `header` and `headers`.
fn call(p: &mut Params<'_>, uri: Option<Uri>, secrets: &dyn Secrets) -> Option<Call> {
    let action = p.text("action").unwrap_or_default();
    if !action.chars().all(|c| c.is_ascii_graphic() && c != '"') {
        p.problem_of("action", "只能是可见的ASCII字符,不含双引号");
    }
    let template = |text| Template { text, escape: Escape::Xml };
    let request = p.need_text("request");
    // Checked as it would be with nothing in its places.
    if !request.is_empty() && Element::parse(&request, 64).is_err() {
        p.problem_of("request", "应为一个完整的XML元素(写在Body里的那个),或整个信封");
    }
    let header = p.text("header");
    if let Some(header) = &header
        && Element::parse(&format!("<h>{header}</h>"), 64).is_err()
    {
        p.problem_of("header", "应为写在Header里的XML元素");
    }
    let named = p.pairs("headers", Some(secrets));
    if let Err(why) = headers(&named) {
        p.problem_of("headers", &why);
    }
    let plain = |(name, text)| (name, Template { text, escape: Escape::Plain });
    let headers = named.into_iter().map(plain).collect();
    Some(Call {
        uri: uri?,
        action,
        request: template(request),
        header: header.map(template),
        headers,
    })
}

/// `answer`.
fn unwrap(p: &mut Params<'_>) -> Option<Unwrap> {
    const STEPS: &[(&str, UnwrapStep)] = &[
        ("unescape", UnwrapStep::Unescape),
        ("url-decode", UnwrapStep::UrlDecode),
        ("url-decode-gb18030", UnwrapStep::UrlDecodeGb18030),
        ("base64", UnwrapStep::Base64),
    ];
    p.object("answer").map(|mut p| {
        let at = p.text("at");
        let mut steps = Vec::new();
        for word in p.list("do", &[]) {
            match STEPS.iter().find(|(known, _)| *known == word) {
                Some((_, step)) => steps.push(*step),
                None => {
                    let words: Vec<_> = STEPS.iter().map(|(word, _)| *word).collect();
                    p.problem_of("do", &format!("应为以下各步的列表:{}", words.join("、")));
                }
            }
        }
        p.done();
        Unwrap { at, steps }
    })
}

fn read_login(mut p: Params<'_>, main: Option<&Uri>, secrets: &dyn Secrets) -> Option<Login> {
    let uri = match p.has("endpoint") {
        true => address(&mut p, "endpoint"),
        false => {
            // Asked for all the same, so that it is listed among the valid keys.
            p.text("endpoint");
            main.cloned()
        }
    };
    let user = p.text("user").unwrap_or_default();
    let password = match p.has("password") {
        true => p.need_secret("password", secrets),
        false => p.text("password").unwrap_or_default(),
    };
    let call = call(&mut p, uri, secrets);
    let answer = unwrap(&mut p);
    let token = pointer(&mut p, "token");
    let send_as = p.text("send-as").and_then(|name| {
        let made = HeaderName::from_bytes(name.as_bytes());
        if made.is_err() {
            p.problem_of("send-as", "请求头名称无效");
        }
        made.ok()
    });
    let prefix = p.text("prefix").unwrap_or_default();
    let expired = p.list("expired", &[]);
    p.done();
    let values = Values::from([("user".to_owned(), user), ("password".to_owned(), password)]);
    Some(Login { call: call?, values, answer, token, send_as, prefix, expired })
}

/// WS-Security 1.0 UsernameToken with the password as text.
fn username_token(user: &str, password: &str) -> String {
    const NS: &str = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss";
    let mut out = format!(
        "<wsse:Security soapenv:mustUnderstand=\"1\" xmlns:wsse=\"{NS}-wssecurity-secext-1.0.xsd\">\
         <wsse:UsernameToken><wsse:Username>"
    );
    escape(user, &mut out);
    out.push_str(&format!(
        "</wsse:Username><wsse:Password Type=\"{NS}-username-token-profile-1.0#PasswordText\">"
    ));
    escape(password, &mut out);
    out + "</wsse:Password></wsse:UsernameToken></wsse:Security>"
}
