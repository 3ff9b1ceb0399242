//! Revocation lists (证书吊销列表, RFC 5280 clause 5).

use std::collections::BTreeMap;

use der::asn1::{ObjectIdentifier as Oid, Uint};
use der::oid::AssociatedOid as _;
use der::{Decode as _, Encode as _};
use x509_cert::certificate::Version;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::ToExtension as _;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;

pub use x509_cert::ext::pkix::CrlReason;

use super::issue::{authority, check_issuer};
use super::{Certificate, IssueError, Signed, UnixSeconds, X509Error, algorithm, read_file};
use super::{seconds, time};
use crate::keystore::Signer;
use crate::pem;
use crate::sm2::{InvalidSignature, PublicKey, Signature, SignerId};

/// PEM label.
pub const LABEL: &str = "X509 CRL";

/// A full list of one issuer. Its signature is *not* verified by reading: that is
/// [`chain`](super::chain)'s work.
#[derive(Debug, Clone)]
pub struct Crl {
    der: Vec<u8>,
    tbs: Vec<u8>,
    signature: Signature,
    issuer: Name,
    this_update: UnixSeconds,
    next_update: UnixSeconds,
    revoked: BTreeMap<Vec<u8>, UnixSeconds>,
}

/// A certificate to be listed.
#[derive(Debug, Clone)]
pub struct Revoked {
    /// [`Certificate::serial`].
    pub serial: Vec<u8>,
    /// When.
    pub at: UnixSeconds,
    /// Why, if it is said.
    pub reason: Option<CrlReason>,
}

impl Crl {
    /// Issues a list. `number` must grow from list to list.
    pub fn issue(
        issuer: &Certificate,
        signer: &dyn Signer,
        revoked: &[Revoked],
        number: u64,
        this_update: UnixSeconds,
        next_update: UnixSeconds,
    ) -> Result<Self, IssueError> {
        check_issuer(issuer, signer)?;
        if next_update <= this_update {
            return Err(IssueError::Validity);
        }
        let name = issuer.subject();
        let tbs = || {
            let entries: Vec<_> =
                revoked.iter().map(|entry| write_entry(entry, name)).collect::<der::Result<_>>()?;
            TbsCertList {
                version: Version::V2,
                signature: algorithm(),
                issuer: name.clone(),
                this_update: time(this_update)?,
                next_update: Some(time(next_update)?),
                revoked_certificates: (!entries.is_empty()).then_some(entries),
                crl_extensions: Some(vec![
                    authority(signer.public_key())?.to_extension(name, &[])?,
                    CrlNumber(Uint::new(&number.to_be_bytes())?).to_extension(name, &[])?,
                ]),
            }
            .to_der()
        };
        let tbs = tbs().map_err(|_: der::Error| IssueError::Encoding)?;
        let der = Signed::write(&tbs, signer)?;
        Self::from_der(&der).map_err(|_| IssueError::Encoding)
    }

    /// Reads all lists of a file: one in DER, or any number in PEM.
    pub fn from_file(file: &[u8]) -> Result<Vec<Self>, X509Error> {
        read_file(file, LABEL, Self::from_der)
    }

    /// DER.
    pub fn to_der(&self) -> &[u8] {
        &self.der
    }

    /// PEM.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.der).to_string()
    }

    /// Whose.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// When it was made.
    pub fn this_update(&self) -> UnixSeconds {
        self.this_update
    }

    /// When the next is due; this one says nothing after.
    pub fn next_update(&self) -> UnixSeconds {
        self.next_update
    }

    /// Is a number listed? Means nothing before [`chain`](super::chain) has verified the list.
    pub fn lists(&self, serial: &[u8]) -> bool {
        self.revoked.contains_key(serial)
    }

    /// What is listed, to be listed again in the next; reasons are not kept.
    pub fn revoked(&self) -> Vec<Revoked> {
        let entry = |(serial, at): (&Vec<u8>, &UnixSeconds)| Revoked {
            serial: serial.clone(),
            at: *at,
            reason: None,
        };
        self.revoked.iter().map(entry).collect()
    }

    pub(super) fn current(&self, at: UnixSeconds) -> bool {
        (self.this_update..=self.next_update).contains(&at)
    }

    pub(super) fn signed_by(&self, issuer: &PublicKey) -> Result<(), InvalidSignature> {
        issuer.verify(SignerId::STANDARD, &self.tbs, &self.signature)
    }

    fn from_der(der: &[u8]) -> Result<Self, X509Error> {
        let signed = Signed::read(der)?;
        let list = TbsCertList::<x509_cert::certificate::Rfc5280>::from_der(&signed.tbs)
            .map_err(|_| X509Error::Malformed)?;
        if list.signature.oid != algorithm().oid {
            return Err(X509Error::NotSm2);
        }
        // Critical here are partial (delta, by distribution point) and indirect lists.
        const KNOWN: [Oid; 2] = [AuthorityKeyIdentifier::OID, CrlNumber::OID];
        let entries = list.revoked_certificates.unwrap_or_default();
        let of_entries =
            entries.iter().flat_map(|entry| entry.crl_entry_extensions.iter().flatten());
        let unknown = list
            .crl_extensions
            .iter()
            .flatten()
            .filter(|extension| !KNOWN.contains(&extension.extn_id))
            .chain(of_entries.filter(|extension| extension.extn_id != CrlReason::OID))
            .any(|extension| extension.critical);
        // A list without an end would be valid for ever.
        let (Some(next_update), false) = (list.next_update, unknown) else {
            return Err(X509Error::Unsupported);
        };
        let strip = |serial: &SerialNumber| {
            let bytes = serial.as_bytes().iter();
            bytes.copied().skip_while(|byte| *byte == 0).collect()
        };
        Ok(Self {
            der: der.to_vec(),
            signature: signed.signature,
            issuer: list.issuer,
            this_update: seconds(list.this_update),
            next_update: seconds(next_update),
            revoked: entries
                .iter()
                .map(|entry| (strip(&entry.serial_number), seconds(entry.revocation_date)))
                .collect(),
            tbs: signed.tbs,
        })
    }
}

fn write_entry(entry: &Revoked, issuer: &Name) -> der::Result<RevokedCert> {
    let reason = |reason: &CrlReason| reason.to_extension(issuer, &[]).map(|one| vec![one]);
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&entry.serial)?,
        revocation_date: time(entry.at)?,
        crl_entry_extensions: entry.reason.as_ref().map(reason).transpose()?,
    })
}
