//! Every call that changes the disk, failed once; and a message that kills whoever touches it.
//!
//! A workload's calls are counted first, then it runs once for each of them, which fails (`EIO`,
//! `ENOSPC`); afterwards the books must agree as if nothing had happened. Covered by the shim:
//! write, sync, truncation, creation, renaming and removal of the database, of spooled bodies and
//! long payloads, of their folders, of the agency's files and of the feedback files.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use xinqiao_tests::Result;

use crate::books::{Sources, Sums};
use crate::disk::done;
use crate::random::Random;
use crate::site::{Process, Site, listens, until};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// What the store says in the log.
const STOPPED: &str = "the store has stopped";
/// A process that fails to start is started again so often.
const STARTS: usize = 12;

/// The shim, built.
pub(crate) struct Shim {
    _folder: tempfile::TempDir,
    library: PathBuf,
}

impl Shim {
    pub(crate) fn build() -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fault/shim.c");
        let folder = tempfile::tempdir()?;
        let library = folder.path().join("shim.so");
        let options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"];
        done(Command::new("cc").args(options).arg(&library).arg(source))?;
        Ok(Self { _folder: folder, library })
    }

    pub(crate) fn environment(
        &self,
        site: &Site,
        more: &[(&'static str, String)],
    ) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        let mut all = vec![
            ("LD_PRELOAD", text(&self.library)),
            ("FAULT_ROOT", text(site.world.path())),
            ("FAULT_LOG", text(&site.world.path().join("calls"))),
        ];
        all.extend_from_slice(more);
        all
    }
}

/// What the gateway did about a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reaction {
    /// The store stopped with an unknown outcome, and the process with it.
    Stopped,
    /// It did not start.
    NotStarted,
    /// Another part could not go on, and the process ended.
    Ended,
    /// It went on: the one thing failed, or nothing depended on it.
    WentOn,
    /// It had been told to stop, and was closing the database: what is durable stays so.
    Closing,
    /// The call was not made this time.
    NotMade,
}

/// What a call acts on, by a part of its path; the first that fits.
const OBJECTS: [(&str, &str); 8] = [
    ("store.redb", "database"),
    ("store.new-", "database being made"),
    ("control.sock", "control socket"),
    ("/blobs", "long payload"),
    ("/spool", "spool"),
    ("/told", "feedback"),
    ("/in/", "agency's file"),
    ("", "data folder"),
];

fn object(path: &str) -> (&'static str, &'static str) {
    OBJECTS.into_iter().find(|(part, _)| path.contains(part)).unwrap_or(("", "data folder"))
}

/// The so many-th call of a name on a part of the paths, and how it fails.
#[derive(Debug)]
struct Failing<'a> {
    name: &'a str,
    object: (&'static str, &'static str),
    at: usize,
    error: i32,
}

struct Call {
    number: u64,
    name: String,
    fails: bool,
    path: String,
}

fn calls(site: &Site) -> Result<Vec<Call>> {
    let text = std::fs::read_to_string(site.world.path().join("calls"))?;
    let call = |line: &str| {
        let (number, rest) = line.split_once(' ')?;
        let (name, rest) = rest.split_once(' ')?;
        let failing = rest.strip_prefix("FAILS ");
        Some(Call {
            number: number.parse().ok()?,
            name: name.to_owned(),
            fails: failing.is_some(),
            path: failing.unwrap_or(rest).to_owned(),
        })
    };
    text.lines().map(|line| call(line).ok_or_else(|| "the shim's log is torn".into())).collect()
}

/// Fails each call once, or one of each kind (`all` is false).
pub(crate) async fn each_once(all: bool, random: &mut Random) -> Result<Sums> {
    let shim = Shim::build()?;
    let mut sums = Sums::default();
    let (site, _) = work(&shim, None, &mut sums).await?;
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for call in calls(&site)? {
        *kinds.entry((call.name, object(&call.path))).or_default() += 1;
    }
    drop(site);
    let made: usize = kinds.values().sum();
    println!("{made} calls of {} kinds in a run without failures", kinds.len());

    let mut chosen = Vec::new();
    for ((name, object), count) in &kinds {
        let failing = |at, error| Failing { name, object: *object, at, error };
        if all {
            chosen.extend((1..=*count).flat_map(|at| [failing(at, EIO), failing(at, ENOSPC)]));
        } else {
            let at = 1 + usize::try_from(random.below(*count as u64))?;
            chosen.push(failing(at, if chosen.len() % 3 == 2 { ENOSPC } else { EIO }));
        }
    }
    let mut reactions: BTreeMap<(&str, &str), BTreeMap<Reaction, u64>> = BTreeMap::new();
    for failing in &chosen {
        let done = work(&shim, Some(failing), &mut sums).await;
        let (site, reaction) = match done {
            Ok(done) => done,
            Err(why) => {
                println!("BAD: {failing:?}: {why}");
                sums.unsound += 1;
                continue;
            }
        };
        let made = calls(&site)?;
        let failed = made.iter().find(|call| call.fails);
        let reaction = if failed.is_some() { reaction } else { Reaction::NotMade };
        let on_commit = ["pwrite64", "fdatasync", "ftruncate64"];
        if let Some(failed) = failed
            && object(&failed.path).1 == "database"
            && on_commit.contains(&failed.name.as_str())
        {
            let later = made.iter().filter(|call| call.number > failed.number);
            let synced = later.filter(|c| c.name == "fdatasync" && object(&c.path).1 == "database");
            // Whatever the kernel then says of the pages it has dropped, nobody asks it.
            let ended = matches!(reaction, Reaction::Stopped | Reaction::NotStarted);
            if reaction != Reaction::Closing && (synced.count() > 0 || !ended) {
                println!("BAD: after {failing:?}: {reaction:?}");
                sums.unsound += 1;
            }
        }
        *reactions
            .entry((failing.name, failing.object.1))
            .or_default()
            .entry(reaction)
            .or_default() += 1;
    }
    for ((name, object), seen) in &reactions {
        println!("   {name} of {object}: {seen:?}");
    }
    println!("{} failures of single calls: {sums}", chosen.len());
    Ok(sums)
}

/// The workload, with one call failing; whoever ends is started again, as a supervisor does.
async fn work(
    shim: &Shim,
    failing: Option<&Failing<'_>>,
    sums: &mut Sums,
) -> Result<(Site, Reaction)> {
    let site = Site::new().await?;
    site.furnish()?;
    let sources = Sources::default();
    let failing = failing.map(|it| {
        [
            ("FAULT_NAME", it.name.to_owned()),
            ("FAULT_PART", it.object.0.to_owned()),
            ("FAULT_AT", it.at.to_string()),
            ("FAULT_ERRNO", it.error.to_string()),
        ]
    });
    let failing = failing.iter().flatten().cloned().collect::<Vec<_>>();
    let process = Process::start(&site, "log.0", &shim.environment(&site, &failing))?;
    let mut running = Running::new(process);
    sources.put(&site)?;
    for push in 0..4 {
        let push = sources.body(push == 2);
        let mut client = None;
        until("a receipt", async || {
            running.keep(&site)?;
            let status = sources.push(&mut client, site.address, &push).await;
            Ok(matches!(status, Some(200..=202)))
        })
        .await?;
    }
    let (files, rows) = (sources.files(), 143);
    until("the work is done", async || {
        running.keep(&site)?;
        let untaken = files.iter().any(|(name, _)| site.lies(name).unwrap_or(true));
        let told = std::fs::read_dir(site.disk().join("told"))?.count();
        Ok(!untaken && told > 0 && site.platform.ledger().len() >= rows)
    })
    .await?;
    let before = calls(&site)?.len();
    let status = running.process.stop().await?;
    if running.starts == 0 {
        if !status.success() || running.process.told()?.contains(STOPPED) {
            running.judge()?;
        } else if calls(&site)?.iter().skip(before).any(|call| call.fails) {
            running.reaction = Reaction::Closing;
        }
    }
    site.settle().await?;
    sources.reconcile(&site, sums)?;
    Ok((site, running.reaction))
}

/// A gateway under a supervisor.
pub(crate) struct Running {
    pub(crate) process: Process,
    reaction: Reaction,
    pub(crate) starts: usize,
}

impl Running {
    pub(crate) fn new(process: Process) -> Self {
        Self { process, reaction: Reaction::WentOn, starts: 0 }
    }

    /// Starts it again if it has ended.
    pub(crate) fn keep(&mut self, site: &Site) -> Result<()> {
        if self.process.ended()?.is_none() {
            return Ok(());
        }
        if self.starts == 0 {
            self.judge()?;
        }
        self.starts += 1;
        if self.starts > STARTS {
            return Err(format!("it does not start again: {}", self.process.told()?).into());
        }
        self.process = Process::start(site, &format!("log.{}", self.starts), &[])?;
        Ok(())
    }

    /// Why the first process ended, by its own words.
    fn judge(&mut self) -> Result<()> {
        let told = self.process.told()?;
        self.reaction = if !told.contains("gateway started") {
            Reaction::NotStarted
        } else if told.contains("提交结果未知") || told.contains(STOPPED) {
            Reaction::Stopped
        } else if told.contains("网关未能运行") {
            Reaction::Ended
        } else {
            return Err(format!("it ended without a word: {told}").into());
        };
        Ok(())
    }
}

/// A message that kills the process whenever it is touched: set aside in the end, its bytes kept;
/// what came with it goes its way.
pub(crate) async fn poison() -> Result<Sums> {
    let shim = Shim::build()?;
    let (mut sums, site, sources) = (Sums::default(), Site::new().await?, Sources::default());
    site.furnish()?;
    // Only a long payload is opened by its name.
    let killing = shim.environment(&site, &[("FAULT_ABORT", "/blobs/".to_owned())]);
    let mut process = Process::start(&site, "log.0", &killing)?;
    until("the gateway listens", async || Ok(listens(site.address))).await?;
    let (poison, mut crashes, mut client) = (sources.body(true), 0, None);
    let mut pushed = false;
    let others: Vec<_> = (0..5).map(|_| sources.body(false)).collect();
    let mut waiting = others.iter();
    until("it is set aside", async || {
        if process.ended()?.is_some() {
            crashes += 1;
            process = Process::start(&site, "log.0", &killing)?;
        }
        if !pushed {
            pushed =
                matches!(sources.push(&mut client, site.address, &poison).await, Some(200..=202));
        } else if let Some(other) = waiting.as_slice().first()
            && matches!(sources.push(&mut client, site.address, other).await, Some(200..=202))
        {
            waiting.next();
        }
        let rows = site.platform.ledger().len();
        Ok(process.told()?.contains("processing.poison") && rows == others.len())
    })
    .await?;
    process.stop().await?;

    let store = site.store()?;
    let receipt = sources.receipts().into_iter().map(|it| it.message).min().unwrap_or_default();
    let message = store.message(receipt)?;
    let code = message.end.and_then(|end| end.error).map(|(code, _)| code);
    let mut bytes = String::new();
    store.payload(receipt)?.read_to_string(&mut bytes)?;
    let found = store.fsck()?;
    println!(
        "poison: {crashes} crashes, then {code:?}; {} bytes kept; fsck {found:?}",
        bytes.len()
    );
    let held = code.as_deref() == Some("processing.poison") && bytes == poison.1;
    sums.checks = 1;
    sums.unsound = u64::from(!held || !found.is_empty() || crashes == 0);
    Ok(sums)
}
