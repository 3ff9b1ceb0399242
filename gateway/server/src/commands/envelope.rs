//! `seal`, `open`, `sign`, `verify`: digital envelopes (数字信封) and receipts by hand, for whoever has
//! a folder of keys: the gateway's by `gateway.yaml`, another's by `--keys`.

mod read;
mod write;

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::envelope::{EnvelopeError, unwrap_pem};
use xinqiao_crypto::keystore::{FileKeyStore, KeyEntry, KeyStore, KeyUse};
use xinqiao_crypto::lists::Stale;
use xinqiao_crypto::x509::Certificate;
use xinqiao_crypto::x509::chain::Trust;
use xinqiao_crypto::x509::crl::Crl;
use zeroize::Zeroizing;

use super::{CommandError, Global};
use crate::clock::SystemClock;
use crate::config;
use crate::keys::{read_certificates, read_revocations, revocation, seconds};

pub(super) use read::{Open, Verify};
pub(super) use write::{Seal, Sign};

fn file_arg() -> Arg {
    Arg::new("file")
        .value_name("文件")
        .required(true)
        .value_parser(ValueParser::path_buf())
        .help("要处理的文件")
}

fn out_arg() -> Arg {
    Arg::new("out")
        .short('o')
        .long("out")
        .value_name("文件")
        .required(true)
        .value_parser(ValueParser::path_buf())
        .help("结果写到这个文件(已存在则报错)")
}

/// Whose keys: of `gateway.yaml`, or of any folder.
fn key_args() -> [Arg; 3] {
    [
        Arg::new("keys")
            .long("keys")
            .value_name("目录")
            .value_parser(ValueParser::path_buf())
            .requires("passphrase-file")
            .help("密钥目录;缺省按 gateway.yaml 的 keys"),
        Arg::new("passphrase-file")
            .long("passphrase-file")
            .value_name("文件")
            .value_parser(ValueParser::path_buf())
            .requires("keys")
            .help("密钥目录的口令所在的文件"),
        Arg::new("name")
            .long("name")
            .value_name("名称")
            .help("用哪个名称的密钥;缺省按 gateway.yaml 的 keys.identity,用 --keys 时缺省为目录中唯一的名称"),
    ]
}

fn trust_args() -> [Arg; 2] {
    [
        Arg::new("trust")
            .long("trust")
            .value_name("文件")
            .action(ArgAction::Append)
            .value_parser(ValueParser::path_buf())
            .help(
                "信任的签发机构证书(或对方的证书本身),可写多次;缺省按 gateway.yaml 的 keys.trust",
            ),
        Arg::new("crl")
            .long("crl")
            .value_name("文件")
            .action(ArgAction::Append)
            .value_parser(ValueParser::path_buf())
            .help("吊销列表,可写多次;写了就要求每个签发者都有有效的列表"),
    ]
}

/// A folder of keys, opened, and the name to use.
struct Holder {
    store: Arc<dyn KeyStore>,
    name: String,
}

impl Holder {
    fn open(matches: &ArgMatches, global: &Global) -> Result<Self, CommandError> {
        let name = matches.get_one::<String>("name").cloned();
        if let (Some(folder), Some(file)) =
            (path(matches, "keys"), path(matches, "passphrase-file"))
        {
            let passphrase = Zeroizing::new(std::fs::read(&file).map_err(|e| unread(&file, &e))?);
            let store = Arc::new(FileKeyStore::open(&folder, passphrase.trim_ascii_end())?);
            let name = match name {
                Some(name) => name,
                None => only_name(&*store)?,
            };
            return Ok(Self { store, name });
        }
        let config = config::keys(&global.config)
            .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))?;
        let store = config.store()?;
        Ok(Self { store, name: name.unwrap_or(config.identity) })
    }

    /// The key in use, which has a certificate.
    fn current(&self, usage: KeyUse) -> Result<KeyEntry, CommandError> {
        let entry = self.store.current(&self.name, usage)?;
        entry.filter(|entry| !entry.chain.is_empty()).ok_or_else(|| {
            let what = if usage == KeyUse::Sign { "签名" } else { "加密" };
            failed("keys.missing", format!("没有名为 {} 且有证书的{what}密钥", self.name))
        })
    }
}

/// Certificates and lists to verify by.
struct Trusted {
    anchors: Vec<Certificate>,
    lists: Vec<Crl>,
    stale: Stale,
}

impl Trusted {
    fn of(matches: &ArgMatches, global: &Global) -> Result<Self, CommandError> {
        let files = |name: &str| -> Vec<PathBuf> {
            matches.get_many(name).into_iter().flatten().cloned().collect()
        };
        let (mut trust, mut crls, mut stale) = (files("trust"), files("crl"), Stale::Refuse);
        if trust.is_empty() {
            let config = config::keys(&global.config).map_err(|_| {
                CommandError::Broken(
                    "请用 --trust 指明信任的签发机构证书,或写在 gateway.yaml 的 keys.trust".into(),
                )
            })?;
            (trust, stale) = (config.trust, config.stale);
            crls.extend(config.revocations);
        }
        let mut trusted = Self { anchors: Vec::new(), lists: Vec::new(), stale };
        for file in &trust {
            trusted.anchors.extend(read_certificates(file)?);
        }
        for file in &crls {
            trusted.lists.extend(read_revocations(file)?);
        }
        Ok(trusted)
    }

    /// Takes in the lists of `--crl`.
    fn read_lists(&mut self, matches: &ArgMatches) -> Result<(), CommandError> {
        for file in matches.get_many::<PathBuf>("crl").into_iter().flatten() {
            self.lists.extend(read_revocations(file)?);
        }
        Ok(())
    }

    fn now(&self) -> Trust<'_> {
        let revocation = revocation(&self.lists, self.stale);
        Trust { anchors: &self.anchors, revocation, at: seconds(SystemClock.now()) }
    }
}

fn only_name(store: &dyn KeyStore) -> Result<String, CommandError> {
    let mut names: Vec<String> =
        store.list()?.iter().map(|entry| entry.id.name().to_owned()).collect();
    names.dedup();
    match <[String; 1]>::try_from(names) {
        Ok([name]) => Ok(name),
        Err(names) => {
            let names = names.join("、");
            Err(CommandError::Broken(format!("密钥目录中有多个名称({names}),请用 --name 指明")))
        }
    }
}

fn path(matches: &ArgMatches, name: &str) -> Option<PathBuf> {
    matches.get_one::<PathBuf>(name).cloned()
}

fn failed(code: &str, message: impl Into<String>) -> CommandError {
    CommandError::Coded { code: code.to_owned(), message: message.into(), broken: false }
}

fn unread(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Broken(format!("读取 {} 失败:{}", path.display(), io_words(error)))
}

impl From<EnvelopeError> for CommandError {
    fn from(error: EnvelopeError) -> Self {
        failed(error.code(), error.to_string())
    }
}

/// An envelope in its binary form, in an unnamed file: what is verified is what is then used,
/// whatever becomes of the file meanwhile.
fn binary(file: &Path) -> Result<File, CommandError> {
    let given = File::open(file).map_err(|error| unread(file, &error))?;
    let mut der = tempfile::tempfile().map_err(EnvelopeError::from)?;
    unwrap_pem(&mut BufReader::new(given), &mut der)?;
    der.rewind().map_err(EnvelopeError::from)?;
    Ok(der)
}
