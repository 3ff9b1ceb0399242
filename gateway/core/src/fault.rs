//! What every public error answers: its stable code, who has to act, and whether to try again.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who has to act on a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The agency: what it sent, or how.
    Agency,
    /// The platform or another receiver.
    Target,
    /// Whoever runs the gateway: configuration, disk, network.
    Operator,
    /// The gateway itself: a defect.
    Gateway,
}

/// Whether the same act may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never by itself: something has to change first.
    Never,
    /// Later, by the caller's back-off.
    Backoff,
    /// Not before this long from now, as the other side asked.
    After(Duration),
}

/// Implemented by every error that crosses a crate's boundary.
pub trait Classify: Error {
    /// Stable, dotted, lower-case: `intake.too-large`. Part of the interface.
    fn code(&self) -> &'static str;
    /// Who has to act.
    fn blame(&self) -> Blame;
    /// Whether to try again.
    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// An error and its causes on one line, I/O errors among the causes in Chinese. `Display` never
/// prints its source, so nothing repeats.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = match error.downcast_ref::<io::Error>() {
            Some(error) => write!(text, ": {}", io_words(error)),
            None => write!(text, ": {error}"),
        };
        cause = error.source();
    }
    text
}

/// What an I/O error says to a person: its kind in Chinese, without number and English words. A
/// text of our own inside it (Chinese) stands as it is.
pub fn io_words(error: &io::Error) -> Cow<'static, str> {
    use io::ErrorKind as Kind;
    if let Some(own) = error.get_ref().map(ToString::to_string) {
        if !own.is_ascii() {
            return own.into();
        }
        if own.starts_with("failed to lookup address") {
            return "找不到这台主机(域名解析失败)".into();
        }
    }
    let words = match error.kind() {
        Kind::NotFound => "没有这个文件或目录",
        Kind::PermissionDenied => "没有权限",
        Kind::IsADirectory => "这是一个目录",
        Kind::NotADirectory => "路径中有一段不是目录",
        Kind::AlreadyExists => "已经存在",
        Kind::DirectoryNotEmpty => "目录不是空的",
        Kind::ConnectionRefused => "连接被拒绝,对方没有在监听",
        Kind::ConnectionReset => "连接被对方断开",
        Kind::ConnectionAborted | Kind::BrokenPipe | Kind::NotConnected => "连接已断开",
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => "网络不通",
        Kind::AddrInUse => "地址已被占用",
        Kind::AddrNotAvailable => "本机没有这个地址",
        Kind::TimedOut => "超时",
        Kind::UnexpectedEof => "内容提前结束",
        Kind::InvalidData => "内容无效",
        Kind::InvalidInput | Kind::InvalidFilename => "名称或参数无效",
        Kind::StorageFull | Kind::QuotaExceeded => "磁盘空间不足",
        Kind::ReadOnlyFilesystem => "文件系统只读",
        Kind::FileTooLarge => "文件过大",
        Kind::CrossesDevices => "不在同一文件系统",
        Kind::ResourceBusy | Kind::ExecutableFileBusy => "正被占用",
        Kind::OutOfMemory => "内存不足",
        Kind::Interrupted => "被中断",
        Kind::Unsupported => "系统不支持此操作",
        _ => match error.raw_os_error() {
            // EMFILE and ENFILE have no kind of their own.
            Some(23 | 24) => "打开的文件过多",
            Some(number) => return format!("系统错误{number}").into(),
            None => "读写失败",
        },
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_told_in_chinese() {
        for (number, words) in [
            (2, "没有这个文件或目录"),
            (13, "没有权限"),
            (21, "这是一个目录"),
            (24, "打开的文件过多"),
        ] {
            assert_eq!(io_words(&io::Error::from_raw_os_error(number)), words);
        }
        for number in 1..134 {
            let words = io_words(&io::Error::from_raw_os_error(number)).into_owned();
            assert!(!words.contains(|c: char| c.is_ascii_alphabetic()), "{number}: {words}");
        }
        assert_eq!(io_words(&io::Error::other("连接被拒:自己的话")), "连接被拒:自己的话");
        assert_eq!(io_words(&io::Error::other("boom")), "读写失败");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("读取报文失败")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_ends_in_words() {
        let error = Outer(io::Error::from_raw_os_error(2));
        assert_eq!(chain(&error), "读取报文失败: 没有这个文件或目录");
    }
}
