//! What is done to a text that holds a document, piece by piece.

use std::io::{self, Read as _, Write as _};

use encoding_rs::{Decoder, GB18030};
use xinqiao_core::model::UnwrapStep;
use xinqiao_core::spi::{DecodeError, Scratch};

use crate::wire::xml::broken;

/// The longest reference that is undone: `&#1114111;`.
const REFERENCE: usize = 12;

/// The steps, and where the result goes.
pub(super) struct Steps {
    stages: Vec<Stage>,
    out: Box<dyn Scratch>,
    limit: u64,
    left: u64,
    /// White space at the beginning is left out of texts.
    trim: bool,
    begun: bool,
}

enum Stage {
    Unescape(Vec<u8>),
    Url(Vec<u8>),
    Gb18030(Box<Decoder>),
    Base64 { bits: u32, count: u8, padded: bool },
}

impl Steps {
    pub(super) fn new(steps: &[UnwrapStep], out: Box<dyn Scratch>, limit: u64) -> Self {
        let mut stages = Vec::new();
        for step in steps {
            match step {
                UnwrapStep::Unescape => stages.push(Stage::Unescape(Vec::new())),
                UnwrapStep::UrlDecode => stages.push(Stage::Url(Vec::new())),
                UnwrapStep::UrlDecodeGb18030 => stages.extend([
                    Stage::Url(Vec::new()),
                    Stage::Gb18030(Box::new(GB18030.new_decoder_without_bom_handling())),
                ]),
                UnwrapStep::Base64 => {
                    stages.push(Stage::Base64 { bits: 0, count: 0, padded: false });
                }
            }
        }
        let trim = !steps.contains(&UnwrapStep::Base64);
        Self { stages, out, limit, left: limit, trim, begun: false }
    }

    /// Whether there is anything to do.
    pub(super) fn any(&self) -> bool {
        !self.stages.is_empty()
    }

    /// Takes the next piece of the text.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), DecodeError> {
        self.through(0, piece, false)
    }

    /// Writes past the steps.
    pub(super) fn plain(&mut self, text: &str) -> Result<(), DecodeError> {
        self.write(text.as_bytes())
    }

    /// What was made, and whether it is empty.
    pub(super) fn finish(mut self) -> Result<(Box<dyn Scratch>, bool), DecodeError> {
        self.through(0, &[], true)?;
        Ok((self.out, !self.begun))
    }

    fn through(&mut self, from: usize, piece: &[u8], last: bool) -> Result<(), DecodeError> {
        let mut held = None;
        for stage in self.stages.get_mut(from..).unwrap_or_default() {
            held = Some(stage.take(held.as_deref().unwrap_or(piece), last)?);
        }
        self.write(held.as_deref().unwrap_or(piece))
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        if self.trim && !self.begun {
            bytes = bytes.trim_ascii_start();
        }
        self.begun |= !bytes.is_empty();
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or(DecodeError::Limit { what: "取出的文档的字节数", limit: self.limit })?;
        Ok(self.out.write_all(bytes)?)
    }
}

impl Stage {
    fn take(&mut self, piece: &[u8], last: bool) -> Result<Vec<u8>, DecodeError> {
        let mut out = Vec::with_capacity(piece.len() + REFERENCE);
        match self {
            Self::Unescape(held) => {
                for byte in piece {
                    match (held.is_empty(), byte) {
                        (_, b'&') => {
                            out.append(held);
                            held.push(b'&');
                        }
                        (true, byte) => out.push(*byte),
                        (false, b';') => {
                            held.push(b';');
                            match std::str::from_utf8(held).ok().and_then(referred) {
                                Some(c) => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
                                None => out.extend_from_slice(held),
                            }
                            held.clear();
                        }
                        (false, byte) => {
                            held.push(*byte);
                            if held.len() > REFERENCE {
                                out.append(held);
                            }
                        }
                    }
                }
                if last {
                    out.append(held);
                }
            }
            Self::Url(held) => {
                for byte in piece {
                    match (held.len(), byte) {
                        (1.., b'%') => {
                            out.append(held);
                            held.push(b'%');
                        }
                        (0, b'%') => held.push(b'%'),
                        (0, b'+') => out.push(b' '),
                        (0, byte) => out.push(*byte),
                        (1, byte) if byte.is_ascii_hexdigit() => held.push(*byte),
                        (_, byte) => {
                            match (held.get(1).copied().and_then(hex), hex(*byte)) {
                                (Some(high), Some(low)) => out.push(high << 4 | low),
                                _ => {
                                    out.extend_from_slice(held);
                                    out.push(*byte);
                                }
                            }
                            held.clear();
                        }
                    }
                }
                if last {
                    out.append(held);
                }
            }
            Self::Gb18030(decoder) => {
                let mut text = String::with_capacity(
                    decoder.max_utf8_buffer_length(piece.len()).unwrap_or(piece.len() * 3 + 16),
                );
                let (_, _, _) = decoder.decode_to_string(piece, &mut text, last);
                out = text.into_bytes();
            }
            Self::Base64 { bits, count, padded } => {
                for byte in piece {
                    let six = match byte {
                        b'A'..=b'Z' => byte - b'A',
                        b'a'..=b'z' => byte - b'a' + 26,
                        b'0'..=b'9' => byte - b'0' + 52,
                        b'+' | b'-' => 62,
                        b'/' | b'_' => 63,
                        b'=' => {
                            *padded = true;
                            continue;
                        }
                        byte if byte.is_ascii_whitespace() => continue,
                        _ => return Err(broken("不是Base64文本")),
                    };
                    if *padded {
                        return Err(broken("Base64文本在填充符之后还有内容"));
                    }
                    *bits = *bits << 6 | u32::from(six);
                    *count += 1;
                    if *count == 4 {
                        out.extend_from_slice(&bits.to_be_bytes()[1..]);
                        (*bits, *count) = (0, 0);
                    }
                }
                if last {
                    match *count {
                        0 => {}
                        2 => out.push((*bits >> 4) as u8),
                        3 => out.extend_from_slice(&(*bits >> 2).to_be_bytes()[2..]),
                        _ => return Err(broken("Base64文本不完整")),
                    }
                }
            }
        }
        Ok(out)
    }
}

/// The character a reference stands for; one that XML does not know stays as it is written.
fn referred(written: &str) -> Option<char> {
    let name = written.strip_prefix('&')?.strip_suffix(';')?;
    let code = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(number) => u32::from_str_radix(number, 16).ok()?,
            None => number.parse().ok()?,
        },
        None => return quick_xml::escape::resolve_predefined_entity(name)?.chars().next(),
    };
    char::from_u32(code)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Writes base64 of a stream.
pub(super) fn base64(
    mut input: impl io::Read,
    each: &mut dyn FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    use base64ct::{Base64, Encoding as _};
    // Of three, so that only the last piece is padded.
    const PIECE: u64 = 48 << 10;
    loop {
        let mut piece = Vec::new();
        (&mut input).take(PIECE).read_to_end(&mut piece)?;
        each(Base64::encode_string(&piece).as_bytes())?;
        if (piece.len() as u64) < PIECE {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn done(steps: &[UnwrapStep], text: &str, piece: usize) -> Result<Vec<u8>, DecodeError> {
        let mut run = Steps::new(steps, Box::new(Vec::new()), 1_000_000);
        for piece in text.as_bytes().chunks(piece) {
            run.push(piece)?;
        }
        let mut out = Vec::new();
        run.finish()?.0.into_reader().unwrap().read_to_end(&mut out).unwrap();
        Ok(out)
    }

    #[test]
    fn steps_do_not_depend_on_pieces() {
        use UnwrapStep::{Base64, Unescape, UrlDecode, UrlDecodeGb18030};
        let cases: &[(&[UnwrapStep], &str, &str)] = &[
            (&[], " \n 甲 ", "甲 "),
            (
                &[Unescape],
                "&lt;a&gt;&amp;lt; &#x7532;&#20057; &nbsp; && &x",
                "<a>&lt; 甲乙 &nbsp; && &x",
            ),
            (&[UrlDecode], "%3Ca%3E+%E7%94%B2%2B%zz%4", "<a> 甲+%zz%4"),
            (&[UrlDecodeGb18030], "%BC%D7+%D2%D2", "甲 乙"),
            (&[Base64], "55Sy\r\n 5LmZYQ==", "甲乙a"),
            (&[Base64], "55Sy5LmZYWI", "甲乙ab"),
            (&[UrlDecode, Base64, Unescape], "Jmx0O2E%2BJmd0Ow%3D%3D", "<a>>"),
        ];
        for (steps, text, expect) in cases {
            for piece in 1..8 {
                let out = String::from_utf8(done(steps, text, piece).unwrap()).unwrap();
                assert_eq!(out, *expect, "{steps:?} by {piece}");
            }
        }
        for text in ["甲", "a", "YQ==YQ=="] {
            assert!(done(&[Base64], text, 3).is_err(), "{text}");
        }
        let mut run = Steps::new(&[], Box::new(Vec::new()), 3);
        assert!(matches!(run.push(b"abcd"), Err(DecodeError::Limit { .. })));
    }

    #[test]
    fn base64_of_a_stream_is_whole() {
        let bytes: Vec<u8> = (0..200_001_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut run = Steps::new(&[UnwrapStep::Base64], Box::new(Vec::new()), 1_000_000);
        base64(bytes.as_slice(), &mut |piece| run.push(piece)).unwrap();
        let mut out = Vec::new();
        run.finish().unwrap().0.into_reader().unwrap().read_to_end(&mut out).unwrap();
        assert_eq!(out, bytes);
    }
}
