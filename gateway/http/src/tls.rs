//! The door of a listener with TLS: chooses national or classical by the client's first message,
//! turns away what the policy refuses, and tells requests which certificate the client showed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Layer as _;
use xinqiao_core::spi::BoxFuture;
use xinqiao_crypto::Sm3Digest;
use xinqiao_crypto::tls::{Refusal, Server, peer_fingerprint};

use crate::serve::HANDSHAKE;

/// SM3 of the certificate a client showed and was verified by; stands with every request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shown(pub(crate) Option<Sm3Digest>);

/// Shakes hands before anything of HTTP is read.
#[derive(Debug, Clone)]
pub(crate) struct TlsAcceptor(pub(crate) Arc<Server>);

impl<S: Send + 'static> Accept<TcpStream, S> for TlsAcceptor {
    type Stream = TlsStream<TcpStream>;
    type Service = AddExtension<S, Shown>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            let peer = stream.peer_addr()?;
            stream.set_nodelay(true)?;
            let stream = match timeout(HANDSHAKE, shake(&server, stream, peer)).await {
                Ok(shaken) => shaken.inspect_err(|error| tell(peer, error))?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            };
            let shown = stream.get_ref().1.peer_certificates().and_then(peer_fingerprint);
            Ok((stream, Extension(Shown(shown)).layer(service)))
        })
    }
}

async fn shake(
    server: &Server,
    stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let chosen = server.choose(&start.client_hello());
    let config = match chosen {
        Ok(config) => config,
        Err(refusal) => {
            let code = refusal.code();
            tracing::warn!(%peer, code, "{refusal}");
            start.io.write_all(&Refusal::ALERT).await?;
            start.io.shutdown().await?;
            return Err(io::Error::other(code));
        }
    };
    let mut stream = start.into_stream(config).await?;
    if let Err(error) = server.recheck(stream.get_ref().1) {
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(stream)
}

/// A client whose certificate is not good is worth a look; half a handshake, which every scan of
/// ports leaves behind, is not.
fn tell(peer: SocketAddr, error: &io::Error) {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(
            cause @ (rustls::Error::InvalidCertificate(_)
            | rustls::Error::InvalidCertRevocationList(_)
            | rustls::Error::NoCertificatesPresented),
        ) => {
            let code = "tls.client-certificate";
            tracing::warn!(%peer, code, %cause, "客户端证书未通过验证,连接已断开");
        }
        Some(cause) => tracing::info!(%peer, code = "tls.handshake", %cause, "TLS 握手失败"),
        None => tracing::debug!(%peer, %error, "TLS handshake broken off"),
    }
}
