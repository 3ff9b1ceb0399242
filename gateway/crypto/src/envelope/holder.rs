//! Opening by a key store.

use super::{Envelope, EnvelopeError, Opened, Opener};
use crate::keystore::{KeyStore, KeyUse};
use crate::x509::Certificate;

/// What to send along of a key's chain: not the certificate itself, and no root, which everybody
/// must have from elsewhere.
pub fn to_send(chain: &[Certificate]) -> Vec<Certificate> {
    chain.iter().skip(1).filter(|above| above.subject() != above.issuer()).cloned().collect()
}

impl Envelope {
    /// Takes out the content key by whichever generation of the encryption key `name` the envelope
    /// is made out to.
    pub fn open_by(&self, keys: &dyn KeyStore, name: &str) -> Result<Opened, EnvelopeError> {
        for entry in keys.list()? {
            if entry.id.name() != name || entry.id.usage() != KeyUse::Encrypt {
                continue;
            }
            let Some(certificate) = entry.chain.first() else { continue };
            let open = |ciphertext: &[u8]| keys.open(&entry.id, ciphertext);
            match self.open(&Opener { certificate, open: &open }) {
                Err(EnvelopeError::NotForUs) => {}
                other => return other,
            }
        }
        Err(EnvelopeError::NotForUs)
    }
}
