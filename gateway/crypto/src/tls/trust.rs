//! Whom a side believes: anchors, and revocation lists that are read again when their files change.
//!
//! Certificates are verified by webpki: path, validity, names, purpose, revocation of every
//! certificate below the anchor. With lists configured, a certificate whose issuer has none is
//! refused, because nobody can tell whether it is revoked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use crate::lists::{Build, Lists, Stale, Unusable, Watched};
use crate::x509::Certificate;

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
        let current = watched(&self.lists, build)?;
        Ok(ClientVerifier { suite, first: current.last(), current })
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
        let current = watched(&self.lists, build)?;
        Ok(ServerVerifier { suite, first: current.last(), current })
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
    current: Watched<dyn ClientCertVerifier>,
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
        self.current.now(now.as_secs()).verify_client_cert(end_entity, intermediates, now)
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
    current: Watched<dyn ServerCertVerifier>,
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
        let verifier = self.current.now(now.as_secs());
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

/// A verifier that is built anew when a list's file changes.
fn watched<V: ?Sized + 'static>(
    lists: &Lists,
    build: impl Fn(Vec<CertificateRevocationListDer<'static>>) -> Result<Arc<V>, String>
    + Send
    + Sync
    + 'static,
) -> Result<Watched<V>, TlsError> {
    let unusable = |error| match error {
        TlsError::File(path, why) => Unusable(path, why),
        TlsError::Rustls(why) => Unusable(String::new(), why),
        other => Unusable(String::new(), other.to_string()),
    };
    let read: Box<Build<V>> = Box::new(move |files| {
        let built = read_lists(files)
            .and_then(|(ders, due)| Ok((build(ders).map_err(TlsError::Rustls)?, due)));
        built.map_err(unusable)
    });
    Watched::new(lists.clone(), read).map_err(|Unusable(path, why)| match path.is_empty() {
        true => TlsError::Rustls(why),
        false => TlsError::File(path, why),
    })
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
