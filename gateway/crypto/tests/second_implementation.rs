//! The same work by `gmcrypto-core`, which shares no code with ours.
#![expect(clippy::unwrap_used, reason = "a test fails if its own material cannot be made")]

use getrandom::SysRng;
use gmcrypto_core::sm2::{self as other, Sm2PrivateKey, Sm2PublicKey};
use gmcrypto_core::sm4::{mode_cbc, mode_gcm};
use gmcrypto_core::{hmac, sm3 as other_sm3, x509 as other_x509};
use proptest::prelude::*;
use xinqiao_crypto::aead::{NonceSequence, Sm4Gcm};
use xinqiao_crypto::sm2::{PrivateKey, Signature, SignerId};
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{UnixSeconds, parse_name};
use xinqiao_crypto::{DigestKey, cbc, pkcs8, sm3};

/// Our key and theirs, the same.
fn keys() -> (PrivateKey, Sm2PrivateKey, Sm2PublicKey) {
    let ours = PrivateKey::generate().unwrap();
    let theirs = Sm2PrivateKey::from_bytes_be(&ours.to_bytes()).unwrap();
    let public = Sm2PublicKey::from_sec1_bytes(&ours.public_key().to_sec1()).unwrap();
    (ours, theirs, public)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn signatures_verify_both_ways(
        message in prop::collection::vec(any::<u8>(), 0..200),
        id in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let (ours, theirs, public) = keys();
        let signer = SignerId::new(&id).unwrap();
        prop_assert_eq!(ours.public_key().z(signer), other::compute_z(&public, &id));
        let signature = ours.sign(signer, &message).unwrap();
        prop_assert!(other::verify_with_id(&public, &id, &message, &signature.to_der()));
        let signature = other::sign_with_id(&theirs, &id, &message, &mut SysRng).unwrap();
        let signature = Signature::from_der(&signature).unwrap();
        prop_assert!(ours.public_key().verify(signer, &message, &signature).is_ok());
    }

    #[test]
    fn ciphertexts_open_both_ways(plaintext in prop::collection::vec(any::<u8>(), 1..200)) {
        let (ours, theirs, public) = keys();
        let sealed = ours.public_key().seal(&plaintext).unwrap();
        prop_assert_eq!(&other::decrypt(&theirs, &sealed).unwrap(), &plaintext);
        let sealed = other::encrypt(&public, &plaintext, &mut SysRng).unwrap();
        prop_assert_eq!(&*ours.open(&sealed).unwrap(), &plaintext);
    }

    #[test]
    fn bulk_ciphers_and_digests_agree(
        key in any::<[u8; 16]>(),
        iv in any::<[u8; 16]>(),
        associated in prop::collection::vec(any::<u8>(), 0..50),
        plaintext in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let ours = Sm4Key::new(key);
        let sealed = cbc::encrypt(&ours, &iv, &plaintext);
        prop_assert_eq!(&sealed, &mode_cbc::encrypt(&key, &iv, &plaintext));
        prop_assert_eq!(&*cbc::decrypt(&ours, &iv, &sealed).unwrap(), &plaintext);
        let nonce = NonceSequence::random().unwrap().next().unwrap();
        let bytes = *nonce.as_bytes();
        let sealed = Sm4Gcm::new(&ours).seal(nonce, &associated, &plaintext).unwrap();
        let (ciphertext, tag) = mode_gcm::encrypt(&key, &bytes, &associated, &plaintext).unwrap();
        prop_assert_eq!(sealed, [ciphertext, tag.to_vec()].concat());
        prop_assert_eq!(sm3(&plaintext), other_sm3::hash(&plaintext));
        let secret: [u8; 32] = [key, iv].concat().try_into().unwrap();
        let theirs = hmac::hmac_sm3(&secret, &plaintext);
        prop_assert_eq!(DigestKey::new(secret).digest(&plaintext), theirs);
    }
}

/// Session keys with zeros at the front, which careless number arithmetic loses.
#[test]
fn sm4_keys_with_leading_zeros_survive_the_other_side() {
    let runs = match std::env::var("XINQIAO_LONG") {
        Ok(_) => 10_000,
        Err(_) => 200,
    };
    let (ours, theirs, public) = keys();
    for run in 0..runs {
        let mut session = [0; 16];
        getrandom::fill(&mut session[run % 16..]).unwrap();
        let sealed = ours.public_key().seal(&session).unwrap();
        assert_eq!(other::decrypt(&theirs, &sealed).unwrap(), session);
        let sealed = other::encrypt(&public, &session, &mut SysRng).unwrap();
        assert_eq!(*ours.open(&sealed).unwrap(), session);
    }
}

#[test]
fn key_files_open_both_ways() {
    let (ours, theirs, _) = keys();
    let file = pkcs8::encrypt_with(&ours, b"passphrase", 1000).unwrap();
    let opened = gmcrypto_core::pkcs8::decrypt(&file, b"passphrase").unwrap();
    assert_eq!(opened.to_bytes_be(), *ours.to_bytes());
    let file =
        gmcrypto_core::pkcs8::encrypt(&theirs, b"passphrase", &[7; 16], 1000, &[9; 16]).unwrap();
    let opened = pkcs8::decrypt(&file, b"passphrase").unwrap();
    assert_eq!(opened.to_bytes(), ours.to_bytes());
    let plain = gmcrypto_core::pkcs8::encode(&theirs);
    assert_eq!(pkcs8::read_plain(&plain).unwrap().to_bytes(), ours.to_bytes());
}

#[test]
fn certificates_verify_there() {
    let (ca_key, _, ca_public) = keys();
    let (holder, _, _) = keys();
    let name = |text| parse_name(text).unwrap();
    let from = UnixSeconds(1_800_000_000);
    let ca = Template::new(name("CN=ca"), Role::Ca { path_length: None }, from, 365);
    let ca = issue_self_signed(&ca, &ca_key).unwrap();
    let leaf = Template::new(name("CN=市住建局"), Role::Signing, from, 30);
    let leaf = issue(&leaf, holder.public_key(), &ca, &ca_key).unwrap();
    for certificate in [&ca, &leaf] {
        let read = other_x509::Certificate::from_der(certificate.to_der()).unwrap();
        assert!(read.verify_signature(&ca_public));
        assert_eq!(read.basic_constraints().is_some_and(|basic| basic.is_ca), certificate.is_ca());
    }
}
