//! FTP and SFTP servers on loopback, each with a configuration and a folder of its own; gone with
//! their last process when they are dropped.

use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use xinqiao_tests::peers::installed;

/// Whom the servers know; `tests/peers/build.d/files` makes the system's user.
pub(super) const USER: &str = "xinqiao-peer";
pub(super) const PASSWORD: &str = "s3cret";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// vsftpd: explicit TLS, session reuse required, `LIST` only; names an inner address for passive
    /// connections, as behind an address translation.
    Vsftpd,
    /// The same with TLS 1.2 only.
    Vsftpd12,
    /// The same with implicit TLS.
    VsftpdImplicit,
    /// proftpd without TLS.
    Proftpd,
    /// proftpd with TLS required.
    ProftpdTls,
    /// pure-ftpd without TLS.
    Pureftpd,
    /// pyftpdlib with TLS and names in GB18030.
    Pyftpdlib,
    /// OpenSSH, by key.
    Openssh,
}

/// A server and its folders `in`, `done` and `back`.
pub(super) struct Server {
    pub(super) kind: Kind,
    dir: TempDir,
    port: u16,
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(super) fn start(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_up(dir.path(), 0o755);
        for name in ["in", "done", "back"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            open_up(&dir.path().join(name), 0o777);
        }
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        certificates(dir.path());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { kind, dir, port, child: Mutex::new(None) };
        server.configure();
        server.again();
        server
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server, anew after [`Server::kill`], and waits until it answers.
    pub(super) fn again(&self) {
        let log = self.path("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        *self.child.lock().unwrap() = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = std::fs::read_to_string(self.path("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}: {log}", self.kind);
            std::thread::yield_now();
        }
    }

    /// Ends every process of the server at once, in the middle of whatever they do.
    pub(super) fn kill(&self) {
        let Some(mut child) = self.child.lock().unwrap().take() else { return };
        let mut all = vec![i32::try_from(child.id()).unwrap()];
        let mut at = 0;
        while let Some(parent) = all.get(at).copied() {
            // Stopped first, so that it has no more children while they are looked for.
            signal(parent, Signal::STOP);
            all.extend(children(parent));
            at += 1;
        }
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        let _ = child.wait();
        // A process that is still going holds the port.
        let begun = Instant::now();
        while all.iter().any(|pid| is_alive(*pid)) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
    }

    /// The parameters by which a source or target gets in.
    pub(super) fn login(&self) -> Value {
        let mut params = json!({ "host": "127.0.0.1", "port": self.port, "user": USER });
        let password = json!({ "env": "P" });
        let ca = json!(self.path("ca.pem"));
        let extra = match self.kind {
            Kind::Vsftpd | Kind::Vsftpd12 | Kind::ProftpdTls => {
                json!({ "security": "explicit", "ca": ca, "password": password })
            }
            Kind::VsftpdImplicit => {
                json!({ "security": "implicit", "ca": ca, "password": password })
            }
            Kind::Proftpd | Kind::Pureftpd => json!({ "security": "plain", "password": password }),
            Kind::Pyftpdlib => {
                json!({ "security": "explicit", "ca": ca, "password": password, "names": "gb18030" })
            }
            Kind::Openssh => {
                json!({ "key-file": self.path("user"), "host-key": self.fingerprint("host") })
            }
        };
        merge(&mut params, &extra);
        params
    }

    /// The parameters of a source, `after` included.
    pub(super) fn source(&self, after: &str) -> Value {
        let mut params = self.login();
        let more = json!({
            "directory": self.path("in"), "poll-seconds": 0.05, "settle-seconds": 1, "after": after,
            "feedback-directory": self.path("back"),
        });
        merge(&mut params, &more);
        if after == "move" {
            merge(&mut params, &json!({ "done-directory": self.path("done") }));
        }
        if after != "leave" {
            merge(&mut params, &json!({ "confirm-seconds": 2 }));
        }
        params
    }

    /// The kind of source and target.
    pub(super) fn protocol(&self) -> &'static str {
        if self.kind == Kind::Openssh { "sftp" } else { "ftp" }
    }

    /// The fingerprint of a public key of the folder.
    pub(super) fn fingerprint(&self, key: &str) -> String {
        let told =
            said(Command::new("ssh-keygen").arg("-lf").arg(self.path(&format!("{key}.pub"))));
        told.split_whitespace().nth(1).unwrap().to_owned()
    }

    fn configure(&self) {
        let dir = self.dir.path().display();
        let port = self.port;
        let write = |name: &str, text: String| std::fs::write(self.path(name), text).unwrap();
        match self.kind {
            Kind::Vsftpd | Kind::Vsftpd12 | Kind::VsftpdImplicit => {
                let implicit = if self.kind == Kind::VsftpdImplicit { "YES" } else { "NO" };
                write(
                    "vsftpd.conf",
                    format!(
                        "listen=YES\nlisten_ipv6=NO\nlisten_address=127.0.0.1\nlisten_port={port}\n\
                         background=NO\nanonymous_enable=NO\nlocal_enable=YES\nwrite_enable=YES\n\
                         local_umask=022\nseccomp_sandbox=NO\nssl_enable=YES\n\
                         force_local_logins_ssl=YES\nforce_local_data_ssl=YES\n\
                         require_ssl_reuse=YES\nimplicit_ssl={implicit}\nssl_ciphers=HIGH\n\
                         rsa_cert_file={dir}/server.pem\nrsa_private_key_file={dir}/server.key\n\
                         secure_chroot_dir={dir}/empty\npam_service_name=vsftpd\n\
                         vsftpd_log_file={dir}/vsftpd.log\nxferlog_enable=YES\n\
                         log_ftp_protocol=YES\npasv_address=10.255.255.1\nport_enable=YES\nconnect_from_port_20=NO\n"
                    ),
                );
                let most = if self.kind == Kind::Vsftpd12 { "MaxProtocol = TLSv1.2\n" } else { "" };
                write(
                    "openssl.cnf",
                    format!(
                        "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\n{most}"
                    ),
                );
            }
            Kind::Proftpd | Kind::ProftpdTls => {
                let modules = installed("proftpd/usr/lib/proftpd").unwrap();
                let tls = if self.kind == Kind::ProftpdTls { "on" } else { "off" };
                let modules = modules.display();
                write(
                    "proftpd.conf",
                    format!(
                        "ServerName t\nServerType standalone\nDefaultAddress 127.0.0.1\n\
                         SocketBindTight on\nPort {port}\nUseIPv6 off\nUser root\nGroup root\n\
                         PidFile {dir}/pro.pid\nScoreboardFile {dir}/pro.score\nDelayTable none\n\
                         AuthOrder mod_auth_file.c\nAuthUserFile {dir}/pro.passwd\n\
                         RequireValidShell off\nWtmpLog off\nTransferLog none\n\
                         SystemLog {dir}/pro.log\nMaxInstances none\nAllowOverwrite on\n\
                         ModulePath {modules}\nModuleControlsACLs insmod,rmmod allow user root\n\
                         LoadModule mod_tls.c\n<IfModule mod_tls.c>\nTLSEngine {tls}\n\
                         TLSRequired {tls}\nTLSRSACertificateFile {dir}/server.pem\n\
                         TLSRSACertificateKeyFile {dir}/server.key\nTLSLog {dir}/pro-tls.log\n\
                         </IfModule>\n"
                    ),
                );
                let hash = said(Command::new("openssl").args(["passwd", "-6", PASSWORD]));
                let ids = |flag| said(Command::new("id").args([flag, USER]));
                let (user, group) = (ids("-u"), ids("-g"));
                write("pro.passwd", format!("{USER}:{hash}:{user}:{group}::{dir}:/bin/bash\n"));
                open_up(&self.path("pro.passwd"), 0o600);
            }
            Kind::Pureftpd => {}
            Kind::Pyftpdlib => write(
                "server.py",
                format!(
                    "from pyftpdlib.authorizers import DummyAuthorizer\n\
                     from pyftpdlib.handlers import TLS_FTPHandler\n\
                     from pyftpdlib.servers import FTPServer\n\
                     users = DummyAuthorizer()\n\
                     users.add_user('{USER}', '{PASSWORD}', '/', perm='elradfmwMT')\n\
                     class Handler(TLS_FTPHandler):\n    \
                         authorizer = users\n    certfile = '{dir}/both.pem'\n    \
                         tls_control_required = tls_data_required = True\n    \
                         encoding = 'gb18030'\n    auth_failed_timeout = 0\n\
                     FTPServer(('127.0.0.1', {port}), Handler).serve_forever()\n"
                ),
            ),
            Kind::Openssh => {
                let made = [
                    ("host", "ed25519", ""),
                    ("other", "ecdsa", ""),
                    ("user", "ed25519", ""),
                    ("locked", "ecdsa", PASSWORD),
                    ("old", "rsa", ""),
                ];
                for (name, kind, passphrase) in made {
                    let mut command = Command::new("ssh-keygen");
                    command.args(["-q", "-t", kind, "-N", passphrase, "-f"]);
                    said(command.arg(self.path(name)));
                }
                let public =
                    |name| std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
                write("keys", public("user") + &public("locked"));
                open_up(&self.path("keys"), 0o644);
                write(
                    "sshd_config",
                    format!(
                        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\n\
                         PidFile {dir}/sshd.pid\nAuthorizedKeysFile {dir}/keys\nStrictModes no\n\
                         PasswordAuthentication yes\nUsePAM yes\nSubsystem sftp internal-sftp\n\
                         MaxStartups 100\n"
                    ),
                );
                std::fs::create_dir_all("/run/sshd").unwrap();
            }
        }
    }

    fn command(&self) -> Command {
        match self.kind {
            Kind::Vsftpd | Kind::Vsftpd12 | Kind::VsftpdImplicit => {
                let mut command = Command::new("/usr/sbin/vsftpd");
                command.arg(self.path("vsftpd.conf")).env("OPENSSL_CONF", self.path("openssl.cnf"));
                command
            }
            Kind::Proftpd | Kind::ProftpdTls => {
                let mut command = Command::new(installed("proftpd/usr/sbin/proftpd").unwrap());
                command.args(["-n", "-c"]).arg(self.path("proftpd.conf"));
                command
            }
            Kind::Pureftpd => {
                let mut command = Command::new(installed("pureftpd/usr/sbin/pure-ftpd").unwrap());
                command.arg("-S").arg(format!("127.0.0.1,{}", self.port));
                command.args(["-E", "-l", "unix", "-P", "127.0.0.1", "-4", "-H"]);
                command.arg("-g").arg(self.path("pure.pid"));
                // All files: more than its usual 10,000, and hidden ones.
                command.args(["-L", "20000:5"]);
                command
            }
            Kind::Pyftpdlib => {
                let mut command = Command::new(installed("pyftpdlib/venv/bin/python").unwrap());
                command.arg(self.path("server.py"));
                command
            }
            Kind::Openssh => {
                let mut command = Command::new("/usr/sbin/sshd");
                command.args(["-D", "-e", "-f"]).arg(self.path("sshd_config"));
                command
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Puts the keys of one object over those of another.
pub(super) fn merge(params: &mut Value, more: &Value) {
    for (key, value) in more.as_object().unwrap() {
        params[key] = value.clone();
    }
}

/// A certificate authority, a certificate for 127.0.0.1 by it, and another authority.
fn certificates(dir: &Path) {
    let openssl = |line: String| {
        said(Command::new("openssl").args(line.split(' ')).current_dir(dir).stderr(Stdio::null()));
    };
    for name in ["ca", "stranger"] {
        openssl(format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key \
             -out {name}.pem -days 30 -subj /CN={name}"
        ));
    }
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(
        "req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=server".into(),
    );
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile san -out server.pem"
            .into(),
    );
    let mut both = std::fs::read_to_string(dir.join("server.pem")).unwrap();
    let _ = write!(both, "{}", std::fs::read_to_string(dir.join("server.key")).unwrap());
    std::fs::write(dir.join("both.pem"), both).unwrap();
}

fn said(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn open_up(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The processes whose parent is this one.
fn children(parent: i32) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let after = state(pid);
        if after.split_whitespace().nth(1).and_then(|text| text.parse().ok()) == Some(parent) {
            found.push(pid);
        }
    }
    found
}

/// `state parent …` of a process; empty if there is none.
fn state(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // `pid (name) state parent …`; the name may have brackets of its own.
    stat.rsplit_once(')').map_or(String::new(), |(_, after)| after.trim().to_owned())
}

fn is_alive(pid: i32) -> bool {
    !matches!(state(pid).chars().next(), None | Some('Z' | 'X'))
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}
