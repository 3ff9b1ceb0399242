//! SOAP 1.1 (W3C Note 2000-05-08) and 1.2 (W3C Recommendation 2007-04-27): reading envelopes that
//! fit in memory, and writing them. Messages of any size are read by `formats::unwrap`.

use std::fmt::Write as _;

use xinqiao_core::spi::DecodeError;

use super::xml::{Element, escape};

const NS11: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const NS12: &str = "http://www.w3.org/2003/05/soap-envelope";
const ENC11: &str = "http://schemas.xmlsoap.org/soap/encoding/";
const ENC12: &str = "http://www.w3.org/2003/05/soap-encoding";

/// Which SOAP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V11,
    V12,
}

impl Version {
    /// The words of a parameter.
    pub(crate) const WORDS: &[(&str, Self)] = &[("1.1", Self::V11), ("1.2", Self::V12)];

    /// Namespace of its envelope.
    pub(crate) fn ns(self) -> &'static str {
        match self {
            Self::V11 => NS11,
            Self::V12 => NS12,
        }
    }

    /// The version whose envelope has this namespace.
    pub(crate) fn of(ns: &str) -> Option<Self> {
        [Self::V11, Self::V12].into_iter().find(|version| version.ns() == ns)
    }

    /// Media type of a message; 1.2 tells the action in it.
    pub(crate) fn content_type(self, action: &str) -> String {
        match self {
            Self::V11 => "text/xml; charset=utf-8".to_owned(),
            Self::V12 if action.is_empty() => "application/soap+xml; charset=utf-8".to_owned(),
            Self::V12 => {
                let action: String = action.chars().filter(|c| !matches!(c, '"' | '\\')).collect();
                format!("application/soap+xml; charset=utf-8; action=\"{action}\"")
            }
        }
    }
}

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// document/literal, wrapped: the arguments are in the operation's namespace or in none.
    Document,
    /// rpc/literal.
    Rpc,
    /// rpc/encoded: every argument says its type.
    Encoded,
}

impl Style {
    /// The words of a parameter.
    pub(crate) const WORDS: &[(&str, Self)] =
        &[("document", Self::Document), ("rpc", Self::Rpc), ("rpc-encoded", Self::Encoded)];
}

/// An envelope in memory.
#[derive(Debug)]
pub(crate) struct Envelope {
    version: Version,
    pub(crate) body: Element,
}

impl Envelope {
    /// Reads an envelope; depth and size are bounded.
    pub(crate) fn parse(text: &str) -> Result<Self, DecodeError> {
        let root = Element::parse(text, 64)?;
        let not = |detail: &str| DecodeError::WrongFormat {
            expected: "SOAP信封",
            detail: detail.to_owned(),
        };
        let version = Version::of(&root.ns).filter(|_| root.local() == "Envelope");
        let known = version.ok_or_else(|| not("根元素不是SOAP 1.1或1.2的Envelope"))?;
        let body = root.children.into_iter().find(|child| child.local() == "Body");
        Ok(Self { version: known, body: body.ok_or_else(|| not("没有Body"))? })
    }

    /// Which SOAP it is.
    #[cfg(test)]
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// The operation, or what stands in its place.
    pub(crate) fn first(&self) -> Option<&Element> {
        self.body.children.first()
    }

    /// The fault, if it is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.first().filter(|first| *first.ns == *self.version.ns()).and_then(Fault::of)
    }
}

/// What went wrong, as the other side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Without a prefix: `Client`, `Server`, `Sender`, or the deepest subcode.
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Fault {
    /// The fault an element is, in either version.
    pub(crate) fn of(element: &Element) -> Option<Self> {
        if element.local() != "Fault" || Version::of(&element.ns).is_none() {
            return None;
        }
        let plain = |text: &str| {
            let text = text.trim();
            text.rsplit_once(':').map_or(text, |(_, local)| local).to_owned()
        };
        if let Some(code) = element.child("Code") {
            let mut deepest = code;
            while let Some(sub) = deepest.child("Subcode") {
                deepest = sub;
            }
            let code = deepest.child("Value").map(|value| plain(&value.text)).unwrap_or_default();
            let reason = element.child("Reason").and_then(|reason| reason.child("Text"));
            let text = reason.map(|text| text.text.trim().to_owned()).unwrap_or_default();
            return Some(Self { code, text });
        }
        let text = |name| element.child(name).map(|child| child.text.trim()).unwrap_or_default();
        Some(Self { code: plain(text("faultcode")), text: text("faultstring").to_owned() })
    }
}

/// An envelope around a body (and header) already written.
pub(crate) fn envelope(version: Version, header: &str, body: &str) -> String {
    let header = match header {
        "" => String::new(),
        header => format!("<soapenv:Header>{header}</soapenv:Header>"),
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"{}\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">{header}<soapenv:Body>{body}\
         </soapenv:Body></soapenv:Envelope>",
        version.ns()
    )
}

/// An operation with texts as its arguments. `qualified` puts the arguments of document/literal in
/// the operation's namespace (`elementFormDefault="qualified"`).
pub(crate) fn operation(
    version: Version,
    style: Style,
    ns: &str,
    name: &str,
    arguments: &[(&str, &str)],
    qualified: bool,
) -> String {
    let mut out = format!("<op:{name} xmlns:op=\"");
    escape(ns, &mut out);
    out.push('"');
    if style == Style::Encoded {
        let encoding = match version {
            Version::V11 => ENC11,
            Version::V12 => ENC12,
        };
        let _ = write!(out, " soapenv:encodingStyle=\"{encoding}\"");
    }
    out.push('>');
    let prefix = if qualified && style == Style::Document { "op:" } else { "" };
    for (argument, value) in arguments {
        let kind = if style == Style::Encoded { " xsi:type=\"xsd:string\"" } else { "" };
        let _ = write!(out, "<{prefix}{argument}{kind}>");
        escape(value, &mut out);
        let _ = write!(out, "</{prefix}{argument}>");
    }
    let _ = write!(out, "</op:{name}>");
    out
}

/// A fault: whose it is, a stable code, and a text.
pub(crate) fn fault(version: Version, callers: bool, code: &str, text: &str) -> String {
    let mut told = String::new();
    escape(text, &mut told);
    let mut written = String::new();
    escape(code, &mut written);
    let detail = format!("<x:code xmlns:x=\"urn:xinqiao:soap\">{written}</x:code>");
    let body = match version {
        Version::V11 => {
            let whose = if callers { "Client" } else { "Server" };
            format!(
                "<soapenv:Fault><faultcode>soapenv:{whose}</faultcode><faultstring>{told}\
                 </faultstring><detail>{detail}</detail></soapenv:Fault>"
            )
        }
        Version::V12 => {
            let whose = if callers { "Sender" } else { "Receiver" };
            format!(
                "<soapenv:Fault><soapenv:Code><soapenv:Value>soapenv:{whose}</soapenv:Value>\
                 </soapenv:Code><soapenv:Reason><soapenv:Text xml:lang=\"zh-CN\">{told}\
                 </soapenv:Text></soapenv:Reason><soapenv:Detail>{detail}</soapenv:Detail>\
                 </soapenv:Fault>"
            )
        }
    };
    envelope(version, "", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (version, style) in [
            (Version::V11, Style::Document),
            (Version::V11, Style::Encoded),
            (Version::V12, Style::Rpc),
            (Version::V12, Style::Encoded),
        ] {
            let arguments = [("token", "a&b"), ("xml", "<ROW>甲 & 乙 ]]></ROW>")];
            let body = operation(version, style, "urn:x?a=1&b", "submit", &arguments, true);
            let read = Envelope::parse(&envelope(version, "", &body)).unwrap();
            assert_eq!((read.version(), read.fault()), (version, None));
            let op = read.first().unwrap();
            assert_eq!((op.local(), &*op.ns), ("submit", "urn:x?a=1&b"));
            let texts: Vec<_> = op.children.iter().map(|a| (a.local(), &*a.text)).collect();
            assert_eq!(texts, arguments);
        }
    }

    #[test]
    fn faults_of_both_versions_are_read() {
        for version in [Version::V11, Version::V12] {
            let read = Envelope::parse(&fault(version, true, "http.token", "令牌<无效>")).unwrap();
            let code = if version == Version::V11 { "Client" } else { "Sender" };
            assert_eq!(
                read.fault(),
                Some(Fault { code: code.to_owned(), text: "令牌<无效>".to_owned() })
            );
        }
        assert!(Envelope::parse("<Envelope xmlns=\"urn:other\"><Body/></Envelope>").is_err());
    }
}
