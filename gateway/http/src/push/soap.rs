//! Push in a dialect of the feed's own: `POST /soap/{agency}` and `/soap/{agency}/{feed}`, and the
//! description by GET. The dialect is a [`Listener`]'s; the door, the receipt and the bounds are
//! those of the plain interface.

use std::sync::Arc;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use xinqiao_core::model::{FeedId, Verdict};
use xinqiao_core::spi::{
    Arrival, Listener, PushAnswer, PushCall, PushDone, PushRefusal, PushRow, Receipt, Written,
};
use xinqiao_store::{Store, StoreError};

use super::guard::{Push, RECEIVING, bearer, no_token, overload, too_late};
use super::intake::{chunk, declared};
use crate::problem::Problem;
use crate::receipts;
use crate::tls::Shown;
use crate::{FeedInfo, blocking};

/// What is looked at before a caller is known, and how long that may take in all.
const BEGINNING: usize = 64 << 10;
const KNOWING: Duration = Duration::from_secs(10);
/// Rows with findings that are told in one answer.
const TOLD: usize = 1_000;
/// Rows looked at together.
const PAGE: usize = 1_000;

pub(super) async fn describe_agency(
    State(push): State<Arc<Push>>,
    Path(agency): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    told(&push, &agency, None, &headers)
}

pub(super) async fn describe(
    State(push): State<Arc<Push>>,
    Path((agency, feed)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    told(&push, &agency, Some(&feed), &headers)
}

pub(super) async fn receive_agency(
    State(push): State<Arc<Push>>,
    Path(agency): Path<String>,
    request: Request,
) -> Response {
    take(push, agency, None, request).await
}

pub(super) async fn receive(
    State(push): State<Arc<Push>>,
    Path((agency, feed)): Path<(String, String)>,
    request: Request,
) -> Response {
    take(push, agency, Some(feed), request).await
}

/// The feeds that a path means.
fn meant<'p>(
    push: &'p Push,
    agency: &str,
    feed: Option<&str>,
) -> Vec<(usize, &'p FeedInfo, &'p Arc<dyn Listener>)> {
    let feeds = push.feeds.iter().enumerate();
    let feeds = feeds.filter_map(|(ix, info)| Some((ix, info, info.listener.as_ref()?)));
    feeds
        .filter(|(_, info, _)| info.agency.as_str() == agency)
        .filter(|(_, info, _)| feed.is_none_or(|feed| info.id.as_str() == feed))
        .collect()
}

/// A description holds names of columns, no data: tools that read it cannot show a token.
fn told(
    push: &Push,
    agency: &str,
    feed: Option<&str>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let Ok(_room) = push.room.try_acquire() else { return Err(overload()) };
    let feeds = meant(push, agency, feed);
    let [(_, info, listener)] = feeds.as_slice() else { return Err(Problem::not_found()) };
    let base = match (listener.base(), headers.get(HOST).and_then(|host| host.to_str().ok())) {
        (Some(base), _) => base.to_owned(),
        (None, Some(host)) if push.tls => format!("https://{host}"),
        (None, Some(host)) => format!("http://{host}"),
        (None, None) => return Err(Problem::malformed("请求头Host")),
    };
    let address = format!("{base}/soap/{}/{}", info.agency, info.id);
    Ok(response(listener.describe(&address), None))
}

async fn take(push: Arc<Push>, agency: String, feed: Option<String>, request: Request) -> Response {
    let feeds: Vec<usize> =
        meant(&push, &agency, feed.as_deref()).iter().map(|(ix, ..)| *ix).collect();
    let Some(first) = feeds.first().copied() else { return Problem::not_found().into_response() };
    // Whoever is refused before a feed is known is told so in the first one's words.
    let mut caller = Caller { push, index: first, call: None };
    match caller.take(&feeds, request).await {
        Ok(answer) => response(answer, None),
        Err(problem) => {
            let refusal = PushRefusal {
                code: problem.code.to_owned(),
                text: format!("{}:{}", problem.title, problem.detail),
                callers: problem.status.is_client_error()
                    && problem.status != StatusCode::TOO_MANY_REQUESTS,
            };
            match caller.listener() {
                Some(listener) => {
                    response(listener.refuse(caller.call.as_ref(), &refusal), problem.retry_after)
                }
                None => problem.into_response(),
            }
        }
    }
}

/// A request on its way.
struct Caller {
    push: Arc<Push>,
    index: usize,
    call: Option<PushCall>,
}

impl Caller {
    fn listener(&self) -> Option<&Arc<dyn Listener>> {
        self.push.feed(self.index).listener.as_ref()
    }

    async fn take(&mut self, feeds: &[usize], request: Request) -> Result<Written, Problem> {
        let push = Arc::clone(&self.push);
        let shown = request.extensions().get::<Shown>().copied().unwrap_or_default();
        let (head, body) = request.into_parts();
        if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let detail = "请去掉Content-Encoding,直接发送信封";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "http.content-encoding", "不接受压缩传输", detail));
        }
        // In the head or, once its beginning is read, in the request. Nobody unknown takes room that
        // others need, or any at all where no request could make him known.
        let mut body = body.into_data_stream();
        let read = match in_head(&head.headers, &push) {
            Some(found) => {
                self.index = found.filter(|index| feeds.contains(index)).ok_or_else(wrong_token)?;
                None
            }
            None => Some(self.known_by_request(feeds, &mut body).await?),
        };
        push.identified(self.index, shown)?;
        let Ok(_room) = push.room.try_acquire() else { return Err(overload()) };
        let received = self.receive(&head.headers, read, body);
        let receipt = tokio::time::timeout(RECEIVING, received).await.map_err(|_| too_late())??;
        let statement = receipts::arrival(&receipt);
        let signed = push.receipts.sign(statement).await?;
        let Some(listener) = self.listener().cloned() else { return Err(Problem::defect()) };
        let done = self.processed(receipt.message, listener.patience()).await?;
        let signed = (signed.statement, signed.signature);
        let call = self.call.clone().ok_or_else(Problem::defect)?;
        Ok(listener.answer(&call, &PushAnswer { receipt, signed, done }))
    }

    /// Knows the caller by the token in his request; what was read of it for that.
    async fn known_by_request(
        &mut self,
        feeds: &[usize],
        body: &mut BodyDataStream,
    ) -> Result<Bytes, Problem> {
        let push = Arc::clone(&self.push);
        let candidates = feeds.iter().filter_map(|index| push.feed(*index).listener.as_ref());
        if !candidates.clone().any(|listener| listener.holds_token()) {
            return Err(no_token(WHERE));
        }
        let Ok(_room) = push.unknown.try_acquire() else { return Err(overload()) };
        let beginning = tokio::time::timeout(KNOWING, beginning(body)).await;
        let beginning = beginning.map_err(|_| too_late())??;
        let mut read = Err(Problem::defect());
        for listener in candidates {
            let call = listener.call(&beginning);
            let good = matches!(&call, Ok(call) if call.token.is_some());
            if good || read.is_err() {
                read = call.map_err(refused);
            }
            if good {
                break;
            }
        }
        // Whoever is refused is told so in his version.
        let token = self.call.insert(read?).token.clone().ok_or_else(|| no_token(WHERE))?;
        let index = push.feed_of(token.as_bytes()).filter(|index| feeds.contains(index));
        self.index = index.ok_or_else(wrong_token)?;
        Ok(beginning)
    }

    /// Keeps what a known caller sends.
    async fn receive(
        &mut self,
        headers: &HeaderMap,
        read: Option<Bytes>,
        mut body: BodyDataStream,
    ) -> Result<Receipt, Problem> {
        let push = Arc::clone(&self.push);
        let beginning = match read {
            Some(beginning) => beginning,
            None => beginning(&mut body).await?,
        };
        // Of the feed itself: it may have an operation of its own.
        if let Some(listener) = self.listener() {
            self.call = Some(listener.call(&beginning).map_err(refused)?);
        }
        push.throttle(self.index)?;
        let feed = push.feed(self.index);
        if declared(headers).is_some_and(|length| length > feed.max_bytes) {
            return Err(StoreError::TooLarge(feed.max_bytes).into());
        }
        let first = stream::once(std::future::ready(Ok(beginning)));
        let rest = stream::unfold(body, async |mut body| Some((chunk(&mut body).await?, body)));
        let arrival = Arrival { name: None, body: Box::pin(first.chain(rest)), cursor: None };
        Ok(push.store.receive(&feed.id, &feed.agency, arrival, feed.max_bytes).await?)
    }

    /// Waits for a message to be processed, but not for long; `None` if it is not.
    async fn processed(&self, id: u64, patience: Duration) -> Result<Option<PushDone>, Problem> {
        let ended = async {
            let mut pause = Duration::from_millis(5);
            loop {
                let store = self.push.store.clone();
                let view = blocking(move || store.message(id)).await?;
                if view.end.is_some() {
                    return Ok::<_, Problem>(view);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
        };
        let Ok(view) = tokio::time::timeout(patience, ended).await else { return Ok(None) };
        let view = view?;
        let end = view.end.unwrap_or(xinqiao_store::MessageEnd { error: None, notes: Vec::new() });
        let (store, rows) = (self.push.store.clone(), view.rows);
        let (told, more) = blocking(move || findings(&store, id)).await?;
        Ok(Some(PushDone { error: end.error, notes: end.notes, rows, told, more }))
    }
}

/// Rows with findings, and whether there are more of them.
fn findings(store: &Store, id: u64) -> Result<(Vec<PushRow>, bool), StoreError> {
    let (mut told, mut from) = (Vec::new(), 0);
    loop {
        let rows = store.verdicts(id, from, PAGE)?;
        if rows.is_empty() {
            return Ok((told, false));
        }
        from += rows.len() as u64;
        for row in rows {
            if row.verdict == Verdict::Accept || row.findings.is_empty() {
                continue;
            }
            if told.len() == TOLD {
                return Ok((told, true));
            }
            told.push(PushRow { row: row.row, document: row.document, findings: row.findings });
        }
    }
}

/// The feed whose token stands in the head: `None` without one, `Some(None)` with a wrong one.
fn in_head(headers: &HeaderMap, push: &Push) -> Option<Option<usize>> {
    if let Some(token) = bearer(headers) {
        return Some(push.feed_of(token));
    }
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, given) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Some(None);
    }
    let decoded = base64(given.trim_ascii());
    let found = decoded.and_then(|decoded| {
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let feed = FeedId::new(std::str::from_utf8(decoded.get(..colon)?).ok()?).ok()?;
        let index = push.feed_of(decoded.get(colon + 1..)?)?;
        (push.feed(index).id == feed).then_some(index)
    });
    Some(found)
}

/// Standard base64 (RFC 4648 §4), padded or not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let (mut out, mut bits, mut count) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            // The upper bits are those already taken.
            out.push((bits >> count).to_be_bytes()[3]);
        }
    }
    Some(out)
}

/// The first bytes of a body.
async fn beginning(body: &mut BodyDataStream) -> Result<Bytes, Problem> {
    let mut first = BytesMut::new();
    while first.len() < BEGINNING {
        match chunk(body).await {
            None => break,
            Some(Err(error)) => return Err(StoreError::Body(error.to_string()).into()),
            Some(Ok(bytes)) => first.extend_from_slice(&bytes),
        }
    }
    Ok(first.freeze())
}

/// Where a token may stand.
const WHERE: &str = "请在请求头Authorization中写“Bearer 令牌”,或用HTTP基本认证(用户名为接入任务,密码为令牌),或按WSDL填令牌参数";

fn wrong_token() -> Problem {
    no_token("令牌不对,或不是本地址的接入任务的令牌,请核对")
}

fn refused(refusal: PushRefusal) -> Problem {
    let code = match refusal.code.as_str() {
        "soap.operation" => "soap.operation",
        "soap.no-envelope" => "soap.no-envelope",
        _ => "soap.forbidden",
    };
    Problem::new(StatusCode::BAD_REQUEST, code, "请求无法读取", refusal.text)
}

fn response(written: Written, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(written.status).unwrap_or(StatusCode::OK);
    let mut response = (status, written.body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(written.content_type));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
