//! `open` and `verify`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;
use serde_json::{Value, json};
use xinqiao_core::model::Timestamp;
use xinqiao_crypto::envelope::{Envelope, EnvelopeError, Kind, Opened, Verified};
use xinqiao_crypto::keystore::KeyUse;
use xinqiao_crypto::lists::Stale;
use xinqiao_crypto::receipt::{self, ReceiptError, SignedReceipt};
use xinqiao_crypto::x509::Certificate;
use xinqiao_crypto::x509::chain::{ChainReason, Trust};

use super::write::discard;
use super::{
    Holder, Trusted, binary, failed, file_arg, key_args, out_arg, path, trust_args, unread,
};
use crate::commands::{Command, CommandError, Global, out};
use crate::config;
use crate::keys::{read_certificates, seconds};

pub(in crate::commands) struct Open;

impl Command for Open {
    fn name(&self) -> &'static str {
        "open"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("打开数字信封:先验证签名,再写出内容")
            .arg(file_arg())
            .arg(out_arg())
            .arg(
                Arg::new("unsigned")
                    .long("unsigned")
                    .action(ArgAction::SetTrue)
                    .help("也打开没有签名的信封:内容来自谁、是否被改动,无从知道"),
            )
            .args(key_args())
            .args(trust_args())
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        let file = path(matches, "file").unwrap_or_default();
        let to = path(matches, "out").unwrap_or_default();
        let mut input = binary(&file)?;
        let envelope = Envelope::read(&mut input)?;
        let opened = match envelope.kind() {
            Kind::Signed => None,
            Kind::Enveloped | Kind::SignedAndEnveloped => {
                Some(content_key(matches, global, &envelope)?)
            }
        };
        if envelope.kind() == Kind::Enveloped {
            let Some(opened) = opened.filter(|_| matches.get_flag("unsigned")) else {
                let message = "信封没有签名,无从知道内容来自谁。确要打开,请加 --unsigned";
                return Err(failed("envelope.unsigned", message));
            };
            written(&to, |out| envelope.write_unsigned(&mut input, &opened, out))?;
            tell(global, envelope.kind(), &[])?;
            return Ok(ExitCode::SUCCESS);
        }
        let trusted = Trusted::of(matches, global)?;
        let verified = verified(&envelope, &mut input, opened.as_ref(), &trusted)?;
        written(&to, |out| envelope.write(&mut input, opened.as_ref(), &verified, out))?;
        tell(global, envelope.kind(), &verified.signers)?;
        Ok(ExitCode::SUCCESS)
    }
}

pub(in crate::commands) struct Verify;

impl Command for Verify {
    fn name(&self) -> &'static str {
        "verify"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name())
            .about("验证签名:数字信封,或网关的回执(verify receipt 文件)")
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
            .arg(file_arg())
            .args(key_args())
            .args(trust_args())
            .subcommand(
                clap::Command::new("receipt")
                    .about("验证网关签发的回执(推送接口答复的 JSON,或其中的回执)")
                    .arg(file_arg())
                    .arg(
                        Arg::new("signer")
                            .long("signer")
                            .value_name("文件")
                            .action(ArgAction::Append)
                            .value_parser(ValueParser::path_buf())
                            .help("网关的签名证书,可写多次;缺省为 gateway.yaml 的网关自己的证书。同一签发机构的其他证书所签的不算回执"),
                    )
                    .args(trust_args()),
            )
    }

    fn run(&self, matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        if let Some(("receipt", matches)) = matches.subcommand() {
            return verify_receipts(matches, global);
        }
        let file = path(matches, "file").unwrap_or_default();
        let mut input = binary(&file)?;
        let envelope = Envelope::read(&mut input)?;
        let opened = match envelope.kind() {
            Kind::Signed => None,
            Kind::Enveloped => {
                return Err(failed("envelope.unsigned", "信封没有签名,无可验证"));
            }
            Kind::SignedAndEnveloped => Some(content_key(matches, global, &envelope)?),
        };
        let trusted = Trusted::of(matches, global)?;
        let verified = verified(&envelope, &mut input, opened.as_ref(), &trusted)?;
        tell(global, envelope.kind(), &verified.signers)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn content_key(
    matches: &ArgMatches,
    global: &Global,
    envelope: &Envelope,
) -> Result<Opened, CommandError> {
    let holder = Holder::open(matches, global)?;
    Ok(envelope.open_by(&*holder.store, &holder.name)?)
}

fn verified(
    envelope: &Envelope,
    input: &mut File,
    opened: Option<&Opened>,
    trusted: &Trusted,
) -> Result<Verified, CommandError> {
    // A certificate that is trusted itself need not come along.
    Ok(envelope.verify(input, opened, &trusted.anchors, &trusted.now())?)
}

/// Writes content that has been verified; what could not be finished does not stay.
fn written(
    to: &Path,
    act: impl FnOnce(&mut BufWriter<File>) -> Result<(), EnvelopeError>,
) -> Result<(), CommandError> {
    let mut out = BufWriter::new(out::create(to)?);
    let result = act(&mut out).and_then(|()| Ok(out.flush()?));
    if result.is_err() {
        discard(to);
    }
    Ok(result?)
}

#[derive(Serialize)]
struct Signer {
    subject: String,
    issuer: String,
    serial: String,
}

fn signers(certificates: &[Certificate]) -> Vec<Signer> {
    let signer = |certificate: &Certificate| Signer {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.serial_hex(),
    };
    certificates.iter().map(signer).collect()
}

fn tell(global: &Global, kind: Kind, certificates: &[Certificate]) -> Result<(), CommandError> {
    let (code, name) = match kind {
        Kind::Signed => ("signed", "签名数据"),
        Kind::Enveloped => ("enveloped", "数字信封(无签名)"),
        Kind::SignedAndEnveloped => ("signed-and-enveloped", "带签名的数字信封"),
    };
    let signers = signers(certificates);
    if global.json {
        return out::json(&json!({ "kind": code, "signers": signers }));
    }
    out::text(name)?;
    signers.iter().try_for_each(|signer| {
        out::text(format!("签名有效:{}(签发者 {})", signer.subject, signer.issuer))
    })
}

fn verify_receipts(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let file = path(matches, "file").unwrap_or_default();
    let bytes = std::fs::read(&file).map_err(|error| unread(&file, &error))?;
    let answer: Value = serde_json::from_slice(&bytes).map_err(|_| {
        failed("receipt.malformed", "文件不是 JSON:应为推送接口的答复,或其中的回执")
    })?;
    let found = receipts_of(&answer);
    if found.is_empty() {
        return Err(failed("receipt.malformed", "文件中没有回执(statement 与 signature)"));
    }
    let gateway = gateway_certificates(matches, global)?;
    let mut trusted = match matches.contains_id("trust") {
        true => Trusted::of(matches, global)?,
        // The certificate that is named is trusted for itself.
        false => Trusted { anchors: gateway.clone(), lists: Vec::new(), stale: Stale::Refuse },
    };
    if !matches.contains_id("trust") {
        trusted.read_lists(matches)?;
    }
    let mut proved = Vec::new();
    for receipt in found {
        let trust = trusted.now();
        let (signers, ended) = match receipt::verify(&receipt, &gateway, &trust) {
            // A receipt outlives the certificate it was signed with.
            Err(ReceiptError::Signature(EnvelopeError::Untrusted(error)))
                if error.reason == ChainReason::Expired =>
            {
                let at = time_of(receipt.statement).map_or(trust.at, seconds);
                (receipt::verify(&receipt, &gateway, &Trust { at, ..trust }), true)
            }
            other => (other, false),
        };
        let signers = signers.map_err(|error| failed(error.code(), error.to_string()))?;
        if !signers.iter().all(|signer| gateway.contains(signer)) {
            let message = "签名者不是所指的网关证书:同一签发机构的其他证书所签的不算网关的回执";
            return Err(failed("receipt.signer", message));
        }
        proved.push(Proved { statement: receipt.statement, signers, ended });
    }
    if global.json {
        let all: Vec<Value> = proved
            .iter()
            .map(|one| {
                let (statement, ended) = (one.statement, one.ended);
                let signers = signers(&one.signers);
                json!({ "statement": statement, "signers": signers, "certificate_ended": ended })
            })
            .collect();
        out::json(&all)?;
    } else {
        for one in &proved {
            out::text(format!("回执有效:{}", one.statement))?;
            if one.ended {
                out::text("注意:签名证书现已过期,按回执所载时间核验;该时间由签名者自己写明")?;
            }
            for signer in signers(&one.signers) {
                out::text(format!("签名者:{}(签发者 {})", signer.subject, signer.issuer))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A receipt that holds.
struct Proved<'a> {
    statement: &'a str,
    signers: Vec<Certificate>,
    /// The certificate has ended since.
    ended: bool,
}

/// The time that a statement tells.
fn time_of(statement: &str) -> Option<Timestamp> {
    let value = |name: &str| statement.split(' ').find_map(|word| word.strip_prefix(name));
    let text = value("at=").or_else(|| value("received="))?;
    serde_json::from_value(text.into()).ok()
}

/// The gateway's signing certificates: of files, or of the keys of `gateway.yaml`, every generation.
fn gateway_certificates(
    matches: &ArgMatches,
    global: &Global,
) -> Result<Vec<Certificate>, CommandError> {
    let mut certificates = Vec::new();
    let files: Vec<PathBuf> = matches.get_many("signer").into_iter().flatten().cloned().collect();
    for file in &files {
        certificates.extend(read_certificates(file)?.into_iter().next());
    }
    if files.is_empty() {
        let config = config::keys(&global.config)
            .map_err(|_| CommandError::Broken("请用 --signer 指明网关的签名证书".to_owned()))?;
        let store = config.store()?;
        let own = store
            .list()?
            .into_iter()
            .filter(|entry| entry.id.name() == config.identity && entry.id.usage() == KeyUse::Sign);
        certificates.extend(own.filter_map(|entry| entry.chain.into_iter().next()));
    }
    Ok(certificates)
}

/// Every receipt in an answer: itself, or its members.
fn receipts_of(answer: &Value) -> Vec<SignedReceipt<'_>> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let own = text("statement")
        .zip(text("signature"))
        .map(|(statement, signature)| SignedReceipt { statement, signature });
    match own {
        Some(own) => vec![own],
        None => {
            answer.as_object().into_iter().flatten().flat_map(|(_, v)| receipts_of(v)).collect()
        }
    }
}
