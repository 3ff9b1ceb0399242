//! The small parts of an envelope, GB/T 35275-2017 clauses 6 to 9 (GM/T 0010-2012 has the same).
//!
//! Module-private: the fields are those of the standard, read by nobody else.

use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec};
use der::{Choice, Sequence, ValueOrd};
use spki::AlgorithmIdentifierOwned;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

macro_rules! oids {
    ($($(#[$doc:meta])* $name:ident = $oid:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: ObjectIdentifier = ObjectIdentifier::new_unwrap($oid);)*
    };
}

oids! {
    DATA = "1.2.156.10197.6.1.4.2.1";
    SIGNED = "1.2.156.10197.6.1.4.2.2";
    ENVELOPED = "1.2.156.10197.6.1.4.2.3";
    SIGNED_AND_ENVELOPED = "1.2.156.10197.6.1.4.2.4";
    /// RFC 5652's, which OpenSSL and Tongsuo write with the SM algorithms.
    CMS_DATA = "1.2.840.113549.1.7.1";
    CMS_SIGNED = "1.2.840.113549.1.7.2";
    CMS_ENVELOPED = "1.2.840.113549.1.7.3";
    SM3 = "1.2.156.10197.1.401";
    SM4_CBC = "1.2.156.10197.1.104.2";
    SM4_GCM = "1.2.156.10197.1.104.8";
    SM2_SIGN = "1.2.156.10197.1.301.1";
    /// What this gateway writes for key encryption; GmSSL writes `SM2_ENCRYPT_GMSSL`, some `SM2`.
    SM2_ENCRYPT = "1.2.156.10197.1.301.3";
    SM2_ENCRYPT_GMSSL = "1.2.156.10197.1.301.2";
    SM2 = "1.2.156.10197.1.301";
    SM2_WITH_SM3 = "1.2.156.10197.1.501";
    /// The three attributes of RFC 5652 §11 that are signed along.
    CONTENT_TYPE = "1.2.840.113549.1.9.3";
    MESSAGE_DIGEST = "1.2.840.113549.1.9.4";
    SIGNING_TIME = "1.2.840.113549.1.9.5";
}

/// What an envelope may be.
pub(super) const KINDS: [ObjectIdentifier; 5] =
    [SIGNED, ENVELOPED, SIGNED_AND_ENVELOPED, CMS_SIGNED, CMS_ENVELOPED];

/// Whose certificate: by issuer and serial number as the standard has it, or as CMS also allows by
/// key identifier (accepted, never written).
#[derive(Debug, Clone, PartialEq, Eq, Choice, ValueOrd)]
pub(super) enum CertificateId {
    Issuer(IssuerAndSerialNumber),
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "false")]
    Key(SubjectKeyIdentifier),
}

#[derive(Debug, Clone, PartialEq, Eq, Sequence, ValueOrd)]
pub(super) struct IssuerAndSerialNumber {
    pub(super) issuer: Name,
    pub(super) serial: SerialNumber,
}

#[derive(Debug, Clone, PartialEq, Eq, Sequence, ValueOrd)]
pub(super) struct RecipientInfo {
    pub(super) version: u8,
    pub(super) certificate: CertificateId,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    /// SM2Cipher of GM/T 0009, DER.
    pub(super) key: OctetString,
}

#[derive(Debug, Clone, PartialEq, Eq, Sequence, ValueOrd)]
pub(super) struct SignerInfo {
    pub(super) version: u8,
    pub(super) certificate: CertificateId,
    /// AlgorithmIdentifier: see [`DigestAlgorithm`](super::digest::DigestAlgorithm).
    pub(super) digest: Any,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true", constructed = "true")]
    pub(super) signed: Option<SetOfVec<Attribute>>,
    pub(super) algorithm: AlgorithmIdentifierOwned,
    /// SM2Signature of GM/T 0009, DER.
    pub(super) signature: OctetString,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true", constructed = "true")]
    pub(super) unsigned: Option<SetOfVec<Attribute>>,
}

/// Parameters of the SM4-GCM profile: see `docs/formats/envelope.md`.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(super) struct ChunkedGcm {
    /// Seven random bytes.
    pub(super) prefix: OctetString,
    /// Bytes of a whole chunk's plaintext.
    pub(super) chunk: u32,
}

/// An algorithm without parameters.
pub(super) fn algorithm(oid: ObjectIdentifier) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: None }
}

/// An algorithm with parameters.
pub(super) fn with_parameters(oid: ObjectIdentifier, parameters: Any) -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid, parameters: Some(parameters) }
}
