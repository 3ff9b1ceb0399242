//! A gateway's site: its configuration, its disk, its process, and the platform it delivers to.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::model::FeedId;
use xinqiao_store::{ItemState, Store, StoreOptions};
use xinqiao_tests::{Result, World};

/// The feed whose files are deleted once they are held, and answered by a file each.
pub(crate) const TAKEN: &str = "taken";

/// Everything lies under `disk` but configuration and keys: the data folder, the files of an agency
/// and what it is told.
pub(crate) struct Site {
    pub(crate) world: Arc<World>,
    pub(crate) platform: Platform,
    pub(crate) address: SocketAddr,
}

impl Site {
    pub(crate) async fn new() -> Result<Self> {
        let options = PlatformOptions { break_every: Some(7), ..PlatformOptions::default() };
        let platform = Platform::start(options).await?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let feed = format!(
            "  {TAKEN}:
    agency: made
    mapping: made-csv
    targets: [platform]
    source:
      kind: folder
      params:
        path: disk/in
        settle-seconds: 0
        poll-seconds: 0.02
        confirm-seconds: 0
        after: delete
        feedback-to: disk/told
"
        );
        let world = World::with(&platform.url(), &address.to_string(), &[], &feed)?;
        std::fs::create_dir(world.path().join("disk"))?;
        std::os::unix::fs::symlink("disk/data", world.data())?;
        Ok(Self { world: Arc::new(world), platform, address })
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.world.path().join("disk")
    }

    /// Makes the folders on the disk, durably.
    pub(crate) fn furnish(&self) -> Result<()> {
        for folder in ["data", "in", "told"] {
            std::fs::create_dir(self.disk().join(folder))?;
        }
        Ok(File::open(self.disk())?.sync_all()?)
    }

    /// An agency puts a file into its folder, durably.
    pub(crate) fn put(&self, name: &str, text: &str) -> Result<()> {
        let folder = self.disk().join("in");
        let begun = folder.join(format!(".{name}.tmp"));
        let mut file = File::create(&begun)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(begun, folder.join(name))?;
        Ok(File::open(folder)?.sync_all()?)
    }

    /// Whether a file still lies in the agency's folder.
    pub(crate) fn lies(&self, name: &str) -> Result<bool> {
        Ok(self.disk().join("in").join(name).try_exists()?)
    }

    /// The store, with no gateway running.
    pub(crate) fn store(&self) -> Result<Store> {
        let key = xinqiao::keys::storage_key(&self.world.config()?.keys)?;
        let clock = Arc::new(SystemClock);
        Ok(Store::open(&self.world.data(), StoreOptions::default(), clock, key)?)
    }

    /// Runs a gateway in this process until nothing is under way.
    pub(crate) async fn settle(&self) -> Result<()> {
        let (config, clock) = (self.world.config()?, Arc::new(SystemClock));
        let gateway = Gateway::start(config, self.world.domain(), clock).await?;
        let rest = until("the gateway is at rest", async || at_rest(gateway.store())).await;
        gateway.stop().await;
        rest
    }
}

fn at_rest(store: &Store) -> Result<bool> {
    let status = store.status()?;
    let moving = [ItemState::Ready, ItemState::Waiting, ItemState::Leased];
    let mut items = status.targets.values().flat_map(|target| &target.states);
    Ok(status.feeds.values().all(|feed| feed.pending_messages == 0)
        && items.all(|(state, count)| *count == 0 || !moving.contains(state))
        && store.feedback_pending(&taken()?, None, 1)?.is_empty())
}

pub(crate) fn taken() -> Result<FeedId> {
    Ok(FeedId::new(TAKEN)?)
}

/// Looks again and again until `met`; fails after a minute, naming what it waited for.
pub(crate) async fn until(what: &str, mut met: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !met().await? {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("waited in vain: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The gateway as a process; it never outlives this one.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `xinqiao serve` with more in its environment. Its log is `log`.
    pub(crate) fn start(site: &Site, log: &str, environment: &[(&str, String)]) -> Result<Self> {
        let path = site.world.path().join(log);
        // However this process ends, the kernel ends the gateway too.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program()?)
            .args(["serve", "--config"])
            .arg(site.world.path())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::options().create(true).append(true).open(&path)?)
            .spawn()?;
        Ok(Self { child, log: path })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL. It must not have ended by itself.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        if status.signal() == Some(9) {
            return Ok(());
        }
        Err(format!("the gateway had ended by itself ({status}): {}", self.told()?).into())
    }

    /// SIGKILL, if it has not ended by itself.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn stop(&mut self) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.id())?;
        let id = rustix::process::Pid::from_raw(id).ok_or("no process")?;
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        until("the gateway stops", async || Ok(self.ended()?.is_some())).await?;
        self.ended()?.ok_or_else(|| "it runs on".into())
    }

    /// What it has said so far.
    pub(crate) fn told(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already unless something else has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something answers there.
pub(crate) fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// `xinqiao`, built with this program.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let path = folder.join("xinqiao-of-tests");
    if path.try_exists()? { Ok(path) } else { Err("build every program of the tests first".into()) }
}
