//! What a person can ask, one file a verb.

pub mod demo;

/// Parses the command line and runs the command.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
