//! The third-party cryptography that `tests/peers/build` provides: as command lines, and as drivers
//! that do thousands of things in one process (`tests/peers/drivers/driver.h` has their protocol).
//!
//! A peer that is missing is a failure, never a test left out.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use xinqiao_crypto::hex;

use crate::Result;

/// Somebody else's implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// OpenSSL 3.0 of Debian: no SM4-GCM; an *empty* signer id unless it is told one.
    Debian,
    /// OpenSSL 4.0.
    Openssl,
    /// Tongsuo (铜锁), a relative of OpenSSL.
    Tongsuo,
    /// GmSSL 3.1, of Peking University.
    Gmssl,
    /// `gmssl` of PyPI. Takes tampered ciphertexts for good.
    Python,
    /// `sm-crypto` of npm.
    Node,
}

impl Peer {
    /// Those whose answers count when they refuse.
    pub const STRICT: [Self; 5] =
        [Self::Debian, Self::Openssl, Self::Tongsuo, Self::Gmssl, Self::Node];
    /// Those with a library in C, fast enough for thousands of keys.
    pub const IN_C: [Self; 4] = [Self::Debian, Self::Openssl, Self::Tongsuo, Self::Gmssl];
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Debian, Self::Openssl, Self::Tongsuo, Self::Gmssl, Self::Python, Self::Node];

    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "OpenSSL 3.0",
            Self::Openssl => "OpenSSL 4.0",
            Self::Tongsuo => "Tongsuo 8.5",
            Self::Gmssl => "GmSSL 3.1",
            Self::Python => "gmssl.py",
            Self::Node => "sm-crypto",
        }
    }

    /// Its command line.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Self::Debian => Ok("openssl".into()),
            Self::Openssl => Ok(folder()?.join("openssl/bin/openssl")),
            Self::Tongsuo => Ok(folder()?.join("tongsuo/bin/openssl")),
            Self::Gmssl => Ok(folder()?.join("gmssl/bin/gmssl")),
            Self::Python | Self::Node => Err("has no command line".into()),
        }
    }

    /// Starts its driver.
    pub fn driver(self) -> Result<Driver> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/drivers");
        let folder = folder()?;
        let mut command = match self {
            Self::Debian => Command::new(folder.join("driver-debian")),
            Self::Openssl => Command::new(folder.join("driver-openssl")),
            Self::Tongsuo => Command::new(folder.join("driver-tongsuo")),
            Self::Gmssl => Command::new(folder.join("driver-gmssl")),
            Self::Python => {
                let mut command = Command::new(folder.join("python/venv/bin/python"));
                command.arg(scripts.join("gmssl_py.py"));
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(scripts.join("sm_crypto.js"));
                command.env("NODE_PATH", folder.join("node/node_modules"));
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).env("OPENSSL_CONF", "/dev/null");
        if self == Self::Gmssl {
            // It tells the path of its source at every refusal.
            command.stderr(Stdio::null());
        }
        let mut child = command.spawn().map_err(|error| missing(&format!("{self:?}: {error}")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".into());
        };
        Ok(Driver { child, input: Some(input), output: BufReader::new(output) })
    }
}

/// The TLCP proxy of `ops/tlcp`.
pub fn tlcp_proxy() -> Result<PathBuf> {
    Ok(folder()?.join("tlcp/bin/nginx"))
}

/// What a recipe of `tests/peers/build.d` put there: `formats/venv/bin/python`.
pub fn installed(path: &str) -> Result<PathBuf> {
    let program = folder()?.join(path);
    if program.try_exists()? { Ok(program) } else { Err(missing(path)) }
}

/// `$XINQIAO_PEERS`, else `peers` in the target directory this program was built into.
fn folder() -> Result<PathBuf> {
    let given = std::env::var_os("XINQIAO_PEERS").map(PathBuf::from);
    let program = std::env::current_exe()?;
    let built = |folder: &PathBuf| folder.join("openssl/done").try_exists().unwrap_or(false);
    given
        .or_else(|| program.ancestors().map(|folder| folder.join("peers")).find(built))
        .filter(built)
        .ok_or_else(|| missing("no folder of peers"))
}

fn missing(what: &str) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{what}: a peer is missing, run tests/peers/build").into()
}

/// What a driver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Done, with these bytes.
    Done(Vec<u8>),
    /// The peer refuses.
    Refused,
    /// The peer has no such algorithm.
    Unsupported,
}

impl Told {
    /// The bytes of what was done.
    pub fn done(self) -> Result<Vec<u8>> {
        match self {
            Self::Done(bytes) => Ok(bytes),
            other => Err(format!("the peer says {other:?}").into()),
        }
    }
}

/// A peer at work. Ends with its input.
#[derive(Debug)]
pub struct Driver {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Driver {
    /// One act.
    pub fn ask(&mut self, act: &str, given: &[&[u8]]) -> Result<Told> {
        let mut all = self.ask_all(vec![request(act, given)])?;
        all.pop().ok_or_else(|| "no answer".into())
    }

    /// Many acts, made by [`request`]; answers in the same order.
    pub fn ask_all(&mut self, requests: Vec<String>) -> Result<Vec<Told>> {
        let mut input = self.input.take().ok_or("the driver has ended")?;
        let count = requests.len();
        // Beside the reading, or both sides would wait for a full pipe.
        let writer = std::thread::spawn(move || {
            for request in requests {
                input.write_all(request.as_bytes())?;
            }
            input.flush().map(|()| input)
        });
        let answers = (0..count).map(|_| self.line().and_then(|line| told(&line))).collect();
        self.input = Some(writer.join().map_err(|_| "the writer panicked")??);
        answers
    }

    /// Acts a second of processor time; `None` if the peer cannot.
    pub fn bench(&mut self, act: &str, size: usize, milliseconds: u64) -> Result<Option<f64>> {
        let input = self.input.as_mut().ok_or("the driver has ended")?;
        writeln!(input, "bench {act} {size} {milliseconds}")?;
        match self.line()?.as_str() {
            "?" => Ok(None),
            rate => Ok(Some(rate.parse()?)),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the driver ended early".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A line for [`Driver::ask_all`].
pub fn request(act: &str, given: &[&[u8]]) -> String {
    let mut line = act.to_owned();
    for bytes in given {
        let text = if bytes.is_empty() { "-".to_owned() } else { hex(bytes) };
        let _ = write!(line, " {text}");
    }
    line.push('\n');
    line
}

fn told(line: &str) -> Result<Told> {
    Ok(match line {
        "!" => Told::Refused,
        "?" => Told::Unsupported,
        "-" => Told::Done(Vec::new()),
        text => Told::Done(from_hex(text)?),
    })
}

fn from_hex(text: &str) -> Result<Vec<u8>> {
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|n| u8::try_from(n).ok());
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Ok(digit(high).ok_or("no hex")? << 4 | digit(low).ok_or("no hex")?),
            _ => Err("half a byte".into()),
        })
        .collect()
}
