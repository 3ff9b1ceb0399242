//! SM2 over the recommended curve (GB/T 32918-2016, GB/T 32918.5-2017): keys, signatures, and
//! [public-key encryption](encryption).
//!
//! The curve arithmetic is RustCrypto's `sm2` (constant-time, formally verified field). The few
//! lines of protocol on top are ours, because the crate's `SigningKey` does not erase its scalar,
//! repeats `k·G` on construction, and its decryption neither compares `C3` in constant time nor
//! refuses an all-zero key stream.
//!
//! A signature is over `e = SM3(Z‖M)`, where `Z` binds the signer's id and public key. [`Prehash`]
//! is that `e`: it comes from a [`PublicKey`] and a [`SignerId`], so that a plain digest of the
//! message cannot be signed by mistake, and it is what a hardware module takes too.

pub mod encryption;

use der::asn1::UintRef;
use der::{Decode as _, Sequence};
use getrandom::SysRng;
use rfc6979::KGenerator;
use sm2::elliptic_curve::ops::{MulByGeneratorVartime as _, MulVartime as _, Reduce};
use sm2::elliptic_curve::point::AffineCoordinates as _;
use sm2::elliptic_curve::sec1::ToSec1Point as _;
use sm2::elliptic_curve::{Curve as _, Generate as _, Group as _};
use sm2::{FieldBytes, NonZeroScalar, ProjectivePoint, Scalar, Sm2, U256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{RandomError, Sm3Digest, Sm3Stream, random};

pub use encryption::{CiphertextFormat, SealError};

/// `a‖b‖x_G‖y_G` of the recommended curve (GB/T 32918.5-2017 clause 2), as `Z` takes them in.
const CURVE: [u8; 128] = *b"\
\xff\xff\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xfc\
\x28\xe9\xfa\x9e\x9d\x9f\x5e\x34\x4d\x5a\x9e\x4b\xcf\x65\x09\xa7\
\xf3\x97\x89\xf5\x15\xab\x8f\x92\xdd\xbc\xbd\x41\x4d\x94\x0e\x93\
\x32\xc4\xae\x2c\x1f\x19\x81\x19\x5f\x99\x04\x46\x6a\x39\xc9\x94\
\x8f\xe3\x0b\xbf\xf2\x66\x0b\xe1\x71\x5a\x45\x89\x33\x4c\x74\xc7\
\xbc\x37\x36\xa2\xf4\xf6\x77\x9c\x59\xbd\xce\xe3\x6b\x69\x21\x53\
\xd0\xa9\x87\x7c\xc6\x2a\x47\x40\x02\xdf\x32\xe5\x21\x39\xf0\xa0";

/// The distinguishing id (可辨别标识) of a signer. Both sides must mean the same one, so it is
/// given at every call and never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignerId<'a>(&'a [u8]);

impl SignerId<'static> {
    /// `1234567812345678`: certificates, requests, revocation lists, envelopes (GM/T 0009-2012
    /// clause 10).
    pub const STANDARD: Self = Self(b"1234567812345678");
    /// `TLSv1.3+GM+Cipher+Suite`: CertificateVerify in TLS 1.3 (RFC 8998 clause 3.2.1).
    pub const TLS13: Self = Self(b"TLSv1.3+GM+Cipher+Suite");
}

impl<'a> SignerId<'a> {
    /// Another id. `None` above 8,191 bytes: its length is written in 16 bits, counting bits.
    pub fn new(id: &'a [u8]) -> Option<Self> {
        (id.len() <= usize::from(u16::MAX / 8)).then_some(Self(id))
    }
}

/// `e = SM3(Z‖M)`: what SM2 signs. Made by [`PublicKey::prehash`] or [`PrehashStream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prehash(Sm3Digest);

impl Prehash {
    /// Takes an `e` computed elsewhere. Only right where a peer's or a device's format says so:
    /// a plain SM3 of the message is *not* an `e`.
    pub fn from_raw(e: Sm3Digest) -> Self {
        Self(e)
    }

    /// The 32 bytes, as a device takes them.
    pub fn as_bytes(&self) -> &Sm3Digest {
        &self.0
    }
}

/// Takes a message in chunks towards its [`Prehash`]. From [`PublicKey::prehash_stream`].
#[derive(Debug, Clone)]
pub struct PrehashStream(Sm3Stream);

impl PrehashStream {
    /// Takes in the next chunk.
    pub fn update(&mut self, chunk: &[u8]) {
        self.0.update(chunk);
    }

    /// `e` of everything taken in.
    pub fn finish(self) -> Prehash {
        Prehash(self.0.finish())
    }
}

/// Bytes that are no SM2 key: wrong length or form, zero, out of range, or not on the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("不是有效的 SM2 密钥(格式不对,或点不在曲线上)")]
pub struct InvalidKey;

/// Bytes that are no SM2 signature, or a signature that does not fit message, id and key. One
/// error for both: a caller can do nothing different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("SM2 签名无效")]
pub struct InvalidSignature;

/// A public key: a point on the curve other than infinity.
#[derive(Clone)]
pub struct PublicKey(sm2::dsa::VerifyingKey);

impl PublicKey {
    /// From `04‖x‖y` (65 bytes) or compressed `02|03‖x` (33 bytes).
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let key = sm2::PublicKey::from_sec1_bytes(bytes).map_err(|_| InvalidKey)?;
        Self::from_key(key)
    }

    /// `04‖x‖y`.
    pub fn to_sec1(&self) -> [u8; 65] {
        let mut bytes = [4; 65];
        bytes[1..].copy_from_slice(&coordinates(self.0.as_affine()));
        bytes
    }

    /// `Z = SM3(ENTL‖ID‖a‖b‖G‖P)` (GB/T 32918.2-2016 clause 5.5).
    pub fn z(&self, id: SignerId<'_>) -> Sm3Digest {
        let bits = u16::try_from(id.0.len() * 8).unwrap_or(u16::MAX);
        let mut stream = Sm3Stream::default();
        stream.update(&bits.to_be_bytes());
        stream.update(id.0);
        stream.update(&CURVE);
        stream.update(&coordinates(self.0.as_affine()));
        stream.finish()
    }

    /// Starts `e` of a message that comes in chunks.
    pub fn prehash_stream(&self, id: SignerId<'_>) -> PrehashStream {
        let mut stream = Sm3Stream::default();
        stream.update(&self.z(id));
        PrehashStream(stream)
    }

    /// `e` of a whole message.
    pub fn prehash(&self, id: SignerId<'_>, message: &[u8]) -> Prehash {
        let mut stream = self.prehash_stream(id);
        stream.update(message);
        stream.finish()
    }

    /// Verifies a signature over `message` by a signer with `id`.
    pub fn verify(
        &self,
        id: SignerId<'_>,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), InvalidSignature> {
        self.verify_prehash(&self.prehash(id, message), signature)
    }

    /// Verifies a signature over `e`, which must come from this key and the signer's id.
    ///
    /// GB/T 32918.2-2016 clause 7.1, steps B5 to B7. The time it takes depends on key, signature
    /// and `e`, of which none is a secret; that makes it faster than the crate's own.
    pub fn verify_prehash(
        &self,
        e: &Prehash,
        signature: &Signature,
    ) -> Result<(), InvalidSignature> {
        // Both are in 1..n-1, or there would be no `Signature`.
        let (r, s) = (*signature.0.r(), *signature.0.s());
        let t = r + s;
        if bool::from(t.is_zero()) {
            return Err(InvalidSignature);
        }
        let point = ProjectivePoint::mul_by_generator_vartime(&s) + self.point().mul_vartime(&t);
        if bool::from(point.is_identity()) {
            return Err(InvalidSignature);
        }
        let x = reduce(&point.to_affine().x());
        if reduce(&e.0.into()) + x == r { Ok(()) } else { Err(InvalidSignature) }
    }

    fn from_key(key: sm2::PublicKey) -> Result<Self, InvalidKey> {
        // The empty id is never used: Z is ours.
        sm2::dsa::VerifyingKey::new("", key).map(Self).map_err(|_| InvalidKey)
    }

    fn point(&self) -> ProjectivePoint {
        (*self.0.as_affine()).into()
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_affine() == other.0.as_affine()
    }
}

impl Eq for PublicKey {}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", crate::hex(&self.to_sec1()))
    }
}

/// A private key with its public key. Erased on drop; never shown.
pub struct PrivateKey {
    /// Behind a pointer, so that moving the key leaves no copies of the scalars.
    secret: Box<Secret>,
    public: PublicKey,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Secret {
    d: Scalar,
    /// `(1+d)⁻¹`, the same for every signature.
    inverse: Scalar,
}

impl PrivateKey {
    /// A fresh key from the operating system's randomness.
    pub fn generate() -> Result<Self, RandomError> {
        loop {
            // Refused with a chance of 2⁻²⁵⁶: n-1, see `from_scalar`.
            if let Ok(key) = Self::from_scalar(&*random_scalar()?) {
                return Ok(key);
            }
        }
    }

    /// From the big-endian scalar `d`, 1 ≤ d ≤ n-2 (GB/T 32918.1-2016 clause 6.1).
    pub fn from_bytes(d: &[u8; 32]) -> Result<Self, InvalidKey> {
        let d = NonZeroScalar::try_from(d.as_slice()).map_err(|_| InvalidKey)?;
        Self::from_scalar(&Zeroizing::new(d))
    }

    /// The big-endian scalar.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.d.to_bytes().into())
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message` as `id`.
    pub fn sign(&self, id: SignerId<'_>, message: &[u8]) -> Result<Signature, RandomError> {
        self.sign_prehash(&self.public.prehash(id, message))
    }

    /// Signs an `e` made with [`Self::public_key`].
    ///
    /// The nonce is hedged: RFC 6979 over HMAC-SM3 with 32 fresh random bytes as added data, so
    /// that neither a weak random source nor a repeated message gives the key away.
    pub fn sign_prehash(&self, e: &Prehash) -> Result<Signature, RandomError> {
        let fresh = random::<32>()?;
        let d: Zeroizing<[u8; 32]> = self.to_bytes();
        let mut nonces =
            KGenerator::<sm3::Sm3, U256>::new(d.as_slice(), &e.0, fresh.as_slice(), &Sm2::ORDER);
        loop {
            let mut bytes = FieldBytes::default();
            nonces.fill_next_k(&mut bytes);
            let k = NonZeroScalar::from_repr(bytes);
            bytes.zeroize();
            if let Some(k) = k.into_option().map(Zeroizing::new)
                && let Some(signature) = self.sign_with(e, &k)
            {
                return Ok(signature);
            }
        }
    }

    /// GB/T 32918.2-2016 clause 6.1, steps A4 to A7. `None`: take another `k`.
    fn sign_with(&self, e: &Prehash, k: &NonZeroScalar) -> Option<Signature> {
        let Secret { d, inverse } = &*self.secret;
        let x = ProjectivePoint::mul_by_generator(k).to_affine().x();
        let r = reduce(&e.0.into()) + reduce(&x);
        if bool::from((r + **k).is_zero()) {
            return None;
        }
        let s = *inverse * (**k - r * d);
        // Zero r or s is refused here.
        sm2::dsa::Signature::from_scalars(r, s).ok().map(Signature)
    }

    fn from_scalar(d: &NonZeroScalar) -> Result<Self, InvalidKey> {
        let inverse = Option::<Scalar>::from((**d + Scalar::ONE).invert()).ok_or(InvalidKey)?;
        let secret = Box::new(Secret { d: **d, inverse });
        let public = PublicKey::from_key(sm2::PublicKey::from_secret_scalar(d))?;
        Ok(Self { secret, public })
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey(…, {:?})", self.public)
    }
}

/// A signature `(r, s)`, both in 1..n-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(sm2::dsa::Signature);

#[derive(Sequence)]
struct DerPair<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

impl Signature {
    /// From `SEQUENCE { r INTEGER, s INTEGER }` (GM/T 0009-2012 clause 7.3), strictly DER: what
    /// is accepted is what [`Self::to_der`] gives.
    pub fn from_der(bytes: &[u8]) -> Result<Self, InvalidSignature> {
        let pair = DerPair::from_der(bytes).map_err(|_| InvalidSignature)?;
        let mut raw = [0; 64];
        let (r, s) = raw.split_at_mut(32);
        pad(pair.r, r).ok_or(InvalidSignature)?;
        pad(pair.s, s).ok_or(InvalidSignature)?;
        Self::from_raw(&raw)
    }

    /// From `r‖s`.
    pub fn from_raw(bytes: &[u8; 64]) -> Result<Self, InvalidSignature> {
        sm2::dsa::Signature::from_slice(bytes).map(Self).map_err(|_| InvalidSignature)
    }

    /// DER.
    pub fn to_der(&self) -> Vec<u8> {
        self.0.to_der().to_vec()
    }

    /// `r‖s`.
    pub fn to_raw(&self) -> [u8; 64] {
        self.0.to_bytes().into()
    }
}

/// A uniform scalar in 1..n-1.
fn random_scalar() -> Result<Zeroizing<NonZeroScalar>, RandomError> {
    NonZeroScalar::try_generate_from_rng(&mut SysRng).map(Zeroizing::new).map_err(|_| RandomError)
}

fn reduce(bytes: &FieldBytes) -> Scalar {
    Scalar::reduce(bytes)
}

/// `x‖y` of a point that is not infinity.
fn coordinates(point: &sm2::AffinePoint) -> [u8; 64] {
    let mut bytes = [0; 64];
    // Only infinity has another length; no caller holds it.
    if let Some(xy) = point.to_sec1_point(false).as_bytes().get(1..65) {
        bytes.copy_from_slice(xy);
    }
    bytes
}

/// A DER integer as big-endian bytes of fixed length; `None` if it is longer.
fn pad(number: UintRef<'_>, out: &mut [u8]) -> Option<()> {
    let bytes = number.as_bytes();
    let start = out.len().checked_sub(bytes.len())?;
    out.get_mut(start..)?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// GB/T 32918.5-2017 appendix A: the key of both examples.
    pub(super) const D: [u8; 32] =
        hex32(b"3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8");
    /// The nonce of both examples.
    pub(super) const K: [u8; 32] =
        hex32(b"59276e27d506861a16680f3ad9c02dccef3cc1fa3cdbe4ce6d54b80deac1bc21");

    const fn hex32(text: &[u8; 64]) -> [u8; 32] {
        const fn digit(c: u8) -> u8 {
            if c <= b'9' { c - b'0' } else { c - b'a' + 10 }
        }
        let mut bytes = [0; 32];
        let mut i = 0;
        while i < 32 {
            bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
            i += 1;
        }
        bytes
    }

    pub(super) fn key() -> PrivateKey {
        PrivateKey::from_bytes(&D).unwrap()
    }

    pub(super) fn nonce(bytes: &[u8; 32]) -> NonZeroScalar {
        NonZeroScalar::try_from(bytes.as_slice()).unwrap()
    }

    /// GB/T 32918.5-2017 appendix A.2, every intermediate value it prints.
    #[test]
    fn signature_example() {
        let key = key();
        let public = key.public_key();
        assert_eq!(
            crate::hex(&public.to_sec1()),
            "0409f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020\
             ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
        );
        assert_eq!(
            crate::hex(&public.z(SignerId::STANDARD)),
            "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
        );
        let e = public.prehash(SignerId::STANDARD, b"message digest");
        assert_eq!(
            crate::hex(e.as_bytes()),
            "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640"
        );
        let signature = key.sign_with(&e, &nonce(&K)).unwrap();
        assert_eq!(
            crate::hex(&signature.to_raw()),
            "f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3\
             b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
        );
        assert_eq!(public.verify(SignerId::STANDARD, b"message digest", &signature), Ok(()));
    }

    #[test]
    fn scalars_out_of_range_are_no_keys() {
        let n = hex32(b"fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123");
        let less = |by: u8| {
            let mut bytes = n;
            bytes[31] -= by;
            bytes
        };
        for bytes in [[0; 32], less(1), n, [0xff; 32]] {
            assert_eq!(PrivateKey::from_bytes(&bytes).err(), Some(InvalidKey));
        }
        assert!(PrivateKey::from_bytes(&less(2)).is_ok());
    }

    #[test]
    fn debug_hides_the_secret() {
        assert!(!format!("{:?}", key()).contains("3945208f"));
    }
}
