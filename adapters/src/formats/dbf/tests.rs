//! Tables of every family, honest and lying.

use std::io::Cursor;

use proptest::prelude::*;

use super::super::testing::{self, made_table};
use super::*;

fn spec() -> FormatSpec {
    FormatSpec { known_headings: vec!["BZ".to_owned()], ..FormatSpec::new(FormatKind::Dbf) }
}

/// Every type, three records of which one is deleted.
fn visual() -> Vec<u8> {
    let double = 2.5f64.to_le_bytes();
    let time = [2_457_492i32.to_le_bytes(), 32_700_000i32.to_le_bytes()].concat();
    let money = (-123_400i64).to_le_bytes();
    let cells: &[&[u8]] = &[
        &encoding_rs::GB18030.encode("样例公司").0,
        b"  12.50",
        b"20260110",
        b"T",
        &time,
        &(-7i32).to_le_bytes(),
        &double,
        &money,
        &[0; 4],
    ];
    let deleted: &[&[u8]] = &[b"gone"];
    let odd: &[&[u8]] = &[b"\x81", b"*******", b"00000000", b"?", &[0; 8], &[0; 4]];
    made_table(
        0x30,
        &[
            ("名称", 'C', 20),
            ("JE", 'N', 7),
            ("RQ", 'D', 8),
            ("SF", 'L', 1),
            ("SJ", 'T', 8),
            ("SL", 'I', 4),
            ("B", 'B', 8),
            ("Y", 'Y', 8),
            ("BZ", 'M', 4),
        ],
        &[(b' ', cells), (b'*', deleted), (b' ', odd)],
    )
}

#[test]
fn every_type_comes_out_as_written_and_deleted_records_do_not() {
    let (rows, end) = testing::decode(&spec(), &visual());
    end.unwrap();
    assert_eq!(
        rows,
        [
            "第1条 名称|名称=样例公司|JE=12.50:Number|RQ=2026-01-10:Date|SF=true:Bool\
             |SJ=2016-04-13 09:05:00:Date|SL=-7:Number|B=2.5:Number|Y=-12.34:Number|BZ",
            "第3条 名称|名称=\u{fffd}:Damaged|JE=*******:Damaged|RQ=00000000|SF|SJ\
             |SL=0:Number|B=0:Number|Y=0:Number|BZ",
        ]
    );
}

#[test]
fn memos_come_from_the_file_beside_the_table_or_the_row_says_what_is_missing() {
    let memo = "备注\r\n第二行";
    let text = encoding_rs::GB18030.encode(memo).0;
    let mut fpt = vec![0; 512];
    fpt[7] = 64;
    fpt.extend([0, 0, 0, 1, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
    fpt.extend_from_slice(&text);
    let mut dbt = vec![0; 512];
    dbt.extend_from_slice(&text);
    dbt.extend([0x1a, 0x1a]);
    let mut dbt4 = vec![0; 1024];
    dbt4[21] = 4;
    dbt4.extend([0xff, 0xff, 8, 0, u8::try_from(text.len() + 8).unwrap(), 0, 0, 0]);
    dbt4.extend_from_slice(&text);
    for (version, width, pointer, file) in [
        (0x30, 4, 8u32.to_le_bytes().to_vec(), fpt.clone()),
        (0xf5, 10, b"         8".to_vec(), fpt),
        (0x83, 10, b"         1".to_vec(), dbt),
        (0x8b, 10, b"         1".to_vec(), dbt4),
    ] {
        let cells: &[&[u8]] = &[b"1", &pointer];
        let bad: &[&[u8]] = &[b"2", &[b'9'; 10][..width]];
        let table = made_table(
            version,
            &[("WSH", 'C', 4), ("BZ", 'M', u8::try_from(width).unwrap())],
            &[(b' ', cells), (b' ', bad)],
        );
        let mut sink = testing::Sink::new(Limits::default(), usize::MAX);
        let mut file = Cursor::new(file);
        let limits = Limits::default();
        decode(&spec(), &mut Cursor::new(&table), Some(&mut file), &limits, &mut sink).unwrap();
        let row = format!("第1条 WSH|WSH=1|BZ={memo}");
        assert_eq!(sink.seen.told, [row.as_str(), "2!row.malformed"], "{version:#x}");

        let (rows, end) = testing::decode(&spec(), &table);
        end.unwrap();
        assert_eq!(rows, ["1!row.malformed", "2!row.malformed"]);
        let unwanted = FormatSpec::new(FormatKind::Dbf);
        assert_eq!(
            testing::decode(&unwanted, &table).0,
            ["第1条 WSH|WSH=1|BZ", "第2条 WSH|WSH=2|BZ"]
        );
    }
}

#[test]
fn null_and_short_cells_are_told_by_their_flags() {
    let table = made_table(
        0x32,
        &[("V", 'V', 5), ("I", 'I', 4), ("_NullFlags", '0', 1)],
        &[
            (b' ', &[b"ab\0\0\x02", &7i32.to_le_bytes(), &[0b001]]),
            (b' ', &[b"abcde", &[0; 4], &[0b100]]),
        ],
    );
    let (rows, end) = testing::decode(&spec(), &table);
    end.unwrap();
    assert_eq!(rows, ["第1条 V|V=ab|I=7:Number", "第2条 V|V=abcde|I"]);
}

#[test]
fn headers_that_lie_are_refused() {
    let good = visual();
    let lie = |at: usize, bytes: &[u8]| {
        let mut table = good.clone();
        table[at..at + bytes.len()].copy_from_slice(bytes);
        table
    };
    for (bytes, said) in [
        (Vec::new(), "不是DBF数据表"),
        (b"GIF89a".to_vec(), "不是DBF数据表"),
        (good[..40].to_vec(), "文件头不完整"),
        (lie(4, &4u32.to_le_bytes()), "只有3条"),
        (lie(4, &u32::MAX.to_le_bytes()), "只有3条"),
        (lie(4, &1u32.to_le_bytes()), "其后还有记录"),
        (lie(8, &[32, 0]), "不是DBF数据表"),
        (lie(10, &[0, 0]), "记录长度为零"),
        (lie(10, &[1, 0]), "记录长度为零"),
        (lie(10, &[30, 0]), "宽度与记录长度不符"),
        (lie(32, &[0x0d]), "没有列"),
        (lie(32 + 16, &[255]), "宽度与记录长度不符"),
        (lie(32 + 32 * 2 + 16, &[7]), "宽度与记录长度不符"),
    ] {
        let (rows, end) = testing::decode(&spec(), &bytes);
        let end = end.unwrap_err().to_string();
        assert!(rows.is_empty() && end.contains(said), "{said}: {end}");
    }
}

#[test]
fn texts_are_chinese_unless_the_table_or_the_mapping_says_otherwise() {
    for (mark, declared, text) in [
        (0u8, Encoding::Auto, encoding_rs::GB18030.encode("處罰").0),
        (0x03, Encoding::Auto, encoding_rs::GB18030.encode("處罰").0),
        (0x78, Encoding::Auto, encoding_rs::BIG5.encode("處罰").0),
        (0, Encoding::Utf8, encoding_rs::UTF_8.encode("處罰").0),
    ] {
        let mut table = made_table(0x03, &[("A", 'C', 8)], &[(b' ', &[&text])]);
        table[29] = mark;
        let spec = FormatSpec { encoding: declared, ..spec() };
        assert_eq!(testing::decode(&spec, &table).0, ["第1条 A|A=處罰"], "{mark}");
    }
}

proptest! {
    #[test]
    fn damage_ends_in_rows_or_an_error(at in 0usize..400, bytes in prop::collection::vec(any::<u8>(), 1..5)) {
        let mut table = visual();
        for (at, byte) in (at..).zip(bytes) {
            if let Some(slot) = table.get_mut(at) { *slot = byte; }
        }
        let _ = testing::decode(&spec(), &table);
    }
}
