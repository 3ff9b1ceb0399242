//! One way to read a feed against another: each in a process of its own that does nothing else.
//!
//! A child prints one line, `rows seconds KiB`, with [`report`] or what `feed.py` has for it. It
//! tells its own peak (`VmHWM`): what `wait4` tells also counts the parent's pages, which a child
//! holds between fork and exec.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xinqiao_tests::{Result, Scale, spread};

/// The script's rows a second, this many times.
const FASTER: f64 = 10.0;

/// The script's peak memory, at most this part.
const SMALLER: f64 = 0.25;

/// What a child did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Rows read to their end: validated, or written out.
    pub(crate) rows: u64,
    /// Of the reading itself, without the start of the process.
    pub(crate) seconds: f64,
    /// Peak memory of the process, all of it.
    pub(crate) peak_kib: u64,
}

impl Measured {
    fn rate(self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// Prints the line of a child of ours.
pub(crate) fn report(rows: u64, took: Duration) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    println!("{rows} {} {}", took.as_secs_f64(), peak.trim().trim_end_matches(" kB"));
    Ok(())
}

/// Runs a child to its end.
pub(crate) fn measure(command: &mut Command) -> Result<Measured> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<&str> = text.split_whitespace().collect();
    let ([rows, seconds, peak], true) = (&numbers[..], output.status.success()) else {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed: {text}{said}").into());
    };
    Ok(Measured { rows: rows.parse()?, seconds: seconds.parse()?, peak_kib: peak.parse()? })
}

/// This program again, with a hidden argument.
pub(crate) fn ourselves(flag: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(flag);
    Ok(command)
}

/// A script that lies here, run by the Python of the peer `peer` (`peers/<peer>/venv`).
pub(crate) fn script(peer: &str, name: &str) -> Result<Command> {
    let python = xinqiao_tests::peers::installed(&format!("{peer}/venv/bin/python"))?;
    let script: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/feeds").join(name);
    let mut command = Command::new(python);
    command.arg("-B").arg(script);
    Ok(command)
}

/// Both ways in turn, round by round, and what came of it. `rows` is what each must have read.
pub(crate) fn compare(
    scale: Scale,
    name: &str,
    rows: u64,
    ours: &mut dyn FnMut() -> Result<Measured>,
    theirs: &mut dyn FnMut() -> Result<Measured>,
) -> Result<()> {
    let (mut all_ours, mut all_theirs) = (Figures::default(), Figures::default());
    let (mut faster, mut smaller) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let (ours, theirs) = (ours()?, theirs()?);
        if (ours.rows, theirs.rows) != (rows, rows) {
            let (ours, theirs) = (ours.rows, theirs.rows);
            return Err(format!("{name}: {ours} and {theirs} rows of {rows}").into());
        }
        faster.push(ours.rate() / theirs.rate());
        smaller.push(ours.peak_kib as f64 / theirs.peak_kib as f64);
        all_ours.take(ours);
        all_theirs.take(theirs);
    }
    println!("{name}, {rows} rows");
    println!("  decode, map, validate  {}", all_ours.told());
    println!("  the script             {}", all_theirs.told());
    println!("  rows/s, times          {}  target {FASTER}: {}", spread(&mut faster), {
        reached(middle(&faster) >= FASTER)
    });
    println!("  memory, part           {}  target {SMALLER}: {}", spread(&mut smaller), {
        reached(middle(&smaller) <= SMALLER)
    });
    Ok(())
}

#[derive(Default)]
struct Figures {
    rates: Vec<f64>,
    peaks: Vec<f64>,
}

impl Figures {
    fn take(&mut self, measured: Measured) {
        self.rates.push(measured.rate());
        self.peaks.push(measured.peak_kib as f64 / 1024.0);
    }

    fn told(mut self) -> String {
        format!("{} rows/s, peak {} MB", spread(&mut self.rates), spread(&mut self.peaks))
    }
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn reached(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}
