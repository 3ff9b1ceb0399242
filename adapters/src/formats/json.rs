//! JSON and NDJSON.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;
use xinqiao_core::model::{CellKind, Columns, FormatKind, FormatSpec, Place, Row, Shape};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};

use super::finding;
use super::text::{Budget, TextReader, detect, io_fault, record_bytes};

/// JSON: an array of objects, one object, or an object holding the array at `record`
/// (`/data/rows`); NDJSON: one object a line. Nested objects become paths `a/b`, arrays of scalars
/// one text joined by `;`, arrays of objects `a[1]/b`; numbers keep their digits.
pub(super) struct Json;

impl Format for Json {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Json, FormatKind::Ndjson]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        let encoding = detect(spec.encoding, input)?;
        let text = TextReader::new(input, encoding, limits.inflated_bytes, record_bytes(limits));
        let budget = text.budget();
        let mut reader = BufReader::new(text);
        let mut out = Out {
            columns: Columns::new(Shape::Tree),
            row: Row::new(),
            count: 0,
            stop: None,
            budget,
            limits,
            sink,
        };
        if spec.kind == FormatKind::Ndjson {
            return lines(&mut reader, &mut out);
        }
        let path: Vec<&str> =
            spec.record.as_deref().unwrap_or("").split('/').filter(|s| !s.is_empty()).collect();
        if reader.fill_buf().map_err(|e| io_fault(e, limits))?.is_empty() {
            return Ok(());
        }
        let mut de = serde_json::Deserializer::from_reader(reader);
        let end = At { path: &path, out: &mut out }.deserialize(&mut de).and_then(|()| de.end());
        match (out.stop, end) {
            (Some(Stop::Break), _) => Ok(()),
            (Some(Stop::Fault(fault)), _) => Err(fault),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) if error.is_io() => Err(io_fault(error.into(), limits)),
            (None, Err(error)) => Err(DecodeError::Malformed {
                line: error.line() as u64,
                detail: if error.is_eof() {
                    "JSON没有结束,文件可能不完整".to_owned()
                } else {
                    format!("不符合JSON语法或所配置的记录路径(第{}列)", error.column())
                },
            }),
        }
    }
}

fn lines(reader: &mut impl BufRead, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let mut line = String::new();
    let mut number = 0;
    loop {
        out.budget.refill();
        line.clear();
        if reader.read_line(&mut line).map_err(|e| io_fault(e, out.limits))? == 0 {
            return Ok(());
        }
        number += 1;
        if line.trim().is_empty() {
            continue;
        }
        let flow = match serde_json::from_str::<Value>(&line) {
            Ok(value @ Value::Object(_)) => out.give(&value, number)?,
            _ => out.bad(number, "该行不是一个完整的JSON对象")?,
        };
        if flow.is_break() {
            return Ok(());
        }
    }
}

enum Stop {
    Break,
    Fault(DecodeError),
}

struct Out<'a> {
    columns: Columns,
    row: Row,
    count: u64,
    stop: Option<Stop>,
    budget: Budget,
    limits: &'a Limits,
    sink: &'a mut dyn RowSink,
}

impl Out<'_> {
    fn give(&mut self, value: &Value, number: u64) -> Result<ControlFlow<()>, DecodeError> {
        if !value.is_object() {
            return self.bad(number, "数组中的该项不是JSON对象");
        }
        self.next()?;
        self.row.clear(number);
        let mut path = String::new();
        self.flatten(value, &mut path, 1)?;
        Ok(if self.row.is_blank() {
            ControlFlow::Continue(())
        } else {
            self.sink.row(&self.columns, &self.row)
        })
    }

    fn bad(&mut self, number: u64, what: &str) -> Result<ControlFlow<()>, DecodeError> {
        self.next()?;
        let place = Place { sheet: None, row: number };
        let fix = "请检查该条的括号、引号与转义后重新报送";
        Ok(self.sink.bad_row(&place, finding::malformed(what.to_owned(), fix)))
    }

    fn next(&mut self) -> Result<(), DecodeError> {
        self.count += 1;
        if self.count > self.limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: self.limits.rows });
        }
        Ok(())
    }

    fn flatten(&mut self, value: &Value, path: &mut String, depth: u32) -> Result<(), DecodeError> {
        if depth > self.limits.depth {
            return Err(DecodeError::Limit {
                what: "嵌套层数",
                limit: u64::from(self.limits.depth),
            });
        }
        let keep = path.len();
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(name);
                    self.flatten(inner, path, depth + 1)?;
                    path.truncate(keep);
                }
            }
            Value::Array(items) if items.iter().any(|i| i.is_object() || i.is_array()) => {
                for (ix, inner) in items.iter().enumerate() {
                    path.push_str(&format!("[{}]", ix + 1));
                    self.flatten(inner, path, depth + 1)?;
                    path.truncate(keep);
                }
            }
            Value::Array(items) => {
                let texts: Vec<String> =
                    items.iter().filter(|i| !i.is_null()).map(|i| scalar(i).0).collect();
                self.set(path, &texts.join(";"), CellKind::Text)?;
            }
            leaf => {
                let (text, kind) = scalar(leaf);
                self.set(path, &text, kind)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, path: &str, text: &str, kind: CellKind) -> Result<(), DecodeError> {
        set_cell(&mut self.columns, &mut self.row, self.limits, path, text, kind)
    }
}

/// Puts one named cell of a tree record into `row`, adding its column if new.
pub(super) fn set_cell(
    columns: &mut Columns,
    row: &mut Row,
    limits: &Limits,
    path: &str,
    text: &str,
    kind: CellKind,
) -> Result<(), DecodeError> {
    if text.len() > limits.cell_bytes {
        return Err(DecodeError::Limit {
            what: "单元格的字节数", limit: limits.cell_bytes as u64
        });
    }
    let too_wide = DecodeError::Limit { what: "列数", limit: u64::from(limits.columns) };
    let known = columns.find(path);
    if known.is_none() && columns.len() >= limits.columns as usize {
        return Err(too_wide);
    }
    let column = known.or_else(|| columns.find_or_push(path)).ok_or(too_wide)?;
    let kind = match kind {
        CellKind::Text if text.is_empty() => CellKind::Absent,
        CellKind::Text if text.contains('\u{fffd}') => CellKind::Damaged,
        kind => kind,
    };
    row.set(column, text, kind);
    Ok(())
}

fn scalar(value: &Value) -> (String, CellKind) {
    match value {
        Value::Null => (String::new(), CellKind::Absent),
        Value::Bool(b) => (b.to_string(), CellKind::Bool),
        Value::Number(n) => (n.to_string(), CellKind::Number),
        Value::String(s) => (s.clone(), CellKind::Text),
        other => (other.to_string(), CellKind::Text),
    }
}

/// Walks down `path`, then hands over each item of the array there (or the one object).
struct At<'p, 'o, 'a> {
    path: &'p [&'p str],
    out: &'o mut Out<'a>,
}

impl<'de> DeserializeSeed<'de> for At<'_, '_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_any(self)
    }
}

impl At<'_, '_, '_> {
    fn take<E: serde::de::Error>(&mut self, value: &Value) -> Result<(), E> {
        let number = self.out.count + 1;
        let stop = match self.out.give(value, number) {
            Ok(ControlFlow::Continue(())) => {
                self.out.budget.refill();
                return Ok(());
            }
            Ok(ControlFlow::Break(())) => Stop::Break,
            Err(fault) => Stop::Fault(fault),
        };
        self.out.stop = Some(stop);
        Err(E::custom("stopped"))
    }
}

impl<'de> Visitor<'de> for At<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects, or an object on the way to it")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        if !self.path.is_empty() {
            return Err(A::Error::custom("an array before the end of the record path"));
        }
        while let Some(value) = seq.next_element::<Value>()? {
            self.take(&value)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            let mut object = serde_json::Map::new();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                object.insert(name, value);
            }
            return self.take(&Value::Object(object));
        };
        let mut met = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == *first && !met {
                met = true;
                map.next_value_seed(At { path: rest, out: &mut *self.out })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if met { Ok(()) } else { Err(A::Error::custom("the record path leads nowhere")) }
    }
}
