//! The parameters of `rest`.
//!
//! | name | meaning | default |
//! |---|---|---|
//! | `url`, `method` | where; `get` or `post` | required, `get` |
//! | `headers` | names and texts, or secrets by reference | none |
//! | `query` | names and texts, with places | none |
//! | `body`, `content-type` | text with places, or an object standing for its JSON | none |
//! | `paging` | one of `cursor`, `page`, `window` (which may go with `page`) | none |
//! | `login` | one of `token`, `basic`, `request` | none |
//! | `success` | `{path, ok: [codes]}`: errors come with status 200 | none |
//! | `rows` | JSON pointer to the rows: how an empty page is known | with `page` |
//! | `charset` | of answers: `utf-8` or `gb18030` | `utf-8` |
//! | `poll-seconds`, `round-pages` | how often; pages before a pause | 60, 10,000 |
//! | `max-bytes` | of an answer | 16 MiB |
//! | `ca`, `client-cert`, `client-key`, `…-seconds` | see `wire::http` | |

use std::time::Duration;

use bytes::Bytes;
use encoding_rs::{Encoding, GB18030, UTF_8};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::Value;
use xinqiao_core::spi::{ParamProblem, Secrets};

use super::super::paging::{Paging, pointer, read_paging, round};
use super::super::template::{Escape, Template, Values};
use crate::wire::http::{
    Client, Request, address, basic, encode, header_value, headers, parse_address,
};
use crate::wire::params::{Params, Problems, scalar};

pub(super) struct Pull {
    pub(super) client: Client,
    pub(super) uri: Uri,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Template>,
    pub(super) paging: Paging,
    pub(super) login: Login,
    pub(super) success: Option<Success>,
    pub(super) rows: Option<String>,
    pub(super) charset: &'static Encoding,
    pub(super) poll: Duration,
    pub(super) round: u64,
}

/// How an answer says in itself that all went well.
pub(super) struct Success {
    pub(super) path: String,
    pub(super) ok: Vec<String>,
}

pub(super) enum Login {
    None,
    /// The same header every time.
    Header(HeaderName, HeaderValue),
    /// A request of its own gives a token.
    Request(Box<LoginRequest>),
}

pub(super) struct LoginRequest {
    uri: Uri,
    method: Method,
    headers: HeaderMap,
    body: String,
    pub(super) token: String,
    pub(super) header: HeaderName,
    pub(super) prefix: String,
    expired: Vec<String>,
}

impl LoginRequest {
    pub(super) fn request(&self) -> Request {
        let (method, uri) = (self.method.clone(), self.uri.clone());
        let body = Bytes::from(self.body.clone());
        Request { method, uri, headers: self.headers.clone(), body }
    }

    /// Whether an in-band code says so; `403:login timeout` counts as `403`.
    pub(super) fn is_expired(&self, code: &str) -> bool {
        let short = code.split_once(':').map_or(code, |(short, _)| short);
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
        let uri = address(&mut p, "url");
        let method = p.choice("method", METHODS, &Method::GET).clone();
        let pairs = p.pairs("headers", Some(secrets));
        let mut headers = made(&p, &pairs);
        let query = p.pairs("query", None);
        let content_type = p.text("content-type").unwrap_or_else(|| "application/json".to_owned());
        let body = p.text_or_json("body").map(|body| Template::of_body(body, &content_type));
        if body.is_some() {
            match HeaderValue::from_str(&content_type) {
                Ok(value) => drop(headers.insert(header::CONTENT_TYPE, value)),
                Err(_) => p.problem_of("content-type", "不是有效的内容类型"),
            }
        }
        let paging = match p.object("paging") {
            Some(paging) => read_paging(paging),
            None => Paging::None,
        };
        let login = match p.object("login") {
            Some(login) => read_login(login, secrets),
            None => Login::None,
        };
        let success = p.object("success").map(|mut success| {
            let path = pointer(&mut success, "path");
            let ok = success.some_of("ok", &["00", "200"]);
            success.done();
            Success { path, ok }
        });
        let rows = p.has("rows").then(|| pointer(&mut p, "rows")).or_else(|| {
            // Asked for all the same, so that it is listed among the valid keys.
            p.text("rows")
        });
        if rows.is_none() && paging.numbered() {
            p.problem_of("rows", "按页码取数时须指明数据行在答复中的位置,如 /data/rows");
        }
        if success.is_none()
            && let Login::Request(login) = &login
            && !login.expired.is_empty()
        {
            p.problem_of("success", "login.request.expired 要靠它找到答复代码");
        }
        let charset = p.choice("charset", &[("utf-8", UTF_8), ("gb18030", GB18030)], UTF_8);
        let poll = p.seconds("poll-seconds", Duration::from_secs(60), Duration::from_millis(1));
        let round = round(&mut p);
        let max_bytes = p.number("max-bytes", 16 << 20);
        let mut uris: Vec<&Uri> = uri.iter().collect();
        if let Login::Request(login) = &login {
            uris.push(&login.uri);
        }
        let client = Client::from_params(&mut p, secrets, &uris, max_bytes);
        p.done();
        match (uri, client, problems.into_inner()) {
            (Some(uri), Some(client), problems) if problems.is_empty() => Ok(Self {
                client,
                uri,
                method,
                headers,
                query,
                body,
                paging,
                login,
                success,
                rows,
                charset,
                poll,
                round,
            }),
            (_, _, problems) => Err(problems),
        }
    }

    /// The address with its query.
    pub(super) fn target(&self, values: &Values) -> Option<Uri> {
        let fill =
            |text: &String| Template { text: text.clone(), escape: Escape::Plain }.fill(values);
        let fixed = self.query.iter().map(|(name, text)| (name.as_str(), fill(text)));
        let paging = self.paging.query(values);
        let pairs = fixed.chain(paging.into_iter().map(|(name, value)| (name, value.to_owned())));
        let mut text = self.uri.to_string();
        let mut joint = if self.uri.query().is_some() { '&' } else { '?' };
        for (name, value) in pairs {
            text.push(joint);
            text.push_str(&format!("{}={}", encode(name), encode(&value)));
            joint = '&';
        }
        parse_address(&text).ok()
    }
}

/// The scalar at a JSON pointer, as text.
pub(super) fn pointed(json: &Value, path: &str) -> Option<String> {
    json.pointer(path).and_then(scalar)
}

const METHODS: &[(&str, &Method)] = &[("get", &Method::GET), ("post", &Method::POST)];

fn made(params: &Params<'_>, pairs: &[(String, String)]) -> HeaderMap {
    headers(pairs).unwrap_or_else(|why| {
        params.problem_of("headers", &why);
        HeaderMap::new()
    })
}

/// Exactly one of `keys` must be given.
fn one_of(params: &Params<'_>, keys: &[&str]) -> bool {
    let one = keys.iter().filter(|key| params.has(key)).count() == 1;
    if !one {
        params.problem(&format!("应给出且只给出其中一种:{}", keys.join("、")));
    }
    one
}

fn read_login(mut p: Params<'_>, secrets: &dyn Secrets) -> Login {
    one_of(&p, &["token", "basic", "request"]);
    let mut login = Login::None;
    if let Some(mut p) = p.object("token") {
        let header = p.text("header").unwrap_or_else(|| "Authorization".to_owned());
        let prefix = p.text("prefix").unwrap_or_default();
        let secret = p.need_secret("secret", secrets);
        login = fixed_header(&p, &header, &format!("{prefix}{secret}"));
        p.done();
    }
    if let Some(mut p) = p.object("basic") {
        let user = p.need_text("user");
        let password = p.need_secret("password", secrets);
        login = fixed_header(&p, "Authorization", &basic(&user, &password));
        p.done();
    }
    if let Some(p) = p.object("request") {
        login = login_request(p, secrets).map_or(Login::None, |r| Login::Request(Box::new(r)));
    }
    p.done();
    login
}

fn fixed_header(p: &Params<'_>, name: &str, value: &str) -> Login {
    match (HeaderName::from_bytes(name.as_bytes()), header_value(value)) {
        (Ok(name), Some(value)) => Login::Header(name, value),
        (Err(_), _) => {
            p.problem_of("header", "请求头名称无效");
            Login::None
        }
        (_, None) => {
            p.problem("密钥含有不能放在请求头里的字符");
            Login::None
        }
    }
}

fn login_request(mut p: Params<'_>, secrets: &dyn Secrets) -> Option<LoginRequest> {
    let uri = address(&mut p, "url");
    let method = p.choice("method", METHODS, &Method::POST).clone();
    let user = p.text("user").unwrap_or_default();
    let password = if p.has("password") {
        p.need_secret("password", secrets)
    } else {
        p.text("password").unwrap_or_default()
    };
    let values = Values::from([("user".to_owned(), user), ("password".to_owned(), password)]);
    let plain = |text: String| Template { text, escape: Escape::Plain }.fill(&values);
    let pairs = p.pairs("headers", Some(secrets));
    let pairs: Vec<_> = pairs.into_iter().map(|(name, text)| (name, plain(text))).collect();
    let mut headers = made(&p, &pairs);
    let content_type = p.text("content-type").unwrap_or_else(|| "application/json".to_owned());
    let body = p.text_or_json("body").map(|body| Template::of_body(body, &content_type));
    if body.is_some()
        && let Ok(value) = HeaderValue::from_str(&content_type)
    {
        headers.insert(header::CONTENT_TYPE, value);
    }
    let token = pointer(&mut p, "token");
    let header = p.text("send-as").unwrap_or_else(|| "Authorization".to_owned());
    let header = HeaderName::from_bytes(header.as_bytes());
    if header.is_err() {
        p.problem_of("send-as", "请求头名称无效");
    }
    let prefix = p.text("prefix").unwrap_or_default();
    let expired = p.list("expired", &[]);
    p.done();
    let body = body.map(|body| body.fill(&values)).unwrap_or_default();
    let (uri, header) = (uri?, header.ok()?);
    Some(LoginRequest { uri, method, headers, body, token, header, prefix, expired })
}
