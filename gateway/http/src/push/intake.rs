//! Receiving a message: raw body in, receipt out, durable in between.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::Extension;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use percent_encoding::percent_decode;
use serde::Deserialize;
use time::Date;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::spi::Arrival;
use xinqiao_store::StoreError;

use crate::extract::Asked;
use crate::problem::Problem;
use crate::push::Arrived;
use crate::push::guard::Gate;
use crate::receipts;

/// A body that brings nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(30);
/// Characters of a name that are kept.
const NAME: usize = 200;

#[derive(Deserialize)]
pub(super) struct NameQuery {
    name: Option<String>,
}

pub(super) async fn receive(
    Extension(gate): Extension<Gate>,
    Asked(query): Asked<NameQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let feed = gate.push.feed(gate.index);
    gate.push.throttle(gate.index)?;
    readable(&headers)?;
    // Refused before the client sends it (`Expect: 100-continue`).
    if declared(&headers).is_some_and(|length| length > feed.max_bytes) {
        return Err(StoreError::TooLarge(feed.max_bytes).into());
    }
    let mut body = body.into_data_stream();
    let first = loop {
        match chunk(&mut body).await {
            None => return Err(empty()),
            Some(Err(error)) => return Err(StoreError::Body(error.to_string()).into()),
            Some(Ok(bytes)) if bytes.is_empty() => {}
            Some(Ok(bytes)) => break bytes,
        }
    };
    let rest = stream::unfold(body, async |mut body| Some((chunk(&mut body).await?, body)));
    let name = query.name.or_else(|| {
        let name = percent_decode(headers.get("x-file-name")?.as_bytes());
        Some(name.decode_utf8_lossy().into_owned())
    });
    let arrival = Arrival {
        name: name.as_deref().and_then(|name| shown(name, gate.push.today())),
        body: Box::pin(stream::once(std::future::ready(Ok(first))).chain(rest)),
        cursor: None,
    };
    let receipt = gate.push.store.receive(&feed.id, &feed.agency, arrival, feed.max_bytes).await?;
    let status = if receipt.duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(LOCATION, format!("/api/v1/messages/{}", receipt.message))];
    let signed = gate.push.receipts.sign(receipts::arrival(&receipt)).await?;
    Ok((status, location, Json(Arrived { receipt, signed })).into_response())
}

/// The next chunk; a line gone silent is an error.
pub(super) async fn chunk(body: &mut BodyDataStream) -> Option<io::Result<Bytes>> {
    match tokio::time::timeout(IDLE, body.next()).await {
        Ok(next) => next.map(|chunk| chunk.map_err(io::Error::other)),
        Err(_) => Some(Err(io::ErrorKind::TimedOut.into())),
    }
}

/// The body must be the message itself, not a wrapping of it.
fn readable(headers: &HeaderMap) -> Result<(), Problem> {
    let starts = |name, prefix: &[u8]| {
        let value = headers.get(name).map_or(&b""[..], |value| value.as_bytes().trim_ascii());
        value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let refuse = |code, title, detail: &str| {
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, code, title, detail))
    };
    if headers.contains_key(CONTENT_ENCODING) && !starts(CONTENT_ENCODING, b"identity") {
        let detail = "请去掉Content-Encoding,直接发送原始文件(XLSX等自身压缩的格式不受影响)";
        return refuse("http.content-encoding", "不接受压缩传输", detail);
    }
    if starts(CONTENT_TYPE, b"multipart/") {
        let detail = "请把文件原样作为请求正文发送,不要用表单上传。用curl时写--data-binary @文件名";
        return refuse("http.multipart", "不接受表单上传", detail);
    }
    Ok(())
}

pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn empty() -> Problem {
    let detail = "请求没有正文。用curl时检查--data-binary后的@和文件名";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "intake.empty", "报文为空", detail)
}

/// The name as it may be kept and shown: no folders, no control or direction-changing characters, no
/// personal number (looked for before the name is cut).
fn shown(name: &str, today: Date) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let hidden = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let name: String = last.trim().chars().filter(|c| !hidden(c)).collect();
    let name: String = mask(&name, today).chars().take(NAME).collect();
    (!name.trim().is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    fn shown(name: &str) -> Option<String> {
        super::shown(name, date!(2026 - 11 - 23))
    }

    #[test]
    fn a_name_is_one_harmless_line() {
        assert_eq!(shown(" 处罚/2026\\十一月.xlsx ").as_deref(), Some("十一月.xlsx"));
        assert_eq!(shown("a\r\nb\u{202e}c").as_deref(), Some("abc"));
        assert_eq!(shown(&"报".repeat(300)).map(|name| name.chars().count()), Some(NAME));
        assert_eq!(shown("张某_４１１７０２-19900102 9913.csv").as_deref(), Some("张某_***.csv"));
        let long = format!("{}411702199001029913", "报".repeat(NAME - 17));
        assert!(shown(&long).is_some_and(|name| name.ends_with("报***")));
        assert_eq!(
            shown("411702202611120101_13.csv").as_deref(),
            Some("411702202611120101_13.csv")
        );
        assert_eq!(shown("a/"), None);
        assert_eq!(shown("\u{7}"), None);
    }
}
