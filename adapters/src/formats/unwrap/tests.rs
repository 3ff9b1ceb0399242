use std::io::{Cursor, Read};

use xinqiao_core::model::{FormatKind, UnwrapStep};

use super::*;
use crate::formats::testing::{Seen, decode_within};

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn spec(kind: FormatKind, at: Option<&str>, steps: &[UnwrapStep]) -> FormatSpec {
    let unwrap = Unwrap { at: at.map(str::to_owned), steps: steps.to_vec() };
    FormatSpec { unwrap: Some(unwrap), ..FormatSpec::new(kind) }
}

fn soap(body: &str) -> String {
    format!(
        "<s:Envelope xmlns:s=\"{SOAP}\"><s:Header><t>x</t></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn told(spec: &FormatSpec, bytes: impl AsRef<[u8]>) -> Vec<String> {
    let Seen { told, end, .. } = decode_within(spec, bytes.as_ref(), Limits::default(), usize::MAX);
    end.unwrap();
    told
}

fn refused(spec: &FormatSpec, bytes: impl AsRef<[u8]>) -> String {
    decode_within(spec, bytes.as_ref(), Limits::default(), usize::MAX).end.unwrap_err().to_string()
}

const ROWS: &str =
    "<?xml version=\"1.0\" encoding=\"GBK\"?><D><R><a>甲 &amp; 乙</a></R><R><a>2</a></R></D>";

#[test]
fn a_document_in_a_text_is_taken_out_whatever_way_it_was_put_there() {
    let mut escaped = String::new();
    escape(ROWS, &mut escaped);
    let mut twice = String::new();
    escape(&escaped, &mut twice);
    let url = crate::wire::http::encode(ROWS);
    let url_gb: String =
        encoding_rs::GB18030.encode(ROWS).0.iter().map(|byte| format!("%{byte:02x}")).collect();
    let base64 = {
        use base64ct::{Base64, Encoding as _};
        Base64::encode_string(&encoding_rs::GB18030.encode(ROWS).0)
    };
    use UnwrapStep::{Base64, Unescape, UrlDecode, UrlDecodeGb18030};
    let cases: [(&[UnwrapStep], String); 6] = [
        (&[], format!("\n <![CDATA[{ROWS}]]>\n ")),
        (&[], escaped),
        (&[Unescape], twice),
        (&[UrlDecode], url),
        (&[UrlDecodeGb18030], url_gb),
        (&[Base64], base64),
    ];
    for (steps, text) in cases {
        for at in [None, Some("/getResponse/return"), Some("/x:getResponse/*")] {
            let body =
                format!("<n:getResponse xmlns:n=\"u\"><return>{text}</return></n:getResponse>");
            let rows = told(&spec(FormatKind::Xml, at, steps), soap(&body));
            assert_eq!(rows, ["第1条 a|a=甲 & 乙", "第2条 a|a=2"], "{steps:?} {at:?}");
        }
        // The same in an outer document that is no envelope.
        let outer = format!("<string xmlns=\"http://tempuri.org/\">{text}</string>");
        assert_eq!(told(&spec(FormatKind::Xml, None, steps), outer).len(), 2);
    }
    let json = soap("<r><return>[{&quot;a&quot;:1}]</return></r>");
    assert_eq!(told(&spec(FormatKind::Json, None, &[]), json), ["第1条 a|a=1:Number"]);
    let csv = soap("<r><return>名称,文号\n甲,1\n</return></r>");
    assert_eq!(told(&spec(FormatKind::Csv, None, &[]), csv).len(), 1);
}

#[test]
fn records_as_elements_are_taken_without_soap_s_plumbing() {
    let body = "<n:r xmlns:n=\"u\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\
        <return xsi:type=\"n:Row\" k=\"&lt;\"><n:a xsi:nil=\"true\"/><b>甲&amp;</b></return>\
        <return><b>乙</b></return></n:r>";
    let mut spec = spec(FormatKind::Xml, Some("/r"), &[]);
    spec.record = Some("/r/return".to_owned());
    assert_eq!(told(&spec, soap(body)), ["第1条 @k|@k=<|a|b=甲&", "第2条 @k|@k|a|b=乙"]);
    spec.unwrap = Some(Unwrap::default());
    assert_eq!(told(&spec, soap(body)).len(), 2);
    spec.unwrap = Some(Unwrap { at: Some("/r/return".to_owned()), steps: Vec::new() });
    assert!(refused(&spec, soap(body)).contains("不止一个"));
}

#[test]
fn axis_references_are_written_out_and_rings_and_bombs_are_refused() {
    let body = "<n:gResponse xmlns:n=\"u\"><gReturn><item href=\"#id0\"/><item href=\"#id1\"/></gReturn></n:gResponse>\
        <multiRef id=\"id1\"><a>2</a><p href=\"#id2\"/></multiRef><multiRef id=\"id0\"><a>1</a><p href=\"#id2\"/></multiRef>\
        <multiRef id=\"id2\"><n>甲&amp;</n></multiRef>";
    let rows = ["第1条 a|a=1|p/n=甲&", "第2条 a|a=2|p/n=甲&"];
    for at in [Some("/gResponse/gReturn"), Some("/*/gReturn")] {
        assert_eq!(told(&spec(FormatKind::Xml, at, &[]), soap(body)), rows);
    }
    let mut guessed = spec(FormatKind::Xml, None, &[]);
    guessed.record = Some("/gResponse/gReturn/item".to_owned());
    assert_eq!(told(&guessed, soap(body)), rows);
    // The element itself, or what it is in, may be what is pointed at; so may a text.
    let behind = "<n:r xmlns:n=\"u\"><ret href=\"#b\"/></n:r><m id=\"b\"><rows href=\"#c\"/></m>\
        <m id=\"c\"><row><a>1</a></row><row><a>2</a></row></m>";
    let deep = spec(FormatKind::Xml, Some("/r/ret/rows"), &[]);
    assert_eq!(told(&deep, soap(behind)), ["第1条 a|a=1", "第2条 a|a=2"]);
    let text = "<r><ret href=\"#t\"/></r><m id=\"t\">&lt;D>&lt;R>&lt;a>1&lt;/a>&lt;/R>&lt;/D></m>";
    let texts = spec(FormatKind::Xml, Some("/r/ret"), &[UnwrapStep::Unescape]);
    assert_eq!(told(&texts, soap(text)), ["第1条 a|a=1"]);
    let spec = spec(FormatKind::Xml, Some("/r"), &[]);
    let ring = "<r href=\"#a\"/><m id=\"a\"><x href=\"#b\"/></m><m id=\"b\"><x href=\"#a\"/></m>";
    assert!(refused(&spec, soap(ring)).contains("成环"));
    assert!(refused(&spec, soap("<r href=\"#none\"/>")).contains("不在报文里"));
    assert!(refused(&spec, soap("<r href=\"#a\"/><m id=\"a\"/><m id=\"a\"/>")).contains("相同"));
    // Ten references on each of nine levels: a thousand million elements.
    let mut bomb = String::from("<r href=\"#n0\"/>");
    for level in 0..9 {
        let inner = format!("<x href=\"#n{}\"/>", level + 1).repeat(10);
        bomb.push_str(&format!("<m id=\"n{level}\">{inner}</m>"));
    }
    bomb.push_str("<m id=\"n9\"><a>1</a></m>");
    assert!(refused(&spec, soap(&bomb)).contains("超出上限"));
}

#[test]
fn references_of_soap_1_2_are_followed_and_leave_no_trace() {
    let ns = "xmlns:c=\"http://www.w3.org/2003/05/soap-encoding\" c:itemType=\"x\"";
    let spec = spec(FormatKind::Xml, Some("/r"), &[]);
    let body = |second: &str| {
        format!(
            "<r {ns}><row><a>1</a><p c:id=\"p\"><n>甲</n></p></row><row><a>2</a>{second}</row></r>"
        )
    };
    for second in ["<p c:ref=\"p\"/>", "<p c:ref=\"#p\"/>", "<p><n>甲</n></p>"] {
        assert_eq!(told(&spec, soap(&body(second))), ["第1条 a|a=1|p/n=甲", "第2条 a|a=2|p/n=甲"]);
    }
    assert!(refused(&spec, soap(&body("<p c:ref=\"q\"/>"))).contains("不在报文里"));
    let ring = format!("<r {ns} c:id=\"r\"><row><p c:ref=\"r\"/></row></r>");
    assert!(refused(&spec, soap(&ring)).contains("成环"));
}

#[test]
fn parts_of_a_mime_body_stand_where_they_are_included() {
    let include =
        "<xop:Include xmlns:xop=\"http://www.w3.org/2004/08/xop/include\" href=\"cid:d%40x\"/>";
    let envelope = soap(&format!("<r><return>{include}</return></r>"));
    let gb = encoding_rs::GB18030.encode(ROWS).0.into_owned();
    let mut mime = format!(
        "--u\r\nContent-Id: <a@x>\r\nContent-Type: application/octet-stream\r\n\r\nother\r\n\
         --u\r\nContent-Type: application/xop+xml; type=\"text/xml\"\r\n\r\n{envelope}\r\n\
         --u\r\nContent-ID: <d@x>\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    )
    .into_bytes();
    mime.extend_from_slice(&gb);
    mime.extend_from_slice(b"\r\n--u--\r\n");
    for at in [None, Some("/r/return")] {
        let spec = spec(FormatKind::Xml, at, &[UnwrapStep::Base64]);
        assert_eq!(told(&spec, &mime), ["第1条 a|a=甲 & 乙", "第2条 a|a=2"]);
    }
    // Inside records, it is the base64 of the part.
    let tree = soap(&format!("<r><row><n>1</n><f>{include}</f></row></r>"));
    let mime = format!(
        "--u\r\nContent-Type: application/xop+xml\r\n\r\n{tree}\r\n--u\r\nContent-ID: <d@x>\r\n\r\nabc\r\n--u--"
    );
    assert_eq!(told(&spec(FormatKind::Xml, Some("/r"), &[]), mime), ["第1条 n|n=1|f=YWJj"]);
    assert!(refused(&spec(FormatKind::Xml, Some("/r"), &[]), tree).contains("不在报文里"));
}

#[test]
fn an_empty_text_is_no_rows_and_a_fault_or_a_wrong_place_is_told() {
    let spec = spec(FormatKind::Xml, Some("/r/return"), &[]);
    for body in ["<r><return/></r>", "<r><return>  </return></r>"] {
        assert!(told(&spec, soap(body)).is_empty());
    }
    let fault =
        "<s:Fault><faultcode>s:Server</faultcode><faultstring>系统忙</faultstring></s:Fault>";
    assert!(refused(&spec, soap(fault)).contains("Fault"));
    assert!(refused(&spec, soap("<r><other/></r>")).contains("/r/return"));
    assert!(refused(&spec, soap("<r><return>x<y/></return></r>")).contains("既有文本又有元素"));
    assert!(refused(&spec, "<!DOCTYPE a><a/>").contains("DOCTYPE"));
    let steps = self::spec(FormatKind::Xml, Some("/r"), &[UnwrapStep::Base64]);
    assert!(refused(&steps, soap("<r><a/></r>")).contains("unwrap.do"));
}

#[test]
fn a_great_text_goes_through_in_pieces() {
    let row = "<R><a>甲 &amp; 乙</a></R>";
    let inner = format!("<D>{}</D>", row.repeat(200_000));
    let text = soap(&format!("<r><return><![CDATA[{inner}]]></return></r>"));
    let limits = Limits { cell_bytes: 4 << 10, ..Limits::default() };
    let seen =
        decode_within(&spec(FormatKind::Xml, None, &[]), text.as_bytes(), limits, usize::MAX);
    seen.end.unwrap();
    assert_eq!(seen.told.len(), 200_000);
}

#[test]
fn looking_counts_and_gives_the_first_text() {
    let text = soap("<r><code> 00 </code><row><n>1</n></row><row/></r>");
    let texts = ["/r/code", "/r/row", "/r/row/n", "/x"].map(Path::new).to_vec();
    let paths = Paths { texts, rows: Some(Path::new("/r/row")) };
    let at = |text: String, paths: &Paths| {
        look(&mut Cursor::new(text), Encoding::Auto, &Limits::default(), paths).unwrap()
    };
    let looked = at(text, &paths);
    assert_eq!(looked.version, Some(Version::V11));
    assert_eq!(
        looked.texts,
        ["00", "1", "1"]
            .map(|text| Some(text.to_owned()))
            .iter()
            .cloned()
            .chain([None])
            .collect::<Vec<_>>()
    );
    let rows = looked.rows.unwrap();
    assert_eq!(rows.count, 2);
    // Equal for equal rows, whatever stands around them.
    let print = |body: &str| at(soap(body), &paths).rows.unwrap().print;
    assert_eq!(print("<r><code>7</code><row><n>1</n></row><x/><row/></r>"), rows.print);
    for other in [
        "<r><row><n>2</n></row><row/></r>",
        "<r><row n=\"\"><n>1</n></row><row/></r>",
        "<r><row/><row><n>1</n></row></r>",
        "<r><row><n/>1</row><row/></r>",
    ] {
        assert_ne!(print(other), rows.print, "{other}");
    }
    let fault = crate::wire::soap::fault(Version::V12, true, "x", "令牌无效");
    let looked = at(fault, &Paths::default());
    assert_eq!(looked.fault.map(|fault| fault.text).as_deref(), Some("令牌无效"));
    let mut inner = String::new();
    document(
        &Unwrap::default(),
        Encoding::Auto,
        &mut Cursor::new(soap("<r><a>x</a></r>")),
        &Limits::default(),
        Box::new(Vec::new()),
    )
    .unwrap()
    .unwrap()
    .reader
    .read_to_string(&mut inner)
    .unwrap();
    assert_eq!(inner, "x");
}
