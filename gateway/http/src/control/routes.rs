//! The routes. Whoever reaches them may do everything: they are served on a socket only its owner
//! can open.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::{AgencyId, FeedId};
use xinqiao_core::spi::Arrival;
use xinqiao_store::{ItemFilter, ItemView, MessageView, Rewrapped, RowVerdictView, StoreError};

use super::ask::{AskMessages, AskQueue, AskVerdicts, limit};
use super::{ActRequest, ActResult, ControlState, FeedReport, QueuePage, Readiness, StatusReport};
use crate::extract::{Asked, Id, Told};
use crate::problem::Problem;
use crate::{blocking, serve};

/// A pull source that has said nothing for so long is not well (milliseconds).
const SILENCE: u64 = 10 * 60 * 1000;

/// The control interface as a router.
pub fn router(state: ControlState) -> Router {
    Router::new()
        .route("/control/v1/status", get(status))
        .route("/control/v1/feeds", get(feeds))
        .route("/control/v1/messages", get(messages))
        .route("/control/v1/messages/{id}/verdicts", get(verdicts))
        .route("/control/v1/queue", get(queue))
        .route("/control/v1/queue/{id}", get(item))
        .route("/control/v1/queue/act", post(act))
        .route("/control/v1/keys/rewrap", post(rewrap))
        .merge(super::report::routes())
        .merge(super::uscc::routes())
        .route("/livez", get(async || StatusCode::OK))
        .route("/readyz", get(readyz))
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::no_method())
        .layer(serve::catch_panic())
        .with_state(state)
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;

async fn status(State(state): State<ControlState>) -> Answer<StatusReport> {
    blocking(move || {
        Ok(Json(StatusReport { now: state.clock.now(), status: state.store.status()? }))
    })
    .await
}

async fn feeds(State(state): State<ControlState>) -> Answer<Vec<FeedReport>> {
    blocking(move || {
        let mut counters = state.store.status()?.feeds;
        let report = |feed: &crate::FeedInfo| FeedReport {
            id: feed.id.clone(),
            agency: feed.agency.clone(),
            agency_name: feed.agency_name.clone(),
            title: feed.title.clone(),
            dataset: feed.dataset.clone(),
            source: feed.source.clone(),
            targets: feed.targets.clone(),
            progress: state.progress.get(&feed.id),
            feedback: state.feedback.get(&feed.id),
            counters: counters.remove(&feed.id).unwrap_or_default(),
        };
        Ok(Json(state.feeds.iter().map(report).collect()))
    })
    .await
}

async fn messages(
    State(state): State<ControlState>,
    Asked(ask): Asked<AskMessages>,
) -> Answer<Vec<MessageView>> {
    blocking(move || {
        let limit = limit(ask.limit);
        // Names are kept masked: see `Inbox`.
        let name = ask.name.map(|name| masked(&state, &name));
        state.store.messages(ask.feed.as_ref(), name.as_deref(), ask.before, limit).map(Json)
    })
    .await
}

async fn verdicts(
    State(state): State<ControlState>,
    Id(message): Id,
    Asked(ask): Asked<AskVerdicts>,
) -> Answer<Vec<RowVerdictView>> {
    blocking(move || {
        state.store.verdicts(message, ask.from.unwrap_or(0), limit(ask.limit)).map(Json)
    })
    .await
}

async fn queue(
    State(state): State<ControlState>,
    Asked(ask): Asked<AskQueue>,
) -> Answer<QueuePage> {
    let after = match ask.after.as_deref().map(cursor) {
        Some(None) => return Err(Problem::malformed("查询串(after)")),
        after => after.flatten(),
    };
    let filter = ItemFilter {
        state: ask.state,
        target: ask.target,
        agency: ask.agency,
        deadline_before: ask.deadline_before,
    };
    blocking(move || {
        let (items, next) = state.store.items(&filter, after, limit(ask.limit))?;
        let next = next.map(|(deadline, id)| format!("{deadline}-{id}"));
        Ok(Json(QueuePage { items, next }))
    })
    .await
}

async fn item(State(state): State<ControlState>, Id(id): Id) -> Answer<ItemView> {
    blocking(move || state.store.item(id).map(Json)).await
}

async fn act(
    State(state): State<ControlState>,
    Told(request): Told<ActRequest>,
) -> Answer<Vec<ActResult>> {
    let ActRequest { ids, act, actor, reason } = request;
    if reason.trim().is_empty() || actor.trim().is_empty() {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let detail = "每次处置都要写明由谁、因何处置,并记入投递项的历史";
        return Err(Problem::new(status, "control.reason", "缺少处置人或处置原因", detail));
    }
    let (actor, reason) = (masked(&state, &actor), masked(&state, &reason));
    let ends = state.store.act(ids.clone(), act, actor, reason).await?;
    let result = |(id, end): (u64, Result<(), StoreError>)| ActResult {
        id,
        error: end.err().map(|error| error.to_string()),
    };
    Ok(Json(ids.into_iter().zip(ends).map(result).collect()))
}

/// Puts the newest generation of the storage key in use.
async fn rewrap(State(state): State<ControlState>) -> Answer<Rewrapped> {
    let storage_key = Arc::clone(&state.storage_key);
    // Opening keys is slow on purpose.
    let key = tokio::task::spawn_blocking(move || storage_key());
    let key = key.await.map_err(|_| Problem::defect())?.map_err(|why| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Problem::new(status, "control.storage-key", "无法读取落盘加密密钥", why)
    })?;
    let rewrapped = state.store.rewrap(key).await?;
    tracing::info!(key = rewrapped.key, segments = rewrapped.segments, "storage key rotated");
    Ok(Json(rewrapped))
}

/// Ready means: a message would be taken, and every pull source (not `push`) has reported within
/// ten minutes and well. A source that has not reported since the start is not ready yet.
async fn readyz(State(state): State<ControlState>) -> Response {
    let mut reasons: Vec<String> = intake_refuses(&state).await.into_iter().collect();
    let now = state.clock.now();
    for feed in state.feeds.iter().filter(|feed| feed.source != "push") {
        let fault = match state.progress.get(&feed.id) {
            None => "启动后尚未报告进展".to_owned(),
            Some(word) => match word.error {
                Some((code, text)) => format!("出错({code}):{text}"),
                None if now.millis_since(word.at) > SILENCE => {
                    format!("自{}起没有进展", word.at)
                }
                None => continue,
            },
        };
        reasons.push(format!("接入任务{}{fault}", feed.id));
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons })).into_response()
}

/// Knocks at intake with a body that fails at once: whatever refuses messages refuses this first,
/// and nothing is stored.
async fn intake_refuses(state: &ControlState) -> Option<String> {
    let (feed, agency) = FeedId::new("readyz").ok().zip(AgencyId::new("readyz").ok())?;
    let body = stream::once(std::future::ready(Err(std::io::ErrorKind::Interrupted.into())));
    let arrival = Arrival { name: None, body: Box::pin(body), cursor: None };
    match state.store.receive(&feed, &agency, arrival, 0).await {
        Ok(_) | Err(StoreError::Body(_)) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// What a person typed, without personal numbers.
pub(super) fn masked(state: &ControlState, text: &str) -> String {
    mask(text, state.clock.now().shanghai_date()).into_owned()
}

/// `deadline-id`.
fn cursor(text: &str) -> Option<(u64, u64)> {
    let (deadline, id) = text.split_once('-')?;
    deadline.parse().ok().zip(id.parse().ok())
}
