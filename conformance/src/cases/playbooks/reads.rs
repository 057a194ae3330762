//! Reading versions: one, the latest ones, all of a playbook.

use changeover_core::ErrorKind;
use changeover_core::playbooks::{GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Put, Status, VersionsOf};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    assert_stored, exact, get, id, ids, labels, list, older, open, playbook, put, version, version_texts,
    versions,
};
use crate::support::{Must, limit, or_note, refused};

/// Each lookup finds its version: the latest, the latest that is active, an exact one, the highest with a content hash.
/// (P8)
pub async fn each_lookup_finds_its_version(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let same = |at: &str| NewPlaybook { content: "same".to_owned(), ..older("restart", at) };
    let marked = NewPlaybook { is_latest: true, ..same("v1.2.0") };
    put(&*catalog, vec![same("v1.10.0"), marked, same("v1.9.0"), older("restart", "v2.0.0")]).await;
    let of =
        async |which| get(&*catalog, "restart", which).await.map(|found| found.playbook.version.to_string());
    assert_eq!(of(Lookup::Latest).await.as_deref(), Some("v1.2.0"));
    assert_eq!(of(Lookup::LatestActive).await.as_deref(), Some("v1.2.0"));
    assert_eq!(of(Lookup::Exact(version("v1.9.0"))).await.as_deref(), Some("v1.9.0"));
    assert_eq!(of(Lookup::Hash(same("v1.2.0").hash())).await.as_deref(), Some("v1.10.0"));
    assert_eq!(of(Lookup::Hash(older("restart", "v2.0.0").hash())).await.as_deref(), Some("v2.0.0"));
}

/// What is not stored is None for every lookup, and the versions of an unknown playbook are `NotFound`, which names it. (P9)
pub async fn what_is_not_stored_is_not_found(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    for (playbook_id, which) in [
        ("missing", Lookup::Latest),
        ("missing", Lookup::LatestActive),
        ("missing", Lookup::Exact(version("v1.0.0"))),
        ("Restart", Lookup::Latest),
        ("restart", Lookup::Exact(version("v1.0.1"))),
        ("restart", Lookup::Exact(version("1.0.0"))),
        ("restart", Lookup::Hash("0".repeat(64))),
        ("missing", Lookup::Hash(playbook("restart", "v1.0.0").hash())),
    ] {
        assert_eq!(get(&*catalog, playbook_id, which.clone()).await, None, "{playbook_id} {which:?}");
    }
    for bad in ["", "abc", &"g".repeat(64), &playbook("restart", "v1.0.0").hash().to_uppercase()] {
        let which = Lookup::Hash(bad.to_owned());
        let request = GetPlaybook { playbook_id: id("restart"), which };
        refused(catalog.get(request).await, ErrorKind::Invalid);
    }
    let request = VersionsOf { playbook_id: id("missing"), below: None, limit: limit(10) };
    let error = refused(catalog.versions(request).await, ErrorKind::NotFound);
    assert!(error.message().contains("missing"), "{error}");
}

/// The versions of a playbook come newest first in pages that join to all 1,000 of them. (P10)
pub async fn versions_come_newest_first_in_pages(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let of = |number: usize| format!("v{}.{}.0", number / 40, number % 40);
    // Put in an order of no meaning, among versions of other playbooks.
    let mut batch: Vec<_> = (0..1_000).map(|number| older("long", &of(number * 7 % 1_000))).collect();
    put(&*catalog, vec![playbook("lonf", "v1.0.0"), playbook("longer", "v1.0.0"), playbook("lon", "v1.0.0")])
        .await;
    batch[3].is_latest = true;
    put(&*catalog, batch).await;
    let expected: Vec<_> = (0..1_000).rev().map(of).collect();
    assert_eq!(version_texts(&versions(&*catalog, "long", 300).await), expected);
    assert_eq!(version_texts(&versions(&*catalog, "long", 1_000).await), expected);
}

/// A page of versions begins below the one named, which need not exist; below the lowest it is empty, and `more` is said
/// exactly when more follow. (P50)
pub async fn pages_of_versions_begin_below_the_one_named(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, ["v1.0.0", "v1.2.0", "v1.10.0"].map(|at| older("restart", at)).into()).await;
    for (below, size, expected, more) in [
        (None, 3, &["v1.10.0", "v1.2.0", "v1.0.0"][..], false),
        (None, 2, &["v1.10.0", "v1.2.0"], true),
        (Some("v1.10.0"), 2, &["v1.2.0", "v1.0.0"], false),
        (Some("v1.9.0"), 1, &["v1.2.0"], true),
        (Some("1.10.0"), 5, &["v1.2.0", "v1.0.0"], false),
        (Some("v1.10.1"), 1, &["v1.10.0"], true),
        (Some("v1.0.0"), 5, &[], false),
        (Some("v0.0.1"), 5, &[], false),
    ] {
        let request =
            VersionsOf { playbook_id: id("restart"), below: below.map(version), limit: limit(size) };
        let page = catalog.versions(request).await.must("a page");
        assert_eq!(
            (version_texts(&page.playbooks), page.more),
            (expected.iter().map(|at| (*at).to_owned()).collect(), more),
            "{below:?}"
        );
    }
}

/// The list shows no, one or many playbooks by the bytes of their ids, each with its latest version. (P12)
pub async fn list_is_ordered_by_the_bytes_of_ids(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    assert_eq!(list(&*catalog, ListPlaybooks::default()).await, []);
    put(&*catalog, vec![playbook("b", "v1.0.0"), older("b", "v9.0.0")]).await;
    let one = list(&*catalog, ListPlaybooks::default()).await;
    assert_eq!(one.len(), 1);
    assert_stored(&one[0], &playbook("b", "v1.0.0"));
    let all = ["é", "a", "Z", "a b", "B", "ab", "10", "9", "\u{1f980}", "\u{ffff}", "_", "~"];
    put(&*catalog, all.map(|playbook_id| playbook(playbook_id, "v1.0.0")).into()).await;
    let expected = ["10", "9", "B", "Z", "_", "a", "a b", "ab", "b", "~", "é", "\u{ffff}", "\u{1f980}"];
    for page in [1, 4, 13, 100] {
        let request = ListPlaybooks { limit: limit(page), ..ListPlaybooks::default() };
        assert_eq!(ids(&list(&*catalog, request).await), expected, "pages of {page}");
    }
}

/// While playbooks and versions are added, pages neither lose nor repeat what was there from the start. (P13)
pub async fn list_pages_shift_with_no_write(h: &dyn AnyHarness) {
    let (catalog, writer) = (open(h).await, open(h).await);
    let first: Vec<_> = (0..30).map(|number| format!("p{number:02}")).collect();
    put(&*catalog, first.iter().map(|playbook_id| playbook(playbook_id, "v1.0.0")).collect()).await;
    let mut request = ListPlaybooks { limit: limit(7), ..ListPlaybooks::default() };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = catalog.list(request.clone()).await.must("a page");
        request.after = page.playbooks.last().map(|last| last.playbook.playbook_id.clone());
        seen.extend(ids(&page.playbooks));
        if !page.more {
            break;
        }
        let new = ["a", "p10a", "p99"].map(|place| playbook(&format!("{place}-{round}"), "v1.0.0"));
        put(&*writer, new.into()).await;
        put(&*writer, vec![playbook("p03", &format!("v2.{round}.0"))]).await;
    }
    let kept: Vec<_> = seen.iter().filter(|seen| first.contains(seen)).cloned().collect();
    assert_eq!(kept, first);
    assert!(seen.is_sorted() && seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
}

/// A page begins after the id named, which need not exist. (P14)
pub async fn list_begins_after_the_id_named(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, ["a", "b", "c"].map(|playbook_id| playbook(playbook_id, "v1.0.0")).into()).await;
    for (after, expected) in
        [("a", &["b", "c"][..]), ("aa", &["b", "c"]), ("b", &["c"]), ("c", &[]), ("0", &["a", "b", "c"])]
    {
        let request = ListPlaybooks { after: Some(id(after)), ..ListPlaybooks::default() };
        let page = catalog.list(request).await.must("a page");
        assert_eq!(
            (ids(&page.playbooks), page.more),
            (expected.iter().map(|id| (*id).to_owned()).collect(), false)
        );
    }
}

/// Status and labels narrow the list, each and together: all labels must be there with their values. (P15)
pub async fn filters_narrow_the_list_together(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for (playbook_id, status, given) in [
        ("a", Status::Active, labels([("team", "red"), ("tier", "1")])),
        ("b", Status::Disabled, labels([("team", "red"), ("tier", "2")])),
        ("c", Status::Active, labels([("team", "blue"), ("tier", "1")])),
        ("d", Status::Active, labels([])),
        ("e", Status::Archived, labels([("team", "red"), ("tier", "1"), ("more", "")])),
    ] {
        // An older version that would match must not let its playbook match.
        let old =
            NewPlaybook { labels: labels([("team", "red"), ("old", "1")]), ..older(playbook_id, "v0.1.0") };
        put(&*catalog, vec![old, NewPlaybook { status, labels: given, ..playbook(playbook_id, "v1.0.0") }])
            .await;
    }
    for (status, asked, expected) in [
        (None, labels([]), &["a", "b", "c", "d", "e"][..]),
        (Some(Status::Active), labels([]), &["a", "c", "d"]),
        (Some(Status::Deprecated), labels([]), &[]),
        (None, labels([("team", "red")]), &["a", "b", "e"]),
        (None, labels([("team", "red"), ("tier", "1")]), &["a", "e"]),
        (Some(Status::Active), labels([("team", "red"), ("tier", "1")]), &["a"]),
        (None, labels([("team", "red"), ("tier", "3")]), &[]),
        (None, labels([("team", "")]), &[]),
        (None, labels([("more", "")]), &["e"]),
        (None, labels([("old", "1")]), &[]),
    ] {
        let request =
            ListPlaybooks { status, labels: asked.clone(), limit: limit(2), ..ListPlaybooks::default() };
        assert_eq!(ids(&list(&*catalog, request).await), expected, "{status:?} {asked:?}");
    }
}

/// A stored row whose content does not have its hash is Corrupt wherever it would be shown, and names its row. (P21)
pub async fn content_without_its_hash_is_corrupt(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("good", "v1.0.0"), older("bad", "v0.9.0"), playbook("bad", "v1.0.0")]).await;
    let door =
        h.faults().overwrite_playbook_content(&id("bad"), &version("v1.0.0"), "edited in secret").await;
    if or_note("a content edited past the rules", door).is_none() {
        let found = exact(&*catalog, "bad", "v1.0.0").await;
        return assert_eq!(found.playbook.content_hash, Some(found.playbook.hash()));
    }
    for which in [
        Lookup::Latest,
        Lookup::LatestActive,
        Lookup::Exact(version("v1.0.0")),
        Lookup::Hash(playbook("bad", "v1.0.0").hash()),
    ] {
        let request = GetPlaybook { playbook_id: id("bad"), which };
        let error = refused(catalog.get(request).await, ErrorKind::Corrupt);
        assert!(error.detail().is_some() && !error.to_string().contains("secret"), "{error}");
    }
    let of_bad = VersionsOf { playbook_id: id("bad"), below: None, limit: limit(10) };
    refused(catalog.versions(of_bad).await, ErrorKind::Corrupt);
    refused(catalog.list(ListPlaybooks::default()).await, ErrorKind::Corrupt);
    let request = crate::support::playbooks::search_for("bad");
    refused(catalog.search(request).await, ErrorKind::Corrupt);
    assert_stored(&exact(&*catalog, "good", "v1.0.0").await, &playbook("good", "v1.0.0"));
    assert_stored(&exact(&*catalog, "bad", "v0.9.0").await, &older("bad", "v0.9.0"));
    let request = Put { versions: vec![playbook("bad", "v1.1.0")] };
    catalog.put(request).await.must("a new version beside a corrupt one");
}

/// Reads of single playbooks go through an index and not through the table. (P41, S3-PB-007)
pub async fn lookups_use_an_index(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for batch in 0..2 {
        let new = (0..1_000).map(|number| playbook(&format!("p{batch}-{number}"), "v1.0.0"));
        put(&*catalog, new.collect()).await;
    }
    assert!(get(&*catalog, "p1-999", Lookup::LatestActive).await.is_some());
    if let Some(scans) = or_note("the plans of reads", h.faults().playbook_full_scans().await) {
        assert_eq!(scans, Vec::<String>::new());
    }
}
