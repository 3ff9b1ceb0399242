//! The tree's shape, as gateway/docs/architecture.md states it, held by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Which of our crates each may depend on, in any way.
const EDGES: &[(&str, &[&str])] = &[
    ("xinqiao-core", &[]),
    ("xinqiao-kernels", &[]),
    ("xinqiao-crypto", &["xinqiao-core", "xinqiao-kernels"]),
    ("xinqiao-sdf", &["xinqiao-crypto", "xinqiao-softsdf"]),
    ("xinqiao-softsdf", &["xinqiao-crypto"]),
    ("xinqiao-store", &["xinqiao-core", "xinqiao-crypto"]),
    ("xinqiao-adapters", &["xinqiao-core"]),
    ("xinqiao-http", &["xinqiao-core", "xinqiao-crypto", "xinqiao-store"]),
    (
        "xinqiao",
        &[
            "xinqiao-core",
            "xinqiao-crypto",
            "xinqiao-sdf",
            "xinqiao-store",
            "xinqiao-http",
            "xinqiao-adapters",
        ],
    ),
    (
        "xinqiao-tests",
        &[
            "xinqiao",
            "xinqiao-core",
            "xinqiao-kernels",
            "xinqiao-crypto",
            "xinqiao-store",
            "xinqiao-http",
            "xinqiao-adapters",
        ],
    ),
];

/// Everything the top level may hold besides dotfiles.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "adapters",
    "certs",
    "gateway",
    "mappings",
    "ops",
    "tests",
];

/// What core must do without: it is pure.
const IMPURE: &[&str] =
    &["tokio", "tracing", "hyper", "axum", "redb", "reqwest", "rustix", "tempfile"];

/// Third-party crates in the lock for this platform: a build on two cores must stay short. Only ever
/// lowered, or raised by a decision (0008).
const MOST_CRATES: usize = 344;

/// Lines of a source file. A longer one is split, or stands in [`LONG`] until it is.
const MOST_LINES: usize = 600;

/// Files that may be longer, and how long they are: only ever lowered or removed.
const LONG: &[(&str, usize)] = &[];

#[test]
fn crates_depend_only_inwards() {
    let metadata = metadata(&["--no-deps"]);
    let allowed: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        seen.insert(name);
        let may = allowed.get(name).unwrap_or_else(|| panic!("crate {name} has no line in EDGES"));
        for dependency in list(package, "dependencies") {
            let on = text(dependency, "name");
            if on.starts_with("xinqiao") {
                assert!(may.contains(&on), "{name} must not depend on {on}");
            }
            if name == "xinqiao-core" && dependency["kind"].is_null() {
                assert!(!IMPURE.contains(&on), "{name} is pure and must not depend on {on}");
            }
        }
    }
    let known: BTreeSet<_> = allowed.keys().copied().collect();
    assert_eq!(seen, known, "EDGES lists crates that are not there");
}

#[test]
fn dependencies_stay_few() {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let used: BTreeSet<&str> = list(&metadata["resolve"], "nodes").map(|n| text(n, "id")).collect();
    let foreign = list(&metadata, "packages")
        .filter(|p| used.contains(text(p, "id")) && !p["source"].is_null())
        .count();
    println!("{foreign} third-party crates");
    assert!(foreign > 0 && foreign < MOST_CRATES, "{foreign} third-party crates");
}

#[test]
fn the_top_level_is_fixed() {
    let found: BTreeSet<String> = tracked()
        .iter()
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "not in the fixed list of the top level: {found:?}");
}

#[test]
fn no_private_key_is_tracked() {
    // Put together here so that this file does not find itself.
    let marker = ["PRIVATE", "KEY-----"].join(" ");
    let mut found = Vec::new();
    for path in tracked() {
        let named = [".key", ".p12", ".pfx", "-key.pem"].iter().any(|end| path.ends_with(end));
        let bytes = std::fs::read(root().join(&path)).unwrap_or_default();
        let holds = bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
        if named || holds {
            found.push(path);
        }
    }
    assert!(found.is_empty(), "private keys never enter the repository: {found:?}");
}

/// The crates with unsafe code: vector instructions, a vendor's library, and its test double.
const UNSAFE: [&str; 3] = ["gateway/kernels/", "gateway/sdf/", "tests/softsdf/"];

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE.iter().any(|folder| path.contains(folder))
}

#[test]
fn no_crate_opts_out_of_the_lints() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""), "unsafe code is forbidden at the root");
    for package in list(&metadata(&["--no-deps"]), "packages") {
        let path = text(package, "manifest_path");
        let manifest = std::fs::read_to_string(path).unwrap();
        let lints = if may_be_unsafe(path) {
            "undocumented_unsafe_blocks = \"deny\""
        } else {
            "[lints]\nworkspace = true"
        };
        assert!(manifest.contains(lints), "{path} leaves the common lints");
    }
    let words = ["{", "fn", "impl", "trait", "extern"].map(|next| ["unsafe", next].join(" "));
    for (path, text) in sources().filter(|(path, _)| !may_be_unsafe(path)) {
        let found = words.iter().find(|word| text.contains(word.as_str()));
        assert_eq!(found, None, "{path}");
    }
}

#[test]
fn files_stay_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        match LONG.iter().find(|(name, _)| *name == path) {
            None if lines > MOST_LINES => wrong.push(format!("{path}: {lines} lines, split it")),
            Some((_, most)) if lines > *most => wrong.push(format!("{path}: grew to {lines}")),
            Some(_) if lines <= MOST_LINES => wrong.push(format!("{path}: remove it from LONG")),
            Some((_, most)) if lines < *most => wrong.push(format!("{path}: lower it to {lines}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tracked() -> Vec<String> {
    let output = run(Command::new("git").args(["ls-files", "-z"]));
    let names = String::from_utf8(output).unwrap();
    let names: Vec<_> = names.split_terminator('\0').map(str::to_owned).collect();
    assert!(names.len() > 100, "git lists {} files", names.len());
    names
}

fn sources() -> impl Iterator<Item = (String, String)> {
    tracked().into_iter().filter(|path| path.ends_with(".rs")).map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        (path, text)
    })
}

fn metadata(arguments: &[&str]) -> Value {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(["metadata", "--format-version", "1", "--offline"]).args(arguments);
    serde_json::from_slice(&run(&mut command)).unwrap()
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().unwrap().iter()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}
