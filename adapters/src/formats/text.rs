//! Bytes of text → UTF-8, in a stream of bounded memory.

use std::cell::Cell;
use std::io::{self, Read, SeekFrom};
use std::rc::Rc;

use encoding_rs::{Decoder, GB18030, UTF_8, UTF_16BE, UTF_16LE};
use xinqiao_core::model::Encoding;
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};

use super::guard;

const CHUNK: usize = 64 << 10;

/// Bytes a parser may still take for the token, record or line at hand. The parser refills it;
/// the reader fails when it runs out, so that no token can grow without bound.
#[derive(Clone)]
pub(super) struct Budget {
    left: Rc<Cell<u64>>,
    full: u64,
    ended: Rc<Cell<bool>>,
}

impl Budget {
    fn new(full: u64) -> Self {
        Self { left: Rc::new(Cell::new(full)), full, ended: Rc::default() }
    }

    /// Whether the parser has been told that the text is over. One that takes lines is told so
    /// only if it looks for more after the last line break.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// Starts the next record.
    pub(super) fn refill(&self) {
        self.left.set(self.full);
    }
}

/// The bound of one record's bytes: a few cells of the greatest size.
pub(super) fn record_bytes(limits: &Limits) -> u64 {
    (limits.cell_bytes as u64).saturating_mul(16)
}

/// Decides the encoding: by BOM, which nobody writes by chance; else the declared one; for `Auto`
/// UTF-16 if the text begins with an ASCII character of two bytes, else by whether every byte of
/// the input is valid UTF-8 (read once in chunks), else GB18030. GBK is always read as GB18030. A
/// workbook is refused: as text it would be refused row by row.
pub(super) fn detect(
    declared: Encoding,
    input: &mut dyn ReadSeek,
) -> Result<&'static encoding_rs::Encoding, DecodeError> {
    if guard::container(input)?.is_some() {
        return Err(DecodeError::WrongFormat {
            expected: "文本",
            detail: "是Excel/WPS工作簿或压缩包,请按约定的格式另存后重新报送".to_owned(),
        });
    }
    let mut head = [0u8; 3];
    let n = fill(input, &mut head)?;
    let head = head.get(..n).unwrap_or(&[]);
    let bom = encoding_rs::Encoding::for_bom(head).map(|(encoding, _)| encoding);
    let shown = bom.or(match head {
        [b'\t'..=b'~', 0, ..] => Some(UTF_16LE),
        [0, b'\t'..=b'~', ..] => Some(UTF_16BE),
        _ => None,
    });
    let found = match declared {
        _ if bom.is_some() => bom.unwrap_or(UTF_8),
        Encoding::Utf8 => UTF_8,
        Encoding::Gb18030 => GB18030,
        Encoding::Utf16 if shown == Some(UTF_16BE) => UTF_16BE,
        Encoding::Utf16 => UTF_16LE,
        Encoding::Auto => match shown {
            Some(encoding) => encoding,
            None if is_utf8(input)? => UTF_8,
            None => GB18030,
        },
    };
    input.seek(SeekFrom::Start(0))?;
    Ok(found)
}

/// What the declared encoding is called and what the text seems to be written in, if they differ:
/// why nothing was found in it.
pub(super) fn contradiction(
    declared: Encoding,
    input: &mut dyn ReadSeek,
) -> io::Result<Option<DecodeError>> {
    let (expected, detail) = match (declared, is_utf8(input)?) {
        (Encoding::Gb18030, true) => ("GB18030编码的文本", "是UTF-8编码"),
        (Encoding::Utf8, false) => ("UTF-8编码的文本", "是GB18030或其他编码"),
        _ => return Ok(None),
    };
    let detail = format!("{detail}。请按约定的编码另存,或请平台运维改映射规则的 encoding");
    Ok(Some(DecodeError::WrongFormat { expected, detail }))
}

/// Decodes while reading. Undecodable bytes come out as U+FFFD; a BOM is dropped; CR LF and CR
/// become LF, and a line break is added at the end if there is none, so that lines can be counted.
pub(super) struct TextReader<'a> {
    input: &'a mut dyn ReadSeek,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_at: usize,
    out: Vec<u8>,
    out_at: usize,
    ended: bool,
    after_cr: bool,
    last: u8,
    total_left: u64,
    budget: Budget,
}

impl<'a> TextReader<'a> {
    /// Reads `input` from its start; at most `total` decoded bytes, at most `per_record` between
    /// two refills of the budget.
    pub(super) fn new(
        input: &'a mut dyn ReadSeek,
        encoding: &'static encoding_rs::Encoding,
        total: u64,
        per_record: u64,
    ) -> Self {
        Self {
            input,
            decoder: encoding.new_decoder_with_bom_removal(),
            raw: Vec::new(),
            raw_at: 0,
            out: Vec::new(),
            out_at: 0,
            ended: false,
            after_cr: false,
            last: b'\n',
            total_left: total,
            // The reader works in chunks, so one or two chunks beyond the record are normal.
            budget: Budget::new(per_record.saturating_add(CHUNK as u64 * 8)),
        }
    }

    /// The budget to refill at every record.
    pub(super) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    fn decode_chunk(&mut self) -> io::Result<()> {
        if self.raw_at == self.raw.len() {
            chunk(self.input, &mut self.raw)?;
            self.raw_at = 0;
        }
        let end_of_input = self.raw.is_empty();
        let raw = self.raw.get(self.raw_at..).unwrap_or(&[]);
        self.out.resize(raw.len() * 3 + 16, 0);
        let (result, read, written, _) =
            self.decoder.decode_to_utf8(raw, &mut self.out, end_of_input);
        self.raw_at += read;
        self.out.truncate(written);
        self.out_at = 0;
        if end_of_input && result == encoding_rs::CoderResult::InputEmpty {
            self.ended = true;
        }
        self.fold_line_breaks();
        let n = self.out.len() as u64;
        self.total_left = self.total_left.checked_sub(n).ok_or_else(|| limit(Hit::Total))?;
        if let Some(&last) = self.out.last() {
            self.last = last;
        }
        if self.ended && self.last != b'\n' {
            self.out.push(b'\n');
        }
        Ok(())
    }

    fn fold_line_breaks(&mut self) {
        let start = match memchr::memchr(b'\r', &self.out) {
            _ if self.after_cr => 0,
            Some(first) => first,
            None => return,
        };
        let mut to = start;
        for from in start..self.out.len() {
            let byte = self.out.get(from).copied().unwrap_or(0);
            if std::mem::replace(&mut self.after_cr, byte == b'\r') && byte == b'\n' {
                continue;
            }
            if let Some(slot) = self.out.get_mut(to) {
                *slot = if byte == b'\r' { b'\n' } else { byte };
            }
            to += 1;
        }
        self.out.truncate(to);
    }
}

impl Read for TextReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.out_at == self.out.len() {
            if self.ended {
                self.budget.ended.set(true);
                return Ok(0);
            }
            self.decode_chunk()?;
        }
        let ready = self.out.get(self.out_at..).unwrap_or(&[]);
        let n = ready.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.out_at += n;
        let left =
            self.budget.left.get().checked_sub(n as u64).ok_or_else(|| limit(Hit::Record))?;
        self.budget.left.set(left);
        Ok(n)
    }
}

/// Which bound a reader met, carried through a parser inside an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Hit {
    #[error("total")]
    Total,
    #[error("record")]
    Record,
}

impl Hit {
    /// The bound that stopped a read, if one did.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref()).copied()
    }
}

fn limit(hit: Hit) -> io::Error {
    io::Error::other(hit)
}

/// The decoding error an I/O error stands for.
pub(super) fn io_fault(error: io::Error, limits: &Limits) -> DecodeError {
    Hit::of(&error).map_or(DecodeError::Io(error), |hit| hit_fault(hit, limits))
}

/// The decoding error of a bound.
pub(super) fn hit_fault(hit: Hit, limits: &Limits) -> DecodeError {
    match hit {
        Hit::Total => {
            DecodeError::Limit { what: "报文解码后的字节数", limit: limits.inflated_bytes }
        }
        Hit::Record => DecodeError::Limit {
            what: "一条记录的字节数(可能有未配对的引号或未结束的标签)",
            limit: record_bytes(limits),
        },
    }
}

fn fill(input: &mut dyn ReadSeek, into: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while let Some(rest) = into.get_mut(n..).filter(|r| !r.is_empty()) {
        match input.read(rest)? {
            0 => break,
            k => n += k,
        }
    }
    Ok(n)
}

/// Reads the next chunk in place of what `into` holds; empty at the end. A short input, such as one
/// pushed record, gets a short buffer: a full one costs more than decoding it.
fn chunk(input: &mut dyn ReadSeek, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    more(input, into).map(drop)
}

fn more(input: &mut dyn ReadSeek, into: &mut Vec<u8>) -> io::Result<usize> {
    input.take(CHUNK as u64).read_to_end(into)
}

fn is_utf8(input: &mut dyn ReadSeek) -> io::Result<bool> {
    input.seek(SeekFrom::Start(0))?;
    let mut buf = Vec::new();
    loop {
        let n = more(input, &mut buf)?;
        match std::str::from_utf8(&buf) {
            Ok(_) => buf.clear(),
            // An incomplete sequence at the end of a chunk goes on in the next.
            Err(e) if e.error_len().is_none() && n > 0 => drop(buf.drain(..e.valid_up_to())),
            Err(_) => return Ok(false),
        }
        if n == 0 {
            return Ok(buf.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn read(declared: Encoding, bytes: &[u8]) -> String {
        let mut input = Cursor::new(bytes.to_vec());
        let encoding = detect(declared, &mut input).unwrap();
        let mut text = String::new();
        TextReader::new(&mut input, encoding, u64::MAX, u64::MAX / 2)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn encodings_are_told_apart_by_content() {
        let (gbk, _, _) = GB18030.encode("处罚䶮𠮷");
        assert_eq!(read(Encoding::Auto, &gbk), "处罚䶮𠮷\n");
        assert_eq!(read(Encoding::Auto, "\u{feff}处罚\r\n乙".as_bytes()), "处罚\n乙\n");
        assert_eq!(read(Encoding::Auto, b"\xff\xfe\x04Y\n\x00"), "处\n");
        for declared in [Encoding::Auto, Encoding::Utf16] {
            assert_eq!(read(declared, b"a\0\x04Y"), "a处\n");
            assert_eq!(read(declared, b"\0aY\x04"), "a处\n");
        }
        assert_eq!(read(Encoding::Gb18030, b"a\xff\xffb"), "a\u{fffd}\u{fffd}b\n");
    }

    #[test]
    fn a_late_gbk_byte_far_behind_ascii_still_decides() {
        let mut bytes = vec![b'a'; 200_000];
        bytes.extend_from_slice(&GB18030.encode("县").0);
        assert!(read(Encoding::Auto, &bytes).ends_with("县\n"));
    }

    proptest! {
        #[test]
        fn chunks_never_change_the_text(text in "[a\r\n处𠮷]{0,40}", pad in 0usize..5) {
            let mut long = "x".repeat(CHUNK - pad);
            long.push_str(&text);
            let mut expected = long.replace("\r\n", "\n").replace('\r', "\n");
            if !expected.ends_with('\n') { expected.push('\n'); }
            prop_assert_eq!(read(Encoding::Auto, long.as_bytes()), expected);
        }
    }
}
