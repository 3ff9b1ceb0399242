//! Agency push: `POST /api/v1/messages`, what became of a message, and zero reports. The wire format
//! is told in `docs/formats/push-api.zh.md`.
//!
//! Every path asks for a feed's bearer token first, unknown ones too.

mod guard;
mod intake;
mod receipt;
mod soap;
#[cfg(test)]
mod tests;
mod zero;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use axum_server::accept::NoDelayAcceptor;
use serde::{Deserialize, Serialize};
use xinqiao_core::model::AgencyId;
use xinqiao_core::spi::{Clock, Shutdown};
use xinqiao_crypto::tls;
use xinqiao_store::{MessageView, RowVerdictView, Store, StoreError};

use crate::extract::{Asked, Id};
use crate::problem::Problem;
use crate::receipts::ReceiptSigner;
use crate::serve;
use crate::tls::TlsAcceptor;
use crate::{FeedInfo, Feeds, blocking};
use guard::{Gate, Push};

pub use receipt::{Arrived, Receipts};

/// What the push interface works on.
#[derive(Clone)]
pub struct PushState {
    /// Where messages go.
    pub store: Store,
    /// Whose tokens open it. Feeds without a token are not reachable.
    pub feeds: Feeds,
    /// Signs what was received and what became of it.
    pub receipts: ReceiptSigner,
    /// Drives the rate limit.
    pub clock: Arc<dyn Clock>,
    /// It is served by TLS: addresses that are told begin with `https`.
    pub tls: bool,
}

/// The push interface as a router.
pub fn router(state: PushState) -> Router {
    let push = Arc::new(Push::new(state));
    Router::new()
        .route("/api/v1/messages", post(intake::receive))
        .route("/api/v1/messages/{id}", get(message))
        .route("/api/v1/messages/{id}/verdicts", get(verdicts))
        .route("/api/v1/messages/{id}/receipt", get(receipt::receipt))
        .route("/api/v1/zero-reports", post(zero::declare))
        .fallback(async || Problem::no_route())
        .method_not_allowed_fallback(async || Problem::no_method())
        .layer(middleware::from_fn_with_state(Arc::clone(&push), guard::admit))
        .route("/soap/{agency}", get(soap::describe_agency).post(soap::receive_agency))
        .route("/soap/{agency}/{feed}", get(soap::describe).post(soap::receive))
        .layer(serve::catch_panic())
        .with_state(push)
}

/// Serves `router` on `listener` until `shutdown`, with TLS if it is given. Requests in progress
/// get ten more seconds.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: std::net::TcpListener,
    tls: Option<Arc<tls::Server>>,
    router: Router,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let server = axum_server::from_tcp(listener)?;
    match tls {
        None => serve::run(server.acceptor(NoDelayAcceptor::new()), router, shutdown).await,
        Some(tls) => serve::run(server.acceptor(TlsAcceptor(tls)), router, shutdown).await,
    }
}

/// Answer of `GET /api/v1/messages/{id}/verdicts`.
#[derive(Debug, Serialize, Deserialize)]
pub struct VerdictPage {
    /// Rows in the message's order.
    pub rows: Vec<RowVerdictView>,
    /// `from` of the next page; `null` when there is no further row yet.
    pub next: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerdictQuery {
    #[serde(default)]
    from: u64,
    limit: Option<usize>,
}

/// Rows on a page of verdicts, unless asked otherwise, and at most.
const PAGE: (usize, usize) = (100, 1000);

async fn message(
    Extension(gate): Extension<Gate>,
    Id(id): Id,
) -> Result<Json<MessageView>, Problem> {
    blocking(move || Ok(Json(own(&gate.push.store, &gate.feed().agency, id)?))).await
}

async fn verdicts(
    Extension(gate): Extension<Gate>,
    Id(id): Id,
    Asked(query): Asked<VerdictQuery>,
) -> Result<Json<VerdictPage>, Problem> {
    let limit = query.limit.unwrap_or(PAGE.0).clamp(1, PAGE.1);
    blocking(move || {
        let store = &gate.push.store;
        own(store, &gate.feed().agency, id)?;
        // One more than shown tells whether there is a next page.
        let mut rows = store.verdicts(id, query.from, limit + 1)?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok(Json(VerdictPage { rows, next: more.then(|| query.from.saturating_add(limit as u64)) }))
    })
    .await
}

/// The message, if it is the agency's: another's looks as if it did not exist.
fn own(store: &Store, agency: &AgencyId, id: u64) -> Result<MessageView, StoreError> {
    store
        .message(id)
        .and_then(|view| if view.agency == *agency { Ok(view) } else { Err(StoreError::NotFound) })
}

impl Gate {
    fn feed(&self) -> &FeedInfo {
        self.push.feed(self.index)
    }
}
