//! Where connections may go: every protocol asks here before it connects, for the address in its
//! configuration and for any that a peer names later (a passive FTP port, another address of a name).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use xinqiao_core::fault::io_words;

use super::params::Params;

/// Services that give a machine's own credentials to whoever asks from it: no agency is there.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// The addresses one link may connect to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbound {
    /// Empty: any that is not forbidden to all.
    allow: Arc<[Net]>,
}

/// Addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    base: IpAddr,
    bits: u8,
}

/// Why there is no connection; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address may not be connected to.
    #[error("不允许连接到 {0}:{1}")]
    Forbidden(IpAddr, &'static str),
    /// The name has no address, or nobody answers.
    #[error("{0}")]
    Unreachable(String),
}

impl Outbound {
    /// Reads `allow`: addresses and networks (`10.1.2.3`, `10.1.0.0/16`) that may be connected to;
    /// any if it is not given.
    pub(crate) fn from_params(params: &mut Params<'_>) -> Self {
        let texts = params.list("allow", &[]);
        let mut allow = Vec::new();
        for text in &texts {
            match Net::parse(text) {
                Some(net) => allow.push(net),
                None => params.problem_of(
                    "allow",
                    &format!("“{text}”不是IP地址或网段(如 10.1.2.3、10.1.0.0/16)"),
                ),
            }
        }
        if texts.is_empty() && params.has("allow") {
            params.problem_of("allow", "不能是空列表;不限地址时请去掉此参数");
        }
        Self { allow: allow.into() }
    }

    /// Whether an address may be connected to.
    pub(crate) fn permits(&self, address: IpAddr) -> Result<(), DialError> {
        let address = address.to_canonical();
        let forbidden = |why| Err(DialError::Forbidden(address, why));
        let reached = behind_nat64(address);
        let link_local = match reached {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        if link_local || METADATA.contains(&reached) {
            return forbidden("链路本地或云主机元数据地址");
        }
        if reached.is_unspecified() || reached.is_multicast() {
            return forbidden("不是一台主机的地址");
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|net| net.holds(address)) {
            return forbidden("不在此链路的 allow 中");
        }
        Ok(())
    }

    /// Whether `allow` is given and lists an address.
    pub(crate) fn lists(&self, address: IpAddr) -> bool {
        !self.allow.is_empty() && self.permits(address).is_ok()
    }

    /// Tells of a host that is an address and may not be connected to; names are looked at when they
    /// are resolved.
    pub(crate) fn check_host(&self, params: &Params<'_>, key: &str, host: &str) {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse()
            && let Err(error) = self.permits(address)
        {
            params.problem_of(key, &error.to_string());
        }
    }

    /// Every address of a host that may be connected to.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| DialError::Unreachable(io_words(&error).into_owned()))?;
        let mut refused = DialError::Unreachable("找不到这台主机(域名解析失败)".to_owned());
        let mut permitted = Vec::new();
        for address in found {
            match self.permits(address.ip()) {
                Ok(()) => permitted.push(address),
                Err(error) => refused = error,
            }
        }
        if permitted.is_empty() { Err(refused) } else { Ok(permitted) }
    }

    /// A connection, within a time for all of the host's addresses together.
    pub(crate) async fn connect(
        &self,
        host: &str,
        port: u16,
        within: Duration,
    ) -> Result<TcpStream, DialError> {
        let late = |_| DialError::Unreachable(format!("{}毫秒内未连通", within.as_millis()));
        timeout(within, self.connect_any(host, port)).await.map_err(late)?
    }

    async fn connect_any(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let mut last = None;
        for address in self.resolve(host, port).await? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small requests must not wait for each other; without it they only wait.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        let words = last.as_ref().map_or("没有可用的地址".into(), io_words);
        Err(DialError::Unreachable(words.into_owned()))
    }
}

/// The address that a translator (RFC 6052, `64:ff9b::/96`) leads to; any other as it is.
fn behind_nat64(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.octets() {
            [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => [a, b, c, d].into(),
            _ => address,
        },
        IpAddr::V4(_) => address,
    }
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.trim().split_once('/') {
            None => (text.trim().parse::<IpAddr>().ok()?, None),
            Some((base, bits)) => (base.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
        };
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { base, bits })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let (base, address, width) = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                (u128::from(base.to_bits()), u128::from(address.to_bits()), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        let shift = width - u32::from(self.bits);
        base.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::json;

    use super::*;
    use crate::wire::params::Problems;

    fn outbound(allow: &[&str]) -> (Outbound, usize) {
        let problems: Problems = RefCell::default();
        let value = json!({ "allow": allow });
        let made = Outbound::from_params(&mut Params::new(&value, &problems));
        (made, problems.into_inner().len())
    }

    #[test]
    fn metadata_and_what_is_no_host_is_never_connected_to() {
        let any = Outbound::default();
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::168.63.129.16",
            "64:ff9b::",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(any.permits(bad.parse().unwrap()).is_err(), "{bad}");
        }
        for good in
            ["10.1.2.3", "127.0.0.1", "192.168.1.1", "::1", "2001:db8::1", "64:ff9b::10.1.2.3"]
        {
            assert!(any.permits(good.parse().unwrap()).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_list_allows_what_is_in_it() {
        let (listed, problems) =
            outbound(&["10.1.0.0/16", "192.168.1.7", "fd12::/16", "0.0.0.0/0"]);
        assert_eq!(problems, 0);
        assert!(listed.permits("169.254.169.254".parse().unwrap()).is_err());
        let (listed, _) = outbound(&["10.1.0.0/16", "192.168.1.7", "fd12::/16"]);
        for (address, may) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("192.168.1.7", true),
            ("::ffff:192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd12:ff::1", true),
            ("fd13::1", false),
        ] {
            assert_eq!(listed.permits(address.parse().unwrap()).is_ok(), may, "{address}");
        }
        for bad in [&["10.1.0.0/33"][..], &["host"], &[""], &[]] {
            assert_eq!(outbound(bad).1, 1, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_only_where_it_may() {
        let (listed, _) = outbound(&["10.1.0.0/16"]);
        let refused = listed.connect("localhost", 9, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(refused, DialError::Forbidden(..)), "{refused}");
    }
}
