//! Classical TLS of the parameters `ca`, `client-cert` and `client-key`, and what failed handshakes
//! mean. Links with a `tls` section bring a configuration of their own.

use std::sync::Arc;

use rustls::CertificateError as Bad;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore};
use xinqiao_core::fault::io_words;

/// TLS 1.2 and 1.3 with the roots of one file. Errors name the parameter.
pub(crate) fn tls(
    ca: Option<&str>,
    cert: Option<&str>,
    key: Option<&str>,
) -> Result<ClientConfig, (&'static str, String)> {
    let unreadable = |path: &str, error: &pem::Error| {
        let why = match error {
            pem::Error::Io(error) => io_words(error),
            _ => "不是有效的PEM内容".into(),
        };
        format!("无法读取PEM文件 {path}({why})")
    };
    let certificates = |param, path: &str| {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        match read {
            Ok(list) if list.is_empty() => Err((param, format!("{path} 中没有证书"))),
            Ok(list) => Ok(list),
            Err(error) => Err((param, unreadable(path, &error))),
        }
    };
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for root in certificates("ca", path)? {
            roots.add(root).map_err(|_| ("ca", format!("{path} 中的证书无效")))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("ca", error.to_string()))?
        .with_root_certificates(roots);
    match (cert, key) {
        (None, None) => Ok(config.with_no_client_auth()),
        (Some(cert), Some(path)) => {
            let key = PrivateKeyDer::from_pem_file(path)
                .map_err(|error| ("client-key", unreadable(path, &error)))?;
            config
                .with_client_auth_cert(certificates("client-cert", cert)?, key)
                .map_err(|error| ("client-cert", format!("客户端证书与私钥不能使用({error})")))
        }
        _ => Err(("client-cert", "client-cert 与 client-key 须同时给出".to_owned())),
    }
}

/// What an operator has to know of a failed handshake (Chinese); `None` for what only its own
/// English text tells.
pub(crate) fn tls_words(error: &Error) -> Option<&'static str> {
    use AlertDescription as Alert;
    Some(match error {
        Error::InvalidCertificate(bad) => match bad {
            Bad::Revoked => "对方证书已被吊销",
            Bad::Expired | Bad::ExpiredContext { .. } => "对方证书已过期",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => "对方证书尚未生效",
            Bad::UnknownIssuer | Bad::BadSignature => "对方证书不是所配根证书签发的",
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "对方证书不是签发给这个地址的"
            }
            Bad::UnknownRevocationStatus => "吊销列表中没有对方证书签发者的一份",
            Bad::ExpiredRevocationList | Bad::ExpiredRevocationListContext { .. } => {
                "吊销列表已过期"
            }
            Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => "对方证书的用途不符",
            _ => "对方证书无效",
        },
        Error::InvalidCertRevocationList(_) => "吊销列表无效",
        Error::AlertReceived(alert) => match alert {
            Alert::HandshakeFailure | Alert::InsufficientSecurity | Alert::ProtocolVersion => {
                "对方不接受本方的密码算法,请核对双方的国密与国际算法设置"
            }
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::UnknownCA
            | Alert::AccessDenied => "对方不接受本方的客户端证书",
            _ => return None,
        },
        Error::PeerIncompatible(_) => "双方没有共同的密码算法,请核对双方的国密与国际算法设置",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_can_act_on_is_said_in_chinese() {
        for (error, word) in [
            (Error::InvalidCertificate(Bad::Revoked), "吊销"),
            (Error::AlertReceived(AlertDescription::InsufficientSecurity), "国密"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "客户端证书"),
        ] {
            assert!(tls_words(&error).is_some_and(|words| words.contains(word)), "{error}");
        }
        assert_eq!(tls_words(&Error::DecryptError), None);
    }
}
