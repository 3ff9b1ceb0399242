//! Tests of the store as its users see it.

mod durability;
mod feedback;
mod held;
mod model;
mod reports;
mod rest;
mod semantics;

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use time::macros::date;
use xinqiao_core::deadline::{Deadlines, LateOwner};
use xinqiao_core::fault::Classify as _;
use xinqiao_core::model::{
    AgencyId, DatasetId, FeedId, Operation, RecordKey, Subject, TargetId, Timestamp,
};
use xinqiao_core::spi::{Arrival, Clock, Receipt};
use xinqiao_crypto::sm2::PrivateKey;

use crate::*;

/// 2026-11-23T12:00 in Shanghai.
const NOON: u64 = 1_795_406_400_000;
const DAY: u64 = 86_400_000;
const LEASE: u64 = 60_000;

/// A clock that tests move.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl Hand {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 4 << 20, quick_repair: true, reserve_bytes: 0 }
}

/// A store in a directory of its own, with its clock and one runtime.
struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<Hand>,
    key: StorageKey,
    store: Option<Store>,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(Hand(AtomicU64::new(NOON)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let key = StorageKey::held(PrivateKey::generate().unwrap());
        let mut bench = Self { dir, clock, key, store: None, runtime };
        bench.reopen();
        bench
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.open(self.key.clone()).unwrap());
    }

    /// Opens what lies on the disk at this moment in another place, as a machine that was switched
    /// off finds it; nothing of the former process is closed before.
    fn crash(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        copy_all(self.dir.path(), copy.path());
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let store = Store::open(copy.path(), options(), clock, self.key.clone()).unwrap();
        self.store = Some(store);
        self.dir = copy;
    }

    fn open(&self, key: StorageKey) -> Result<Store, OpenError> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Store::open(self.dir.path(), options(), clock, key)
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn receive(&self, name: &str, body: &[u8]) -> Receipt {
        self.run(self.store().receive(&feed(name), &agency(), arrival(body), 1 << 30)).unwrap()
    }

    /// Commits one row in a message of its own; the message and what became of the row.
    fn put(&self, body: &str, version: NewVersion) -> (u64, RowOutcome) {
        let message = self.receive("f-1", body.as_bytes()).message;
        let done = self.run(self.store().commit_rows(vec![chunk(message, vec![entry(version)])]));
        (message, done.unwrap()[0].rows[0])
    }

    fn lease(&self) -> Vec<Leased> {
        self.run(self.store().lease(&target("platform"), 10, LEASE)).unwrap()
    }

    fn settle(&self, token: LeaseToken, end: SettledAs) -> bool {
        self.run(self.store().settle(vec![Settlement { token, end }])).unwrap()[0]
    }

    fn act(&self, id: u64, act: QueueAct) -> Result<(), StoreError> {
        let (who, why) = ("operator".to_owned(), "试验".to_owned());
        self.run(self.store().act(vec![id], act, who, why)).unwrap().remove(0)
    }

    fn counters(&self) -> FeedCounters {
        self.store().status().unwrap().feeds[&feed("f-1")].clone()
    }

    fn bytes(&self, message: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.store().payload(message).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Where a long payload lies.
    fn blob(&self, message: u64) -> std::path::PathBuf {
        let shared = &self.store().shared;
        let head = intake::message(&shared.snapshot().unwrap().message, message).unwrap();
        shared.layout.blob(&shared.message_name(&head.digest))
    }

    #[track_caller]
    fn sound(&self) {
        assert_eq!(self.store().fsck().unwrap(), Vec::<String>::new());
    }
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&copy).unwrap();
            copy_all(&entry.path(), &copy);
        } else {
            std::fs::copy(entry.path(), copy).unwrap();
        }
    }
}

fn arrival(body: &[u8]) -> Arrival {
    let chunks: Vec<_> = body.chunks(40_000).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
    Arrival {
        name: Some("a.csv".to_owned()),
        body: Box::pin(futures_util::stream::iter(chunks)),
        cursor: Some(body.get(..8).unwrap_or(body).to_vec()),
    }
}

fn feed(name: &str) -> FeedId {
    FeedId::new(name).unwrap()
}

fn agency() -> AgencyId {
    AgencyId::new("scjg").unwrap()
}

fn target(name: &str) -> TargetId {
    TargetId::new(name).unwrap()
}

fn key(document: &str) -> RecordKey {
    RecordKey {
        dataset: DatasetId::new("admin-penalty").unwrap(),
        agency: "虚构局".to_owned(),
        document: document.to_owned(),
        decided: date!(2026 - 11 - 20),
        subject: Subject::Person("不存在的号码".to_owned()),
    }
}

/// A version of record `document` whose content is `text`, for the targets named.
fn version(document: &str, text: &str, operation: Operation, targets: &[&str]) -> NewVersion {
    NewVersion {
        key: key(document),
        generation: 2021,
        operation,
        fields: vec![
            (Arc::from("CF_WSH"), document.to_owned()),
            (Arc::from("CF_NR"), text.to_owned()),
        ],
        mapping: [1; 8],
        deadlines: Deadlines {
            decided: date!(2026 - 11 - 20),
            pledged: date!(2026 - 11 - 27),
            statutory: date!(2026 - 12 - 01),
            provisional: false,
        },
        targets: targets.iter().map(|name| target(name)).collect(),
    }
}

fn upsert(document: &str, text: &str) -> NewVersion {
    version(document, text, Operation::Upsert, &["platform"])
}

fn withdraw(document: &str, text: &str) -> NewVersion {
    version(document, text, Operation::Withdraw, &["platform"])
}

fn entry(version: NewVersion) -> RowEntry {
    let document = Some(version.key.document.clone());
    RowEntry {
        row: 2,
        document,
        findings: Vec::new(),
        record: Some(version),
        sent_back: None,
        legacy: crate::Legacy::None,
    }
}

fn chunk(message: u64, rows: Vec<RowEntry>) -> RowChunk {
    let finish = Some(MessageEnd { error: None, notes: Vec::new() });
    RowChunk { message, first: 0, rows, finish }
}

fn refused() -> SettledAs {
    SettledAs::Refused { code: "1001".to_owned(), message: "主体信息不匹配".to_owned() }
}
