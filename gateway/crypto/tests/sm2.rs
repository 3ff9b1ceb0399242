//! SM2 from outside: round trips, and everything that must be refused.
#![expect(clippy::unwrap_used, reason = "a test fails if its own material cannot be made")]

use proptest::prelude::*;
use xinqiao_crypto::DecryptError;
use xinqiao_crypto::sm2::encryption::convert;
use xinqiao_crypto::sm2::{
    CiphertextFormat, InvalidSignature, Prehash, PrivateKey, PublicKey, SealError, Signature,
    SignerId,
};

const FORMATS: [CiphertextFormat; 3] =
    [CiphertextFormat::Der, CiphertextFormat::C1C3C2, CiphertextFormat::C1C2C3];

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

/// Every one-bit change of every byte.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

#[test]
fn signature_binds_message_id_and_key() {
    let (ours, other) = (key(), key());
    let public = ours.public_key();
    let signature = ours.sign(SignerId::STANDARD, b"m").unwrap();
    let verify = |key: &PublicKey, id, message: &[u8]| key.verify(id, message, &signature);
    assert_eq!(verify(public, SignerId::STANDARD, b"m"), Ok(()));
    let refused = Err(InvalidSignature);
    assert_eq!(verify(public, SignerId::STANDARD, b"n"), refused);
    assert_eq!(verify(public, SignerId::TLS13, b"m"), refused);
    assert_eq!(verify(public, SignerId::new(b"").unwrap(), b"m"), refused);
    assert_eq!(verify(other.public_key(), SignerId::STANDARD, b"m"), refused);
    // A plain digest is not what was signed.
    let plain = Prehash::from_raw(xinqiao_crypto::sm3(b"m"));
    assert_eq!(public.verify_prehash(&plain, &signature), refused);
}

#[test]
fn signing_twice_differs_and_both_verify() {
    let key = key();
    let [a, b] = [0; 2].map(|_| key.sign(SignerId::STANDARD, b"m").unwrap());
    assert_ne!(a, b, "the nonce is hedged");
    for signature in [a, b] {
        let verified = key.public_key().verify(SignerId::STANDARD, b"m", &signature);
        assert_eq!(verified, Ok(()));
    }
}

#[test]
fn streaming_equals_whole() {
    let key = key();
    let mut stream = key.public_key().prehash_stream(SignerId::STANDARD);
    for chunk in [b"one ".as_slice(), b"", b"two"] {
        stream.update(chunk);
    }
    let e = stream.finish();
    assert_eq!(e, key.public_key().prehash(SignerId::STANDARD, b"one two"));
    let signature = key.sign_prehash(&e).unwrap();
    let verified = key.public_key().verify(SignerId::STANDARD, b"one two", &signature);
    assert_eq!(verified, Ok(()));
}

#[test]
fn every_changed_signature_is_refused() {
    let key = key();
    let signature = key.sign(SignerId::STANDARD, b"m").unwrap();
    let verified = |parsed: Result<Signature, _>| {
        parsed.is_ok_and(|s| key.public_key().verify(SignerId::STANDARD, b"m", &s).is_ok())
    };
    assert!(verified(Signature::from_der(&signature.to_der())));
    for changed in flips(&signature.to_der()) {
        assert!(!verified(Signature::from_der(&changed)));
    }
    for changed in flips(&signature.to_raw()) {
        assert!(!verified(Signature::from_raw(&changed.try_into().unwrap())));
    }
    let der = signature.to_der();
    for length in 0..der.len() {
        assert!(Signature::from_der(&der[..length]).is_err());
    }
    assert!(Signature::from_der(&[der.as_slice(), &[0]].concat()).is_err());
}

/// BER and over-long numbers would give one signature several writings.
#[test]
fn signatures_have_one_writing() {
    let minimal = [0x30, 6, 2, 1, 1, 2, 1, 1];
    assert_eq!(Signature::from_der(&minimal).unwrap().to_der(), minimal);
    for other in [
        [0x30, 0x81, 6, 2, 1, 1, 2, 1, 1].as_slice(),
        &[0x30, 7, 2, 2, 0, 1, 2, 1, 1],
        &[0x30, 6, 2, 1, 0, 2, 1, 1],
        &[0x30, 6, 2, 1, 0xff, 2, 1, 1],
        &[0x30, 9, 2, 1, 1, 2, 1, 1, 2, 1, 1],
        &[0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0],
    ] {
        assert!(Signature::from_der(other).is_err(), "{other:02x?}");
    }
}

#[test]
fn sealed_opens_in_every_format_and_only_with_its_key() {
    let (ours, other) = (key(), key());
    for format in FORMATS {
        for length in [1, 16, 31, 32, 33, 64, 1000] {
            let plaintext: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let sealed = ours.public_key().seal_as(format, &plaintext).unwrap();
            assert_eq!(*ours.open_as(format, &sealed).unwrap(), plaintext);
            assert_eq!(other.open_as(format, &sealed).err(), Some(DecryptError));
            for to in FORMATS {
                let converted = convert(&sealed, format, to).unwrap();
                assert_eq!(*ours.open_as(to, &converted).unwrap(), plaintext);
            }
        }
    }
    assert_eq!(ours.public_key().seal(b""), Err(SealError::Empty));
    let long = vec![0; (1 << 16) + 1];
    assert_eq!(ours.public_key().seal(&long), Err(SealError::TooLong));
}

#[test]
fn every_changed_or_cut_ciphertext_is_refused() {
    let key = key();
    for format in FORMATS {
        let sealed = key.public_key().seal_as(format, &[7; 16]).unwrap();
        for (bit, changed) in flips(&sealed).enumerate() {
            let opened = key.open_as(format, &changed);
            assert_eq!(opened.err(), Some(DecryptError), "{format:?} bit {bit}");
        }
        for length in 0..sealed.len() {
            let opened = key.open_as(format, &sealed[..length]);
            assert_eq!(opened.err(), Some(DecryptError), "{format:?} cut at {length}");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(key.open_as(format, &longer).err(), Some(DecryptError));
    }
}

#[test]
fn points_off_the_curve_are_no_keys() {
    let good = key().public_key().to_sec1();
    let back = PublicKey::from_sec1(&good).unwrap();
    assert_eq!(back.to_sec1(), good);
    for changed in flips(&good) {
        // A flipped bit gives another point only if the tag turns to a compressed form, whose
        // length is then wrong.
        assert!(PublicKey::from_sec1(&changed).is_err());
    }
    for length in 0..good.len() {
        assert!(PublicKey::from_sec1(&good[..length]).is_err());
    }
    assert!(PublicKey::from_sec1(&[0]).is_err(), "infinity");
    let mut compressed = [0; 33];
    compressed[0] = 2 + (good[64] & 1);
    compressed[1..].copy_from_slice(&good[1..33]);
    assert_eq!(PublicKey::from_sec1(&compressed), Ok(back));
}

/// The bug that corrupts one key in 256 elsewhere: zeros at the front get lost.
#[test]
fn sm4_keys_with_leading_zeros_survive() {
    let runs = match std::env::var("XINQIAO_LONG") {
        Ok(_) => 10_000,
        Err(_) => 2_000,
    };
    let key = key();
    for run in 0..runs {
        let mut session = [0; 16];
        getrandom::fill(&mut session[run % 16..]).unwrap();
        let format = FORMATS[run % 3];
        let sealed = key.public_key().seal_as(format, &session).unwrap();
        assert_eq!(*key.open_as(format, &sealed).unwrap(), session);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_panic_nowhere(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = PrivateKey::from_bytes(&[7; 32]).unwrap();
        for format in FORMATS {
            prop_assert!(key.open_as(format, &bytes).is_err());
        }
        let _ = Signature::from_der(&bytes);
        let _ = PublicKey::from_sec1(&bytes);
    }

    /// Real structures around arbitrary contents, which random bytes hardly ever reach.
    #[test]
    fn arbitrary_numbers_panic_nowhere(
        x in prop::collection::vec(any::<u8>(), 0..40),
        y in prop::collection::vec(any::<u8>(), 0..40),
        hash in prop::collection::vec(any::<u8>(), 0..40),
        cipher in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let tlv = |tag: u8, value: &[u8]| [&[tag, value.len() as u8], value].concat();
        let body = [tlv(2, &x), tlv(2, &y), tlv(4, &hash), tlv(4, &cipher)].concat();
        let sequence = [&[0x30, 0x81, body.len() as u8], body.as_slice()].concat();
        let key = PrivateKey::from_bytes(&[7; 32]).unwrap();
        prop_assert!(key.open(&sequence).is_err());
        let _ = Signature::from_der(&tlv(0x30, &[tlv(2, &x), tlv(2, &y)].concat()));
    }
}
