//! What files look like wherever they stand, and what every server of files can do.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use encoding_rs::{Encoding, GB18030, UTF_8};
use tokio::time::timeout;
use xinqiao_core::model::Timestamp;

use super::digest::digest;
use super::params::Params;

/// More files than this in one folder are not listed: a bound, not an aim.
pub(crate) const MOST_FILES: usize = 200_000;

/// What changes when a file's content does. Of a file in a local folder the time of the last change
/// of any kind is the one that nobody can set: a file put in another's place with its size and time
/// (`cp -p`) has a new one. Servers tell no such time; then it is 0, and so is the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    /// Bytes.
    pub(crate) size: u64,
    /// Last change of the content, nanoseconds since 1970; 0 if the place does not tell.
    pub(crate) modified_ns: i128,
    /// Last change of any kind, likewise.
    pub(crate) changed_ns: i128,
    /// What the place knows the file by, apart from its name.
    pub(crate) inode: u64,
}

impl Stamp {
    /// As servers tell it.
    pub(crate) fn told(size: u64, modified: Option<Timestamp>, identity: u64) -> Self {
        let modified_ns = modified.map_or(0, |at| i128::from(at.0) * 1_000_000);
        Self { size, modified_ns, changed_ns: 0, inode: identity }
    }

    /// Last change of the content.
    pub(crate) fn modified(&self) -> Timestamp {
        Timestamp(u64::try_from(self.modified_ns / 1_000_000).unwrap_or(0))
    }

    /// Identifies this state of the file of this name.
    pub(crate) fn digest(&self, name: &[u8]) -> u128 {
        let Self { size, modified_ns, changed_ns, inode } = self;
        let numbers = [(*size).into(), *modified_ns, *changed_ns, (*inode).into()];
        let parts = numbers.map(i128::to_le_bytes);
        digest(std::iter::once(name).chain(parts.iter().map(<[u8; 16]>::as_slice)))
    }
}

/// A regular file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name's bytes, without folders, as the place has them.
    pub(crate) name: Vec<u8>,
    /// Its state.
    pub(crate) stamp: Stamp,
}

/// What stands in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Its regular files.
    pub(crate) files: Vec<Listed>,
    /// Names of files that are none of this folder's (`../x`): a server that lists them is odd or
    /// hostile. They are told of and never used.
    pub(crate) odd: Vec<Vec<u8>>,
}

impl Listing {
    /// A file as a server lists it. A backslash is no border: it is a byte of GB18030's characters,
    /// and paths are the server's own, which have `/`.
    pub(crate) fn add(&mut self, file: Listed) {
        let is_odd = matches!(file.name.as_slice(), b"." | b"..")
            || file.name.iter().any(|byte| matches!(byte, b'/' | 0));
        if is_odd { self.odd.push(file.name) } else { self.files.push(file) }
    }
}

/// Why a server of files did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ServerError {
    /// There is no connection, nothing was done.
    #[error("无法连接文件服务器 {0}")]
    Unreachable(String),
    /// It is not who it should be, or its certificate says nothing.
    #[error("文件服务器的身份不可信:{0}")]
    Untrusted(String),
    /// It does not let us in.
    #[error("登录文件服务器被拒绝:{0}")]
    Denied(String),
    /// The connection broke, stood still too long, or what came makes no sense.
    #[error("与文件服务器的连接中断:{0}")]
    Broken(String),
    /// It refuses this one act; the connection stands.
    #[error("文件服务器拒绝:{0}")]
    Refused(String),
    /// There is no such file; the connection stands.
    #[error("没有这个文件或目录")]
    Missing,
}

impl ServerError {
    /// Whether the connection can be used further.
    pub(crate) fn stands(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Missing)
    }
}

/// The bytes of names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names(&'static Encoding);

impl Names {
    /// Reads `names`: `utf-8` or `gb18030`.
    pub(crate) fn from_params(params: &mut Params<'_>) -> Self {
        Self(params.choice("names", &[("utf-8", UTF_8), ("gb18030", GB18030)], UTF_8))
    }

    /// UTF-8, and GB18030 where it is none.
    pub(crate) const fn utf8() -> Self {
        Self(UTF_8)
    }

    /// Whether UTF-8 is spoken.
    pub(crate) fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }

    /// A name for people. Names that should be UTF-8 and are not come from GB18030 systems.
    pub(crate) fn shown(self, name: &[u8]) -> String {
        match std::str::from_utf8(name) {
            Ok(name) if self.is_utf8() => name.to_owned(),
            _ => GB18030.decode_without_bom_handling(name).0.into_owned(),
        }
    }

    /// The bytes of a name of ours.
    pub(crate) fn bytes(self, name: &str) -> Vec<u8> {
        self.0.encode(name).0.into_owned()
    }
}

/// `folder/name`.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    [folder, b"/", name].concat()
}

/// Where a server is and how to get in.
pub(crate) trait Server: Send + Sync + 'static {
    /// A session with it.
    type Link: Link;
    /// Connects and logs in.
    fn connect(&self) -> impl Future<Output = Result<Self::Link, ServerError>> + Send;
    /// How its names are written.
    fn names(&self) -> Names;
    /// Host and port, for people.
    fn address(&self) -> String;
}

/// Tells whether a file's state is wanted as exactly as the server knows it.
pub(crate) type Exactly<'a> = &'a (dyn Fn(&[u8]) -> bool + Send + Sync);

/// A session with a server of files. Every act ends within a bounded time. After an error that does
/// not [stand](ServerError::stands), and when a future is dropped unfinished, it is of no more use.
pub(crate) trait Link: Send + 'static {
    /// The regular files of a folder.
    fn list(
        &mut self,
        folder: &[u8],
        now: Timestamp,
        exactly: Exactly<'_>,
    ) -> impl Future<Output = Result<Listing, ServerError>> + Send;
    /// The state of a regular file, as [`Link::list`] tells it; `listed` is what it told last.
    fn stat(
        &mut self,
        path: &[u8],
        listed: Stamp,
    ) -> impl Future<Output = Result<Stamp, ServerError>> + Send;
    /// Begins to read a file; [`Link::chunk`] goes on. One at a time.
    fn open(&mut self, path: &[u8]) -> impl Future<Output = Result<(), ServerError>> + Send;
    /// The next bytes; `None` once the server has confirmed the end, after which other acts may follow.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, ServerError>> + Send;
    /// Writes a file; one of the same name is replaced.
    fn write(
        &mut self,
        path: &[u8],
        bytes: &Bytes,
    ) -> impl Future<Output = Result<(), ServerError>> + Send;
    /// Renames. What stands at `to` may be replaced, or be a reason to refuse.
    fn rename(
        &mut self,
        from: &[u8],
        to: &[u8],
    ) -> impl Future<Output = Result<(), ServerError>> + Send;
    /// Deletes a file.
    fn remove(&mut self, path: &[u8]) -> impl Future<Output = Result<(), ServerError>> + Send;
}

/// What every transfer may take, however little there is.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// How long the transfer of so many bytes may take: `grace`, and a second for every 4 KiB. Without
/// it a byte now and then would hold a feed or a target for ever.
pub(crate) fn longest(bytes: u64, grace: Duration) -> Duration {
    grace + Duration::from_secs(bytes / 4096)
}

/// A transfer that took [`longest`].
pub(crate) fn too_slow() -> ServerError {
    ServerError::Broken("传输太慢,已放弃".to_owned())
}

/// Puts a file there, whole or not at all: under a temporary name (`.part`), then renamed. Writing
/// it may take [`longest`].
pub(crate) async fn put_whole(
    link: &mut impl Link,
    folder: &[u8],
    name: &[u8],
    bytes: &Bytes,
    grace: Duration,
) -> Result<(), ServerError> {
    let to = join(folder, name);
    let part = [to.as_slice(), b".part"].concat();
    let most = longest(u64::try_from(bytes.len()).unwrap_or(u64::MAX), grace);
    timeout(most, link.write(&part, bytes)).await.map_err(|_| too_slow())??;
    match link.rename(&part, &to).await {
        // Servers that do not replace: the temporary file has everything in the moment between.
        Err(ServerError::Refused(_)) => {
            match link.remove(&to).await {
                Err(error) if !error.stands() => return Err(error),
                // What cannot be removed was not there, or the rename says why.
                _ => {}
            }
            link.rename(&part, &to).await
        }
        done => done,
    }
}

/// What a server says, in one line for people: printable, at most 120 characters.
pub(crate) fn said(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_bytes() {
        let gb = Names(GB18030);
        assert_eq!(gb.bytes("处罚.csv"), b"\xb4\xa6\xb7\xa3.csv");
        assert_eq!(gb.shown(b"\xb4\xa6\xb7\xa3.csv"), "处罚.csv");
        assert_eq!(Names::utf8().shown(b"\xb4\xa6\xb7\xa3.csv"), "处罚.csv");
        assert_eq!(Names::utf8().shown("处罚.csv".as_bytes()), "处罚.csv");
        // Four bytes that are UTF-8 and GB18030 both: the parameter decides.
        assert_ne!(gb.shown("éé".as_bytes()), "éé");
    }

    #[test]
    fn a_replaced_file_has_another_digest() {
        let at = |size, ms| Stamp::told(size, Some(Timestamp(ms)), 0);
        assert_eq!(at(1, 2).digest(b"a"), at(1, 2).digest(b"a"));
        for other in [at(2, 2), at(1, 3), Stamp::told(1, Some(Timestamp(2)), 9)] {
            assert_ne!(at(1, 2).digest(b"a"), other.digest(b"a"));
        }
        assert_ne!(at(1, 2).digest(b"a"), at(1, 2).digest(b"b"));
    }

    #[test]
    fn paths_join_once() {
        assert_eq!(join(b"/in", b"a"), b"/in/a");
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(said("a\r\n\u{7}b "), "ab");
    }
}
