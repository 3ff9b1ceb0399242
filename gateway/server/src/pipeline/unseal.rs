//! unseal (拆封): a message that is a digital envelope (数字信封) → what is inside, once its signature
//! has been found right and the agency's own.

use std::io::{BufReader, Cursor, Read as _, Seek as _, SeekFrom, Write};

use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::envelope::{self, Envelope, EnvelopeError, Kind, Opened, Opener};
use xinqiao_crypto::keystore::{KeyEntry, KeyUse};
use zeroize::Zeroizing;

use crate::config::EnvelopePolicy;
use crate::keys::Keys;

/// A content larger than this is not opened: it is held in memory.
const MOST: u64 = 1 << 30;

/// What envelopes are opened with.
pub struct Unsealing<'a> {
    /// The gateway's keys, and whom it trusts.
    pub keys: &'a Keys,
    /// What the feed's messages must be; `None` is no envelope.
    pub policy: Option<&'a EnvelopePolicy>,
    /// The time that certificates must be valid at.
    pub at: Timestamp,
}

/// Why a message is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// The envelope does not hold.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The feed takes no envelopes.
    #[error("报文是数字信封,而接入任务没有启用:请运维人员为该任务设置 envelope")]
    Unexpected,
    /// The feed takes nothing else.
    #[error("报文须是签名并加密的数字信封:{0}")]
    Required(&'static str),
    /// A signer that the agency did not name.
    #[error("信封的签名者不是本局登记的证书:请核对签名所用的证书,或请运维人员登记")]
    Signer,
}

impl UnsealError {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.code(),
            Self::Unexpected => "envelope.unexpected",
            Self::Required(_) => "envelope.required",
            Self::Signer => "envelope.signer",
        }
    }
}

/// What is to be decoded: the message itself, or the content of the envelope that it is.
pub fn unseal(
    unsealing: &Unsealing<'_>,
    mut input: Box<dyn ReadSeek>,
) -> Result<Box<dyn ReadSeek>, UnsealError> {
    let mut head = Vec::new();
    input.by_ref().take(64).read_to_end(&mut head).map_err(EnvelopeError::from)?;
    input.seek(SeekFrom::Start(0)).map_err(EnvelopeError::from)?;
    let is_envelope = envelope::begins(&head);
    match unsealing.policy {
        None if is_envelope => Err(UnsealError::Unexpected),
        Some(policy) if is_envelope => {
            let content = unsealing.open(policy, input)?;
            Ok(Box::new(Cursor::new(content)))
        }
        Some(EnvelopePolicy { required: true, .. }) => Err(UnsealError::Required("收到的不是信封")),
        _ => Ok(input),
    }
}

impl Unsealing<'_> {
    fn open(
        &self,
        policy: &EnvelopePolicy,
        input: Box<dyn ReadSeek>,
    ) -> Result<Secret, UnsealError> {
        let mut input = binary(input)?;
        let outer = Envelope::read(&mut *input)?;
        let opened = match outer.kind() {
            Kind::Signed if policy.required => {
                return Err(UnsealError::Required("收到的信封只有签名,没有加密"));
            }
            Kind::Signed => None,
            Kind::Enveloped | Kind::SignedAndEnveloped => Some(self.content_key(&outer)?),
        };
        match (outer.kind(), &opened) {
            // What is sealed without a signature must hold one.
            (Kind::Enveloped, Some(opened)) => {
                let mut inside = Secret::default();
                outer.write_unsigned(&mut *input, opened, &mut inside)?;
                let mut inside = Cursor::new(inside);
                let inner = match Envelope::read(&mut inside) {
                    Ok(inner) if inner.kind() == Kind::Signed => inner,
                    _ => return Err(UnsealError::Required("收到的信封没有签名")),
                };
                self.verified(policy, &inner, &mut inside, None)
            }
            (_, opened) => self.verified(policy, &outer, &mut *input, opened.as_ref()),
        }
    }

    /// The content, whose every signature is of a certificate that the agency named.
    fn verified(
        &self,
        policy: &EnvelopePolicy,
        envelope: &Envelope,
        input: &mut dyn ReadSeek,
        opened: Option<&Opened>,
    ) -> Result<Secret, UnsealError> {
        let trust = self.keys.trust(self.at);
        let verified = envelope.verify(input, opened, &policy.signers, &trust)?;
        if !verified.signers.iter().all(|signer| policy.signers.contains(signer)) {
            return Err(UnsealError::Signer);
        }
        let mut content = Secret::default();
        envelope.write(input, opened, &verified, &mut content)?;
        Ok(content)
    }

    /// The key of the content, by whichever generation of our encryption key it was sealed to.
    fn content_key(&self, envelope: &Envelope) -> Result<Opened, UnsealError> {
        let store = self.keys.store();
        let ours = |entry: &KeyEntry| {
            entry.id.name() == self.keys.identity() && entry.id.usage() == KeyUse::Encrypt
        };
        for entry in store.list().map_err(EnvelopeError::from)?.iter().filter(|e| ours(e)) {
            let Some(certificate) = entry.chain.first() else { continue };
            let open = |ciphertext: &[u8]| store.open(&entry.id, ciphertext);
            match envelope.open(&Opener { certificate, open: &open }) {
                Err(EnvelopeError::NotForUs) => {}
                other => return Ok(other?),
            }
        }
        Err(EnvelopeError::NotForUs.into())
    }
}

/// The envelope in its binary form.
fn binary(mut input: Box<dyn ReadSeek>) -> Result<Box<dyn ReadSeek>, EnvelopeError> {
    let mut first = [0];
    input.read_exact(&mut first)?;
    input.seek(SeekFrom::Start(0))?;
    if first != *b"-" {
        return Ok(input);
    }
    let mut der = Secret::default();
    envelope::unwrap_pem(&mut BufReader::new(input), &mut der)?;
    Ok(Box::new(Cursor::new(der)))
}

/// Content in memory, erased on drop; no more than [`MOST`].
#[derive(Default)]
struct Secret(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Secret {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.0.len().saturating_add(bytes.len());
        if u64::try_from(length).unwrap_or(u64::MAX) > MOST {
            return Err(std::io::Error::other("信封的内容过大,请拆分后发送"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
