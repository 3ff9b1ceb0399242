//! Reading envelopes.

use std::io::{Cursor, SeekFrom, Write};

use der::asn1::{Any, ObjectIdentifier, SetOfVec};
use der::{Decode, Encode as _};
use spki::AlgorithmIdentifierOwned;
use subtle::ConstantTimeEq as _;
use x509_cert::attr::Attribute;
use xinqiao_core::spi::ReadSeek;

use super::asn1::{
    CMS_DATA, CMS_ENVELOPED, CMS_SIGNED, CONTENT_TYPE, CertificateId, DATA, ENVELOPED,
    MESSAGE_DIGEST, RecipientInfo, SIGNED, SIGNED_AND_ENVELOPED, SM2, SM2_ENCRYPT,
    SM2_ENCRYPT_GMSSL, SM2_SIGN, SM2_WITH_SM3, SignerInfo,
};
use super::ber::{Extent, OCTETS, SEQUENCE, SET, Walk, context};
use super::content::Sealing;
use super::digest::DigestAlgorithm;
use super::write::{IMPLICIT_OCTETS, id_of};
use super::{Cipher, EnvelopeError, Kind, OpenKey};
use crate::keystore::KeyStoreError;
use crate::sm2::{Prehash, PublicKey, Signature, SignerId};
use crate::sm4::Sm4Key;
use crate::x509::Certificate;
use crate::x509::chain::{self, Purpose, Trust};
use crate::{Sm3Digest, Sm3Stream};

/// Recipients, signers and certificates of one envelope, each at most.
const MOST: usize = 64;
/// Signers of one envelope: each costs a verification, and without signed attributes a digest of
/// the whole content.
const SIGNERS: usize = 8;

/// An envelope whose parts are known; its content stays in the input, which every step is given
/// again.
#[derive(Debug)]
pub struct Envelope {
    kind: Kind,
    content_type: ObjectIdentifier,
    content: Extent,
    /// SM3 of the recipients and what precedes the ciphertext, as they stand there.
    head: Sm3Digest,
    sealing: Option<Sealing>,
    recipients: Vec<RecipientInfo>,
    certificates: Vec<Certificate>,
    signers: Vec<SignerInfo>,
}

/// Who opens: an encryption certificate and its private key.
pub struct Opener<'a> {
    /// The encryption certificate the envelope is made out to.
    pub certificate: &'a Certificate,
    /// Opens with its key.
    pub open: OpenKey<'a>,
}

/// A content key taken out of an envelope; of no use with another one.
pub struct Opened(Sm4Key);

/// An envelope whose every signature was found right.
#[derive(Debug)]
pub struct Verified {
    /// The signers' certificates, in the order of the envelope.
    pub signers: Vec<Certificate>,
}

impl Envelope {
    /// Walks through the input, which must be one BER or DER value and nothing behind it.
    pub fn read(input: &mut dyn ReadSeek) -> Result<Self, EnvelopeError> {
        let mut walk = Walk::new(input)?;
        walk.enter(SEQUENCE)?;
        let outer: ObjectIdentifier = part(&mut walk, "内容类型")?;
        let versions = if [CMS_SIGNED, CMS_ENVELOPED].contains(&outer) { 0..=4 } else { 1..=1 };
        let version = |number: u8| {
            let known = versions.contains(&number);
            if known { Ok(()) } else { Err(EnvelopeError::Part("版本号")) }
        };
        let kind = match outer {
            SIGNED | CMS_SIGNED => Kind::Signed,
            ENVELOPED | CMS_ENVELOPED => Kind::Enveloped,
            SIGNED_AND_ENVELOPED => Kind::SignedAndEnveloped,
            other => return Err(EnvelopeError::Algorithm(other.to_string())),
        };
        walk.enter(context(0))?;
        walk.enter(SEQUENCE)?;
        version(part(&mut walk, "版本号")?)?;
        let mut head = Sm3Stream::default();
        let mut envelope = Self {
            kind,
            content_type: DATA,
            content: Extent::default(),
            head: Sm3Digest::default(),
            sealing: None,
            recipients: Vec::new(),
            certificates: Vec::new(),
            signers: Vec::new(),
        };
        if kind != Kind::Signed {
            let recipients = walk.small()?;
            head.update(&recipients);
            let mut recipients = Cursor::new(&recipients);
            envelope.recipients = parts(&mut Walk::new(&mut recipients)?, SET, "收件人")?;
            envelope.recipients.iter().try_for_each(|info| version(info.version))?;
        }
        let digests: Vec<Any> = match kind {
            Kind::Enveloped => Vec::new(),
            _ => parts(&mut walk, SET, "摘要算法")?,
        };
        envelope.content(&mut walk, &mut head)?;
        envelope.head = head.finish();
        digests.iter().try_for_each(|digest| envelope.digested_by(digest))?;
        if kind != Kind::Enveloped {
            if walk.tag()? == Some(context(0)) {
                envelope.certificates = certificates(&mut walk)?;
            }
            if walk.tag()? == Some(context(1)) {
                // Revocation lists are taken from whom we trust, not from who wants to be trusted.
                walk.skip()?;
            }
            envelope.signers = parts(&mut walk, SET, "签名者")?;
            envelope.signers.iter().try_for_each(|info| version(info.version))?;
        }
        for _ in 0..3 {
            walk.leave()?;
        }
        if !walk.at_end()? {
            return Err(EnvelopeError::Part("末尾,有多余的字节"));
        }
        Ok(envelope)
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How its content is encrypted, if it is.
    pub fn cipher(&self) -> Option<Cipher> {
        self.sealing.as_ref().map(Sealing::cipher)
    }

    /// Certificates sent along; not trusted for that.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Takes out the content key.
    pub fn open(&self, opener: &Opener<'_>) -> Result<Opened, EnvelopeError> {
        if self.kind == Kind::Signed {
            return Err(EnvelopeError::Kind("没有加密,无须打开"));
        }
        let ours = |info: &&RecipientInfo| names(&info.certificate, opener.certificate);
        let info = self.recipients.iter().find(ours).ok_or(EnvelopeError::NotForUs)?;
        known(&info.algorithm, &[SM2_ENCRYPT, SM2_ENCRYPT_GMSSL, SM2])?;
        let key = (opener.open)(info.key.as_bytes()).map_err(|error| match error {
            KeyStoreError::Decrypt(_) => EnvelopeError::Refused,
            other => EnvelopeError::Key(other),
        })?;
        Sm4Key::from_slice(&key).map(Opened).ok_or(EnvelopeError::Refused)
    }

    /// Verifies every signature over the content, and every signer's certificate up to an anchor of
    /// `trust`, by way of the certificates sent along if need be. `others` are certificates known
    /// beforehand, for an envelope that brings none.
    pub fn verify(
        &self,
        input: &mut dyn ReadSeek,
        opened: Option<&Opened>,
        others: &[Certificate],
        trust: &Trust<'_>,
    ) -> Result<Verified, EnvelopeError> {
        if self.signers.is_empty() {
            return Err(EnvelopeError::Kind("没有签名"));
        }
        let twice = |(at, info): (usize, &SignerInfo)| {
            self.signers.iter().take(at).any(|other| other.certificate == info.certificate)
        };
        if self.signers.len() > SIGNERS || self.signers.iter().enumerate().any(twice) {
            return Err(EnvelopeError::Part("签名者,过多或重复"));
        }
        let algorithm = DigestAlgorithm::of(self.sealing.as_ref());
        let mut checks = Vec::with_capacity(self.signers.len());
        for info in &self.signers {
            self.digested_by(&info.digest)?;
            known(&info.algorithm, &[SM2_SIGN, SM2_WITH_SM3, SM2])?;
            let mut all = self.certificates.iter().chain(others);
            let certificate = all
                .find(|certificate| names(&info.certificate, certificate))
                .ok_or(EnvelopeError::NoCertificate)?;
            chain::verify(certificate, Purpose::Signing, &self.certificates, trust)?;
            let key = certificate.public_key();
            // Without signed attributes the signature is of Z‖M itself: the standard's digest, and
            // no word of another.
            let whole = info.signed.is_none().then(|| key.prehash_stream(SignerId::STANDARD));
            if whole.is_some() && algorithm != DigestAlgorithm::Sm3 {
                return Err(EnvelopeError::Part("签名者,缺少签名属性"));
            }
            checks.push((info, certificate, key, whole));
        }
        let mut digest =
            self.signers.iter().any(|info| info.signed.is_some()).then(|| algorithm.stream());
        let plain = self.plain(input, opened, &mut |part| {
            digest.iter_mut().for_each(|stream| stream.update(part));
            checks.iter_mut().flat_map(|(.., whole)| whole).for_each(|stream| stream.update(part));
            Ok(())
        });
        // What does not decrypt is refused where a wrong signature is, and no sooner: how long it
        // took shall not tell a wrong padding from a right one.
        let decrypts = match plain {
            Ok(()) => true,
            Err(EnvelopeError::Refused) => false,
            Err(other) => return Err(other),
        };
        let digest = digest.map(|stream| algorithm.attested(&stream.finish())).transpose()?;
        let mut signers = Vec::with_capacity(checks.len());
        for (info, certificate, key, whole) in checks {
            let digest = match (whole, &info.signed, &digest) {
                (Some(stream), None, _) => stream.finish(),
                (None, Some(attributes), Some(digest)) => self.signed(attributes, key, digest)?,
                _ => return Err(EnvelopeError::Refused),
            };
            let signature = Signature::from_der(info.signature.as_bytes())
                .map_err(|_| EnvelopeError::Refused)?;
            key.verify_prehash(&digest, &signature).map_err(|_| EnvelopeError::Refused)?;
            signers.push(certificate.clone());
        }
        if decrypts { Ok(Verified { signers }) } else { Err(EnvelopeError::Refused) }
    }

    /// Writes the verified content.
    pub fn write(
        &self,
        input: &mut dyn ReadSeek,
        opened: Option<&Opened>,
        _: &Verified,
        out: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        self.plain(input, opened, &mut |part| Ok(out.write_all(part)?))
    }

    /// Writes the content of an envelope that carries no signature. In SM4-GCM it is checked whole
    /// before the first byte is written; in the standard's SM4-CBC **nothing tells whether it was
    /// changed on its way**.
    pub fn write_unsigned(
        &self,
        input: &mut dyn ReadSeek,
        opened: &Opened,
        out: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        if self.kind != Kind::Enveloped {
            return Err(EnvelopeError::Kind("带签名,须先验证"));
        }
        self.plain(input, Some(opened), &mut |_| Ok(()))?;
        self.plain(input, Some(opened), &mut |part| Ok(out.write_all(part)?))
    }

    fn content(&mut self, walk: &mut Walk<'_>, head: &mut Sm3Stream) -> Result<(), EnvelopeError> {
        walk.enter(SEQUENCE)?;
        let content_type = walk.small()?;
        self.content_type = decoded(&content_type, "内容类型")?;
        if ![DATA, CMS_DATA].contains(&self.content_type) {
            return Err(EnvelopeError::Algorithm(self.content_type.to_string()));
        }
        if self.kind == Kind::Signed {
            if walk.at_end()? {
                return Err(EnvelopeError::Kind("签名与内容分离,内容不在其中"));
            }
            walk.enter(context(0))?;
            self.content = walk.octets(OCTETS)?;
            walk.leave()?;
        } else {
            let algorithm = walk.small()?;
            self.sealing = Some(Sealing::parse(&decoded(&algorithm, "加密算法")?)?);
            head.update(&content_type);
            head.update(&algorithm);
            self.content = walk.octets(IMPLICIT_OCTETS)?;
            // sharedInfo [1] [2] of the standard belongs to key agreement, which is not used.
            while walk.tag()?.is_some() {
                walk.small()?;
            }
        }
        walk.leave()
    }

    /// Refuses every other digest than the one that belongs to how the content is sealed.
    fn digested_by(&self, identifier: &Any) -> Result<(), EnvelopeError> {
        let named = DigestAlgorithm::parse(identifier)?;
        if named == DigestAlgorithm::of(self.sealing.as_ref()) {
            return Ok(());
        }
        Err(EnvelopeError::Algorithm("摘要算法与加密方式不配".to_owned()))
    }

    /// The plaintext, in chunks.
    fn plain(
        &self,
        input: &mut dyn ReadSeek,
        opened: Option<&Opened>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), EnvelopeError>,
    ) -> Result<(), EnvelopeError> {
        input.seek(SeekFrom::Start(0))?;
        match (&self.sealing, opened) {
            (None, _) => self.content.read(input, each),
            (Some(sealing), Some(Opened(key))) => {
                sealing.open(key, &self.head, input, &self.content, each)
            }
            (Some(_), None) => Err(EnvelopeError::Kind("已加密,须先打开")),
        }
    }

    /// The digest that signed attributes stand for, after they were found to be of this content.
    fn signed(
        &self,
        attributes: &SetOfVec<Attribute>,
        key: &PublicKey,
        content: &Any,
    ) -> Result<Prehash, EnvelopeError> {
        let one = |oid: ObjectIdentifier| {
            let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
            match (found.next(), found.next()) {
                (Some(attribute), None) if attribute.values.len() == 1 => attribute.values.get(0),
                _ => None,
            }
            .ok_or(EnvelopeError::Refused)
        };
        let digest = one(MESSAGE_DIGEST)?;
        let kind: ObjectIdentifier = one(CONTENT_TYPE)?.decode_as().map_err(refused)?;
        let same = digest.to_der().map_err(refused)?.ct_eq(&content.to_der().map_err(refused)?);
        if !bool::from(same) || kind != self.content_type {
            return Err(EnvelopeError::Refused);
        }
        let mut stream = key.prehash_stream(SignerId::STANDARD);
        stream.update(&attributes.to_der().map_err(refused)?);
        Ok(stream.finish())
    }
}

fn refused(_: der::Error) -> EnvelopeError {
    EnvelopeError::Refused
}

fn part<T: for<'d> Decode<'d>>(
    walk: &mut Walk<'_>,
    what: &'static str,
) -> Result<T, EnvelopeError> {
    decoded(&walk.small()?, what)
}

fn decoded<T: for<'d> Decode<'d>>(bytes: &[u8], what: &'static str) -> Result<T, EnvelopeError> {
    T::from_der(bytes).map_err(|_| EnvelopeError::Part(what))
}

fn parts<T: for<'d> Decode<'d>>(
    walk: &mut Walk<'_>,
    tag: u8,
    what: &'static str,
) -> Result<Vec<T>, EnvelopeError> {
    walk.enter(tag)?;
    let mut all = Vec::new();
    while walk.tag()?.is_some() {
        if all.len() >= MOST {
            return Err(EnvelopeError::Part(what));
        }
        all.push(part(walk, what)?);
    }
    walk.leave()?;
    Ok(all)
}

/// The SM2 certificates sent along; others are of no use here.
fn certificates(walk: &mut Walk<'_>) -> Result<Vec<Certificate>, EnvelopeError> {
    walk.enter(context(0))?;
    let (mut all, mut count) = (Vec::new(), 0);
    while walk.tag()?.is_some() {
        count += 1;
        if count > MOST {
            return Err(EnvelopeError::Part("证书"));
        }
        all.extend(Certificate::from_der(&walk.small()?));
    }
    walk.leave()?;
    Ok(all)
}

/// None of these algorithms has parameters; OpenSSL writes NULL for them.
fn known(
    algorithm: &AlgorithmIdentifierOwned,
    accepted: &[ObjectIdentifier],
) -> Result<(), EnvelopeError> {
    let bare = algorithm.parameters.as_ref().is_none_or(Any::is_null);
    if bare && accepted.contains(&algorithm.oid) {
        Ok(())
    } else {
        Err(EnvelopeError::Algorithm(algorithm.oid.to_string()))
    }
}

fn names(id: &CertificateId, certificate: &Certificate) -> bool {
    match id {
        CertificateId::Issuer(_) => id_of(certificate).is_ok_and(|own| own == *id),
        CertificateId::Key(key) => certificate.subject_key() == Some(key.0.as_bytes()),
    }
}
