//! What may change of a stored version, and what never does.

use changeover_core::playbooks::{Change, Edit, Lookup, NewPlaybook, Playbook, Put, Rate, Status};
use changeover_core::{Applied, ErrorKind};

use crate::harness::AnyHarness;
use crate::support::playbooks::{
    assert_stored, change, change_of, exact, full, get, look, older, open, playbook, put, text, vector,
};
use crate::support::{Must, or_note, refused};

fn figures(total: u64, successful: u64, thousandths: Option<u16>) -> Edit {
    let rate = thousandths.map(|thousandths| Rate::from_thousandths(thousandths).must("a rate"));
    Edit::Figures { total, successful, rate }
}

/// No change of one version, and no new version, changes anything else of a stored one. (P11, S3-PB-006)
pub async fn stored_versions_never_change_otherwise(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let (first, second) =
        (full("restart", "v1.0.0"), NewPlaybook { is_latest: false, ..full("restart", "v2.0.0") });
    put(&*catalog, vec![first.clone(), second.clone()]).await;
    let neighbour = exact(&*catalog, "restart", "v2.0.0").await;
    let edits = [
        figures(3, 2, Some(667)),
        Edit::Status(Status::Disabled, Some("why".to_owned())),
        Edit::Status(Status::Active, None),
        Edit::Embedding(Some(vector(&[1.0]))),
        Edit::Embedding(None),
    ];
    let mut expected = exact(&*catalog, "restart", "v1.0.0").await;
    assert_stored(&expected, &first);
    for edit in edits {
        let answer = change(&*catalog, "restart", "v1.0.0", edit.clone()).await;
        assert!(answer.updated_at > expected.updated_at, "{edit:?}");
        expected.apply(edit, None, answer.updated_at);
        assert_eq!(answer, expected);
        assert_eq!(exact(&*catalog, "restart", "v1.0.0").await, expected);
        assert_eq!(exact(&*catalog, "restart", "v2.0.0").await, neighbour);
    }
}

/// Each status can be set, with who and why: disabled keeps both, deprecated its notice, active clears them. (S3-PB-002)
pub async fn each_status_keeps_what_belongs_to_it(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let by = Some(text("person-1"));
    let set = async |status, reason: Option<&str>| {
        let edit = Edit::Status(status, reason.map(str::to_owned));
        let request = Change { by: by.clone(), ..change_of("restart", "v1.0.0", edit) };
        let answer = catalog.change(request).await.must("set the status");
        assert_eq!(exact(&*catalog, "restart", "v1.0.0").await, answer);
        assert_eq!((answer.playbook.status, &answer.updated_by), (status, &by));
        answer
    };
    let disabled = set(Status::Disabled, Some("it breaks \"things\" \u{1f980}")).await;
    let expected = (disabled.updated_at, by.clone(), Some("it breaks \"things\" \u{1f980}".to_owned()));
    assert_eq!(disabled.disabled, Some(expected.clone()));
    let deprecated = set(Status::Deprecated, Some("use another")).await;
    assert_eq!(
        (deprecated.disabled, deprecated.deprecation_notice.as_deref()),
        (Some(expected.clone()), Some("use another"))
    );
    let archived = set(Status::Archived, None).await;
    assert_eq!(
        (archived.disabled, archived.deprecation_notice.as_deref()),
        (Some(expected), Some("use another"))
    );
    let active = set(Status::Active, None).await;
    assert_eq!((active.disabled, active.deprecation_notice), (None, None));
    let empty = set(Status::Deprecated, Some("")).await;
    assert_eq!(empty.deprecation_notice.as_deref(), Some(""));
    let gone = set(Status::Deprecated, None).await;
    assert_eq!(gone.deprecation_notice, None);
    let again = set(Status::Disabled, None).await;
    assert_eq!(again.disabled, Some((again.updated_at, by.clone(), None)));
}

/// Figures are kept up to the largest count; successes above executions are Invalid, and nothing changes. (S3-PB-003,
/// DEF-23, P38)
pub async fn figures_are_kept_and_checked(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let largest = Edit::MAX_COUNT;
    for (total, successful, thousandths) in [
        (0, 0, None),
        (3, 2, Some(667)),
        (1, 1, Some(1000)),
        (largest, largest, Some(0)),
        (largest, 0, Some(1)),
        (0, 0, None),
    ] {
        let answer = change(&*catalog, "restart", "v1.0.0", figures(total, successful, thousandths)).await;
        let rate = answer.actual_success_rate.map(Rate::thousandths);
        assert_eq!(
            (answer.total_executions, answer.successful_executions, rate),
            (total, successful, thousandths)
        );
        assert_eq!(exact(&*catalog, "restart", "v1.0.0").await, answer);
    }
    let before = look(h, &*catalog, &["restart"]).await;
    for (total, successful) in [(0, 1), (2, 3), (largest + 1, 0), (u64::MAX, u64::MAX)] {
        let request = change_of("restart", "v1.0.0", figures(total, successful, None));
        let error = refused(catalog.change(request).await, ErrorKind::Invalid);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
    }
    refused(Rate::from_thousandths(1001), ErrorKind::Invalid);
    assert_eq!(look(h, &*catalog, &["restart"]).await, before);
}

/// A reason that is impossible, or that the status does not keep, is Invalid and changes nothing. (P51)
pub async fn impossible_reasons_are_refused(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let before = look(h, &*catalog, &["restart"]).await;
    for (status, reason) in [
        (Status::Active, "why".to_owned()),
        (Status::Archived, "why".to_owned()),
        (Status::Disabled, "a\0b".to_owned()),
        (Status::Deprecated, "x".repeat(NewPlaybook::MAX_TEXT + 1)),
    ] {
        let request = change_of("restart", "v1.0.0", Edit::Status(status, Some(reason)));
        refused(catalog.change(request).await, ErrorKind::Invalid);
    }
    assert_eq!(look(h, &*catalog, &["restart"]).await, before);
}

/// A change of what is not stored is `NotFound`, names playbook and version, and stores nothing. (P52)
pub async fn change_of_a_missing_version_is_not_found(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let before = look(h, &*catalog, &["restart", "missing"]).await;
    for (playbook_id, at) in
        [("restart", "v1.0.1"), ("restart", "1.0.0"), ("missing", "v1.0.0"), ("Restart", "v1.0.0")]
    {
        for edit in [
            Edit::MakeLatest,
            Edit::Status(Status::Disabled, None),
            figures(1, 1, None),
            Edit::Embedding(None),
        ] {
            let answer = catalog.change(change_of(playbook_id, at, edit)).await;
            let error = refused(answer, ErrorKind::NotFound);
            assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
            assert!(error.message().contains(playbook_id) && error.message().contains(at), "{error}");
        }
    }
    assert_eq!(look(h, &*catalog, &["restart", "missing"]).await, before);
}

/// `updated_at` moves on with every change, also those that come faster than the clock ticks, and says who. (S3-PB-008)
pub async fn updated_at_moves_on_with_every_change(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![full("restart", "v1.0.0")]).await;
    let mut before = exact(&*catalog, "restart", "v1.0.0").await;
    for number in 0..20 {
        let by = (number % 2 == 0).then(|| text(&format!("person-{number}")));
        let request = Change { by: by.clone(), ..change_of("restart", "v1.0.0", figures(number, 0, None)) };
        let after = catalog.change(request).await.must("change the figures");
        assert!(after.updated_at > before.updated_at, "{} after {}", after.updated_at, before.updated_at);
        assert_eq!((after.created_at, &after.updated_by), (before.created_at, &by));
        before = after;
    }
}

/// Changes of one version by many at once all count: the last one stands, whole. (P53)
pub async fn changes_at_once_leave_one_of_them_whole(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![playbook("restart", "v1.0.0")]).await;
    let writers = (1..=4_u64).map(|writer| async move {
        let catalog = open(h).await;
        let mut answers: Vec<Playbook> = Vec::new();
        for number in 1..=10 {
            let count = writer * 100 + number;
            let mut tries = 0;
            let answer = loop {
                let edit = figures(count, count, None);
                match catalog.change(change_of("restart", "v1.0.0", edit)).await {
                    Ok(answer) => break answer,
                    Err(error) => assert!(error.kind().is_transient() && tries < 50, "{error}"),
                }
                tries += 1;
            };
            answers.push(answer);
        }
        answers
    });
    let mut answers = futures::future::join_all(writers).await.concat();
    assert_eq!(answers.len(), 40);
    answers.sort_by_key(|answer| answer.updated_at);
    assert!(
        answers.windows(2).all(|pair| pair[0].updated_at < pair[1].updated_at),
        "two changes at one time"
    );
    let last = answers.pop().must("a change that was made");
    assert_eq!(exact(&*catalog, "restart", "v1.0.0").await, last);
}

/// By SQL, too, content, name, description, labels and hash of a stored version stay, and so do the rules for status,
/// rates, counts, vectors and the latest. (P54, S3-PB-012)
pub async fn tables_keep_the_rules_of_the_catalog(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    put(&*catalog, vec![full("restart", "v1.0.0"), older("restart", "v0.9.0")]).await;
    let before = look(h, &*catalog, &["restart"]).await;
    if let Some(let_through) = or_note("breaking the rules by SQL", h.faults().break_playbook_rules().await) {
        assert_eq!(let_through, Vec::<String>::new());
    }
    assert_eq!(look(h, &*catalog, &["restart"]).await, before);
}

/// Versions written by hand are versions like others: found, changed, and judged when put again. (S3-PB-022)
pub async fn versions_written_by_hand_are_like_others(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let new = playbook("by-hand", "v1.0.0");
    match or_note("writing rows by hand", h.faults().insert_playbook_by_sql(new.clone()).await) {
        Some(answer) => answer.must("insert a version by SQL"),
        None => assert_eq!(put(&*catalog, vec![new.clone()]).await.stored, 1),
    }
    let found = get(&*catalog, "by-hand", Lookup::LatestActive).await.must("the version");
    assert_eq!(
        found.playbook,
        NewPlaybook { created_at: Some(found.created_at), content_hash: Some(new.hash()), ..new.clone() }
    );
    let again = catalog.put(Put { versions: vec![new.clone()] }).await.must("put it again");
    assert_eq!((again.stored, again.repeated), (0, 1));
    let changed = change(&*catalog, "by-hand", "v1.0.0", figures(1, 1, Some(1000))).await;
    assert!(changed.updated_at > found.updated_at);
    let other = NewPlaybook { content: "other".to_owned(), ..new };
    refused(catalog.put(Put { versions: vec![other] }).await, ErrorKind::AlreadyExists);
    put(&*catalog, vec![playbook("by-hand", "v1.1.0")]).await;
    assert!(!exact(&*catalog, "by-hand", "v1.0.0").await.playbook.is_latest);
}
