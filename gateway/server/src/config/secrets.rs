//! Secrets by reference.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use xinqiao_core::spi::{SecretRef, Secrets};

/// Resolves references; files count from the configuration's folder.
pub(super) struct Resolver {
    folder: PathBuf,
}

impl Resolver {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

impl Secrets for Resolver {
    fn resolve(&self, reference: &SecretRef) -> Result<String, String> {
        let secret = match reference {
            SecretRef::File(path) => std::fs::read_to_string(self.folder.join(path))
                .map_err(|error| format!("读取密钥文件 {path} 失败:{error}"))?,
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| format!("没有环境变量 {name}"))?
            }
        };
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() { Err("密钥为空".to_owned()) } else { Ok(secret.to_owned()) }
    }
}

/// Parameters of a push feed: `token` (a reference) and `per-minute`. The token is digested here,
/// so that it lives nowhere else.
pub(super) fn push(
    params: &serde_json::Value,
    secrets: &dyn Secrets,
) -> Result<([u8; 32], u32), String> {
    let map = params.as_object().ok_or("参数应为键值表")?;
    if let Some(key) = map.keys().find(|key| !["token", "per-minute"].contains(&key.as_str())) {
        return Err(format!("没有参数 {key},可用的有:token、per-minute"));
    }
    let reference =
        map.get("token").ok_or("缺少参数 token(令牌,写成 { file: … } 或 { env: … })")?;
    let reference = SecretRef::deserialize(reference)
        .map_err(|_| "参数 token 应写成 { file: 路径 } 或 { env: 变量名 }")?;
    let token = secrets.resolve(&reference)?;
    if token.len() < 16 {
        return Err("令牌过短,至少16个字符".to_owned());
    }
    let per_minute = match map.get("per-minute") {
        None => 6_000,
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or("参数 per-minute 应为正整数")?,
    };
    Ok((xinqiao_crypto::sm3(token.as_bytes()), per_minute))
}
