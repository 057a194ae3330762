//! Tenants and modules: one never sees, learns of or hinders another.

use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::playbooks::{
    Change, Edit, ListPlaybooks, Lookup, NewPlaybook, Put, Search, Status, VersionsOf,
};
use changeover_core::{
    ErrorKind, Limit, ModuleName, ModuleScope, Namespace, OpenBackend, PlaybookCatalog, Support, TenantId,
};
use futures::future::join_all;

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::playbooks::{
    assert_stored, change, change_of, embedded, exact, found, get, ids, labels, latest, list, look, older,
    open, playbook, put, search, search_for, version_texts, versions,
};
use crate::support::{Must, or_note, refused, without};

async fn of(h: &dyn AnyHarness, client: &dyn OpenBackend, name: &str) -> Arc<dyn PlaybookCatalog> {
    let tenant = TenantId::new(name).must("a tenant");
    client.playbooks(&h.scope_of(Family::Playbooks), &tenant).await.must("open the catalog of a tenant")
}

/// The catalogs of two tenants, `acme` first. Where one tenant is all that is served, the refusal of another one is what
/// there is to check: it changes nothing.
async fn two(h: &dyn AnyHarness) -> Option<[Arc<dyn PlaybookCatalog>; 2]> {
    let own = open(h).await;
    let client = h.client().await;
    if let Support::No(why) = own.capabilities().tenants {
        without("keep a second tenant", why);
        put(&*own, vec![playbook("a", "v1.0.0")]).await;
        let before = look(h, &*own, &["a"]).await;
        for other in ["acme", "globex"] {
            let tenant = TenantId::new(other).must("a tenant");
            let answer = client.playbooks(&h.scope_of(Family::Playbooks), &tenant).await.map(drop);
            refused(answer, ErrorKind::Unsupported);
        }
        assert_eq!(look(h, &*own, &["a"]).await, before);
        return None;
    }
    Some([of(h, &*client, "acme").await, of(h, &*client, "globex").await])
}

/// The same playbook and version in two tenants are two, each with content, lifecycle and latest version of its own. (P58)
pub async fn same_version_in_two_tenants_is_two_versions(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let mine = playbook("restart", "v1.0.0");
    let theirs = NewPlaybook { content: "other".to_owned(), labels: labels([]), ..mine.clone() };
    put(&*a, vec![mine.clone()]).await;
    put(&*b, vec![theirs.clone()]).await;
    put(&*b, vec![playbook("restart", "v2.0.0")]).await;
    change(&*b, "restart", "v1.0.0", Edit::Status(Status::Archived, None)).await;
    assert_stored(&exact(&*a, "restart", "v1.0.0").await, &mine);
    assert_eq!(latest(&*a, "restart").await.as_deref(), Some("v1.0.0"));
    assert_eq!(latest(&*b, "restart").await.as_deref(), Some("v2.0.0"));
    assert_eq!(exact(&*b, "restart", "v1.0.0").await.playbook.content, theirs.content);
}

/// Reading, listing and the versions of another tenant's playbook give what a missing one gives. (P59)
pub async fn playbook_of_another_tenant_does_not_exist(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let new = playbook("secret", "v1.0.0");
    put(&*a, vec![new.clone()]).await;
    for which in
        [Lookup::Latest, Lookup::LatestActive, Lookup::Exact(new.version.clone()), Lookup::Hash(new.hash())]
    {
        assert_eq!(get(&*b, "secret", which).await, None);
    }
    assert_eq!(list(&*b, ListPlaybooks::default()).await, []);
    let request = VersionsOf { playbook_id: new.playbook_id.clone(), below: None, limit: Limit::default() };
    let error = refused(b.versions(request).await, ErrorKind::NotFound);
    assert!(!error.to_string().contains("acme"), "{error}");
}

/// A search finds the tenant's own playbooks only, whatever labels it asks for. (P60)
pub async fn search_finds_the_tenants_own_playbooks_only(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    put(&*a, vec![embedded(playbook("restart the pod", "v1.0.0")), playbook("by hand", "v1.0.0")]).await;
    put(&*b, vec![embedded(playbook("drain the node", "v1.0.0"))]).await;
    for asked in [labels([]), labels([("component", "shop")])] {
        let request = Search { labels: asked, ..search_for("restart the pod by hand") };
        assert_eq!(found(&search(&*b, request.clone()).await), ["drain the node"]);
        assert_eq!(search(&*a, request).await.len(), 2);
    }
}

/// A put is judged within the tenant, and its refusal tells nothing of another one. (P61)
pub async fn put_is_judged_within_the_tenant(h: &dyn AnyHarness) {
    let Some(catalogs) = two(h).await else { return };
    let new = playbook("restart", "v1.0.0");
    for catalog in &catalogs {
        assert_eq!(put(&**catalog, vec![new.clone()]).await.stored, 1);
        assert_eq!(put(&**catalog, vec![new.clone()]).await.repeated, 1);
    }
    let other = NewPlaybook { content: "other".to_owned(), ..new };
    let error = refused(catalogs[1].put(Put { versions: vec![other] }).await, ErrorKind::AlreadyExists);
    assert!(!error.to_string().contains("acme"), "{error}");
}

/// A change of another tenant's version is `NotFound` and changes nothing there; making a version latest takes no mark there.
/// (P62)
pub async fn change_does_not_reach_another_tenant(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    put(&*a, vec![playbook("secret", "v1.0.0"), playbook("shared", "v1.0.0")]).await;
    put(&*b, vec![older("shared", "v2.0.0")]).await;
    let before = look(h, &*a, &["secret", "shared"]).await;
    for edit in [Edit::MakeLatest, Edit::Status(Status::Disabled, None), Edit::Embedding(None)] {
        let Change { playbook_id, version, edit, by } = change_of("secret", "v1.0.0", edit);
        refused(b.change(Change { playbook_id, version, edit, by }).await, ErrorKind::NotFound);
    }
    change(&*b, "shared", "v2.0.0", Edit::MakeLatest).await;
    assert_eq!(look(h, &*a, &["secret", "shared"]).await, before);
    assert_eq!(latest(&*b, "shared").await.as_deref(), Some("v2.0.0"));
}

/// Names with quotes, semicolons, newlines, percent signs and any script are tenants like others. (P63, X-EDGE-086)
pub async fn hostile_tenant_names_are_names_like_others(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let long = "\u{1f980}".repeat(255);
    let names = [
        "o'brien",
        "a\"b",
        "'; drop table playbook_catalog; --",
        "a;b",
        "line\nbreak",
        "%",
        "_",
        "\\",
        "a\\'b",
        "$1",
        "{}",
        "NULL",
        "null",
        "0",
        " ",
        " acme",
        "acme ",
        "Acme",
        "\u{fc}\u{301}",
        "\u{202e}evil",
        &long,
        "public",
        "*",
    ];
    let client = h.client().await;
    for name in names {
        let catalog = of(h, &*client, name).await;
        assert_eq!(list(&*catalog, ListPlaybooks::default()).await, [], "{name:?} sees what another stored");
        let own = NewPlaybook { content: name.to_owned(), ..embedded(playbook("own", "v1.0.0")) };
        put(&*catalog, vec![own]).await;
    }
    let second = h.client().await;
    for name in names {
        let catalog = of(h, &*second, name).await;
        assert_eq!(exact(&*catalog, "own", "v1.0.0").await.playbook.content, name);
        let matches = search(&*catalog, search_for("own")).await;
        assert_eq!(matches.len(), 1, "{name:?}");
        assert_eq!(matches[0].playbook.playbook.content, name);
    }
}

/// Two tenants in turn on the only connection of a pool: what one set does not stay for the other. (P64, X-EDGE-087)
pub async fn tenants_take_turns_on_one_connection(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let one = OpenOptions { pool_size: Some(1), ..OpenOptions::default() };
    let client = match or_note("open a pool of one connection", h.faults().client_with(one).await) {
        Some(client) => client,
        None => h.client().await,
    };
    let catalogs = [of(h, &*client, "acme").await, of(h, &*client, "globex").await];
    for round in 1..=4 {
        for (catalog, name) in catalogs.iter().zip(["acme", "globex"]) {
            let own =
                NewPlaybook { content: name.to_owned(), ..playbook("restart", &format!("v1.{round}.0")) };
            put(&**catalog, vec![embedded(own)]).await;
            let all = versions(&**catalog, "restart", 10).await;
            assert_eq!((all.len(), all[0].playbook.content.as_str()), (round, name));
            assert_eq!(found(&search(&**catalog, search_for("restart")).await), ["restart"]);
            assert_eq!(ids(&list(&**catalog, ListPlaybooks::default()).await), ["restart"]);
        }
    }
}

/// Tenants that write the same playbook at once do not hinder each other. (P65)
pub async fn tenants_write_at_once_without_conflict(h: &dyn AnyHarness) {
    let Some(catalogs) = two(h).await else { return };
    let writers = catalogs.iter().zip(["acme", "globex"]).map(|(catalog, name)| async move {
        for minor in 0..10 {
            let own = NewPlaybook { content: name.to_owned(), ..playbook("busy", &format!("v1.{minor}.0")) };
            put(&**catalog, vec![own]).await;
        }
    });
    join_all(writers).await;
    let expected: Vec<_> = (0..10).rev().map(|minor| format!("v1.{minor}.0")).collect();
    for catalog in &catalogs {
        assert_eq!(version_texts(&versions(&**catalog, "busy", 100).await), expected);
        assert_eq!(latest(&**catalog, "busy").await.as_deref(), Some("v1.9.0"));
    }
}

/// Two modules on one backend do not see each other's playbooks; where a module of a user's own is not served, it is
/// Unsupported. (P44)
pub async fn two_modules_do_not_see_each_other(h: &dyn AnyHarness) {
    let own = open(h).await;
    put(&*own, vec![embedded(playbook("restart", "v1.0.0"))]).await;
    let scope = ModuleScope {
        module: ModuleName::new("runbooks").must("a module"),
        namespace: Some(Namespace::new("runbooks").must("a namespace")),
    };
    let client = h.client().await;
    match client.migrations(&scope, Family::Playbooks) {
        Ok(migrations) => drop(migrations.up().await.must("migrate the other module")),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    }
    client.claim(&scope).await.must("claim the other module");
    let other = match client.playbooks(&scope, &h.tenant()).await {
        Ok(other) => other,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
    };
    assert_eq!(list(&*other, ListPlaybooks::default()).await, []);
    assert_eq!(search(&*other, search_for("restart")).await, []);
    assert_eq!(get(&*other, "restart", Lookup::Latest).await, None);
    let theirs = NewPlaybook { content: "other".to_owned(), ..playbook("restart", "v1.0.0") };
    assert_eq!(put(&*other, vec![theirs.clone()]).await.stored, 1);
    put(&*other, vec![playbook("more", "v1.0.0")]).await;
    change(&*other, "restart", "v1.0.0", Edit::Status(Status::Disabled, None)).await;
    assert_eq!(exact(&*other, "restart", "v1.0.0").await.playbook.content, theirs.content);
    assert_stored(&exact(&*own, "restart", "v1.0.0").await, &embedded(playbook("restart", "v1.0.0")));
    assert_eq!(found(&search(&*own, search_for("restart")).await), ["restart"]);
    assert_eq!(ids(&list(&*own, ListPlaybooks::default()).await), ["restart"]);
}
