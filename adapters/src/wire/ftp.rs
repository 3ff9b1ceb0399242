//! FTP and FTPS (RFC 959, 2228, 2428, 3659, 4217): just what taking and putting files needs.
//!
//! By hand because the connections must be [`Outbound`]'s, implicit TLS is still in use at agencies,
//! every session needs a TLS session store of its own (see [`Ftp::secured`]), listings and replies
//! have to be bounded, and names are bytes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::Secrets;

use super::dial::{DialError, Outbound};
use super::files::{Exactly, Link, Listing, Names, Server, ServerError, Stamp};
use super::params::Params;
use super::tls::{tls, tls_words};

mod data;
mod listing;
mod reply;

use data::{ended, within};
use reply::{Control, Reply, broken};

/// Where a server is and how to get in.
pub(crate) struct Ftp {
    host: String,
    port: u16,
    user: String,
    password: String,
    names: Names,
    active: bool,
    security: Security,
    tls: Option<(ClientConfig, ServerName<'static>)>,
    outbound: Outbound,
    connect: Duration,
    read: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    Plain,
    Explicit,
    Implicit,
}

impl Ftp {
    /// Reads `host`, `port`, `user`, `password`, `security`, `ca`, `client-cert`, `client-key`, `mode`,
    /// `names`, `allow`, `connect-seconds` (10) and `read-seconds` (30).
    pub(crate) fn from_params(params: &mut Params<'_>, secrets: &dyn Secrets) -> Option<Self> {
        let host = params.need_text("host");
        let choices = [
            ("plain", Security::Plain),
            ("explicit", Security::Explicit),
            ("implicit", Security::Implicit),
        ];
        let security = params.choice("security", &choices, Security::Explicit);
        let usual = if security == Security::Implicit { 990 } else { 21 };
        let port = u16::try_from(params.number("port", usual)).unwrap_or_else(|_| {
            params.problem_of("port", "应为1到65535的端口号");
            0
        });
        let user = params.need_text("user");
        let password = params.need_secret("password", secrets);
        let names = Names::from_params(params);
        let active = params.choice("mode", &[("passive", false), ("active", true)], false);
        let outbound = Outbound::from_params(params);
        outbound.check_host(params, "host", &host);
        let moment = Duration::from_millis(1);
        let connect = params.seconds("connect-seconds", Duration::from_secs(10), moment);
        let read = params.seconds("read-seconds", Duration::from_secs(30), moment);
        let (ca, cert) = (params.text("ca"), params.text("client-cert"));
        let key = params.text("client-key");
        let given = secrets.tls().and_then(|tls| tls.downcast::<ClientConfig>().ok());
        let own = ca.is_some() || cert.is_some() || key.is_some();
        let tls = match (security, given) {
            (Security::Plain, Some(_)) => {
                params.problem("已写 tls 的,security 须为 explicit 或 implicit");
                None
            }
            (Security::Plain, None) if own => {
                params.problem_of("security", "plain 不加密,不能再写 ca、client-cert、client-key");
                None
            }
            (Security::Plain, None) => None,
            (_, Some(_)) if own => {
                params.problem("已写 tls 的,不能再用参数 ca、client-cert、client-key");
                None
            }
            (_, Some(given)) => Some(ClientConfig::clone(&given)),
            (_, None) if ca.is_none() => {
                params.problem_of(
                    "ca",
                    "加密的FTP须用此参数(或 tls.roots)给出对方CA证书(PEM文件);确实不加密的,写 security: plain",
                );
                None
            }
            (_, None) => match tls(ca.as_deref(), cert.as_deref(), key.as_deref()) {
                Ok(tls) => Some(tls),
                Err((key, why)) => {
                    params.problem_of(key, &why);
                    None
                }
            },
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare.clone()).ok();
        if name.is_none() && !host.is_empty() {
            params.problem_of("host", "应为域名或IP地址");
        }
        let tls = tls.zip(name);
        if (security != Security::Plain && tls.is_none()) || bare.is_empty() {
            return None;
        }
        Some(Self {
            host: bare,
            port,
            user,
            password,
            names,
            active,
            security,
            tls,
            outbound,
            connect,
            read,
        })
    }

    /// TLS for one session. Its store of TLS sessions is its own: servers (vsftpd unless told
    /// otherwise) want the data connections to resume the control connection's session, and no
    /// other's will do.
    fn secured(&self) -> Option<Tls> {
        let (mut config, name) = self.tls.clone()?;
        config.resumption = Resumption::in_memory_sessions(8);
        Some(Tls { connector: TlsConnector::from(Arc::new(config)), name, wait: self.connect })
    }
}

impl Server for Ftp {
    type Link = FtpLink;

    async fn connect(&self) -> Result<FtpLink, ServerError> {
        let dialled = self.outbound.connect(&self.host, self.port, self.connect).await;
        let tcp = dialled.map_err(|error| unreachable(&error))?;
        let ends = tcp.peer_addr().and_then(|peer| Ok((peer, tcp.local_addr()?)));
        let (peer, local) = ends.map_err(|error| broken(&error))?;
        let tls = self.secured();
        let mut greeted = false;
        let io: Pipe = match (&tls, self.security) {
            (Some(tls), Security::Implicit) => tls.wrap(tcp).await?,
            (Some(tls), Security::Explicit) => {
                let mut plain = Control::new(tcp, self.names, self.read);
                plain.reply().await?.expect(2)?;
                greeted = true;
                let answer = plain.ask("AUTH", b"TLS").await?;
                answer.expect(2).map_err(|error| {
                    ServerError::Untrusted(format!(
                        "对方不提供加密({error});确实不加密的,写 security: plain"
                    ))
                })?;
                tls.wrap(plain.into_inner()?).await?
            }
            _ => Box::new(tcp),
        };
        let mut control = Control::new(io, self.names, self.read);
        if !greeted {
            control.reply().await?.expect(2)?;
        }
        let denied = |error: ServerError| match error {
            ServerError::Refused(why) => ServerError::Denied(format!("{why},请检查用户名和密码")),
            other => other,
        };
        let mut answer = control.ask("USER", &self.names.bytes(&self.user)).await?;
        if answer.code == 331 {
            answer = control.ask("PASS", &self.names.bytes(&self.password)).await?;
        }
        answer.expect(2).map_err(denied)?;
        if tls.is_some() {
            control.ask("PBSZ", b"0").await?.expect(2)?;
            control.ask("PROT", b"P").await?.expect(2)?;
        }
        let features = control.ask("FEAT", b"").await?.text.to_uppercase();
        let has = |feature: &str| features.lines().any(|line| line.trim().starts_with(feature));
        if self.names.is_utf8() && has("UTF8") {
            // Some have it on and do not know the option.
            control.ask("OPTS", b"UTF8 ON").await?;
        }
        control.ask("TYPE", b"I").await?.expect(2)?;
        let home = home(control.ask("PWD", b"").await?, self.names);
        Ok(FtpLink {
            control,
            tls,
            peer,
            local,
            home,
            machine: has("MLST"),
            exact: has("MDTM"),
            extended: peer.is_ipv6(),
            active: self.active,
            outbound: self.outbound.clone(),
            connect: self.connect,
            read: self.read,
            reading: None,
            seen: HashMap::new(),
        })
    }

    fn names(&self) -> Names {
        self.names
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Pipe = Box<dyn Duplex>;

/// TLS of one session.
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    wait: Duration,
}

impl Tls {
    async fn wrap(&self, tcp: TcpStream) -> Result<Pipe, ServerError> {
        let shaken = timeout(self.wait, self.connector.connect(self.name.clone(), tcp)).await;
        match shaken {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                Err(match tls {
                    Some(tls) => ServerError::Untrusted(
                        tls_words(tls).map_or_else(|| tls.to_string(), str::to_owned),
                    ),
                    None => ServerError::Broken(format!("TLS握手未完成({})", io_words(&error))),
                })
            }
            Err(_) => Err(ServerError::Broken("TLS握手超时".to_owned())),
        }
    }
}

/// A session.
pub(crate) struct FtpLink {
    control: Control<Pipe>,
    tls: Option<Tls>,
    peer: SocketAddr,
    local: SocketAddr,
    /// Where paths without a leading `/` begin.
    home: Vec<u8>,
    /// MLSD is known.
    machine: bool,
    /// MDTM is known.
    exact: bool,
    /// EPSV rather than PASV.
    extended: bool,
    active: bool,
    outbound: Outbound,
    connect: Duration,
    read: Duration,
    reading: Option<Pipe>,
    /// What MDTM told of files whose `LIST` line has not changed since.
    seen: HashMap<Vec<u8>, Seen>,
}

struct Seen {
    coarse: Stamp,
    since: Instant,
    exact: Stamp,
}

/// A `LIST` line tells minutes: within two of them a file can be replaced by one with the same line.
const COARSE: Duration = Duration::from_secs(120);

impl Link for FtpLink {
    async fn list(
        &mut self,
        folder: &[u8],
        now: Timestamp,
        exactly: Exactly<'_>,
    ) -> Result<Listing, ServerError> {
        let path = self.absolute(folder);
        missing(self.control.ask("CWD", &path).await?)?;
        if self.machine {
            match self.lines("MLSD", listing::mlsd).await {
                Err(ServerError::Refused(_)) => self.machine = false,
                listed => return listed,
            }
        }
        let mut listing = self.lines("LIST", |line| listing::list(line, now)).await?;
        let listed = &mut listing.files;
        let names: HashSet<&[u8]> = listed.iter().map(|file| file.name.as_slice()).collect();
        self.seen.retain(|name, _| names.contains(name.as_slice()));
        let mut gone = Vec::new();
        for (at, file) in listed.iter_mut().enumerate() {
            if !self.exact || !exactly(&file.name) {
                continue;
            }
            let coarse = file.stamp;
            let known = self.seen.get(&file.name).filter(|seen| seen.coarse == coarse);
            let since = known.map_or_else(Instant::now, |seen| seen.since);
            if let Some(seen) = known
                && since.elapsed() > COARSE
            {
                file.stamp = seen.exact;
                continue;
            }
            match self.told_time(&super::files::join(&path, &file.name)).await {
                Ok(Some(modified)) => file.stamp = Stamp::told(coarse.size, Some(modified), 0),
                Ok(None) => {}
                Err(error) if error.stands() => {
                    gone.push(at);
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.seen.insert(file.name.clone(), Seen { coarse, since, exact: file.stamp });
        }
        for at in gone.into_iter().rev() {
            listed.swap_remove(at);
        }
        Ok(listing)
    }

    async fn stat(&mut self, path: &[u8], listed: Stamp) -> Result<Stamp, ServerError> {
        let path = self.absolute(path);
        if self.machine {
            let reply = missing(self.control.ask("MLST", &path).await?)?;
            let line = reply.text.lines().nth(1).unwrap_or_default().trim_start().to_owned();
            // The path may be told whole: only the facts count.
            let facts = line.split(' ').next().unwrap_or_default();
            let file = listing::mlsd(format!("{facts} x").as_bytes());
            return file.map(|file| file.stamp).ok_or(ServerError::Missing);
        }
        let size = missing(self.control.ask("SIZE", &path).await?)?;
        let size = size.text.get(4..).and_then(|text| text.trim().parse().ok());
        let size = size.ok_or_else(|| ServerError::Refused("SIZE 的答复不是数字".to_owned()))?;
        let modified = if self.exact { self.told_time(&path).await? } else { None };
        Ok(match modified {
            Some(modified) => Stamp::told(size, Some(modified), 0),
            None => Stamp { size, ..listed },
        })
    }

    async fn open(&mut self, path: &[u8]) -> Result<(), ServerError> {
        let path = self.absolute(path);
        self.reading = Some(self.transfer("RETR", &path).await?);
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, ServerError> {
        let Some(data) = &mut self.reading else {
            return Err(ServerError::Broken("没有打开的文件".to_owned()));
        };
        let mut chunk = BytesMut::with_capacity(64 << 10);
        let len = within(self.read, async { ended(data.read_buf(&mut chunk).await) }).await?;
        if len > 0 {
            return Ok(Some(chunk.freeze()));
        }
        self.reading = None;
        // Only this says that all of it came: a broken connection looks like an end. What it refuses
        // (426, 451) is this file; the session stands.
        self.control.reply().await?.expect(2).map(|_| None)
    }

    async fn write(&mut self, path: &[u8], bytes: &Bytes) -> Result<(), ServerError> {
        let path = self.absolute(path);
        let mut data = self.transfer("STOR", &path).await?;
        for chunk in bytes.chunks(64 << 10) {
            within(self.read, data.write_all(chunk)).await?;
        }
        within(self.read, data.shutdown()).await?;
        // What the server still says may hold the ticket by which the next data connection resumes.
        let mut rest = [0; 1024];
        while within(self.read, async { ended(data.read(&mut rest).await) }).await? > 0 {}
        self.control.reply().await?.expect(2).map(drop)
    }

    async fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), ServerError> {
        let (from, to) = (self.absolute(from), self.absolute(to));
        missing_at(self.control.ask("RNFR", &from).await?, 3)?;
        self.control.ask("RNTO", &to).await?.expect(2).map(drop)
    }

    async fn remove(&mut self, path: &[u8]) -> Result<(), ServerError> {
        let path = self.absolute(path);
        missing(self.control.ask("DELE", &path).await?).map(drop)
    }
}

impl FtpLink {
    fn absolute(&self, path: &[u8]) -> Vec<u8> {
        if path.starts_with(b"/") { path.to_vec() } else { super::files::join(&self.home, path) }
    }

    /// MDTM; `None` if the server tells no times after all.
    async fn told_time(&mut self, path: &[u8]) -> Result<Option<Timestamp>, ServerError> {
        let reply = self.control.ask("MDTM", path).await?;
        if reply.is_unknown() {
            self.exact = false;
            return Ok(None);
        }
        let reply = missing(reply)?;
        Ok(reply.text.get(4..).and_then(|text| listing::digits(text.trim())))
    }
}

/// `257 "path" …`, quotes in the path doubled.
fn home(reply: Reply, names: Names) -> Vec<u8> {
    let path = reply.text.split_once('"').and_then(|(_, rest)| {
        let doubled = rest.replace("\"\"", "\u{0}");
        doubled.split_once('"').map(|(path, _)| path.replace('\u{0}', "\""))
    });
    names.bytes(&path.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".to_owned()))
}

/// How servers say that there is no such file, in lower case. 550 alone says no more than that it
/// cannot be done: for want of rights as well (vsftpd: `550 Failed to open file.`).
const NOT_THERE: [&str; 14] = [
    "no such",
    "not found",
    "not exist",
    "doesn't exist",
    "cannot find",
    "can't find",
    // The answer of proftpd to MLST, those of vsftpd, pure-ftpd and wu-ftpd to SIZE.
    "cannot be listed",
    "could not get file",
    "can't check for file existence",
    "not a plain file",
    "不存在",
    "找不到",
    "没有那个文件",
    "无此文件",
];

/// A reply that must be of class 2, or says that there is no such file.
fn missing(reply: Reply) -> Result<Reply, ServerError> {
    missing_at(reply, 2)
}

fn missing_at(reply: Reply, class: u16) -> Result<Reply, ServerError> {
    let said = reply.text.to_lowercase();
    let is_missing = reply.code == 550 && NOT_THERE.iter().any(|words| said.contains(words));
    if is_missing { Err(ServerError::Missing) } else { reply.expect(class) }
}

fn unreachable(error: &DialError) -> ServerError {
    ServerError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes() {
        let of = |text: &str| {
            let reply = Reply { code: 257, text: text.to_owned() };
            String::from_utf8(home(reply, Names::utf8())).unwrap()
        };
        assert_eq!(of("257 \"/home/a\" is the current directory"), "/home/a");
        assert_eq!(of("257 \"/a \"\"b\"\"\""), "/a \"b\"");
        assert_eq!(of("257 \"C:\\x\""), "/");
        assert_eq!(of("550 no"), "/");
    }

    #[test]
    fn what_is_not_there_is_told_from_what_may_not_be_done() {
        let of = |code, text: &str| missing(Reply { code, text: text.to_owned() });
        for gone in [
            "550 a.csv: No such file or directory",
            "550 File not found",
            "550 The system cannot find the file specified. ",
            "550 系统找不到指定的文件。",
            "550 Could not get file size.",
            "550 '/done/a.csv' cannot be listed",
        ] {
            assert!(matches!(of(550, gone), Err(ServerError::Missing)), "{gone}");
        }
        for refused in ["550 Failed to open file.", "550 Permission denied.", "550 拒绝访问。"]
        {
            let told = of(550, refused);
            assert!(matches!(&told, Err(ServerError::Refused(why)) if why == refused), "{told:?}");
        }
        assert!(matches!(of(553, "553 no such"), Err(ServerError::Refused(_))));
    }
}
