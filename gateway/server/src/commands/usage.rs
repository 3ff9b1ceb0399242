//! clap speaks English only: its help is laid out and its errors are told in Chinese here.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use super::{CommandError, out};

const TEMPLATE: &str = "{about-with-newline}\n用法:{usage}\n\n{all-args}{after-help}";

/// The whole command line with Chinese usage, headings and help flag.
pub(super) fn localised(root: Command) -> Command {
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .display_order(910)
        .action(ArgAction::Help)
        .global(true)
        .help("显示帮助");
    let mut root = without_help(root.arg(help));
    // Names the subcommands in full, so that their usage can be taken.
    root.build();
    lay_out(root)
}

fn without_help(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand_value_name("命令")
        .subcommand_help_heading("命令")
        .mut_subcommands(without_help)
}

fn lay_out(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().replace("[OPTIONS]", "[选项]");
    command
        .override_usage(usage)
        .help_template(TEMPLATE)
        .mut_args(|arg| {
            let heading = if arg.is_positional() { "参数" } else { "选项" };
            arg.help_heading(heading)
                .hide_default_value(true)
                .hide_env(true)
                .hide_possible_values(true)
        })
        .mut_subcommands(lay_out)
}

/// Help and version go to stdout; everything else is an error.
pub(super) fn answer(error: &clap::Error) -> Result<ExitCode, CommandError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            out::text(error.render().to_string().trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(CommandError::invalid("command.usage", explain(error))),
    }
}

fn explain(error: &clap::Error) -> String {
    let one = |kind| error.get(kind).map(words).unwrap_or_default();
    let argument = one(ContextKind::InvalidArg);
    let value = one(ContextKind::InvalidValue);
    let told = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return error.render().to_string();
        }
        ErrorKind::InvalidSubcommand => format!(
            "没有命令“{}”{}",
            one(ContextKind::InvalidSubcommand),
            suggestion(&one(ContextKind::SuggestedSubcommand))
        ),
        ErrorKind::MissingSubcommand => {
            format!("缺少命令,可用的有:{}", one(ContextKind::ValidSubcommand))
        }
        ErrorKind::UnknownArgument => {
            format!("不认识的参数“{argument}”{}", suggestion(&one(ContextKind::SuggestedArg)))
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("参数 {argument} 缺少值"),
        ErrorKind::InvalidValue => format!(
            "参数 {argument} 的值“{value}”无效,可用的有:{}{}",
            one(ContextKind::ValidValue),
            suggestion(&one(ContextKind::SuggestedValue))
        ),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map(|e| format!(":{e}"));
            format!("参数 {argument} 的值“{value}”无效{}", why.unwrap_or_default())
        }
        ErrorKind::MissingRequiredArgument => format!("缺少参数:{argument}"),
        ErrorKind::ArgumentConflict if argument == one(ContextKind::PriorArg) => {
            format!("参数 {argument} 只能写一次")
        }
        ErrorKind::ArgumentConflict => {
            format!("参数 {argument} 不能与 {} 同时使用", one(ContextKind::PriorArg))
        }
        ErrorKind::TooManyValues => format!("参数 {argument} 的值过多,不需要“{value}”"),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("参数 {argument} 的值的个数不对")
        }
        ErrorKind::InvalidUtf8 => "参数不是 UTF-8 文本".to_owned(),
        _ => "命令行有误".to_owned(),
    };
    let usage = one(ContextKind::Usage);
    let usage = usage.trim_start_matches("Usage:").trim();
    let usage = if usage.is_empty() { String::new() } else { format!("\n\n用法:{usage}") };
    format!("错误:{told}{usage}\n加 --help 查看说明")
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(many) => many.join("、"),
        other => other.to_string(),
    }
}

fn suggestion(near: &str) -> String {
    if near.is_empty() { String::new() } else { format!(",是否想写“{near}”?") }
}
