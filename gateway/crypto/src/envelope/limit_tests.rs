//! What an envelope may cost at most, and that a wrong padding is told from nothing else.

use std::io::Cursor;

use super::ber::{OCTETS, SEQUENCE, SET, context, value};
use super::*;
use crate::sm2::PrivateKey;
use crate::x509::chain::{Revocation, Trust};
use crate::x509::issue::{Role, Template, issue_self_signed};
use crate::x509::parse_name;

const AT: UnixSeconds = UnixSeconds(1_800_000_000);

fn office(role: Role) -> (PrivateKey, Certificate) {
    let key = PrivateKey::generate().unwrap();
    let template = Template::new(parse_name("CN=a").unwrap(), role, AT, 30);
    let certificate = issue_self_signed(&template, &key).unwrap();
    (key, certificate)
}

fn signed(key: &PrivateKey, certificate: &Certificate, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let signing = Signing { certificate, chain: &[], signer: key, at: AT };
    sign(&mut Cursor::new(content), &signing, &mut out).unwrap();
    out
}

fn read(bytes: &[u8], anchor: &Certificate) -> Result<usize, EnvelopeError> {
    let mut input = Cursor::new(bytes);
    let envelope = Envelope::read(&mut input)?;
    let anchors = std::slice::from_ref(anchor);
    let trust = Trust { anchors, revocation: Revocation::Unchecked, at: AT };
    Ok(envelope.verify(&mut input, None, &[], &trust)?.signers.len())
}

/// The values inside a DER value.
fn children(der: &[u8]) -> Vec<Vec<u8>> {
    let split = |der: &[u8]| {
        let (head, len) = match der[1] {
            short @ 0..=0x7f => (2, usize::from(short)),
            long => {
                let count = usize::from(long & 0x7f);
                let len =
                    der[2..2 + count].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                (2 + count, len)
            }
        };
        (head, head + len)
    };
    let (head, end) = split(der);
    let (mut rest, mut all) = (&der[head..end], Vec::new());
    while !rest.is_empty() {
        let (_, end) = split(rest);
        all.push(rest[..end].to_vec());
        rest = &rest[end..];
    }
    all
}

/// A SignedData with its parts changed: version, digests, content, certificates, signers.
fn changed(bytes: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let outer = children(bytes);
    let mut parts = children(&children(&outer[1])[0]);
    change(&mut parts);
    let inner = value(context(0), &value(SEQUENCE, &parts.concat()));
    value(SEQUENCE, &[outer[0].clone(), inner].concat())
}

#[test]
fn nobody_signs_twice_and_only_few_sign() {
    let (key, certificate) = office(Role::Signing);
    let bytes = signed(&key, &certificate, b"content");
    assert_eq!(read(&changed(&bytes, |_| {}), &certificate).unwrap(), 1);
    for times in [2, 9, 65] {
        let many = changed(&bytes, |parts| {
            let one = children(&parts[4])[0].clone();
            parts[4] = value(SET, &vec![one; times].concat());
        });
        let refused = read(&many, &certificate);
        assert!(matches!(refused, Err(EnvelopeError::Part(_))), "{times}: {refused:?}");
    }
}

#[test]
fn parts_have_little_room_together() {
    let (key, certificate) = office(Role::Signing);
    let bytes = signed(&key, &certificate, b"content");
    let with = |count: usize, size: usize| {
        changed(&bytes, |parts| {
            let filler = value(SEQUENCE, &vec![0; size]);
            let own = children(&parts[3]).concat();
            parts[3] = value(context(0), &[own, vec![filler; count].concat()].concat());
        })
    };
    assert_eq!(read(&with(20, 1_000), &certificate).unwrap(), 1, "others' certificates do no harm");
    for (count, size) in [(3, 400_000), (70, 10), (1, 2_000_000)] {
        assert!(read(&with(count, size), &certificate).is_err(), "{count} of {size}");
    }
}

#[test]
fn many_pieces_for_little_are_refused() {
    let (key, certificate) = office(Role::Signing);
    let in_pieces = |count: usize, size: usize| {
        let content = vec![7; count * size];
        changed(&signed(&key, &certificate, &content), |parts| {
            let pieces: Vec<u8> =
                content.chunks(size.max(1)).flat_map(|piece| value(OCTETS, piece)).collect();
            let pieces = if size == 0 { [OCTETS, 0].repeat(count) } else { pieces };
            let kind = children(&parts[2])[0].clone();
            let content = value(context(0), &value(OCTETS | 0x20, &pieces));
            parts[2] = value(SEQUENCE, &[kind, content].concat());
        })
    };
    assert_eq!(read(&in_pieces(1_000, 1), &certificate).unwrap(), 1);
    assert_eq!(read(&in_pieces(3_000, 1_024), &certificate).unwrap(), 1);
    for (count, size) in [(1_100, 1), (5_000, 100), (2_000, 0)] {
        assert!(read(&in_pieces(count, size), &certificate).is_err(), "{count} of {size}");
    }
}

/// A padding block that is wrong as padding, behind content that is whole: the digest of what
/// decrypts may well be right, and it is refused all the same, after the signature.
#[test]
fn a_wrong_padding_behind_right_content_is_refused() {
    let (key, certificate) = office(Role::Signing);
    let (to_key, to) = office(Role::Encryption);
    let signing = Signing { certificate: &certificate, chain: &[], signer: &key, at: AT };
    let mut bytes = Vec::new();
    let mut content = Cursor::new([9; 160]);
    let recipients = std::slice::from_ref(&to);
    sign_and_seal(&mut content, &signing, recipients, Cipher::Cbc, &mut bytes).unwrap();
    let open_all = |bytes: &[u8]| -> Result<(), EnvelopeError> {
        let mut input = Cursor::new(bytes);
        let envelope = Envelope::read(&mut input)?;
        let open = |ciphertext: &[u8]| Ok(to_key.open(ciphertext)?);
        let opened = envelope.open(&Opener { certificate: &to, open: &open })?;
        let anchors = std::slice::from_ref(&certificate);
        let trust = Trust { anchors, revocation: Revocation::Unchecked, at: AT };
        envelope.verify(&mut input, Some(&opened), &[], &trust).map(drop)
    };
    open_all(&bytes).unwrap();
    // The ciphertext is eleven blocks, the last one padding; the one before turns its plaintext.
    let len = 176;
    let begin = bytes.windows(3).position(|w| w == [0x80, 0x81, len]).unwrap() + 3;
    for at in [begin + 160, begin + 175] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert!(matches!(open_all(&wrong), Err(EnvelopeError::Refused)), "{at}");
    }
}
