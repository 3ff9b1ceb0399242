//! `folder`: takes files that agencies put into a folder (监视目录), each once, when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use xinqiao_core::fault::{Blame, Retry, io_words};
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{
    Arrival, BoxFuture, ByteStream, Fault, FeedbackRoad, FileSink, ParamProblem, Secrets, Source,
    SourceContext, SourceFactory,
};

use super::{SourceFault, pause, wait_after};
use crate::wire::params::{Params, Problems};

mod file;

use file::{Stamp, is_whole_name, matches, shown};

/// The kind `folder`. Parameters:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `path` | the folder; subfolders and symbolic links are not followed | required |
/// | `pattern` | `*` and `?`, upper and lower case alike | `*` |
/// | `settle-seconds` | how long size and time must stand still | 5 |
/// | `poll-seconds` | how often to look | 2 |
/// | `flag` | suffix of a companion file (`a.csv.ok` or `a.ok`) that must be there | none |
/// | `after` | `leave`, `move` or `delete`, once the receipt is there | `leave` |
/// | `move-to` | where to, on the same file system | with `move` |
/// | `max-bytes` | larger files are reported and left | 2 GiB |
/// | `feedback-to` | a folder of its own that feedback is put into | none |
pub(super) struct Folder;

#[derive(Debug, Clone)]
struct Watch {
    path: PathBuf,
    pattern: String,
    settle: Duration,
    poll: Duration,
    flag: Option<String>,
    after: After,
    move_to: PathBuf,
    max_bytes: u64,
    feedback_to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Leave,
    Move,
    Delete,
}

impl SourceFactory for Folder {
    fn kind(&self) -> &'static str {
        "folder"
    }

    fn build(&self, params: &Value, _: &dyn Secrets) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let poll_least = Duration::from_millis(1);
        let watch = Watch {
            path: params.need_text("path").into(),
            pattern: params.text("pattern").unwrap_or_else(|| "*".to_owned()).to_lowercase(),
            settle: params.seconds("settle-seconds", Duration::from_secs(5), Duration::ZERO),
            poll: params.seconds("poll-seconds", Duration::from_secs(2), poll_least),
            flag: params.text("flag"),
            after: params.choice(
                "after",
                &[("leave", After::Leave), ("move", After::Move), ("delete", After::Delete)],
                After::Leave,
            ),
            move_to: params.text("move-to").unwrap_or_default().into(),
            max_bytes: params.number("max-bytes", 2 << 30),
            feedback_to: params.text("feedback-to").map(PathBuf::from),
        };
        if watch
            .feedback_to
            .as_ref()
            .is_some_and(|to| to.as_os_str().is_empty() || *to == watch.path)
        {
            params.problem_of("feedback-to", "须是 path 以外的目录,否则反馈会被当作报文收取");
        }
        if (watch.after == After::Move) != params.has("move-to") {
            params.problem_of("move-to", "after: move 时须给出,其他情况下不能给出");
        }
        if params.has("move-to") && watch.move_to.as_os_str().is_empty() {
            params.problem_of("move-to", "不能为空");
        }
        if params.has("move-to") && watch.move_to == watch.path {
            params.problem_of("move-to", "不能与 path 相同");
        }
        if watch.flag.as_deref() == Some("") {
            params.problem_of("flag", "不能为空");
        }
        params.done();
        let problems = problems.into_inner();
        if problems.is_empty() { Ok(Arc::new(watch)) } else { Err(problems) }
    }
}

/// A folder that feedback is put into.
struct Put(PathBuf);

impl FileSink for Put {
    fn put(&self, name: String, bytes: bytes::Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let begun = self.0.join(format!(".{name}.tmp"));
            let put = async {
                tokio::fs::write(&begun, &bytes).await?;
                tokio::fs::File::open(&begun).await?.sync_all().await?;
                tokio::fs::rename(&begun, self.0.join(&name)).await
            };
            put.await.map_err(|error: std::io::Error| {
                let text = format!("无法写入反馈目录 {}({})", self.0.display(), io_words(&error));
                Box::new(fault("source.feedback", Blame::Operator, text)) as Fault
            })
        })
    }
}

impl Source for Watch {
    fn feedback(&self) -> Option<FeedbackRoad> {
        let to = self.feedback_to.clone()?;
        Some(FeedbackRoad::Files(Arc::new(Put(to))))
    }

    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut attempt = 0;
            let mut taken = loop {
                if context.shutdown.has_begun() {
                    return;
                }
                match context.inbox.cursor().await {
                    Ok(cursor) => break decode(cursor.as_deref().unwrap_or_default()),
                    Err(fault) => {
                        context.inbox.progress(Err(fault.as_ref()));
                        attempt += 1;
                        let wait = wait_after(attempt, fault.retry(), self.poll, &context);
                        pause(wait, &context.shutdown).await;
                    }
                }
            };
            let mut looks = BTreeMap::new();
            attempt = 0;
            while !context.shutdown.has_begun() {
                let wait = match self.round(&context, &mut taken, &mut looks).await {
                    Ok(()) => {
                        attempt = 0;
                        self.poll
                    }
                    Err(retry) => {
                        attempt += 1;
                        wait_after(attempt, retry, self.poll, &context)
                    }
                };
                pause(wait, &context.shutdown).await;
            }
        })
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

type Looks = BTreeMap<OsString, Look>;

impl Watch {
    /// One look at the folder. An error is one of the folder or the inbox as a whole; it has been
    /// reported. One file's trouble does not hold up the others.
    async fn round(
        &self,
        context: &SourceContext,
        taken: &mut BTreeSet<u128>,
        looks: &mut Looks,
    ) -> Result<(), Retry> {
        let (path, aside) = (self.path.clone(), self.move_to.clone());
        let listed = tokio::task::spawn_blocking(move || file::list(&path, &aside)).await;
        let listed = match listed.map_err(std::io::Error::other).and_then(|listed| listed) {
            Ok(listed) => listed,
            Err(error) => {
                let text = format!("无法读取目录 {}({})", self.path.display(), io_words(&error));
                let fault = fault("source.folder-unreadable", Blame::Operator, text);
                context.inbox.progress(Err(&fault));
                return Err(Retry::Backoff);
            }
        };
        // The memory is bounded by what stands in the folder.
        let present: BTreeSet<u128> = listed.iter().map(|(name, at)| at.digest(name)).collect();
        taken.retain(|digest| present.contains(digest));
        let names: BTreeSet<&OsString> = listed.iter().map(|(name, _)| name).collect();
        looks.retain(|name, _| names.contains(name));

        let mut trouble: Option<SourceFault> = None;
        let mut count = 0_u64;
        for (name, stamp) in &listed {
            if context.shutdown.has_begun() {
                break;
            }
            let now = context.clock.now();
            if !self.wanted(name, &names) {
                continue;
            }
            let digest = stamp.digest(name);
            let is_taken = taken.contains(&digest);
            if is_taken && self.after == After::Leave {
                continue;
            }
            let look = looks.entry(name.clone()).or_insert_with(|| Look::first(*stamp, now));
            if look.stamp != *stamp || now < look.since {
                *look = Look::first(*stamp, now);
            }
            if now < look.not_before || !(is_taken || look.settled(now, self.settle)) {
                continue;
            }
            let done = if is_taken {
                Ok(())
            } else {
                self.take(context, name, *stamp, taken).await.inspect(|()| count += 1)
            };
            let done = match done {
                Ok(()) => self.dispose(name, *stamp).await,
                Err(Failure::File(fault)) => Err(fault),
                Err(Failure::Inbox(retry)) => return Err(retry),
            };
            match done {
                Ok(()) => {
                    looks.remove(name);
                }
                Err(fault) => {
                    look.attempts += 1;
                    let wait = wait_after(look.attempts, Retry::Backoff, self.poll, context);
                    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    look.not_before = now.plus_millis(millis);
                    trouble.get_or_insert(fault);
                }
            }
        }
        match &trouble {
            Some(fault) => context.inbox.progress(Err(fault)),
            None if count == 0 => context.inbox.progress(Ok("目录中没有新文件")),
            None => context.inbox.progress(Ok(&format!("本轮接收{count}个文件"))),
        }
        Ok(())
    }

    fn wanted(&self, name: &OsString, names: &BTreeSet<&OsString>) -> bool {
        let text = shown(name);
        is_whole_name(&text)
            && matches(&self.pattern, &text.to_lowercase())
            && self.flag.as_deref().is_none_or(|flag| {
                !text.ends_with(flag)
                    && file::companions(name, flag).iter().any(|file| names.contains(file))
            })
    }

    /// Hands one file to the inbox.
    async fn take(
        &self,
        context: &SourceContext,
        name: &OsString,
        stamp: Stamp,
        taken: &mut BTreeSet<u128>,
    ) -> Result<(), Failure> {
        let text = shown(name);
        let limit = self.max_bytes;
        if stamp.size > limit {
            let why = format!("文件 {text} 超过上限{limit}字节,未接收");
            return Err(Failure::File(fault("source.too-large", Blame::Agency, why)));
        }
        let unreadable = |error: &std::io::Error| {
            let why = format!("无法读取文件 {text}({})", io_words(error));
            Failure::File(fault("source.file-unreadable", Blame::Operator, why))
        };
        let broken = Arc::new(AtomicBool::new(false));
        let body = file::read(&self.path.join(name), stamp, Arc::clone(&broken)).await;
        let body: ByteStream = body.map_err(|error| unreadable(&error))?;
        let digest = stamp.digest(name);
        taken.insert(digest);
        let cursor = Some(encode(taken));
        let received =
            context.inbox.receive(Arrival { name: Some(text.clone()), body, cursor }).await;
        match received {
            Ok(_) => Ok(()),
            Err(fault) => {
                taken.remove(&digest);
                if broken.load(Ordering::Acquire) {
                    let why = format!("文件 {text} 在读取时仍有变化,稍后再取");
                    let changed = SourceFault {
                        code: "source.file-changed",
                        blame: Blame::Agency,
                        retry: Retry::Backoff,
                        text: why,
                    };
                    return Err(Failure::File(changed));
                }
                if fault.retry() == Retry::Never {
                    let why = format!("文件 {text} 未被接收:{fault}");
                    return Err(Failure::File(SourceFault {
                        code: fault.code(),
                        blame: fault.blame(),
                        retry: Retry::Never,
                        text: why,
                    }));
                }
                context.inbox.progress(Err(fault.as_ref()));
                Err(Failure::Inbox(fault.retry()))
            }
        }
    }

    /// What `after` asks for, once the receipt is there. A file that changed since is a new one
    /// and stays.
    async fn dispose(&self, name: &OsString, stamp: Stamp) -> Result<(), SourceFault> {
        let from = self.path.join(name);
        if self.after == After::Leave || Stamp::of_path(&from).await.ok() != Some(stamp) {
            return Ok(());
        }
        let mut files = vec![name.clone()];
        if let Some(flag) = &self.flag {
            files.extend(file::companions(name, flag));
        }
        for (i, file) in files.iter().enumerate() {
            let from = self.path.join(file);
            let done = if self.after == After::Move {
                file::move_into(&from, &self.move_to, file).await
            } else {
                tokio::fs::remove_file(&from).await
            };
            match done {
                Err(error) if i == 0 || error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(self.undisposed(name, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn undisposed(&self, name: &OsString, error: &std::io::Error) -> SourceFault {
        let act = match self.after {
            After::Move => format!("移到 {}", self.move_to.display()),
            After::Delete | After::Leave => "删除".to_owned(),
        };
        let hint = match error.kind() {
            std::io::ErrorKind::CrossesDevices => ";move-to 须与 path 在同一文件系统",
            _ => "",
        };
        let why = io_words(error);
        let text = format!("文件 {} 已接收,但无法{act}({why}){hint}", shown(name));
        fault("source.file-not-moved", Blame::Operator, text)
    }
}

enum Failure {
    /// Of this file only.
    File(SourceFault),
    /// Of the inbox; reported.
    Inbox(Retry),
}

fn fault(code: &'static str, blame: Blame, text: String) -> SourceFault {
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

/// Layout of the cursor: `f1`, then the 16-byte digest of every file taken that still stands in
/// the folder. Another layout reads as nothing taken: the inbox knows duplicates by content.
fn encode(taken: &BTreeSet<u128>) -> Vec<u8> {
    taken.iter().fold(b"f1".to_vec(), |mut bytes, digest| {
        bytes.extend_from_slice(&digest.to_be_bytes());
        bytes
    })
}

fn decode(cursor: &[u8]) -> BTreeSet<u128> {
    let digests = cursor.strip_prefix(b"f1").unwrap_or_default();
    digests.as_chunks::<16>().0.iter().map(|digest| u128::from_be_bytes(*digest)).collect()
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

    #[test]
    fn the_cursor_reads_back_and_foreign_ones_are_empty() {
        let taken = BTreeSet::from([1, u128::MAX]);
        assert_eq!(decode(&encode(&taken)), taken);
        assert!(decode(b"{}").is_empty());
        assert!(decode(b"").is_empty());
    }
}
