//! A disk with a volatile write cache, whose power can be cut.
//!
//! A FUSE server of one file; a loop device makes a disk of it, and a real ext4 lies on that. Every
//! write and every flush comes here in the order the kernel sends it. What was written before the
//! last flush is on the platters; of what was written since, a cut leaves nothing, some 4 KiB
//! blocks, some 512-byte sectors (torn and out of order), or all. So memory maps, metadata, the
//! journal, renames and directories are covered: nothing goes past the disk.
//!
//! Mounts live in this process's own mount namespace (`tests/fault/run` makes it) and loop devices
//! free themselves, so that nothing is left behind, however this program ends.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use xinqiao_tests::Result;

use crate::random::Random;

const BLOCK: usize = 4096;
/// Large enough for the gateway to see its reserve free.
const BYTES: u64 = 1 << 30;

/// What a cut leaves of the writes that no flush has followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaves {
    Nothing,
    Blocks,
    Sectors,
    All,
}

impl Leaves {
    pub(crate) const EACH: [Self; 4] = [Self::Nothing, Self::Blocks, Self::Sectors, Self::All];
}

/// Content by block; one that was never written is zeros.
#[derive(Debug, Default, Clone)]
pub(crate) struct Image(BTreeMap<u64, Arc<[u8; BLOCK]>>);

impl Image {
    /// An empty ext4, made in a file and read back.
    pub(crate) fn ext4(folder: &Path) -> Result<Self> {
        let path = folder.join("empty.img");
        let file = File::create(&path)?;
        file.set_len(BYTES)?;
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0";
        let mut mkfs = Command::new("mkfs.ext4");
        done(
            mkfs.args(["-q", "-F", "-m", "0", "-N", "4096", "-J", "size=8", "-E", options])
                .arg(&path),
        )?;
        let (file, mut image) = (File::open(&path)?, Self::default());
        let (mut part, zeros) = (vec![0; MOST], vec![0; MOST]);
        for at in (0..BYTES).step_by(MOST) {
            file.read_exact_at(&mut part, at)?;
            if part != zeros {
                image.write(at, &part);
            }
        }
        std::fs::remove_file(&path)?;
        Ok(image)
    }

    fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let (at, within) = place(offset);
            let (head, tail) = data.split_at(data.len().min(BLOCK - within));
            let block = self.0.entry(at).or_insert_with(|| Arc::new([0; BLOCK]));
            if let Some(to) = Arc::make_mut(block).get_mut(within..within + head.len()) {
                to.copy_from_slice(head);
            }
            offset += head.len() as u64;
            data = tail;
        }
    }

    fn read(&self, mut offset: u64, length: usize) -> Vec<u8> {
        let end = offset.saturating_add(length as u64).min(BYTES);
        let mut out = Vec::with_capacity(length);
        while offset < end {
            let (at, within) = place(offset);
            let count = (BLOCK - within).min(usize::try_from(end - offset).unwrap_or(BLOCK));
            match self.0.get(&at).and_then(|block| block.get(within..within + count)) {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + count, 0),
            }
            offset += count as u64;
        }
        out
    }
}

fn place(offset: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (offset / block, usize::try_from(offset % block).unwrap_or(0))
}

/// What was on the disk when its power was cut.
#[derive(Debug, Clone)]
pub(crate) struct Wreck {
    durable: Image,
    unflushed: Vec<(u64, Vec<u8>)>,
    /// Writes and flushes that the disk saw.
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
}

impl Wreck {
    /// Bytes that no flush had followed.
    pub(crate) fn unflushed(&self) -> usize {
        self.unflushed.iter().map(|(_, data)| data.len()).sum()
    }

    /// What the machine finds when the power is back.
    pub(crate) fn image(&self, leaves: Leaves, random: &mut Random) -> Image {
        let mut image = self.durable.clone();
        let unit = if leaves == Leaves::Sectors { 512 } else { BLOCK };
        for (offset, data) in &self.unflushed {
            for (chunk, at) in data.chunks(unit).zip((*offset..).step_by(unit)) {
                let stays = match leaves {
                    Leaves::Nothing => false,
                    Leaves::Blocks | Leaves::Sectors => random.below(2) == 1,
                    Leaves::All => true,
                };
                if stays {
                    image.write(at, chunk);
                }
            }
        }
        image
    }
}

/// A disk that is plugged in: its file system is mounted.
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    file: PathBuf,
    mounted: PathBuf,
    server: Option<JoinHandle<()>>,
}

struct State {
    current: Image,
    durable: Image,
    unflushed: Vec<(u64, Vec<u8>)>,
    writes: u64,
    flushes: u64,
    cut: bool,
}

impl Disk {
    /// Plugs in a disk with this content and mounts it at `at`, which is there. `file` becomes the
    /// disk's own file.
    pub(crate) fn plug_in(image: Image, file: &Path, at: &Path) -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            current: image.clone(),
            durable: image,
            unflushed: Vec::new(),
            writes: 0,
            flushes: 0,
            cut: false,
        }));
        File::create(file)?;
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        // mount(8) takes over the device as its standard input.
        let options = "fd=0,rootmode=100600,user_id=0,group_id=0,max_read=1048576";
        let mut mount = Command::new("mount");
        mount.args(["-i", "-t", "fuse", "-o", options, "disk"]).arg(file);
        done(mount.stdin(Stdio::from(device.try_clone()?)))?;
        let shared = Arc::clone(&state);
        let server = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || serve(device, &shared))?;
        let (file, mounted) = (file.to_owned(), at.to_owned());
        let disk = Self { state, file, mounted, server: Some(server) };
        // No discards: they are not what is looked at here.
        let mut mount = Command::new("mount");
        done(mount.args(["-t", "ext4", "-o", "loop,nodiscard"]).arg(&disk.file).arg(at))?;
        Ok(disk)
    }

    /// Cuts the power: from now on every write and every flush fails.
    pub(crate) fn cut(&self) {
        lock(&self.state).cut = true;
    }

    /// What is left. Whoever had files open on it has ended.
    pub(crate) fn unplug(mut self) -> Result<Wreck> {
        self.unmount()?;
        let mut state = lock(&self.state);
        Ok(Wreck {
            durable: std::mem::take(&mut state.durable),
            unflushed: std::mem::take(&mut state.unflushed),
            writes: state.writes,
            flushes: state.flushes,
        })
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        let file_system = done(Command::new("umount").arg(&self.mounted));
        let own = done(Command::new("umount").arg("--lazy").arg(&self.file));
        file_system?;
        own?;
        server.join().map_err(|_| "the disk's thread has failed")?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Unplugged already unless something else has failed.
        if self.server.is_some() {
            let _ = Command::new("umount").arg("--lazy").arg(&self.mounted).status();
            let _ = Command::new("umount").arg("--lazy").arg(&self.file).status();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command that says nothing when all is well.
pub(crate) fn done(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

// The kernel's side: linux/fuse.h, protocol 7.31. Every number is in the machine's own order.

const GETATTR: u32 = 3;
const FORGET: u32 = 2;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const BATCH_FORGET: u32 = 42;

const EIO: i32 = -5;
const ENOSYS: i32 = -38;

const MOST: usize = 1 << 20;
const HEAD: usize = 40;
const NOW: u64 = 3_600;

/// Until the disk's file is unmounted.
fn serve(mut device: File, state: &Mutex<State>) {
    let mut request = vec![0; MOST + BLOCK];
    loop {
        let length = match device.read(&mut request) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Unmounted, or given up by the kernel.
            Err(_) => return,
        };
        let Some(request) = request.get(..length) else { return };
        let (operation, unique) = (u32_at(request, 4), u64_at(request, 8));
        if matches!(operation, FORGET | BATCH_FORGET | INTERRUPT) {
            continue;
        }
        let body = request.get(HEAD..).unwrap_or_default();
        let answer = answer(operation, body, state);
        let (error, content) = match answer {
            Ok(content) => (0, content),
            Err(error) => (error, Vec::new()),
        };
        let mut out = Vec::with_capacity(16 + content.len());
        let total = u32::try_from(16 + content.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&total.to_ne_bytes());
        out.extend_from_slice(&error.to_ne_bytes());
        out.extend_from_slice(&unique.to_ne_bytes());
        out.extend_from_slice(&content);
        // A request that was given up meanwhile has no use for its answer.
        let _ = device.write(&out);
        if operation == DESTROY {
            return;
        }
    }
}

fn answer(operation: u32, body: &[u8], state: &Mutex<State>) -> std::result::Result<Vec<u8>, i32> {
    let mut state = lock(state);
    match operation {
        INIT => Ok(init()),
        GETATTR | SETATTR => Ok([&NOW.to_ne_bytes()[..], &[0; 8], &attributes()].concat()),
        OPEN => Ok(vec![0; 16]),
        READ => {
            let length = usize::try_from(u32_at(body, 16)).unwrap_or(MOST).min(MOST);
            Ok(state.current.read(u64_at(body, 8), length))
        }
        WRITE if !state.cut => {
            let (offset, data) = (u64_at(body, 8), body.get(HEAD..).unwrap_or_default());
            state.current.write(offset, data);
            state.unflushed.push((offset, data.to_vec()));
            state.writes += 1;
            let size = u32::try_from(data.len()).unwrap_or(0);
            Ok([size.to_ne_bytes(), [0; 4]].concat())
        }
        FSYNC if !state.cut => {
            for (offset, data) in std::mem::take(&mut state.unflushed) {
                state.durable.write(offset, &data);
            }
            state.flushes += 1;
            Ok(Vec::new())
        }
        WRITE | FSYNC => Err(EIO),
        RELEASE | FLUSH | DESTROY => Ok(Vec::new()),
        _ => Err(ENOSYS),
    }
}

fn init() -> Vec<u8> {
    const ASYNC_READ: u32 = 1;
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let most = u32::try_from(MOST).unwrap_or(0);
    let mut out = Vec::with_capacity(64);
    for number in [7, 31, most, ASYNC_READ | BIG_WRITES | MAX_PAGES] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    // Requests in the background, and from how many on it is called busy.
    out.extend_from_slice(&[16_u16.to_ne_bytes(), 12_u16.to_ne_bytes()].concat());
    out.extend_from_slice(&[most.to_ne_bytes(), 1_u32.to_ne_bytes()].concat());
    out.extend_from_slice(&256_u16.to_ne_bytes());
    out.resize(64, 0);
    out
}

/// A regular file of the disk's size.
fn attributes() -> Vec<u8> {
    let mut out = Vec::with_capacity(88);
    for number in [1, BYTES, BYTES / 512, 0, 0, 0] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    // Fractions of three times, mode, links, owner, group, device, block size, flags.
    for number in [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096_u32, 0] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    out
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    u32::from_ne_bytes(four.unwrap_or_default())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
    u64::from_ne_bytes(eight.unwrap_or_default())
}
