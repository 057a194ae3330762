//! The playbook catalog on a native file and on an adopted one, as far as SQLite makes a difference; the contract itself
//! is the conformance suite's matter.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover_core::playbooks::{
    Change, Edit, Embedding, GetPlaybook, HashingEmbedder, ListPlaybooks, Lookup, NewPlaybook, Playbook,
    PlaybookCatalog, PlaybookVersion, Put, Query, Rate, Search, Status, VersionsOf,
};
use changeover_core::{
    Applied, Detail, ErrorKind, Limit, ModuleScope, Namespace, OpenBackend, Text, Timestamp, sha256_hex,
};
use common::{File, module, playbooks, tenant, text};
use diesel::connection::SimpleConnection;
use rstest::rstest;

fn named(value: &str) -> Text<255> {
    Text::new("field", value).unwrap()
}

fn version(text: &str) -> PlaybookVersion {
    PlaybookVersion::new(text).unwrap()
}

fn playbook(id: &str, of: &str) -> NewPlaybook {
    NewPlaybook {
        playbook_id: named(id),
        version: version(of),
        name: named(&format!("name of {id}")),
        description: format!("what {id} is for"),
        owner: None,
        maintainer: None,
        content: format!("# {id}\r\n\tsteps\n"),
        content_hash: None,
        labels: BTreeMap::from([("a.b/c'd".to_owned(), id.to_owned()), ("empty".to_owned(), String::new())]),
        embedding: Some(HashingEmbedder::vector(id)),
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}

fn put(versions: &[NewPlaybook]) -> Put {
    Put { versions: versions.to_vec() }
}

fn get(id: &str, which: Lookup) -> GetPlaybook {
    GetPlaybook { playbook_id: named(id), which }
}

fn change(id: &str, of: &str, edit: Edit) -> Change {
    Change { playbook_id: named(id), version: version(of), edit, by: Some(named("me")) }
}

fn search(text: &str) -> Search {
    Search {
        query: Query::Text(text.to_owned()),
        embedder: Arc::new(HashingEmbedder),
        labels: BTreeMap::new(),
        min_confidence: 0.0,
        max_results: Limit::new(10).unwrap(),
    }
}

async fn ids(catalog: &dyn PlaybookCatalog, request: Search) -> Vec<String> {
    let found = catalog.search(request).await.unwrap().matches;
    found.into_iter().map(|found| found.playbook.playbook.playbook_id.to_string()).collect()
}

// S3-PB-001, S3-PB-003, S3-PB-005: every column comes back, also after each kind of change.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn every_column_comes_back(#[case] file: File) {
    let catalog = playbooks(&file.open().await).await;
    let full = NewPlaybook {
        owner: Some(named("own")),
        maintainer: Some(named("maint")),
        previous_version: Some(version("0.9.0")),
        version_notes: Some("notes 🦀".into()),
        change_summary: Some(String::new()),
        approved_by: Some(named("boss")),
        approved_at: Some(Timestamp::parse("2024-01-31T12:00:00.5Z").unwrap()),
        expected_success_rate: Some(Rate::from_thousandths(987).unwrap()),
        expected_duration_seconds: Some(u32::MAX),
        created_at: Some(Timestamp::parse("2024-01-01T00:00:00.000001Z").unwrap()),
        created_by: Some(named("maker")),
        ..playbook("p", "v1.0.0")
    };
    assert_eq!(catalog.put(put(std::slice::from_ref(&full))).await.unwrap().stored, 1);
    let read = |catalog: Arc<dyn PlaybookCatalog>| async move {
        catalog.get(get("p", Lookup::Exact(version("v1.0.0")))).await.unwrap().unwrap()
    };
    let first = read(catalog.clone()).await;
    assert_eq!(first, full.clone().stored(first.updated_at));
    let mut expected = first;
    for edit in [
        Edit::Status(Status::Disabled, Some("broken".into())),
        Edit::Status(Status::Deprecated, Some("use q".into())),
        Edit::Figures { total: i64::MAX as u64, successful: 3, rate: Rate::from_thousandths(1).ok() },
        Edit::Embedding(None),
        Edit::Embedding(Some(HashingEmbedder::vector("other"))),
        Edit::MakeLatest,
        Edit::Status(Status::Active, None),
    ] {
        let changed = catalog.change(change("p", "v1.0.0", edit.clone())).await.unwrap();
        expected.apply(edit, Some(named("me")), changed.updated_at);
        assert_eq!(changed, expected);
        assert_eq!(read(catalog.clone()).await, expected);
    }
    let again = catalog.put(put(std::slice::from_ref(&full))).await.unwrap();
    assert_eq!((again.stored, again.repeated), (0, 1));
    let other = NewPlaybook { content: "other".into(), ..full };
    let refused = catalog.put(put(&[playbook("q", "1.0.0"), other])).await.unwrap_err();
    assert_eq!((refused.kind(), refused.was_applied()), (ErrorKind::AlreadyExists, Some(Applied::No)));
    assert_eq!(catalog.get(get("q", Lookup::Latest)).await.unwrap(), None);
}

// S3-PB-003: every rate passes the checks of a native file and comes back.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn every_rate_comes_back(#[case] file: File) {
    let catalog = playbooks(&file.open().await).await;
    let all: Vec<_> = (0..=999)
        .map(|rate| NewPlaybook {
            expected_success_rate: Rate::from_thousandths(rate + 1).ok(),
            is_latest: rate == 0,
            embedding: None,
            ..playbook("p", &format!("1.0.{rate}"))
        })
        .collect();
    catalog.put(put(&all)).await.unwrap();
    let request = VersionsOf { playbook_id: named("p"), below: None, limit: Limit::new(2_000).unwrap() };
    let page = catalog.versions(request).await.unwrap();
    for (stored, sent) in page.playbooks.iter().rev().zip(&all) {
        assert_eq!(stored.playbook.expected_success_rate, sent.expected_success_rate);
    }
    assert_eq!((page.playbooks.len(), page.more), (1_000, false));
}

// S3-PB-004, S3-PB-010, S3-PB-011, X-EDGE-071, X-EDGE-072, DEF-22, DEF-24, P8, P12, P14, P22.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_by_meaning_and_one_is_the_latest(#[case] file: File) {
    let catalog = playbooks(&file.open().await).await;
    let texts = ["v1.9.0", "v1.10.0-rc.1", "v1.2.0", "v1.10.0", "1.10.0"];
    let all = texts.map(|text| NewPlaybook { is_latest: text == "v1.10.0", ..playbook("b", text) });
    catalog.put(put(&all)).await.unwrap();
    catalog.put(put(&[playbook("é", "1.0.0"), playbook("a", "1.0.0")])).await.unwrap();
    let mut below = None;
    let mut found = Vec::new();
    loop {
        let request = VersionsOf { playbook_id: named("b"), below, limit: Limit::new(2).unwrap() };
        let page = catalog.versions(request).await.unwrap();
        found.extend(page.playbooks.iter().map(|one| one.playbook.version.to_string()));
        below = page.playbooks.last().map(|last| last.playbook.version.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(found, ["v1.10.0", "1.10.0", "v1.10.0-rc.1", "v1.9.0", "v1.2.0"]);
    let hash = sha256_hex(all[0].content.as_bytes());
    for (which, expected) in [
        (Lookup::Latest, Some("v1.10.0")),
        (Lookup::LatestActive, Some("v1.10.0")),
        (Lookup::Exact(version("1.10.0")), Some("1.10.0")),
        (Lookup::Exact(version("1.9.0")), None),
        (Lookup::Hash(hash), Some("v1.10.0")),
        (Lookup::Hash(sha256_hex(b"")), None),
    ] {
        let found = catalog.get(get("b", which)).await.unwrap();
        assert_eq!(found.map(|found| found.playbook.version.to_string()).as_deref(), expected);
    }
    let list = |after: Option<&str>, limit| ListPlaybooks {
        after: after.map(named),
        limit: Limit::new(limit).unwrap(),
        ..ListPlaybooks::default()
    };
    let named_ids = |page: Vec<Playbook>| -> Vec<_> {
        page.into_iter().map(|one| one.playbook.playbook_id.to_string()).collect()
    };
    let first = catalog.list(list(None, 2)).await.unwrap();
    assert!(first.more);
    assert_eq!(named_ids(first.playbooks), ["a", "b"]);
    let rest = catalog.list(list(Some("b"), 2)).await.unwrap();
    assert!(!rest.more);
    assert_eq!(named_ids(rest.playbooks), ["é"]);

    let moved = catalog.change(change("b", "v1.2.0", Edit::MakeLatest)).await.unwrap();
    assert!(moved.playbook.is_latest);
    assert_eq!(text(&file, "SELECT sum(is_latest_version) || '' FROM playbook_catalog"), "3");
    let disable = Edit::Status(Status::Disabled, None);
    catalog.change(change("b", "v1.2.0", disable)).await.unwrap();
    assert_eq!(catalog.get(get("b", Lookup::LatestActive)).await.unwrap(), None);
    let active = ListPlaybooks { status: Some(Status::Active), ..ListPlaybooks::default() };
    assert_eq!(named_ids(catalog.list(active).await.unwrap().playbooks), ["a", "é"]);
    let missing = VersionsOf { playbook_id: named("none"), below: None, limit: Limit::default() };
    assert_eq!(catalog.versions(missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    let missing = catalog.change(change("b", "9.9.9", Edit::MakeLatest)).await.unwrap_err();
    assert_eq!((missing.kind(), missing.was_applied()), (ErrorKind::NotFound, Some(Applied::No)));
}

// S3-PB-014, S3-PB-017 to S3-PB-020, X-EDGE-069, X-EDGE-074 to X-EDGE-076, DEF-25 to DEF-27: the ranking is core's, rows
// without a vector and narrow filters included.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn search_ranks_every_candidate(#[case] file: File) {
    let catalog = playbooks(&file.open().await).await;
    let words = ["disk full", "node down", "pod crash", "certificate expired", "quota exceeded"];
    let mut all = Vec::new();
    for index in 0..400 {
        let mut one = playbook(&format!("p{index:03}"), "1.0.0");
        one.name = named(&format!("{} {}", words[index % 5], words[index % 3]));
        one.labels.insert("kind".into(), if index % 50 == 7 { "rare" } else { "common" }.into());
        let vector = HashingEmbedder::vector(&format!("{}\n{}", one.name, one.description));
        one.embedding = (index % 4 != 0).then_some(vector);
        one.is_latest = index % 10 != 9;
        one.status = if index % 10 == 8 { Status::Disabled } else { Status::Active };
        all.push(one);
    }
    catalog.put(put(&all)).await.unwrap();
    let query = HashingEmbedder::vector("the disk of a node is full");
    let mut expected: Vec<_> = all
        .iter()
        .filter(|one| one.is_latest && one.status == Status::Active)
        .map(|one| {
            let vector = HashingEmbedder::vector(&format!("{}\n{}", one.name, one.description));
            (query.confidence(&vector), one.playbook_id.to_string(), one.labels["kind"].clone())
        })
        .collect();
    expected.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    for (kind, min, max) in
        [(None, 0.0, 10), (None, 0.0, 1_000), (None, expected[40].0, 1_000), (Some("rare"), 0.0, 100)]
    {
        let mut request = search("the disk of a node is full");
        (request.min_confidence, request.max_results) = (min, Limit::new(max).unwrap());
        request.labels.extend(kind.map(|kind| ("kind".to_owned(), kind.to_owned())));
        let wanted = expected
            .iter()
            .filter(|(confidence, _, label)| *confidence >= min && kind.is_none_or(|kind| kind == label));
        let wanted: Vec<_> =
            wanted.take(usize::try_from(max).unwrap()).map(|(_, id, _)| id.clone()).collect();
        assert_eq!(ids(&*catalog, request).await, wanted, "{kind:?} {min} {max}");
    }
    let opposite: Vec<_> = query.as_slice().iter().map(|number| -number).collect();
    let mut request = search("x");
    request.query = Query::Vector(Embedding::new(opposite).unwrap());
    let found = catalog.search(request).await.unwrap().matches;
    assert!(found.iter().all(|found| found.confidence >= 0.0));
    // What is changed by this store or past it is seen by the next search.
    let best = expected[0].1.clone();
    catalog.change(change(&best, "1.0.0", Edit::Status(Status::Disabled, None))).await.unwrap();
    assert_eq!(ids(&*catalog, search("the disk of a node is full")).await[0], expected[1].1);
    file.raw(&format!(
        "UPDATE playbook_catalog SET status = 'archived' WHERE playbook_id = '{}'",
        expected[1].1
    ));
    assert_eq!(ids(&*catalog, search("the disk of a node is full")).await[0], expected[2].1);
}

// S3-PB-013: what is kept in memory of a native file is never older than the file, whoever changes it; figures are no
// reason to read the vectors again.
#[tokio::test(flavor = "multi_thread")]
async fn the_kept_vectors_follow_the_file() {
    const CHANGES: &str = "SELECT changes || '' FROM playbook_catalog_stamp";
    let file = File::new();
    let (ours, others) = (playbooks(&file.open().await).await, playbooks(&file.open().await).await);
    let vector = |text: &str| Some(HashingEmbedder::vector(text));
    ours.put(put(&[playbook("a", "1.0.0"), playbook("b", "1.0.0")])).await.unwrap();
    let first = |catalog: Arc<dyn PlaybookCatalog>| async move {
        ids(&*catalog, search("full disk")).await[0].clone()
    };
    let steps: [(&str, Edit); 4] = [
        ("b", Edit::Embedding(vector("full disk"))),
        ("a", Edit::Embedding(vector("full disk"))),
        ("a", Edit::Embedding(None)),
        ("a", Edit::Embedding(vector("the full disk"))),
    ];
    for ((id, edit), best) in steps.into_iter().zip(["b", "a", "b", "b"]) {
        others.change(change(id, "1.0.0", edit)).await.unwrap();
        assert_eq!((first(ours.clone()).await, first(others.clone()).await), (best.into(), best.into()));
    }
    let before = text(&file, CHANGES);
    ours.change(change("b", "1.0.0", Edit::Figures { total: 1, successful: 1, rate: None })).await.unwrap();
    assert_eq!(text(&file, CHANGES), before);
    file.raw("UPDATE playbook_catalog SET status = 'disabled' WHERE playbook_id = 'b'");
    assert_ne!(text(&file, CHANGES), before);
    assert_eq!(first(ours).await, "a");
    // A change that is rolled back leaves no trace, also not in what a search kept meanwhile.
    let mut other = file.other_program();
    other.batch_execute("BEGIN; UPDATE playbook_catalog SET status = 'active'").unwrap();
    assert_eq!(first(others.clone()).await, "a");
    other.batch_execute("ROLLBACK").unwrap();
    assert_eq!(first(others).await, "a");
}

// S3-EDGE-019: nothing stored.
#[rstest]
#[case::native(File::new())]
#[case::adopted(File::legacy())]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_catalog_finds_nothing(#[case] file: File) {
    let catalog = playbooks(&file.open().await).await;
    assert!(ids(&*catalog, search("anything")).await.is_empty());
    assert!(catalog.list(ListPlaybooks::default()).await.unwrap().playbooks.is_empty());
}

// S3-PB-002 to S3-PB-006, X-EDGE-073, DEF-22, DEF-23: a native file refuses by itself what breaks the contract.
#[rstest]
#[case("UPDATE playbook_catalog SET content = 'x'")]
#[case("UPDATE playbook_catalog SET description = 'x'")]
#[case("UPDATE playbook_catalog SET name = 'x'")]
#[case("UPDATE playbook_catalog SET labels = '{}'")]
#[case("UPDATE playbook_catalog SET version = '9.9.9'")]
#[case("DELETE FROM playbook_catalog")]
#[case("REPLACE INTO playbook_catalog SELECT * FROM playbook_catalog")]
#[case("UPDATE playbook_catalog SET is_latest_version = 1")]
#[case("UPDATE OR REPLACE playbook_catalog SET is_latest_version = 1 WHERE version = '1.0.0'")]
#[case("UPDATE playbook_catalog SET is_latest_version = 2")]
#[case("UPDATE playbook_catalog SET is_latest_version = 't'")]
#[case("UPDATE playbook_catalog SET status = 'gone'")]
#[case("UPDATE playbook_catalog SET embedding = x'00'")]
#[case("UPDATE playbook_catalog SET actual_success_rate = 1.001")]
#[case("UPDATE playbook_catalog SET actual_success_rate = 0.1234")]
#[case("UPDATE playbook_catalog SET total_executions = -1")]
#[case("UPDATE playbook_catalog SET total_executions = NULL")]
#[case("UPDATE playbook_catalog SET successful_executions = 1")]
#[case("UPDATE playbook_catalog SET disabled_by = 'me'")]
#[case("UPDATE playbook_catalog SET updated_at = 'now'")]
#[tokio::test(flavor = "multi_thread")]
async fn a_native_catalog_refuses_bad_changes_by_itself(#[case] sql: &str) {
    let file = File::new();
    let catalog = playbooks(&file.open().await).await;
    catalog.put(put(&[playbook("p", "1.0.0")])).await.unwrap();
    catalog.put(put(&[playbook("p", "1.1.0")])).await.unwrap();
    let all = || async {
        let request = VersionsOf { playbook_id: named("p"), below: None, limit: Limit::default() };
        catalog.versions(request).await.unwrap().playbooks
    };
    let before = all().await;
    let told = file.other_program().batch_execute(sql).unwrap_err().to_string();
    assert!(!told.contains("no such") && !told.contains("syntax"), "{told}");
    assert_eq!(all().await, before);
}

// S3-PB-008, S3-PB-012: a row that is written by SQL has its defaults, is found, and its `updated_at` moves with changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_written_by_sql_is_served() {
    let file = File::new();
    let catalog = playbooks(&file.open().await).await;
    let hash = sha256_hex(b"steps");
    file.raw(&format!(
        "INSERT INTO playbook_catalog (tenant_id, playbook_id, version, name, description, content, content_hash, is_latest_version)
         VALUES ('default', 'by-hand', 'v1.0.0', 'Full disk', 'When a disk is full', 'steps', '{hash}', 1)"
    ));
    assert_eq!(ids(&*catalog, search("full disk")).await, ["by-hand"]);
    let first = catalog.get(get("by-hand", Lookup::Latest)).await.unwrap().unwrap();
    assert_eq!((first.created_at, first.playbook.status), (first.updated_at, Status::Active));
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    file.raw("UPDATE playbook_catalog SET status = 'deprecated', deprecation_notice = 'old'");
    let second = catalog.get(get("by-hand", Lookup::Latest)).await.unwrap().unwrap();
    assert!(second.updated_at > first.updated_at && second.created_at == first.created_at);
}

/// A legacy catalog with a healthy playbook and one with two versions, and `sql` done to the latter.
fn planted(sql: &str) -> File {
    let file = File::legacy();
    let hash = sha256_hex(b"steps");
    file.raw(&format!(
        "INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, is_latest_version)
         VALUES ('good', '1.0.0', 'good', 'well', 'steps', '{hash}', '{{\"k\":\"good\"}}', 1),
                ('hurt', '1.0.0', 'old', 'old', 'steps', '{hash}', '{{\"k\":\"hurt\"}}', 0),
                ('hurt', '1.1.0', 'new', 'new', 'steps', '{hash}', '{{\"k\":\"hurt\"}}', 1);
         {sql}"
    ));
    file
}

// Hazards 1, 2, 5-9, 13-16, 18, 20, 22-27, 29, 35 of cutover.md, DEF-23: each bad value is named by key and column
// wherever its row would be shown; others are served.
#[rstest]
#[case::text_mark("is_latest_version = 't'", "is_latest_version")]
#[case::word_mark("is_latest_version = 'true'", "is_latest_version")]
#[case::two_mark("is_latest_version = 2", "is_latest_version")]
#[case::minus_mark("is_latest_version = -1", "is_latest_version")]
#[case::name_bytes("name = CAST(x'50ff' AS TEXT)", "name")]
#[case::name_empty("name = ''", "name")]
#[case::name_long("name = printf('%.*c', 256, 'x')", "name")]
#[case::owner_empty("owner = ''", "owner")]
#[case::description_nul("description = CAST(x'500050' AS TEXT)", "description")]
#[case::content_edited("content = 'other'", "content_hash")]
#[case::content_blob("content = x'00'", "content")]
#[case::hash_upper("content_hash = upper(content_hash)", "content_hash")]
#[case::labels_text("labels = 'secret'", "labels")]
#[case::labels_array("labels = '[]'", "labels")]
#[case::labels_number("labels = '{\"k\":1}'", "labels")]
#[case::labels_nul("labels = '{\"k\":\"\\u0000\"}'", "labels")]
#[case::short_vector("embedding = zeroblob(1532)", "embedding")]
#[case::text_vector("embedding = 'secret'", "embedding")]
#[case::nan_vector("embedding = CAST(x'0000c07f' || zeroblob(1532) AS BLOB)", "embedding")]
#[case::status("status = 'on'", "status")]
#[case::time("approved_at = 'secret'", "approved_at")]
#[case::no_zone("approved_at = '2024-01-01T00:00:00'", "approved_at")]
#[case::null_time("created_at = NULL", "created_at")]
#[case::disabled_without_time("disabled_by = 'me'", "disabled_at")]
#[case::version_of("previous_version = 'secret'", "previous_version")]
#[case::rate("expected_success_rate = 0.9999", "expected_success_rate")]
#[case::rate_above("actual_success_rate = 1.5", "actual_success_rate")]
#[case::rate_text("actual_success_rate = 'secret'", "actual_success_rate")]
#[case::seconds("expected_duration_seconds = -1", "expected_duration_seconds")]
#[case::count_null("total_executions = NULL", "total_executions")]
#[case::count_real("successful_executions = 0.5", "successful_executions")]
#[case::above("successful_executions = 1", "successful_executions")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_value_is_named_and_harms_no_other_playbook(#[case] sql: &str, #[case] column: &str) {
    let file = planted(&format!(
        "UPDATE playbook_catalog SET {sql} WHERE playbook_id = 'hurt' AND version = '1.1.0'"
    ));
    let catalog = playbooks(&file.open().await).await;
    let exact = Lookup::Exact(version("1.1.0"));
    let refusals = [
        catalog.get(get("hurt", Lookup::Latest)).await.map(|_| ()),
        catalog.get(get("hurt", exact)).await.map(|_| ()),
        catalog.list(ListPlaybooks::default()).await.map(|_| ()),
        catalog
            .versions(VersionsOf { playbook_id: named("hurt"), below: None, limit: Limit::default() })
            .await
            .map(|_| ()),
        catalog.change(change("hurt", "1.1.0", Edit::MakeLatest)).await.map(|_| ()),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        let row =
            Detail::Row { table: "playbook_catalog".into(), key: "hurt 1.1.0".into(), column: column.into() };
        assert_eq!((refused.kind(), refused.detail()), (ErrorKind::Corrupt, Some(&row)), "{refused}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    // A search that may have to show it names it; one that cannot is served.
    let mut narrow = search("well");
    if column == "status" {
        assert_eq!(ids(&*catalog, narrow).await, ["good"]);
    } else {
        let refused = catalog.search(narrow.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        narrow.labels.insert("k".into(), "good".into());
        assert_eq!(ids(&*catalog, narrow).await, ["good"]);
    }
    assert!(catalog.get(get("good", Lookup::LatestActive)).await.unwrap().is_some());
    assert!(catalog.get(get("hurt", Lookup::Exact(version("1.0.0")))).await.unwrap().is_some());
    let first = ListPlaybooks { limit: Limit::new(1).unwrap(), ..ListPlaybooks::default() };
    assert!(catalog.list(first).await.unwrap().more);
    let labels = BTreeMap::from([("k".to_owned(), "good".to_owned())]);
    let only = ListPlaybooks { labels, ..ListPlaybooks::default() };
    assert_eq!(catalog.list(only).await.unwrap().playbooks.len(), 1);
    catalog.put(put(&[playbook("another", "1.0.0")])).await.unwrap();
    // A new version takes the mark, unless it is the mark that cannot be read.
    let newer = catalog.put(put(&[playbook("hurt", "2.0.0")])).await;
    if column == "is_latest_version" {
        assert_eq!(newer.unwrap_err().kind(), ErrorKind::Corrupt);
    } else {
        newer.unwrap();
        let latest = catalog.get(get("hurt", Lookup::Latest)).await.unwrap().unwrap();
        assert_eq!(latest.playbook.version.as_str(), "2.0.0");
    }
}

// Two latest rows, of hand edits: either is named; marks in a row that is not asked for harm nothing.
#[tokio::test(flavor = "multi_thread")]
async fn two_latest_versions_are_named() {
    let file = planted("UPDATE playbook_catalog SET is_latest_version = 1");
    let catalog = playbooks(&file.open().await).await;
    for refused in [
        catalog.get(get("hurt", Lookup::Latest)).await.map(|_| ()).unwrap_err(),
        catalog.get(get("hurt", Lookup::Exact(version("1.0.0")))).await.map(|_| ()).unwrap_err(),
        catalog.list(ListPlaybooks::default()).await.map(|_| ()).unwrap_err(),
        catalog.search(search("x")).await.map(|_| ()).unwrap_err(),
    ] {
        let Some(Detail::Row { key, column, .. }) = refused.detail() else { panic!("{refused}") };
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        assert!(key.starts_with("hurt ") && column == "is_latest_version", "{refused}");
    }
    assert!(catalog.get(get("good", Lookup::Latest)).await.unwrap().is_some());
}

// X-EDGE-071, DEF-24: a version that is none comes last among the versions, and names itself there.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_none_is_named_when_it_is_shown() {
    let file = planted(
        "UPDATE playbook_catalog SET version = 'latest' WHERE version = '1.0.0' AND playbook_id = 'hurt'",
    );
    let catalog = playbooks(&file.open().await).await;
    let page =
        |limit| VersionsOf { playbook_id: named("hurt"), below: None, limit: Limit::new(limit).unwrap() };
    let first = catalog.versions(page(1)).await.unwrap();
    assert!(first.more);
    let refused = catalog.versions(page(2)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(catalog.get(get("hurt", Lookup::Latest)).await.unwrap().is_some());
    let hash = Lookup::Hash(sha256_hex(b"steps"));
    let found = catalog.get(get("hurt", hash)).await.unwrap().unwrap();
    assert_eq!(found.playbook.version.as_str(), "1.1.0");
}

// What is loose but has one meaning is read: `CURRENT_TIMESTAMP`, no vector, whole numbers as rates.
#[tokio::test(flavor = "multi_thread")]
async fn loose_but_clear_values_are_read() {
    let file = planted(
        "UPDATE playbook_catalog SET expected_success_rate = 1, disabled_at = CURRENT_TIMESTAMP,
         approved_at = '2024-02-29T23:30:00+05:30' WHERE playbook_id = 'good'",
    );
    let catalog = playbooks(&file.open().await).await;
    let found = catalog.get(get("good", Lookup::Latest)).await.unwrap().unwrap();
    assert_eq!(found.playbook.expected_success_rate, Rate::from_thousandths(1_000).ok());
    assert!(found.disabled.is_some() && found.playbook.embedding.is_none());
    let again = catalog.change(change("good", "1.0.0", Edit::MakeLatest)).await.unwrap();
    assert_eq!(again.playbook, found.playbook);
}

// Section 4 of the design, P44, S2-TEN-008: namespaces and tenants are kept apart, with equal ids.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_and_tenants_are_kept_apart() {
    let file = File::legacy();
    let open = file.open().await;
    let own = ModuleScope { namespace: Some(Namespace::new("jobs").unwrap()), ..module("jobs") };
    let other = changeover_core::TenantId::new("o'ther\n").unwrap();
    let stores = [
        playbooks(&open).await,
        open.playbooks(&own, &tenant()).await.unwrap(),
        open.playbooks(&own, &other).await.unwrap(),
    ];
    for (index, store) in stores.iter().enumerate() {
        assert!(ids(&**store, search("name")).await.is_empty());
        let one = NewPlaybook { content: format!("{index}"), ..playbook("p", "1.0.0") };
        assert_eq!(store.put(put(&[one])).await.unwrap().stored, 1);
    }
    for (index, store) in stores.iter().enumerate() {
        let found = store.search(search("name")).await.unwrap().matches;
        assert_eq!((found.len(), found[0].playbook.playbook.content.as_str()), (1, &*format!("{index}")));
        store.change(change("p", "1.0.0", Edit::Status(Status::Disabled, None))).await.unwrap();
        assert_eq!(store.list(ListPlaybooks::default()).await.unwrap().playbooks.len(), 1);
    }
    let refused = open.playbooks(&module("playbooks"), &other).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
