//! Serving a router until told to stop.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use axum_server::accept::Accept;
use axum_server::{Address, Handle, Server};
use hyper_util::rt::TokioTimer;
use tower_http::catch_panic::CatchPanicLayer;
use xinqiao_core::spi::Shutdown;

use crate::problem::Problem;

/// A TLS handshake takes no longer.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(10);
/// A request's head arrives within this; an idle kept connection is closed after it, too.
const HEAD: Duration = Duration::from_secs(30);
/// What is in progress when the stop begins may take this much longer.
const GRACE: Duration = Duration::from_secs(10);

/// Serves HTTP/1.1 until `shutdown`, then lets requests in progress end.
pub(crate) async fn run<A, Acc>(
    mut server: Server<A, Acc>,
    router: Router,
    shutdown: Shutdown,
) -> io::Result<()>
where
    A: Address + Send + Sync + std::fmt::Debug + 'static,
    A::Stream: Send,
    A::Listener: Send + Sync,
    Acc: Accept<A::Stream, Router> + Clone + Send + Sync + 'static,
    Acc::Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    Acc::Service:
        axum_server::service::SendService<axum::http::Request<hyper::body::Incoming>> + Send,
    Acc::Future: Send,
{
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(64)
        .max_buf_size(64 << 10);
    let handle = Handle::new();
    let served = server.http1_only().handle(handle.clone()).serve(router.into_make_service());
    let mut served = std::pin::pin!(served);
    tokio::select! {
        end = &mut served => return end,
        () = shutdown.begun() => handle.graceful_shutdown(Some(GRACE)),
    }
    served.await
}

type OnPanic = fn(Box<dyn std::any::Any + Send>) -> Response<Body>;

/// Turns a panic in a handler into an answer; the panic hook has told the log.
pub(crate) fn catch_panic() -> CatchPanicLayer<OnPanic> {
    CatchPanicLayer::custom(|_| axum::response::IntoResponse::into_response(Problem::defect()))
}
