//! Certificate requests (证书申请, PKCS#10, RFC 2986).

use der::{Decode as _, Encode as _};
use x509_cert::name::Name;
use x509_cert::request::{CertReqInfo, Version};

use super::{IssueError, Signed, X509Error, read_file, read_public_key, write_public_key};
use crate::keystore::Signer;
use crate::pem;
use crate::sm2::{PublicKey, SignerId};

/// PEM label.
pub const LABEL: &str = "CERTIFICATE REQUEST";

/// A request whose signature has been verified: whoever sent it holds the key. Who that is, the
/// CA must find out otherwise.
#[derive(Debug, Clone)]
pub struct Request {
    der: Vec<u8>,
    subject: Name,
    public_key: PublicKey,
}

impl Request {
    /// Asks for a certificate over the signer's key.
    pub fn new(subject: &Name, signer: &dyn Signer) -> Result<Self, IssueError> {
        let info = || {
            CertReqInfo {
                version: Version::V1,
                subject: subject.clone(),
                public_key: write_public_key(signer.public_key())?,
                attributes: Default::default(),
            }
            .to_der()
        };
        let info = info().map_err(|_: der::Error| IssueError::Encoding)?;
        Ok(Self {
            der: Signed::write(&info, signer)?,
            subject: subject.clone(),
            public_key: signer.public_key().clone(),
        })
    }

    /// Reads a request, DER or PEM, and verifies it.
    pub fn from_file(file: &[u8]) -> Result<Self, X509Error> {
        let mut requests = read_file(file, LABEL, Self::from_der)?;
        requests.pop().ok_or(X509Error::Malformed)
    }

    /// DER.
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// PEM.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.der).to_string()
    }

    /// The name asked for. Issue to it with [`issue`](super::issue::issue).
    pub fn subject(&self) -> &Name {
        &self.subject
    }

    /// The key asked for.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let signed = Signed::read(der)?;
        let info = CertReqInfo::from_der(&signed.tbs).map_err(|_| X509Error::Malformed)?;
        let public_key = read_public_key(&info.public_key)?;
        public_key
            .verify(SignerId::STANDARD, &signed.tbs, &signed.signature)
            .map_err(|_| X509Error::Signature)?;
        Ok(Self { der: der.to_vec(), subject: info.subject, public_key })
    }
}
