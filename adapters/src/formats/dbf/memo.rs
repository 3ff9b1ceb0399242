//! The memo file (备注文件) beside a DBF table: `.fpt` of FoxPro, `.dbt` of dBase III and IV.

use std::io::{Read, SeekFrom};

use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};

use super::super::guard::broken;

/// The block of dBase III, and of dBase IV unless it says otherwise.
const BLOCK: u64 = 512;

/// A memo file of either family.
pub(super) struct Memo<'a> {
    input: &'a mut dyn ReadSeek,
    size: u64,
    /// Bytes of a block.
    block: u64,
    fox: bool,
}

impl<'a> Memo<'a> {
    /// Reads the header; `fox`: the table is one of FoxPro's.
    pub(super) fn open(input: &'a mut dyn ReadSeek, fox: bool) -> Result<Self, DecodeError> {
        let size = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        let mut header = Vec::new();
        input.take(24).read_to_end(&mut header)?;
        let at = |at: usize| u64::from(header.get(at).copied().unwrap_or(0));
        if header.len() < 8 {
            return Err(broken("备注文件不完整"));
        }
        let block = match (fox, at(6) << 8 | at(7), at(20) | at(21) << 8) {
            (true, size, _) => size.max(1),
            (false, _, 0) => BLOCK,
            (false, _, size) => size,
        };
        Ok(Self { input, size, block, fox })
    }

    /// The bytes at `block`; `None` if there is no text there.
    pub(super) fn text(
        &mut self,
        block: u64,
        limits: &Limits,
    ) -> Result<Option<Vec<u8>>, DecodeError> {
        let at = block.saturating_mul(self.block);
        if at >= self.size {
            return Ok(None);
        }
        self.input.seek(SeekFrom::Start(at))?;
        let mut head = Vec::new();
        self.input.take(8).read_to_end(&mut head)?;
        let len = match head.as_slice() {
            // Big-endian: what it is (1: a text), then its length.
            [0, 0, 0, kind, a, b, c, d] if self.fox => {
                if *kind != 1 {
                    return Ok(None);
                }
                u64::from(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ if self.fox => return Ok(None),
            // Little-endian, these eight bytes included.
            [0xff, 0xff, 8, 0, a, b, c, d] => {
                u64::from(u32::from_le_bytes([*a, *b, *c, *d])).saturating_sub(8)
            }
            _ => {
                self.input.seek(SeekFrom::Start(at))?;
                return self.until_mark(limits).map(Some);
            }
        };
        if len > self.size.saturating_sub(at + 8) {
            return Ok(None);
        }
        if len > limits.cell_bytes as u64 {
            return Err(too_long(limits));
        }
        let mut text = Vec::new();
        self.input.take(len).read_to_end(&mut text)?;
        Ok(Some(text))
    }

    /// dBase III: up to the byte 0x1A.
    fn until_mark(&mut self, limits: &Limits) -> Result<Vec<u8>, DecodeError> {
        let mut text = Vec::new();
        loop {
            let from = text.len();
            let n = self.input.take(BLOCK).read_to_end(&mut text)?;
            if let Some(end) = memchr::memchr(0x1a, text.get(from..).unwrap_or(&[])) {
                text.truncate(from + end);
                return Ok(text);
            }
            if text.len() > limits.cell_bytes {
                return Err(too_long(limits));
            }
            if n == 0 {
                return Ok(text);
            }
        }
    }
}

fn too_long(limits: &Limits) -> DecodeError {
    DecodeError::Limit { what: "单元格的字节数", limit: limits.cell_bytes as u64 }
}
