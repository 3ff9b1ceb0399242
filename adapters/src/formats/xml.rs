//! XML, with a guard of its own: the event reader alone accepts two roots, unknown entities,
//! control characters and elements that never close.

use std::collections::HashMap;
use std::io::BufReader;
use std::ops::ControlFlow;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use xinqiao_core::model::{CellKind, Columns, FormatKind, FormatSpec, Row, Shape};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};

use super::finding;
use super::json::set_cell;
use super::text::{Hit, TextReader, detect, hit_fault, io_fault, record_bytes};

const MAX_ATTRIBUTES: usize = 1_000;

/// In a record without elements: there is no record.
const NOTHING: &str = "无数据";

/// XML. Records are the elements at `record` (`/DATAS/DATA`), or the children of the root. Cells
/// are paths below the record: `party/name`, `@id`, `name[2]` for the second of its name. Without
/// declared namespaces, names match without their prefix.
pub(super) struct Xml;

impl Format for Xml {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Xml]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        // What the prolog names is not asked: hubs wrap texts named GBK into UTF-8 envelopes.
        let encoding = detect(spec.encoding, input)?;
        let text = TextReader::new(input, encoding, limits.inflated_bytes, record_bytes(limits));
        let budget = text.budget();
        let mut reader = Reader::from_reader(BufReader::new(text));
        reader.config_mut().expand_empty_elements = true;
        let record: Option<Vec<&str>> =
            spec.record.as_deref().map(|path| path.split('/').filter(|s| !s.is_empty()).collect());
        let mut walk = Walk {
            open: Vec::new(),
            rooted: false,
            local: spec.namespaces.is_empty(),
            record,
            way: Way::default(),
            record_depth: None,
            columns: Columns::new(Shape::Tree),
            row: Row::new(),
            count: 0,
            limits,
            sink,
        };
        let mut buf = Vec::new();
        loop {
            buf.clear();
            budget.refill();
            let event = match reader.read_event_into(&mut buf) {
                Ok(event) => event,
                Err(quick_xml::Error::Io(error)) => {
                    let again = std::io::Error::other("read");
                    return Err(match std::sync::Arc::try_unwrap(error) {
                        Ok(error) => io_fault(error, limits),
                        Err(shared) => match Hit::of(&shared) {
                            Some(hit) => hit_fault(hit, limits),
                            None => DecodeError::Io(again),
                        },
                    });
                }
                Err(_) => return Err(walk.broken("标签不匹配、未结束或书写有误")),
            };
            let flow = match event {
                Event::Start(tag) => walk.start(&tag)?,
                Event::End(_) => walk.end()?,
                Event::Text(text) => walk.text(&text.xml10_content())?,
                Event::CData(text) => walk.text(&text.xml10_content())?,
                Event::GeneralRef(entity) => {
                    let known = if entity.is_char_ref() {
                        entity.resolve_char_ref().ok().flatten().map(String::from)
                    } else {
                        quick_xml::escape::resolve_predefined_entity(&entity).map(String::from)
                    };
                    let text = known.ok_or(DecodeError::Forbidden("未知实体引用"))?;
                    walk.text(&text)?
                }
                Event::DocType(_) => return Err(DecodeError::Forbidden("DOCTYPE声明")),
                Event::Eof => break,
                _ => ControlFlow::Continue(()),
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        match (walk.open.is_empty(), walk.rooted) {
            (false, _) => Err(walk.broken("文件在元素结束之前就完了,可能不完整")),
            (true, false) => Err(walk.broken("没有根元素")),
            (true, true) => walk.lost(),
        }
    }
}

/// How far the record's path was met with, for when no record is.
#[derive(Default)]
struct Way {
    /// The open elements that are the path's first ones.
    on: usize,
    /// The most there ever were.
    deepest: usize,
    /// Other elements just below those, the first few.
    beside: Vec<String>,
    /// Whether any of these has elements of its own, as a record has.
    nested: bool,
}

impl Way {
    const TOLD: usize = 5;

    /// An element was opened at this depth, which is the path's next one or not.
    fn meets(&mut self, depth: usize, is_next: bool, name: &str) {
        if is_next && self.on + 1 == depth {
            self.on = depth;
            if depth > self.deepest {
                *self = Self { on: depth, deepest: depth, ..Self::default() };
            }
        } else if self.on == self.deepest && self.on + 1 == depth {
            if self.beside.len() < Self::TOLD && !self.beside.iter().any(|known| known == name) {
                self.beside.push(name.to_owned());
            }
        } else if self.on == self.deepest && self.on + 2 == depth {
            self.nested = true;
        }
    }
}

struct Open {
    name: String,
    text: String,
    /// How many children of each name, while inside a record.
    seen: HashMap<String, u32>,
    has_children: bool,
}

struct Walk<'a> {
    open: Vec<Open>,
    rooted: bool,
    local: bool,
    record: Option<Vec<&'a str>>,
    way: Way,
    record_depth: Option<usize>,
    columns: Columns,
    row: Row,
    count: u64,
    limits: &'a Limits,
    sink: &'a mut dyn RowSink,
}

impl Walk<'_> {
    fn start(&mut self, tag: &BytesStart<'_>) -> Result<ControlFlow<()>, DecodeError> {
        if self.open.is_empty() && self.rooted {
            return Err(self.broken("有不止一个根元素"));
        }
        self.rooted = true;
        if self.open.len() >= self.limits.depth as usize {
            let limit = u64::from(self.limits.depth);
            return Err(DecodeError::Limit { what: "嵌套层数", limit });
        }
        let mut name = self.name(tag.name().as_ref()).to_owned();
        if self.record_depth.is_some()
            && let Some(parent) = self.open.last_mut()
        {
            parent.has_children = true;
            let nth = parent.seen.entry(name.clone()).or_insert(0);
            *nth += 1;
            if *nth > 1 {
                name = format!("{name}[{nth}]");
            }
        }
        self.open.push(Open {
            name,
            text: String::new(),
            seen: HashMap::new(),
            has_children: false,
        });
        if self.count == 0
            && let Some(path) = &self.record
            && let Some(open) = self.open.last()
        {
            let is_next = path.get(self.open.len() - 1) == Some(&open.name.as_str());
            self.way.meets(self.open.len(), is_next, &open.name);
        }
        if self.record_depth.is_none() && self.at_record() {
            self.count += 1;
            if self.count > self.limits.rows {
                return Err(DecodeError::Limit { what: "行数", limit: self.limits.rows });
            }
            self.record_depth = Some(self.open.len());
            self.row.clear(self.count);
        }
        // Attributes are always walked: a hostile element is refused wherever it stands.
        for (ix, attribute) in tag.attributes().enumerate() {
            if ix >= MAX_ATTRIBUTES {
                let limit = MAX_ATTRIBUTES as u64;
                return Err(DecodeError::Limit { what: "一个元素的属性数", limit });
            }
            let attribute = attribute.map_err(|_| self.broken("属性书写有误或重复"))?;
            let value = attribute
                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                .map_err(|_| DecodeError::Forbidden("未知实体引用"))?;
            self.check_chars(&value)?;
            let key = attribute.key.as_ref();
            if key.starts_with("xmlns") && value == "http://www.w3.org/2001/XInclude" {
                return Err(DecodeError::Forbidden("XInclude外部引用"));
            }
            if self.record_depth.is_some() && !key.starts_with("xmlns") {
                let path = self.path(Some(self.name(key)));
                self.cell(&path, &value)?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self) -> Result<ControlFlow<()>, DecodeError> {
        if let Some(depth) = self.record_depth {
            if self.open.len() == depth {
                self.record_depth = None;
                let own = self.open.pop().map(|open| open.text).unwrap_or_default();
                if !self.row.is_blank() {
                    return Ok(self.sink.row(&self.columns, &self.row));
                }
                // `<DATA>本日无数据</DATA>` is how some systems report that there is nothing.
                if own.trim().is_empty() || own.contains(NOTHING) {
                    return Ok(ControlFlow::Continue(()));
                }
                let message = "该条只有文字,没有子元素,不知是哪一项的值".to_owned();
                let fix = "请核对记录路径 record 与文件的结构,每项的值应在各自的元素里";
                let finding = finding::malformed(message, fix);
                return Ok(self.sink.bad_row(&self.row.place, finding));
            }
            let path = self.path(None);
            if let Some(done) = self.open.pop()
                && (!done.has_children || !done.text.trim().is_empty())
            {
                self.cell(&path, &done.text)?;
            }
        } else {
            self.open.pop();
            self.way.on = self.way.on.min(self.open.len());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A document without a record is empty, unless what looks like records stands elsewhere: then
    /// the path is wrong, or the file.
    fn lost(&self) -> Result<(), DecodeError> {
        let Some(path) = self.record.as_ref().filter(|_| self.count == 0 && self.way.nested) else {
            return Ok(());
        };
        let short = |name: &String| name.chars().take(40).collect::<String>();
        let beside = self.way.beside.iter().map(short).collect::<Vec<_>>().join("、");
        let met: String =
            path.iter().take(self.way.deepest).map(|name| format!("/{name}")).collect();
        let there = match met.as_str() {
            "" => format!("根元素是 {beside}"),
            met => format!("{met} 下是 {beside}"),
        };
        let path = path.join("/");
        Err(self.broken(&format!(
            "记录路径 /{path} 在文件中没有,{there};请核对映射规则的 record(区分大小写)与文件的结构"
        )))
    }

    fn text(&mut self, text: &str) -> Result<ControlFlow<()>, DecodeError> {
        self.check_chars(text)?;
        let limit = self.limits.cell_bytes;
        match self.open.last_mut() {
            None if !text.trim().is_empty() => Err(self.broken("根元素之外有文字")),
            Some(open) if self.record_depth.is_some() => {
                if open.text.len() + text.len() > limit {
                    return Err(DecodeError::Limit {
                        what: "单元格的字节数", limit: limit as u64
                    });
                }
                open.text.push_str(text);
                Ok(ControlFlow::Continue(()))
            }
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn at_record(&self) -> bool {
        match &self.record {
            None => self.open.len() == 2,
            Some(path) => {
                path.len() == self.open.len()
                    && path.iter().zip(&self.open).all(|(want, open)| *want == open.name)
            }
        }
    }

    /// The path below the record of the element at hand, or of one of its attributes.
    fn path(&self, attribute: Option<&str>) -> String {
        let below = self.open.iter().skip(self.record_depth.unwrap_or(0));
        let mut path = below.map(|o| o.name.as_str()).collect::<Vec<_>>().join("/");
        if let Some(attribute) = attribute {
            if !path.is_empty() {
                path.push('/');
            }
            path.push('@');
            path.push_str(attribute);
        }
        path
    }

    fn cell(&mut self, path: &str, text: &str) -> Result<(), DecodeError> {
        set_cell(&mut self.columns, &mut self.row, self.limits, path, text, CellKind::Text)
    }

    fn name<'n>(&self, name: &'n str) -> &'n str {
        match name.split_once(':') {
            Some((_, local)) if self.local => local,
            _ => name,
        }
    }

    fn check_chars(&self, text: &str) -> Result<(), DecodeError> {
        let bad = |c: char| {
            (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
        };
        if text.contains(bad) {
            Err(self.broken("含有XML不允许的控制字符"))
        } else {
            Ok(())
        }
    }

    fn broken(&self, detail: &str) -> DecodeError {
        DecodeError::Malformed { line: self.count.max(1), detail: detail.to_owned() }
    }
}
