//! Feedback (反馈): what an agency is told of a message it sent, and in which form.
//!
//! What has to be told is noted by the store; here it is read again from what the store holds, so
//! that telling twice tells the same. [`Telling::files`] makes the files beside a source,
//! [`Telling::rows`] the rows of a table. Both read everything page by page.

mod book;
mod lines;
mod list;
mod standing;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use time::Date;
use xinqiao_adapters::formats;
use xinqiao_core::model::{
    Columns, Finding, FormatKind, FormatSpec, Place, Row, Timestamp, Verdict,
};
use xinqiao_core::spi::{FeedbackRow, Limits, RowSink, Scratch};
use xinqiao_store::{MessageView, PendingFeedback, RowVerdictView, Store, StoreError};

use book::Book;
use list::List;

pub(crate) use lines::{clean, lines, word};
pub(crate) use standing::{reason, standing};
pub(crate) use whole::{WHOLE, verdict as whole_verdict};

/// Rows read, or given, together.
const PAGE: usize = 500;
/// Rows told of in a file that stand badly, as many that are only warned of, and bytes of text in
/// each file: an agency does not read more at a time, and a file is held in memory.
const MOST_ROWS: usize = 5_000;
const MOST_BYTES: usize = 16 << 20;

/// One message, about to be told of.
pub(crate) struct Telling<'a> {
    /// What is told.
    pub(crate) store: &'a Store,
    /// How its bytes are read again; `None` if they are not to be shown: the agency sealed them.
    pub(crate) format: Option<&'a FormatSpec>,
    /// The message.
    pub(crate) message: &'a MessageView,
    /// Whoever may be a living person is one as of today.
    pub(crate) today: Date,
    /// Whether to leave off: the gateway stops.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// A row that a file speaks of.
struct ToldRow {
    /// Its number for people.
    row: u64,
    verdict: Verdict,
    /// What its verdict is called.
    word: &'static str,
    reason: String,
    /// The cells that something is wrong with.
    cells: Vec<String>,
}

/// A row to be told of, with its index and the time it came to stand so.
type Wanted = (u64, RowVerdictView, Timestamp);

/// Makes of a batch of rows what it will; `Break` ends the telling.
pub(crate) type Give<'a> = &'a mut dyn FnMut(Vec<FeedbackRow>) -> ControlFlow<()>;

impl Telling<'_> {
    /// The files about the message, names and contents: the list always, the annotated copy (批注表)
    /// if a row is told of (or was: `relieved`) and the message is a table of rows. None if the
    /// gateway stops.
    pub(crate) fn files(&self, relieved: bool) -> Result<Vec<(String, Bytes)>, StoreError> {
        let mut list = List::new(self.message, self.today);
        let mut told = BTreeMap::new();
        let mut from = 0;
        loop {
            let rows = self.store.verdicts(self.message.id, from, PAGE)?;
            if rows.is_empty() {
                break;
            }
            if (self.stop)() {
                return Ok(Vec::new());
            }
            for (row, index) in rows.into_iter().zip(from..) {
                from = index + 1;
                if list.row(&row) {
                    told.insert(index, ToldRow::of(&row));
                }
            }
        }
        let name = file_name(self.message);
        let mut files = Vec::new();
        if let Some(format) = self.format.filter(|format| is_table(format.kind))
            && (relieved || !told.is_empty())
            && let Some(book) = self.book(format, &told)
        {
            files.push((format!("{name}.反馈.xlsx"), book));
        }
        files.push((format!("{name}.反馈.csv"), list.finish()));
        Ok(files)
    }

    /// Every row that has come to stand otherwise, in order and in batches, with the cells of
    /// `columns`: those of the stored message. After them, as row 0, a message that could not be read
    /// in full.
    pub(crate) fn rows(
        &self,
        columns: &[String],
        pending: &PendingFeedback,
        give: Give<'_>,
    ) -> Result<(), StoreError> {
        let mut joining = Joining {
            telling: self,
            pending,
            columns,
            page: VecDeque::new(),
            from: Some(0),
            index: 0,
            batch: Vec::with_capacity(PAGE),
            give,
            broken: false,
            failed: None,
        };
        if let Some(format) = self.format.filter(|_| !columns.is_empty()) {
            self.decode(format, &mut joining);
        }
        joining.rest()
    }

    /// Rows after what cannot be read (any more) are told of without their cells.
    fn decode(&self, format: &FormatSpec, sink: &mut dyn RowSink) {
        let Ok(mut input) = self.store.payload(self.message.id) else { return };
        let scratch = || Box::new(self.store.scratch()) as Box<dyn Scratch>;
        let _ = formats::decode(format, &mut *input, &Limits::default(), &scratch, sink);
    }

    fn book(&self, format: &FormatSpec, told: &BTreeMap<u64, ToldRow>) -> Option<Bytes> {
        let mut book = Book::new(told, self.today);
        if !told.is_empty() {
            self.decode(format, &mut book);
        }
        book.finish()
    }
}

impl ToldRow {
    fn of(row: &RowVerdictView) -> Self {
        Self {
            row: row.row,
            verdict: row.verdict,
            word: word(row),
            reason: reason(row),
            cells: row.findings.iter().filter_map(|finding| finding.cell.clone()).collect(),
        }
    }
}

/// Formats of rows and columns; trees have no table to be copied.
fn is_table(kind: FormatKind) -> bool {
    use FormatKind::{Csv, Dbf, Fixed, Json, Ndjson, Tsv, Workbook, Xml};
    match kind {
        Csv | Tsv | Fixed | Workbook | Dbf => true,
        Xml | Json | Ndjson => false,
    }
}

/// What the files about a message are called, without their endings: its name, which is masked
/// already, and its number, because names come again.
fn file_name(message: &MessageView) -> String {
    let name = message.name.as_deref().unwrap_or_default();
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut kept = String::new();
    for letter in last.trim_start_matches('.').chars() {
        // What neither Windows nor a shell likes in a name.
        let bad = letter.is_control() || "<>:\"|?*".contains(letter);
        let letter = if bad { '_' } else { letter };
        // File systems take 255 bytes.
        if kept.len() + letter.len_utf8() > 180 {
            break;
        }
        kept.push(letter);
    }
    let kept = kept.trim();
    if kept.is_empty() {
        format!("报文.{}", message.id)
    } else {
        format!("{kept}.{}", message.id)
    }
}

/// Puts the rows to be told of beside the rows of the message, in step.
struct Joining<'a> {
    telling: &'a Telling<'a>,
    pending: &'a PendingFeedback,
    columns: &'a [String],
    page: VecDeque<Wanted>,
    /// Where the next page begins; `None` after the last.
    from: Option<u64>,
    /// Of the next row decoded.
    index: u64,
    batch: Vec<FeedbackRow>,
    give: Give<'a>,
    broken: bool,
    failed: Option<StoreError>,
}

impl Joining<'_> {
    /// The rest, without cells, and the last batch.
    fn rest(mut self) -> Result<(), StoreError> {
        while self.failed.is_none() && !self.broken {
            let Some(wanted) = self.next() else { break };
            self.put(wanted, vec![None; self.columns.len()]);
        }
        if let Some(at) = self.pending.whole
            && !self.broken
            && let Some(whole) = whole_verdict(self.telling.message)
        {
            let rows = self.telling.message.rows.iter().sum();
            self.put((rows, whole, at), vec![None; self.columns.len()]);
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        if !self.broken && !self.batch.is_empty() {
            let _ = (self.give)(self.batch);
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Wanted> {
        self.fill();
        self.page.pop_front()
    }

    /// Sees to it that the page is empty only after the last row.
    fn fill(&mut self) {
        while self.page.is_empty()
            && let Some(from) = self.from
        {
            match self.read(from) {
                Ok(next) => self.from = next,
                Err(error) => {
                    self.from = None;
                    self.failed = Some(error);
                }
            }
        }
    }

    fn read(&mut self, from: u64) -> Result<Option<u64>, StoreError> {
        let Telling { store, message, .. } = *self.telling;
        let changed = store.feedback_rows(&message.feed, message.id, from, PAGE)?;
        let begin = match (self.pending.whole, changed.first()) {
            (Some(_), _) => from,
            (None, Some((index, _))) => *index,
            (None, None) => return Ok(None),
        };
        let rows = store.verdicts(message.id, begin, PAGE)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let next = begin + rows.len() as u64;
        let mut changed = changed.into_iter().peekable();
        for (row, index) in rows.into_iter().zip(begin..) {
            let since = changed.next_if(|(at, _)| *at == index).map(|(_, since)| since);
            if let Some(since) = since.or(self.pending.whole) {
                self.page.push_back((index, row, since));
            }
        }
        Ok(Some(next))
    }

    fn put(&mut self, (index, row, at): Wanted, cells: Vec<Option<String>>) {
        self.batch.push(FeedbackRow {
            message: self.telling.message.id,
            index,
            row: row.row,
            cells,
            standing: standing(&row),
            reason: reason(&row),
            at,
        });
        if self.batch.len() == PAGE {
            let full = std::mem::replace(&mut self.batch, Vec::with_capacity(PAGE));
            self.broken = (self.give)(full).is_break();
        }
    }

    /// The row decoded, whose cells are had by name, if it is to be told of.
    fn step(&mut self, place: &Place, cell: &dyn Fn(&str) -> Option<String>) -> ControlFlow<()> {
        let index = self.index;
        self.index += 1;
        self.fill();
        match self.page.front() {
            Some((wanted, ..)) if *wanted == index => {}
            Some(_) => return ControlFlow::Continue(()),
            None => return ControlFlow::Break(()),
        }
        if let Some(wanted) = self.page.pop_front() {
            // Another row than the one that was judged: the mapping has changed since.
            let same = wanted.1.row == place.row;
            let cells = self.columns.iter().map(|name| cell(name).filter(|_| same));
            let cells = cells.collect();
            self.put(wanted, cells);
        }
        if self.broken || (self.telling.stop)() {
            self.broken = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl RowSink for Joining<'_> {
    fn row(&mut self, columns: &Columns, row: &Row) -> ControlFlow<()> {
        self.step(&row.place, &|name| {
            let exact = columns.find(name);
            let alike = || {
                let at =
                    columns.names().iter().position(|n| n.trim().eq_ignore_ascii_case(name))?;
                u16::try_from(at).ok()
            };
            let cell = row.get(exact.or_else(alike)?);
            (cell.kind != xinqiao_core::model::CellKind::Absent).then(|| cell.text.to_owned())
        })
    }

    fn bad_row(&mut self, place: &Place, _: Finding) -> ControlFlow<()> {
        self.step(place, &|_| None)
    }
}
