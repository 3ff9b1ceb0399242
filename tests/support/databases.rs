//! Databases of an agency's front-end machine (前置机): PostgreSQL and MariaDB, each on loopback in a
//! folder of its own, stopped and removed when dropped. They come from `tests/peers/build`.
#![expect(
    clippy::disallowed_methods,
    reason = "polls a child process, also when dropped: no runtime"
)]

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::Result;

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL 15.
    Postgres,
    /// MariaDB 10.11.
    MariaDb,
}

/// Where Debian puts PostgreSQL's programs.
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
/// The password of every account: what the conformance suite answers for every secret.
const PASSWORD: &str = "s3cret";

impl Engine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::MariaDb];

    /// The kind of source.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mysql",
        }
    }

    fn account(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mysql",
        }
    }
}

/// A running server with a database `front` and the accounts `writer`, who may do everything there,
/// and `reader`, who may only select.
#[derive(Debug)]
pub struct Server {
    /// Which product.
    pub engine: Engine,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with further options of its command line.
    pub fn start(engine: Engine, options: &[&str]) -> Result<Self> {
        Self::begin(engine, options, false)
    }

    /// Starts one that offers TLS, with a certificate for 127.0.0.1 of [`Server::ca`].
    pub fn start_secured(engine: Engine) -> Result<Self> {
        Self::begin(engine, &[], true)
    }

    /// Has PostgreSQL ask the account `reader` for this kind of login, in a moment.
    pub fn admit_by(&self, method: &str) -> Result<()> {
        let file = self.folder.path().join("data/pg_hba.conf");
        let rules = format!(
            "host all reader 127.0.0.1/32 {method}\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        std::fs::write(file, rules)?;
        self.sql("SELECT pg_reload_conf()")?;
        Ok(())
    }

    /// The authority of a secured server.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn begin(engine: Engine, options: &[&str], secured: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
        let owner = Owner::of(engine)?;
        if let Some(owner) = &owner {
            chown(folder.path(), Some(owner.user), Some(owner.group))?;
        }
        let data = folder.path().join("data");
        make(engine, folder.path(), &data, owner.as_ref())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = match engine {
            Engine::Postgres => {
                let mut command = Command::new(format!("{POSTGRES}/postgres"));
                command.arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1"]);
                command.arg("-c").arg(format!("port={port}"));
                command
                    .arg("-c")
                    .arg(format!("unix_socket_directories={}", folder.path().display()));
                command.args(["-c", "fsync=off"]);
                command
            }
            Engine::MariaDb => {
                let mut command = Command::new("mariadbd");
                command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
                command.arg(format!("--datadir={}", data.display()));
                command.arg(format!("--socket={}", folder.path().join("s").display()));
                command.arg(format!("--pid-file={}", folder.path().join("pid").display()));
                command.arg(format!("--port={port}"));
                command.arg(format!("--tmpdir={}", folder.path().display()));
                command.arg("--innodb-flush-log-at-trx-commit=2");
                command
            }
        };
        if secured {
            certify(folder.path(), owner.as_ref())?;
            let file = |name: &str| folder.path().join(name).display().to_string();
            match engine {
                Engine::Postgres => {
                    command.args(["-c", "ssl=on", "-c"]);
                    command.arg(format!("ssl_cert_file={}", file("cert.pem")));
                    command.arg("-c").arg(format!("ssl_key_file={}", file("key.pem")));
                }
                Engine::MariaDb => {
                    command.arg(format!("--ssl-cert={}", file("cert.pem")));
                    command.arg(format!("--ssl-key={}", file("key.pem")));
                }
            }
        }
        command.args(options).stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
        let child = run_as(&mut command, owner.as_ref()).spawn()?;
        let mut server = Self { engine, port, child, folder };
        server.until_up()?;
        server.people()?;
        Ok(server)
    }

    /// Runs statements as the administrator; gives the cells of the last, tabs between them.
    pub fn sql(&self, text: &str) -> Result<String> {
        self.sql_in("front", text)
    }

    /// The parameters that lead an account to the database `front`.
    pub fn access(&self, user: &str) -> Value {
        json!({
            "host": "127.0.0.1", "port": self.port, "database": "front",
            "user": user, "password": { "env": "P" },
        })
    }

    fn sql_in(&self, database: &str, text: &str) -> Result<String> {
        let mut command = match self.engine {
            Engine::Postgres => {
                let mut command = Command::new(format!("{POSTGRES}/psql"));
                command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]);
                command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
                command.args(["-d", database]).env("PGPASSWORD", PASSWORD);
                command
            }
            Engine::MariaDb => {
                let mut command = Command::new("mariadb");
                command.args(["--no-defaults", "-N", "-B", "--protocol=tcp", "-h", "127.0.0.1"]);
                command.args(["-u", "root", "-P", &self.port.to_string()]);
                command.args(["--default-character-set=utf8mb4", database]);
                command
            }
        };
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut input = child.stdin.take().ok_or("no input")?;
        let text = text.to_owned();
        let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output()?;
        let written = writing.join().map_err(|_| "the writer panicked")?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        written?;
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    fn until_up(&mut self) -> Result<()> {
        let begun = Instant::now();
        let (first, log) = match self.engine {
            Engine::Postgres => ("postgres", "log"),
            Engine::MariaDb => ("mysql", "log"),
        };
        loop {
            let open = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if open && self.sql_in(first, "SELECT 1").is_ok() {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || begun.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.path().join(log))?;
                return Err(format!("{:?} does not start: {log}", self.engine).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn people(&self) -> Result<()> {
        match self.engine {
            Engine::Postgres => {
                self.sql_in("postgres", "CREATE DATABASE front ENCODING 'UTF8'")?;
                self.sql(&format!(
                    "CREATE ROLE writer LOGIN PASSWORD '{PASSWORD}';
                     CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';
                     CREATE ROLE stranger LOGIN PASSWORD 'other';
                     GRANT ALL ON SCHEMA public TO writer;
                     ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO writer;
                     ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;"
                ))?;
            }
            Engine::MariaDb => {
                self.sql_in("mysql", "CREATE DATABASE front CHARACTER SET utf8mb4")?;
                self.sql(&format!(
                    "CREATE USER writer@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
                     CREATE USER reader@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
                     CREATE USER stranger@'127.0.0.1' IDENTIFIED BY 'other';
                     GRANT ALL ON front.* TO writer@'127.0.0.1';
                     GRANT SELECT ON front.* TO reader@'127.0.0.1';"
                ))?;
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast but orderly stop, so that no shared memory stays behind; then without mercy.
        let signal = match self.engine {
            Engine::Postgres => Signal::INT,
            Engine::MariaDb => Signal::TERM,
        };
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The system's account for a server, where this program is root: PostgreSQL refuses to run as root.
struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn of(engine: Engine) -> Result<Option<Self>> {
        let id = |arguments: &[&str]| -> Result<u32> {
            let output = Command::new("id").args(arguments).output()?;
            Ok(String::from_utf8(output.stdout)?.trim().parse()?)
        };
        if id(&["-u"])? != 0 {
            return Ok(None);
        }
        let account = engine.account();
        Ok(Some(Self { user: id(&["-u", account])?, group: id(&["-g", account])? }))
    }
}

fn run_as<'a>(command: &'a mut Command, owner: Option<&Owner>) -> &'a mut Command {
    match owner {
        Some(owner) => command.uid(owner.user).gid(owner.group).current_dir("/"),
        None => command,
    }
}

/// Makes the server's files.
fn make(engine: Engine, folder: &Path, data: &Path, owner: Option<&Owner>) -> Result<()> {
    let mut command = match engine {
        Engine::Postgres => {
            let password = folder.join("password");
            std::fs::write(&password, PASSWORD)?;
            if let Some(owner) = owner {
                chown(&password, Some(owner.user), Some(owner.group))?;
            }
            let mut command = Command::new(format!("{POSTGRES}/initdb"));
            command.args(["-E", "UTF8", "--locale=C.UTF-8", "-A", "scram-sha-256", "-N"]);
            command.args(["-U", "postgres", "-D"]).arg(data).arg("--pwfile").arg(password);
            command
        }
        Engine::MariaDb => {
            let mut command = Command::new("mariadb-install-db");
            command.args(["--no-defaults", "--auth-root-authentication-method=normal"]);
            command.args(["--skip-test-db", "--skip-name-resolve"]);
            command.arg(format!("--datadir={}", data.display()));
            // Several are made at a time, and name their temporary files alike.
            command.arg(format!("--tmpdir={}", folder.display()));
            command
        }
    };
    let output = run_as(&mut command, owner).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{engine:?} cannot be made: {said}").into());
    }
    Ok(())
}

/// Makes an authority `ca.pem` and, by it, `cert.pem` and `key.pem` for 127.0.0.1.
fn certify(folder: &Path, owner: Option<&Owner>) -> Result<()> {
    std::fs::write(folder.join("extension"), "subjectAltName=IP:127.0.0.1\n")?;
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for arguments in [
        format!("req -x509 {new_key} -keyout ca.key -out ca.pem -days 30 -subj /CN=authority"),
        format!("req {new_key} -keyout key.pem -out request.pem -subj /CN=database"),
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
         -extfile extension -out cert.pem"
            .to_owned(),
    ] {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(folder).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    let key = folder.join("key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
    if let Some(owner) = owner {
        chown(&key, Some(owner.user), Some(owner.group))?;
    }
    Ok(())
}
