//! Digital envelopes.

use std::io::{BufReader, Cursor, Seek as _, Write};

use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::envelope::{
    Cipher, Dialect, Envelope, EnvelopeError, Kind, Opener, Pem, Signing, seal_in, sign_in,
    unwrap_pem,
};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::Certificate;
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::issue::Role;
use xinqiao_tests::peers::Peer;

use crate::material::{Desk, certificate, key, now, random, root};

/// An office of ours and its root, known to the peer at the desk.
struct Office {
    root: Certificate,
    key: PrivateKey,
    signing: Certificate,
    encryption: Certificate,
}

impl Office {
    /// One key for both certificates: what is tested here is who reads what.
    fn new(desk: &Desk) -> Self {
        let (root_key, key) = (key(), key());
        let root = root(&root_key);
        let one = |role| certificate("市住建局", role, &key, (&root, &root_key));
        let (signing, encryption) = (one(Role::Signing), one(Role::Encryption));
        desk.write("root.pem", root.to_pem());
        desk.write("signing.pem", signing.to_pem());
        desk.write("encryption.pem", encryption.to_pem());
        desk.write_key("key.pem", &key);
        desk.write_encrypted_key("encrypted.pem", &key, "1234");
        Self { root, key, signing, encryption }
    }

    fn sign(&self, dialect: Dialect, content: &[u8]) -> Vec<u8> {
        let (mut out, chain) = (Vec::new(), []);
        let signing = self.signing(&chain);
        sign_in(dialect, &mut Cursor::new(content.to_vec()), &signing, &mut out).unwrap();
        out
    }

    fn signing<'a>(&'a self, chain: &'a [Certificate]) -> Signing<'a> {
        Signing { certificate: &self.signing, chain, signer: &self.key, at: now() }
    }

    fn trust(&self) -> Trust<'_> {
        let anchors = std::slice::from_ref(&self.root);
        Trust { anchors, revocation: Revocation::Unchecked, at: now() }
    }

    /// The content of an envelope, to `out`. `known` are certificates that it may leave out.
    fn read(
        &self,
        input: &mut dyn ReadSeek,
        known: &[Certificate],
        out: &mut dyn Write,
    ) -> Result<(), EnvelopeError> {
        let envelope = Envelope::read(input)?;
        if envelope.kind() == Kind::Enveloped {
            let open = |ciphertext: &[u8]| Ok(self.key.open(ciphertext)?);
            let opener = Opener { certificate: &self.encryption, open: &open };
            let opened = envelope.open(&opener)?;
            return envelope.write_unsigned(input, &opened, out);
        }
        let verified = envelope.verify(input, None, known, &self.trust())?;
        assert_eq!(verified.signers, std::slice::from_ref(&self.signing));
        envelope.write(input, None, &verified, out)
    }

    fn read_bytes(&self, bytes: &[u8], known: &[Certificate]) -> Result<Vec<u8>, EnvelopeError> {
        let mut out = Vec::new();
        self.read(&mut Cursor::new(bytes.to_vec()), known, &mut out)?;
        Ok(out)
    }
}

/// OpenSSL 3.0 of Debian signs with an empty id inside CMS and cannot be told another.
const SIGNERS: [Peer; 2] = [Peer::Openssl, Peer::Tongsuo];

const SIGN: &str = "cms -sign -binary -nodetach -md sm3 -signer signing.pem -inkey key.pem -in m";
const VERIFY: &str = "cms -verify -binary -purpose any -CAfile root.pem";

#[test]
fn signed_data_verifies_both_ways() {
    for peer in SIGNERS {
        let desk = Desk::new(peer);
        let office = Office::new(&desk);
        for len in [1, 64, 1_000, 200_001] {
            let content = random(len);
            desk.write("m", &content);
            // By issuer and number, by key id, in pieces of unknown length, without a certificate.
            for form in ["", "-keyid", "-stream", "-nocerts", "-nosmimecap -stream"] {
                desk.ok(&format!("{SIGN} {form} -outform DER -out theirs"));
                let known = std::slice::from_ref(&office.signing);
                let known = if form == "-nocerts" { known } else { &[] };
                let read = office.read_bytes(&desk.read("theirs"), known).unwrap();
                assert!(read == content, "{peer:?} {len} {form}");
            }
            // Without attributes they sign the bare SM3, without Z: no SM2 signature of the
            // standard, and not taken for one.
            desk.ok(&format!("{SIGN} -noattr -outform DER -out theirs"));
            let error = office.read_bytes(&desk.read("theirs"), &[]).unwrap_err();
            assert_eq!(error.code(), "envelope.refused", "{peer:?}");
            desk.write("ours", office.sign(Dialect::Cms, &content));
            desk.ok(&format!("{VERIFY} -inform DER -in ours -out read"));
            assert!(desk.read("read") == content, "{peer:?} {len}");
        }
        // As text.
        desk.ok(&format!("{SIGN} -outform PEM -out theirs.pem"));
        let mut der = Vec::new();
        unwrap_pem(&mut &desk.read("theirs.pem")[..], &mut der).unwrap();
        assert!(office.read_bytes(&der, &[]).unwrap() == desk.read("m"), "{peer:?}");
        let mut text = Vec::new();
        let mut pem = Pem::new(&mut text).unwrap();
        pem.write_all(&office.sign(Dialect::Cms, b"as text")).unwrap();
        pem.finish().unwrap();
        desk.write("ours.pem", text);
        desk.ok(&format!("{VERIFY} -inform PEM -in ours.pem -out read"));
        assert_eq!(desk.read("read"), b"as text");
    }
}

/// Every byte of what the peer signed; of what we signed, content, digest and signature.
#[test]
fn changed_signed_data_is_refused_both_ways() {
    for peer in SIGNERS {
        let desk = Desk::new(peer);
        let office = Office::new(&desk);
        desk.write("m", "住建局的报文");
        desk.ok(&format!("{SIGN} -nosmimecap -outform DER -out theirs"));
        let theirs = desk.read("theirs");
        let mut taken = Vec::new();
        for at in 0..theirs.len() {
            let mut changed = theirs.clone();
            changed[at] ^= 0x01;
            if office.read_bytes(&changed, &[]).is_ok() {
                taken.push(at);
            }
            assert!(office.read_bytes(&theirs[..at], &[]).is_err(), "{peer:?} cut at {at}");
        }
        // Unsigned by design: the structure's version numbers, within their range.
        let versions: Vec<_> = taken
            .iter()
            .filter(|at| !theirs[..**at].ends_with(&[0x02, 0x01]) || theirs[**at] > 4)
            .collect();
        assert!(versions.is_empty(), "{peer:?} changed bytes are taken: {versions:?}");

        let ours = office.sign(Dialect::Cms, "住建局的报文".as_bytes());
        let content = ours.windows(6).position(|part| part == "住建".as_bytes()).unwrap();
        for at in [content, ours.len() - 1, ours.len() - 40] {
            let mut changed = ours.clone();
            changed[at] ^= 0x01;
            desk.write("ours", changed);
            desk.refused(&format!("{VERIFY} -inform DER -in ours -out read"));
        }
        // Signed by a stranger with the same names.
        let stranger = Office::new(&Desk::new(peer));
        desk.write("ours", stranger.sign(Dialect::Cms, b"stranger"));
        desk.refused(&format!("{VERIFY} -inform DER -in ours -out read"));
        let error = office.read_bytes(&stranger.sign(Dialect::Cms, b"stranger"), &[]).unwrap_err();
        assert_eq!(error.code(), "envelope.untrusted");
    }
}

#[test]
fn enveloped_data_opens_both_ways_with_gmssl() {
    let desk = Desk::new(Peer::Gmssl);
    let office = Office::new(&desk);
    for len in [1, 15, 16, 17, 1_000, 200_001] {
        let content = random(len);
        desk.write("m", &content);
        desk.ok("cmsencrypt -rcptcert encryption.pem -in m -out theirs.pem");
        let mut theirs = Vec::new();
        unwrap_pem(&mut &desk.read("theirs.pem")[..], &mut theirs).unwrap();
        assert!(office.read_bytes(&theirs, &[]).unwrap() == content, "{len}");

        let (mut text, to) = (Vec::new(), [office.encryption.clone()]);
        let mut pem = Pem::new(&mut text).unwrap();
        let input = &mut Cursor::new(content.clone());
        seal_in(Dialect::Gmssl, input, &to, Cipher::Cbc, &mut pem).unwrap();
        pem.finish().unwrap();
        desk.write("ours.pem", text);
        desk.ok(
            "cmsdecrypt -key encrypted.pem -pass 1234 -cert encryption.pem -in ours.pem -out read",
        );
        assert!(desk.read("read") == content, "{len}");
    }
}

/// A large file through OpenSSL, both ways: 100 MB in the long run.
#[test]
fn large_signed_data_streams_both_ways() {
    let long = std::env::var_os("XINQIAO_LONG").is_some();
    let size = if long { 100_000_000 } else { 2_000_000 };
    let desk = Desk::new(Peer::Openssl);
    let office = Office::new(&desk);
    let content = random(size);
    desk.write("m", &content);
    desk.ok(&format!("{SIGN} -stream -outform DER -out theirs"));
    let mut input = BufReader::new(desk.open("theirs"));
    office.read(&mut input, &[], &mut desk.open("read")).unwrap();
    assert!(desk.read("read") == content);
    let (mut out, mut input) = (desk.open("ours"), desk.open("m"));
    sign_in(Dialect::Cms, &mut input, &office.signing(&[]), &mut out).unwrap();
    assert!(out.stream_position().unwrap() > size as u64);
    desk.ok(&format!("{VERIFY} -inform DER -in ours -out back"));
    assert!(desk.read("back") == content);
}
