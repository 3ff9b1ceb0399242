//! What the demo shows: a block redrawn in place on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use tokio::time::Instant;
use xinqiao_core::model::FeedId;
use xinqiao_store::{ItemState, StatusView};

use super::agencies::AGENCIES;
use super::platform::Traffic;
use super::stage::Stage;
use super::tally::{FeedTally, Tally};

/// Standard output. A reader that has gone away is no reason to stop: write errors are let pass.
pub(super) struct Screen {
    terminal: bool,
    /// Shows nothing (tests).
    quiet: bool,
    /// Lines of the block on the terminal.
    drawn: usize,
    last: Option<Instant>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), quiet: false, drawn: 0, last: None }
    }

    #[cfg(test)]
    pub(super) fn quiet() -> Self {
        Self { terminal: false, quiet: true, drawn: 0, last: None }
    }

    /// One line.
    pub(super) fn line(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// How things stand; at most once a second.
    pub(super) fn status(&mut self, status: &StatusView, traffic: Traffic, elapsed: Duration) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.last = Some(Instant::now());
        let queue: u64 = [ItemState::Ready, ItemState::Waiting, ItemState::Leased]
            .iter()
            .flat_map(|state| status.targets.values().filter_map(|t| t.states.get(state)))
            .sum();
        let sum = |of: fn(&xinqiao_store::FeedCounters) -> u64| -> u64 {
            status.feeds.values().map(of).sum()
        };
        let head = format!(
            "{:>3}秒 已收{}行 规则拒收{} 重复{} 平台接收{} 平台拒收{} 待投递{queue} 平台停机应答{} 断线{}",
            elapsed.as_secs(),
            sum(|f| f.rows),
            sum(|f| f.rejected),
            sum(|f| f.repeated),
            sum(|f| f.accepted),
            sum(|f| f.refused),
            traffic.turned_away,
            traffic.broken,
        );
        if !self.terminal {
            self.line(&head);
            return;
        }
        let mut lines = vec![head];
        for agency in AGENCIES {
            let feed = FeedId::new(agency.feed).ok().and_then(|id| status.feeds.get(&id));
            let Some(feed) = feed else { continue };
            lines.push(format!(
                "  {} {}:收{} 拒{} 平台接收{}",
                agency.name, agency.shape, feed.rows, feed.rejected, feed.accepted
            ));
        }
        let mut out = io::stdout().lock();
        // Hides the cursor, goes back to the block's first line and clears from there.
        let _ = write!(out, "\x1b[?25l");
        if self.drawn > 0 {
            let _ = write!(out, "\x1b[{}F\x1b[J", self.drawn);
        }
        let _ = writeln!(out, "{}", lines.join("\n"));
        let _ = out.flush();
        self.drawn = lines.len();
    }

    /// The block stays as it is.
    pub(super) fn done(&mut self) {
        if self.drawn > 0 {
            let _ = write!(io::stdout().lock(), "\x1b[?25h");
        }
        self.drawn = 0;
    }

    /// The table by agency.
    pub(super) fn table(&self, tally: &Tally, traffic: Traffic, elapsed: Duration) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "委办局",
            "收到",
            "拒收",
            "平台拒收",
            "平台接收",
            "其中更正",
            "重复",
            "暂存",
            "承诺按时",
            "法定按时",
            "逾期",
            "逾期责任",
            "重试",
        ]);
        for feed in &tally.feeds {
            table.add_row(cells(feed));
        }
        for (at, column) in table.column_iter_mut().enumerate() {
            if at != 0 && at != 10 {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.line(&table.to_string());
        self.line(&format!(
            "用时{}.{}秒;平台停机应答{}次,断线{}次,重复送达{}行(均按行键识别,无重复入库)",
            elapsed.as_secs(),
            elapsed.subsec_millis() / 100,
            traffic.turned_away,
            traffic.broken,
            traffic.repeats
        ));
        match tally.unaccounted() {
            0 => self.line("每一行都有着落,与平台台账逐条相符"),
            missing => self.line(&format!("有{missing}行没有着落")),
        }
        match tally.unbalanced().as_slice() {
            [] => self.line(
                "账目平衡:收到=拒收+平台拒收+平台接收+重复+暂存(待补对照表),平台接收=法定按时+逾期;\
                 更正按其所更正的记录是否按时计,status 按记录计数",
            ),
            feeds => self.line(&format!("账目不平衡的接入任务:{}", feeds.join("、"))),
        }
    }

    /// Where to go on.
    pub(super) fn look(&self, stage: &Stage, exit: bool) {
        let dir = stage.shown();
        if !exit {
            self.line("网关仍在运行。另开一个终端可以查看(按 Ctrl-C 结束):");
        } else if stage.stays() {
            self.line("数据已保留,可以查看:");
        } else {
            return;
        }
        self.line(&format!("  xinqiao status --config {dir}"));
        self.line(&format!("  xinqiao verdicts --config {dir} --feed sthj-admin-penalty"));
        self.line(&format!("  xinqiao queue ls --config {dir} --state refused"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.done();
    }
}

fn cells(feed: &FeedTally) -> Vec<String> {
    let c = &feed.clocks;
    let owners: Vec<String> = [
        ("委办局", c.late_agency),
        ("更正迟", c.late_refusal),
        ("网关", c.late_gateway),
        ("平台", c.late_platform),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(name, count)| format!("{name}{count}"))
    .collect();
    vec![
        feed.agency.to_owned(),
        feed.received.to_string(),
        feed.refused.to_string(),
        feed.refused_by_platform.to_string(),
        feed.accepted.to_string(),
        feed.corrected.to_string(),
        feed.repeated.to_string(),
        feed.held.to_string(),
        c.on_time_pledged.to_string(),
        c.on_time_statutory.to_string(),
        c.late().to_string(),
        owners.join(" "),
        feed.counters.retried.to_string(),
    ]
}
