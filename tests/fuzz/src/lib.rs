//! What each fuzz target does with its bytes. Everywhere: no panic, no hang, no growth; and beyond
//! that, what each function states. Keys are constants and certificates are committed, so that the
//! seeds that our own writer makes (`seeds`) verify here.

#[path = "../../../adapters/src"]
mod adapters {
    #![allow(
        dead_code,
        unreachable_pub,
        unused_imports,
        reason = "a few modules of a crate, without their users"
    )]
    pub mod formats;
    /// What `formats` takes from there.
    pub mod wire {
        pub mod soap;
        pub mod xml;
    }
}
pub mod formats;
mod tampered;
pub mod world;

pub use tampered::tampered;

use std::io::Cursor;

// `crate::wire`, as `formats` names it in the crate it belongs to.
use adapters::wire;
use base64ct::{Base64, Encoding as _};
use xinqiao_crypto::envelope::{Cipher, Envelope, Kind, begins, unwrap_pem};
use xinqiao_crypto::pem;
use xinqiao_crypto::pkcs8;
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::sm2::encryption::convert;
use xinqiao_crypto::sm2::{CiphertextFormat, Signature};
use xinqiao_crypto::x509::chain::{self, Purpose};
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_crypto::x509::request::Request;
use xinqiao_crypto::x509::{Certificate, UnixSeconds};

use world::{CONTENT, PASSPHRASE, STATEMENT, world};

/// The binary form: what opens and verifies here was signed or sealed by our key, so its content
/// is the one content our key signed.
pub fn envelope(data: &[u8]) {
    if let Some(content) = open_envelope(data) {
        assert_eq!(content, CONTENT, "verified, but not what was signed");
    }
}

/// PEM to binary: bytes that begin as PEM never come out as they are, and never grow.
pub fn envelope_pem(data: &[u8]) {
    let mut out = Vec::new();
    let unwrapped = unwrap_pem(&mut Cursor::new(data), &mut out);
    assert!(out.len() <= data.len());
    if unwrapped.is_ok() {
        begins(&out);
        if data.first() != Some(&b'-') {
            assert_eq!(out, data);
        }
    }
}

/// `statement LF signature`: what verifies is the one statement our key signed.
pub fn receipt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((statement, signature)) = text.split_once('\n') else { return };
    // A fuzzer finds its way through DER better than through base64: both are tried.
    let encoded = Base64::encode_string(signature.as_bytes());
    for signature in [signature, &encoded] {
        let receipt = SignedReceipt { statement, signature };
        if receipt::verify(&receipt, &[], &world().trust()).is_ok() {
            assert_eq!(statement, STATEMENT, "verified, but not what was signed");
        }
    }
}

/// Certificates, DER or PEM: DER stays as it was, and what our CA did not issue is not trusted.
pub fn certificate(data: &[u8]) {
    let Ok(all) = Certificate::from_file(data) else { return };
    for own in &all {
        assert_eq!(Certificate::from_der(own.to_der()).as_ref(), Ok(own));
        assert_eq!(
            Certificate::from_file(own.to_pem().as_bytes()).as_deref(),
            Ok([own.clone()].as_slice())
        );
        let _ = (own.subject().to_string(), own.issuer().to_string(), own.serial_hex());
        for at in [0, world::AT.0, u64::MAX] {
            own.expiry(UnixSeconds(at));
        }
        for purpose in [Purpose::Signing, Purpose::Encryption] {
            if chain::verify(own, purpose, &all, &world().trust()).is_ok() {
                assert!(world().issued.contains(own), "trusted, but not issued");
            }
        }
    }
}

/// Revocation lists, DER or PEM; one that our CA did not sign decides nothing.
pub fn crl(data: &[u8]) {
    let Ok(lists) = Crl::from_file(data) else { return };
    for list in &lists {
        let _ = (list.issuer().to_string(), list.this_update(), list.next_update(), list.revoked());
        list.lists(&[1]);
        assert!(Crl::from_file(list.to_pem().as_bytes()).is_ok());
    }
    let world = world();
    if world.verify_with(&lists).is_ok() {
        assert!(lists.iter().any(|list| world.list.to_der() == list.to_der()), "not our list");
    }
}

/// Certificate requests: one that is read was signed by the key it names.
pub fn request(data: &[u8]) {
    let Ok(request) = Request::from_file(data) else { return };
    let _ = request.subject().to_string();
    let again = Request::from_file(request.to_pem().as_bytes()).expect("its own PEM");
    assert_eq!(again.to_der(), request.to_der());
    assert_eq!(again.public_key(), world().signing_key.public_key(), "signed by nobody");
}

/// Private keys, plain and encrypted (the first byte tells which; iterations are limited under
/// `cfg(fuzzing)`): what is read writes and reads again.
pub fn pkcs8(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let read = match how % 2 {
        0 => pkcs8::read_plain(data),
        _ => pkcs8::decrypt(data, PASSPHRASE),
    };
    if let Ok(key) = read {
        let again = pkcs8::read_plain(&pkcs8::encode_plain(&key)).expect("its own encoding");
        assert_eq!(again.public_key(), key.public_key());
    }
}

/// Signatures and ciphertexts in DER: what is read is written the same, and a ciphertext opens
/// alike in each format it converts to.
pub fn sm2_der(data: &[u8]) {
    if let Ok(signature) = Signature::from_der(data) {
        assert_eq!(signature.to_der(), data, "not strict");
    }
    let key = &world().encryption_key;
    let opened = key.open(data);
    for format in [CiphertextFormat::C1C3C2, CiphertextFormat::C1C2C3] {
        match convert(data, CiphertextFormat::Der, format) {
            Ok(other) => {
                assert_eq!(key.open_as(format, &other).ok(), opened.as_ref().ok().cloned());
                let back = convert(&other, format, CiphertextFormat::Der).expect("the way back");
                assert_eq!(back, data, "not strict");
            }
            Err(_) => assert!(opened.is_err()),
        }
        let _ = key.open_as(format, data);
    }
    if let Ok(opened) = opened {
        assert_eq!(opened.as_slice(), CONTENT, "opened, but not what was sealed");
    }
}

/// PEM files: blocks that are read are written and read again.
pub fn pem_blocks(data: &[u8]) {
    let Ok(blocks) = pem::blocks(data) else { return };
    let inside: usize = blocks.iter().map(|block| block.der.len() + block.label.len()).sum();
    assert!(inside <= data.len());
    for block in &blocks {
        let text = pem::encode(&block.label, &block.der);
        let again = pem::blocks(text.as_bytes()).expect("its own text");
        assert_eq!(again.len(), 1);
        assert_eq!((&again[0].label, &again[0].der), (&block.label, &block.der));
    }
}

/// What a receiver gets out of an envelope, if anything; of one that is only sealed, only in GCM:
/// a change in CBC without a signature is not noticed, by its standard.
fn open_envelope(data: &[u8]) -> Option<Vec<u8>> {
    let world = world();
    begins(data);
    let input = &mut Cursor::new(data);
    let envelope = Envelope::read(input).ok()?;
    let open = |ciphertext: &[u8]| Ok(world.encryption_key.open(ciphertext)?);
    let opener = world.opener(&open);
    let opened = match envelope.kind() {
        Kind::Signed => None,
        Kind::Enveloped | Kind::SignedAndEnveloped => Some(envelope.open(&opener).ok()?),
    };
    let mut content = Vec::new();
    match (envelope.kind(), &opened) {
        (Kind::Enveloped, Some(opened)) => {
            envelope.write_unsigned(input, opened, &mut content).ok()?;
            (envelope.cipher() == Some(Cipher::Gcm)).then_some(content)
        }
        _ => {
            let verified = envelope.verify(input, opened.as_ref(), &[], &world.trust()).ok()?;
            let written = envelope.write(input, opened.as_ref(), &verified, &mut content);
            written.expect("verified, so it can be written");
            Some(content)
        }
    }
}
