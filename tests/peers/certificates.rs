//! Certificates, requests and revocation lists: chains of three, verified by the other side.

use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::chain::{ChainReason, Purpose, Revocation, Trust, verify};
use xinqiao_crypto::x509::crl::{Crl, Revoked};
use xinqiao_crypto::x509::issue::Role;
use xinqiao_crypto::x509::request::Request;
use xinqiao_crypto::x509::{Certificate, parse_name};
use xinqiao_tests::peers::Peer;

use crate::material::{Desk, certificate, key, now, root};

/// OpenSSL 3.0 of Debian cannot verify a chain, because it tells the id to one link only:
/// `gateway/crypto/tests/openssl.rs` goes link by link.
const CHAINS: [Peer; 2] = [Peer::Openssl, Peer::Tongsuo];

/// Root, CA and holder, all ours, as files on a desk.
struct Ours {
    ca_key: PrivateKey,
    root: Certificate,
    ca: Certificate,
    leaf: Certificate,
    leaf_key: PrivateKey,
    lists: [Crl; 2],
}

impl Ours {
    fn new(desk: &Desk) -> Self {
        let [root_key, ca_key, leaf_key] = [key(), key(), key()];
        let root = root(&root_key);
        let ca = Role::Ca { path_length: Some(0) };
        let ca = certificate("ca", ca, &ca_key, (&root, &root_key));
        let leaf = certificate("市住建局", Role::Signing, &leaf_key, (&ca, &ca_key));
        let from = leaf.not_before();
        let list = |issuer: &Certificate, key: &PrivateKey, revoked: &[Revoked]| {
            Crl::issue(issuer, key, revoked, 7, from, from.plus_days(7)).unwrap()
        };
        let lists = [list(&root, &root_key, &[]), list(&ca, &ca_key, &[])];
        for (name, one) in [("root.pem", &root), ("ca.pem", &ca), ("leaf.pem", &leaf)] {
            desk.write(name, one.to_pem());
        }
        desk.write("lists.pem", lists.each_ref().map(Crl::to_pem).concat());
        let revoked = [Revoked { serial: leaf.serial().to_vec(), at: from, reason: None }];
        let revoked = list(&ca, &ca_key, &revoked);
        desk.write("revoked.pem", [lists[0].to_pem(), revoked.to_pem()].concat());
        desk.write("revoked.der", revoked.to_der());
        Self { ca_key, root, ca, leaf, leaf_key, lists }
    }
}

#[test]
fn openssl_verifies_our_chains_and_lists() {
    for peer in CHAINS {
        let desk = Desk::new(peer);
        let ours = Ours::new(&desk);
        let chain = "verify -x509_strict -CAfile root.pem -untrusted ca.pem";
        desk.ok(&format!("{chain} leaf.pem"));
        desk.ok(&format!("{chain} -crl_check_all -CRLfile lists.pem leaf.pem"));
        let (good, text) =
            desk.run(&format!("{chain} -crl_check_all -CRLfile revoked.pem leaf.pem"));
        assert!(!good && text.contains("certificate revoked"), "{peer:?} {text}");
        desk.ok("crl -in revoked.der -inform DER -CAfile ca.pem -noout -verify");
        // A changed signature, a stranger's list, a stranger's root.
        let mut changed = ours.leaf.to_der().to_vec();
        *changed.last_mut().unwrap() ^= 1;
        desk.write("changed.der", changed);
        desk.refused(&format!("{chain} changed.der"));
        let strange = Desk::new(peer);
        drop(Ours::new(&strange));
        desk.write("strange.pem", strange.read("lists.pem"));
        desk.refused(&format!("{chain} -crl_check_all -CRLfile strange.pem leaf.pem"));
        strange.write("leaf.pem", desk.read("leaf.pem"));
        strange.refused(&format!("{chain} leaf.pem"));

        let request = Request::new(&parse_name("CN=网关").unwrap(), &ours.leaf_key).unwrap();
        desk.write("ours.csr", request.to_pem());
        desk.ok("req -in ours.csr -verify -noout");
    }
}

#[test]
fn gmssl_verifies_our_chains_and_lists() {
    let desk = Desk::new(Peer::Gmssl);
    let ours = Ours::new(&desk);
    desk.write("chain.pem", [ours.leaf.to_pem(), ours.ca.to_pem()].concat());
    desk.ok("certverify -in chain.pem -cacert root.pem");
    desk.ok("certparse -in chain.pem");
    desk.ok("crlverify -in revoked.der -cacert ca.pem");
    desk.refused("crlverify -in revoked.der -cacert root.pem");
    let mut changed = ours.leaf.to_der().to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let changed = xinqiao_crypto::pem::encode("CERTIFICATE", &changed);
    desk.write("changed.pem", [&changed[..], &ours.ca.to_pem()].concat());
    desk.refused("certverify -in changed.pem -cacert root.pem");

    // It issues from our request, under our CA, and we take it.
    let request = Request::new(&parse_name("CN=gateway,C=CN").unwrap(), &ours.leaf_key).unwrap();
    desk.write("ours.csr", request.to_pem());
    desk.ok("reqparse -in ours.csr");
    desk.write_encrypted_key("ca.key", &ours.ca_key, "1234");
    desk.ok("reqsign -in ours.csr -serial_len 12 -days 20 -cacert ca.pem -key ca.key -pass 1234 \
         -key_usage digitalSignature -out issued.pem");
    let issued = desk.certificate("issued.pem");
    assert_eq!(issued.public_key(), ours.leaf_key.public_key());
    let trust = Trust {
        anchors: std::slice::from_ref(&ours.root),
        revocation: Revocation::Required(&ours.lists),
        at: now(),
    };
    verify(&issued, Purpose::Signing, std::slice::from_ref(&ours.ca), &trust).unwrap();
}

const CONFIGURATION: &str = "[req]\ndistinguished_name=dn\n[dn]\n\
    [root]\nbasicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n\
    [ca]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
    [leaf]\nbasicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n\
    subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n\
    [own]\ndefault_ca=own\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sm3\n\
    default_crl_days=7\n";

#[test]
fn we_verify_the_chains_and_lists_of_openssl() {
    for peer in CHAINS {
        let desk = Desk::new(peer);
        desk.write("own.cnf", CONFIGURATION);
        for name in ["root", "ca", "leaf"] {
            desk.ok(&format!("genpkey -algorithm SM2 -out {name}.key"));
        }
        desk.ok("req -x509 -new -sm3 -key root.key -subj /CN=根 -utf8 -days 30 -config own.cnf \
             -extensions root -out root.pem");
        for (name, issuer) in [("ca", "root"), ("leaf", "ca")] {
            desk.ok(&format!(
                "req -new -sm3 -key {name}.key -subj /C=CN/O=市信用办/CN={name} -utf8 \
                 -config own.cnf -out {name}.csr"
            ));
            let request = Request::from_file(&desk.read(&format!("{name}.csr"))).unwrap();
            desk.ok(&format!(
                "x509 -req -sm3 -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -days 20 \
                 -extfile own.cnf -extensions {name} -out {name}.pem"
            ));
            let issued = desk.certificate(&format!("{name}.pem"));
            assert_eq!(issued.public_key(), request.public_key(), "{peer:?}");
        }
        let list = |issuer: &str| {
            desk.ok(&format!(
                "ca -config own.cnf -name own -gencrl -keyfile {issuer}.key -cert {issuer}.pem \
                 -out {issuer}.crl"
            ));
            Crl::from_file(&desk.read(&format!("{issuer}.crl"))).unwrap()
        };
        desk.write("index.txt", "");
        desk.write("number", "01");
        let good = [list("root"), list("ca")].concat();
        desk.ok("ca -config own.cnf -name own -revoke leaf.pem -keyfile ca.key -cert ca.pem");
        let revoked = [good[0].clone(), list("ca").remove(0)];
        they_stand(peer, &desk, &good, &revoked);
    }
}

#[test]
fn we_verify_the_chains_and_lists_of_gmssl() {
    let desk = Desk::new(Peer::Gmssl);
    for name in ["root", "ca", "leaf"] {
        desk.ok(&format!("sm2keygen -pass 1234 -out {name}.key -pubout {name}.pub"));
    }
    desk.ok("certgen -C CN -O 市信用办 -CN 根 -serial_len 12 -days 30 -key root.key -pass 1234 \
         -gen_authority_key_id -gen_subject_key_id -key_usage keyCertSign -key_usage cRLSign -ca \
         -path_len_constraint 2 -out root.pem");
    for (name, issuer, usage) in [
        ("ca", "root", "-key_usage keyCertSign -key_usage cRLSign -ca -path_len_constraint 0"),
        ("leaf", "ca", "-key_usage digitalSignature"),
    ] {
        desk.ok(&format!(
            "reqgen -C CN -O 市信用办 -CN {name} -key {name}.key -pass 1234 -out {name}.csr"
        ));
        let request = Request::from_file(&desk.read(&format!("{name}.csr"))).unwrap();
        // Not with -gen_subject_key_id: it would write the issuer's, and its own chain would break.
        desk.ok(&format!(
            "reqsign -in {name}.csr -serial_len 12 -days 20 -cacert {issuer}.pem -key {issuer}.key \
             -pass 1234 -gen_authority_key_id {usage} -out {name}.pem"
        ));
        let issued = desk.certificate(&format!("{name}.pem"));
        assert_eq!(issued.public_key(), request.public_key());
    }
    desk.ok("certrevoke -in leaf.pem -reason keyCompromise -out leaf.revoked");
    let list = |issuer: &str, what: &str| {
        desk.ok(&format!(
            "crlgen {what} -cacert {issuer}.pem -key {issuer}.key -pass 1234 \
             -next_update 20491231000000Z -gen_authority_key_id -crl_num 1 -out list.der"
        ));
        Crl::from_file(&desk.read("list.der")).unwrap().remove(0)
    };
    // It writes no list without an entry.
    desk.ok("certrevoke -in root.pem -reason keyCompromise -out other.revoked");
    let good = ["root", "ca"].map(|issuer| list(issuer, "-in other.revoked"));
    let revoked = [good[0].clone(), list("ca", "-in leaf.revoked")];
    they_stand(Peer::Gmssl, &desk, &good, &revoked);
}

/// A peer's three certificates verify here, with good lists and not with the others, and not when
/// changed.
fn they_stand(peer: Peer, desk: &Desk, good: &[Crl], revoked: &[Crl]) {
    let [root, ca, leaf] = ["root.pem", "ca.pem", "leaf.pem"].map(|name| desk.certificate(name));
    let reason = |leaf: &Certificate, ca: &Certificate, lists: Option<&[Crl]>| {
        let trust = Trust {
            anchors: std::slice::from_ref(&root),
            revocation: lists.map_or(Revocation::Unchecked, Revocation::Required),
            at: now(),
        };
        let path = verify(leaf, Purpose::Signing, std::slice::from_ref(ca), &trust);
        path.map(|path| path.len()).map_err(|error| error.reason)
    };
    assert_eq!(reason(&leaf, &ca, None), Ok(3), "{peer:?}");
    assert_eq!(reason(&leaf, &ca, Some(good)), Ok(3), "{peer:?}");
    assert_eq!(reason(&leaf, &ca, Some(revoked)), Err(ChainReason::Revoked), "{peer:?}");
    assert_eq!(reason(&leaf, &ca, Some(&good[..1])), Err(ChainReason::NoRevocationList));
    let mut read = 0;
    for (at, last) in [(0, &leaf), (1, &ca)] {
        let der = last.to_der();
        for byte in 0..der.len() {
            let mut changed = der.to_vec();
            changed[byte] ^= 0x01;
            let Ok(changed) = Certificate::from_der(&changed) else { continue };
            read += 1;
            let outcome = match at {
                0 => reason(&changed, &ca, None),
                _ => reason(&leaf, &changed, None),
            };
            assert!(outcome.is_err(), "{peer:?} certificate {at} byte {byte}");
        }
    }
    assert!(read > 100, "{peer:?}: {read} changed certificates were read");
}
