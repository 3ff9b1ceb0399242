//! Rows a second through the stages, and memory against the size of a message.
//!
//! `bench-rows [--rounds N | --short]`. One core, one invented CSV in GB18030 with 21 columns. The peer is
//! Python's own csv reader over the same file in the same round, which only reads.
#![expect(clippy::print_stdout, reason = "a program that reports")]
#![expect(clippy::float_arithmetic, reason = "rates and ratios")]

use std::io::{BufWriter, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use xinqiao::clock::SystemClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao::pipeline::{Job, process};
use xinqiao_core::model::{MappingId, Verdict};
use xinqiao_core::spi::Clock as _;
use xinqiao_tests::{Result, Row, World, csv, scale, spread};

/// Rows of the file whose rate is told.
const ROWS: u64 = 100_000;

/// Files whose memory is told.
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

const PYTHON: &str = "import csv, sys, time
begun = time.perf_counter()
with open(sys.argv[1], encoding='gb18030', newline='') as file:
    rows = sum(1 for _ in csv.DictReader(file))
print(rows / (time.perf_counter() - begun))";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, file] = &arguments[..]
        && flag == "--memory-of"
    {
        let (rows, _) = through_the_stages(Path::new(file))?;
        println!("{rows} {}", peak_kib()?);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("rows.csv");
    let scale = scale(&arguments)?;
    let rows = ROWS / scale.part;
    write(&file, rows)?;

    let (mut ours, mut python, mut committed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let (rows, took) = through_the_stages(&file)?;
        ours.push(rows as f64 / took.as_secs_f64());
        python.extend(by_python(&file));
        committed.push(to_the_platform(rows / 4)?);
    }
    println!("decode, map, validate, one core   {} rows/s", spread(&mut ours));
    println!("file to committed records         {} rows/s", spread(&mut committed));
    if python.is_empty() {
        println!("peer                              no python3 here");
    } else {
        println!("Python csv, gb18030, reading only {} rows/s", spread(&mut python));
        println!("ratio to Python                   {:.2}", middle(&ours) / middle(&python));
    }

    let mut peaks = Vec::new();
    for rows in SIZES.map(|rows| rows / scale.part) {
        write(&file, rows)?;
        let output =
            Command::new(std::env::current_exe()?).arg("--memory-of").arg(&file).output()?;
        let text = String::from_utf8(output.stdout)?;
        let (seen, peak) = text.trim().split_once(' ').ok_or("the child said nothing")?;
        if seen.parse::<u64>()? != rows {
            return Err(format!("{seen} rows of {rows}").into());
        }
        let peak: f64 = peak.parse()?;
        let size = std::fs::metadata(&file)?.len();
        println!(
            "peak memory, {rows:>9} rows      {:.1} MB ({} MB file)",
            peak / 1024.0,
            size >> 20
        );
        peaks.push(peak);
    }
    if let (Some(first), Some(last)) = (peaks.first(), peaks.last()) {
        println!("memory growth, 100 times the rows {:.2}", last / first);
    }
    Ok(())
}

/// Rows accepted, and the time.
fn through_the_stages(file: &Path) -> Result<(u64, Duration)> {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0")?;
    let domain = world.domain();
    let (_, mapping) =
        domain.mappings.get(&MappingId::new("made-csv")?).ok_or("no such mapping")?;
    let today = SystemClock.now().shanghai_date();
    let job = Job::dry(mapping, &domain, today);
    let mut input = std::fs::File::open(file)?;
    let mut accepted = 0;
    let begun = Instant::now();
    process(&job, &mut input, &mut |row| {
        accepted += u64::from(row.verdict != Verdict::Reject);
        ControlFlow::Continue(())
    })?;
    Ok((accepted, begun.elapsed()))
}

/// Rows a second from the file's appearance to the last committed record, the platform being away.
fn to_the_platform(rows: u64) -> Result<f64> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let platform = Platform::start(PlatformOptions::default()).await?;
        platform.set_down(true);
        let world = World::new(&platform.url(), "127.0.0.1:0")?;
        let text = csv((0..rows).map(Row::new));
        let gateway =
            Gateway::start(world.config()?, world.domain(), Arc::new(SystemClock)).await?;
        world.put("in", "rows.csv", &text)?;
        let begun = Instant::now();
        while gateway.store().status()?.records < rows {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let rate = rows as f64 / begun.elapsed().as_secs_f64();
        gateway.stop().await;
        Ok(rate)
    })
}

fn by_python(file: &Path) -> Option<f64> {
    let output = Command::new("python3").args(["-c", PYTHON]).arg(file).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn write(file: &Path, rows: u64) -> Result<()> {
    let mut file = BufWriter::new(std::fs::File::create(file)?);
    for (index, from) in (0..rows).step_by(10_000).enumerate() {
        let text = csv((from..rows.min(from + 10_000)).map(Row::new));
        let text = if index == 0 { &*text } else { text.split_once('\n').map_or("", |(_, t)| t) };
        file.write_all(&encoding_rs::GB18030.encode(text).0)?;
    }
    Ok(file.flush()?)
}

fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn middle(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
