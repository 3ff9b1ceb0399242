//! Pulling page after page from an HTTP interface, whatever it speaks. Every page is one message;
//! the position after it is committed with it.

use std::collections::HashSet;
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
    /// How many pages to take before a pause.
    fn round(&self) -> u64;
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

/// Where a pull stands.
#[derive(Debug, Clone)]
struct Standing {
    at: Position,
    /// The rows of the numbered page before: the next page has others.
    before: Option<u64>,
}

/// Pulls until shut down.
pub(super) async fn run<P: Pages>(pages: &P, context: &SourceContext) {
    let mut standing: Option<Standing> = None;
    let mut session = P::Session::default();
    let mut attempt = 0;
    while !context.shutdown.has_begun() {
        let wait = match sweep(pages, context, &mut standing, &mut session).await {
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

/// Pulls until there is nothing more for now, or enough. The position moves only with a receipt, or
/// past a page without rows; never in a ring.
async fn sweep<P: Pages>(
    pages: &P,
    context: &SourceContext,
    standing: &mut Option<Standing>,
    session: &mut P::Session,
) -> Result<(), Fault> {
    let paging = pages.paging();
    let mut now = match standing.take() {
        Some(now) => now,
        None => {
            let cursor = context.inbox.cursor().await?;
            Standing { at: paging.start(cursor.as_deref()), before: None }
        }
    };
    *standing = Some(now.clone());
    let (mut count, mut rest) = (0_u64, "");
    let mut cursors = HashSet::from([now.at.cursor().map(str::to_owned)]);
    while !context.shutdown.has_begun() {
        if count >= pages.round() {
            rest = ",先歇一次";
            break;
        }
        let Some(values) = paging.values(&now.at, context.clock.now()) else { break };
        let begun = context.shutdown.begun();
        // Nothing has been taken yet: stopping may cut the exchange short.
        let page = tokio::select! {
            page = pages.page(&values, session) => page.map_err(|fault| Box::new(fault) as Fault)?,
            () = begun => break,
        };
        let rows = page.rows.map(|rows| rows.count);
        let mut advance = paging.advance(&now.at, rows, page.next.as_deref());
        let print = page.rows.map(|rows| rows.print);
        if now.before.is_some() && now.before == print && rows != Some(0) {
            // What is a list's first page may have changed since.
            let at = paging.anew(&now.at);
            let before = now.before.filter(|_| at == now.at);
            *standing = Some(Standing { at, before });
            return Err(Box::new(same_page()));
        }
        let ring = !advance.last
            && advance.position.cursor().is_some()
            && !cursors.insert(advance.position.cursor().map(str::to_owned));
        if ring {
            advance.position = now.at.clone();
        }
        if rows != Some(0) {
            let arrival = Arrival {
                name: Some(format!("{}{}", pages.name(), now.at.label())),
                body: Box::pin(stream::iter([Ok(page.body)])),
                cursor: Some(advance.position.encode()),
            };
            context.inbox.receive(arrival).await?;
            count += 1;
        }
        if ring {
            return Err(Box::new(cursor_ring()));
        }
        let before = print.filter(|_| !advance.last && advance.position.follows(&now.at));
        now = Standing { at: advance.position, before };
        *standing = Some(now.clone());
        if advance.last {
            break;
        }
        context.inbox.progress(Ok(&format!("已接收{count}页")));
    }
    let text = match count {
        0 => "没有新数据".to_owned(),
        count => format!("本轮接收{count}页{rest}"),
    };
    context.inbox.progress(Ok(&text));
    Ok(())
}

fn same_page() -> SourceFault {
    let text = "这一页的数据行与前一页完全相同:对方没有按页码取数,或页码已到头仍答复最后一页;\
                请核对请求里的页码和 paging.page";
    let (code, blame) = ("source.same-page", Blame::Operator);
    SourceFault { code, blame, retry: Retry::Backoff, text: text.to_owned() }
}

fn cursor_ring() -> SourceFault {
    let text =
        "对方给出的下一页游标是本轮已经用过的,取下去没有尽头;请核对 cursor.from,或请对方改正";
    let (code, blame) = ("source.cursor-ring", Blame::Agency);
    SourceFault { code, blame, retry: Retry::Backoff, text: text.to_owned() }
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

/// A code from the other side as far as it may be shown: a text in its place may hold a person's
/// number, whose first six digits only say where.
pub(super) fn shown(code: &str) -> String {
    let mut digits = 0;
    let fits = |c: &char| {
        digits += u8::from(c.is_ascii_digit());
        digits <= 6
    };
    code.chars().filter(char::is_ascii_alphanumeric).take(12).take_while(fits).collect()
}
