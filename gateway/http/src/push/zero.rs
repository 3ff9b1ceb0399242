//! An agency's zero report (零报告): no decision in a period. Agency and dataset are its token's.

use axum::Json;
use axum::extract::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::period::Period;

use crate::control::{ZeroTold, admissible, dataset};
use crate::extract::Told;
use crate::problem::Problem;
use crate::push::guard::Gate;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ZeroBody {
    period: Period,
    reason: String,
}

/// 201 when it is new, 200 when it had been declared before.
pub(super) async fn declare(
    Extension(gate): Extension<Gate>,
    Told(body): Told<ZeroBody>,
) -> Result<Response, Problem> {
    gate.push.throttle(gate.index)?;
    let today = gate.push.today();
    admissible(body.period, &body.reason, today)?;
    let feed = gate.push.feed(gate.index);
    let dataset = dataset(&feed.dataset).ok_or_else(Problem::defect)?;
    let (by, reason) = (format!("接口推送({})", feed.id), mask(&body.reason, today).into_owned());
    let (changed, report) = gate
        .push
        .store
        .tell_zero(feed.agency.clone(), dataset, body.period, true, by, reason)
        .await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(ZeroTold { changed, report })).into_response())
}
