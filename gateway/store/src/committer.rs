//! The committer: one thread, one write transaction at a time, many requests a commit.
//!
//! While one commit syncs, the next batch gathers in the channel by itself: no receipt waits for a
//! timer.
//!
//! Somebody waits for a receipt; nobody waits for processing and delivery, which work off what is
//! durable already. So while receipts flow, other requests let them by for [`PATIENCE`] at most, and
//! are then committed together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use redb::{Database, Durability};
use tokio::sync::{oneshot, watch};
use xinqiao_core::model::{FeedId, TargetId, Timestamp};
use xinqiao_core::spi::Clock;

use crate::encode::Meta;
use crate::feedback::{self, FeedbackMeta};
use crate::seal::Seals;
use crate::tables::{Tables, engine};
use crate::{FeedCounters, ItemState, StoreError};

/// How far the clock may go back, as when it is set right by a little, before what waits for a time
/// is tried at once.
const JUMP_MILLIS: u64 = 60_000;

/// Requests that may wait.
const WAITING: usize = 4_096;
/// Requests and bytes in one commit.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// How long other requests let receipts go first. While one of them runs the receipts wait, so this
/// shares the committer between both when there is more of each than it can do.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nothing must come after receipts for them to have ceased.
const LULL: Duration = Duration::from_millis(2);

/// Where requests are handed in.
pub(crate) struct Committer {
    requests: SyncSender<Request>,
    signals: Arc<Signals>,
}

/// What the committer tells everybody.
pub(crate) struct Signals {
    /// A commit failed: nothing is answered any more.
    pub failed: AtomicBool,
    /// Grows when messages have been received.
    pub received: watch::Sender<u64>,
    /// Grows when items have become ready.
    pub ready: watch::Sender<u64>,
    /// Grows when held rows may be looked at again.
    pub rerun: watch::Sender<u64>,
}

impl Signals {
    pub(crate) fn new() -> Self {
        // Handles have seen 0, so the first wait of each ends at once: it may find work left over.
        Self {
            failed: AtomicBool::new(false),
            received: watch::Sender::new(1),
            ready: watch::Sender::new(1),
            rerun: watch::Sender::new(1),
        }
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) { Err(StoreError::OutcomeUnknown) } else { Ok(()) }
    }
}

/// Answers a request once it is known how its commit went.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Does a request's work; how to answer it, and what went wrong.
type Run = Box<dyn FnOnce(&mut Tx<'_>) -> (Reply, Option<StoreError>) + Send>;

struct Request {
    bytes: usize,
    /// Somebody waits for a receipt.
    receipt: bool,
    came: Instant,
    run: Run,
    /// Answers without having run.
    refuse: Reply,
}

/// What the committer keeps in memory between commits.
pub(crate) struct State {
    pub seals: Arc<Seals>,
    pub meta: Meta,
    pub feeds: BTreeMap<FeedId, FeedCounters>,
    pub targets: BTreeMap<TargetId, BTreeMap<ItemState, u64>>,
    pub feedback: FeedbackMeta,
    /// Targets that do not tell a repetition from news.
    pub undeduped: BTreeSet<TargetId>,
    /// Feeds whose messages come in the order of what they tell.
    pub in_order: BTreeSet<FeedId>,
    /// Leases held and until when. A restart ends them all.
    pub leases: BTreeMap<TargetId, BTreeMap<u64, Timestamp>>,
    /// Items that could not be leased because something of theirs is damaged.
    pub damaged: BTreeSet<u64>,
    /// What the clock said last.
    pub seen: Timestamp,
    /// Targets whose waiting items are due whatever their time says: it was given by a clock that
    /// has jumped back since, and may be years ahead.
    pub jumped: BTreeSet<TargetId>,
}

impl State {
    pub(crate) fn new(seals: Arc<Seals>) -> Self {
        Self {
            seals,
            meta: Meta::default(),
            feeds: BTreeMap::new(),
            targets: BTreeMap::new(),
            feedback: FeedbackMeta::default(),
            undeduped: BTreeSet::new(),
            in_order: BTreeSet::new(),
            leases: BTreeMap::new(),
            damaged: BTreeSet::new(),
            seen: Timestamp::default(),
            jumped: BTreeSet::new(),
        }
    }

    fn clock_says(&mut self, now: Timestamp) {
        if now.plus_millis(JUMP_MILLIS) < self.seen {
            tracing::warn!("the clock has jumped back: what waits is tried again");
            self.jumped = self.targets.keys().cloned().collect();
        }
        self.seen = now;
    }
}

/// The write transaction as a request sees it: decide first, write after.
pub(crate) struct Tx<'t> {
    pub tables: Tables<'t>,
    pub state: &'t mut State,
    pub now: Timestamp,
    /// Something was written. Set before the first write of a request.
    pub dirty: bool,
    pub received: bool,
    pub ready: bool,
    /// A change was noted for feedback.
    pub noted: bool,
    feeds: BTreeSet<FeedId>,
    targets: BTreeSet<TargetId>,
}

impl Tx<'_> {
    /// A feed's counters, to be changed; written once at the end of the batch.
    pub(crate) fn feed(&mut self, feed: &FeedId) -> &mut FeedCounters {
        self.dirty = true;
        self.feeds.insert(feed.clone());
        self.state.feeds.entry(feed.clone()).or_default()
    }

    /// Moves one item of a target's counts.
    pub(crate) fn count(&mut self, target: &TargetId, from: Option<ItemState>, to: ItemState) {
        self.targets.insert(target.clone());
        let counts = self.state.targets.entry(target.clone()).or_default();
        if let Some(left) = from.and_then(|state| counts.get_mut(&state)) {
            *left = left.saturating_sub(1);
        }
        *counts.entry(to).or_default() += 1;
    }

    /// Writes what is written once a batch.
    pub(crate) fn finish(&mut self) -> Result<(), StoreError> {
        for feed in std::mem::take(&mut self.feeds) {
            let counters = self.state.feeds.get(&feed).cloned().unwrap_or_default();
            self.tables.feed.put(feed.as_str().as_bytes(), &counters)?;
        }
        for target in std::mem::take(&mut self.targets) {
            let counts = self.state.targets.get(&target).cloned().unwrap_or_default();
            self.tables.target.put(target.as_str().as_bytes(), &counts)?;
        }
        // With what was sealed under them, or nothing of it could ever be opened.
        for (id, wrapped) in self.state.seals.unsaved() {
            self.tables.segment.put(&id.to_be_bytes(), &wrapped)?;
        }
        if std::mem::take(&mut self.noted) {
            self.tables.meta.put(feedback::META, &self.state.feedback)?;
        }
        self.tables.meta.put(b"positions", &self.state.meta)
    }
}

/// Runs `work` in one durable transaction of its own: what opening a store needs. Nothing is written
/// if it fails.
pub(crate) fn transact<T, E: From<StoreError>>(
    db: &Database,
    quick_repair: bool,
    state: &mut State,
    now: Timestamp,
    work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let write = begin(db, quick_repair)?;
    let mut tx = Tx::new(Tables::open(&write, &state.seals)?, state, now);
    let done = work(&mut tx)?;
    tx.finish()?;
    drop(tx);
    write.commit().map_err(engine)?;
    state.seals.saved();
    Ok(done)
}

impl<'t> Tx<'t> {
    fn new(tables: Tables<'t>, state: &'t mut State, now: Timestamp) -> Self {
        Self {
            tables,
            state,
            now,
            dirty: false,
            received: false,
            ready: false,
            noted: false,
            feeds: BTreeSet::new(),
            targets: BTreeSet::new(),
        }
    }
}

impl Committer {
    /// Starts the thread. It ends when the committer is dropped, or when a commit fails.
    pub(crate) fn start(
        db: Arc<Database>,
        quick_repair: bool,
        state: State,
        clock: Arc<dyn Clock>,
        signals: Arc<Signals>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (requests, queue) = sync_channel(WAITING);
        let told = Arc::clone(&signals);
        let thread = std::thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || run(&db, quick_repair, state, &*clock, &told, &queue))?;
        Ok((Self { requests, signals }, thread))
    }

    /// Runs `work` in the next commit and answers once it is durable. `bytes` is roughly what it
    /// writes.
    pub(crate) async fn commit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(false, bytes, work).await
    }

    /// As [`Committer::commit`], for a request whose caller waits to give a receipt.
    pub(crate) async fn commit_receipt<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.hand_in(true, bytes, work).await
    }

    async fn hand_in<T: Send + 'static>(
        &self,
        receipt: bool,
        bytes: usize,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.signals.check()?;
        let (sender, answer) = oneshot::channel();
        let shared = Arc::new(std::sync::Mutex::new(Some(sender)));
        let (on_run, on_refuse) = (Arc::clone(&shared), shared);
        let request = Request {
            bytes,
            receipt,
            came: Instant::now(),
            run: Box::new(move |tx| {
                let done = work(tx);
                let error = done.as_ref().err().cloned();
                let reply: Reply = Box::new(move |commit| send(&on_run, commit.and(done)));
                (reply, error)
            }),
            refuse: Box::new(move |commit| {
                if let Err(error) = commit {
                    send(&on_refuse, Err(error));
                }
            }),
        };
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::OutcomeUnknown,
        })?;
        answer.await.unwrap_or(Err(StoreError::OutcomeUnknown))
    }
}

type Sender<T> = std::sync::Mutex<Option<oneshot::Sender<Result<T, StoreError>>>>;

fn send<T>(sender: &Sender<T>, answer: Result<T, StoreError>) {
    let taken = sender.lock().ok().and_then(|mut sender| sender.take());
    if let Some(sender) = taken {
        // A caller that went away needs no answer; what it asked for is committed all the same.
        let _ = sender.send(answer);
    }
}

fn begin(db: &Database, quick_repair: bool) -> Result<redb::WriteTransaction, StoreError> {
    let mut write = db.begin_write().map_err(engine)?;
    write.set_durability(Durability::Immediate).map_err(engine)?;
    write.set_quick_repair(quick_repair);
    Ok(write)
}

/// Requests taken from the channel and not yet run.
#[derive(Default)]
struct Waiting {
    receipts: VecDeque<Request>,
    others: VecDeque<Request>,
    /// The batch at hand, or the last one, has receipts.
    has_receipts: bool,
}

impl Waiting {
    /// The first request of the next batch; `None` once nobody can hand any in. After a batch of
    /// receipts more of them are on their way: whoever got one sends the next.
    fn first(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        let flowing = std::mem::take(&mut self.has_receipts);
        while self.receipts.is_empty() {
            match self.others.front() {
                None => self.add(queue.recv().ok()?),
                Some(other) if flowing => {
                    let patience = PATIENCE.saturating_sub(other.came.elapsed());
                    match queue.recv_timeout(LULL.min(patience)) {
                        Ok(request) => self.add(request),
                        Err(_) => break,
                    }
                }
                Some(_) => break,
            }
        }
        self.next(queue)
    }

    /// The next request of a batch: another that has been patient long enough, else a receipt, else
    /// another, unless the batch has receipts: those are not to wait for it.
    fn next(&mut self, queue: &Receiver<Request>) -> Option<Request> {
        while self.receipts.len() + self.others.len() < WAITING {
            let Ok(request) = queue.try_recv() else { break };
            self.add(request);
        }
        if self.others.front().is_some_and(|other| other.came.elapsed() >= PATIENCE) {
            return self.others.pop_front();
        }
        let receipt = self.receipts.pop_front();
        if receipt.is_none() && !self.has_receipts {
            return self.others.pop_front();
        }
        self.has_receipts = true;
        receipt
    }

    fn add(&mut self, request: Request) {
        if request.receipt {
            self.receipts.push_back(request);
        } else {
            self.others.push_back(request);
        }
    }
}

fn run(
    db: &Database,
    quick_repair: bool,
    mut state: State,
    clock: &dyn Clock,
    signals: &Signals,
    queue: &Receiver<Request>,
) {
    let mut waiting = Waiting::default();
    while let Some(first) = waiting.first(queue) {
        let mut replies = Vec::new();
        let more = || waiting.next(queue);
        let now = clock.now();
        state.clock_says(now);
        let done = batch(db, quick_repair, &mut state, now, first, more, &mut replies);
        match done {
            Ok((received, ready)) => {
                replies.into_iter().for_each(|reply| reply(Ok(())));
                if received {
                    signals.received.send_modify(|n| *n += 1);
                }
                if ready {
                    signals.ready.send_modify(|n| *n += 1);
                }
            }
            Err(error) => {
                // Never tried again: after a failed sync the kernel may have dropped the pages.
                tracing::error!(%error, "commit failed, the store has stopped");
                signals.failed.store(true, Ordering::Release);
                let refuse = |reply: Reply| reply(Err(StoreError::OutcomeUnknown));
                replies.into_iter().for_each(refuse);
                let Waiting { receipts, others, .. } = waiting;
                receipts.into_iter().chain(others).for_each(|request| refuse(request.refuse));
                while let Ok(request) = queue.try_recv() {
                    refuse(request.refuse);
                }
                // Those waiting for work must learn of it too.
                signals.received.send_modify(|n| *n += 1);
                signals.ready.send_modify(|n| *n += 1);
                signals.rerun.send_modify(|n| *n += 1);
                return;
            }
        }
    }
}

/// One batch: whether messages came and whether items became ready.
fn batch(
    db: &Database,
    quick_repair: bool,
    state: &mut State,
    now: Timestamp,
    first: Request,
    mut more: impl FnMut() -> Option<Request>,
    replies: &mut Vec<Reply>,
) -> Result<(bool, bool), StoreError> {
    let started = begin(db, quick_repair);
    let write = match started {
        Ok(write) => write,
        Err(error) => {
            replies.push(first.refuse);
            return Err(error);
        }
    };
    let tables = match Tables::open(&write, &state.seals) {
        Ok(tables) => tables,
        Err(error) => {
            replies.push(first.refuse);
            return Err(error);
        }
    };
    let mut tx = Tx::new(tables, state, now);
    let (mut bytes, mut written) = (0, false);
    let mut next = Some(first);
    while let Some(request) = next {
        bytes += request.bytes;
        tx.dirty = false;
        let (reply, error) = (request.run)(&mut tx);
        replies.push(reply);
        written |= tx.dirty;
        match error {
            // A request that failed half-way would leave half its writes in its neighbours' commit.
            Some(error) if tx.dirty => return Err(error),
            _ => {}
        }
        let full = replies.len() >= BATCH || bytes >= BATCH_BYTES;
        next = if full { None } else { more() };
    }
    if !written {
        drop(tx);
        write.abort().map_err(engine)?;
        return Ok((false, false));
    }
    tx.finish()?;
    let told = (tx.received, tx.ready);
    drop(tx);
    write.commit().map_err(engine)?;
    state.seals.saved();
    Ok(told)
}
