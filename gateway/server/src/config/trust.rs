//! The keys, certificates and envelopes of both files.

use serde::Deserialize as _;
use serde_json::Value;
use xinqiao_core::spi::{SecretRef, Secrets};
use xinqiao_core::yaml::{At, Several};
use xinqiao_crypto::envelope::Cipher;
use xinqiao_crypto::keystore::{KeyId, KeyUse};
use xinqiao_crypto::x509::Certificate;
use zeroize::Zeroizing;

use super::check::{Check, FEEDS, GATEWAY};
use super::{EnvelopePolicy, SealTo, file};
use crate::keys::{KeysConfig, read_certificates};

/// Names that are not written.
const IDENTITY: &str = "gateway";
const STORAGE: &str = "storage";

impl Check<'_> {
    pub(super) fn keys(
        &mut self,
        keys: file::KeysFile,
        secrets: &dyn Secrets,
    ) -> Option<KeysConfig> {
        let reference = SecretRef::deserialize(Value::Object(keys.passphrase.value.map.clone()));
        let passphrase = reference
            .map_err(|_| {
                "应写成 { file: 文件路径 } 或 { env: 环境变量名 },口令不能写在配置里".into()
            })
            .and_then(|reference| secrets.resolve(&reference))
            .map_err(|why| {
                let message = format!("口令:{why}");
                self.error(GATEWAY, keys.passphrase.span.clone(), "config.passphrase", message);
            });
        let identity = self.key_name(keys.identity, IDENTITY);
        let storage = self.key_name(keys.storage, STORAGE);
        let several = |check: &mut Self, files: Option<Several<At<String>>>| {
            let files = files.map(|files| files.0).unwrap_or_default();
            files.into_iter().map(|file| check.path(file)).collect()
        };
        Some(KeysConfig {
            folder: self.path(keys.folder),
            trust: several(self, keys.trust),
            revocations: several(self, keys.revocations),
            passphrase: Zeroizing::new(passphrase.ok()?),
            identity: identity?,
            storage: storage?,
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

    /// Certificates of files; `fits` says what each must be, `wanted` what that is called.
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
                Ok(certificates) if certificates.iter().all(fits) => all.extend(certificates),
                Ok(_) => {
                    let message = format!("不是{wanted}(看证书的密钥用途)");
                    self.error(file, name.span, "config.certificate", message);
                }
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
