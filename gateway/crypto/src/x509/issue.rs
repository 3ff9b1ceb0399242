//! Issuing certificates: a development CA, and a city's own where it runs one.

use std::net::IpAddr;

use der::asn1::{Ia5String, OctetString};
use der::flagset::FlagSet;
use der::{Encode as _, Sequence};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions, ToExtension as _};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::Validity;

use super::{
    Certificate, IssueError, Signed, UnixSeconds, X509Error, algorithm, time, write_public_key,
};
use crate::keystore::{KeyStoreError, Signer};
use crate::sm2::PublicKey;
use crate::{random, sm3};

/// What a certificate lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Issues certificates and revocation lists; below it stand at most `path_length` further CAs
    /// (any number if `None`).
    Ca {
        /// See above.
        path_length: Option<u8>,
    },
    /// Signs: the signing certificate (签名证书), TLS too.
    Signing,
    /// Is sealed to: the encryption certificate (加密证书).
    Encryption,
}

/// What a certificate shall say, apart from its key and issuer.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its holder; [`parse_name`](super::parse_name) reads one.
    pub subject: Name,
    /// Its use.
    pub role: Role,
    /// First second of validity.
    pub not_before: UnixSeconds,
    /// Last second of validity.
    pub not_after: UnixSeconds,
    /// Host names, for TLS.
    pub host_names: Vec<String>,
    /// Addresses, for TLS.
    pub addresses: Vec<IpAddr>,
}

impl Template {
    /// A certificate without names for TLS, valid for `days` from `from`.
    pub fn new(subject: Name, role: Role, from: UnixSeconds, days: u32) -> Self {
        Self {
            subject,
            role,
            not_before: from,
            not_after: from.plus_days(days),
            host_names: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// A certificate that its own key signs: a root, or a pinned peer.
pub fn issue_self_signed(
    template: &Template,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    let key = signer.public_key();
    write(template, key, &template.subject, key, signer)
}

/// A certificate over `key`, signed by the CA that `issuer` and `signer` are.
pub fn issue(
    template: &Template,
    key: &PublicKey,
    issuer: &Certificate,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    check_issuer(issuer, signer)?;
    let path_length = issuer.extensions.basic.as_ref().and_then(|basic| basic.path_len_constraint);
    if matches!(template.role, Role::Ca { .. }) && path_length == Some(0) {
        return Err(IssueError::Issuer);
    }
    if template.not_before < issuer.not_before() || template.not_after > issuer.not_after() {
        return Err(IssueError::Validity);
    }
    write(template, key, issuer.subject(), signer.public_key(), signer)
}

/// A CA, and the key is its.
pub(super) fn check_issuer(issuer: &Certificate, signer: &dyn Signer) -> Result<(), IssueError> {
    (issuer.is_ca() && issuer.public_key() == signer.public_key())
        .then_some(())
        .ok_or(IssueError::Issuer)
}

/// As `TBSCertificate` of RFC 5280; `x509-cert` keeps the fields of its own to itself.
#[derive(Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    validity: Validity,
    subject: Name,
    key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

pub(super) fn write(
    template: &Template,
    key: &PublicKey,
    issuer: &Name,
    issuer_key: &PublicKey,
    signer: &dyn Signer,
) -> Result<Certificate, IssueError> {
    if template.not_after <= template.not_before {
        return Err(IssueError::Validity);
    }
    let mut serial = random::<16>().map_err(KeyStoreError::from)?;
    // Positive, and always of the same length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let tbs = || {
        Tbs {
            version: Version::V3,
            serial_number: SerialNumber::new(serial.as_slice())?,
            signature: algorithm(),
            issuer: issuer.clone(),
            validity: Validity::new(time(template.not_before)?, time(template.not_after)?),
            subject: template.subject.clone(),
            key: write_public_key(key)?,
            extensions: extensions(template, key, issuer_key)?,
        }
        .to_der()
    };
    let tbs = tbs().map_err(|_: der::Error| IssueError::Encoding)?;
    let der = Signed::write(&tbs, signer)?;
    Certificate::from_der(&der).map_err(|_: X509Error| IssueError::Encoding)
}

fn extensions(
    template: &Template,
    key: &PublicKey,
    issuer_key: &PublicKey,
) -> der::Result<Extensions> {
    let (ca, path_len_constraint, usage): (_, _, FlagSet<KeyUsages>) = match template.role {
        Role::Ca { path_length } => {
            (true, path_length, KeyUsages::KeyCertSign | KeyUsages::CRLSign)
        }
        Role::Signing => (false, None, KeyUsages::DigitalSignature | KeyUsages::NonRepudiation),
        Role::Encryption => (
            false,
            None,
            KeyUsages::KeyEncipherment | KeyUsages::DataEncipherment | KeyUsages::KeyAgreement,
        ),
    };
    let basic = BasicConstraints { ca, path_len_constraint };
    let name = &template.subject;
    let mut extensions: Vec<Extension> = vec![
        basic.to_extension(name, &[])?,
        KeyUsage(usage).to_extension(name, &[])?,
        SubjectKeyIdentifier(key_identifier(key)?).to_extension(name, &[])?,
        authority(issuer_key)?.to_extension(name, &[])?,
    ];
    let hosts = template.host_names.iter();
    let mut alternatives: Vec<GeneralName> = hosts
        .map(|host| Ia5String::new(host).map(GeneralName::DnsName))
        .collect::<der::Result<_>>()?;
    alternatives.extend(template.addresses.iter().copied().map(GeneralName::from));
    if !alternatives.is_empty() {
        extensions.push(SubjectAltName(alternatives).to_extension(name, &[])?);
    }
    Ok(extensions)
}

pub(super) fn authority(key: &PublicKey) -> der::Result<AuthorityKeyIdentifier> {
    Ok(AuthorityKeyIdentifier {
        key_identifier: Some(key_identifier(key)?),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    })
}

/// The leftmost 160 bits of a digest of the key (RFC 7093 clause 2, with SM3).
fn key_identifier(key: &PublicKey) -> der::Result<OctetString> {
    let digest = sm3(&key.to_sec1());
    OctetString::new(digest.get(..20).unwrap_or(&digest))
}
