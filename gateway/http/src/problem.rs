//! Refusals on the wire: `application/problem+json` (RFC 9457) with a stable code and Chinese text.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use xinqiao_core::fault::{Classify as _, chain};
use xinqiao_store::StoreError;

use crate::receipts::Unsigned;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable, dotted; part of the interface.
    pub(crate) code: &'static str,
    /// What kind of refusal (Chinese).
    pub(crate) title: &'static str,
    /// What to do about it (Chinese).
    pub(crate) detail: String,
    /// Seconds after which the same request may succeed.
    pub(crate) retry_after: Option<u64>,
}

/// The members of the JSON object.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wire {
    pub(crate) r#type: String,
    pub(crate) title: String,
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) detail: String,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into(), retry_after: None }
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// No such thing, or not the caller's.
    pub(crate) fn not_found() -> Self {
        let detail = "没有这一项,或不属于本单位。请核对编号";
        Self::new(StatusCode::NOT_FOUND, "http.not-found", "没有这一项", detail)
    }

    pub(crate) fn no_route() -> Self {
        let detail = "请核对请求地址,参见推送接口说明";
        Self::new(StatusCode::NOT_FOUND, "http.no-route", "没有这个地址", detail)
    }

    pub(crate) fn no_method() -> Self {
        let detail = "请核对请求方法(GET或POST),参见推送接口说明";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new(status, "http.no-method", "此地址不支持这种请求方法", detail)
    }

    /// A query or body that does not read; `what` names it (Chinese).
    pub(crate) fn malformed(what: &str) -> Self {
        let detail = format!("{what}中有不认识的参数名,或参数值的格式不对");
        Self::new(StatusCode::BAD_REQUEST, "http.malformed", "请求参数无法识别", detail)
    }

    /// A defect: the handler panicked or a task was lost.
    pub(crate) fn defect() -> Self {
        let detail = "网关处理请求时发生内部错误,请联系网关运维人员。再次发送相同内容是安全的";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "http.defect", "网关内部错误", detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let unavailable = |title, detail: &str, seconds| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), title, detail)
                .retry_after(seconds)
        };
        match &error {
            StoreError::Busy => unavailable("网关繁忙", "请稍后重新发送相同内容", 1),
            StoreError::DiskFull => {
                let detail = "网关已暂停接收,已收下的报文不受影响。请稍后重新发送相同内容";
                unavailable("网关磁盘空间不足", detail, 300)
            }
            StoreError::OutcomeUnknown => {
                tracing::error!(code = error.code(), "the store has stopped");
                let detail = "本次报文可能已收下,也可能没有。请稍后重新发送相同内容:\
                              如已收下,将得到原回执,不会重复入库";
                unavailable("是否收下尚不确定", detail, 30)
            }
            StoreError::Io(_) => {
                tracing::error!(code = error.code(), error = chain(&error), "store I/O failed");
                unavailable("网关存储读写失败", "请稍后重新发送相同内容", 30)
            }
            StoreError::Corrupt(_) => {
                tracing::error!(code = error.code(), error = chain(&error), "store is damaged");
                Self { code: error.code(), ..Self::defect() }
            }
            StoreError::TooLarge(limit) => {
                let detail = format!("本接入任务每份报文不得超过{limit}字节,请拆分后发送");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.code(), "报文过大", detail)
            }
            StoreError::Body(_) => {
                let detail = "正文没有收完整(连接中断,或超过30秒没有新数据)。请重新发送";
                Self::new(StatusCode::BAD_REQUEST, error.code(), "正文不完整", detail)
            }
            StoreError::NotFound => Self::not_found(),
            StoreError::Conflict(_) => {
                let status = StatusCode::CONFLICT;
                Self::new(status, error.code(), "当前状态不允许此操作", error.to_string())
            }
        }
    }
}

impl From<Unsigned> for Problem {
    fn from(_: Unsigned) -> Self {
        let detail = "报文已落盘,但签名密钥暂不可用,无法签发回执。请稍后重新发送相同内容:\
                      将得到原回执,不会重复入库";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "receipt.unsigned", "无法签发回执", detail)
            .retry_after(30)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let wire = Wire {
            r#type: format!("urn:xinqiao:problem:{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            detail: self.detail,
        };
        let body = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
