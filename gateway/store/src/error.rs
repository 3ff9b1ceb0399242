//! What can go wrong with the store.

use xinqiao_core::fault::{Blame, Classify, Retry};

use crate::storage_key::StorageKeyError;

/// What can go wrong at run time. Implements `Classify`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The commit's outcome is unknown: the store has stopped; reopen it, then ask again with the same key.
    #[error("提交结果未知,存储已停止")]
    OutcomeUnknown,
    /// Too many requests wait: answer 503 with Retry-After.
    #[error("存储繁忙,请稍后重试")]
    Busy,
    /// The disk's reserve is reached: intake stops, settling goes on.
    #[error("磁盘空间不足,已停止接收")]
    DiskFull,
    /// Stored bytes do not read back.
    #[error("存储内容损坏:{0}")]
    Corrupt(String),
    /// One value or file, of this table, does not open; others do.
    #[error("存储中有一处内容打不开({0}):已损坏、被改动,或不属于此处")]
    Damaged(&'static str),
    /// The storage key cannot be used.
    #[error("{0}")]
    Key(String),
    /// An I/O error outside a commit (spool files, reading payloads).
    #[error("存储读写失败:{0}")]
    Io(String),
    /// The body exceeds the limit given to `receive`.
    #[error("报文超出上限{0}字节")]
    TooLarge(u64),
    /// The source of the body failed.
    #[error("读取来源失败:{0}")]
    Body(String),
    /// No such message, item or record.
    #[error("没有这一项")]
    NotFound,
    /// The act does not fit the item's state.
    #[error("当前状态不允许此操作:{0}")]
    Conflict(&'static str),
}

impl Classify for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::OutcomeUnknown => "store.outcome-unknown",
            Self::Busy => "store.busy",
            Self::DiskFull => "store.disk-full",
            Self::Corrupt(_) => "store.corrupt",
            Self::Damaged(_) => "store.damaged",
            Self::Key(_) => "store.key",
            Self::Io(_) => "store.io",
            Self::TooLarge(_) => "intake.too-large",
            Self::Body(_) => "intake.body",
            Self::NotFound => "store.not-found",
            Self::Conflict(_) => "store.conflict",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::OutcomeUnknown
            | Self::Busy
            | Self::DiskFull
            | Self::Corrupt(_)
            | Self::Damaged(_)
            | Self::Key(_)
            | Self::Io(_) => Blame::Operator,
            Self::TooLarge(_) | Self::Body(_) => Blame::Agency,
            Self::NotFound | Self::Conflict(_) => Blame::Operator,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::OutcomeUnknown
            | Self::Busy
            | Self::DiskFull
            | Self::Key(_)
            | Self::Io(_)
            | Self::Body(_) => Retry::Backoff,
            Self::Corrupt(_)
            | Self::Damaged(_)
            | Self::TooLarge(_)
            | Self::NotFound
            | Self::Conflict(_) => Retry::Never,
        }
    }
}

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("存储已被另一个进程打开")]
    Locked,
    /// Reading or writing failed.
    #[error("打开存储失败:{0}")]
    Io(String),
    /// A newer program wrote it.
    #[error("存储格式版本{0}比本程序新")]
    TooNew(u32),
    /// Written before the first release; nothing reads it any more.
    #[error(
        "存储格式版本{0}是正式发布前的试用格式,本程序不再读取:请换用新的数据目录,由委办局重新报送"
    )]
    TooOld(u32),
    /// The storage key is missing, wrong or out of reach.
    #[error(transparent)]
    Key(#[from] StorageKeyError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Io(error.to_string())
    }
}

impl Classify for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Locked => "store.locked",
            Self::Io(_) => "store.open",
            Self::TooNew(_) => "store.too-new",
            Self::TooOld(_) => "store.too-old",
            Self::Key(_) => "store.key",
        }
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }
}
