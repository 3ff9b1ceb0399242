//! Warns of certificates and revocation lists before they end: at the start, then once a day.

use std::sync::Arc;
use std::time::Duration;

use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{Clock, Shutdown};
use xinqiao_crypto::keystore::{KeyStoreError, KeyUse};
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_crypto::x509::{Certificate, Expiry};

use crate::config::Config;
use crate::keys::{Keys, seconds};

const DAY: Duration = Duration::from_secs(86_400);

/// What the gateway relies on and will end.
pub struct Expiring {
    certificates: Vec<(String, Certificate)>,
    lists: Vec<Crl>,
}

impl Expiring {
    /// The gateway's own certificates, and everybody's that the configuration names.
    pub fn of(keys: &Keys, config: &Config) -> Result<Self, KeyStoreError> {
        let mut certificates = Vec::new();
        let mut note = |whose: String, all: &[Certificate]| {
            certificates.extend(all.iter().map(|one| (whose.clone(), one.clone())));
        };
        for usage in [KeyUse::Sign, KeyUse::Encrypt] {
            if let Some(entry) = keys.store().current(keys.identity(), usage)? {
                note(format!("网关的 {}", entry.id), &entry.chain);
            }
        }
        note("信任的签发机构".to_owned(), keys.anchors());
        for feed in &config.feeds {
            if let Some(envelope) = &feed.envelope {
                note(format!("{}的签名证书", feed.agency_name), &envelope.signers);
            }
        }
        for target in &config.targets {
            if let Some(seal) = &target.seal {
                note(format!("投递目标 {} 的收件证书", target.id), &seal.to);
            }
        }
        let mut seen: Vec<Certificate> = Vec::new();
        certificates.retain(|(_, one)| {
            let new = !seen.contains(one);
            seen.extend(new.then(|| one.clone()));
            new
        });
        Ok(Self { certificates, lists: keys.revocations().to_vec() })
    }

    /// One line (Chinese) for each that ends within 60 days, or has.
    pub fn told(&self, at: Timestamp) -> Vec<String> {
        let at = seconds(at);
        let mut told = Vec::new();
        for (whose, certificate) in &self.certificates {
            let end = Timestamp(certificate.not_after().0.saturating_mul(1_000)).shanghai_date();
            let text = match certificate.expiry(at) {
                Expiry::Fine => continue,
                Expiry::Soon(days) => format!("还有{days}天到期({end}),请换发"),
                Expiry::Expired => format!("已于{end}过期,请换发"),
                Expiry::NotYet => "尚未生效,请核对时钟".to_owned(),
            };
            told.push(format!("{whose}({}){text}", certificate.subject()));
        }
        for list in self.lists.iter().filter(|list| list.next_update() < at) {
            let end = Timestamp(list.next_update().0.saturating_mul(1_000)).shanghai_date();
            told.push(format!(
                "{} 的吊销列表已于{end}过期,它签发的证书都将被拒绝,请更新",
                list.issuer()
            ));
        }
        told
    }
}

/// Runs until shutdown.
pub async fn watch_expiry(expiring: Expiring, clock: Arc<dyn Clock>, shutdown: Shutdown) {
    loop {
        for line in expiring.told(clock.now()) {
            tracing::warn!("{line}");
        }
        tokio::select! {
            () = tokio::time::sleep(DAY) => {}
            () = shutdown.begun() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use xinqiao_crypto::sm2::PrivateKey;
    use xinqiao_crypto::x509::issue::{Role, Template, issue_self_signed};
    use xinqiao_crypto::x509::{UnixSeconds, parse_name};

    use super::*;

    #[test]
    fn what_ends_within_sixty_days_is_told() {
        let key = PrivateKey::generate().unwrap();
        let from = UnixSeconds(1_800_000_000);
        let role = Role::Ca { path_length: None };
        let template = Template::new(parse_name("CN=one").unwrap(), role, from, 100);
        let certificate = issue_self_signed(&template, &key).unwrap();
        let list = Crl::issue(&certificate, &key, &[], 1, from, from.plus_days(30)).unwrap();
        let expiring =
            Expiring { certificates: vec![("甲局".to_owned(), certificate)], lists: vec![list] };
        let after = |days: u32| expiring.told(Timestamp(from.plus_days(days).0 * 1_000));
        assert_eq!(after(0), [""; 0]);
        assert_eq!(after(31).len(), 1, "the list");
        assert!(after(41)[0].starts_with("甲局(CN=one)还有59天到期"), "{:?}", after(41));
        assert!(after(101)[0].contains("过期"));
        assert!(expiring.told(Timestamp((from.0 - 1) * 1_000))[0].contains("尚未生效"));
    }
}
