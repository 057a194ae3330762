//! Processes that start: with settings that disagree, on a restored backup, on a new file.

use changeover::ErrorKind;
use diesel::Connection;
use diesel::connection::SimpleConnection;
use rstest::rstest;

use crate::moving::{Moving, Places};
use crate::{LONG, WHILE, ids, owner, ship, store, write};

/// Where a process that starts now finds the module, and writes.
async fn starts(places: &Places, expected: Option<&str>) {
    for settings in ["sqlite", "postgres"] {
        let db = places.process(settings).await;
        let call = async {
            let written = write(&store(&db).await).await;
            (written, owner(&db).await)
        };
        let time = if expected.is_some() { LONG } else { WHILE };
        match (tokio::time::timeout(time, call).await, expected) {
            (Ok((_, found)), Some(expected)) => assert_eq!(found, expected, "settings name {settings}"),
            (Err(_), None) => {}
            (found, _) => panic!("settings name {settings}: {found:?}, expected {expected:?}"),
        }
        db.close().await;
    }
}

// Amendment 3: a process that starts in whatever phase, with whatever settings, finds the owner, or waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_in_any_phase_follows_the_stores() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    write(&store(&db).await).await;
    let mut moving = Moving::begin(&places).await;
    starts(&places, Some("sqlite")).await;
    moving.fence().await;
    starts(&places, None).await;
    moving.unfence().await;
    starts(&places, Some("sqlite")).await;
    moving.fence().await;
    moving.drain().await;
    starts(&places, None).await;
    moving.seal().await;
    starts(&places, None).await;
    moving.switch().await;
    starts(&places, Some("postgres")).await;
    moving.take_back().await;
    starts(&places, None).await;
    moving.give_back().await;
    starts(&places, Some("sqlite")).await;
    // One before, two in each of the four phases that let them.
    assert_eq!(ids(&store(&db).await).await.len(), 9);
}

// Fault 16: a copy of the file from before, with or without its record of the cutover, takes writes while PostgreSQL owns
// the module: refused, with both places, and nothing is written to it.
#[rstest]
#[case::from_before_the_cutover(false, "without a record of any cutover")]
#[case::from_before_the_fence(true, "epoch 1")]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_is_refused(#[case] prepared: bool, #[case] epoch: &str) {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    write(&store(&db).await).await;
    let backup = places.dir.path().join("backup.db");
    let copy = || {
        let vacuum = format!("VACUUM INTO '{}'", backup.display());
        let mut file = diesel::SqliteConnection::establish(places.file().to_str().unwrap()).unwrap();
        file.batch_execute(&vacuum).unwrap();
    };
    if !prepared {
        copy();
    }
    let mut moving = Moving::begin(&places).await;
    if prepared {
        copy();
    }
    moving.cut().await;
    let options = places.options.clone().with("backends.sqlite.path", backup.to_str().unwrap());
    let options = options.with("persistence.default", "sqlite");
    let restored = changeover::connect_with(options.clone(), changeover::registry()).await.unwrap();
    let refused = restored.events("events").unwrap().store().await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    for part in ["backup.db", epoch, "backend postgres", "epoch 2", "persistence.events"] {
        assert!(refused.message().contains(part), "{part}: {refused}");
    }
    let transaction = ship(&restored).await.unwrap_err();
    assert_eq!(transaction.kind(), ErrorKind::Config, "{transaction}");
    restored.close().await;
    // With the server gone, the file alone is believed, and the log says so.
    let alone = options.with("backends.postgres.url", "postgres://nobody@127.0.0.1:1/none");
    let alone = changeover::connect_with(alone, changeover::registry()).await.unwrap();
    assert_eq!(ids(&store(&alone).await).await.len(), 1);
}

// A file that is new and empty is not the module's because the settings name it; nor is one the owner because a file was.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_does_not_take_a_module_that_is_elsewhere() {
    let places = Places::new().await;
    let db = places.process("sqlite").await;
    let mut written = vec![write(&store(&db).await).await];
    let mut moving = Moving::begin(&places).await;
    let new = places.dir.path().join("new.db");
    let options = places.options.clone().with("backends.sqlite.path", new.to_str().unwrap());
    for settings in ["sqlite", "postgres"] {
        let options = options.clone().with("persistence.default", settings);
        let lost = changeover::connect_with(options, changeover::registry()).await.unwrap();
        let refused = lost.events("events").unwrap().store().await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        assert!(refused.message().contains("holds nothing of it"), "{refused}");
    }
    moving.cut().await;
    let options = options.with("persistence.default", "sqlite");
    let other = changeover::connect_with(options, changeover::registry()).await.unwrap();
    written.push(write(&store(&other).await).await);
    assert_eq!((owner(&other).await, places.ids_on_server().await), ("postgres".to_owned(), written));
}
