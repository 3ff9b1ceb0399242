//! National cryptography (国密) for the gateway: SM2, SM3, SM4, key files and certificates.
//!
//! Reading order: this page (digests) → [`sm2`] (keys, signatures, public-key encryption) →
//! [`aead`] and [`cbc`] (bulk data) → [`x509`] (who holds a key) → [`keystore`] (where private keys
//! live) → [`pkcs8`] (key files).
//!
//! The suite is this crate: functions on typed keys, no global state, no registry of algorithms.
//! A trait object over "a suite" would have one implementation, would hide which key does what, and
//! would allow mixtures that no standard has. What does get replaced, by hardware, is the holder of
//! private keys, and that is a trait: [`keystore::KeyStore`]. Classical algorithms stand in TLS only
//! and there belong to `rustls`.
//!
//! Raw messages are named by their SM3. Records are identified by a *keyed* digest of their
//! natural key, because a natural person's key holds an identity number, and eighteen digits can
//! be guessed from a plain digest in minutes.

pub mod aead;
pub mod cbc;
pub mod envelope;
pub mod keystore;
pub mod lists;
pub mod oid;
pub mod pem;
pub mod pkcs8;
pub mod receipt;
pub mod sm2;
pub mod sm4;
pub mod tls;
pub mod x509;

use std::fmt::Write as _;

use ::sm3::{Digest, Sm3};
use hmac::{KeyInit, Mac, SimpleHmac};
use zeroize::Zeroizing;

/// A 32-byte SM3 digest (GB/T 32905-2016).
pub type Sm3Digest = [u8; 32];

/// SM3 of one slice.
pub fn sm3(bytes: &[u8]) -> Sm3Digest {
    Sm3::digest(bytes).into()
}

/// SM3 over a stream of chunks.
#[derive(Debug, Clone, Default)]
pub struct Sm3Stream(Sm3);

impl Sm3Stream {
    /// Takes in the next chunk.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> Sm3Digest {
        self.0.finalize().into()
    }
}

/// A secret that turns personal keys into digests that cannot be guessed (HMAC-SM3, RFC 2104 over
/// GB/T 32905). Erased on drop; never shown.
#[derive(Clone)]
pub struct DigestKey(Zeroizing<[u8; 32]>);

impl DigestKey {
    /// Wraps 32 secret bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The keyed digest of `bytes`.
    pub fn digest(&self, bytes: &[u8]) -> Sm3Digest {
        // The block-size version of new never fails: any key length is allowed.
        let Ok(mut mac) = SimpleHmac::<Sm3>::new_from_slice(self.0.as_slice()) else {
            unreachable!("HMAC takes keys of any length")
        };
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(…)")
    }
}

/// The operating system gives no randomness: no key, nonce or signature can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("操作系统无法提供随机数")]
pub struct RandomError;

/// The one answer to everything that does not decrypt, so that it tells an attacker nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("解密失败(密钥不符,或数据不完整、被改动)")]
pub struct DecryptError;

/// Fresh random bytes, erased on drop.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, RandomError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GB/T 32905-2016 appendix A.1.
    #[test]
    fn sm3_of_abc() {
        assert_eq!(
            hex(&sm3(b"abc")),
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
        );
        let mut stream = Sm3Stream::default();
        stream.update(b"a");
        stream.update(b"bc");
        assert_eq!(stream.finish(), sm3(b"abc"));
    }

    /// Built from its definition, so that a wrong key schedule shows.
    #[test]
    fn hmac_is_nested_sm3() {
        let secret = [7u8; 32];
        let pad = |byte: u8| {
            let mut block = [byte; 64];
            block.iter_mut().zip(secret).for_each(|(b, s)| *b ^= s);
            block.to_vec()
        };
        let inner = sm3(&[pad(0x36), b"m".to_vec()].concat());
        let outer = sm3(&[pad(0x5c), inner.to_vec()].concat());
        assert_eq!(DigestKey::new(secret).digest(b"m"), outer);
        assert!(!format!("{:?}", DigestKey::new(secret)).contains('7'));
    }
}
