//! `keys`: making, certifying, rotating and showing the gateway's keys, and a development CA.

mod change;
mod dev_ca;
mod list;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::keystore::{KeyId, KeyStoreError, KeyUse};
use xinqiao_crypto::x509::{IssueError, UnixSeconds, X509Error};

use super::{Command, CommandError, Global};
use crate::clock::SystemClock;
use crate::config;
use crate::keys::{KeysConfig, KeysError, seconds};

pub(super) struct Keys;

impl Command for Keys {
    fn name(&self) -> &'static str {
        "keys"
    }

    fn clap(&self) -> clap::Command {
        let subject = || {
            Arg::new("subject")
                .long("subject")
                .value_name("名称")
                .required(true)
                .help("持有者,形如 \"CN=信桥网关,O=某市信用中心,C=CN\"")
        };
        let key = || {
            Arg::new("key")
                .value_name("密钥")
                .required(true)
                .value_parser(|text: &str| text.parse::<KeyId>())
                .help("密钥的全名,如 gateway.sign.0001(见 keys list)")
        };
        let out = || {
            Arg::new("out")
                .short('o')
                .long("out")
                .value_name("文件")
                .value_parser(ValueParser::path_buf())
                .help("写到这个文件(已存在则报错);缺省为标准输出")
        };
        clap::Command::new(self.name())
            .about("管理网关的密钥与证书")
            .long_about(
                "管理网关的密钥与证书。密钥目录与口令按 gateway.yaml 的 keys。\
                 签名、加密各用一对密钥(双证书);更换只增加新的一代,旧的一代保留,以便打开以前加密的内容。",
            )
            .arg_required_else_help(true)
            .subcommand_required(true)
            .subcommand(
                clap::Command::new("init")
                    .about("首次安装:生成网关与落盘加密的密钥,附自签证书;口令文件不存在则一并生成")
                    .arg(subject()),
            )
            .subcommand(
                clap::Command::new("new")
                    .about("生成一对新密钥;已有同名的,生成下一代")
                    .arg(Arg::new("name").value_name("名称").required(true).help("密钥名称,如 gateway"))
                    .arg(
                        Arg::new("use")
                            .long("use")
                            .value_name("用途")
                            .value_parser(["sign", "encrypt", "both"])
                            .default_value("both")
                            .help("sign 签名,encrypt 加密,both 各一对"),
                    ),
            )
            .subcommand(
                clap::Command::new("list").about("列出密钥、证书与到期日;60天内到期的给出提醒"),
            )
            .subcommand(
                clap::Command::new("request")
                    .about("为密钥生成证书申请(PKCS#10),交给签发机构")
                    .arg(key())
                    .arg(subject())
                    .arg(out()),
            )
            .subcommand(
                clap::Command::new("import")
                    .about("导入签发下来的证书(连同上级证书),或在别处生成的私钥")
                    .long_about(
                        "导入签发下来的证书(连同上级证书,本证书在前),或在别处(OpenSSL、GmSSL)生成的私钥。\
                         导入私钥时,密钥写名称和用途即可,如 gateway.sign,自动成为下一代。",
                    )
                    .arg(
                        Arg::new("key")
                            .value_name("密钥")
                            .required(true)
                            .help("证书:密钥的全名,如 gateway.sign.0001;私钥:名称和用途,如 gateway.sign"),
                    )
                    .arg(
                        Arg::new("file")
                            .value_name("文件")
                            .required(true)
                            .value_parser(ValueParser::path_buf())
                            .help("证书或私钥(PEM 或 DER)"),
                    )
                    .arg(
                        Arg::new("passphrase-file")
                            .long("passphrase-file")
                            .value_name("文件")
                            .value_parser(ValueParser::path_buf())
                            .help("私钥文件自己的口令所在的文件;私钥未加密则不写"),
                    ),
            )
            .subcommand(
                clap::Command::new("export-cert")
                    .about("输出密钥的证书(PEM),交给对方")
                    .arg(key())
                    .arg(
                        Arg::new("chain")
                            .long("chain")
                            .action(ArgAction::SetTrue)
                            .help("连同上级证书"),
                    )
                    .arg(out()),
            )
            .subcommand(
                clap::Command::new("rotate")
                    .about("更换密钥:生成下一代;落盘加密密钥同时换用,不停机")
                    .arg(
                        Arg::new("name").value_name("名称").required(true).help("密钥名称,如 storage"),
                    ),
            )
            .subcommand(dev_ca::clap())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        match matches.subcommand() {
            Some(("init", matches)) => change::init(matches, global),
            Some(("new", matches)) => change::new(matches, global),
            Some(("list", _)) => list::run(global),
            Some(("request", matches)) => change::request(matches, global),
            Some(("import", matches)) => change::import(matches, global),
            Some(("export-cert", matches)) => list::export(matches, global),
            Some(("rotate", matches)) => change::rotate(matches, global),
            _ => match matches.subcommand() {
                Some((_, matches)) => dev_ca::run(matches, global),
                None => Err(CommandError::Broken("缺少命令".into())),
            },
        }
    }
}

fn configured(global: &Global) -> Result<KeysConfig, CommandError> {
    config::keys(&global.config)
        .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))
}

fn now() -> UnixSeconds {
    seconds(SystemClock.now())
}

fn failed(error: impl std::fmt::Display) -> CommandError {
    CommandError::Coded { code: "keys.failed".into(), message: error.to_string(), broken: false }
}

impl From<KeyStoreError> for CommandError {
    fn from(error: KeyStoreError) -> Self {
        failed(error)
    }
}

impl From<KeysError> for CommandError {
    fn from(error: KeysError) -> Self {
        failed(error)
    }
}

impl From<IssueError> for CommandError {
    fn from(error: IssueError) -> Self {
        failed(error)
    }
}

impl From<X509Error> for CommandError {
    fn from(error: X509Error) -> Self {
        failed(error)
    }
}

/// What people call a use.
fn use_name(usage: KeyUse) -> &'static str {
    match usage {
        KeyUse::Sign => "签名",
        KeyUse::Encrypt => "加密",
    }
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).cloned()
}
