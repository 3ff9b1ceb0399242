//! Bytes → rows: one file per family of formats, and the registry.

mod archive;
mod biff;
mod book;
mod dbf;
mod delimited;
mod finding;
mod fixed;
mod guard;
mod header;
mod json;
mod sniff;
#[cfg(test)]
mod testing;
mod text;
pub(crate) mod unwrap;
mod workbook;
#[cfg(test)]
mod workbook_tests;
mod xml;

use xinqiao_core::model::{FormatKind, FormatSpec};
use xinqiao_core::spi::{DecodeError, Format, Limits, ReadSeek, RowSink, ScratchSpace};

pub use sniff::{Sniffed, sniff};

/// Every family.
pub const FORMATS: &[&dyn Format] =
    &[&delimited::Delimited, &fixed::Fixed, &workbook::Workbook, &dbf::Dbf, &xml::Xml, &json::Json];

/// The decoder of a kind.
pub fn find(kind: FormatKind) -> Option<&'static dyn Format> {
    FORMATS.iter().copied().find(|format| format.kinds().contains(&kind))
}

/// Decodes a message as `spec` says: every row into `sink`. Blocking. A ZIP of such messages is
/// opened, and each row tells the member it stands in. What has to be held meanwhile is held in
/// `scratch`.
pub fn decode(
    spec: &FormatSpec,
    input: &mut dyn ReadSeek,
    limits: &Limits,
    scratch: ScratchSpace<'_>,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    if let Some(zip) = archive::open(input)? {
        return archive::decode(zip, spec, limits, scratch, sink);
    }
    one(spec, input, limits, scratch, sink)
}

/// Decodes one message that is no archive.
fn one(
    spec: &FormatSpec,
    input: &mut dyn ReadSeek,
    limits: &Limits,
    scratch: ScratchSpace<'_>,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    if let Some(unwrap) = &spec.unwrap {
        return unwrap::decode(unwrap, spec, input, limits, scratch, sink);
    }
    let Some(format) = find(spec.kind) else {
        let detail = "没有对应的解码器".to_owned();
        return Err(DecodeError::WrongFormat { expected: "可识别的格式", detail });
    };
    format.decode(spec, input, limits, sink)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use proptest::prelude::*;
    use xinqiao_core::model::{Encoding, FormatSpec};
    use xinqiao_core::spi::{DecodeError, Limits};

    use super::*;

    fn decode(kind: FormatKind, bytes: &[u8]) -> (Vec<String>, Result<(), DecodeError>) {
        testing::decode(&FormatSpec::new(kind), bytes)
    }

    const CSV: &str = "填表说明\r\n名称 ,文号,日期\r\n\r\n甲,\"一\r\n二\",=\"001\"\r\n乙,1,2,3\r\n名称 ,文号,日期\r\n丙,3,4";
    const XML: &str =
        "<DATAS><DATA id=\"1\"><a>x &amp; y</a><b/><c><d>1</d><d>2</d></c></DATA></DATAS>";
    const JSON: &str = r#"[{"a":18.50,"b":null,"c":{"d":["x","y"]},"e":[{"f":1}]},{"a":2}]"#;

    #[test]
    fn csv_rows_keep_their_lines_and_a_shifted_row_is_told() {
        let (rows, end) = decode(FormatKind::Csv, CSV.as_bytes());
        end.unwrap();
        assert_eq!(
            rows,
            [
                "第4行第1列|名称=甲|文号=一\n二|日期=001",
                "6!row.malformed",
                "第8行第1列|名称=丙|文号=3|日期=4"
            ]
        );
    }

    #[test]
    fn rows_are_numbered_whatever_ends_a_line() {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["名称,文号", "甲,1", "", "\"乙", "丙\",2", "丁,3"].join(end);
            let (rows, ended) = decode(FormatKind::Csv, text.as_bytes());
            ended.unwrap();
            assert_eq!(
                rows,
                [
                    "第2行第1列|名称=甲|文号=1",
                    "第4行第1列|名称=乙\n丙|文号=2",
                    "第6行第1列|名称=丁|文号=3"
                ],
                "{end:?}"
            );
        }
    }

    #[test]
    fn a_quote_left_open_is_told_at_its_line_and_the_rows_before_it_are_given() {
        let long = format!("名称,文号,日期\n{}乙,\"二,3\n丙,3,4\n", "甲,1,2\n".repeat(100));
        for (text, rows, at) in [
            ("名称,文号,日期\n甲,1,2\n\n乙,\"二,3\n丙,3,4\n", 1, 4),
            ("名称,文号,日期\r\n甲,1,2\r\n\"乙\r\n公司\",2,\"二\"\"", 1, 4),
            ("名称,文号,日期\n甲,1,2\n乙,2,\"", 1, 3),
            ("名称,\"文号,日期\n甲,1,2\n", 0, 1),
            ("\"", 0, 1),
            (&long, 100, 102),
        ] {
            for (kind, text) in
                [(FormatKind::Csv, text.to_owned()), (FormatKind::Tsv, text.replace(',', "\t"))]
            {
                let (given, end) = decode(kind, text.as_bytes());
                assert_eq!(given.len(), rows, "{text:?}");
                let end = end.unwrap_err();
                assert!(
                    matches!(end, DecodeError::Malformed { line, .. } if line == at),
                    "{text:?}: {end:?}"
                );
                assert!(end.to_string().contains("请补上结束的引号"), "{end}");
            }
        }
        for closed in ["甲,1,\"2\"", "甲,1,\"2\n\"", "甲,1,\"\"\n\n", "甲,1,2\"", "甲,1,\"2\" \n"]
        {
            let (given, end) = decode(FormatKind::Csv, format!("a,b,c\n{closed}").as_bytes());
            assert_eq!((given.len(), end.is_ok()), (1, true), "{closed:?}");
        }
    }

    #[test]
    fn a_quote_that_swallows_more_than_a_record_may_hold_is_told_at_its_line() {
        let text = format!("名称,文号,日期\n甲,1,2\n乙,\"二,3\n{}\n", "丙,3,4\n".repeat(100_000));
        let limits = Limits { cell_bytes: 64, ..Limits::default() };
        let spec = FormatSpec::new(FormatKind::Csv);
        let seen = testing::decode_within(&spec, text.as_bytes(), limits, usize::MAX);
        assert_eq!(seen.told, ["第2行第1列|名称=甲|文号=1|日期=2"]);
        assert!(matches!(seen.end, Err(DecodeError::Malformed { line: 3, .. })), "{:?}", seen.end);
    }

    #[test]
    fn a_bom_beats_the_declared_encoding_and_a_wrong_one_is_named() {
        let spec = FormatSpec {
            encoding: Encoding::Gb18030,
            known_headings: vec!["名称".to_owned(), "文号".to_owned()],
            ..FormatSpec::new(FormatKind::Csv)
        };
        let with_bom = "\u{feff}名称,文号\n甲,1\n".as_bytes();
        let (rows, end) = testing::decode(&spec, with_bom);
        assert_eq!((rows.len(), end.is_ok()), (1, true));
        let (rows, end) = testing::decode(&spec, "名称,文号\n甲,1\n".as_bytes());
        let told = end.unwrap_err().to_string();
        assert!(rows.is_empty() && told.contains("是UTF-8编码"), "{told}");
        let utf8 = FormatSpec { encoding: Encoding::Utf8, ..spec };
        let gbk = b"\xc3\xfb\xb3\xc6,\xce\xc4\xba\xc5\n\xbc\xd7,1\n";
        let told = testing::decode(&utf8, gbk).1.unwrap_err().to_string();
        assert!(told.contains("不是UTF-8编码的文本"), "{told}");
    }

    #[test]
    fn a_workbook_is_no_text() {
        let workbook = rust_xlsxwriter::Workbook::new().save_to_buffer().unwrap();
        for kind in [FormatKind::Csv, FormatKind::Ndjson, FormatKind::Json, FormatKind::Xml] {
            let (rows, end) = decode(kind, &workbook);
            assert!(rows.is_empty(), "{kind:?}");
            assert!(matches!(end, Err(DecodeError::WrongFormat { .. })), "{kind:?}: {end:?}");
        }
    }

    #[test]
    fn trees_become_paths() {
        let (rows, end) = decode(FormatKind::Xml, XML.as_bytes());
        end.unwrap();
        assert_eq!(rows, ["第1条 @id|@id=1|a=x & y|b|c/d=1|c/d[2]=2"]);
        let (rows, end) = decode(FormatKind::Json, JSON.as_bytes());
        end.unwrap();
        assert_eq!(
            rows,
            ["第1条 a|a=18.50:Number|b|c/d=x;y|e[1]/f=1:Number", "第2条 a|a=2:Number|b|c/d|e[1]/f"]
        );
    }

    #[test]
    fn hubs_envelopes_are_records_by_their_path() {
        let message = |fields: &str| {
            format!(
                "<?xml version=\"1.0\" encoding=\"utf-8\"?><ExchangeMessage><Header><sender>33\
                 </sender><flow>1</flow></Header><Body>{fields}</Body></ExchangeMessage>"
            )
        };
        let spec = |record: &str| FormatSpec {
            record: Some(record.to_owned()),
            ..FormatSpec::new(FormatKind::Xml)
        };
        let fields =
            "<fields><XK_WSH>样许1号</XK_WSH><BZ></BZ></fields><fields><xk_wsh>2</xk_wsh></fields>";
        let (rows, end) =
            testing::decode(&spec("/ExchangeMessage/Body/fields"), message(fields).as_bytes());
        end.unwrap();
        assert_eq!(rows, ["第1条 XK_WSH|XK_WSH=样许1号|BZ", "第2条 XK_WSH|XK_WSH|BZ|xk_wsh=2"]);

        for (nothing, rows) in [
            ("<DATAS>本日无数据</DATAS>", 0),
            ("<DATAS><DATA>本日无数据</DATA></DATAS>", 0),
            ("<DATAS><DATA/></DATAS>", 0),
            ("<DATAS/>", 0),
            ("<DATAS><DATA>样许1号</DATA></DATAS>", 1),
        ] {
            for spec in [spec("/DATAS/DATA"), FormatSpec::new(FormatKind::Xml)] {
                let (told, end) = testing::decode(&spec, nothing.as_bytes());
                end.unwrap();
                assert_eq!(told, vec!["1!row.malformed"; rows], "{nothing}");
            }
        }
    }

    #[test]
    fn a_record_path_that_leads_nowhere_is_not_an_empty_file() {
        let end = |record: &str, text: &str| {
            let spec =
                FormatSpec { record: Some(record.to_owned()), ..FormatSpec::new(FormatKind::Xml) };
            let (rows, end) = testing::decode(&spec, text.as_bytes());
            assert_eq!(rows, [""; 0], "{text}");
            end.map_err(|error| error.to_string())
        };
        for (text, told) in [
            ("<datas><data><a>1</a></data></datas>", "根元素是 datas"),
            ("<R><code>01</code></R>", "根元素是 R"),
            ("<DATAS><LIST><DATA><a>1</a></DATA></LIST></DATAS>", "/DATAS 下是 LIST"),
            ("<DATAS><n>0</n><data><a>1</a></data></DATAS>", "/DATAS 下是 n、data"),
        ] {
            let error = end("/DATAS/DATA", text).unwrap_err();
            assert!(error.contains("记录路径 /DATAS/DATA 在文件中没有"), "{error}");
            assert!(error.contains(told), "{error}");
        }
        for empty in ["<DATAS/>", "<DATAS>x</DATAS>", "<DATAS><n>0</n></DATAS>", "<datas/>"] {
            end("/DATAS/DATA", empty).unwrap();
        }
        // The place is there, and nothing in it.
        end("/E/Body/R", "<E><Header><a>1</a></Header><Body/></E>").unwrap();
        assert!(end("/E/Body/R", "<E><Header><a>1</a></Header></E>").is_err());
    }

    #[test]
    fn a_broken_array_gives_the_rows_before_it_and_a_broken_line_only_itself() {
        let (rows, end) = decode(FormatKind::Json, br#"[{"a":1},{"a":"#);
        assert_eq!(rows, ["第1条 a|a=1:Number"]);
        assert!(matches!(end, Err(DecodeError::Malformed { .. })));
        let (rows, end) = decode(FormatKind::Ndjson, b"{\"a\":1}\n{\"a\n{\"a\":3}");
        end.unwrap();
        assert_eq!(rows, ["第1条 a|a=1:Number", "2!row.malformed", "第3条 a|a=3:Number"]);
    }

    #[test]
    fn xml_is_read_by_its_bytes_whatever_its_prolog_says() {
        let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(bytes).collect()
        };
        let mut failed = Vec::new();
        for named in ["", "UTF-8", "GBK", "gb2312", "GB18030", "UTF-16", "utf-16le", "none"] {
            let prolog = match named {
                "" => String::new(),
                named => format!("<?xml version=\"1.0\" encoding=\"{named}\"?>\r\n"),
            };
            let text =
                format!("{prolog}<DATAS><DATA 县=\"区\"><名称>驻马店䶮</名称></DATA></DATAS>");
            let marked = format!("\u{feff}{text}");
            for (how, bytes) in [
                ("UTF-8", text.clone().into_bytes()),
                ("UTF-8 with BOM", marked.clone().into_bytes()),
                ("GB18030", encoding_rs::GB18030.encode(&text).0.into_owned()),
                ("UTF-16LE", utf16(&text, u16::to_le_bytes)),
                ("UTF-16BE", utf16(&text, u16::to_be_bytes)),
                ("UTF-16LE with BOM", utf16(&marked, u16::to_le_bytes)),
                ("UTF-16BE with BOM", utf16(&marked, u16::to_be_bytes)),
            ] {
                let (rows, end) = decode(FormatKind::Xml, &bytes);
                if end.is_err() || rows != ["第1条 @县|@县=区|名称=驻马店䶮"] {
                    failed.push(format!("{how} named {named:?}: {rows:?} {end:?}"));
                }
            }
        }
        assert!(failed.is_empty(), "{failed:#?}");
    }

    #[test]
    fn xml_outside_the_rules_is_refused() {
        for bad in [
            "<!DOCTYPE a><a/>",
            "<a/><b/>",
            "<a><b>",
            "<a>&lol;</a>",
            "<a>\u{1}</a>",
            "",
            "x<a/>",
            "<a xmlns:xi=\"http://www.w3.org/2001/XInclude\"/>",
        ] {
            assert!(decode(FormatKind::Xml, bad.as_bytes()).1.is_err(), "{bad:?}");
        }
        assert!(matches!(
            decode(FormatKind::Xml, "<a>".repeat(100).as_bytes()).1,
            Err(DecodeError::Limit { .. })
        ));
    }

    /// Bytes at random, the formats' own signs at random, good texts with damage.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        const SIGNS: &[&str] = &[
            "\"",
            ",",
            "\t",
            "\n",
            "\r\n",
            "\r",
            "=\"",
            "\"\"",
            "a",
            "甲",
            "\u{fffd}",
            "\u{feff}",
            "\0",
            "1e9",
            " ",
            "{",
            "}",
            "[",
            "]",
            ":",
            "null",
            "\\u00",
            "{\"a\":1}\n",
            "{}\n",
            "[{\"a\":1},",
            "<a>",
            "</a>",
            "<b/>",
            "<b c='1'>",
            "</b>",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "&amp;",
            "&#0;",
            "<?x?>",
        ];
        let signs = prop::collection::vec(prop::sample::select(SIGNS), 0..40);
        let good = prop::sample::select(vec![CSV, XML, JSON]);
        let at = any::<prop::sample::Index>;
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            signs.prop_map(|signs| signs.concat().into_bytes()),
            (good, at(), any::<u8>(), at(), any::<bool>()).prop_map(
                |(good, at, byte, cut, tabs)| {
                    let good = if tabs { good.replace(',', "\t") } else { good.to_owned() };
                    let mut bytes = good.into_bytes();
                    let (at, cut) = (at.index(bytes.len()), cut.index(bytes.len() * 2));
                    bytes[at] = byte;
                    bytes.truncate(cut);
                    bytes
                }
            ),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// No panic, nothing beyond the limits, and every row given or refused counts once: in
        /// order, never more than there are lines, the same up to where the sink has enough.
        #[test]
        fn any_bytes_end_within_the_limits_and_every_row_counts_once(
            kind in prop::sample::select(vec![
                FormatKind::Csv, FormatKind::Tsv, FormatKind::Json, FormatKind::Ndjson, FormatKind::Xml,
            ]),
            bytes in hostile(),
            small in any::<bool>(),
            stop in 1usize..4,
        ) {
            let limits = if small {
                Limits { inflated_bytes: 150, rows: 3, columns: 3, cell_bytes: 6, depth: 3 }
            } else {
                Limits::default()
            };
            let known_headings = if small { vec!["a".to_owned()] } else { Vec::new() };
            let spec = FormatSpec { known_headings, ..FormatSpec::new(kind) };
            let seen = testing::decode_within(&spec, &bytes, limits, usize::MAX);
            prop_assert!(seen.numbers.is_sorted_by(|one, next| one < next), "{:?}", seen.told);
            prop_assert!(seen.told.len() as u64 <= limits.rows);
            let mut text = String::new();
            let encoding = text::detect(spec.encoding, &mut Cursor::new(&bytes)).unwrap();
            let mut input = Cursor::new(bytes.as_slice());
            text::TextReader::new(&mut input, encoding, u64::MAX, u64::MAX / 2)
                .read_to_string(&mut text)
                .unwrap();
            match kind {
                FormatKind::Csv | FormatKind::Tsv => {
                    prop_assert!(seen.told.len() < text.lines().count().max(1));
                }
                FormatKind::Ndjson if seen.end.is_ok() => {
                    let lines = text.lines().filter(|line| !line.trim().is_empty());
                    let bad = lines.filter(|line| {
                        !matches!(serde_json::from_str(line), Ok(serde_json::Value::Object(_)))
                    });
                    let refused = seen.told.iter().filter(|row| row.ends_with("!row.malformed"));
                    prop_assert_eq!(refused.count(), bad.count());
                }
                _ => {}
            }
            let some = testing::decode_within(&spec, &bytes, limits, stop);
            prop_assert_eq!(&some.told[..], &seen.told[..stop.min(seen.told.len())]);
            prop_assert!(some.end.is_ok() == (seen.end.is_ok() || seen.told.len() >= stop));
        }
    }
}
