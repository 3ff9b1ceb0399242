//! The control connection: commands out, replies in (RFC 959 §4, §5).

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use xinqiao_core::fault::io_words;

use crate::wire::files::{Names, ServerError, said};
use crate::wire::tls::tls_words;

/// A reply may be this long.
const LONGEST: usize = 64 << 10;

/// The control connection, before and after TLS.
pub(super) struct Control<S> {
    io: BufReader<S>,
    names: Names,
    wait: Duration,
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// Three digits.
    pub(super) code: u16,
    /// All lines, decoded.
    pub(super) text: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Control<S> {
    pub(super) fn new(io: S, names: Names, wait: Duration) -> Self {
        Self { io: BufReader::new(io), names, wait }
    }

    /// The connection itself, to put TLS on. What came after the last reply was not protected and
    /// must not be taken for what follows.
    pub(super) fn into_inner(self) -> Result<S, ServerError> {
        if self.io.buffer().is_empty() {
            Ok(self.io.into_inner())
        } else {
            Err(ServerError::Untrusted("加密之前多出了未请求的答复".to_owned()))
        }
    }

    /// Sends a command and reads its reply.
    pub(super) async fn ask(&mut self, verb: &str, argument: &[u8]) -> Result<Reply, ServerError> {
        self.send(verb, argument).await?;
        self.reply().await
    }

    /// Sends a command.
    pub(super) async fn send(&mut self, verb: &str, argument: &[u8]) -> Result<(), ServerError> {
        // A line break in a name would be a second command.
        if argument.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ServerError::Refused("名称中有换行符".to_owned()));
        }
        let mut line = verb.as_bytes().to_vec();
        if !argument.is_empty() {
            line.push(b' ');
            for byte in argument {
                line.push(*byte);
                // Telnet's own escape (RFC 854) stands doubled.
                if *byte == 0xff {
                    line.push(0xff);
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        let sent = timeout(self.wait, async {
            self.io.write_all(&line).await?;
            self.io.flush().await
        });
        sent.await.map_err(|_| self.late())?.map_err(|error| broken(&error))
    }

    /// Reads one reply.
    pub(super) async fn reply(&mut self) -> Result<Reply, ServerError> {
        timeout(self.wait, self.whole_reply()).await.map_err(|_| self.late())?
    }

    fn late(&self) -> ServerError {
        ServerError::Broken(format!("{}毫秒内没有答复", self.wait.as_millis()))
    }

    async fn whole_reply(&mut self) -> Result<Reply, ServerError> {
        let mut all = Vec::new();
        let mut opening: Option<[u8; 3]> = None;
        loop {
            let begun = all.len();
            let room = LONGEST.saturating_sub(begun);
            let mut limited = (&mut self.io).take(u64::try_from(room).unwrap_or(0));
            limited.read_until(b'\n', &mut all).await.map_err(|error| broken(&error))?;
            let line = all.get(begun..).unwrap_or_default();
            if line.last() != Some(&b'\n') {
                let why = if room == line.len() { "答复过长" } else { "对方关闭了连接" };
                return Err(ServerError::Broken(why.to_owned()));
            }
            let digits = line.first_chunk::<3>().filter(|d| d.iter().all(u8::is_ascii_digit));
            let goes_on = line.get(3) == Some(&b'-');
            match (opening, digits) {
                (None, None) => {
                    return Err(ServerError::Broken("对方说的不是FTP".to_owned()));
                }
                (None, Some(digits)) => {
                    opening = Some(*digits);
                    if !goes_on {
                        break;
                    }
                }
                (Some(first), Some(digits)) if first == *digits && !goes_on => break,
                _ => {}
            }
        }
        let code = opening.iter().flatten().fold(0, |n, digit| n * 10 + u16::from(digit - b'0'));
        Ok(Reply { code, text: self.names.shown(&all) })
    }
}

impl Reply {
    /// This reply if it is of the class wanted (`2` is done, `1` begun, `3` more needed).
    pub(super) fn expect(self, class: u16) -> Result<Self, ServerError> {
        if self.code / 100 == class {
            return Ok(self);
        }
        Err(match self.code {
            // Closing; the connection is of no more use.
            421 => ServerError::Broken(self.words()),
            400..=599 => ServerError::Refused(self.words()),
            _ => ServerError::Broken(format!("意外的答复 {}", self.words())),
        })
    }

    /// Whether the server does not know the command.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.code, 500..=502 | 504 | 522)
    }

    pub(super) fn words(&self) -> String {
        said(self.text.lines().last().unwrap_or_default())
    }
}

/// What a broken connection says.
pub(super) fn broken(error: &std::io::Error) -> ServerError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = tls.map(|tls| tls_words(tls).map_or_else(|| tls.to_string(), str::to_owned));
    ServerError::Broken(words.unwrap_or_else(|| io_words(error).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Reply, ServerError> {
        let (near, mut far) = tokio::io::duplex(256 << 10);
        far.write_all(bytes).await.unwrap();
        drop(far);
        Control::new(near, Names::utf8(), Duration::from_secs(5)).reply().await
    }

    #[tokio::test]
    async fn replies_of_one_and_many_lines() {
        assert_eq!(read(b"220 hi\r\n").await.unwrap().code, 220);
        let many = read(b"211-Features:\r\n MLST\r\n211- odd\r\n 211 no\r\n211 End\r\n").await;
        assert!(many.unwrap().text.contains("MLST"));
        assert!(matches!(read(b"220-never ends\r\n").await, Err(ServerError::Broken(_))));
        assert!(matches!(read(b"SSH-2.0-x\r\n").await, Err(ServerError::Broken(_))));
        assert!(matches!(read(b"").await, Err(ServerError::Broken(_))));
        let flood = [b"220-".as_slice(), &vec![b'x'; 100 << 10], b"\r\n220 x\r\n"].concat();
        assert!(
            matches!(read(&flood).await, Err(ServerError::Broken(why)) if why.contains("过长"))
        );
    }

    #[tokio::test]
    async fn a_name_never_becomes_a_second_command() {
        let (near, _far) = tokio::io::duplex(1024);
        let mut control = Control::new(near, Names::utf8(), Duration::from_secs(5));
        let sent = control.send("DELE", b"a\r\nDELE b").await;
        assert!(matches!(sent, Err(ServerError::Refused(_))));
    }

    #[tokio::test]
    async fn what_came_before_tls_is_not_taken_for_protected() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"234 go\r\n230 logged in\r\n").await.unwrap();
        let mut control = Control::new(near, Names::utf8(), Duration::from_secs(5));
        control.ask("AUTH", b"TLS").await.unwrap();
        assert!(control.into_inner().is_err());
    }
}
