//! SM2 certificates (GB/T 20518-2018, RFC 5280): [issuing](issue), [requests](request),
//! [revocation lists](crl), and [verifying a chain](chain).
//!
//! All signatures are `SM2 with SM3` by [`SignerId::STANDARD`], in DER inside the bit string.
//! `x509-cert` reads and writes the structures; signing is ours, because that crate's builders put
//! SM2 signatures in as 64 raw bytes, which nobody accepts.

pub mod chain;
pub mod crl;
pub mod issue;
pub mod request;

#[cfg(test)]
mod tests;

use std::time::Duration;

use der::asn1::{BitStringRef, GeneralizedTime, ObjectIdentifier as Oid, UtcTime};
use der::{Any, AnyRef, Decode as _, Encode as _, Sequence};
use spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef, SubjectPublicKeyInfoOwned};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::time::Time;

pub use x509_cert::name::Name;
pub use x509_cert::serial_number::SerialNumber;

use crate::keystore::{KeyStoreError, Signer};
use crate::oid::{EC_PUBLIC_KEY, SM2_CURVE, SM2_WITH_SM3};
use crate::sm2::{InvalidSignature, PublicKey, Signature, SignerId};
use crate::{hex, pem};

/// Days before the end from which an operator is warned.
pub const WARN_DAYS: i64 = 60;

/// PEM label of a certificate.
pub const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// Seconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// This many days later.
    pub fn plus_days(self, days: u32) -> Self {
        Self(self.0 + u64::from(days) * 86_400)
    }
}

/// Why bytes are no certificate, request or revocation list of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum X509Error {
    /// Neither PEM nor DER of the structure.
    #[error("文件格式不正确")]
    Malformed,
    /// Another key or signature algorithm than SM2 with SM3.
    #[error("不是 SM2 证书(公钥或签名算法不同)")]
    NotSm2,
    /// A request whose signature does not fit its own key.
    #[error("证书申请的签名无效")]
    Signature,
    /// A revocation list in a form that is not understood (partial or indirect lists).
    #[error("不支持的吊销列表形式")]
    Unsupported,
    /// A name that is not `CN=…,O=…,C=CN`.
    #[error("名称应形如 CN=名称,O=单位,C=CN")]
    Name,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The issuer's certificate and key do not belong together, or it may not issue this.
    #[error("签发者的证书与密钥不符,或无权签发")]
    Issuer,
    /// The validity is empty or reaches beyond the issuer's.
    #[error("有效期为空,或超出签发者证书的有效期")]
    Validity,
    /// Something cannot be written in a certificate, such as a host name that is not ASCII.
    #[error("内容无法写入证书")]
    Encoding,
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] KeyStoreError),
}

/// How long a certificate still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Not valid before a later time.
    NotYet,
    /// More than [`WARN_DAYS`] days.
    Fine,
    /// This many whole days, at most [`WARN_DAYS`].
    Soon(i64),
    /// Ended.
    Expired,
}

/// A certificate over an SM2 key, signed with SM2. Its signature is *not* verified by reading:
/// that is [`chain`]'s work.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    /// What is signed, as it stood in `der`.
    tbs: Vec<u8>,
    signature: Signature,
    public_key: PublicKey,
    inner: x509_cert::TbsCertificate,
    extensions: Understood,
}

/// The extensions that verification acts on.
#[derive(Debug, Clone, Default)]
struct Understood {
    basic: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    subject_key: Option<Vec<u8>>,
    authority_key: Option<Vec<u8>>,
    /// A critical extension that nobody here understands.
    unknown_critical: bool,
}

impl Certificate {
    /// Reads one certificate, DER.
    pub fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let signed = Signed::read(der)?;
        let inner =
            x509_cert::TbsCertificate::from_der(&signed.tbs).map_err(|_| X509Error::Malformed)?;
        if inner.signature().oid != SM2_WITH_SM3 {
            return Err(X509Error::NotSm2);
        }
        Ok(Self {
            der: der.to_vec(),
            signature: signed.signature,
            public_key: read_public_key(inner.subject_public_key_info())?,
            extensions: Understood::read(inner.extensions().map_or(&[], Vec::as_slice))?,
            inner,
            tbs: signed.tbs,
        })
    }

    /// Reads all certificates of a file, in order: one in DER, or any number in PEM.
    pub fn from_file(file: &[u8]) -> Result<Vec<Self>, X509Error> {
        read_file(file, CERTIFICATE_LABEL, Self::from_der)
    }

    /// The DER it was read from.
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// PEM.
    pub fn to_pem(&self) -> String {
        pem::encode(CERTIFICATE_LABEL, &self.der).to_string()
    }

    /// The key it is about.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Its holder.
    pub fn subject(&self) -> &Name {
        self.inner.subject()
    }

    /// Who signed it.
    pub fn issuer(&self) -> &Name {
        self.inner.issuer()
    }

    /// Its number at the issuer, big-endian, without zeros at the front.
    pub fn serial(&self) -> &[u8] {
        let bytes = self.inner.serial_number().as_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.get(zeros..).unwrap_or(bytes)
    }

    /// The number as structures refer to it, together with [`Self::issuer`].
    pub fn serial_number(&self) -> &SerialNumber {
        self.inner.serial_number()
    }

    /// The number in hex, as people compare it.
    pub fn serial_hex(&self) -> String {
        hex(self.serial())
    }

    /// The first second of its validity.
    pub fn not_before(&self) -> UnixSeconds {
        seconds(self.inner.validity().not_before)
    }

    /// The last second of its validity.
    pub fn not_after(&self) -> UnixSeconds {
        seconds(self.inner.validity().not_after)
    }

    /// The key's identifier that the certificate gives, if it does.
    pub(crate) fn subject_key(&self) -> Option<&[u8]> {
        self.extensions.subject_key.as_deref()
    }

    /// May it issue others?
    pub fn is_ca(&self) -> bool {
        self.extensions.basic.as_ref().is_some_and(|basic| basic.ca)
    }

    /// May its key sign data (签名证书)?
    pub fn may_sign(&self) -> bool {
        self.extensions.usage.is_some_and(|u| u.digital_signature())
    }

    /// May keys be sealed to it (加密证书)?
    pub fn may_encrypt(&self) -> bool {
        let allows = |u: KeyUsage| u.key_encipherment() || u.data_encipherment();
        self.extensions.usage.is_some_and(allows)
    }

    /// How long it still holds at `at`.
    pub fn expiry(&self, at: UnixSeconds) -> Expiry {
        expiry(self.not_before(), self.not_after(), at)
    }

    fn signed_by(&self, issuer: &PublicKey) -> Result<(), InvalidSignature> {
        issuer.verify(SignerId::STANDARD, &self.tbs, &self.signature)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

/// Whose a certificate is and how long it holds, whatever its algorithms: to warn, not to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// Its holder.
    pub subject: String,
    /// The first second of its validity.
    pub not_before: UnixSeconds,
    /// The last second of its validity.
    pub not_after: UnixSeconds,
}

impl Lifetime {
    /// Of all certificates of a file, in order: one in DER, or any number in PEM.
    pub fn of_file(file: &[u8]) -> Result<Vec<Self>, X509Error> {
        read_file(file, CERTIFICATE_LABEL, |der| {
            let read = x509_cert::Certificate::from_der(der).map_err(|_| X509Error::Malformed)?;
            let read = read.tbs_certificate();
            Ok(Self {
                subject: read.subject().to_string(),
                not_before: seconds(read.validity().not_before),
                not_after: seconds(read.validity().not_after),
            })
        })
    }

    /// How long it still holds at `at`.
    pub fn expiry(&self, at: UnixSeconds) -> Expiry {
        expiry(self.not_before, self.not_after, at)
    }
}

impl From<&Certificate> for Lifetime {
    fn from(certificate: &Certificate) -> Self {
        Self {
            subject: certificate.subject().to_string(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        }
    }
}

fn expiry(not_before: UnixSeconds, not_after: UnixSeconds, at: UnixSeconds) -> Expiry {
    if at < not_before {
        return Expiry::NotYet;
    }
    match not_after.0.checked_sub(at.0) {
        None => Expiry::Expired,
        Some(left) => match i64::try_from(left / 86_400) {
            Ok(days) if days <= WARN_DAYS => Expiry::Soon(days),
            _ => Expiry::Fine,
        },
    }
}

/// The two certificates of one holder (双证书): one to verify with, one to seal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleCertificate {
    signing: Certificate,
    encryption: Certificate,
}

impl DoubleCertificate {
    /// Takes two that belong together: same holder and issuer, different keys, each with its use
    /// and not the other's.
    pub fn new(signing: Certificate, encryption: Certificate) -> Option<Self> {
        let fits = signing.subject() == encryption.subject()
            && signing.issuer() == encryption.issuer()
            && signing.public_key != encryption.public_key
            && (signing.may_sign() && !signing.may_encrypt())
            && (encryption.may_encrypt() && !encryption.may_sign());
        fits.then_some(Self { signing, encryption })
    }

    /// The signing certificate (签名证书).
    pub fn signing(&self) -> &Certificate {
        &self.signing
    }

    /// The encryption certificate (加密证书).
    pub fn encryption(&self) -> &Certificate {
        &self.encryption
    }
}

/// Reads a name as people write it: `CN=…,O=…,C=CN` (RFC 4514).
pub fn parse_name(text: &str) -> Result<Name, X509Error> {
    match text.parse::<Name>() {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => Err(X509Error::Name),
    }
}

impl Understood {
    fn read(extensions: &[Extension]) -> Result<Self, X509Error> {
        let mut understood = Self::default();
        let mut seen: Vec<Oid> = Vec::new();
        for extension in extensions {
            if seen.contains(&extension.extn_id) {
                return Err(X509Error::Malformed);
            }
            seen.push(extension.extn_id);
            understood.take_in(extension).map_err(|_| X509Error::Malformed)?;
        }
        Ok(understood)
    }

    fn take_in(&mut self, extension: &Extension) -> der::Result<()> {
        use der::oid::AssociatedOid as _;
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            BasicConstraints::OID => self.basic = Some(BasicConstraints::from_der(value)?),
            KeyUsage::OID => self.usage = Some(KeyUsage::from_der(value)?),
            SubjectKeyIdentifier::OID => {
                let id = SubjectKeyIdentifier::from_der(value)?;
                self.subject_key = Some(id.0.as_bytes().to_vec());
            }
            AuthorityKeyIdentifier::OID => {
                let id = AuthorityKeyIdentifier::from_der(value)?.key_identifier;
                self.authority_key = id.map(|id| id.as_bytes().to_vec());
            }
            // They restrict TLS, which checks them itself.
            ExtendedKeyUsage::OID | SubjectAltName::OID => {}
            _ => self.unknown_critical |= extension.critical,
        }
        Ok(())
    }
}

/// `SEQUENCE { tbs, algorithm, signature }`: certificates, requests and lists alike.
struct Signed {
    tbs: Vec<u8>,
    signature: Signature,
}

#[derive(Sequence)]
struct SignedDer<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierRef<'a>,
    signature: BitStringRef<'a>,
}

impl Signed {
    fn read(der: &[u8]) -> Result<Self, X509Error> {
        let parsed = SignedDer::from_der(der).map_err(|_| X509Error::Malformed)?;
        let parameters = parsed.algorithm.parameters;
        if parsed.algorithm.oid != SM2_WITH_SM3 || parameters.is_some_and(|any| !any.is_null()) {
            return Err(X509Error::NotSm2);
        }
        let signature = parsed.signature.as_bytes().ok_or(X509Error::Malformed)?;
        Ok(Self {
            // Lengths are minimal in DER, so that this gives back the bytes that were signed.
            tbs: parsed.tbs.to_der().map_err(|_| X509Error::Malformed)?,
            signature: Signature::from_der(signature).map_err(|_| X509Error::Malformed)?,
        })
    }

    /// Signs `tbs` and gives the whole structure.
    fn write(tbs: &[u8], signer: &dyn Signer) -> Result<Vec<u8>, IssueError> {
        let signature = signer.sign(SignerId::STANDARD, tbs)?.to_der();
        let write = || {
            SignedDer {
                tbs: AnyRef::from_der(tbs)?,
                algorithm: AlgorithmIdentifierRef { oid: SM2_WITH_SM3, parameters: None },
                signature: BitStringRef::from_bytes(&signature)?,
            }
            .to_der()
        };
        write().map_err(|_: der::Error| IssueError::Encoding)
    }
}

fn algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: SM2_WITH_SM3, parameters: None }
}

fn read_public_key(info: &SubjectPublicKeyInfoOwned) -> Result<PublicKey, X509Error> {
    let curve = info.algorithm.parameters.as_ref();
    let curve: Option<Oid> = curve.and_then(|any| any.decode_as().ok());
    if info.algorithm.oid != EC_PUBLIC_KEY || curve != Some(SM2_CURVE) {
        return Err(X509Error::NotSm2);
    }
    let bytes = info.subject_public_key.as_bytes().unwrap_or_default();
    PublicKey::from_sec1(bytes).map_err(|_| X509Error::NotSm2)
}

fn write_public_key(key: &PublicKey) -> der::Result<SubjectPublicKeyInfoOwned> {
    Ok(SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned {
            oid: EC_PUBLIC_KEY,
            parameters: Some(Any::encode_from(&SM2_CURVE)?),
        },
        subject_public_key: der::asn1::BitString::from_bytes(&key.to_sec1())?,
    })
}

/// One structure in DER, or any number in PEM under `label`.
fn read_file<T>(
    file: &[u8],
    label: &str,
    read: impl Fn(&[u8]) -> Result<T, X509Error>,
) -> Result<Vec<T>, X509Error> {
    if file.first() == Some(&0x30) {
        return Ok(vec![read(file)?]);
    }
    let blocks = pem::blocks(file).map_err(|_| X509Error::Malformed)?;
    let wanted = blocks.iter().filter(|block| block.label == label);
    let all: Vec<T> = wanted.map(|block| read(&block.der)).collect::<Result<_, _>>()?;
    match all.is_empty() {
        true => Err(X509Error::Malformed),
        false => Ok(all),
    }
}

fn seconds(time: Time) -> UnixSeconds {
    UnixSeconds(time.to_unix_duration().as_secs())
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 clause 4.1.2.5).
fn time(at: UnixSeconds) -> der::Result<Time> {
    let duration = Duration::from_secs(at.0);
    UtcTime::from_unix_duration(duration)
        .map(Time::UtcTime)
        .or_else(|_| GeneralizedTime::from_unix_duration(duration).map(Time::GeneralTime))
}
