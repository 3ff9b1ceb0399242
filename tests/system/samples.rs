//! Real files, which stand outside the repository in the folder that XINQIAO_SAMPLES names. The
//! profile `samples` of nextest runs these; the default profile leaves them out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use xinqiao_core::ident::{Uscc, UsccError, UsccWarning};
use xinqiao_tests::World;

use crate::fault::kill::binary;

/// Peak memory of a dry run over a hostile file.
const MOST_MEMORY: u64 = 300 << 20;

/// How long a dry run over a hostile file may take.
const MOST_TIME: Duration = Duration::from_secs(5);

#[test]
fn codes_are_judged_as_by_an_independent_program() {
    let mut lower = 0;
    for (name, rows) in [("valid_5000.tsv", 5_000), ("invalid_200.tsv", 200)] {
        let text = std::fs::read_to_string(samples().join("uscc").join(name)).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), rows, "{name}");
        for line in lines {
            let mut cells = line.split('\t');
            let mut next = || cells.next().unwrap();
            let (code, verdict, inner) = (next(), next(), next());
            let ours = Uscc::parse(code);
            match (&ours, verdict) {
                (Ok(ours), "ok") => {
                    let warned = ours.warnings.contains(&UsccWarning::InnerCheckDigit);
                    assert_eq!(warned, inner == "org_bad", "{line}");
                }
                // Lower case is brought in order by us, with a warning.
                (Ok(ours), "badform") => {
                    assert!(ours.warnings.contains(&UsccWarning::LowerCase), "{line}");
                    lower += 1;
                }
                (Err(UsccError::CheckDigit), "badsum") => {}
                (Err(error), "badform") => assert_ne!(*error, UsccError::CheckDigit, "{line}"),
                _ => panic!("{ours:?} against {line}"),
            }
        }
    }
    assert_eq!(lower, 11, "codes in lower case");
}

#[test]
fn hostile_files_end_soon_and_small() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let mut seen = 0;
    for (folder, format) in [("xlsx/hostile", "workbook"), ("xml/hostile", "xml")] {
        for file in files(&samples().join(folder)) {
            let run = dry_run(&world, &file, format);
            println!("{} {:.1?} {} MB", run.name, run.took, run.peak >> 20);
            assert!(run.code.is_some_and(|code| code <= 2), "{}: {}", run.name, run.error);
            assert!(run.took < MOST_TIME, "{} took {:.1?}", run.name, run.took);
            assert!(run.peak < MOST_MEMORY, "{} took {} MB", run.name, run.peak >> 20);
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen} files");
}

#[test]
fn every_real_file_ends_in_rows_or_a_finding() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in all_files(&samples()) {
        let Some(format) = format_of(&file) else { continue };
        if let Err(why) = is_told(&dry_run(&world, &file, format)) {
            wrong.push(format!("{}: {why}", file.display()));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen >= 100, "{seen} files");
}

/// Whether a dry run came to rows, or to a named reason of the decoder why there are none.
fn is_told(run: &Run) -> Result<(), String> {
    let said: String = format!("{}{}", run.output, run.error).chars().take(2_000).collect();
    let wrong = |why: &str| Err(format!("{why}: {said}"));
    if !matches!(run.code, Some(0 | 1)) {
        return wrong("not run to its end");
    }
    let Ok(report) = serde_json::from_str::<Value>(&run.output) else {
        return wrong("no report");
    };
    let count = |verdict: &str| report["summary"][verdict].as_u64();
    let counts: Option<Vec<u64>> =
        ["accept", "warn", "held", "reject"].into_iter().map(count).collect();
    let Some(counts) = counts else { return wrong("no summary") };
    let code = report["error"]["code"].as_str().unwrap_or_default();
    if counts.iter().sum::<u64>() == 0 && !code.starts_with("decode.") {
        return wrong("neither rows nor why there are none");
    }
    Ok(())
}

/// The measure itself: a mapping that cannot be used, a file without rows, and a crash do not pass.
#[test]
fn what_is_not_told_is_seen() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let put = |name: &str, text: &str| {
        let path = world.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let table = put("good.csv", "行政相对人名称,行政处罚决定书文号\n甲公司,1号\n");
    is_told(&dry_run(&world, &table, "csv")).unwrap();
    // Of these there is no sample.
    let zip = world.path().join("good.zip");
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "-c"]).arg(&zip).arg(&table);
    assert!(python.status().unwrap().success());
    is_told(&dry_run(&world, &zip, "csv")).unwrap();
    let fixed = put("good.txt", "甲公司    1号  \n乙公司    2号  \n");
    is_told(&dry_run(&world, &fixed, "fixed")).unwrap();
    let odd = put("odd.csv", "甲,乙\n丙,丁\n");
    is_told(&dry_run(&world, &odd, "csv")).unwrap();
    assert!(is_told(&dry_run(&world, &table, "no-such-format")).is_err(), "a broken mapping");
    let empty = put("empty.csv", "行政相对人名称,行政处罚决定书文号\n");
    assert!(is_told(&dry_run(&world, &empty, "csv")).is_err(), "no row");
    let killed = Run { code: None, ..dry_run(&world, &table, "csv") };
    assert!(is_told(&killed).is_err());
}

#[test]
fn a_real_file_becomes_a_draft() {
    for (file, format) in [
        ("dbf/xzcf_cp936.dbf", "dbf"),
        ("xlsx/calamine/any_sheets.xlsb", "workbook"),
        ("xlsx/calamine/base.ods", "workbook"),
        ("sgs/messages/gd_exchange_xk_upper.xml", "xml"),
    ] {
        let draft = Command::new(binary())
            .args(["mapping", "new", "--target", "admin-licence/2021", "--sample"])
            .arg(samples().join(file))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&draft.stdout);
        assert!(text.contains(&format!("  format: {format}\n")), "{file}: {text}");
    }
}

#[test]
fn a_real_table_comes_out_with_its_memos() {
    let world = World::new("http://127.0.0.1:9/", "127.0.0.1:0").unwrap();
    let folder = samples().join("dbf");
    let table = folder.join("xzcf_cp936.dbf");
    let alone = dry_run(&world, &table, "dbf");
    assert!(alone.output.contains("没有备注文件"), "{}{}", alone.output, alone.error);
    let zip = world.path().join("table.zip");
    let mut python = Command::new("python3");
    python.args(["-m", "zipfile", "-c"]).arg(&zip).arg(&table).arg(folder.join("xzcf_cp936.fpt"));
    assert!(python.status().unwrap().success());
    let whole = dry_run(&world, &zip, "dbf");
    assert!(!whole.output.contains("备注文件"), "{}", whole.output);
    assert!(whole.output.contains("\"reject\":5"), "{}{}", whole.output, whole.error);
}

struct Run {
    name: String,
    /// `None`: ended by a signal.
    code: Option<i32>,
    output: String,
    error: String,
    took: Duration,
    peak: u64,
}

/// `xinqiao run --dry-run` in a process of its own, whose peak memory its last line tells.
fn dry_run(world: &World, file: &Path, format: &str) -> Run {
    let mapping = world.path().join(format!("{format}.yaml"));
    let more = match format {
        "fixed" => ", columns: { 行政相对人名称: 10, 行政处罚决定书文号: 5 }",
        _ => "",
    };
    let mut text = xinqiao_tests::mapping("csv")
        .replace("made-csv", &format!("made-{format}"))
        .replace("format: csv, encoding: auto", &format!("format: {format}{more}"));
    if format == "dbf" {
        text.push_str("  BZ: { from: BZ }\n");
    }
    std::fs::write(&mapping, text).unwrap();
    // The shell tells the peak of its child: /proc has it only while the child lives.
    let begun = Instant::now();
    let output = Command::new("python3")
        .args(["-c", PEAK])
        .arg(binary())
        .args(["run", "--dry-run"])
        .arg(file)
        .arg("--mapping")
        .arg(mapping)
        .arg("--json")
        .output()
        .unwrap();
    let took = begun.elapsed();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = error.lines().last().unwrap_or_default();
    let mut numbers = last.split(' ').map(|n| n.parse::<i64>().unwrap());
    let (code, peak) = (numbers.next().unwrap(), numbers.next().unwrap());
    Run {
        name: file.file_name().unwrap().to_string_lossy().into_owned(),
        code: i32::try_from(code).ok().filter(|code| *code >= 0),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        error,
        took,
        peak: u64::try_from(peak).unwrap() << 10,
    }
}

/// Runs its arguments, then tells exit code and peak memory in KiB.
const PEAK: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)";

/// The format a file of this name is sent in; `None` for what is no feed.
fn format_of(file: &Path) -> Option<&'static str> {
    Some(match file.extension()?.to_str()? {
        "xls" | "xlsx" | "xlsb" | "ods" => "workbook",
        "dbf" => "dbf",
        "csv" => "csv",
        "tsv" => "tsv",
        "json" => "json",
        "xml" | "wsdl" => "xml",
        _ => return None,
    })
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut all = files(folder);
    let inside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for folder in inside.filter(|path| path.is_dir()) {
        all.extend(all_files(&folder));
    }
    all
}

fn samples() -> PathBuf {
    let folder = std::env::var_os("XINQIAO_SAMPLES");
    PathBuf::from(folder.expect("XINQIAO_SAMPLES names the folder of real samples"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}
