//! The list (反馈清单): comma-separated text that Excel opens by itself. First what is to be said of
//! the message, then every row that something is to be said of.

use bytes::Bytes;
use time::Date;
use xinqiao_core::ident::personal::mask;
use xinqiao_core::spi::{Receipt, Standing};
use xinqiao_http::receipts::arrival;
use xinqiao_store::{ItemState, MessageView, RowOutcome, RowVerdictView};

use super::standing::{answer, is_given_up};
use super::{MOST_BYTES, MOST_ROWS, WHOLE, clean, lines, standing, whole_verdict, word};

/// The columns.
const HEADINGS: [&str; 8] = ["行", "文书号", "结论", "规则", "单元格", "问题", "改法", "平台答复"];
/// Without it Excel takes the text for GBK.
const BOM: &str = "\u{feff}";

pub(super) struct List<'a> {
    message: &'a MessageView,
    today: Date,
    text: String,
    /// Rows told of that stand badly, and that are only warned of.
    told: [usize; 2],
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    rows: u64,
    rejected: u64,
    warned: u64,
    repeated: u64,
    held: u64,
    accepted: u64,
    refused: u64,
    given_up: u64,
    /// Something is to be said of them, and there is no room.
    left: u64,
}

impl<'a> List<'a> {
    pub(super) fn new(message: &'a MessageView, today: Date) -> Self {
        Self { message, today, text: String::new(), told: [0; 2], counts: Counts::default() }
    }

    /// Counts a row; whether it is told of: it has findings or stands badly, and there is room.
    pub(super) fn row(&mut self, row: &RowVerdictView) -> bool {
        self.counts.count(row);
        let bad = matches!(standing(row), Standing::Refused | Standing::Held);
        if row.findings.is_empty() && !bad {
            return false;
        }
        let [badly, warned] = &mut self.told;
        // Warnings leave room for what has to be corrected.
        let told = if bad { badly } else { warned };
        if *told >= MOST_ROWS || self.text.len() >= MOST_BYTES {
            self.counts.left += 1;
            return false;
        }
        *told += 1;
        self.lines(row);
        true
    }

    /// The text.
    pub(super) fn finish(mut self) -> Bytes {
        let rows = std::mem::take(&mut self.text);
        self.text.push_str(BOM);
        self.line(HEADINGS);
        let whole = whole_verdict(self.message);
        let (end, fix) = self.counts.end(whole.is_some());
        self.line(["合计", "", end, "", "", &self.counts.told(), fix, ""]);
        let message = self.message;
        let receipt = Receipt {
            message: message.id,
            feed: message.feed.clone(),
            received: message.received,
            digest: message.digest.clone(),
            bytes: message.bytes,
            duplicate: false,
        };
        self.line(["回执", "", "", "", "", &arrival(&receipt), "", ""]);
        for note in message.end.iter().flat_map(|end| &end.notes) {
            self.line(["提示", "", "", "", "", &clean(note), "", ""]);
        }
        if let Some(row) = whole {
            self.lines(&row);
        }
        self.text.push_str(&rows);
        if self.counts.left > 0 {
            let left = format!("另有{}行有问题,没有列出", self.counts.left);
            self.line(["其余", "", "", "", "", &left, "先改正以上各行后报送,其余的随后列出", ""]);
        }
        self.text.into()
    }

    fn lines(&mut self, row: &RowVerdictView) {
        let (answer, number) = match row.row {
            WHOLE => (String::new(), "整个报文".to_owned()),
            number => (answer(row), number.to_string()),
        };
        for [document, verdict, cell, rule, message, fix] in lines(row, word(row)) {
            self.line([&number, &document, &verdict, &rule, &cell, &message, &fix, &answer]);
        }
    }

    fn line(&mut self, cells: [&str; 8]) {
        for (at, cell) in cells.into_iter().enumerate() {
            if at > 0 {
                self.text.push(',');
            }
            let cell = text(&mask(cell, self.today));
            if cell.contains([',', '"']) {
                self.text.push('"');
                self.text.push_str(&cell.replace('"', "\"\""));
                self.text.push('"');
            } else {
                self.text.push_str(&cell);
            }
        }
        self.text.push_str("\r\n");
    }
}

impl Counts {
    fn count(&mut self, row: &RowVerdictView) {
        self.rows += 1;
        match row.outcome {
            RowOutcome::Rejected => {
                self.rejected += 1;
                return;
            }
            RowOutcome::Held => {
                self.held += 1;
                return;
            }
            RowOutcome::Duplicate | RowOutcome::Stale => self.repeated += 1,
            RowOutcome::New { .. } | RowOutcome::Correction { .. } | RowOutcome::Mapped => {}
        }
        let ours = |finding: &&xinqiao_core::model::Finding| finding.rule != "target.refused";
        self.warned += u64::from(row.findings.iter().any(|finding| ours(&finding)));
        let any = |is: &dyn Fn(ItemState) -> bool| row.delivery.iter().any(|(_, state)| is(*state));
        if any(&|state| state == ItemState::Refused) {
            self.refused += 1;
        } else if any(&is_given_up) {
            self.given_up += 1;
        } else if standing(row) == Standing::Accepted {
            self.accepted += 1;
        }
    }

    /// What it comes to, and what to do about it.
    fn end(&self, failed: bool) -> (&'static str, &'static str) {
        let again = "改正后重新报送,可以只报改正的行;时限仍从决定日期起算";
        if failed || self.rejected + self.refused > 0 {
            ("有退回", again)
        } else if self.held > 0 {
            (
                "有暂存",
                "补填统一社会信用代码后重新报送,或等对照表补充后自动处理;时限仍从决定日期起算",
            )
        } else if self.given_up > 0 {
            ("接受,待处理", "由网关运维人员处理,不必重新报送")
        } else if self.warned > 0 {
            ("全部接受,有提醒", "")
        } else {
            ("全部接受", "")
        }
    }

    fn told(&self) -> String {
        let Self { rows, rejected, warned, repeated, held, accepted, refused, given_up, .. } = self;
        let taken = rows - rejected - held;
        let waiting = taken.saturating_sub(accepted + refused + given_up);
        format!(
            "共{rows}行:收下{taken}行(有提醒{warned}行,重复{repeated}行),退回{rejected}行,暂存{held}行;\
             平台已受理{accepted}行,拒收{refused}行,待受理{waiting}行,待运维处理{given_up}行"
        )
    }
}

/// A cell that no spreadsheet takes for a formula.
fn text(cell: &str) -> String {
    match cell.trim_start().chars().next() {
        // Full-width signs count for Excel as well.
        Some('=' | '+' | '-' | '@' | '\u{ff1d}' | '\u{ff0b}' | '\u{ff0d}' | '\u{ff20}') => {
            format!("'{cell}")
        }
        _ => cell.to_owned(),
    }
}
