//! While writers are on: what differs is suspect, and only what differs still is wrong.

use std::ops::ControlFlow;

use changeover_core::cutover::Raw;
use changeover_cutover::verify::{ChangedKey, ExcusedKeys, Kind, Mode};

use crate::stores::healthy;
use crate::{declared, verifier};

// Fault 12: rows that are ahead on either side settle; a broken one does not.
#[tokio::test]
async fn suspects_that_the_follower_settles_are_no_mismatches() {
    let tables = declared::all();
    let (old, new) = healthy(&tables, 20);
    let (_, ahead) = healthy(&tables, 21);
    let nobody = ExcusedKeys::default();
    // Row 21 of each table is in the old store, the new one has it later; and one row is really wrong.
    *old.0.lock().unwrap() = std::mem::take(&mut *healthy(&tables, 21).0.0.lock().unwrap());
    let verifier = verifier(&tables, &old, &new);
    let go_on = &mut |_: &_, _: &_| ControlFlow::Continue(());
    let found = verifier.run(Mode::Online, None, &nobody, go_on).await.unwrap();
    assert!(found.mismatches.is_empty() && found.suspects.len() == verifier.targets().len() + 2, "{found:?}");
    *new.0.lock().unwrap() = ahead.0.lock().unwrap().clone();
    new.0.lock().unwrap().get_mut("event_store.event_stream").unwrap()[20]
        .insert("version".into(), Some("1".into()));
    let wrong = verifier.recheck(&found.suspects, &nobody).await.unwrap();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert_eq!((wrong[0].kind, &*wrong[0].fields), (Kind::Changed, &["version".to_owned()][..]));

    // The other way round: the new store is ahead of what was read of the old one.
    *old.0.lock().unwrap() = std::mem::take(&mut *healthy(&tables, 20).0.0.lock().unwrap());
    *new.0.lock().unwrap() = ahead.0.lock().unwrap().clone();
    let found = verifier.run(Mode::Online, None, &nobody, go_on).await.unwrap();
    assert!(found.mismatches.is_empty() && !found.suspects.is_empty());
    *old.0.lock().unwrap() = std::mem::take(&mut *healthy(&tables, 21).0.0.lock().unwrap());
    let wrong = verifier.recheck(&found.suspects, &nobody).await.unwrap();
    assert_eq!(wrong, [], "the rows are there now");
    *old.0.lock().unwrap() = std::mem::take(&mut *healthy(&tables, 20).0.0.lock().unwrap());
    let wrong = verifier.recheck(&found.suspects, &nobody).await.unwrap();
    assert_eq!(wrong.len(), found.suspects.len());
    assert!(wrong.iter().all(|mismatch| mismatch.kind == Kind::Extra), "{wrong:?}");
}

#[tokio::test]
async fn keys_that_were_captured_are_looked_at_alone() {
    let tables = declared::all();
    let (old, new) = healthy(&tables, 20);
    let nobody = ExcusedKeys::default();
    let verifier = verifier(&tables, &old, &new);
    let key = |table: &str, number| ChangedKey { table: table.into(), key: vec![Raw::Integer(number)] };
    let keys = [
        key("domain_event", 4),
        key("audit_events", 5),
        key("notification_audit", 6),
        key("domain_event", 99),
    ];
    assert_eq!(verifier.changed(&keys, &nobody).await.unwrap(), []);
    // An audit event is looked for in both of its tables.
    new.0.lock().unwrap().get_mut("audit_store.audit_event_id").unwrap()[4]
        .insert("digest".into(), Some("\\x00".into()));
    new.0.lock().unwrap().get_mut("audit_store.audit_events").unwrap()[25]
        .insert("actor_type".into(), Some("user".into()));
    // A row that the old store has no more, and the new one has.
    old.0.lock().unwrap().get_mut("domain_event").unwrap().remove(3);
    let wrong = verifier.changed(&keys, &nobody).await.unwrap();
    let mut shown: Vec<_> =
        wrong.iter().map(|found| (&*found.target, found.kind, found.fields.join(","))).collect();
    shown.sort_by_key(|found| found.0);
    assert_eq!(
        shown,
        [
            ("audit_store.audit_event_id", Kind::Changed, "digest".to_owned()),
            ("audit_store.audit_events", Kind::Changed, "actor_type".to_owned()),
            ("event_store.domain_event", Kind::Extra, String::new()),
        ]
    );
}
