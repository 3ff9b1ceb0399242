//! SM4: the published vectors, and every path against the crate `sm4`, block by block and in
//! modes.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use cipher::block_padding::NoPadding;
use cipher::{
    Block, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InOutBuf,
    InnerIvInit, KeyIvInit, StreamCipher, StreamCipherCoreWrapper,
};
use proptest::prelude::*;
use xinqiao_kernels::{Path, Sm4, Sm4Gcm};

/// Key and plaintext of GB/T 32907-2016, A.1 and A.2.
const PUBLISHED: [u8; 16] = hex("0123456789abcdeffedcba9876543210");

#[test]
fn the_standard_example_on_every_path() {
    let expected = hex("681edf34d206965e86b3e94f536e4246");
    for cipher in every_path(&PUBLISHED) {
        let mut block = PUBLISHED.into();
        cipher.encrypt_block(&mut block);
        assert_eq!(block, expected, "{cipher:?}");
        cipher.decrypt_block(&mut block);
        assert_eq!(block, PUBLISHED, "{cipher:?}");
    }
}

#[test]
fn a_million_rounds_on_every_path() {
    let expected = hex("595298c7c6fd271f0402f804c33d3f66");
    for cipher in every_path(&PUBLISHED) {
        let mut block = PUBLISHED.into();
        for _ in 0..1_000_000 {
            cipher.encrypt_block(&mut block);
        }
        assert_eq!(block, expected, "{cipher:?}");
    }
}

/// RFC 8998, A.1.
#[test]
fn the_gcm_example_of_rfc_8998_on_every_path() {
    let nonce = hex::<12>("00001234567800000000abcd").into();
    let data = hex::<20>("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let text = hex::<64>(concat!(
        "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd",
        "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa",
    ));
    let expected = hex::<64>(concat!(
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735",
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d",
    ));
    let tag = hex::<16>("83de3541e4c2b58177e065a9bf7b62ec");
    for cipher in every_path(&PUBLISHED) {
        let gcm = Sm4Gcm::from(cipher);
        let mut message = text;
        let computed =
            gcm.encrypt_inout_detached(&nonce, &data, message.as_mut_slice().into()).unwrap();
        assert_eq!((message, computed), (expected, tag.into()), "{gcm:?}");
        gcm.decrypt_inout_detached(&nonce, &data, message.as_mut_slice().into(), &computed)
            .unwrap();
        assert_eq!(message, text, "{gcm:?}");
    }
}

#[test]
fn a_changed_bit_anywhere_is_refused_and_nothing_is_written() {
    let nonce = [1; 12].into();
    for cipher in every_path(&PUBLISHED) {
        let gcm = Sm4Gcm::from(cipher);
        let mut message = [7; 40];
        let tag =
            gcm.encrypt_inout_detached(&nonce, b"data", message.as_mut_slice().into()).unwrap();
        let open = |message: &[u8], tag: &[u8; 16], data: &[u8]| {
            let mut text = message.to_vec();
            let result =
                gcm.decrypt_inout_detached(&nonce, data, text.as_mut_slice().into(), tag.into());
            assert_eq!(result.is_err(), text == message);
            result
        };
        open(&message, &tag.into(), b"data").unwrap();
        for bit in 0..8 * message.len() {
            let mut changed = message;
            changed[bit / 8] ^= 1 << (bit % 8);
            open(&changed, &tag.into(), b"data").unwrap_err();
        }
        for bit in 0..128 {
            let mut changed = <[u8; 16]>::from(tag);
            changed[bit / 8] ^= 1 << (bit % 8);
            open(&message, &changed, b"data").unwrap_err();
        }
        open(&message, &tag.into(), b"date").unwrap_err();
    }
}

#[test]
fn the_new_cipher_takes_the_fastest_path() {
    let fastest = Path::available().next();
    assert_eq!(Some(Sm4::new(&PUBLISHED.into()).path()), fastest);
    assert_eq!(Path::available().last(), Some(Path::Portable));
}

#[test]
fn the_debug_form_shows_no_key() {
    for cipher in every_path(&[0xa5; 16]) {
        let shown = format!("{cipher:?} {:?}", Sm4Gcm::from(cipher.clone()));
        assert!(!shown.contains("165") && !shown.contains("a5"), "{shown}");
    }
}

proptest! {
    #[test]
    fn blocks_equal_the_portable_crate(key: [u8; 16], mut text in blocks(0..200)) {
        let original = text.clone();
        let mut expected = text.clone();
        sm4::Sm4::new(&key.into()).encrypt_blocks(&mut expected);
        for cipher in every_path(&key) {
            cipher.encrypt_blocks_b2b(&original, &mut text).unwrap();
            prop_assert_eq!(&text, &expected, "{:?}", cipher);
            cipher.decrypt_blocks(&mut text);
            prop_assert_eq!(&text, &original, "{:?}", cipher);
        }
    }

    #[test]
    fn gcm_equals_the_portable_crate(
        key: [u8; 16],
        nonce: [u8; 12],
        data in proptest::collection::vec(any::<u8>(), 0..50),
        text in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let reference = AesGcm::<sm4::Sm4, U12>::new(&key.into());
        let expected = seal(&reference, nonce, &data, &text);
        for cipher in every_path(&key) {
            let own = Sm4Gcm::from(cipher.clone());
            prop_assert_eq!(&seal(&own, nonce, &data, &text), &expected, "{:?}", own);
            let mut opened = expected.0.clone();
            own.decrypt_inout_detached(
                &nonce.into(),
                &data,
                opened.as_mut_slice().into(),
                &expected.1.into(),
            )
            .unwrap();
            prop_assert_eq!(&opened, &text, "{:?}", own);
            let generic = AesGcm::<Sm4, U12>::from(cipher);
            prop_assert_eq!(&seal(&generic, nonce, &data, &text), &expected);
        }
    }

    #[test]
    fn counter_mode_equals_the_portable_crate(
        key: [u8; 16],
        iv: [u8; 16],
        text in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut expected = text.clone();
        ctr::Ctr128BE::<sm4::Sm4>::new(&key.into(), &iv.into()).apply_keystream(&mut expected);
        for cipher in every_path(&key) {
            let core = ctr::CtrCore::<_, ctr::flavors::Ctr128BE>::inner_iv_init(cipher, &iv.into());
            let mut message = text.clone();
            StreamCipherCoreWrapper::from_core(core).apply_keystream(&mut message);
            prop_assert_eq!(&message, &expected);
        }
    }

    #[test]
    fn chaining_mode_equals_the_portable_crate(
        key: [u8; 16],
        iv: [u8; 16],
        text in blocks(0..200),
    ) {
        let text: &[u8] = &text.into_iter().flatten().collect::<Vec<_>>();
        let expected = cbc::Encryptor::<sm4::Sm4>::new(&key.into(), &iv.into())
            .encrypt_padded_vec::<NoPadding>(text);
        for cipher in every_path(&key) {
            let message = cbc::Encryptor::inner_iv_init(cipher.clone(), &iv.into())
                .encrypt_padded_vec::<NoPadding>(text);
            prop_assert_eq!(&message, &expected, "{:?}", cipher);
            let opened = cbc::Decryptor::inner_iv_init(cipher, &iv.into())
                .decrypt_padded_vec::<NoPadding>(&message)
                .unwrap();
            prop_assert_eq!(&opened, text);
        }
    }
}

fn every_path(key: &[u8; 16]) -> impl Iterator<Item = Sm4> {
    Path::available().map(|path| Sm4::with_path(path, key).unwrap())
}

fn blocks(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Block<Sm4>>> {
    proptest::collection::vec(any::<[u8; 16]>().prop_map(Into::into), count)
}

/// The ciphertext and the tag, from one buffer to another.
fn seal(
    cipher: &impl AeadInOut<NonceSize = U12, TagSize = cipher::consts::U16>,
    nonce: [u8; 12],
    data: &[u8],
    text: &[u8],
) -> (Vec<u8>, [u8; 16]) {
    let mut message = vec![0; text.len()];
    let buffer = InOutBuf::new(text, &mut message).unwrap();
    let tag = cipher.encrypt_inout_detached(&nonce.into(), data, buffer).unwrap();
    (message, tag.into())
}

const fn hex<const N: usize>(digits: &str) -> [u8; N] {
    let digits = digits.as_bytes();
    assert!(digits.len() == 2 * N);
    let mut bytes = [0; N];
    let mut i = 0;
    while i < 2 * N {
        let value = match digits[i] {
            digit @ b'0'..=b'9' => digit - b'0',
            digit => digit - b'a' + 10,
        };
        bytes[i / 2] = bytes[i / 2] << 4 | value;
        i += 1;
    }
    bytes
}
