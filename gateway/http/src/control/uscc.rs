//! The mapping table of legacy codes (对照表), and what waits for it.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use xinqiao_core::ident::LegacyKind;
use xinqiao_core::model::FeedId;
use xinqiao_store::{HeldCount, Loaded, TableLine, UsccPage, UsccView};

use super::ask::limit;
use super::routes::Answer;
use super::{Client, ClientError, ControlState};
use crate::blocking;
use crate::extract::{Asked, Told};
use crate::problem::Problem;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskLines {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskCode {
    kind: LegacyKind,
    code: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TellRerun {
    feed: Option<FeedId>,
}

pub(super) fn routes() -> Router<ControlState> {
    Router::new()
        .route("/control/v1/uscc", get(lines))
        .route("/control/v1/uscc/load", post(load))
        .route("/control/v1/uscc/code", get(of_code))
        .route("/control/v1/uscc/held", get(held))
        .route("/control/v1/uscc/rerun", post(rerun))
}

async fn lines(State(state): State<ControlState>, Asked(ask): Asked<AskLines>) -> Answer<UsccPage> {
    let after = match ask.after.as_deref().map(key) {
        Some(None) => return Err(Problem::malformed("查询串(after)")),
        after => after.flatten(),
    };
    blocking(move || state.store.uscc_lines(after, limit(ask.limit)).map(Json)).await
}

async fn load(
    State(state): State<ControlState>,
    Told(lines): Told<Vec<TableLine>>,
) -> Answer<Loaded> {
    let loaded = state.store.load_uscc(lines).await?;
    tracing::info!(
        added = loaded.added,
        withdrawn = loaded.withdrawn,
        ambiguous = loaded.ambiguous,
        "mapping table changed"
    );
    Ok(Json(loaded))
}

async fn of_code(
    State(state): State<ControlState>,
    Asked(ask): Asked<AskCode>,
) -> Answer<Vec<UsccView>> {
    blocking(move || state.store.uscc_of(ask.kind, &ask.code).map(Json)).await
}

async fn held(State(state): State<ControlState>) -> Answer<Vec<HeldCount>> {
    blocking(move || state.store.held().map(Json)).await
}

async fn rerun(State(state): State<ControlState>, Told(told): Told<TellRerun>) -> Answer<u64> {
    Ok(Json(state.store.rerun_all(told.feed).await?))
}

impl Client {
    /// Lines of the mapping table, behind a former page's `next`.
    pub async fn uscc_lines(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<UsccPage, ClientError> {
        let ask = AskLines { after: after.map(str::to_owned), limit: Some(limit) };
        self.get("/control/v1/uscc", &ask).await
    }

    /// Adds lines or takes them back, in one transaction; a body is at most 2 MB.
    pub async fn uscc_load(&self, lines: &[TableLine]) -> Result<Loaded, ClientError> {
        self.post("/control/v1/uscc/load", &lines).await
    }

    /// Every line of one code.
    pub async fn uscc_of(
        &self,
        kind: LegacyKind,
        code: &str,
    ) -> Result<Vec<UsccView>, ClientError> {
        self.get("/control/v1/uscc/code", &AskCode { kind, code: code.to_owned() }).await
    }

    /// How many rows are held, by feed and reason.
    pub async fn held(&self) -> Result<Vec<HeldCount>, ClientError> {
        self.get("/control/v1/uscc/held", &()).await
    }

    /// Has every held row (of a feed) looked at again; how many.
    pub async fn rerun(&self, feed: Option<FeedId>) -> Result<u64, ClientError> {
        self.post("/control/v1/uscc/rerun", &TellRerun { feed }).await
    }
}

/// 64 hex digits.
fn key(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(key)
}
