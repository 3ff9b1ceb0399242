//! `folder`: takes files that agencies put into a folder (监视目录), each once, when it is whole.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xinqiao_core::fault::{Blame, io_words};
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{
    BoxFuture, ByteStream, Fault, FileSink, ParamProblem, Secrets, Source, SourceFactory,
};

use super::files::name::numbered;
use super::files::{After, Habits, Place, Trouble, Watch, Why, fault};
use crate::wire::files::{Exactly, Listed, Listing, Names, Stamp};
use crate::wire::params::{Params, Problems};

/// The kind `folder`. Parameters:
///
/// | name | meaning | default |
/// |---|---|---|
/// | `path` | the folder; subfolders and symbolic links are not followed | required |
/// | `pattern` | `*` and `?`, upper and lower case alike | `*` |
/// | `settle-seconds` | how long size and time must stand still | 5 |
/// | `confirm-seconds` | how long they must stand still before `after` is done | 600 |
/// | `poll-seconds` | how often to look | 2 |
/// | `flag` | suffix of a companion file (`a.csv.ok` or `a.ok`) that must be there | none |
/// | `after` | `leave`, `move` or `delete`, once the receipt is there | `leave` |
/// | `move-to` | where to, on the same file system | with `move` |
/// | `max-bytes` | larger files are reported and left | 2 GiB |
/// | `sequence`, `sequence-first` | how names are numbered, so that missing numbers are told | none |
/// | `feedback-to` | folder that verdicts are put into | none |
pub(super) struct Folder;

#[derive(Debug, Clone)]
struct Local {
    path: PathBuf,
    move_to: PathBuf,
}

impl SourceFactory for Folder {
    fn kind(&self) -> &'static str {
        "folder"
    }

    fn build(&self, params: &Value, _: &dyn Secrets) -> Result<Arc<dyn Source>, Vec<ParamProblem>> {
        let problems = Problems::default();
        let mut params = Params::new(params, &problems);
        let path = PathBuf::from(params.need_text("path"));
        let (habits, move_to) = {
            let (poll, settle) = (Duration::from_secs(2), Duration::from_secs(5));
            Habits::from_params(&mut params, poll, settle, "move-to")
        };
        if habits.after == After::Move && Path::new(&move_to) == path {
            params.problem_of("move-to", "不能与 path 相同");
        }
        let feedback = params.text("feedback-to").map(PathBuf::from);
        if feedback.as_ref().is_some_and(|to| to.as_os_str().is_empty() || *to == path) {
            params.problem_of("feedback-to", "须是 path 以外的目录,否则反馈会被当作报文收取");
        }
        params.done();
        let problems = problems.into_inner();
        if !problems.is_empty() {
            return Err(problems);
        }
        let feedback = feedback.map(|folder| Arc::new(Feedback(folder)) as Arc<dyn FileSink>);
        let place = Local { path, move_to: move_to.into() };
        Ok(Arc::new(Watch { place, habits, feedback }))
    }
}

impl Place for Local {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn name(&self, name: &[u8]) -> String {
        Names::utf8().shown(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        name.as_bytes().to_vec()
    }

    fn list<'a>(&'a self, _: Timestamp, _: Exactly<'a>) -> BoxFuture<'a, Result<Listing, Trouble>> {
        Box::pin(async move {
            let (path, aside) = (self.path.clone(), self.move_to.clone());
            let listed = tokio::task::spawn_blocking(move || list(&path, &aside)).await;
            listed.map_err(io::Error::other).and_then(|listed| listed).map_err(|e| trouble(&e))
        })
    }

    fn open<'a>(
        &'a self,
        file: &'a Listed,
        why: Why,
    ) -> BoxFuture<'a, Result<ByteStream, Trouble>> {
        Box::pin(async move {
            read(&self.at(&file.name), file.stamp, why).await.map_err(|e| trouble(&e))
        })
    }

    fn stat<'a>(&'a self, file: &'a Listed) -> BoxFuture<'a, Result<Stamp, Trouble>> {
        Box::pin(async move { stamp_of(&self.at(&file.name)).await.map_err(|e| trouble(&e)) })
    }

    fn move_aside<'a>(
        &'a self,
        name: &'a [u8],
        size: Option<u64>,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let from = self.at(name);
            let to = move_into(&from, &self.move_to, name).await.map_err(|error| {
                match error.kind() {
                    io::ErrorKind::CrossesDevices => Trouble::File(format!(
                        "{};move-to 须与 path 在同一文件系统",
                        io_words(&error)
                    )),
                    _ => trouble(&error),
                }
            })?;
            match (size, stamp_of(&to).await) {
                (Some(size), Ok(now)) if now.size != size => {}
                _ => return Ok(()),
            }
            // A link never replaces, as a rename would.
            let back = async {
                tokio::fs::hard_link(&to, &from).await?;
                tokio::fs::remove_file(&to).await
            };
            back.await.map_err(|error| {
                let (to, why) = (to.display(), io_words(&error));
                Trouble::File(format!("移走时文件仍在写入,又不能移回({why}),请核对 {to}"))
            })?;
            Err(Trouble::Changed)
        })
    }

    fn delete<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            tokio::fs::remove_file(self.at(name)).await.map_err(|error| trouble(&error))
        })
    }
}

impl Local {
    fn at(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

fn trouble(error: &io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::NotFound => Trouble::Gone,
        _ => Trouble::File(io_words(error).into_owned()),
    }
}

/// A folder that takes feedback.
struct Feedback(PathBuf);

impl FileSink for Feedback {
    fn put(&self, name: String, bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let put = async {
                let part = self.0.join(format!(".{name}.part"));
                let mut file = File::create(&part).await?;
                file.write_all(&bytes).await?;
                file.sync_all().await?;
                tokio::fs::rename(&part, self.0.join(&name)).await?;
                // The store remembers that the agency was told, and nobody tells it again.
                match File::open(&self.0).await?.sync_all().await {
                    // Some network shares know no such thing.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                        ) =>
                    {
                        Ok(())
                    }
                    other => other,
                }
            };
            put.await.map_err(|error: io::Error| {
                let (folder, why) = (self.0.display(), io_words(&error));
                let text = format!("反馈文件 {name} 无法写入目录 {folder}({why})");
                Box::new(fault("source.feedback-not-put", Blame::Operator, text)) as Fault
            })
        })
    }
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    let nanos = |seconds, rest| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Stamp {
        size: meta.len(),
        modified_ns: nanos(meta.mtime(), meta.mtime_nsec()),
        changed_ns: nanos(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    }
}

/// Of what stands at `path` itself, not of what it links to.
async fn stamp_of(path: &Path) -> io::Result<Stamp> {
    tokio::fs::symlink_metadata(path).await.map(|meta| stamp(&meta))
}

/// The regular files of a folder. Blocking. `aside` must be another folder: files moved from a
/// folder into itself would come back for ever.
fn list(path: &Path, aside: &Path) -> io::Result<Listing> {
    if !aside.as_os_str().is_empty() {
        let (here, there) = (std::fs::metadata(path)?, std::fs::metadata(aside)?);
        if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
            return Err(io::Error::other("move-to 与 path 是同一目录"));
        }
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        // A file that vanished between the two calls is no fault.
        let Ok(meta) = std::fs::symlink_metadata(entry.path()) else { continue };
        if meta.is_file() {
            files.push(Listed { name: entry.file_name().into_vec(), stamp: stamp(&meta) });
        }
    }
    Ok(Listing { files, odd: Vec::new() })
}

/// Streams a file that must look like `expected` before and after: a change ends the stream with an
/// error and says so in `why`, so that nothing half-written is ever acknowledged.
async fn read(path: &Path, expected: Stamp, why: Why) -> io::Result<ByteStream> {
    let file = File::open(path).await?;
    if stamp(&file.metadata().await?) != expected {
        return Err(io::Error::other("文件刚刚有变化"));
    }
    let state = (file, 0_u64);
    Ok(Box::pin(stream::try_unfold(state, move |(mut file, done)| {
        let why = Arc::clone(&why);
        async move {
            let step = async {
                let mut chunk = BytesMut::with_capacity(64 << 10);
                let len = file.read_buf(&mut chunk).await?;
                let done = done + u64::try_from(len).unwrap_or(0);
                let same = stamp(&file.metadata().await?) == expected;
                if done > expected.size || !same || (len == 0 && done != expected.size) {
                    return Err(io::Error::other("文件在读取时有变化"));
                }
                Ok((len > 0).then(|| (chunk.freeze(), (file, done))))
            };
            step.await.inspect_err(|_: &io::Error| {
                *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(Trouble::Changed);
            })
        }
    })))
}

/// Moves a file into a folder of the same file system. A taken name gets `-1`, `-2`, …; the name
/// is reserved by an empty file first, because a rename silently replaces. Tells where it is.
async fn move_into(from: &Path, folder: &Path, name: &[u8]) -> io::Result<PathBuf> {
    tokio::fs::symlink_metadata(from).await?;
    for attempt in 0_u32.. {
        let to = folder.join(OsStr::from_bytes(&numbered(name, attempt)));
        match File::options().write(true).create_new(true).open(&to).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return match tokio::fs::rename(from, &to).await {
                    Ok(()) => Ok(to),
                    Err(error) => {
                        let _ = tokio::fs::remove_file(&to).await;
                        Err(error)
                    }
                };
            }
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use std::io::Write;

    fn is_changed(why: &Why) -> bool {
        matches!(*why.lock().unwrap(), Some(Trouble::Changed))
    }

    #[tokio::test]
    async fn a_file_written_to_while_read_breaks_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, vec![b'x'; 200_000]).unwrap();
        let stamp = stamp_of(&path).await.unwrap();
        let why = Why::default();
        let whole = read(&path, stamp, Arc::clone(&why)).await.unwrap();
        let len: usize = whole
            .map_ok(|chunk| chunk.len())
            .try_fold(0, |a, b| async move { Ok(a + b) })
            .await
            .unwrap();
        assert_eq!((len, is_changed(&why)), (200_000, false));

        let mut stream = read(&path, stamp, Arc::clone(&why)).await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let rest: Result<Vec<_>, _> = stream.try_collect().await;
        assert!(rest.is_err() && is_changed(&why));
        assert!(read(&path, stamp, why).await.is_err());
    }

    #[tokio::test]
    async fn a_file_in_anothers_place_is_another_whatever_its_times_say() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let put = async |content: &str| {
            // Written over, not renamed: the inode stays.
            std::fs::write(&path, content).unwrap();
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
            stamp_of(&path).await.unwrap()
        };
        let (first, second) = (put("9001").await, put("9002").await);
        assert_eq!((first.size, first.modified_ns), (second.size, second.modified_ns));
        assert_ne!(first.digest(b"a.csv"), second.digest(b"a.csv"));
    }

    #[tokio::test]
    async fn moving_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path().join("done");
        std::fs::create_dir(&aside).unwrap();
        for content in ["1", "2", "3"] {
            let from = folder.path().join("a.csv");
            std::fs::write(&from, content).unwrap();
            move_into(&from, &aside, b"a.csv").await.unwrap();
        }
        let read = |name| std::fs::read_to_string(aside.join(name)).unwrap();
        assert_eq!([read("a.csv"), read("a-1.csv"), read("a-2.csv")], ["1", "2", "3"]);
        assert!(move_into(&folder.path().join("none"), &aside, b"n").await.is_err());
        assert!(!aside.join("n").try_exists().unwrap());
    }

    #[tokio::test]
    async fn what_is_written_while_a_file_is_moved_brings_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let place = Local { path: folder.path().join("in"), move_to: folder.path().join("done") };
        std::fs::create_dir(&place.path).unwrap();
        std::fs::create_dir(&place.move_to).unwrap();
        let (here, there) = (place.path.join("a.csv"), place.move_to.join("a.csv"));
        std::fs::write(&here, "12").unwrap();
        let moved = place.move_aside(b"a.csv", Some(1)).await;
        assert!(matches!(moved, Err(Trouble::Changed)), "{moved:?}");
        assert_eq!(std::fs::read_to_string(&here).unwrap(), "12");
        assert!(!there.try_exists().unwrap());
        place.move_aside(b"a.csv", Some(2)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "12");
        assert!(!here.try_exists().unwrap());
    }

    #[tokio::test]
    async fn feedback_is_put_whole_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Feedback(folder.path().to_owned());
        for text in ["one", "two"] {
            sink.put("反馈.csv".to_owned(), Bytes::from(text)).await.unwrap();
        }
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["反馈.csv"]);
        assert_eq!(std::fs::read_to_string(folder.path().join("反馈.csv")).unwrap(), "two");
        let gone = Feedback(folder.path().join("none"));
        let fault = gone.put("a".to_owned(), Bytes::new()).await.unwrap_err();
        assert_eq!(fault.code(), "source.feedback-not-put");
    }
}
