//! Digital envelopes and receipts, through a whole gateway in process: an agency that signs and
//! seals what it pushes, a platform that takes nothing but envelopes.

use std::sync::Arc;

use serde_json::Value;
use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::party::Party;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::config;
use xinqiao::keys::Keys;
use xinqiao_core::model::Timestamp;
use xinqiao_crypto::keystore::KeyUse;
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::x509::Certificate;
use xinqiao_tests::{Client, PUSH, Row, World, ndjson};

use crate::watch::{at_rest, messages, until};

/// 2026-11-23 12:00 in Asia/Shanghai.
const START: Timestamp = Timestamp(1_795_406_400_000);

struct Scene {
    platform: Platform,
    world: World,
    agency: Party,
    keys: Keys,
    gateway: Gateway,
}

impl Scene {
    /// `policy` is the push feed's `envelope`.
    async fn new(policy: &str) -> Self {
        let platform = Platform::start(PlatformOptions::default()).await.unwrap();
        let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
        let (agency, city) =
            (Party::new("agency", START).unwrap(), Party::new("city", START).unwrap());
        let write = |name: &str, text: String| std::fs::write(world.path().join(name), text);
        write("agency.crt", agency.signing().to_pem()).unwrap();
        write("city.crt", city.encryption().to_pem()).unwrap();
        let change = |name: &str, from: &str, to: &str| {
            let text = std::fs::read_to_string(world.path().join(name)).unwrap();
            assert!(text.contains(from), "{name} has {from}");
            std::fs::write(world.path().join(name), text.replace(from, to)).unwrap();
        };
        change("gateway.yaml", "    retry-base", "    seal: { to: city.crt }\n    retry-base");
        change("feeds.yaml", "{ name: 样例局 }", "{ name: 样例局, certificates: agency.crt }");
        let feed = format!("  {PUSH}:\n");
        change("feeds.yaml", &feed, &format!("{feed}    envelope: {policy}\n"));
        let keys = Keys::open(&config::keys(world.path()).unwrap()).unwrap();
        let signer = own(&keys, KeyUse::Sign);
        platform.takes_envelopes(Box::new(move |sealed| city.open(sealed, &signer).ok()));
        let clock = Arc::new(ShiftedClock::starting_at(START));
        let gateway = Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap();
        Self { platform, world, agency, keys, gateway }
    }

    async fn push(&self, body: &[u8]) -> Value {
        let address = self.gateway.push_address().unwrap();
        let answer = Client::connect(address).await.unwrap().push(body).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    /// Pushes, waits, and gives the code the message ended with.
    async fn ended(&self, body: &[u8]) -> Option<String> {
        let receipt = self.push(body).await;
        let id = receipt["message"].as_u64().unwrap();
        until("the message has ended", || {
            self.gateway.store().message(id).unwrap().end.is_some() && at_rest(self.gateway.store())
        })
        .await;
        let end = self.gateway.store().message(id).unwrap().end.unwrap();
        end.error.map(|(code, _)| code)
    }

    fn seal(&self, content: &[u8]) -> Vec<u8> {
        self.agency.seal(content, &own(&self.keys, KeyUse::Encrypt)).unwrap()
    }

    async fn end(self) {
        let store = self.gateway.store().clone();
        self.gateway.stop().await;
        assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
        drop(self.world);
    }
}

fn own(keys: &Keys, usage: KeyUse) -> Certificate {
    keys.certified(usage).unwrap().chain.remove(0)
}

fn rows(numbers: std::ops::Range<u64>) -> Vec<u8> {
    ndjson(numbers.map(Row::new)).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agency_seals_reaches_the_platform_sealed() {
    let scene = Scene::new("required").await;
    assert_eq!(scene.ended(&scene.seal(&rows(0..40))).await, None);
    assert_eq!(scene.platform.ledger().len(), 40);
    // Larger than what the store keeps beside the record, and as PEM.
    let mut pem = Vec::new();
    let mut writer = xinqiao_crypto::envelope::Pem::new(&mut pem).unwrap();
    std::io::Write::write_all(&mut writer, &scene.seal(&rows(100..900))).unwrap();
    writer.finish().unwrap();
    assert_eq!(scene.ended(&pem).await, None);
    assert_eq!(scene.platform.ledger().len(), 840);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_is_refused_with_its_reason() {
    let scene = Scene::new("required").await;
    let sealed = scene.seal(&rows(0..3));
    let stranger = Party::new("stranger", START).unwrap();
    let to = own(&scene.keys, KeyUse::Encrypt);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("plain", rows(0..3), "envelope.required"),
        ("signed only", scene.agency.sign(&rows(0..3)).unwrap(), "envelope.required"),
        (
            "sealed to another",
            scene.agency.seal(&rows(0..3), stranger.encryption()).unwrap(),
            "envelope.not-for-us",
        ),
        ("by a stranger", stranger.seal(&rows(0..3), &to).unwrap(), "envelope.untrusted"),
        ("cut", sealed[..sealed.len() - 1].to_vec(), "envelope.malformed"),
    ];
    for (what, body, code) in cases {
        assert_eq!(scene.ended(&body).await.as_deref(), Some(code), "{what}");
    }
    // Sealed without a signature, whatever is inside: nothing is decrypted for it.
    let mut unsigned = Vec::new();
    let to = std::slice::from_ref(&to);
    for content in [scene.agency.sign(&rows(0..3)).unwrap(), rows(0..3)] {
        unsigned.clear();
        let mut content = std::io::Cursor::new(content);
        xinqiao_crypto::envelope::seal(&mut content, to, Default::default(), &mut unsigned)
            .unwrap();
        assert_eq!(scene.ended(&unsigned).await.as_deref(), Some("envelope.required"));
    }
    // However the last block comes out, the answer is the same: it tells nothing of the padding.
    for guess in 1..=24 {
        let mut changed = sealed.clone();
        let at = changed.len() - 800;
        changed[at] ^= guess;
        assert_eq!(scene.ended(&changed).await.as_deref(), Some("envelope.refused"), "{guess}");
    }
    // A byte of the content, of the sealed key, of the signature.
    for at in [sealed.len() / 2, 200, sealed.len() - 4] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(scene.ended(&changed).await.is_some(), "byte {at}");
    }
    assert_eq!(scene.platform.ledger().len(), 0);
    scene.end().await;
}

/// A disk that fails is no fault of the message: it is looked at again, and nobody is told a thing.
#[tokio::test(flavor = "multi_thread")]
async fn our_own_fault_is_no_verdict() {
    let scene = Scene::new("required").await;
    // The first file of the spool is the message; where its content would go something is in the way.
    std::fs::write(scene.world.data().join("spool/1"), "").unwrap();
    assert_eq!(scene.ended(&scene.seal(&rows(0..2_500))).await, None);
    assert_eq!(scene.platform.ledger().len(), 2_500);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_takes_both_and_off_takes_none() {
    let scene = Scene::new("allowed").await;
    assert_eq!(scene.ended(&rows(0..2)).await, None);
    assert_eq!(scene.ended(&scene.agency.sign(&rows(2..4)).unwrap()).await, None);
    assert_eq!(scene.ended(&scene.seal(&rows(4..6))).await, None);
    assert_eq!(scene.platform.ledger().len(), 6);
    scene.end().await;

    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let clock = Arc::new(ShiftedClock::starting_at(START));
    let gateway = Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap();
    let agency = Party::new("agency", START).unwrap();
    let address = gateway.push_address().unwrap();
    let signed = agency.sign(&rows(0..2)).unwrap();
    Client::connect(address).await.unwrap().push(&signed).await.unwrap();
    until("the message has ended", || messages(gateway.store()).iter().all(|m| m.end.is_some()))
        .await;
    let end = messages(gateway.store())[0].end.clone().unwrap();
    assert_eq!(end.error.unwrap().0, "envelope.unexpected");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_prove_arrival_and_outcome() {
    let scene = Scene::new("allowed").await;
    let anchors = [own(&scene.keys, KeyUse::Sign)];
    let proves = |answer: &Value, what: &str| {
        let statement = answer["statement"].as_str().unwrap();
        let signature = answer["signature"].as_str().unwrap();
        let trust = xinqiao_crypto::x509::chain::Trust {
            anchors: &anchors,
            revocation: xinqiao_crypto::x509::chain::Revocation::Unchecked,
            at: xinqiao::keys::seconds(START),
        };
        let receipt = SignedReceipt { statement, signature };
        assert_eq!(receipt::verify(&receipt, &[], &trust).unwrap(), anchors);
        assert!(statement.contains(what), "{statement}");
        let changed = statement.replace("message=", "message=9");
        let receipt = SignedReceipt { statement: &changed, signature };
        assert!(receipt::verify(&receipt, &[], &trust).is_err());
    };
    let body = rows(0..10);
    let receipt = scene.push(&body).await;
    proves(&receipt, &format!("sm3={}", xinqiao_crypto::hex(&xinqiao_crypto::sm3(&body))));
    until("everything is delivered", || {
        scene.platform.ledger().len() == 10 && at_rest(scene.gateway.store())
    })
    .await;
    let address = scene.gateway.push_address().unwrap();
    let path = format!("/api/v1/messages/{}/receipt", receipt["message"]);
    let answer = Client::connect(address).await.unwrap().get(&path).await.unwrap().body;
    proves(&answer["arrival"], "arrival message=");
    proves(&answer["outcome"], "rows=10 rejected=0 accepted=10 refused=0 pending=0 end=ok");

    // What could not be read is certified as such.
    let stranger = Party::new("stranger 411702199001029913", START).unwrap();
    let body = stranger.seal(&rows(0..3), &own(&scene.keys, KeyUse::Encrypt)).unwrap();
    let receipt = scene.push(&body).await;
    until("the message has ended", || {
        messages(scene.gateway.store()).iter().all(|message| message.end.is_some())
    })
    .await;
    let path = format!("/api/v1/messages/{}", receipt["message"]);
    let mut client = Client::connect(address).await.unwrap();
    let answer = client.get(&format!("{path}/receipt")).await.unwrap().body;
    proves(
        &answer["outcome"],
        "rows=0 rejected=0 accepted=0 refused=0 pending=0 end=envelope.untrusted",
    );
    // Nor does it say whose certificate it was.
    let answer = client.get(&path).await.unwrap().body.to_string();
    assert!(answer.contains("envelope.untrusted") && !answer.contains("stranger"), "{answer}");
    scene.end().await;
}
