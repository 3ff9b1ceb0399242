use std::path::Path;

use super::load;
use crate::domain::{Domain, bundle};

const GATEWAY: &str = "\
config: 1
data: data
listen: { address: 127.0.0.1:0 }
targets:
  city: { kind: rest, params: { url: 'http://127.0.0.1:9/rows' } }
";
const FEEDS: &str = "\
config: 1
agencies:
  yjj: { name: 市应急管理局 }
feeds:
  one:
    agency: yjj
    mapping: yjj-admin-licence
    targets: city
    source: { kind: push, params: { token: { file: token } } }
";

fn told(gateway: &str, feeds: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("gateway.yaml", gateway);
    write("feeds.yaml", feeds);
    write("token", "an invented token of a test\n");
    errors(folder.path())
}

fn errors(folder: &Path) -> Vec<String> {
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    match load(folder, &domain) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let places = error.found.0.iter().map(|d| format!("{}:{} {}", d.file, d.line, d.code));
            places.collect()
        }
    }
}

#[test]
fn a_sound_configuration_is_taken() {
    assert_eq!(told(GATEWAY, FEEDS), [""; 0]);
}

#[test]
fn every_error_of_both_files_is_told_at_once_with_its_place() {
    let gateway = GATEWAY.replace("127.0.0.1:0", "here").replace("kind: rest", "kind: fax");
    let feeds = FEEDS
        .replace("agency: yjj\n", "agency: yj\n    colour: red\n")
        .replace("mapping: yjj-", "mapping: yj-")
        .replace("file: token", "file: none");
    let mut told = told(&gateway, &feeds);
    told.sort();
    assert_eq!(
        told,
        [
            "feeds.yaml:10 config.source",
            "feeds.yaml:6 config.agency",
            "feeds.yaml:7 yaml.unknown-key",
            "feeds.yaml:8 config.mapping",
            "feeds.yaml:9 config.feed-target",
            "gateway.yaml:3 config.address",
            "gateway.yaml:5 config.target-kind",
        ]
    );
}

#[test]
fn two_feeds_may_not_share_a_token() {
    let (_, feed) = FEEDS.split_once("  one:").unwrap();
    let feeds = format!("{FEEDS}  two:{feed}");
    assert_eq!(told(GATEWAY, &feeds), ["feeds.yaml:10 config.same-token"]);
}
