//! The file that a finalized module leaves: put away, recorded once, and evidence still.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use changeover_core::ErrorKind;
use changeover_core::backend::Family;
use changeover_core::cutover::{Archive, Archiving};
use changeover_core::events::ReadAll;
use changeover_cutover::phase::{Owner, Phase};
use changeover_cutover::plan::{self, plan};
use changeover_cutover::report::{self, Checked, Manifest};
use changeover_cutover::{Cutover, Goal, Status, Step, Terms};

use crate::roots::one_root;
use crate::stage::{Stage, append, event, history, stream, terms, words};
use crate::support::tenant;

/// Finalizes; what became of the file.
async fn finalize(cutover: &Cutover, terms: &Terms) -> (Status, Archiving) {
    let seen = Arc::new(Mutex::new(None));
    let watched = cutover.clone().watching({
        let seen = Arc::clone(&seen);
        move |step| {
            if let Step::Archive(archiving) = step {
                *seen.lock().unwrap() = Some(archiving.clone());
            }
        }
    });
    let status = watched.finalize(terms).await.unwrap();
    assert_eq!((status.phase, status.owner), (Phase::Finalized, Owner::Postgres));
    let seen = seen.lock().unwrap().take();
    (status, seen.expect("it is told what became of the file"))
}

async fn switched(sql: &str) -> (Stage, Cutover) {
    let stage = Stage::legacy(Family::Events, sql).await;
    let cutover = stage.cutover().await;
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap().owner, Owner::Postgres);
    (stage, cutover)
}

async fn archived(cutover: &Cutover) -> Vec<serde_json::Value> {
    let record = cutover.record(None).await.unwrap();
    let entries = record.iter().filter(|it| it.entry.what == "archived");
    entries.map(|it| it.entry.facts.to().unwrap()).collect()
}

async fn against(manifest: &Manifest, cutover: &Cutover) -> Checked {
    assert!(report::check(manifest).unwrap().is_sound());
    report::against(manifest, cutover).await.unwrap()
}

/// The archive of a stage is there, sound and whole, and was recorded once.
pub async fn is_archived(stage: &Stage, events: i64) -> Archive {
    let cutover = stage.cutover().await;
    let archive = cutover.status().await.unwrap().archive.expect("the file is archived");
    assert!(archive.is_there);
    let recorded = archived(&cutover).await;
    assert_eq!(recorded.len(), 1, "{recorded:?}");
    assert_eq!(recorded[0]["archive"], archive.place.to_str().unwrap());
    assert_eq!(recorded[0]["bytes"], archive.bytes);
    assert_eq!(fs::metadata(&archive.place).unwrap().len(), archive.bytes);
    assert_eq!(fs::metadata(&archive.place).unwrap().permissions().mode() & 0o777, 0o444);
    let mut file = crate::support::program(&archive.place);
    let mut number = |sql: &str| crate::support::number(&mut file, sql);
    assert_eq!(number("SELECT count(*) FROM domain_event"), events);
    assert_eq!(number("SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
    one_root(stage).await;
    archive
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_finalized_module_is_archived_and_recorded_once() {
    let (stage, cutover) = switched(&history(3, 5)).await;
    let (status, archiving) = finalize(&cutover, &terms()).await;
    let Archiving::Done(archive) = archiving else { panic!("{archiving:?}") };
    assert_eq!(status.archive.as_ref(), Some(&archive));
    assert_eq!(status.to_json()["archive"]["place"], archive.place.to_str().unwrap());
    assert!(!status.file.unwrap().open, "the tombstone answers for the file");
    let record = cutover.record(None).await.unwrap();
    assert_eq!(words(&record)[record.len() - 2..], ["finalized", "archived"]);
    for _ in 0..2 {
        assert_eq!(finalize(&cutover, &terms()).await.1, Archiving::Before(archive.clone()));
    }
    assert_eq!(cutover.record(None).await.unwrap(), record);
    assert_eq!(is_archived(&stage, 15).await, archive);
    // Fault 14: whoever comes late.
    let told = stage.file.try_run("DELETE FROM domain_event").unwrap_err();
    assert!(told.contains("E_FENCED module=events"), "{told}");
    let refused = stage.old_events().await.read_all(ReadAll::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Moved);
    append(&*stage.new_events().await, stream(1), event(changeover_core::Uuid::new_v4(), 1)).await.unwrap();
    // Nothing but what is right can be done with it.
    assert_eq!(cutover.run(&terms(), Goal::Switched).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(cutover.revert(&terms()).await.unwrap_err().kind(), ErrorKind::Invalid);
    let looking = plan::Terms::new(tenant());
    let planned = plan(cutover.source(), cutover.target(), cutover.tables(), &looking, &mut |_| {}).await;
    let refused = planned.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.message().starts_with("the file was archived as "), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_evidence_is_compared_with_the_archive() {
    let (_stage, cutover) = switched(&history(3, 5)).await;
    let early = Manifest::of(&cutover, None).await.unwrap();
    let Archiving::Done(archive) = finalize(&cutover, &terms()).await.1 else { panic!("it is kept") };
    let late = Manifest::of(&cutover, None).await.unwrap();
    for manifest in [&early, &late] {
        let checked = against(manifest, &cutover).await;
        assert!(checked.is_sound() && checked.unknown.is_empty(), "{checked:?}");
        let said = format!("the archive {} has the data root", archive.place.display());
        assert!(checked.holds.iter().any(|it| it.starts_with(&said)), "{checked:?}");
    }
    // Somewhere else: said, and nothing is claimed.
    let elsewhere = archive.place.with_extension("elsewhere");
    fs::rename(&archive.place, &elsewhere).unwrap();
    let checked = against(&late, &cutover).await;
    assert!(checked.is_sound() && checked.unknown.len() == 1, "{checked:?}");
    assert!(checked.unknown[0].contains("is not there; put it back"), "{checked:?}");
    assert!(!cutover.status().await.unwrap().archive.unwrap().is_there);
    assert!(matches!(finalize(&cutover, &terms()).await.1, Archiving::Before(it) if !it.is_there));
    // Somebody wrote to it.
    fs::rename(&elsewhere, &archive.place).unwrap();
    fs::set_permissions(&archive.place, fs::Permissions::from_mode(0o600)).unwrap();
    changed(&archive);
    let checked = against(&late, &cutover).await;
    assert!(
        checked.wrong.len() == 1 && checked.wrong[0].starts_with("the data root of the archive"),
        "{checked:?}"
    );
    assert_eq!(archived(&cutover).await.len(), 1);
}

fn changed(archive: &Archive) {
    use diesel::connection::SimpleConnection;
    let sql = "PRAGMA writable_schema = ON; DELETE FROM sqlite_master WHERE type = 'trigger'; PRAGMA writable_schema = OFF";
    crate::support::program(&archive.place).batch_execute(sql).unwrap();
    let sql = "UPDATE domain_event SET event_type = 'Forged' WHERE rowid = 3";
    crate::support::program(&archive.place).batch_execute(sql).unwrap();
}

// Asked to stay, and in use: the module is finalized all the same, and the next call archives.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_stays_is_no_failure() {
    let (stage, cutover) = switched(&history(3, 5)).await;
    let before = Terms { keep_file: true, ..terms() };
    let (status, archiving) = finalize(&cutover, &before).await;
    assert!(matches!(archiving, Archiving::Kept(_)) && status.archive.is_none());
    let mut program = stage.file.program();
    diesel::connection::SimpleConnection::batch_execute(&mut program, "SELECT count(*) FROM event_stream")
        .unwrap();
    let (status, archiving) = finalize(&cutover, &terms()).await;
    let Archiving::Kept(why) = archiving else { panic!("{archiving:?}") };
    assert!(why.contains("is in use by another program"), "{why}");
    assert!(status.archive.is_none());
    assert!(archived(&cutover).await.is_empty());
    assert_eq!(stage.file.number("SELECT count(*) FROM domain_event"), 15);
    drop(program);
    assert!(matches!(finalize(&cutover, &terms()).await.1, Archiving::Done(_)));
    is_archived(&stage, 15).await;
    // It does not come back for being asked to stay.
    assert!(matches!(finalize(&cutover, &before).await.1, Archiving::Before(_)));
}

// Rows that stayed out are in the archive, and in quarantine with their bytes: they hold nothing back.
#[tokio::test(flavor = "multi_thread")]
async fn rows_in_quarantine_go_into_the_archive() {
    let bad = "UPDATE domain_event SET occurred_at = 'yesterday' WHERE rowid = 4;";
    let stage = Stage::legacy(Family::Events, &(history(3, 5) + bad)).await;
    let cutover = stage.cutover().await;
    let terms = Terms { max_quarantined: 1, ..terms() };
    cutover.run(&terms, Goal::Switched).await.unwrap();
    assert!(matches!(finalize(&cutover, &terms).await.1, Archiving::Done(_)));
    is_archived(&stage, 15).await;
    let manifest = Manifest::of(&cutover, None).await.unwrap();
    assert_eq!(manifest.quarantine.as_ref().map(Vec::len), Some(1));
    let checked = against(&manifest, &cutover).await;
    assert!(checked.is_sound() && checked.unknown.is_empty(), "{checked:?}");
}

// Two who finalize at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_archive_once() {
    let (stage, one) = switched(&history(3, 5)).await;
    let other = stage.cutover_by("another", stage.db.url()).await;
    let terms = terms();
    let both = tokio::join!(one.finalize(&terms), other.finalize(&terms));
    // Who lost the race for the lease is told, and repeats it.
    assert!(both.0.is_ok() || both.1.is_ok(), "{both:?}");
    finalize(&one, &terms).await;
    is_archived(&stage, 15).await;
}
