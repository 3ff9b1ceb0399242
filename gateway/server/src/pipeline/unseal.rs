//! unseal (拆封): a message that is a digital envelope (数字信封) → what is inside, once its signature
//! has been found right and the agency's own.

use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};

use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::envelope::{self, Envelope, EnvelopeError, Kind, Opened};
use xinqiao_crypto::x509::chain::ChainReason;
use xinqiao_store::Store;

use crate::config::EnvelopePolicy;
use crate::keys::Keys;

/// What envelopes are opened with.
pub struct Unsealing<'a> {
    /// The gateway's keys, and whom it trusts.
    pub keys: &'a Keys,
    /// What the feed's messages must be; `None` is no envelope.
    pub policy: Option<&'a EnvelopePolicy>,
    /// The time that certificates must be valid at.
    pub at: Timestamp,
    /// Where what is opened stays meanwhile.
    pub store: &'a Store,
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
    /// A signer whose certificate is not trusted.
    #[error("签名者的证书不被信任:{0}")]
    Untrusted(ChainReason),
    /// A signer that the agency did not name.
    #[error("信封的签名者不是本局登记的证书:请核对签名所用的证书,或请运维人员登记")]
    Signer,
}

impl UnsealError {
    /// A fault of this gateway, not of the message: the disk, the key store.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::Envelope(EnvelopeError::Io(error)) => error.kind() != ErrorKind::UnexpectedEof,
            Self::Envelope(EnvelopeError::Key(_) | EnvelopeError::Random(_)) => true,
            _ => false,
        }
    }

    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.code(),
            Self::Unexpected => "envelope.unexpected",
            Self::Required(_) => "envelope.required",
            Self::Untrusted(_) => "envelope.untrusted",
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
        Some(policy) if is_envelope => unsealing.open(policy, input),
        Some(EnvelopePolicy { required: true, .. }) => Err(UnsealError::Required("收到的不是信封")),
        _ => Ok(input),
    }
}

impl Unsealing<'_> {
    fn open(
        &self,
        policy: &EnvelopePolicy,
        input: Box<dyn ReadSeek>,
    ) -> Result<Box<dyn ReadSeek>, UnsealError> {
        let mut input = self.binary(input)?;
        let envelope = Envelope::read(&mut *input)?;
        let opened = match envelope.kind() {
            Kind::Signed if policy.required => {
                return Err(UnsealError::Required("收到的信封只有签名,没有加密"));
            }
            Kind::Signed => None,
            // Refused before anything is decrypted: CBC without a signature would tell, by how it
            // fails, what others' envelopes say.
            Kind::Enveloped => return Err(UnsealError::Required("收到的信封没有签名")),
            Kind::SignedAndEnveloped => {
                Some(envelope.open_by(&**self.keys.store(), self.keys.identity())?)
            }
        };
        self.verified(policy, &envelope, &mut *input, opened.as_ref())
    }

    /// The content, whose every signature is of a certificate that the agency named.
    fn verified(
        &self,
        policy: &EnvelopePolicy,
        envelope: &Envelope,
        input: &mut dyn ReadSeek,
        opened: Option<&Opened>,
    ) -> Result<Box<dyn ReadSeek>, UnsealError> {
        let lists = self.keys.revocations(self.at);
        let mut trust = self.keys.trust(&lists, self.at);
        if trust.anchors.is_empty() {
            // Without an authority to trust, the certificates that the operator named are trusted.
            trust.anchors = &policy.signers;
        }
        let verified = envelope.verify(input, opened, &policy.signers, &trust);
        let verified = verified.map_err(|error| match error {
            // Whose certificate it is may be a person's name: the agency knows, others need not.
            EnvelopeError::Untrusted(error) => UnsealError::Untrusted(error.reason),
            other => other.into(),
        })?;
        if !verified.signers.iter().all(|signer| policy.signers.contains(signer)) {
            return Err(UnsealError::Signer);
        }
        let mut content = self.store.scratch();
        envelope.write(input, opened, &verified, &mut content)?;
        Ok(content.into_reader().map_err(EnvelopeError::from)?)
    }

    /// The envelope in its binary form.
    fn binary(&self, mut input: Box<dyn ReadSeek>) -> Result<Box<dyn ReadSeek>, EnvelopeError> {
        let mut first = [0];
        input.read_exact(&mut first)?;
        input.seek(SeekFrom::Start(0))?;
        if first != *b"-" {
            return Ok(input);
        }
        let mut der = self.store.scratch();
        envelope::unwrap_pem(&mut BufReader::new(input), &mut der)?;
        Ok(der.into_reader()?)
    }
}
