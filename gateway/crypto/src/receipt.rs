//! Signed receipts (回执). What one says is a line of text, its statement; several receipts given at
//! one time share one signature over the list of their digests, so that signing keeps up with
//! receiving. The form is described in `gateway/docs/formats/receipt.md`.

use std::io::Cursor;

use base64ct::{Base64, Encoding as _};

use crate::envelope::{Envelope, EnvelopeError, Kind, Signing, sign};
use crate::x509::Certificate;
use crate::x509::chain::Trust;
use crate::{hex, sm3};

/// First line of a list.
const HEADING: &str = "xinqiao-receipts/1";

/// Receipts under one signature, at most: the list goes to each of their receivers.
pub const MOST: usize = 64;

/// A list is never longer: heading and lines of 64 digits.
const MOST_BYTES: usize = HEADING.len() + 1 + MOST * 65;

/// A receipt as its receiver keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt<'a> {
    /// One line without its end.
    pub statement: &'a str,
    /// Base64 of a GB/T 35275 SignedData (DER) whose content is a list.
    pub signature: &'a str,
}

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The signature is no base64, or what it signs is no list.
    #[error("不是信桥签发的回执")]
    Malformed,
    /// The signature does not hold, or its signer is not trusted.
    #[error(transparent)]
    Signature(#[from] EnvelopeError),
    /// The list that was signed does not have this statement.
    #[error("回执的内容与签名不符,已被改动")]
    Changed,
}

impl ReceiptError {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "receipt.malformed",
            Self::Signature(error) => error.code(),
            Self::Changed => "receipt.changed",
        }
    }
}

/// Signs up to [`MOST`] statements together: the signature of each, base64.
pub fn sign_together(
    statements: &[impl AsRef<str>],
    signer: &Signing<'_>,
) -> Result<String, EnvelopeError> {
    let mut list = format!("{HEADING}\n");
    for statement in statements {
        list.push_str(&hex(&sm3(statement.as_ref().as_bytes())));
        list.push('\n');
    }
    let mut signed = Vec::with_capacity(2_048);
    sign(&mut Cursor::new(list), signer, &mut signed)?;
    Ok(Base64::encode_string(&signed))
}

/// Verifies a receipt. Gives the signers' certificates, which are trusted.
pub fn verify(
    receipt: &SignedReceipt<'_>,
    others: &[Certificate],
    trust: &Trust<'_>,
) -> Result<Vec<Certificate>, ReceiptError> {
    let signed = Base64::decode_vec(receipt.signature).map_err(|_| ReceiptError::Malformed)?;
    let mut input = Cursor::new(signed);
    let envelope = Envelope::read(&mut input)?;
    if envelope.kind() != Kind::Signed {
        return Err(ReceiptError::Malformed);
    }
    let verified = envelope.verify(&mut input, None, others, trust)?;
    let mut list = Vec::new();
    envelope.write(&mut input, None, &verified, &mut list)?;
    let list = std::str::from_utf8(&list).map_err(|_| ReceiptError::Malformed)?;
    let digests = list.strip_prefix(HEADING).and_then(|rest| rest.strip_prefix('\n'));
    let digests = digests.filter(|_| list.len() <= MOST_BYTES).ok_or(ReceiptError::Malformed)?;
    let digest = hex(&sm3(receipt.statement.as_bytes()));
    if digests.lines().any(|line| line == digest) {
        Ok(verified.signers)
    } else {
        Err(ReceiptError::Changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sm2::PrivateKey;
    use crate::x509::chain::Revocation;
    use crate::x509::issue::{Role, Template, issue_self_signed};
    use crate::x509::{UnixSeconds, parse_name};

    const AT: UnixSeconds = UnixSeconds(1_800_000_000);

    fn signer(name: &str) -> (PrivateKey, Certificate) {
        let key = PrivateKey::generate().unwrap();
        let template = Template::new(parse_name(name).unwrap(), Role::Signing, AT, 30);
        let certificate = issue_self_signed(&template, &key).unwrap();
        (key, certificate)
    }

    fn trust(anchors: &[Certificate]) -> Trust<'_> {
        Trust { anchors, revocation: Revocation::Unchecked, at: AT.plus_days(1) }
    }

    #[test]
    fn each_of_a_list_verifies_and_nothing_else() {
        let (key, certificate) = signer("CN=gateway");
        let signing = Signing { certificate: &certificate, chain: &[], signer: &key, at: AT };
        let statements: Vec<String> = (0..MOST).map(|n| format!("statement {n}")).collect();
        let signature = sign_together(&statements, &signing).unwrap();
        let anchors = [certificate.clone()];
        let check = |statement: &str, signature: &str| {
            verify(&SignedReceipt { statement, signature }, &[], &trust(&anchors))
        };
        for statement in &statements {
            assert_eq!(check(statement, &signature).unwrap(), anchors);
        }
        assert!(matches!(check("statement 64", &signature), Err(ReceiptError::Changed)));
        assert!(matches!(check("", &signature), Err(ReceiptError::Changed)));
        assert!(matches!(check(HEADING, &signature), Err(ReceiptError::Changed)));

        let (_, other) = signer("CN=other");
        let foreign = verify(
            &SignedReceipt { statement: &statements[0], signature: &signature },
            &[],
            &trust(&[other]),
        );
        assert!(matches!(foreign, Err(ReceiptError::Signature(EnvelopeError::Untrusted(_)))));
    }

    #[test]
    fn no_byte_may_change() {
        let (key, certificate) = signer("CN=gateway");
        let signing = Signing { certificate: &certificate, chain: &[], signer: &key, at: AT };
        let signature = sign_together(&["it was received"], &signing).unwrap();
        let anchors = [certificate];
        let der = Base64::decode_vec(&signature).unwrap();
        for at in 0..der.len() {
            for bit in [0x01, 0x80] {
                let mut changed = der.clone();
                changed[at] ^= bit;
                let signature = Base64::encode_string(&changed);
                let receipt = SignedReceipt { statement: "it was received", signature: &signature };
                assert!(verify(&receipt, &[], &trust(&anchors)).is_err(), "byte {at}");
            }
        }
        for length in 0..der.len() {
            let signature = Base64::encode_string(&der[..length]);
            let receipt = SignedReceipt { statement: "it was received", signature: &signature };
            assert!(verify(&receipt, &[], &trust(&anchors)).is_err());
        }
        let receipt = SignedReceipt { statement: "it was Received", signature: &signature };
        assert!(matches!(verify(&receipt, &[], &trust(&anchors)), Err(ReceiptError::Changed)));
    }
}
