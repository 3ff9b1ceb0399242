//! One file of a watched folder: its name, its stamp, its bytes, its last way.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use futures_util::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::ByteStream;

use crate::wire::digest::digest;

/// What changes when a file's content does. The time of the last change of any kind is the one that
/// nobody can set: a file put in another's place with its size and time (`cp -p`) has a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
    pub(super) inode: u64,
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        let nanos = |seconds, rest| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            size: meta.len(),
            modified_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            changed_ns: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    /// Of what stands at `path` itself, not of what it links to.
    pub(super) async fn of_path(path: &Path) -> io::Result<Self> {
        tokio::fs::symlink_metadata(path).await.map(|meta| Self::of(&meta))
    }

    pub(super) fn modified(&self) -> Timestamp {
        Timestamp(u64::try_from(self.modified_ns / 1_000_000).unwrap_or(0))
    }

    /// Identifies this state of the file of this name.
    pub(super) fn digest(&self, name: &OsStr) -> u128 {
        let Self { size, modified_ns, changed_ns, inode } = self;
        let numbers = [(*size).into(), *modified_ns, *changed_ns, (*inode).into()];
        let parts = numbers.map(i128::to_le_bytes);
        digest(std::iter::once(name.as_bytes()).chain(parts.iter().map(<[u8; 16]>::as_slice)))
    }
}

/// The regular files of a folder, oldest first. Blocking. `aside` must be another folder: files
/// moved from a folder into itself would come back for ever.
pub(super) fn list(path: &Path, aside: &Path) -> io::Result<Vec<(OsString, Stamp)>> {
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
            files.push((entry.file_name(), Stamp::of(&meta)));
        }
    }
    files.sort_by(|(a, x), (b, y)| (x.modified_ns, a).cmp(&(y.modified_ns, b)));
    Ok(files)
}

/// A name for people. Names that are not UTF-8 come from GB18030 systems.
pub(super) fn shown(name: &OsStr) -> String {
    match name.to_str() {
        Some(name) => name.to_owned(),
        None => encoding_rs::GB18030.decode_without_bom_handling(name.as_bytes()).0.into_owned(),
    }
}

/// Whether the name is of a finished file: hidden, temporary and office lock files are not.
pub(super) fn is_whole_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let begun = name.starts_with('.') || name.starts_with("~$");
    !begun && ![".tmp", ".part", ".filepart"].iter().any(|suffix| name.ends_with(suffix))
}

/// The companion files that may say `name` is whole: `a.csv.ok` and `a.ok`.
pub(super) fn companions(name: &OsStr, flag: &str) -> Vec<OsString> {
    let with = |stem: &[u8]| OsString::from_vec([stem, flag.as_bytes()].concat());
    let mut files = vec![with(name.as_bytes())];
    files.extend(Path::new(name).file_stem().map(|stem| with(stem.as_bytes())));
    files.retain(|file| file != name);
    files.dedup();
    files
}

/// Whether a name fits a pattern of `*` (any run) and `?` (one character), both in lower case.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on if the last `*` has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(&want) if want == '?' || want == c => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after, from)) = star else { return false };
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Streams a file that must look like `stamp` before and after: a change ends the stream with an
/// error and sets `broken`, so that nothing half-written is ever acknowledged.
pub(super) async fn read(
    path: &Path,
    stamp: Stamp,
    broken: Arc<AtomicBool>,
) -> io::Result<ByteStream> {
    let file = File::open(path).await?;
    if Stamp::of(&file.metadata().await?) != stamp {
        return Err(io::Error::other("文件刚刚有变化"));
    }
    let state = (file, 0_u64);
    Ok(Box::pin(stream::try_unfold(state, move |(mut file, done)| {
        let broken = Arc::clone(&broken);
        async move {
            let step = async {
                let mut chunk = BytesMut::with_capacity(64 << 10);
                let len = file.read_buf(&mut chunk).await?;
                let done = done + u64::try_from(len).unwrap_or(0);
                let same = Stamp::of(&file.metadata().await?) == stamp;
                if done > stamp.size || !same || (len == 0 && done != stamp.size) {
                    return Err(io::Error::other("文件在读取时有变化"));
                }
                Ok((len > 0).then(|| (chunk.freeze(), (file, done))))
            };
            step.await.inspect_err(|_: &io::Error| broken.store(true, Ordering::Release))
        }
    })))
}

/// Moves a file into a folder of the same file system. A taken name gets `-1`, `-2`, …; the name
/// is reserved by an empty file first, because a rename silently replaces.
pub(super) async fn move_into(from: &Path, folder: &Path, name: &OsStr) -> io::Result<()> {
    tokio::fs::symlink_metadata(from).await?;
    for attempt in 0_u32.. {
        let to = folder.join(numbered(name, attempt));
        match File::options().write(true).create_new(true).open(&to).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return match tokio::fs::rename(from, &to).await {
                    Ok(()) => Ok(()),
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

/// `a.csv` → `a-2.csv`.
fn numbered(name: &OsStr, number: u32) -> OsString {
    if number == 0 {
        return name.to_owned();
    }
    let path = Path::new(name);
    let mut out = path.file_stem().unwrap_or(name).to_owned();
    out.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        out.push(".");
        out.push(extension);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;
    use std::io::Write;

    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*", ""),
            ("*.csv", "a.csv"),
            ("??-*.x", "局a-1-2.x"),
            ("a*b*c", "axxbyybzc"),
            ("*a*", "a"),
            ("处罚*", "处罚表.xlsx"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.csv", "a.csvx"), ("?", ""), ("a*b", "a"), ("", "a"), ("?", "ab")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn unfinished_names_are_known() {
        for name in ["a.tmp", "A.PART", "a.csv.filepart", "~$a.xlsx", ".a.csv"] {
            assert!(!is_whole_name(name), "{name}");
        }
        assert!(is_whole_name("a.csv"));
        assert_eq!(shown(OsStr::from_bytes(b"\xb4\xa6\xb7\xa3.csv")), "处罚.csv");
        assert_eq!(companions(OsStr::new("a.csv"), ".ok"), ["a.csv.ok", "a.ok"]);
    }

    #[tokio::test]
    async fn a_file_written_to_while_read_breaks_the_stream() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, vec![b'x'; 200_000]).unwrap();
        let stamp = Stamp::of_path(&path).await.unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let whole = read(&path, stamp, Arc::clone(&broken)).await.unwrap();
        let len: usize = whole
            .map_ok(|chunk| chunk.len())
            .try_fold(0, |a, b| async move { Ok(a + b) })
            .await
            .unwrap();
        assert_eq!((len, broken.load(Ordering::Acquire)), (200_000, false));

        let mut stream = read(&path, stamp, Arc::clone(&broken)).await.unwrap();
        assert!(stream.try_next().await.unwrap().is_some());
        std::fs::File::options().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let rest: Result<Vec<_>, _> = stream.try_collect().await;
        assert!(rest.is_err() && broken.load(Ordering::Acquire));
        assert!(read(&path, stamp, broken).await.is_err());
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
            Stamp::of_path(&path).await.unwrap()
        };
        let (first, second) = (put("9001").await, put("9002").await);
        assert_eq!((first.size, first.modified_ns), (second.size, second.modified_ns));
        assert_ne!(first.digest(OsStr::new("a.csv")), second.digest(OsStr::new("a.csv")));
    }

    #[tokio::test]
    async fn moving_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path().join("done");
        std::fs::create_dir(&aside).unwrap();
        for content in ["1", "2", "3"] {
            let from = folder.path().join("a.csv");
            std::fs::write(&from, content).unwrap();
            move_into(&from, &aside, OsStr::new("a.csv")).await.unwrap();
        }
        let read = |name| std::fs::read_to_string(aside.join(name)).unwrap();
        assert_eq!([read("a.csv"), read("a-1.csv"), read("a-2.csv")], ["1", "2", "3"]);
        assert!(move_into(&folder.path().join("none"), &aside, OsStr::new("n")).await.is_err());
        assert!(!aside.join("n").try_exists().unwrap());
    }
}
