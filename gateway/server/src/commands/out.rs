//! Writing to stdout: the one place, so that a reader who leaves (`| head`) ends a command quietly.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal as _, StdoutLock, Write};
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::Timestamp;

use super::CommandError;

/// Stdout, locked and buffered; flush at the end.
pub(super) fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(std::io::stdout().lock())
}

/// Writes one JSON value and ends.
pub(super) fn json(value: &impl Serialize) -> Result<(), CommandError> {
    let mut out = stdout();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Writes one text and ends.
pub(super) fn text(text: impl std::fmt::Display) -> Result<(), CommandError> {
    let mut out = stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes to a new file, or to stdout if none is named.
pub(super) fn to(file: Option<&Path>, bytes: &[u8]) -> Result<(), CommandError> {
    let Some(path) = file else {
        let mut out = stdout();
        out.write_all(bytes)?;
        return Ok(out.flush()?);
    };
    create(path)?.write_all(bytes).map_err(|error| unwritten(path, &error))
}

/// A file that was not there.
pub(super) fn create(path: &Path) -> Result<File, CommandError> {
    File::create_new(path).map_err(|error| unwritten(path, &error))
}

/// A file could not be written.
pub(super) fn unwritten(path: &Path, error: &std::io::Error) -> CommandError {
    let why = match error.kind() {
        ErrorKind::AlreadyExists => "文件已存在,不会覆盖".into(),
        _ => io_words(error),
    };
    CommandError::Failed(format!("写 {} 失败:{why}", path.display()))
}

/// A table with Chinese headings; columns from `numbers` on are right-aligned.
pub(super) fn table(headings: impl Into<comfy_table::Row>, numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(headings);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Whether stderr takes ANSI colours: a terminal, and nobody has asked for none
/// (<https://no-color.org>).
pub(super) fn colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// A time to the minute: `2026-11-23 09:00`; `—` for none.
pub(super) fn minute(time: Option<Timestamp>) -> String {
    match time.map(|time| time.to_string()) {
        Some(text) => text.get(..16).unwrap_or(&text).replace('T', " "),
        None => "—".to_owned(),
    }
}
