//! What a person can ask, one file a verb. A new verb is one file and two lines here: its `mod` and
//! its place in [`COMMANDS`].
//!
//! Results go to stdout, everything said about them to stderr: errors as text, or with `--json` as
//! one object `{"error": {"code", "message"}}`. Exit: 0 fine; 1 something was
//! found, or it failed; 2 the question or the files it rests on are broken.

mod ask;
mod check;
mod deadline;
pub mod demo;
mod envelope;
mod feeds;
mod fsck;
mod global;
mod keys;
mod mapping;
mod out;
mod queue;
mod report;
mod run;
mod serve;
mod status;
mod usage;
mod uscc;
mod verdicts;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::json;
use xinqiao_core::fault::{Classify, io_words};

pub(crate) use ask::state_name;
pub use global::Global;

/// Every verb, in the order of the help text.
const COMMANDS: &[&dyn Command] = &[
    &serve::Serve,
    &demo::Demo,
    &check::Check,
    &mapping::Mapping,
    &run::Run,
    &status::Status,
    &verdicts::Verdicts,
    &queue::Queue,
    &report::Report,
    &feeds::Feeds,
    &uscc::Uscc,
    &deadline::Deadline,
    &fsck::Fsck,
    &keys::Keys,
    &envelope::Seal,
    &envelope::Open,
    &envelope::Sign,
    &envelope::Verify,
];

/// One verb.
pub trait Command: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// Its arguments, under [`Command::name`]; texts in Chinese.
    fn clap(&self) -> clap::Command;
    /// Does it.
    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError>;
}

/// Why a command ended early. The text is for a person, in Chinese, and may have several lines.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The question, or a file it rests on, is broken: exit 2.
    #[error("{0}")]
    Broken(String),
    /// It could not be done: exit 1.
    #[error("{0}")]
    Failed(String),
    /// As one of these, and whoever said so has a stable code for it.
    #[error("{message}")]
    Coded {
        /// Dotted.
        code: String,
        /// Chinese.
        message: String,
        /// As [`CommandError::Broken`], else as [`CommandError::Failed`].
        broken: bool,
    },
    /// Nobody reads the output any more: nothing to say, exit 0.
    #[error("")]
    Unread,
}

/// Writing to stdout failed. Every other I/O error is told with what was being done.
impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Failed(format!("写出结果失败:{}", io_words(&error))),
        }
    }
}

impl CommandError {
    /// An error that knows its own code.
    fn of(error: &(dyn Classify + 'static), message: String) -> Self {
        Self::Coded { code: error.code().to_owned(), message, broken: false }
    }

    /// A file that does not hold: `found` is what a person reads.
    fn invalid(code: &str, found: String) -> Self {
        Self::Coded { code: code.to_owned(), message: found, broken: true }
    }

    fn code(&self) -> &str {
        match self {
            Self::Broken(_) => "command.broken",
            Self::Failed(_) => "command.failed",
            Self::Coded { code, .. } => code,
            Self::Unread => "command.unread",
        }
    }

    /// Tells it on stderr: as text, or as one JSON object `{"error": {"code", "message"}}`.
    fn tell(&self, json: bool) {
        let message = self.to_string();
        let message = message.trim_end();
        if json {
            eprintln!("{}", json!({ "error": { "code": self.code(), "message": message } }));
        } else {
            eprintln!("{message}");
        }
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> Self {
        std::io::Error::from(error).into()
    }
}

/// What every `run` answers when something was found.
fn found(something: bool) -> ExitCode {
    ExitCode::from(u8::from(something))
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => code,
        Err(CommandError::Unread) => ExitCode::SUCCESS,
        Err(error) => {
            // Also when the command line itself did not parse.
            error.tell(std::env::args_os().any(|arg| arg == "--json"));
            let broken =
                matches!(error, CommandError::Broken(_) | CommandError::Coded { broken: true, .. });
            ExitCode::from(if broken { 2 } else { 1 })
        }
    }
}

fn dispatch() -> Result<ExitCode, CommandError> {
    let matches = match usage::localised(cli()).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return usage::answer(&error),
    };
    let global = Global::of(&matches);
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        COMMANDS.iter().find(|command| command.name() == name).map(|command| (command, matches))
    });
    match chosen {
        Some((command, matches)) => command.run(matches, &global),
        None => Err(CommandError::Broken("缺少命令".into())),
    }
}

fn cli() -> clap::Command {
    clap::Command::new("xinqiao")
        .about("信桥:公共信用信息交换网关")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .arg_required_else_help(true)
        .subcommand_required(true)
        .args(Global::args())
        .arg(
            Arg::new("version")
                .short('V')
                .long("version")
                .action(ArgAction::Version)
                .help("显示版本"),
        )
        .subcommands(COMMANDS.iter().map(|command| command.clap()))
}
