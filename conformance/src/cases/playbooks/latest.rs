//! The latest version: one at most, handed over in one step.

use changeover_core::playbooks::{
    Change, Edit, GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Playbook, Put, Status,
};
use changeover_core::{ErrorKind, Result};
use futures::TryFutureExt;
use futures::future::join_all;

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    change, change_of, embedded, exact, found, get, id, ids, latest, list, older, open, playbook, put,
    search, search_for, text, version_texts, versions,
};
use crate::support::{Must, or_note, refused};

fn marked(versions: &[Playbook]) -> Vec<String> {
    versions
        .iter()
        .filter(|found| found.playbook.is_latest)
        .map(|found| found.playbook.version.to_string())
        .collect()
}

/// A version put as the latest takes the mark from the one that had it, whatever their order, and that is a change of the
/// other. (S3-PB-004, DEF-22)
pub async fn new_latest_version_takes_the_mark(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0"), older("restart", "v0.1.0")]).await;
    let before = exact(&*catalog, "restart", "v1.0.0").await;
    let untouched = exact(&*catalog, "restart", "v0.1.0").await;
    for at in ["v2.0.0", "v1.5.0", "v3.0.0"] {
        let new = NewPlaybook { created_by: Some(text("person-1")), ..playbook("restart", at) };
        put(&*catalog, vec![new]).await;
        assert_eq!(marked(&versions(&*catalog, "restart", 10).await), [at]);
        assert_eq!(latest(&*catalog, "restart").await.as_deref(), Some(at));
    }
    let after = exact(&*catalog, "restart", "v1.0.0").await;
    assert!(after.updated_at > before.updated_at, "losing the mark is a change");
    assert_eq!(after.updated_by, Some(text("person-1")));
    let expected = Playbook { updated_at: after.updated_at, updated_by: after.updated_by.clone(), ..before };
    let expected = Playbook { playbook: NewPlaybook { is_latest: false, ..expected.playbook }, ..expected };
    assert_eq!(after, expected);
    assert_eq!(exact(&*catalog, "restart", "v0.1.0").await, untouched);
}

/// A version that is made the latest takes the mark in the same step; making it so again is fine. (P47)
pub async fn version_made_latest_takes_the_mark(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(
        &*catalog,
        vec![playbook("restart", "v2.0.0"), older("restart", "v1.0.0"), playbook("other", "v1.0.0")],
    )
    .await;
    let other = exact(&*catalog, "other", "v1.0.0").await;
    for at in ["v1.0.0", "v2.0.0", "v1.0.0", "v1.0.0"] {
        let request = Change { by: Some(text("person-2")), ..change_of("restart", at, Edit::MakeLatest) };
        let answer = catalog.change(request).await.must("make it the latest");
        assert!(answer.playbook.is_latest);
        assert_eq!(answer, exact(&*catalog, "restart", at).await);
        assert_eq!(marked(&versions(&*catalog, "restart", 10).await), [at]);
    }
    let lost = exact(&*catalog, "restart", "v2.0.0").await;
    assert_eq!(lost.updated_by, Some(text("person-2")));
    assert_eq!(exact(&*catalog, "other", "v1.0.0").await, other);
}

/// Of writers that put and make versions latest at once, each succeeds, and one version is the latest afterwards; a
/// reader always sees exactly one. (P48)
pub async fn writers_at_once_leave_one_latest_version(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![embedded(playbook("busy", "v0.0.0"))]).await;
    let writers = (1..=4).map(|writer| async move {
        let catalog = open(h).await;
        for number in 0..8 {
            let at = format!("v{writer}.{number}.0");
            let request = Put { versions: vec![embedded(playbook("busy", &at))] };
            retried(|| catalog.put(request.clone()).map_ok(drop)).await;
            let back = change_of("busy", "v0.0.0", Edit::MakeLatest);
            retried(|| catalog.change(back.clone()).map_ok(drop)).await;
        }
    });
    let reader = async {
        let catalog = open(h).await;
        for _ in 0..60 {
            assert!(latest(&*catalog, "busy").await.is_some(), "for a moment nothing was the latest");
            assert_eq!(list(&*catalog, ListPlaybooks::default()).await.len(), 1);
            assert_eq!(found(&search(&*catalog, search_for("busy")).await), ["busy"]);
        }
    };
    futures::join!(join_all(writers), reader);
    let all = versions(&*catalog, "busy", 10).await;
    assert_eq!((all.len(), marked(&all).len()), (33, 1));
}

/// Others may be in the way; the same call succeeds then.
async fn retried<F: Future<Output = Result<()>>>(call: impl Fn() -> F) {
    for _ in 0..50 {
        match call().await {
            Ok(()) => return,
            Err(error) => assert!(error.kind().is_transient(), "{error}"),
        }
    }
    panic!("50 tries were not enough");
}

/// A playbook without a latest version has versions, but is neither the latest of anything, nor listed, nor found. (P49)
pub async fn playbook_without_a_latest_version_is_not_offered(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![embedded(older("draft", "v1.0.0")), embedded(playbook("final", "v1.0.0"))]).await;
    for which in [Lookup::Latest, Lookup::LatestActive] {
        assert_eq!(get(&*catalog, "draft", which).await, None);
    }
    assert_eq!(ids(&list(&*catalog, ListPlaybooks::default()).await), ["final"]);
    assert_eq!(found(&search(&*catalog, search_for("draft")).await), ["final"]);
    assert_eq!(version_texts(&versions(&*catalog, "draft", 10).await), ["v1.0.0"]);
    change(&*catalog, "draft", "v1.0.0", Edit::MakeLatest).await;
    assert_eq!(ids(&list(&*catalog, ListPlaybooks::default()).await), ["draft", "final"]);
    assert_eq!(found(&search(&*catalog, search_for("draft")).await), ["draft", "final"]);
}

/// A latest version that is not active is not offered and no older one for it; the versions show it, and the list does
/// with its status. (P22, X-EDGE-072)
pub async fn latest_version_that_is_not_active_is_not_offered(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![embedded(older("restart", "v1.0.0")), embedded(playbook("restart", "v2.0.0"))]).await;
    for status in [Status::Disabled, Status::Deprecated, Status::Archived] {
        let changed = change(&*catalog, "restart", "v2.0.0", Edit::Status(status, None)).await;
        assert_eq!(changed.playbook.status, status);
        assert_eq!(get(&*catalog, "restart", Lookup::LatestActive).await, None, "{status}");
        assert_eq!(latest(&*catalog, "restart").await.as_deref(), Some("v2.0.0"), "{status}");
        assert_eq!(found(&search(&*catalog, search_for("restart")).await), Vec::<String>::new(), "{status}");
        assert_eq!(exact(&*catalog, "restart", "v2.0.0").await, changed);
        assert_eq!(version_texts(&versions(&*catalog, "restart", 10).await), ["v2.0.0", "v1.0.0"]);
        for asked in Status::ALL {
            let request = ListPlaybooks { status: Some(*asked), ..ListPlaybooks::default() };
            let listed = list(&*catalog, request).await.len();
            assert_eq!(listed, usize::from(*asked == status), "{asked} of {status}");
        }
    }
    change(&*catalog, "restart", "v2.0.0", Edit::Status(Status::Active, None)).await;
    assert_eq!(found(&search(&*catalog, search_for("restart")).await), ["restart"]);
}

/// Two latest versions by SQL are refused by the tables; where old tables refuse nothing, such a playbook is Corrupt.
/// (X-EDGE-073)
pub async fn two_latest_rows_are_refused_or_corrupt(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let second = playbook("restart", "v2.0.0");
    let Some(answer) = or_note("writing rows by hand", h.faults().insert_playbook_by_sql(second).await)
    else {
        return assert_eq!(marked(&versions(&*catalog, "restart", 10).await), ["v1.0.0"]);
    };
    if answer.is_err() {
        return assert_eq!(marked(&versions(&*catalog, "restart", 10).await), ["v1.0.0"]);
    }
    let request = GetPlaybook { playbook_id: id("restart"), which: Lookup::Latest };
    refused(catalog.get(request).await, ErrorKind::Corrupt);
}
