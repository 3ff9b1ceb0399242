//! From the files as written to a [`Config`]: every error at once, each at its own key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use xinqiao_core::catalogue::is_uscc_map;
use xinqiao_core::diagnostic::{Bundle, Diagnostic, Diagnostics, Level, position};
use xinqiao_core::fault::io_words;
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::{AgencyId, FeedId, MappingId, TargetId};
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::ParamProblem;
use xinqiao_core::yaml::{self, At};
use xinqiao_crypto::Sm3Digest;
use xinqiao_crypto::x509::Certificate;

use super::secrets::{self, Resolver};
use super::tls::LinkKeys;
use super::{
    Config, ConfigError, FeedConfig, FeedSource, Listen, ListenTls, TargetConfig, file, glob,
};
use crate::domain::Domain;
use crate::keys::KeysConfig;

pub(super) const GATEWAY: &str = "gateway.yaml";
pub(super) const FEEDS: &str = "feeds.yaml";

/// Reads and checks both files of a folder.
pub(super) fn load(folder: &Path, domain: &Domain) -> Result<Config, Box<ConfigError>> {
    let mut check = Check::new(folder);
    let gateway = check.read::<file::GatewayFile>(GATEWAY);
    let feeds = check.read::<file::FeedsFile>(FEEDS);
    let config =
        gateway.zip(feeds).and_then(|(gateway, feeds)| check.config(gateway, feeds, domain));
    let Check { files, found, .. } = check;
    match config {
        Some(config) if !found.has_errors() => Ok(Config { warnings: found, files, ..config }),
        _ => Err(Box::new(ConfigError { files, found })),
    }
}

/// Reads and checks the section `keys` of `gateway.yaml`, whatever else is in it.
pub(super) fn keys(folder: &Path) -> Result<KeysConfig, Box<ConfigError>> {
    let mut check = Check::new(folder);
    let secrets = Resolver::new(folder);
    let file = check.read::<file::GatewayFile>(GATEWAY);
    let keys = file.and_then(|file| check.keys(file.keys, &secrets));
    keys.ok_or_else(|| Box::new(ConfigError { files: check.files, found: check.found }))
}

pub(super) struct Check<'a> {
    pub(super) folder: &'a Path,
    files: Bundle,
    found: Diagnostics,
    /// Feed, folder and pattern of every watched folder so far.
    watched: Vec<(String, PathBuf, String)>,
    pub(super) links: LinkKeys,
}

/// What the feeds must know of the listener.
#[derive(Clone, Copy)]
struct Listening {
    at_all: bool,
    /// Asks clients for certificates.
    asks: bool,
}

struct Agency {
    id: AgencyId,
    name: String,
    /// Signing certificates.
    signers: Vec<Certificate>,
    client_certificates: Arc<[Sm3Digest]>,
}

impl<'a> Check<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            files: Bundle::default(),
            found: Diagnostics::default(),
            watched: Vec::new(),
            links: LinkKeys::default(),
        }
    }

    /// What was read, unless an error was found.
    pub(super) fn end<T>(self, read: T) -> Result<T, Box<ConfigError>> {
        let Self { files, found, .. } = self;
        if found.has_errors() { Err(Box::new(ConfigError { files, found })) } else { Ok(read) }
    }
}

impl Check<'_> {
    pub(super) fn read<T: yaml::FromNode>(&mut self, name: &str) -> Option<T> {
        match std::fs::read_to_string(self.folder.join(name)) {
            Ok(text) => {
                let (file, found) = yaml::read_file(name, &text);
                self.found.0.extend(found.0);
                self.files.0.insert(name.to_owned(), text);
                file
            }
            Err(error) => {
                let why = match error.kind() {
                    std::io::ErrorKind::InvalidData => "不是 UTF-8 文本".into(),
                    _ => io_words(&error),
                };
                self.error(name, 0..0, "config.unreadable", format!("读取失败:{why}"));
                None
            }
        }
    }

    pub(super) fn error(
        &mut self,
        file: &str,
        span: Range<usize>,
        code: &'static str,
        message: String,
    ) {
        self.tell(Level::Error, file, span, code, message);
    }

    fn tell(
        &mut self,
        level: Level,
        file: &str,
        span: Range<usize>,
        code: &'static str,
        message: String,
    ) {
        let (line, column) = match self.files.get(file) {
            Some(text) => position(text, span.start),
            None => (0, 0),
        };
        let file = file.to_owned();
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

    /// A number within bounds (inclusive); out of them it is an error, and the default goes on.
    fn number(
        &mut self,
        file: &str,
        given: Option<At<u32>>,
        default: u32,
        bounds: std::ops::RangeInclusive<u32>,
    ) -> u32 {
        let Some(given) = given else { return default };
        if bounds.contains(&given.value) {
            return given.value;
        }
        let message = format!("应为 {} 到 {} 的整数", bounds.start(), bounds.end());
        self.error(file, given.span, "config.range", message);
        default
    }

    /// A path from the configuration's folder. An empty one would be that folder itself.
    pub(super) fn path(&mut self, given: At<String>) -> PathBuf {
        self.path_in(GATEWAY, given)
    }

    /// [`Self::path`] of a path that stands in `file`.
    pub(super) fn path_in(&mut self, file: &str, given: At<String>) -> PathBuf {
        if given.value.trim().is_empty() {
            self.error(file, given.span, "config.empty-path", "路径不能为空".into());
        }
        self.folder.join(given.value)
    }

    /// Tells what is wrong with parameters, each at its key.
    fn problems(
        &mut self,
        file: &str,
        code: &'static str,
        whose: &str,
        params: &At<file::Params>,
        problems: Vec<ParamProblem>,
    ) {
        for problem in problems {
            let span = params.value.place(&problem.at).unwrap_or(params.span.clone());
            self.error(file, span, code, format!("{whose}:{problem}"));
        }
    }

    /// Parameters whose key names a path count from the configuration's folder. An empty path
    /// stays empty, for the adapter to refuse.
    fn resolved(&self, params: &file::Params) -> Value {
        let mut map = params.map.clone();
        let keys =
            ["path", "move-to", "feedback-to", "ca", "client-cert", "client-key", "key-file"];
        for key in keys {
            if let Some(Value::String(path)) = map.get_mut(key)
                && !path.trim().is_empty()
            {
                *path = self.folder.join(&*path).to_string_lossy().into_owned();
            }
        }
        Value::Object(map)
    }

    fn config(
        &mut self,
        gateway: file::GatewayFile,
        feeds: file::FeedsFile,
        domain: &Domain,
    ) -> Option<Config> {
        for (name, version) in [(GATEWAY, &gateway.config), (FEEDS, &feeds.config)] {
            if version.value != 1 {
                let span = version.span.clone();
                self.error(name, span, "config.version", "本程序只读第1版配置".into());
            }
        }
        let secrets = Resolver::new(self.folder);
        let keys = self.keys(gateway.keys, &secrets);
        self.links.config.clone_from(&keys);
        let listens = gateway.listen.is_some();
        let listen = gateway.listen.and_then(|listen| self.listen(listen));
        let asks =
            listen.as_ref().and_then(|listen| listen.tls.as_ref()).is_some_and(ListenTls::asks);
        let mut targets = Vec::new();
        for (name, target) in gateway.targets.0 {
            targets.extend(self.target(name, target, &secrets));
        }
        let feeds =
            self.feeds(feeds, &targets, Listening { at_all: listens, asks }, &secrets, domain);
        let default = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let default = u32::try_from(default).unwrap_or(1).min(256);
        if let Some(mappings) = gateway.mappings {
            self.path(mappings);
        }
        Some(Config {
            data: self.path(gateway.data),
            keys: keys?,
            listen,
            workers: size(self.number(GATEWAY, gateway.workers, default, 1..=256)),
            targets,
            feeds,
            warnings: Diagnostics::default(),
            files: Bundle::default(),
        })
    }

    fn listen(&mut self, listen: file::ListenFile) -> Option<Listen> {
        let tls = match listen.tls {
            None => None,
            Some(tls) => Some(self.listen_tls(tls)?),
        };
        match listen.address.value.parse() {
            Ok(address) => Some(Listen { address, tls }),
            Err(_) => {
                let message = "监听地址应写成 IP:端口,如 127.0.0.1:8480".to_owned();
                self.error(GATEWAY, listen.address.span, "config.address", message);
                None
            }
        }
    }

    fn target(
        &mut self,
        name: At<String>,
        target: file::TargetFile,
        secrets: &Resolver,
    ) -> Option<TargetConfig> {
        let id = TargetId::new(&name.value)
            .map_err(|e| self.error(GATEWAY, name.span, "config.id", e.to_string()))
            .ok();
        let batch = self.number(GATEWAY, target.batch, 200, 1..=5_000);
        let concurrency = self.number(GATEWAY, target.concurrency, 2, 1..=64);
        let cap_at = target.retry_cap_millis.as_ref().or(target.retry_base_millis.as_ref());
        let cap_at = cap_at.map(|given| given.span.clone()).unwrap_or_default();
        let base = self.number(GATEWAY, target.retry_base_millis, 2_000, 1..=86_400_000);
        let cap = self.number(GATEWAY, target.retry_cap_millis, 300_000, 1..=86_400_000);
        if base > cap {
            let message = "retry-cap-millis 不能小于 retry-base-millis".to_owned();
            self.error(GATEWAY, cap_at, "config.range", message);
        }
        let max_attempts = self.number(GATEWAY, target.max_attempts, 30, 1..=1_000_000);
        let lease = self.number(GATEWAY, target.lease_seconds, 120, 5..=86_400);
        let seal = target.seal.and_then(|seal| self.seal(seal));
        let link = format!("投递目标 {}", name.value);

        let Some(factory) = xinqiao_adapters::targets::find(&target.kind.value) else {
            let known: Vec<_> =
                xinqiao_adapters::targets::TARGETS.iter().map(|t| t.kind()).collect();
            let message = format!("没有这种投递目标,可用的有:{}", known.join("、"));
            self.error(GATEWAY, target.kind.span, "config.target-kind", message);
            return None;
        };
        let secrets = self.link_secrets(GATEWAY, &link, target.tls, secrets);
        let (id, secrets) = (id?, secrets?);
        match factory.build(&id, &self.resolved(&target.params.value), &secrets) {
            Ok(built) => Some(TargetConfig {
                id,
                target: built,
                seal,
                batch: size(batch),
                concurrency: size(concurrency),
                retry: RetryPolicy {
                    base: Duration::from_millis(base.into()),
                    cap: Duration::from_millis(cap.into()),
                    max_attempts,
                },
                lease: Duration::from_secs(lease.into()),
            }),
            Err(problems) => {
                self.problems(GATEWAY, "config.target", &link, &target.params, problems);
                None
            }
        }
    }

    fn feeds(
        &mut self,
        file: file::FeedsFile,
        targets: &[TargetConfig],
        listening: Listening,
        secrets: &Resolver,
        domain: &Domain,
    ) -> Vec<FeedConfig> {
        let (mut agencies, mut shown_by) = (BTreeMap::new(), BTreeMap::new());
        for (name, agency) in file.agencies.0 {
            let files = agency.certificates.map(|files| files.0).unwrap_or_default();
            let signers = self.certificates(FEEDS, files, "签名证书", Certificate::may_sign);
            let shown = self.client_certificates(agency.client_certificates);
            for (digest, span) in &shown {
                if let Some(other) = shown_by.insert(*digest, name.value.clone()) {
                    let message = format!("委办局 {other} 已登记这份证书");
                    self.error(FEEDS, span.clone(), "config.same-certificate", message);
                } else if listening.at_all && !listening.asks {
                    let message = "gateway.yaml 的 listen.tls 没有写 clients: optional 或 required,客户端不会出示证书,该局推送会全部被拒绝";
                    self.error(
                        FEEDS,
                        span.clone(),
                        "config.unasked-certificate",
                        message.to_owned(),
                    );
                }
            }
            let client_certificates = shown.into_iter().map(|(digest, _)| digest).collect();
            match AgencyId::new(&name.value) {
                Ok(id) => {
                    self.duties(&id, agency.duties, &domain.catalogue);
                    let agency = Agency { id, name: agency.name, signers, client_certificates };
                    agencies.insert(name.value, agency);
                }
                Err(e) => self.error(FEEDS, name.span, "config.id", e.to_string()),
            }
        }
        let mut tokens = BTreeMap::new();
        let mut feeds = Vec::new();
        for (name, feed) in file.feeds.0 {
            let kind = feed.source.kind.clone();
            let built = self.feed(&name, feed, &agencies, targets, secrets, domain);
            let pushed = xinqiao_adapters::sources::find_listener(&kind.value).is_some();
            if (pushed || kind.value == "push") && !listening.at_all {
                let message = "gateway.yaml 没有 listen,推送的报文到不了".to_owned();
                self.tell(Level::Warning, FEEDS, kind.span, "config.no-listen", message);
            }
            let Some(built) = built else { continue };
            if let FeedSource::Push { token, .. } = &built.source
                && let Some(other) = tokens.insert(*token, name.value)
            {
                let message = format!("令牌与接入任务 {other} 相同:每个推送任务须有自己的令牌");
                self.error(FEEDS, name.span, "config.same-token", message);
            }
            feeds.push(built);
        }
        feeds
    }

    fn feed(
        &mut self,
        name: &At<String>,
        feed: file::FeedFile,
        agencies: &BTreeMap<String, Agency>,
        targets: &[TargetConfig],
        secrets: &Resolver,
        domain: &Domain,
    ) -> Option<FeedConfig> {
        let id = FeedId::new(&name.value)
            .map_err(|e| self.error(FEEDS, name.span.clone(), "config.id", e.to_string()))
            .ok();
        let agency = agencies.get(&feed.agency.value);
        if agency.is_none() {
            let message = "agencies 中没有这个委办局".to_owned();
            self.error(FEEDS, feed.agency.span, "config.agency", message);
        }
        let mapping = MappingId::new(&feed.mapping.value)
            .ok()
            .and_then(|id| domain.mappings.get(&id).map(|(_, mapping)| Arc::clone(mapping)));
        if mapping.is_none() {
            let known = domain.mappings.keys().map(MappingId::as_str);
            let near = yaml::nearest(&feed.mapping.value, known);
            let hint = near.map_or_else(String::new, |near| format!(",是否想写“{near}”?"));
            let message = format!("没有这个映射规则{hint}");
            self.error(FEEDS, feed.mapping.span, "config.mapping", message);
        }
        let mut wanted: Vec<TargetId> = Vec::new();
        // Lines of the mapping table stay here; every record needs a place to go.
        let table = mapping.as_ref().is_some_and(|mapping| is_uscc_map(&mapping.target));
        if table && !feed.targets.value.0.is_empty() {
            let message = "对照表(uscc-map)留在网关,不投递:targets 应写 []".to_owned();
            self.error(FEEDS, feed.targets.span.clone(), "config.table-target", message);
        }
        if !table && feed.targets.value.0.is_empty() {
            let message = "至少要有一个投递目标,否则记录收下后无处可投".to_owned();
            self.error(FEEDS, feed.targets.span, "config.no-target", message);
        }
        for target in feed.targets.value.0 {
            match targets.iter().find(|t| t.id.as_str() == target.value) {
                Some(known) if wanted.contains(&known.id) => {
                    let message = "同一个投递目标写了两次".to_owned();
                    self.error(FEEDS, target.span, "config.same-target", message);
                }
                Some(known) => wanted.push(known.id.clone()),
                None => {
                    let message = "gateway.yaml 的 targets 中没有(或未能建立)这个投递目标";
                    self.error(FEEDS, target.span, "config.feed-target", message.to_owned());
                }
            }
        }
        let megabytes = self.number(FEEDS, feed.max_megabytes, 1_024, 1..=102_400);
        let source = self.source(&name.value, feed.source, secrets, mapping.as_deref());
        let agency = agency?;
        let envelope = self.envelope(feed.envelope, &agency.signers);
        Some(FeedConfig {
            id: id?,
            agency: agency.id.clone(),
            agency_name: agency.name.clone(),
            client_certificates: Arc::clone(&agency.client_certificates),
            mapping: mapping?,
            targets: wanted.into(),
            source: source?,
            envelope,
            max_bytes: u64::from(megabytes) << 20,
        })
    }

    fn source(
        &mut self,
        feed: &str,
        file: file::SourceFile,
        secrets: &Resolver,
        mapping: Option<&Mapping>,
    ) -> Option<FeedSource> {
        let params = self.resolved(&file.params.value);
        let whose = format!("接入任务 {feed}");
        let tls_at = file.tls.as_ref().map(|tls| tls.policy.span.clone());
        let secrets = &self.link_secrets(FEEDS, &whose, file.tls, secrets)?;
        let built = if file.kind.value == "push" {
            secrets::push(&params, secrets).map(|(token, per_minute)| FeedSource::Push {
                kind: file.kind.value.clone(),
                token,
                per_minute,
                listener: None,
            })
        } else if let Some(factory) = xinqiao_adapters::sources::find_listener(&file.kind.value) {
            let mapping = mapping?;
            let (ours, theirs) = split(&params);
            let listener = factory.build(feed, &mapping.format, &mapping.columns(), &theirs);
            match (secrets::push(&ours, secrets), listener) {
                (Ok((token, per_minute)), Ok(listener)) => Ok(FeedSource::Push {
                    kind: file.kind.value.clone(),
                    token,
                    per_minute,
                    listener: Some(listener),
                }),
                (ours, theirs) => {
                    Err([ours.err(), theirs.err()].into_iter().flatten().flatten().collect())
                }
            }
        } else {
            let Some(factory) = xinqiao_adapters::sources::find(&file.kind.value) else {
                let mut known: Vec<_> =
                    xinqiao_adapters::sources::SOURCES.iter().map(|s| s.kind()).collect();
                known.push("push");
                known.extend(xinqiao_adapters::sources::LISTENERS.iter().map(|l| l.kind()));
                let message = format!("没有这种数据源,可用的有:{}", known.join("、"));
                self.error(FEEDS, file.kind.span, "config.source-kind", message);
                return None;
            };
            let kind = file.kind.value.clone();
            factory.build(&params, secrets).map(|source| FeedSource::Pull { kind, source })
        };
        if built.is_ok() && secrets.left_over() {
            let message = format!("{whose}:数据源 {} 不建立连接,请去掉 tls", file.kind.value);
            self.error(FEEDS, tls_at.unwrap_or_default(), "config.tls", message);
        }
        match file.kind.value.as_str() {
            "folder" => self.watch(feed, &file.params, &params),
            kind @ ("ftp" | "sftp") => self.watch_remote(feed, &file.params, kind, &params),
            _ => {}
        }
        built
            .map_err(|problems| {
                self.problems(FEEDS, "config.source", &whose, &file.params, problems);
            })
            .ok()
    }

    /// What only the place itself shows: whether the folder is there, and whether two feeds would
    /// take the same files.
    fn watch(&mut self, feed: &str, written: &At<file::Params>, params: &Value) {
        let text = |key: &str| params.get(key).and_then(Value::as_str);
        let Some(path) = text("path").filter(|path| !path.trim().is_empty()) else { return };
        let pattern = text("pattern").unwrap_or("*").to_owned();
        let span = |key| written.value.place(key).unwrap_or(written.span.clone());
        let path = Path::new(path);
        match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                let message = format!("接入任务 {feed}:参数 path 所指的不是目录");
                self.error(FEEDS, span("path"), "config.folder", message);
            }
            Err(error) => {
                let why = io_words(&error);
                let message = format!(
                    "接入任务 {feed}:参数 path 所指的目录现在不可用({why});若是稍后才挂载,可不理会"
                );
                self.tell(Level::Warning, FEEDS, span("path"), "config.folder", message);
            }
        }
        let path = path.canonicalize().unwrap_or_else(|_| path.components().collect());
        self.watch_once(feed, written, "path", path, pattern);
    }

    /// A folder of a file server: the same server by another name is not seen through.
    fn watch_remote(&mut self, feed: &str, written: &At<file::Params>, kind: &str, params: &Value) {
        let text = |key: &str| params.get(key).and_then(Value::as_str).unwrap_or_default();
        let usual = match (kind, text("security")) {
            ("sftp", _) => 22,
            (_, "implicit") => 990,
            _ => 21,
        };
        let port = params.get("port").and_then(Value::as_u64).unwrap_or(usual);
        let (host, folder) = (text("host").to_lowercase(), text("directory"));
        // What has no leading slash begins at the user's own folder.
        let user = if folder.starts_with('/') { "" } else { text("user") };
        let place = Path::new(kind).join(format!("{host}:{port}")).join(user);
        let place = place.join(folder.trim_matches('/'));
        let pattern = text("pattern");
        let pattern = if pattern.is_empty() { "*" } else { pattern }.to_owned();
        self.watch_once(feed, written, "directory", place.components().collect(), pattern);
    }

    /// Tells of another feed that would take the same files.
    fn watch_once(
        &mut self,
        feed: &str,
        written: &At<file::Params>,
        key: &str,
        path: PathBuf,
        pattern: String,
    ) {
        let span = |key| written.value.place(key).unwrap_or(written.span.clone());
        let other = self
            .watched
            .iter()
            .find(|(_, known, other)| *known == path && glob::overlap(other, &pattern));
        if let Some((other, ..)) = other {
            let message = format!(
                "接入任务 {feed} 与 {other} 监视同一目录,pattern 又有重叠,同一文件会被两个任务各收一次:\
                 请换目录,或使 pattern 互不重叠"
            );
            let at = if written.value.map.contains_key("pattern") { "pattern" } else { key };
            self.error(FEEDS, span(at), "config.same-folder", message);
        }
        self.watched.push((feed.to_owned(), path, pattern));
    }
}

/// The parameters every push has, and those of its dialect.
fn split(params: &Value) -> (Value, Value) {
    let (ours, theirs) = params
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .partition(|(key, _)| matches!(key.as_str(), "token" | "per-minute"));
    (Value::Object(ours), Value::Object(theirs))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
