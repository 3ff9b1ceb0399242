//! Serving a router until told to stop.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use axum_server::accept::Accept;
use axum_server::{Address, Handle, Server};
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tower_http::catch_panic::CatchPanicLayer;
use xinqiao_core::fault::io_words;
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

/// The certificate chain and key as a TLS configuration (TLS 1.2 and 1.3, ring).
pub(crate) fn tls(chain: &Path, key: &Path) -> io::Result<ServerConfig> {
    let bad = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("无法使用TLS证书或私钥{}:{error}", path.display()),
        )
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(chain, &pem_words(&error)))?;
    if certificates.is_empty() {
        return Err(bad(chain, &"文件中没有PEM格式的证书"));
    }
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &pem_words(&error)))?;
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder.with_no_client_auth().with_single_cert(certificates, private)
            })
            .map_err(|error| bad(chain, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn pem_words(error: &pem::Error) -> Cow<'static, str> {
    match error {
        pem::Error::Io(error) => io_words(error),
        _ => "没有可用的PEM内容".into(),
    }
}

type OnPanic = fn(Box<dyn std::any::Any + Send>) -> Response<Body>;

/// Turns a panic in a handler into an answer; the panic hook has told the log.
pub(crate) fn catch_panic() -> CatchPanicLayer<OnPanic> {
    CatchPanicLayer::custom(|_| axum::response::IntoResponse::into_response(Problem::defect()))
}
