//! `multipart/related` bodies (RFC 2387, XOP/MTOM): where their parts stand, told by the bytes alone.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use xinqiao_core::spi::{DecodeError, ReadSeek};

use crate::wire::xml::broken;

const MAX_PARTS: usize = 1_000;
const MAX_HEADERS: u64 = 16 << 10;
const CHUNK: u64 = 64 << 10;

/// One part of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Without angle brackets.
    pub(super) id: Option<String>,
    /// Media type, in lower case.
    kind: String,
    /// Its content is base64 already.
    pub(super) base64: bool,
    pub(super) range: Range<u64>,
}

/// The parts of a body that begins with `--`; `None` of any other.
pub(super) fn parts(input: &mut dyn ReadSeek) -> Result<Option<Vec<Part>>, DecodeError> {
    input.seek(SeekFrom::Start(0))?;
    let mut input = BufReader::new(input);
    let mut at = 0;
    let mut line = Vec::new();
    // A line break may stand before the first boundary.
    let boundary = loop {
        at += take_line(&mut input, &mut line)?;
        match line.trim_ascii() {
            [] if !line.is_empty() && at < 64 => {}
            marked if marked.starts_with(b"--") && (3..=200).contains(&marked.len()) => {
                break marked.to_vec();
            }
            _ => return Ok(None),
        }
    };
    let mut parts = Vec::new();
    loop {
        let mut part = Part { id: None, kind: String::new(), base64: false, range: 0..0 };
        at += headers(&mut input, &mut part)?;
        let begin = at;
        // The line break before a boundary is the boundary's.
        let (mut fresh, mut tail) = (true, Vec::new());
        let last = loop {
            let read = take_line(&mut input, &mut line)?;
            if read == 0 {
                return Err(broken("MIME正文没有结束标记,可能不完整"));
            }
            let rest = fresh.then(|| line.strip_prefix(boundary.as_slice())).flatten();
            let last = match rest.map(<[u8]>::trim_ascii) {
                Some(b"") => Some(false),
                Some(b"--") => Some(true),
                _ => None,
            };
            if let Some(last) = last {
                let gap = match tail.as_slice() {
                    [.., b'\r', b'\n'] => 2,
                    [.., b'\n'] => 1,
                    _ => 0,
                };
                part.range = begin..at - gap;
                at += read;
                break last;
            }
            at += read;
            fresh = line.ends_with(b"\n");
            tail.extend_from_slice(line.get(line.len().saturating_sub(2)..).unwrap_or(&[]));
            tail.drain(..tail.len().saturating_sub(2));
        };
        parts.push(part);
        if last {
            return Ok(Some(parts));
        }
        if parts.len() >= MAX_PARTS {
            return Err(DecodeError::Limit {
                what: "MIME正文的部分数", limit: MAX_PARTS as u64
            });
        }
    }
}

/// The part with the envelope: XOP's, else the first of XML, else the first.
pub(super) fn root(parts: &[Part]) -> Option<&Part> {
    let of = |kind: &str| parts.iter().find(|part| part.kind.contains(kind));
    of("xop+xml").or_else(|| of("xml")).or(parts.first())
}

/// A line, or a chunk of a long one; how many bytes.
fn take_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let read = input.take(CHUNK).read_until(b'\n', line)?;
    Ok(read as u64)
}

fn headers(input: &mut impl BufRead, part: &mut Part) -> Result<u64, DecodeError> {
    let (mut read, mut line, mut name) = (0, Vec::new(), String::new());
    loop {
        read += take_line(input, &mut line)?;
        if read > MAX_HEADERS || line.is_empty() {
            return Err(broken("MIME部分的头没有结束"));
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() {
            return Ok(read);
        }
        // A line that begins with white space goes on with the header before it.
        let folded = text.starts_with([' ', '\t']);
        let value = match text.split_once(':') {
            Some((new, value)) if !folded => {
                name = new.trim().to_ascii_lowercase();
                value.trim()
            }
            _ => text.trim(),
        };
        match name.as_str() {
            "content-id" => {
                part.id = Some(value.trim_start_matches('<').trim_end_matches('>').to_owned());
            }
            "content-type" => part.kind.push_str(&value.to_ascii_lowercase()),
            "content-transfer-encoding" => match value.to_ascii_lowercase().as_str() {
                "base64" => part.base64 = true,
                "binary" | "8bit" | "7bit" => {}
                _ => return Err(broken("MIME部分的传输编码不是binary、8bit、7bit或base64")),
            },
            _ => {}
        }
    }
}

/// A stretch of an input that others read, too.
pub(super) struct Section<'a, 'i> {
    input: &'a Mutex<&'i mut dyn ReadSeek>,
    range: Range<u64>,
    at: u64,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(input: &'a Mutex<&'i mut dyn ReadSeek>, range: Range<u64>) -> Self {
        Self { input, at: range.start, range }
    }
}

impl Read for Section<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.range.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(into.len());
        let Some(into) = into.get_mut(..most).filter(|into| !into.is_empty()) else { return Ok(0) };
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.seek(SeekFrom::Start(self.at))?;
        let read = input.read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Section<'_, '_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(by) => (self.range.start, i64::try_from(by).unwrap_or(i64::MAX)),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.range.end, by),
        };
        let to = base.checked_add_signed(by).filter(|to| *to >= self.range.start);
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at - self.range.start)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn taken(body: &[u8]) -> Vec<(Option<String>, Vec<u8>)> {
        let mut input = Cursor::new(body.to_vec());
        let parts = parts(&mut input).unwrap().unwrap();
        let shared: Mutex<&mut dyn ReadSeek> = Mutex::new(&mut input);
        let read = |part: Part| {
            let mut bytes = Vec::new();
            Section::new(&shared, part.range).read_to_end(&mut bytes).unwrap();
            (part.id, bytes)
        };
        parts.into_iter().map(read).collect()
    }

    #[test]
    fn parts_are_found_whatever_they_hold() {
        for end in ["\r\n", "\n"] {
            let binary = format!("{end}--B0x\0{end}--B{}{end}", "x".repeat(70_000));
            let body = [
                "--B0",
                "Content-Type: application/xop+xml;",
                " charset=UTF-8",
                "Content-ID: <a@b>",
                "",
                "<x/>",
                "--B0",
                "content-id: c",
                "",
                &binary,
                "--B0--",
                "after",
            ];
            let read = taken(format!("{end}{}", body.join(end)).as_bytes());
            assert_eq!(read[0], (Some("a@b".to_owned()), b"<x/>".to_vec()));
            assert_eq!(read[1], (Some("c".to_owned()), binary.into_bytes()));
            assert_eq!(read.len(), 2);
        }
    }

    #[test]
    fn carriage_returns_at_the_edge_of_a_chunk_are_counted() {
        for long in (CHUNK as usize - 2)..=(CHUNK as usize + 2) {
            let binary = "x".repeat(long);
            let read = taken(format!("--B\r\n\r\n{binary}\r\n--B--\r\n").as_bytes());
            assert_eq!(read[0].1.len(), long);
        }
    }

    #[test]
    fn what_is_no_multipart_or_not_whole_is_told() {
        for text in ["<a/>", "", "--", "\n\n<a/>"] {
            assert!(parts(&mut Cursor::new(text.as_bytes())).unwrap().is_none(), "{text}");
        }
        for text in ["--B\n", "--B\n\nx", "--B\n\nx\n--B\n", "--B\na: b"] {
            assert!(parts(&mut Cursor::new(text.as_bytes())).is_err(), "{text}");
        }
        let many = "--B\n\nx\n".repeat(MAX_PARTS + 1) + "--B--";
        assert!(matches!(parts(&mut Cursor::new(many.as_bytes())), Err(DecodeError::Limit { .. })));
    }
}
