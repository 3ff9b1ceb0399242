//! Elements with what their references (`href="#id0"`, of Axis) point at in their place.

use std::collections::HashMap;

use xinqiao_core::spi::{DecodeError, Limits};

use crate::wire::xml::{Attribute, Element, broken, escape, local};

/// Elements that references may be written out to.
const MAX_RESOLVED: u64 = 5_000_000;

/// Writes an element out. `ids` are the elements that may be pointed at.
pub(super) fn written<'a>(
    ids: HashMap<&'a str, &'a Element>,
    element: &'a Element,
    limits: &'a Limits,
) -> Result<Vec<u8>, DecodeError> {
    let mut out = Resolving { ids, active: Vec::new(), out: String::new(), elements: 0, limits };
    out.write(element, element.local(), 1)?;
    Ok(out.out.into_bytes())
}

/// The tag an element begins with. Without its prefix, whose declaration may stand outside.
pub(super) fn begin(name: &str, attributes: &[Attribute]) -> String {
    let mut out = format!("<{}", local(name));
    for (name, value) in attributes {
        out.push_str(&format!(" {name}=\""));
        escape(value, &mut out);
        out.push('"');
    }
    out.push('>');
    out
}

/// The value of an attribute without a prefix.
pub(super) fn attribute<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

struct Resolving<'a> {
    ids: HashMap<&'a str, &'a Element>,
    /// What is being written: a reference to it would never end.
    active: Vec<&'a str>,
    out: String,
    elements: u64,
    limits: &'a Limits,
}

impl<'a> Resolving<'a> {
    fn write(&mut self, element: &'a Element, name: &str, depth: u32) -> Result<(), DecodeError> {
        self.elements += 1;
        if self.elements > MAX_RESOLVED
            || self.out.len() as u64 > self.limits.inflated_bytes.min(256 << 20)
        {
            return Err(DecodeError::Limit {
                what: "引用展开后的元素个数", limit: MAX_RESOLVED
            });
        }
        if depth > self.limits.depth {
            let limit = self.limits.depth.into();
            return Err(DecodeError::Limit { what: "嵌套层数", limit });
        }
        let href = attribute(&element.attributes, "href").and_then(|href| href.strip_prefix('#'));
        if let Some(id) = href {
            let known = self.ids.get_key_value(id).map(|(id, element)| (*id, *element));
            let (id, target) = known.ok_or_else(|| broken("引用的 id 不在报文里"))?;
            if self.active.contains(&id) {
                return Err(broken("引用成环"));
            }
            self.active.push(id);
            self.write(target, name, depth + 1)?;
            self.active.pop();
            return Ok(());
        }
        let plain: Vec<Attribute> =
            element.attributes.iter().filter(|(name, _)| name != "id").cloned().collect();
        self.out.push_str(&begin(name, &plain));
        escape(&element.text, &mut self.out);
        for child in &element.children {
            self.write(child, child.local(), depth + 1)?;
        }
        self.out.push_str(&format!("</{name}>"));
        Ok(())
    }
}
