//! Revocation lists in files (吊销列表文件) that are read again when they change: of TLS, and of the
//! gateway's envelopes.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes of what rests on a revocation list when it is past its next update (过期的吊销列表).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stale {
    /// It goes on by the old list, and the operator is warned every day. The default: a list that
    /// comes late must not stop reports with a legal deadline, and what it does list stays refused.
    #[default]
    Accept,
    /// It is refused until a new list is there.
    Refuse,
}

/// Something about revocation lists that an operator should know. Work goes on by the lists read
/// before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// Past its next update.
    #[error("吊销列表 {0} 已过下次更新时间,请更新")]
    Stale(String),
    /// Changed, and now it cannot be used.
    #[error("吊销列表 {0} 已改动但无法使用({1}),仍按先前读入的列表执行")]
    Unusable(String, String),
    /// Changed, and read.
    #[error("吊销列表已重新读入")]
    Renewed,
}

impl Notice {
    /// Stable code, `tls.crl-stale` where `of` is `tls`.
    pub fn code(&self, of: &str) -> String {
        let what = match self {
            Self::Stale(_) => "stale",
            Self::Unusable(..) => "unusable",
            Self::Renewed => "renewed",
        };
        format!("{of}.crl-{what}")
    }
}

/// Who is told of a [`Notice`]: the log.
pub type Notify = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Revocation lists (吊销列表), or none: then nothing is looked up.
#[derive(Clone)]
pub struct Lists {
    /// Files, each with one list in DER or any number in PEM.
    pub files: Vec<PathBuf>,
    /// What an outdated one means.
    pub stale: Stale,
    /// Who is told.
    pub notify: Notify,
}

/// A file that cannot be used: its path (empty if it is not known which), and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable(pub String, pub String);

/// What is made of the lists, and when each file's earliest next update is (seconds since 1970).
pub type Built<T> = (Arc<T>, Vec<u64>);

/// Reads the files of lists and makes something of them.
pub type Build<T> = dyn Fn(&[PathBuf]) -> Result<Built<T>, Unusable> + Send + Sync;

/// What is made of lists, made anew when a file changes. Files are looked at (not read) at every
/// use: a few microseconds.
pub struct Watched<T: ?Sized> {
    lists: Lists,
    build: Box<Build<T>>,
    state: Mutex<State<T>>,
}

struct State<T: ?Sized> {
    made: Arc<T>,
    seen: Vec<Option<Stamp>>,
    due: Vec<u64>,
    /// The last day (since 1970) that an outdated list was told of.
    told: Option<u64>,
}

/// What shows that a file has changed: also a change of its content within one tick of the clock
/// moves its inode or size, as lists are put in place by renaming.
#[derive(PartialEq, Eq)]
struct Stamp([i64; 4], u64, u64);

impl<T: ?Sized> Watched<T> {
    /// Reads the files for the first time; now all must be usable.
    pub fn new(lists: Lists, build: Box<Build<T>>) -> Result<Self, Unusable> {
        let seen = lists.files.iter().map(|path| stamp(path)).collect();
        let (made, due) = build(&lists.files)?;
        let state = Mutex::new(State { made, seen, due, told: None });
        Ok(Self { lists, build, state })
    }

    /// What an outdated list means.
    pub fn stale(&self) -> Stale {
        self.lists.stale
    }

    /// What was made of the files last.
    pub fn last(&self) -> Arc<T> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).made)
    }

    /// What is made of the files as they are; `at` (seconds since 1970) is the time that lists are
    /// measured by.
    pub fn now(&self, at: u64) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seen: Vec<_> = self.lists.files.iter().map(|path| stamp(path)).collect();
        if seen != state.seen {
            // Even if it fails: tried again when the files change again.
            state.seen = seen;
            self.renew(&mut state);
        }
        self.tell_stale(&mut state, at);
        Arc::clone(&state.made)
    }

    fn renew(&self, state: &mut State<T>) {
        match (self.build)(&self.lists.files) {
            Ok((made, due)) => {
                (state.made, state.due, state.told) = (made, due, None);
                (self.lists.notify)(&Notice::Renewed);
            }
            Err(Unusable(path, why)) => (self.lists.notify)(&Notice::Unusable(path, why)),
        }
    }

    fn tell_stale(&self, state: &mut State<T>, at: u64) {
        let today = Some(at / 86_400);
        if state.told == today {
            return;
        }
        for (path, _) in self.lists.files.iter().zip(&state.due).filter(|(_, due)| **due < at) {
            state.told = today;
            (self.lists.notify)(&Notice::Stale(path.display().to_string()));
        }
    }
}

impl<T: ?Sized> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.lists.files).finish_non_exhaustive()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
    Some(Stamp(times, about.size(), about.ino()))
}
