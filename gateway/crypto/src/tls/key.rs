//! What a side shows and signs with.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use xinqiao_core::fault::io_words;

use super::trust::{certificates, pem_words};
use super::{SM2SIG_SM3, Suite, TlsError};
use crate::keystore::{KeyEntry, KeyStore, KeyUse};
use crate::sm2::SignerId;
use crate::{Sm3Digest, sm3};

/// A certificate chain and the key to it.
#[derive(Clone)]
pub struct Identity {
    pub(super) suite: Suite,
    pub(super) key: CertifiedKey,
}

impl Identity {
    /// The signing key in use of this name, with the certificates the store has of it. The private
    /// key stays in the store, which signs every handshake.
    pub fn from_store(store: &Arc<dyn KeyStore>, name: &str) -> Result<Self, TlsError> {
        let entry =
            store.current(name, KeyUse::Sign)?.ok_or_else(|| TlsError::NoKey(name.to_owned()))?;
        if entry.chain.is_empty() {
            return Err(TlsError::NoCertificate(name.to_owned()));
        }
        let der = |one: &crate::x509::Certificate| CertificateDer::from(one.to_der().to_vec());
        let chain = entry.chain.iter().map(der).collect();
        let key = StoredKey { store: Arc::clone(store), entry: Arc::new(entry) };
        Ok(Self { suite: Suite::Gm, key: CertifiedKey::new(chain, Arc::new(key)) })
    }

    /// A classical chain and its key, PEM files.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates = certificates(chain)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError::File(key.display().to_string(), pem_words(&error)))?;
        let provider = rustls::crypto::ring::default_provider();
        let key = CertifiedKey::from_der(certificates, private, &provider).map_err(|error| {
            TlsError::File(chain.display().to_string(), format!("证书与私钥不能使用({error})"))
        })?;
        Ok(Self { suite: Suite::Classical, key })
    }

    /// Which side it is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(SingleCertAndKey::from(self.key.clone()))
    }
}

/// Without the key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.suite).finish_non_exhaustive()
    }
}

/// SM3 over the DER of the certificate that a peer showed as its own: what configuration names
/// peers by. From rustls's `peer_certificates`.
pub fn peer_fingerprint(chain: &[CertificateDer<'_>]) -> Option<Sm3Digest> {
    chain.first().map(|own| sm3(own))
}

/// [`peer_fingerprint`] of a certificate file: the first certificate of a PEM file, or DER.
pub fn fingerprint_of_file(path: &Path) -> Result<Sm3Digest, TlsError> {
    let failed = |why| TlsError::File(path.display().to_string(), why);
    let bytes = std::fs::read(path).map_err(|error| failed(io_words(&error).into_owned()))?;
    if bytes.first() == Some(&0x30) {
        return Ok(sm3(&bytes));
    }
    let own = CertificateDer::from_pem_slice(&bytes).map_err(|error| failed(pem_words(&error)))?;
    Ok(sm3(&own))
}

/// A key of the store, as rustls uses keys.
#[derive(Clone)]
struct StoredKey {
    store: Arc<dyn KeyStore>,
    entry: Arc<KeyEntry>,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoredKey").field(&self.entry.id).finish()
    }
}

impl SigningKey for StoredKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SM2SIG_SM3).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        // The IANA registry of TLS 1.2, which alone asks for it; SM suites are of TLS 1.3.
        SignatureAlgorithm::Unknown(8)
    }
}

impl Signer for StoredKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let e = self.entry.public_key.prehash(SignerId::TLS13, message);
        let signature = self.store.sign(&self.entry.id, &e);
        Ok(signature.map_err(|error| Error::General(error.to_string()))?.to_der())
    }

    fn scheme(&self) -> SignatureScheme {
        SM2SIG_SM3
    }
}
