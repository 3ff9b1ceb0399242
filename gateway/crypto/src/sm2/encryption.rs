//! SM2 public-key encryption (GB/T 32918.4-2016), for keys and other short secrets.

use der::asn1::{OctetStringRef, UintRef};
use der::{Decode as _, Encode as _, Sequence};
use sm2::elliptic_curve::Group as _;
use sm2::{NonZeroScalar, ProjectivePoint};
use sm3::{Digest as _, Sm3};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{PrivateKey, PublicKey, coordinates, pad, random_scalar};
use crate::{DecryptError, RandomError};

/// How a ciphertext is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CiphertextFormat {
    /// `SEQUENCE { x INTEGER, y INTEGER, hash OCTET STRING, cipher OCTET STRING }` (GM/T 0009-2012
    /// clause 7.2): every envelope.
    Der,
    /// `04‖x‖y‖C3‖C2` (GB/T 32918.4-2016): peers that write raw bytes. Some leave the `04` out:
    /// add it.
    C1C3C2,
    /// `04‖x‖y‖C2‖C3` (the order before 2016): old peers.
    C1C2C3,
}

/// A plaintext that cannot be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// SM2 has no ciphertext for an empty plaintext.
    #[error("没有内容可加密")]
    Empty,
    /// Above 64 KiB: such data belongs under SM4, its key under SM2.
    #[error("内容过长,不能直接用 SM2 加密")]
    TooLong,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

const MAX_PLAINTEXT: usize = 1 << 16;

#[derive(Sequence)]
struct DerCiphertext<'a> {
    x: UintRef<'a>,
    y: UintRef<'a>,
    hash: &'a OctetStringRef,
    cipher: &'a OctetStringRef,
}

/// Writes a ciphertext in another format, as a device or peer wants it, without opening it.
pub fn convert(
    ciphertext: &[u8],
    from: CiphertextFormat,
    to: CiphertextFormat,
) -> Result<Vec<u8>, DecryptError> {
    let parts = Parts::read(from, ciphertext).ok_or(DecryptError)?;
    parts.write(to).map_err(|_| DecryptError)
}

impl PublicKey {
    /// Encrypts 1..65,536 bytes to the holder of the private key, as DER.
    pub fn seal(&self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seal_as(CiphertextFormat::Der, plaintext)
    }

    /// Encrypts 1..65,536 bytes in the format a peer wants.
    pub fn seal_as(
        &self,
        format: CiphertextFormat,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        match plaintext.len() {
            0 => return Err(SealError::Empty),
            1..=MAX_PLAINTEXT => {}
            _ => return Err(SealError::TooLong),
        }
        loop {
            if let Some(parts) = self.seal_with(&*random_scalar()?, plaintext) {
                return parts.write(format).map_err(|_| SealError::TooLong);
            }
        }
    }

    /// Clause 6.1, steps A2 to A7. `None`: the key stream is all zero, take another `k`.
    fn seal_with(&self, k: &NonZeroScalar, plaintext: &[u8]) -> Option<Parts> {
        let c1 = ProjectivePoint::mul_by_generator(k).to_affine();
        let shared = SharedPoint::new(self.point() * **k);
        let mut c2 = plaintext.to_vec();
        let c3 = shared.digest(plaintext);
        shared.apply_key_stream(&mut c2).then(|| Parts { c1: coordinates(&c1), c2, c3 })
    }
}

impl PrivateKey {
    /// Decrypts what [`PublicKey::seal`] or a peer wrote as DER.
    pub fn open(&self, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        self.open_as(CiphertextFormat::Der, ciphertext)
    }

    /// Decrypts a peer's format.
    pub fn open_as(
        &self,
        format: CiphertextFormat,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        let parts = Parts::read(format, ciphertext).ok_or(DecryptError)?;
        // Refuses points off the curve. The cofactor is 1, so that no small subgroup is left.
        let mut sec1 = [4; 65];
        sec1[1..].copy_from_slice(&parts.c1);
        let c1 = PublicKey::from_sec1(&sec1).map_err(|_| DecryptError)?;
        let shared = SharedPoint::new(c1.point() * self.secret.d);
        let mut plaintext = Zeroizing::new(parts.c2);
        let key_stream = shared.apply_key_stream(&mut plaintext);
        let intact: bool = shared.digest(&plaintext).ct_eq(&parts.c3).into();
        (key_stream && intact).then_some(plaintext).ok_or(DecryptError)
    }
}

/// A ciphertext taken apart: `x‖y`, the encrypted bytes, the digest.
struct Parts {
    c1: [u8; 64],
    c2: Vec<u8>,
    c3: [u8; 32],
}

impl Parts {
    fn read(format: CiphertextFormat, bytes: &[u8]) -> Option<Self> {
        let mut c1 = [0; 64];
        let (c2, c3) = match format {
            CiphertextFormat::Der => {
                let der = DerCiphertext::from_der(bytes).ok()?;
                let (x, y) = c1.split_at_mut(32);
                pad(der.x, x)?;
                pad(der.y, y)?;
                (der.cipher.as_bytes(), der.hash.as_bytes())
            }
            CiphertextFormat::C1C3C2 | CiphertextFormat::C1C2C3 => {
                let (point, rest) = bytes.strip_prefix(&[4])?.split_first_chunk::<64>()?;
                c1 = *point;
                if format == CiphertextFormat::C1C3C2 {
                    let (c3, c2) = rest.split_at_checked(32)?;
                    (c2, c3)
                } else {
                    rest.split_at_checked(rest.len().checked_sub(32)?)?
                }
            }
        };
        (!c2.is_empty()).then_some(())?;
        Some(Self { c1, c2: c2.to_vec(), c3: c3.try_into().ok()? })
    }

    fn write(&self, format: CiphertextFormat) -> der::Result<Vec<u8>> {
        let (x, y) = self.c1.split_at(32);
        Ok(match format {
            CiphertextFormat::Der => DerCiphertext {
                x: UintRef::new(x)?,
                y: UintRef::new(y)?,
                hash: OctetStringRef::new(&self.c3)?,
                cipher: OctetStringRef::new(&self.c2)?,
            }
            .to_der()?,
            CiphertextFormat::C1C3C2 => [&[4], x, y, &self.c3, &self.c2].concat(),
            CiphertextFormat::C1C2C3 => [&[4], x, y, &self.c2, &self.c3].concat(),
        })
    }
}

/// `x₂‖y₂`, known to both sides only.
struct SharedPoint(Zeroizing<[u8; 64]>);

impl SharedPoint {
    fn new(point: ProjectivePoint) -> Self {
        Self(Zeroizing::new(coordinates(&point.to_affine())))
    }

    /// XORs `KDF(x₂‖y₂)` over `data` (clause 5.4.3). False if the stream was all zero, in which
    /// case `data` is unchanged.
    fn apply_key_stream(&self, data: &mut [u8]) -> bool {
        let prefix = Sm3::new_with_prefix(self.0.as_slice());
        let mut seen = 0;
        for (block, counter) in data.chunks_mut(32).zip(1u32..) {
            let key = prefix.clone().chain_update(counter.to_be_bytes()).finalize();
            for (byte, key) in block.iter_mut().zip(key) {
                *byte ^= key;
                seen |= key;
            }
        }
        seen != 0
    }

    /// `C3 = SM3(x₂‖M‖y₂)`.
    fn digest(&self, plaintext: &[u8]) -> [u8; 32] {
        let (x, y) = self.0.split_at(32);
        Sm3::new().chain_update(x).chain_update(plaintext).chain_update(y).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{K, key, nonce};
    use super::*;

    /// GB/T 32918.5-2017 appendix A.3 (with C1, C3, C2 as in the standard's text).
    #[test]
    fn encryption_example() {
        let key = key();
        let parts = key.public_key().seal_with(&nonce(&K), b"encryption standard").unwrap();
        let ciphertext = parts.write(CiphertextFormat::C1C3C2).unwrap();
        assert_eq!(
            crate::hex(&ciphertext),
            "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73\
             e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0\
             59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766\
             21886ca989ca9c7d58087307ca93092d651efa"
        );
        let opened = key.open_as(CiphertextFormat::C1C3C2, &ciphertext);
        assert_eq!(opened.unwrap().as_slice(), b"encryption standard");
    }

    /// A stream of zeros would send the plaintext in clear. One byte meets it once in 256 nonces.
    #[test]
    fn all_zero_key_stream_is_neither_written_nor_read() {
        let key = key();
        let plaintext = b"x";
        let zero = (1u8..=255)
            .flat_map(|low| (0u8..8).map(move |high| (low, high)))
            .map(|(low, high)| {
                let mut bytes = [0; 32];
                bytes[30] = high;
                bytes[31] = low;
                nonce(&bytes)
            })
            .find(|k| key.public_key().seal_with(k, plaintext).is_none())
            .expect("one of 2,040 nonces");
        let shared = SharedPoint::new(key.public_key().point() * *zero);
        let forged = Parts {
            c1: coordinates(&ProjectivePoint::mul_by_generator(&zero).to_affine()),
            c2: plaintext.to_vec(),
            c3: shared.digest(plaintext),
        };
        let bytes = forged.write(CiphertextFormat::Der).unwrap();
        assert_eq!(key.open(&bytes).err(), Some(DecryptError));
    }
}
