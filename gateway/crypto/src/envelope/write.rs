//! Writing envelopes: everything whose length must be known is made first, then the content passes
//! through.

use std::io::{Read as _, SeekFrom, Write};

use der::asn1::{Any, ObjectIdentifier, OctetString, SetOfVec, UtcTime};
use der::{Encode, EncodeValue, Tagged};
use x509_cert::attr::Attribute;
use x509_cert::serial_number::SerialNumber;
use xinqiao_core::spi::ReadSeek;
use zeroize::Zeroizing;

use super::asn1::{
    CMS_DATA, CMS_ENVELOPED, CMS_SIGNED, CONTENT_TYPE, CertificateId, DATA, ENVELOPED,
    IssuerAndSerialNumber, MESSAGE_DIGEST, RecipientInfo, SIGNED, SIGNED_AND_ENVELOPED,
    SIGNING_TIME, SM2_ENCRYPT, SM2_ENCRYPT_GMSSL, SM2_SIGN, SM2_WITH_SM3, SignerInfo, algorithm,
};
use super::ber::{self, OCTETS, SEQUENCE, SET, context};
use super::content::Sealing;
use super::digest::{DigestAlgorithm, GROUP};
use super::{Cipher, Dialect, EnvelopeError, Signing};
use crate::sm2::SignerId;
use crate::sm4::Sm4Key;
use crate::x509::{Certificate, UnixSeconds};
use crate::{RandomError, Sm3Digest, sm3};

/// Writes SignedData with the content inside.
pub fn sign(
    content: &mut dyn ReadSeek,
    signer: &Signing<'_>,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    sign_in(Dialect::Standard, content, signer, out)
}

/// As [`sign`], for a peer that wants another dialect.
pub fn sign_in(
    dialect: Dialect,
    content: &mut dyn ReadSeek,
    signer: &Signing<'_>,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    let names = Names::of(dialect);
    let algorithm = DigestAlgorithm::of(None);
    let (len, digest) = measure(content, algorithm)?;
    let tail = tail(signer, &names, algorithm, &digest)?;
    let head = [version(), digests(algorithm)?].concat();
    let frames: &[(u8, &[u8], u64)] = &[
        (SEQUENCE, &der(&names.signed)?, 0),
        (context(0), b"", 0),
        (SEQUENCE, &head, tail.len() as u64),
        (SEQUENCE, &der(&names.data)?, 0),
        (context(0), b"", 0),
        (OCTETS, b"", 0),
    ];
    ber::nested(out, frames, len)?;
    std::io::copy(&mut content.take(len), out)?;
    Ok(out.write_all(&tail)?)
}

/// Writes EnvelopedData for every one of `recipients` (their encryption certificates).
pub fn seal(
    content: &mut dyn ReadSeek,
    recipients: &[Certificate],
    cipher: Cipher,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    seal_in(Dialect::Standard, content, recipients, cipher, out)
}

/// As [`seal`], for a peer that wants another dialect.
pub fn seal_in(
    dialect: Dialect,
    content: &mut dyn ReadSeek,
    recipients: &[Certificate],
    cipher: Cipher,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    let names = Names::of(dialect);
    let len = length(content)?;
    let (key, sealing) = (Sm4Key::generate()?, Sealing::fresh(cipher)?);
    let recipients = infos(recipients, &names, &key)?;
    let encrypted = [der(&names.data)?, der(&sealing.identifier()?)?].concat();
    let bound = sm3(&[&recipients[..], &encrypted].concat());
    let head = [version(), recipients].concat();
    let frames: &[(u8, &[u8], u64)] = &[
        (SEQUENCE, &der(&names.enveloped)?, 0),
        (context(0), b"", 0),
        (SEQUENCE, &head, 0),
        (SEQUENCE, &encrypted, 0),
        (IMPLICIT_OCTETS, b"", 0),
    ];
    ber::nested(out, frames, sealing.sealed_len(len))?;
    sealing.seal(&key, &bound, content, len, out)
}

/// Writes SignedAndEnvelopedData: `content` signed by `signer`, then both sealed for `recipients`.
pub fn sign_and_seal(
    content: &mut dyn ReadSeek,
    signer: &Signing<'_>,
    recipients: &[Certificate],
    cipher: Cipher,
    out: &mut dyn Write,
) -> Result<(), EnvelopeError> {
    let names = Names::of(Dialect::Standard);
    let (key, sealing) = (Sm4Key::generate()?, Sealing::fresh(cipher)?);
    let algorithm = DigestAlgorithm::of(Some(&sealing));
    let (len, digest) = measure(content, algorithm)?;
    let tail = tail(signer, &names, algorithm, &digest)?;
    let recipients = infos(recipients, &names, &key)?;
    let encrypted = [der(&DATA)?, der(&sealing.identifier()?)?].concat();
    let bound = sm3(&[&recipients[..], &encrypted].concat());
    let head = [version(), recipients, digests(algorithm)?].concat();
    let frames: &[(u8, &[u8], u64)] = &[
        (SEQUENCE, &der(&SIGNED_AND_ENVELOPED)?, 0),
        (context(0), b"", 0),
        (SEQUENCE, &head, tail.len() as u64),
        (SEQUENCE, &encrypted, 0),
        (IMPLICIT_OCTETS, b"", 0),
    ];
    ber::nested(out, frames, sealing.sealed_len(len))?;
    sealing.seal(&key, &bound, content, len, out)?;
    Ok(out.write_all(&tail)?)
}

/// What a [`Dialect`] calls things.
struct Names {
    data: ObjectIdentifier,
    signed: ObjectIdentifier,
    enveloped: ObjectIdentifier,
    sign: ObjectIdentifier,
    encrypt: ObjectIdentifier,
}

impl Names {
    fn of(dialect: Dialect) -> Self {
        let standard = Self {
            data: DATA,
            signed: SIGNED,
            enveloped: ENVELOPED,
            sign: SM2_SIGN,
            encrypt: SM2_ENCRYPT,
        };
        match dialect {
            Dialect::Standard => standard,
            Dialect::Gmssl => Self { encrypt: SM2_ENCRYPT_GMSSL, ..standard },
            Dialect::Cms => Self {
                data: CMS_DATA,
                signed: CMS_SIGNED,
                enveloped: CMS_ENVELOPED,
                sign: SM2_WITH_SM3,
                ..standard
            },
        }
    }
}

/// `[0] IMPLICIT OCTET STRING`.
pub(super) const IMPLICIT_OCTETS: u8 = 0x80;

/// Length of the content; it stands at its start afterwards.
fn length(content: &mut dyn ReadSeek) -> Result<u64, EnvelopeError> {
    let len = content.seek(SeekFrom::End(0))?;
    content.seek(SeekFrom::Start(0))?;
    Ok(len)
}

/// Length and digest of the content; it stands at its start afterwards.
fn measure(
    content: &mut dyn ReadSeek,
    algorithm: DigestAlgorithm,
) -> Result<(u64, Sm3Digest), EnvelopeError> {
    content.seek(SeekFrom::Start(0))?;
    let (mut stream, mut len) = (algorithm.stream(), 0);
    let mut part = Zeroizing::new(vec![0; GROUP]);
    loop {
        let n = content.read(&mut part)?;
        if n == 0 {
            break;
        }
        stream.update(part.get(..n).unwrap_or_default());
        len += n as u64;
    }
    content.seek(SeekFrom::Start(0))?;
    Ok((len, stream.finish()))
}

fn version() -> Vec<u8> {
    vec![0x02, 1, 1]
}

/// SET OF the one digest algorithm.
fn digests(algorithm: DigestAlgorithm) -> Result<Vec<u8>, EnvelopeError> {
    Ok(ber::value(SET, &der(&algorithm.identifier()?)?))
}

/// SET OF RecipientInfo.
fn infos(
    recipients: &[Certificate],
    names: &Names,
    key: &Sm4Key,
) -> Result<Vec<u8>, EnvelopeError> {
    if recipients.is_empty() {
        return Err(EnvelopeError::Kind("没有收件人"));
    }
    let mut infos = SetOfVec::new();
    for certificate in recipients {
        if !certificate.may_encrypt() {
            return Err(EnvelopeError::NotForSealing);
        }
        let key = certificate.public_key().seal(key.as_bytes()).map_err(|_| RandomError)?;
        let info = RecipientInfo {
            version: 1,
            certificate: id_of(certificate)?,
            algorithm: algorithm(names.encrypt),
            key: OctetString::new(key).map_err(|_| EnvelopeError::Part("收件人"))?,
        };
        infos.insert(info).map_err(|_| EnvelopeError::Kind("同一收件人写了两次"))?;
    }
    der(&infos)
}

/// The certificates and the signer, which stand behind the content.
fn tail(
    signer: &Signing<'_>,
    names: &Names,
    digest: DigestAlgorithm,
    of_content: &Sm3Digest,
) -> Result<Vec<u8>, EnvelopeError> {
    let mut certificates: Vec<Vec<u8>> = [signer.certificate]
        .into_iter()
        .chain(signer.chain)
        .map(|certificate| certificate.to_der().to_vec())
        .collect();
    certificates.sort();
    certificates.dedup();
    let signed = attributes(names.data, &digest.attested(of_content)?, signer.at)?;
    // The attributes are signed as the SET OF they are, not under their tag in the structure.
    let mut stream = signer.certificate.public_key().prehash_stream(SignerId::STANDARD);
    stream.update(&der(&signed)?);
    let signature = signer.signer.sign_prehash(&stream.finish())?;
    let info = SignerInfo {
        version: 1,
        certificate: id_of(signer.certificate)?,
        digest: digest.identifier()?,
        signed: Some(signed),
        algorithm: algorithm(names.sign),
        signature: OctetString::new(signature.to_der()).map_err(|_| EnvelopeError::Part("签名"))?,
        unsigned: None,
    };
    let certificates = ber::value(context(0), &certificates.concat());
    Ok([certificates, ber::value(SET, &der(&info)?)].concat())
}

fn attributes(
    data: ObjectIdentifier,
    digest: &Any,
    at: UnixSeconds,
) -> Result<SetOfVec<Attribute>, EnvelopeError> {
    let wrong = |_| EnvelopeError::Part("签名属性");
    let seconds = std::time::Duration::from_secs(at.0);
    let time = UtcTime::from_unix_duration(seconds).map_err(wrong)?;
    let mut all = SetOfVec::new();
    for attribute in [
        attribute(CONTENT_TYPE, &data)?,
        attribute(SIGNING_TIME, &time)?,
        attribute(MESSAGE_DIGEST, digest)?,
    ] {
        all.insert(attribute).map_err(wrong)?;
    }
    Ok(all)
}

fn attribute(
    oid: ObjectIdentifier,
    value: &(impl EncodeValue + Tagged),
) -> Result<Attribute, EnvelopeError> {
    let wrong = |_| EnvelopeError::Part("签名属性");
    let mut values = SetOfVec::new();
    values.insert(Any::encode_from(value).map_err(wrong)?).map_err(wrong)?;
    Ok(Attribute { oid, values })
}

/// How an envelope names a certificate.
pub(super) fn id_of(certificate: &Certificate) -> Result<CertificateId, EnvelopeError> {
    let serial = SerialNumber::new(certificate.serial());
    Ok(CertificateId::Issuer(IssuerAndSerialNumber {
        issuer: certificate.issuer().clone(),
        serial: serial.map_err(|_| EnvelopeError::Part("证书序列号"))?,
    }))
}

fn der(value: &impl Encode) -> Result<Vec<u8>, EnvelopeError> {
    value.to_der().map_err(|_| EnvelopeError::Part("结构"))
}
