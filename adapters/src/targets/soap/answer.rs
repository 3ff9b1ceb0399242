//! What a service says of the rows it was sent.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};
use xinqiao_core::spi::{Outcome, TargetError};

use super::super::rest::{clean, later};
use crate::wire::params::scalar;
use crate::wire::xml::Element;

/// A row as it was sent: names and texts.
pub(super) type RowOut<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The national shape: `<code>00</code>` and `<line>`s. A line with a text (or a code of its own that
/// is not good) refuses the row of its number, counted from 1. A number alone beside a good code is
/// how many rows were taken; beside another it is the row that the whole batch was refused for.
pub(super) fn national(
    text: &str,
    rows: usize,
    ok: &[String],
    retry: &[String],
) -> Result<Vec<Outcome>, TargetError> {
    let unknown = |detail: &str| TargetError::Unknown { detail: detail.to_owned() };
    let text = text.trim().trim_start_matches('\u{feff}');
    let text = match text.strip_prefix("<?").and_then(|rest| rest.split_once("?>")) {
        Some((_, rest)) => rest,
        None => text,
    };
    // It has no root: code and lines stand side by side.
    let Ok(root) = Element::parse(&format!("<answer>{text}</answer>"), 16) else {
        return Err(unknown("答复无法读取:不是约定的 <code> 和 <line>"));
    };
    let (mut codes, mut lines) = (Vec::new(), Vec::new());
    named(&root, "line", &mut lines);
    // A line's own code is not the answer's.
    outside(&root, "line", "code", &mut codes);
    let Some(code) = codes.first().map(|code| code.text.trim()) else {
        return Err(unknown("答复里没有 <code>"));
    };
    let good = ok.iter().any(|known| known == code);
    let mut refused: Vec<(usize, String, String)> = Vec::new();
    for line in lines {
        let (number, own, message) = line_of(line);
        let own_good = own.as_ref().is_some_and(|own| ok.contains(own));
        match number {
            _ if own_good => {}
            Some(number) if message.is_empty() && own.is_none() && good => {
                if number != rows {
                    return Err(unknown(&format!("目标说收了{number}条,发出的是{rows}条")));
                }
            }
            Some(number) if (1..=rows).contains(&number) => {
                refused.push((number - 1, own.unwrap_or_else(|| code.to_owned()), message));
            }
            Some(_) => return Err(unknown("答复里的行号超出所发的行")),
            None if message.is_empty() => {}
            None => return Err(unknown("答复里的 <line> 没有行号")),
        }
    }
    if !good && refused.is_empty() {
        let told = root.child("msg").or(root.child("message")).map(|m| m.text.as_str());
        let detail =
            format!("答复代码 {}:{}", clean(code, 64), clean(told.unwrap_or_default(), 200));
        return Err(match retry.iter().any(|known| known == code) {
            true => TargetError::NotTaken { detail, retry_after: None },
            false => TargetError::Rejected { detail },
        });
    }
    let rest = match good {
        true => Outcome::Accepted,
        false => later("target.batch-refused", "目标因其他行退回了整批"),
    };
    let mut outcomes = vec![rest; rows];
    for (ix, code, message) in refused {
        let message =
            if message.is_empty() { "目标退回此行,未说明原因" } else { &message };
        outcomes[ix] = Outcome::Refused { code: clean(&code, 64), message: clean(message, 200) };
    }
    Ok(outcomes)
}

/// Number, code and text of a `<line>`: in elements or attributes of its own, or `3:主体不匹配`.
fn line_of(line: &Element) -> (Option<usize>, Option<String>, String) {
    let part = |names: &[&str]| {
        names.iter().find_map(|name| {
            let child = line.child(name).map(|child| child.text.as_str());
            child.or(line.attribute(name)).map(|text| text.trim().to_owned())
        })
    };
    let number = part(&["no", "num", "row", "index"]).and_then(|number| number.parse().ok());
    let own = part(&["code"]);
    let message = part(&["msg", "message", "error", "desc"]);
    let text = line.text.trim();
    // `第3行:…`
    let counted = text.strip_prefix('第').map_or(text, str::trim_start);
    let text = if counted.starts_with(|c: char| c.is_ascii_digit()) { counted } else { text };
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (leading, rest) = text.split_at(digits);
    match number {
        Some(_) => (number, own, message.unwrap_or_else(|| text.to_owned())),
        None => {
            let rest =
                rest.trim_start_matches(|c: char| c.is_whitespace() || ":::,,、.行条".contains(c));
            (leading.parse().ok(), own, message.unwrap_or_else(|| rest.to_owned()))
        }
    }
}

/// As [`named`], but for what is in elements called `around`.
fn outside<'e>(element: &'e Element, around: &str, name: &str, found: &mut Vec<&'e Element>) {
    for child in &element.children {
        if child.local().eq_ignore_ascii_case(name) {
            found.push(child);
        } else if !child.local().eq_ignore_ascii_case(around) {
            outside(child, around, name, found);
        }
    }
}

fn named<'e>(element: &'e Element, name: &str, found: &mut Vec<&'e Element>) {
    for child in &element.children {
        if child.local().eq_ignore_ascii_case(name) {
            found.push(child);
        } else {
            named(child, name, found);
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Executed {
    error_code: Value,
    #[serde(default)]
    error_msg: Value,
    #[serde(default)]
    total_size: Value,
    #[serde(default)]
    success_size: Value,
    #[serde(default)]
    fail_size: Value,
    #[serde(default)]
    error_size: Value,
    #[serde(default)]
    error_body: Value,
}

/// The vendors' shape. Rows named in `errorBody` are refused, doubtful ones too (`failSize`: the
/// service keeps them for correction, and only the agency can correct them). What is taken must be
/// said (`successSize`, or `totalSize` without the others), the numbers must add up, and refused or
/// doubtful rows must be named, unless they are all: anything else is unknown.
pub(super) fn execute(
    text: &str,
    rows: &[RowOut<'_>],
    key_field: Option<&str>,
    (ok, retry): (&[String], &[String]),
) -> Result<Vec<Outcome>, TargetError> {
    let unknown = |detail: String| TargetError::Unknown { detail };
    let said: Executed = serde_json::from_str(text.trim())
        .map_err(|_| unknown("答复无法读取:不是约定的JSON(应有 errorCode)".to_owned()))?;
    let code =
        scalar(&said.error_code).ok_or_else(|| unknown("答复的 errorCode 不是文本".to_owned()))?;
    if !ok.contains(&code) {
        let message = scalar(&said.error_msg).unwrap_or_default();
        let detail = format!("答复代码 {}:{}", clean(&code, 64), clean(&message, 200));
        return Err(match retry.contains(&code) {
            true => TargetError::NotTaken { detail, retry_after: None },
            false => TargetError::Rejected { detail },
        });
    }
    let size = |value: &Value| scalar(value).and_then(|text| text.parse::<usize>().ok());
    let total = size(&said.total_size);
    if let Some(total) = total.filter(|total| *total != rows.len()) {
        return Err(unknown(format!("目标说收到{total}条,发出的是{}条", rows.len())));
    }
    let held_back =
        size(&said.fail_size).unwrap_or(0).saturating_add(size(&said.error_size).unwrap_or(0));
    let success = size(&said.success_size).or(total.and_then(|total| total.checked_sub(held_back)));
    let success =
        success.ok_or_else(|| unknown("答复没有说成功几条(successSize、totalSize)".to_owned()))?;
    if success.saturating_add(held_back) != rows.len() {
        return Err(unknown(format!(
            "目标说成功{success}条、疑问和退回共{held_back}条,发出的是{}条",
            rows.len()
        )));
    }
    // A list, or the JSON of one.
    let body = match &said.error_body {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => serde_json::from_str(text)
            .map_err(|_| unknown("答复的 errorBody 不是JSON".to_owned()))?,
        other => other.clone(),
    };
    let named: Vec<&Map<String, Value>> = match &body {
        Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
        Value::Object(one) => vec![one],
        _ => Vec::new(),
    };
    let mut outcomes = vec![Outcome::Accepted; rows.len()];
    for one in &named {
        let ix = row_of(one, rows, key_field, &outcomes)
            .ok_or_else(|| unknown("errorBody 中有对不上的行,请设 key-field".to_owned()))?;
        let part = |names: &[&str]| names.iter().find_map(|name| one.get(*name).and_then(scalar));
        let code = part(&["errorCode", "code"]).unwrap_or_else(|| "error".to_owned());
        let message = part(&["errorMsg", "errorInfo", "error", "message", "msg", "reason"]);
        let message = clean(&message.unwrap_or_else(|| "目标退回此行,未说明原因".to_owned()), 200);
        outcomes[ix] = Outcome::Refused { code: clean(&code, 64), message };
    }
    let told = outcomes.iter().filter(|one| **one != Outcome::Accepted).count();
    if told > held_back {
        return Err(unknown(format!("errorBody 列了{told}条,疑问和退回共{held_back}条")));
    }
    if told < held_back && success > 0 {
        let unnamed = held_back - told;
        return Err(unknown(format!("目标有{unnamed}条疑问或退回,但没有说明是哪几条")));
    }
    let text = "目标把整批列为疑问或退回,未逐条说明";
    let all = Outcome::Refused { code: "error".to_owned(), message: text.to_owned() };
    if success == 0 {
        outcomes
            .iter_mut()
            .filter(|one| **one == Outcome::Accepted)
            .for_each(|one| *one = all.clone());
    }
    Ok(outcomes)
}

/// Which row is meant: by its key, else by its number (from 1), else by all that was sent of it. The
/// first such that is not refused yet.
fn row_of(
    one: &Map<String, Value>,
    rows: &[RowOut<'_>],
    key_field: Option<&str>,
    outcomes: &[Outcome],
) -> Option<usize> {
    let echoed = one.get("row").or(one.get("data")).and_then(Value::as_object).unwrap_or(one);
    let has = |name: &str, text: &str| echoed.get(name).and_then(scalar).as_deref() == Some(text);
    let free = |ix: &usize| outcomes.get(*ix) == Some(&Outcome::Accepted);
    let find = |fits: &dyn Fn(&RowOut<'_>) -> bool| {
        (0..rows.len()).filter(free).find(|ix| rows.get(*ix).is_some_and(fits))
    };
    if let Some(key) = key_field {
        return find(&|row| row.iter().any(|(name, text)| *name == key && has(name, text)));
    }
    for name in ["rowNum", "rowNo", "index", "line"] {
        if let Some(number) = one.get(name).and_then(scalar).and_then(|n| n.parse::<usize>().ok()) {
            return number.checked_sub(1).filter(|ix| *ix < rows.len());
        }
    }
    find(&|row| !row.is_empty() && row.iter().all(|(name, text)| has(name, text)))
}
