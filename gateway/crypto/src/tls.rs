//! TLS with national algorithms (RFC 8998) and with classical ones, on one port or on separate ones.
//!
//! Two configurations of rustls stand side by side and never mix: the classical one (TLS 1.2 and
//! 1.3, ring) and the national one (TLS 1.3 with TLS_SM4_GCM_SM3, curveSM2 and SM2 certificates).
//! A server's [`Policy`] says which it has; where it has both, [`choose`] takes the national one
//! for every client that offers all of it. A client has no such choice: `either` would mean to try
//! again without national algorithms after a failure, and a failure is what an attacker on the
//! line can always make. So an operator names the [`Suite`] of every outgoing link.
//!
//! Nobody on the line can talk both ends down either: the whole ClientHello goes into the
//! handshake's Finished and CertificateVerify, so that a changed offer ends the connection.
//!
//! Signing keys stay where they are: national ones in the [key store](crate::keystore), which a
//! device can be.

mod config;
mod key;
mod provider;
mod record;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;

use rustls::server::ClientHello;

pub use config::{Clients, Server, ServerOptions, client};
pub use key::{Identity, fingerprint_of_file, peer_fingerprint};
pub use provider::{CURVE_SM2, SM2SIG_SM3, SM4_GCM_SM3};
pub use trust::Trust;

pub use crate::lists::{Lists, Notice, Notify, Stale};

use crate::keystore::KeyStoreError;

/// Which algorithms a connection uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// International ones: ECDHE with AES-GCM or ChaCha20, ECDSA or RSA certificates.
    Classical,
    /// National ones (国密): RFC 8998.
    Gm,
}

/// What a server's link allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Classical only.
    Classical,
    /// National only: a classical client is refused.
    Gm,
    /// Both; national for every client that can.
    Either,
}

/// What of a ClientHello the choice rests on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    /// Cipher suites, in the client's order.
    pub suites: Vec<u16>,
    /// Signature schemes.
    pub schemes: Vec<u16>,
    /// Groups for the key exchange.
    pub groups: Vec<u16>,
}

/// A client that the policy turns away, for the log and the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the link allows.
    pub policy: Policy,
    /// What the client offered.
    pub offer: Offer,
}

/// Chooses for a server. National exactly if suite, signature scheme and group are all offered:
/// with two of the three the handshake could not succeed.
///
/// A classical offer is not looked into: what rustls does not find in it, it refuses by itself.
pub fn choose(offer: Offer, policy: Policy) -> Result<Suite, Refusal> {
    match (policy, offer.has_gm(), offer.has_classical()) {
        (Policy::Gm | Policy::Either, true, _) => Ok(Suite::Gm),
        (Policy::Classical | Policy::Either, _, true) => Ok(Suite::Classical),
        _ => Err(Refusal { policy, offer }),
    }
}

impl Offer {
    /// Of a ClientHello as it came.
    pub fn of(hello: &ClientHello<'_>) -> Self {
        Self {
            suites: hello.cipher_suites().iter().map(|suite| u16::from(*suite)).collect(),
            schemes: hello.signature_schemes().iter().map(|scheme| u16::from(*scheme)).collect(),
            groups: hello
                .named_groups()
                .into_iter()
                .flatten()
                .map(|group| u16::from(*group))
                .collect(),
        }
    }

    fn has_gm(&self) -> bool {
        self.suites.contains(&u16::from(SM4_GCM_SM3))
            && self.schemes.contains(&u16::from(SM2SIG_SM3))
            && self.groups.contains(&u16::from(CURVE_SM2))
    }

    /// At least one suite of the classical configuration.
    fn has_classical(&self) -> bool {
        rustls::crypto::ring::DEFAULT_CIPHER_SUITES
            .iter()
            .any(|suite| self.suites.contains(&u16::from(suite.suite())))
    }
}

impl Refusal {
    /// The fatal alert `insufficient_security` (RFC 8446 clause 6.2) as a whole record: the server
    /// "requires parameters more secure than those supported by the client".
    pub const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 71];

    /// Stable code. A classical client on a national link is told apart from the rest: it may be a
    /// badly set up agency, or an attempt to get at data by weaker means.
    pub fn code(&self) -> &'static str {
        match self.policy {
            Policy::Gm if self.offer.has_classical() => "tls.downgrade-refused",
            _ => "tls.nothing-in-common",
        }
    }
}

/// Chinese, one line: what the link allows and what was offered, in hex.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "连接被拒绝:本链路只接受{},对方提供的", self.policy)?;
        let parts = [
            ("密码套件", &self.offer.suites),
            ("签名算法", &self.offer.schemes),
            ("曲线", &self.offer.groups),
        ];
        for (index, (name, codes)) in parts.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ";" };
            write!(f, "{comma}{name}为")?;
            // A hello may hold thousands; the line stays a line.
            codes.iter().take(24).try_for_each(|code| write!(f, " {code:04x}"))?;
            f.write_str(match codes.len() {
                0 => " 无",
                25.. => " …",
                _ => "",
            })?;
        }
        Ok(())
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classical => "国际算法(classical)",
            Self::Gm => "国密算法(gm)",
            Self::Either => "国密或国际算法(either)",
        })
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classical => "classical",
            Self::Gm => "gm",
        })
    }
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key store.
    #[error(transparent)]
    KeyStore(#[from] KeyStoreError),
    /// No signing key of this name.
    #[error("密钥库中没有签名密钥 {0}")]
    NoKey(String),
    /// The key has no certificate yet.
    #[error("签名密钥 {0} 还没有证书,请先导入证书")]
    NoCertificate(String),
    /// A file, and what is wrong with it (Chinese).
    #[error("{0}:{1}")]
    File(String, String),
    /// The policy allows what there is no certificate and key for.
    #[error("策略允许 {0},但没有给出相应的证书与密钥")]
    NoIdentity(Suite),
    /// A certificate and key for what the link does not use.
    #[error("给出了 {0} 的证书与密钥,但策略不用它")]
    UnusedIdentity(Suite),
    /// No certificate that the peer's could be verified by.
    #[error("没有给出用来验证对方的根证书")]
    NoRoots,
    /// rustls's own words.
    #[error("TLS 配置无效:{0}")]
    Rustls(String),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Rustls(error.to_string())
    }
}
