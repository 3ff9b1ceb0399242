//! The decoders of messages. A first byte says how the rest is read. Everywhere: no panic, nothing
//! beyond the limits, every row counted once and in order, and the same rows up to where the one
//! who takes them has enough.

use std::io::{Cursor, Write as _};
use std::ops::ControlFlow;

use base64ct::{Base64, Encoding as _};
use xinqiao_core::model::{
    Columns, Encoding, Finding, FixedColumn, FormatKind, FormatSpec, HeaderSpec, Place, Row,
    Unwrap, UnwrapStep,
};
use xinqiao_core::spi::{DecodeError, Limits, RowSink, Scratch};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::adapters::formats::unwrap::{Path, Paths, document, look};
use crate::adapters::formats::{decode, sniff};
use crate::wire::soap::Envelope;
use crate::wire::xml::Element;

const LIMITS: Limits =
    Limits { inflated_bytes: 1 << 20, rows: 200, columns: 32, cell_bytes: 1 << 12, depth: 16 };

/// Delimited text.
pub fn csv(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let mut spec = spec(if how & 1 == 0 { FormatKind::Csv } else { FormatKind::Tsv }, *how);
    if how & 2 != 0 {
        spec.header = HeaderSpec::Row(u32::from(how >> 5));
    }
    both(&spec, data, true);
}

/// Fixed-width text.
pub fn fixed(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let column = |(name, width): (&str, u32)| FixedColumn { name: name.to_owned(), width };
    let spec = FormatSpec {
        columns: [("名称", 6), ("文号", 3), ("日期", 4)].map(column).to_vec(),
        in_characters: how & 1 != 0,
        ..spec(FormatKind::Fixed, *how)
    };
    both(&spec, data, true);
}

/// Workbooks: the bytes of a whole file, or of one part of a file that is otherwise good, so that
/// no checksum stands in the way.
pub fn workbook(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let bytes = match usize::from(*how) {
        0 => data.to_vec(),
        1 => compound(data),
        how => {
            let all = PARTS.iter().flat_map(|parts| (0..parts.len()).map(move |ix| (parts, ix)));
            let Some((parts, replaced)) = all.clone().nth((how - 2) % all.count()) else { return };
            let parts = parts.iter().enumerate();
            archive(parts.map(|(ix, (name, own))| match ix == replaced {
                true => (*name, data.to_vec()),
                false => (*name, own()),
            }))
        }
    };
    both(&spec(FormatKind::Workbook, 0), &bytes, false);
}

/// Tables: the first two bytes say how much of the rest is the memo file beside it.
pub fn dbf(data: &[u8]) {
    let [how, len, data @ ..] = data else { return };
    let (memo, table) = data.split_at(usize::from(*len).min(data.len()));
    let spec = spec(FormatKind::Dbf, how & 0xfc);
    if how & 1 == 0 {
        both(&spec, table, true);
    } else {
        let bytes = [("a.dbf", table.to_vec()), ("a.fpt", memo.to_vec())];
        both(&spec, &archive(bytes.into_iter()), false);
    }
}

/// Archives, of any format.
pub fn zip(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let kinds = [
        FormatKind::Csv,
        FormatKind::Json,
        FormatKind::Xml,
        FormatKind::Workbook,
        FormatKind::Dbf,
        FormatKind::Fixed,
    ];
    both(&spec(kinds[usize::from(*how) % kinds.len()], 0), data, false);
}

/// XML.
pub fn xml(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let record = (how & 1 != 0).then(|| "/DATAS/DATA".to_owned());
    both(&FormatSpec { record, ..spec(FormatKind::Xml, *how) }, data, true);
}

/// JSON, whole and by lines.
pub fn json(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let kind = if how & 1 == 0 { FormatKind::Json } else { FormatKind::Ndjson };
    let record = (how & 2 != 0).then(|| "/data/rows".to_owned());
    both(&FormatSpec { record, ..spec(kind, *how) }, data, true);
}

/// Messages in a SOAP envelope, a MIME body, or a text of another document. What is taken out keeps
/// the limit; one element was taken where looking finds one; and cutting long texts into pieces for
/// the parser changes nothing of the document.
pub fn unwrap(data: &[u8]) {
    let [how, steps, data @ ..] = data else { return };
    let kind = [FormatKind::Xml, FormatKind::Json, FormatKind::Csv, FormatKind::Xml];
    let record = (how & 3 == 3).then(|| "/r/return/item".to_owned());
    let at = [None, Some("/r/return"), Some("/r"), Some("*/*")][usize::from(how >> 4 & 3)];
    let steps: Vec<UnwrapStep> = [steps & 7, steps >> 3 & 7, steps >> 6]
        .iter()
        .filter_map(|step| STEPS.get(usize::from(*step).checked_sub(1)?).copied())
        .collect();
    let data = if how & 0xc0 == 0xc0 { lengthened(data) } else { data.to_vec() };
    // An archive, of whose members each begins anew, comes out of base64 only.
    let ordered = !steps.contains(&UnwrapStep::Base64);
    let unwrap = Unwrap { at: at.map(str::to_owned), steps };
    let spec = spec(kind[usize::from(how & 3)], *how);
    let spec = FormatSpec { record, unwrap: Some(unwrap.clone()), ..spec };
    both(&spec, &data, ordered);

    let encoding = if ordered { spec.encoding } else { Encoding::Auto };
    let input = || Cursor::new(&data);
    let inner = document(&unwrap, spec.encoding, &mut input(), &LIMITS, Box::new(Vec::new()));
    let texts = [at.unwrap_or("*"), "*"].map(Path::new).into();
    let paths = Paths { texts, rows: Some(Path::new("*/*")) };
    let looked = look(&mut input(), encoding, &LIMITS, &paths);
    if let Ok(Some(mut inner)) = inner {
        let len = std::io::copy(&mut inner.reader, &mut std::io::sink()).expect("in memory");
        assert!(len <= LIMITS.inflated_bytes, "{len} bytes were taken out");
        if let (Ok(looked), Some(_)) = (&looked, at) {
            assert!(looked.texts[0].is_some(), "what was taken out is not there");
        }
    }
    let Ok(text) = std::str::from_utf8(&data) else { return };
    // Both answers of a service and questions to ours are read so.
    let _ = Envelope::parse(text);
    if let (Ok(looked), Ok(tree)) = (&looked, Element::parse(text, LIMITS.depth))
        && spec.encoding == Encoding::Utf8
        && !text.starts_with('\u{feff}')
    {
        let bodies = tree.children.iter().filter(|child| child.local() == "Body");
        let (outer, below): (usize, Vec<&Element>) = match looked.version {
            Some(_) => {
                let inside: Vec<_> = bodies.flat_map(|body| &body.children).collect();
                (inside.len(), inside)
            }
            None => (1, vec![&tree]),
        };
        let inner: usize = below.iter().map(|element| element.children.len()).sum();
        assert_eq!(looked.texts[1].is_some(), outer > 0);
        assert_eq!(looked.rows.map_or(0, |rows| rows.count), inner);
        if let Some(first) = below.first().filter(|first| first.children.is_empty()) {
            let seen = looked.texts[1].as_deref().unwrap_or_default();
            let all = first.text.trim();
            // So much of a text is looked at.
            assert!(all == seen || first.text.len() > 60_000 && all.starts_with(seen));
        }
    }
}

const STEPS: &[UnwrapStep] = &[
    UnwrapStep::Unescape,
    UnwrapStep::UrlDecode,
    UnwrapStep::UrlDecodeGb18030,
    UnwrapStep::Base64,
];

/// In place of the first NUL the sixteen bytes before it, again and again: a text so long that it is
/// taken in pieces, out of few bytes.
fn lengthened(data: &[u8]) -> Vec<u8> {
    let Some(at) = data.iter().position(|byte| *byte == 0) else { return data.to_vec() };
    let (before, after) = data.split_at(at);
    let again = before[at.saturating_sub(16)..].iter().cycle().take(36 << 10);
    before.iter().chain(again).chain(&after[1..]).copied().collect()
}

fn spec(kind: FormatKind, how: u8) -> FormatSpec {
    let encoding = match how >> 2 & 3 {
        0 => Encoding::Auto,
        1 => Encoding::Utf8,
        2 => Encoding::Gb18030,
        _ => Encoding::Utf16,
    };
    let known_headings = ["名称", "文号", "BZ"].map(str::to_owned).to_vec();
    FormatSpec { encoding, known_headings, ..FormatSpec::new(kind) }
}

/// Decodes to the end, then up to the second row; `ordered`: numbers of rows only grow.
fn both(spec: &FormatSpec, data: &[u8], ordered: bool) {
    let whole = run(spec, data, usize::MAX, ordered);
    let some = run(spec, data, 2, ordered);
    assert_eq!(some.rows, whole.rows[..whole.rows.len().min(2)]);
    // Looking at a file is bounded as decoding is.
    let _ = sniff(Some("a.txt"), &mut Cursor::new(data), &LIMITS);
}

fn run(spec: &FormatSpec, data: &[u8], stop: usize, ordered: bool) -> Seen {
    let mut seen = Seen { rows: Vec::new(), stop, ordered };
    let room = || -> Box<dyn Scratch> { Box::new(Vec::new()) };
    let end = decode(spec, &mut Cursor::new(data), &LIMITS, &room, &mut seen);
    // Everything is in memory: what fails is the message.
    assert!(!matches!(end, Err(DecodeError::Io(_))), "{end:?}");
    seen
}

struct Seen {
    rows: Vec<(Place, usize)>,
    stop: usize,
    ordered: bool,
}

impl Seen {
    fn take(&mut self, place: &Place, len: usize) -> ControlFlow<()> {
        let last = self.rows.last().map_or(0, |(place, _)| place.row);
        assert!(!self.ordered || place.row > last, "row {} after {last}", place.row);
        self.rows.push((place.clone(), len));
        assert!(self.rows.len() as u64 <= LIMITS.rows && self.rows.len() <= self.stop);
        if self.rows.len() == self.stop {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl RowSink for Seen {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        assert!(columns.len() <= LIMITS.columns as usize && row.len() <= columns.len());
        let cells = (0u16..).zip(columns.names()).map(|(ix, _)| row.get(ix).text.len());
        let lens: Vec<usize> = cells.collect();
        assert!(lens.iter().all(|len| *len <= LIMITS.cell_bytes));
        self.take(&row.place, lens.iter().sum())
    }

    fn bad_row(&mut self, place: &Place, finding: Finding) -> ControlFlow<()> {
        assert!(!finding.message.is_empty());
        self.take(place, 0)
    }
}

// ---- Good files, to begin from and to replace a part of -----------------------------------------

/// A seed for each way of each target.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let with = |how: u8, data: &[u8]| [&[how], data].concat();
    let text = "填表说明\r\n名称,文号,日期\r\n甲,\"一\r\n二\",=\"001\"\r\n乙,1,2,3\r\n".as_bytes();
    let lines = "甲公司0010101\n\n乙\t  0030103\r\n".as_bytes();
    let tree = "<DATAS><DATA id='1'><a>x &amp; y</a><b/><c><d>1</d><d>2</d></c></DATA></DATAS>";
    let object =
        br#"{"code":0,"data":{"rows":[{"a":18.50,"b":null,"c":{"d":["x","y"]}},{"e":[{"f":1}]}]}}"#;
    let mut books = vec![with(1, &biff())];
    let parts = PARTS.iter().flat_map(|parts| parts.iter());
    for (how, (_, own)) in (2u8..).zip(parts) {
        books.push(with(how, &own()));
    }
    for parts in PARTS {
        books.push(with(0, &archive(parts.iter().map(|(name, own)| (*name, own())))));
    }
    let members = [("a.csv", text.to_vec()), ("b/c.xml", tree.into()), ("d.dbf", table())];
    let members = archive(members.into_iter());
    let fpt = [&[0; 7][..], &[8, 0, 0, 0, 1, 0, 0, 0, 2, b'o', b'k']].concat();
    let len = u8::try_from(fpt.len()).expect("short");
    vec![
        ("csv", (0..12).map(|how| with(how, text)).chain([with(0x42, text)]).collect()),
        ("fixed", (0..16).map(|how| with(how, lines)).collect()),
        ("workbook", books),
        ("dbf", vec![[&[0, 0], &table()[..]].concat(), [&[1, len], &fpt[..], &table()].concat()]),
        ("zip", (0..6).map(|how| with(how, &members)).collect()),
        ("xml", (0..2).map(|how| with(how, tree.as_bytes())).collect()),
        (
            "json",
            vec![with(2, object), with(0, b"[{\"a\":1}]"), with(1, b"{\"a\":1}\n{\"b\":\"x\"}")],
        ),
        ("unwrap", wrapped(tree, &members)),
    ]
}

/// Seeds of `unwrap`: records as elements, as a text with each step, by reference, as a MIME part.
fn wrapped(tree: &str, members: &[u8]) -> Vec<Vec<u8>> {
    let soap = |ns: &str, body: &str| {
        format!(
            "<s:Envelope xmlns:s='{ns}'><s:Header><t>x</t></s:Header><s:Body>{body}</s:Body></s:Envelope>"
        )
    };
    let v11 = |body: &str| soap("http://schemas.xmlsoap.org/soap/envelope/", body);
    let v12 = |body: &str| soap("http://www.w3.org/2003/05/soap-envelope", body);
    let text = |text: &str| v11(&format!("<r><return>{text}</return></r>"));
    let escaped = tree.replace('&', "&amp;").replace('<', "&lt;");
    let url: String = tree.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let base64 = |bytes: &[u8]| Base64::encode_string(bytes);
    let elements = "<n:r xmlns:n='u' xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'><return><item xsi:type='n:Row' k='&lt;'><n:a xsi:nil='true'/><b>甲&amp;</b></item><item><b>乙</b></item></return></n:r>";
    let references = "<n:r xmlns:n='u'><return><item href='#id0'/><item href='#id1'/></return></n:r><multiRef id='id1'><a>2</a><p href='#id2'/></multiRef><multiRef id='id0'><a>1</a></multiRef><multiRef id='id2'><n>甲&amp;</n></multiRef>";
    let fault11 =
        "<s:Fault><faultcode>s:Server</faultcode><faultstring>系统忙</faultstring></s:Fault>";
    let fault12 = "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text xml:lang='zh'>令牌无效</s:Text></s:Reason></s:Fault>";
    let include =
        "<xop:Include xmlns:xop='http://www.w3.org/2004/08/xop/include' href='cid:d%40x'/>";
    let mime = |envelope: &str, how: &str, part: &str| {
        format!(
            "--u\r\nContent-Type: application/xop+xml;\r\n type=\"text/xml\"\r\n\r\n{envelope}\r\n--u\r\nContent-ID: <d@x>\r\nContent-Transfer-Encoding: {how}\r\n\r\n{part}\r\n--u--\r\n"
        )
    };
    let row = format!("<r><return><item><n>1</n><f>{include}</f></item></return></r>");
    let json = "[{&quot;a&quot;:1},{&quot;a&quot;:&quot;x&quot;}]";
    let cdata = format!("<![CDATA[{tree}]]>");
    let outer = format!("<string xmlns='http://tempuri.org/'>{escaped}</string>");
    // How it is read, the steps, the message.
    let all: &[(u8, u8, String)] = &[
        (0x03, 0, v11(elements)),
        (0x27, 0, v12(elements)),
        (0x10, 0, v11(references)),
        (0x23, 0, v12(references)),
        (0x00, 0, v11(fault11)),
        (0x00, 0, v12(fault12)),
        (0x10, 0, text("")),
        (0x10, 0, text(&cdata)),
        (0x00, 1, text(&escaped.replace('&', "&amp;"))),
        (0x10, 2, text(&url)),
        (0x30, 3, text(&url)),
        (0x00, 4, text(&base64(tree.as_bytes()))),
        (0x10, 4 << 3 | 2, text(&base64(tree.as_bytes()).replace('=', "%3D").replace('+', "%2B"))),
        (0x12, 4, text(&base64(members))),
        (0x11, 0, text(json)),
        (0x02, 0, text("名称,文号\n甲,1\n乙,2\n")),
        (0x04, 0, outer),
        (0x13, 4, mime(&text(include), "binary", tree)),
        (0x00, 4, mime(&text(include), "base64", &base64(tree.as_bytes()))),
        (0x17, 0, mime(&v12(&row), "8bit", "abc")),
        (0xc4, 0, "<string>甲&amp;乙]]&gt; text\0</string>".to_owned()),
        (0xc4, 0, "<r><![CDATA[甲]] > <b & 乙 text\0]]></r>".to_owned()),
        (0xc4, 0, format!("<string>x{}\0y</string>", "\r\n".repeat(8))),
        (0xc4, 0, format!("<string><![CDATA[x{}\0y]]></string>", "\r\n".repeat(8))),
        (0xd6, 0, text("名称,文号\n甲有限公司,1234\n\0")),
        (0xd0, 4, mime(&text(include), "binary", &format!("{tree}0123456789abcde\n\0"))),
        // Declared to be in another encoding than they are.
        (0x08, 0, v11(elements)),
        (0x0c, 0, v12(elements)),
    ];
    all.iter().map(|(how, steps, message)| [&[*how, *steps], message.as_bytes()].concat()).collect()
}

type Parts = &'static [(&'static str, fn() -> Vec<u8>)];

/// XLSX, XLSB, ODS.
const PARTS: &[Parts] = &[
    &[
        ("[Content_Types].xml", || b"<Types/>".to_vec()),
        ("_rels/.rels", || {
            b"<Relationships><Relationship Id='r0' Type='http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument' Target='xl/workbook.xml'/></Relationships>".to_vec()
        }),
        ("xl/workbook.xml", || {
            "<workbook><sheets><sheet name='表' sheetId='1' r:id='r1'/></sheets></workbook>".into()
        }),
        ("xl/_rels/workbook.xml.rels", || {
            b"<Relationships><Relationship Id='r1' Type='http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet' Target='worksheets/sheet1.xml'/></Relationships>".to_vec()
        }),
        ("xl/styles.xml", || {
            b"<styleSheet><numFmts><numFmt numFmtId='200' formatCode='yyyy'/></numFmts><cellXfs><xf numFmtId='0'/><xf numFmtId='200'/></cellXfs></styleSheet>".to_vec()
        }),
        ("xl/sharedStrings.xml", || "<sst><si><t>名称</t></si><si><t>文号</t></si></sst>".into()),
        ("xl/worksheets/sheet1.xml", || {
            b"<worksheet><dimension ref='A1:B3'/><sheetData><row r='1'><c r='A1' t='s'><v>0</v></c><c r='B1' t='s'><v>1</v></c></row><row r='2'><c r='A2' t='inlineStr'><is><t>x</t></is></c><c r='B2' s='1'><v>42473</v></c></row></sheetData></worksheet>".to_vec()
        }),
    ],
    &[
        ("xl/workbook.bin", || {
            let sheet = [&[0, 0, 0, 0, 1, 0, 0, 0][..], &wide("r1"), &wide("表")].concat();
            [record(&[0x99, 1], &[0; 12]), record(&[0x9c, 1], &sheet)].concat()
        }),
        ("xl/_rels/workbook.bin.rels", || {
            b"<Relationships><Relationship Id='r1' Type='x/worksheet' Target='worksheets/sheet1.bin'/></Relationships>".to_vec()
        }),
        ("xl/styles.bin", || {
            let format = [&[200, 0][..], &wide("yyyy")].concat();
            let cells = [record(&[0x2f], &[0, 0, 0, 0]), record(&[0x2f], &[0, 0, 200, 0])].concat();
            [record(&[0x2c], &format), record(&[0xe9, 4], &[0; 4]), cells].concat()
        }),
        ("xl/sharedStrings.bin", || {
            ["名称", "文号"].map(|t| record(&[0x13], &[&[0], &wide(t)[..]].concat())).concat()
        }),
        ("xl/worksheets/sheet1.bin", || {
            let cell = |kind: u8, column: u8, style: u8, value: &[u8]| {
                record(&[kind], &[&[column, 0, 0, 0, style, 0, 0, 0], value].concat())
            };
            [
                record(&[0x91, 1], &[]),
                record(&[0], &[0; 4]),
                cell(7, 0, 0, &[0; 4]),
                cell(7, 1, 0, &[1, 0, 0, 0]),
                record(&[0], &[1, 0, 0, 0]),
                cell(6, 0, 0, &wide("x")),
                cell(5, 1, 1, &42_473f64.to_le_bytes()),
                record(&[0x92, 1], &[]),
            ]
            .concat()
        }),
    ],
    &[
        ("mimetype", || b"application/vnd.oasis.opendocument.spreadsheet".to_vec()),
        ("META-INF/manifest.xml", || b"<manifest:manifest/>".to_vec()),
        ("content.xml", || {
            "<office:document-content><office:automatic-styles><style:style style:name='t'><style:table-properties table:display='true'/></style:style></office:automatic-styles><office:body><office:spreadsheet><table:table table:name='a' table:style-name='t'><table:table-row><table:table-cell><text:p>名称</text:p></table:table-cell><table:table-cell><text:p>文号</text:p></table:table-cell></table:table-row><table:table-row table:number-rows-repeated='3'><table:table-cell office:value-type='float' office:value='1' table:number-columns-repeated='2'><text:p>1<text:s text:c='2'/></text:p></table:table-cell></table:table-row></table:table></office:spreadsheet></office:body></office:document-content>".into()
        }),
    ],
];

fn archive<'n>(members: impl Iterator<Item = (&'n str, Vec<u8>)>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(name, SimpleFileOptions::default()).expect("begins");
        zip.write_all(&bytes).expect("writes");
    }
    zip.finish().expect("ends").into_inner()
}

fn record(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let len = [(body.len() & 0x7f) | 0x80, body.len() >> 7];
    [kind, &len.map(|byte| u8::try_from(byte).expect("short")), body].concat()
}

fn wide(text: &str) -> Vec<u8> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let len = u32::try_from(units.len()).expect("short").to_le_bytes();
    len.into_iter().chain(units.into_iter().flat_map(u16::to_le_bytes)).collect()
}

/// An XLS file with `stream` for its workbook.
fn compound(stream: &[u8]) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).expect("creates");
    let mut entry = file.create_stream("/Workbook").expect("creates");
    entry.write_all(stream).expect("writes");
    drop(entry);
    file.flush().expect("writes");
    file.into_inner().into_inner()
}

/// A workbook stream: one sheet, texts and a number.
fn biff() -> Vec<u8> {
    let record = |kind: u16, body: &[u8]| {
        let len = u16::try_from(body.len()).expect("short");
        [&kind.to_le_bytes(), &len.to_le_bytes(), body].concat()
    };
    let label = |row: u8, column: u8, text: &str| {
        let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let len = u8::try_from(units.len() / 2).expect("short");
        record(0x0204, &[&[row, 0, column, 0, 0, 0, len, 0, 1][..], &units].concat())
    };
    let begin = |kind: u8| record(0x0809, &[0, 6, kind, 0, 0, 0, 0, 0]);
    let end = record(0x000a, &[]);
    let globals = |at: u8| {
        let sheet = record(0x0085, &[at, 0, 0, 0, 0, 0, 1, 0, b'a']);
        [begin(5), record(0x0042, &[0xb0, 4]), sheet, end.clone()].concat()
    };
    let at = u8::try_from(globals(0).len()).expect("short");
    let number = record(0x0203, &[&[1, 0, 1, 0, 0, 0][..], &7.5f64.to_le_bytes()].concat());
    let cells = [label(0, 0, "名称"), label(0, 1, "文号"), label(1, 0, "x"), number].concat();
    [globals(at), begin(16), cells, end.clone()].concat()
}

/// A Visual FoxPro table: a text, a number, a memo; two records.
fn table() -> Vec<u8> {
    let column = |name: &[u8], kind: u8, width: u8| {
        let mut part = name.to_vec();
        part.resize(11, 0);
        part.extend([kind, 0, 0, 0, 0, width, 0, 2]);
        part.resize(32, 0);
        part
    };
    let head = [&[0x30, 26, 1, 10, 2, 0, 0, 0, 32 + 96 + 1, 0, 13, 0][..], &[0; 20]].concat();
    let columns = [column(b"WSH", b'C', 4), column(b"JE", b'N', 4), column(b"BZ", b'M', 4)];
    let records = b"\x0d ab   7.5\x01\0\0\0*cd   1.0\0\0\0\0\x1a";
    [head, columns.concat(), records.to_vec()].concat()
}
