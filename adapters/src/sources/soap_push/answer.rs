//! What became of a message, in each profile's words.

use serde_json::{Value, json};
use xinqiao_core::model::{Finding, Severity};
use xinqiao_core::spi::{PushAnswer, PushDone};

use crate::wire::xml::escape;

/// 接口答复的代码: the vendors' where they have one.
fn codes(answer: &PushAnswer) -> (&'static str, &'static str, String) {
    let Some(done) = &answer.done else {
        let text = format!("已收下,还在处理,请稍后凭编号{}查询", answer.receipt.message);
        return ("02", "202", text);
    };
    match &done.error {
        Some((_, text)) => ("01", "5001", text.clone()),
        None if total(done) == 0 => ("01", "6001", "报文里没有数据行".to_owned()),
        None => ("00", "200", "已处理".to_owned()),
    }
}

fn total(done: &PushDone) -> u64 {
    done.rows.iter().sum()
}

/// The counts, if it is processed: all, taken without a word, doubtful, refused.
fn counts(answer: &PushAnswer) -> Option<[(&'static str, u64); 4]> {
    let done = answer.done.as_ref()?;
    let [success, doubtful, refused] = done.rows;
    Some([
        ("total", total(done)),
        ("success", success),
        ("doubtful", doubtful),
        ("refused", refused),
    ])
}

/// Findings with the row each belongs to.
fn findings(answer: &PushAnswer) -> impl Iterator<Item = (u64, Option<&str>, &Finding)> {
    let rows = answer.done.iter().flat_map(|done| &done.told);
    rows.flat_map(|row| row.findings.iter().map(|f| (row.row, row.document.as_deref(), f)))
}

fn level(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn element(out: &mut String, name: &str, text: &str) {
    out.push_str(&format!("<{name}>"));
    escape(text, out);
    out.push_str(&format!("</{name}>"));
}

/// The elements of `result`, in the order of the schema.
pub(super) fn records(answer: &PushAnswer, out: &mut String) {
    let (code, _, text) = codes(answer);
    out.push_str("<result>");
    element(out, "code", code);
    element(out, "text", &text);
    element(out, "message", &answer.receipt.message.to_string());
    element(out, "duplicate", if answer.receipt.duplicate { "true" } else { "false" });
    for (name, count) in counts(answer).into_iter().flatten() {
        element(out, name, &count.to_string());
    }
    for (row, document, finding) in findings(answer) {
        out.push_str("<finding>");
        element(out, "row", &row.to_string());
        if let Some(document) = document {
            element(out, "document", document);
        }
        element(out, "level", level(finding));
        element(out, "rule", &finding.rule);
        if let Some(field) = &finding.field {
            element(out, "field", field);
        }
        element(out, "text", &finding.message);
        element(out, "fix", &finding.fix);
        out.push_str("</finding>");
    }
    element(
        out,
        "more",
        if answer.done.as_ref().is_some_and(|d| d.more) { "true" } else { "false" },
    );
    element(out, "statement", &answer.signed.0);
    element(out, "signature", &answer.signed.1);
    out.push_str("</result>");
}

/// The vendors' JSON.
pub(super) fn json(answer: &PushAnswer) -> String {
    let (_, code, text) = codes(answer);
    let rows = answer.done.iter().flat_map(|done| &done.told);
    let body: Vec<Value> = rows
        .map(|row| {
            let errors: Vec<Value> = row
                .findings
                .iter()
                .map(|f| {
                    json!({ "level": level(f), "rule": f.rule, "field": f.field, "text": f.message, "fix": f.fix })
                })
                .collect();
            let told: Vec<&str> = row.findings.iter().map(|f| f.message.as_str()).collect();
            json!({ "rowNum": row.row, "document": row.document, "errorMsg": told.join(";"), "errors": errors })
        })
        .collect();
    let [total, success, fail, error] =
        counts(answer).map_or([0; 4], |counts| counts.map(|(_, count)| count));
    let done = answer.done.as_ref();
    json!({
        "errorCode": code, "errorMsg": text,
        "totalSize": total, "successSize": success, "failSize": fail, "errorSize": error,
        "errorBody": body, "more": done.is_some_and(|done| done.more),
        "tips": done.map(|done| done.notes.join(";")).unwrap_or_default(),
        "message": answer.receipt.message, "duplicate": answer.receipt.duplicate,
        "statement": answer.signed.0, "signature": answer.signed.1,
    })
    .to_string()
}

/// Like the national answer: `<code>` and `<line>`s, in one root.
pub(super) fn xml(answer: &PushAnswer) -> String {
    let (code, _, text) = codes(answer);
    let mut out = String::from("<result>");
    element(&mut out, "code", code);
    element(&mut out, "msg", &text);
    element(&mut out, "message", &answer.receipt.message.to_string());
    for (name, count) in counts(answer).into_iter().flatten() {
        element(&mut out, name, &count.to_string());
    }
    for (row, document, finding) in findings(answer) {
        // A line is a refusal, as in the national answer.
        let name = if finding.severity == Severity::Error { "line" } else { "hint" };
        out.push_str(&format!("<{name} no=\"{row}\">"));
        if let Some(document) = document {
            element(&mut out, "document", document);
        }
        element(&mut out, "rule", &finding.rule);
        element(&mut out, "msg", &finding.message);
        element(&mut out, "fix", &finding.fix);
        out.push_str(&format!("</{name}>"));
    }
    element(&mut out, "statement", &answer.signed.0);
    element(&mut out, "signature", &answer.signed.1);
    out + "</result>"
}
