//! What the tests of both interfaces need: a store, a clock to move, a stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use xinqiao_core::model::{AgencyId, FeedId, TargetId, Timestamp};
use xinqiao_core::spi::{BoxFuture, Clock, Shutdown, ShutdownSignal};
use xinqiao_crypto::keystore::{FileKeyStore, KeyFolder, KeyUse};
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::sm3;
use xinqiao_crypto::x509::chain::{Revocation, Trust};
use xinqiao_crypto::x509::issue::{Role, Template, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};
use xinqiao_store::{StorageKey, Store, StoreOptions};

use crate::receipts::ReceiptSigner;
use crate::{FeedInfo, Feeds};

pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn on(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) struct Stop(watch::Receiver<bool>);

impl ShutdownSignal for Stop {
    fn begun(&self) -> BoxFuture<'static, ()> {
        let mut stop = self.0.clone();
        Box::pin(async move {
            let _ = stop.wait_for(|stop| *stop).await;
        })
    }

    fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

pub(crate) fn stop() -> (watch::Sender<bool>, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (sender, Arc::new(Stop(receiver)))
}

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) key: StorageKey,
    pub(crate) store: Store,
    pub(crate) feeds: Feeds,
    pub(crate) clock: Arc<Hand>,
}

impl Bench {
    /// Signs with a key of its own, whose certificate is beside the store.
    pub(crate) fn receipts(&self) -> ReceiptSigner {
        let place = self.dir.path().join("keys");
        let folder = KeyFolder::new(&place, b"passphrase").unwrap().with_iterations(1);
        let key = PrivateKey::generate().unwrap();
        let id = folder.add("gateway", KeyUse::Sign, &key).unwrap();
        let name = parse_name("CN=gateway").unwrap();
        let template = Template::new(name, Role::Signing, UnixSeconds(1_700_000_000), 3_650);
        folder.put_chain(&id, &[issue_self_signed(&template, &key).unwrap()]).unwrap();
        let keys = Arc::new(FileKeyStore::open(&place, b"passphrase").unwrap());
        ReceiptSigner::start(keys, id, Arc::clone(&self.clock) as _).unwrap()
    }

    /// What has a statement and a signature proves it.
    pub(crate) fn certified(&self, answer: &serde_json::Value) {
        let file = self.dir.path().join("keys/gateway.sign.0001.crt");
        let anchors = Certificate::from_file(&std::fs::read(file).unwrap()).unwrap();
        let at = UnixSeconds(1_800_000_000);
        let trust = Trust { anchors: &anchors, revocation: Revocation::Unchecked, at };
        let receipt = SignedReceipt {
            statement: answer["statement"].as_str().unwrap(),
            signature: answer["signature"].as_str().unwrap(),
        };
        assert_eq!(receipt::verify(&receipt, &[], &trust).unwrap(), anchors);
    }
}

/// Tokens are the feeds' ids with `-token`. `pull` has none.
pub(crate) fn bench() -> Bench {
    bench_with(StoreOptions { reserve_bytes: 0, ..StoreOptions::default() })
}

/// As [`bench`], with another store.
pub(crate) fn bench_with(options: StoreOptions) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hand(AtomicU64::new(1_800_000_000_000)));
    let key = StorageKey::held(PrivateKey::generate().unwrap());
    let at = dir.path().join("store");
    let store = Store::open(&at, options, Arc::clone(&clock) as _, key.clone()).unwrap();
    let feed = |id: &str, agency: &str, source: &str, per_minute| FeedInfo {
        id: FeedId::new(id).unwrap(),
        agency: AgencyId::new(agency).unwrap(),
        agency_name: "甲局".to_owned(),
        title: "行政处罚".to_owned(),
        dataset: "admin-penalty/2016".to_owned(),
        source: source.to_owned(),
        targets: vec![TargetId::new("platform").unwrap()],
        client_certificates: vec![],
        token: (source == "push").then(|| sm3(format!("{id}-token").as_bytes())),
        max_bytes: 100_000,
        per_minute,
        listener: None,
    };
    let feeds = Arc::new(vec![
        feed("one", "jia", "push", 0),
        feed("two", "yi", "push", 0),
        feed("few", "jia", "push", 2),
        feed("pull", "jia", "folder", 0),
    ]);
    Bench { dir, key, store, feeds, clock }
}
