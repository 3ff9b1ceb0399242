//! Reading large BER/DER structures without holding their content: headers are walked, small parts
//! are read whole, a large octet string is only noted as where its bytes lie.

use std::io::{self, SeekFrom, Write};

use xinqiao_core::spi::ReadSeek;

use super::EnvelopeError;

pub(super) const OCTETS: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// Context-specific, constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}
/// What makes a primitive tag a constructed one.
const CONSTRUCTED: u8 = 0x20;

/// All parts read whole together: certificates, recipients, signers. What they parse to is many
/// times larger, and whoever sends an envelope is not known yet.
const SMALL: u64 = 1 << 20;
/// Nested constructed octet strings and frames.
const DEPTH: usize = 16;
/// Pieces of one octet string hold so many bytes on average, from [`PIECES`] of them on: OpenSSL
/// writes a kilobyte or so into each.
const PIECE: u64 = 256;
const PIECES: usize = 1_024;

/// Where the bytes of an octet string lie in the input, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pieces: Vec<(u64, u64)>,
    len: u64,
}

impl Extent {
    /// Number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Takes in a piece; not if there would be many for little.
    fn push(&mut self, at: u64, len: u64) -> bool {
        self.len += len;
        self.pieces.push((at, len));
        self.pieces.len() <= PIECES || self.len / PIECE >= self.pieces.len() as u64
    }

    /// Hands the bytes over in order, in chunks of at most 64 KiB.
    pub(super) fn read(
        &self,
        input: &mut dyn ReadSeek,
        mut each: impl FnMut(&[u8]) -> Result<(), EnvelopeError>,
    ) -> Result<(), EnvelopeError> {
        let mut chunk = vec![0; 64 << 10];
        for (at, len) in &self.pieces {
            input.seek(SeekFrom::Start(*at))?;
            let mut left = *len;
            while left > 0 {
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                let part = chunk.get_mut(..room).unwrap_or_default();
                input.read_exact(part)?;
                each(part)?;
                left -= room as u64;
            }
        }
        Ok(())
    }
}

/// Walks one BER value.
pub(super) struct Walk<'a> {
    input: &'a mut dyn ReadSeek,
    at: u64,
    /// Where each open frame ends; `None` for indefinite length.
    frames: Vec<Option<u64>>,
    end: u64,
    /// Bytes that parts read whole may still have.
    room: u64,
}

impl<'a> Walk<'a> {
    /// Begins at the start of `input`.
    pub(super) fn new(input: &'a mut dyn ReadSeek) -> Result<Self, EnvelopeError> {
        let end = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        Ok(Self { input, at: 0, frames: Vec::new(), end, room: SMALL })
    }

    /// Enters a constructed value of `tag`.
    pub(super) fn enter(&mut self, tag: u8) -> Result<(), EnvelopeError> {
        let (found, len) = self.header()?;
        if found != tag || self.frames.len() >= DEPTH {
            return Err(self.malformed());
        }
        self.frames.push(len.map(|len| self.at + len));
        Ok(())
    }

    /// Leaves the innermost frame, which must have been read to its end.
    pub(super) fn leave(&mut self) -> Result<(), EnvelopeError> {
        if !self.at_end()? {
            return Err(self.malformed());
        }
        if let Some(None) = self.frames.pop() {
            self.at += 2;
        }
        Ok(())
    }

    /// Whether the innermost frame has been read to its end.
    pub(super) fn at_end(&mut self) -> Result<bool, EnvelopeError> {
        match self.frames.last() {
            Some(Some(end)) => Ok(self.at == *end),
            Some(None) => Ok(self.peek::<2>()? == [0, 0]),
            None => Ok(self.at == self.end),
        }
    }

    /// The tag of the next value; `None` at the end of the frame.
    pub(super) fn tag(&mut self) -> Result<Option<u8>, EnvelopeError> {
        if self.at_end()? {
            return Ok(None);
        }
        let [tag] = self.peek()?;
        Ok(Some(tag))
    }

    /// Passes over the next value: DER, of any size.
    pub(super) fn skip(&mut self) -> Result<(), EnvelopeError> {
        let (_, len) = self.header()?;
        self.at += len.ok_or_else(|| self.malformed())?;
        Ok(())
    }

    /// Reads the next value whole, header and all: DER, all of them at most 1 MiB together.
    pub(super) fn small(&mut self) -> Result<Vec<u8>, EnvelopeError> {
        let start = self.at;
        let (_, len) = self.header()?;
        let Some(len) = len.filter(|len| *len <= self.room) else { return Err(self.malformed()) };
        self.room -= len;
        let whole = usize::try_from(self.at - start + len).map_err(|_| self.malformed())?;
        let mut bytes = vec![0; whole];
        self.input.seek(SeekFrom::Start(start))?;
        self.input.read_exact(&mut bytes)?;
        self.at = start + whole as u64;
        Ok(bytes)
    }

    /// Notes where the bytes of the next octet string lie; `tag` is its primitive tag. In BER it may
    /// be made of pieces.
    pub(super) fn octets(&mut self, tag: u8) -> Result<Extent, EnvelopeError> {
        let mut extent = Extent::default();
        self.pieces(tag, 0, &mut extent)?;
        Ok(extent)
    }

    fn pieces(&mut self, tag: u8, depth: usize, into: &mut Extent) -> Result<(), EnvelopeError> {
        let [found] = self.peek()?;
        if found == tag {
            let (_, len) = self.header()?;
            let len = len.ok_or_else(|| self.malformed())?;
            if !into.push(self.at, len) {
                return Err(self.malformed());
            }
            self.at += len;
            return Ok(());
        }
        if found != tag | CONSTRUCTED || depth >= DEPTH {
            return Err(self.malformed());
        }
        self.enter(found)?;
        while !self.at_end()? {
            self.pieces(OCTETS, depth + 1, into)?;
        }
        self.leave()
    }

    /// Tag and length of the next value, which must fit into its frame; the length is `None` if
    /// indefinite. Moves behind them.
    fn header(&mut self) -> Result<(u8, Option<u64>), EnvelopeError> {
        let [tag, first] = self.peek()?;
        // No structure here has a tag number above 30.
        if tag & 0x1f == 0x1f {
            return Err(self.malformed());
        }
        self.at += 2;
        let len = match first {
            0..=0x7f => u64::from(first),
            0x80 if tag & CONSTRUCTED != 0 => return Ok((tag, None)),
            0x81..=0x88 => {
                let count = usize::from(first & 0x7f);
                let bytes: [u8; 8] = self.peek_some(count)?;
                self.at += count as u64;
                bytes.iter().take(count).fold(0, |len, byte| (len << 8) | u64::from(*byte))
            }
            _ => return Err(self.malformed()),
        };
        let end = self.at.checked_add(len).ok_or_else(|| self.malformed())?;
        if end > self.limit() {
            return Err(self.malformed());
        }
        Ok((tag, Some(len)))
    }

    /// Where the innermost definite frame ends.
    fn limit(&self) -> u64 {
        self.frames.iter().rev().find_map(|end| *end).unwrap_or(self.end)
    }

    fn peek<const N: usize>(&mut self) -> Result<[u8; N], EnvelopeError> {
        let bytes: [u8; 8] = self.peek_some(N)?;
        let mut out = [0; N];
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Ok(out)
    }

    /// The next `count` bytes (at most eight), the rest zero.
    fn peek_some(&mut self, count: usize) -> Result<[u8; 8], EnvelopeError> {
        let mut bytes = [0; 8];
        if self.limit().saturating_sub(self.at) < count as u64 {
            return Err(self.malformed());
        }
        self.input.seek(SeekFrom::Start(self.at))?;
        self.input.read_exact(bytes.get_mut(..count).unwrap_or_default())?;
        Ok(bytes)
    }

    fn malformed(&self) -> EnvelopeError {
        EnvelopeError::Malformed { at: self.at }
    }
}

/// A DER header.
pub(super) fn header(tag: u8, len: u64) -> Vec<u8> {
    let bytes = len.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let used = bytes.get(skip..).unwrap_or_default();
    let mut out = vec![tag];
    if len < 0x80 {
        out.extend(u8::try_from(len));
    } else {
        out.push(0x80 | u8::try_from(used.len()).unwrap_or_default());
        out.extend_from_slice(used);
    }
    out
}

/// A DER value with its content at hand.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = header(tag, content.len() as u64);
    out.extend_from_slice(content);
    out
}

/// Writes the headers of values nested in each other (outermost first), of which each but the last
/// holds `before` it, the next one, and nothing after but what `tail` counts.
///
/// ```text
/// [tag₁ len₁ before₁ [tag₂ len₂ before₂ [… content] tail₂] tail₁]
/// ```
pub(super) fn nested(
    out: &mut dyn Write,
    frames: &[(u8, &[u8], u64)],
    content: u64,
) -> io::Result<()> {
    let mut lengths = Vec::with_capacity(frames.len());
    let mut inner = content;
    for (tag, before, tail) in frames.iter().rev() {
        let len = before.len() as u64 + inner + tail;
        lengths.push(len);
        inner = header(*tag, len).len() as u64 + len;
    }
    for ((tag, before, _), len) in frames.iter().zip(lengths.iter().rev()) {
        out.write_all(&header(*tag, *len))?;
        out.write_all(before)?;
    }
    Ok(())
}
