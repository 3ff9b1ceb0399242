//! What a person at a command line gets, from the real binary.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::fault::kill::binary;

fn xinqiao(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn agencies() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../mappings/agencies")
}

fn dry_run(mapping: &str, file: &str) -> Value {
    let path = agencies().join(file);
    let path = path.to_str().unwrap();
    let today = ["--today", "2026-11-23", "--json"];
    let output = xinqiao(&[&["run", "--dry-run", path, "--mapping", mapping], &today[..]].concat());
    assert_eq!(output.status.code(), Some(1), "a sample holds rows to refuse");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every shipped sample, through the real decoder of its format. The counts are those the samples'
/// generator meant: clean and withdrawn rows, rows with warnings, refused and excluded rows.
#[test]
fn the_shipped_samples_are_judged_as_they_were_made() {
    for (mapping, file, [accept, warn, reject]) in [
        // Some of those meant to be refused have a registration number only: they are held.
        ("scjg-admin-licence", "scjg/sample.xls", [7, 3, 6]),
        ("scjg-admin-licence", "scjg/bulk.xls", [1418, 37, 45]),
        ("sthj-admin-penalty", "sthj/sample.csv", [7, 2, 6]),
        ("zjj-admin-licence", "zjj/sample.xml", [7, 2, 6]),
        ("jtj-admin-penalty", "jtj/sample.json", [8, 1, 7]),
        ("cgj-admin-penalty", "cgj/sample.xlsx", [2, 8, 7]),
        ("yjj-admin-licence", "yjj/sample.ndjson", [6, 2, 6]),
    ] {
        let answer = dry_run(mapping, file);
        let held = match file {
            "scjg/sample.xls" => 1,
            "scjg/bulk.xls" => 11,
            _ => 0,
        };
        let reject = reject - held;
        let counts = json!({ "accept": accept, "warn": warn, "held": held, "reject": reject });
        assert_eq!(answer["summary"], counts, "{file}");
        assert_eq!((&answer["error"], &answer["notes"]), (&Value::Null, &json!([])), "{file}");
    }
}

#[test]
fn a_finding_names_its_rule_its_field_its_cell_and_the_fix() {
    let answer = dry_run("cgj-admin-penalty", "cgj/sample.xlsx");
    let rows = answer["rows"].as_array().unwrap();
    let first = &rows[0];
    assert_eq!((&first["row"], &first["verdict"]), (&json!(5), &json!("warn")));
    let finding = &first["findings"][0];
    assert_eq!(finding["rule"], "convert.amount-derived");
    assert_eq!(finding["cell"], "O5");
    for part in ["field", "message", "fix"] {
        assert!(finding[part].as_str().is_some_and(|text| !text.is_empty()), "{part}");
    }
}

#[test]
fn both_clocks_of_the_trap_day() {
    let args = ["deadline", "--dataset", "admin-penalty", "--decided", "2018-12-28", "--json"];
    let answer: Value = serde_json::from_slice(&xinqiao(&args).stdout).unwrap();
    assert_eq!(
        (&answer["pledged"], &answer["statutory"], &answer["provisional"]),
        (&json!("2019-01-04"), &json!("2019-01-09"), &json!(false))
    );
    let period = ["--from", "2026-12-23", "--to", "2026-12-24", "--tsv"];
    let days = xinqiao(&[&["deadline", "--dataset", "admin-licence"], &period[..]].concat());
    assert_eq!(
        text(&days.stdout),
        "2026-12-23\t2026-12-30\t2027-01-01\ttrue\n2026-12-24\t2026-12-31\t2027-01-04\ttrue\n"
    );
}

#[test]
fn a_sample_becomes_a_draft_and_a_wrong_word_an_answer_in_chinese() {
    let sample = agencies().join("sthj/sample.csv");
    let draft = xinqiao(&["mapping", "new", "--sample", sample.to_str().unwrap()]);
    let draft = text(&draft.stdout);
    for line in ["target: admin-penalty/2021", "  encoding: gb18030", "  header: { row: 1 }"] {
        assert!(draft.lines().any(|l| l == line), "{line} in\n{draft}");
    }
    // The unit is read from the heading, and what must not be reported is asked for.
    for part in ["[\"罚款金额(元)\"], unit: yuan", "rule: scope.state-secret", "withdraw-keep: ["]
    {
        assert!(draft.contains(part), "{part} in\n{draft}");
    }
    // Nested names are matched as well, and the dataset is found by them.
    let nested = agencies().join("yjj/sample.ndjson");
    let nested = text(&xinqiao(&["mapping", "new", "--sample", nested.to_str().unwrap()]).stdout);
    for line in ["target: admin-licence/2021", "  XK_XDR_MC: { from: [\"subject/name\"] }"] {
        assert!(nested.lines().any(|l| l.starts_with(line)), "{line} in\n{nested}");
    }
    // A table, in an archive beside what is no table; the table names its columns.
    let folder = tempfile::tempdir().unwrap();
    let mut table = vec![0x03, 26, 1, 10, 0, 0, 0, 0, 97, 0, 31, 0];
    table.resize(32, 0);
    for (name, width) in [("CF_WSH", 20u8), ("CF_NR_FK", 10)] {
        let mut part = name.as_bytes().to_vec();
        part.resize(11, 0);
        part.extend([b'C', 0, 0, 0, 0, width]);
        part.resize(32, 0);
        table.extend(part);
    }
    table.extend([0x0d, 0x1a]);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in [("说明.txt", &b"x"[..]), ("xzcf.dbf", &table)] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, bytes).unwrap();
    }
    for (name, bytes) in [("a.dbf", table), ("a.zip", zip.finish().unwrap().into_inner())] {
        let sample = folder.path().join(name);
        std::fs::write(&sample, bytes).unwrap();
        let draft = xinqiao(&["mapping", "new", "--sample", sample.to_str().unwrap()]);
        let draft = text(&draft.stdout);
        for line in ["  format: dbf", "  CF_WSH: { from: [\"CF_WSH\"] }"] {
            assert!(draft.lines().any(|l| l.starts_with(line)), "{name}: {line} in\n{draft}");
        }
    }
    let wrong = xinqiao(&["statsu"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("没有命令“statsu”"), "{}", text(&wrong.stderr));
}

/// The words of every command, as people read them. `XINQIAO_BLESS=1` writes them anew.
#[test]
fn the_help_of_every_command_reads_as_agreed() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("system/golden/help.txt");
    let mut found = String::new();
    helps(&mut Vec::new(), &mut found);
    if std::env::var_os("XINQIAO_BLESS").is_some() {
        std::fs::write(&golden, &found).unwrap();
    }
    let agreed = std::fs::read_to_string(&golden).unwrap();
    let differs = found.lines().zip(agreed.lines()).find(|(found, agreed)| found != agreed);
    assert_eq!((differs, found.len()), (None, agreed.len()));
}

/// The help of the command at `path`, then of those under it.
fn helps(path: &mut Vec<String>, into: &mut String) {
    let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
    args.push("--help");
    let output = xinqiao(&args);
    assert!(output.status.success(), "{args:?}");
    let help = text(&output.stdout);
    into.push_str(&format!("$ xinqiao {}\n{help}\n", args.join(" ")));
    let commands = help.lines().skip_while(|line| *line != "命令:").skip(1);
    for command in commands.map_while(|line| line.split_whitespace().next()) {
        path.push(command.to_owned());
        helps(path, into);
        path.pop();
    }
}
