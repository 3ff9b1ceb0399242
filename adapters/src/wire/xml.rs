//! XML of envelopes: events with the guards every message from outside needs (no DOCTYPE, no
//! unknown entities, bounded depth, one root), and a small tree of them.

use std::io::BufRead;
use std::ops::ControlFlow;
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use xinqiao_core::spi::DecodeError;

const MAX_ATTRIBUTES: usize = 1_000;
/// Elements of one tree.
const MAX_ELEMENTS: u64 = 2_000_000;
/// Bytes of texts in one tree.
const MAX_TREE: u64 = 64 << 20;

/// Namespaces whose attributes are no data.
const PLUMBING: &[&str] = &[
    "http://www.w3.org/2001/XMLSchema-instance",
    "http://www.w3.org/1999/XMLSchema-instance",
    "http://schemas.xmlsoap.org/soap/encoding/",
    ENCODING12,
    "http://schemas.xmlsoap.org/soap/envelope/",
    "http://www.w3.org/2003/05/soap-envelope",
    "http://www.w3.org/2005/05/xmlmime",
];

/// SOAP 1.2's encoding (Part 2 §3.1), whose references are attributes of its own namespace.
const ENCODING12: &str = "http://www.w3.org/2003/05/soap-encoding";
/// What `enc:id` and `enc:ref` are called in [`Tag::attributes`]: no name that can be written.
pub(crate) const ENC_ID: &str = "#id";
pub(crate) const ENC_REF: &str = "#ref";

/// An attribute: its name as written and its value.
pub(crate) type Attribute = (String, String);

/// A namespace declared on an element that is still open.
struct Declared {
    depth: usize,
    /// Empty for the default namespace.
    prefix: String,
    uri: Arc<str>,
}

/// The beginning of an element.
pub(crate) struct Tag<'a> {
    /// As written, with its prefix.
    pub(crate) name: &'a str,
    /// Its namespace; empty without one.
    pub(crate) ns: Arc<str>,
    /// Without the declarations of namespaces, and without what only SOAP's plumbing reads
    /// (`xsi:type`, `soapenc:arrayType`, `encodingStyle` …); references of SOAP 1.2 by names of ours.
    pub(crate) attributes: &'a [Attribute],
}

/// What stands next in a document.
pub(crate) enum Token<'a> {
    Open(Tag<'a>),
    Text(&'a str),
    Close,
}

/// A name without its prefix.
pub(crate) fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

/// The namespace a prefix stands for.
fn resolve(scope: &[Declared], prefix: &str) -> Option<Arc<str>> {
    scope.iter().rev().find(|one| one.prefix == prefix).map(|one| Arc::clone(&one.uri))
}

/// Reads a document to its end, or until `each` has enough. `refill` is called before every event.
/// An error of `input` comes out as [`DecodeError::Io`].
pub(crate) fn read(
    input: impl BufRead,
    depth: u32,
    refill: &mut dyn FnMut(),
    each: &mut dyn FnMut(Token<'_>) -> Result<ControlFlow<()>, DecodeError>,
) -> Result<(), DecodeError> {
    let mut reader = Reader::from_reader(input);
    reader.config_mut().expand_empty_elements = true;
    let (mut buf, mut open, mut rooted) = (Vec::new(), 0_usize, false);
    let mut scope: Vec<Declared> = Vec::new();
    let mut attributes = Vec::new();
    loop {
        buf.clear();
        refill();
        let event = match reader.read_event_into(&mut buf) {
            Ok(event) => event,
            Err(quick_xml::Error::Io(error)) => {
                let error = Arc::try_unwrap(error);
                return Err(DecodeError::Io(
                    error.unwrap_or_else(|shared| std::io::Error::from(shared.kind())),
                ));
            }
            Err(_) => return Err(broken("标签不匹配、未结束或书写有误")),
        };
        let flow = match event {
            Event::Start(tag) => {
                if open == 0 && std::mem::replace(&mut rooted, true) {
                    return Err(broken("有不止一个根元素"));
                }
                if open >= depth as usize {
                    return Err(DecodeError::Limit { what: "嵌套层数", limit: depth.into() });
                }
                open += 1;
                declare(&tag, open, &mut scope, &mut attributes)?;
                let name = tag.name();
                let name: &str = name.as_ref();
                let prefix = name.split_once(':').map_or("", |(prefix, _)| prefix);
                let ns = resolve(&scope, prefix).unwrap_or_default();
                each(Token::Open(Tag { name, ns, attributes: &attributes }))?
            }
            Event::End(_) => {
                scope.truncate(scope.partition_point(|one| one.depth < open));
                open = open.saturating_sub(1);
                each(Token::Close)?
            }
            Event::Text(text) => told(&text.xml10_content(), open, each)?,
            Event::CData(text) => told(&text.xml10_content(), open, each)?,
            Event::GeneralRef(entity) => {
                let known = if entity.is_char_ref() {
                    entity.resolve_char_ref().ok().flatten().map(String::from)
                } else {
                    quick_xml::escape::resolve_predefined_entity(&entity).map(String::from)
                };
                told(&known.ok_or(DecodeError::Forbidden("未知实体引用"))?, open, each)?
            }
            Event::DocType(_) => return Err(DecodeError::Forbidden("DOCTYPE声明")),
            Event::Eof => break,
            _ => ControlFlow::Continue(()),
        };
        if flow.is_break() {
            return Ok(());
        }
    }
    match (open, rooted) {
        (0, true) => Ok(()),
        (0, false) => Err(broken("没有根元素")),
        _ => Err(broken("在元素结束之前就完了,可能不完整")),
    }
}

fn told(
    text: &str,
    open: usize,
    each: &mut dyn FnMut(Token<'_>) -> Result<ControlFlow<()>, DecodeError>,
) -> Result<ControlFlow<()>, DecodeError> {
    check_chars(text)?;
    match open {
        0 if text.trim().is_empty() => Ok(ControlFlow::Continue(())),
        0 => Err(broken("根元素之外有文字")),
        _ => each(Token::Text(text)),
    }
}

/// Takes an element's attributes and what it declares.
fn declare(
    tag: &BytesStart<'_>,
    depth: usize,
    scope: &mut Vec<Declared>,
    attributes: &mut Vec<Attribute>,
) -> Result<(), DecodeError> {
    attributes.clear();
    for (ix, attribute) in tag.attributes().enumerate() {
        if ix >= MAX_ATTRIBUTES {
            let limit = MAX_ATTRIBUTES as u64;
            return Err(DecodeError::Limit { what: "一个元素的属性数", limit });
        }
        let attribute = attribute.map_err(|_| broken("属性书写有误或重复"))?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .map_err(|_| DecodeError::Forbidden("未知实体引用"))?;
        check_chars(&value)?;
        let key: &str = attribute.key.as_ref();
        if key == "xmlns" || key.starts_with("xmlns:") {
            if value == "http://www.w3.org/2001/XInclude" {
                return Err(DecodeError::Forbidden("XInclude外部引用"));
            }
            let prefix = key.split_once(':').map_or("", |(_, prefix)| prefix).to_owned();
            scope.push(Declared { depth, prefix, uri: Arc::from(&*value) });
        } else {
            attributes.push((key.to_owned(), value.into_owned()));
        }
    }
    attributes.retain_mut(|(name, _)| {
        let Some((prefix, local)) = name.split_once(':') else { return true };
        let Some(ns) = resolve(scope, prefix) else { return true };
        let reserved = match local {
            "id" => ENC_ID,
            "ref" => ENC_REF,
            _ => "",
        };
        if &*ns == ENCODING12 && !reserved.is_empty() {
            *name = reserved.to_owned();
            return true;
        }
        !PLUMBING.contains(&&*ns)
    });
    Ok(())
}

fn check_chars(text: &str) -> Result<(), DecodeError> {
    let bad = |c: char| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(bad) { Err(broken("含有XML不允许的控制字符")) } else { Ok(()) }
}

/// Trees have no lines.
pub(crate) fn broken(detail: &str) -> DecodeError {
    DecodeError::Malformed { line: 1, detail: detail.to_owned() }
}

/// An element with everything in it. Its texts are joined: data is not mixed with elements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Element {
    /// As written, with its prefix.
    pub(crate) name: String,
    pub(crate) ns: Arc<str>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// Reads a whole document of small or moderate size.
    pub(crate) fn read(
        input: impl BufRead,
        depth: u32,
        refill: &mut dyn FnMut(),
    ) -> Result<Self, DecodeError> {
        let mut build = Builder::default();
        let mut root = None;
        read(input, depth, refill, &mut |token| {
            if let Some(done) = build.take(token)? {
                root = Some(done);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        root.ok_or_else(|| broken("没有根元素"))
    }

    /// Reads a text in memory.
    pub(crate) fn parse(text: &str, depth: u32) -> Result<Self, DecodeError> {
        Self::read(text.as_bytes(), depth, &mut || {})
    }

    /// Its name without the prefix.
    pub(crate) fn local(&self) -> &str {
        local(&self.name)
    }

    /// The first child of this name, whatever its prefix.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.local() == name)
    }

    /// The value of an attribute, whatever its prefix.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| local(n) == name).map(|(_, value)| value.as_str())
    }
}

/// Makes a tree of tokens.
#[derive(Default)]
pub(crate) struct Builder {
    open: Vec<Element>,
    elements: u64,
    bytes: u64,
}

impl Builder {
    /// The tree, with the token that closes its root.
    pub(crate) fn take(&mut self, token: Token<'_>) -> Result<Option<Element>, DecodeError> {
        match token {
            Token::Open(tag) => {
                self.elements += 1;
                let long: usize = tag.attributes.iter().map(|(n, v)| n.len() + v.len()).sum();
                self.bytes += (long + tag.name.len()) as u64;
                self.open.push(Element {
                    name: tag.name.to_owned(),
                    ns: tag.ns,
                    attributes: tag.attributes.to_vec(),
                    ..Element::default()
                });
            }
            Token::Text(text) => {
                self.bytes += text.len() as u64;
                if let Some(open) = self.open.last_mut() {
                    open.text.push_str(text);
                }
            }
            Token::Close => {
                let Some(mut done) = self.open.pop() else { return Ok(None) };
                if !done.children.is_empty() && done.text.trim().is_empty() {
                    done.text = String::new();
                }
                match self.open.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => return Ok(Some(done)),
                }
            }
        }
        if self.elements > MAX_ELEMENTS {
            return Err(DecodeError::Limit { what: "元素个数", limit: MAX_ELEMENTS });
        }
        if self.bytes > MAX_TREE {
            return Err(DecodeError::Limit { what: "一份文档的字节数", limit: MAX_TREE });
        }
        Ok(None)
    }
}

/// A text as it may stand between tags or in an attribute. Characters XML cannot hold are left out.
pub(crate) fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '&' => into.push_str("&amp;"),
            '"' => into.push_str("&quot;"),
            // A carriage return written plainly would be read as a line feed.
            '\r' => into.push_str("&#13;"),
            '\t' | '\n' => into.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => into.push(c),
        }
    }
}

/// Whether a text can be the name of an element without a prefix (XML 1.0 §2.3, without the colon).
pub(crate) fn is_name(text: &str) -> bool {
    let start = |c: char| {
        c == '_'
            || c.is_ascii_alphabetic()
            || matches!(c, '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
                | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
                | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
                | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
    };
    let more = |c: char| {
        start(c)
            || c.is_ascii_digit()
            || matches!(c, '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    let mut chars = text.chars();
    chars.next().is_some_and(start) && chars.all(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_names_namespaces_attributes_and_texts() {
        let text = "<?xml version=\"1.0\" encoding=\"GBK\"?><a xmlns=\"u:1\" xmlns:p=\"u:2\">\n\
                    <p:b p:id=\"1\" x=\"&lt;\">x<![CDATA[<&]]>&amp;</p:b><b xmlns=\"\"/><b/></a>";
        let root = Element::parse(text, 8).unwrap();
        assert_eq!((root.local(), &*root.ns, root.text.as_str()), ("a", "u:1", ""));
        let b = root.child("b").unwrap();
        assert_eq!((b.name.as_str(), &*b.ns, b.text.as_str()), ("p:b", "u:2", "x<&&"));
        assert_eq!((b.attribute("id"), b.attribute("x")), (Some("1"), Some("<")));
        let spaces: Vec<&str> = root.children.iter().map(|child| &*child.ns).collect();
        assert_eq!(spaces, ["u:2", "", "u:1"]);
    }

    #[test]
    fn what_is_hostile_or_broken_is_refused() {
        for text in [
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a>&x;</a>",
            "<a><b></a></b>",
            "<a/><b/>",
            "<a>",
            "",
            "x",
            "<a/>x",
            "<a>&#1;</a>",
            "<a><b><c><d/></c></b></a>",
            "<a x=\"1\" x=\"2\"/>",
            "<a xmlns:xi=\"http://www.w3.org/2001/XInclude\"/>",
        ] {
            assert!(Element::parse(text, 3).is_err(), "{text}");
        }
    }

    #[test]
    fn everything_is_escaped_and_comes_back() {
        let text = "甲 & 乙 <有限> \"公司\" ']]>'\r\n\u{1}";
        let mut out = String::from("<a b=\"");
        escape(text, &mut out);
        out.push_str("\">");
        escape(text, &mut out);
        out.push_str("</a>");
        let a = Element::parse(&out, 2).unwrap();
        assert_eq!(a.text, text.trim_end_matches('\u{1}'));
    }

    #[test]
    fn names_are_names() {
        for good in ["行政处罚决定书文号", "CF_WSH", "_a-1.b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "1a", "a b", "处罚类别(1)", "处罚类别(1)", "a:b", "a/b", "@id", "-a"]
        {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
