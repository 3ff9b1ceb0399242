//! RFC 8998 for rustls: TLS_SM4_GCM_SM3, curveSM2, sm2sig_sm3, and nothing else.
//!
//! Everything mathematical is this crate's; here it only gets the shapes rustls asks for. rustls
//! 0.23 has no names for these code points, but carries unknown ones.

use ::hmac::{Hmac, KeyInit as _, Mac as _};
use ::sm3::{Digest as _, Sm3};
use elliptic_curve::Generate as _;
use elliptic_curve::ecdh::EphemeralSecret;
use elliptic_curve::sec1::ToSec1Point as _;
use getrandom::SysRng;
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::crypto::{
    ActiveKeyExchange, CipherSuiteCommon, CryptoProvider, GetRandomFailed, KeyProvider,
    SecureRandom, SharedSecret, SupportedKxGroup, WebPkiSupportedAlgorithms, hash, hmac,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::pki_types::alg_id::AlgorithmIdentifier;
use rustls::pki_types::{InvalidSignature, PrivateKeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use rustls::{
    CipherSuite, Error, NamedGroup, PeerMisbehaved, ProtocolVersion, SignatureScheme,
    SupportedCipherSuite, Tls13CipherSuite,
};
use sm2::Sm2;
use std::sync::Arc;

use super::record::Sm4GcmRecords;
use crate::sm2::{PublicKey, Signature, SignerId};

/// TLS_SM4_GCM_SM3 (RFC 8998 clause 2).
pub const SM4_GCM_SM3: CipherSuite = CipherSuite::Unknown(0x00C6);
/// sm2sig_sm3 (RFC 8998 clause 3.2.1).
pub const SM2SIG_SM3: SignatureScheme = SignatureScheme::Unknown(0x0708);
/// curveSM2 (RFC 8998 clause 3.1.1).
pub const CURVE_SM2: NamedGroup = NamedGroup::Unknown(41);

/// National algorithms only. Not to be mixed with another provider's: RFC 8998 wants suite, group
/// and certificate all national, and one list of preferences could not say so.
///
/// Private keys do not come through the provider but from the [key store](crate::keystore), so
/// `with_single_cert` and its like always fail.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls13(&SUITE)],
        kx_groups: vec![&CurveSm2],
        signature_verification_algorithms: ALGORITHMS,
        secure_random: &SystemRandom,
        key_provider: &NoKeys,
    }
}

static SUITE: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: SM4_GCM_SM3,
        hash_provider: &Sm3Hash,
        // As for AES-GCM (RFC 8446 clause 5.5): the bound follows from the 128-bit block.
        confidentiality_limit: 1 << 24,
    },
    hkdf_provider: &HkdfUsingHmac(&HmacSm3),
    aead_alg: &Sm4GcmRecords,
    quic: None,
};

static ALGORITHMS: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[&IN_CERTIFICATES, &IN_CERTIFICATES_WITH_NULL],
    mapping: &[(SM2SIG_SM3, &[&IN_HANDSHAKES])],
};

#[derive(Debug)]
struct SystemRandom;

impl SecureRandom for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        getrandom::fill(bytes).map_err(|_| GetRandomFailed)
    }
}

#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("SM2 keys come from the key store".to_owned()))
    }
}

struct Sm3Hash;

struct Sm3Context(Sm3);

impl hash::Hash for Sm3Hash {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(Sm3Context(Sm3::new()))
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        hash::Output::new(&Sm3::digest(data))
    }

    fn output_len(&self) -> usize {
        32
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        // The IANA registry of TLS 1.2 (RFC 8998 clause 8).
        hash::HashAlgorithm::Unknown(7)
    }
}

impl hash::Context for Sm3Context {
    fn fork_finish(&self) -> hash::Output {
        hash::Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> hash::Output {
        hash::Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

struct HmacSm3;

struct HmacSm3Key(Hmac<Sm3>);

impl hmac::Hmac for HmacSm3 {
    fn with_key(&self, key: &[u8]) -> Box<dyn hmac::Key> {
        let Ok(keyed) = Hmac::new_from_slice(key) else {
            unreachable!("HMAC takes keys of any length")
        };
        Box::new(HmacSm3Key(keyed))
    }

    fn hash_output_len(&self) -> usize {
        32
    }
}

impl hmac::Key for HmacSm3Key {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> hmac::Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        middle.iter().for_each(|part| mac.update(part));
        mac.update(last);
        hmac::Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        32
    }
}

/// Ephemeral Diffie-Hellman on the SM2 curve: the x-coordinate, as with NIST's curves (RFC 8998
/// clause 3.3.1). Not SM2's own key exchange protocol.
#[derive(Debug)]
pub(super) struct CurveSm2;

struct Exchange {
    secret: EphemeralSecret<Sm2>,
    share: Box<[u8]>,
}

impl SupportedKxGroup for CurveSm2 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::<Sm2>::try_generate_from_rng(&mut SysRng)
            .map_err(|_| GetRandomFailed)?;
        let share = secret.public_key().to_sec1_point(false).as_bytes().into();
        Ok(Box::new(Exchange { secret, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        CURVE_SM2
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let invalid = || Error::from(PeerMisbehaved::InvalidKeyShare);
        // Uncompressed points only (RFC 8446 clause 4.2.8.2); parsing refuses those off the curve.
        if peer.len() != self.share.len() || peer.first() != Some(&4) {
            return Err(invalid());
        }
        let peer = sm2::PublicKey::from_sec1_bytes(peer).map_err(|_| invalid())?;
        let shared = self.secret.diffie_hellman(&peer);
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        CURVE_SM2
    }
}

/// SM2 with SM3, as webpki sees it: an id of the signer and what stands in the certificate.
#[derive(Debug)]
struct Sm2WithSm3 {
    id: SignerId<'static>,
    algorithm: &'static [u8],
}

/// Content of the key's AlgorithmIdentifier: id-ecPublicKey, then curve 1.2.156.10197.1.301.
const KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d";
/// Content of the signature's: 1.2.156.10197.1.501, without parameters (GB/T 33560).
const SIGNATURE: &[u8] = b"\x06\x08\x2a\x81\x1c\xcf\x55\x01\x83\x75";
/// With NULL parameters, as some CAs write it.
const SIGNATURE_WITH_NULL: &[u8] = b"\x06\x08\x2a\x81\x1c\xcf\x55\x01\x83\x75\x05\x00";

static IN_CERTIFICATES: Sm2WithSm3 = Sm2WithSm3 { id: SignerId::STANDARD, algorithm: SIGNATURE };
static IN_CERTIFICATES_WITH_NULL: Sm2WithSm3 =
    Sm2WithSm3 { id: SignerId::STANDARD, algorithm: SIGNATURE_WITH_NULL };
static IN_HANDSHAKES: Sm2WithSm3 = Sm2WithSm3 { id: SignerId::TLS13, algorithm: SIGNATURE };

impl SignatureVerificationAlgorithm for Sm2WithSm3 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = PublicKey::from_sec1(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        key.verify(self.id, message, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(KEY)
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        AlgorithmIdentifier::from_slice(self.algorithm)
    }
}
