//! `open` and `verify`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use serde::Serialize;
use serde_json::{Value, json};
use xinqiao_crypto::envelope::{Envelope, EnvelopeError, Kind, Opened, Verified};
use xinqiao_crypto::receipt::{self, SignedReceipt};
use xinqiao_crypto::x509::Certificate;

use super::write::discard;
use super::{
    Holder, Trusted, binary, failed, file_arg, key_args, out_arg, path, trust_args, unread,
};
use crate::commands::{Command, CommandError, Global, out};

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
    let trusted = Trusted::of(matches, global)?;
    let mut proved = Vec::new();
    for receipt in found {
        let signers = receipt::verify(&receipt, &trusted.anchors, &trusted.now())
            .map_err(|error| failed(error.code(), error.to_string()))?;
        proved.push((receipt.statement, signers));
    }
    if global.json {
        let all: Vec<Value> = proved
            .iter()
            .map(|(statement, by)| json!({ "statement": statement, "signers": signers(by) }))
            .collect();
        out::json(&all)?;
    } else {
        for (statement, by) in &proved {
            out::text(format!("回执有效:{statement}"))?;
            for signer in signers(by) {
                out::text(format!("签名者:{}(签发者 {})", signer.subject, signer.issuer))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
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
