mod support;
mod trusting;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::crypto::SupportedKxGroup as _;
use rustls::{AlertDescription, CipherSuite, ClientConfig, Error, HandshakeKind, PeerMisbehaved};

use super::provider::{CurveSm2, provider};
use super::*;
use support::{Failed, Pki, classical, feed, shake};

const AES: u16 = 0x1301;

fn offer(suites: &[u16], schemes: &[u16], groups: &[u16]) -> Offer {
    Offer { suites: suites.to_vec(), schemes: schemes.to_vec(), groups: groups.to_vec() }
}

#[test]
fn national_needs_all_three_and_comes_first() {
    let gm = || offer(&[0xc6], &[0x708], &[41]);
    let classical = || offer(&[0x1a1a, AES], &[0x403], &[29]);
    let both = || offer(&[AES, 0xc6], &[0x403, 0x708], &[29, 41]);
    let part = || offer(&[AES, 0xc6], &[0x403, 0x708], &[29]);
    let downgrade = Err("tls.downgrade-refused");
    let nothing = Err("tls.nothing-in-common");
    for (offer, by_classical, by_gm, by_either) in [
        (gm(), nothing, Ok(Suite::Gm), Ok(Suite::Gm)),
        (classical(), Ok(Suite::Classical), downgrade, Ok(Suite::Classical)),
        (both(), Ok(Suite::Classical), Ok(Suite::Gm), Ok(Suite::Gm)),
        (part(), Ok(Suite::Classical), downgrade, Ok(Suite::Classical)),
        (offer(&[0xc6], &[0x708], &[]), nothing, nothing, nothing),
        (Offer::default(), nothing, nothing, nothing),
    ] {
        for (policy, expected) in
            [(Policy::Classical, by_classical), (Policy::Gm, by_gm), (Policy::Either, by_either)]
        {
            let chosen = choose(offer.clone(), policy).map_err(|refusal| refusal.code());
            assert_eq!(chosen, expected, "{policy:?} {offer:?}");
        }
    }
}

#[test]
fn a_refusal_is_one_short_line() {
    let offer = offer(&[AES; 5000], &[], &[29]);
    let refusal = choose(offer, Policy::Gm).unwrap_err();
    let line = refusal.to_string();
    assert!(line.contains("国密") && line.contains("1301 …;签名算法为 无;曲线为 001d"), "{line}");
    assert!(line.len() < 500);
}

#[test]
fn both_ends_are_known_and_keys_stay_in_the_device() {
    let pki = Pki::new();
    let server = pki.server(Clients::Required(pki.trust(Stale::Refuse)));
    let identity = pki.identity("client");
    let config = client(Suite::Gm, &pki.trust(Stale::Refuse), Some(&identity)).unwrap();
    let mut talk = shake(&server, &Arc::new(config)).unwrap();
    assert_eq!(talk.server.negotiated_cipher_suite().unwrap().suite(), SM4_GCM_SM3);
    assert_eq!(talk.server.negotiated_key_exchange_group().unwrap().name(), CURVE_SM2);
    assert_eq!(talk.server.handshake_kind(), Some(HandshakeKind::Full));
    let shown = peer_fingerprint(talk.server.peer_certificates().unwrap());
    assert_eq!(shown, Some(crate::sm3(pki.certificate("client").to_der())));
    assert_eq!(pki.device.signed.load(Ordering::Relaxed), 2);
    for length in [1, 15, 16, 17, 1000, 40_000] {
        talk.chat(length);
    }
    talk.client.refresh_traffic_keys().unwrap();
    talk.server.refresh_traffic_keys().unwrap();
    talk.chat(1000);
    assert_eq!(pki.codes(), [""; 0]);
}

#[test]
fn a_session_is_resumed_without_signing() {
    let pki = Pki::new();
    let server = pki.server(Clients::Required(pki.trust(Stale::Refuse)));
    let config = pki.client(Some("client"));
    shake(&server, &config).unwrap().chat(1);
    let mut again = shake(&server, &config).unwrap();
    again.chat(1000);
    assert_eq!(again.server.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(pki.device.signed.load(Ordering::Relaxed), 2);
}

#[test]
fn a_client_that_guesses_another_group_is_asked_again() {
    let pki = Pki::new();
    let server = pki.server(Clients::Unasked);
    let mut provider = provider();
    provider.kx_groups = vec![rustls::crypto::ring::kx_group::X25519, &CurveSm2];
    let provider = Arc::new(provider);
    let verifier = pki.plain_trust().servers(Suite::Gm, &provider).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let mut talk = shake(&server, &Arc::new(config)).unwrap();
    talk.chat(100);
    let kind = talk.server.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::FullWithHelloRetryRequest));
}

#[test]
fn every_policy_meets_every_client() {
    let pki = Pki::new();
    let classical = classical(pki.folder.path());
    let lists = Lists { files: vec![], stale: Stale::Accept, notify: Arc::new(|_| {}) };
    let trust = Trust::read(&[pki.path("ca.pem")], lists).unwrap();
    let clients = [
        Arc::new(client(Suite::Classical, &trust, None).unwrap()),
        Arc::new(client(Suite::Gm, &pki.plain_trust(), None).unwrap()),
    ];
    let aes = CipherSuite::TLS13_AES_256_GCM_SHA384;
    for (policy, outcomes) in [
        (Policy::Classical, [Ok(aes), Err("tls.nothing-in-common")]),
        (Policy::Gm, [Err("tls.downgrade-refused"), Ok(SM4_GCM_SM3)]),
        (Policy::Either, [Ok(aes), Ok(SM4_GCM_SM3)]),
    ] {
        let server = Server::new(&ServerOptions {
            policy,
            classical: (policy != Policy::Gm).then(|| classical.clone()),
            gm: (policy != Policy::Classical).then(|| pki.identity("server")),
            clients: Clients::Unasked,
            alpn: Vec::new(),
        })
        .unwrap();
        for (client, expected) in clients.iter().zip(outcomes) {
            match (shake(&server, client), expected) {
                (Ok(mut talk), Ok(suite)) => {
                    talk.chat(100);
                    assert_eq!(talk.client.negotiated_cipher_suite().unwrap().suite(), suite);
                }
                (Err(failed), Err(code)) => {
                    let Failed { client, refusal, .. } = *failed;
                    let alert = AlertDescription::InsufficientSecurity;
                    assert_eq!(client, Some(Error::AlertReceived(alert)));
                    assert_eq!(refusal.unwrap().code(), code);
                }
                (outcome, expected) => {
                    panic!("{policy:?} wanted {expected:?}: {:?}", outcome.err())
                }
            }
        }
    }
}

#[test]
fn an_identity_is_given_for_what_is_used_and_only_for_that() {
    let pki = Pki::new();
    let classical = classical(pki.folder.path());
    let gm = pki.identity("server");
    let server = |policy, classical: Option<&Identity>, gm: Option<&Identity>| {
        let (classical, gm) = (classical.cloned(), gm.cloned());
        let clients = Clients::Unasked;
        Server::new(&ServerOptions { policy, classical, gm, clients, alpn: vec![] }).err()
    };
    let (c, g) = (Some(&classical), Some(&gm));
    assert!(matches!(server(Policy::Either, c, None), Some(TlsError::NoIdentity(Suite::Gm))));
    assert!(matches!(server(Policy::Gm, c, g), Some(TlsError::UnusedIdentity(Suite::Classical))));
    // In each other's place.
    assert!(matches!(server(Policy::Either, g, c), Some(TlsError::NoIdentity(_))));
    let wrong = client(Suite::Gm, &pki.plain_trust(), c);
    assert!(matches!(wrong, Err(TlsError::UnusedIdentity(Suite::Classical))));
    let none = Identity::from_store(&pki.store(), "nobody");
    assert!(matches!(none, Err(TlsError::NoKey(_))));
    pki.device.add("bare", support::key(), vec![]);
    let bare = Identity::from_store(&pki.store(), "bare");
    assert!(matches!(bare, Err(TlsError::NoCertificate(_))));
}

#[test]
fn a_changed_record_ends_the_connection() {
    let pki = Pki::new();
    let server = pki.server(Clients::Unasked);
    for place in [5, 20, 60, 121] {
        let mut talk = shake(&server, &pki.client(None)).unwrap();
        talk.client.writer().write_all(&[7; 100]).unwrap();
        let mut record = Vec::new();
        talk.client.write_tls(&mut record).unwrap();
        assert_eq!(record.len(), 5 + 100 + 1 + 16);
        record[place] ^= 1;
        assert_eq!(feed(&mut talk.server, &record), Err(Error::DecryptError));
        let mut alert = Vec::new();
        talk.server.write_tls(&mut alert).unwrap();
        let told = feed(&mut talk.client, &alert);
        assert_eq!(told, Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
    }
    // Shorter than a tag, and a record twice.
    let mut talk = shake(&server, &pki.client(None)).unwrap();
    let short = [&[23, 3, 3, 0, 15][..], &[0; 15]].concat();
    assert_eq!(feed(&mut talk.server, &short), Err(Error::DecryptError));
    let mut talk = shake(&server, &pki.client(None)).unwrap();
    talk.client.writer().write_all(b"once").unwrap();
    let mut record = Vec::new();
    talk.client.write_tls(&mut record).unwrap();
    assert_eq!(feed(&mut talk.server, &record), Ok(()));
    assert_eq!(feed(&mut talk.server, &record), Err(Error::DecryptError));
}

#[test]
fn shares_that_are_no_points_are_refused() {
    let share = || CurveSm2.start().unwrap().pub_key().to_vec();
    let mut off = share();
    off[64] ^= 1;
    let compressed = [&[2], &share()[1..33]].concat();
    let long = [share(), vec![0]].concat();
    for bad in [off, compressed, vec![0], vec![], [&[4][..], &[0; 64]].concat(), long] {
        let refused = CurveSm2.start().unwrap().complete(&bad).err();
        assert_eq!(refused, Some(PeerMisbehaved::InvalidKeyShare.into()));
    }
    let (left, right) = (CurveSm2.start().unwrap(), CurveSm2.start().unwrap());
    let (of_left, of_right) = (left.pub_key().to_vec(), right.pub_key().to_vec());
    let (a, b) = (left.complete(&of_right).unwrap(), right.complete(&of_left).unwrap());
    assert_eq!((a.secret_bytes(), a.secret_bytes().len()), (b.secret_bytes(), 32));
}
