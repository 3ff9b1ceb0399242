//! Warns of certificates and revocation lists before they end: at the start, then once a day.
//!
//! What has ended is warned of and does not make the gateway unready (`/readyz`): it goes on taking
//! in, keeping and signing receipts, and what would be sealed under an ended certificate waits in
//! the queue with the reason. To be taken out of service would lose more than that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{Clock, Shutdown};
use xinqiao_crypto::keystore::{KeyStoreError, KeyUse};
use xinqiao_crypto::lists::Stale;
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_crypto::x509::{Certificate, Expiry, Lifetime, UnixSeconds};

use crate::config::Config;
use crate::keys::{Keys, seconds};

const DAY: Duration = Duration::from_secs(86_400);
/// Days before its next update from which a list is told of.
const LIST_DAYS: u32 = 3;

/// What the gateway relies on and will end.
pub struct Expiring {
    certificates: Vec<(String, Lifetime)>,
    stale: Stale,
}

impl Expiring {
    /// The gateway's own certificates, and everybody's that the configuration names.
    pub fn of(keys: &Keys, config: &Config) -> Result<Self, KeyStoreError> {
        let mut certificates: Vec<(String, Lifetime)> = Vec::new();
        let mut note = |whose: String, one: Lifetime| {
            if !certificates.iter().any(|(_, known)| *known == one) {
                certificates.push((whose, one));
            }
        };
        let mut note_all = |whose: String, all: &[Certificate]| {
            all.iter().for_each(|one| note(whose.clone(), one.into()));
        };
        for usage in [KeyUse::Sign, KeyUse::Encrypt] {
            if let Some(entry) = keys.store().current(keys.identity(), usage)? {
                note_all(format!("网关的 {}", entry.id), &entry.chain);
            }
        }
        note_all("信任的签发机构".to_owned(), keys.anchors());
        for feed in &config.feeds {
            if let Some(envelope) = &feed.envelope {
                note_all(format!("{}的签名证书", feed.agency_name), &envelope.signers);
            }
        }
        for target in &config.targets {
            if let Some(seal) = &target.seal {
                note_all(format!("投递目标 {} 的收件证书", target.id), &seal.to);
            }
        }
        if let Some(tls) = config.listen.as_ref().and_then(|listen| listen.tls.as_ref()) {
            let gm = tls.gm_key().map(|name| keys.store().current(name, KeyUse::Sign));
            if let Some(entry) = gm.transpose()?.flatten() {
                note_all(format!("监听的国密证书 {}", entry.id), &entry.chain);
            }
            let files = tls.roots().iter().map(|root| ("监听信任的根证书", root.as_path()));
            for (whose, file) in
                tls.cert().map(|cert| ("监听的证书", cert)).into_iter().chain(files)
            {
                lifetimes(file).into_iter().for_each(|one| note(whose.to_owned(), one));
            }
        }
        Ok(Self { certificates, stale: keys.stale() })
    }

    /// One line (Chinese) for each that ends within 60 days (a list within 3), or has.
    pub fn told(&self, lists: &[Crl], at: Timestamp) -> Vec<String> {
        let at = seconds(at);
        let mut told = Vec::new();
        for (whose, certificate) in &self.certificates {
            let end = day(certificate.not_after);
            let text = match certificate.expiry(at) {
                Expiry::Fine => continue,
                Expiry::Soon(days) => format!("还有{days}天到期({end}),请换发"),
                Expiry::Expired => format!("已于{end}过期,请换发"),
                Expiry::NotYet => "尚未生效,请核对时钟".to_owned(),
            };
            told.push(format!("{whose}({}){text}", certificate.subject));
        }
        for list in lists.iter().filter(|list| list.next_update() < at.plus_days(LIST_DAYS)) {
            let (issuer, end) = (list.issuer(), day(list.next_update()));
            let text = match (list.next_update() < at, self.stale) {
                (false, _) => format!("将于{end}过期"),
                (true, Stale::Accept) => format!("已于{end}过期,仍按它执行,新的吊销无从得知"),
                (true, Stale::Refuse) => format!("已于{end}过期,其签发的证书都将被拒绝"),
            };
            told.push(format!("{issuer} 的吊销列表{text},请更新文件(无须重启)"));
        }
        told
    }
}

/// A file that cannot be read is told of by who uses it.
fn lifetimes(file: &Path) -> Vec<Lifetime> {
    let bytes = std::fs::read(file).unwrap_or_default();
    Lifetime::of_file(&bytes).unwrap_or_default()
}

fn day(at: UnixSeconds) -> String {
    Timestamp(at.0.saturating_mul(1_000)).shanghai_date().to_string()
}

/// Runs until shutdown.
pub async fn watch_expiry(
    expiring: Expiring,
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) {
    loop {
        let now = clock.now();
        for line in expiring.told(&keys.revocations(now), now) {
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
    use xinqiao_crypto::x509::parse_name;

    use super::*;

    #[test]
    fn what_ends_soon_is_told() {
        let key = PrivateKey::generate().unwrap();
        let from = UnixSeconds(1_800_000_000);
        let role = Role::Ca { path_length: None };
        let template = Template::new(parse_name("CN=one").unwrap(), role, from, 100);
        let certificate = issue_self_signed(&template, &key).unwrap();
        let list = Crl::issue(&certificate, &key, &[], 1, from, from.plus_days(30)).unwrap();
        let lists = [list];
        let certificates = vec![("甲局".to_owned(), Lifetime::from(&certificate))];
        let mut expiring = Expiring { certificates, stale: Stale::Accept };
        let at = |days: u32| Timestamp(from.plus_days(days).0 * 1_000);
        assert_eq!(expiring.told(&lists, at(0)), [""; 0]);
        assert_eq!(expiring.told(&lists, at(27)), [""; 0]);
        assert!(expiring.told(&lists, at(28))[0].contains("吊销列表将于"));
        assert!(expiring.told(&lists, at(31))[0].contains("仍按它执行"));
        expiring.stale = Stale::Refuse;
        assert!(expiring.told(&lists, at(31))[0].contains("都将被拒绝"));
        let told = expiring.told(&[], at(41));
        assert!(told[0].starts_with("甲局(CN=one)还有59天到期"), "{told:?}");
        assert!(expiring.told(&[], at(101))[0].contains("过期"));
        let before = Timestamp((from.0 - 1) * 1_000);
        assert!(expiring.told(&[], before)[0].contains("尚未生效"));
    }

    #[test]
    fn a_file_of_certificates_is_read_whatever_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("chain.pem");
        let key = PrivateKey::generate().unwrap();
        let template = Template::new(
            parse_name("CN=one").unwrap(),
            Role::Signing,
            UnixSeconds(1_800_000_000),
            9,
        );
        let certificate = issue_self_signed(&template, &key).unwrap();
        std::fs::write(&file, certificate.to_pem()).unwrap();
        assert_eq!(lifetimes(&file), [Lifetime::from(&certificate)]);
        assert_eq!(lifetimes(folder.path()), []);
    }
}
