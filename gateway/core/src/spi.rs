//! The ports: what the edges implement and the server composes. No runtime is named here; futures
//! are boxed.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::fault::Classify;
use crate::model::{
    Columns, DatasetId, FeedId, Finding, FormatSpec, Operation, Place, Row, TargetId, Timestamp,
};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A boxed error that answers [`Classify`].
pub type Fault = Box<dyn Classify + Send + Sync>;

/// Where time comes from. Nothing else may ask the machine.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

// ---- intake -------------------------------------------------------------------------------------

/// The bytes of a message, in chunks. Sources never hold a large message in memory.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// A message on its way in.
pub struct Arrival {
    /// File name or other name the source knows it by; shown, never trusted.
    pub name: Option<String>,
    /// The bytes.
    pub body: ByteStream,
    /// The source's position after this message; committed in the same transaction.
    pub cursor: Option<Vec<u8>>,
}

/// Proof that a message is durably held (接收回执). A duplicate gets the original's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The message's number.
    pub message: u64,
    /// Whose feed.
    pub feed: FeedId,
    /// When it was first received.
    pub received: Timestamp,
    /// SM3 of the raw bytes, lower-case hex.
    pub digest: String,
    /// Length of the raw bytes.
    pub bytes: u64,
    /// The same bytes had been received before on this feed; this is the receipt given then.
    pub duplicate: bool,
}

/// Where sources put what they fetch. Bound to one feed.
pub trait Inbox: Send + Sync {
    /// Stores a message durably, then answers. An error means the source must keep the original
    /// and try again.
    fn receive(&self, arrival: Arrival) -> BoxFuture<'_, Result<Receipt, Fault>>;
    /// The position committed last.
    fn cursor(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>>;
    /// Tells that the source is alive and what it last did; drives readiness and `feeds ls`.
    fn progress(&self, outcome: Result<&str, &dyn Classify>);
}

/// Resolves a secret named in a parameter (`{ file: … }` or `{ env: … }`).
pub trait Secrets: Send + Sync {
    /// The secret, or why it cannot be had (Chinese).
    fn resolve(&self, reference: &SecretRef) -> Result<String, String>;

    /// What the link's `tls` section made, if it has one: a `rustls::ClientConfig`, its type erased
    /// because this crate names no TLS library.
    fn tls(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// A secret by reference; secrets never stand in configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    /// Read from a file, final line break removed.
    File(String),
    /// Read from an environment variable.
    Env(String),
}

/// What is wrong with a parameter of a source or target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamProblem {
    /// Which: its keys from the outermost, joined by dots (`login.request.url`); empty for the
    /// parameters as a whole. The last key may be one that is missing.
    pub at: String,
    /// What is wrong (Chinese).
    pub text: String,
}

/// `参数 login.request.url:不是有效的网址`.
impl std::fmt::Display for ParamProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gap = if self.at.is_empty() { "" } else { " " };
        write!(f, "参数{gap}{}:{}", self.at, self.text)
    }
}

/// What a source is started with.
pub struct SourceContext {
    /// Where messages go.
    pub inbox: Arc<dyn Inbox>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Resolves when the source should stop: finish the message at hand, take no other.
    pub shutdown: Shutdown,
}

/// A stop signal that can be awaited and asked many times.
pub trait ShutdownSignal: Send + Sync {
    /// Resolves once stopping has begun.
    fn begun(&self) -> BoxFuture<'static, ()>;
    /// Whether stopping has begun.
    fn has_begun(&self) -> bool;
}

/// Shared stop signal.
pub type Shutdown = Arc<dyn ShutdownSignal>;

/// A running kind of source, with its parameters.
pub trait Source: Send + Sync {
    /// Runs until shut down. Must not return on a passing fault: report it by
    /// [`Inbox::progress`], wait, go on.
    fn run(self: Arc<Self>, context: SourceContext) -> BoxFuture<'static, ()>;

    /// The road by which verdicts go back to the agency (反馈), if the parameters ask for one.
    fn feedback(&self) -> Option<FeedbackRoad> {
        None
    }

    /// Whether its messages tell in order what the agency's data became: each has a cursor, so that
    /// none comes twice, and one with the bytes of an earlier one is news (a row went from A to B and
    /// back to A).
    fn keeps_order(&self) -> bool {
        false
    }
}

/// How verdicts go back by the agency's own road.
#[derive(Clone)]
pub enum FeedbackRoad {
    /// As files beside the source: an annotated copy and a list.
    Files(Arc<dyn FileSink>),
    /// As rows of a table.
    Rows(Arc<dyn VerdictSink>),
}

/// A place that takes files.
pub trait FileSink: Send + Sync {
    /// Puts a file there, whole or not at all (temporary name, then renamed); one of the same name
    /// is replaced. `name` holds no folders and no personal number.
    fn put(&self, name: String, bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>>;
}

/// A place that takes verdicts row by row.
pub trait VerdictSink: Send + Sync {
    /// Source columns whose cells it wants with every row: what the agency knows the row by.
    fn columns(&self) -> &[String];
    /// Writes rows, all or none; the same rows may come again and must not double.
    fn give<'a>(&'a self, rows: &'a [FeedbackRow]) -> BoxFuture<'a, Result<(), Fault>>;
}

/// The standing of one row, as its agency is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackRow {
    /// Number of the message (see its receipt).
    pub message: u64,
    /// 0-based count of rows in the message.
    pub index: u64,
    /// Row, line or record number for people.
    pub row: u64,
    /// Cells of [`VerdictSink::columns`], in order; `None` where the row has no such column.
    pub cells: Vec<Option<String>>,
    /// How it stands.
    pub standing: Standing,
    /// Why (Chinese), for rows that are refused or warned of; no personal number.
    pub reason: String,
    /// When it came to stand so.
    pub at: Timestamp,
}

/// How a row stands, as its agency is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Taken, on its way to the platform.
    Taken,
    /// Accepted by the platform.
    Accepted,
    /// Refused, here or by the platform: to be corrected and sent again.
    Refused,
    /// Waiting for something other than the row itself, such as a credit code for a legacy code.
    Held,
}

/// One kind of source, found by name in the registry.
pub trait SourceFactory: Sync {
    /// The name in `feeds.yaml`: `folder`, `rest`.
    fn kind(&self) -> &'static str;
    /// Checks parameters and builds the source; every problem at once.
    fn build(
        &self,
        params: &serde_json::Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Source>, Vec<ParamProblem>>;
}

// ---- listening ----------------------------------------------------------------------------------

/// A dialect in which agencies push to the gateway's HTTP listener, for one feed. It reads requests
/// and writes answers; it knows neither HTTP nor the store. Blocking, but never for long.
pub trait Listener: Send + Sync + std::fmt::Debug {
    /// Whether a request may hold the feed's token itself: its beginning has to be read before the
    /// caller is known.
    fn holds_token(&self) -> bool;
    /// What the beginning of a request asks for; more of it may follow.
    fn call(&self, beginning: &[u8]) -> Result<PushCall, PushRefusal>;
    /// Tells what became of a message.
    fn answer(&self, call: &PushCall, answer: &PushAnswer) -> Written;
    /// Refuses a request; without a call if it could not be read as one.
    fn refuse(&self, call: Option<&PushCall>, refusal: &PushRefusal) -> Written;
    /// How the interface at `address` is spoken to, for machines (WSDL).
    fn describe(&self, address: &str) -> Written;
    /// How long an answer may wait for a message to be processed.
    fn patience(&self) -> std::time::Duration;
    /// The address callers use, if it is not the one they asked at: `https://gateway.city:8443`.
    fn base(&self) -> Option<&str>;
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushCall {
    /// Which of the dialect's variants the answer is to be written in; the dialect's own affair.
    pub variant: u8,
    /// The feed's token, if it stands in the request itself.
    pub token: Option<String>,
}

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushRefusal {
    /// Stable, dotted.
    pub code: String,
    /// What is wrong and what to do (Chinese).
    pub text: String,
    /// Whether the same request can never be taken.
    pub callers: bool,
}

/// What became of a message that was taken.
#[derive(Debug, Clone)]
pub struct PushAnswer {
    /// What was received.
    pub receipt: Receipt,
    /// The signed receipt: its statement and the signature.
    pub signed: (String, String),
    /// How it was processed; `None` while it is not at its end.
    pub done: Option<PushDone>,
}

/// How a message was processed.
#[derive(Debug, Clone, Default)]
pub struct PushDone {
    /// Code and text, if it could not be read to its end.
    pub error: Option<(String, String)>,
    /// Warnings about the message as a whole.
    pub notes: Vec<String>,
    /// Rows taken without a finding, taken with warnings, and refused.
    pub rows: [u64; 3],
    /// Rows with findings, in order.
    pub told: Vec<PushRow>,
    /// There are more of them than are told.
    pub more: bool,
}

/// A row with findings.
#[derive(Debug, Clone)]
pub struct PushRow {
    /// Row, line or record number.
    pub row: u64,
    /// Document number, if it may be shown.
    pub document: Option<String>,
    /// What was found, at least one.
    pub findings: Vec<Finding>,
}

/// An answer as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// Body.
    pub body: String,
}

/// One kind of listener, found by name in the registry.
pub trait ListenerFactory: Sync {
    /// The name in `feeds.yaml`: `soap-push`.
    fn kind(&self) -> &'static str;
    /// Checks parameters (all but `token` and `per-minute`) and builds the listener of a feed whose
    /// mapping reads `format` and uses `columns`; every problem at once.
    fn build(
        &self,
        feed: &str,
        format: &FormatSpec,
        columns: &[String],
        params: &serde_json::Value,
    ) -> Result<Arc<dyn Listener>, Vec<ParamProblem>>;
}

// ---- formats ------------------------------------------------------------------------------------

/// What a decoder gives its rows to.
pub trait RowSink {
    /// One row. `Break` ends decoding early without an error.
    fn row(&mut self, columns: &Columns, row: &Row) -> std::ops::ControlFlow<()>;
    /// A row that could not be decoded; the rest goes on.
    fn bad_row(&mut self, place: &Place, finding: Finding) -> std::ops::ControlFlow<()>;
}

/// Something that can be read and sought: a file or bytes in memory.
pub trait ReadSeek: std::io::Read + std::io::Seek + Send {}
impl<T: std::io::Read + std::io::Seek + Send> ReadSeek for T {}

/// Room for content on its way. Nothing of it is left readable on a disk.
pub trait Scratch: std::io::Write {
    /// What was written, from its beginning.
    fn into_reader(self: Box<Self>) -> std::io::Result<Box<dyn ReadSeek>>;
}

impl Scratch for Vec<u8> {
    fn into_reader(self: Box<Self>) -> std::io::Result<Box<dyn ReadSeek>> {
        Ok(Box::new(std::io::Cursor::new(*self)))
    }
}

/// Makes room.
pub type ScratchSpace<'a> = &'a (dyn Fn() -> Box<dyn Scratch> + Sync);

/// Bounds that no message may exceed.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes after decompression, per message.
    pub inflated_bytes: u64,
    /// Rows per message.
    pub rows: u64,
    /// Columns per row.
    pub columns: u32,
    /// Bytes of one cell.
    pub cell_bytes: usize,
    /// Nesting depth of XML and JSON.
    pub depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inflated_bytes: 2 << 30,
            rows: 5_000_000,
            columns: 1_024,
            cell_bytes: 1 << 20,
            depth: 64,
        }
    }
}

/// One family of formats, found by [`crate::model::FormatKind`] in the registry.
pub trait Format: Sync {
    /// Which kinds it decodes.
    fn kinds(&self) -> &'static [crate::model::FormatKind];
    /// Decodes every row into `sink`. Blocking: call it off the runtime.
    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError>;
}

/// Why a message as a whole cannot be read. The texts name places and limits, never content.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Reading the stored bytes failed.
    #[error("读取报文失败")]
    Io(#[from] std::io::Error),
    /// The bytes are not of the declared format.
    #[error("内容不是{expected}:{detail}")]
    WrongFormat {
        /// e.g. `XLSX工作簿`.
        expected: &'static str,
        /// What was found (Chinese).
        detail: String,
    },
    /// The structure is broken at a place.
    #[error("第{line}行处结构错误:{detail}")]
    Malformed {
        /// Line, or record number for tree formats without lines.
        line: u64,
        /// What is broken (Chinese).
        detail: String,
    },
    /// The workbook has no sheet of the name that the mapping wants.
    #[error("工作簿中没有名为“{0}”的工作表,请核对是否交错了文件,或工作表改了名")]
    NoSheet(String),
    /// No heading row was found.
    #[error("未找到表头:前30行中没有映射规则所列的列名")]
    NoHeading,
    /// A limit was met: a bomb, or too big.
    #[error("超出上限:{what}(上限{limit})")]
    Limit {
        /// What was too big (Chinese).
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// Something forbidden is in the file (DOCTYPE, external entity, password).
    #[error("文件含有不允许的内容:{0}")]
    Forbidden(&'static str),
    /// A member of an archive cannot be read.
    #[error("压缩包里的文件“{name}”不能读取")]
    Member {
        /// Its name, for people.
        name: String,
        /// Why.
        #[source]
        fault: Box<Self>,
    },
}

impl Classify for DecodeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "decode.io",
            Self::WrongFormat { .. } => "decode.wrong-format",
            Self::Malformed { .. } => "decode.malformed",
            Self::NoSheet(_) => "decode.no-sheet",
            Self::NoHeading => "decode.no-heading",
            Self::Limit { .. } => "decode.limit",
            Self::Forbidden(_) => "decode.forbidden",
            Self::Member { fault, .. } => fault.code(),
        }
    }

    fn blame(&self) -> crate::fault::Blame {
        match self {
            Self::Io(_) => crate::fault::Blame::Operator,
            Self::Member { fault, .. } => fault.blame(),
            _ => crate::fault::Blame::Agency,
        }
    }

    fn retry(&self) -> crate::fault::Retry {
        match self {
            Self::Io(_) => crate::fault::Retry::Backoff,
            Self::Member { fault, .. } => fault.retry(),
            _ => crate::fault::Retry::Never,
        }
    }
}

// ---- delivery -----------------------------------------------------------------------------------

/// One record version on its way to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Idempotency key: the record's keyed digest in hex, `-`, the version. The same parcel always
    /// carries the same key.
    pub key: String,
    /// Dataset of the record.
    pub dataset: DatasetId,
    /// Generation of the fields.
    pub generation: u16,
    /// Publish or take down.
    pub operation: Operation,
    /// Field code and value text, filled fields only, in catalogue order.
    pub fields: Vec<(Arc<str>, String)>,
}

/// A target's answer to one parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Taken.
    Accepted,
    /// Refused for what it says; goes back to the agency.
    Refused {
        /// The target's code, e.g. `1001`.
        code: String,
        /// The target's text.
        message: String,
    },
    /// Not now; the same parcel may be accepted later.
    Later {
        /// The target's code.
        code: String,
        /// The target's text.
        message: String,
    },
}

/// Why a whole batch got no row-level answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TargetError {
    /// It certainly did not take anything: no connection, refused before the body, 429, 503.
    #[error("目标未受理:{detail}")]
    NotTaken {
        /// What happened (Chinese, no personal data).
        detail: String,
        /// How long the target asked to wait.
        retry_after: Option<std::time::Duration>,
    },
    /// It may or may not have: the connection broke after bytes were sent, a time-out, a 500, an
    /// answer that cannot be read.
    #[error("目标是否受理不明:{detail}")]
    Unknown {
        /// What happened (Chinese, no personal data).
        detail: String,
    },
    /// It will never take this: bad credentials, wrong address, 4xx on the request as such.
    #[error("目标拒绝整个请求:{detail}")]
    Rejected {
        /// What happened (Chinese, no personal data).
        detail: String,
    },
}

/// Signs and seals what leaves for a target; the ports know no cryptography.
pub trait Sealer: Send + Sync {
    /// A digital envelope (数字信封, GB/T 35275, DER) around `content`, or why there is none (Chinese).
    fn seal(&self, content: &[u8]) -> Result<Vec<u8>, String>;
}

/// A receiver of records.
pub trait Target: Send + Sync {
    /// Sends a batch, sealed if there is a sealer, and gives one outcome per parcel, in order.
    fn deliver<'a>(
        &'a self,
        batch: &'a [Parcel],
        sealer: Option<&'a dyn Sealer>,
    ) -> BoxFuture<'a, Result<Vec<Outcome>, TargetError>>;
    /// Whether the target recognises a repeated [`Parcel::key`]. If not, a batch of unknown
    /// outcome is never sent again by itself.
    fn dedupes(&self) -> bool;
}

/// One kind of target, found by name in the registry.
pub trait TargetFactory: Sync {
    /// The name in `gateway.yaml`: `rest`.
    fn kind(&self) -> &'static str;
    /// Checks parameters and builds the target; every problem at once.
    fn build(
        &self,
        id: &TargetId,
        params: &serde_json::Value,
        secrets: &dyn Secrets,
    ) -> Result<Arc<dyn Target>, Vec<ParamProblem>>;
}
