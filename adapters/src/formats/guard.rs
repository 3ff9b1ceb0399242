//! What must hold of a workbook's bytes before calamine may open them.
//!
//! calamine loads shared strings and styles at once and buffers one XML event however long it is,
//! so a small archive could fill the memory. Everything is inflated here once, in chunks, counting
//! real bytes: the sizes an archive declares are the sender's claim.

use std::io::{self, BufRead, BufReader, Read, SeekFrom};

use quick_xml::Reader;
use quick_xml::events::Event;
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};
use zip::ZipArchive;
use zip::result::ZipError;

const MAX_ENTRIES: usize = 4_096;
/// Inflated bytes of a part calamine keeps whole, and of any part that is not XML (a picture).
const MAX_WHOLE: u64 = 64 << 20;
/// From this size on an entry must not be inflated more than [`MAX_RATIO`] times.
const RATIO_FROM: u64 = 4 << 20;
const MAX_RATIO: u64 = 200;
/// Elements of `sharedStrings.xml` (two a string) and `styles.xml`: each becomes tens to hundreds
/// of bytes in memory, however short it is in the file. A workbook holds at most 65,490 styles.
const MAX_STRING_EVENTS: u64 = 16_000_000;
const MAX_STYLE_EVENTS: u64 = 1_000_000;

/// The container of a workbook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// `PK`: XLSX.
    Zip,
    /// A compound file (OLE2): XLS, or an XLSX with a password.
    Compound,
}

/// Tells the container by its first bytes, never by a file's name: hubs hand out XLSX files named
/// `.xls`.
pub(super) fn container(input: &mut dyn ReadSeek) -> io::Result<Option<Container>> {
    input.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(8);
    Read::take(&mut *input, 8).read_to_end(&mut head)?;
    input.seek(SeekFrom::Start(0))?;
    Ok(match head.as_slice() {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Container::Zip),
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1] => Some(Container::Compound),
        _ => None,
    })
}

/// Why bytes of neither container are no workbook, for a person.
pub(super) fn not_a_workbook(input: &mut dyn ReadSeek) -> DecodeError {
    let mut head = Vec::new();
    if let Err(error) = Read::take(&mut *input, 256).read_to_end(&mut head) {
        return DecodeError::Io(error);
    }
    let first = head.iter().find(|b| !b.is_ascii_whitespace() && !b"\xef\xbb\xbf".contains(b));
    let detail = match first {
        None => "文件是空的",
        Some(b'<') => "内容是网页或XML(有的系统把网页表格存成.xls),请用Excel或WPS另存为.xlsx",
        Some(_) => "文件开头不是工作簿的标志,请确认文件类型",
    };
    wrong(detail)
}

/// The bytes are no workbook this gateway reads.
pub(super) fn wrong(detail: &str) -> DecodeError {
    DecodeError::WrongFormat { expected: "工作簿", detail: detail.to_owned() }
}

/// An open ZIP container.
pub(super) type Archive<'a> = ZipArchive<BufReader<&'a mut dyn ReadSeek>>;

/// What a ZIP container holds, by the names in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Xlsx,
    Xlsb,
    Ods,
    /// Another document of Office, WPS or OpenDocument.
    Document,
    /// Files.
    Files,
}

/// Opens a ZIP container; nothing is inflated yet.
pub(super) fn open_zip(input: &mut dyn ReadSeek) -> Result<Archive<'_>, DecodeError> {
    input.seek(SeekFrom::Start(0))?;
    let zip = ZipArchive::new(BufReader::new(input)).map_err(zip_fault)?;
    if zip.len() > MAX_ENTRIES {
        return Err(DecodeError::Limit {
            what: "压缩包内的文件数", limit: MAX_ENTRIES as u64
        });
    }
    Ok(zip)
}

/// Tells documents from archives of files.
pub(super) fn holds(zip: &Archive<'_>) -> Holds {
    let mut seen = [false; 5];
    for name in zip.file_names_raw() {
        let name = name.to_ascii_lowercase();
        let all: [&[u8]; 5] = [
            b"xl/workbook.bin",
            b"[content_types].xml",
            b"content.xml",
            b"mimetype",
            b"meta-inf/manifest.xml",
        ];
        for (seen, wanted) in seen.iter_mut().zip(all) {
            *seen |= name == wanted;
        }
        if name == b"xl/workbook.xml" {
            return Holds::Xlsx;
        }
    }
    match seen {
        [true, ..] => Holds::Xlsb,
        [_, true, ..] => Holds::Document,
        [_, _, true, mimetype, manifest] if mimetype || manifest => Holds::Ods,
        _ => Holds::Files,
    }
}

/// Checks a ZIP container as a whole and tells which workbook it is.
pub(super) fn check_zip(input: &mut dyn ReadSeek, limits: &Limits) -> Result<Holds, DecodeError> {
    let mut zip = open_zip(input)?;
    let held = holds(&zip);
    let mut left = limits.inflated_bytes;
    let mut workbook = false;
    for ix in 0..zip.len() {
        let entry = zip.by_index(ix).map_err(zip_fault)?;
        let name = entry.name().map_err(zip_fault)?.to_ascii_lowercase();
        if unsafe_name(&name) {
            return Err(DecodeError::Forbidden("压缩包内有越界的文件路径"));
        }
        workbook |= name.ends_with("workbook.xml");
        let is_xml = name.ends_with(".xml") || name.ends_with(".rels");
        let (whole, events) = match name.rsplit('/').next() {
            Some("sharedstrings.xml") => (MAX_WHOLE, MAX_STRING_EVENTS),
            // Read record by record.
            Some(_) if held == Holds::Xlsb && name.starts_with("xl/worksheets/") => {
                (u64::MAX, u64::MAX)
            }
            Some("styles.xml") => (MAX_WHOLE, MAX_STYLE_EVENTS),
            _ if is_xml => (u64::MAX, u64::MAX),
            _ => (MAX_WHOLE, u64::MAX),
        };
        let packed = entry.compressed_size();
        let mut part = Part { whole, ..Part::new(entry, packed, left) };
        if is_xml {
            part = check_xml(part, limits, events)?;
        }
        // What the XML parser left (nothing, or what stands after an error) is counted too.
        io::copy(&mut part, &mut io::sink()).map_err(|e| part_fault(e, limits))?;
        left = part.left;
    }
    match held {
        Holds::Xlsb | Holds::Ods => Ok(held),
        _ if workbook => Ok(Holds::Xlsx),
        _ => Err(wrong("压缩包内没有工作簿,可能是文档或普通压缩包")),
    }
}

fn unsafe_name(name: &str) -> bool {
    name.contains('\\')
        || name.contains('\0')
        || name.starts_with('/')
        || name.as_bytes().get(1) == Some(&b':')
        || name.split('/').any(|part| part == "..")
}

/// Reads every event as calamine will, with the same parser and settings, none longer than a cell
/// may be. A syntax error ends the check as it will end calamine's reading.
fn check_xml<R: Read>(
    part: Part<R>,
    limits: &Limits,
    max_events: u64,
) -> Result<Part<R>, DecodeError> {
    let cell = limits.cell_bytes as u64;
    let mut reader = Reader::from_reader(BufReader::with_capacity(CHUNK, part));
    let config = reader.config_mut();
    config.check_end_names = false;
    config.check_comments = false;
    let mut events = 0;
    let mut buf = Vec::new();
    loop {
        buf.clear();
        // The reader in between takes whole chunks ahead of the event.
        reader.get_mut().get_mut().run = cell.saturating_add(2 * CHUNK as u64);
        match reader.read_event_into(&mut buf) {
            Ok(Event::DocType(_)) => return Err(DecodeError::Forbidden("DOCTYPE声明")),
            Ok(Event::Eof) => break,
            Ok(Event::Start(_) | Event::Empty(_)) => {
                events += 1;
                if events > max_events {
                    return Err(DecodeError::Limit {
                        what: "工作簿的样式或共享文字的个数",
                        limit: max_events,
                    });
                }
            }
            Ok(_) => {}
            Err(quick_xml::Error::Io(error)) => return Err(shared_fault(&error, limits)),
            Err(_) => break,
        }
    }
    let mut rest = reader.into_inner();
    let ahead = rest.buffer().len();
    rest.consume(ahead);
    let mut part = rest.into_inner();
    part.run = u64::MAX;
    Ok(part)
}

const CHUNK: usize = 32 << 10;

/// One entry while it is inflated.
pub(super) struct Part<R> {
    inner: R,
    taken: u64,
    /// What the whole archive may still inflate to.
    pub(super) left: u64,
    whole: u64,
    ratio: u64,
    /// What the XML event at hand may still take.
    run: u64,
}

impl<R> Part<R> {
    /// An entry of `packed` bytes in an archive that may inflate to `left` more.
    pub(super) fn new(inner: R, packed: u64, left: u64) -> Self {
        let ratio = packed.saturating_mul(MAX_RATIO).max(RATIO_FROM);
        Self { inner, taken: 0, left, whole: u64::MAX, ratio, run: u64::MAX }
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
enum Hit {
    #[error("total")]
    Total,
    #[error("whole")]
    Whole,
    #[error("ratio")]
    Ratio,
    #[error("run")]
    Run,
}

impl<R: Read> Read for Part<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        let bytes = n as u64;
        self.taken += bytes;
        if self.taken > self.ratio {
            return Err(io::Error::other(Hit::Ratio));
        }
        if self.taken > self.whole {
            return Err(io::Error::other(Hit::Whole));
        }
        self.left = self.left.checked_sub(bytes).ok_or_else(|| io::Error::other(Hit::Total))?;
        self.run = self.run.checked_sub(bytes).ok_or_else(|| io::Error::other(Hit::Run))?;
        Ok(n)
    }
}

/// Why inflating an entry ended.
pub(super) fn part_fault(error: io::Error, limits: &Limits) -> DecodeError {
    shared_fault(&error, limits)
}

fn shared_fault(error: &io::Error, limits: &Limits) -> DecodeError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Hit>()) {
        Some(Hit::Total) => {
            DecodeError::Limit { what: "解压后的字节数", limit: limits.inflated_bytes }
        }
        Some(Hit::Whole) => DecodeError::Limit {
            what: "工作簿的样式、共享文字或附件解压后的字节数",
            limit: MAX_WHOLE,
        },
        Some(Hit::Ratio) => DecodeError::Limit { what: "压缩倍数", limit: MAX_RATIO },
        Some(Hit::Run) => {
            DecodeError::Limit { what: "单元格的字节数", limit: limits.cell_bytes as u64 }
        }
        None => broken("压缩数据损坏,文件可能不完整"),
    }
}

/// A password is on it.
pub(super) const ENCRYPTED: DecodeError = DecodeError::Forbidden("加密(有密码)的工作簿或压缩包");

/// Why a ZIP container cannot be read.
pub(super) fn zip_fault(error: ZipError) -> DecodeError {
    match error {
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => ENCRYPTED,
        _ => broken("压缩包损坏,文件可能不完整"),
    }
}

/// A workbook broken as a whole.
pub(super) fn broken(detail: &str) -> DecodeError {
    DecodeError::Malformed { line: 1, detail: detail.to_owned() }
}
