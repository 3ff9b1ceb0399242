//! SM2, SM3, SM4 by themselves.

use xinqiao_crypto::aead::{NonceSequence, Sm4Gcm};
use xinqiao_crypto::sm2::{CiphertextFormat, PublicKey, Signature, SignerId};
use xinqiao_crypto::sm4::Sm4Key;
use xinqiao_crypto::{DigestKey, cbc, sm3};
use xinqiao_tests::peers::{Driver, Peer, Told};

use crate::material::{ID, key, private, random};

/// Lengths around the edges of blocks and lanes.
const LENGTHS: [usize; 16] =
    [1, 15, 16, 17, 31, 32, 33, 55, 56, 63, 64, 65, 255, 1_000, 4_096, 16_389];

fn each(peers: &[Peer], mut act: impl FnMut(Peer, &mut Driver)) {
    for peer in peers {
        act(*peer, &mut peer.driver().unwrap());
    }
}

#[test]
fn signatures_verify_both_ways() {
    each(&Peer::ALL, |peer, driver| {
        for round in 0..LENGTHS.len() {
            let (key, message) = (key(), random(LENGTHS[round]));
            let public = key.public_key().to_sec1();
            let ours = key.sign(SignerId::STANDARD, &message).unwrap();
            let told = driver.ask("verify", &[&public, ID, &message, &ours.to_der()]).unwrap();
            assert_eq!(told, Told::Done(Vec::new()), "{peer:?} {round}");
            let theirs = driver.ask("sign", &[&private(&key), ID, &message]).unwrap();
            let theirs = Signature::from_der(&theirs.done().unwrap()).unwrap();
            let verified = key.public_key().verify(SignerId::STANDARD, &message, &theirs);
            assert_eq!(verified, Ok(()), "{peer:?} {round}");
        }
    });
}

/// The message, the id, the key, every byte of the signature: refused here when the peer signed,
/// refused by the peer when we did.
#[test]
fn changed_signatures_are_refused_both_ways() {
    each(&Peer::ALL, |peer, driver| {
        let (key, other) = (key(), key());
        let public = key.public_key();
        let message = b"a message";
        let standard = SignerId::STANDARD;
        let theirs = driver.ask("sign", &[&private(&key), ID, message]).unwrap().done().unwrap();
        let ours = key.sign(standard, message).unwrap().to_der();
        let here = |key: &PublicKey, id: SignerId<'_>, message: &[u8], bytes: &[u8]| {
            let signature = Signature::from_der(bytes);
            signature.and_then(|signature| key.verify(id, message, &signature)).is_ok()
        };
        assert!(here(public, standard, message, &theirs));
        assert!(!here(public, standard, b"A message", &theirs));
        assert!(!here(public, SignerId::TLS13, message, &theirs));
        assert!(!here(other.public_key(), standard, message, &theirs));
        for at in 0..theirs.len() {
            for bit in 0..8 {
                let mut changed = theirs.clone();
                changed[at] ^= 1 << bit;
                assert!(!here(public, standard, message, &changed), "{peer:?} {at}");
            }
            assert!(!here(public, standard, message, &theirs[..at]), "{peer:?} {at}");
        }
        if peer == Peer::Python {
            return;
        }
        let mut there = |key: &PublicKey, id: &[u8], message: &[u8], bytes: &[u8]| {
            let told = driver.ask("verify", &[&key.to_sec1(), id, message, bytes]).unwrap();
            told == Told::Done(Vec::new())
        };
        assert!(there(public, ID, message, &ours));
        assert!(!there(public, ID, b"A message", &ours), "{peer:?}");
        assert!(!there(public, b"other", message, &ours), "{peer:?}");
        assert!(!there(other.public_key(), ID, message, &ours), "{peer:?}");
        for at in 0..ours.len() {
            let mut changed = ours.clone();
            changed[at] ^= 1;
            assert!(!there(public, ID, message, &changed), "{peer:?} {at}");
        }
        // Another id is one that both sides mean.
        let theirs = driver.ask("sign", &[&private(&key), b"other", message]).unwrap();
        let theirs = theirs.done().unwrap();
        assert!(!here(public, standard, message, &theirs), "{peer:?}");
        assert!(here(public, SignerId::new(b"other").unwrap(), message, &theirs), "{peer:?}");
    });
}

/// What each peer sealed, changed anywhere, cut anywhere, or with a point off the curve.
#[test]
fn changed_ciphertexts_are_refused_both_ways() {
    each(&Peer::ALL, |peer, driver| {
        let key = key();
        let (seal, open, format) = if Peer::IN_C.contains(&peer) {
            ("seal", "open", CiphertextFormat::Der)
        } else {
            ("seal-c1c3c2", "open-c1c3c2", CiphertextFormat::C1C3C2)
        };
        let plain = random(16);
        let public = key.public_key().to_sec1();
        let theirs = driver.ask(seal, &[&public, &plain]).unwrap().done().unwrap();
        assert_eq!(*key.open_as(format, &theirs).unwrap(), plain, "{peer:?}");
        for at in 0..theirs.len() {
            let mut changed = theirs.clone();
            changed[at] ^= 0x10;
            assert!(key.open_as(format, &changed).is_err(), "{peer:?} {at}");
            assert!(key.open_as(format, &theirs[..at]).is_err(), "{peer:?} {at}");
        }
        assert!(key.open_as(format, &[&theirs[..], &[0]].concat()).is_err(), "{peer:?}");

        let ours = key.public_key().seal_as(format, &plain).unwrap();
        let private = private(&key);
        assert_eq!(driver.ask(open, &[&private, &ours]).unwrap(), Told::Done(plain), "{peer:?}");
        if peer == Peer::Python {
            return;
        }
        let mut taken = Vec::new();
        for at in 0..ours.len() {
            let mut changed = ours.clone();
            changed[at] ^= 0x10;
            if driver.ask(open, &[&private, &changed]).unwrap() != Told::Refused {
                taken.push(at);
            }
        }
        // The drivers of the script languages leave the 04 before the point out.
        let known: &[usize] = if peer == Peer::Node { &[0] } else { &[] };
        assert_eq!(taken, known, "{peer:?} takes changed bytes");
    });
}

/// A point off the curve is no public key, for anybody.
#[test]
fn points_off_the_curve_are_refused() {
    each(&Peer::STRICT, |peer, driver| {
        let key = key();
        let mut off = key.public_key().to_sec1();
        off[64] ^= 1;
        assert!(PublicKey::from_sec1(&off).is_err());
        if peer != Peer::Node {
            assert_eq!(driver.ask("seal", &[&off, b"0123"]).unwrap(), Told::Refused, "{peer:?}");
        }
    });
}

#[test]
fn digests_agree() {
    each(&Peer::ALL, |peer, driver| {
        for len in LENGTHS.into_iter().chain([0]) {
            let message = random(len);
            let told = driver.ask("sm3", &[&message]).unwrap();
            assert_eq!(told, Told::Done(sm3(&message).to_vec()), "{peer:?} {len}");
        }
    });
}

#[test]
fn keyed_digests_agree() {
    let peers = Peer::ALL.iter().copied().filter(|peer| *peer != Peer::Python);
    each(&peers.collect::<Vec<_>>(), |peer, driver| {
        for len in LENGTHS {
            let (secret, message) = (random(32), random(len));
            let ours = DigestKey::new(secret[..].try_into().unwrap()).digest(&message);
            let told = driver.ask("hmac", &[&secret, &message]).unwrap();
            assert_eq!(told, Told::Done(ours.to_vec()), "{peer:?} {len}");
        }
    });
}

#[test]
fn sm4_cbc_agrees_both_ways() {
    each(&Peer::ALL, |peer, driver| {
        for len in LENGTHS {
            let (secret, iv, plain) = (random(16), random(16), random(len));
            let sm4 = Sm4Key::from_slice(&secret).unwrap();
            let iv16: [u8; 16] = iv[..].try_into().unwrap();
            let ours = cbc::encrypt(&sm4, &iv16, &plain);
            let told = driver.ask("cbc-seal", &[&secret, &iv, &plain]).unwrap();
            assert_eq!(told, Told::Done(ours.clone()), "{peer:?} {len}");
            let told = driver.ask("cbc-open", &[&secret, &iv, &ours]).unwrap();
            assert_eq!(told, Told::Done(plain), "{peer:?} {len}");
        }
    });
}

#[test]
fn sm4_gcm_agrees_both_ways() {
    each(&[Peer::Openssl, Peer::Tongsuo, Peer::Gmssl], |peer, driver| {
        for len in LENGTHS.into_iter().chain([0, 100_000]) {
            let (secret, about, plain) = (random(16), random(len % 40), random(len));
            let gcm = Sm4Gcm::new(&Sm4Key::from_slice(&secret).unwrap());
            let nonce = NonceSequence::random().unwrap().next().unwrap();
            let bytes = *nonce.as_bytes();
            let ours = gcm.seal(nonce, &about, &plain).unwrap();
            let told = driver.ask("gcm-seal", &[&secret, &bytes, &about, &plain]).unwrap();
            assert_eq!(told, Told::Done(ours.clone()), "{peer:?} {len}");
            let told = driver.ask("gcm-open", &[&secret, &bytes, &about, &ours]).unwrap();
            assert_eq!(told, Told::Done(plain), "{peer:?} {len}");
            let mut changed = ours;
            *changed.last_mut().unwrap() ^= 1;
            let told = driver.ask("gcm-open", &[&secret, &bytes, &about, &changed]).unwrap();
            assert_eq!(told, Told::Refused, "{peer:?} {len}");
            assert!(gcm.open(&bytes, &about, &changed).is_err());
        }
    });
    let mut debian = Peer::Debian.driver().unwrap();
    let given: [&[u8]; 4] = [&[0; 16], &[0; 12], b"", b""];
    assert_eq!(debian.ask("gcm-seal", &given).unwrap(), Told::Unsupported);
}
