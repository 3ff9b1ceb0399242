//! SM4-GCM (RFC 8998, 3.1; NIST SP 800-38D) over the kernel's own counter mode.

use aead::consts::{U12, U16};
use aead::{AeadCore, AeadInOut, Error, Key, KeyInit, KeySizeUser, Nonce, Tag, TagPosition};
use cipher::{Block, BlockCipherEncrypt, InOutBuf};
use ghash::GHash;
use ghash::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Sm4;

/// SM4-GCM: 16-byte keys, 12-byte nonces, 16-byte tags; in all the same as
/// `aes_gcm::AesGcm<Sm4, U12>`, but parallel down to the last byte.
///
/// A nonce must never come twice with one key.
///
/// # Errors
/// Of the trait's methods: `encrypt` refuses texts of 64 GiB and more, `decrypt` these and any
/// text that does not fit the tag, before it has written a byte.
#[derive(Clone, Debug)]
pub struct Sm4Gcm {
    cipher: Sm4,
    ghash: GHash,
}

/// Bytes of the longest text that the 32-bit counter can serve (SP 800-38D, 5.2.1.1).
const MAX_TEXT: u64 = (1 << 36) - 32;

/// Bytes of key stream made in one go for the tag and the begin of the text: what the widest
/// kernel does at once.
const HEAD: usize = 1024;
const BLOCK: usize = 16;

impl From<Sm4> for Sm4Gcm {
    fn from(cipher: Sm4) -> Self {
        let mut hash_key = Block::<Sm4>::default();
        cipher.encrypt_block(&mut hash_key);
        let ghash = GHash::new(&hash_key);
        hash_key.zeroize();
        Self { cipher, ghash }
    }
}

impl KeySizeUser for Sm4Gcm {
    type KeySize = U16;
}

impl KeyInit for Sm4Gcm {
    fn new(key: &Key<Self>) -> Self {
        Sm4::new(key).into()
    }
}

impl AeadCore for Sm4Gcm {
    type NonceSize = U12;
    type TagSize = U16;
    const TAG_POSITION: TagPosition = TagPosition::Postfix;
}

impl AeadInOut for Sm4Gcm {
    fn encrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        mut text: InOutBuf<'_, '_, u8>,
    ) -> Result<Tag<Self>, Error> {
        let stream = self.stream(nonce, text.len())?;
        self.add(&stream, text.reborrow());
        Ok(self.tag(&stream, associated_data, text.get_out()))
    }

    fn decrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        text: InOutBuf<'_, '_, u8>,
        tag: &Tag<Self>,
    ) -> Result<(), Error> {
        let stream = self.stream(nonce, text.len())?;
        let expected = self.tag(&stream, associated_data, text.get_in());
        if !bool::from(expected.as_slice().ct_eq(tag.as_slice())) {
            return Err(Error);
        }
        self.add(&stream, text);
        Ok(())
    }
}

impl ZeroizeOnDrop for Sm4Gcm {}

/// The key stream of one message.
struct Stream {
    /// The first bytes: one block for the tag, then for the text; as many as it needs.
    head: [u8; HEAD],
    /// The counter block after the head.
    next: [u8; BLOCK],
}

impl Sm4Gcm {
    /// The begin of the key stream for a text of `len` bytes.
    fn stream(&self, nonce: &Nonce<Self>, len: usize) -> Result<Stream, Error> {
        if len as u64 > MAX_TEXT {
            return Err(Error);
        }
        let at = |block: u32| {
            let mut counter = [0; BLOCK];
            counter[..12].copy_from_slice(nonce);
            counter[12..].copy_from_slice(&block.to_be_bytes());
            counter
        };
        let mut head = [0; HEAD];
        let used = (BLOCK + len).min(HEAD);
        self.cipher.add_key_stream(&at(1), InOutBuf::from(&mut head[..used]));
        Ok(Stream { head, next: at(1 + (HEAD / BLOCK) as u32) })
    }

    /// Adds the key stream to the text.
    fn add(&self, stream: &Stream, text: InOutBuf<'_, '_, u8>) {
        let len = text.len().min(HEAD - BLOCK);
        let (begin, rest) = text.split_at(len);
        // Not `InOutBuf::xor_in2out`: that goes byte by byte, its input being able to overlap.
        for (byte, key) in begin.into_out_with_copied_in().iter_mut().zip(&stream.head[BLOCK..]) {
            *byte ^= key;
        }
        self.cipher.add_key_stream(&stream.next, rest);
    }

    /// The tag of a ciphertext.
    fn tag(&self, stream: &Stream, associated_data: &[u8], ciphertext: &[u8]) -> Tag<Self> {
        let mut ghash = self.ghash.clone();
        ghash.update_padded(associated_data);
        ghash.update_padded(ciphertext);
        let mut lengths = ghash::Block::default();
        lengths[..8].copy_from_slice(&(8 * associated_data.len() as u64).to_be_bytes());
        lengths[8..].copy_from_slice(&(8 * ciphertext.len() as u64).to_be_bytes());
        ghash.update(&[lengths]);
        let mut tag = ghash.finalize();
        for (byte, mask) in tag.iter_mut().zip(stream.head) {
            *byte ^= mask;
        }
        tag
    }
}
