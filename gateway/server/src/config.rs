//! Configuration: `gateway.yaml` (the process) and `feeds.yaml` (agencies and feeds).
//!
//! File structs are read so that every error is told at once; what comes out is checked and has
//! its adapters built. Secrets stand by reference only (`{ file: … }` or `{ env: … }`), relative
//! paths count from the configuration's folder.

mod check;
mod duties;
mod file;
mod glob;
mod secrets;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xinqiao_core::catalogue::{Catalogue, Dataset};
use xinqiao_core::diagnostic::{Bundle, Diagnostics};
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::{AgencyId, FeedId, TargetId};
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{Listener, SecretRef, Source, Target};
use xinqiao_core::yaml;
use xinqiao_crypto::envelope::Cipher;
use xinqiao_crypto::x509::Certificate;

use crate::domain::Domain;
use crate::keys::KeysConfig;

pub use duties::{Duties, Duty};
pub use tls::ListenTls;

/// A checked configuration.
pub struct Config {
    /// Where durable state lives.
    pub data: PathBuf,
    /// The gateway's keys, and whom it trusts.
    pub keys: KeysConfig,
    /// Where agencies push to, if anywhere.
    pub listen: Option<Listen>,
    /// Threads that decode, map and validate.
    pub workers: usize,
    /// Receivers.
    pub targets: Vec<TargetConfig>,
    /// Feeds.
    pub feeds: Vec<FeedConfig>,
    /// What is allowed, but worth a look: a watched folder that is not there (yet).
    pub warnings: Diagnostics,
    /// The files' text, for showing the warnings.
    pub files: Bundle,
}

/// The push listener.
#[derive(Debug, Clone)]
pub struct Listen {
    /// `127.0.0.1:8480`.
    pub address: std::net::SocketAddr,
    /// Plain HTTP without.
    pub tls: Option<ListenTls>,
}

/// A receiver and how it is served.
#[derive(Clone)]
pub struct TargetConfig {
    /// Its id.
    pub id: TargetId,
    /// The adapter.
    pub target: Arc<dyn Target>,
    /// Whom its requests are sealed to, if they are.
    pub seal: Option<SealTo>,
    /// Parcels in one request.
    pub batch: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// Back-off and when to give up.
    pub retry: RetryPolicy,
    /// How long a worker may hold a batch.
    pub lease: Duration,
}

/// Requests leave signed by the gateway and sealed to these.
#[derive(Debug, Clone)]
pub struct SealTo {
    /// Encryption certificates, at least one.
    pub to: Vec<Certificate>,
    /// How.
    pub cipher: Cipher,
}

/// A feed, ready to run.
#[derive(Clone)]
pub struct FeedConfig {
    /// Its id.
    pub id: FeedId,
    /// Whose.
    pub agency: AgencyId,
    /// 市场监督管理局.
    pub agency_name: String,
    /// What maps it.
    pub mapping: Arc<Mapping>,
    /// Where its records go.
    pub targets: Arc<[TargetId]>,
    /// SM3 of the agency's TLS client certificates; a push must show one of them if there is any.
    pub client_certificates: Arc<[[u8; 32]]>,
    /// Where its messages come from.
    pub source: FeedSource,
    /// Whether its messages come in envelopes.
    pub envelope: Option<EnvelopePolicy>,
    /// Largest message taken.
    pub max_bytes: u64,
}

/// A feed whose messages may be digital envelopes.
#[derive(Debug, Clone)]
pub struct EnvelopePolicy {
    /// Nothing but signed and sealed messages is taken.
    pub required: bool,
    /// The agency's signing certificates: every envelope is signed by one of them.
    pub signers: Vec<Certificate>,
}

/// Where a feed's messages come from.
#[derive(Clone)]
pub enum FeedSource {
    /// The agency pushes; SM3 of its bearer token, and messages a minute.
    Push {
        /// `push`, or the listener's kind in the registry.
        kind: String,
        /// SM3 of the token.
        token: [u8; 32],
        /// Messages a minute.
        per_minute: u32,
        /// The dialect, if it is not the plain one.
        listener: Option<Arc<dyn Listener>>,
    },
    /// The gateway fetches.
    Pull {
        /// The source's kind in the registry.
        kind: String,
        /// The adapter.
        source: Arc<dyn Source>,
    },
}

impl FeedConfig {
    /// The dataset the mapping speaks of.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.mapping.target
    }
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub struct ConfigError {
    /// The files' text.
    pub files: Bundle,
    /// Every error.
    pub found: Diagnostics,
}

impl std::error::Error for ConfigError {}

/// The errors as a person reads them.
impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.found.render(&self.files, false))
    }
}

/// Where `gateway.yaml` says the mappings are; `None` for what was built in.
pub fn mappings_folder(folder: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(folder.join("gateway.yaml")).ok()?;
    let (file, _) = yaml::read_file::<file::GatewayFile>("gateway.yaml", &text);
    file?.mappings.map(|mappings| folder.join(mappings.value))
}

/// Where `gateway.yaml` says the data is, without reading anything else.
pub fn data_folder(folder: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(folder.join("gateway.yaml")).ok()?;
    let (file, _) = yaml::read_file::<file::GatewayFile>("gateway.yaml", &text);
    Some(folder.join(file?.data.value))
}

/// What `gateway.yaml` says of keys in a folder before there are any.
pub struct FirstKeys {
    /// The file of the passphrase, there or not; none if it is not in a file.
    pub passphrase: Option<PathBuf>,
    /// The folder of keys, there or not.
    pub folder: PathBuf,
    /// Name of the key for what is stored.
    pub storage: String,
    /// Where durable state lives.
    pub data: PathBuf,
}

/// Reads where keys shall be; `None` if the file cannot be read, or they are in a device.
pub fn first_keys(folder: &Path) -> Option<FirstKeys> {
    let text = std::fs::read_to_string(folder.join("gateway.yaml")).ok()?;
    let (file, _) = yaml::read_file::<file::GatewayFile>("gateway.yaml", &text);
    let file = file?;
    let reference = serde_json::Value::Object(file.keys.passphrase?.value.map);
    Some(FirstKeys {
        passphrase: match serde_json::from_value(reference) {
            Ok(SecretRef::File(path)) => Some(folder.join(path)),
            _ => None,
        },
        folder: folder.join(file.keys.folder.value),
        storage: file.keys.storage.map_or_else(|| trust::STORAGE.to_owned(), |name| name.value),
        data: folder.join(file.data.value),
    })
}

/// Reads and checks only the keys section of `gateway.yaml`.
pub fn keys(folder: &Path) -> Result<KeysConfig, Box<ConfigError>> {
    check::keys(folder)
}

/// Reads and checks only the agencies of `feeds.yaml` and their reporting duties.
pub fn duties(folder: &Path, catalogue: &Catalogue) -> Result<Duties, Box<ConfigError>> {
    duties::read(folder, catalogue)
}

/// Reads and checks both files of a folder.
pub fn load(folder: &Path, domain: &Domain) -> Result<Config, Box<ConfigError>> {
    check::load(folder, domain)
}
