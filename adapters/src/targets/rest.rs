//! `rest`: posts batches of records as JSON. The wire format, precise enough to write a receiver:
//! `gateway/docs/formats/rest-target.md`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use encoding_rs::{Encoding, GB18030, UTF_8};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xinqiao_core::model::{Operation, TargetId};
use xinqiao_core::spi::{
    BoxFuture, Outcome, ParamProblem, Parcel, Sealer, Secrets, Target, TargetError, TargetFactory,
};

use crate::wire::digest::digest;
use crate::wire::http::{Answer, Client, HttpError, Request, address, header_value, headers};
use crate::wire::params::{Params, Problems, scalar};

/// The kind `rest`. Parameters:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `url` | where to post | required |
/// | `headers` | names and texts, or secrets by reference | none |
/// | `token` | `{header, secret, prefix}`: a header made of a secret | none |
/// | `ca`, `client-cert`, `client-key` | PEM files | `ca` with https |
/// | `connect-seconds`, `read-seconds`, `timeout-seconds` | time-outs | 10, 30, 60 |
/// | `max-bytes` | of an answer | 16 MiB |
/// | `dedupes` | the target recognises a repeated key | true |
/// | `charset` | `utf-8` or `gb18030`, both ways | `utf-8` |
/// | `answers` | `{ok: [codes], retry: [codes]}`; every other code refuses | `{ok: ["00"]}` |
pub(super) struct Rest;

/// Media type of an envelope (RFC 8551, whose structures GB/T 35275 shares).
const SEALED: &str = "application/pkcs7-mime";

struct RestTarget {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
    charset: &'static Encoding,
    ok: Vec<String>,
    retry: Vec<String>,
    dedupes: bool,
}

impl TargetFactory for Rest {
    fn kind(&self) -> &'static str {
        "rest"
    }

    fn build(
        &self,
        _: &TargetId,
        params: &Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Target>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let uri = address(&mut params, "url");
        let mut pairs = params.pairs("headers", Some(secrets));
        if let Some(mut token) = params.object("token") {
            let name = token.text("header").unwrap_or_else(|| "Authorization".to_owned());
            let prefix = token.text("prefix").unwrap_or_default();
            pairs.push((name, prefix + &token.need_secret("secret", secrets)));
            token.done();
        }
        let headers = headers(&pairs).unwrap_or_else(|why| {
            params.problem_of("headers", &why);
            HeaderMap::new()
        });
        let max_body = params.number("max-bytes", 16 << 20);
        let client =
            Client::from_params(&mut params, secrets, &uri.iter().collect::<Vec<_>>(), max_body);
        let dedupes = params.flag("dedupes", true);
        let charset = params.choice("charset", &[("utf-8", UTF_8), ("gb18030", GB18030)], UTF_8);
        let (mut ok, mut retry) = (vec!["00".to_owned()], Vec::new());
        if let Some(mut answers) = params.object("answers") {
            ok = answers.some_of("ok", &["00"]);
            retry = answers.list("retry", &[]);
            if ok.iter().any(|code| retry.contains(code)) {
                answers.problem("同一代码不能既在 ok 又在 retry 中");
            }
            answers.done();
        }
        params.done();
        match (uri, client, problems.into_inner()) {
            (Some(uri), Some(client), problems) if problems.is_empty() => {
                Ok(Arc::new(RestTarget { client, uri, headers, charset, ok, retry, dedupes }))
            }
            (_, _, problems) => Err(problems),
        }
    }
}

impl Target for RestTarget {
    fn deliver<'a>(
        &'a self,
        batch: &'a [Parcel],
        sealer: Option<&'a dyn Sealer>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, TargetError>> {
        Box::pin(async move {
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            let answer = self.client.send(self.request(batch, sealer)?).await.map_err(|error| {
                let detail = error.to_string();
                match error {
                    HttpError::NotSent(_) => TargetError::NotTaken { detail, retry_after: None },
                    HttpError::Unknown(_) | HttpError::TooBig(_) => TargetError::Unknown { detail },
                }
            })?;
            refused_as_such(&answer)?;
            self.read(batch, &answer)
        })
    }

    fn dedupes(&self) -> bool {
        self.dedupes
    }
}

#[derive(Serialize)]
struct Batch<'a> {
    batch: &'a str,
    count: usize,
    rows: Vec<RowOut<'a>>,
}

#[derive(Serialize)]
struct RowOut<'a> {
    key: &'a str,
    dataset: &'a str,
    generation: u16,
    operation: Operation,
    #[serde(serialize_with = "as_map")]
    fields: &'a [(Arc<str>, String)],
}

fn as_map<S: serde::Serializer>(
    fields: &&[(Arc<str>, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|(code, text)| (&**code, text)))
}

#[derive(Deserialize)]
struct AnswerBody {
    code: Value,
    #[serde(default)]
    message: Value,
    #[serde(default)]
    results: Vec<RowIn>,
}

#[derive(Deserialize)]
struct RowIn {
    key: String,
    code: Value,
    #[serde(default)]
    message: Value,
}

impl RestTarget {
    fn request(
        &self,
        batch: &[Parcel],
        sealer: Option<&dyn Sealer>,
    ) -> Result<Request, TargetError> {
        let id = batch_id(batch);
        let body = batch_json(batch)
            .map_err(|_| TargetError::Rejected { detail: "无法生成请求内容".to_owned() })?;
        let body = match self.charset.encode(&body).0 {
            std::borrow::Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        let (body, content_type) = match sealer {
            Some(sealer) => {
                let not_sealed = |detail| TargetError::NotTaken { detail, retry_after: None };
                (Bytes::from(sealer.seal(&body).map_err(not_sealed)?), SEALED)
            }
            None if self.charset == UTF_8 => (body, "application/json; charset=utf-8"),
            None => (body, "application/json; charset=gb18030"),
        };
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(id) = header_value(&id) {
            headers.insert(HeaderName::from_static("idempotency-key"), id);
        }
        Ok(Request { method: Method::POST, uri: self.uri.clone(), headers, body })
    }

    fn read(&self, batch: &[Parcel], answer: &Answer) -> Result<Vec<Outcome>, TargetError> {
        let unreadable = |why| TargetError::Unknown { detail: format!("答复无法读取:{why}") };
        let text = self.charset.decode(&answer.body).0;
        let body: AnswerBody = serde_json::from_str(&text)
            .map_err(|_| unreadable("不是约定的JSON(应有 code 和 results)"))?;
        let code = scalar(&body.code).ok_or_else(|| unreadable("code 不是文本"))?;
        if !self.ok.contains(&code) {
            let detail = format!("答复代码 {}:{}", clean(&code, 64), message(&body.message));
            return Err(if self.retry.contains(&code) {
                TargetError::NotTaken { detail, retry_after: answer.retry_after() }
            } else {
                TargetError::Rejected { detail }
            });
        }
        let mut outcomes: HashMap<&str, Outcome> = HashMap::with_capacity(body.results.len());
        for row in &body.results {
            let code = scalar(&row.code).unwrap_or_default();
            let outcome = self.outcome(&code, &row.message);
            let told = outcomes.entry(&row.key).or_insert_with(|| outcome.clone());
            if *told != outcome {
                *told = later("target.conflict", "目标对同一条给出了不同的结果");
            }
        }
        let missing = || later("target.no-answer", "答复中没有此条的结果");
        Ok(batch
            .iter()
            .map(|parcel| outcomes.get(parcel.key.as_str()).cloned().unwrap_or_else(missing))
            .collect())
    }

    fn outcome(&self, code: &str, text: &Value) -> Outcome {
        if code.is_empty() {
            return later("target.no-code", "答复中此条没有代码");
        }
        let is = |codes: &[String]| codes.iter().any(|known| known == code);
        if is(&self.ok) {
            return Outcome::Accepted;
        }
        let (code, message) = (clean(code, 64), message(text));
        match is(&self.retry) {
            true => Outcome::Later { code, message },
            false => Outcome::Refused { code, message },
        }
    }
}

pub(super) fn later(code: &str, message: &str) -> Outcome {
    Outcome::Later { code: code.to_owned(), message: message.to_owned() }
}

pub(super) fn message(text: &Value) -> String {
    clean(&scalar(text).unwrap_or_default(), 200)
}

/// What a status other than 2xx means for the whole batch.
pub(super) fn refused_as_such(answer: &Answer) -> Result<(), TargetError> {
    let status = answer.status;
    let detail = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            format!("HTTP {},请检查访问凭据", status.as_u16())
        }
        StatusCode::NOT_FOUND => "HTTP 404,请检查 url".to_owned(),
        _ if status.is_redirection() => {
            format!("HTTP {}(重定向),不跟随,请改正 url", status.as_u16())
        }
        _ => format!("HTTP {}", status.as_u16()),
    };
    if status.is_success() {
        return Ok(());
    }
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            TargetError::NotTaken { detail, retry_after: answer.retry_after() }
        }
        StatusCode::REQUEST_TIMEOUT => TargetError::Unknown { detail },
        _ if status.is_server_error() => TargetError::Unknown { detail },
        _ => TargetError::Rejected { detail },
    })
}

/// A batch as JSON.
pub(super) fn batch_json(batch: &[Parcel]) -> serde_json::Result<String> {
    let rows = batch.iter().map(|parcel| RowOut {
        key: &parcel.key,
        dataset: parcel.dataset.as_str(),
        generation: parcel.generation,
        operation: parcel.operation,
        fields: &parcel.fields,
    });
    let body = Batch { batch: &batch_id(batch), count: batch.len(), rows: rows.collect() };
    serde_json::to_string(&body)
}

/// Names a batch: its length and a digest of its keys in order. The same parcels, the same name.
pub(super) fn batch_id(batch: &[Parcel]) -> String {
    let digest = digest(batch.iter().map(|parcel| parcel.key.as_bytes()));
    format!("{}-{digest:032x}", batch.len())
}

/// A target's text in one line of `most` characters. Personal numbers in it are masked by the
/// gateway before it keeps the text, so a cut never leaves a part of a number, which could no
/// longer be known for one.
pub(super) fn clean(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(most) {
        None => text,
        Some((end, _)) => {
            let kept = text.get(..end).unwrap_or_default();
            // Digits of any width and what may stand between them; Chinese text is alphabetic.
            kept.trim_end_matches(|c: char| !c.is_alphabetic()).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_line_and_never_cut_within_a_number() {
        assert_eq!(clean("a\n甲", 200), "a甲");
        assert_eq!(clean(&"信".repeat(300), 200).chars().count(), 200);
        for number in
            ["11010519491231002X", "１１０１０５１９４９１２３１００２１", "110105 19491231-0021"]
        {
            let long = format!("{}{number}", "信".repeat(190));
            assert_eq!(clean(&long, 200), "信".repeat(190));
            assert_eq!(clean(&long, 250), long);
        }
    }

    #[test]
    fn a_batch_is_named_by_its_keys() {
        let parcel = |key: &str| Parcel {
            key: key.to_owned(),
            dataset: xinqiao_core::model::DatasetId::new("a").unwrap(),
            generation: 1,
            operation: Operation::Upsert,
            fields: Vec::new(),
        };
        let (a, b, c) = (parcel("a-1"), parcel("b-1"), parcel("c-1"));
        let id = |parcels: &[&Parcel]| {
            batch_id(&parcels.iter().map(|p| (*p).clone()).collect::<Vec<_>>())
        };
        assert_eq!(id(&[&a, &b]), id(&[&a, &b]));
        assert_ne!(id(&[&a, &b, &a]), id(&[&a, &c, &a]), "the middle counts");
    }
}
