//! The demo's working folder: a configuration as an operator would write it, and the agencies'
//! drop folders.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use xinqiao_core::fault::io_words;
use xinqiao_core::spi::Clock as _;
use xinqiao_crypto::pkcs8;
use xinqiao_crypto::x509::parse_name;

use crate::clock::SystemClock;
use crate::config;
use crate::keys;

use super::agencies::{AGENCIES, Channel, Message, PAGE};

/// The push agency's token and the pull agency's password: of this demo only, so they may stand
/// here; the configuration names them by file all the same.
pub(super) const TOKEN: &str = "demo-token-of-yjj-0001";
/// See [`TOKEN`].
pub(super) const PASSWORD: &str = "demo-password-of-jtj";

/// The working folder.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) folder: PathBuf,
    /// Removed at the end.
    temporary: bool,
}

impl Stage {
    /// Makes the folder: the given one, which must not hold anything, or one of its own.
    pub(super) fn new(given: Option<PathBuf>, keep: bool) -> Result<Self, String> {
        let temporary = given.is_none() && !keep;
        let folder = given.unwrap_or_else(|| {
            std::env::temp_dir().join(format!("xinqiao-demo-{}", std::process::id()))
        });
        let told = |error: io::Error| {
            format!("工作目录 {} 无法使用:{}", folder.display(), io_words(&error))
        };
        fs::create_dir_all(&folder).map_err(told)?;
        let folder = folder.canonicalize().map_err(told)?;
        if fs::read_dir(&folder).map_err(told)?.next().is_some() {
            return Err(format!("工作目录 {} 不是空的,请换一个目录", folder.display()));
        }
        Ok(Self { folder, temporary })
    }

    /// Writes the configuration.
    pub(super) fn configure(&self, platform: &str, service: &str) -> Result<(), String> {
        let told = |error: io::Error| io_words(&error).into_owned();
        self.write(platform, service).map_err(told)?;
        let config = config::keys(&self.folder).map_err(|error| error.to_string())?;
        let subject =
            parse_name("CN=演示网关,O=仅供演示,C=CN").map_err(|error| error.to_string())?;
        keys::init(&config, &subject, SystemClock.now(), pkcs8::ITERATIONS)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn write(&self, platform: &str, service: &str) -> io::Result<()> {
        fs::create_dir_all(self.folder.join("secrets"))?;
        keys::make_passphrase(&self.folder.join("secrets/passphrase"))?;
        fs::write(self.folder.join("secrets/yjj-token"), format!("{TOKEN}\n"))?;
        fs::write(self.folder.join("secrets/jtj-password"), format!("{PASSWORD}\n"))?;
        fs::write(self.folder.join("gateway.yaml"), gateway_yaml(platform))?;
        for agency in AGENCIES.iter().filter(|agency| agency.channel == Channel::Folder) {
            fs::create_dir_all(self.inbox(agency.id))?;
        }
        fs::write(self.folder.join("feeds.yaml"), feeds_yaml(service))
    }

    /// Puts a file into its agency's drop folder, whole at once.
    pub(super) fn drop_file(&self, agency: &str, message: &Message) -> io::Result<()> {
        let made = self.folder.join(format!("{agency}.part"));
        fs::write(&made, &message.bytes)?;
        fs::rename(made, self.inbox(agency).join(&message.name))
    }

    fn inbox(&self, agency: &str) -> PathBuf {
        self.folder.join("inbox").join(agency)
    }

    /// Whether the folder outlives the demo.
    pub(super) fn stays(&self) -> bool {
        !self.temporary
    }

    /// For people to go on with.
    pub(super) fn shown(&self) -> std::path::Display<'_> {
        Path::display(&self.folder)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.temporary {
            // What remains in the temporary folder is the system's to clear.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn gateway_yaml(platform: &str) -> String {
    format!(
        "# 演示用配置,由 xinqiao demo 写出\n\
         config: 1\n\
         data: data\n\
         keys: {{ folder: keys, passphrase: {{ file: secrets/passphrase }} }}\n\
         listen: {{ address: \"127.0.0.1:0\" }}\n\
         targets:\n  \
           city:\n    \
             kind: rest\n    \
             params: {{ url: \"{platform}\", dedupes: true }}\n    \
             batch: 200\n    \
             concurrency: 2\n    \
             retry-base-millis: 300\n    \
             retry-cap-millis: 2000\n"
    )
}

fn feeds_yaml(service: &str) -> String {
    let mut text = String::from("# 演示用接入任务,由 xinqiao demo 写出\nconfig: 1\nagencies:\n");
    for agency in AGENCIES {
        let _ = writeln!(text, "  {}: {{ name: {} }}", agency.id, agency.name);
    }
    text.push_str("feeds:\n");
    for agency in AGENCIES {
        let (kind, params) = match agency.channel {
            Channel::Folder => (
                "folder",
                format!("{{ path: inbox/{}, settle-seconds: 0.2, poll-seconds: 0.2 }}", agency.id),
            ),
            Channel::Pull => (
                "rest",
                format!(
                    "{{ url: \"{service}/penalties\", rows: /rows, success: {{ path: /code, ok: [\"00\"] }}, \
                     paging: {{ page: {{ param: page, size-param: size, size: {PAGE}, first: 1, resume: true }} }}, \
                     login: {{ request: {{ url: \"{service}/login\", user: gateway, \
                     password: {{ file: secrets/jtj-password }}, body: {{ user: \"{{user}}\", password: \"{{password}}\" }}, \
                     token: /token, prefix: \"Bearer \" }} }}, poll-seconds: 1 }}"
                ),
            ),
            Channel::Push => ("push", "{ token: { file: secrets/yjj-token } }".to_owned()),
        };
        let _ = write!(
            text,
            "  {feed}:\n    agency: {id}\n    mapping: {feed}\n    targets: city\n    source:\n      kind: {kind}\n      params: {params}\n",
            feed = agency.feed,
            id = agency.id,
        );
    }
    text
}
