//! The keys, certificates and envelopes of both files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;
use xinqiao_core::spi::{SecretRef, Secrets};
use xinqiao_core::yaml::{At, Several};
use xinqiao_crypto::envelope::Cipher;
use xinqiao_crypto::keystore::{KeyId, KeyUse};
use xinqiao_crypto::lists::Stale;
use xinqiao_crypto::x509::Certificate;
use xinqiao_sdf::{DecryptForm, DeviceConfig, SESSIONS};
use zeroize::Zeroizing;

use super::check::{Check, FEEDS, GATEWAY};
use super::{EnvelopePolicy, SealTo, file};
use crate::keys::{KeyPlace, KeysConfig, read_certificates};

/// Names that are not written.
const IDENTITY: &str = "gateway";
pub(super) const STORAGE: &str = "storage";

/// After whatever is wrong with the passphrase.
const FIRST: &str = "。首次安装请执行 xinqiao keys init";

impl Check<'_> {
    pub(super) fn keys(
        &mut self,
        keys: file::KeysFile,
        secrets: &dyn Secrets,
    ) -> Option<KeysConfig> {
        let identity = self.key_name(keys.identity, IDENTITY);
        let storage = self.key_name(keys.storage, STORAGE);
        let folder_span = keys.folder.span.clone();
        let folder = self.path(keys.folder);
        let place = match (keys.passphrase, keys.device) {
            (Some(passphrase), None) => {
                self.passphrase(&passphrase, FIRST, secrets).map(KeyPlace::Folder)
            }
            (None, Some(device)) => {
                let wanted = [identity.as_deref(), storage.as_deref()];
                let device = self.device(device, &folder, wanted, secrets);
                device.map(|device| KeyPlace::Device(Box::new(device)))
            }
            (None, None) => {
                let message = "须写明打开密钥的口令(passphrase),或密钥所在的密码设备(device)";
                self.error(GATEWAY, folder_span, "config.passphrase", message.to_owned());
                None
            }
            (Some(passphrase), Some(_)) => {
                let message = "密钥或在目录中(passphrase),或在密码设备中(device),不能都写";
                self.error(GATEWAY, passphrase.span, "config.passphrase", message.to_owned());
                None
            }
        };
        let untrusted = keys.trust.as_ref().is_none_or(|files| files.0.is_empty());
        let lists = keys.revocations.as_ref().and_then(|files| files.0.first());
        if let Some(first) = lists.filter(|_| untrusted) {
            let message = "写了 revocations,就须用 trust 给出签发机构的证书:吊销列表由它们签名,没有就无从核对";
            self.error(GATEWAY, first.span.clone(), "config.revocations", message.to_owned());
        }
        let stale = match keys.stale_revocations {
            None => Some(Stale::default()),
            Some(given) => match given.value.as_str() {
                "accept" => Some(Stale::Accept),
                "refuse" => Some(Stale::Refuse),
                _ => {
                    let message = "应为 accept 或 refuse".to_owned();
                    self.error(GATEWAY, given.span, "config.revocations", message);
                    None
                }
            },
        };
        let several = |check: &mut Self, files: Option<Several<At<String>>>| {
            let files = files.map(|files| files.0).unwrap_or_default();
            files.into_iter().map(|file| check.path(file)).collect()
        };
        Some(KeysConfig {
            folder,
            trust: several(self, keys.trust),
            revocations: several(self, keys.revocations),
            stale: stale?,
            place: place?,
            identity: identity?,
            storage: storage?,
        })
    }

    fn passphrase(
        &mut self,
        given: &At<file::Params>,
        hint: &str,
        secrets: &dyn Secrets,
    ) -> Option<Zeroizing<String>> {
        let reference = SecretRef::deserialize(Value::Object(given.value.map.clone()));
        let resolved = reference
            .map_err(|_| {
                "应写成 { file: 文件路径 } 或 { env: 环境变量名 },口令不能写在配置里".into()
            })
            .and_then(|reference| {
                private(self.folder, &reference)?;
                secrets.resolve(&reference)
            });
        match resolved {
            Ok(passphrase) => Some(Zeroizing::new(passphrase)),
            Err(why) => {
                let span = given.span.clone();
                self.error(GATEWAY, span, "config.passphrase", format!("口令:{why}{hint}"));
                None
            }
        }
    }

    /// A device; `wanted` are the names it must have keys of.
    fn device(
        &mut self,
        device: At<file::DeviceFile>,
        certificates: &Path,
        wanted: [Option<&str>; 2],
        secrets: &dyn Secrets,
    ) -> Option<DeviceConfig> {
        let file::DeviceFile { library, pin, keys, decrypt, sessions } = device.value;
        let library = self.path(library);
        let pin = self.passphrase(&pin, "(设备的 PIN)", secrets);
        let mut wrong = false;
        let mut tell = |span: Range<usize>, message: String| {
            self.error(GATEWAY, span, "config.device", message);
            wrong = true;
        };
        let mut used = BTreeSet::new();
        let mut indexes = BTreeMap::new();
        for (name, given) in keys.value.0 {
            if let Err(why) = KeyId::new(&name.value, KeyUse::Sign, 1) {
                tell(name.span.clone(), why.to_string());
            }
            if given.0.is_empty() {
                tell(name.span.clone(), "至少要有一个索引".to_owned());
            }
            for index in &given.0 {
                if !used.insert(index.value) {
                    tell(index.span.clone(), format!("索引 {} 已用于别的密钥", index.value));
                }
            }
            indexes.insert(name.value, given.0.into_iter().map(|index| index.value).collect());
        }
        for name in wanted.into_iter().flatten().filter(|name| !indexes.contains_key(*name)) {
            tell(keys.span.clone(), format!("没有密钥 {name} 的索引"));
        }
        let decrypt = match decrypt.value.as_str() {
            "plain" => DecryptForm::Plain,
            "with-algorithm" => DecryptForm::WithAlgorithm,
            _ => {
                tell(decrypt.span, "应为 plain 或 with-algorithm".to_owned());
                DecryptForm::Plain
            }
        };
        let most = sessions.as_ref().map_or(SESSIONS, |given| given.value as usize);
        if !(1..=64).contains(&most) {
            let span = sessions.map(|given| given.span).unwrap_or_default();
            tell(span, "应为 1 到 64 的整数".to_owned());
        }
        let certificates = certificates.to_owned();
        let sessions = most;
        let pin = pin?;
        (!wrong).then_some(DeviceConfig {
            library,
            pin,
            keys: indexes,
            decrypt,
            sessions,
            certificates,
        })
    }

    fn key_name(&mut self, given: Option<At<String>>, default: &str) -> Option<String> {
        let Some(given) = given else { return Some(default.to_owned()) };
        if let Err(why) = KeyId::new(&given.value, KeyUse::Sign, 1) {
            self.error(GATEWAY, given.span, "config.key-name", why.to_string());
            return None;
        }
        Some(given.value)
    }

    /// The first certificate of each file: after it may stand its issuers'. `fits` says what it must
    /// be, `wanted` what that is called.
    pub(super) fn certificates(
        &mut self,
        file: &str,
        given: Vec<At<String>>,
        wanted: &str,
        fits: fn(&Certificate) -> bool,
    ) -> Vec<Certificate> {
        let mut all = Vec::new();
        for name in given {
            match read_certificates(&self.folder.join(&name.value)) {
                Ok(certificates) => match certificates.into_iter().next().filter(fits) {
                    Some(first) => all.push(first),
                    None => {
                        let message = format!("文件中的第一份证书不是{wanted}(看证书的密钥用途)");
                        self.error(file, name.span, "config.certificate", message);
                    }
                },
                Err(why) => self.error(file, name.span, "config.certificate", why.to_string()),
            }
        }
        all
    }

    pub(super) fn seal(&mut self, seal: file::SealFile) -> Option<SealTo> {
        let span = seal.to.span;
        let to = self.certificates(GATEWAY, seal.to.value.0, "加密证书", Certificate::may_encrypt);
        if to.is_empty() {
            let message = "至少要有一份收件方的加密证书".to_owned();
            self.error(GATEWAY, span, "config.seal", message);
        }
        let cipher = match seal.cipher {
            None => Cipher::Cbc,
            Some(given) => match given.value.as_str() {
                "standard" => Cipher::Cbc,
                "gcm" => Cipher::Gcm,
                _ => {
                    let message = "应为 standard 或 gcm".to_owned();
                    self.error(GATEWAY, given.span, "config.seal", message);
                    return None;
                }
            },
        };
        Some(SealTo { to, cipher })
    }

    /// What a feed's messages must be. `signers` are the agency's signing certificates.
    pub(super) fn envelope(
        &mut self,
        given: Option<At<String>>,
        signers: &[Certificate],
    ) -> Option<EnvelopePolicy> {
        let given = given?;
        let required = match given.value.as_str() {
            "required" => true,
            "allowed" => false,
            _ => {
                let message = "应为 required 或 allowed".to_owned();
                self.error(FEEDS, given.span, "config.envelope", message);
                return None;
            }
        };
        if signers.is_empty() {
            let message =
                "收数字信封须先在 agencies 中写明该局的签名证书(certificates),否则无从核对签名者";
            self.error(FEEDS, given.span, "config.envelope", message.to_owned());
        }
        Some(EnvelopePolicy { required, signers: signers.to_vec() })
    }
}

/// A passphrase lies in a file that nobody else may read.
fn private(folder: &Path, reference: &SecretRef) -> Result<(), String> {
    let SecretRef::File(path) = reference else { return Ok(()) };
    let about = match std::fs::metadata(folder.join(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("没有口令文件 {path}"));
        }
        // What else is wrong shows when it is read.
        Err(_) => return Ok(()),
        Ok(about) => about,
    };
    if about.permissions().mode() & 0o077 != 0 {
        return Err(format!("口令文件 {path} 可被其他用户读取,请执行 chmod 600 {path}"));
    }
    Ok(())
}
