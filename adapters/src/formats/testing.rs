//! What the decoders' tests share.

use std::io::Cursor;
use std::ops::ControlFlow;

use xinqiao_core::catalogue::rules;
use xinqiao_core::model::{CellKind, Columns, Finding, FormatSpec, Place, Row};
use xinqiao_core::spi::{DecodeError, Limits, RowSink};

/// What a decoder gave.
pub(super) struct Seen {
    /// Rows as `place of the first column|heading=text|heading=text:kind|heading` (kind unless text;
    /// the last is absent), refused ones as `row!rule`.
    pub(super) told: Vec<String>,
    /// The row number of each.
    pub(super) numbers: Vec<u64>,
    /// How decoding ended.
    pub(super) end: Result<(), DecodeError>,
}

/// Decodes all of `bytes` within the usual limits.
pub(super) fn decode(spec: &FormatSpec, bytes: &[u8]) -> (Vec<String>, Result<(), DecodeError>) {
    let seen = decode_within(spec, bytes, Limits::default(), usize::MAX);
    (seen.told, seen.end)
}

/// Decodes `bytes` until there are `stop` rows. No row may exceed the limits.
pub(super) fn decode_within(spec: &FormatSpec, bytes: &[u8], limits: Limits, stop: usize) -> Seen {
    let seen = Seen { told: Vec::new(), numbers: Vec::new(), end: Ok(()) };
    let mut sink = Sink { seen, limits, stop };
    let mut input = Cursor::new(bytes.to_vec());
    let end = super::decode(spec, &mut input, &limits, &|| Box::new(Vec::new()), &mut sink);
    Seen { end, ..sink.seen }
}

struct Sink {
    seen: Seen,
    limits: Limits,
    stop: usize,
}

impl Sink {
    fn take(&mut self, place: &Place, text: String) -> ControlFlow<()> {
        self.seen.told.push(text);
        self.seen.numbers.push(place.row);
        assert!(self.seen.told.len() <= self.stop, "rows after the end");
        if self.seen.told.len() < self.stop {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

impl RowSink for Sink {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        assert!(columns.len() <= self.limits.columns as usize);
        let mut text = columns.locate(&row.place, 0);
        for (ix, name) in (0u16..).zip(columns.names()) {
            let cell = row.get(ix);
            assert!(cell.text.len() <= self.limits.cell_bytes);
            match cell.kind {
                CellKind::Absent => text.push_str(&format!("|{name}")),
                CellKind::Text => text.push_str(&format!("|{name}={}", cell.text)),
                kind => text.push_str(&format!("|{name}={}:{kind:?}", cell.text)),
            }
        }
        self.take(&row.place, text)
    }

    fn bad_row(&mut self, place: &Place, finding: Finding) -> ControlFlow<()> {
        let rule = rules::find(&finding.rule).expect("a rule of the registry");
        assert_eq!((finding.severity, finding.dimension), (rule.severity, rule.dimension));
        self.take(place, format!("{}!{}", place.row, finding.rule))
    }
}
