use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::chain::{ChainReason, Purpose, Revocation, Trust, verify};
use super::crl::{Crl, CrlReason, Revoked};
use super::issue::{Role, Template, issue, issue_self_signed};
use super::request::Request;
use super::*;
use crate::sm2::PrivateKey;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// Root → CA → holder's two certificates, and lists of both issuers.
struct Pki {
    root: Certificate,
    root_key: PrivateKey,
    ca: Certificate,
    ca_key: PrivateKey,
    signing: Certificate,
    encryption: Certificate,
    crls: Vec<Crl>,
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn template(name: &str, role: Role) -> Template {
    let subject = parse_name(&format!("CN={name},O=测试市信用办,C=CN")).unwrap();
    Template::new(subject, role, NOW, 365)
}

fn list(issuer: &Certificate, key: &PrivateKey, revoked: &[&Certificate]) -> Crl {
    let revoked: Vec<_> = revoked
        .iter()
        .map(|certificate| Revoked {
            serial: certificate.serial().to_vec(),
            at: NOW,
            reason: Some(CrlReason::KeyCompromise),
        })
        .collect();
    Crl::issue(issuer, key, &revoked, 300, NOW, NOW.plus_days(30)).unwrap()
}

impl Pki {
    fn new() -> Self {
        let (root_key, ca_key) = (key(), key());
        let root = template("root", Role::Ca { path_length: None });
        let root = issue_self_signed(&root, &root_key).unwrap();
        let ca = template("ca", Role::Ca { path_length: Some(0) });
        let ca = issue(&ca, ca_key.public_key(), &root, &root_key).unwrap();
        let leaf = |role| {
            let template = template("市住建局", role);
            issue(&template, key().public_key(), &ca, &ca_key).unwrap()
        };
        Self {
            signing: leaf(Role::Signing),
            encryption: leaf(Role::Encryption),
            crls: vec![list(&root, &root_key, &[]), list(&ca, &ca_key, &[])],
            root,
            root_key,
            ca,
            ca_key,
        }
    }

    fn reason_at(&self, leaf: &Certificate, at: UnixSeconds) -> Option<ChainReason> {
        let trust = Trust {
            anchors: std::slice::from_ref(&self.root),
            revocation: Revocation::Required(&self.crls),
            at,
        };
        reason(leaf, std::slice::from_ref(&self.ca), &trust)
    }

    fn reason(&self, leaf: &Certificate) -> Option<ChainReason> {
        self.reason_at(leaf, NOW)
    }
}

fn reason(leaf: &Certificate, others: &[Certificate], trust: &Trust<'_>) -> Option<ChainReason> {
    let outcome = verify(leaf, Purpose::Signing, others, trust);
    outcome.err().map(|error| error.reason)
}

/// Re-signs a certificate after changing what is signed.
fn resigned(certificate: &Certificate, signer: &PrivateKey, from: &[u8], to: &[u8]) -> Certificate {
    let at = certificate.tbs.windows(from.len()).position(|w| w == from);
    let mut tbs = certificate.tbs.clone();
    tbs.splice(at.unwrap()..at.unwrap() + from.len(), to.iter().copied());
    Certificate::from_der(&Signed::write(&tbs, signer).unwrap()).unwrap()
}

#[test]
fn a_chain_verifies_to_its_anchor() {
    let pki = Pki::new();
    let trust = Trust {
        anchors: std::slice::from_ref(&pki.root),
        revocation: Revocation::Required(&pki.crls),
        at: NOW,
    };
    let intermediates = [pki.encryption.clone(), pki.ca.clone()];
    let path = verify(&pki.signing, Purpose::Signing, &intermediates, &trust).unwrap();
    assert_eq!(path, [&pki.signing, &pki.ca, &pki.root]);
    let sealed = verify(&pki.encryption, Purpose::Encryption, &intermediates, &trust);
    assert_eq!(sealed.unwrap().len(), 3);
    let subject = pki.signing.subject().to_string();
    assert_eq!(subject, "CN=市住建局,O=测试市信用办,C=CN");
    for (certificate, purpose) in [
        (&pki.signing, Purpose::Encryption),
        (&pki.encryption, Purpose::Signing),
        (&pki.ca, Purpose::Signing),
    ] {
        let error = verify(certificate, purpose, &intermediates, &trust).unwrap_err();
        assert_eq!(error.reason, ChainReason::KeyUsage);
    }
}

#[test]
fn double_certificates_belong_together() {
    let pki = Pki::new();
    let (signing, encryption) = (&pki.signing, &pki.encryption);
    let pair = |a: &Certificate, b: &Certificate| DoubleCertificate::new(a.clone(), b.clone());
    assert!(pair(signing, encryption).is_some());
    assert!(pair(encryption, signing).is_none());
    assert!(pair(signing, signing).is_none());
    let other = template("其他", Role::Encryption);
    let other = issue(&other, key().public_key(), &pki.ca, &pki.ca_key).unwrap();
    assert!(pair(signing, &other).is_none());
}

#[test]
fn files_hold_one_or_many() {
    let pki = Pki::new();
    let text = format!("注释\n{}\n{}", pki.signing.to_pem(), pki.ca.to_pem());
    let both = Certificate::from_file(text.as_bytes()).unwrap();
    assert_eq!(both, [pki.signing.clone(), pki.ca.clone()]);
    let one = Certificate::from_file(pki.signing.to_der()).unwrap();
    assert_eq!(one, [pki.signing]);
    let lists = Crl::from_file(pki.crls[1].to_pem().as_bytes()).unwrap();
    assert_eq!(lists[0].to_der(), pki.crls[1].to_der());
    for wrong in [b"".as_slice(), b"text", pki.crls[0].to_pem().as_bytes()] {
        assert!(Certificate::from_file(wrong).is_err());
    }
}

#[test]
fn time_decides() {
    let pki = Pki::new();
    let end = pki.signing.not_after();
    let expiry = |days_before: u64| pki.signing.expiry(UnixSeconds(end.0 - days_before * 86_400));
    assert_eq!(pki.signing.expiry(UnixSeconds(NOW.0 - 1)), Expiry::NotYet);
    assert_eq!(expiry(61), Expiry::Fine);
    assert_eq!(expiry(60), Expiry::Soon(60));
    assert_eq!(expiry(0), Expiry::Soon(0));
    assert_eq!(pki.signing.expiry(UnixSeconds(end.0 + 1)), Expiry::Expired);
    assert_eq!(pki.reason(&pki.signing), None);
    let at = |at| pki.reason_at(&pki.signing, UnixSeconds(at));
    assert_eq!(at(NOW.0 - 1), Some(ChainReason::NotYetValid));
    assert_eq!(at(end.0 + 1), Some(ChainReason::Expired));
    assert_eq!(at(NOW.plus_days(30).0 + 1), Some(ChainReason::NoRevocationList));
    // An expired issuer ends what it issued.
    let mut short = template("root", Role::Ca { path_length: None });
    short.not_after = NOW.plus_days(1);
    let root = issue_self_signed(&short, &pki.root_key).unwrap();
    let trust = Trust { anchors: &[root], revocation: Revocation::Unchecked, at: NOW.plus_days(2) };
    let others = std::slice::from_ref(&pki.ca);
    let expired = reason(&pki.signing, others, &trust);
    assert_eq!(expired, Some(ChainReason::Expired));
    // Beyond 2049 the other time type is written.
    let mut late = template("late", Role::Signing);
    late.not_after = UnixSeconds(4_000_000_000);
    let late = issue_self_signed(&late, &key()).unwrap();
    assert_eq!(late.not_after(), UnixSeconds(4_000_000_000));
}

#[test]
fn issuers_must_be_known_and_entitled() {
    let pki = Pki::new();
    let unknown = Pki::new();
    // The same names, another key: a forged chain.
    assert_eq!(pki.reason(&unknown.signing), Some(ChainReason::UnknownIssuer));
    let trust = Trust {
        anchors: std::slice::from_ref(&pki.root),
        revocation: Revocation::Unchecked,
        at: NOW,
    };
    assert_eq!(reason(&pki.signing, &[], &trust), Some(ChainReason::UnknownIssuer));
    // A holder issues.
    let holder_key = key();
    let holder = template("holder", Role::Signing);
    let holder = issue(&holder, holder_key.public_key(), &pki.ca, &pki.ca_key).unwrap();
    let forged = template("forged", Role::Signing);
    let outcome = issue(&forged, key().public_key(), &holder, &holder_key);
    assert!(matches!(outcome, Err(IssueError::Issuer)));
    let forged = super::issue::write(
        &forged,
        key().public_key(),
        holder.subject(),
        holder_key.public_key(),
        &holder_key,
    )
    .unwrap();
    let others = [holder, pki.ca.clone()];
    assert_eq!(reason(&forged, &others, &trust), Some(ChainReason::NotCa));
    // A CA below one that allows none.
    let below_key = key();
    let below = template("below", Role::Ca { path_length: None });
    let outcome = issue(&below, below_key.public_key(), &pki.ca, &pki.ca_key);
    assert!(matches!(outcome, Err(IssueError::Issuer)));
    let below = super::issue::write(
        &below,
        below_key.public_key(),
        pki.ca.subject(),
        pki.ca_key.public_key(),
        &pki.ca_key,
    )
    .unwrap();
    let leaf = template("leaf", Role::Signing);
    let leaf = issue(&leaf, key().public_key(), &below, &below_key).unwrap();
    let others = [pki.ca.clone(), below];
    assert_eq!(reason(&leaf, &others, &trust), Some(ChainReason::PathLength));
    // Another's key under a CA's certificate.
    let outcome = issue(&template("x", Role::Signing), key().public_key(), &pki.ca, &key());
    assert!(matches!(outcome, Err(IssueError::Issuer)));
    let mut long = template("long", Role::Signing);
    long.not_after = pki.ca.not_after().plus_days(1);
    let outcome = issue(&long, key().public_key(), &pki.ca, &pki.ca_key);
    assert!(matches!(outcome, Err(IssueError::Validity)));
}

#[test]
fn pinned_certificates_are_their_own_anchor() {
    let pki = Pki::new();
    let trust = Trust {
        anchors: std::slice::from_ref(&pki.signing),
        revocation: Revocation::Unchecked,
        at: NOW,
    };
    assert_eq!(reason(&pki.signing, &[], &trust), None);
    let end = pki.signing.not_after().plus_days(1);
    let later = Trust { at: end, ..trust };
    assert_eq!(reason(&pki.signing, &[], &later), Some(ChainReason::Expired));
}

#[test]
fn pinned_certificates_are_looked_up_in_their_issuers_lists() {
    let pki = Pki::new();
    let revoked = [list(&pki.ca, &pki.ca_key, &[&pki.signing])];
    let forged = Pki::new();
    let foreign = [list(&forged.ca, &forged.ca_key, &[])];
    let cas = std::slice::from_ref(&pki.ca);
    let pinned = |others: &[Certificate], revocation| {
        let trust = Trust { anchors: std::slice::from_ref(&pki.signing), revocation, at: NOW };
        reason(&pki.signing, others, &trust)
    };
    assert_eq!(pinned(cas, Revocation::Required(&revoked)), Some(ChainReason::Revoked));
    assert_eq!(pinned(cas, Revocation::WhereKnown(&revoked)), Some(ChainReason::Revoked));
    assert_eq!(pinned(cas, Revocation::Required(&pki.crls)), None);
    // Whose key signed the list is not known, or it is another's: nobody can tell.
    let untold = Some(ChainReason::NoRevocationList);
    assert_eq!(pinned(&[], Revocation::Required(&pki.crls)), untold);
    assert_eq!(pinned(&[], Revocation::WhereKnown(&pki.crls)), untold);
    assert_eq!(pinned(cas, Revocation::Required(&foreign)), untold);
    assert_eq!(pinned(cas, Revocation::Required(&[])), untold);
    assert_eq!(pinned(&[], Revocation::WhereKnown(&[])), None);
    let lookalike = [forged.ca.clone(), pki.ca.clone()];
    assert_eq!(pinned(&lookalike, Revocation::Required(&revoked)), Some(ChainReason::Revoked));
    // Nobody but its holder could revoke it.
    let own = issue_self_signed(&template("self", Role::Signing), &key()).unwrap();
    let trust = Trust {
        anchors: std::slice::from_ref(&own),
        revocation: Revocation::Required(&pki.crls),
        at: NOW,
    };
    assert_eq!(reason(&own, &[], &trust), None);
}

#[test]
fn a_list_past_its_next_update_counts_where_that_is_allowed() {
    let mut pki = Pki::new();
    let later = NOW.plus_days(31);
    let at = |pki: &Pki, at, revocation: for<'a> fn(&'a [Crl]) -> Revocation<'a>| {
        let revocation = revocation(&pki.crls);
        let trust = Trust { anchors: std::slice::from_ref(&pki.root), revocation, at };
        reason(&pki.signing, std::slice::from_ref(&pki.ca), &trust)
    };
    let none = Some(ChainReason::NoRevocationList);
    assert_eq!(at(&pki, later, |crls| Revocation::Required(crls)), none);
    assert_eq!(at(&pki, later, |crls| Revocation::RequiredEvenStale(crls)), None);
    pki.crls[1] = list(&pki.ca, &pki.ca_key, &[&pki.signing]);
    let stale = at(&pki, later, |crls| Revocation::RequiredEvenStale(crls));
    assert_eq!(stale, Some(ChainReason::Revoked));
    pki.crls.remove(1);
    assert_eq!(at(&pki, later, |crls| Revocation::RequiredEvenStale(crls)), none);
}

#[test]
fn unknown_critical_extensions_are_refused() {
    let pki = Pki::new();
    // Subject key id (not critical) under an unknown number: fine. Key usage (critical) gone: not.
    let unknown = [6, 3, 0x55, 0x1d, 0x63];
    let harmless = resigned(&pki.signing, &pki.ca_key, &[6, 3, 0x55, 0x1d, 14], &unknown);
    assert_eq!(pki.reason(&harmless), None);
    // The basic constraints of a holder are critical and say nothing else.
    let critical = resigned(&pki.signing, &pki.ca_key, &[6, 3, 0x55, 0x1d, 19], &unknown);
    assert_eq!(pki.reason(&critical), Some(ChainReason::UnknownCriticalExtension));
    let tbs = pki.signing.tbs.clone();
    let mut twice = tbs.clone();
    let at = |last: u8| {
        let oid = [6, 3, 0x55, 0x1d, last];
        tbs.windows(5).position(|w| w == oid).unwrap() + 4
    };
    twice[at(14)] = 35;
    let twice = Signed::write(&twice, &pki.ca_key).unwrap();
    assert!(Certificate::from_der(&twice).is_err(), "an extension twice");
}

#[test]
fn revoked_certificates_are_refused() {
    let mut pki = Pki::new();
    assert_eq!(pki.reason(&pki.signing), None);
    pki.crls[1] = list(&pki.ca, &pki.ca_key, &[&pki.encryption, &pki.signing]);
    assert_eq!(pki.reason(&pki.signing), Some(ChainReason::Revoked));
    // A list that lets it off, but by another's hand, changes nothing.
    let forged = Pki::new();
    let stranger = list(&forged.ca, &forged.ca_key, &[]);
    pki.crls.push(stranger.clone());
    assert_eq!(pki.reason(&pki.signing), Some(ChainReason::Revoked));
    pki.crls[1] = stranger;
    assert_eq!(pki.reason(&pki.signing), Some(ChainReason::NoRevocationList));
    // The CA itself revoked by the root.
    pki.crls = vec![list(&pki.root, &pki.root_key, &[&pki.ca]), list(&pki.ca, &pki.ca_key, &[])];
    assert_eq!(pki.reason(&pki.signing), Some(ChainReason::Revoked));
    // The root's list is missing.
    pki.crls.remove(0);
    assert_eq!(pki.reason(&pki.signing), Some(ChainReason::NoRevocationList));
    let known = |crls| Trust {
        anchors: std::slice::from_ref(&pki.root),
        revocation: Revocation::WhereKnown(crls),
        at: NOW,
    };
    let others = std::slice::from_ref(&pki.ca);
    assert_eq!(reason(&pki.signing, others, &known(&pki.crls)), None);
    assert_eq!(reason(&pki.signing, others, &known(&[])), None);
    let stale = known(&pki.crls);
    let stale = Trust { at: NOW.plus_days(31), ..stale };
    assert_eq!(reason(&pki.signing, others, &stale), Some(ChainReason::NoRevocationList));
}

#[test]
fn every_changed_byte_is_refused() {
    let pki = Pki::new();
    for (name, good) in [("leaf", &pki.signing), ("ca", &pki.ca)] {
        let der = good.to_der();
        for (index, _) in der.iter().enumerate() {
            for mask in [1, 0x80, 0xff] {
                let mut changed = der.to_vec();
                changed[index] ^= mask;
                let Ok(changed) = Certificate::from_der(&changed) else {
                    continue;
                };
                let outcome = match name {
                    "leaf" => pki.reason(&changed),
                    _ => {
                        let trust = Trust {
                            anchors: std::slice::from_ref(&pki.root),
                            revocation: Revocation::Unchecked,
                            at: NOW,
                        };
                        reason(&pki.signing, &[changed], &trust)
                    }
                };
                assert!(outcome.is_some(), "{name} byte {index}");
            }
        }
        for length in 0..der.len() {
            assert!(Certificate::from_der(&der[..length]).is_err());
        }
    }
}

#[test]
fn every_changed_list_is_refused() {
    let mut pki = Pki::new();
    let der = list(&pki.ca, &pki.ca_key, &[&pki.signing]).to_der().to_vec();
    for (index, _) in der.iter().enumerate() {
        let mut changed = der.clone();
        changed[index] ^= 1;
        let Ok(changed) = Crl::from_file(&changed) else {
            continue;
        };
        pki.crls.truncate(1);
        pki.crls.extend(changed);
        assert!(pki.reason(&pki.signing).is_some(), "byte {index}");
        // Nor does it serve those that are not listed.
        let other = verify(
            &pki.encryption,
            Purpose::Encryption,
            std::slice::from_ref(&pki.ca),
            &Trust {
                anchors: std::slice::from_ref(&pki.root),
                revocation: Revocation::Required(&pki.crls),
                at: NOW,
            },
        );
        assert!(other.is_err(), "byte {index}");
    }
}

#[test]
fn requests_prove_the_key() {
    let pki = Pki::new();
    let holder = key();
    let name = parse_name("CN=市文旅局,C=CN").unwrap();
    let request = Request::new(&name, &holder).unwrap();
    let read = Request::from_file(request.to_pem().as_bytes()).unwrap();
    assert_eq!(read.subject(), &name);
    assert_eq!(read.public_key(), holder.public_key());
    let mut template = Template::new(read.subject().clone(), Role::Signing, NOW, 30);
    template.host_names = vec!["gateway.example".to_owned()];
    template.addresses = vec![Ipv4Addr::LOCALHOST.into()];
    let issued = issue(&template, read.public_key(), &pki.ca, &pki.ca_key).unwrap();
    assert_eq!(pki.reason(&issued), None);
    assert_eq!(issued.public_key(), holder.public_key());
    let der = request.to_der();
    for bit in 0..der.len() * 8 {
        let mut changed = der.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Request::from_file(&changed).is_err(), "bit {bit}");
    }
    template.host_names = vec!["网关".to_owned()];
    let outcome = issue(&template, read.public_key(), &pki.ca, &pki.ca_key);
    assert!(matches!(outcome, Err(IssueError::Encoding)));
}

#[test]
fn look_alike_issuers_do_not_keep_the_machine_busy() {
    // Forty certificates of one name and key: each may have issued each, in 40⁷ orders.
    let ca_key = key();
    let ca = template("same", Role::Ca { path_length: None });
    let all: Vec<_> = (0..40).map(|_| issue_self_signed(&ca, &ca_key).unwrap()).collect();
    let leaf = template("leaf", Role::Signing);
    let leaf = issue(&leaf, key().public_key(), &all[0], &ca_key).unwrap();
    let trust = Trust { anchors: &[], revocation: Revocation::Unchecked, at: NOW };
    assert_eq!(reason(&leaf, &all, &trust), Some(ChainReason::TooLong));
}

#[test]
fn names_that_are_none_are_refused() {
    for wrong in ["", "城市", "CN", "XX=1"] {
        assert_eq!(parse_name(wrong).err(), Some(X509Error::Name), "{wrong}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_panic_nowhere(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        text in any::<String>(),
    ) {
        let _ = parse_name(&text);
        for file in [bytes.as_slice(), text.as_bytes()] {
            let _ = Certificate::from_file(file);
            let _ = Crl::from_file(file);
            let _ = Request::from_file(file);
            let _ = crate::pkcs8::read_plain(file);
            let _ = crate::pkcs8::decrypt(file, b"");
        }
    }

    /// Damage inside real structures, which random bytes hardly ever reach.
    #[test]
    fn damaged_structures_panic_nowhere(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        which in 0usize..4,
    ) {
        static SAMPLES: std::sync::LazyLock<[Vec<u8>; 4]> = std::sync::LazyLock::new(|| {
            let pki = Pki::new();
            let name = parse_name("CN=a").unwrap();
            [
                pki.signing.to_der().to_vec(),
                list(&pki.ca, &pki.ca_key, &[&pki.signing]).to_der().to_vec(),
                Request::new(&name, &key()).unwrap().to_der().to_vec(),
                crate::pkcs8::encode_plain(&key()).to_vec(),
            ]
        });
        let mut bytes = SAMPLES[which].clone();
        for (index, value) in damage {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Certificate::from_der(&bytes);
        let _ = Crl::from_file(&bytes);
        let _ = Request::from_file(&bytes);
        let _ = crate::pkcs8::read_plain(&bytes);
    }
}
