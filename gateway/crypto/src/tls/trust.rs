//! Whom a side believes: anchors, and revocation lists that are read again when their files change.
//!
//! Certificates are verified by webpki: path, validity, names, purpose, revocation of every
//! certificate below the anchor. With lists configured, a certificate whose issuer has none is
//! refused, because nobody can tell whether it is revoked.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use der::Decode as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_cert::crl::CertificateList;

use super::{Suite, TlsError};
use crate::x509::Certificate;

/// What becomes of a connection when a revocation list is past its next update (过期的吊销列表).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stale {
    /// It goes on by the old list, and the operator is warned every day. The default: a list that
    /// comes late must not stop reports with a legal deadline, and what it does list stays refused.
    #[default]
    Accept,
    /// It is refused until a new list is there.
    Refuse,
}

/// Something about revocation lists that an operator should know. Connections go on by the lists
/// read before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Past its next update.
    #[error("吊销列表 {0} 已过下次更新时间,请更新")]
    Stale(String),
    /// Changed, and now it cannot be used.
    #[error("吊销列表 {0} 已改动但无法使用({1}),仍按先前读入的列表执行")]
    Unusable(String, String),
    /// Changed, and read.
    #[error("吊销列表已重新读入")]
    Renewed,
}

impl Notice {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Stale(_) => "tls.crl-stale",
            Self::Unusable(..) => "tls.crl-unusable",
            Self::Renewed => "tls.crl-renewed",
        }
    }
}

/// Who is told of a [`Notice`]: the log.
pub type Notify = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Revocation lists (吊销列表), or none: then nothing is looked up.
#[derive(Clone)]
pub struct Lists {
    /// Files, each with one list in DER or any number in PEM.
    pub files: Vec<PathBuf>,
    /// What an outdated one means.
    pub stale: Stale,
    /// Who is told.
    pub notify: Notify,
}

/// Whom a side believes.
#[derive(Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    lists: Lists,
}

impl Trust {
    /// Reads the anchors, PEM files of CA certificates. They are read once; lists are looked after.
    pub fn read(roots: &[PathBuf], lists: Lists) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for path in roots {
            for root in certificates(path)? {
                let bad = |_| file(path, "其中的根证书无效".to_owned());
                store.add(root).map_err(bad)?;
            }
        }
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(Self { roots: Arc::new(store), lists })
    }

    /// Is revocation looked up?
    pub(super) fn has_lists(&self) -> bool {
        !self.lists.files.is_empty()
    }

    /// For a server: verifies clients that show a certificate, and wants one if `required`.
    pub(super) fn clients(
        &self,
        suite: Suite,
        provider: &Arc<CryptoProvider>,
        required: bool,
    ) -> Result<ClientVerifier, TlsError> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(provider));
        let stale = self.lists.stale;
        let build = move |lists: Vec<CertificateRevocationListDer<'static>>| {
            let (roots, provider) = (Arc::clone(&roots), Arc::clone(&provider));
            let mut builder =
                WebPkiClientVerifier::builder_with_provider(roots, provider).with_crls(lists);
            if !required {
                builder = builder.allow_unauthenticated();
            }
            if stale == Stale::Refuse {
                builder = builder.enforce_revocation_expiration();
            }
            builder.build().map_err(|error| error.to_string())
        };
        let current = Current::new(self.lists.clone(), Box::new(build))?;
        Ok(ClientVerifier { suite, first: current.now(None), current })
    }

    /// For a client: verifies the server.
    pub(super) fn servers(
        &self,
        suite: Suite,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ServerVerifier, TlsError> {
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(provider));
        let stale = self.lists.stale;
        let build = move |lists: Vec<CertificateRevocationListDer<'static>>| {
            let (roots, provider) = (Arc::clone(&roots), Arc::clone(&provider));
            let mut builder =
                WebPkiServerVerifier::builder_with_provider(roots, provider).with_crls(lists);
            if stale == Stale::Refuse {
                builder = builder.enforce_revocation_expiration();
            }
            let built = builder.build().map_err(|error| error.to_string())?;
            Ok(built as Arc<dyn ServerCertVerifier>)
        };
        let current = Current::new(self.lists.clone(), Box::new(build))?;
        Ok(ServerVerifier { suite, first: current.now(None), current })
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.lists.files).finish_non_exhaustive()
    }
}

/// Verifies clients by the lists of the moment.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    suite: Suite,
    /// For all that lists do not matter to.
    first: Arc<dyn ClientCertVerifier>,
    current: Current<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.first.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.first.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.first.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        signs(self.suite, end_entity)?;
        self.current.now(Some(now)).verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.first.supported_verify_schemes()
    }
}

/// Verifies servers by the lists of the moment.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    suite: Suite,
    first: Arc<dyn ServerCertVerifier>,
    current: Current<dyn ServerCertVerifier>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        signs(self.suite, end_entity)?;
        let verifier = self.current.now(Some(now));
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.first.supported_verify_schemes()
    }
}

/// Of double certificates only the signing one (签名证书) may open a connection: the key of the
/// other is known to the issuer, too. webpki does not look at key usage.
fn signs(suite: Suite, certificate: &CertificateDer<'_>) -> Result<(), Error> {
    if suite == Suite::Classical {
        return Ok(());
    }
    let read = Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    read.may_sign().then_some(()).ok_or(Error::from(CertificateError::InvalidPurpose))
}

type Build<V> =
    dyn Fn(Vec<CertificateRevocationListDer<'static>>) -> Result<Arc<V>, String> + Send + Sync;

/// A verifier that is built anew when a list's file changes. Files are looked at (not read) before
/// every verification: a few microseconds beside a handshake.
struct Current<V: ?Sized> {
    lists: Lists,
    build: Box<Build<V>>,
    state: Mutex<State<V>>,
}

struct State<V: ?Sized> {
    verifier: Arc<V>,
    seen: Vec<Option<Stamp>>,
    /// When each file's earliest next update is.
    due: Vec<u64>,
    /// The last day (since 1970) that an outdated list was told of.
    told: Option<u64>,
}

/// What shows that a file has changed: also a change of its content within one tick of the clock
/// moves its inode or size, as lists are put in place by renaming.
#[derive(PartialEq, Eq)]
struct Stamp([i64; 4], u64, u64);

impl<V: ?Sized> Current<V> {
    fn new(lists: Lists, build: Box<Build<V>>) -> Result<Self, TlsError> {
        let seen = lists.files.iter().map(|path| stamp(path)).collect();
        let (ders, due) = read_lists(&lists.files)?;
        let verifier = build(ders).map_err(TlsError::Rustls)?;
        let state = Mutex::new(State { verifier, seen, due, told: None });
        Ok(Self { lists, build, state })
    }

    /// The verifier by the files as they are; `at` is the time that lists are measured by.
    fn now(&self, at: Option<UnixTime>) -> Arc<V> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = at {
            let seen: Vec<_> = self.lists.files.iter().map(|path| stamp(path)).collect();
            if seen != state.seen {
                // Even if it fails: tried again when the files change again.
                state.seen = seen;
                self.renew(&mut state);
            }
            self.tell_stale(&mut state, at.as_secs());
        }
        Arc::clone(&state.verifier)
    }

    fn renew(&self, state: &mut State<V>) {
        let unusable = |error: TlsError| match error {
            TlsError::File(path, why) => Notice::Unusable(path, why),
            other => Notice::Unusable(String::new(), other.to_string()),
        };
        let renewed = read_lists(&self.lists.files)
            .and_then(|(ders, due)| Ok(((self.build)(ders).map_err(TlsError::Rustls)?, due)));
        match renewed {
            Ok((verifier, due)) => {
                (state.verifier, state.due, state.told) = (verifier, due, None);
                (self.lists.notify)(&Notice::Renewed);
            }
            Err(error) => (self.lists.notify)(&unusable(error)),
        }
    }

    fn tell_stale(&self, state: &mut State<V>, at: u64) {
        let today = Some(at / 86_400);
        if state.told == today {
            return;
        }
        for (path, _) in self.lists.files.iter().zip(&state.due).filter(|(_, due)| **due < at) {
            state.told = today;
            (self.lists.notify)(&Notice::Stale(path.display().to_string()));
        }
    }
}

impl<V: ?Sized> fmt::Debug for Current<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.lists.files).finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
    Some(Stamp(times, about.size(), about.ino()))
}

/// All lists, and each file's earliest next update.
fn read_lists(
    files: &[PathBuf],
) -> Result<(Vec<CertificateRevocationListDer<'static>>, Vec<u64>), TlsError> {
    let (mut all, mut due) = (Vec::new(), Vec::new());
    for path in files {
        let bytes = std::fs::read(path)
            .map_err(|error| file(path, xinqiao_core::fault::io_words(&error).into_owned()))?;
        let lists = if bytes.first() == Some(&0x30) {
            vec![CertificateRevocationListDer::from(bytes)]
        } else {
            CertificateRevocationListDer::pem_slice_iter(&bytes)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| file(path, pem_words(&error)))?
        };
        let earliest = lists.iter().map(next_update).min().unwrap_or(None);
        due.push(earliest.ok_or_else(|| file(path, "其中没有可用的吊销列表".to_owned()))?);
        all.extend(lists);
    }
    Ok((all, due))
}

fn next_update(list: &CertificateRevocationListDer<'_>) -> Option<u64> {
    let list: CertificateList = CertificateList::from_der(list).ok()?;
    Some(list.tbs_cert_list.next_update?.to_unix_duration().as_secs())
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>);
    let all: Vec<_> = read.map_err(|error| file(path, pem_words(&error)))?;
    match all.is_empty() {
        true => Err(file(path, "文件中没有 PEM 格式的证书".to_owned())),
        false => Ok(all),
    }
}

pub(super) fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => xinqiao_core::fault::io_words(error).into_owned(),
        _ => "没有可用的 PEM 内容".to_owned(),
    }
}

fn file(path: &Path, why: String) -> TlsError {
    TlsError::File(path.display().to_string(), why)
}
