//! Elements with what their references (`href="#id0"` of Axis, `enc:ref` of SOAP 1.2) point at in
//! their place.

use std::collections::{HashMap, HashSet};

use xinqiao_core::spi::{DecodeError, Limits};

use crate::wire::soap::Version;
use crate::wire::xml::{Attribute, ENC_ID, ENC_REF, Element, broken, escape, local};

/// Elements that references may be written out to.
const MAX_RESOLVED: u64 = 5_000_000;

/// The document with what its references point at in their place: of an envelope the body, without
/// what stands in it only to be pointed at (`multiRef`).
pub(super) fn resolved(root: &Element, limits: &Limits) -> Result<Vec<u8>, DecodeError> {
    let (mut ids, mut pointed) = (HashMap::new(), HashSet::new());
    let mut waiting = vec![root];
    while let Some(one) = waiting.pop() {
        if let Some(id) = id(&one.attributes) {
            // An id of two elements is nobody's.
            ids.entry(id).and_modify(|known| *known = None).or_insert(Some(one));
        }
        pointed.extend(reference(&one.attributes));
        waiting.extend(&one.children);
    }
    let mut out = Resolving { ids, active: Vec::new(), out: String::new(), elements: 0, limits };
    let version = Version::of(&root.ns).filter(|_| root.local() == "Envelope");
    match (version, root.child("Body")) {
        (Some(version), Some(body)) => {
            out.out = format!("<e:Envelope xmlns:e=\"{}\"><e:Body>", version.ns());
            for (ix, child) in body.children.iter().enumerate() {
                // The first is the answer, whoever points at it.
                if ix == 0 || !id(&child.attributes).is_some_and(|id| pointed.contains(id)) {
                    out.write(child, child.local(), 3)?;
                }
            }
            out.out.push_str("</e:Body></e:Envelope>");
        }
        _ => out.write(root, root.local(), 1)?,
    }
    Ok(out.out.into_bytes())
}

/// What an element points at instead of having it itself.
pub(super) fn reference(attributes: &[Attribute]) -> Option<&str> {
    let href = attribute(attributes, "href").and_then(|href| href.strip_prefix('#'));
    // Some write `#` before it, as in 1.1.
    let newer = || attribute(attributes, ENC_REF).map(|id| id.strip_prefix('#').unwrap_or(id));
    href.or_else(newer)
}

/// What an element is pointed at by.
fn id(attributes: &[Attribute]) -> Option<&str> {
    attribute(attributes, ENC_ID).or_else(|| attribute(attributes, "id"))
}

/// The tag an element begins with. Without its prefix, whose declaration may stand outside.
pub(super) fn begin(name: &str, attributes: &[Attribute]) -> String {
    let mut out = format!("<{}", local(name));
    for (name, value) in attributes.iter().filter(|(name, _)| name != ENC_ID && name != ENC_REF) {
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
    ids: HashMap<&'a str, Option<&'a Element>>,
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
        if let Some(id) = reference(&element.attributes) {
            let known = self.ids.get(id).copied();
            let target = known.ok_or_else(|| broken("引用的 id 不在报文里"))?;
            let target = target.ok_or_else(|| broken("有两个元素的 id 相同"))?;
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
