//! Thousands of content keys through every peer, many of them beginning with zeros: what corrupted
//! them in libraries that take numbers for bytes.

use std::thread;

use xinqiao_crypto::sm2::CiphertextFormat::{self, C1C2C3, C1C3C2, Der};
use xinqiao_crypto::sm2::encryption::convert;
use xinqiao_tests::peers::{Peer, Told, request};

use crate::material::{key, private, random};

/// Keys through every library in C.
const MANY: usize = 10_000;
/// Through those in Python and JavaScript, where one takes up to 25 ms; all of them in the long run.
const SOME: usize = 300;

/// Every third key begins with 1 to 16 zeros, the others as they come.
fn content_keys(count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|n| {
            let mut key = random(16);
            if n % 3 == 0 {
                key.iter_mut().take(n / 3 % 16 + 1).for_each(|byte| *byte = 0);
            }
            key
        })
        .collect()
}

#[test]
fn content_keys_survive_every_peer() {
    let long = std::env::var_os("XINQIAO_LONG").is_some();
    let count = |peer: Peer| if long || Peer::IN_C.contains(&peer) { MANY } else { SOME };
    let key = key();
    let plain = content_keys(MANY);
    let sealed: Vec<_> = plain.iter().map(|one| key.public_key().seal(one).unwrap()).collect();
    thread::scope(|scope| {
        for peer in Peer::ALL {
            let (key, plain, sealed) = (&key, &plain[..count(peer)], &sealed[..count(peer)]);
            scope.spawn(move || {
                let formats: &[(CiphertextFormat, &str)] = match peer {
                    Peer::Python | Peer::Node => &[(C1C3C2, "-c1c3c2"), (C1C2C3, "-c1c2c3")],
                    _ => &[(Der, "")],
                };
                let mut driver = peer.driver().unwrap();
                let format = |n: usize| formats[n % formats.len()];
                let (private, public) = (private(key), key.public_key().to_sec1());

                let requests = sealed.iter().enumerate().map(|(n, ours)| {
                    let (format, name) = format(n);
                    let ours = convert(ours, Der, format).unwrap();
                    request(&format!("open{name}"), &[&private, &ours])
                });
                let opened = driver.ask_all(requests.collect()).unwrap();
                assert_eq!(opened.len(), plain.len());
                for (n, (told, plain)) in opened.into_iter().zip(plain).enumerate() {
                    assert_eq!(told, Told::Done(plain.clone()), "{peer:?} opens {n}");
                }

                let requests = plain
                    .iter()
                    .enumerate()
                    .map(|(n, plain)| request(&format!("seal{}", format(n).1), &[&public, plain]));
                let theirs = driver.ask_all(requests.collect()).unwrap();
                for (n, (told, plain)) in theirs.into_iter().zip(plain).enumerate() {
                    let opened = key.open_as(format(n).0, &told.done().unwrap());
                    assert_eq!(opened.unwrap().as_slice(), plain, "{peer:?} seals {n}");
                }
            });
        }
    });
}
