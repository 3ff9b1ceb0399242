//! SOAP: pages of a document in a text, from a service on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use xinqiao::domain::{self, Domain};
use xinqiao::pipeline::{Job, process};
use xinqiao_adapters::conformance::{TestInbox, run};
use xinqiao_core::model::{MappingId, Verdict};
use xinqiao_tests::{Result, Row, Scale};

use crate::files::{NAMES, mapping_of};
use crate::measure::{compare, measure, ourselves, report, script};

const ROWS: u64 = 100_000;
const PAGE: u64 = 1_000;

/// The flag of our child: a mapping, an address and a number of rows follow.
pub(crate) const CHILD: &str = "--pull-soap";

/// Our source beside zeep, each against the same service.
pub(crate) fn bench(scale: Scale) -> Result<()> {
    let rows = ROWS / scale.part;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // Made beforehand: the service costs neither side anything.
    let pages: Arc<Vec<String>> =
        Arc::new((0..=rows / PAGE).map(|page| made(page, rows)).collect());
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pages = Arc::clone(&pages);
            std::thread::spawn(move || serve(stream, &pages, &address.to_string()));
        }
    });
    let folder = tempfile::tempdir()?;
    let mapping = folder.path().join("soap.yaml");
    let format = "xml, unwrap: { at: /getDataResponse/return }, record: /DATAS/DATA";
    std::fs::write(&mapping, mapping_of(format))?;
    let url = format!("http://{address}/");
    let mut ours = || measure(ourselves(CHILD)?.arg(&mapping).arg(&url).arg(rows.to_string()));
    let mut theirs =
        || measure(script("soap", "by_zeep.py")?.arg(format!("{url}?wsdl")).arg(PAGE.to_string()));
    compare(scale, "SOAP pull", rows, &mut ours, &mut theirs)
}

/// Pulls every page by the source itself, then decodes, maps and validates each as it was stored.
pub(crate) fn child(arguments: &[String]) -> Result<()> {
    let [mapping, url, rows] = arguments else { return Err("a mapping, an address, rows".into()) };
    let rows: u64 = rows.parse()?;
    let mut bundle = domain::bundle(None)?;
    bundle.0.retain(|path, _| !path.starts_with("agencies/"));
    bundle.0.insert("agencies/made/file.yaml".into(), std::fs::read_to_string(mapping)?);
    let domain = Domain::load(bundle).map_err(|errors| errors.to_string())?;
    let (_, mapping) =
        domain.mappings.get(&MappingId::new("made-csv")?).ok_or("no such mapping")?;
    let params = json!({
        "endpoint": url, "poll-seconds": 60,
        "request": "<d:getData xmlns:d=\"urn:data\"><page>{page}</page><size>{size}</size></d:getData>",
        "answer": { "at": "/getDataResponse/return" }, "rows": { "at": "/DATAS/DATA" },
        "paging": { "page": { "size": PAGE, "resume": true } },
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inbox = Arc::new(TestInbox::default());
    let (mut seen, mut accepted) = (0, 0);
    let today = xinqiao_core::model::Timestamp(1_795_406_400_000).shanghai_date();
    let job = Job::dry(mapping, &domain, today);
    let begun = Instant::now();
    // Page by page, as a gateway processes them: none is kept.
    let counted = std::cell::RefCell::new((&mut seen, &mut accepted));
    runtime.block_on(run("soap", &params, &inbox, |inbox| {
        let pages = std::mem::take(&mut *inbox.held.lock().unwrap_or_else(|e| e.into_inner()));
        let mut counted = counted.borrow_mut();
        for page in pages {
            let mut input = std::io::Cursor::new(page.into_bytes());
            let done = process(&job, &mut input, &mut |row| {
                *counted.1 += u64::from(row.verdict != Verdict::Reject);
                ControlFlow::Continue(())
            });
            *counted.0 += done.map_or(0, |notes| notes.rows);
        }
        *counted.0 >= rows
    }));
    report(accepted, begun.elapsed())
}

fn made(page: u64, rows: u64) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><DATAS>");
    for number in page * PAGE..rows.min((page + 1) * PAGE) {
        text.push_str("<DATA>");
        for (name, cell) in NAMES.iter().zip(Row::new(number).cells()) {
            text.push_str(&format!("<{name}>{cell}</{name}>"));
        }
        text.push_str("</DATA>");
    }
    text.push_str("</DATAS>");
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <d:getDataResponse xmlns:d=\"urn:data\"><return>{text}</return></d:getDataResponse>\
         </s:Body></s:Envelope>"
    )
}

/// Answers every request on a connection: the description to GET, a page to POST.
fn serve(stream: TcpStream, pages: &[String], address: &str) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut get) = (String::new(), 0, false);
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            get |= line.starts_with("GET ");
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().ok()?;
                }
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let asked = String::from_utf8(body).ok()?;
        let page =
            || -> Option<usize> { asked.split("page>").nth(1)?.split('<').next()?.parse().ok() };
        let answer = match get {
            true => WSDL.replace("ADDRESS", address),
            // zeep may write a prefix: the name ends the same.
            false => pages.get(page()?.checked_sub(1)?)?.clone(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        writer.write_all(head.as_bytes()).ok()?;
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

const WSDL: &str = r#"<?xml version="1.0"?>
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:t="urn:data" targetNamespace="urn:data"
  xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:x="http://www.w3.org/2001/XMLSchema">
<types><x:schema targetNamespace="urn:data">
<x:element name="getData"><x:complexType><x:sequence><x:element name="page" type="x:int"/>
<x:element name="size" type="x:int"/></x:sequence></x:complexType></x:element>
<x:element name="getDataResponse"><x:complexType><x:sequence><x:element name="return" type="x:string"/>
</x:sequence></x:complexType></x:element></x:schema></types>
<message name="in"><part name="p" element="t:getData"/></message>
<message name="out"><part name="p" element="t:getDataResponse"/></message>
<portType name="P"><operation name="getData"><input message="t:in"/><output message="t:out"/></operation></portType>
<binding name="B" type="t:P"><s:binding transport="http://schemas.xmlsoap.org/soap/http"/>
<operation name="getData"><s:operation soapAction=""/><input><s:body use="literal"/></input>
<output><s:body use="literal"/></output></operation></binding>
<service name="S"><port name="Q" binding="t:B"><s:address location="http://ADDRESS/"/></port></service>
</definitions>"#;
