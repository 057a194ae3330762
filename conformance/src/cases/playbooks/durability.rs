//! Callers that go away, lines that break, databases that are silent, read-only or end their sessions.

use std::time::Duration;

use changeover_core::playbooks::{Edit, GetPlaybook, Lookup, NewPlaybook, Put, VersionsOf};
use changeover_core::{Applied, ErrorKind, PlaybookCatalog};

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::playbooks::{
    SAMPLE, change_of, embedded, exact, full, get, id, look, older, open, open_on, playbook, put, search,
    search_for, version, version_texts, versions,
};
use crate::support::{Must, dropped_after, in_time, limit, logged, or_note, refused};

/// What a case asks for where the fault cannot be caused, and after every fault: the catalog reads, writes and finds.
async fn works(catalog: &dyn PlaybookCatalog) {
    in_time("a put", put(catalog, vec![embedded(playbook("works", "v1.0.0"))])).await;
    let found = in_time("a search", search(catalog, search_for("works"))).await;
    assert!(found.iter().any(|found| found.playbook.playbook.playbook_id.as_str() == "works"));
    in_time("the readiness", catalog.ready()).await.must("ready");
}

/// A put dropped at any point is stored whole or not at all, and the catalog stays usable on its one connection. (P39)
pub async fn dropped_put_is_stored_whole_or_not_at_all(h: &dyn AnyHarness) {
    let one = OpenOptions { pool_size: Some(1), ..OpenOptions::default() };
    let client = match or_note("a pool of one connection", h.faults().client_with(one).await) {
        Some(client) => client,
        None => h.client().await,
    };
    let catalog = open_on(h, &*client).await;
    for times in 1..=20 {
        let playbook_id = format!("p{times}");
        let all = vec![
            older(&playbook_id, "v1.0.0"),
            older(&playbook_id, "v1.1.0"),
            playbook(&playbook_id, "v1.2.0"),
        ];
        let done = dropped_after(times, catalog.put(Put { versions: all.clone() })).await;
        let request = VersionsOf { playbook_id: id(&playbook_id), below: None, limit: limit(10) };
        match in_time("a read after a dropped put", catalog.versions(request)).await {
            Ok(page) => assert_eq!(page.playbooks.len(), 3, "a part was stored"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
        // The dropped put may still be under way; equal content makes the repetition harmless.
        in_time("the same put again", put(&*catalog, all)).await;
        assert_eq!(
            version_texts(&versions(&*catalog, &playbook_id, 10).await),
            ["v1.2.0", "v1.1.0", "v1.0.0"]
        );
        if done.is_some() {
            break;
        }
    }
    works(&*catalog).await;
}

/// A change dropped at any point is made whole or not at all: one version is the latest all along. (P71)
pub async fn dropped_change_is_made_whole_or_not_at_all(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0"), older("restart", "v2.0.0")]).await;
    for times in 1..=20 {
        let at = ["v1.0.0", "v2.0.0"][times % 2];
        let done = dropped_after(times, catalog.change(change_of("restart", at, Edit::MakeLatest))).await;
        let all = in_time("a read after a dropped change", versions(&*catalog, "restart", 10)).await;
        assert_eq!(all.iter().filter(|found| found.playbook.is_latest).count(), 1);
        if done.is_some() {
            break;
        }
    }
    works(&*catalog).await;
}

/// A search dropped at any point leaves the connection usable and changes no later answer. (P72)
pub async fn dropped_search_changes_no_later_answer(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, (0..30).map(|number| playbook(&format!("p{number}"), "v1.0.0")).collect()).await;
    let expected = search(&*catalog, search_for("p7")).await;
    for times in 1..=10 {
        dropped_after(times, catalog.search(search_for("what to do"))).await;
        assert_eq!(
            in_time("a search after a dropped one", search(&*catalog, search_for("p7"))).await,
            expected
        );
    }
}

/// A put whose answer is lost says that its outcome is unknown; put again it is stored once. (P40)
pub async fn put_repeated_after_a_lost_answer_is_stored_once(h: &dyn AnyHarness) {
    let Some(backend) =
        or_note("a line that breaks", h.faults().fragile_client(OpenOptions::default()).await)
    else {
        return works(&*open(h).await).await;
    };
    let catalog = open_on(h, &*backend).await;
    works(&*catalog).await;
    if or_note("an answer that is lost", h.faults().cut_at_commit().await).is_none() {
        return;
    }
    let request = Put { versions: vec![full(SAMPLE, "v1.0.0")] };
    let lost = in_time("a put whose answer is lost", catalog.put(request.clone())).await;
    let error = lost.err().must("the answer was lost");
    assert!(error.kind().is_transient(), "{error}");
    assert_eq!(error.was_applied(), Some(Applied::Unknown), "{error}");
    let mut tries = 0;
    let report = loop {
        match in_time("the same put", catalog.put(request.clone())).await {
            Ok(report) => break report,
            Err(error) => assert!(error.kind().is_transient() && tries < 20, "after {tries} tries: {error}"),
        }
        tries += 1;
    };
    assert_eq!(report.stored + report.repeated, 1);
    assert_eq!(versions(&*open(h).await, SAMPLE, 10).await.len(), 1);
}

/// Sessions that the server ends cost at most a transient error; the next call works. (P73)
pub async fn ended_sessions_cost_a_transient_error_at_most(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    works(&*catalog).await;
    for round in 0..3 {
        or_note("ended sessions", h.faults().kill_sessions().await);
        let request = Put { versions: vec![playbook("restart", &format!("v1.{round}.0"))] };
        let mut tries = 0;
        while let Err(error) = in_time("a put", catalog.put(request.clone())).await {
            assert!(error.kind().is_transient() && tries < 20, "after {tries} tries: {error}");
            tries += 1;
        }
        let which = Lookup::Exact(version(&format!("v1.{round}.0")));
        assert!(get(&*open(h).await, "restart", which).await.is_some());
    }
}

/// A database that answers nothing ends every operation by its time limit. (P74)
pub async fn silent_database_ends_operations_in_time(h: &dyn AnyHarness) {
    let limit = Some(Duration::from_millis(500));
    let options = OpenOptions { acquire_timeout: limit, operation_timeout: limit, ..OpenOptions::default() };
    let Some(backend) = or_note("a client that can be frozen", h.faults().fragile_client(options).await)
    else {
        return works(&*open(h).await).await;
    };
    let catalog = open_on(h, &*backend).await;
    works(&*catalog).await;
    if or_note("a silent database", h.faults().freeze().await).is_none() {
        return;
    }
    let request = Put { versions: vec![playbook("silent", "v1.0.0")] };
    let write = in_time("a put to a silent database", catalog.put(request.clone())).await.map(drop);
    let edit = change_of("works", "v1.0.0", Edit::MakeLatest);
    let changed = in_time("a change in a silent database", catalog.change(edit)).await.map(drop);
    let found = in_time("a search of a silent database", catalog.search(search_for("works"))).await.map(drop);
    let read = GetPlaybook { playbook_id: id("works"), which: Lookup::Latest };
    let read = in_time("a read of a silent database", catalog.get(read)).await.map(drop);
    let ready = in_time("the readiness of a silent database", catalog.ready()).await.map(drop);
    h.faults().thaw().await.must("thaw");
    for (answer, writes) in [(write, true), (changed, true), (found, false), (read, false), (ready, false)] {
        let error = answer.err().must("a silent database answers nothing");
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
        assert_eq!(error.was_applied().is_some(), writes, "{error}");
    }
    in_time("the same put after the silence", catalog.put(request)).await.must("the same put again");
    works(&*catalog).await;
}

/// A read-only database refuses puts and changes as `ReadOnly`, stores nothing, and goes on reading and finding. (P75)
pub async fn read_only_database_refuses_writes(h: &dyn AnyHarness) {
    let writer = open(h).await;
    works(&*writer).await;
    if or_note("a read-only database", h.faults().set_read_only(true).await).is_none() {
        return;
    }
    let catalog = open(h).await;
    let before = look(h, &*catalog, &["works", "other"]).await;
    let stored = catalog.put(Put { versions: vec![playbook("other", "v1.0.0")] }).await.map(drop);
    let changed = catalog.change(change_of("works", "v1.0.0", Edit::MakeLatest)).await.map(drop);
    let found = search(&*catalog, search_for("works")).await;
    assert_eq!(look(h, &*catalog, &["works", "other"]).await, before);
    h.faults().set_read_only(false).await.must("make it writable again");
    for answer in [stored, changed] {
        let error = refused(answer, ErrorKind::ReadOnly);
        assert_eq!(error.was_applied(), Some(Applied::No));
    }
    assert_eq!(found.len(), 1);
    works(&*open(h).await).await;
}

/// No error shows content, description or a vector. (P76)
pub async fn errors_show_no_content(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let catalog = open_on(h, &*backend).await;
    let secret = |content: &str| NewPlaybook {
        content: format!("hush-hush {content}"),
        description: "hush-hush".to_owned(),
        version_notes: Some("hush-hush".to_owned()),
        ..playbook("secret", "v1.0.0")
    };
    put(&*catalog, vec![secret("one")]).await;
    let put_of = async |new| catalog.put(Put { versions: vec![new] }).await.map(drop);
    let mut errors = vec![
        refused(put_of(secret("two")).await, ErrorKind::AlreadyExists),
        refused(
            put_of(NewPlaybook { content_hash: Some("hush-hush".to_owned()), ..secret("one") }).await,
            ErrorKind::Invalid,
        ),
        refused(
            put_of(NewPlaybook { content: "hush-hush\0".to_owned(), ..secret("one") }).await,
            ErrorKind::Invalid,
        ),
        refused(
            NewPlaybook::from_json("{\"content\": 7, \"name\": \"hush-hush").map(drop),
            ErrorKind::Invalid,
        ),
    ];
    assert_eq!(exact(&*catalog, "secret", "v1.0.0").await.playbook.content, "hush-hush one");
    backend.close().await;
    errors.push(refused(put_of(secret("three")).await, ErrorKind::Unavailable));
    for error in errors {
        let text = logged(&error);
        for hidden in ["hush-hush", "://", "password"] {
            assert!(!text.contains(hidden), "{hidden:?} is shown in: {text}");
        }
    }
}
