//! The other ends of sealed links: an agency that signs and seals what it pushes, a platform that
//! opens what it gets. Their keys live as long as they do.

use std::io::Cursor;

use xinqiao_core::model::Timestamp;
use xinqiao_crypto::envelope::{
    Cipher, Envelope, EnvelopeError, Opener, Signing, sign, sign_and_seal,
};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::issue::{Role, Template, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, IssueError, UnixSeconds, parse_name};

use crate::keys::seconds;

/// Somebody with double certificates, self-signed.
#[derive(Debug)]
pub struct Party {
    signing: (PrivateKey, Certificate),
    encryption: (PrivateKey, Certificate),
    at: UnixSeconds,
}

impl Party {
    /// With fresh keys; certificates hold for a year from `at`.
    pub fn new(name: &str, at: Timestamp) -> Result<Self, String> {
        let at = seconds(at);
        let made = |role| -> Result<_, IssueError> {
            let subject = parse_name(&format!("CN={name},O=仅供演示,C=CN"))
                .map_err(|_| IssueError::Encoding)?;
            let key = PrivateKey::generate().map_err(|error| IssueError::Key(error.into()))?;
            let certificate = issue_self_signed(&Template::new(subject, role, at, 365), &key)?;
            Ok((key, certificate))
        };
        let made = |role| made(role).map_err(|error| error.to_string());
        Ok(Self { signing: made(Role::Signing)?, encryption: made(Role::Encryption)?, at })
    }

    /// What others verify by.
    pub fn signing(&self) -> &Certificate {
        &self.signing.1
    }

    /// What others seal to.
    pub fn encryption(&self) -> &Certificate {
        &self.encryption.1
    }

    /// Signs, without sealing.
    pub fn sign(&self, content: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let mut out = Vec::new();
        sign(&mut Cursor::new(content), &self.as_signer(), &mut out)?;
        Ok(out)
    }

    /// Signs and seals.
    pub fn seal(&self, content: &[u8], to: &Certificate) -> Result<Vec<u8>, EnvelopeError> {
        let mut out = Vec::new();
        let to = std::slice::from_ref(to);
        sign_and_seal(&mut Cursor::new(content), &self.as_signer(), to, Cipher::Cbc, &mut out)?;
        Ok(out)
    }

    /// Opens what `signer` signed and sealed to this party.
    pub fn open(&self, sealed: &[u8], signer: &Certificate) -> Result<Vec<u8>, EnvelopeError> {
        let mut input = Cursor::new(sealed);
        let envelope = Envelope::read(&mut input)?;
        let (key, certificate) = &self.encryption;
        let open = |ciphertext: &[u8]| Ok(key.open(ciphertext)?);
        let opened = envelope.open(&Opener { certificate, open: &open })?;
        let anchors = std::slice::from_ref(signer);
        let trust = Trust { anchors, revocation: Revocation::Unchecked, at: self.at };
        let verified = envelope.verify(&mut input, Some(&opened), &[], &trust)?;
        let mut content = Vec::new();
        envelope.write(&mut input, Some(&opened), &verified, &mut content)?;
        Ok(content)
    }

    fn as_signer(&self) -> Signing<'_> {
        let (key, certificate) = &self.signing;
        Signing { certificate, chain: &[], signer: key, at: self.at }
    }
}
