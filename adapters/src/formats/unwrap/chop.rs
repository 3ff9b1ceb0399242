//! Cuts long texts and CDATA sections of an XML stream into pieces a parser can take one by one: it
//! holds each whole, and a document may stand in one text.

use std::io::{self, Read};

/// Bytes of a piece.
const LONG: usize = 32 << 10;

/// Reads UTF-8 XML through. What it puts in (`<!---->`, `]]><![CDATA[`) changes no text.
pub(super) struct Chopper<R> {
    input: R,
    raw: Vec<u8>,
    out: Vec<u8>,
    at: usize,
    state: State,
    /// Bytes since the last cut or markup.
    run: usize,
    last: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Between `&` and `;`.
    Entity,
    /// After `<`, with how much of `![CDATA[` or `!--` has been seen.
    Open(usize),
    Tag,
    /// In an attribute's value.
    Quoted(u8),
    CData,
    Comment,
    /// A processing instruction.
    Instruction,
}

impl<R: Read> Chopper<R> {
    pub(super) fn new(input: R) -> Self {
        let (raw, out) = (vec![0; 16 << 10], Vec::new());
        Self { input, raw, out, at: 0, state: State::Text, run: 0, last: 0 }
    }

    fn take(&mut self, byte: u8) {
        // No cut within a character.
        let long = self.run >= LONG && byte & 0xC0 != 0x80;
        match self.state {
            State::Text if long && byte != b'<' => {
                self.out.extend_from_slice(b"<!---->");
                self.run = 0;
            }
            State::CData if long && !matches!(byte, b']' | b'>') && self.last != b']' => {
                self.out.extend_from_slice(b"]]><![CDATA[");
                self.run = 0;
            }
            _ => {}
        }
        self.run += 1;
        const CDATA: &[u8] = b"![CDATA[";
        let next = match (self.state, byte) {
            (State::Text | State::Entity, b'<') => State::Open(0),
            (State::Text, b'&') => State::Entity,
            (State::Entity, b';') => State::Text,
            (State::Open(0), b'?') => State::Instruction,
            (State::Open(1), b'-') => State::Comment,
            (State::Open(seen), byte) if CDATA.get(seen) == Some(&byte) => {
                if seen + 1 == CDATA.len() { State::CData } else { State::Open(seen + 1) }
            }
            (State::Open(_), b'>') | (State::Tag, b'>') => State::Text,
            (State::Open(_), _) => State::Tag,
            (State::Tag, b'"' | b'\'') => State::Quoted(byte),
            (State::Quoted(quote), byte) if quote == byte => State::Tag,
            (State::CData, b'>') if self.out.ends_with(b"]]") => State::Text,
            (State::Comment, b'>') if self.out.ends_with(b"--") => State::Text,
            (State::Instruction, b'>') if self.last == b'?' => State::Text,
            (same, _) => same,
        };
        if next != self.state {
            self.state = next;
            self.run = 0;
        }
        self.last = byte;
        self.out.push(byte);
    }
}

impl<R: Read> Read for Chopper<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.out.len() {
            // The end of a section may be known by what was given before.
            self.out.drain(..self.out.len().saturating_sub(2));
            self.at = self.out.len();
            let mut raw = std::mem::take(&mut self.raw);
            let read = self.input.read(&mut raw);
            for byte in raw.iter().take(*read.as_ref().unwrap_or(&0)) {
                self.take(*byte);
            }
            self.raw = raw;
            read?;
        }
        let ready = self.out.get(self.at..).unwrap_or(&[]);
        let n = ready.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::wire::xml::{Element, Token, read};

    #[test]
    fn texts_stay_the_same_and_no_piece_is_long() {
        let long = "甲乙]]丙&amp;a>".repeat(20_000);
        let cdata = "甲]]]<b & \"'-->?>".repeat(20_000);
        let text = format!(
            "<?xml version=\"1.0\"?><a x='>\"'><!-- <b> {long}--><c>{long}</c><d><![CDATA[{cdata}]]>\
             </d><?x {long}?></a>"
        );
        let chopped = || io::BufReader::new(Chopper::new(text.as_bytes()));
        let root = Element::read(chopped(), 8, &mut || {}).unwrap();
        assert_eq!(root.child("c").unwrap().text, long.replace("&amp;", "&"));
        assert_eq!(root.child("d").unwrap().text, cdata);
        read(chopped(), 8, &mut || {}, &mut |token| {
            if let Token::Text(text) = token {
                assert!(text.len() < 2 * LONG, "{}", text.len());
            }
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    }
}
