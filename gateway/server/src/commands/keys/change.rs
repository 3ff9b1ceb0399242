//! Making, certifying and rotating keys.

use std::path::Path;
use std::process::ExitCode;

use clap::ArgMatches;
use serde_json::json;
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::keystore::{CertificateFolder, FileKeyStore, KeyId, KeyUse, StoredKey};
use xinqiao_crypto::x509::crl::{self, Crl};
use xinqiao_crypto::x509::request::{self, Request};
use xinqiao_crypto::x509::{CERTIFICATE_LABEL, Certificate, Name, parse_name};
use xinqiao_crypto::{pem, pkcs8};
use zeroize::Zeroizing;

use super::{configured, failed, path, use_name};
use crate::clock::SystemClock;
use crate::commands::{CommandError, Global, ask, out};
use crate::config;
use crate::keys::{self, KeyPlace};

/// `keys init`. Makes what is missing and leaves what is there.
pub(super) fn init(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    if let Some(first) = config::first_keys(&global.config) {
        keys::storage_not_lost(&first.folder, &first.storage, &first.data)?;
        if let Some(file) = first.passphrase {
            let have = FileKeyStore::ids(&first.folder).is_ok_and(|have| !have.is_empty());
            if have && matches!(file.try_exists(), Ok(false)) {
                return Err(failed(format!(
                    "密钥目录中已有密钥,打开它们的口令文件 {} 却不在:请从备份恢复,新生成的口令打不开它们",
                    file.display()
                )));
            }
            keys::make_passphrase(&file).map_err(|error| out::unwritten(&file, &error))?;
        }
    }
    let config = configured(global)?;
    let subject = subject(matches)?;
    let made = keys::init(&config, &subject, SystemClock.now(), pkcs8::ITERATIONS)?;
    told(global, &made)?;
    if !global.json && !made.is_empty() {
        out::text(format!(
            "密钥在 {},请与口令分开备份:丢失 {} 的密钥,已落盘的报文和记录就无法再读出。\
             证书为自签,正式使用前请用 keys request 向签发机构申请,再用 keys import 导入。",
            config.folder.display(),
            config.storage,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `keys new`.
pub(super) fn new(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let uses: &[KeyUse] = match matches.get_one::<String>("use").map_or("", String::as_str) {
        "sign" => &[KeyUse::Sign],
        "encrypt" => &[KeyUse::Encrypt],
        _ => &[KeyUse::Sign, KeyUse::Encrypt],
    };
    let name = text(matches, "name");
    let folder = config.manage()?;
    let made = uses.iter().map(|usage| folder.generate(name, *usage));
    let made = made.collect::<Result<Vec<_>, _>>()?;
    told(global, &made)?;
    Ok(ExitCode::SUCCESS)
}

/// `keys rotate`: the next generation of every use the name has. The storage key comes into use at
/// once; others wait for their certificates.
pub(super) fn rotate(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let name = text(matches, "name");
    let folder = config.manage()?;
    let have = folder.ids()?;
    let uses: Vec<KeyUse> = [KeyUse::Sign, KeyUse::Encrypt]
        .into_iter()
        .filter(|usage| have.iter().any(|id| id.name() == name && id.usage() == *usage))
        .collect();
    if uses.is_empty() {
        return Err(failed(format!("没有名为 {name} 的密钥")));
    }
    let made = uses.iter().map(|usage| folder.generate(name, *usage));
    let made = made.collect::<Result<Vec<_>, _>>()?;
    if name == config.storage {
        if !global.json {
            // Also if the rest fails, what was made is known.
            told(global, &made)?;
        }
        let rewrapped = ask::rewrap(global)?;
        if global.json {
            let ids: Vec<String> = made.iter().map(ToString::to_string).collect();
            out::json(&json!({ "made": ids, "rewrapped": rewrapped }))?;
        } else if let Some(now) = rewrapped {
            out::text(format!(
                "{} 个数据密钥已改由 {} 保护;确认密钥目录已重新备份后,旧一代可以移走",
                now.segments, now.key
            ))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    told(global, &made)?;
    if !global.json {
        out::text("新一代密钥要等证书导入后才启用:请用 keys request 申请,再用 keys import 导入")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `keys request`.
pub(super) fn request(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let Some(id) = matches.get_one::<KeyId>("key") else {
        return Err(CommandError::Broken("缺少密钥".into()));
    };
    let request = match &config.place {
        KeyPlace::Folder(_) => config.manage()?.request(id, &subject(matches)?)?,
        KeyPlace::Device(_) if id.usage() == KeyUse::Encrypt => {
            return Err(failed(
                "密码设备的加密密钥不能签名,无法自行申请:请用签名密钥申请双证书,或用厂商的工具",
            ));
        }
        KeyPlace::Device(_) => {
            let store = config.store()?;
            Request::new(&subject(matches)?, &StoredKey::new(&*store, id)?)?
        }
    };
    let to = path(matches, "out");
    out::to(to.as_deref(), request.to_pem().as_bytes())?;
    if let Some(to) = to {
        let (key, file) = (id.to_string(), to.display().to_string());
        if global.json {
            out::json(&json!({ "key": key, "written": file }))?;
        } else {
            out::text(format!("{key} 的证书申请已写到 {file},请交给签发机构"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `keys import`: certificates go to the key named, private keys become the next generation.
pub(super) fn import(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let config = configured(global)?;
    let file = path(matches, "file").unwrap_or_default();
    let bytes = Zeroizing::new(read(&file)?);
    let key = text(matches, "key");
    let blocks = pem::blocks(&bytes).map_err(failed)?;
    let label = blocks.first().map(|block| block.label.as_str());
    let is = |wanted: &str, read: bool| label.map_or(read, |label| label == wanted);
    if is(request::LABEL, Request::from_file(&bytes).is_ok()) {
        return Err(failed("这是证书申请(CSR),不是证书:请先交给签发机构,再导入签发下来的证书"));
    }
    if is(crl::LABEL, Crl::from_file(&bytes).is_ok()) {
        return Err(failed("这是吊销列表,不是证书:请写在 gateway.yaml 的 keys.revocations"));
    }
    if is(CERTIFICATE_LABEL, Certificate::from_der(&bytes).is_ok()) {
        let id: KeyId = key.parse().map_err(failed)?;
        let chain = Certificate::from_file(&bytes)?;
        match &config.place {
            KeyPlace::Folder(_) => config.manage()?.put_chain(&id, &chain)?,
            KeyPlace::Device(_) => {
                let key = config.store()?.entry(&id)?.public_key;
                CertificateFolder(&config.folder).put_chain(&id, &key, &chain)?;
            }
        }
        if global.json {
            out::json(&json!({ "certified": id.to_string() }))?;
        } else {
            out::text(format!("{id} 的证书已导入,到期日见 keys list;运行中的网关重启后启用"))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    match label {
        Some(label) if !blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY")) => {
            return Err(failed(format!("文件中是 {label},既不是证书,也不是私钥")));
        }
        // No DER begins otherwise.
        None if bytes.first() != Some(&0x30) => {
            return Err(failed("文件既不是证书,也不是私钥(PEM 或 DER)"));
        }
        _ => {}
    }
    let wrong = || failed("导入私钥时,密钥应写成 名称.用途,如 gateway.sign、gateway.encrypt");
    let (name, usage) = key.rsplit_once('.').ok_or_else(wrong)?;
    let usage: KeyUse = usage.parse().map_err(|_| wrong())?;
    let private = match path(matches, "passphrase-file") {
        Some(file) => {
            let passphrase = Zeroizing::new(read(&file)?);
            pkcs8::decrypt(&bytes, passphrase.trim_ascii_end())
        }
        None => pkcs8::read_plain(&bytes),
    };
    let id = config.manage()?.add(name, usage, &private.map_err(failed)?)?;
    told(global, &[id])?;
    Ok(ExitCode::SUCCESS)
}

fn told(global: &Global, made: &[KeyId]) -> Result<(), CommandError> {
    if global.json {
        let ids: Vec<String> = made.iter().map(ToString::to_string).collect();
        return out::json(&json!({ "made": ids }));
    }
    if made.is_empty() {
        return out::text("所需的密钥都已存在,没有改动");
    }
    for id in made {
        out::text(format!("已生成 {id}({})", use_name(id.usage())))?;
    }
    Ok(())
}

fn subject(matches: &ArgMatches) -> Result<Name, CommandError> {
    Ok(parse_name(text(matches, "subject"))?)
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> &'a str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|error| {
        CommandError::Broken(format!("读取 {} 失败:{}", path.display(), io_words(&error)))
    })
}
