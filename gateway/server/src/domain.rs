//! The data the gateway decides by: catalogue, calendar, mappings.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};
use std::path::Path;
use std::sync::Arc;

use xinqiao_core::calendar::Calendar;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::diagnostic::{Bundle, Diagnostic, Diagnostics, Level};
use xinqiao_core::mapping::Mapping;
use xinqiao_core::model::MappingId;

/// `mappings/` as it was when the binary was built.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/mappings.rs"));

/// Everything read from `mappings/`.
#[derive(Debug)]
pub struct Domain {
    /// The files themselves, for showing diagnostics.
    pub bundle: Bundle,
    /// Datasets and generations.
    pub catalogue: Catalogue,
    /// Working days.
    pub calendar: Calendar,
    /// Mappings under `agencies/`, by id, with the path of each.
    pub mappings: BTreeMap<MappingId, (String, Arc<Mapping>)>,
    /// Warnings in the files.
    pub warnings: Diagnostics,
}

/// Why the data cannot be used.
#[derive(Debug)]
pub struct DomainError {
    /// The files as far as they were read.
    pub bundle: Bundle,
    /// Every error.
    pub found: Diagnostics,
}

/// Reads a data folder. Of the parts `agencies`, `calendar`, `catalogue` … those that the folder has
/// are the folder's, whole; the others are what was built in, and so is everything without a folder.
pub fn bundle(folder: Option<&Path>) -> std::io::Result<Bundle> {
    let mut files = BTreeMap::new();
    if let Some(folder) = folder {
        walk(folder, folder, &mut files)?;
    }
    let part = |path: &str| path.split('/').next().map(str::to_owned);
    let own: BTreeSet<_> = files.keys().filter_map(|path| part(path)).collect();
    let built_in = BUILT_IN.iter().filter(|(path, _)| part(path).is_none_or(|p| !own.contains(&p)));
    files.extend(built_in.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
    Ok(Bundle(files))
}

fn walk(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(root, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "csv") {
            let name =
                path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
            // A sample in another encoding is no file of ours: only UTF-8 texts are.
            if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                files.insert(name, text);
            }
        }
    }
    Ok(())
}

impl Domain {
    /// Parses everything in a bundle; every error at once.
    pub fn load(bundle: Bundle) -> Result<Self, Box<DomainError>> {
        let mut found = Diagnostics::default();
        let calendar = Calendar::load(&bundle).map_err(|e| found.0.extend(e.0)).ok();
        let catalogue = Catalogue::load(&bundle).map_err(|e| found.0.extend(e.0)).ok();
        let mut mappings: BTreeMap<MappingId, (String, Arc<Mapping>)> = BTreeMap::new();
        if let Some(catalogue) = &catalogue {
            for (path, text) in
                bundle.under("agencies/").filter(|(path, _)| path.ends_with(".yaml"))
            {
                match Mapping::parse(path, text, catalogue, &bundle) {
                    Ok((mapping, warnings)) => {
                        found.0.extend(warnings.0);
                        match mappings.entry(mapping.id.clone()) {
                            Entry::Vacant(new) => {
                                new.insert((path.to_owned(), Arc::new(mapping)));
                            }
                            Entry::Occupied(known) => {
                                found.0.push(duplicate_id(&mapping.id, path, &known.get().0));
                            }
                        }
                    }
                    Err(errors) => found.0.extend(errors.0),
                }
            }
        }
        match (calendar, catalogue) {
            (Some(calendar), Some(catalogue)) if !found.has_errors() => {
                Ok(Self { bundle, catalogue, calendar, mappings, warnings: found })
            }
            _ => Err(Box::new(DomainError { bundle, found })),
        }
    }
}

/// Two mappings of one id: a feed names its mapping by id.
pub fn duplicate_id(id: &MappingId, file: &str, other: &str) -> Diagnostic {
    Diagnostic {
        code: "mapping.duplicate-id",
        level: Level::Error,
        file: file.to_owned(),
        line: 0,
        column: 0,
        span: 0..0,
        message: format!("标识 {id} 与 {other} 重复"),
        help: Some("每份映射规则的 id 应各不相同".into()),
    }
}

impl std::error::Error for DomainError {}

/// The errors as a person reads them.
impl std::fmt::Display for DomainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.found.render(&self.bundle, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_brings_parts_and_the_rest_is_built_in() {
        let folder = tempfile::tempdir().unwrap();
        let agency = folder.path().join("agencies/new");
        std::fs::create_dir_all(&agency).unwrap();
        let built_in = bundle(None).unwrap();
        let text = built_in.get("agencies/yjj/admin-licence.yaml").unwrap();
        std::fs::write(agency.join("licence.yaml"), text).unwrap();
        let domain = Domain::load(bundle(Some(folder.path())).unwrap()).unwrap();
        let paths: Vec<_> = domain.mappings.values().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["agencies/new/licence.yaml"]);
        assert_eq!(domain.bundle.under("catalogue/").count(), built_in.under("catalogue/").count());
    }

    #[test]
    fn two_mappings_of_one_id_are_refused() {
        let mut files = bundle(None).unwrap();
        let text = files.get("agencies/yjj/admin-licence.yaml").unwrap().to_owned();
        files.0.insert("agencies/yjj/copy.yaml".to_owned(), text);
        let codes = Domain::load(files).unwrap_err().found.0;
        let codes: Vec<_> = codes.iter().map(|d| (d.code, d.file.as_str())).collect();
        assert_eq!(codes, [("mapping.duplicate-id", "agencies/yjj/copy.yaml")]);
    }
}
