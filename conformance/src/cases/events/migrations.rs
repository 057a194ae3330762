//! The schema: applied in order, once, by whoever comes first; taken back only knowingly.

use std::collections::BTreeSet;
use std::sync::Arc;

use changeover_core::backend::{Family, MigrationStatus, Migrations};
use changeover_core::events::Expected;
use changeover_core::{ErrorKind, OpenBackend};

use crate::harness::AnyHarness;
use crate::support::{Must, append, events, look, open, or_note, read_log, refused, stream};

/// The migrations of the events of a client; `None` where there is no schema, which is `Unsupported` then.
fn migrations(h: &dyn AnyHarness, client: &Arc<dyn OpenBackend>) -> Option<Arc<dyn Migrations>> {
    match client.migrations(&h.scope(), Family::Events) {
        Ok(migrations) => Some(migrations),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            None
        }
    }
}

/// A client of a database without the schema, and its migrations.
async fn unmigrated(h: &dyn AnyHarness) -> Option<(Arc<dyn OpenBackend>, Arc<dyn Migrations>)> {
    migrations(h, &h.client().await)?;
    let client = or_note("a database without the schema", h.faults().unmigrated_client().await)?;
    let migrations = migrations(h, &client).must("migrations");
    Some((client, migrations))
}

fn names(list: &[MigrationStatus]) -> Vec<&str> {
    list.iter().map(|one| one.id.as_str()).collect()
}

async fn status(of: &dyn Migrations) -> Vec<MigrationStatus> {
    of.status().await.must("the status of the migrations")
}

/// From nothing, every migration is applied in order and the store serves; where there is no schema, asking for it is
/// Unsupported and the store serves without. (X1)
pub async fn migrations_apply_from_nothing(h: &dyn AnyHarness) {
    let Some((client, migrations)) = unmigrated(h).await else {
        return drop(append(&*open(h).await, &stream(), Expected::NoStream, events(1)).await);
    };
    let before = status(&*migrations).await;
    assert!(!before.is_empty() && before.iter().all(|one| one.applied_at.is_none()), "{before:?}");
    let applied = migrations.up().await.must("up");
    assert_eq!(names(&applied), names(&before), "not all, or in another order");
    let after = status(&*migrations).await;
    assert!(after.iter().all(|one| one.applied_at.is_some() && one.problem.is_none()), "{after:?}");
    assert!(client.claim(&h.scope()).await.must("claim"), "nobody owns the module, and its tables are empty");
    let store = client.events(&h.scope(), &h.tenant()).await.must("open the store");
    append(&*store, &stream(), Expected::NoStream, events(1)).await;
    store.ready().await.must("ready");
}

/// Records written before a run of the migrations are there after it. (X2)
pub async fn records_outlive_a_run_of_the_migrations(h: &dyn AnyHarness) {
    let client = h.client().await;
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(3)).await;
    let before = look(h, &*store).await;
    if let Some(migrations) = migrations(h, &client) {
        assert_eq!(migrations.up().await.must("up"), []);
    }
    assert_eq!(look(h, &*open(h).await).await, before);
}

/// Two runners at once apply each migration once between them, and a third finds nothing to do. (X3, X-EDGE-089)
pub async fn two_runners_apply_each_migration_once(h: &dyn AnyHarness) {
    let Some((client, one)) = unmigrated(h).await else { return };
    let two = migrations(h, &client).must("migrations");
    let (first, second) = futures::join!(one.up(), two.up());
    let (first, second) = (first.must("the first runner"), second.must("the second runner"));
    let mut applied = [names(&first), names(&second)].concat();
    applied.sort_unstable();
    let all = status(&*one).await;
    let mut known = names(&all);
    known.sort_unstable();
    assert_eq!(applied, known);
    assert_eq!(one.up().await.must("a third run"), []);
}

/// Taken back and applied again, the schema is what it was. (X4, X-EDGE-089)
pub async fn schema_taken_back_and_applied_again_is_the_same(h: &dyn AnyHarness) {
    let client = h.client().await;
    let Some(migrations) = migrations(h, &client) else { return };
    let before = or_note("the schema as text", h.faults().schema().await);
    let applied = status(&*migrations).await;
    // What all modules of a database share stays: others may use it.
    let own = applied.iter().filter(|one| !one.id.starts_with("base/")).count();
    let steps = u32::try_from(own).must("a count");
    match migrations.down(steps, true).await {
        Ok(back) => {
            let back_names: BTreeSet<_> = names(&back).into_iter().collect();
            let left = names(&applied).into_iter().filter(|name| !back_names.contains(name));
            assert_eq!(
                left.filter(|name| !name.starts_with("base/")).collect::<Vec<_>>(),
                Vec::<&str>::new()
            );
            assert_eq!(migrations.up().await.must("up").len(), back.len());
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
    if let Some(before) = before {
        let after = h.faults().schema().await.must("the schema");
        let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}, new: {new:#?}");
    }
    assert!(h.client().await.claim(&h.scope()).await.must("claim"), "nobody owns the module now");
    append(&*open(h).await, &stream(), Expected::NoStream, events(1)).await;
}

/// The schema itself refuses what the store refuses, and every migration is named, described and sealed. (X5)
pub async fn schema_itself_keeps_the_rules(h: &dyn AnyHarness) {
    let client = h.client().await;
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(2)).await;
    let before = look(h, &*store).await;
    let Some(migrations) = migrations(h, &client) else { return };
    for one in status(&*migrations).await {
        let sealed = one.checksum.len() == 64 && one.checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(sealed && !one.description.is_empty() && !one.id.is_empty(), "{one:?}");
        assert!(one.problem.is_none() && one.applied_at.is_some(), "{one:?}");
    }
    if let Some(let_through) = or_note("breaking the rules by SQL", h.faults().break_rules().await) {
        assert_eq!(let_through, Vec::<String>::new());
        assert_eq!(look(h, &*store).await, before);
    }
}

/// Tables with records go only when the loss is accepted; else nothing is taken back. (X6)
pub async fn tables_with_records_go_only_knowingly(h: &dyn AnyHarness) {
    let client = h.client().await;
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(2)).await;
    let before = look(h, &*store).await;
    let Some(migrations) = migrations(h, &client) else { return };
    let applied = status(&*migrations).await;
    // What all modules of a database share stays: others may use it.
    let own = applied.iter().filter(|one| !one.id.starts_with("base/")).count();
    let steps = u32::try_from(own).must("a count");
    let error = migrations.down(steps, false).await.err().must("records must not go by accident");
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported), "{error}");
    assert_eq!(status(&*migrations).await, applied);
    assert_eq!(look(h, &*store).await, before);
    match migrations.down(steps, true).await {
        Ok(_) => {
            migrations.up().await.must("up");
            assert_eq!(read_log(&*open(h).await).await.0, []);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(look(h, &*store).await, before);
        }
    }
}

/// A migration that this program does not know is named, and nothing is applied over it. (X7, X-EDGE-090)
pub async fn unknown_migration_is_named_and_nothing_applied(h: &dyn AnyHarness) {
    let client = h.client().await;
    let Some(migrations) = migrations(h, &client) else { return };
    let before = status(&*migrations).await;
    if or_note("a newer schema", h.faults().make_schema_newer().await).is_none() {
        return assert!(before.iter().all(|one| one.problem.is_none()), "{before:?}");
    }
    let after = status(&*migrations).await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(after.iter().any(|one| one.problem.is_some()), "{after:?}");
    refused(migrations.up().await, ErrorKind::SchemaMismatch);
    assert_eq!(status(&*migrations).await, after);
}
