//! Fixed-width text (定长文本): a line is a record, each column takes the same room in every line.

use std::io::{BufRead, BufReader, SeekFrom};

use encoding_rs::{GB18030, UTF_8};
use xinqiao_core::model::{
    CellKind, Columns, FixedColumn, FormatKind, FormatSpec, HeaderSpec, Place, Row, Shape,
};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};

use super::finding;
use super::text::{TextReader, detect, io_fault, record_bytes};

/// Lines of columns whose widths the mapping gives. Bytes are those of the text as it came, which
/// is why lines are cut before they are decoded. Blank lines are passed over; lines up to the
/// heading row are not records, if the mapping names one.
pub(super) struct Fixed;

impl Format for Fixed {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Fixed]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        let declared = detect(spec.encoding, input)?;
        if spec.columns.len() > limits.columns as usize {
            return Err(DecodeError::Limit { what: "列数", limit: u64::from(limits.columns) });
        }
        let mut columns = Columns::new(Shape::Delimited);
        for (position, column) in (0u32..).zip(&spec.columns) {
            columns.push(&column.name, position);
        }
        let raw = declared == UTF_8 || declared == GB18030;
        let cut = Cut {
            encoding: if raw { declared } else { UTF_8 },
            measure: match (spec.in_characters, raw) {
                (true, _) => Measure::Characters,
                (false, true) => Measure::Bytes,
                (false, false) => Measure::Utf16,
            },
            columns: &spec.columns,
        };
        if raw {
            let bom: &[u8] = if declared == UTF_8 { b"\xef\xbb\xbf" } else { b"\x84\x31\x95\x33" };
            let mut input = BufReader::with_capacity(64 << 10, input);
            if input.fill_buf()?.starts_with(bom) {
                input.consume(bom.len());
            }
            read(spec, input, &cut, columns, limits, sink)
        } else {
            // Only here are bytes and characters the same thing in another size.
            input.seek(SeekFrom::Start(0))?;
            let text = TextReader::new(input, declared, limits.inflated_bytes, u64::MAX / 2);
            read(spec, BufReader::new(text), &cut, columns, limits, sink)
        }
    }
}

fn read(
    spec: &FormatSpec,
    mut input: impl BufRead,
    cut: &Cut<'_>,
    columns: Columns,
    limits: &Limits,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    let heading = match spec.header {
        HeaderSpec::Auto => 0,
        HeaderSpec::Row(row) => u64::from(row),
    };
    let (mut row, mut line) = (Row::new(), Vec::new());
    let (mut number, mut count, mut total) = (0, 0, 0u64);
    while next_line(&mut input, &mut line, limits)? {
        number += 1;
        total += line.len() as u64;
        if total > limits.inflated_bytes {
            let limit = limits.inflated_bytes;
            return Err(DecodeError::Limit { what: "报文解码后的字节数", limit });
        }
        // 0x1A ends a text of DOS.
        let blank = line.iter().all(|byte| matches!(byte, b' ' | b'\t' | 0x1a));
        if number <= heading || blank {
            continue;
        }
        count += 1;
        if count > limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: limits.rows });
        }
        row.clear(number);
        let flow = match cut.row(&line, &mut row, limits)? {
            Ok(()) => sink.row(&columns, &row),
            Err(message) => {
                let fix = "请核对该行各列的宽度(按映射规则的 columns),从原系统重新导出";
                let place = Place { sheet: None, row: number };
                sink.bad_row(&place, finding::malformed(message, fix))
            }
        };
        if flow.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// The next line without what ends it (LF, CR LF or CR); `false` at the end.
fn next_line(
    input: &mut impl BufRead,
    line: &mut Vec<u8>,
    limits: &Limits,
) -> Result<bool, DecodeError> {
    line.clear();
    loop {
        let ready = input.fill_buf().map_err(|error| io_fault(error, limits))?;
        if ready.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = memchr::memchr2(b'\n', b'\r', ready);
        let taken = end.unwrap_or(ready.len());
        let cr = end.is_some_and(|end| ready.get(end) == Some(&b'\r'));
        line.extend_from_slice(ready.get(..taken).unwrap_or(&[]));
        input.consume(taken + usize::from(end.is_some()));
        if line.len() as u64 > record_bytes(limits) {
            return Err(DecodeError::Limit {
                what: "一行的字节数", limit: record_bytes(limits)
            });
        }
        if end.is_some() {
            if cr
                && input.fill_buf().map_err(|error| io_fault(error, limits))?.first()
                    == Some(&b'\n')
            {
                input.consume(1);
            }
            return Ok(true);
        }
    }
}

/// What a width counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Bytes,
    /// Bytes of the text in UTF-16, which is here as UTF-8.
    Utf16,
    Characters,
}

struct Cut<'a> {
    encoding: &'static encoding_rs::Encoding,
    measure: Measure,
    columns: &'a [FixedColumn],
}

impl Cut<'_> {
    /// Fills `row`, or tells where the line does not fit.
    fn row(
        &self,
        line: &[u8],
        row: &mut Row,
        limits: &Limits,
    ) -> Result<Result<(), String>, DecodeError> {
        let mut rest = line;
        for (column, nth) in self.columns.iter().zip(1..) {
            let name = &column.name;
            let (mut len, mut room) = (0, column.width as usize);
            while room > 0 {
                let Some(ahead) = rest.get(len..).filter(|ahead| !ahead.is_empty()) else {
                    return Ok(Err(format!("该行太短,到第{nth}列“{name}”就完了")));
                };
                let (bytes, size) = self.character(ahead);
                if size > room {
                    return Ok(Err(format!("第{nth}列“{name}”的边界落在一个汉字中间,各列错位")));
                }
                room -= size;
                len += bytes;
            }
            let (cell, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = after;
            let (text, damaged) = self.encoding.decode_without_bom_handling(cell);
            let text = text.trim_end();
            if text.len() > limits.cell_bytes {
                let limit = limits.cell_bytes as u64;
                return Err(DecodeError::Limit { what: "单元格的字节数", limit });
            }
            let kind = match text {
                "" => CellKind::Absent,
                text if damaged || text.contains('\u{fffd}') => CellKind::Damaged,
                _ => CellKind::Text,
            };
            row.push(text, kind);
        }
        if rest.is_empty() {
            Ok(Ok(()))
        } else {
            Ok(Err("该行太长,最后一列之后还有内容".to_owned()))
        }
    }

    /// How many bytes the first character of `ahead` has, and what of a width it takes.
    fn character(&self, ahead: &[u8]) -> (usize, usize) {
        let bytes = match (ahead, self.encoding == GB18030) {
            ([0x81..=0xfe, 0x30..=0x39, 0x81..=0xfe, 0x30..=0x39, ..], true) => 4,
            ([0x81..=0xfe, 0x40..=0x7e | 0x80..=0xfe, ..], true) => 2,
            (_, true) => 1,
            ([first, ..], false) => {
                let wanted = match first {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => 1,
                };
                let whole = ahead.get(..wanted).is_some_and(|c| std::str::from_utf8(c).is_ok());
                if whole { wanted } else { 1 }
            }
            ([], false) => 1,
        };
        let size = match self.measure {
            Measure::Bytes => bytes,
            Measure::Characters => 1,
            // A character of four bytes here is one of two units there.
            Measure::Utf16 => {
                if bytes == 4 {
                    4
                } else {
                    2
                }
            }
        };
        (bytes, size)
    }
}

#[cfg(test)]
mod tests {
    use xinqiao_core::model::Encoding;

    use super::super::testing::{decode, decode_within};
    use super::*;

    fn spec(in_characters: bool) -> FormatSpec {
        let column = |(name, width): (&str, u32)| FixedColumn { name: name.to_owned(), width };
        FormatSpec {
            columns: [("名称", 6), ("文号", 3), ("日期", 4)].map(column).to_vec(),
            in_characters,
            ..FormatSpec::new(FormatKind::Fixed)
        }
    }

    #[test]
    fn bytes_are_those_of_the_text_as_it_came() {
        let text = "甲公司0010101\n\n乙  𠮷0020102\r\n丙    0030103\r丁甲乙丙1\n戊a甲乙001\n\u{1a}";
        let gbk = encoding_rs::GB18030.encode(text).0;
        let (rows, end) = decode(&spec(false), &gbk);
        end.unwrap();
        assert_eq!(
            rows,
            [
                "第1行第1列|名称=甲公司|文号=001|日期=0101",
                "3!row.malformed",
                "第4行第1列|名称=丙|文号=003|日期=0103",
                "5!row.malformed",
                "6!row.malformed",
            ]
        );
    }

    #[test]
    fn widths_may_count_characters_and_a_heading_is_only_where_it_is_said() {
        let text =
            "名称名称名称文号文日期日期\n甲公司   0010101\n乙公司   002010\n丙公司   00301033";
        let spec = FormatSpec { header: HeaderSpec::Row(1), ..spec(true) };
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let declared = FormatSpec { encoding: Encoding::Utf16, ..spec.clone() };
        for (spec, bytes) in [
            (&spec, text.as_bytes().to_vec()),
            (&spec, encoding_rs::GB18030.encode(text).0.into_owned()),
            (&declared, utf16),
        ] {
            let (rows, end) = decode(spec, &bytes);
            end.unwrap();
            let good = "第2行第1列|名称=甲公司|文号=001|日期=0101";
            assert_eq!(rows, [good, "3!row.malformed", "4!row.malformed"]);
        }
    }

    #[test]
    fn utf16_counts_two_bytes_a_unit() {
        let spec = FormatSpec { encoding: Encoding::Utf16, ..spec(false) };
        let bytes: Vec<u8> = "甲公司\u{20}12\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        // 3 characters are 6 bytes; the next column would end inside a unit.
        assert_eq!(decode(&spec, &bytes).0, ["1!row.malformed"]);
    }

    #[test]
    fn a_line_without_end_is_no_reason_to_hold_it() {
        let limits = Limits { cell_bytes: 64, ..Limits::default() };
        let seen = decode_within(&spec(false), &[b'a'; 100_000], limits, usize::MAX);
        assert!(matches!(seen.end, Err(DecodeError::Limit { .. })), "{:?}", seen.end);
    }
}
