//! Opening: directory, database, keys, and giving back what a former process held.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use redb::{Builder, Database, DatabaseError, StorageError};
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{FeedId, TargetId};
use xinqiao_core::spi::Clock;

use crate::committer::{Committer, Signals, State, Tx, transact};
use crate::encode::{Meta, feed_counters};
use crate::seal::Seals;
use crate::storage_key::Wrapped;
use crate::{Gauge, OpenError, Shared, StorageKey, Store, StoreError, StoreOptions};

/// The database's file name.
pub(crate) const DATABASE: &str = "store.redb";
/// What this program writes and reads.
const FORMAT: u32 = 4;
/// The oldest it reads: format 3 knows no mapping table and no held rows.
const OLDEST: u32 = 3;

/// Where things lie under the store's directory.
pub(crate) struct Layout {
    pub dir: PathBuf,
}

impl Layout {
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.join("spool")
    }

    /// `blobs/aa/<64 hex digits>`.
    pub(crate) fn blob(&self, name: &[u8; 32]) -> PathBuf {
        let name = xinqiao_crypto::hex(name);
        self.dir.join("blobs").join(name.get(..2).unwrap_or("00")).join(name)
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
    key: StorageKey,
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
    create(&builder, &path)?;
    let db = open_db(&builder, &path).map_err(engine)?;
    if path.is_file() {
        // The engine makes it as the umask says.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(io)?;
    }
    // Its entry in the folder too must outlive a power cut, before anything in it is promised.
    sync_dir(dir).map_err(io)?;
    // Only now, with the lock held, may files be touched that another process might be using.
    clean_spool(&layout.spool()).map_err(io)?;

    let seals = Arc::new(Seals::new(key));
    let mut state = State::new(Arc::clone(&seals));
    let pending = transact(&db, options.quick_repair, &mut state, clock.now(), load)?;
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
        key: seals.identity()?.clone(),
        seals,
        gauge: Gauge::new(options.reserve_bytes),
        spooled: AtomicU64::new(0),
        damaged: Default::default(),
    })))
}

/// Makes an empty database, whole before it bears its name: the engine does not open one whose making
/// was cut short. Whoever of several processes comes first makes it.
fn create(builder: &Builder, path: &Path) -> Result<(), OpenError> {
    if path.try_exists().map_err(io)? {
        return Ok(());
    }
    let begun = path.with_extension(format!("new-{}", std::process::id()));
    let made = match fs::remove_file(&begun) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(error)),
        _ => builder.create(&begun).map(drop).map_err(engine),
    };
    let named = made.and_then(|()| match fs::hard_link(&begun, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io(error)),
        _ => Ok(()),
    });
    // One that stays does no harm.
    let _ = fs::remove_file(&begun);
    named
}

/// Checks format and keys, takes in what the committer keeps in memory; how many messages wait.
fn load(tx: &mut Tx<'_>) -> Result<u64, OpenError> {
    let format: Option<u32> = tx.tables.meta.read(b"format")?;
    match format {
        Some(other) if other > FORMAT => return Err(OpenError::TooNew(other)),
        Some(other) if other < OLDEST => return Err(OpenError::TooOld(other)),
        _ => {}
    }
    let identity: Option<Wrapped> = tx.tables.meta.read(b"identity")?;
    if format.is_some() && identity.is_none() {
        return Err(OpenError::Io("存储损坏,缺少识别记录的密钥:请恢复备份".to_owned()));
    }
    let mut segments = Vec::new();
    tx.tables.segment.scan(b"", |id, value| {
        let id = id.try_into().map_err(|_| StoreError::Corrupt("段号的长度不对".to_owned()))?;
        segments.push((u32::from_be_bytes(id), value.decode()?));
        Ok(true)
    })?;
    let identity = tx.state.seals.load(identity, segments)?;
    tx.tables.meta.put(b"format", &FORMAT)?;
    tx.tables.meta.put(b"identity", &identity)?;
    Ok(fill(tx)?)
}

fn fill(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    tx.state.meta = tx.tables.meta.read(b"positions")?.unwrap_or(Meta {
        next_message: 1,
        next_item: 1,
        ..Meta::default()
    });
    tx.state.feedback = tx.tables.meta.read(crate::feedback::META)?.unwrap_or_default();
    tx.state.undeduped = tx.tables.meta.read(crate::queue::UNDEDUPED)?.unwrap_or_default();
    let mut feeds = Vec::new();
    tx.tables.feed.scan(b"", |name, value| {
        feeds.push((parse_id(name, FeedId::new)?, feed_counters(&value.open()?)?));
        Ok(true)
    })?;
    let mut targets = Vec::new();
    tx.tables.target.scan(b"", |name, value| {
        targets.push((parse_id(name, TargetId::new)?, value.decode()?));
        Ok(true)
    })?;
    tx.state.feeds = feeds.into_iter().collect();
    tx.state.targets = targets.into_iter().collect();
    crate::queue::give_back_all(tx)?;
    tx.tables.pending.len()
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

/// Bodies that were being received when the process ended: nobody was told they are held.
fn clean_spool(spool: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(spool)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

fn engine(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::Locked,
        DatabaseError::Storage(StorageError::Io(error)) => io(error),
        other => OpenError::Io(other.to_string()),
    }
}

fn io(error: std::io::Error) -> OpenError {
    OpenError::Io(io_words(&error).into_owned())
}
