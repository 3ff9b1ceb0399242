//! A target that misbehaves, on a real socket; afterwards source, gateway and target agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use xinqiao::clock::SystemClock;
use xinqiao::compose::Gateway;
use xinqiao_core::model::{TargetId, Timestamp};
use xinqiao_core::spi::Clock;
use xinqiao_store::{EventKind, ItemState, Store};
use xinqiao_tests::{Row, World, csv};

use crate::watch::{at_rest, until};

const ROWS: u64 = 40;
const HOUR: i64 = 3_600_000;

/// How one request is answered; its rows are taken unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Well,
    /// 503; nothing is taken.
    Away,
    /// Closes the connection instead of answering.
    Dropped,
    /// Nothing until released.
    Late,
    /// Every row's answer twice, and the whole answer's rows backwards.
    Twice,
    /// A row accepted and refused in one answer.
    Contradicting,
    /// Answers for rows that were never sent, and for no other.
    Foreign,
    /// For the first half only.
    TooFew,
    /// And for rows of other batches.
    TooMany,
    /// 200, and no JSON.
    Nonsense,
}

/// Takes rows by key; deduplicates; answers as told, then well.
struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// Keys, their document and how often they came.
    ledger: Mutex<BTreeMap<String, (String, u32)>>,
    answers: Mutex<VecDeque<Answer>>,
    release: Notify,
}

impl Peer {
    async fn start(answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.answers.lock().unwrap().extend(answers);
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move { serving.connection(stream).await });
            }
        });
        Self { address, shared, task }
    }

    fn ledger(&self) -> BTreeMap<String, (String, u32)> {
        self.shared.ledger.lock().unwrap().clone()
    }

    fn is_as_told(&self) -> bool {
        self.shared.answers.lock().unwrap().is_empty()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// Until the connection ends: `None`.
    async fn connection(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                if line.trim().is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            let batch: Value = serde_json::from_slice(&body).ok()?;
            let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Well);
            if answer != Answer::Away {
                self.take(&batch);
            }
            match answer {
                Answer::Dropped => return None,
                Answer::Late => self.release.notified().await,
                _ => {}
            }
            let (status, text) = match answer {
                Answer::Away => ("503 Service Unavailable", String::new()),
                Answer::Nonsense => ("200 OK", "<html>".to_owned()),
                _ => ("200 OK", results(answer, &batch)),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", text.len());
            stream.get_mut().write_all((head + &text).as_bytes()).await.ok()?;
        }
    }

    fn take(&self, batch: &Value) {
        let mut ledger = self.ledger.lock().unwrap();
        for row in batch["rows"].as_array().unwrap() {
            let document = row["fields"]["CF_WSH"].as_str().unwrap_or_default().to_owned();
            let key = row["key"].as_str().unwrap().to_owned();
            ledger.entry(key).or_insert((document, 0)).1 += 1;
        }
    }
}

fn results(answer: Answer, batch: &Value) -> String {
    let keys: Vec<&str> =
        batch["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    let well = |key: &&str| json!({ "key": key, "code": "00" });
    let bad = |key: &&str| json!({ "key": key, "code": "1001", "message": "未查询到主体" });
    let foreign = [json!({ "key": "0".repeat(64) + "-1", "code": "1001" })];
    let all = keys.iter().map(well);
    let results: Vec<Value> = match answer {
        Answer::Twice => all.clone().rev().chain(all).collect(),
        Answer::Contradicting => all.chain(keys.iter().map(bad)).collect(),
        Answer::Foreign => foreign.into(),
        Answer::TooFew => all.take(keys.len() / 2).collect(),
        Answer::TooMany => foreign.into_iter().chain(all).collect(),
        _ => all.collect(),
    };
    json!({ "code": "00", "results": results }).to_string()
}

/// The machine's clock, which somebody moves.
#[derive(Debug, Default)]
pub(crate) struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
}

struct Scene {
    peer: Peer,
    world: World,
    clock: Arc<Moved>,
    gateway: Gateway,
}

impl Scene {
    async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let peer = Peer::start(answers).await;
        let world = World::new(&format!("http://{}/rows", peer.address), "127.0.0.1:0").unwrap();
        let clock = Arc::new(Moved::default());
        let by = Arc::clone(&clock) as Arc<dyn Clock>;
        let gateway = Gateway::start(world.config().unwrap(), world.domain(), by).await.unwrap();
        Self { peer, world, clock, gateway }
    }

    fn store(&self) -> &Store {
        self.gateway.store()
    }

    fn put(&self, rows: std::ops::Range<u64>) {
        let name = format!("{}.csv", rows.start);
        self.world.put("in", &name, &csv(rows.map(Row::new))).unwrap();
    }

    fn move_clock(&self, millis: i64) {
        self.clock.0.fetch_add(millis, Ordering::Relaxed);
    }

    /// Once everything is settled: every row is at the target under one key, and nothing else.
    async fn balanced(self, rows: u64) -> BTreeMap<String, (String, u32)> {
        until("everything is settled", || {
            self.store().status().unwrap().records == rows
                && at_rest(self.store())
                && self.peer.is_as_told()
        })
        .await;
        let ledger = self.peer.ledger();
        let documents: Vec<_> = ledger.values().map(|(document, _)| document.clone()).collect();
        let once: BTreeSet<_> = documents.iter().cloned().collect();
        assert_eq!(documents.len(), once.len(), "none under two keys");
        assert_eq!(once, (0..rows).map(|n| Row::new(n).document()).collect::<BTreeSet<_>>());
        let status = self.store().status().unwrap();
        assert_eq!(status.feeds.values().map(|feed| feed.accepted).sum::<u64>(), rows);
        for target in status.targets.values() {
            let ends: Vec<_> = target.states.iter().filter(|(_, count)| **count > 0).collect();
            assert_eq!(ends, [(&ItemState::Done, &rows)]);
        }
        let Self { peer, world, gateway, .. } = self;
        let store = gateway.store().clone();
        gateway.stop().await;
        assert_eq!(store.fsck().unwrap(), Vec::<String>::new());
        drop((peer, world));
        ledger
    }
}

/// What comes of one kind of bad answer, three times in a row; the first is to all rows, the others
/// to whichever are tried again together.
async fn survives(answer: Answer) -> BTreeMap<String, (String, u32)> {
    let scene = Scene::new([answer; 3]).await;
    scene.put(0..ROWS);
    scene.balanced(ROWS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_accepts_then_drops_the_connection_gets_the_same_keys_again() {
    let ledger = survives(Answer::Dropped).await;
    assert!(ledger.values().all(|(_, came)| *came >= 2), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicate_answers_settle_once() {
    let ledger = survives_more(Answer::Twice).await;
    assert!(ledger.values().all(|(_, came)| *came == 1), "{ledger:?}");
}

/// Bad answers that settle what they answer: as many files as bad answers.
async fn survives_more(answer: Answer) -> BTreeMap<String, (String, u32)> {
    let scene = Scene::new([answer; 3]).await;
    for file in 0..3 {
        scene.put(file * ROWS..(file + 1) * ROWS);
        let come = usize::try_from((file + 1) * ROWS).unwrap();
        until("the file is at the target", || scene.peer.ledger().len() >= come).await;
    }
    scene.balanced(3 * ROWS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn contradicting_answers_settle_nothing() {
    let ledger = survives(Answer::Contradicting).await;
    assert!(ledger.values().all(|(_, came)| *came >= 2), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_for_other_records_settle_nothing() {
    let ledger = survives(Answer::Foreign).await;
    assert!(ledger.values().all(|(_, came)| *came >= 2), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_answers_leave_the_rest_to_be_sent_again() {
    let ledger = survives(Answer::TooFew).await;
    let once = ledger.values().filter(|(_, came)| *came == 1).count() as u64;
    assert_eq!(once, ROWS / 2, "half was settled the first time: {ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_answers_settle_only_what_was_sent() {
    let ledger = survives_more(Answer::TooMany).await;
    assert!(ledger.values().all(|(_, came)| *came == 1), "{ledger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_sense_settles_nothing() {
    let ledger = survives(Answer::Nonsense).await;
    assert!(ledger.values().all(|(_, came)| *came >= 2), "{ledger:?}");
}

/// The lease has ended by the clock and another worker has the rows: the late answer settles
/// nothing, and nothing is taken twice by key.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_answers_after_the_lease_ended_settles_nothing_more() {
    let scene = Scene::new([Answer::Late]).await;
    scene.put(0..ROWS);
    until("the first rows wait for their answer", || scene.peer.ledger().len() == 40).await;
    scene.move_clock(HOUR);
    // Wakes another worker, which finds the lease at its end.
    scene.put(ROWS..ROWS + 1);
    until("another worker has settled them", || {
        let status = scene.store().status().unwrap();
        status.feeds.values().map(|feed| feed.accepted).sum::<u64>() == ROWS + 1
    })
    .await;
    let before = scene.store().item(1).unwrap();
    assert!(before.history.iter().any(|event| event.what == EventKind::Expired));
    scene.peer.shared.release.notify_one();
    // What comes after is delivered; the late worker's turn has gone by.
    scene.put(ROWS + 1..ROWS + 2);
    until("the last row is settled", || {
        let status = scene.store().status().unwrap();
        status.feeds.values().map(|feed| feed.accepted).sum::<u64>() == ROWS + 2
    })
    .await;
    let after = scene.store().item(1).unwrap();
    assert_eq!((after.state, after.attempts), (ItemState::Done, 2));
    assert_eq!(after.history.len(), before.history.len(), "the stale answer left no mark");
    let ledger = scene.balanced(ROWS + 2).await;
    assert_eq!(ledger.values().filter(|(_, came)| *came == 2).count() as u64, ROWS);
}

/// Years ahead, back again, and before where it began, with rows waiting to be tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_and_doubles_nothing() {
    let scene = Scene::new([]).await;
    let jumps = [3 * 365 * 24 * HOUR, -3 * 365 * 24 * HOUR, -HOUR, HOUR];
    for (file, jump) in (0..).zip(jumps) {
        scene.peer.shared.answers.lock().unwrap().extend([Answer::Away; 4]);
        scene.put(file * ROWS..(file + 1) * ROWS);
        until("rows wait to be tried again", || {
            scene.store().next_due(&TargetId::new("platform").unwrap()).unwrap().is_some()
        })
        .await;
        scene.move_clock(jump);
        let come = usize::try_from((file + 1) * ROWS).unwrap();
        until("the rows come through", || scene.peer.ledger().len() == come).await;
    }
    scene.balanced(4 * ROWS).await;
}
