//! Digital envelopes (数字信封): signed, sealed, or both, as GB/T 35275-2017 (GM/T 0010-2012) writes
//! them, which any toolkit of national cryptography opens; and a profile with SM4-GCM for links
//! where both ends are ours, because the standard has no authenticated encryption. The bytes are
//! described in `docs/formats/envelope.md`.
//!
//! Content of any size passes through in chunks. An envelope is walked once to learn its parts, its
//! content a second time to verify it, and only then a third time to hand it over: nothing that was
//! not verified leaves this module. Why a key, a padding or a tag was wrong is never told.

mod asn1;
mod ber;
mod content;
mod digest;
mod holder;
#[cfg(test)]
mod limit_tests;
mod pem;
mod read;
#[cfg(test)]
mod tests;
mod write;

use zeroize::Zeroizing;

use crate::RandomError;
use crate::keystore::{KeyStoreError, Signer};
use crate::x509::chain::ChainError;
use crate::x509::{Certificate, UnixSeconds};

pub use holder::to_send;
pub use pem::{Pem, unwrap_pem};
pub use read::{Envelope, Opened, Opener, Verified};
pub use write::{seal, seal_in, sign, sign_and_seal, sign_in};

/// Whether bytes that begin like this (64 of them suffice) mean to be an envelope: PEM with a label
/// of envelopes, or a sequence that begins with one of their content types.
pub fn begins(head: &[u8]) -> bool {
    if pem::begins(head) {
        return true;
    }
    // SEQUENCE, its length, then the content type.
    let behind = match head {
        [0x30, 0x80, rest @ ..] => rest,
        [0x30, length, rest @ ..] if *length < 0x80 => rest,
        [0x30, length, rest @ ..] => rest.get(usize::from(length & 0x7f)..).unwrap_or_default(),
        _ => return false,
    };
    asn1::KINDS.iter().any(|oid| {
        let oid = oid.as_bytes();
        behind.first() == Some(&0x06)
            && behind.get(1).is_some_and(|length| usize::from(*length) == oid.len())
            && behind.get(2..2 + oid.len()) == Some(oid)
    })
}

/// What an envelope is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 签名数据: content in clear with signatures.
    Signed,
    /// 数字信封: encrypted for recipients.
    Enveloped,
    /// 带签名的数字信封: both.
    SignedAndEnveloped,
}

/// How content is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cipher {
    /// SM4-CBC with PKCS#7 padding: the standard's. Without a signature, nobody notices a change.
    #[default]
    Cbc,
    /// SM4-GCM in chunks, and signatures of the list of chunks' digests: ours. Every change is
    /// noticed.
    Gcm,
}

/// Whose object identifiers are written where implementations do not agree; all are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// The standard's: every toolkit of national cryptography.
    #[default]
    Standard,
    /// RFC 5652's types around the national algorithms: the signatures OpenSSL and Tongsuo verify,
    /// which know no others.
    Cms,
    /// The standard's but for the encryption of the content key, which GmSSL names
    /// `1.2.156.10197.1.301.2` and does not find under any other name.
    Gmssl,
}

/// Who signs.
pub struct Signing<'a> {
    /// The signing certificate.
    pub certificate: &'a Certificate,
    /// Certificates to send along, without a root.
    pub chain: &'a [Certificate],
    /// Its key.
    pub signer: &'a dyn Signer,
    /// Told as the signing time.
    pub at: UnixSeconds,
}

/// Opens an SM2 ciphertext (GM/T 0009 DER) with a private key.
pub type OpenKey<'a> = &'a dyn Fn(&[u8]) -> Result<Zeroizing<Vec<u8>>, KeyStoreError>;

/// Why an envelope cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Reading or writing failed.
    #[error("读写失败:{0}")]
    Io(#[from] std::io::Error),
    /// Not the structure of the standard.
    #[error("不是GB/T 35275规定的结构(第{at}字节处)")]
    Malformed {
        /// Offset in the (binary) input.
        at: u64,
    },
    /// A certificate, signer or recipient that does not parse.
    #[error("信封中的{0}不符合格式")]
    Part(&'static str),
    /// An algorithm this gateway does not have, or does not accept here.
    #[error("信封所用的算法不被接受:{0}")]
    Algorithm(String),
    /// No recipient is the one opening.
    #[error("信封不是发给这张加密证书的")]
    NotForUs,
    /// The act does not fit the envelope: opening what is not sealed, verifying what is not signed.
    #[error("信封的种类不符:{0}")]
    Kind(&'static str),
    /// A signer whose certificate is not in the envelope nor known.
    #[error("找不到签名者的证书")]
    NoCertificate,
    /// A certificate that is not trusted, with the reason.
    #[error("签名者的证书不被信任:{0}")]
    Untrusted(#[from] ChainError),
    /// A recipient's certificate that nothing may be sealed to.
    #[error("收件人的证书不是加密证书")]
    NotForSealing,
    /// Wrong key, changed content, wrong signature: which of them is not told.
    #[error("信封无法通过验证:密钥不符或内容被改动")]
    Refused,
    /// The operating system gives no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The key store failed.
    #[error("密钥不可用:{0}")]
    Key(#[from] KeyStoreError),
}

impl EnvelopeError {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "envelope.io",
            Self::Malformed { .. } | Self::Part(_) => "envelope.malformed",
            Self::Algorithm(_) => "envelope.algorithm",
            Self::NotForUs => "envelope.not-for-us",
            Self::Kind(_) => "envelope.kind",
            Self::NoCertificate => "envelope.no-certificate",
            Self::Untrusted(_) => "envelope.untrusted",
            Self::NotForSealing => "envelope.not-for-sealing",
            Self::Refused => "envelope.refused",
            Self::Random(_) | Self::Key(_) => "envelope.key",
        }
    }
}
