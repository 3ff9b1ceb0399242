//! `soap`: posts batches of records to a platform's web service, in one of two shapes: the national
//! one of the first years of 双公示 (`importPermissionXml(token, xml)`, `importPenalyXml`, spelled so)
//! and the vendors' `execute(json)`. Both are told in `gateway/docs/formats/soap-target.zh.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::{Value, json};
use xinqiao_core::model::{Operation, TargetId};
use xinqiao_core::spi::{
    BoxFuture, Outcome, ParamProblem, Parcel, Sealer, Secrets, Target, TargetError, TargetFactory,
};

use super::rest::{clean, later, refused_as_such};
use crate::wire::http::{Answer, Client, HttpError, Request, address, headers, parse_address};
use crate::wire::params::{Params, Problems};
use crate::wire::soap::{Envelope, Style, Version, envelope, operation};
use crate::wire::xml::{Element, escape, is_name};

mod answer;

/// The kind `soap`. Parameters:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `url` | the service's address, unless the dataset has its own | required |
/// | `shape` | `national` or `execute` | `national` |
/// | `datasets` | dataset → `{operation, url, action, table-code}` | required |
/// | `token` | secret: the first argument of `national` | required there |
/// | `department-code`, `version-id` | of `execute` | none |
/// | `version`, `style`, `namespace`, `qualified` | of the envelope | `1.1`, `document`, required, false |
/// | `arguments` | names of the arguments | `[token, xml]`, `[json]` |
/// | `names` | field code → name of its element | the code |
/// | `dates` | `slash` (YYYY/MM/DD) or `dash` | `slash`, `dash` |
/// | `status` | `{field, upsert, withdraw}`: how a withdrawal is told | none |
/// | `key-field` | field by which `execute` names rows it refuses | none |
/// | `answers` | `{ok: [codes], retry: [codes]}` | `00`; `200`, retry `500` |
/// | `dedupes` | the service knows a repeated row | false |
/// | `headers`, `max-bytes`, `ca`, `…` | as of `rest` | |
pub(super) struct Soap;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    National,
    Execute,
}

/// Where a dataset goes.
struct Service {
    uri: Uri,
    operation: String,
    action: String,
    table: String,
}

/// How it is told whether a record stands or is taken back.
struct Status {
    field: String,
    upsert: String,
    withdraw: String,
}

struct SoapTarget {
    client: Client,
    shape: Shape,
    services: BTreeMap<String, Service>,
    token: String,
    department: Option<String>,
    version_id: Option<String>,
    version: Version,
    style: Style,
    namespace: String,
    qualified: bool,
    arguments: Vec<String>,
    names: BTreeMap<String, String>,
    slashes: bool,
    status: Option<Status>,
    key_field: Option<String>,
    headers: HeaderMap,
    ok: Vec<String>,
    retry: Vec<String>,
    dedupes: bool,
}

impl TargetFactory for Soap {
    fn kind(&self) -> &'static str {
        "soap"
    }

    fn build(
        &self,
        _: &TargetId,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Target>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut p = Params::new(params, &problems);
        let uri = address(&mut p, "url");
        let shapes = [("national", Shape::National), ("execute", Shape::Execute)];
        let shape = p.choice("shape", &shapes, Shape::National);
        let national = shape == Shape::National;
        let services = services(&mut p, uri.as_ref(), shape);
        let token = match national || p.has("token") {
            true => p.need_secret("token", secrets),
            false => p.text("token").unwrap_or_default(),
        };
        let (department, version_id) = (p.text("department-code"), p.text("version-id"));
        let version = p.choice("version", Version::WORDS, Version::V11);
        let style = p.choice("style", Style::WORDS, Style::Document);
        let namespace = p.need_text("namespace");
        let qualified = p.flag("qualified", false);
        let usual: &[&str] = if national { &["token", "xml"] } else { &["json"] };
        let arguments = p.list("arguments", usual);
        if arguments.len() != usual.len() || !arguments.iter().all(|name| is_name(name)) {
            p.problem_of("arguments", &format!("应为{}个参数名,如 {usual:?}", usual.len()));
        }
        let names: BTreeMap<String, String> = p.pairs("names", None).into_iter().collect();
        for (code, name) in names.iter().filter(|(_, name)| !is_name(name)) {
            p.problem_of(&format!("names.{code}"), &format!("“{name}”不能作为XML元素名"));
        }
        let slashes = p.choice("dates", &[("slash", true), ("dash", false)], national);
        let status = p.object("status").map(|mut p| {
            let field = p.need_text("field");
            let status =
                Status { upsert: p.need_text("upsert"), withdraw: p.need_text("withdraw"), field };
            p.done();
            status
        });
        let key_field = p.text("key-field");
        let pairs = p.pairs("headers", Some(secrets));
        let headers = headers(&pairs).unwrap_or_else(|why| {
            p.problem_of("headers", &why);
            HeaderMap::new()
        });
        let usual: (&[&str], &[&str]) =
            if national { (&["00"], &[]) } else { (&["200"], &["500"]) };
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (mut ok, mut retry) = (texts(usual.0), texts(usual.1));
        if let Some(mut answers) = p.object("answers") {
            ok = answers.some_of("ok", usual.0);
            retry = answers.list("retry", usual.1);
            if ok.iter().any(|code| retry.contains(code)) {
                answers.problem("同一代码不能既在 ok 又在 retry 中");
            }
            answers.done();
        }
        let dedupes = p.flag("dedupes", false);
        let max_body = p.number("max-bytes", 16 << 20);
        let uris: Vec<&Uri> =
            uri.iter().chain(services.values().map(|service| &service.uri)).collect();
        let client = Client::from_params(&mut p, secrets, &uris, max_body);
        // The word that rest has for its encoding is asked for in vain: XML is written in UTF-8.
        p.choice("charset", &[("utf-8", ())], ());
        p.done();
        match (client, problems.into_inner()) {
            (Some(client), problems) if problems.is_empty() => Ok(Arc::new(SoapTarget {
                client,
                shape,
                services,
                token,
                department,
                version_id,
                version,
                style,
                namespace,
                qualified,
                arguments,
                names,
                slashes,
                status,
                key_field,
                headers,
                ok,
                retry,
                dedupes,
            })),
            (_, problems) => Err(problems),
        }
    }
}

/// Reads `datasets`.
fn services(p: &mut Params<'_>, uri: Option<&Uri>, shape: Shape) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    if !p.has("datasets") {
        p.need_text("datasets");
        return services;
    }
    let Some(mut all) = p.object("datasets") else { return services };
    for id in all.keys() {
        let Some(mut p) = all.named(&id) else { continue };
        let operation = match shape {
            Shape::National => p.need_text("operation"),
            Shape::Execute => p.text("operation").unwrap_or_else(|| "execute".to_owned()),
        };
        if !operation.is_empty() && !is_name(&operation) {
            p.problem_of("operation", "不能作为XML元素名");
        }
        let table = match shape {
            Shape::National => p.text("table-code").unwrap_or_default(),
            Shape::Execute => p.need_text("table-code"),
        };
        let action = p.text("action").unwrap_or_default();
        let own = p.text("url").map(|text| parse_address(&text));
        if let Some(Err(why)) = &own {
            p.problem_of("url", why);
        }
        p.done();
        let own = own.and_then(Result::ok).or_else(|| uri.cloned());
        services.extend(own.map(|uri| (id, Service { uri, operation, action, table })));
    }
    if services.is_empty() && uri.is_some() {
        all.problem("至少要有一个数据集,如 admin-penalty: { operation: importPenalyXml }");
    }
    services
}

impl Target for SoapTarget {
    fn deliver<'a>(
        &'a self,
        batch: &'a [Parcel],
        sealer: Option<&'a dyn Sealer>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, TargetError>> {
        Box::pin(async move {
            if sealer.is_some() {
                let detail = "SOAP 目标不能加数字信封(seal),请去掉".to_owned();
                return Err(TargetError::Rejected { detail });
            }
            let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
            let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (ix, parcel) in batch.iter().enumerate() {
                match self.service(parcel) {
                    _ if parcel.operation == Operation::Withdraw && self.status.is_none() => {
                        let text = "目标没有写 status,撤销无法送达";
                        outcomes[ix] = Some(later("target.no-withdrawal", text));
                    }
                    Some((id, _)) => groups.entry(id).or_default().push(ix),
                    None => {
                        let text = "目标的 datasets 中没有这个数据集";
                        outcomes[ix] = Some(later("target.no-dataset", text));
                    }
                }
            }
            let mut some = outcomes.iter().any(Option::is_some);
            let mut stopped = None;
            for (id, indices) in groups {
                let parcels: Vec<&Parcel> =
                    indices.iter().filter_map(|ix| batch.get(*ix)).collect();
                let said = match (&stopped, self.services.get(id)) {
                    (None, Some(service)) => self.send(service, &parcels).await,
                    _ => Ok(vec![
                        later("target.not-sent", "前一批未成,本批未发");
                        parcels.len()
                    ]),
                };
                let said = match said {
                    Ok(said) => said,
                    // Nothing but this group was in the batch.
                    Err(error) if !some => return Err(error),
                    // A part of the batch is decided, but of this one nobody knows.
                    Err(error @ TargetError::Unknown { .. }) if !self.dedupes => return Err(error),
                    Err(error) => {
                        let outcome = later("target.not-taken", &error.to_string());
                        stopped = Some(());
                        vec![outcome; parcels.len()]
                    }
                };
                some = true;
                for (ix, outcome) in indices.into_iter().zip(said) {
                    outcomes[ix] = Some(outcome);
                }
            }
            let missing = || later("target.no-answer", "答复中没有此条的结果");
            Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect())
        })
    }

    fn dedupes(&self) -> bool {
        self.dedupes
    }
}

impl SoapTarget {
    /// By dataset and generation (`admin-penalty/2`), or by dataset.
    fn service(&self, parcel: &Parcel) -> Option<(&str, &Service)> {
        let exact = format!("{}/{}", parcel.dataset.as_str(), parcel.generation);
        let found = self.services.get_key_value(&exact);
        let found = found.or_else(|| self.services.get_key_value(parcel.dataset.as_str()));
        found.map(|(id, service)| (id.as_str(), service))
    }

    async fn send(
        &self,
        service: &Service,
        parcels: &[&Parcel],
    ) -> Result<Vec<Outcome>, TargetError> {
        let rows: Vec<Vec<(&str, Cow<'_, str>)>> =
            parcels.iter().map(|parcel| self.row(parcel)).collect();
        let request = self.request(service, &rows)?;
        let answer = self.client.send(request).await.map_err(|error| {
            let detail = error.to_string();
            match error {
                HttpError::NotSent(_) => TargetError::NotTaken { detail, retry_after: None },
                HttpError::Unknown(_) | HttpError::TooBig(_) => TargetError::Unknown { detail },
            }
        })?;
        let text = self.returned(&answer)?;
        match self.shape {
            Shape::National => answer::national(&text, parcels.len(), &self.ok, &self.retry),
            Shape::Execute => {
                let codes = (self.ok.as_slice(), self.retry.as_slice());
                answer::execute(&text, &rows, self.key_field.as_deref(), codes)
            }
        }
    }

    /// The fields of a record as the service wants them.
    fn row<'p>(&'p self, parcel: &'p Parcel) -> Vec<(&'p str, Cow<'p, str>)> {
        let mut row: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(parcel.fields.len() + 2);
        for (code, text) in &parcel.fields {
            let name = self.names.get(&**code).map_or(&**code, String::as_str);
            let text = match self.slashes && is_day(text) {
                true => Cow::Owned(text.replace('-', "/")),
                false => Cow::Borrowed(text.as_str()),
            };
            row.push((name, text));
        }
        if let Some(status) = &self.status {
            row.retain(|(name, _)| *name != status.field);
            let text = match parcel.operation {
                Operation::Withdraw => &status.withdraw,
                Operation::Upsert => &status.upsert,
            };
            row.push((&status.field, Cow::Borrowed(text)));
        }
        if let Some(key) = &self.key_field
            && row.iter().all(|(name, _)| name != key)
        {
            row.push((key, Cow::Borrowed(&parcel.key)));
        }
        row
    }

    fn request(
        &self,
        service: &Service,
        rows: &[Vec<(&str, Cow<'_, str>)>],
    ) -> Result<Request, TargetError> {
        let names: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let document = match self.shape {
            Shape::National => {
                let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ROWDATA>");
                for row in rows {
                    xml.push_str("<ROW>");
                    for (name, text) in row {
                        xml.push_str(&format!("<{name}>"));
                        escape(text, &mut xml);
                        xml.push_str(&format!("</{name}>"));
                    }
                    xml.push_str("</ROW>");
                }
                xml + "</ROWDATA>"
            }
            Shape::Execute => {
                let body: Vec<BTreeMap<&str, &str>> = rows
                    .iter()
                    .map(|row| row.iter().map(|(name, text)| (*name, &**text)).collect())
                    .collect();
                let mut all = json!({ "tableCode": service.table, "body": body });
                for (name, value) in
                    [("departmentCode", &self.department), ("versionId", &self.version_id)]
                {
                    if let Some(value) = value {
                        all[name] = json!(value);
                    }
                }
                all.to_string()
            }
        };
        let values = match self.shape {
            Shape::National => vec![self.token.as_str(), &document],
            Shape::Execute => vec![document.as_str()],
        };
        let arguments: Vec<(&str, &str)> = names.into_iter().zip(values).collect();
        let (version, name) = (self.version, &service.operation);
        let body =
            operation(version, self.style, &self.namespace, name, &arguments, self.qualified);
        let mut headers = self.headers.clone();
        let unusable = |_| TargetError::Rejected { detail: "action 无效".to_owned() };
        let kind = version.content_type(&service.action);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).map_err(unusable)?);
        if version == Version::V11 {
            let action = HeaderValue::from_str(&format!("\"{}\"", service.action));
            headers.insert(HeaderName::from_static("soapaction"), action.map_err(unusable)?);
        }
        let body = Bytes::from(envelope(version, "", &body));
        Ok(Request { method: Method::POST, uri: service.uri.clone(), headers, body })
    }

    /// The text the operation gives back.
    fn returned(&self, answer: &Answer) -> Result<String, TargetError> {
        let text = match std::str::from_utf8(&answer.body) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => encoding_rs::GB18030.decode(&answer.body).0,
        };
        let envelope = match Envelope::parse(text.trim_start_matches('\u{feff}')) {
            Ok(envelope) => envelope,
            Err(error) => {
                refused_as_such(answer)?;
                let detail = format!("答复无法读取:{error}");
                return Err(TargetError::Unknown { detail });
            }
        };
        if let Some(fault) = envelope.fault() {
            let detail = format!("SOAP故障 {}:{}", clean(&fault.code, 64), clean(&fault.text, 200));
            // What it had done before it failed, nobody knows; a caller's fault it had not begun.
            return Err(match fault.code.split('.').next() {
                Some("Client" | "Sender" | "VersionMismatch" | "MustUnderstand") => {
                    TargetError::Rejected { detail }
                }
                _ => TargetError::Unknown { detail },
            });
        }
        refused_as_such(answer)?;
        let mut texts = Vec::new();
        leaves(&envelope.body, &mut texts);
        match texts.as_slice() {
            [text] => Ok((*text).to_owned()),
            _ => Err(TargetError::Unknown {
                detail: "答复里没有(唯一的)返回文本".to_owned()
            }),
        }
    }
}

fn leaves<'e>(element: &'e Element, texts: &mut Vec<&'e str>) {
    if !element.text.trim().is_empty() {
        texts.push(&element.text);
    }
    for child in &element.children {
        leaves(child, texts);
    }
}

/// `2026-11-23`.
fn is_day(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(ix, byte)| match ix {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}
