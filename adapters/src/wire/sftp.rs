//! SFTP (SSH file transfer, protocol version 3 as OpenSSH speaks it): just what taking and putting
//! files needs. The server is known by its host key's fingerprint, pinned in the parameters.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, FuturesOrdered, StreamExt, TryStreamExt};
use russh::client::{self, AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::{
    Algorithm, EcdsaCurve, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate,
};
use russh::{MethodKind, Preferred};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::{Config as SftpConfig, RawSftpSession};
use russh_sftp::protocol::{FileAttributes, OpenFlags, Packet, StatusCode};
use tokio::time::timeout;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{BoxFuture, Secrets};

use super::dial::Outbound;
use super::files::{
    Exactly, Link, Listed, Listing, MOST_FILES, Names, Server, ServerError, Stamp, said,
};
use super::params::Params;

/// Every server must take reads and writes of this length (draft-ietf-secsh-filexfer-02 §3).
const PIECE: u32 = 32 << 10;
/// Bytes of one write, whose packet has a head beside them.
const WRITTEN: usize = 30 << 10;
/// Reads and writes under way at a time.
const AHEAD: usize = 8;
/// Replaces what stands there, which version 3's own rename refuses.
const POSIX_RENAME: &str = "posix-rename@openssh.com";

/// Where a server is and how to get in.
pub(crate) struct Sftp {
    host: String,
    port: u16,
    user: String,
    login: Login,
    pinned: Arc<[String]>,
    outbound: Outbound,
    connect: Duration,
    read: Duration,
}

enum Login {
    Password(String),
    Key(Arc<PrivateKey>),
}

impl Sftp {
    /// Reads `host`, `port` (22), `user`, `password` or `key-file` with `passphrase`, `host-key`,
    /// `allow`, `connect-seconds` (10) and `read-seconds` (30).
    pub(crate) fn from_params(params: &mut Params<'_>, secrets: &dyn Secrets) -> Option<Self> {
        let host = params.need_text("host");
        let port = u16::try_from(params.number("port", 22)).unwrap_or_else(|_| {
            params.problem_of("port", "应为1到65535的端口号");
            0
        });
        let user = params.need_text("user");
        let login = login(params, secrets);
        let pinned = pinned(params);
        for fingerprint in &pinned {
            if !is_fingerprint(fingerprint) {
                let why =
                    "应为 SHA256: 开头的指纹(在服务器上执行 ssh-keygen -lf 主机公钥文件 可得)";
                params.problem_of("host-key", why);
            }
        }
        let outbound = Outbound::from_params(params);
        outbound.check_host(params, "host", &host);
        let moment = Duration::from_millis(1);
        let connect = params.seconds("connect-seconds", Duration::from_secs(10), moment);
        let read = params.seconds("read-seconds", Duration::from_secs(30), moment);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let pinned = pinned.into();
        Some(Self { host, port, user, login: login?, pinned, outbound, connect, read })
    }

    fn client(&self) -> Arc<client::Config> {
        let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
        let mut key = vec![Algorithm::Ed25519];
        key.extend(curves.map(|curve| Algorithm::Ecdsa { curve }));
        Arc::new(client::Config {
            preferred: Preferred { key: key.into(), ..Preferred::DEFAULT },
            keepalive_interval: Some(Duration::from_secs(30)),
            nodelay: true,
            ..client::Config::default()
        })
    }

    async fn log_in(&self, handle: &mut Handle<HostKey>) -> Result<(), ServerError> {
        let password = match &self.login {
            Login::Key(key) => {
                let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
                let told = handle.authenticate_publickey(&self.user, key).await;
                return match told.map_err(|error| ssh(&error))? {
                    AuthResult::Success => Ok(()),
                    AuthResult::Failure { .. } => Err(denied("对方不接受用户名或这把密钥")),
                };
            }
            Login::Password(password) => password,
        };
        let told = handle.authenticate_password(&self.user, password).await;
        let AuthResult::Failure { remaining_methods, .. } = told.map_err(|error| ssh(&error))?
        else {
            return Ok(());
        };
        let refused = || denied("用户名或密码不对,或对方不允许用密码登录");
        if !remaining_methods.contains(&MethodKind::KeyboardInteractive) {
            return Err(refused());
        }
        // The same password by the other road: some servers have only that one.
        let mut told = handle.authenticate_keyboard_interactive_start(&self.user, None).await;
        for _ in 0..3 {
            match told.map_err(|error| ssh(&error))? {
                KeyboardInteractiveAuthResponse::Success => return Ok(()),
                KeyboardInteractiveAuthResponse::Failure { .. } => break,
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                    let answer = |echo: bool| if echo { String::new() } else { password.clone() };
                    let answers = prompts.iter().map(|prompt| answer(prompt.echo)).collect();
                    told = handle.authenticate_keyboard_interactive_respond(answers).await;
                }
            }
        }
        Err(refused())
    }
}

fn login(params: &mut Params<'_>, secrets: &dyn Secrets) -> Option<Login> {
    let file = params.text("key-file");
    let with = params.has("passphrase");
    let passphrase = if with { Some(params.need_secret("passphrase", secrets)) } else { None };
    // Asking makes a key known.
    params.text_or_json("passphrase");
    let Some(file) = file else {
        if with {
            params.problem_of("passphrase", "只与 key-file 一起使用");
        }
        let password = params.need_secret("password", secrets);
        return Some(Login::Password(password));
    };
    if params.has("password") {
        params.problem_of("password", "password 与 key-file 只能写一个");
    }
    params.text_or_json("password");
    let read = std::fs::read_to_string(&file).map_err(|error| io_words(&error).into_owned());
    let key = read.and_then(|text| {
        russh::keys::decode_secret_key(&text, passphrase.as_deref()).map_err(|_| {
            "不是可用的OpenSSH私钥,或口令不对;RSA私钥不支持,请用 ssh-keygen -t ed25519 另制"
                .to_owned()
        })
    });
    match key {
        Ok(key) if key.algorithm().is_rsa() => {
            params.problem_of("key-file", "RSA私钥不支持,请用 ssh-keygen -t ed25519 另制");
            None
        }
        Ok(key) => Some(Login::Key(Arc::new(key))),
        Err(why) => {
            params.problem_of("key-file", &format!("无法读取私钥 {file}({why})"));
            None
        }
    }
}

/// `host-key`: one fingerprint or a list.
fn pinned(params: &mut Params<'_>) -> Vec<String> {
    let Some(text) = params.text_or_json("host-key") else {
        params.need_text("host-key");
        return Vec::new();
    };
    let pinned = serde_json::from_str(&text).unwrap_or_else(|_| vec![text]);
    if pinned.is_empty() {
        params.problem_of("host-key", "至少要有一个主机密钥指纹");
    }
    pinned
}

/// `SHA256:` and the unpadded Base64 of 32 bytes.
fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|base64| {
        base64.len() == 43
            && base64.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
    })
}

impl Server for Sftp {
    type Link = SftpLink;

    async fn connect(&self) -> Result<SftpLink, ServerError> {
        let dialled = self.outbound.connect(&self.host, self.port, self.connect).await;
        let tcp = dialled.map_err(|error| ServerError::Unreachable(error.to_string()))?;
        let shown = Arc::<Mutex<Option<String>>>::default();
        let check = HostKey { pinned: Arc::clone(&self.pinned), shown: Arc::clone(&shown) };
        let late = |_| ServerError::Broken("SSH握手或登录超时".to_owned());
        let shaken = timeout(self.connect, client::connect_stream(self.client(), tcp, check)).await;
        let mut handle = shaken.map_err(late)?.map_err(|error| {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
            match shown.filter(|shown| !self.pinned.contains(shown)) {
                Some(shown) => ServerError::Untrusted(format!(
                    "对方的主机密钥是 {shown},host-key 中写的是 {};请先向对方核实,确已更换再改配置",
                    self.pinned.join("、")
                )),
                None => ssh(&error),
            }
        })?;
        timeout(self.connect, self.log_in(&mut handle)).await.map_err(late)??;
        let opening = async {
            let channel = handle.channel_open_session().await?;
            channel.request_subsystem(true, "sftp").await?;
            Ok::<_, russh::Error>(channel.into_stream())
        };
        let opened = timeout(self.connect, opening).await.map_err(late)?;
        let stream = opened.map_err(|error| ssh(&error))?;
        let seconds = self.read.as_secs().max(1);
        let config = SftpConfig { request_timeout_secs: seconds, ..SftpConfig::default() };
        let session = Arc::new(RawSftpSession::new_with_config(stream, config));
        let version = session.init().await.map_err(|error| match failed(error) {
            ServerError::Broken(why) => ServerError::Denied(format!("对方没有提供SFTP服务({why})")),
            other => other,
        })?;
        let replaces = version.extensions.contains_key(POSIX_RENAME);
        Ok(SftpLink { session, _handle: handle, replaces, reading: None })
    }

    fn names(&self) -> Names {
        Names::utf8()
    }

    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// Knows the server by its key.
struct HostKey {
    pinned: Arc<[String]>,
    shown: Arc<Mutex<Option<String>>>,
}

impl client::Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        // Certificates of hosts are not asked for, so none is taken.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let shown = key.fingerprint(HashAlg::Sha256).to_string();
        let known = self.pinned.contains(&shown);
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(known)
    }
}

/// A session.
pub(crate) struct SftpLink {
    session: Arc<RawSftpSession>,
    _handle: Handle<HostKey>,
    replaces: bool,
    reading: Option<Reading>,
}

/// A file being read, some pieces ahead.
struct Reading {
    handle: String,
    next: u64,
    pieces: FuturesOrdered<BoxFuture<'static, Result<Vec<u8>, SftpError>>>,
}

impl Link for SftpLink {
    async fn list(
        &mut self,
        folder: &[u8],
        _: Timestamp,
        _: Exactly<'_>,
    ) -> Result<Listing, ServerError> {
        let handle = self.session.opendir(path(folder)).await.map_err(failed)?.handle;
        let mut listing = Listing::default();
        let mut count = 0;
        loop {
            let page = match self.session.readdir(&handle).await {
                Ok(page) => page.files,
                Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => break,
                Err(error) => return Err(failed(error)),
            };
            count += page.len();
            if page.is_empty() || count > MOST_FILES {
                return Err(ServerError::Broken(format!("目录中的条目超过{MOST_FILES}个")));
            }
            for file in page {
                if let Some(stamp) = regular(&file.attrs).filter(|_| !file.filename.is_empty()) {
                    listing.add(Listed { name: file.filename.into_bytes(), stamp });
                }
            }
        }
        self.session.close(handle).await.map_err(failed)?;
        Ok(listing)
    }

    async fn stat(&mut self, at: &[u8], _: Stamp) -> Result<Stamp, ServerError> {
        let told = self.session.lstat(path(at)).await.map_err(failed)?;
        regular(&told.attrs).ok_or(ServerError::Missing)
    }

    async fn open(&mut self, at: &[u8]) -> Result<(), ServerError> {
        if path(at).contains(char::REPLACEMENT_CHARACTER) {
            let why = "文件名不是UTF-8,SFTP下取不到,请对方改名或改用 ftp";
            return Err(ServerError::Refused(why.to_owned()));
        }
        let attributes = FileAttributes::empty();
        let opened = self.session.open(path(at), OpenFlags::READ, attributes).await;
        let handle = opened.map_err(failed)?.handle;
        self.reading = Some(Reading { handle, next: 0, pieces: FuturesOrdered::new() });
        Ok(())
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, ServerError> {
        let Some(reading) = &mut self.reading else {
            return Err(ServerError::Broken("没有打开的文件".to_owned()));
        };
        while reading.pieces.len() < AHEAD {
            let (session, handle) = (Arc::clone(&self.session), reading.handle.clone());
            reading.pieces.push_back(Box::pin(piece(session, handle, reading.next)));
            reading.next += u64::from(PIECE);
        }
        let piece = reading.pieces.next().await.unwrap_or_else(|| Ok(Vec::new()));
        let piece = match piece.map_err(failed) {
            Ok(piece) => piece,
            Err(error) => {
                let handle = std::mem::take(&mut reading.handle);
                self.reading = None;
                if error.stands() {
                    self.session.close(handle).await.map_err(failed)?;
                }
                return Err(error);
            }
        };
        if !piece.is_empty() {
            return Ok(Some(piece.into()));
        }
        let handle = std::mem::take(&mut reading.handle);
        self.reading = None;
        self.session.close(handle).await.map_err(failed)?;
        Ok(None)
    }

    async fn write(&mut self, at: &[u8], bytes: &Bytes) -> Result<(), ServerError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let opened = self.session.open(path(at), flags, FileAttributes::empty()).await;
        let handle = opened.map_err(failed)?.handle;
        let (session, into, all) = (Arc::clone(&self.session), handle.clone(), bytes.clone());
        let writes = (0..bytes.len()).step_by(WRITTEN).map(move |at| {
            let chunk = all.slice(at..all.len().min(at + WRITTEN)).to_vec();
            let (session, into) = (Arc::clone(&session), into.clone());
            async move { session.write(into, u64::try_from(at).unwrap_or(0), chunk).await }
        });
        let written = stream::iter(writes).buffer_unordered(AHEAD);
        let written = written.try_for_each(|_| std::future::ready(Ok(()))).await;
        // A full disk may be told of only here.
        let closed = self.session.close(handle).await;
        written.map_err(failed)?;
        closed.map(drop).map_err(failed)
    }

    async fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), ServerError> {
        let (from, to) = (path(from), path(to));
        if !self.replaces {
            return self.session.rename(from, to).await.map(drop).map_err(failed);
        }
        let mut data = Vec::new();
        for name in [from, to] {
            data.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_be_bytes());
            data.extend_from_slice(name.as_bytes());
        }
        match self.session.extended(POSIX_RENAME, data).await.map_err(failed)? {
            Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
            Packet::Status(status) => Err(failed(status.into())),
            _ => Err(failed(SftpError::UnexpectedPacket)),
        }
    }

    async fn remove(&mut self, at: &[u8]) -> Result<(), ServerError> {
        self.session.remove(path(at)).await.map(drop).map_err(failed)
    }
}

/// The bytes at an offset: [`PIECE`] of them, or fewer at the end. Servers may give less at a time.
async fn piece(
    session: Arc<RawSftpSession>,
    handle: String,
    offset: u64,
) -> Result<Vec<u8>, SftpError> {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let done = u32::try_from(bytes.len()).unwrap_or(PIECE);
        let left = PIECE.saturating_sub(done);
        if left == 0 {
            return Ok(bytes);
        }
        match session.read(handle.as_str(), offset + u64::from(done), left).await {
            Ok(data) if data.data.is_empty() || data.data.len() > left as usize => {
                return Err(SftpError::UnexpectedPacket);
            }
            Ok(data) => bytes.extend_from_slice(&data.data),
            Err(SftpError::Status(status)) if status.status_code == StatusCode::Eof => {
                return Ok(bytes);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The state of a regular file; `None` of anything else, and where no size is told.
fn regular(attributes: &FileAttributes) -> Option<Stamp> {
    // S_IFMT and S_IFREG: without a type the file is taken for regular, reading it will tell.
    let kind = attributes.permissions.unwrap_or(0) & 0o170_000;
    let modified = attributes.mtime.map(|seconds| Timestamp(u64::from(seconds) * 1000));
    matches!(kind, 0 | 0o100_000).then(|| Stamp::told(attributes.size.unwrap_or(0), modified, 0))
}

fn path(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn denied(why: &str) -> ServerError {
    ServerError::Denied(why.to_owned())
}

fn failed(error: SftpError) -> ServerError {
    match error {
        SftpError::Status(status) => match status.status_code {
            StatusCode::NoSuchFile => ServerError::Missing,
            StatusCode::PermissionDenied => ServerError::Refused("没有权限".to_owned()),
            StatusCode::ConnectionLost | StatusCode::NoConnection => {
                ServerError::Broken("对方断开".to_owned())
            }
            _ => ServerError::Refused(said(&status.error_message)),
        },
        SftpError::Timeout => ServerError::Broken("对方没有按时答复".to_owned()),
        other => ServerError::Broken(said(&other.to_string())),
    }
}

fn ssh(error: &russh::Error) -> ServerError {
    match error {
        russh::Error::NoCommonAlgo { theirs, .. } => ServerError::Untrusted(format!(
            "双方没有共同的算法(对方有 {});主机密钥须为 ed25519 或 ecdsa,不支持 rsa",
            said(&theirs.join("、"))
        )),
        russh::Error::IO(error) => ServerError::Broken(io_words(error).into_owned()),
        russh::Error::Disconnect | russh::Error::HUP => {
            ServerError::Broken("对方断开连接".to_owned())
        }
        other => ServerError::Broken(said(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_written_one_way() {
        assert!(is_fingerprint("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"));
        for bad in [
            "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "MD5:16:27:ac:a5",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "",
        ] {
            assert!(!is_fingerprint(bad), "{bad}");
        }
    }

    #[test]
    fn only_regular_files_have_a_state() {
        let of = |mode| FileAttributes {
            size: Some(3),
            permissions: mode,
            mtime: Some(7),
            ..FileAttributes::empty()
        };
        let stamp = regular(&of(Some(0o100_644))).unwrap();
        assert_eq!((stamp.size, stamp.modified()), (3, Timestamp(7000)));
        assert!(regular(&of(None)).is_some());
        for other in [0o040_755, 0o120_777, 0o010_644] {
            assert_eq!(regular(&of(Some(other))), None);
        }
    }
}
