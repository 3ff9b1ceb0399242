//! Showing keys and certificates.

use std::process::ExitCode;

use clap::ArgMatches;
use serde::Serialize;
use xinqiao_core::model::Timestamp;
use xinqiao_crypto::keystore::{KeyEntry, KeyId};
use xinqiao_crypto::x509::{Certificate, Expiry, UnixSeconds, WARN_DAYS};
use xinqiao_crypto::{hex, sm3};

use super::{configured, now, path, use_name};
use crate::commands::{CommandError, Global, found, out};

/// A key as `--json` has it.
#[derive(Serialize)]
struct Shown {
    key: String,
    name: String,
    r#use: &'static str,
    generation: u16,
    /// The one that is used for new work.
    current: bool,
    /// SM3 of the public key (65 bytes), first 16 hex digits.
    fingerprint: String,
    certificate: Option<ShownCertificate>,
}

#[derive(Serialize)]
struct ShownCertificate {
    subject: String,
    issuer: String,
    serial: String,
    not_after: Timestamp,
    /// `fine`, `soon`, `expired` or `not-yet`.
    state: &'static str,
    #[serde(skip)]
    text: String,
}

/// `keys list`. Exit 1 if a certificate in use ends within 60 days, has ended, or is missing where
/// others have one.
pub(super) fn run(global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let store = config.store()?;
    let mut keys = Vec::new();
    for entry in store.list()? {
        let current = store.current(entry.id.name(), entry.id.usage())?;
        let current = current.is_some_and(|current| current.id == entry.id);
        keys.push(shown(&entry, current, now()));
    }
    let waiting =
        |key: &Shown| key.current && key.certificate.as_ref().is_some_and(|c| c.state != "fine");
    let any = keys.iter().any(waiting);
    if global.json {
        out::json(&keys)?;
    } else if keys.is_empty() {
        out::text("还没有密钥:请执行 xinqiao keys init")?;
    } else {
        let mut table =
            out::table(["密钥", "用途", "在用", "公钥指纹", "证书持有者", "签发者", "到期"], 9);
        for key in &keys {
            let (subject, issuer, until) = match &key.certificate {
                Some(c) => (c.subject.as_str(), c.issuer.as_str(), c.text.as_str()),
                None if key.name == config.storage => ("—", "—", "不需证书"),
                None => ("—", "—", "无证书"),
            };
            let current = if key.current { "是" } else { "" };
            table.add_row([&key.key, key.r#use, current, &key.fingerprint, subject, issuer, until]);
        }
        out::text(table)?;
        for key in keys.iter().filter(|key| waiting(key)) {
            let text = key.certificate.as_ref().map_or("", |c| &c.text);
            out::text(format!(
                "提醒:{} 的证书{text},请用 keys request 申请新证书,再用 keys import 导入",
                key.key
            ))?;
        }
    }
    Ok(found(any))
}

fn shown(entry: &KeyEntry, current: bool, at: UnixSeconds) -> Shown {
    let mut fingerprint = hex(&sm3(&entry.public_key.to_sec1()));
    fingerprint.truncate(16);
    Shown {
        key: entry.id.to_string(),
        name: entry.id.name().to_owned(),
        r#use: use_name(entry.id.usage()),
        generation: entry.id.generation(),
        current,
        fingerprint,
        certificate: entry.chain.first().map(|own| certificate(own, at)),
    }
}

fn certificate(own: &Certificate, at: UnixSeconds) -> ShownCertificate {
    let not_after = Timestamp(own.not_after().0.saturating_mul(1_000));
    let day = not_after.shanghai_date();
    let (state, text) = match own.expiry(at) {
        Expiry::Fine => ("fine", day.to_string()),
        Expiry::Soon(days) => ("soon", format!("{day}(还有{days}天,不足{WARN_DAYS}天)")),
        Expiry::Expired => ("expired", format!("{day}(已过期)")),
        Expiry::NotYet => ("not-yet", format!("{day}(尚未生效)")),
    };
    ShownCertificate {
        subject: own.subject().to_string(),
        issuer: own.issuer().to_string(),
        serial: own.serial_hex(),
        not_after,
        state,
        text,
    }
}

/// `keys export-cert`.
pub(super) fn export(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let Some(id) = matches.get_one::<KeyId>("key").cloned() else {
        return Err(CommandError::Broken("缺少密钥".into()));
    };
    let store = config.store()?;
    let chain = store.certificate(&id)?;
    if chain.is_empty() {
        return Err(super::failed(format!("密钥 {id} 还没有证书")));
    }
    let wanted = if matches.get_flag("chain") { chain.len() } else { 1 };
    let text: String = chain.iter().take(wanted).map(Certificate::to_pem).collect();
    out::to(path(matches, "out").as_deref(), text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
