use serde_json::json;
use xinqiao_core::model::Unwrap;

use super::*;
use crate::wire::soap::Envelope;
use crate::wire::xml::Element;

fn format(kind: FormatKind, at: &str, record: Option<&str>) -> FormatSpec {
    let unwrap = Some(Unwrap { at: Some(at.to_owned()), steps: Vec::new() });
    FormatSpec { unwrap, record: record.map(str::to_owned), ..FormatSpec::new(kind) }
}

fn columns() -> Vec<String> {
    ["文书号", "CF_XDR"].map(str::to_owned).to_vec()
}

fn records(params: &Value) -> Result<Arc<dyn Listener>, Vec<ParamProblem>> {
    let format = format(FormatKind::Xml, "/submit", Some("/submit/record"));
    SoapPush.build("a", &format, &columns(), params)
}

#[test]
fn wrong_parameters_and_mappings_that_do_not_fit_are_told_at_once() {
    let problems = records(&json!({
        "style": "rpc", "operation": "a b", "base": "x", "wait-seconds": 500, "nonsense": 1,
    }));
    let problems = problems.unwrap_err();
    for at in ["style", "operation", "base", "wait-seconds", "nonsense", "profile"] {
        assert!(problems.iter().any(|problem| problem.at == at), "{at} {problems:?}");
    }
    let csv = FormatSpec::new(FormatKind::Csv);
    let odd = ["处罚类别(1)".to_owned()];
    let problems = SoapPush.build("a", &csv, &odd, &json!({})).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems.iter().any(|p| p.text.contains("处罚类别(1)")));
}

#[test]
fn the_description_is_one_document_that_names_every_column() {
    let listener = records(&json!({ "token-argument": "token" })).unwrap();
    let wsdl = listener.describe("https://gateway/soap/a?x=1&y=2");
    let root = Element::parse(&wsdl.body, 32).unwrap();
    assert_eq!(root.local(), "definitions");
    for part in ["name=\"文书号\"", "name=\"CF_XDR\"", "name=\"token\"", "x=1&amp;y=2"] {
        assert!(wsdl.body.contains(part), "{part}");
    }
    assert!(!wsdl.body.contains("import"));
}

#[test]
fn a_call_is_read_from_its_beginning() {
    let listener = records(&json!({ "token-argument": "token" })).unwrap();
    for (version, variant) in [(Version::V11, 1), (Version::V12, 2)] {
        let whole = envelope(
            version,
            "<h>x</h>",
            "<n:submit xmlns:n=\"u\"><token> t&amp;k </token><record><文书号>1</文书号></record></n:submit>",
        );
        let call = PushCall { variant, token: Some("t&k".to_owned()) };
        assert_eq!(listener.call(whole.as_bytes()).unwrap(), call);
        // Cut anywhere after the token, the rest is not asked for.
        let cut = whole.find("文书号").unwrap() + 1;
        assert_eq!(listener.call(&whole.as_bytes()[..cut]).unwrap(), call);
        let mime = format!("--b\r\nContent-ID: <root>\r\n\r\n{whole}\r\n--b--");
        assert_eq!(listener.call(mime.as_bytes()).unwrap(), call);
    }
    for (body, code) in [
        ("<x/>", "soap.no-envelope"),
        ("", "soap.no-envelope"),
        ("<!DOCTYPE a><a/>", "soap.forbidden"),
        (&envelope(Version::V11, "", "<other/>"), "soap.operation"),
    ] {
        assert_eq!(listener.call(body.as_bytes()).unwrap_err().code, code, "{body}");
    }
    let refusal =
        PushRefusal { code: "http.token".into(), text: "令牌无效".into(), callers: true };
    let told = listener.refuse(None, &refusal);
    let fault = Envelope::parse(&told.body).unwrap().fault().unwrap();
    assert_eq!((told.status, fault.text.as_str()), (500, "令牌无效"));
}

#[test]
fn an_answer_tells_counts_rows_and_receipt_or_that_it_has_to_be_waited_for() {
    use xinqiao_core::model::{Dimension, FeedId, Finding, Severity, Timestamp};
    use xinqiao_core::spi::{PushDone, PushRow, Receipt};
    let receipt = Receipt {
        message: 7,
        feed: FeedId::new("a").unwrap(),
        received: Timestamp(0),
        digest: String::new(),
        bytes: 1,
        duplicate: false,
    };
    let finding = Finding {
        rule: "uscc.check-digit".into(),
        severity: Severity::Error,
        dimension: Dimension::Accuracy,
        field: Some("CF_XDR_SHXYM".into()),
        column: None,
        cell: None,
        message: "校验码<不对>".to_owned(),
        fix: "请核对".to_owned(),
    };
    let told = vec![PushRow {
        row: 3,
        document: Some("甲〔2026〕1号".to_owned()),
        findings: vec![finding],
    }];
    let done = PushDone { rows: [1, 1, 1], told, ..PushDone::default() };
    let mut answer =
        PushAnswer { receipt, signed: ("line".to_owned(), "c2ln".to_owned()), done: Some(done) };
    let call = PushCall { variant: 2, token: None };
    let leaf = |element: &Element, name: &str| element.child(name).map(|leaf| leaf.text.clone());

    let listener = records(&json!({})).unwrap();
    let written = listener.answer(&call, &answer);
    let envelope = Envelope::parse(&written.body).unwrap();
    assert_eq!(envelope.version(), Version::V12);
    let result = envelope.first().unwrap().child("result").unwrap();
    for (name, text) in [
        ("code", "00"),
        ("message", "7"),
        ("total", "3"),
        ("doubtful", "1"),
        ("refused", "1"),
        ("signature", "c2ln"),
    ] {
        assert_eq!(leaf(result, name).as_deref(), Some(text), "{name}");
    }
    let finding = result.child("finding").unwrap();
    assert_eq!(leaf(finding, "text").as_deref(), Some("校验码<不对>"));

    let json = format(FormatKind::Json, "/execute/json", None);
    let listener = SoapPush
        .build("a", &json, &[], &json!({ "profile": "execute-json", "style": "rpc-encoded" }))
        .unwrap();
    let text = |answer: &PushAnswer| {
        let body = listener.answer(&PushCall { variant: 1, token: None }, answer).body;
        let envelope = Envelope::parse(&body).unwrap();
        serde_json::from_str::<Value>(&leaf(envelope.first().unwrap(), "return").unwrap()).unwrap()
    };
    let said = text(&answer);
    assert_eq!(
        (&said["errorCode"], &said["failSize"], &said["errorSize"]),
        (&json!("200"), &json!(1), &json!(1))
    );
    assert_eq!(said["errorBody"][0]["rowNum"], 3);
    answer.done = None;
    let said = text(&answer);
    assert_eq!((&said["errorCode"], &said["message"]), (&json!("202"), &json!(7)));
    assert!(said["errorMsg"].as_str().unwrap().contains('7'));
    answer.done = Some(PushDone {
        error: Some(("decode.malformed".into(), "坏".into())),
        ..PushDone::default()
    });
    assert_eq!(text(&answer)["errorCode"], "5001");
    answer.done = Some(PushDone::default());
    assert_eq!(text(&answer)["errorCode"], "6001");
}
