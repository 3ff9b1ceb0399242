//! What taking files from a place means, whatever the place: each once, when it is whole, and let go
//! of only when it is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xinqiao_core::fault::{Blame, Retry};
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{
    Arrival, BoxFuture, ByteStream, FeedbackRoad, FileSink, Source, SourceContext,
};

use super::{SourceFault, pause, wait_after};
use crate::wire::files::{Exactly, Listed, Listing, Stamp};
use crate::wire::params::Params;

mod dispose;
mod memory;
pub(super) mod name;
pub(super) mod remote;
mod sequence;

use memory::Memory;
use name::{companions, is_whole_name, matches};
use sequence::Numbering;

/// A place where files stand.
pub(super) trait Place: Send + Sync + 'static {
    /// The place, for people.
    fn shown(&self) -> String;
    /// A name, for people.
    fn name(&self, name: &[u8]) -> String;
    /// The bytes of a name, or of a part of one, as the place has them.
    fn bytes(&self, name: &str) -> Vec<u8>;
    /// Its regular files, in any order; `exactly` tells of which the state must be exact.
    fn list<'a>(
        &'a self,
        now: Timestamp,
        exactly: Exactly<'a>,
    ) -> BoxFuture<'a, Result<Listing, Trouble>>;
    /// The file's bytes. It must look as listed before and after; else the stream ends with an error,
    /// and `why` tells of what kind.
    fn open<'a>(&'a self, file: &'a Listed, why: Why)
    -> BoxFuture<'a, Result<ByteStream, Trouble>>;
    /// The file's state now.
    fn stat<'a>(&'a self, file: &'a Listed) -> BoxFuture<'a, Result<Stamp, Trouble>>;
    /// Moves a file out of the way; never in another's place. If it then is not of this `size` any
    /// more, somebody was still writing to it: it is put back, and has [`Trouble::Changed`].
    fn move_aside<'a>(
        &'a self,
        name: &'a [u8],
        size: Option<u64>,
    ) -> BoxFuture<'a, Result<(), Trouble>>;
    /// Deletes a file.
    fn delete<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>>;
}

/// Why a place did not do something.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The file is not there (any more).
    Gone,
    /// The file changed while it was read.
    Changed,
    /// Of this file only (Chinese).
    File(String),
    /// The connection broke over this file; the others may fare better by a new one.
    Broken(SourceFault),
    /// Of the place as a whole: the other files fare no better.
    Place(SourceFault),
}

/// Why a stream ended with an error.
pub(super) type Why = Arc<Mutex<Option<Trouble>>>;

/// What is done with a file once the receipt is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Leave,
    Move,
    Delete,
}

/// The usual [`Habits::confirm`]: far more than the pauses of a slow or stuck upload.
const CONFIRM: Duration = Duration::from_secs(600);

/// After so many connections in a row that broke over a file, it is not the files.
const MOST_BROKEN: u32 = 3;

/// The parameters that every source of files has.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pattern: String,
    settle: Duration,
    /// How long a file must have stood still, seen again and again since it was taken, before it is
    /// let go of: longer than any writer stalls.
    confirm: Duration,
    poll: Duration,
    flag: Option<String>,
    pub(super) after: After,
    max_bytes: u64,
    numbering: Option<Numbering>,
    first: Option<u64>,
}

impl Habits {
    /// Reads `pattern`, `settle-seconds`, `confirm-seconds` (600), `poll-seconds`, `flag`, `after`,
    /// `max-bytes`, `sequence`, `sequence-first`, and the folder to move to, whose key differs.
    pub(super) fn from_params(
        params: &mut Params<'_>,
        poll: Duration,
        settle: Duration,
        aside: &'static str,
    ) -> (Self, String) {
        let poll_least = Duration::from_millis(1);
        let moved = params.text(aside).unwrap_or_default();
        let sequence = params.text("sequence");
        let first = params.has("sequence-first").then(|| params.count("sequence-first", 1));
        if first.is_none() {
            params.text("sequence-first");
        } else if sequence.is_none() {
            params.problem_of("sequence-first", "只与 sequence 一起使用");
        }
        let numbering = sequence.and_then(|text| match Numbering::parse(&text) {
            Ok(numbering) => Some(numbering),
            Err(why) => {
                params.problem_of("sequence", &why);
                None
            }
        });
        let habits = Self {
            pattern: params.text("pattern").unwrap_or_else(|| "*".to_owned()).to_lowercase(),
            settle: params.seconds("settle-seconds", settle, Duration::ZERO),
            confirm: params.seconds("confirm-seconds", CONFIRM, Duration::ZERO),
            poll: params.seconds("poll-seconds", poll, poll_least),
            flag: params.text("flag"),
            after: params.choice(
                "after",
                &[("leave", After::Leave), ("move", After::Move), ("delete", After::Delete)],
                After::Leave,
            ),
            max_bytes: params.number("max-bytes", 2 << 30),
            numbering,
            first,
        };
        if (habits.after == After::Move) != params.has(aside) {
            params.problem_of(aside, "after: move 时须给出,其他情况下不能给出");
        }
        if params.has(aside) && moved.is_empty() {
            params.problem_of(aside, "不能为空");
        }
        if habits.after == After::Leave && params.has("confirm-seconds") {
            params.problem_of("confirm-seconds", "只与 after: move、delete 一起使用");
        }
        if habits.flag.as_deref() == Some("") {
            params.problem_of("flag", "不能为空");
        }
        (habits, moved)
    }
}

/// A source over a place.
pub(super) struct Watch<P> {
    pub(super) place: P,
    pub(super) habits: Habits,
    pub(super) feedback: Option<Arc<dyn FileSink>>,
}

impl<P: Place> Source for Watch<P> {
    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let poll = self.habits.poll;
            let mut attempt = 0;
            let mut memory = loop {
                if context.shutdown.has_begun() {
                    return;
                }
                match context.inbox.cursor().await {
                    Ok(cursor) => break Memory::decode(cursor.as_deref().unwrap_or_default()),
                    Err(fault) => {
                        context.inbox.progress(Err(fault.as_ref()));
                        attempt += 1;
                        let wait = wait_after(attempt, fault.retry(), poll, &context);
                        pause(wait, &context.shutdown).await;
                    }
                }
            };
            let mut looks = BTreeMap::new();
            attempt = 0;
            while !context.shutdown.has_begun() {
                let wait = match self.round(&context, &mut memory, &mut looks).await {
                    Ok(()) => {
                        attempt = 0;
                        poll
                    }
                    Err(retry) => {
                        attempt += 1;
                        wait_after(attempt, retry, poll, &context)
                    }
                };
                pause(wait, &context.shutdown).await;
            }
        })
    }

    fn feedback(&self) -> Option<FeedbackRoad> {
        self.feedback.clone().map(FeedbackRoad::Files)
    }
}

/// What is remembered of a file between two rounds.
#[derive(Debug, Clone)]
struct Look {
    stamp: Stamp,
    since: Timestamp,
    attempts: u32,
    not_before: Timestamp,
    /// How long the file was when it was taken last, if it was while this process has run.
    taken: Option<u64>,
}

type Looks = BTreeMap<Vec<u8>, Look>;

impl<P: Place> Watch<P> {
    /// One look at the place. An error is one of the place or the inbox as a whole; it has been
    /// reported. One file's trouble does not hold up the others.
    async fn round(
        &self,
        context: &SourceContext,
        memory: &mut Memory,
        looks: &mut Looks,
    ) -> Result<(), Retry> {
        let exactly = |name: &[u8]| self.fits(&self.place.name(name));
        let listing = self.place.list(context.clock.now(), &exactly);
        // Nothing has been taken yet: stopping may cut a slow server short.
        let listed = tokio::select! {
            listed = listing => listed,
            () = context.shutdown.begun() => return Ok(()),
        };
        let Listing { files: mut listed, odd } = listed.map_err(|trouble| {
            let fault = self.of_place(trouble);
            context.inbox.progress(Err(&fault));
            fault.retry
        })?;
        // The oldest first; those that failed before last, so that they hold up none of the others.
        listed.sort_by_cached_key(|file| {
            let attempts = looks.get(&file.name).map_or(0, |look| look.attempts);
            (attempts, file.stamp.modified_ns, file.name.clone())
        });
        // The memory is bounded by what stands in the place.
        let present: BTreeSet<u128> =
            listed.iter().map(|file| file.stamp.digest(&file.name)).collect();
        memory.taken.retain(|digest| present.contains(digest));
        let names: BTreeSet<&[u8]> = listed.iter().map(|file| file.name.as_slice()).collect();
        looks.retain(|name, _| names.contains(name.as_slice()));

        let flag = self.habits.flag.as_ref().map(|flag| self.place.bytes(flag));
        let mut trouble = odd.first().map(|name| self.odd(name, odd.len()));
        let mut notice: Option<SourceFault> = None;
        let (mut count, mut broken) = (0_u64, 0);
        let mut waiting: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for file in &listed {
            if context.shutdown.has_begun() {
                break;
            }
            let now = context.clock.now();
            let text = self.place.name(&file.name);
            let companions = flag.as_ref().map(|flag| companions(&file.name, flag, &names));
            if !self.fits(&text) || companions.as_ref().is_some_and(Vec::is_empty) {
                continue;
            }
            let is_taken = memory.taken.contains(&file.stamp.digest(&file.name));
            let number = self.habits.numbering.as_ref().and_then(|how| how.read(&text));
            if let (Some((series, number)), false) = (&number, is_taken) {
                waiting.entry(series.clone()).or_default().insert(*number);
            }
            let look =
                looks.entry(file.name.clone()).or_insert_with(|| Look::first(file.stamp, now));
            if look.stamp != file.stamp || now < look.since {
                *look = Look { taken: look.taken, ..Look::first(file.stamp, now) };
            }
            if is_taken {
                look.taken = Some(file.stamp.size);
            }
            let still = if is_taken { self.habits.confirm } else { self.habits.settle };
            let for_good = is_taken && self.habits.after == After::Leave;
            if for_good || now < look.not_before || !look.settled(now, still) {
                continue;
            }
            let done = if is_taken {
                self.dispose(file, &text, companions.unwrap_or_default()).await
            } else {
                self.take(context, file, number, memory).await
            };
            let (fault, is_broken) = match done {
                Ok(()) => {
                    broken = 0;
                    if !is_taken {
                        count += 1;
                        if let Some(before) = look.taken.filter(|size| *size < file.stamp.size) {
                            notice.get_or_insert(grew(&text, before, file.stamp.size));
                        }
                    }
                    let since = context.clock.now();
                    let taken = Some(file.stamp.size);
                    *look = Look { taken, ..Look::first(file.stamp, since) };
                    continue;
                }
                Err(Failure::Round(retry)) => return Err(retry),
                Err(Failure::Place(fault)) => {
                    context.inbox.progress(Err(&fault));
                    return Err(fault.retry);
                }
                Err(Failure::File(fault)) => (fault, false),
                Err(Failure::Broken(fault)) => (fault, true),
            };
            look.attempts += 1;
            let wait = wait_after(look.attempts, Retry::Backoff, self.habits.poll, context);
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            look.not_before = now.plus_millis(millis);
            broken = if is_broken { broken + 1 } else { 0 };
            if broken >= MOST_BROKEN {
                context.inbox.progress(Err(&fault));
                return Err(fault.retry);
            }
            trouble.get_or_insert(fault);
        }
        // What is told once goes before what is told at every look.
        self.tell(context, notice.or(trouble).as_ref(), count, &waiting, memory);
        Ok(())
    }

    /// What the round came to. Missing numbers are told as a fault once, then beside what goes well.
    fn tell(
        &self,
        context: &SourceContext,
        trouble: Option<&SourceFault>,
        count: u64,
        waiting: &BTreeMap<String, BTreeSet<u64>>,
        memory: &mut Memory,
    ) {
        if let Some(fault) = trouble {
            return context.inbox.progress(Err(fault));
        }
        let gaps = memory.series.gaps(waiting);
        if !gaps.is_empty() && gaps != memory.told {
            let text = format!("文件编号不连续:{gaps};其余文件照常接收,请向报送单位核实");
            memory.told.clone_from(&gaps);
            let fault = fault("source.sequence-gap", Blame::Agency, text);
            return context.inbox.progress(Err(&fault));
        }
        memory.told.clone_from(&gaps);
        let text = match count {
            0 => "目录中没有新文件".to_owned(),
            _ => format!("本轮接收{count}个文件"),
        };
        let text = if gaps.is_empty() { text } else { format!("{text};{gaps}") };
        context.inbox.progress(Ok(&text));
    }

    fn of_place(&self, trouble: Trouble) -> SourceFault {
        let why = match trouble {
            Trouble::Place(fault) | Trouble::Broken(fault) => return fault,
            Trouble::Gone => "没有这个文件或目录".to_owned(),
            Trouble::Changed => "刚刚有变化".to_owned(),
            Trouble::File(why) => why,
        };
        let text = format!("无法读取目录 {}({why})", self.place.shown());
        fault("source.folder-unreadable", Blame::Operator, text)
    }

    /// Names that lead out of the folder: never touched.
    fn odd(&self, name: &[u8], count: usize) -> SourceFault {
        let shown: String = self.place.name(name).chars().filter(|c| !c.is_control()).collect();
        let text = format!("有{count}个文件名不能用(如“{shown}”,含“/”),未接收,请对方改名");
        fault("source.file-name", Blame::Agency, text)
    }

    /// Whether a name is of a finished file that this source is for.
    fn fits(&self, text: &str) -> bool {
        is_whole_name(text)
            && matches(&self.habits.pattern, &text.to_lowercase())
            && self.habits.flag.as_deref().is_none_or(|flag| !text.ends_with(flag))
    }

    /// Hands one file to the inbox.
    async fn take(
        &self,
        context: &SourceContext,
        file: &Listed,
        number: Option<(String, u64)>,
        memory: &mut Memory,
    ) -> Result<(), Failure> {
        let text = self.place.name(&file.name);
        let limit = self.habits.max_bytes;
        if file.stamp.size > limit {
            let why = format!("文件 {text} 超过上限{limit}字节,未接收");
            return Err(Failure::File(fault("source.too-large", Blame::Agency, why)));
        }
        let failed = |trouble| match trouble {
            Trouble::Place(fault) => Failure::Place(fault),
            Trouble::Broken(fault) => Failure::Broken(of_file(&text, fault)),
            Trouble::Changed => {
                let why = format!("文件 {text} 在读取时仍有变化,稍后再取");
                Failure::File(fault("source.file-changed", Blame::Agency, why))
            }
            Trouble::Gone => {
                let why = format!("文件 {text} 在读取时已不在,可能正被替换");
                Failure::File(fault("source.file-changed", Blame::Agency, why))
            }
            Trouble::File(why) => {
                let why = format!("无法读取文件 {text}({why})");
                Failure::File(fault("source.file-unreadable", Blame::Operator, why))
            }
        };
        let why = Why::default();
        let opening = self.place.open(file, Arc::clone(&why));
        let body = tokio::select! {
            body = opening => body.map_err(failed)?,
            () = context.shutdown.begun() => return Err(Failure::Round(Retry::Backoff)),
        };
        let digest = file.stamp.digest(&file.name);
        memory.taken.insert(digest);
        let before = number.map(|(series, number)| {
            let before = memory.series.clone();
            memory.series.take(&series, number, self.habits.first);
            before
        });
        // What was numbered and is gone cannot be seen again after a crash.
        let is_due = memory.is_due() || (before.is_some() && self.habits.after != After::Leave);
        let cursor = is_due.then(|| memory.encode());
        let received =
            context.inbox.receive(Arrival { name: Some(text.clone()), body, cursor }).await;
        let refused = match received {
            Ok(_) => {
                memory.unkept = if is_due { 0 } else { memory.unkept + 1 };
                return Ok(());
            }
            Err(refused) => refused,
        };
        memory.taken.remove(&digest);
        if let Some(before) = before {
            memory.series = before;
        }
        let why = why.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(trouble) = why {
            return Err(failed(trouble));
        }
        if refused.retry() == Retry::Never {
            let why = format!("文件 {text} 未被接收:{refused}");
            return Err(Failure::File(SourceFault {
                code: refused.code(),
                blame: refused.blame(),
                retry: Retry::Never,
                text: why,
            }));
        }
        context.inbox.progress(Err(refused.as_ref()));
        Err(Failure::Round(refused.retry()))
    }
}

enum Failure {
    /// Of this file only.
    File(SourceFault),
    /// The connection broke over this file.
    Broken(SourceFault),
    /// Of the place as a whole; not reported yet.
    Place(SourceFault),
    /// The round ends; what there was to report has been.
    Round(Retry),
}

fn of_file(name: &str, fault: SourceFault) -> SourceFault {
    SourceFault { text: format!("文件 {name}:{}", fault.text), ..fault }
}

/// A file that was taken before it was all there; what was taken again is all of it.
fn grew(name: &str, before: u64, now: u64) -> SourceFault {
    let text = format!(
        "文件 {name} 接收之后又变大({before}→{now}字节),已整个重新接收;先前收到的可能不完整,\
         请核对。请报送单位先写成 .tmp 再改名,或加大 settle-seconds"
    );
    fault("source.file-grew", Blame::Agency, text)
}

pub(super) fn fault(code: &'static str, blame: Blame, text: String) -> SourceFault {
    SourceFault { code, blame, retry: Retry::Backoff, text }
}

impl Look {
    fn first(stamp: Stamp, now: Timestamp) -> Self {
        Self { stamp, since: now, attempts: 0, not_before: Timestamp(0), taken: None }
    }

    /// Two looks `settle` apart saw the same, and the file's own time is as old. A time in the
    /// future says nothing (a sender's clock is ahead), then the looks decide.
    fn settled(&self, now: Timestamp, settle: Duration) -> bool {
        let settle = u64::try_from(settle.as_millis()).unwrap_or(u64::MAX);
        let modified = self.stamp.modified();
        now > self.since
            && now.millis_since(self.since) >= settle
            && (modified > now || now.millis_since(modified) >= settle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_settles_by_looks_and_by_its_own_time() {
        let settle = Duration::from_secs(5);
        let look = |modified_ms: i64, since| {
            let ns = i128::from(modified_ms) * 1_000_000;
            let stamp = Stamp { size: 1, modified_ns: ns, changed_ns: ns, inode: 1 };
            Look::first(stamp, Timestamp(since))
        };
        assert!(!look(0, 100_000).settled(Timestamp(104_999), settle));
        assert!(look(0, 100_000).settled(Timestamp(105_000), settle));
        assert!(!look(101_000, 100_000).settled(Timestamp(105_000), settle), "written since");
        assert!(look(900_000, 100_000).settled(Timestamp(105_000), settle), "clock ahead");
        assert!(!look(900_000, 100_000).settled(Timestamp(104_000), settle));
        assert!(!look(0, 100_000).settled(Timestamp(100_000), Duration::ZERO), "one look only");
    }
}
