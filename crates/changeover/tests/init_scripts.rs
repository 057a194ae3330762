//! The init scripts below `config/` are made of the migrations. `CHANGEOVER_WRITE=1` writes them anew.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

use std::collections::BTreeMap;
use std::path::Path;

use changeover::backend::Family;

/// The playbooks have a folder of their own, since they need pgvector.
const FOLDERS: [(&str, &[Family]); 2] =
    [("postgres", &[Family::Events, Family::Audit]), ("postgres-playbooks", &[Family::Playbooks])];

// S0-MIG-018, S3-MIG-008: the init scripts are the migrations, in order.
#[test]
fn the_init_scripts_are_made_of_the_migrations() {
    for (folder, families) in FOLDERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(folder);
        // What the modules share is in every family's.
        let scripts: BTreeMap<_, _> =
            families.iter().flat_map(|family| changeover_postgres::init_scripts(*family)).collect();
        for (name, text) in &scripts {
            let path = folder.join(name);
            if std::env::var_os("CHANGEOVER_WRITE").is_some() {
                std::fs::create_dir_all(&folder).unwrap();
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
