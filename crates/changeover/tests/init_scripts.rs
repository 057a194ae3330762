//! The init scripts below `config/postgres` are made of the migrations. `CHANGEOVER_WRITE=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use changeover::backend::Family;

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

// S0-MIG-018: the init scripts are the migrations, in order.
#[test]
fn the_init_scripts_are_made_of_the_migrations() {
    // What the modules share is in every family's.
    let of = [Family::Events, Family::Audit].map(changeover_postgres::init_scripts);
    let scripts: BTreeMap<_, _> = of.into_iter().flatten().collect();
    for (name, text) in &scripts {
        let path = config().join("postgres").join(name);
        if std::env::var_os("CHANGEOVER_WRITE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == *text, "{} is out of date: run this test with CHANGEOVER_WRITE=1", path.display());
    }
    let files = std::fs::read_dir(config().join("postgres")).unwrap().count();
    assert_eq!(files, scripts.len(), "a file in config/postgres is no migration any more");
}
