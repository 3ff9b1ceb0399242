//! The example configuration in ops/ loads as it stands, once its secrets are there.

use std::path::Path;

use xinqiao::config;
use xinqiao::domain::{Domain, bundle};
use xinqiao_tests::world::write_private;

#[test]
fn the_example_configuration_loads() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/config");
    let folder = tempfile::tempdir().unwrap();
    for name in ["gateway.yaml", "feeds.yaml"] {
        std::fs::copy(examples.join(name), folder.path().join(name)).unwrap();
    }
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    let error = config::load(folder.path(), &domain).err().expect("its secrets are not there yet");
    assert!(error.to_string().contains("secrets/"), "{error}");

    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    for name in ["platform-token", "push-token", "keys-passphrase"] {
        let file = folder.path().join("secrets").join(name);
        write_private(&file, "sixteen-or-more-characters").unwrap();
    }
    let config = config::load(folder.path(), &domain).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.targets.len(), 1);
    assert!(config.feeds.len() >= 2);
}
