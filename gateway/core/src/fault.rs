//! What every public error answers: its stable code, who has to act, and whether to try again.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who has to act on a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The agency: what it sent, or how.
    Agency,
    /// The platform or another receiver.
    Target,
    /// Whoever runs the gateway: configuration, disk, network.
    Operator,
    /// The gateway itself: a defect.
    Gateway,
}

/// Whether the same act may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never by itself: something has to change first.
    Never,
    /// Later, by the caller's back-off.
    Backoff,
    /// Not before this long from now, as the other side asked.
    After(Duration),
}

/// Implemented by every error that crosses a crate's boundary.
pub trait Classify: Error {
    /// Stable, dotted, lower-case: `intake.too-large`. Part of the interface.
    fn code(&self) -> &'static str;
    /// Who has to act.
    fn blame(&self) -> Blame;
    /// Whether to try again.
    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// An error and its causes on one line. `Display` never prints its source, so nothing repeats.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
