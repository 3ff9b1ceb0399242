//! Key files.

use xinqiao_crypto::pkcs8::{self, KeyFileError};
use xinqiao_crypto::sm2::{Signature, SignerId};
use xinqiao_crypto::x509::issue::Role;
use xinqiao_tests::peers::Peer;

use crate::material::{Desk, certificate, key, root};

const OPENSSLS: [Peer; 3] = [Peer::Debian, Peer::Openssl, Peer::Tongsuo];

#[test]
fn plain_files_are_read_both_ways() {
    for peer in OPENSSLS {
        let (desk, key) = (Desk::new(peer), key());
        desk.write_key("ours.pem", &key);
        desk.ok("pkey -in ours.pem -pubout -outform DER -out ours.pub");
        assert!(desk.read("ours.pub").ends_with(&key.public_key().to_sec1()), "{peer:?}");
        desk.ok("genpkey -algorithm SM2 -out theirs.pem");
        let theirs = pkcs8::read_plain(&desk.read("theirs.pem")).unwrap();
        desk.ok("pkey -in theirs.pem -pubout -outform DER -out theirs.pub");
        assert!(desk.read("theirs.pub").ends_with(&theirs.public_key().to_sec1()), "{peer:?}");
        desk.ok("pkcs8 -topk8 -nocrypt -in theirs.pem -outform DER -out theirs.der");
        let der = pkcs8::read_plain(&desk.read("theirs.der")).unwrap();
        assert_eq!(der.public_key(), theirs.public_key(), "{peer:?}");
    }
}

/// OpenSSL and its relatives know HMAC-SM3 nowhere in key files, so what they encrypt is read here,
/// and what this gateway encrypts is not read there: a file for them is exported in clear.
#[test]
fn openssl_encrypts_and_we_decrypt() {
    for peer in OPENSSLS {
        let (desk, key) = (Desk::new(peer), key());
        desk.write_key("ours.pem", &key);
        for (cipher, prf) in [
            ("sm4-cbc", "hmacWithSHA256"),
            ("sm4-cbc", "hmacWithSHA1"),
            ("aes-256-cbc", "hmacWithSHA256"),
        ] {
            desk.ok(&format!(
                "pkcs8 -topk8 -in ours.pem -v2 {cipher} -v2prf {prf} -passout pass:口令 -out theirs"
            ));
            let theirs = desk.read("theirs");
            let read = pkcs8::decrypt(&theirs, "口令".as_bytes()).unwrap();
            assert_eq!(read.to_bytes(), key.to_bytes(), "{peer:?} {cipher} {prf}");
            let refused = pkcs8::decrypt(&theirs, b"other").unwrap_err();
            assert_eq!(refused, KeyFileError::Passphrase, "{peer:?}");
        }
        desk.write_encrypted_key("sm3.pem", &key, "口令");
        let (good, text) = desk.run("pkey -in sm3.pem -passin pass:口令 -noout");
        assert!(!good && text.contains("prf"), "{peer:?} has learnt HMAC-SM3: {text}");
    }
}

/// PBKDF2-HMAC-SM3 with SM4-CBC, both ways.
#[test]
fn gmssl_reads_and_writes_what_we_do() {
    let desk = Desk::new(Peer::Gmssl);
    desk.ok("sm2keygen -pass 口令 -out theirs.pem -pubout theirs.pub");
    let theirs = pkcs8::decrypt(&desk.read("theirs.pem"), "口令".as_bytes()).unwrap();
    let public = xinqiao_crypto::pem::blocks(&desk.read("theirs.pub")).unwrap();
    assert!(public[0].der.ends_with(&theirs.public_key().to_sec1()));
    let refused = pkcs8::decrypt(&desk.read("theirs.pem"), b"other").unwrap_err();
    assert_eq!(refused, KeyFileError::Passphrase);

    let (key, root_key) = (key(), key());
    let root = root(&root_key);
    let certificate = certificate("签名", Role::Signing, &key, (&root, &root_key));
    desk.write_encrypted_key("ours.pem", &key, "口令");
    desk.write("m", "报文");
    desk.ok("sm2sign -key ours.pem -pass 口令 -in m -out theirs.sig");
    let signature = Signature::from_der(&desk.read("theirs.sig")).unwrap();
    let verified = key.public_key().verify(SignerId::STANDARD, "报文".as_bytes(), &signature);
    assert_eq!(verified, Ok(()));
    desk.refused("sm2sign -key ours.pem -pass other -in m -out none");
    let ours = key.sign(SignerId::STANDARD, "报文".as_bytes()).unwrap();
    desk.write("ours.sig", ours.to_der());
    desk.write("ours.crt", certificate.to_pem());
    desk.ok("sm2verify -cert ours.crt -in m -sig ours.sig");
}
