//! Pulling page after page from an HTTP interface, whatever it speaks. Every page is one message;
//! the position after it is committed with it.

use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use xinqiao_core::fault::{Blame, Retry};
use xinqiao_core::spi::{Arrival, Fault, SourceContext};

use super::paging::{Paging, Position};
use super::template::Values;
use super::{SourceFault, pause, wait_after};
use crate::wire::http::{Answer, HttpError};

/// An interface that hands out pages.
pub(super) trait Pages: Send + Sync {
    /// What a login gave.
    type Session: Default + Send;

    fn paging(&self) -> &Paging;
    /// How often to look.
    fn poll(&self) -> Duration;
    /// What its messages are named after.
    fn name(&self) -> &str;
    /// One page; logs in where needed, and once more if the session has expired.
    fn page(
        &self,
        values: &Values,
        session: &mut Self::Session,
    ) -> impl Future<Output = Result<Page, SourceFault>> + Send;
}

/// One page.
pub(super) struct Page {
    pub(super) body: Bytes,
    /// Its rows, where they are known.
    pub(super) rows: Option<Rows>,
    /// The next cursor.
    pub(super) next: Option<String>,
}

/// Rows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: usize,
    /// Equal for equal rows.
    pub(super) print: u64,
}

impl Rows {
    pub(super) fn of(rows: &[Value]) -> Self {
        let mut print = DefaultHasher::new();
        rows.hash(&mut print);
        Self { count: rows.len(), print: print.finish() }
    }

    pub(super) fn none() -> Self {
        Self::of(&[])
    }
}

/// Pulls until shut down.
pub(super) async fn run<P: Pages>(pages: &P, context: &SourceContext) {
    let mut position: Option<Position> = None;
    let mut session = P::Session::default();
    let mut attempt = 0;
    while !context.shutdown.has_begun() {
        let wait = match sweep(pages, context, &mut position, &mut session).await {
            Ok(()) => {
                attempt = 0;
                pages.poll()
            }
            Err(fault) => {
                context.inbox.progress(Err(fault.as_ref()));
                attempt += 1;
                wait_after(attempt, fault.retry(), pages.poll(), context)
            }
        };
        pause(wait, &context.shutdown).await;
    }
}

/// Pulls until there is nothing more for now. The position moves only with a receipt, or past a
/// page without rows.
async fn sweep<P: Pages>(
    pages: &P,
    context: &SourceContext,
    position: &mut Option<Position>,
    session: &mut P::Session,
) -> Result<(), Fault> {
    let paging = pages.paging();
    let mut at = match position.take() {
        Some(at) => at,
        None => {
            let cursor = context.inbox.cursor().await?;
            paging.start(cursor.as_deref())
        }
    };
    *position = Some(at.clone());
    let mut count = 0_u64;
    while !context.shutdown.has_begun() {
        let Some(values) = paging.values(&at, context.clock.now()) else { break };
        let begun = context.shutdown.begun();
        // Nothing has been taken yet: stopping may cut the exchange short.
        let page = tokio::select! {
            page = pages.page(&values, session) => page.map_err(|fault| Box::new(fault) as Fault)?,
            () = begun => break,
        };
        let count_of = page.rows.map(|rows| rows.count);
        let advance = paging.advance(&at, count_of, page.next.as_deref());
        if count_of != Some(0) {
            let arrival = Arrival {
                name: Some(format!("{}{}", pages.name(), at.label())),
                body: Box::pin(stream::iter([Ok(page.body)])),
                cursor: Some(advance.position.encode()),
            };
            context.inbox.receive(arrival).await?;
            count += 1;
        }
        at = advance.position;
        *position = Some(at.clone());
        if advance.last {
            break;
        }
        context.inbox.progress(Ok(&format!("已接收{count}页")));
    }
    let text =
        if count == 0 { "没有新数据".to_owned() } else { format!("本轮接收{count}页") };
    context.inbox.progress(Ok(&text));
    Ok(())
}

/// What a status other than 2xx means.
pub(super) fn check_status(answer: &Answer) -> Result<(), SourceFault> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let hint = match status.as_u16() {
        403 => ",没有访问权限",
        404 => ",请检查网址",
        300..=399 => "(重定向),不跟随,请改正网址",
        _ => "",
    };
    let mut fault = odd(&format!("HTTP {}{hint}", status.as_u16()));
    fault.retry = answer.retry_after().map_or(Retry::Backoff, Retry::After);
    Err(fault)
}

pub(super) fn unreachable(error: HttpError) -> SourceFault {
    let code = match error {
        HttpError::NotSent(_) => "source.unreachable",
        HttpError::Unknown(_) => "source.broken-answer",
        HttpError::TooBig(_) => "source.too-large",
    };
    SourceFault { code, blame: Blame::Agency, retry: Retry::Backoff, text: error.to_string() }
}

pub(super) fn odd(text: &str) -> SourceFault {
    let (code, retry) = ("source.odd-answer", Retry::Backoff);
    SourceFault { code, blame: Blame::Agency, retry, text: text.to_owned() }
}

pub(super) fn denied(text: &str) -> SourceFault {
    let (code, retry) = ("source.denied", Retry::Backoff);
    SourceFault { code, blame: Blame::Operator, retry, text: text.to_owned() }
}

/// A code from the other side as far as it may be shown.
pub(super) fn shown(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).take(12).collect()
}
