//! SM4-CBC with PKCS#7 padding (GB/T 17964-2021), for formats that know nothing better: envelopes
//! of GB/T 35275 and encrypted key files.
//!
//! **CBC does not notice changes.** What comes out of decryption is unproven until the caller has
//! verified a signature or digest over it, and no answer may tell a sender why it was refused.

use ::cbc::{Decryptor, Encryptor};
use cipher::block_padding::Pkcs7;
use cipher::{Array, BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeLess as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::DecryptError;
use crate::sm4::{Cipher, Sm4Key};

const BLOCK: usize = 16;

/// Encrypts a whole plaintext. `iv` must be fresh and random for each.
pub fn encrypt(key: &Sm4Key, iv: &[u8; BLOCK], plaintext: &[u8]) -> Vec<u8> {
    Encryptor::<Cipher>::new(key.as_bytes().into(), iv.into())
        .encrypt_padded_vec::<Pkcs7>(plaintext)
}

/// Decrypts a whole ciphertext. Proves nothing: see the [module](self).
pub fn decrypt(
    key: &Sm4Key,
    iv: &[u8; BLOCK],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
    let mut stream = CbcDecryptor::new(key, iv);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(ciphertext.len() + BLOCK));
    stream.update(ciphertext, &mut plaintext);
    stream.finish(&mut plaintext)?;
    Ok(plaintext)
}

/// Encrypts a plaintext that comes in chunks.
pub struct CbcEncryptor {
    mode: Encryptor<Cipher>,
    pending: Zeroizing<Vec<u8>>,
}

impl CbcEncryptor {
    /// Starts. `iv` must be fresh and random.
    pub fn new(key: &Sm4Key, iv: &[u8; BLOCK]) -> Self {
        Self {
            mode: Encryptor::new(key.as_bytes().into(), iv.into()),
            pending: Zeroizing::default(),
        }
    }

    /// Takes in a chunk and appends the blocks that are full to `out`.
    pub fn update(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(chunk);
        self.pending.zeroize();
        let whole = out.len() - (out.len() - start) % BLOCK;
        self.pending.extend(out.drain(whole..));
        if let Some(blocks) = out.get_mut(start..) {
            self.mode.encrypt_blocks(Array::slice_as_chunks_mut(blocks).0);
        }
    }

    /// Appends the padded last block.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let padding = BLOCK - self.pending.len() % BLOCK;
        let fill = u8::try_from(padding).unwrap_or_default();
        self.update(&[fill; BLOCK][..padding], out);
    }
}

/// Decrypts a ciphertext that comes in chunks. Proves nothing: see the [module](self).
pub struct CbcDecryptor {
    mode: Decryptor<Cipher>,
    /// The last 1..=16 bytes: only the end says whether they hold the padding.
    pending: Vec<u8>,
}

impl CbcDecryptor {
    /// Starts.
    pub fn new(key: &Sm4Key, iv: &[u8; BLOCK]) -> Self {
        Self { mode: Decryptor::new(key.as_bytes().into(), iv.into()), pending: Vec::new() }
    }

    /// Takes in a chunk and appends what is certain to be plaintext to `out`.
    pub fn update(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(chunk);
        self.pending.clear();
        let length = out.len() - start;
        let keep = if length == 0 { 0 } else { (length - 1) % BLOCK + 1 };
        self.pending.extend(out.drain(out.len() - keep..));
        if let Some(blocks) = out.get_mut(start..) {
            self.mode.decrypt_blocks(Array::slice_as_chunks_mut(blocks).0);
        }
    }

    /// Appends the rest without its padding.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), DecryptError> {
        let last: [u8; BLOCK] = self.pending[..].try_into().map_err(|_| DecryptError)?;
        let mut last = Zeroizing::new(last);
        self.mode.decrypt_blocks(Array::slice_as_chunks_mut(last.as_mut_slice()).0);
        // In constant time, so that the time says no more than the answer.
        let padding = last[BLOCK - 1];
        let mut good = !padding.ct_eq(&0) & padding.ct_lt(&17);
        for (fromend, byte) in (0u8..).zip(last.iter().rev()) {
            let expected = u8::conditional_select(byte, &padding, fromend.ct_lt(&padding));
            good &= byte.ct_eq(&expected);
        }
        let kept = last
            .get(..BLOCK.saturating_sub(padding.into()))
            .filter(|_| good.into())
            .ok_or(DecryptError)?;
        out.extend_from_slice(kept);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: [u8; 16] = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210_u128.to_be_bytes();

    /// Two blocks published with OpenSSL (evpciph_sm4.txt), and the padding block after them.
    #[test]
    fn openssl_example() {
        let key = Sm4Key::new(EXAMPLE);
        let ciphertext = encrypt(&key, &EXAMPLE, &EXAMPLE.repeat(2));
        assert_eq!(
            crate::hex(&ciphertext[..32]),
            "2677f46b09c122cc975533105bd4a22af6125f7275ce552c3a2bbcf533de8a3b"
        );
        assert_eq!(ciphertext.len(), 48);
        let opened = decrypt(&key, &EXAMPLE, &ciphertext).unwrap();
        assert_eq!(*opened, EXAMPLE.repeat(2));
    }

    #[test]
    fn bad_padding_and_lengths_are_refused() {
        let key = Sm4Key::new(EXAMPLE);
        let seal = |plaintext: [u8; 16]| encrypt(&key, &EXAMPLE, &plaintext)[..16].to_vec();
        let ending = |tail: &[u8]| {
            let mut plaintext = [0xaa; 16];
            plaintext[16 - tail.len()..].copy_from_slice(tail);
            decrypt(&key, &EXAMPLE, &seal(plaintext)).map(|plain| plain.len())
        };
        assert_eq!(ending(&[1]), Ok(15));
        assert_eq!(ending(&[16; 16]), Ok(0));
        for tail in [[0].as_slice(), &[17], &[255], &[1, 2], &[3, 4, 3, 3].as_slice()[..2]] {
            assert_eq!(ending(tail), Err(DecryptError), "{tail:?}");
        }
        let mut first_wrong = [16; 16];
        first_wrong[0] = 15;
        assert_eq!(ending(&first_wrong), Err(DecryptError));
        let whole = encrypt(&key, &EXAMPLE, &[7; 20]);
        for length in (0..whole.len()).filter(|length| *length != 16) {
            assert!(decrypt(&key, &EXAMPLE, &whole[..length]).is_err());
        }
    }

    proptest! {
        #[test]
        fn chunks_equal_whole(
            plaintext in prop::collection::vec(any::<u8>(), 0..200),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let key = Sm4Key::new(EXAMPLE);
            let pieces = |mut data: &[u8]| {
                let mut pieces = Vec::new();
                for cut in cuts.iter().cycle() {
                    if data.is_empty() {
                        break;
                    }
                    let (piece, rest) = data.split_at((*cut).min(data.len()));
                    pieces.push(piece.to_vec());
                    data = rest;
                }
                pieces
            };
            let mut encryptor = CbcEncryptor::new(&key, &EXAMPLE);
            let mut ciphertext = Vec::new();
            for piece in pieces(&plaintext) {
                encryptor.update(&piece, &mut ciphertext);
            }
            encryptor.finish(&mut ciphertext);
            prop_assert_eq!(&ciphertext, &encrypt(&key, &EXAMPLE, &plaintext));
            let mut decryptor = CbcDecryptor::new(&key, &EXAMPLE);
            let mut opened = Vec::new();
            for piece in pieces(&ciphertext) {
                decryptor.update(&piece, &mut opened);
            }
            decryptor.finish(&mut opened).unwrap();
            prop_assert_eq!(opened, plaintext);
        }
    }
}
