//! The door: token, room, time.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use time::Date;
use tokio::sync::Semaphore;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::Clock;
use xinqiao_crypto::sm3;
use xinqiao_store::Store;

use crate::problem::Problem;
use crate::push::PushState;
use crate::receipts::ReceiptSigner;
use crate::tls::Shown;
use crate::{FeedInfo, Feeds};

/// Requests in progress; more are shed.
const ROOM: usize = 512;
/// Requests whose beginning is read to know whose they are: nobody else waits for these.
const UNKNOWN: usize = 32;
/// A question is answered within this.
const ASKING: Duration = Duration::from_secs(10);
/// A message is received within this, however slow its line.
pub(super) const RECEIVING: Duration = Duration::from_secs(600);

type Limiter = RateLimiter<NotKeyed, InMemoryState, Steady, NoOpMiddleware<Duration>>;

/// The running push interface.
pub(crate) struct Push {
    pub(super) store: Store,
    pub(super) receipts: ReceiptSigner,
    pub(super) tls: bool,
    pub(super) feeds: Feeds,
    /// One per feed; `None` where no limit is set.
    limiters: Vec<Option<Limiter>>,
    clock: Steady,
    pub(super) room: Semaphore,
    /// For callers who are not known yet.
    pub(super) unknown: Semaphore,
}

/// Who came through the door.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(super) push: Arc<Push>,
    /// Of the feed.
    pub(super) index: usize,
}

impl Push {
    pub(super) fn new(state: PushState) -> Self {
        let clock = Steady::new(state.clock);
        let limiter = |feed: &FeedInfo| {
            let quota = Quota::per_minute(NonZeroU32::new(feed.per_minute)?);
            Some(RateLimiter::direct_with_clock(quota, clock.clone()))
        };
        Self {
            store: state.store,
            receipts: state.receipts,
            limiters: state.feeds.iter().map(limiter).collect(),
            feeds: state.feeds,
            clock,
            tls: state.tls,
            room: Semaphore::new(ROOM),
            unknown: Semaphore::new(UNKNOWN),
        }
    }

    #[expect(clippy::indexing_slicing, reason = "a gate's index comes from these feeds")]
    pub(super) fn feed(&self, index: usize) -> &FeedInfo {
        &self.feeds[index]
    }

    /// Now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.0.clock.now()
    }

    /// Today in Asia/Shanghai.
    pub(super) fn today(&self) -> Date {
        self.now().shanghai_date()
    }

    /// Counts one message against the feed's rate.
    pub(super) fn throttle(&self, index: usize) -> Result<(), Problem> {
        let Some(limiter) = self.limiters.get(index).and_then(Option::as_ref) else {
            return Ok(());
        };
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let seconds = seconds.max(1);
            let detail = format!(
                "本接入任务每分钟最多{}份报文,请{seconds}秒后再发,或把多条记录合并为一份",
                self.feed(index).per_minute
            );
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "http.rate-limit", "推送过于频繁", detail)
                .retry_after(seconds)
        })
    }

    /// A client certificate stands for an agency: it must be the feed's own, where that has named
    /// any, and never one that another has named.
    pub(super) fn identified(&self, index: usize, Shown(shown): Shown) -> Result<(), Problem> {
        let feed = self.feed(index);
        let of_any = |one| self.feeds.iter().any(|feed| feed.client_certificates.contains(&one));
        let fits = match shown {
            Some(one) if of_any(one) => feed.client_certificates.contains(&one),
            _ => feed.client_certificates.is_empty(),
        };
        if fits {
            return Ok(());
        }
        let code = "http.client-certificate";
        let shown = shown.map(|digest| xinqiao_crypto::hex(&digest));
        tracing::warn!(feed = %feed.id, agency = %feed.agency, shown, code, "客户端证书与令牌不属同一单位");
        let detail = format!(
            "令牌属于{},但所用的TLS客户端证书{}。请用本单位登记的证书连接;证书已更换的,请联系网关运维人员登记",
            feed.agency_name,
            match &shown {
                None => "没有出示".to_owned(),
                Some(digest) => format!("不是该单位登记的(SM3指纹{digest})"),
            }
        );
        Err(Problem::new(StatusCode::FORBIDDEN, code, "客户端证书与令牌不符", detail))
    }

    /// The feed whose token it is. Every feed is compared in full, so time tells nothing.
    pub(super) fn feed_of(&self, token: &[u8]) -> Option<usize> {
        let digest = sm3(token);
        let mut found = None;
        for (index, feed) in self.feeds.iter().enumerate() {
            if feed.token.is_some_and(|known| same(&known, &digest)) {
                found = Some(index);
            }
        }
        found
    }
}

/// Lets a request in, or refuses it before anything of its body is read.
pub(super) async fn admit(
    State(push): State<Arc<Push>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(index) = bearer(request.headers()).and_then(|token| push.feed_of(token)) else {
        let detail = "请在请求头Authorization中写“Bearer 令牌”,令牌由网关运维人员发放";
        return Err(no_token(detail));
    };
    let shown = request.extensions().get::<Shown>().copied().unwrap_or_default();
    push.identified(index, shown)?;
    let Ok(_room) = push.room.try_acquire() else { return Err(overload()) };
    let limit = if request.method() == Method::POST { RECEIVING } else { ASKING };
    request.extensions_mut().insert(Gate { push: Arc::clone(&push), index });
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| too_late())
}

pub(super) fn no_token(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "http.token", "缺少令牌或令牌无效", detail)
}

pub(super) fn overload() -> Problem {
    let detail = "同时进行的请求过多,请稍后重新发送相同内容";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "http.overload", "网关繁忙", detail)
        .retry_after(1)
}

pub(super) fn too_late() -> Problem {
    let detail = "请求没有在时限内完成,请稍后重新发送相同内容";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "http.timeout", "请求超时", detail).retry_after(5)
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Equality in constant time.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    black_box(left.iter().zip(right).fold(0, |differs, (l, r)| differs | (l ^ r))) == 0
}

/// The gateway's clock for the rate limit: counts what it moves forward, so that setting the
/// machine's clock back does not shut feeds out.
#[derive(Clone)]
struct Steady(Arc<SteadyInner>);

struct SteadyInner {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
    passed: AtomicU64,
}

impl Steady {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let last = AtomicU64::new(clock.now().0);
        Self(Arc::new(SteadyInner { clock, last, passed: AtomicU64::new(0) }))
    }
}

impl governor::clock::Clock for Steady {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let now = self.0.clock.now().0;
        let step = now.saturating_sub(self.0.last.swap(now, Ordering::Relaxed));
        Duration::from_millis(self.0.passed.fetch_add(step, Ordering::Relaxed) + step)
    }
}
