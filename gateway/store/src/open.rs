//! Opening: directory, secret, database, and giving back what a former process held.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redb::{Builder, Database, DatabaseError, ReadableTableMetadata as _, StorageError};
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{FeedId, TargetId};
use xinqiao_core::spi::Clock;
use xinqiao_crypto::DigestKey;

use crate::committer::{Committer, Signals, State, Tx, transact};
use crate::encode::Meta;
use crate::tables::{Rows as _, Writes as _, engine};
use crate::{Gauge, OpenError, Shared, Store, StoreError, StoreOptions};

/// The database's file name.
pub(crate) const DATABASE: &str = "store.redb";
/// What this program writes and reads.
const FORMAT: u32 = 2;
/// What the key's check value is the keyed digest of.
const KEY_CHECK: &[u8] = b"xinqiao-store identity key";

/// Where things lie under the store's directory.
pub(crate) struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// `blobs/aa/<64 hex digits>`.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest.get(..2).unwrap_or("00")).join(digest)
    }
}

/// Makes a file's entry in its directory durable.
pub(crate) fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory only its owner may enter, durably; one that is there already will do.
pub(crate) fn make_dir(dir: &Path) -> std::io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), |parent| {
            sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        }),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens a store with the database that `open_db` makes of the builder and the file's path.
pub(crate) fn open(
    dir: &Path,
    options: &StoreOptions,
    clock: Arc<dyn Clock>,
    open_db: impl FnOnce(&Builder, &Path) -> Result<Database, DatabaseError>,
) -> Result<Store, OpenError> {
    fs::create_dir_all(dir.parent().unwrap_or(dir)).map_err(io)?;
    let layout = Layout { dir: dir.to_owned() };
    [layout.dir.clone(), layout.spool(), dir.join("blobs")]
        .iter()
        .try_for_each(|dir| make_dir(dir))
        .map_err(io)?;

    let path = dir.join(DATABASE);
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    let db = open_db(&builder, &path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked,
        DatabaseError::Storage(StorageError::Io(error)) => io(error),
        other => OpenError::Io(other.to_string()),
    })?;
    if path.is_file() {
        // The engine makes it as the umask says.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io)?;
    }
    // Only now, with the lock held, may files be touched that another process might be using.
    clean_spool(&layout.spool()).map_err(io)?;

    let mut state = State::default();
    let loaded =
        transact(&db, options.quick_repair, &mut state, clock.now(), |tx| Ok(load(tx, dir)))
            .map_err(|error| OpenError::Io(error.to_string()))?;
    let (key, pending) = loaded?;
    tracing::info!(pending, "store opened");

    let db = Arc::new(db);
    let signals = Arc::new(Signals::new());
    let (committer, thread) =
        Committer::start(Arc::clone(&db), options.quick_repair, state, clock, Arc::clone(&signals))
            .map_err(io)?;
    Ok(Store::of(Arc::new(Shared {
        committer: Some(committer),
        thread: Some(thread),
        db,
        signals,
        layout,
        key,
        gauge: Gauge::new(options.reserve_bytes),
        spooled: AtomicU64::new(0),
    })))
}

/// Checks format and key, and takes in what the committer keeps in memory.
fn load(tx: &mut Tx<'_>, dir: &Path) -> Result<(DigestKey, u64), OpenError> {
    let format: Option<u32> = tx.tables.meta.read(b"format").map_err(store)?;
    match format {
        Some(other) if other > FORMAT => return Err(OpenError::TooNew(other)),
        Some(other) if other < FORMAT => return Err(OpenError::TooOld(other)),
        _ => {}
    }
    let check: Option<[u8; 16]> = tx.tables.meta.read(b"key-check").map_err(store)?;
    let key = match (check, read_key(dir).map_err(io)?) {
        // Nothing was ever committed under a key: a first open, or one that did not get this far.
        (None, None) => make_key(dir).map_err(io)?,
        (None, Some(key)) => key,
        (Some(check), Some(key)) if check == check_value(&key) => key,
        (Some(_), found) => {
            let what = if found.is_some() { "与数据库不符" } else { "缺失" };
            return Err(OpenError::Io(format!(
                "identity.key{what}:没有它就认不出已有的记录,会把旧记录当作新记录重新投递;\
                 请从备份中恢复该文件"
            )));
        }
    };
    let pending = fill(tx, &key).map_err(store)?;
    Ok((key, pending))
}

fn fill(tx: &mut Tx<'_>, key: &DigestKey) -> Result<u64, StoreError> {
    tx.tables.meta.put(b"format", &FORMAT)?;
    tx.tables.meta.put(b"key-check", &check_value(key))?;
    tx.state.meta = tx.tables.meta.read(b"positions")?.unwrap_or(Meta {
        next_message: 1,
        next_item: 1,
        ..Meta::default()
    });
    let mut feeds = Vec::new();
    tx.tables.feed.scan(b"", |name, value| {
        feeds.push((parse_id(name, FeedId::new)?, crate::encode::decode(value)?));
        Ok(true)
    })?;
    let mut targets = Vec::new();
    tx.tables.target.scan(b"", |name, value| {
        targets.push((parse_id(name, TargetId::new)?, crate::encode::decode(value)?));
        Ok(true)
    })?;
    tx.state.feeds = feeds.into_iter().collect();
    tx.state.targets = targets.into_iter().collect();
    crate::queue::give_back_all(tx)?;
    let pending = tx.tables.pending.len().map_err(engine)?;
    Ok(pending)
}

/// An identifier that stands in a key.
pub(crate) fn parse_id<T, E>(
    bytes: &[u8],
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, StoreError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| parse(text).ok())
        .ok_or_else(|| StoreError::Corrupt("键中的标识不对".to_owned()))
}

fn check_value(key: &DigestKey) -> [u8; 16] {
    crate::short(key.digest(KEY_CHECK))
}

fn read_key(dir: &Path) -> std::io::Result<Option<DigestKey>> {
    match fs::read(dir.join("identity.key")) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(secret) => Ok(Some(DigestKey::new(secret))),
            Err(_) => Err(std::io::Error::other("identity.key不是32字节")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Written aside and renamed, so that a crash leaves a whole key or none.
fn make_key(dir: &Path) -> std::io::Result<DigestKey> {
    let mut secret = [0; 32];
    let mut filled = 0;
    while let Some(rest) = secret.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty())?;
    }
    let aside = dir.join("identity.key.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&aside, dir.join("identity.key"))?;
    sync_dir(dir)?;
    Ok(DigestKey::new(secret))
}

/// Bodies that were being received when the process ended: nobody was told they are held.
fn clean_spool(spool: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(spool)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn store(error: StoreError) -> OpenError {
    OpenError::Io(error.to_string())
}

fn io(error: std::io::Error) -> OpenError {
    OpenError::Io(io_words(&error).into_owned())
}
