//! Whom each end refuses.

use std::sync::Arc;

use der::asn1::BitStringRef;
use der::{AnyRef, Decode as _, Encode as _, Sequence};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, Error, SignatureAlgorithm,
    SignatureScheme,
};

use super::super::*;
use super::support::{Pki, days_ago, key, now, shake, shake_as, template};
use crate::sm2::{PrivateKey, SignerId};
use crate::x509::issue::{Role, Template, issue, issue_self_signed};
use crate::x509::{Certificate, UnixSeconds};

fn certificate_error(error: Option<Error>) -> CertificateError {
    match error {
        Some(Error::InvalidCertificate(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// What the client says of a server that shows `name`, by lists.
fn of_server(pki: &Pki, name: &str) -> Option<CertificateError> {
    let config = client(Suite::Gm, &pki.trust(Stale::Refuse), None).unwrap();
    let server = pki.server_as(name, Clients::Unasked);
    let failed = shake(&server, &Arc::new(config)).err()?;
    assert!(matches!(failed.server, Some(Error::AlertReceived(_))), "{failed:?}");
    Some(certificate_error(failed.client))
}

/// What the server says of a client that shows `name`, by lists.
fn of_client(pki: &Pki, name: &str) -> Option<CertificateError> {
    let server = pki.server(Clients::Required(pki.trust(Stale::Refuse)));
    let failed = shake(&server, &pki.client(Some(name))).err()?;
    assert!(matches!(failed.client, Some(Error::AlertReceived(_))), "{failed:?}");
    Some(certificate_error(failed.server))
}

/// `Ok` for good, else the error's name without its details.
fn both(pki: &Pki, name: &str) -> [String; 2] {
    [of_server(pki, name), of_client(pki, name)].map(|error| {
        let words = error.map_or("Ok".to_owned(), |error| format!("{error:?}"));
        words.split([' ', '(']).next().unwrap().to_owned()
    })
}

#[test]
fn bad_certificates_are_refused_by_both_ends() {
    let pki = Pki::new();
    assert_eq!(both(&pki, "server"), ["Ok", "Ok"]);
    let leaf = |role| template("holder", role);
    let short =
        |from: UnixSeconds, to| Template { not_before: from, not_after: to, ..leaf(Role::Signing) };
    pki.hold("old", &short(days_ago(30), days_ago(1)));
    pki.hold("new", &short(UnixSeconds(now().0 + 3600), now().plus_days(9)));
    // The issuer of an encryption certificate knows its key.
    pki.hold("encryption", &leaf(Role::Encryption));
    let stranger = Pki::new();
    let (strange, own) = (key(), key());
    let issued = issue(&leaf(Role::Signing), strange.public_key(), &stranger.ca, &stranger.ca_key);
    pki.device.add("stranger", strange, vec![issued.unwrap(), stranger.ca.clone()]);
    let alone = issue_self_signed(&leaf(Role::Signing), &own).unwrap();
    pki.device.add("alone", own, vec![alone]);
    for (name, why) in [
        ("old", "ExpiredContext"),
        ("new", "NotValidYetContext"),
        ("encryption", "InvalidPurpose"),
        // Of issuers with the same names and other keys.
        ("stranger", "BadSignature"),
        ("alone", "UnknownIssuer"),
    ] {
        assert_eq!(both(&pki, name), [why, why], "{name}");
    }
    let failed = shake_as(&pki.server(Clients::Unasked), &pki.client(None), "other.test");
    let error = certificate_error(failed.err().unwrap().client);
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
}

#[test]
fn a_revoked_certificate_is_refused_by_both_ends() {
    let pki = Pki::new();
    pki.put_lists(&[&pki.certificate("server")], days_ago(1));
    assert_eq!(both(&pki, "server"), ["Revoked", "Revoked"]);
    // Its issuer instead.
    pki.put_lists(&[&pki.ca], days_ago(1));
    assert_eq!(both(&pki, "server"), ["Revoked", "Revoked"]);
    // By another key in the right name, a list that would clear it.
    let foreign = key();
    let list = |name: &Certificate| {
        let role = Role::Ca { path_length: None };
        let template = Template::new(name.subject().clone(), role, days_ago(9), 90);
        let issuer = issue_self_signed(&template, &foreign).unwrap();
        let (from, to) = (days_ago(1), now().plus_days(9));
        crate::x509::crl::Crl::issue(&issuer, &foreign, &[], 9, from, to).unwrap().to_pem()
    };
    pki.put_file(&(list(&pki.root) + &list(&pki.ca)));
    let wrong = Some(Error::InvalidCertRevocationList(CertRevocationListError::BadSignature));
    let server = pki.server(Clients::Required(pki.trust(Stale::Refuse)));
    let failed = shake(&server, &pki.client(Some("server"))).err().unwrap();
    assert_eq!(failed.server, wrong);
}

#[test]
fn without_a_list_of_the_issuer_nobody_is_believed() {
    let pki = Pki::new();
    let both_lists = std::fs::read_to_string(pki.path("lists.pem")).unwrap();
    let (only_root, _) = both_lists.split_at(both_lists.rfind("-----BEGIN").unwrap());
    pki.put_file(only_root);
    assert_eq!(both(&pki, "server"), ["UnknownRevocationStatus"; 2]);
}

#[test]
fn new_lists_count_from_the_next_connection_and_for_resumed_ones() {
    let pki = Pki::new();
    let server = pki.server(Clients::Required(pki.trust(Stale::Refuse)));
    let config = pki.client(Some("client"));
    shake(&server, &config).unwrap().chat(1);
    pki.put_lists(&[&pki.certificate("client")], days_ago(1));
    // The client resumes, so that the certificate is not sent again.
    let failed = shake(&server, &config).err().unwrap();
    assert_eq!(failed.client, None);
    assert_eq!(certificate_error(failed.server), CertificateError::Revoked);
    // And anew.
    let failed = shake(&server, &pki.client(Some("client"))).err().unwrap();
    assert_eq!(certificate_error(failed.server), CertificateError::Revoked);
    assert_eq!(pki.codes(), ["tls.crl-renewed"]);
    // A broken file does not let it in again.
    for broken in ["", "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"] {
        pki.put_file(broken);
        let failed = shake(&server, &pki.client(Some("client"))).err().unwrap();
        assert_eq!(certificate_error(failed.server), CertificateError::Revoked);
    }
    std::fs::remove_file(pki.path("lists.pem")).unwrap();
    assert!(shake(&server, &pki.client(Some("client"))).is_err());
    assert_eq!(pki.codes()[1..], ["tls.crl-unusable"; 3]);
    // Taken off the list (a hold that has ended).
    pki.put_lists(&[], days_ago(1));
    shake(&server, &pki.client(Some("client"))).unwrap().chat(1);
    assert_eq!(pki.codes()[4..], ["tls.crl-renewed"]);
}

#[test]
fn an_outdated_list_is_told_of_or_refused() {
    let pki = Pki::new();
    pki.put_lists(&[&pki.certificate("server")], days_ago(40));
    let server = |stale| pki.server(Clients::Required(pki.trust(stale)));
    let lenient = server(Stale::Accept);
    for _ in 0..2 {
        shake(&lenient, &pki.client(Some("client"))).unwrap().chat(1);
    }
    // Once a day, not at every connection.
    assert_eq!(pki.codes(), ["tls.crl-stale"]);
    let failed = shake(&lenient, &pki.client(Some("server"))).err().unwrap();
    assert_eq!(certificate_error(failed.server), CertificateError::Revoked);
    let failed = shake(&server(Stale::Refuse), &pki.client(Some("client"))).err().unwrap();
    let error = certificate_error(failed.server);
    assert!(matches!(error, CertificateError::ExpiredRevocationListContext { .. }), "{error:?}");
}

#[test]
fn a_certificate_is_shown_if_required_and_may_be_if_optional() {
    let pki = Pki::new();
    let required = pki.server(Clients::Required(pki.plain_trust()));
    let failed = shake(&required, &pki.client(None)).err().unwrap();
    assert_eq!(failed.server, Some(Error::NoCertificatesPresented));
    let alert = AlertDescription::CertificateRequired;
    assert_eq!(failed.client, Some(Error::AlertReceived(alert)));

    let optional = pki.server(Clients::Optional(pki.plain_trust()));
    let mut without = shake(&optional, &pki.client(None)).unwrap();
    without.chat(1);
    assert!(without.server.peer_certificates().is_none());
    let with = shake(&optional, &pki.client(Some("client"))).unwrap();
    assert_eq!(with.server.peer_certificates().unwrap().len(), 2);
    // A bad one is worse than none.
    pki.hold("encryption", &template("holder", Role::Encryption));
    assert!(shake(&optional, &pki.client(Some("encryption"))).is_err());
    // Not asked, it is not shown.
    let unasked = pki.server(Clients::Unasked);
    let talk = shake(&unasked, &pki.client(Some("client"))).unwrap();
    assert!(talk.server.peer_certificates().is_none());
}

/// Signs handshakes as `id`.
#[derive(Debug, Clone)]
struct As(Arc<PrivateKey>, SignerId<'static>);

impl SigningKey for As {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SM2SIG_SM3).then(|| Box::new(self.clone()) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Unknown(8)
    }
}

impl Signer for As {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(self.1, message).unwrap().to_der())
    }

    fn scheme(&self) -> SignatureScheme {
        SM2SIG_SM3
    }
}

fn server_of(key: &Arc<PrivateKey>, id: SignerId<'static>, chain: &[Vec<u8>]) -> Server {
    let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let signing = Arc::new(As(Arc::clone(key), id));
    let gm = Identity { suite: Suite::Gm, key: CertifiedKey::new(chain, signing) };
    let (policy, clients) = (Policy::Gm, Clients::Unasked);
    let options = ServerOptions { policy, classical: None, gm: Some(gm), clients, alpn: vec![] };
    Server::new(&options).unwrap()
}

#[test]
fn a_handshake_is_signed_with_the_id_of_tls() {
    let pki = Pki::new();
    let key = Arc::new(key());
    let own = issue(&template("x", Role::Signing), key.public_key(), &pki.ca, &pki.ca_key).unwrap();
    let chain = [own.to_der().to_vec(), pki.ca.to_der().to_vec()];
    let good = server_of(&key, SignerId::TLS13, &chain);
    shake(&good, &pki.client(None)).unwrap().chat(1);
    let bad = server_of(&key, SignerId::STANDARD, &chain);
    let failed = shake(&bad, &pki.client(None)).err().unwrap();
    assert_eq!(certificate_error(failed.client), CertificateError::BadSignature);
}

/// Some CAs write NULL parameters after the signature's algorithm.
#[test]
fn null_parameters_of_the_algorithm_are_taken() {
    #[derive(Sequence)]
    struct Outer<'a> {
        tbs: AnyRef<'a>,
        algorithm: AnyRef<'a>,
        signature: BitStringRef<'a>,
    }
    const ABSENT: &[u8] = b"\x30\x0a\x06\x08\x2a\x81\x1c\xcf\x55\x01\x83\x75";
    const NULL: &[u8] = b"\x30\x0c\x06\x08\x2a\x81\x1c\xcf\x55\x01\x83\x75\x05\x00";
    let pki = Pki::new();
    let key = Arc::new(key());
    let own = issue(&template("x", Role::Signing), key.public_key(), &pki.ca, &pki.ca_key).unwrap();
    let tbs = Outer::from_der(own.to_der()).unwrap().tbs.value().to_vec();
    let at = tbs.windows(ABSENT.len()).position(|window| window == ABSENT).unwrap();
    let tbs = [&tbs[..at], NULL, &tbs[at + ABSENT.len()..]].concat();
    let tbs = AnyRef::new(der::Tag::Sequence, &tbs).unwrap();
    let signature = pki.ca_key.sign(SignerId::STANDARD, &tbs.to_der().unwrap()).unwrap().to_der();
    let whole = |signature: &[u8]| {
        let signature = BitStringRef::from_bytes(signature).unwrap();
        Outer { tbs, algorithm: AnyRef::from_der(NULL).unwrap(), signature }.to_der().unwrap()
    };
    let chain = |own: Vec<u8>| [own, pki.ca.to_der().to_vec()];
    let server = server_of(&key, SignerId::TLS13, &chain(whole(&signature)));
    shake(&server, &pki.client(None)).unwrap().chat(1);
    let other = key.sign(SignerId::STANDARD, b"something else").unwrap().to_der();
    let server = server_of(&key, SignerId::TLS13, &chain(whole(&other)));
    let failed = shake(&server, &pki.client(None)).err().unwrap();
    assert_eq!(certificate_error(failed.client), CertificateError::BadSignature);
}
