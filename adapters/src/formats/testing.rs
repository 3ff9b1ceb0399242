//! What the decoders' tests share.

use std::io::{Cursor, Write as _};
use std::ops::ControlFlow;

use xinqiao_core::catalogue::rules;
use xinqiao_core::model::{CellKind, Columns, Finding, FormatSpec, Place, Row};
use xinqiao_core::spi::{DecodeError, Limits, RowSink, Scratch};

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
    let mut sink = Sink::new(limits, stop);
    let mut input = Cursor::new(bytes.to_vec());
    let room = || -> Box<dyn Scratch> { Box::new(Vec::new()) };
    let end = super::decode(spec, &mut input, &limits, &room, &mut sink);
    Seen { end, ..sink.seen }
}

/// Takes rows down and checks each against the limits.
pub(super) struct Sink {
    pub(super) seen: Seen,
    limits: Limits,
    stop: usize,
}

impl Sink {
    pub(super) fn new(limits: Limits, stop: usize) -> Self {
        let seen = Seen { told: Vec::new(), numbers: Vec::new(), end: Ok(()) };
        Self { seen, limits, stop }
    }

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

/// A DBF table: columns by name, type and width; records by deletion mark and cells, which are
/// padded (texts with spaces, others with zeros).
pub(super) fn made_table(
    version: u8,
    columns: &[(&str, char, u8)],
    records: &[(u8, &[&[u8]])],
) -> Vec<u8> {
    let begin = u16::try_from(32 + 32 * columns.len() + 1).unwrap();
    let width: u16 = columns.iter().map(|(_, _, width)| u16::from(*width)).sum::<u16>() + 1;
    let mut table = vec![version, 26, 1, 10];
    table.extend(u32::try_from(records.len()).unwrap().to_le_bytes());
    table.extend(begin.to_le_bytes());
    table.extend(width.to_le_bytes());
    table.resize(32, 0);
    for (name, kind, width) in columns {
        let mut part = encoding_rs::GB18030.encode(name).0.into_owned();
        part.resize(11, 0);
        part.push(u8::try_from(*kind).unwrap());
        part.extend([0, 0, 0, 0, *width, 0, 2]);
        part.resize(32, 0);
        table.extend(part);
    }
    table.push(0x0d);
    for (mark, cells) in records {
        table.push(*mark);
        for (ix, (_, kind, width)) in columns.iter().enumerate() {
            let pad = if matches!(kind, 'C' | 'N' | 'D' | 'L') { b' ' } else { 0 };
            let mut cell = cells.get(ix).map(|cell| cell.to_vec()).unwrap_or_default();
            cell.resize(usize::from(*width), pad);
            table.extend(cell);
        }
    }
    table.push(0x1a);
    table
}

/// A ZIP of these members.
pub(super) fn made_zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        let options = zip::write::SimpleFileOptions::default();
        if name.ends_with('/') {
            zip.add_directory(*name, options).unwrap();
        } else {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
    }
    zip.finish().unwrap().into_inner()
}
