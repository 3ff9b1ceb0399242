//! A folder of a file server as a place: one session, kept between looks and renewed when it breaks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use xinqiao_core::fault::Blame;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{BoxFuture, ByteStream, Fault, FileSink, Source};

use super::name::numbered;
use super::{Habits, Place, Trouble, Watch, Why, fault};
use crate::sources::SourceFault;
use crate::wire::files::{
    Exactly, GRACE, Link, Listed, Listing, Server, ServerError, Stamp, join, longest, put_whole,
    too_slow,
};
use crate::wire::params::Params;

/// Reads what sources on file servers share, `directory`, `done-directory` and `feedback-directory`
/// among it, and makes the source if the server is known.
pub(in crate::sources) fn watch<S: Server>(
    params: &mut Params<'_>,
    server: Option<S>,
) -> Option<Arc<dyn Source>> {
    let folder = params.need_text("directory");
    let (poll, settle) = (Duration::from_secs(30), Duration::from_secs(60));
    let (habits, done) = Habits::from_params(params, poll, settle, "done-directory");
    let feedback = params.text("feedback-directory");
    let same = |other: &str| other.trim_end_matches('/') == folder.trim_end_matches('/');
    if !done.is_empty() && same(&done) {
        params.problem_of("done-directory", "不能与 directory 相同");
    }
    if feedback.as_deref().is_some_and(same) {
        let why = "不能与 directory 相同:反馈文件会被当作报送文件取走";
        params.problem_of("feedback-directory", why);
    }
    let server = Arc::new(server?);
    let bytes = |text: &str| server.names().bytes(text);
    let feedback = feedback.map(|folder| {
        Arc::new(Feedback { folder: bytes(&folder), server: Arc::clone(&server) })
            as Arc<dyn FileSink>
    });
    let place = Remote {
        shown: format!("{} {folder}", server.address()),
        folder: bytes(&folder),
        done: bytes(&done),
        link: Arc::default(),
        server,
        grace: GRACE,
    };
    Some(Arc::new(Watch { place, habits, feedback }))
}

/// Line by line a server could take for ever.
const LONGEST_LISTING: Duration = Duration::from_secs(600);

struct Remote<S: Server> {
    server: Arc<S>,
    shown: String,
    folder: Vec<u8>,
    done: Vec<u8>,
    /// Taken out for every act and put back after it: what is cut short or breaks is not used again.
    link: Arc<Mutex<Option<S::Link>>>,
    grace: Duration,
}

impl<S: Server> Remote<S> {
    /// A session; without one the place as a whole is out of reach.
    async fn link(&self) -> Result<S::Link, Trouble> {
        match self.kept().await {
            Some(link) => Ok(link),
            None => self.server.connect().await.map_err(|error| Trouble::Place(of_server(&error))),
        }
    }

    /// The session of the last act. The lock is let go of at once.
    async fn kept(&self) -> Option<S::Link> {
        self.link.lock().await.take()
    }

    async fn listed(
        &self,
        link: &mut S::Link,
        now: Timestamp,
        exactly: Exactly<'_>,
    ) -> Result<Listing, ServerError> {
        let listing = link.list(&self.folder, now, exactly);
        let late = |_| ServerError::Broken("目录列得太慢,已放弃".to_owned());
        timeout(LONGEST_LISTING, listing).await.map_err(late)?
    }

    /// Puts the session back if it can be used further.
    async fn back<T>(&self, link: S::Link, done: Result<T, ServerError>) -> Result<T, Trouble> {
        if done.as_ref().err().is_none_or(ServerError::stands) {
            *self.link.lock().await = Some(link);
        }
        done.map_err(|error| trouble(&error))
    }
}

impl<S: Server> Place for Remote<S> {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn name(&self, name: &[u8]) -> String {
        self.server.names().shown(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.server.names().bytes(name)
    }

    fn list<'a>(
        &'a self,
        now: Timestamp,
        exactly: Exactly<'a>,
    ) -> BoxFuture<'a, Result<Listing, Trouble>> {
        Box::pin(async move {
            // A session that idled since the last look may have been closed: that is no fault.
            if let Some(mut link) = self.kept().await {
                let listed = self.listed(&mut link, now, exactly).await;
                if listed.as_ref().err().is_none_or(ServerError::stands) {
                    return self.back(link, listed).await;
                }
            }
            let mut link = self.link().await?;
            let listed = self.listed(&mut link, now, exactly).await;
            self.back(link, listed).await
        })
    }

    fn open<'a>(
        &'a self,
        file: &'a Listed,
        why: Why,
    ) -> BoxFuture<'a, Result<ByteStream, Trouble>> {
        Box::pin(async move {
            let path = join(&self.folder, &file.name);
            let mut link = self.link().await?;
            match link.open(&path).await {
                Ok(()) => {}
                failed => {
                    self.back(link, failed).await?;
                    return Err(Trouble::Gone);
                }
            }
            let until = Instant::now() + longest(file.stamp.size, self.grace);
            let slot = Arc::clone(&self.link);
            let stamp = file.stamp;
            let reading = (link, 0_u64);
            Ok(Box::pin(stream::try_unfold(reading, move |(mut link, done)| {
                let (why, slot, path) = (Arc::clone(&why), Arc::clone(&slot), path.clone());
                async move {
                    let step = timeout_at(until, step(&mut link, &path, stamp, done)).await;
                    let stopped = match step.unwrap_or_else(|_| Err(Stopped::too_slow())) {
                        Ok(Some(chunk)) => {
                            let done = done + u64::try_from(chunk.len()).unwrap_or(0);
                            return Ok(Some((chunk, (link, done))));
                        }
                        Ok(None) => {
                            *slot.lock().await = Some(link);
                            return Ok(None);
                        }
                        Err(Stopped { trouble, stands }) => {
                            if stands {
                                *slot.lock().await = Some(link);
                            }
                            trouble
                        }
                    };
                    *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
                    Err(std::io::Error::other("文件未读完"))
                }
            })) as ByteStream)
        })
    }

    fn stat<'a>(&'a self, file: &'a Listed) -> BoxFuture<'a, Result<Stamp, Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await?;
            let told = link.stat(&join(&self.folder, &file.name), file.stamp).await;
            self.back(link, told).await
        })
    }

    fn move_aside<'a>(
        &'a self,
        name: &'a [u8],
        size: Option<u64>,
    ) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await?;
            let from = join(&self.folder, name);
            let moved = async {
                for attempt in 0..10_000 {
                    let there = numbered(name, attempt);
                    if stands_there(&mut link, &self.done, &there).await? {
                        continue;
                    }
                    let to = join(&self.done, &there);
                    link.rename(&from, &to).await?;
                    if still(&mut link, &to, size).await? {
                        return Ok(true);
                    }
                    if stands_there(&mut link, &self.folder, name).await? {
                        let why = "移走时文件仍在写入,原名已有新文件,请到移往的目录核对";
                        return Err(ServerError::Refused(why.to_owned()));
                    }
                    return link.rename(&to, &from).await.map(|()| false);
                }
                Err(ServerError::Refused("同名文件太多".to_owned()))
            };
            let moved = moved.await;
            if self.back(link, moved).await? { Ok(()) } else { Err(Trouble::Changed) }
        })
    }

    fn delete<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await?;
            let done = link.remove(&join(&self.folder, name)).await;
            self.back(link, done).await
        })
    }
}

/// Whether a file stands in a folder. Where the server's words do not tell, its listing does: a
/// rename might replace.
async fn stands_there(
    link: &mut impl Link,
    folder: &[u8],
    name: &[u8],
) -> Result<bool, ServerError> {
    match link.stat(&join(folder, name), Stamp::default()).await {
        Ok(_) => Ok(true),
        Err(ServerError::Missing) => Ok(false),
        Err(ServerError::Refused(_)) => {
            // Of names only: what time it is does not matter.
            let listed = link.list(folder, Timestamp(0), &|_| false).await?;
            Ok(listed.files.iter().any(|file| file.name == name))
        }
        Err(error) => Err(error),
    }
}

/// Whether a file just renamed still has its size. A server that moves but does not tell sizes there
/// is taken at its word.
async fn still(link: &mut impl Link, to: &[u8], size: Option<u64>) -> Result<bool, ServerError> {
    let Some(size) = size else { return Ok(true) };
    match link.stat(to, Stamp::default()).await {
        Ok(now) => Ok(now.size == size),
        Err(error) if error.stands() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Why a file was not read to its end, and whether the session can be used further.
struct Stopped {
    trouble: Trouble,
    stands: bool,
}

impl Stopped {
    fn too_slow() -> Self {
        Self { trouble: trouble(&too_slow()), stands: false }
    }
}

/// The next bytes of a file that must be as long as listed, and look so when all of it is there.
async fn step(
    link: &mut impl Link,
    path: &[u8],
    stamp: Stamp,
    done: u64,
) -> Result<Option<Bytes>, Stopped> {
    let failed = |error: ServerError| match error {
        ServerError::Missing => Stopped { trouble: Trouble::Changed, stands: true },
        error => Stopped { trouble: trouble(&error), stands: error.stands() },
    };
    match link.chunk().await.map_err(failed)? {
        Some(chunk) => {
            let done = done + u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let longer = Stopped { trouble: Trouble::Changed, stands: false };
            if done > stamp.size { Err(longer) } else { Ok(Some(chunk)) }
        }
        None if done != stamp.size => Err(Stopped { trouble: Trouble::Changed, stands: true }),
        None => match link.stat(path, stamp).await {
            Ok(now) if now == stamp => Ok(None),
            Ok(_) => Err(Stopped { trouble: Trouble::Changed, stands: true }),
            Err(error) => Err(failed(error)),
        },
    }
}

fn trouble(error: &ServerError) -> Trouble {
    match error {
        ServerError::Missing => Trouble::Gone,
        ServerError::Refused(why) => Trouble::File(why.clone()),
        _ => Trouble::Broken(of_server(error)),
    }
}

fn of_server(error: &ServerError) -> SourceFault {
    let (code, blame) = match error {
        ServerError::Unreachable(_) => ("source.unreachable", Blame::Agency),
        ServerError::Untrusted(_) => ("source.untrusted", Blame::Operator),
        ServerError::Denied(_) => ("source.denied", Blame::Operator),
        ServerError::Broken(_) => ("source.broken-answer", Blame::Agency),
        ServerError::Refused(_) | ServerError::Missing => ("source.refused", Blame::Operator),
    };
    fault(code, blame, error.to_string())
}

/// A folder of a file server that takes feedback; every file by a session of its own.
struct Feedback<S> {
    server: Arc<S>,
    folder: Vec<u8>,
}

impl<S: Server> FileSink for Feedback<S> {
    fn put(&self, name: String, bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            let put = async {
                let mut link = self.server.connect().await?;
                let name = self.server.names().bytes(&name);
                put_whole(&mut link, &self.folder, &name, &bytes, GRACE).await
            };
            put.await.map_err(|error| {
                let text = format!("反馈文件 {name} 无法写入 {}({error})", self.server.address());
                Box::new(fault("source.feedback-not-put", Blame::Operator, text)) as Fault
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::wire::files::Names;

    /// Too few for more than the grace.
    const SIZE: u16 = 4000;

    /// Moves a byte a millisecond: never still, and never done.
    struct Slow;

    impl Server for Slow {
        type Link = Self;
        async fn connect(&self) -> Result<Self, ServerError> {
            Ok(Self)
        }
        fn names(&self) -> Names {
            Names::utf8()
        }
        fn address(&self) -> String {
            "slow".to_owned()
        }
    }

    impl Link for Slow {
        async fn list(
            &mut self,
            _: &[u8],
            _: Timestamp,
            _: Exactly<'_>,
        ) -> Result<Listing, ServerError> {
            Ok(Listing::default())
        }
        async fn stat(&mut self, _: &[u8], listed: Stamp) -> Result<Stamp, ServerError> {
            Ok(listed)
        }
        async fn open(&mut self, _: &[u8]) -> Result<(), ServerError> {
            Ok(())
        }
        async fn chunk(&mut self) -> Result<Option<Bytes>, ServerError> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(Some(Bytes::from_static(b"x")))
        }
        async fn write(&mut self, _: &[u8], bytes: &Bytes) -> Result<(), ServerError> {
            for _ in 0..bytes.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        }
        async fn rename(&mut self, _: &[u8], _: &[u8]) -> Result<(), ServerError> {
            Ok(())
        }
        async fn remove(&mut self, _: &[u8]) -> Result<(), ServerError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_byte_now_and_then_holds_nothing_for_ever() {
        let folder = b"/in".to_vec();
        let grace = Duration::from_millis(30);
        let place = Remote {
            server: Arc::new(Slow),
            shown: String::new(),
            done: Vec::new(),
            folder: folder.clone(),
            link: Arc::default(),
            grace,
        };
        let file = Listed { name: b"a".to_vec(), stamp: Stamp::told(SIZE.into(), None, 0) };
        let why = Why::default();
        let body = place.open(&file, Arc::clone(&why)).await.unwrap();
        let read: Result<Vec<Bytes>, _> = body.try_collect().await;
        assert!(read.is_err());
        let why = why.lock().unwrap().take();
        assert!(matches!(why, Some(Trouble::Broken(fault)) if fault.text.contains("太慢")));
        let bytes = vec![b'x'; SIZE.into()].into();
        let put = put_whole(&mut Slow, &folder, b"b", &bytes, grace).await;
        assert!(matches!(put, Err(ServerError::Broken(why)) if why.contains("太慢")));
    }
}
