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
use crate::wire::files::{Exactly, Listed, Stamp};
use crate::wire::params::Params;

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
    /// Its regular files, in any order; `exactly` tells of which the state must be exact.
    fn list<'a>(
        &'a self,
        now: Timestamp,
        exactly: Exactly<'a>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, Trouble>>;
    /// The file's bytes. It must look as listed before and after; else the stream ends with an error,
    /// and `why` tells of what kind.
    fn open<'a>(&'a self, file: &'a Listed, why: Why)
    -> BoxFuture<'a, Result<ByteStream, Trouble>>;
    /// The file's state now.
    fn stat<'a>(&'a self, file: &'a Listed) -> BoxFuture<'a, Result<Stamp, Trouble>>;
    /// Moves a file out of the way; never in another's place.
    fn move_aside<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>>;
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

/// The parameters that every source of files has.
#[derive(Debug, Clone)]
pub(super) struct Habits {
    pattern: String,
    settle: Duration,
    poll: Duration,
    flag: Option<String>,
    pub(super) after: After,
    max_bytes: u64,
    numbering: Option<Numbering>,
    first: Option<u64>,
}

impl Habits {
    /// Reads `pattern`, `settle-seconds`, `poll-seconds`, `flag`, `after`, `max-bytes`, `sequence`,
    /// `sequence-first`, and the folder to move to, whose key differs.
    pub(super) fn from_params(
        params: &mut Params<'_>,
        poll: Duration,
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
            settle: params.seconds("settle-seconds", Duration::from_secs(5), Duration::ZERO),
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
        let mut listed = listed.map_err(|trouble| {
            let fault = self.of_place(trouble);
            context.inbox.progress(Err(&fault));
            fault.retry
        })?;
        listed.sort_by(|a, b| (a.stamp.modified_ns, &a.name).cmp(&(b.stamp.modified_ns, &b.name)));
        // The memory is bounded by what stands in the place.
        let present: BTreeSet<u128> =
            listed.iter().map(|file| file.stamp.digest(&file.name)).collect();
        memory.taken.retain(|digest| present.contains(digest));
        let names: BTreeSet<&[u8]> = listed.iter().map(|file| file.name.as_slice()).collect();
        looks.retain(|name, _| names.contains(name.as_slice()));

        let mut trouble: Option<SourceFault> = None;
        let mut count = 0_u64;
        let mut waiting: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for file in &listed {
            if context.shutdown.has_begun() {
                break;
            }
            let now = context.clock.now();
            let text = self.place.name(&file.name);
            if !self.wanted(file, &text, &names) {
                continue;
            }
            let is_taken = memory.taken.contains(&file.stamp.digest(&file.name));
            if is_taken && self.habits.after == After::Leave {
                continue;
            }
            let number = self.habits.numbering.as_ref().and_then(|how| how.read(&text));
            if let (Some((series, number)), false) = (&number, is_taken) {
                waiting.entry(series.clone()).or_default().insert(*number);
            }
            let look =
                looks.entry(file.name.clone()).or_insert_with(|| Look::first(file.stamp, now));
            if look.stamp != file.stamp || now < look.since {
                *look = Look::first(file.stamp, now);
            }
            if now < look.not_before || !(is_taken || look.settled(now, self.habits.settle)) {
                continue;
            }
            let done = if is_taken {
                Ok(())
            } else {
                self.take(context, file, number, memory).await.inspect(|()| count += 1)
            };
            let done = match done {
                Ok(()) => self.dispose(file, &text).await,
                failed => failed,
            };
            match done {
                Ok(()) => {
                    looks.remove(&file.name);
                }
                Err(Failure::File(fault)) => {
                    look.attempts += 1;
                    let poll = self.habits.poll;
                    let wait = wait_after(look.attempts, Retry::Backoff, poll, context);
                    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    look.not_before = now.plus_millis(millis);
                    trouble.get_or_insert(fault);
                }
                Err(Failure::Round(retry)) => return Err(retry),
                Err(Failure::Place(fault)) => {
                    context.inbox.progress(Err(&fault));
                    return Err(fault.retry);
                }
            }
        }
        self.tell(context, trouble.as_ref(), count, &waiting, memory);
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
            Trouble::Place(fault) => return fault,
            Trouble::Gone => "没有这个文件或目录".to_owned(),
            Trouble::Changed => "刚刚有变化".to_owned(),
            Trouble::File(why) => why,
        };
        let text = format!("无法读取目录 {}({why})", self.place.shown());
        fault("source.folder-unreadable", Blame::Operator, text)
    }

    /// Whether a name is of a finished file that this source is for.
    fn fits(&self, text: &str) -> bool {
        is_whole_name(text)
            && matches(&self.habits.pattern, &text.to_lowercase())
            && self.habits.flag.as_deref().is_none_or(|flag| !text.ends_with(flag))
    }

    fn wanted(&self, file: &Listed, text: &str, names: &BTreeSet<&[u8]>) -> bool {
        let flagged = |flag| {
            companions(&file.name, flag).iter().any(|other| names.contains(other.as_slice()))
        };
        self.fits(text) && self.habits.flag.as_deref().is_none_or(flagged)
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
        let mut after = memory.clone();
        after.taken.insert(file.stamp.digest(&file.name));
        if let Some((series, number)) = number {
            after.series.take(&series, number, self.habits.first);
        }
        let cursor = Some(after.encode());
        let received =
            context.inbox.receive(Arrival { name: Some(text.clone()), body, cursor }).await;
        let refused = match received {
            Ok(_) => {
                *memory = after;
                return Ok(());
            }
            Err(refused) => refused,
        };
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

    /// What `after` asks for, once the receipt is there. A file that changed since is a new one
    /// and stays.
    async fn dispose(&self, file: &Listed, text: &str) -> Result<(), Failure> {
        if self.habits.after == After::Leave {
            return Ok(());
        }
        match self.place.stat(file).await {
            Ok(stamp) if stamp == file.stamp => {}
            Err(Trouble::Place(fault)) => return Err(Failure::Place(fault)),
            _ => return Ok(()),
        }
        let mut files = vec![file.name.clone()];
        if let Some(flag) = &self.habits.flag {
            files.extend(companions(&file.name, flag));
        }
        for (i, name) in files.iter().enumerate() {
            let done = match self.habits.after {
                After::Move => self.place.move_aside(name).await,
                After::Leave | After::Delete => self.place.delete(name).await,
            };
            let why = match done {
                Ok(()) => continue,
                Err(Trouble::Gone) if i > 0 => continue,
                Err(Trouble::Place(fault)) => return Err(Failure::Place(fault)),
                Err(Trouble::Gone) => "没有这个文件或目录".to_owned(),
                Err(Trouble::Changed) => "刚刚有变化".to_owned(),
                Err(Trouble::File(why)) => why,
            };
            let act = if self.habits.after == After::Move { "移走" } else { "删除" };
            let text = format!("文件 {text} 已接收,但无法{act}({why})");
            let fault = fault("source.file-not-moved", Blame::Operator, text);
            return Err(Failure::File(fault));
        }
        Ok(())
    }
}

enum Failure {
    /// Of this file only.
    File(SourceFault),
    /// Of the place as a whole; not reported yet.
    Place(SourceFault),
    /// The round ends; what there was to report has been.
    Round(Retry),
}

pub(super) fn fault(code: &'static str, blame: Blame, text: String) -> SourceFault {
    SourceFault { code, blame, retry: Retry::Backoff, text }
}

impl Look {
    fn first(stamp: Stamp, now: Timestamp) -> Self {
        Self { stamp, since: now, attempts: 0, not_before: Timestamp(0) }
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
