//! The check before calamine reads an XLS workbook, and a clean copy for it to read.
//!
//! calamine trusts an XLS file: it reserves what the DIMENSIONS record claims, fills the box around
//! all cells, copies a shared text into every cell that names it, follows sector chains round in
//! circles, and indexes records unchecked. So the `Workbook` stream is taken out with the `cfb`
//! crate, every record it will look at is checked and weighed, those a gateway has no use for are
//! blanked, and calamine gets a new compound file of this one stream. Source: \[MS-XLS\].

use std::collections::HashMap;
use std::io::{Cursor, Read, SeekFrom, Write};

use cfb::{CompoundFile, Version};
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};

use super::guard::{ENCRYPTED, broken, wrong};

/// A full BIFF8 sheet of 65,536 rows is well below.
const MAX_STREAM: u64 = 128 << 20;
/// Cells in the box around a sheet's values, and in all boxes: each takes memory, filled or not.
const MAX_BOX: u64 = 4_000_000;
const MAX_BOXES: u64 = 8_000_000;
/// UTF-8 bytes of all texts in all cells, at most.
const MAX_TEXT: u64 = 256 << 20;
const MAX_SHEETS: u64 = 1_024;

const BOF: u16 = 0x0809;
const EOF: u16 = 0x000a;
const CONTINUE: u16 = 0x003c;
/// A type that does not exist: calamine passes over it.
const BLANKED: u16 = 0x0000;
const NUMBER: u16 = 0x0203;
const BOOL_ERR: u16 = 0x0205;

/// A compound file holding only the checked `Workbook` stream of `input`.
pub(super) fn clean(input: &mut dyn ReadSeek, limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    input.seek(SeekFrom::Start(0))?;
    let mut file = CompoundFile::open(input).map_err(|_| broken("XLS容器损坏,文件可能不完整"))?;
    if file.exists("/EncryptedPackage") {
        return Err(ENCRYPTED);
    }
    let name = ["/Workbook", "/Book"].into_iter().find(|name| file.is_stream(name));
    let name = name.ok_or_else(|| wrong("文件是OLE容器但没有工作簿,可能是Word等其他文档"))?;
    let limit = MAX_STREAM.min(limits.inflated_bytes);
    let mut stream = Vec::new();
    file.open_stream(name)
        .map(|stream| stream.take(limit + 1))
        .and_then(|mut taken| taken.read_to_end(&mut stream))
        .map_err(|_| broken("XLS容器损坏,文件可能不完整"))?;
    if stream.len() as u64 > limit {
        return Err(DecodeError::Limit { what: "XLS工作簿的字节数", limit });
    }
    drop(file);
    check(&mut stream)?;
    // Version 3: calamine takes a version 4 file without small streams for an empty one.
    let mut copy = CompoundFile::create_with_version(Version::V3, Cursor::new(Vec::new()))?;
    copy.create_stream(name)?.write_all(&stream)?;
    copy.flush()?;
    Ok(copy.into_inner().into_inner())
}

fn truncated() -> DecodeError {
    broken("XLS记录不完整,文件可能被截断")
}

/// A substream: the globals (全局) or one sheet.
#[derive(Default)]
struct Part {
    ended: bool,
    /// First row, last row, first column, last column of the values.
    bounds: Option<(u16, u16, u16, u16)>,
    text: u64,
}

/// Walks every record once, from the start: sheets may only begin where a record does, so what is
/// changed in one sheet cannot shift the records of another.
fn check(stream: &mut [u8]) -> Result<(), DecodeError> {
    let mut parts: HashMap<usize, Part> = HashMap::new();
    let mut open: Option<Part> = None;
    let mut start = 0;
    let mut depth = 0u32;
    let mut sheets: Vec<usize> = Vec::new();
    let mut shared: Vec<u64> = Vec::new();
    let mut at = 0;
    while let Some(head) = stream.get(at..at + 4) {
        let kind = u16_at(head, 0)?;
        let len = usize::from(u16_at(head, 2)?);
        let body = at + 4;
        let Some(data) = stream.get(body..body + len) else { break };
        match kind {
            BOF => {
                need(data, 2)?;
                if depth == 0 {
                    open = Some(Part::default());
                    start = at;
                } else if start == 0 {
                    return Err(broken("XLS全局部分内嵌了其他部分"));
                }
                depth += 1;
            }
            EOF => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some(mut part) = open.take()
                {
                    part.ended = true;
                    parts.insert(start, part);
                }
            }
            _ if depth == 1 && start == 0 => match kind {
                0x00fc => shared = shared_texts(stream, body, len)?,
                _ => globals(kind, at, stream, len, &mut sheets)?,
            },
            _ if depth == 1 => {
                if let Some(part) = &mut open {
                    sheet(part, kind, at, stream, len, &shared)?;
                }
            }
            _ => {}
        }
        at = body + len;
    }
    if !parts.contains_key(&0) {
        return Err(truncated());
    }
    let (mut boxes, mut text) = (0u64, 0u64);
    // A sheet named twice is read twice, so it counts twice.
    for offset in sheets {
        let part = parts.get(&offset).filter(|part| part.ended && offset != 0);
        let part = part.ok_or_else(truncated)?;
        let cells = part.bounds.map_or(0, |(top, bottom, left, right)| {
            (u64::from(bottom - top) + 1) * (u64::from(right - left) + 1)
        });
        boxes += cells;
        text = text.saturating_add(part.text);
        if cells > MAX_BOX || boxes > MAX_BOXES {
            let limit = if cells > MAX_BOX { MAX_BOX } else { MAX_BOXES };
            return Err(DecodeError::Limit { what: "XLS工作表范围的单元格数", limit });
        }
        if text > MAX_TEXT {
            return Err(DecodeError::Limit { what: "XLS文字的字节数", limit: MAX_TEXT });
        }
    }
    Ok(())
}

fn globals(
    kind: u16,
    at: usize,
    stream: &mut [u8],
    len: usize,
    sheets: &mut Vec<usize>,
) -> Result<(), DecodeError> {
    let data = stream.get(at + 4..at + 4 + len).unwrap_or(&[]);
    match kind {
        0x002f => return Err(ENCRYPTED),
        // CODEPAGE, DATEMODE
        0x0042 | 0x0022 => need(data, 2)?,
        // BOUNDSHEET
        0x0085 => {
            need(data, 8)?;
            let offset = u64::from(u16_at(data, 0)?) | u64::from(u16_at(data, 2)?) << 16;
            sheets.push(usize::try_from(offset).map_err(|_| truncated())?);
            if sheets.len() as u64 > MAX_SHEETS {
                return Err(DecodeError::Limit { what: "工作表数", limit: MAX_SHEETS });
            }
        }
        // LBL, EXTERNSHEET, RRTABID: only formulas need them, and formulas are not read.
        0x0018 | 0x0017 | 0x013d => retype(stream, at, BLANKED),
        _ => {}
    }
    Ok(())
}

fn sheet(
    part: &mut Part,
    kind: u16,
    at: usize,
    stream: &mut [u8],
    len: usize,
    shared: &[u64],
) -> Result<(), DecodeError> {
    let data = stream.get(at + 4..at + 4 + len).unwrap_or(&[]);
    let row = |data| u16_at(data, 0);
    let column = |data| u16_at(data, 2);
    match kind {
        // DIMENSIONS (calamine reserves rows × columns from it; honest files that have whole
        // columns formatted claim 65,536 × 256) and MERGECELLS: no value stands in them.
        0x0200 | 0x00e5 => retype(stream, at, BLANKED),
        // NUMBER, RK, BOOLERR
        NUMBER | 0x027e | BOOL_ERR => {
            need(
                data,
                match kind {
                    NUMBER => 14,
                    BOOL_ERR => 8,
                    _ => 10,
                },
            )?;
            part.grow(row(data)?, column(data)?, column(data)?);
        }
        // LABELSST
        0x00fd => {
            need(data, 10)?;
            let ix = usize::from(u16_at(data, 6)?) | usize::from(u16_at(data, 8)?) << 16;
            part.text += shared.get(ix).copied().unwrap_or(0);
            part.grow(row(data)?, column(data)?, column(data)?);
        }
        // LABEL, RSTRING
        0x0204 | 0x00d6 => {
            need(data, 8)?;
            part.text += 3 * u64::from(u16_at(data, 6)?);
            part.grow(row(data)?, column(data)?, column(data)?);
        }
        // MULRK
        0x00bd => {
            need(data, 12)?;
            let (left, right) = (column(data)?, u16_at(data, len - 2)?);
            if right < left || len != 6 + 6 * (usize::from(right - left) + 1) {
                return Err(truncated());
            }
            part.grow(row(data)?, left, right);
        }
        // STRING: a formula's text
        0x0207 => {
            need(data, 2)?;
            part.text += 3 * u64::from(u16_at(data, 0)?);
        }
        // FORMULA: only its last result is wanted, so the record becomes one of a plain value;
        // row, column, format and number stand where NUMBER and BOOLERR have them.
        0x0006 => {
            need(data, 22)?;
            part.grow(row(data)?, column(data)?, column(data)?);
            let (what, value) = (data.get(6).copied(), data.get(8).copied().unwrap_or(0));
            if u16_at(data, 12)? != 0xffff {
                retype(stream, at, NUMBER);
                return Ok(());
            }
            match what {
                // The text comes in the next record; an empty expression is left.
                Some(0) => put(stream, at + 24, &[0, 0]),
                Some(flag @ (1 | 2)) => {
                    put(stream, at + 10, &[value, flag - 1]);
                    retype(stream, at, BOOL_ERR);
                }
                _ => retype(stream, at, BLANKED),
            }
        }
        // BLANK and MULBLANK are not counted: calamine takes no cell from them.
        _ => {}
    }
    Ok(())
}

impl Part {
    fn grow(&mut self, row: u16, first: u16, last: u16) {
        let (top, bottom, left, right) = self.bounds.unwrap_or((row, row, first, last));
        self.bounds = Some((top.min(row), bottom.max(row), left.min(first), right.max(last)));
    }
}

/// UTF-8 bytes, at most, of each text in the SST record at `body` and the CONTINUE records after
/// it, read as calamine reads them.
fn shared_texts(stream: &[u8], body: usize, len: usize) -> Result<Vec<u64>, DecodeError> {
    let mut chunks = Chunks { stream, next: body + len, data: &[] };
    chunks.data = stream.get(body + 8..body + len).ok_or_else(truncated)?;
    let mut texts = Vec::new();
    while !chunks.data.is_empty() || chunks.more() {
        if chunks.data.is_empty() {
            texts.push(0);
            continue;
        }
        let head = chunks.take(3)?;
        let mut chars = usize::from(u16_at(head, 0)?);
        let flags = head.get(2).copied().unwrap_or(0);
        texts.push(3 * chars as u64);
        let mut skip = 0usize;
        if flags & 8 != 0 {
            skip += 4 * usize::from(u16_at(chunks.take(2)?, 0)?);
        }
        if flags & 4 != 0 {
            let ext = chunks.take(4)?;
            skip += usize::from(u16_at(ext, 0)?) | usize::from(u16_at(ext, 2)?) << 16;
        }
        let mut wide = flags & 1 != 0;
        loop {
            let width = if wide { 2 } else { 1 };
            let here = chars.min(chunks.data.len() / width);
            chunks.take(here * width)?;
            chars -= here;
            if chars == 0 {
                break;
            }
            if !chunks.more() {
                return Err(truncated());
            }
            wide = chunks.take(1)?.first().is_some_and(|flags| flags & 1 != 0);
        }
        while skip > 0 {
            if chunks.data.is_empty() && !chunks.more() {
                return Err(truncated());
            }
            let here = skip.min(chunks.data.len());
            chunks.take(here)?;
            skip -= here;
        }
    }
    Ok(texts)
}

struct Chunks<'a> {
    stream: &'a [u8],
    next: usize,
    data: &'a [u8],
}

impl<'a> Chunks<'a> {
    /// Moves on to the CONTINUE record that follows, if one does.
    fn more(&mut self) -> bool {
        let head = self.stream.get(self.next..self.next + 4).unwrap_or(&[]);
        let (Ok(CONTINUE), Ok(len)) = (u16_at(head, 0), u16_at(head, 2)) else { return false };
        let body = self.next + 4;
        let Some(data) = self.stream.get(body..body + usize::from(len)) else { return false };
        self.data = data;
        self.next = body + data.len();
        true
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.data.split_at_checked(n).ok_or_else(truncated)?;
        self.data = rest;
        Ok(taken)
    }
}

fn need(data: &[u8], len: usize) -> Result<(), DecodeError> {
    if data.len() < len { Err(truncated()) } else { Ok(()) }
}

fn u16_at(data: &[u8], at: usize) -> Result<u16, DecodeError> {
    match data.get(at..at + 2) {
        Some(&[low, high]) => Ok(u16::from_le_bytes([low, high])),
        _ => Err(truncated()),
    }
}

fn retype(stream: &mut [u8], at: usize, kind: u16) {
    put(stream, at, &kind.to_le_bytes());
}

fn put(stream: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = stream.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}
