//! Data connections (RFC 959 §3.2, 2428, 4217): opened either way, protected where the control
//! connection is, bounded in time and size.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::reply::broken;
use super::{FtpLink, Pipe, missing_at};
use crate::wire::files::{Listed, Listing, MOST_FILES, ServerError};

impl FtpLink {
    /// The files of a listing, which must end within bounds and be confirmed.
    pub(super) async fn lines(
        &mut self,
        verb: &str,
        parse: impl Fn(&[u8]) -> Option<Listed> + Send,
    ) -> Result<Listing, ServerError> {
        let mut data = BufReader::new(self.transfer(verb, b"").await?);
        let (mut listing, mut line) = (Listing::default(), Vec::new());
        // Folders and odd lines count: time is bounded too.
        for _ in 0..MOST_FILES {
            line.clear();
            let mut limited = (&mut data).take(8 << 10);
            let read = async { ended(limited.read_until(b'\n', &mut line).await) };
            if within(self.read, read).await? == 0 {
                drop(data);
                self.control.reply().await?.expect(2)?;
                return Ok(listing);
            }
            while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
                line.pop();
            }
            if let Some(file) = parse(&line) {
                listing.add(file);
            }
        }
        Err(ServerError::Broken(format!("目录中的条目超过{MOST_FILES}个")))
    }

    /// Opens a data connection for a command that the server has begun to obey.
    pub(super) async fn transfer(
        &mut self,
        verb: &str,
        argument: &[u8],
    ) -> Result<Pipe, ServerError> {
        let tcp = if self.active {
            let listener = self.listening().await?;
            missing_at(self.control.ask(verb, argument).await?, 1)?;
            // Anyone may reach the listener; only the server is let in.
            let accepted = timeout(self.connect, async {
                loop {
                    match listener.accept().await {
                        Ok((tcp, from)) if from.ip() == self.peer.ip() => break Ok(tcp),
                        Ok(_) => {}
                        Err(error) => break Err(error),
                    }
                }
            });
            let late = |_| {
                let why = "主动模式下对方未连过来,请检查防火墙,或改用 mode: passive";
                ServerError::Broken(why.to_owned())
            };
            accepted.await.map_err(late)?.map_err(|error| broken(&error))?
        } else {
            let (ip, port) = self.passive().await?;
            let dialled = self.outbound.connect(&ip.to_string(), port, self.connect).await;
            let tcp = dialled.map_err(|error| {
                ServerError::Broken(format!("数据连接({ip}:{port})未建立:{error}"))
            })?;
            missing_at(self.control.ask(verb, argument).await?, 1)?;
            tcp
        };
        let _ = tcp.set_nodelay(true);
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(tls) => match tls.wrap(tcp).await {
                Ok(pipe) => Ok(pipe),
                // The server says why on the control connection.
                Err(error) => match timeout(Duration::from_secs(1), self.control.reply()).await {
                    Ok(Ok(reply)) => Err(ServerError::Broken(format!(
                        "数据连接未能加密({error}):{}",
                        reply.words()
                    ))),
                    _ => Err(error),
                },
            },
        }
    }

    /// A listener for active mode, which the server has been told of.
    async fn listening(&mut self) -> Result<TcpListener, ServerError> {
        let bound = TcpListener::bind((self.local.ip(), 0)).await;
        let listener = bound.map_err(|error| broken(&error))?;
        let at = listener.local_addr().map_err(|error| broken(&error))?;
        let reply = match at.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                let [high, low] = at.port().to_be_bytes();
                let at = format!("{a},{b},{c},{d},{high},{low}");
                self.control.ask("PORT", at.as_bytes()).await?
            }
            IpAddr::V6(ip) => {
                let at = format!("|2|{ip}|{}|", at.port());
                self.control.ask("EPRT", at.as_bytes()).await?
            }
        };
        reply.expect(2)?;
        Ok(listener)
    }

    /// Where the server listens: at the address the control connection goes to, whatever it says,
    /// since servers behind an address translation name an inner one, and hostile ones a victim's.
    /// An address that `allow` lists is believed.
    async fn passive(&mut self) -> Result<(IpAddr, u16), ServerError> {
        let odd = || ServerError::Broken("被动模式的答复无法读懂".to_owned());
        let host = self.peer.ip();
        if !self.extended {
            let reply = self.control.ask("PASV", b"").await?;
            if !reply.is_unknown() {
                let (named, port) = passive_address(&reply.expect(2)?.text).ok_or_else(odd)?;
                let believed = named != host && self.outbound.lists(named);
                return Ok((if believed { named } else { host }, port));
            }
            self.extended = true;
        }
        let reply = self.control.ask("EPSV", b"").await?.expect(2)?;
        let port = reply.text.split_once("|||").and_then(|(_, rest)| rest.split_once('|'));
        let port = port.and_then(|(port, _)| port.parse().ok()).ok_or_else(odd)?;
        Ok((host, port))
    }
}

/// `227 … (h1,h2,h3,h4,p1,p2)`; the brackets may be missing.
fn passive_address(text: &str) -> Option<(IpAddr, u16)> {
    let numbers = text.get(3..)?.split(|c: char| !c.is_ascii_digit() && c != ',');
    let numbers = numbers.filter(|part| part.matches(',').count() == 5).find_map(|part| {
        let bytes: Result<Vec<u8>, _> = part.split(',').map(str::parse).collect();
        <[u8; 6]>::try_from(bytes.ok()?).ok()
    })?;
    let [a, b, c, d, high, low] = numbers;
    Some((IpAddr::from([a, b, c, d]), u16::from_be_bytes([high, low])))
}

/// Many servers end the data connection without TLS's own word of it; the reply that follows on the
/// control connection says whether all was sent.
pub(super) fn ended(read: std::io::Result<usize>) -> std::io::Result<usize> {
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(0),
        read => read,
    }
}

pub(super) async fn within<T>(
    wait: Duration,
    io: impl Future<Output = std::io::Result<T>>,
) -> Result<T, ServerError> {
    let late = |_| ServerError::Broken(format!("传输停顿超过{}毫秒", wait.as_millis()));
    timeout(wait, io).await.map_err(late)?.map_err(|error| broken(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passive_addresses() {
        for (text, port) in [
            ("227 Entering Passive Mode (10,0,0,7,47,173).", 12205),
            ("227 Entering Passive Mode 10,0,0,7,47,173", 12205),
            ("227 =10,0,0,7,0,21", 21),
        ] {
            let named = Some((IpAddr::from([10, 0, 0, 7]), port));
            assert_eq!(passive_address(text), named, "{text}");
        }
        for bad in ["227", "227 (1,2,3,4,5)", "227 (1,2,3,4,5,256)", "227 (1,2,3,4,5,6,7)"] {
            assert_eq!(passive_address(bad), None, "{bad}");
        }
    }
}
