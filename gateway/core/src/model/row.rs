//! A decoded row: the cells of one record as the agency wrote them, and where they stand.

use std::collections::HashMap;
use std::sync::Arc;

/// How a source names a place: decides how a finding points at a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A workbook: `C12`, with the sheet.
    Grid,
    /// Delimited text: `第12行第3列`.
    Delimited,
    /// XML or JSON: `第12条 /party/name`.
    Tree,
}

/// The source columns met so far. Delimited and grid sources know them all before the first row;
/// tree sources may add columns at any row, so a mapping rebinds when [`Columns::len`] grows.
#[derive(Debug, Clone)]
pub struct Columns {
    shape: Shape,
    names: Vec<Arc<str>>,
    /// 0-based position in the file of each column (a workbook's data may begin at column B).
    positions: Vec<u32>,
    index: HashMap<Arc<str>, u16>,
}

impl Columns {
    /// No columns yet.
    pub fn new(shape: Shape) -> Self {
        Self { shape, names: Vec::new(), positions: Vec::new(), index: HashMap::new() }
    }

    /// Adds a column standing at 0-based `position` of the file and returns its index. A name met
    /// before gets a new column without a name of its own, so no cell is lost; `None` past 65,535.
    pub fn push(&mut self, name: &str, position: u32) -> Option<u16> {
        let ix = u16::try_from(self.names.len()).ok().filter(|ix| *ix < u16::MAX)?;
        let name: Arc<str> = Arc::from(name);
        self.index.entry(Arc::clone(&name)).or_insert(ix);
        self.names.push(name);
        self.positions.push(position);
        Some(ix)
    }

    /// The index of a column by its exact name.
    pub fn find(&self, name: &str) -> Option<u16> {
        self.index.get(name).copied()
    }

    /// The index of a column by name, added if new.
    pub fn find_or_push(&mut self, name: &str) -> Option<u16> {
        match self.find(name) {
            Some(ix) => Some(ix),
            None => self.push(name, u32::try_from(self.names.len()).unwrap_or(u32::MAX)),
        }
    }

    /// All names in order; a repeated heading appears again.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// How many columns.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How this source names places.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Words for a person: where the cell of `column` in the row at `place` stands.
    pub fn locate(&self, place: &Place, column: u16) -> String {
        let position = self.positions.get(usize::from(column)).copied().unwrap_or(0);
        let cell = match self.shape {
            Shape::Grid => {
                let mut cell = grid_letters(position);
                cell.push_str(&place.row.to_string());
                cell
            }
            Shape::Delimited => format!("第{}行第{}列", place.row, position + 1),
            Shape::Tree => {
                let name = self.names.get(usize::from(column)).map_or("", |n| n);
                format!("第{}条 {name}", place.row)
            }
        };
        match &place.sheet {
            Some(sheet) => format!("{sheet}!{cell}"),
            None => cell,
        }
    }
}

/// Column letters of a workbook: 0 → `A`, 26 → `AA`.
fn grid_letters(position: u32) -> String {
    let mut left = position + 1;
    let mut letters = Vec::new();
    while left > 0 {
        let digit = u8::try_from((left - 1) % 26).unwrap_or(0);
        letters.push(char::from(b'A' + digit));
        left = (left - 1) / 26;
    }
    letters.iter().rev().collect()
}

/// Where a row stands in its message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The workbook's sheet, when the message has more than one; in an archive the member, and
    /// `member!sheet` where the member has more than one.
    pub sheet: Option<Arc<str>>,
    /// Grid: the sheet's row number. Delimited: the line the row begins on. Tree: the record's
    /// number. All from 1.
    pub row: u64,
}

/// What the source said a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    /// No cell, or an explicit null.
    Absent,
    /// Text as written, decoded to UTF-8.
    Text,
    /// A number: the shortest decimal text that reads back the same (`42473`, `0.2`). Digits past
    /// the 15th of a workbook's number are not to be trusted.
    Number,
    /// A date the source marked as one, as `YYYY-MM-DD` or `YYYY-MM-DD HH:MM:SS`.
    Date,
    /// `true` or `false`.
    Bool,
    /// Text in which some bytes could not be decoded (they stand as U+FFFD).
    Damaged,
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The value as text; empty when absent.
    pub text: &'a str,
    /// What the source said it is.
    pub kind: CellKind,
}

/// One row. Meant to be reused: [`Row::clear`] keeps its buffers.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Where the row stands.
    pub place: Place,
    text: String,
    cells: Vec<(usize, usize, CellKind)>,
}

impl Row {
    /// An empty row.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the cells and moves to row `row` of the same sheet.
    pub fn clear(&mut self, row: u64) {
        self.place.row = row;
        self.text.clear();
        self.cells.clear();
    }

    /// Appends the cell of the next column.
    pub fn push(&mut self, text: &str, kind: CellKind) {
        let start = self.text.len();
        self.text.push_str(text);
        self.cells.push((start, self.text.len(), kind));
    }

    /// Sets the cell of `column`, in any order; columns between are absent.
    pub fn set(&mut self, column: u16, text: &str, kind: CellKind) {
        let column = usize::from(column);
        if column >= self.cells.len() {
            self.cells.resize(column + 1, (0, 0, CellKind::Absent));
        }
        let start = self.text.len();
        self.text.push_str(text);
        if let Some(slot) = self.cells.get_mut(column) {
            *slot = (start, self.text.len(), kind);
        }
    }

    /// The cell of `column`; absent past the end of a short row.
    pub fn get(&self, column: u16) -> Cell<'_> {
        match self.cells.get(usize::from(column)) {
            Some(&(start, end, kind)) => {
                Cell { text: self.text.get(start..end).unwrap_or(""), kind }
            }
            None => Cell { text: "", kind: CellKind::Absent },
        }
    }

    /// How many cells were given.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether every cell is absent or blank.
    pub fn is_blank(&self) -> bool {
        self.cells.iter().all(|&(start, end, kind)| {
            kind == CellKind::Absent
                || self.text.get(start..end).is_none_or(|t| t.trim().is_empty())
        })
    }

    /// Whether no cell was given.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_people_write_them() {
        let mut grid = Columns::new(Shape::Grid);
        grid.push("a", 1);
        grid.push("b", 701);
        let place = Place { sheet: Some(Arc::from("处罚")), row: 12 };
        assert_eq!(grid.locate(&place, 0), "处罚!B12");
        assert_eq!(grid.locate(&Place { sheet: None, row: 3 }, 1), "ZZ3");
        assert_eq!(grid_letters(16383), "XFD");
        let mut text = Columns::new(Shape::Delimited);
        text.push("a", 0);
        assert_eq!(text.locate(&place, 0), "处罚!第12行第1列");
    }

    #[test]
    fn a_repeated_heading_keeps_its_cell() {
        let mut columns = Columns::new(Shape::Delimited);
        assert_eq!(columns.push("备注", 0), Some(0));
        assert_eq!(columns.push("备注", 1), Some(1));
        assert_eq!(columns.find("备注"), Some(0));
        assert_eq!(columns.len(), 2);
    }

    #[test]
    fn cells_may_come_in_any_order() {
        let mut row = Row::new();
        row.clear(1);
        row.set(2, "丙", CellKind::Text);
        row.set(0, "甲", CellKind::Text);
        assert_eq!(row.get(0).text, "甲");
        assert_eq!(row.get(1).kind, CellKind::Absent);
        assert_eq!(row.get(2).text, "丙");
        assert_eq!(row.get(9).kind, CellKind::Absent);
    }
}
