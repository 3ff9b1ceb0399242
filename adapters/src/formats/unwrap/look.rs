//! What an answer says in passing: one pass, and nothing of it is kept but a few short texts.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Cursor;
use std::ops::ControlFlow;

use xinqiao_core::model::Encoding;
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek};

use super::{Message, Path, Place, reference};
use crate::wire::soap::{Fault, Version};
use crate::wire::xml::{Builder, Tag, Token};

/// Characters of a text that is looked at.
const MAX_LOOKED: usize = 64 << 10;
/// Names of elements beside the rows that are told apart.
const MAX_BESIDE: usize = 64;

/// What is looked for.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Elements whose text is wanted.
    pub(crate) texts: Vec<Path>,
    /// Elements that are counted.
    pub(crate) rows: Option<Path>,
}

/// What was seen of a document.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Set if it is an envelope.
    pub(crate) version: Option<Version>,
    pub(crate) fault: Option<Fault>,
    /// For each path the text of the first element there.
    pub(crate) texts: Vec<Option<String>>,
    /// Of the rows, where they are asked for.
    pub(crate) rows: Option<RowsSeen>,
}

/// Rows of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowsSeen {
    /// How many; 0 only of an answer that is known to have none.
    pub(crate) count: usize,
    /// Equal for equal rows.
    pub(crate) print: u64,
}

/// Looks for elements at paths, which count from below `Body` in an envelope; there, what references
/// point at stands in their place.
pub(crate) fn look(
    input: &mut dyn ReadSeek,
    encoding: Encoding,
    limits: &Limits,
    paths: &Paths,
) -> Result<Looked, DecodeError> {
    let message = Message::open(encoding, input, limits)?;
    let mut looked = Looked { texts: vec![None; paths.texts.len()], ..Looked::default() };
    let mut place = Place::default();
    let mut fault: Option<Builder> = None;
    let mut taking: Vec<(usize, usize, String)> = Vec::new();
    let mut rows = paths.rows.as_ref().map(Counter::new);
    let wanted = paths.rows.is_some() || paths.texts.iter().any(|path| !path.0.is_empty());
    let mut references = false;
    message.read(&mut |token| {
        match &token {
            Token::Open(tag) => {
                place.open(tag.name, &tag.ns);
                if place.is_fault(&tag.ns) {
                    fault = Some(Builder::default());
                }
                references |= place.envelope.is_some()
                    && !place.below().is_empty()
                    && reference(tag.attributes).is_some();
                for (ix, path) in paths.texts.iter().enumerate() {
                    let fresh = looked.texts[ix].is_none() && taking.iter().all(|one| one.0 != ix);
                    if fresh && path.is(place.below()) {
                        taking.push((ix, place.depth(), String::new()));
                    }
                }
                if let Some(rows) = &mut rows {
                    rows.open(place.below(), tag);
                }
            }
            Token::Text(text) => {
                for (_, _, taken) in &mut taking {
                    let left = MAX_LOOKED.saturating_sub(taken.len());
                    taken.extend(text.chars().take(left));
                }
                if let Some(rows) = &mut rows {
                    rows.text(place.below(), text);
                }
            }
            Token::Close => {
                for (ix, _, taken) in taking.extract_if(.., |(_, depth, _)| *depth == place.depth())
                {
                    looked.texts[ix] = Some(taken.trim().to_owned());
                }
                if let Some(rows) = &mut rows {
                    rows.close(place.below());
                }
                place.close();
            }
        }
        if let Some(build) = &mut fault
            && let Some(done) = build.take(token)?
        {
            looked.fault = Fault::of(&done);
            fault = None;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if references && wanted && looked.fault.is_none() {
        return look(&mut Cursor::new(message.resolved()?), Encoding::Utf8, limits, paths);
    }
    looked.version = place.envelope;
    looked.rows = rows.and_then(Counter::done);
    Ok(looked)
}

/// Counts rows, and tells an answer without any from one that is something else: what was asked for
/// would be passed by for ever otherwise.
struct Counter<'p> {
    path: &'p Path,
    count: usize,
    print: DefaultHasher,
    /// How far down the path there are elements.
    reached: usize,
    /// There is any content in the last of them; in the answer, if there is none.
    filled: bool,
    /// What stands beside the rows, in elements of its own; the last name is still open.
    beside: BTreeSet<String>,
    open: Option<String>,
    /// Something beside the rows looks like the rows.
    misnamed: bool,
}

impl<'p> Counter<'p> {
    fn new(path: &'p Path) -> Self {
        let (print, beside) = (DefaultHasher::new(), BTreeSet::new());
        let (count, reached) = (0, 0);
        Self { path, count, print, reached, filled: false, beside, open: None, misnamed: false }
    }

    fn open(&mut self, below: &[String], tag: &Tag<'_>) {
        let (shared, depth, whole) = (self.path.shared(below), below.len(), self.path.0.len());
        if depth == 0 {
            return;
        }
        if shared == whole {
            self.count += usize::from(depth == whole);
            (depth - whole, below.last(), tag.attributes).hash(&mut self.print);
        }
        if shared == depth && depth > self.reached {
            (self.reached, self.filled) = (depth, false);
        } else if shared.min(depth - 1) >= self.reached {
            self.filled |= !tag.attributes.is_empty();
        }
        if shared + 1 == whole && depth == whole {
            let name = below.last().cloned().unwrap_or_default();
            let wanted = self.path.0.last();
            self.misnamed |= wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(&name));
            self.open = Some(name);
        } else if shared + 1 == whole
            && let Some(name) = self.open.take()
            && self.beside.len() < MAX_BESIDE
        {
            // Two of a name, with elements in them, are rows of another name.
            self.misnamed |= !self.beside.insert(name);
        }
    }

    fn text(&mut self, below: &[String], text: &str) {
        if below.is_empty() {
            return;
        }
        let shared = self.path.shared(below);
        if shared == self.path.0.len() {
            self.print.write(text.as_bytes());
        }
        if shared >= self.reached && below.len() >= self.reached && !text.trim().is_empty() {
            self.filled = true;
        }
    }

    fn close(&mut self, below: &[String]) {
        if self.path.shared(below) == self.path.0.len() {
            self.print.write_u8(0);
        }
        if below.len() == self.path.0.len() {
            self.open = None;
        }
    }

    /// `None` if it cannot be said that there are no rows.
    fn done(self) -> Option<RowsSeen> {
        let around = self.reached > 0 && self.reached + 1 == self.path.0.len();
        let none = !self.misnamed && (around || !self.filled);
        (self.count > 0 || none).then(|| RowsSeen { count: self.count, print: self.print.finish() })
    }
}
