//! An FTP server that does what real ones do on a bad day, at will; the good days are the peers'.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a file that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent.
    Sent,
    /// It is sent, then said not to have been (426, 451).
    NotConfirmed,
    /// The server is gone in the middle of it.
    Breaks,
    /// `550`, for want of rights, in a server's own words.
    Unreadable,
    /// Sent once; its state is not told any more after that.
    StateHidden,
    /// It grows by a byte while it is renamed.
    GrowsWhenMoved,
}

#[derive(Debug, Clone)]
pub(super) struct Put {
    pub(super) content: Vec<u8>,
    pub(super) modified: &'static str,
    pub(super) fate: Fate,
    told: usize,
}

/// The files, by path, and what was asked for.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) files: Mutex<BTreeMap<Vec<u8>, Put>>,
    pub(super) asked: Mutex<Vec<Vec<u8>>>,
}

impl Shelf {
    pub(super) fn put(&self, path: &[u8], content: &str, modified: &'static str, fate: Fate) {
        let put = Put { content: content.into(), modified, fate, told: 0 };
        self.files.lock().unwrap().insert(path.to_vec(), put);
    }

    pub(super) fn has(&self, path: &[u8]) -> bool {
        self.files.lock().unwrap().contains_key(path)
    }

    /// How often files were asked for (`RETR`).
    pub(super) fn retrieved(&self, path: &[u8]) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// Serves until the test ends; gives the port.
pub(super) async fn serve(shelf: &Arc<Shelf>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let shelf = Arc::clone(shelf);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let shelf = Arc::clone(&shelf);
            // A client that goes away ends it.
            tokio::spawn(async move { session(tcp, &shelf).await });
        }
    });
    port
}

async fn session(tcp: TcpStream, shelf: &Shelf) -> std::io::Result<()> {
    let mut io = BufReader::new(tcp);
    io.write_all(b"220 hi\r\n").await?;
    let mut data: Option<TcpListener> = None;
    let (mut from, mut folder) = (Vec::new(), Vec::new());
    loop {
        let mut line = Vec::new();
        if io.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        while line.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            line.pop();
        }
        let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let path = line.get(at + 1..).unwrap_or_default().to_vec();
        let known = shelf.files.lock().unwrap().get(&path).cloned();
        let fate = known.as_ref().map_or(Fate::Sent, |put| put.fate);
        let answer: Vec<u8> = match &line[..at] {
            b"USER" | b"PASS" => b"230 in".to_vec(),
            b"FEAT" => b"211-F\r\n MLST type*;size*;modify*;\r\n211 End".to_vec(),
            b"CWD" => {
                folder = [&path[..], b"/"].concat();
                b"250 ok".to_vec()
            }
            b"TYPE" => b"200 ok".to_vec(),
            b"PWD" => b"257 \"/\"".to_vec(),
            b"PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let [high, low] = listener.local_addr()?.port().to_be_bytes();
                data = Some(listener);
                format!("227 (127,0,0,1,{high},{low})").into_bytes()
            }
            b"MLSD" => {
                let mut listing = Vec::new();
                for (path, put) in shelf.files.lock().unwrap().iter() {
                    if let Some(name) = path.strip_prefix(&folder[..]) {
                        listing.extend_from_slice(&facts(put));
                        listing.extend_from_slice(name);
                        listing.extend_from_slice(b"\r\n");
                    }
                }
                send(&mut io, data.take(), &listing).await?;
                b"226 done".to_vec()
            }
            b"MLST" => match known {
                Some(put) if fate == Fate::StateHidden && put.told > 0 => {
                    b"550 Could not do that.".to_vec()
                }
                Some(put) => {
                    shelf.files.lock().unwrap().get_mut(&path).unwrap().told += 1;
                    [b"250-x\r\n ", facts(&put).as_slice(), b"x\r\n250 End"].concat()
                }
                // In words that nobody knows.
                None => b"550 Computer says no.".to_vec(),
            },
            b"RETR" => {
                shelf.asked.lock().unwrap().push(path.clone());
                match known {
                    None => b"550 No such file or directory.".to_vec(),
                    Some(_) if fate == Fate::Unreadable => b"550 Failed to open file.".to_vec(),
                    Some(put) => {
                        send(&mut io, data.take(), &put.content).await?;
                        match fate {
                            Fate::Breaks => return Ok(()),
                            Fate::NotConfirmed => b"451 Read error.".to_vec(),
                            _ => b"226 done".to_vec(),
                        }
                    }
                }
            }
            b"RNFR" => {
                from = path;
                b"350 to?".to_vec()
            }
            b"RNTO" => {
                let mut files = shelf.files.lock().unwrap();
                let mut put = files.remove(&from).unwrap();
                if put.fate == Fate::GrowsWhenMoved {
                    put.fate = Fate::Sent;
                    put.content.push(b'+');
                }
                files.insert(path, put);
                b"250 ok".to_vec()
            }
            b"DELE" => match shelf.files.lock().unwrap().remove(&path) {
                Some(_) => b"250 ok".to_vec(),
                None => b"550 Delete operation failed.".to_vec(),
            },
            _ => b"500 what".to_vec(),
        };
        io.write_all(&[&answer[..], b"\r\n"].concat()).await?;
    }
}

fn facts(put: &Put) -> Vec<u8> {
    format!("type=file;size={};modify={}; ", put.content.len(), put.modified).into_bytes()
}

async fn send(
    io: &mut BufReader<TcpStream>,
    data: Option<TcpListener>,
    bytes: &[u8],
) -> std::io::Result<()> {
    let Some(data) = data else { return Err(std::io::ErrorKind::NotConnected.into()) };
    let (mut data, _) = data.accept().await?;
    io.write_all(b"150 here\r\n").await?;
    data.write_all(bytes).await?;
    data.shutdown().await
}
