//! A ZIP (压缩包) of messages: every member in the archive's order, each by the mapping's format.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use encoding_rs::GB18030;
use xinqiao_core::fault::chain;
use xinqiao_core::model::{Columns, Finding, FormatKind, FormatSpec, Place, Row};
use xinqiao_core::spi::{DecodeError, Limits, ReadSeek, RowSink, ScratchSpace};

use super::guard::{self, Archive, Container, ENCRYPTED, Holds, Part, broken};
use super::{dbf, finding, one};

/// Of a member's name, as many characters are shown.
const NAME_CHARS: usize = 80;

/// The flag of a name in UTF-8.
const UTF8_NAME: u16 = 1 << 11;

/// The archive, if the message is one and not itself a document.
pub(super) fn open(input: &mut dyn ReadSeek) -> Result<Option<Archive<'_>>, DecodeError> {
    if guard::container(input)? != Some(Container::Zip) {
        return Ok(None);
    }
    let zip = guard::open_zip(input)?;
    Ok((guard::holds(&zip) == Holds::Files).then_some(zip))
}

/// Decodes every member that is a file and not hidden. One that cannot be decoded ends as a refused
/// row of its own name after all others; if none can, that of the first is the message's error.
/// Limits hold for the message, not for a member.
pub(super) fn decode(
    mut zip: Archive<'_>,
    spec: &FormatSpec,
    limits: &Limits,
    scratch: ScratchSpace<'_>,
    sink: &mut dyn RowSink,
) -> Result<(), DecodeError> {
    let members = members(&mut zip, spec.kind)?;
    if members.is_empty() {
        return Err(broken("压缩包里没有文件"));
    }
    let mut left = limits.inflated_bytes;
    let (mut decoded, mut failed) = (0, VecDeque::new());
    let mut out = Out { sink, name: Arc::from(""), row: Row::new(), rows: 0, broke: false };
    for member in &members {
        out.name = Arc::from(member.name.as_str());
        let within = Limits { rows: limits.rows.saturating_sub(out.rows), ..*limits };
        let end = member.decode(&mut zip, spec, &within, &mut left, scratch, &mut out);
        if out.broke {
            return Ok(());
        }
        match end {
            Ok(()) => decoded += 1,
            Err(fault @ DecodeError::Io(_)) => return Err(fault),
            Err(DecodeError::Limit { what: "行数", .. }) => {
                return Err(DecodeError::Limit { what: "行数", limit: limits.rows });
            }
            Err(fault @ DecodeError::Limit { .. }) => return Err(member.fault(fault)),
            Err(fault) => failed.push_back((member, fault)),
        }
    }
    if decoded == 0
        && let Some((member, fault)) = failed.pop_front()
    {
        return Err(member.fault(fault));
    }
    for (member, fault) in failed {
        out.name = Arc::from(member.name.as_str());
        if out.rows >= limits.rows {
            return Err(DecodeError::Limit { what: "行数", limit: limits.rows });
        }
        let message = format!("压缩包里的这个文件没有读取:{}", chain(&fault));
        let fix = "如是数据,请按约定的格式另存后重新报送;如不是,请从压缩包里去掉";
        let place = Place { sheet: None, row: 1 };
        if out.bad_row(&place, finding::malformed(message, fix)).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// A file to decode.
pub(super) struct Member {
    ix: usize,
    /// For people only: never a path.
    pub(super) name: String,
    /// The memo file of a table.
    memo: Option<usize>,
}

impl Member {
    fn decode(
        &self,
        zip: &mut Archive<'_>,
        spec: &FormatSpec,
        limits: &Limits,
        left: &mut u64,
        scratch: ScratchSpace<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), DecodeError> {
        let mut input = self.read(zip, limits, left, scratch)?;
        match self.memo {
            None => one(spec, &mut *input, limits, scratch, sink),
            Some(ix) => {
                let mut memo = inflate(zip, ix, limits, left, scratch)?;
                dbf::decode(spec, &mut *input, Some(&mut *memo), limits, sink)
            }
        }
    }

    /// The member's content.
    pub(super) fn read(
        &self,
        zip: &mut Archive<'_>,
        limits: &Limits,
        left: &mut u64,
        scratch: ScratchSpace<'_>,
    ) -> Result<Box<dyn ReadSeek>, DecodeError> {
        let mut input = inflate(zip, self.ix, limits, left, scratch)?;
        if open(&mut *input).is_ok_and(|archive| archive.is_some()) {
            return Err(DecodeError::Forbidden("压缩包里又有压缩包"));
        }
        Ok(input)
    }

    /// The fault, with the member's name.
    pub(super) fn fault(&self, fault: DecodeError) -> DecodeError {
        DecodeError::Member { name: self.name.clone(), fault: Box::new(fault) }
    }
}

/// The files in the archive; a table's memo and index files belong to the table.
pub(super) fn members(zip: &mut Archive<'_>, kind: FormatKind) -> Result<Vec<Member>, DecodeError> {
    if zip.has_duplicate_names() {
        return Err(broken("压缩包里有重名的文件"));
    }
    let mut all = Vec::new();
    for ix in 0..zip.len() {
        let entry = zip.by_index_raw(ix).map_err(guard::zip_fault)?;
        if entry.encrypted() {
            return Err(ENCRYPTED);
        }
        let name = shown_name(entry.name_raw(), entry.flags().as_u16() & UTF8_NAME != 0);
        if !entry.is_dir() && !is_hidden(&name) {
            all.push(Member { ix, name, memo: None });
        }
    }
    if kind != FormatKind::Dbf {
        return Ok(all);
    }
    let (beside, mut tables): (Vec<Member>, Vec<Member>) =
        all.into_iter().partition(|member| BESIDE.contains(&&*split(&member.name).1));
    for other in beside {
        let (stem, ending) = split(&other.name);
        match tables.iter_mut().find(|t| split(&t.name) == (stem.clone(), "dbf".to_owned())) {
            Some(table) if MEMOS.contains(&&*ending) => table.memo = Some(other.ix),
            Some(_) => {}
            // Without its table it is a file like any other, and no table.
            None => tables.push(other),
        }
    }
    tables.sort_by_key(|member| member.ix);
    Ok(tables)
}

const MEMOS: &[&str] = &["fpt", "dbt"];

/// What lies beside a table: memos and indices.
const BESIDE: &[&str] = &["fpt", "dbt", "cdx", "idx", "mdx", "ndx", "ntx"];

/// Name and ending, in lower case.
fn split(name: &str) -> (String, String) {
    let name = name.to_lowercase();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
    (stem.to_owned(), ending.to_owned())
}

/// Names without the flag are in the code page of the machine that wrote them: here, Chinese.
fn shown_name(raw: &[u8], flagged: bool) -> String {
    let text = match std::str::from_utf8(raw) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if flagged => String::from_utf8_lossy(raw),
        Err(_) => GB18030.decode_without_bom_handling(raw).0,
    };
    let plain = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut name: String = plain.clone().take(NAME_CHARS).collect();
    if plain.count() > NAME_CHARS {
        name.push('…');
    }
    name
}

/// What file managers leave: names that begin with a dot, and the folder of macOS.
fn is_hidden(name: &str) -> bool {
    let dotted = |part: &str| part.starts_with('.') && !part.trim_matches('.').is_empty();
    name.split(['/', '\\']).any(|part| dotted(part) || part == "__MACOSX")
}

fn inflate(
    zip: &mut Archive<'_>,
    ix: usize,
    limits: &Limits,
    left: &mut u64,
    scratch: ScratchSpace<'_>,
) -> Result<Box<dyn ReadSeek>, DecodeError> {
    let entry = zip.by_index(ix).map_err(guard::zip_fault)?;
    let packed = entry.compressed_size();
    let mut part = Part::new(entry, packed, *left);
    let mut room = scratch();
    let copied = copy(&mut part, &mut room, limits);
    *left = part.left;
    copied?;
    Ok(room.into_reader()?)
}

/// Copies what is inflated; a fault of the archive is the agency's, one of the room is ours.
fn copy(
    part: &mut impl io::Read,
    room: &mut impl io::Write,
    limits: &Limits,
) -> Result<(), DecodeError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match part.read(&mut buffer).map_err(|error| guard::part_fault(error, limits))? {
            0 => return Ok(()),
            n => room.write_all(buffer.get(..n).unwrap_or(&[]))?,
        }
    }
}

/// Puts the member's name into the place of each row.
struct Out<'a> {
    sink: &'a mut dyn RowSink,
    name: Arc<str>,
    row: Row,
    rows: u64,
    broke: bool,
}

impl Out<'_> {
    fn place(&self, place: &Place) -> Place {
        let sheet = match &place.sheet {
            Some(sheet) => Arc::from(format!("{}!{sheet}", self.name)),
            None => Arc::clone(&self.name),
        };
        Place { sheet: Some(sheet), row: place.row }
    }

    fn told(&mut self, flow: ControlFlow<()>) -> ControlFlow<()> {
        self.rows += 1;
        self.broke = flow.is_break();
        flow
    }
}

impl RowSink for Out<'_> {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        self.row.clone_from(row);
        self.row.place = self.place(&row.place);
        let flow = self.sink.row(columns, &self.row);
        self.told(flow)
    }

    fn bad_row(&mut self, place: &Place, finding: Finding) -> ControlFlow<()> {
        let flow = self.sink.bad_row(&self.place(place), finding);
        self.told(flow)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use xinqiao_core::spi::Scratch;
    use zip::write::SimpleFileOptions;

    use super::super::testing::{self, decode_within, made_table, made_zip};
    use super::*;

    fn csv() -> FormatSpec {
        let known_headings = vec!["名称".to_owned(), "文号".to_owned()];
        FormatSpec { known_headings, ..FormatSpec::new(FormatKind::Csv) }
    }

    const A: &str = "名称,文号\n甲,1\n乙,2\n";
    const B: &str = "文号,名称\n3,丙\n";

    #[test]
    fn members_come_in_order_and_each_row_tells_its_member() {
        let gbk = encoding_rs::GB18030.encode(B).0;
        let bytes = made_zip(&[
            ("数据/", b""),
            ("数据/z.csv", A.as_bytes()),
            ("../a.csv", &gbk),
            ("说明.txt", "请按期报送".as_bytes()),
            (".DS_Store", b"x"),
            ("__MACOSX/z.csv", A.as_bytes()),
        ]);
        let (rows, end) = testing::decode(&csv(), &bytes);
        end.unwrap();
        assert_eq!(
            rows,
            [
                "数据/z.csv!第2行第1列|名称=甲|文号=1",
                "数据/z.csv!第3行第1列|名称=乙|文号=2",
                "../a.csv!第2行第1列|文号=3|名称=丙",
                "1!row.malformed",
            ]
        );
        let limits = Limits { rows: 3, ..Limits::default() };
        let seen = decode_within(&csv(), &bytes, limits, usize::MAX);
        assert!(matches!(seen.end, Err(DecodeError::Limit { what: "行数", limit: 3 })));
        assert_eq!(decode_within(&csv(), &bytes, Limits::default(), 3).told.len(), 3);
    }

    #[test]
    fn where_no_member_can_be_read_the_first_is_the_error() {
        let (rows, end) = testing::decode(&csv(), &made_zip(&[("a.txt", b"x"), ("b.txt", b"y")]));
        let end = end.unwrap_err();
        assert!(
            rows.is_empty() && matches!(&end, DecodeError::Member { name, .. } if name == "a.txt")
        );
        assert!(chain(&end).contains("未找到表头"), "{}", chain(&end));
        for (bytes, said) in [
            (made_zip(&[]), "没有文件"),
            (made_zip(&[("a/", b"")]), "没有文件"),
            (made_zip(&[("b.zip", &made_zip(&[("a.csv", A.as_bytes())]))]), "又有压缩包"),
            (b"PK\x03\x04...".to_vec(), "损坏"),
        ] {
            let end = testing::decode(&csv(), &bytes).1.unwrap_err();
            assert!(chain(&end).contains(said), "{said}: {}", chain(&end));
        }
    }

    #[test]
    fn names_without_the_flag_are_chinese() {
        assert_eq!(shown_name(&GB18030.encode("处罚.csv").0, false), "处罚.csv");
        assert_eq!(shown_name("处罚.csv".as_bytes(), true), "处罚.csv");
        assert_eq!(shown_name(b"a\n\x1b", false), "a\u{fffd}\u{fffd}");
        assert_eq!(shown_name(&[b'a'; 200], false).chars().count(), NAME_CHARS + 1);
    }

    #[test]
    fn bombs_and_passwords_are_refused() {
        let big = made_zip(&[("a.csv", A.as_bytes()), ("b.csv", &[b' '; 5 << 20])]);
        let end = testing::decode(&csv(), &big).1.unwrap_err();
        assert!(chain(&end).contains("压缩倍数"), "{}", chain(&end));
        let limits = Limits { inflated_bytes: 40, ..Limits::default() };
        let two = made_zip(&[("a.csv", A.as_bytes()), ("b.csv", B.as_bytes())]);
        let seen = decode_within(&csv(), &two, limits, usize::MAX);
        assert_eq!(seen.told.len(), 2);
        assert!(chain(&seen.end.unwrap_err()).contains("解压后"));
        let mut sealed = made_zip(&[("a.csv", A.as_bytes())]);
        let central = sealed.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        sealed[central + 8] |= 1;
        let end = testing::decode(&csv(), &sealed).1.unwrap_err();
        assert!(end.to_string().contains("加密"), "{end}");
        // The central directory may name one content twice.
        let twice = made_zip(&[("a.csv", A.as_bytes()), ("b.csv", A.as_bytes())]);
        let mut same = twice.clone();
        for at in 0..same.len() {
            if same[at..].starts_with(b"b.csv") {
                same[at] = b'a';
            }
        }
        assert!(testing::decode(&csv(), &same).1.is_err());
    }

    #[test]
    fn a_table_takes_the_memo_beside_it() {
        let cells: &[&[u8]] = &[b"1", &8u32.to_le_bytes()];
        let table = made_table(0x30, &[("WSH", 'C', 4), ("BZ", 'M', 4)], &[(b' ', cells)]);
        let mut fpt = vec![0; 512];
        fpt[7] = 64;
        fpt.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        fpt.extend_from_slice(b"ok");
        let spec =
            FormatSpec { known_headings: vec!["BZ".into()], ..FormatSpec::new(FormatKind::Dbf) };
        let bytes = made_zip(&[
            ("XK.FPT", &fpt),
            ("xk.cdx", b"index"),
            ("xk.dbf", &table),
            ("cf.dbf", &table),
            ("lone.fpt", &fpt),
        ]);
        let (rows, end) = testing::decode(&spec, &bytes);
        end.unwrap();
        assert_eq!(rows, ["xk.dbf!第1条 WSH|WSH=1|BZ=ok", "1!row.malformed", "1!row.malformed"]);
    }

    #[test]
    fn a_workbook_in_an_archive_is_a_member_like_any_other() {
        let mut book = rust_xlsxwriter::Workbook::new();
        for name in ["表一", "表二"] {
            let sheet = book.add_worksheet();
            sheet.set_name(name).unwrap();
            for (column, text) in (0u16..).zip(["名称", "文号"]) {
                sheet.write(0, column, text).unwrap();
                sheet.write(1, column, "x").unwrap();
            }
        }
        let spec = FormatSpec { kind: FormatKind::Workbook, ..csv() };
        let bytes = made_zip(&[("a.xlsx", &book.save_to_buffer().unwrap())]);
        let (rows, end) = testing::decode(&spec, &bytes);
        end.unwrap();
        assert_eq!(rows, ["a.xlsx!表一!A2|名称=x|文号=x", "a.xlsx!表二!A2|名称=x|文号=x"]);
    }

    #[test]
    fn a_fault_of_the_room_is_no_fault_of_the_archive() {
        struct Full;
        impl io::Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        impl Scratch for Full {
            fn into_reader(self: Box<Self>) -> io::Result<Box<dyn ReadSeek>> {
                Err(io::Error::other("full"))
            }
        }
        let bytes = made_zip(&[("a.csv", A.as_bytes())]);
        let mut sink = testing::Sink::new(Limits::default(), usize::MAX);
        let room = || -> Box<dyn Scratch> { Box::new(Full) };
        let end = super::super::decode(
            &csv(),
            &mut Cursor::new(bytes),
            &Limits::default(),
            &room,
            &mut sink,
        );
        assert!(matches!(end, Err(DecodeError::Io(_))), "{end:?}");
    }

    #[test]
    fn too_many_members_are_refused_before_any_is_read() {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for n in 0..5_000 {
            zip.start_file(format!("{n}.csv"), SimpleFileOptions::default()).unwrap();
            zip.write_all(b"x").unwrap();
        }
        let bytes = zip.finish().unwrap().into_inner();
        let end = testing::decode(&csv(), &bytes).1.unwrap_err();
        assert!(matches!(end, DecodeError::Limit { what: "压缩包内的文件数", .. }), "{end}");
    }
}
