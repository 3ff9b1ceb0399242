//! Secrets by reference.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::{ParamProblem, SecretRef, Secrets};

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
                .map_err(|error| format!("读取密钥文件 {path} 失败:{}", io_words(&error)))?,
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| format!("没有环境变量 {name}"))?
            }
        };
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() { Err("密钥为空".to_owned()) } else { Ok(secret.to_owned()) }
    }
}

/// Parameters of a push feed.
pub(super) const PUSH: [&str; 2] = ["token", "per-minute"];

/// Reads the parameters of a push feed: `token` (a reference) and `per-minute`. The token is
/// digested here, so that it lives nowhere else.
pub(super) fn push(
    params: &serde_json::Value,
    secrets: &dyn Secrets,
) -> Result<([u8; 32], u32), Vec<ParamProblem>> {
    let problem = |at: &str, text: String| ParamProblem { at: at.to_owned(), text };
    let known = PUSH.join("、");
    let mut problems: Vec<ParamProblem> = params
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(|key| !PUSH.contains(&key.as_str()))
        .map(|key| problem(key, format!("没有这个参数,可用的有:{known}")))
        .collect();
    let token = token(params.get("token"), secrets).map_err(|why| problem("token", why));
    let per_minute = match params.get("per-minute") {
        None => Ok(6_000),
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| problem("per-minute", "应为正整数".to_owned())),
    };
    match (token, per_minute) {
        (Ok(token), Ok(per_minute)) if problems.is_empty() => {
            Ok((xinqiao_crypto::sm3(token.as_bytes()), per_minute))
        }
        (token, per_minute) => {
            problems.extend(token.err().into_iter().chain(per_minute.err()));
            Err(problems)
        }
    }
}

fn token(reference: Option<&serde_json::Value>, secrets: &dyn Secrets) -> Result<String, String> {
    let reference = reference.ok_or("缺少此参数(令牌,写成 { file: … } 或 { env: … })")?;
    let reference = SecretRef::deserialize(reference)
        .map_err(|_| "应写成 { file: 文件路径 } 或 { env: 环境变量名 },令牌不能写在配置里")?;
    let token = secrets.resolve(&reference)?;
    if token.len() < 16 {
        return Err("令牌过短,至少16个字符".to_owned());
    }
    Ok(token)
}
