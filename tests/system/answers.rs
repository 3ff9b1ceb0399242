//! What the commands say of a gateway's work, and how they say that something is wrong.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use calamine::{Data, Reader as _};
use serde_json::Value;
use xinqiao::clock::ShiftedClock;
use xinqiao::commands::demo::platform::{Platform, PlatformOptions};
use xinqiao::compose::Gateway;
use xinqiao_core::model::Timestamp;
use xinqiao_tests::world::{KEYS, make_keys};
use xinqiao_tests::{Row, World, csv};

use crate::fault::kill::binary;
use crate::watch::{at_rest, until};

fn xinqiao(args: &[&str]) -> Output {
    Command::new(binary()).args(args).stdin(Stdio::null()).output().unwrap()
}

fn out(args: &[&str]) -> String {
    let output = xinqiao(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&out(args)).unwrap()
}

/// Exit code and stderr.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = xinqiao(args);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// A gateway that took a good file and one that cannot be read, and has stopped.
async fn worked() -> World {
    let platform = Platform::start(PlatformOptions::default()).await.unwrap();
    let world = World::new(&platform.url(), "127.0.0.1:0").unwrap();
    let clock = Arc::new(ShiftedClock::starting_at(Timestamp(1_795_406_400_000)));
    let gateway = Gateway::start(world.config().unwrap(), world.domain(), clock).await.unwrap();
    world.put("in", "good.csv", &csv((0..3).map(Row::new))).unwrap();
    world.put("in", "bad.csv", "无关的,列名\n1,2\n").unwrap();
    until("both files are through", || {
        let status = gateway.store().status().unwrap();
        let came: u64 = status.feeds.values().map(|feed| feed.messages).sum();
        came == 2 && at_rest(gateway.store())
    })
    .await;
    gateway.stop().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wholly_refused_file_shows_wherever_people_look() {
    let world = worked().await;
    let config = world.path().to_str().unwrap();
    let verdicts = ["verdicts", "--feed", "folder", "--config", config];
    let with = |more: &'static str| [&verdicts[..], &[more]].concat();

    let rows = json(&with("--json"));
    let whole: Vec<&Value> =
        rows.as_array().unwrap().iter().filter(|row| row["row"] == 0).collect();
    assert_eq!((rows.as_array().unwrap().len(), whole.len()), (4, 1), "{rows}");
    assert_eq!((&whole[0]["name"], &whole[0]["verdict"]), (&"bad.csv".into(), &"reject".into()));
    let finding = &whole[0]["findings"][0];
    assert_eq!(finding["rule"], "decode.no-heading");
    assert!(finding["fix"].as_str().unwrap().contains("表头"), "{finding}");
    let good = rows.as_array().unwrap().iter().find(|row| row["name"] == "good.csv").unwrap();
    // The made rows were decided long ago: late on arrival.
    assert_eq!(good["met"]["statutory"], false);
    assert_eq!(good["met"]["late"], "agency-arrival");

    let tsv = out(&with("--tsv"));
    assert!(
        tsv.lines().any(|line| line.starts_with("\treject\t0\t\tdecode.no-heading\t")),
        "{tsv}"
    );
    let table = out(&verdicts);
    assert!(table.contains("decode.no-heading") && table.contains("另有 1 个报文"), "{table}");

    let book = world.path().join("v.xlsx");
    out(&[&verdicts[..], &["--xlsx", book.to_str().unwrap()]].concat());
    let mut book: calamine::Xlsx<_> = calamine::open_workbook(&book).unwrap();
    assert_eq!(book.sheet_names(), ["逐行反馈"]);
    let sheet = book.worksheet_range("逐行反馈").unwrap();
    let numbers: Vec<&Data> = sheet.rows().skip(1).map(|row| &row[2]).collect();
    assert_eq!(numbers.len(), 4);
    let of_rows = numbers.iter().filter(|cell| matches!(cell, Data::Float(_))).count();
    assert_eq!((of_rows, numbers.contains(&&Data::Empty)), (3, true), "{numbers:?}");

    let status = out(&["status", "--config", config]);
    for heading in ["更正", "重复", "未受理", "逾期", "失败报文"] {
        assert!(status.contains(heading), "{status}");
    }
    let feeds = json(&["feeds", "ls", "--json", "--config", config]);
    assert_eq!(feeds[0]["counters"]["failed_messages"], 1, "{feeds}");
    assert!(out(&["feeds", "ls", "--config", config]).contains("失败报文"));
}

#[test]
fn a_file_without_rows_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("head.csv");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mappings/agencies/sthj/sample.csv");
    let bytes = std::fs::read(sample).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    std::fs::write(&file, &bytes[..=end]).unwrap();
    let args = ["run", "--dry-run", file.to_str().unwrap(), "--mapping", "sthj-admin-penalty"];
    let output = xinqiao(&args);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("没有数据行") && told.contains("共0行"), "{told}");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, word) in [(pipe.as_path(), "管道"), (folder.path(), "目录")] {
        let path = path.to_str().unwrap();
        let (code, told) = refused(&["run", "--dry-run", path, "--mapping", "sthj-admin-penalty"]);
        assert_eq!(code, Some(2));
        assert!(told.contains(word), "{told}");
    }
}

#[test]
fn errors_are_chinese_plain_and_json_when_asked() {
    for (args, word) in [
        (&["queue", "show", "abc"][..], "应为非负整数"),
        (&["queue", "ls", "--limit", "0"], "1 到 100000"),
        (&["run", "--dry-run", "none.csv", "--mapping", "sthj-admin-penalty"], "没有这个文件"),
        (&["deadline", "--dataset", "admin-penalty", "--decided", "9999-12-30"], "9999-12-31"),
        (&["deadline", "--dataset", "admin-penalty", "--decided", "0000-01-01"], "1949"),
    ] {
        let (code, told) = refused(args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(told.contains(word), "{args:?}: {told}");
        for english in ["invalid digit", "No such file", "os error", "\u{1b}["] {
            assert!(!told.contains(english), "{args:?}: {told}");
        }
        let (code, told) = refused(&[args, &["--json"]].concat());
        assert_eq!(code, Some(2), "{args:?}");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert!(told["error"]["message"].as_str().unwrap().contains(word), "{told}");
        assert!(told["error"]["code"].as_str().unwrap().contains('.'), "{told}");
    }
}

#[test]
fn the_log_has_no_colours_outside_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = format!("config: 1\ndata: data\n{KEYS}\ntargets: {{}}\n");
    std::fs::write(folder.path().join("gateway.yaml"), gateway).unwrap();
    make_keys(folder.path()).unwrap();
    let feeds = "config: 1\nagencies: {}\nfeeds: {}\n";
    std::fs::write(folder.path().join("feeds.yaml"), feeds).unwrap();
    // In the way of the control socket: it starts, says so, and ends.
    std::fs::create_dir_all(folder.path().join("data/control.sock")).unwrap();
    let (code, told) = refused(&["serve", "--config", folder.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(told.contains("INFO") && told.contains("控制接口的位置"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
}
