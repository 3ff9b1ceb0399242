//! `soap-push`: agencies push by SOAP. The WSDL is made from the feed: either an operation with the
//! records as elements (document/literal, wrapped), or one with a document in a text, as vendors'
//! clients call it. The whole is told in `gateway/docs/formats/soap-push.zh.md`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use xinqiao_core::model::{FormatKind, FormatSpec};
use xinqiao_core::spi::{
    DecodeError, Listener, ListenerFactory, ParamProblem, PushAnswer, PushCall, PushRefusal,
    Written,
};

use crate::wire::params::{Params, Problems};
use crate::wire::soap::{Style, Version, envelope, fault, operation};
use crate::wire::xml::{Token, is_name, local, read};

mod answer;
mod wsdl;

/// The kind `soap-push`. Parameters, beside those of every push:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `profile` | `records`, `execute-json` or `execute-xml` | `records` |
/// | `style` | `document`, `rpc` or `rpc-encoded`; `records` is `document` | `document` |
/// | `operation` | its name | `submit`, `execute`, `importXml` |
/// | `argument` | name of a record's element, or of the text | `record`, `json`, `xml` |
/// | `token-argument` | name of the argument with the token, the first one | none |
/// | `namespace` | target namespace | `urn:xinqiao:soap:<feed>` |
/// | `base` | address in the WSDL, before `/soap/…` | where it is asked for |
/// | `wait-seconds` | how long an answer waits for processing | 20, at most 120 |
pub(super) struct SoapPush;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Profile {
    Records,
    Json,
    Xml,
}

#[derive(Debug)]
struct Dialect {
    profile: Profile,
    style: Style,
    operation: String,
    argument: String,
    token: Option<String>,
    namespace: String,
    base: Option<String>,
    wait: Duration,
    /// Elements of a record.
    columns: Vec<String>,
}

impl ListenerFactory for SoapPush {
    fn kind(&self) -> &'static str {
        "soap-push"
    }

    fn build(
        &self,
        feed: &str,
        format: &FormatSpec,
        columns: &[String],
        params: &Value,
    ) -> Result<Arc<dyn Listener>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut p = Params::new(params, &problems);
        let profiles = [
            ("records", Profile::Records),
            ("execute-json", Profile::Json),
            ("execute-xml", Profile::Xml),
        ];
        let profile = p.choice("profile", &profiles, Profile::Records);
        let style = p.choice("style", Style::WORDS, Style::Document);
        let (call, argument) = match profile {
            Profile::Records => ("submit", "record"),
            Profile::Json => ("execute", "json"),
            Profile::Xml => ("importXml", "xml"),
        };
        let operation = name(&mut p, "operation", Some(call)).unwrap_or_default();
        let argument = name(&mut p, "argument", Some(argument)).unwrap_or_default();
        let token = name(&mut p, "token-argument", None);
        if token.as_ref() == Some(&argument) {
            p.problem_of("token-argument", "不能与 argument 同名");
        }
        let namespace = p.text("namespace").unwrap_or_else(|| format!("urn:xinqiao:soap:{feed}"));
        let base = p.text("base").map(|base| base.trim_end_matches('/').to_owned());
        if let Some(base) = &base
            && !(base.starts_with("http://") || base.starts_with("https://"))
        {
            p.problem_of("base", "应以 http:// 或 https:// 开头,如 https://网关地址:8443");
        }
        let wait = p.seconds("wait-seconds", Duration::from_secs(20), Duration::ZERO);
        if wait > Duration::from_secs(120) {
            p.problem_of("wait-seconds", "不能大于120秒");
        }
        let mut names: Vec<String> = Vec::new();
        if profile == Profile::Records {
            if style != Style::Document {
                p.problem_of("style", "records 只有 document 一种");
            }
            for column in columns {
                match is_name(column) {
                    true if column.starts_with("xml") || names.contains(column) => {}
                    true => names.push(column.clone()),
                    false => p.problem_of(
                        "profile",
                        &format!(
                            "列名“{column}”不能作为XML元素名,请在映射规则里改名,或用 execute-json"
                        ),
                    ),
                }
            }
            let record = format!("/{operation}/{argument}");
            if format.record.as_deref() != Some(&record) {
                p.problem_of("profile", &format!("映射规则的 source.record 应为 {record}"));
            }
        }
        let kind = match profile {
            Profile::Json => FormatKind::Json,
            Profile::Records | Profile::Xml => FormatKind::Xml,
        };
        let at = match profile {
            Profile::Records => format!("/{operation}"),
            Profile::Json | Profile::Xml => format!("/{operation}/{argument}"),
        };
        let given = format.unwrap.as_ref().and_then(|unwrap| unwrap.at.as_deref());
        if format.kind != kind || given != Some(&at) {
            let word = if kind == FormatKind::Json { "json" } else { "xml" };
            let text =
                format!("映射规则应写 source: {{ format: {word}, unwrap: {{ at: {at} }}, … }}");
            p.problem_of("profile", &text);
        }
        p.done();
        let dialect = Dialect {
            profile,
            style,
            operation,
            argument,
            token,
            namespace,
            base,
            wait,
            columns: names,
        };
        let problems = problems.into_inner();
        if problems.is_empty() { Ok(Arc::new(dialect)) } else { Err(problems) }
    }
}

/// A parameter that names an element.
fn name(p: &mut Params<'_>, key: &'static str, usual: Option<&str>) -> Option<String> {
    let name = p.text(key).or_else(|| usual.map(str::to_owned))?;
    if !is_name(&name) {
        p.problem_of(key, "不能作为XML元素名");
    }
    Some(name)
}

/// The variants of [`PushCall`].
fn version(call: &PushCall) -> Version {
    if call.variant == 2 { Version::V12 } else { Version::V11 }
}

impl Listener for Dialect {
    fn holds_token(&self) -> bool {
        self.token.is_some()
    }

    fn call(&self, beginning: &[u8]) -> Result<PushCall, PushRefusal> {
        let refuse =
            |code: &str, text: String| PushRefusal { code: code.to_owned(), text, callers: true };
        // A MIME body's first part is the envelope, by every client known.
        let from = match beginning.trim_ascii_start() {
            mime if mime.starts_with(b"--") => memchr::memchr(b'<', mime)
                .and_then(|mut at| {
                    // `Content-ID: <…>` stands before it.
                    while mime
                        .get(at + 1)
                        .is_some_and(|byte| !byte.is_ascii_alphabetic() && *byte != b'?')
                        || !line_begins(mime, at)
                    {
                        at += 1 + memchr::memchr(b'<', mime.get(at + 1..)?)?;
                    }
                    mime.get(at..)
                })
                .unwrap_or_default(),
            plain => plain,
        };
        let text = match std::str::from_utf8(from) {
            Err(error) if error.error_len().is_some() => encoding_rs::GB18030.decode(from).0,
            _ => String::from_utf8_lossy(from),
        };
        let (mut open, mut found): (Vec<String>, Option<Version>) = (Vec::new(), None);
        let (mut called, mut token, mut within) = (None, None, None);
        let end =
            read(text.trim_start_matches('\u{feff}').as_bytes(), 64, &mut || {}, &mut |next| {
                match next {
                    Token::Open(tag) => {
                        let name = local(tag.name);
                        match open.as_slice() {
                            [] => {
                                found = Version::of(&tag.ns).filter(|_| name == "Envelope");
                                if found.is_none() {
                                    return Ok(ControlFlow::Break(()));
                                }
                            }
                            [_, body] if body == "Body" => {
                                called = Some(name.to_owned());
                                if self.token.is_none() || name != self.operation {
                                    return Ok(ControlFlow::Break(()));
                                }
                            }
                            [_, body, _]
                                if body == "Body" && Some(name) == self.token.as_deref() =>
                            {
                                within = Some(String::new());
                            }
                            _ => {}
                        }
                        open.push(name.to_owned());
                    }
                    Token::Text(text) => {
                        if let Some(token) = &mut within {
                            token.push_str(text);
                        }
                    }
                    Token::Close => {
                        open.pop();
                        if let Some(told) = within.take() {
                            token = Some(told.trim().to_owned()).filter(|token| !token.is_empty());
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                }
                Ok(ControlFlow::Continue(()))
            });
        if let Err(error @ (DecodeError::Forbidden(_) | DecodeError::Limit { .. })) = end {
            return Err(refuse("soap.forbidden", error.to_string()));
        }
        let Some(found) = found else {
            let text = "请求不是SOAP 1.1或1.2的信封";
            return Err(refuse("soap.no-envelope", text.to_owned()));
        };
        match called {
            Some(name) if name == self.operation => {
                Ok(PushCall { variant: if found == Version::V12 { 2 } else { 1 }, token })
            }
            _ => Err(refuse(
                "soap.operation",
                format!("没有这个操作,本接口的操作是 {},请对照WSDL", self.operation),
            )),
        }
    }

    fn answer(&self, call: &PushCall, answer: &PushAnswer) -> Written {
        let version = version(call);
        let body = match self.profile {
            Profile::Records => {
                let mut body = format!("<op:{0}Response xmlns:op=\"", self.operation);
                crate::wire::xml::escape(&self.namespace, &mut body);
                body.push_str("\">");
                answer::records(answer, &mut body);
                body + &format!("</op:{}Response>", self.operation)
            }
            Profile::Json | Profile::Xml => {
                let text = match self.profile {
                    Profile::Json => answer::json(answer),
                    _ => answer::xml(answer),
                };
                let name = format!("{}Response", self.operation);
                operation(version, self.style, &self.namespace, &name, &[("return", &text)], false)
            }
        };
        written(version, 200, envelope(version, "", &body))
    }

    fn refuse(&self, call: Option<&PushCall>, refusal: &PushRefusal) -> Written {
        let version = call.map_or(Version::V11, version);
        let status = if refusal.callers && version == Version::V12 { 400 } else { 500 };
        written(version, status, fault(version, refusal.callers, &refusal.code, &refusal.text))
    }

    fn describe(&self, address: &str) -> Written {
        let body = wsdl::write(self, address);
        Written { status: 200, content_type: "text/xml; charset=utf-8", body }
    }

    fn patience(&self) -> Duration {
        self.wait
    }

    fn base(&self) -> Option<&str> {
        self.base.as_deref()
    }
}

/// Whether nothing but white space stands before a place in its line.
fn line_begins(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    line.trim_ascii().is_empty()
}

fn written(version: Version, status: u16, body: String) -> Written {
    let content_type = match version {
        Version::V11 => "text/xml; charset=utf-8",
        Version::V12 => "application/soap+xml; charset=utf-8",
    };
    Written { status, content_type, body }
}

#[cfg(test)]
mod tests;
