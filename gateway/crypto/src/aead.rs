//! SM4-GCM (GB/T 36624-2018 with SM4; RFC 8998): 16-byte tag, 12-byte nonce.
//!
//! One nonce used twice under one key gives the authentication key away. So a [`Nonce`] comes out
//! of a [`NonceSequence`] once, cannot be copied, and sealing takes it away.

use aes_gcm::KeyInit as _;
use aes_gcm::aead::AeadInOut as _;
use zeroize::Zeroizing;

use crate::sm4::Sm4Key;
use crate::{DecryptError, RandomError, random};

/// Length of the tag at the end of what [`Sm4Gcm::seal`] gives.
pub const TAG_LENGTH: usize = 16;

/// A nonce for one sealing. Deliberately neither `Clone` nor `Copy`.
#[derive(Debug, PartialEq, Eq)]
pub struct Nonce([u8; 12]);

impl Nonce {
    /// A nonce that a protocol makes unique by its own rules, such as TLS from the record number.
    pub fn from_protocol(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be written beside the ciphertext.
    pub fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

/// The nonces `prefix ‖ counter` for one key, each once; ends after 2³² of them.
///
/// A prefix must not come back under the same key: take a key for one sequence only, or a prefix
/// that is written down (the number of a segment), or [`NonceSequence::random`].
#[derive(Debug)]
pub struct NonceSequence {
    prefix: [u8; 8],
    next: Option<u32>,
}

impl NonceSequence {
    /// Starts at counter 0.
    pub fn new(prefix: [u8; 8]) -> Self {
        Self::resume(prefix, 0)
    }

    /// Continues a sequence whose counters below `next` are used.
    pub fn resume(prefix: [u8; 8], next: u32) -> Self {
        Self { prefix, next: Some(next) }
    }

    /// Starts at a random prefix: two of 2²⁰ sequences under one key collide with a chance of
    /// 2⁻²⁵.
    pub fn random() -> Result<Self, RandomError> {
        Ok(Self::new(*random()?))
    }
}

impl Iterator for NonceSequence {
    type Item = Nonce;

    fn next(&mut self) -> Option<Nonce> {
        let counter = self.next?;
        self.next = counter.checked_add(1);
        let mut bytes = [0; 12];
        let (head, tail) = bytes.split_at_mut(8);
        head.copy_from_slice(&self.prefix);
        tail.copy_from_slice(&counter.to_be_bytes());
        Some(Nonce(bytes))
    }
}

/// Above 64 GiB in one piece GCM's counter runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("单段数据超过 64 GiB,不能一次加密")]
pub struct TooLong;

/// A key ready for use: the key schedule is done once.
#[derive(Clone)]
pub struct Sm4Gcm(xinqiao_kernels::Sm4Gcm);

impl Sm4Gcm {
    /// Expands the key.
    pub fn new(key: &Sm4Key) -> Self {
        Self(xinqiao_kernels::Sm4Gcm::new(key.as_bytes().into()))
    }

    /// Encrypts `plaintext` and binds `associated` data: ciphertext ‖ tag.
    pub fn seal(
        &self,
        nonce: Nonce,
        associated: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, TooLong> {
        let mut sealed = Vec::with_capacity(plaintext.len() + TAG_LENGTH);
        sealed.extend_from_slice(plaintext);
        let tag = self.seal_in_place(nonce, associated, &mut sealed)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Encrypts in place and gives the tag.
    pub fn seal_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LENGTH], TooLong> {
        self.0
            .encrypt_inout_detached(&nonce.0.into(), associated, buffer.into())
            .map(Into::into)
            .map_err(|_| TooLong)
    }

    /// Decrypts ciphertext ‖ tag. Nothing comes out unless all of it, `nonce` and `associated`
    /// are what was sealed.
    pub fn open(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(DecryptError)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        self.open_in_place(nonce, associated, &mut buffer, tag)?;
        Ok(buffer)
    }

    /// Decrypts in place; on an error the buffer still holds the ciphertext.
    pub fn open_in_place(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), DecryptError> {
        self.0
            .decrypt_inout_detached(&(*nonce).into(), associated, buffer.into(), tag.into())
            .map_err(|_| DecryptError)
    }
}

impl std::fmt::Debug for Sm4Gcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sm4Gcm(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8998 appendix A.1.
    #[test]
    fn rfc_8998_example() {
        let key = Sm4Key::new(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes());
        let plaintext: Vec<u8> =
            b"\xaa\xbb\xcc\xdd\xee\xff\xee\xaa".iter().flat_map(|byte| [*byte; 8]).collect();
        let nonce = *b"\x00\x00\x12\x34\x56\x78\x00\x00\x00\x00\xab\xcd";
        let associated = b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\
                           \xab\xad\xda\xd2";
        let gcm = Sm4Gcm::new(&key);
        let sealed = gcm.seal(Nonce::from_protocol(nonce), associated, &plaintext).unwrap();
        assert_eq!(
            crate::hex(&sealed),
            "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735\
             d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d\
             83de3541e4c2b58177e065a9bf7b62ec"
        );
        let opened = gcm.open(&nonce, associated, &sealed).unwrap();
        assert_eq!(*opened, plaintext);
    }

    #[test]
    fn every_change_is_refused() {
        let gcm = Sm4Gcm::new(&Sm4Key::generate().unwrap());
        let nonce = NonceSequence::random().unwrap().next().unwrap();
        let bytes = *nonce.as_bytes();
        let sealed = gcm.seal(nonce, b"about", b"some plaintext").unwrap();
        assert!(gcm.open(&bytes, b"about", &sealed).is_ok());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(gcm.open(&bytes, b"about", &changed).err(), Some(DecryptError));
        }
        for length in 0..sealed.len() {
            assert!(gcm.open(&bytes, b"about", &sealed[..length]).is_err());
        }
        assert!(gcm.open(&bytes, b"abou", &sealed).is_err());
        assert!(gcm.open(&[0; 12], b"about", &sealed).is_err());
        let other = Sm4Gcm::new(&Sm4Key::generate().unwrap());
        assert!(other.open(&bytes, b"about", &sealed).is_err());
    }

    #[test]
    fn nonces_count_up_and_end() {
        let mut nonces = NonceSequence::new([9; 8]);
        let two: Vec<_> = nonces.by_ref().take(2).collect();
        assert_eq!(two[0].as_bytes(), &[9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0]);
        assert_eq!(two[1].as_bytes(), &[9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 1]);
        let last: Vec<_> = NonceSequence::resume([9; 8], u32::MAX).collect();
        assert_eq!(last.len(), 1);
    }
}
