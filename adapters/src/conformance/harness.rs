//! What every source must do, whatever it speaks: run over fixtures, here against what can be had in
//! process, and by the peers' tests against servers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::Value;
use tokio::sync::watch;
use xinqiao_core::fault::{Blame, Classify, Retry};
use xinqiao_core::model::{FeedId, Timestamp};
use xinqiao_core::spi::{
    Arrival, BoxFuture, Clock, Fault, Inbox, Receipt, ShutdownSignal, SourceContext,
};

use super::TestSecrets;
use crate::sources::find;

/// 2026-11-23; every question moves it on by a second, so nothing has to be waited for.
struct TestClock(AtomicU64);
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1000, Ordering::Relaxed))
    }
}

struct TestShutdown(watch::Sender<bool>);
impl ShutdownSignal for TestShutdown {
    fn begun(&self) -> BoxFuture<'static, ()> {
        let mut signal = self.0.subscribe();
        Box::pin(async move {
            let _ = signal.wait_for(|begun| *begun).await;
        })
    }
    fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("测试故障")]
struct TestFault;
impl Classify for TestFault {
    fn code(&self) -> &'static str {
        "test.fault"
    }
    fn blame(&self) -> Blame {
        Blame::Operator
    }
    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

/// Whether a source has let go of a message's original.
pub type Released = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Keeps what it takes. The first `failing` calls read the message and then fail.
#[derive(Default)]
pub struct TestInbox {
    /// How many calls still fail.
    pub failing: AtomicUsize,
    /// The position committed last.
    pub cursor: Mutex<Option<Vec<u8>>>,
    /// The messages' texts.
    pub held: Mutex<Vec<String>>,
    /// What was reported.
    pub faults: Mutex<Vec<String>>,
    /// Messages whose original was let go before they were taken.
    pub violations: Mutex<Vec<String>>,
    /// How to tell.
    pub released: Mutex<Option<Released>>,
    /// The next call never returns: as if the process had died in it.
    pub dying: Mutex<Option<Dying>>,
    /// Only counts a message's bytes, and holds the count for its text.
    pieces_only: bool,
    /// Bytes of the largest piece.
    pub largest: Mutex<usize>,
    /// How often it has died.
    pub died: AtomicUsize,
    /// Rounds that went well, as reported.
    pub rounds: AtomicUsize,
    /// What was reported of them.
    pub told: Mutex<Vec<String>>,
    changed: watch::Sender<usize>,
}

/// When a process dies: the message not yet durable, or durable and nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dying {
    /// Before the message is durable.
    Before,
    /// After it is durable, before the receipt.
    After,
}

impl Inbox for TestInbox {
    fn receive(&self, arrival: Arrival) -> BoxFuture<'_, Result<Receipt, Fault>> {
        Box::pin(async move {
            let (mut body, mut bytes, mut count) = (arrival.body, Vec::new(), 0_u64);
            loop {
                let Ok(piece) = body.try_next().await else {
                    return Err(Box::new(TestFault) as Fault);
                };
                let Some(piece) = piece else { break };
                let mut largest = self.largest.lock().unwrap();
                *largest = piece.len().max(*largest);
                count += piece.len() as u64;
                if !self.pieces_only {
                    bytes.extend_from_slice(&piece);
                }
            }
            let text = match self.pieces_only {
                true => count.to_string(),
                false => String::from_utf8(bytes).unwrap(),
            };
            if let Some(released) = self.released.lock().unwrap().as_ref()
                && released(&text)
            {
                self.violations.lock().unwrap().push(text.clone());
            }
            let failing = self.failing.load(Ordering::Relaxed);
            if failing > 0 {
                self.failing.store(failing - 1, Ordering::Relaxed);
                return Err(Box::new(TestFault) as Fault);
            }
            let dying = self.dying.lock().unwrap().take();
            if dying == Some(Dying::Before) {
                self.die().await;
            }
            if let Some(cursor) = arrival.cursor {
                *self.cursor.lock().unwrap() = Some(cursor);
            }
            self.held.lock().unwrap().push(text);
            self.changed.send_modify(|count| *count += 1);
            if dying == Some(Dying::After) {
                self.die().await;
            }
            Ok(Receipt {
                message: 1,
                feed: FeedId::new("f").unwrap(),
                received: Timestamp(0),
                digest: String::new(),
                bytes: 0,
                duplicate: false,
            })
        })
    }
    fn cursor(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>> {
        Box::pin(async { Ok(self.cursor.lock().unwrap().clone()) })
    }
    fn progress(&self, outcome: Result<&str, &dyn Classify>) {
        match outcome {
            Ok(text) => {
                self.rounds.fetch_add(1, Ordering::Relaxed);
                self.told.lock().unwrap().push(text.to_owned());
            }
            Err(fault) => self.faults.lock().unwrap().push(format!("{}: {fault}", fault.code())),
        }
        self.changed.send_modify(|count| *count += 1);
    }
}

impl TestInbox {
    /// One that holds how many bytes a message has, instead of them.
    #[cfg(test)]
    pub(super) fn counting() -> Self {
        Self { pieces_only: true, ..Self::default() }
    }

    async fn die(&self) {
        self.died.fetch_add(1, Ordering::Relaxed);
        self.changed.send_modify(|count| *count += 1);
        std::future::pending::<()>().await;
    }

    /// What was taken, sorted.
    pub fn held(&self) -> Vec<String> {
        let mut held = self.held.lock().unwrap().clone();
        held.sort();
        held
    }
    /// Waits until `what` holds, at most a minute.
    ///
    /// # Panics
    /// If it does not come to hold.
    pub async fn until(&self, what: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = changed.wait_for(|_| what(self));
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok();
        assert!(waited, "held {:?}, faults {:?}", self.held(), self.faults.lock().unwrap());
    }
}

fn start(
    kind: &str,
    params: &Value,
    inbox: &Arc<TestInbox>,
) -> (Arc<TestShutdown>, tokio::task::JoinHandle<()>) {
    let source =
        find(kind).unwrap().build(params, &TestSecrets).unwrap_or_else(|p| panic!("{p:?}"));
    let shutdown = Arc::new(TestShutdown(watch::Sender::new(false)));
    let running = tokio::spawn(source.run(SourceContext {
        inbox: Arc::clone(inbox) as Arc<dyn Inbox>,
        clock: Arc::new(TestClock(AtomicU64::new(1_795_392_000_000))),
        shutdown: Arc::clone(&shutdown) as _,
    }));
    (shutdown, running)
}

/// Runs a source until `what` holds, stops it, and asserts that it ends promptly.
///
/// # Panics
/// If it does not, or the parameters are wrong.
pub async fn run(
    kind: &str,
    params: &Value,
    inbox: &Arc<TestInbox>,
    what: impl Fn(&TestInbox) -> bool,
) {
    let (shutdown, running) = start(kind, params, inbox);
    inbox.until(what).await;
    shutdown.0.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("ends promptly").unwrap();
}

/// One place to fetch from. `offer` makes a message available.
pub struct Fixture {
    /// The kind of source.
    pub kind: &'static str,
    /// Its parameters.
    pub params: Value,
    /// Makes a message with this text available.
    pub offer: Box<dyn Fn(&str) + Send + Sync>,
    /// Whether the source has let go of the original.
    pub released: Released,
    /// Whether the source lets go of originals at all.
    pub lets_go: bool,
    /// What must live as long.
    pub keep: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// Nothing is lost when taking fails, let go before the receipt, or taken again after a restart.
///
/// # Panics
/// If it is.
pub async fn nothing_is_lost_let_go_early_or_sent_again(fixtures: Vec<Fixture>) {
    for fixture in fixtures {
        let inbox = Arc::new(TestInbox { failing: AtomicUsize::new(3), ..TestInbox::default() });
        if fixture.lets_go {
            *inbox.released.lock().unwrap() = Some(Arc::clone(&fixture.released));
        }
        (fixture.offer)("a");
        (fixture.offer)("b");
        run(fixture.kind, &fixture.params, &inbox, |inbox| inbox.held().len() == 2).await;
        (fixture.offer)("c");
        run(fixture.kind, &fixture.params, &inbox, |inbox| inbox.held().len() >= 3).await;
        let held = inbox.held();
        let what = &fixture.params;
        assert_eq!(held.len(), 3, "{what} {held:?}");
        for (text, held) in ["a", "b", "c"].iter().zip(&held) {
            assert!(held.contains(text), "{what} {held:?}");
        }
        assert_eq!(inbox.violations.lock().unwrap().len(), 0, "{what}");
        assert!(inbox.faults.lock().unwrap().iter().any(|f| f.starts_with("test.fault")), "{what}");
    }
}

/// Killed in every message, before it is durable and after: each is taken once. A source that has
/// nothing more to take says so.
///
/// # Panics
/// If it is not so.
pub async fn nothing_is_lost_or_doubled_by_dying(fixtures: Vec<Fixture>) {
    const TEXTS: [&str; 4] = ["w1", "x2", "y3", "z4"];
    for fixture in fixtures {
        let inbox = Arc::new(TestInbox::default());
        let what = &fixture.params;
        for text in TEXTS {
            (fixture.offer)(text);
            for dying in [Dying::Before, Dying::After] {
                *inbox.dying.lock().unwrap() = Some(dying);
                let died = inbox.died.load(Ordering::Relaxed);
                let (_shutdown, running) = start(fixture.kind, &fixture.params, &inbox);
                inbox.until(|inbox| inbox.died.load(Ordering::Relaxed) > died).await;
                running.abort();
                assert!(running.await.unwrap_err().is_cancelled(), "{what}");
            }
        }
        let rounds = inbox.rounds.load(Ordering::Relaxed);
        let done = |inbox: &TestInbox| inbox.rounds.load(Ordering::Relaxed) > rounds + 2;
        run(fixture.kind, &fixture.params, &inbox, done).await;
        let held = inbox.held();
        for text in TEXTS {
            let times = held.iter().filter(|held| held.contains(text)).count();
            assert_eq!(times, 1, "{text}: {what} {held:?}");
        }
    }
}

/// What exceeds `max-bytes` is told, and nothing of it is kept; what fits is.
///
/// # Panics
/// If it is not so.
pub async fn what_is_too_large_is_told_and_not_taken(fixtures: Vec<Fixture>) {
    for fixture in fixtures {
        let (inbox, mut params) = (Arc::new(TestInbox::default()), fixture.params.clone());
        params["max-bytes"] = Value::from(2_000);
        (fixture.offer)("fits");
        run(fixture.kind, &params, &inbox, |inbox| inbox.held().len() == 1).await;
        (fixture.offer)(&format!("large-and-named-so-that{}", "x".repeat(4_000)));
        let told = |inbox: &TestInbox| !inbox.faults.lock().unwrap().is_empty();
        run(fixture.kind, &params, &inbox, told).await;
        let faults = inbox.faults.lock().unwrap().clone();
        assert!(faults[0].starts_with("source.too-large: "), "{params} {faults:?}");
        assert!(!faults[0].is_ascii() && !faults[0].contains("xxx"), "{params} {faults:?}");
        let held = inbox.held();
        assert!(held.len() == 1 && held[0].contains("fits"), "{params} {held:?}");
        // Where the limit allows it, it is taken.
        run(fixture.kind, &fixture.params, &inbox, |inbox| inbox.held().len() == 2).await;
    }
}

/// A round's report says in Chinese how much there was, and holds no content and no secret; one
/// without anything new says so.
///
/// # Panics
/// If it is not so.
pub async fn progress_tells_how_much_and_nothing_of_it(fixtures: Vec<Fixture>) {
    for fixture in fixtures {
        let (inbox, what) = (Arc::new(TestInbox::default()), &fixture.params);
        (fixture.offer)("CONTENT1");
        (fixture.offer)("CONTENT2");
        let quiet = |inbox: &TestInbox| {
            let told = inbox.told.lock().unwrap();
            inbox.held().len() == 2 && told.last().is_some_and(|text| !text.contains(NUMBERS))
        };
        run(fixture.kind, what, &inbox, quiet).await;
        let told = inbox.told.lock().unwrap().clone();
        assert!(told.iter().any(|text| text.contains(NUMBERS)), "{what} {told:?}");
        for text in &told {
            assert!(!text.is_ascii(), "{what} {told:?}");
            assert!(!text.contains("CONTENT") && !text.contains("s3cret"), "{what} {told:?}");
        }
    }
}

/// Digits that count something.
const NUMBERS: [char; 9] = ['1', '2', '3', '4', '5', '6', '7', '8', '9'];
