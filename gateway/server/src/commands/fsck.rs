//! `fsck`: whether every index and counter of the store follows from what it holds.

use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::json;

use super::{Command, CommandError, Global, ask, found, out};

pub(super) struct Fsck;

impl Command for Fsck {
    fn name(&self) -> &'static str {
        "fsck"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name()).about("核对存储:重算全部索引与计数并比较;须先停止网关")
    }

    fn run(&self, _: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let lines = ask::open_store(global)?
            .fsck()
            .map_err(|error| CommandError::of(&error, error.to_string()))?;
        if global.json {
            out::json(&json!({ "sound": lines.is_empty(), "differences": lines }))?;
        } else if lines.is_empty() {
            out::text("一致")?;
        } else {
            out::text(lines.join("\n"))?;
        }
        Ok(found(!lines.is_empty()))
    }
}
