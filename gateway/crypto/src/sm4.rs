//! SM4 keys (GB/T 32907-2016), for [`aead`](crate::aead) and [`cbc`](crate::cbc).

use zeroize::Zeroizing;

use crate::{RandomError, random};

/// The block cipher behind every mode of this crate.
pub(crate) type Cipher = xinqiao_kernels::Sm4;

/// A 16-byte SM4 key. Erased on drop; never shown.
#[derive(Clone)]
pub struct Sm4Key(Zeroizing<[u8; 16]>);

impl Sm4Key {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, RandomError> {
        random().map(Self)
    }

    /// Wraps 16 secret bytes.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// From a slice, as an envelope gives it. `None` if it is not 16 bytes.
    pub fn from_slice(secret: &[u8]) -> Option<Self> {
        secret.try_into().ok().map(Self::new)
    }

    /// The secret bytes, to seal them to somebody.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Debug for Sm4Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sm4Key(…)")
    }
}
