//! The files below `config/` say what the program knows. `CHANGEOVER_WRITE=1` writes the generated ones anew.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};

use changeover::backend::Family;
use changeover::{Layers, PersistenceOptions, registry};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn is_as_generated(path: &Path, text: &str) {
    if std::env::var_os("CHANGEOVER_WRITE").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{} is out of date: run this test with CHANGEOVER_WRITE=1", path.display());
}

// X8, S2-CFG-003: every key, its default, a comment a key.
#[test]
fn the_default_file_has_every_key_of_every_backend() {
    is_as_generated(&config().join("default.toml"), &PersistenceOptions::template(&registry()));
}

#[test]
fn the_default_file_says_what_holds_without_a_file() {
    let values = |options: PersistenceOptions| -> Vec<_> {
        let settings = options.effective(&registry()).unwrap();
        settings.into_iter().map(|setting| (setting.key, setting.value)).collect()
    };
    let file = Layers::new().file(config().join("default.toml")).load();
    assert_eq!(values(file), values(PersistenceOptions::new()));
}

// S0-MIG-018: the init scripts are the migrations, in order.
#[test]
fn the_init_scripts_are_made_of_the_migrations() {
    let scripts = changeover_postgres::init_scripts(Family::Events);
    for (name, text) in &scripts {
        is_as_generated(&config().join("postgres").join(name), text);
    }
    let files = std::fs::read_dir(config().join("postgres")).unwrap().count();
    assert_eq!(files, scripts.len(), "a file in config/postgres is no migration any more");
}

#[test]
fn the_example_files_are_valid() {
    for name in ["sqlite.toml", "postgres.toml"] {
        let options = Layers::new().file(config().join(name)).load();
        options.check(&registry()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
