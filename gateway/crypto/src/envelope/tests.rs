use std::io::Cursor;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::sm2::PrivateKey;
use crate::x509::chain::{Revocation, Trust};
use crate::x509::issue::{Role, Template, issue, issue_self_signed};
use crate::x509::parse_name;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// Two offices under one root, each with a pair of keys.
struct Peers {
    root: Certificate,
    a: Office,
    b: Office,
}

struct Office {
    signing_key: PrivateKey,
    signing: Certificate,
    encryption_key: PrivateKey,
    encryption: Certificate,
}

impl Peers {
    fn new() -> Self {
        let root_key = PrivateKey::generate().unwrap();
        let template = |name: &str, role| {
            let name = parse_name(&format!("CN={name},O=测试市信用办,C=CN")).unwrap();
            Template::new(name, role, NOW, 365)
        };
        let root = template("root", Role::Ca { path_length: None });
        let root = issue_self_signed(&root, &root_key).unwrap();
        let office = |name| {
            let leaf = |role| {
                let key = PrivateKey::generate().unwrap();
                let template = template(name, role);
                let certificate = issue(&template, key.public_key(), &root, &root_key).unwrap();
                (key, certificate)
            };
            let (signing_key, signing) = leaf(Role::Signing);
            let (encryption_key, encryption) = leaf(Role::Encryption);
            Office { signing_key, signing, encryption_key, encryption }
        };
        let (a, b) = (office("市住建局"), office("市信用平台"));
        Self { root, a, b }
    }

    fn trust(&self) -> Trust<'_> {
        let anchors = std::slice::from_ref(&self.root);
        Trust { anchors, revocation: Revocation::Unchecked, at: NOW }
    }

    /// Writes an envelope of `kind` from a to `to`.
    fn write(&self, kind: Kind, cipher: Cipher, to: &[Certificate], content: &[u8]) -> Vec<u8> {
        let signing = Signing {
            certificate: &self.a.signing,
            chain: &[],
            signer: &self.a.signing_key,
            at: NOW,
        };
        let (content, mut out) = (&mut Cursor::new(content.to_vec()), Vec::new());
        match kind {
            Kind::Signed => sign(content, &signing, &mut out),
            Kind::Enveloped => seal(content, to, cipher, &mut out),
            Kind::SignedAndEnveloped => sign_and_seal(content, &signing, to, cipher, &mut out),
        }
        .unwrap();
        out
    }

    /// Reads an envelope as `by`, to its content.
    fn read(&self, by: &Office, bytes: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let input = &mut Cursor::new(bytes.to_vec());
        let envelope = Envelope::read(input)?;
        let open = |ciphertext: &[u8]| Ok(by.encryption_key.open(ciphertext)?);
        let opener = Opener { certificate: &by.encryption, open: &open };
        let mut out = Vec::new();
        match envelope.kind() {
            Kind::Enveloped => {
                let opened = envelope.open(&opener)?;
                envelope.write_unsigned(input, &opened, &mut out)?;
            }
            kind => {
                let sealed = kind == Kind::SignedAndEnveloped;
                let opened = sealed.then(|| envelope.open(&opener)).transpose()?;
                let verified = envelope.verify(input, opened.as_ref(), &[], &self.trust())?;
                assert_eq!(verified.signers, std::slice::from_ref(&self.a.signing));
                envelope.write(input, opened.as_ref(), &verified, &mut out)?;
            }
        }
        Ok(out)
    }
}

const KINDS: [(Kind, Cipher); 5] = [
    (Kind::Signed, Cipher::Cbc),
    (Kind::Enveloped, Cipher::Cbc),
    (Kind::Enveloped, Cipher::Gcm),
    (Kind::SignedAndEnveloped, Cipher::Cbc),
    (Kind::SignedAndEnveloped, Cipher::Gcm),
];

#[test]
fn every_kind_comes_back_at_every_length() {
    let peers = Peers::new();
    let to = [peers.a.encryption.clone(), peers.b.encryption.clone()];
    let list = [16_383, 16_384, 16_385, 262_143, 262_144, 262_145, 278_528, 524_288];
    let lengths = [0, 1, 15, 16, 17, 127, 128, 65_535, 65_536, 65_537, 131_072, 200_001];
    for len in lengths.into_iter().chain(list) {
        let content: Vec<u8> = (0..len).map(|n: u32| (n % 251) as u8).collect();
        for (kind, cipher) in KINDS {
            let bytes = peers.write(kind, cipher, &to, &content);
            for by in [&peers.a, &peers.b] {
                assert_eq!(peers.read(by, &bytes).unwrap(), content, "{kind:?} {cipher:?} {len}");
            }
        }
    }
}

/// In CBC without a signature a change is not noticed; nothing else lets one through.
#[test]
fn every_changed_byte_is_refused() {
    let peers = Peers::new();
    for (kind, cipher) in KINDS {
        let to = [peers.b.encryption.clone()];
        let bytes = peers.write(kind, cipher, &to, b"0123456789abcdefghij");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x01;
            let read = peers.read(&peers.b, &changed);
            if (kind, cipher) == (Kind::Enveloped, Cipher::Cbc) {
                continue;
            }
            // The standard does not protect the name of the key's encryption: one that is accepted
            // may stand for another.
            let named = bytes[..=at].ends_with(&[0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d, 3]);
            assert!(read.is_err() || named, "{kind:?} {cipher:?} byte {at}");
        }
        for len in 0..bytes.len() {
            assert!(peers.read(&peers.b, &bytes[..len]).is_err(), "{kind:?} cut at {len}");
        }
        let more = [&bytes[..], &[0]].concat();
        assert!(peers.read(&peers.b, &more).is_err(), "{kind:?} with a byte behind it");
    }
}

#[test]
fn chunks_cannot_be_moved_left_out_or_added() {
    let peers = Peers::new();
    let to = [peers.b.encryption.clone()];
    let content = vec![7; 3 * 65_536];
    let bytes = peers.write(Kind::Enveloped, Cipher::Gcm, &to, &content);
    let whole = 65_536 + 16;
    let body = bytes.len() - 3 * whole;
    let chunk = |n: usize| bytes[body + n * whole..body + (n + 1) * whole].to_vec();
    let head = bytes[..body].to_vec();
    let with = |chunks: &[usize]| {
        let mut all = head.clone();
        chunks.iter().for_each(|n| all.extend(chunk(*n)));
        all
    };
    assert_eq!(peers.read(&peers.b, &with(&[0, 1, 2])).unwrap(), content);
    for order in [[1, 0, 2], [0, 2, 1], [0, 0, 2], [0, 1, 1]] {
        let read = peers.read(&peers.b, &with(&order));
        assert!(matches!(read, Err(EnvelopeError::Refused)), "{order:?}");
    }
}

/// A DER value: its tag and its parts, or its bytes if it is primitive.
#[derive(Clone, PartialEq)]
enum Tree {
    Of(u8, Vec<Tree>),
    Leaf(u8, Vec<u8>),
}

impl Tree {
    fn all(mut bytes: &[u8]) -> Vec<Self> {
        let mut all = Vec::new();
        while let [tag, first, rest @ ..] = bytes {
            let count = usize::from(if *first < 0x80 { 0 } else { first & 0x7f });
            let long = rest[..count].iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            let len = if count == 0 { usize::from(*first) } else { long };
            let (value, behind) = rest[count..].split_at(len);
            all.push(match tag & 0x20 {
                0 => Self::Leaf(*tag, value.to_vec()),
                _ => Self::Of(*tag, Self::all(value)),
            });
            bytes = behind;
        }
        all
    }

    fn der(&self) -> Vec<u8> {
        match self {
            Self::Of(tag, parts) => {
                let parts: Vec<Vec<u8>> = parts.iter().map(Self::der).collect();
                ber::value(*tag, &parts.concat())
            }
            Self::Leaf(tag, value) => ber::value(*tag, value),
        }
    }

    /// The parts at the end of `path`.
    fn at(&mut self, path: &[usize]) -> &mut Self {
        path.iter().fold(self, |tree, part| match tree {
            Self::Of(_, parts) => &mut parts[*part],
            Self::Leaf(..) => panic!("no parts"),
        })
    }
}

/// Where SignedAndEnvelopedData has the digest algorithm, the signers, and theirs.
const DIGESTS: [usize; 4] = [1, 0, 2, 0];
const SIGNERS: [usize; 3] = [1, 0, 5];
const SIGNER_DIGEST: [usize; 5] = [1, 0, 5, 0, 2];

#[test]
fn the_digest_of_one_profile_is_refused_in_the_other() {
    let peers = Peers::new();
    let to = [peers.b.encryption.clone()];
    let made = [Cipher::Gcm, Cipher::Cbc].map(|cipher| {
        let bytes = peers.write(Kind::SignedAndEnveloped, cipher, &to, b"content");
        Tree::all(&bytes).remove(0)
    });
    let [mut gcm, mut cbc] = made;
    assert!(gcm.at(&DIGESTS) != cbc.at(&DIGESTS));
    let paths: [&[&[usize]]; 3] = [&[&DIGESTS], &[&SIGNER_DIGEST], &[&DIGESTS, &SIGNER_DIGEST]];
    for (own, mut other) in [(gcm.clone(), cbc.clone()), (cbc, gcm)] {
        assert_eq!(peers.read(&peers.b, &own.der()).unwrap(), b"content");
        for paths in paths {
            let mut mixed = own.clone();
            paths.iter().for_each(|path| *mixed.at(path) = other.at(path).clone());
            let read = peers.read(&peers.b, &mixed.der());
            assert!(matches!(read, Err(EnvelopeError::Algorithm(_))), "{read:?}");
        }
    }
}

/// The list of a content, being bytes, can itself be a content, whose SM3 is the content's digest.
#[test]
fn the_signature_of_a_list_is_none_of_its_bytes_nor_the_other_way_round() {
    let peers = Peers::new();
    let to = [peers.b.encryption.clone()];
    let content = b"content";
    let length = (content.len() as u64).to_be_bytes();
    let list = [b"xinqiao sm3-list 16384\n", &crate::sm3(content)[..], &length].concat();
    let made = [(Cipher::Gcm, &content[..]), (Cipher::Cbc, &list)].map(|(cipher, content)| {
        let bytes = peers.write(Kind::SignedAndEnveloped, cipher, &to, content);
        Tree::all(&bytes).remove(0)
    });
    let [mut gcm, mut cbc] = made;
    let digests = [gcm.at(&SIGNER_DIGEST).clone(), cbc.at(&SIGNER_DIGEST).clone()];
    let (of_gcm, of_cbc) = (gcm.at(&SIGNERS).clone(), cbc.at(&SIGNERS).clone());
    for (mut envelope, signers, digest) in [(gcm, of_cbc, &digests[0]), (cbc, of_gcm, &digests[1])]
    {
        assert!(peers.read(&peers.b, &envelope.der()).is_ok());
        *envelope.at(&SIGNERS) = signers;
        *envelope.at(&SIGNER_DIGEST) = digest.clone();
        let read = peers.read(&peers.b, &envelope.der());
        assert!(matches!(read, Err(EnvelopeError::Refused)), "{read:?}");
    }
}

/// A signature without attributes says nothing of a list.
#[test]
fn a_list_needs_signed_attributes() {
    let peers = Peers::new();
    let to = [peers.b.encryption.clone()];
    let bytes = peers.write(Kind::SignedAndEnveloped, Cipher::Gcm, &to, b"content");
    let mut bare = Tree::all(&bytes).remove(0);
    let e = peers.a.signing.public_key().prehash(crate::sm2::SignerId::STANDARD, b"content");
    let signature = peers.a.signing_key.sign_prehash(&e).unwrap().to_der();
    let Tree::Of(_, signer) = bare.at(&[1, 0, 5, 0]) else { panic!("no signer") };
    signer.remove(3);
    *signer.last_mut().unwrap() = Tree::Leaf(ber::OCTETS, signature);
    let read = peers.read(&peers.b, &bare.der());
    assert!(matches!(read, Err(EnvelopeError::Part(_))), "{read:?}");
}

#[test]
fn only_the_recipients_open_and_only_for_sealing() {
    let peers = Peers::new();
    let bytes = peers.write(
        Kind::Enveloped,
        Cipher::Gcm,
        std::slice::from_ref(&peers.b.encryption),
        b"content",
    );
    assert!(matches!(peers.read(&peers.a, &bytes), Err(EnvelopeError::NotForUs)));
    // Another key behind the right certificate.
    let input = &mut Cursor::new(bytes);
    let envelope = Envelope::read(input).unwrap();
    let open = |ciphertext: &[u8]| Ok(peers.a.encryption_key.open(ciphertext)?);
    let opener = Opener { certificate: &peers.b.encryption, open: &open };
    assert!(matches!(envelope.open(&opener), Err(EnvelopeError::Refused)));

    let signing = std::slice::from_ref(&peers.b.signing);
    let sealed = seal(&mut Cursor::new(vec![1]), signing, Cipher::Gcm, &mut Vec::new());
    assert!(matches!(sealed, Err(EnvelopeError::NotForSealing)));
}

#[test]
fn a_stranger_s_signature_is_not_trusted() {
    let (peers, strangers) = (Peers::new(), Peers::new());
    let bytes = strangers.write(Kind::Signed, Cipher::Cbc, &[], b"content");
    let read = peers.read(&peers.b, &bytes);
    assert!(matches!(read, Err(EnvelopeError::Untrusted(_))), "{read:?}");
    let expired = Trust { at: NOW.plus_days(366), ..peers.trust() };
    let bytes = peers.write(Kind::Signed, Cipher::Cbc, &[], b"content");
    let input = &mut Cursor::new(bytes);
    let verified = Envelope::read(input).unwrap().verify(input, None, &[], &expired);
    assert!(matches!(verified, Err(EnvelopeError::Untrusted(_))));
}

#[test]
fn pem_of_any_size_comes_back() {
    for len in [0, 1, 47, 48, 49, 100_000] {
        let bytes: Vec<u8> = (0..len).map(|n: u32| (n % 253) as u8).collect();
        let mut text = Vec::new();
        let mut pem = Pem::new(&mut text).unwrap();
        std::io::Write::write_all(&mut pem, &bytes).unwrap();
        pem.finish().unwrap();
        let mut back = Vec::new();
        unwrap_pem(&mut Cursor::new(&text), &mut back).unwrap();
        assert_eq!(back, bytes);
        let windows = String::from_utf8(text.clone()).unwrap().replace('\n', "\r\n");
        back.clear();
        unwrap_pem(&mut Cursor::new(windows), &mut back).unwrap();
        assert_eq!(back, bytes);
        let cut = &text[..text.len() - 10];
        assert!(unwrap_pem(&mut Cursor::new(cut), &mut Vec::new()).is_err(), "{len}");
    }
}

/// What we seal, Debian's OpenSSL takes apart: it knows neither the object identifiers nor SM2
/// recipients, but reads the structure, and its SM4 opens the content with the key we opened.
#[test]
fn another_implementation_reads_the_structure() {
    let peers = Peers::new();
    let folder = tempfile::tempdir().unwrap();
    let to = [peers.b.encryption.clone()];
    for (kind, cipher) in KINDS {
        let path = folder.path().join("envelope.der");
        std::fs::write(&path, peers.write(kind, cipher, &to, &[5; 100_000])).unwrap();
        let output = Command::new("openssl")
            .args(["asn1parse", "-inform", "DER", "-in"])
            .arg(&path)
            .output()
            .expect("openssl is installed: tests/run sees to it");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{kind:?}: {text}");
        assert!(text.contains("1.2.156.10197.6.1.4.2."), "{kind:?}: {text}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_panic_nowhere(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Envelope::read(&mut Cursor::new(bytes.clone()));
        let _ = unwrap_pem(&mut Cursor::new(bytes), &mut Vec::new());
    }

    #[test]
    fn damaged_envelopes_panic_nowhere(
        at in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        kind in 0usize..5,
    ) {
        thread_local!(static MADE: (Peers, Vec<Vec<u8>>) = {
            let peers = Peers::new();
            let to = [peers.b.encryption.clone()];
            let write = |(kind, cipher)| peers.write(kind, cipher, &to, &[9; 300]);
            let made = KINDS.map(write).to_vec();
            (peers, made)
        });
        MADE.with(|(peers, made)| {
            let mut bytes = made[kind].clone();
            for (at, byte) in at {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = peers.read(&peers.b, &bytes);
        });
    }
}
