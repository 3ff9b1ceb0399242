//! The worked mappings of `mappings/agencies` are sound: they parse without a word, their own
//! tests pass and reach every field, and each has a sample beside it.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test reads the repository's files, and fails if it cannot"
)]

use std::fs;
use std::path::{Path, PathBuf};

use time::macros::date;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::diagnostic::Bundle;
use xinqiao_core::mapping::Mapping;

/// What stands under `mappings`, as the gateway is given it.
fn bundle() -> Bundle {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings");
    let mut bundle = Bundle::default();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "yaml") {
                let name = path.strip_prefix(&root).unwrap().components();
                let name: Vec<_> = name.map(|part| part.as_os_str().to_str().unwrap()).collect();
                bundle.0.insert(name.join("/"), fs::read_to_string(&path).unwrap());
            }
        }
    }
    bundle
}

#[test]
fn the_worked_mappings_pass_their_own_tests_and_reach_every_field() {
    let bundle = bundle();
    let catalogue = Catalogue::load(&bundle).unwrap();
    let mut ids = Vec::new();
    let mut wrong = Vec::new();
    for (path, text) in bundle.under("agencies/") {
        let (mapping, warnings) = match Mapping::parse(path, text, &catalogue, &bundle) {
            Ok(parsed) => parsed,
            Err(errors) => panic!("{}", errors.render(&bundle, false)),
        };
        assert!(warnings.0.is_empty(), "{}", warnings.render(&bundle, false));
        let report = mapping.run_tests(&catalogue, date!(2026 - 11 - 23));
        for outcome in &report.outcomes {
            for failure in &outcome.failures {
                wrong.push(format!("{path}:{} {}: {failure}", outcome.line, outcome.name));
            }
        }
        let (covered, fields) = report.fields_covered;
        if covered < fields || !report.uncovered.is_empty() {
            wrong.push(format!("{path}: not covered: {:?}", report.uncovered));
        }
        let (taken, branches) = report.branches_covered;
        println!(
            "{}: {} tests, {covered}/{fields} fields, {taken}/{branches} branches",
            mapping.id,
            report.outcomes.len()
        );
        ids.push(mapping.id.to_string());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    ids.sort();
    assert_eq!(
        ids,
        [
            "cgj-admin-penalty",
            "jtj-admin-penalty",
            "scjg-admin-licence",
            "scjg-uscc-map",
            "sthj-admin-penalty",
            "yjj-admin-licence",
            "zjj-admin-licence"
        ]
    );
}

#[test]
fn every_agency_has_a_sample() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mappings/agencies");
    let mut agencies = 0;
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let files = fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
        let sample = files.filter(|file| file.file_stem().is_some_and(|stem| stem == "sample"));
        assert_eq!(sample.count(), 1, "{}", path.display());
        agencies += 1;
    }
    assert!(agencies >= 6, "{agencies}");
}
