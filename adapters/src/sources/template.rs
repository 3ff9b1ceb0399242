//! Texts with places to fill: `{cursor} {page} {size} {from} {to} {today}`, and for a login
//! `{user} {password}`. Other braces stay, so JSON can be written as it is.

use std::collections::BTreeMap;

use crate::wire::http::encode;

/// What is filled in, by name.
pub(super) type Values = BTreeMap<String, String>;

/// How a value is made safe where it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// Inside a JSON string.
    Json,
    /// In XML text or an attribute.
    Xml,
    /// In an address or a form.
    Percent,
    /// As it is.
    Plain,
}

#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) text: String,
    pub(super) escape: Escape,
}

impl Template {
    /// For a body of this content type.
    pub(super) fn of_body(text: String, content_type: &str) -> Self {
        let escape = if content_type.contains("json") {
            Escape::Json
        } else if content_type.contains("xml") {
            Escape::Xml
        } else if content_type.contains("x-www-form-urlencoded") {
            Escape::Percent
        } else {
            Escape::Plain
        };
        Self { text, escape }
    }

    /// Fills the places in one pass: a value that looks like a place stays as it is.
    pub(super) fn fill(&self, values: &Values) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut rest = self.text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let place =
                after.split_once('}').and_then(|(name, tail)| Some((values.get(name)?, tail)));
            match place {
                Some((value, tail)) => {
                    out.push_str(&self.escape.apply(value));
                    rest = tail;
                }
                None => {
                    out.push('{');
                    rest = after;
                }
            }
        }
        out + rest
    }
}

impl Escape {
    fn apply(self, value: &str) -> String {
        match self {
            Self::Json => {
                let quoted = serde_json::Value::from(value).to_string();
                quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
            }
            Self::Xml => quick_xml::escape::escape(value).into_owned(),
            Self::Percent => encode(value),
            Self::Plain => value.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_once_and_safely() {
        let values =
            Values::from([("cursor".into(), "a\"{page}".into()), ("page".into(), "3".into())]);
        let fill = |text: &str, escape| Template { text: text.to_owned(), escape }.fill(&values);
        assert_eq!(
            fill(r#"{"c":"{cursor}","p":{page},"x":{}}"#, Escape::Json),
            r#"{"c":"a\"{page}","p":3,"x":{}}"#
        );
        assert_eq!(fill("c={cursor}", Escape::Percent), "c=a%22%7Bpage%7D");
        assert_eq!(fill("<c>{cursor}</c>{", Escape::Xml), "<c>a&quot;{page}</c>{");
    }
}
