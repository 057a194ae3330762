//! The files under `config/` say what the program understands, no more and no less (S2-CFG-003, X8).

use std::path::{Path, PathBuf};

use changeover::{Layers, PersistenceOptions, registry};
use rstest::rstest;

fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name)
}

/// Write it anew with `WRITE_CONFIG=1 cargo test -p changeover --test config`.
#[test]
fn the_default_file_names_every_key_with_its_default() {
    let path = config("default.toml");
    let template = PersistenceOptions::template(&registry());
    if std::env::var_os("WRITE_CONFIG").is_some() {
        std::fs::write(&path, &template).unwrap();
    }
    let file = std::fs::read_to_string(&path).unwrap();
    assert_eq!(file, template, "config/default.toml is not what the keys say; see this test's comment");
    for kind in registry().kinds() {
        for key in registry().get(kind).unwrap().keys() {
            assert!(file.contains(&format!("{} =", key.key)), "{kind}: {} is missing", key.key);
        }
    }
}

#[test]
fn the_default_file_says_what_holds_without_a_file() {
    let values = |options: PersistenceOptions| -> Vec<_> {
        let settings = options.effective(&registry()).unwrap();
        settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
    };
    let file = Layers::new().file(config("default.toml")).load();
    assert_eq!(values(file), values(PersistenceOptions::new()));
}

#[rstest]
#[case("sqlite.toml", "events", "local")]
#[case("postgres.toml", "events", "main")]
fn the_examples_are_right(#[case] name: &str, #[case] module: &str, #[case] backend: &str) {
    let options = Layers::new().file(config(name)).load();
    let db = changeover::connect_lazily(options, registry()).unwrap();
    assert_eq!(db.module(module).unwrap().configured_backend(), backend);
}
