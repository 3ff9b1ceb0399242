//! Configuration: `gateway.yaml` (the process) and `feeds.yaml` (agencies and feeds).
//!
//! File structs are read so that every error is told at once; what comes out is checked and has
//! its adapters built. Secrets stand by reference only (`{ file: … }` or `{ env: … }`), relative
//! paths count from the configuration's folder.

mod file;
mod secrets;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use xinqiao_core::catalogue::Dataset;
use xinqiao_core::diagnostic::{Bundle, Diagnostic, Diagnostics, Level, position};
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::{AgencyId, FeedId, TargetId};
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{Source, Target};
use xinqiao_core::yaml;

use crate::domain::Domain;
use secrets::Resolver;

/// A checked configuration.
pub struct Config {
    /// Where durable state lives.
    pub data: PathBuf,
    /// Where agencies push to, if anywhere.
    pub listen: Option<Listen>,
    /// Threads that decode, map and validate.
    pub workers: usize,
    /// Receivers.
    pub targets: Vec<TargetConfig>,
    /// Feeds.
    pub feeds: Vec<FeedConfig>,
}

/// The push listener.
#[derive(Debug, Clone)]
pub struct Listen {
    /// `127.0.0.1:8480`.
    pub address: std::net::SocketAddr,
    /// Certificate chain and key (PEM files); plain HTTP without.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A receiver and how it is served.
#[derive(Clone)]
pub struct TargetConfig {
    /// Its id.
    pub id: TargetId,
    /// The adapter.
    pub target: Arc<dyn Target>,
    /// Parcels in one request.
    pub batch: usize,
    /// Requests at once.
    pub concurrency: usize,
    /// Back-off and when to give up.
    pub retry: RetryPolicy,
    /// How long a worker may hold a batch.
    pub lease: Duration,
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
    /// Where its messages come from.
    pub source: FeedSource,
    /// Largest message taken.
    pub max_bytes: u64,
}

/// Where a feed's messages come from.
#[derive(Clone)]
pub enum FeedSource {
    /// The agency pushes; SM3 of its bearer token, and messages a minute.
    Push {
        /// SM3 of the token.
        token: [u8; 32],
        /// Messages a minute.
        per_minute: u32,
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
    files: Bundle,
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
    file?.mappings.map(|mappings| folder.join(mappings))
}

/// Where `gateway.yaml` says the data is, without reading anything else.
pub fn data_folder(folder: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(folder.join("gateway.yaml")).ok()?;
    let (file, _) = yaml::read_file::<file::GatewayFile>("gateway.yaml", &text);
    Some(folder.join(file?.data))
}

/// Reads and checks both files of a folder.
pub fn load(folder: &Path, domain: &Domain) -> Result<Config, Box<ConfigError>> {
    let mut check =
        Check { folder, domain, files: Bundle::default(), found: Diagnostics::default() };
    let gateway = check.read::<file::GatewayFile>("gateway.yaml");
    let feeds = check.read::<file::FeedsFile>("feeds.yaml");
    let config = gateway.zip(feeds).and_then(|(gateway, feeds)| check.config(gateway, feeds));
    match config {
        Some(config) if !check.found.has_errors() => Ok(config),
        _ => Err(Box::new(ConfigError { files: check.files, found: check.found })),
    }
}

struct Check<'a> {
    folder: &'a Path,
    domain: &'a Domain,
    files: Bundle,
    found: Diagnostics,
}

impl Check<'_> {
    fn read<T: yaml::FromNode>(&mut self, name: &str) -> Option<T> {
        let path = self.folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let (file, found) = yaml::read_file(name, &text);
                self.found.0.extend(found.0);
                self.files.0.insert(name.to_owned(), text);
                file
            }
            Err(error) => {
                self.error(name, 0..0, "config.unreadable", format!("读取失败:{error}"));
                None
            }
        }
    }

    fn error(
        &mut self,
        file: &str,
        span: std::ops::Range<usize>,
        code: &'static str,
        message: String,
    ) {
        let (line, column) = match self.files.get(file) {
            Some(text) => position(text, span.start),
            None => (0, 0),
        };
        let file = file.to_owned();
        let level = Level::Error;
        self.found.0.push(Diagnostic {
            code,
            level,
            file,
            line,
            column,
            span,
            message,
            help: None,
        });
    }

    fn config(&mut self, gateway: file::GatewayFile, feeds: file::FeedsFile) -> Option<Config> {
        const FILE: &str = "gateway.yaml";
        for (name, version) in [(FILE, &gateway.config), ("feeds.yaml", &feeds.config)] {
            if version.value != 1 {
                self.error(
                    name,
                    version.span.clone(),
                    "config.version",
                    "本程序只读第1版配置".into(),
                );
            }
        }
        let secrets = Resolver::new(self.folder);
        let listen = gateway.listen.and_then(|listen| {
            let address = match listen.address.value.parse() {
                Ok(address) => address,
                Err(_) => {
                    self.error(
                        FILE,
                        listen.address.span,
                        "config.address",
                        "监听地址应写成 IP:端口,如 127.0.0.1:8480".into(),
                    );
                    return None;
                }
            };
            let tls = listen.tls.map(|tls| (self.folder.join(tls.cert), self.folder.join(tls.key)));
            Some(Listen { address, tls })
        });
        let mut targets = Vec::new();
        for (name, target) in gateway.targets.0 {
            let Ok(id) = TargetId::new(&name.value).map_err(|e| {
                self.error(FILE, name.span.clone(), "config.id", e.to_string());
            }) else {
                continue;
            };
            let kind = target.kind;
            let Some(factory) = xinqiao_adapters::targets::find(&kind.value) else {
                let known: Vec<_> =
                    xinqiao_adapters::targets::TARGETS.iter().map(|t| t.kind()).collect();
                self.error(
                    FILE,
                    kind.span,
                    "config.target-kind",
                    format!("没有这种投递目标,可用的有:{}", known.join("、")),
                );
                continue;
            };
            let params = self.paths(target.params.value);
            match factory.build(&id, &params, &secrets) {
                Ok(built) => targets.push(TargetConfig {
                    id,
                    target: built,
                    batch: bounded(target.batch, 200, 1, 5_000),
                    concurrency: bounded(target.concurrency, 2, 1, 64),
                    retry: RetryPolicy {
                        base: Duration::from_millis(u64::from(
                            target.retry_base_millis.unwrap_or(2_000),
                        )),
                        cap: Duration::from_millis(u64::from(
                            target.retry_cap_millis.unwrap_or(300_000),
                        )),
                        max_attempts: target.max_attempts.unwrap_or(30).max(1),
                    },
                    lease: Duration::from_secs(u64::from(
                        target.lease_seconds.unwrap_or(120).max(5),
                    )),
                }),
                Err(problems) => {
                    for problem in problems {
                        self.error(
                            FILE,
                            target.params.span.clone(),
                            "config.target",
                            format!("投递目标 {name}:{problem}", name = name.value),
                        );
                    }
                }
            }
        }
        let feeds = self.feeds(feeds, &targets, &secrets);
        Some(Config {
            data: self.folder.join(gateway.data),
            listen,
            workers: bounded(gateway.workers, default_workers(), 1, 256),
            targets,
            feeds,
        })
    }

    fn feeds(
        &mut self,
        file: file::FeedsFile,
        targets: &[TargetConfig],
        secrets: &Resolver,
    ) -> Vec<FeedConfig> {
        const FILE: &str = "feeds.yaml";
        let mut agencies = std::collections::BTreeMap::new();
        for (name, agency) in file.agencies.0 {
            match AgencyId::new(&name.value) {
                Ok(id) => drop(agencies.insert(name.value, (id, agency.name))),
                Err(e) => self.error(FILE, name.span, "config.id", e.to_string()),
            }
        }
        let mut tokens = std::collections::BTreeMap::new();
        let mut feeds = Vec::new();
        for (name, feed) in file.feeds.0 {
            let id = match FeedId::new(&name.value) {
                Ok(id) => Some(id),
                Err(e) => {
                    self.error(FILE, name.span.clone(), "config.id", e.to_string());
                    None
                }
            };
            let agency = agencies.get(&feed.agency.value).cloned();
            if agency.is_none() {
                self.error(
                    FILE,
                    feed.agency.span,
                    "config.agency",
                    "agencies 中没有这个委办局".into(),
                );
            }
            let mapping =
                xinqiao_core::model::MappingId::new(&feed.mapping.value).ok().and_then(|id| {
                    self.domain.mappings.get(&id).map(|(_, mapping)| Arc::clone(mapping))
                });
            if mapping.is_none() {
                let near = yaml::nearest(
                    &feed.mapping.value,
                    self.domain.mappings.keys().map(xinqiao_core::model::MappingId::as_str),
                );
                let hint = near.map_or_else(String::new, |near| format!(",是否想写“{near}”?"));
                self.error(
                    FILE,
                    feed.mapping.span,
                    "config.mapping",
                    format!("没有这个映射规则{hint}"),
                );
            }
            let mut wanted = Vec::new();
            for target in feed.targets.0 {
                match targets.iter().find(|t| t.id.as_str() == target.value) {
                    Some(known) => wanted.push(known.id.clone()),
                    None => self.error(
                        FILE,
                        target.span,
                        "config.feed-target",
                        "gateway.yaml 的 targets 中没有(或未能建立)这个投递目标".into(),
                    ),
                }
            }
            let source = self.source(&name.value, feed.source, secrets);
            if let Some(FeedSource::Push { token, .. }) = &source
                && let Some(other) = tokens.insert(*token, name.value.clone())
            {
                let message = format!("令牌与接入任务 {other} 相同:每个推送任务须有自己的令牌");
                self.error(FILE, name.span.clone(), "config.same-token", message);
            }
            if let (Some(id), Some((agency, agency_name)), Some(mapping), Some(source)) =
                (id, agency, mapping, source)
            {
                let max_bytes = u64::from(feed.max_megabytes.unwrap_or(1024)) << 20;
                let targets = wanted.into();
                feeds.push(FeedConfig {
                    id,
                    agency,
                    agency_name,
                    mapping,
                    targets,
                    source,
                    max_bytes,
                });
            }
        }
        feeds
    }

    fn source(
        &mut self,
        feed: &str,
        file: file::SourceFile,
        secrets: &Resolver,
    ) -> Option<FeedSource> {
        const FILE: &str = "feeds.yaml";
        let params = self.paths(file.params.value);
        if file.kind.value == "push" {
            return match secrets::push(&params, secrets) {
                Ok((token, per_minute)) => Some(FeedSource::Push { token, per_minute }),
                Err(problem) => {
                    let message = format!("接入任务 {feed}:{problem}");
                    self.error(FILE, file.params.span, "config.source", message);
                    None
                }
            };
        }
        let Some(factory) = xinqiao_adapters::sources::find(&file.kind.value) else {
            let mut known: Vec<_> =
                xinqiao_adapters::sources::SOURCES.iter().map(|s| s.kind()).collect();
            known.push("push");
            let message = format!("没有这种数据源,可用的有:{}", known.join("、"));
            self.error(FILE, file.kind.span, "config.source-kind", message);
            return None;
        };
        match factory.build(&params, secrets) {
            Ok(source) => Some(FeedSource::Pull { kind: file.kind.value, source }),
            Err(problems) => {
                for problem in problems {
                    let message = format!("接入任务 {feed}:{problem}");
                    self.error(FILE, file.params.span.clone(), "config.source", message);
                }
                None
            }
        }
    }

    /// Parameters whose key names a path count from the configuration's folder.
    fn paths(&self, file::Params(mut map): file::Params) -> serde_json::Value {
        for key in ["path", "move-to", "ca", "client-cert", "client-key"] {
            if let Some(serde_json::Value::String(path)) = map.get_mut(key) {
                *path = self.folder.join(&*path).to_string_lossy().into_owned();
            }
        }
        serde_json::Value::Object(map)
    }
}

fn bounded(value: Option<u32>, default: usize, low: usize, high: usize) -> usize {
    value.map_or(default, |v| usize::try_from(v).unwrap_or(high)).clamp(low, high)
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
