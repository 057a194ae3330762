//! The init scripts below `config/postgres` are made of the migrations. `CHANGEOVER_WRITE=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::path::{Path, PathBuf};

use changeover::backend::Family;

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

// S0-MIG-018, S3-MIG-008: the init scripts are the migrations, in order, those of each family in a folder of its own.
#[test]
fn the_init_scripts_are_made_of_the_migrations() {
    for (family, folder) in [(Family::Events, "postgres"), (Family::Playbooks, "postgres-playbooks")] {
        let folder = config().join(folder);
        let scripts = changeover_postgres::init_scripts(family);
        let writes = std::env::var_os("CHANGEOVER_WRITE").is_some();
        if writes {
            std::fs::create_dir_all(&folder).unwrap();
        }
        for (name, text) in &scripts {
            let path = folder.join(name);
            if writes {
                std::fs::write(&path, text).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == *text,
                "{} is out of date: run this test with CHANGEOVER_WRITE=1",
                path.display()
            );
        }
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, scripts.len(), "a file in {} is no migration any more", folder.display());
    }
}
