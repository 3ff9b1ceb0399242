//! Errors in files people write (mappings, catalogue, calendar, configuration): all at once, each
//! with file, line, column, and the place shown.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Origin, Renderer, Snippet};

/// A set of text files by path with forward slashes (`catalogue/admin-penalty/2021.yaml`): what
/// the pure core reads instead of a directory.
#[derive(Debug, Clone, Default)]
pub struct Bundle(pub BTreeMap<String, String>);

impl Bundle {
    /// The files whose path begins with `prefix`, in order of path.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(path, _)| path.starts_with(prefix))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// One file's text.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

/// How much a diagnostic weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Worth a look.
    Warning,
    /// The file cannot be used.
    Error,
}

/// One error or warning at one place of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable dotted code, e.g. `mapping.unknown-field`.
    pub code: &'static str,
    /// Error or warning.
    pub level: Level,
    /// The file's path.
    pub file: String,
    /// 1-based line and column (columns count characters); (0, 0) concerns the file as a whole.
    pub line: u32,
    /// See `line`.
    pub column: u32,
    /// Byte range in the file that is underlined; empty if unknown.
    pub span: Range<usize>,
    /// What is wrong (Chinese, no final stop).
    pub message: String,
    /// What to do (Chinese, no final stop), if there is something to say.
    pub help: Option<String>,
}

/// Any number of diagnostics, in order of file and place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Whether an error is among them.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.level == Level::Error)
    }

    /// For people: each with its lines of the file and a caret under the place, as compilers do.
    /// A file that is not in `files` is shown by place only. `color` adds ANSI colours.
    pub fn render(&self, files: &Bundle, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut shown = String::new();
        for d in &self.0 {
            let level = match d.level {
                Level::Error => annotate_snippets::Level::ERROR.with_name("错误"),
                Level::Warning => annotate_snippets::Level::WARNING.with_name("警告"),
            };
            let title = level.primary_title(&d.message).id(d.code);
            let group = match files.get(&d.file).filter(|_| d.line > 0) {
                Some(text) => title.element(
                    Snippet::source(text)
                        .path(&d.file)
                        .annotation(AnnotationKind::Primary.span(within(text, &d.span))),
                ),
                None => title.element(Origin::path(&d.file)),
            };
            let help = d
                .help
                .as_deref()
                .map(|help| annotate_snippets::Level::HELP.with_name("帮助").message(help));
            shown.push_str(&renderer.render(&[group.elements(help)]));
            shown.push_str("\n\n");
        }
        let errors = self.0.iter().filter(|d| d.level == Level::Error).count();
        let _ = writeln!(shown, "{errors}个错误,{}个警告", self.0.len() - errors);
        shown
    }
}

/// 1-based line and column of a byte offset; columns count characters.
pub fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The part of `span` that the text has, on character boundaries, as far as its first line: a
/// caret under a place helps, a bar beside forty lines does not.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let Some(rest) = text.get(span.start..) else { return text.len()..text.len() };
    let marked = rest.get(..span.len()).unwrap_or(rest);
    let first = marked.lines().next().unwrap_or("");
    span.start..span.start + first.trim_end().len()
}

impl std::error::Error for Diagnostics {}

/// One line each: `file:line:column: 错误[code]: message`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, d) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            let level = match d.level {
                Level::Error => "错误",
                Level::Warning => "警告",
            };
            write!(f, "{}:{}:{}: {level}[{}]: {}", d.file, d.line, d.column, d.code, d.message)?;
            if let Some(help) = &d.help {
                write!(f, "。{help}")?;
            }
        }
        Ok(())
    }
}
