//! `seal` and `sign`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::envelope::{
    Cipher, EnvelopeError, Pem, Signing, seal, sign, sign_and_seal, to_send,
};
use xinqiao_crypto::keystore::{KeyUse, StoredKey};

use super::{Holder, file_arg, key_args, out_arg, path, unread};
use crate::clock::SystemClock;
use crate::commands::{Command, CommandError, Global, out};
use crate::keys::{read_certificates, seconds};

pub(in crate::commands) struct Seal;

impl Command for Seal {
    fn name(&self) -> &'static str {
        "seal"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("把文件签名并加密成数字信封(GB/T 35275)")
            .arg(file_arg())
            .arg(
                Arg::new("to")
                    .long("to")
                    .value_name("文件")
                    .required(true)
                    .action(ArgAction::Append)
                    .value_parser(ValueParser::path_buf())
                    .help("收件方的加密证书,可写多次"),
            )
            .arg(
                Arg::new("unsigned")
                    .long("unsigned")
                    .action(ArgAction::SetTrue)
                    .help("只加密,不签名:收件方无从知道是谁发的;信桥不收这种信封"),
            )
            .arg(
                Arg::new("gcm")
                    .long("gcm")
                    .action(ArgAction::SetTrue)
                    .help("用 SM4-GCM(对端须也是信桥);缺省为国标的 SM4-CBC"),
            )
            .arg(pem_arg())
            .arg(out_arg())
            .args(key_args())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let mut to = Vec::new();
        for file in matches.get_many::<PathBuf>("to").into_iter().flatten() {
            // A file may hold a chain: the first is its holder's.
            to.extend(read_certificates(file)?.into_iter().next());
        }
        let cipher = if matches.get_flag("gcm") { Cipher::Gcm } else { Cipher::Cbc };
        if matches.get_flag("unsigned") {
            let content = open(matches)?;
            return write(matches, |out| seal(&mut &content, &to, cipher, out));
        }
        signed(matches, global, |content, signing, out| {
            sign_and_seal(&mut &*content, signing, &to, cipher, out)
        })
    }
}

pub(in crate::commands) struct Sign;

impl Command for Sign {
    fn name(&self) -> &'static str {
        "sign"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("给文件签名(GB/T 35275 签名数据,内容在其中,不加密)")
            .arg(file_arg())
            .arg(pem_arg())
            .arg(out_arg())
            .args(key_args())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        signed(matches, global, |content, signing, out| sign(&mut &*content, signing, out))
    }
}

fn pem_arg() -> Arg {
    Arg::new("pem").long("pem").action(ArgAction::SetTrue).help("写成 PEM 文本;缺省为二进制 DER")
}

fn signed(
    matches: &ArgMatches,
    global: &Global,
    act: impl FnOnce(&File, &Signing<'_>, &mut dyn Write) -> Result<(), EnvelopeError>,
) -> Result<ExitCode, CommandError> {
    let content = open(matches)?;
    let holder = Holder::open(matches, global)?;
    let entry = holder.current(KeyUse::Sign)?;
    let signer = StoredKey::new(&*holder.store, &entry.id)?;
    let Some(certificate) = entry.chain.first() else {
        return Err(EnvelopeError::NoCertificate.into());
    };
    let chain = to_send(&entry.chain);
    let at = seconds(SystemClock.now());
    let signing = Signing { certificate, chain: &chain, signer: &signer, at };
    write(matches, |out| act(&content, &signing, out))
}

fn open(matches: &ArgMatches) -> Result<File, CommandError> {
    let file = path(matches, "file").unwrap_or_default();
    File::open(&file).map_err(|error| unread(&file, &error))
}

/// Writes the result; a file that could not be finished does not stay.
fn write(
    matches: &ArgMatches,
    act: impl FnOnce(&mut dyn Write) -> Result<(), EnvelopeError>,
) -> Result<ExitCode, CommandError> {
    let to = path(matches, "out").unwrap_or_default();
    let file = out::create(&to)?;
    let result = finished(file, matches.get_flag("pem"), act);
    if result.is_err() {
        discard(&to);
    }
    result?;
    let written = to.display().to_string();
    if matches.get_flag("json") {
        out::json(&serde_json::json!({ "written": written }))?;
    } else {
        out::text(format!("已写到 {written}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn finished(
    file: File,
    pem: bool,
    act: impl FnOnce(&mut dyn Write) -> Result<(), EnvelopeError>,
) -> Result<(), EnvelopeError> {
    let mut out = BufWriter::new(file);
    if pem {
        let mut pem = Pem::new(&mut out)?;
        act(&mut pem)?;
        pem.finish()?;
    } else {
        act(&mut out)?;
    }
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?)
}

/// What is not whole is of no use; that it could not be written is told already.
pub(super) fn discard(file: &Path) {
    let _ = std::fs::remove_file(file);
}
