//! rustls configurations.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoClientAuth, ServerSessionMemoryCache};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, HandshakeKind, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::provider::{SM4_GCM_SM3, provider};
use super::trust::ClientVerifier;
use super::{Identity, Offer, Policy, Refusal, Suite, TlsError, Trust, choose};

/// Sessions kept for resumption; a full handshake leaves two, so rustls's 256 would serve 128 peers.
const SESSIONS: usize = 8_192;

/// What a listening link is made of.
#[derive(Debug)]
pub struct ServerOptions {
    /// Which algorithms it allows.
    pub policy: Policy,
    /// Certificate and key for classical clients.
    pub classical: Option<Identity>,
    /// Certificate and key for national clients.
    pub gm: Option<Identity>,
    /// Whether clients show certificates.
    pub clients: Clients,
    /// Application protocols (ALPN).
    pub alpn: Vec<Vec<u8>>,
}

/// Authentication of clients (双向认证).
#[derive(Debug)]
pub enum Clients {
    /// No certificate is asked for.
    Unasked,
    /// One is asked for; a client without may go on, one with a bad certificate may not.
    Optional(Trust),
    /// Nobody comes in without.
    Required(Trust),
}

/// A listening link: one or two configurations, and the choice between them.
#[derive(Debug)]
pub struct Server {
    policy: Policy,
    classical: Option<Side>,
    gm: Option<Side>,
}

#[derive(Debug)]
struct Side {
    config: Arc<ServerConfig>,
    clients: Option<Arc<ClientVerifier>>,
}

impl Server {
    /// Needs an identity for each suite that the policy allows, and no other.
    pub fn new(options: &ServerOptions) -> Result<Self, TlsError> {
        let side = |suite, identity: &Option<Identity>, used| match (identity, used) {
            (Some(identity), true) if identity.suite() == suite => {
                Side::new(suite, identity, options).map(Some)
            }
            (None, false) => Ok(None),
            (Some(_), false) => Err(TlsError::UnusedIdentity(suite)),
            (_, true) => Err(TlsError::NoIdentity(suite)),
        };
        let policy = options.policy;
        Ok(Self {
            policy,
            classical: side(Suite::Classical, &options.classical, policy != Policy::Gm)?,
            gm: side(Suite::Gm, &options.gm, policy != Policy::Classical)?,
        })
    }

    /// The configuration for a client, by its first message.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Result<Arc<ServerConfig>, Refusal> {
        let offer = Offer::of(hello);
        let refused = || Refusal { policy: self.policy, offer: offer.clone() };
        let suite = choose(offer.clone(), self.policy)?;
        self.side(suite).map(|side| Arc::clone(&side.config)).ok_or_else(refused)
    }

    /// To be called when a handshake is done, before anything of the client is believed: a resumed
    /// session brings the client's certificate along unverified, and since the session began it
    /// may have been revoked or have expired.
    pub fn recheck(&self, connection: &ServerConnection) -> Result<(), rustls::Error> {
        if connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let suite = match connection.negotiated_cipher_suite().map(|suite| suite.suite()) {
            Some(SM4_GCM_SM3) => Suite::Gm,
            _ => Suite::Classical,
        };
        let verifier = self.side(suite).and_then(|side| side.clients.as_ref());
        match (verifier, connection.peer_certificates()) {
            (Some(verifier), Some([own, issuers @ ..])) => {
                verifier.verify_client_cert(own, issuers, UnixTime::now()).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn side(&self, suite: Suite) -> Option<&Side> {
        match suite {
            Suite::Classical => self.classical.as_ref(),
            Suite::Gm => self.gm.as_ref(),
        }
    }
}

impl Side {
    fn new(suite: Suite, identity: &Identity, options: &ServerOptions) -> Result<Self, TlsError> {
        let (provider, versions) = parts(suite);
        let clients = match &options.clients {
            Clients::Unasked => None,
            Clients::Optional(trust) => Some(trust.clients(suite, &provider, false)?),
            Clients::Required(trust) => Some(trust.clients(suite, &provider, true)?),
        };
        let clients = clients.map(Arc::new);
        let verifier: Arc<dyn ClientCertVerifier> = match &clients {
            None => Arc::new(NoClientAuth),
            Some(verifier) => Arc::clone(verifier) as _,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols.clone_from(&options.alpn);
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self { config: Arc::new(config), clients })
    }
}

/// The configuration of a calling link: its suite, whom it believes, and what it shows if asked.
///
/// There is no fall-back from one suite to the other (see the [module](super)). Where revocation
/// lists are given, sessions are not resumed, because resuming skips looking them up.
pub fn client(
    suite: Suite,
    trust: &Trust,
    identity: Option<&Identity>,
) -> Result<ClientConfig, TlsError> {
    let (provider, versions) = parts(suite);
    let verifier = Arc::new(trust.servers(suite, &provider)?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) if identity.suite() == suite => {
            builder.with_client_cert_resolver(identity.resolver())
        }
        Some(identity) => return Err(TlsError::UnusedIdentity(identity.suite())),
    };
    if trust.has_lists() {
        config.resumption = Resumption::disabled();
    }
    Ok(config)
}

/// SM suites belong to TLS 1.3 only.
static GM_VERSIONS: [&SupportedProtocolVersion; 1] = [&TLS13];

fn parts(suite: Suite) -> (Arc<CryptoProvider>, &'static [&'static SupportedProtocolVersion]) {
    match suite {
        Suite::Classical => {
            (Arc::new(rustls::crypto::ring::default_provider()), rustls::DEFAULT_VERSIONS)
        }
        Suite::Gm => (Arc::new(provider()), &GM_VERSIONS),
    }
}
