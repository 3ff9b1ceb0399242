//! A message that could not be read (in full) has no row to stand on: it gets a line of its own.

use xinqiao_core::model::{Dimension, Finding, Severity, Verdict};
use xinqiao_store::{MessageView, RowOutcome, RowVerdictView};

/// The number of the line that speaks of a message as a whole.
pub(crate) const WHOLE: u64 = 0;

/// The line of a message that could not be read in full.
pub(crate) fn verdict(message: &MessageView) -> Option<RowVerdictView> {
    let (code, text) = message.end.as_ref()?.error.as_ref()?;
    let rows: u64 = message.rows.iter().sum();
    let read = if rows == 0 {
        "整个报文未能读取".to_owned()
    } else {
        format!("报文只读取了前{rows}行,其后未能读取")
    };
    let finding = Finding {
        rule: code.clone().into(),
        severity: Severity::Error,
        dimension: Dimension::Accessibility,
        field: None,
        column: None,
        cell: None,
        message: format!("{read}:{text}"),
        fix: fix(code).to_owned(),
    };
    Some(RowVerdictView {
        row: WHOLE,
        document: None,
        verdict: Verdict::Reject,
        findings: vec![finding],
        outcome: RowOutcome::Rejected,
        delivery: Vec::new(),
        met: None,
    })
}

/// What to do about it.
fn fix(code: &str) -> &'static str {
    match code {
        "decode.wrong-format" => {
            "按约定的格式重新导出后报送;确已改用别的格式的,请联系平台运维修改映射规则"
        }
        "decode.malformed" => "打开文件核对所指的位置,用业务系统重新导出后报送",
        "decode.no-heading" => "补上表头(列名与约定一致)后报送",
        "decode.limit" => "拆成几个较小的文件后报送",
        "decode.forbidden" => "去掉密码、宏、外部引用等内容,另存后报送",
        "decode.empty" => "核对导出是否成功,重新导出后报送",
        "mapping.unknown-column" => {
            "删去多出的列后报送;新增的列确有用的,请联系平台运维修改映射规则"
        }
        _ => "请联系平台运维;原始报文已保留",
    }
}
