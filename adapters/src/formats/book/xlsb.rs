//! XLSB: an XLSX whose parts are binary records. Source: \[MS-XLSB\].
//!
//! Our own reader: calamine indexes records unchecked and ends at names and formulas it does not
//! know. Here a record that is too short for what it says it holds ends the reading with an error,
//! and formulas are not looked at: their last result stands beside them.

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;

use calamine::{CellErrorType, DataRef, ExcelDateTime, ExcelDateTimeType};
use encoding_rs::UTF_16LE;
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};
use xinqiao_core::spi::{DecodeError, Limits};

use super::super::guard::{Archive, broken, zip_fault};
use super::{Go, Rows};

const MAX_SHEETS: usize = 1_024;
/// A part read whole into memory was measured by the guard; this is of its parsed form.
const MAX_STYLES: usize = 1_000_000;

/// An open workbook: what its cells refer to.
pub(in super::super) struct Xlsb<'a> {
    zip: Archive<'a>,
    /// Name, part, whether it is visible.
    sheets: Vec<(String, String, bool)>,
    texts: Texts,
    /// What the number format of each style makes of a number.
    styles: Vec<Look>,
    since_1904: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Number,
    Date,
    Duration,
}

/// Shared texts in one allocation.
#[derive(Default)]
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Texts {
    fn get(&self, ix: usize) -> Option<&str> {
        let start = ix.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.all.get(start..*self.ends.get(ix)?)
    }
}

impl<'a> Xlsb<'a> {
    /// Reads what cells refer to.
    pub(super) fn open(mut zip: Archive<'a>, limits: &Limits) -> Result<Self, DecodeError> {
        let parts = relations(&mut zip)?;
        let (mut sheets, mut since_1904) = (Vec::new(), false);
        each_record(&mut zip, "xl/workbook.bin", limits, &mut |kind, body| {
            match kind {
                WB_PROP => since_1904 = body.u32(0)? & 1 != 0,
                BUNDLE_SH => {
                    let (relation, rest) = body.wide(8)?;
                    let (name, _) = Body(rest).wide(0)?;
                    // Chart sheets have no cells; a sheet without a part has none either.
                    if let Some(part) = parts.get(&relation) {
                        sheets.push((name, part.clone(), body.u32(0)? == 0));
                    }
                    if sheets.len() > MAX_SHEETS {
                        let limit = MAX_SHEETS as u64;
                        return Err(DecodeError::Limit { what: "工作表数", limit });
                    }
                }
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let styles = styles(&mut zip, limits)?;
        let mut texts = Texts::default();
        let shared = zip.index_for_name("xl/sharedStrings.bin").is_some();
        let mut take = |kind, body: Body<'_>| {
            if kind == SST_ITEM {
                texts.all.push_str(&body.wide(1)?.0);
                texts.ends.push(texts.all.len());
            }
            Ok(ControlFlow::Continue(()))
        };
        if shared {
            each_record(&mut zip, "xl/sharedStrings.bin", limits, &mut take)?;
        }
        Ok(Self { zip, sheets, texts, styles, since_1904 })
    }

    /// Name and whether it is visible.
    pub(super) fn sheets(&self) -> impl Iterator<Item = (&str, bool)> {
        self.sheets.iter().map(|(name, _, visible)| (name.as_str(), *visible))
    }

    /// Gives every filled cell of a sheet.
    pub(super) fn rows(
        &mut self,
        sheet: &str,
        limits: &Limits,
        rows: &mut Rows<'_, '_>,
    ) -> Result<(), DecodeError> {
        let part = self.sheets.iter().find(|(name, _, _)| name == sheet);
        let part = part.map(|(_, part, _)| part.clone()).unwrap_or_default();
        let (texts, styles, since_1904) = (&self.texts, &self.styles, self.since_1904);
        let (mut inside, mut row, mut column) = (false, 0, 0u32);
        each_record(&mut self.zip, &part, limits, &mut |kind, body| {
            match kind {
                BEGIN_SHEET_DATA => inside = true,
                END_SHEET_DATA => return Ok(ControlFlow::Break(())),
                ROW_HDR if inside => {
                    let next = body.u32(0)?;
                    if next > LAST_ROW {
                        return Err(short());
                    }
                    (row, column) = (next, 0);
                }
                1..=18 if inside => {
                    // A short cell stands to the right of the one before it.
                    let (kind, at) = if kind > 11 { (kind - 11, 4) } else { (kind, 8) };
                    column = if at == 4 { column.saturating_add(1) } else { body.u32(0)? };
                    let style = body.u32(at - 4)? & 0x00ff_ffff;
                    let look = usize::try_from(style).ok().and_then(|ix| styles.get(ix));
                    let number = |number| match look {
                        Some(Look::Date) => DataRef::DateTime(ExcelDateTime::new(
                            number,
                            ExcelDateTimeType::DateTime,
                            since_1904,
                        )),
                        Some(Look::Duration) => DataRef::DateTime(ExcelDateTime::new(
                            number,
                            ExcelDateTimeType::TimeDelta,
                            since_1904,
                        )),
                        _ => DataRef::Float(number),
                    };
                    let value = match kind {
                        2 => number(rk(body.u32(at)?)),
                        3 | 11 => error(body.byte(at)?),
                        4 | 10 => DataRef::Bool(body.byte(at)? != 0),
                        5 | 9 => number(f64::from_le_bytes(body.bytes(at)?)),
                        6 | 8 => DataRef::String(body.wide(at)?.0),
                        7 => {
                            let ix = usize::try_from(body.u32(at)?).unwrap_or(usize::MAX);
                            DataRef::SharedString(texts.get(ix).ok_or_else(short)?)
                        }
                        _ => return Ok(ControlFlow::Continue(())),
                    };
                    return rows.cell(row, column, &value);
                }
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        })
    }
}

const ROW_HDR: u16 = 0;
const SST_ITEM: u16 = 19;
const FMT: u16 = 44;
const XF: u16 = 47;
const BEGIN_SHEET_DATA: u16 = 145;
const END_SHEET_DATA: u16 = 146;
const WB_PROP: u16 = 153;
const BUNDLE_SH: u16 = 156;
const BEGIN_CELL_XFS: u16 = 617;
const END_CELL_XFS: u16 = 618;
const LAST_ROW: u32 = 1_048_575;

fn short() -> DecodeError {
    broken("XLSB记录不合规范,文件可能已损坏")
}

/// A record's content.
#[derive(Clone, Copy)]
struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    fn bytes<const N: usize>(self, at: usize) -> Result<[u8; N], DecodeError> {
        let bytes = at.checked_add(N).and_then(|end| self.0.get(at..end)).ok_or_else(short)?;
        bytes.try_into().map_err(|_| short())
    }

    fn byte(self, at: usize) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.bytes(at)?))
    }

    fn u16(self, at: usize) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.bytes(at)?))
    }

    fn u32(self, at: usize) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.bytes(at)?))
    }

    /// A text with its length before it (all ones: none), and what follows.
    fn wide(self, at: usize) -> Result<(String, &'b [u8]), DecodeError> {
        let len = match self.u32(at)? {
            u32::MAX => 0,
            len => usize::try_from(len).unwrap_or(usize::MAX).saturating_mul(2),
        };
        let rest = self.0.get(at + 4..).ok_or_else(short)?;
        let (text, rest) = rest.split_at_checked(len).ok_or_else(short)?;
        Ok((UTF_16LE.decode_without_bom_handling(text).0.into_owned(), rest))
    }
}

/// Hands over each record of a part until told to stop. Of those longer than a cell may be, only
/// what cannot hold a text is passed over.
fn each_record(
    zip: &mut Archive<'_>,
    part: &str,
    limits: &Limits,
    each: &mut dyn FnMut(u16, Body<'_>) -> Go,
) -> Result<(), DecodeError> {
    let mut input = BufReader::with_capacity(32 << 10, zip.by_name(part).map_err(zip_fault)?);
    // In UTF-16, with room for what else such a record holds.
    let most = limits.cell_bytes.saturating_mul(2).saturating_add(1 << 10);
    let mut body = Vec::new();
    let fault = |_: io::Error| short();
    while !input.fill_buf().map_err(fault)?.is_empty() {
        let kind = u16::try_from(varint(&mut input, 2)?).map_err(|_| short())?;
        let len = varint(&mut input, 4)?;
        body.clear();
        if len > most {
            if kind <= SST_ITEM {
                let limit = limits.cell_bytes as u64;
                return Err(DecodeError::Limit { what: "单元格的字节数", limit });
            }
            let passed = io::copy(&mut Read::take(&mut input, len as u64), &mut io::sink());
            if passed.map_err(fault)? != len as u64 {
                return Err(short());
            }
            continue;
        }
        Read::take(&mut input, len as u64).read_to_end(&mut body).map_err(fault)?;
        if body.len() != len {
            return Err(short());
        }
        if each(kind, Body(&body))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Seven bits a byte, the lowest first; the eighth says that another follows.
fn varint(input: &mut impl Read, most: u32) -> Result<usize, DecodeError> {
    let mut value = 0;
    for nth in 0..most {
        let mut byte = [0];
        input.read_exact(&mut byte).map_err(|_| short())?;
        let [byte] = byte;
        value |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// Worksheet parts by their relation's id.
fn relations(zip: &mut Archive<'_>) -> Result<HashMap<String, String>, DecodeError> {
    let part = zip.by_name("xl/_rels/workbook.bin.rels").map_err(zip_fault)?;
    let mut reader = Reader::from_reader(BufReader::new(part));
    let (mut parts, mut buf) = (HashMap::new(), Vec::new());
    loop {
        buf.clear();
        let event = reader.read_event_into(&mut buf).map_err(|_| short())?;
        let (Event::Start(tag) | Event::Empty(tag)) = event else {
            if matches!(event, Event::Eof) {
                return Ok(parts);
            }
            continue;
        };
        let (mut id, mut target, mut is_sheet) = (String::new(), String::new(), false);
        for attribute in tag.attributes() {
            let attribute = attribute.map_err(|_| short())?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| short())?;
            match attribute.key.as_ref() {
                "Id" => id = value.into_owned(),
                "Target" => target = value.into_owned(),
                "Type" => is_sheet = value.ends_with("/worksheet"),
                _ => {}
            }
        }
        if is_sheet && parts.len() < MAX_SHEETS {
            let part = match target.strip_prefix('/') {
                Some(whole) => whole.to_owned(),
                None => format!("xl/{target}"),
            };
            parts.insert(id, part);
        }
    }
}

/// The look of each cell style.
fn styles(zip: &mut Archive<'_>, limits: &Limits) -> Result<Vec<Look>, DecodeError> {
    let (mut dates, mut durations) = (HashSet::new(), HashSet::new());
    let (mut styles, mut inside) = (Vec::new(), false);
    if zip.index_for_name("xl/styles.bin").is_none() {
        return Ok(styles);
    }
    each_record(zip, "xl/styles.bin", limits, &mut |kind, body| {
        match kind {
            FMT => {
                let (id, (code, _)) = (body.u16(0)?, body.wide(2)?);
                match look_of(&code) {
                    Look::Date => drop(dates.insert(id)),
                    Look::Duration => drop(durations.insert(id)),
                    Look::Number => {}
                }
            }
            BEGIN_CELL_XFS => inside = true,
            END_CELL_XFS => return Ok(ControlFlow::Break(())),
            XF if inside => {
                styles.push(match body.u16(2)? {
                    // Those that every Excel has, the Chinese ones among them.
                    46 => Look::Duration,
                    14..=22 | 27..=36 | 45 | 47 | 50..=58 => Look::Date,
                    id if dates.contains(&id) => Look::Date,
                    id if durations.contains(&id) => Look::Duration,
                    _ => Look::Number,
                });
                if styles.len() > MAX_STYLES {
                    let limit = MAX_STYLES as u64;
                    return Err(DecodeError::Limit {
                        what: "工作簿的样式或共享文字的个数", limit
                    });
                }
            }
            _ => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(styles)
}

/// What a number format of one's own shows: letters of dates outside quotes, escapes and brackets.
fn look_of(code: &str) -> Look {
    let (mut quoted, mut escaped, mut bracket) = (false, false, None::<String>);
    for c in code.chars().map(|c| c.to_ascii_lowercase()) {
        match (c, &mut bracket) {
            _ if std::mem::take(&mut escaped) => {}
            ('"', _) => quoted = !quoted,
            _ if quoted => {}
            ('\\' | '_' | '*', None) => escaped = true,
            ('[', None) => bracket = Some(String::new()),
            (']', Some(inside)) => {
                let elapsed = |letter| inside.chars().all(|c| c == letter) && !inside.is_empty();
                if elapsed('h') || elapsed('m') || elapsed('s') {
                    return Look::Duration;
                }
                bracket = None;
            }
            (c, Some(inside)) => inside.push(c),
            // Of the first form only: the others are for negative numbers and zero.
            (';', None) => return Look::Number,
            ('y' | 'm' | 'd' | 'h' | 's', None) => return Look::Date,
            _ => {}
        }
    }
    Look::Number
}

#[expect(clippy::float_arithmetic, reason = "a number stored in hundredths")]
fn rk(bits: u32) -> f64 {
    let number = match bits & 2 {
        0 => f64::from_bits(u64::from(bits & !3) << 32),
        _ => f64::from(i32::from_le_bytes(bits.to_le_bytes()) >> 2),
    };
    if bits & 1 == 0 { number } else { number / 100.0 }
}

fn error(code: u8) -> DataRef<'static> {
    DataRef::Error(match code {
        0x00 => CellErrorType::Null,
        0x07 => CellErrorType::Div0,
        0x0f => CellErrorType::Value,
        0x17 => CellErrorType::Ref,
        0x1d => CellErrorType::Name,
        0x24 => CellErrorType::Num,
        0x2b => CellErrorType::GettingData,
        _ => CellErrorType::NA,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xinqiao_core::model::{FormatKind, FormatSpec};

    use super::super::super::testing::{self, made_zip};
    use super::*;

    fn spec() -> FormatSpec {
        let known = ["名称", "文号", "日期"].map(str::to_owned).to_vec();
        FormatSpec { known_headings: known, ..FormatSpec::new(FormatKind::Workbook) }
    }

    fn record(kind: u16, body: &[u8]) -> Vec<u8> {
        let low = u8::try_from(kind & 0x7f).unwrap();
        let mut bytes = match kind {
            0..=127 => vec![low],
            _ => vec![low | 0x80, u8::try_from(kind >> 7).unwrap()],
        };
        let len = body.len();
        bytes.extend([u8::try_from(len & 0x7f).unwrap() | 0x80, u8::try_from(len >> 7).unwrap()]);
        bytes.extend_from_slice(body);
        bytes
    }

    fn wide(text: &str) -> Vec<u8> {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut bytes = u32::try_from(units.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes
    }

    fn cell(kind: u16, column: u32, style: u32, value: &[u8]) -> Vec<u8> {
        record(kind, &[&column.to_le_bytes(), &style.to_le_bytes(), value].concat())
    }

    /// A hidden sheet and a visible one of the same part.
    fn xlsb(cells: &[Vec<u8>]) -> Vec<u8> {
        let sheet = |state: u32, name: &str| {
            let body = [&state.to_le_bytes()[..], &[1, 0, 0, 0], &wide("r1"), &wide(name)].concat();
            record(BUNDLE_SH, &body)
        };
        let workbook = [record(WB_PROP, &[0; 12]), sheet(1, "码"), sheet(0, "表")].concat();
        let rels = "<Relationships><Relationship Id='r1' Type='x/worksheet' \
                    Target='worksheets/sheet1.bin'/></Relationships>";
        let xf = |id: u16| record(XF, &[[0, 0], id.to_le_bytes()].concat());
        let styles = [
            record(FMT, &[&200u16.to_le_bytes()[..], &wide("yyyy\"年\"m\"月\"")].concat()),
            record(BEGIN_CELL_XFS, &[0; 4]),
            xf(0),
            xf(14),
            xf(200),
            record(END_CELL_XFS, &[]),
        ];
        let texts = ["名称", "文号", "日期", "甲公司"];
        let texts = texts.map(|text| record(SST_ITEM, &[&[0], &wide(text)[..]].concat()));
        let heading = (0u32..3).map(|ix| cell(7, ix, 0, &ix.to_le_bytes()));
        let mut sheet = [record(BEGIN_SHEET_DATA, &[]), record(ROW_HDR, &[0; 17])].concat();
        sheet.extend(heading.flatten());
        sheet.extend(record(ROW_HDR, &[&3u32.to_le_bytes()[..], &[0; 13]].concat()));
        sheet.extend(cells.concat());
        sheet.extend(record(END_SHEET_DATA, &[]));
        made_zip(&[
            ("[Content_Types].xml", b"<Types/>"),
            ("xl/workbook.bin", &workbook),
            ("xl/_rels/workbook.bin.rels", rels.as_bytes()),
            ("xl/styles.bin", &styles.concat()),
            ("xl/sharedStrings.bin", &texts.concat()),
            ("xl/worksheets/sheet1.bin", &sheet),
        ])
    }

    #[test]
    fn cells_of_every_kind_come_out() {
        let day = 42_473.0f64.to_le_bytes();
        let cells = [
            cell(7, 0, 0, &3u32.to_le_bytes()),
            // 12345 in hundredths; then to its right, a text.
            cell(2, 1, 0, &((12_345 << 2) | 3u32).to_le_bytes()),
            record(17, &[&0u32.to_le_bytes()[..], &wide("右")].concat()),
            record(ROW_HDR, &[&4u32.to_le_bytes()[..], &[0; 13]].concat()),
            cell(6, 0, 0, &wide("乙")),
            cell(4, 1, 0, &[1]),
            cell(5, 2, 1, &day),
            record(ROW_HDR, &[&5u32.to_le_bytes()[..], &[0; 13]].concat()),
            cell(8, 0, 0, &wide("算出")),
            cell(11, 1, 0, &[0x07]),
            cell(9, 2, 2, &day),
            cell(1, 5, 0, &[]),
        ];
        let (rows, end) = testing::decode(&spec(), &xlsb(&cells));
        end.unwrap();
        assert_eq!(
            rows,
            [
                "A4|名称=甲公司|文号=123.45:Number|日期=右",
                "A5|名称=乙|文号=true:Bool|日期=2016-04-13:Date",
                "A6|名称=算出|文号=#DIV/0!|日期=2016-04-13:Date",
            ]
        );
        let hidden = FormatSpec { sheet: Some("码".into()), ..spec() };
        assert_eq!(testing::decode(&hidden, &xlsb(&cells)).0.len(), 3);
    }

    #[test]
    fn formats_tell_dates_from_numbers() {
        for (code, look) in [
            ("General", Look::Number),
            ("0.00_ ;[Red]-0.00", Look::Number),
            ("\"day\"0", Look::Number),
            ("\\d0", Look::Number),
            ("yyyy/m/d;@", Look::Date),
            ("[$-804]yyyy\"年\"", Look::Date),
            ("[h]:mm", Look::Duration),
        ] {
            assert_eq!(look_of(code), look, "{code}");
        }
    }

    #[test]
    fn records_that_lie_are_refused() {
        for cells in [
            vec![cell(7, 0, 0, &9u32.to_le_bytes())],
            vec![cell(7, 0, 0, &[])],
            vec![cell(6, 0, 0, &u32::to_le_bytes(1 << 30))],
            vec![record(5, &[])],
            vec![record(ROW_HDR, &u32::MAX.to_le_bytes())],
            vec![vec![6, 0xff, 0xff, 0xff, 0x7f]],
            vec![cell(6, 70_000, 0, &wide("x"))],
        ] {
            let (rows, end) = testing::decode(&spec(), &xlsb(&cells));
            assert!(rows.is_empty() && end.is_err(), "{end:?}");
        }
    }

    proptest! {
        #[test]
        fn damage_ends_in_rows_or_an_error(kind in 0u16..20, body in prop::collection::vec(any::<u8>(), 0..30)) {
            let cells = [record(kind, &body), cell(6, 0, 0, &wide("乙"))];
            let _ = testing::decode(&spec(), &xlsb(&cells));
        }
    }
}
