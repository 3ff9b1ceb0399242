//! Receipts: of arrival with the message, of arrival and outcome when asked for.

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use xinqiao_core::spi::Receipt;
use xinqiao_store::{ItemState, MessageView, Store, StoreError};

use super::guard::Gate;
use super::own;
use crate::blocking;
use crate::extract::Id;
use crate::problem::Problem;
use crate::receipts::{SignedStatement, Standing, arrival, outcome};

/// Rows looked at together.
const PAGE: usize = 1_000;

/// Answer of `POST /api/v1/messages`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arrived {
    /// The facts.
    #[serde(flatten)]
    pub receipt: Receipt,
    /// The proof of them.
    #[serde(flatten)]
    pub signed: SignedStatement,
}

/// Answer of `GET /api/v1/messages/{id}/receipt`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Receipts {
    /// 接收回执.
    pub arrival: SignedStatement,
    /// 处理回执, as of now; `null` until every row has been processed.
    pub outcome: Option<SignedStatement>,
}

pub(super) async fn receipt(
    Extension(gate): Extension<Gate>,
    Id(id): Id,
) -> Result<Json<Receipts>, Problem> {
    let push = gate.push.clone();
    let (facts, ended) = blocking(move || {
        let store = &gate.push.store;
        let message = own(store, &gate.feed().agency, id)?;
        let ended = match &message.end {
            Some(end) => {
                let error = end.error.as_ref().map(|(code, _)| code.clone());
                Some((standing(store, id)?, error))
            }
            None => None,
        };
        Ok((facts(message), ended))
    })
    .await?;
    let outcome = match ended {
        Some((standing, error)) => {
            let statement = outcome(&facts, standing, error.as_deref(), push.now());
            Some(push.receipts.sign(statement).await?)
        }
        None => None,
    };
    Ok(Json(Receipts { arrival: push.receipts.sign(arrival(&facts)).await?, outcome }))
}

fn facts(message: MessageView) -> Receipt {
    Receipt {
        message: message.id,
        feed: message.feed,
        received: message.received,
        digest: message.digest,
        bytes: message.bytes,
        duplicate: false,
    }
}

fn standing(store: &Store, id: u64) -> Result<Standing, StoreError> {
    let mut standing = Standing::default();
    loop {
        let rows = store.verdicts(id, standing.rows, PAGE)?;
        if rows.is_empty() {
            return Ok(standing);
        }
        for row in rows {
            standing.rows += 1;
            let mut states = row.delivery.iter().map(|(_, state)| *state);
            let given_up =
                |state| matches!(state, ItemState::Refused | ItemState::Dead | ItemState::Dropped);
            if row.outcome == xinqiao_store::RowOutcome::Rejected {
                standing.rejected += 1;
            } else if row.outcome == xinqiao_store::RowOutcome::Mapped {
                standing.accepted += 1;
            } else if states.clone().any(given_up) {
                standing.refused += 1;
            } else if !row.delivery.is_empty() && states.all(|state| state == ItemState::Done) {
                standing.accepted += 1;
            }
        }
    }
}
