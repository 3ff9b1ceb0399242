//! Workbooks, honest and hostile, made here.

use std::io::{Cursor, Write};

use cfb::CompoundFile;
use proptest::prelude::*;
use rust_xlsxwriter::{ExcelDateTime, Format as Style, Workbook as Writer};
use xinqiao_core::model::{FormatKind, FormatSpec, HeaderSpec};
use xinqiao_core::spi::DecodeError;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::testing::decode;

fn spec() -> FormatSpec {
    let known = ["名称", "文号", "日期", "金额"];
    FormatSpec {
        known_headings: known.map(str::to_owned).to_vec(),
        ..FormatSpec::new(FormatKind::Workbook)
    }
}

fn end_of(bytes: &[u8]) -> DecodeError {
    decode(&spec(), bytes).1.unwrap_err()
}

// ---- XLSX ---------------------------------------------------------------------------------------

/// A note row, the heading on row 2 from column B, dirt below.
fn xlsx(sheets: &[&str]) -> Vec<u8> {
    let mut book = Writer::new();
    let date = Style::new().set_num_format("yyyy/m/d");
    for name in sheets {
        let sheet = book.add_worksheet();
        sheet.set_name(*name).unwrap();
        sheet.write(0, 1, "本表由各单位填写,金额单位为万元").unwrap();
        for (column, heading) in (1u16..).zip(["名称", "文号 ", "日期", "金额"]) {
            sheet.write(1, column, heading).unwrap();
        }
        sheet.write(3, 1, "甲公司").unwrap();
        sheet.write(3, 2, 201_312_142.0).unwrap();
        let day = ExcelDateTime::from_ymd(2016, 4, 13).unwrap();
        sheet.write_with_format(3, 3, &day, &date).unwrap();
        sheet.write(3, 4, 0.300_000_000_000_000_04).unwrap();
        sheet.write(4, 1, "说明:以上各列均须按决定书原文填写").unwrap();
        sheet.write(5, 1, "乙公司").unwrap();
        let time = ExcelDateTime::from_ymd(2016, 4, 13).unwrap().and_hms(9, 5, 0).unwrap();
        sheet.write_with_format(5, 3, &time, &date).unwrap();
        sheet.write(5, 4, true).unwrap();
        sheet.write(5, 6, "多出的").unwrap();
    }
    book.save_to_buffer().unwrap()
}

#[test]
fn a_sheet_without_a_heading_is_told_of() {
    let mut book = Writer::new();
    let mut add = |name: &str, rows: &[&[&str]]| {
        let sheet = book.add_worksheet();
        sheet.set_name(name).unwrap();
        for (at, cells) in (0u32..).zip(rows) {
            for (column, text) in (0u16..).zip(*cells) {
                sheet.write(at + 2, column, *text).unwrap();
            }
        }
    };
    add("处罚", &[&["名称", "文号"], &["甲", "1"]]);
    add("处罚(续)", &[&["乙", "2"], &["丙", "3"]]);
    add("空", &[]);
    add("填表说明", &[&["各列均须填写"], &["不要合并单元格"]]);
    let bytes = book.save_to_buffer().unwrap();
    let (rows, end) = decode(&spec(), &bytes);
    end.unwrap();
    assert_eq!(rows, ["A4|名称=甲|文号=1", "3!row.malformed", "3!row.instruction"]);
    let named = FormatSpec { sheet: Some("处罚".to_owned()), ..spec() };
    assert_eq!(decode(&named, &bytes).0.len(), 1);
}

#[test]
fn a_real_shape_comes_out_as_rows() {
    let (rows, end) = decode(&spec(), &xlsx(&["处罚"]));
    end.unwrap();
    assert_eq!(
        rows,
        [
            "B4|名称=甲公司|文号=201312142:Number|日期=2016-04-13:Date|金额=0.3:Number",
            "5!row.instruction",
            "B6|名称=乙公司|文号|日期=2016-04-13 09:05:00:Date|金额=true:Bool|列G=多出的",
        ]
    );
}

#[test]
fn every_sheet_with_a_heading_is_read_and_named_and_one_can_be_chosen() {
    let bytes = xlsx(&["处罚", "许可"]);
    let (rows, end) = decode(&spec(), &bytes);
    end.unwrap();
    assert_eq!(rows.len(), 6);
    assert!(rows[0].starts_with("处罚!B4|") && rows[3].starts_with("许可!B4|"), "{rows:?}");
    let one = FormatSpec { sheet: Some("许可".to_owned()), header: HeaderSpec::Row(2), ..spec() };
    let (rows, end) = decode(&one, &bytes);
    end.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows[0].starts_with("B4|"));
    let none = FormatSpec { sheet: Some("奖励".to_owned()), ..spec() };
    assert!(matches!(decode(&none, &bytes).1, Err(DecodeError::NoSheet(_))));
    let blank = FormatSpec { header: HeaderSpec::Row(3), ..spec() };
    assert!(matches!(decode(&blank, &bytes).1, Err(DecodeError::NoHeading)));
}

/// A minimal XLSX around this sheet, with another entry if wanted.
fn package(sheet: &[u8], extra: Option<(&str, &[u8])>) -> Vec<u8> {
    const REL: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let root = format!(
        "<Relationships><Relationship Id=\"a\" Type=\"{REL}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
    );
    let rels = format!(
        "<Relationships><Relationship Id=\"a\" Type=\"{REL}/worksheet\" Target=\"worksheets/sheet1.xml\"/></Relationships>"
    );
    let book = format!(
        "<workbook xmlns:r=\"{REL}\"><sheets><sheet name=\"S\" sheetId=\"1\" r:id=\"a\"/></sheets></workbook>"
    );
    let parts = [
        ("_rels/.rels", root.as_bytes()),
        ("xl/_rels/workbook.xml.rels", rels.as_bytes()),
        ("xl/workbook.xml", book.as_bytes()),
        ("xl/worksheets/sheet1.xml", sheet),
    ];
    for (name, bytes) in parts.into_iter().chain(extra) {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn sheet(cells: &str) -> String {
    format!("<worksheet><sheetData>{cells}</sheetData></worksheet>")
}

fn text(at: &str, text: &str) -> String {
    format!("<c r=\"{at}\" t=\"inlineStr\"><is><t>{text}</t></is></c>")
}

#[test]
fn a_cell_in_the_far_corner_costs_nothing_and_is_refused() {
    let heading = format!("<row r=\"1\">{}{}</row>", text("A1", "名称"), text("B1", "文号"));
    let good = sheet(&format!("{heading}<row r=\"2\">{}</row>", text("A2", "甲")));
    assert_eq!(decode(&spec(), &package(good.as_bytes(), None)).0, ["A2|名称=甲|文号"]);
    let far = text("XFD1048576", "乙");
    let far = sheet(&format!("{heading}<row r=\"1048576\">{far}</row>"));
    assert!(matches!(
        end_of(&package(far.as_bytes(), None)),
        DecodeError::Limit { what: "列数", .. }
    ));
    let claim = good.replace("<sheetData>", "<dimension ref=\"A1:XFD1048576\"/><sheetData>");
    assert_eq!(decode(&spec(), &package(claim.as_bytes(), None)).0, ["A2|名称=甲|文号"]);
}

#[test]
fn bombs_doctypes_and_slipping_paths_are_refused() {
    let good = sheet("");
    // Many small cells: only the ratio shows it.
    let bomb = sheet(&"<c/>".repeat(12_000_000));
    assert!(matches!(
        end_of(&package(bomb.as_bytes(), None)),
        DecodeError::Limit { what: "压缩倍数", .. }
    ));
    // One long text, one long comment full of brackets, one long attribute.
    for long in [
        text("A1", &"9".repeat(3 << 20)),
        format!("<!--{}-->", "<>".repeat(3 << 19)),
        format!("<c r=\"{}\"/>", "<".repeat(3 << 20)),
    ] {
        assert!(matches!(
            end_of(&package(sheet(&long).as_bytes(), None)),
            DecodeError::Limit { what: "单元格的字节数", .. }
        ));
    }
    let doctype = format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{good}");
    assert!(matches!(end_of(&package(doctype.as_bytes(), None)), DecodeError::Forbidden(_)));
    for name in ["../evil.xml", "/etc/evil", "xl\\..\\evil", "xl/../../evil", "C:/evil"] {
        let bytes = package(good.as_bytes(), Some((name, b"x")));
        assert!(matches!(end_of(&bytes), DecodeError::Forbidden(_)), "{name}");
    }
    let styles =
        format!("<styleSheet><cellXfs>{}</cellXfs></styleSheet>", "<xf/>".repeat(1_100_000));
    let bytes = package(good.as_bytes(), Some(("xl/styles.xml", styles.as_bytes())));
    assert!(matches!(end_of(&bytes), DecodeError::Limit { .. }));
}

#[test]
fn what_is_no_workbook_is_told_apart() {
    for bytes in [&b""[..], b"<html><table>", b"a,b\n1,2", b"PK\x05\x06"] {
        assert!(decode(&spec(), bytes).1.is_err());
    }
    assert!(matches!(end_of(b"<html><table>"), DecodeError::WrongFormat { .. }));
    let bytes = xlsx(&["处罚"]);
    assert!(matches!(end_of(&bytes[..bytes.len() / 2]), DecodeError::Malformed { .. }));
    let unheaded = package(sheet("<row r=\"1\"/>").as_bytes(), None);
    assert!(matches!(end_of(&unheaded), DecodeError::NoHeading));
}

// ---- XLS ----------------------------------------------------------------------------------------

fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend(u16::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn label(row: u16, column: u16, text: &str) -> Vec<u8> {
    let chars = u16::try_from(text.encode_utf16().count()).unwrap();
    record(0x0204, &[words(&[row, column, 0, chars]), vec![1], wide(text)].concat())
}

fn number(row: u16, column: u16, format: u16, value: f64) -> Vec<u8> {
    record(0x0203, &[words(&[row, column, format]), value.to_le_bytes().to_vec()].concat())
}

/// A formula with its last result and an expression of one unknown token.
fn formula(row: u16, column: u16, result: [u8; 8]) -> Vec<u8> {
    record(
        0x0006,
        &[words(&[row, column, 0]), result.to_vec(), vec![0; 6], words(&[1]), vec![0xff]].concat(),
    )
}

/// A compound file of one BIFF8 sheet; `globals` are put before the sheet's name.
fn xls(globals: &[u8], cells: &[u8]) -> Vec<u8> {
    let bof = |kind| record(0x0809, &words(&[0x0600, kind, 0, 0, 0, 0, 0, 0]));
    let name = wide("许可");
    let mut head = [bof(5), globals.to_vec()].concat();
    let offset = head.len() + 4 + 8 + name.len() + 4;
    let sheet = [u32::try_from(offset).unwrap().to_le_bytes().to_vec(), vec![0, 0, 2, 1], name];
    head.extend(record(0x0085, &sheet.concat()));
    head.extend(record(0x000a, &[]));
    let stream = [head, bof(16), cells.to_vec(), record(0x000a, &[])].concat();
    let mut file = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
    file.create_stream("/Workbook").unwrap().write_all(&stream).unwrap();
    file.flush().unwrap();
    file.into_inner().into_inner()
}

fn good_xls() -> Vec<u8> {
    // XF 0 is plain, XF 1 a date (number format 14).
    let xf = |format| record(0x00e0, &[words(&[0, format]), vec![0; 16]].concat());
    let mut text = vec![0; 8];
    text[6..].fill(0xff);
    let cells = [
        label(0, 0, "名称"),
        label(0, 1, "日期"),
        label(0, 2, "金额"),
        label(1, 0, "甲公司"),
        number(1, 1, 1, 42473.0),
        formula(1, 2, 0.2f64.to_le_bytes()),
        formula(2, 0, text.try_into().unwrap()),
        record(0x0207, &[words(&[3]), vec![1], wide("乙公司")].concat()),
        formula(2, 1, [2, 0, 0x2a, 0, 0, 0, 0xff, 0xff]),
        formula(2, 2, [1, 0, 1, 0, 0, 0, 0xff, 0xff]),
    ];
    xls(&[xf(0), xf(14)].concat(), &cells.concat())
}

#[test]
fn old_workbooks_give_values_dates_and_the_last_results_of_formulas() {
    let (rows, end) = decode(&spec(), &good_xls());
    end.unwrap();
    assert_eq!(
        rows,
        [
            "A2|名称=甲公司|日期=2016-04-13:Date|金额=0.2:Number",
            "A3|名称=乙公司|日期=#N/A|金额=true:Bool",
        ]
    );
}

#[test]
fn old_workbooks_that_lie_are_refused_or_seen_through() {
    let heading = [label(0, 0, "名称"), label(0, 1, "文号"), label(1, 0, "甲")].concat();
    // DIMENSIONS of everything, of nothing, and upside down change nothing.
    for claim in [[0, 0xffff, 0, 0x4000], [9, 1, 9, 1], [0xffff, 0, 0xff, 0]] {
        let [top, bottom, left, right] = claim;
        let dimensions = record(0x0200, &words(&[top, 0, bottom, 0, left, right, 0]));
        let (rows, end) = decode(&spec(), &xls(&[], &[dimensions, heading.clone()].concat()));
        end.unwrap();
        assert_eq!(rows, ["A2|名称=甲|文号"]);
    }
    let corner = [heading.clone(), number(0xffff, 0x3fff, 0, 1.0)].concat();
    assert!(matches!(end_of(&xls(&[], &corner)), DecodeError::Limit { .. }));
    let password = record(0x002f, &words(&[0, 1, 2]));
    assert!(matches!(end_of(&xls(&password, &heading)), DecodeError::Forbidden(_)));
    // One text of 4,000 characters named by 40,000 cells.
    let shared = [words(&[1, 0, 1, 0]), words(&[4_000]), vec![0], vec![b'x'; 4_000]].concat();
    let cells: Vec<u8> =
        (0..40_000u16).flat_map(|row| record(0x00fd, &words(&[row, 0, 0, 0, 0]))).collect();
    assert!(matches!(
        end_of(&xls(&record(0x00fc, &shared), &cells)),
        DecodeError::Limit { what: "XLS文字的字节数", .. }
    ));
    for short in [record(0x0203, &[0; 6]), record(0x00bd, &words(&[0, 5, 0, 0, 0, 4]))] {
        let cells = [heading.clone(), short].concat();
        assert!(matches!(end_of(&xls(&[], &cells)), DecodeError::Malformed { .. }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_damage_makes_a_workbook_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        raw in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let part = sheet(&format!("<row r=\"1\">{}</row>", text("A1", "名称")));
        for good in [good_xls(), package(part.as_bytes(), None)] {
            let mut bytes = good;
            for (at, byte) in &changes {
                let ix = at.index(bytes.len());
                bytes[ix] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let _ = decode(&spec(), &bytes);
        }
        // Past the container: damaged records and XML.
        let _ = decode(&spec(), &xls(&[], &raw));
        let mut part = part.into_bytes();
        for (at, byte) in &changes {
            let ix = at.index(part.len());
            part[ix] = *byte;
        }
        let _ = decode(&spec(), &package(&part, None));
    }
}
