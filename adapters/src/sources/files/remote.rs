//! A folder of a file server as a place: one session, kept between looks and renewed when it breaks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use xinqiao_core::fault::Blame;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{BoxFuture, ByteStream, Fault, FileSink, Source};

use super::name::numbered;
use super::{Habits, Place, Trouble, Watch, Why, fault};
use crate::sources::SourceFault;
use crate::wire::files::{Exactly, Link, Listed, Server, ServerError, Stamp, join, put_whole};
use crate::wire::params::Params;

/// Reads what sources on file servers share, `directory`, `done-directory` and `feedback-directory`
/// among it, and makes the source if the server is known.
pub(in crate::sources) fn watch<S: Server>(
    params: &mut Params<'_>,
    server: Option<S>,
) -> Option<Arc<dyn Source>> {
    let folder = params.need_text("directory");
    let (habits, done) = Habits::from_params(params, Duration::from_secs(30), "done-directory");
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
}

impl<S: Server> Remote<S> {
    async fn link(&self) -> Result<S::Link, ServerError> {
        match self.kept().await {
            Some(link) => Ok(link),
            None => self.server.connect().await,
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
    ) -> Result<Vec<Listed>, ServerError> {
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

    fn list<'a>(
        &'a self,
        now: Timestamp,
        exactly: Exactly<'a>,
    ) -> BoxFuture<'a, Result<Vec<Listed>, Trouble>> {
        Box::pin(async move {
            // A session that idled since the last look may have been closed: that is no fault.
            if let Some(mut link) = self.kept().await {
                let listed = self.listed(&mut link, now, exactly).await;
                if listed.as_ref().err().is_none_or(ServerError::stands) {
                    return self.back(link, listed).await;
                }
            }
            let mut link = self.link().await.map_err(|error| trouble(&error))?;
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
            let mut link = self.link().await.map_err(|error| trouble(&error))?;
            match link.open(&path).await {
                Ok(()) => {}
                failed => {
                    self.back(link, failed).await?;
                    return Err(Trouble::Gone);
                }
            }
            let slot = Arc::clone(&self.link);
            let stamp = file.stamp;
            let reading = (link, 0_u64);
            Ok(Box::pin(stream::try_unfold(reading, move |(mut link, done)| {
                let (why, slot, path) = (Arc::clone(&why), Arc::clone(&slot), path.clone());
                async move {
                    let stopped = match step(&mut link, &path, stamp, done).await {
                        Ok(Some(chunk)) => {
                            let done = done + u64::try_from(chunk.len()).unwrap_or(0);
                            return Ok(Some((chunk, (link, done))));
                        }
                        Ok(None) => {
                            *slot.lock().await = Some(link);
                            return Ok(None);
                        }
                        Err(stopped) => stopped,
                    };
                    *why.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
                    Err(std::io::Error::other("文件未读完"))
                }
            })) as ByteStream)
        })
    }

    fn stat<'a>(&'a self, file: &'a Listed) -> BoxFuture<'a, Result<Stamp, Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await.map_err(|error| trouble(&error))?;
            let told = link.stat(&join(&self.folder, &file.name), file.stamp).await;
            self.back(link, told).await
        })
    }

    fn move_aside<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await.map_err(|error| trouble(&error))?;
            let from = join(&self.folder, name);
            let moved = async {
                for attempt in 0..10_000 {
                    let to = join(&self.done, &numbered(name, attempt));
                    match link.stat(&to, Stamp::default()).await {
                        Err(ServerError::Missing) => return link.rename(&from, &to).await,
                        Err(error) if !error.stands() => return Err(error),
                        _ => {}
                    }
                }
                Err(ServerError::Refused("同名文件太多".to_owned()))
            };
            let moved = moved.await;
            self.back(link, moved).await
        })
    }

    fn delete<'a>(&'a self, name: &'a [u8]) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let mut link = self.link().await.map_err(|error| trouble(&error))?;
            let done = link.remove(&join(&self.folder, name)).await;
            self.back(link, done).await
        })
    }
}

/// The next bytes of a file that must be as long as listed, and look so when all of it is there.
async fn step(
    link: &mut impl Link,
    path: &[u8],
    stamp: Stamp,
    done: u64,
) -> Result<Option<Bytes>, Trouble> {
    let of_place = |error: ServerError| match error {
        error if error.stands() => Trouble::Changed,
        error => trouble(&error),
    };
    match link.chunk().await.map_err(of_place)? {
        Some(chunk) => {
            let done = done + u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if done > stamp.size { Err(Trouble::Changed) } else { Ok(Some(chunk)) }
        }
        None if done != stamp.size => Err(Trouble::Changed),
        None => match link.stat(path, stamp).await {
            Ok(now) if now == stamp => Ok(None),
            Ok(_) => Err(Trouble::Changed),
            Err(error) => Err(of_place(error)),
        },
    }
}

fn trouble(error: &ServerError) -> Trouble {
    match error {
        ServerError::Missing => Trouble::Gone,
        ServerError::Refused(why) => Trouble::File(why.clone()),
        _ => Trouble::Place(of_server(error)),
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
                put_whole(&mut link, &self.folder, &name, &bytes).await
            };
            put.await.map_err(|error| {
                let text = format!("反馈文件 {name} 无法写入 {}({error})", self.server.address());
                Box::new(fault("source.feedback-not-put", Blame::Operator, text)) as Fault
            })
        })
    }
}
