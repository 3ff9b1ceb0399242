//! What reports are made of: pages of figures, and zero reports (零报告).

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use time::Date;
use xinqiao_core::model::{AgencyId, DatasetId};
use xinqiao_core::period::Period;
use xinqiao_store::{RecordsPage, RecordsQuestion, RowsPage, ZeroReport};

use super::ask::limit;
use super::routes::{Answer, masked};
use super::{Client, ClientError, ControlState};
use crate::blocking;
use crate::extract::Told;
use crate::problem::Problem;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRecords {
    ask: RecordsQuestion,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskRows {
    agency: Option<AgencyId>,
    first: Date,
    last: Date,
    after: Option<u64>,
    limit: Option<usize>,
}

/// Body of `POST /control/v1/report/zero`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroRequest {
    /// Whose.
    pub agency: AgencyId,
    /// Of what.
    pub dataset: DatasetId,
    /// Of when.
    pub period: Period,
    /// Declared; else taken back.
    pub declared: bool,
    /// Who.
    pub actor: String,
    /// Why; must not be blank.
    pub reason: String,
}

/// What became of a declaration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZeroTold {
    /// `false`: it had been said before.
    pub changed: bool,
    /// Everything said of the period.
    pub report: ZeroReport,
}

// Questions are bodies: more than a query string's worth.
pub(super) fn routes() -> Router<ControlState> {
    Router::new()
        .route("/control/v1/report/records", post(records))
        .route("/control/v1/report/rows", post(rows))
        .route("/control/v1/report/zero", get(zeros).post(zero))
}

async fn records(
    State(state): State<ControlState>,
    Told(told): Told<AskRecords>,
) -> Answer<RecordsPage> {
    let after = match told.after.as_deref().map(digest) {
        Some(None) => return Err(Problem::malformed("JSON正文(after)")),
        after => after.flatten(),
    };
    blocking(move || state.store.report_records(&told.ask, after, limit(told.limit)).map(Json))
        .await
}

async fn rows(State(state): State<ControlState>, Told(told): Told<AskRows>) -> Answer<RowsPage> {
    let AskRows { agency, first, last, after, limit: most } = told;
    let span = (first, last);
    blocking(move || state.store.report_rows(agency.as_ref(), span, after, limit(most)).map(Json))
        .await
}

async fn zeros(State(state): State<ControlState>) -> Answer<Vec<ZeroReport>> {
    blocking(move || state.store.zero_reports().map(Json)).await
}

async fn zero(
    State(state): State<ControlState>,
    Told(told): Told<ZeroRequest>,
) -> Answer<ZeroTold> {
    let now = state.clock.now().shanghai_date();
    admissible(told.period, &told.reason, now)?;
    let of = |feed: &crate::FeedInfo| {
        feed.agency == told.agency && dataset(&feed.dataset).as_ref() == Some(&told.dataset)
    };
    if told.declared && !state.feeds.iter().any(of) {
        let detail =
            "该委办局没有这个数据集的接入任务,请核对 --agency 与 --dataset(xinqiao feeds ls)";
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "report.no-feed", "不属于该委办局", detail));
    }
    let (by, reason) = (masked(&state, &told.actor), masked(&state, &told.reason));
    let (changed, report) = state
        .store
        .tell_zero(told.agency, told.dataset, told.period, told.declared, by, reason)
        .await?;
    tracing::info!(agency = %report.agency, dataset = %report.dataset, period = %report.period, told.declared, changed, "zero report");
    Ok(Json(ZeroTold { changed, report }))
}

/// Whether a zero report may be told: with a reason, and of a period that is at its end.
pub(crate) fn admissible(period: Period, reason: &str, today: Date) -> Result<(), Problem> {
    let refuse = |code, title, detail: String| {
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail))
    };
    if reason.trim().is_empty() || reason.chars().count() > 200 {
        let detail = "零报告要写明原因,不超过200字";
        return refuse("report.reason", "缺少原因或原因过长", detail.to_owned());
    }
    if today < period.last() {
        let detail = format!("{}要到{}才结束,请到那一天或之后再报", period.shown(), period.last());
        return refuse("report.not-over", "周期尚未结束", detail);
    }
    Ok(())
}

/// The dataset of a reference such as `admin-penalty/2021`.
pub(crate) fn dataset(reference: &str) -> Option<DatasetId> {
    DatasetId::new(reference.split('/').next()?).ok()
}

impl Client {
    /// Figures of up to `limit` records behind a former page's `next`.
    pub async fn report_records(
        &self,
        ask: &RecordsQuestion,
        after: Option<String>,
        limit: usize,
    ) -> Result<RecordsPage, ClientError> {
        let told = AskRecords { ask: ask.clone(), after, limit: Some(limit) };
        self.post("/control/v1/report/records", &told).await
    }

    /// Rows of messages that came within a span, of up to `limit` messages behind a former page's
    /// `next`.
    pub async fn report_rows(
        &self,
        agency: Option<AgencyId>,
        (first, last): (Date, Date),
        after: Option<u64>,
        limit: usize,
    ) -> Result<RowsPage, ClientError> {
        let told = AskRows { agency, first, last, after, limit: Some(limit) };
        self.post("/control/v1/report/rows", &told).await
    }

    /// Every zero report.
    pub async fn zero_reports(&self) -> Result<Vec<ZeroReport>, ClientError> {
        self.get("/control/v1/report/zero", &()).await
    }

    /// Declares a zero report, or takes it back.
    pub async fn tell_zero(&self, request: &ZeroRequest) -> Result<ZeroTold, ClientError> {
        self.post("/control/v1/report/zero", request).await
    }
}

/// 32 hex digits.
fn digest(text: &str) -> Option<[u8; 16]> {
    let sound = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = sound.then(|| u128::from_str_radix(text, 16).ok())??;
    Some(number.to_be_bytes())
}
