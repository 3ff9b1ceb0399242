//! Takes the records' document out of what it came in: a SOAP envelope (1.1, 1.2, `multipart/related`
//! with XOP), or an outer document with the inner one as a text. Streams, but for a document with
//! Axis's references (`href="#id0"`), which needs a tree of bounded size.

use std::cell::Cell;
use std::io::BufReader;
use std::ops::{ControlFlow, Range};
use std::sync::Mutex;

use xinqiao_core::model::{Encoding, FormatSpec, Unwrap};
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek, RowSink, Scratch, ScratchSpace};

use super::text::{TextReader, detect, io_fault, record_bytes};
use crate::wire::soap::Version;
use crate::wire::xml::{Attribute, Builder, Token, broken, escape, local, read};

mod chop;
mod look;
mod mime;
mod references;
mod steps;

use chop::Chopper;
pub(crate) use look::{Paths, RowsSeen, look};
use mime::{Part, Section};
use references::{attribute, begin, reference};
use steps::Steps;

/// How many times the bytes of a message its parts may be included for, all in all.
const MAX_INCLUDED: u64 = 2;
const XOP: &str = "http://www.w3.org/2004/08/xop/include";

/// Undoes the wrapping of `input`, then decodes what was in it.
pub(super) fn decode(
    unwrap: &Unwrap,
    spec: &FormatSpec,
    input: &mut dyn ReadSeek,
    limits: &Limits,
    scratch: ScratchSpace<'_>,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    let Some(mut inner) = document(unwrap, spec.encoding, input, limits, scratch())? else {
        return Ok(());
    };
    let spec = FormatSpec { unwrap: None, encoding: inner.encoding, ..spec.clone() };
    super::decode(&spec, &mut *inner.reader, limits, scratch, sink)
}

/// A document that was wrapped.
pub(crate) struct Inner {
    pub(crate) reader: Box<dyn ReadSeek>,
    pub(crate) encoding: Encoding,
}

/// The document in a message; `None` if there is an empty text in its place.
pub(crate) fn document(
    unwrap: &Unwrap,
    encoding: Encoding,
    input: &mut dyn ReadSeek,
    limits: &Limits,
    out: Box<dyn Scratch>,
) -> Result<Option<Inner>, DecodeError> {
    use xinqiao_core::model::UnwrapStep::Base64;
    // Bytes may be in any encoding; a text was read with its envelope's, whatever it says of itself.
    let bytes = unwrap.steps.contains(&Base64);
    let message = Message::open(if bytes { Encoding::Auto } else { encoding }, input, limits)?;
    let want = match &unwrap.at {
        Some(path) => Want::Path(Path::new(path)),
        None => message.only()?,
    };
    let mut extract =
        Extract::new(&message, want, Steps::new(&unwrap.steps, out, limits.inflated_bytes));
    message.read(&mut |token| extract.take(token))?;
    let behind = extract.pointing && !extract.done && !extract.fault;
    let steps = if extract.references || behind {
        // What was written so far is of no use, and nothing but a part of the same document.
        let text = message.resolved()?;
        let encoding = if bytes { encoding } else { Encoding::Utf8 };
        let (mut text, out) = (std::io::Cursor::new(text), Box::new(Vec::new()));
        return document(unwrap, encoding, &mut text, limits, out);
    } else if extract.fault {
        return Err(DecodeError::WrongFormat {
            expected: "数据",
            detail: "是SOAP故障(Fault),没有数据".to_owned(),
        });
    } else if extract.done {
        extract.steps
    } else {
        let at = unwrap.at.as_deref().unwrap_or("Body 下的元素");
        return Err(broken(&format!("没有 unwrap.at 所指的元素({at})")));
    };
    let (out, empty) = steps.finish()?;
    if empty {
        return Ok(None);
    }
    let reader = out.into_reader()?;
    Ok(Some(Inner { reader, encoding: if bytes { encoding } else { Encoding::Utf8 } }))
}

/// A path of element names without prefixes; `*` is any one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    pub(crate) fn new(text: &str) -> Self {
        let names = text.split('/').map(str::trim).filter(|name| !name.is_empty());
        Self(names.map(|name| local(name).to_owned()).collect())
    }

    fn is(&self, open: &[String]) -> bool {
        !self.0.is_empty() && self.0.len() == open.len() && self.shared(open) == open.len()
    }

    /// How many elements from the top are the path's.
    fn shared(&self, open: &[String]) -> usize {
        let pairs = self.0.iter().zip(open);
        pairs.take_while(|(want, name)| *want == "*" || want == name).count()
    }
}

/// Which elements are open.
#[derive(Default)]
struct Place {
    open: Vec<String>,
    envelope: Option<Version>,
}

impl Place {
    fn open(&mut self, name: &str, ns: &str) {
        let name = local(name);
        if self.open.is_empty() && name == "Envelope" {
            self.envelope = Version::of(ns);
        }
        self.open.push(name.to_owned());
    }

    fn close(&mut self) {
        self.open.pop();
    }

    fn depth(&self) -> usize {
        self.open.len()
    }

    /// The path, from below `Body` in an envelope; empty outside of it.
    fn below(&self) -> &[String] {
        match (self.envelope, self.open.get(1)) {
            (None, _) => &self.open,
            (Some(_), Some(name)) if name == "Body" => self.open.get(2..).unwrap_or(&[]),
            (Some(_), _) => &[],
        }
    }

    fn is_fault(&self, ns: &str) -> bool {
        self.envelope.is_some_and(|version| version.ns() == ns)
            && matches!(self.below(), [name] if name == "Fault")
    }
}

/// Which element is wanted.
enum Want {
    Path(Path),
    /// By its place in the document, from 1.
    Nth(u64),
}

struct Message<'i, 'l> {
    input: Mutex<&'i mut dyn ReadSeek>,
    parts: Vec<Part>,
    root: Range<u64>,
    encoding: &'static encoding_rs::Encoding,
    limits: &'l Limits,
    /// Bytes of parts that may still be put in the places they are included at: each once, as a
    /// rule, and not again and again.
    includable: Cell<u64>,
    whole: u64,
}

impl<'i, 'l> Message<'i, 'l> {
    fn open(
        encoding: Encoding,
        input: &'i mut dyn ReadSeek,
        limits: &'l Limits,
    ) -> Result<Self, DecodeError> {
        let parts = mime::parts(input)?.unwrap_or_default();
        let whole = input.seek(std::io::SeekFrom::End(0))?;
        let root = mime::root(&parts).map_or(0..whole, |part| part.range.clone());
        if mime::root(&parts).is_some_and(|part| part.base64) {
            return Err(broken("MIME的根部分是Base64,不支持"));
        }
        let input = Mutex::new(input);
        let encoding = detect(encoding, &mut Section::new(&input, root.clone()))?;
        let includable = Cell::new(whole.saturating_mul(MAX_INCLUDED));
        Ok(Self { input, parts, root, encoding, limits, includable, whole })
    }

    fn read(
        &self,
        each: &mut dyn FnMut(Token<'_>) -> Result<ControlFlow<()>, DecodeError>,
    ) -> Result<(), DecodeError> {
        let limits = self.limits;
        let mut section = Section::new(&self.input, self.root.clone());
        let text = TextReader::new(
            &mut section,
            self.encoding,
            limits.inflated_bytes,
            record_bytes(limits),
        );
        let budget = text.budget();
        let input = BufReader::new(Chopper::new(text));
        read(input, limits.depth, &mut || budget.refill(), each).map_err(|error| match error {
            DecodeError::Io(error) => io_fault(error, limits),
            other => other,
        })
    }

    /// Where `at` is not given: the only text below the first element of the body, or else that
    /// element.
    fn only(&self) -> Result<Want, DecodeError> {
        let mut place = Place::default();
        let (mut nth, mut first, mut texts, mut at) = (0, None, 0_u64, 0);
        let mut open: Vec<(u64, bool)> = Vec::new();
        self.read(&mut |token| {
            match token {
                Token::Open(tag) => {
                    place.open(tag.name, &tag.ns);
                    nth += 1;
                    if first.is_none() && place.below().len() == 1 {
                        first = Some(nth);
                    }
                    let content = &*tag.ns == XOP || reference(tag.attributes).is_some();
                    if content && &*tag.ns == XOP {
                        // What is included stands for a text of the element around.
                        if let Some((around, told)) = open.last_mut() {
                            (at, texts) = (*around, texts + 1);
                            *told = true;
                        }
                    } else if content {
                        texts += 2;
                    }
                    open.push((nth, false));
                }
                Token::Text(text) => {
                    let inside = !place.below().is_empty();
                    if let Some((this, told)) = open.last_mut()
                        && inside
                        && !text.trim().is_empty()
                        && !std::mem::replace(told, true)
                    {
                        (at, texts) = (*this, texts + 1);
                    }
                }
                Token::Close => {
                    open.pop();
                    place.close();
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let first = first.ok_or_else(|| broken("SOAP信封的Body是空的"))?;
        Ok(Want::Nth(if texts == 1 { at } else { first }))
    }

    /// The document with what its references point at in their place, from a tree.
    fn resolved(&self) -> Result<Vec<u8>, DecodeError> {
        let (mut build, mut root) = (Builder::default(), None);
        self.read(&mut |token| {
            if let Some(done) = build.take(token)? {
                root = Some(done);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        references::resolved(&root.ok_or_else(|| broken("没有根元素"))?, self.limits)
    }

    fn include(
        &self,
        href: &str,
        each: &mut dyn FnMut(&[u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let id = href.strip_prefix("cid:").unwrap_or(href);
        let decoded = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
        let is =
            |part: &&Part| part.id.as_deref().is_some_and(|known| known == decoded || known == id);
        let part =
            self.parts.iter().find(is).ok_or_else(|| broken("xop:Include 所指的部分不在报文里"))?;
        let left = self.includable.get().checked_sub(part.range.end - part.range.start);
        self.includable.set(left.ok_or(DecodeError::Limit {
            what: "附件引用合计的字节数",
            limit: self.whole.saturating_mul(MAX_INCLUDED),
        })?);
        let mut section = Section::new(&self.input, part.range.clone());
        if !part.base64 {
            return steps::base64(section, each);
        }
        let mut piece = vec![0; 48 << 10];
        loop {
            let read = std::io::Read::read(&mut section, &mut piece)?;
            if read == 0 {
                return Ok(());
            }
            each(piece.get(..read).unwrap_or(&[]))?;
        }
    }
}

fn not_text() -> DecodeError {
    broken("unwrap.at 处是元素而不是文本,unwrap.do 无从做起")
}

fn twice() -> DecodeError {
    broken("unwrap.at 所指的元素不止一个,请把 at 写到它们外面的元素,用 record 指明记录")
}

#[derive(PartialEq, Eq)]
enum Mode {
    /// Before the element.
    Before,
    /// In it, with nothing but white space so far.
    Undecided,
    Text,
    Tree,
}

/// Takes one element out of a message in a stream.
struct Extract<'m, 'i, 'l> {
    message: &'m Message<'i, 'l>,
    want: Want,
    place: Place,
    nth: u64,
    mode: Mode,
    /// Depth of the element.
    at: usize,
    /// How it begins, in case it is a tree.
    head: String,
    /// Depth of an element that stands for a part of the body.
    included: Option<usize>,
    steps: Steps,
    done: bool,
    fault: bool,
    /// There are references inside: all of it has to be read anew.
    references: bool,
    /// There are references somewhere: the element may be behind one.
    pointing: bool,
}

impl<'m, 'i, 'l> Extract<'m, 'i, 'l> {
    fn new(message: &'m Message<'i, 'l>, want: Want, steps: Steps) -> Self {
        Self {
            message,
            want,
            place: Place::default(),
            nth: 0,
            mode: Mode::Before,
            at: 0,
            head: String::new(),
            included: None,
            steps,
            done: false,
            fault: false,
            references: false,
            pointing: false,
        }
    }

    fn take(&mut self, token: Token<'_>) -> Result<ControlFlow<()>, DecodeError> {
        match token {
            Token::Open(tag) => {
                self.place.open(tag.name, &tag.ns);
                self.nth += 1;
                if self.place.is_fault(&tag.ns) {
                    self.fault = true;
                    return Ok(ControlFlow::Break(()));
                }
                let pointing = reference(tag.attributes).is_some();
                self.pointing |= pointing && !self.place.below().is_empty();
                if self.mode == Mode::Before {
                    let found = match &self.want {
                        Want::Path(path) => path.is(self.place.below()),
                        Want::Nth(nth) => self.nth == *nth,
                    };
                    if !found {
                        return Ok(ControlFlow::Continue(()));
                    }
                    if self.done {
                        return Err(twice());
                    }
                    (self.mode, self.at) = (Mode::Undecided, self.place.depth());
                    self.head = begin(tag.name, tag.attributes);
                } else {
                    self.inside(tag.name, &tag.ns, tag.attributes)?;
                }
                if pointing {
                    self.references = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            Token::Text(text) => match self.mode {
                Mode::Before => {}
                Mode::Undecided if text.trim().is_empty() => {}
                Mode::Undecided | Mode::Text => {
                    self.mode = Mode::Text;
                    self.steps.push(text.as_bytes())?;
                }
                Mode::Tree => {
                    let mut escaped = String::with_capacity(text.len());
                    escape(text, &mut escaped);
                    self.steps.plain(&escaped)?;
                }
            },
            Token::Close => {
                let depth = self.place.depth();
                let name = self.place.open.pop().unwrap_or_default();
                if self.included == Some(depth) {
                    self.included = None;
                } else if self.mode == Mode::Tree && depth >= self.at {
                    self.steps.plain(&format!("</{name}>"))?;
                }
                if self.mode != Mode::Before && depth == self.at {
                    (self.mode, self.done) = (Mode::Before, true);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// An element inside the one that is taken.
    fn inside(
        &mut self,
        name: &str,
        ns: &str,
        attributes: &[Attribute],
    ) -> Result<(), DecodeError> {
        let included =
            attribute(attributes, "href").filter(|href| ns == XOP || href.starts_with("cid:"));
        if let Some(href) = included {
            self.included = Some(self.place.depth());
            let (message, steps) = (self.message, &mut self.steps);
            if self.mode == Mode::Tree {
                // Base64 needs no escaping.
                return message
                    .include(href, &mut |piece| steps.plain(&String::from_utf8_lossy(piece)));
            }
            self.mode = Mode::Text;
            return message.include(href, &mut |piece| steps.push(piece));
        }
        match self.mode {
            Mode::Text => return Err(broken("unwrap.at 处既有文本又有元素")),
            Mode::Undecided => {
                if self.steps.any() {
                    return Err(not_text());
                }
                self.mode = Mode::Tree;
                let head = std::mem::take(&mut self.head);
                self.steps.plain(&head)?;
            }
            Mode::Before | Mode::Tree => {}
        }
        self.steps.plain(&begin(name, attributes))
    }
}

#[cfg(test)]
mod tests;
