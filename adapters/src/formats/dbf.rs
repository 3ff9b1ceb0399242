//! DBF tables (数据表) of dBase III and IV, FoxPro and Visual FoxPro. Sources: the table file structures in
//! the manuals of dBase IV and Visual FoxPro.
//!
//! Our own reader. The `dbase` crate reads a table's memo only from a path beside it, sizes buffers
//! by what the header claims, and ends at the first cell it cannot read; a feed wants the row told
//! and the rest read.

mod memo;
#[cfg(test)]
mod tests;

use std::io::{BufReader, Read, SeekFrom};

use encoding_rs::{BIG5, GB18030, UTF_8, UTF_16LE};
use time::{Date, Month};
use xinqiao_core::model::{CellKind, Columns, Encoding, FormatKind, FormatSpec, Place, Row, Shape};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink};
use xinqiao_core::value::heading;

use super::finding;
use super::guard::broken;
use memo::Memo;

/// Tables. Deleted records (marked `*`: the agency has deleted them, the file still holds them) are
/// passed over and not counted; a row's number counts them, as FoxPro's `RECNO()` does.
///
/// Types C V N F D L T I B Y M. Pictures, OLE objects and binary columns (G P W Q, and B of dBase)
/// hold no text and are no columns here: a mapping that names one is told that it is missing.
pub(super) struct Dbf;

impl Format for Dbf {
    fn kinds(&self) -> &'static [FormatKind] {
        &[FormatKind::Dbf]
    }

    fn decode(
        &self,
        spec: &FormatSpec,
        input: &mut dyn ReadSeek,
        limits: &Limits,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        decode(spec, input, None, limits, sink)
    }
}

/// Whether the bytes begin as a table does. A text may begin with any of the versions, but holds no
/// zeros.
pub(super) fn is_table(input: &mut dyn ReadSeek) -> std::io::Result<bool> {
    let mut head = Vec::new();
    input.seek(SeekFrom::Start(0))?;
    Read::take(&mut *input, 14).read_to_end(&mut head)?;
    if head.get(12..) != Some(&[0, 0]) {
        return Ok(false);
    }
    match Table::open(input, Encoding::Auto) {
        Ok(_) => Ok(true),
        Err(DecodeError::Io(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// The names of a table's columns.
pub(super) fn names(input: &mut dyn ReadSeek) -> Result<Vec<String>, DecodeError> {
    let fields = Table::open(input, Encoding::Auto)?.fields.into_iter();
    Ok(fields.filter(|field| field.kind.is_some()).map(|field| field.name).collect())
}

/// Decodes a table with the memo file that lay beside it.
pub(super) fn decode(
    spec: &FormatSpec,
    input: &mut dyn ReadSeek,
    memo: Option<&mut dyn ReadSeek>,
    limits: &Limits,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    let table = Table::open(input, spec.encoding)?;
    table.check_count(input)?;
    if table.fields.len() > limits.columns as usize {
        return Err(DecodeError::Limit { what: "列数", limit: u64::from(limits.columns) });
    }
    let memo = memo.map(|memo| Memo::open(memo, table.fox)).transpose()?;
    let mut columns = Columns::new(Shape::Tree);
    let shown = table.fields.iter().filter(|field| field.kind.is_some());
    for (position, field) in (0u32..).zip(shown) {
        columns.push(&field.name, position);
    }
    input.seek(SeekFrom::Start(table.begin))?;
    let mut input = BufReader::with_capacity(64 << 10, input);
    let mut record = vec![0; table.width];
    let mut reader = Reader { table: &table, spec, memo, row: Row::new(), total: 0, limits };
    let mut count = 0;
    for number in 1..=table.count {
        input.read_exact(&mut record)?;
        if record.first() == Some(&b'*') {
            continue;
        }
        count += 1;
        if count > limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: limits.rows });
        }
        let flow = match reader.row(number, &record)? {
            Ok(()) => sink.row(&columns, &reader.row),
            Err((message, fix)) => {
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

/// What the header says.
struct Table {
    count: u64,
    /// Where the first record begins.
    begin: u64,
    /// Bytes of a record, its deletion mark included.
    width: usize,
    fields: Vec<Field>,
    encoding: &'static encoding_rs::Encoding,
    /// Where the `_NullFlags` of a record stand.
    flags: Option<(usize, usize)>,
    /// FoxPro's, so its memo is a `.fpt`.
    fox: bool,
}

struct Field {
    name: String,
    /// `None`: nothing a row can hold.
    kind: Option<Kind>,
    at: usize,
    width: usize,
    /// Bits of `_NullFlags`: the cell is shorter than its room; the cell is null.
    short_bit: Option<usize>,
    null_bit: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Date,
    Logical,
    Time,
    Integer,
    Double,
    Currency,
    Memo,
}

impl Table {
    /// Reads and checks the header.
    fn open(input: &mut dyn ReadSeek, declared: Encoding) -> Result<Self, DecodeError> {
        let wrong = |detail: &str| DecodeError::WrongFormat {
            expected: "DBF数据表",
            detail: detail.to_owned(),
        };
        input.seek(SeekFrom::Start(0))?;
        let mut header = Vec::new();
        input.take(32).read_to_end(&mut header)?;
        let version = header.first().copied().unwrap_or(0);
        if !VERSIONS.contains(&version) || header.len() < 32 {
            return Err(wrong("文件开头不是dBase、FoxPro数据表的标志,请确认文件类型"));
        }
        let (month, day) = (byte(&header, 2), byte(&header, 3));
        let (begin, width) = (number(&header, 8, 2)?, number(&header, 10, 2)?);
        if month > 12 || day > 31 || begin < 33 {
            return Err(wrong("文件开头不是dBase、FoxPro数据表的标志,请确认文件类型"));
        }
        input.take(begin - 32).read_to_end(&mut header)?;
        if header.len() as u64 != begin {
            return Err(broken("DBF文件头不完整,文件可能没有传完"));
        }
        let encoding = match declared {
            Encoding::Utf8 => UTF_8,
            Encoding::Utf16 => UTF_16LE,
            Encoding::Gb18030 => GB18030,
            // Other marks than Big5's come from tools that write their own default into any table.
            Encoding::Auto if byte(&header, 29) == 0x78 => BIG5,
            Encoding::Auto => GB18030,
        };
        let described = header.get(32..).unwrap_or(&[]);
        let mut parts = Vec::new();
        for part in described.chunks(32) {
            if part.first() == Some(&0x0d) {
                break;
            }
            if part.len() < 32 {
                return Err(broken("DBF文件头的列说明没有结束"));
            }
            parts.push(part);
        }
        if parts.is_empty() || width < 2 {
            return Err(broken("DBF文件头没有列,或记录长度为零"));
        }
        let width = usize::try_from(width).unwrap_or(0);
        let (fields, flags) = fields(&parts, version, encoding, width)
            .ok_or_else(|| broken("DBF文件头中各列的宽度与记录长度不符"))?;
        let (count, fox) = (number(&header, 4, 4)?, matches!(version, 0x30..=0x32 | 0xf5));
        Ok(Self { count, begin, width, fields, encoding, flags, fox })
    }

    /// The count in the header is what is read: a file that holds less is not whole, one that holds
    /// more has rows its header does not know of.
    fn check_count(&self, input: &mut dyn ReadSeek) -> Result<(), DecodeError> {
        let size = input.seek(SeekFrom::End(0))?;
        let (room, width) = (size.saturating_sub(self.begin), self.width as u64);
        let (count, held) = (self.count, room / width);
        if held < count {
            return Err(broken(&format!(
                "DBF文件头写明{count}条记录,文件里只有{held}条,文件可能没有传完"
            )));
        }
        if held > count {
            let mut mark = Vec::new();
            input.seek(SeekFrom::Start(self.begin + count * width))?;
            input.take(1).read_to_end(&mut mark)?;
            if matches!(mark.as_slice(), [b' ' | b'*']) {
                return Err(broken(&format!(
                    "DBF文件头写明{count}条记录,其后还有记录,请在原系统中关闭该表后重新导出"
                )));
            }
        }
        Ok(())
    }
}

/// First bytes of the tables that are read: dBase III, FoxBASE, dBase IV, FoxPro 2, Visual FoxPro,
/// with and without memo.
const VERSIONS: &[u8] =
    &[0x03, 0x30, 0x31, 0x32, 0x43, 0x63, 0x7b, 0x83, 0x8b, 0x8e, 0xcb, 0xf5, 0xfb];

/// The columns, and where the null flags stand; `None` if they do not fit into a record.
#[expect(clippy::type_complexity, reason = "both come of one walk and are taken apart at once")]
fn fields(
    parts: &[&[u8]],
    version: u8,
    encoding: &'static encoding_rs::Encoding,
    width: usize,
) -> Option<(Vec<Field>, Option<(usize, usize)>)> {
    let visual = matches!(version, 0x30..=0x32);
    // A text longer than 255 bytes has the upper byte of its width where decimals stand. dBase
    // leaves anything there, so that reading is only for tables it fits.
    let sum = |long: bool| parts.iter().map(|part| field_width(part, long)).sum::<usize>() + 1;
    let long = sum(false) != width && sum(true) <= width;
    if sum(long) > width {
        return None;
    }
    let (mut fields, mut flags, mut at, mut bit) = (Vec::new(), None, 1, 0);
    let mut next_bit = |wanted: bool| {
        wanted.then(|| {
            bit += 1;
            bit - 1
        })
    };
    for part in parts {
        let (kind, wide) = (byte(part, 11), field_width(part, long));
        let (is_flags, nullable) = (visual && kind == b'0', visual && byte(part, 18) & 2 != 0);
        let kind = match (kind, wide) {
            (b'C' | b'V', _) => Some(Kind::Text),
            (b'N' | b'F', _) => Some(Kind::Number),
            (b'D', 8) => Some(Kind::Date),
            (b'L', 1) => Some(Kind::Logical),
            (b'T', 8) => Some(Kind::Time),
            (b'I', 4) => Some(Kind::Integer),
            (b'B', 8) if visual => Some(Kind::Double),
            (b'Y', 8) => Some(Kind::Currency),
            (b'M', 4 | 10) => Some(Kind::Memo),
            (b'D' | b'L' | b'T' | b'I' | b'Y' | b'M', _) => return None,
            _ => None,
        };
        let name = part.get(..11).unwrap_or(&[]).split(|b| *b == 0).next().unwrap_or(&[]);
        // Ten bytes may end inside a character.
        let name = encoding.decode_without_bom_handling(name).0;
        fields.push(Field {
            name: name.trim_end_matches('\u{fffd}').trim().to_owned(),
            kind,
            at,
            width: wide,
            short_bit: next_bit(visual && matches!(byte(part, 11), b'V' | b'Q')),
            null_bit: next_bit(nullable),
        });
        if is_flags {
            flags = Some((at, at + wide));
        }
        at += wide;
    }
    Some((fields, flags))
}

fn field_width(part: &[u8], long: bool) -> usize {
    let upper = if long && byte(part, 11) == b'C' { byte(part, 17) } else { 0 };
    usize::from(byte(part, 16)) | usize::from(upper) << 8
}

struct Reader<'a> {
    table: &'a Table,
    spec: &'a FormatSpec,
    memo: Option<Memo<'a>>,
    row: Row,
    total: u64,
    limits: &'a Limits,
}

/// Why a row cannot be given, and what to do.
type Refusal = (String, &'static str);

impl Reader<'_> {
    fn row(&mut self, number: u64, record: &[u8]) -> Result<Result<(), Refusal>, DecodeError> {
        self.row.clear(number);
        let table = self.table;
        for field in table.fields.iter() {
            let Some(kind) = field.kind else { continue };
            let mut bytes = record.get(field.at..field.at + field.width).unwrap_or(&[]);
            if table.flag(record, field.null_bit) {
                self.row.push("", CellKind::Absent);
                continue;
            }
            if table.flag(record, field.short_bit) {
                let len = usize::from(bytes.last().copied().unwrap_or(0));
                bytes = bytes.get(..len).unwrap_or(bytes);
            }
            let (text, kind) = match kind {
                Kind::Memo => match self.memo(field, bytes)? {
                    Ok(cell) => cell,
                    Err(refusal) => return Ok(Err(refusal)),
                },
                kind => table.cell(kind, bytes),
            };
            if text.len() > self.limits.cell_bytes {
                let limit = self.limits.cell_bytes as u64;
                return Err(DecodeError::Limit { what: "单元格的字节数", limit });
            }
            self.total += text.len() as u64;
            if self.total > self.limits.inflated_bytes {
                let limit = self.limits.inflated_bytes;
                return Err(DecodeError::Limit { what: "报文解码后的字节数", limit });
            }
            self.row.push(&text, if text.is_empty() { CellKind::Absent } else { kind });
        }
        Ok(Ok(()))
    }

    /// The text a memo cell points at. Without the memo file a row is refused, unless the mapping
    /// does not ask for the column.
    fn memo(
        &mut self,
        field: &Field,
        bytes: &[u8],
    ) -> Result<Result<(String, CellKind), Refusal>, DecodeError> {
        let absent = Ok((String::new(), CellKind::Absent));
        let block = match <[u8; 4]>::try_from(bytes) {
            Ok(bytes) => u64::from(u32::from_le_bytes(bytes)),
            Err(_) => {
                let digits = String::from_utf8_lossy(bytes);
                match digits.trim_matches([' ', '\0']) {
                    "" => 0,
                    digits => match digits.parse() {
                        Ok(block) => block,
                        Err(_) => return Ok(Err(self.no_memo(field))),
                    },
                }
            }
        };
        let wanted = self.spec.known_headings.contains(&heading(&field.name));
        if block == 0 || (self.memo.is_none() && !wanted) {
            return Ok(absent);
        }
        match &mut self.memo {
            None => {
                let message = format!(
                    "列“{}”的内容在备注文件(.fpt或.dbt)里,报文只有数据表,没有备注文件",
                    field.name
                );
                Ok(Err((message, "请把数据表与同名的备注文件压缩成一个ZIP一起报送")))
            }
            Some(memo) => match memo.text(block, self.limits)? {
                Some(bytes) => Ok(Ok(self.table.text(&bytes))),
                None if wanted => Ok(Err(self.no_memo(field))),
                None => Ok(absent),
            },
        }
    }

    fn no_memo(&self, field: &Field) -> Refusal {
        let message =
            format!("列“{}”在备注文件里没有对应的内容,备注文件可能损坏或不配套", field.name);
        (message, "请在原系统中重新导出数据表与备注文件,一起压缩报送")
    }
}

impl Table {
    fn flag(&self, record: &[u8], bit: Option<usize>) -> bool {
        let (Some(bit), Some((from, to))) = (bit, self.flags) else { return false };
        let flags = record.get(from..to).unwrap_or(&[]);
        byte(flags, bit / 8) & (1 << (bit % 8)) != 0
    }

    fn cell(&self, kind: Kind, bytes: &[u8]) -> (String, CellKind) {
        match kind {
            Kind::Text | Kind::Memo => self.text(bytes),
            Kind::Number => {
                let (text, kind) = self.text(bytes);
                let text = text.trim().to_owned();
                let kind = match kind {
                    // A number too wide for its column is stored as asterisks.
                    _ if text.starts_with('*') => CellKind::Damaged,
                    CellKind::Text if text.parse::<f64>().is_ok() => CellKind::Number,
                    kind => kind,
                };
                (text, kind)
            }
            Kind::Date => {
                let (text, kind) = self.text(bytes);
                match date(&text) {
                    Some(date) => (date.to_string(), CellKind::Date),
                    None => (text, kind),
                }
            }
            Kind::Logical => match bytes {
                [b'T' | b't' | b'Y' | b'y'] => ("true".to_owned(), CellKind::Bool),
                [b'F' | b'f' | b'N' | b'n'] => ("false".to_owned(), CellKind::Bool),
                _ => (String::new(), CellKind::Absent),
            },
            Kind::Time => time(bytes),
            Kind::Integer => (i32::from_le_bytes(fixed(bytes)).to_string(), CellKind::Number),
            Kind::Double => {
                let number = f64::from_le_bytes(fixed(bytes));
                let kind = if number.is_finite() { CellKind::Number } else { CellKind::Damaged };
                (super::book::number_text(number), kind)
            }
            Kind::Currency => (currency(i64::from_le_bytes(fixed(bytes))), CellKind::Number),
        }
    }

    fn text(&self, bytes: &[u8]) -> (String, CellKind) {
        let (text, damaged) = self.encoding.decode_without_bom_handling(bytes);
        let text = text.trim_end_matches([' ', '\0']);
        (text.to_owned(), if damaged { CellKind::Damaged } else { CellKind::Text })
    }
}

/// `YYYYMMDD`, if it is a day.
fn date(text: &str) -> Option<Date> {
    let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    (digits && year > 0).then_some(date)
}

/// A Julian day and milliseconds of the day.
fn time(bytes: &[u8]) -> (String, CellKind) {
    let (day, millis) = bytes.split_at_checked(4).unwrap_or((&[], &[]));
    let (day, millis) = (i32::from_le_bytes(fixed(day)), i32::from_le_bytes(fixed(millis)));
    if day == 0 {
        return (String::new(), CellKind::Absent);
    }
    // FoxPro rounds to whole seconds by adding or leaving out a millisecond.
    let second = (i64::from(millis) + 500) / 1000;
    match Date::from_julian_day(day) {
        Ok(date) if (1..=9999).contains(&date.year()) && (0..86_400).contains(&second) => {
            let mut text = date.to_string();
            if second != 0 {
                let (hour, minute) = (second / 3600, second / 60 % 60);
                text.push_str(&format!(" {hour:02}:{minute:02}:{:02}", second % 60));
            }
            (text, CellKind::Date)
        }
        _ => (format!("{day}/{millis}"), CellKind::Damaged),
    }
}

/// Ten-thousandths as a decimal number.
fn currency(value: i64) -> String {
    let (whole, part) = (value.unsigned_abs() / 10_000, value.unsigned_abs() % 10_000);
    let text = format!("{}{whole}.{part:04}", if value < 0 { "-" } else { "" });
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Result<u64, DecodeError> {
    let part = bytes.get(at..at + len).ok_or_else(|| broken("DBF文件头不完整"))?;
    Ok(part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
