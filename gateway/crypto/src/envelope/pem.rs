//! PEM around an envelope of any size (RFC 7468), label `CMS` as OpenSSL and GmSSL write it.

use std::io::{self, BufRead, Read as _, Write};

use base64ct::{Base64, Encoding as _};

use super::EnvelopeError;

/// Labels accepted; the first is written.
const LABELS: [&str; 2] = ["CMS", "PKCS7"];
/// Bytes of a line of 64 characters.
const LINE: usize = 48;
/// The longest line accepted: OpenSSL writes 64 characters, some peers all in one line.
const MOST_LINE: u64 = 1 << 20;

/// Writes what is written to it as PEM; [`Pem::finish`] ends it.
pub struct Pem<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
}

impl<'a> Pem<'a> {
    /// Begins a block.
    pub fn new(out: &'a mut dyn Write) -> io::Result<Self> {
        let [label, _] = LABELS;
        writeln!(out, "-----BEGIN {label}-----")?;
        Ok(Self { out, held: Vec::with_capacity(LINE) })
    }

    /// Ends the block.
    pub fn finish(mut self) -> io::Result<()> {
        self.line()?;
        let [label, _] = LABELS;
        writeln!(self.out, "-----END {label}-----")
    }

    fn line(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            writeln!(self.out, "{}", Base64::encode_string(&self.held))?;
            self.held.clear();
        }
        Ok(())
    }
}

impl Write for Pem<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE - self.held.len();
        let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        self.held.extend_from_slice(taken);
        if self.held.len() == LINE {
            self.line()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether bytes begin as [`unwrap_pem`] wants it.
pub(super) fn begins(head: &[u8]) -> bool {
    LABELS.iter().any(|label| head.starts_with(format!("-----BEGIN {label}-----").as_bytes()))
}

/// Copies an envelope to `out` in its binary form, whether it comes as DER or as PEM.
pub fn unwrap_pem(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), EnvelopeError> {
    if input.fill_buf()?.first() != Some(&b'-') {
        io::copy(input, out)?;
        return Ok(());
    }
    let begin = line(input)?;
    let label = LABELS.iter().find(|label| begin == format!("-----BEGIN {label}-----"));
    let label = label.ok_or(EnvelopeError::Part("PEM首行"))?;
    let end = format!("-----END {label}-----");
    // Characters that do not make a group of four yet.
    let mut held = String::new();
    loop {
        let next = line(input)?;
        if next == end {
            break;
        }
        if next.is_empty() {
            return Err(EnvelopeError::Part("PEM末行"));
        }
        held.push_str(&next);
        let whole = held.len() - held.len() % 4;
        out.write_all(&decoded(held.get(..whole).unwrap_or_default())?)?;
        held.drain(..whole);
    }
    if held.is_empty() { Ok(()) } else { Err(EnvelopeError::Part("PEM正文")) }
}

fn decoded(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    Base64::decode_vec(text).map_err(|_| EnvelopeError::Part("PEM正文"))
}

/// The next line without its end; empty at the end of the input.
fn line(input: &mut dyn BufRead) -> Result<String, EnvelopeError> {
    let mut line = Vec::new();
    input.take(MOST_LINE).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| EnvelopeError::Part("PEM"))?;
    if text.is_ascii() { Ok(text.trim_end().to_owned()) } else { Err(EnvelopeError::Part("PEM")) }
}
