//! `mapping`: what a mapping's writer needs.

mod new;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};

use super::global::{today, today_arg};
use super::{Command, CommandError, Global, check, out};

pub(super) struct Mapping;

impl Command for Mapping {
    fn name(&self) -> &'static str {
        "mapping"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("编写映射规则:由样本生成初稿、运行测试、输出编辑器用的模式")
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(new::clap())
            .subcommand(
                clap::Command::new("test")
                    .about("运行映射规则自带的测试,给出字段与分支的覆盖")
                    .arg(
                        Arg::new("files")
                            .value_name("文件")
                            .num_args(1..)
                            .required(true)
                            .value_parser(ValueParser::path_buf())
                            .help("映射规则文件"),
                    )
                    .arg(today_arg()),
            )
            .subcommand(
                clap::Command::new("schema").about("输出映射规则的 JSON Schema,供编辑器提示用"),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        match matches.subcommand() {
            Some(("new", matches)) => new::run(matches, global),
            Some(("test", matches)) => {
                let files: Vec<PathBuf> =
                    matches.get_many("files").into_iter().flatten().cloned().collect();
                check::mappings(&files, today(matches), global)
            }
            _ => {
                out::json(&xinqiao_core::mapping::json_schema())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
