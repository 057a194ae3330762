//! Opening, closing and opening again; layers in front; bundles that travel.

use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::playbooks::{
    Edit, GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Playbook, Put, Rate, Search, Status, VersionsOf,
};
use changeover_core::{Error, ErrorKind, Limit, PlaybookCatalog, TenantId};

use crate::forward::Forward;
use crate::harness::AnyHarness;
use crate::support::playbooks::{
    change, change_of, embedded, exact, full, id, list, look, older, open, open_on, playbook, put, search,
    search_for, versions,
};
use crate::support::{Must, in_time, or_note, refused};

/// Every operation of the catalog is refused as this kind.
async fn all_refused(catalog: &dyn PlaybookCatalog, kind: ErrorKind) {
    refused(catalog.put(Put { versions: vec![playbook("a", "v9.0.0")] }).await, kind);
    refused(catalog.change(change_of("a", "v1.0.0", Edit::MakeLatest)).await, kind);
    for which in [Lookup::Latest, Lookup::Hash("0".repeat(64))] {
        refused(catalog.get(GetPlaybook { playbook_id: id("a"), which }).await, kind);
    }
    refused(catalog.list(ListPlaybooks::default()).await, kind);
    let request = VersionsOf { playbook_id: id("a"), below: None, limit: Limit::default() };
    refused(catalog.versions(request).await, kind);
    refused(catalog.search(search_for("a")).await, kind);
    refused(catalog.ready().await, kind);
}

/// After close every operation is Unavailable; closing twice is fine; other handles live on until the backend closes.
/// (P66)
pub async fn closed_catalog_is_unavailable(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let catalog = open_on(h, &*backend).await;
    let other = open(h).await;
    put(&*catalog, vec![playbook("a", "v1.0.0")]).await;
    catalog.ready().await.must("ready");
    catalog.close().await.must("close");
    catalog.close().await.must("close twice");
    in_time("operations on a closed catalog", all_refused(&*catalog, ErrorKind::Unavailable)).await;
    put(&*open_on(h, &*backend).await, vec![playbook("b", "v1.0.0")]).await;
    backend.close().await;
    if let Ok(late) = backend.playbooks(&h.scope_of(Family::Playbooks), &h.tenant()).await {
        in_time("operations on a closed backend", all_refused(&*late, ErrorKind::Unavailable)).await;
    }
    assert_eq!(list(&*other, ListPlaybooks::default()).await.len(), 2, "another client's view");
}

/// Opened again, a catalog shows the same versions, lifecycle and vectors, and finds them. (P67)
pub async fn reopened_catalog_shows_the_same(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let catalog = open_on(h, &*backend).await;
    put(&*catalog, vec![full("a", "v1.0.0"), older("b", "v1.0.0"), playbook("b", "v1.1.0")]).await;
    change(&*catalog, "b", "v1.1.0", Edit::Status(Status::Deprecated, Some("use a".to_owned()))).await;
    let before = look(h, &*catalog, &["a", "b"]).await;
    let matches = search(&*catalog, search_for("a")).await;
    catalog.close().await.must("close");
    backend.close().await;
    drop((catalog, backend));
    let catalog = open(h).await;
    assert_eq!(look(h, &*catalog, &["a", "b"]).await, before);
    assert_eq!(search(&*catalog, search_for("a")).await, matches);
    change(&*catalog, "b", "v1.0.0", Edit::MakeLatest).await;
}

/// On a database without the schema everything is `SchemaMismatch`, `ready` too; migrated, it serves. (P68)
pub async fn catalog_without_schema_is_a_schema_mismatch(h: &dyn AnyHarness) {
    let Some(backend) = or_note("a database without the schema", h.faults().unmigrated_client().await) else {
        return open(h).await.ready().await.map(drop).must("a migrated catalog is ready");
    };
    let catalog = open_on(h, &*backend).await;
    all_refused(&*catalog, ErrorKind::SchemaMismatch).await;
    let scope = h.scope_of(Family::Playbooks);
    let migrations = backend.migrations(&scope, Family::Playbooks).must("the migrations");
    let applied = migrations.up().await.must("up");
    assert!(!applied.is_empty());
    assert_eq!(migrations.up().await.must("up again"), []);
    assert!(backend.claim(&scope).await.must("claim"), "nobody owns the module, and its tables are empty");
    let catalog = open_on(h, &*backend).await;
    put(&*catalog, vec![embedded(playbook("a", "v1.0.0"))]).await;
    assert_eq!(search(&*catalog, search_for("a")).await.len(), 1);
    catalog.ready().await.must("ready");
}

/// Tables with playbooks go only when the loss is accepted; else nothing is taken back. Taken back and applied again they
/// are empty and serve. (P69)
pub async fn tables_with_playbooks_go_only_knowingly(h: &dyn AnyHarness) {
    let client = h.client().await;
    let catalog = open_on(h, &*client).await;
    put(&*catalog, vec![full("a", "v1.0.0")]).await;
    let before = look(h, &*catalog, &["a"]).await;
    let scope = h.scope_of(Family::Playbooks);
    let migrations = match client.migrations(&scope, Family::Playbooks) {
        Ok(migrations) => migrations,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    };
    let applied = migrations.status().await.must("the status");
    // What all modules of a database share stays: others may use it.
    let own = applied.iter().filter(|one| !one.id.starts_with("base/")).count();
    let steps = u32::try_from(own).must("a count");
    let error = migrations.down(steps, false).await.err().must("records must not go by accident");
    assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported), "{error}");
    assert_eq!(migrations.status().await.must("the status"), applied);
    assert_eq!(look(h, &*catalog, &["a"]).await, before);
    match migrations.down(steps, true).await {
        Ok(_) => {
            migrations.up().await.must("up");
            assert!(h.client().await.claim(&scope).await.must("claim"), "nobody owns the module now");
            let catalog = open(h).await;
            assert_eq!(list(&*catalog, ListPlaybooks::default()).await, []);
            put(&*catalog, vec![full("a", "v1.0.0")]).await;
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert_eq!(look(h, &*catalog, &["a"]).await, before);
        }
    }
}

/// What a short script answers, in words: the same through any layer that passes everything on.
async fn script(catalog: &dyn PlaybookCatalog) -> Vec<String> {
    let shown = |playbook: &Playbook| {
        let mut shown = playbook.clone();
        // What the clock gave.
        let now = shown.created_at;
        shown.updated_at = now;
        shown.disabled = shown.disabled.map(|(_, by, reason)| (now, by, reason));
        shown.to_json()
    };
    let say = |error: Error| error.kind().to_string();
    let mut said = Vec::new();
    for at in ["v1.0.0", "v1.1.0", "v1.0.0", "v1.1.0-rc.1"] {
        let put = catalog.put(Put { versions: vec![full("a", at)] }).await;
        said.push(put.map_or_else(say, |report| format!("{} {}", report.stored, report.repeated)));
    }
    let other = NewPlaybook { content: "other".to_owned(), ..full("a", "v1.0.0") };
    said.push(catalog.put(Put { versions: vec![other] }).await.map_or_else(say, |_| "stored".to_owned()));
    for (at, edit) in [
        ("v1.1.0", Edit::Status(Status::Disabled, Some("why".to_owned()))),
        ("v1.0.0", Edit::MakeLatest),
        ("v9.0.0", Edit::MakeLatest),
        ("v1.0.0", Edit::Figures { total: 2, successful: 1, rate: Rate::from_thousandths(500).ok() }),
        ("v1.0.0", Edit::Figures { total: 1, successful: 2, rate: None }),
    ] {
        let changed = catalog.change(change_of("a", at, edit)).await;
        said.push(changed.map_or_else(say, |playbook| shown(&playbook)));
    }
    for which in [Lookup::Latest, Lookup::LatestActive, Lookup::Hash("x".to_owned())] {
        let found = catalog.get(GetPlaybook { playbook_id: id("a"), which }).await;
        said.push(
            found.map_or_else(say, |found| found.map_or_else(|| "none".to_owned(), |found| shown(&found))),
        );
    }
    said.extend(list(catalog, ListPlaybooks::default()).await.iter().map(shown));
    said.extend(versions(catalog, "a", 2).await.iter().map(shown));
    let found = search(catalog, search_for("a")).await;
    said.extend(
        found.iter().map(|found| format!("{} {}", found.confidence.to_bits(), shown(&found.playbook))),
    );
    let nothing = Search { min_confidence: 2.0, ..search_for("a") };
    said.push(catalog.search(nothing).await.map_or_else(say, |_| "found".to_owned()));
    said
}

/// Through a layer that passes everything on, every answer is the same, and a catalog works behind any pointer, sent
/// between tasks. (P70)
pub async fn answers_through_a_layer_are_the_same(h: &dyn AnyHarness) {
    fn can_be_shared<T: Send + Sync + 'static + ?Sized>(_: &T) {}
    let direct: Arc<dyn PlaybookCatalog> = open(h).await;
    can_be_shared(&*direct);
    script(&*direct).await;
    // Again: what was stored first is there now, for both.
    let one = script(&*direct).await;
    let layered: Box<dyn PlaybookCatalog> = Box::new(Forward(Arc::clone(&direct)));
    let moved = tokio::spawn(async move { (script(&*layered).await, layered) });
    let (other, layered) = moved.await.must("a task");
    assert_eq!(one, other);
    assert_eq!(direct.capabilities(), layered.capabilities());
    layered.ready().await.must("ready");
    layered.close().await.must("close");
    refused(layered.ready().await, ErrorKind::Unavailable);
}

/// Versions written out as lines and read in again are equal, and put elsewhere they make an equal catalog. (P30)
pub async fn versions_survive_their_lines(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let all = vec![
        older("a", "v1.0.0"),
        full("a", "v1.10.0"),
        full("b", "v1.0.0"),
        embedded(playbook("\u{1f980}", "v1.0.0")),
    ];
    put(&*catalog, all.clone()).await;
    change(&*catalog, "b", "v1.0.0", Edit::Status(Status::Disabled, Some("why".to_owned()))).await;
    change(
        &*catalog,
        "a",
        "v1.10.0",
        Edit::Figures { total: 3, successful: 2, rate: Rate::from_thousandths(667).ok() },
    )
    .await;
    let mut lines = Vec::new();
    for new in &all {
        let stored = exact(&*catalog, new.playbook_id.as_str(), new.version.as_str()).await;
        assert_eq!(Playbook::from_json(stored.to_json()).must("the line"), stored);
        lines.push(stored.playbook.to_json());
    }
    let read: Result<Vec<_>, Error> = lines.iter().map(NewPlaybook::from_json).collect();
    let read = read.must("the lines");
    assert_eq!(put(&*catalog, read.clone()).await.repeated, 4);
    let tenant = TenantId::new("acme").must("a tenant");
    let client = h.client().await;
    let Ok(elsewhere) = client.playbooks(&h.scope_of(Family::Playbooks), &tenant).await else {
        return assert!(!catalog.capabilities().tenants.is_yes());
    };
    assert_eq!(put(&*elsewhere, read).await.stored, 4);
    for (new, line) in all.iter().zip(lines) {
        let stored = exact(&*elsewhere, new.playbook_id.as_str(), new.version.as_str()).await;
        assert_eq!(stored.playbook.to_json(), line);
    }
}
