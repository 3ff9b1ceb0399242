//! Encrypting and decrypting content chunk by chunk.

use std::io::{Read, Write};

use der::asn1::{Any, OctetString};
use der::{Decode as _, Encode as _};
use spki::AlgorithmIdentifierOwned;
use xinqiao_core::spi::ReadSeek;
use zeroize::Zeroizing;

use super::asn1::{ChunkedGcm, SM4_CBC, SM4_GCM, with_parameters};
use super::ber::Extent;
use super::{Cipher, EnvelopeError};
use crate::aead::{Nonce, Sm4Gcm, TAG_LENGTH};
use crate::cbc::{CbcDecryptor, CbcEncryptor};
use crate::sm4::Sm4Key;
use crate::{Sm3Digest, random};

const BLOCK: usize = 16;
/// Plaintext of a whole chunk in what this module writes, and the most it accepts.
const CHUNK: u32 = 64 << 10;
const MOST_CHUNK: u32 = 1 << 20;
/// Smaller ones cost more than they carry.
const LEAST_CHUNK: u32 = 1 << 10;

/// How one content is encrypted: algorithm and its fresh parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sealing {
    Cbc { iv: [u8; 16] },
    Gcm { prefix: [u8; 7], chunk: u32 },
}

impl Sealing {
    pub(super) fn fresh(cipher: Cipher) -> Result<Self, EnvelopeError> {
        Ok(match cipher {
            Cipher::Cbc => Self::Cbc { iv: *random()? },
            Cipher::Gcm => Self::Gcm { prefix: *random()?, chunk: CHUNK },
        })
    }

    pub(super) fn cipher(&self) -> Cipher {
        match self {
            Self::Cbc { .. } => Cipher::Cbc,
            Self::Gcm { .. } => Cipher::Gcm,
        }
    }

    pub(super) fn identifier(&self) -> Result<AlgorithmIdentifierOwned, EnvelopeError> {
        let wrong = |_| EnvelopeError::Part("加密算法参数");
        match self {
            Self::Cbc { iv } => {
                let iv = OctetString::new(iv.to_vec()).map_err(wrong)?;
                Ok(with_parameters(SM4_CBC, Any::encode_from(&iv).map_err(wrong)?))
            }
            Self::Gcm { prefix, chunk } => {
                let prefix = OctetString::new(prefix.to_vec()).map_err(wrong)?;
                let parameters = ChunkedGcm { prefix, chunk: *chunk };
                Ok(with_parameters(SM4_GCM, Any::encode_from(&parameters).map_err(wrong)?))
            }
        }
    }

    pub(super) fn parse(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, EnvelopeError> {
        let wrong = || EnvelopeError::Part("加密算法参数");
        let parameters = algorithm.parameters.as_ref().ok_or_else(wrong);
        match algorithm.oid {
            SM4_CBC => {
                let iv = OctetString::from_der(&parameters?.to_der().map_err(|_| wrong())?);
                let iv = iv.map_err(|_| wrong())?;
                Ok(Self::Cbc { iv: iv.as_bytes().try_into().map_err(|_| wrong())? })
            }
            SM4_GCM => {
                let given = ChunkedGcm::from_der(&parameters?.to_der().map_err(|_| wrong())?);
                let ChunkedGcm { prefix, chunk } = given.map_err(|_| wrong())?;
                if !(LEAST_CHUNK..=MOST_CHUNK).contains(&chunk) {
                    return Err(wrong());
                }
                Ok(Self::Gcm { prefix: prefix.as_bytes().try_into().map_err(|_| wrong())?, chunk })
            }
            other => Err(EnvelopeError::Algorithm(other.to_string())),
        }
    }

    /// Length of the ciphertext of `plain` bytes.
    pub(super) fn sealed_len(&self, plain: u64) -> u64 {
        match self {
            Self::Cbc { .. } => plain - plain % BLOCK as u64 + BLOCK as u64,
            Self::Gcm { chunk, .. } => {
                plain + plain.div_ceil(u64::from(*chunk)).max(1) * TAG_LENGTH as u64
            }
        }
    }

    /// Encrypts all of `content`, `len` bytes of it. In GCM `head` is authenticated along.
    pub(super) fn seal(
        &self,
        key: &Sm4Key,
        head: &Sm3Digest,
        content: &mut dyn Read,
        len: u64,
        out: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        match self {
            Self::Cbc { iv } => seal_cbc(key, iv, &mut content.take(len), out),
            Self::Gcm { prefix, chunk } => {
                Chunks::new(key, *prefix, *chunk, head).seal(content, len, out)
            }
        }
    }

    /// Decrypts `sealed` and hands the plaintext over in chunks. In CBC what has been handed over
    /// is not verified; in GCM each chunk is, but only the end tells that no chunk is missing.
    pub(super) fn open(
        &self,
        key: &Sm4Key,
        head: &Sm3Digest,
        input: &mut dyn ReadSeek,
        sealed: &Extent,
        each: &mut dyn FnMut(&[u8]) -> Result<(), EnvelopeError>,
    ) -> Result<(), EnvelopeError> {
        match self {
            Self::Cbc { iv } => open_cbc(key, iv, input, sealed, each),
            Self::Gcm { prefix, chunk } => {
                Chunks::new(key, *prefix, *chunk, head).open(input, sealed, each)
            }
        }
    }
}

fn seal_cbc(
    key: &Sm4Key,
    iv: &[u8; 16],
    content: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    let mut mode = CbcEncryptor::new(key, iv);
    let mut chunk = Zeroizing::new(vec![0; CHUNK as usize]);
    let mut sealed = Vec::with_capacity(chunk.len() + BLOCK);
    loop {
        let n = content.read(&mut chunk)?;
        if n == 0 {
            mode.finish(&mut sealed);
            return Ok(out.write_all(&sealed)?);
        }
        mode.update(chunk.get(..n).unwrap_or_default(), &mut sealed);
        out.write_all(&sealed)?;
        sealed.clear();
    }
}

fn open_cbc(
    key: &Sm4Key,
    iv: &[u8; 16],
    input: &mut dyn ReadSeek,
    sealed: &Extent,
    each: &mut dyn FnMut(&[u8]) -> Result<(), EnvelopeError>,
) -> Result<(), EnvelopeError> {
    let mut mode = CbcDecryptor::new(key, iv);
    let mut plain = Zeroizing::new(Vec::with_capacity(CHUNK as usize + BLOCK));
    sealed.read(input, |part| {
        mode.update(part, &mut plain);
        each(&plain)?;
        plain.clear();
        Ok(())
    })?;
    mode.finish(&mut plain).map_err(|_| EnvelopeError::Refused)?;
    each(&plain)
}

/// Content in chunks, each encrypted and authenticated for itself and for its place (STREAM, Hoang
/// et al. 2015).
struct Chunks<'a> {
    cipher: Sm4Gcm,
    prefix: [u8; 7],
    size: usize,
    head: &'a Sm3Digest,
    number: u32,
}

impl<'a> Chunks<'a> {
    fn new(key: &Sm4Key, prefix: [u8; 7], size: u32, head: &'a Sm3Digest) -> Self {
        Self { cipher: Sm4Gcm::new(key), prefix, size: size as usize, head, number: 0 }
    }

    /// The next nonce: prefix, number, whether it is of the last chunk.
    fn nonce(&mut self, last: bool) -> Result<Nonce, EnvelopeError> {
        let mut nonce = [0; 12];
        let number = self.number.to_be_bytes();
        let parts = self.prefix.into_iter().chain(number).chain([u8::from(last)]);
        nonce.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        self.number = self.number.checked_add(1).ok_or(EnvelopeError::Part("内容,过长"))?;
        Ok(Nonce::from_protocol(nonce))
    }

    fn seal(
        mut self,
        content: &mut dyn Read,
        len: u64,
        out: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        let mut chunk = Zeroizing::new(vec![0; self.size]);
        let mut left = len;
        loop {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.size);
            let part = chunk.get_mut(..n).unwrap_or_default();
            content.read_exact(part)?;
            left -= n as u64;
            let nonce = self.nonce(left == 0)?;
            let tag = self
                .cipher
                .seal_in_place(nonce, self.head, part)
                .map_err(|_| EnvelopeError::Refused)?;
            out.write_all(chunk.get(..n).unwrap_or_default())?;
            out.write_all(&tag)?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn open(
        mut self,
        input: &mut dyn ReadSeek,
        sealed: &Extent,
        each: &mut dyn FnMut(&[u8]) -> Result<(), EnvelopeError>,
    ) -> Result<(), EnvelopeError> {
        let whole = self.size + TAG_LENGTH;
        let mut held = Zeroizing::new(Vec::with_capacity(2 * whole));
        let mut left = sealed.len();
        if left < TAG_LENGTH as u64 {
            return Err(EnvelopeError::Refused);
        }
        sealed.read(input, |part| {
            held.extend_from_slice(part);
            left -= part.len() as u64;
            // A whole chunk is the last one only if nothing follows.
            let mut used = 0;
            while held.len() - used > whole || (held.len() - used == whole && left > 0) {
                let one = held.get_mut(used..used + whole).unwrap_or_default();
                each(self.open_one(one, false)?)?;
                used += whole;
            }
            held.drain(..used);
            if left == 0 { each(self.open_one(&mut held, true)?) } else { Ok(()) }
        })
    }

    fn open_one<'b>(&mut self, bytes: &'b mut [u8], last: bool) -> Result<&'b [u8], EnvelopeError> {
        let nonce = self.nonce(last)?;
        let (text, tag) =
            bytes.split_last_chunk_mut::<TAG_LENGTH>().ok_or(EnvelopeError::Refused)?;
        self.cipher
            .open_in_place(nonce.as_bytes(), self.head, text, tag)
            .map_err(|_| EnvelopeError::Refused)?;
        Ok(text)
    }
}
