//! Asking: a running gateway by its socket, or the store at hand by the same routes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt as _;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::FeedId;
use xinqiao_store::{ItemFilter, ItemView, MessageView, Rewrapped, RowVerdictView};

use super::ask::{AskMessages, AskQueue, AskVerdicts};
use super::{ActRequest, ActResult, ControlState, FeedReport, QueuePage, StatusReport, router};
use crate::problem::Wire;

/// An answer is no larger.
const ANSWER: usize = 256 << 20;
/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the control interface.
pub struct Client(Way);

enum Way {
    Socket(PathBuf),
    Local(Router),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("网关没有运行")]
    NotRunning,
    /// The gateway refused.
    #[error("{title}:{detail}({code})")]
    Problem {
        /// Stable, dotted.
        code: String,
        /// What kind of refusal (Chinese).
        title: String,
        /// What to do about it (Chinese).
        detail: String,
    },
    /// The connection failed, or the answer does not read.
    #[error("与网关通信失败:{0}")]
    Io(String),
}

impl Client {
    /// A client of the gateway whose socket is at `path`.
    ///
    /// # Errors
    /// `NotRunning` if nobody answers there.
    pub fn socket(path: &Path) -> Result<Self, ClientError> {
        std::os::unix::net::UnixStream::connect(path).map_err(|error| unreached(&error))?;
        Ok(Self(Way::Socket(path.to_owned())))
    }

    /// A client of the store at hand, when no gateway runs.
    pub fn local(state: ControlState) -> Self {
        Self(Way::Local(router(state)))
    }

    /// Counters.
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.get("/control/v1/status", &()).await
    }

    /// Every feed.
    pub async fn feeds(&self) -> Result<Vec<FeedReport>, ClientError> {
        self.get("/control/v1/feeds", &()).await
    }

    /// Messages before `before`, newest first.
    pub async fn messages(
        &self,
        feed: Option<&FeedId>,
        name: Option<&str>,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<MessageView>, ClientError> {
        let (feed, name, limit) = (feed.cloned(), name.map(str::to_owned), Some(limit));
        self.get("/control/v1/messages", &AskMessages { feed, name, before, limit }).await
    }

    /// Row verdicts of a message from row index `from` on. At most 100 000 a call.
    pub async fn verdicts(
        &self,
        message: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<RowVerdictView>, ClientError> {
        let ask = AskVerdicts { from: Some(from), limit: Some(limit) };
        self.get(&format!("/control/v1/messages/{message}/verdicts"), &ask).await
    }

    /// Queue items by (deadline, id), after the former page's `next`.
    pub async fn queue(
        &self,
        filter: &ItemFilter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<QueuePage, ClientError> {
        let ask = AskQueue {
            state: filter.state,
            target: filter.target.clone(),
            agency: filter.agency.clone(),
            deadline_before: filter.deadline_before,
            after: after.map(str::to_owned),
            limit: Some(limit),
        };
        self.get("/control/v1/queue", &ask).await
    }

    /// One queue item with its history.
    pub async fn item(&self, id: u64) -> Result<ItemView, ClientError> {
        self.get(&format!("/control/v1/queue/{id}"), &()).await
    }

    /// Acts on queue items; one result per id, in order.
    pub async fn act(&self, request: &ActRequest) -> Result<Vec<ActResult>, ClientError> {
        self.post("/control/v1/queue/act", request).await
    }

    /// Puts the newest generation of the storage key in use.
    pub async fn rewrap(&self) -> Result<Rewrapped, ClientError> {
        let request = Request::post("/control/v1/keys/rewrap").header(HOST, "localhost");
        self.send(request.body(Body::empty()).map_err(io)?).await
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &impl Serialize,
    ) -> Result<T, ClientError> {
        let uri = format!("{path}?{}", query(ask)?);
        let request = Request::get(uri).header(HOST, "localhost").body(Body::empty());
        self.send(request.map_err(io)?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        told: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(told).map_err(io)?;
        let request = Request::post(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body));
        self.send(request.map_err(io)?).await
    }

    async fn send<T: DeserializeOwned>(&self, request: Request<Body>) -> Result<T, ClientError> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        let (status, body) = answer.map_err(|_| ClientError::Io("等待回答超时".to_owned()))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(io);
        }
        let wire: Wire = serde_json::from_slice(&body)
            .map_err(|_| ClientError::Io(format!("状态码{status},没有说明")))?;
        Err(ClientError::Problem { code: wire.code, title: wire.title, detail: wire.detail })
    }

    async fn exchange(&self, request: Request<Body>) -> Result<(StatusCode, Bytes), ClientError> {
        match &self.0 {
            Way::Local(router) => {
                let response = router.clone().oneshot(request).await.map_err(io)?;
                whole(response).await
            }
            Way::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| unreached(&error))?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream))
                        .await
                        .map_err(io)?;
                // Its end shows in the answer; dropping the sender ends it.
                tokio::spawn(connection);
                whole(sender.send_request(request).await.map_err(io)?).await
            }
        }
    }
}

async fn whole<B>(response: axum::http::Response<B>) -> Result<(StatusCode, Bytes), ClientError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let status = response.status();
    #[expect(clippy::disallowed_methods, reason = "limited, as the ban asks")]
    let body = Limited::new(response.into_body(), ANSWER).collect().await;
    Ok((status, body.map_err(io)?.to_bytes()))
}

/// A flat struct as a query string; empty members are left out.
fn query(ask: &impl Serialize) -> Result<String, ClientError> {
    let serde_json::Value::Object(members) = serde_json::to_value(ask).map_err(io)? else {
        return Ok(String::new());
    };
    let pair = |(name, value): (String, serde_json::Value)| {
        let text = match value {
            serde_json::Value::Null => return None,
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        Some(format!("{name}={}", utf8_percent_encode(&text, NON_ALPHANUMERIC)))
    };
    Ok(members.into_iter().filter_map(pair).collect::<Vec<_>>().join("&"))
}

fn unreached(error: &std::io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NotRunning,
        _ => ClientError::Io(io_words(error).into_owned()),
    }
}

fn io(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    let error = error.into();
    let mut cause: &(dyn std::error::Error + 'static) = &*error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    ClientError::Io(match cause.downcast_ref() {
        Some(error) => io_words(error).into_owned(),
        None => format!("应答不完整或无法识别({cause})"),
    })
}
