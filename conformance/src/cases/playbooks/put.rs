//! Storing versions of playbooks.

use changeover_core::playbooks::{Lookup, NewPlaybook, Put, PutReport, Status};
use changeover_core::{Applied, Detail, ErrorKind, Timestamp};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    assert_stored, exact, full, get, labels, look, older, open, playbook, put, text, version, version_texts,
    versions,
};
use crate::support::{Must, or_note, refused};

/// A version that was put is found again, latest, exact and by its hash, equal in every field. (P1, S3-PB-001, S3-PB-010)
pub async fn version_put_is_read_back_equal_in_every_field(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    for (playbook_id, new) in [
        ("full", full("full", "v1.0.0")),
        ("bare", NewPlaybook { labels: labels([]), ..playbook("bare", "v1.0.0") }),
    ] {
        assert_eq!(put(&*catalog, vec![new.clone()]).await, PutReport { stored: 1, repeated: 0 });
        for which in
            [Lookup::Latest, Lookup::LatestActive, Lookup::Exact(version("v1.0.0")), Lookup::Hash(new.hash())]
        {
            let found = get(&*catalog, playbook_id, which).await.must("the version");
            assert_stored(&found, &new);
            assert_eq!(found.playbook.content_hash, Some(new.hash()));
        }
    }
}

/// A version that is stored with other content, name, description or labels is refused as `AlreadyExists`, the error names
/// it, and nothing of the batch is stored. (P2, S3-PB-006)
pub async fn stored_version_with_other_content_is_refused(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let first = playbook("restart", "v1.0.0");
    put(&*catalog, vec![first.clone()]).await;
    let before = look(h, &*catalog, &["restart", "other"]).await;
    let edits: [fn(&mut NewPlaybook); 6] = [
        |new| new.content.push('\n'),
        |new| new.name = text("Restart"),
        |new| new.description.clear(),
        |new| drop(new.labels.insert("component".to_owned(), "Shop".to_owned())),
        |new| drop(new.labels.insert("more".to_owned(), String::new())),
        |new| new.labels.clear(),
    ];
    for edit in edits {
        let mut other = first.clone();
        edit(&mut other);
        let batch = vec![playbook("other", "v1.0.0"), other, playbook("restart", "v2.0.0")];
        let batch = batch.into_iter().enumerate().map(|(at, new)| NewPlaybook { is_latest: at == 0, ..new });
        let answer = catalog.put(Put { versions: batch.collect() }).await;
        let error = refused(answer, ErrorKind::AlreadyExists);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
        assert!(error.message().contains("restart") && error.message().contains("v1.0.0"), "{error}");
        assert_eq!(look(h, &*catalog, &["restart", "other"]).await, before);
    }
}

/// A version put again with equal content, name, description and labels is a success and changes nothing, neither
/// lifecycle nor the mark of the latest. (P7)
pub async fn equal_version_again_changes_nothing(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let first = older("restart", "v1.0.0");
    put(&*catalog, vec![first.clone(), playbook("restart", "v2.0.0")]).await;
    let before = look(h, &*catalog, &["restart"]).await;
    let again = NewPlaybook {
        is_latest: true,
        status: Status::Disabled,
        owner: Some(text("somebody")),
        created_at: Some(Timestamp::MIN),
        content_hash: Some(first.hash()),
        ..first
    };
    assert_eq!(put(&*catalog, vec![again.clone()]).await, PutReport { stored: 0, repeated: 1 });
    assert_eq!(look(h, &*catalog, &["restart"]).await, before);
    let mixed = vec![again, older("restart", "v1.5.0")];
    assert_eq!(put(&*catalog, mixed).await, PutReport { stored: 1, repeated: 1 });
    let found = versions(&*catalog, "restart", 10).await;
    assert_eq!(version_texts(&found), ["v2.0.0", "v1.5.0", "v1.0.0"]);
}

/// A bundle that is put twice is stored once. (P29)
pub async fn bundle_put_twice_is_stored_once(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let bundle: Vec<_> = (0..50)
        .map(|number| NewPlaybook {
            is_latest: number % 5 == 4,
            ..full(&format!("p{}", number / 5), &format!("v1.{}.0", number % 5))
        })
        .collect();
    assert_eq!(put(&*catalog, bundle.clone()).await, PutReport { stored: 50, repeated: 0 });
    let seen = look(h, &*catalog, &["p0", "p9"]).await;
    assert_eq!(put(&*catalog, bundle).await, PutReport { stored: 0, repeated: 50 });
    assert_eq!(look(h, &*catalog, &["p0", "p9"]).await, seen);
}

/// A batch without a version, with a version twice, or with two latest versions of one playbook is Invalid, one of more
/// than 1,000 is `TooLarge`, and nothing is stored; a batch of 1,000 is stored. (P45)
pub async fn impossible_batches_are_refused(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let before = look(h, &*catalog, &["a"]).await;
    let one = playbook("a", "v1.0.0");
    let many = |count: usize| (0..count).map(|number| older("a", &format!("0.0.{number}"))).collect();
    for (versions, kind) in [
        (Vec::new(), ErrorKind::Invalid),
        (vec![one.clone(), NewPlaybook { is_latest: false, ..one.clone() }], ErrorKind::Invalid),
        (vec![one, playbook("a", "v2.0.0")], ErrorKind::Invalid),
        (many(Put::MAX_VERSIONS + 1), ErrorKind::TooLarge),
    ] {
        let error = refused(catalog.put(Put { versions }).await, kind);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    }
    assert_eq!(look(h, &*catalog, &["a"]).await, before);
    let stored = put(&*catalog, many(Put::MAX_VERSIONS)).await;
    assert_eq!(stored, PutReport { stored: Put::MAX_VERSIONS, repeated: 0 });
}

/// The content hash is the SHA-256 of the content: one that is given must be right, in lower case. (S3-PB-005, DEF-23)
pub async fn content_hash_is_checked(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let new = playbook("restart", "v1.0.0");
    let wrong =
        [String::new(), "0".repeat(64), new.hash().to_uppercase(), playbook("restart", "v2.0.0").hash()];
    for hash in wrong {
        let bad = NewPlaybook { content_hash: Some(hash), ..new.clone() };
        refused(catalog.put(Put { versions: vec![bad] }).await, ErrorKind::Invalid);
    }
    assert_eq!(get(&*catalog, "restart", Lookup::Latest).await, None);
    let given = NewPlaybook { content_hash: Some(new.hash()), ..new.clone() };
    put(&*catalog, vec![given]).await;
    assert_stored(&exact(&*catalog, "restart", "v1.0.0").await, &new);
}

/// A put that is refused leaves no row in any table. (P36)
pub async fn refused_put_leaves_no_row(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("a", "v1.0.0")]).await;
    let Some(before) = or_note("counting rows", h.faults().row_counts().await) else {
        return assert_eq!(versions(&*catalog, "a", 10).await.len(), 1);
    };
    let other = NewPlaybook { content: "other".to_owned(), ..playbook("a", "v1.0.0") };
    let batch = vec![full("b", "v1.0.0"), other];
    refused(catalog.put(Put { versions: batch }).await, ErrorKind::AlreadyExists);
    let bad = NewPlaybook { content: "a\0b".to_owned(), ..playbook("c", "v1.0.0") };
    refused(catalog.put(Put { versions: vec![full("b", "v1.0.0"), bad] }).await, ErrorKind::Invalid);
    assert_eq!(h.faults().row_counts().await.must("the rows"), before);
}

/// A previous version need not be stored: versions may arrive in any order. (P35)
pub async fn previous_version_need_not_be_stored(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let new = NewPlaybook { previous_version: Some(version("v0.9.0")), ..playbook("restart", "v1.0.0") };
    put(&*catalog, vec![new.clone()]).await;
    assert_stored(&exact(&*catalog, "restart", "v1.0.0").await, &new);
    put(&*catalog, vec![older("restart", "v0.9.0")]).await;
    assert_eq!(version_texts(&versions(&*catalog, "restart", 10).await), ["v1.0.0", "v0.9.0"]);
}

/// What one client put, another one reads at once. (P31)
pub async fn put_is_seen_by_other_clients_at_once(h: &dyn AnyHarness) {
    let (one, other) = (open(h).await, open(h).await);
    for minor in 0..10 {
        let at = format!("v1.{minor}.0");
        put(&*one, vec![playbook("restart", &at)]).await;
        let found = get(&*other, "restart", Lookup::Latest).await.must("the version");
        assert_eq!(found.playbook.version.as_str(), at);
    }
}

/// Content of 4 MiB is stored whole; a byte more is `TooLarge`, and says so in numbers. (P20)
pub async fn content_up_to_the_limit_is_stored_whole(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let content = "\u{e9}".repeat(NewPlaybook::MAX_CONTENT / 2);
    let large = NewPlaybook { content, ..playbook("large", "v1.0.0") };
    put(&*catalog, vec![large.clone()]).await;
    assert_stored(&exact(&*catalog, "large", "v1.0.0").await, &large);
    let content = format!("{}x", large.content);
    let larger = NewPlaybook { content, ..playbook("larger", "v1.0.0") };
    let error = refused(catalog.put(Put { versions: vec![larger] }).await, ErrorKind::TooLarge);
    let allowed = NewPlaybook::MAX_CONTENT as u64;
    assert_eq!(error.detail(), Some(&Detail::TooLarge { found: allowed + 1, allowed }));
    assert_eq!(get(&*catalog, "larger", Lookup::Latest).await, None);
}

/// Times are the store's where none is given, in UTC and to the microsecond whatever the session's zone, and those that are
/// given are kept. (P37, S3-PB-008)
pub async fn times_are_utc_and_to_the_microsecond(h: &dyn AnyHarness) {
    let mut catalogs = vec![open(h).await];
    if let Some(client) =
        or_note("sessions of another time zone", h.faults().client_in_time_zone("Asia/Kolkata").await)
    {
        catalogs.push(crate::support::playbooks::open_on(h, &*client).await);
    }
    for (number, catalog) in catalogs.iter().enumerate() {
        let (given, own) = (format!("given-{number}"), format!("own-{number}"));
        let mut new = full(&given, "v1.0.0");
        for time in
            [Timestamp::MIN, Timestamp::MAX, Timestamp::parse("1969-12-31T23:59:59.999999Z").must("a time")]
        {
            new.version = version(&format!("1.0.{}", time.as_micros().unsigned_abs()));
            (new.is_latest, new.created_at, new.approved_at) = (false, Some(time), Some(time));
            put(&**catalog, vec![new.clone()]).await;
            assert_stored(&exact(&**catalog, &given, new.version.as_str()).await, &new);
        }
        put(&**catalog, vec![playbook(&own, "v1.0.0")]).await;
        let stored = exact(&**catalog, &own, "v1.0.0").await;
        let off = stored.updated_at.as_micros().abs_diff(Timestamp::now().as_micros());
        assert!(off < 600_000_000, "stored at {}, which is not now", stored.updated_at);
        assert_eq!((stored.created_at, stored.updated_by), (stored.updated_at, None));
    }
}
