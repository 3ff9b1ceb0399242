//! A gateway's folder: configuration, mappings, an intake folder, a data folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xinqiao::config::{self, Config};
use xinqiao::domain::{self, Domain};
use xinqiao::keys;
use xinqiao_core::diagnostic::Bundle;
use xinqiao_core::model::Timestamp;
use xinqiao_crypto::x509::parse_name;

use crate::{Result, mapping};

/// The push feed's token.
pub const TOKEN: &str = "a-token-for-tests-only";

/// The push feed; the folder feeds are `folder` and `second`.
pub const PUSH: &str = "push";

/// Makes the keys of a folder whose `gateway.yaml` has [`KEYS`]; fewer iterations than in earnest.
pub fn make_keys(folder: &Path) -> Result<()> {
    write_private(&folder.join("passphrase"), "a passphrase for tests only")?;
    let subject = parse_name("CN=gateway,O=test,C=CN").map_err(|error| error.to_string())?;
    let config = config::keys(folder).map_err(|errors| errors.to_string())?;
    keys::init(&config, &subject, MADE, 10).map_err(|error| error.to_string())?;
    Ok(())
}

/// Writes a file that nobody else may read, as a passphrase's must be.
pub fn write_private(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text)?;
    Ok(std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))?)
}

/// 2026-01-01 in Asia/Shanghai: certificates made for tests hold for three years from here.
const MADE: Timestamp = Timestamp(1_767_196_800_000);

/// The line of a `gateway.yaml` for [`make_keys`].
pub const KEYS: &str = "keys: { folder: keys, passphrase: { file: passphrase } }";

/// Removed with everything in it when dropped.
#[derive(Debug)]
pub struct World {
    folder: tempfile::TempDir,
    domain: Arc<Domain>,
}

impl World {
    /// Writes a configuration that delivers to `url` and listens on `listen`.
    pub fn new(url: &str, listen: &str) -> Result<Self> {
        Self::with(url, listen, &[], "")
    }

    /// As [`World::new`], with more mappings (by path) and more feeds (as in `feeds.yaml`).
    pub fn with(
        url: &str,
        listen: &str,
        mappings: &[(&str, String)],
        more_feeds: &str,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        let gateway = format!(
            "config: 1
data: data
mappings: mappings
{KEYS}
listen: {{ address: \"{listen}\" }}
workers: 2
targets:
  platform:
    kind: rest
    params: {{ url: \"{url}\" }}
    retry-base-millis: 20
    retry-cap-millis: 200
    max-attempts: 1000000
    lease-seconds: 5
"
        );
        let folder_feed = |id: &str, path: &str| {
            format!(
                "  {id}:
    agency: made
    mapping: made-csv
    targets: [platform]
    source:
      kind: folder
      params: {{ path: {path}, settle-seconds: 0, poll-seconds: 0.02 }}
"
            )
        };
        let feeds = format!(
            "config: 1
agencies:
  made: {{ name: 样例局 }}
feeds:
{}{}  {PUSH}:
    agency: made
    mapping: made-ndjson
    targets: [platform]
    source:
      kind: push
      params: {{ token: {{ file: token }}, per-minute: 100000000 }}
",
            folder_feed("folder", "in"),
            folder_feed("second", "in-second"),
        ) + more_feeds;
        std::fs::write(root.join("gateway.yaml"), gateway)?;
        std::fs::write(root.join("feeds.yaml"), feeds)?;
        std::fs::write(root.join("token"), TOKEN)?;
        make_keys(root)?;
        std::fs::create_dir(root.join("in"))?;
        std::fs::create_dir(root.join("in-second"))?;

        // The catalogue and the calendar as shipped, and only our own mappings.
        let mut files = domain::bundle(None)?.0;
        files.retain(|path, _| !path.starts_with("agencies/"));
        for format in ["csv", "workbook", "ndjson"] {
            files.insert(format!("agencies/made/{format}.yaml"), mapping(format));
        }
        files.extend(mappings.iter().map(|(path, text)| ((*path).to_owned(), text.clone())));
        for (name, text) in &files {
            let path = root.join("mappings").join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(root))?;
            std::fs::write(path, text)?;
        }
        let domain = Domain::load(Bundle(files)).map_err(|errors| errors.to_string())?;
        Ok(Self { folder, domain: Arc::new(domain) })
    }

    /// Adds a mapping and a feed: the text of each, the feed's as an entry of `feeds`.
    pub fn add(&mut self, mapping: &str, name: &str, feed: &str) -> Result<()> {
        let root = self.folder.path();
        std::fs::write(root.join(format!("mappings/agencies/made/{name}.yaml")), mapping)?;
        let file = root.join("feeds.yaml");
        let feeds = std::fs::read_to_string(&file)? + feed;
        std::fs::write(file, feeds)?;
        let files = domain::bundle(Some(&root.join("mappings")))?;
        self.domain = Arc::new(Domain::load(files).map_err(|errors| errors.to_string())?);
        Ok(())
    }

    /// The configuration's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The durable state.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Catalogue, calendar and the mappings `made-csv`, `made-workbook` and `made-ndjson`.
    pub fn domain(&self) -> Arc<Domain> {
        Arc::clone(&self.domain)
    }

    /// The configuration, read anew.
    pub fn config(&self) -> Result<Config> {
        config::load(self.path(), &self.domain).map_err(|errors| errors.to_string().into())
    }

    /// Puts a whole file into the folder of the feed `folder` (`in`) or `second` (`in-second`).
    pub fn put(&self, folder: &str, name: &str, text: &str) -> Result<()> {
        let folder = self.path().join(folder);
        let begun = folder.join(format!(".{name}.tmp"));
        std::fs::write(&begun, text)?;
        Ok(std::fs::rename(begun, folder.join(name))?)
    }
}
