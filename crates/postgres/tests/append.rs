//! What is particular to appends on PostgreSQL: shared commits, cancellation, the owner, immutability.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use changeover_core::events::{Append, Expected, HeadOf, ReadAll, ReadStream, Track, Version};
use changeover_core::{Applied, ConsumerName, Detail, ErrorKind, Json};
use common::{event, migrated, namespaced, one, open, scope, settings, store, stream, tenant};

/// Takes the position lock as a slow writer would, so that appends have to gather.
async fn hold_positions(db: &changeover_testkit::TestDatabase) -> changeover_testkit::tokio_postgres::Client {
    let client = db.client().await.unwrap();
    client
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(changeover.lock_key('events', 'position'))")
        .await
        .unwrap();
    client
}

// Shared commits: gathered appends keep an outcome each (E16, E20, E30, E32, X-ES-023).
#[tokio::test(flavor = "multi_thread")]
async fn gathered_appends_keep_an_outcome_each() {
    let db = migrated().await;
    let store = store(&db).await;
    let (old, new, other) = (stream("Order"), stream("Order"), stream("Order"));
    let first = one(&old, Expected::NoStream, 1);
    let stored = store.append(first.clone()).await.unwrap();
    let mut taken = event(9);
    taken.id = first.streams[0].events[0].id;

    let held = hold_positions(&db).await;
    // Goes through alone and waits for the lock; the others gather behind it.
    let opener = tokio::spawn({
        let (store, request) = (store.clone(), one(&stream("Order"), Expected::Any, 0));
        async move { store.append(request).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let requests = [
        one(&new, Expected::NoStream, 2),
        one(&old, Expected::Exactly(Version::new(7).unwrap()), 3),
        Append::one(other.clone(), Expected::Any, vec![taken]),
    ];
    let tasks = requests.map(|request| {
        let store = store.clone();
        tokio::spawn(async move { store.append(request).await })
    });
    let replay = tokio::spawn({
        let (store, first) = (store.clone(), first.clone());
        async move { store.append(first).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(held);

    opener.await.unwrap().unwrap();
    let [ok, conflict, exists] = tasks;
    assert_eq!(ok.await.unwrap().unwrap().streams[0].last, Version::FIRST);
    let conflict = conflict.await.unwrap().unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::VersionConflict);
    assert_eq!(conflict.was_applied(), Some(Applied::No));
    let Some(Detail::Conflict { stream, actual, .. }) = conflict.detail() else { panic!("{conflict}") };
    assert_eq!((stream, *actual), (&old, Some(Version::FIRST)));
    assert_eq!(exists.await.unwrap().unwrap_err().kind(), ErrorKind::AlreadyExists);
    let replay = replay.await.unwrap().unwrap();
    assert!(replay.repeated);
    assert_eq!(replay.checkpoint, stored.checkpoint);
    // The refused ones left nothing.
    assert_eq!(store.head(HeadOf::Stream(other)).await.unwrap().version, None);
    let all = store.read_all(ReadAll::default()).await.unwrap();
    assert_eq!((all.events.len(), all.caught_up), (3, true));
}

// A poison request fails alone: a payload that only the database refuses (a number beyond its numeric type).
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_append_fails_alone() {
    let db = migrated().await;
    db.execute(
        "ALTER TABLE event_store.domain_event ADD CONSTRAINT no_poison CHECK (event_type <> 'Poison')",
    )
    .await
    .unwrap();
    let store = store(&db).await;
    let held = hold_positions(&db).await;
    let mut tasks = Vec::new();
    for number in 0..6 {
        let mut new = event(number);
        if number == 3 {
            new.event_type = changeover_core::EventType::new("Poison").unwrap();
        }
        let (store, request) = (store.clone(), Append::one(stream("Order"), Expected::NoStream, vec![new]));
        tasks.push(tokio::spawn(async move { store.append(request).await }));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    drop(held);
    let mut refused = Vec::new();
    for (number, task) in tasks.into_iter().enumerate() {
        if let Err(error) = task.await.unwrap() {
            refused.push((number, error.kind(), error.was_applied()));
        }
    }
    assert_eq!(refused, [(3, ErrorKind::Invalid, Some(Applied::No))]);
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 5);
}

// E25, E57: concurrent writers, shared commits on and off: everything once, versions contiguous, positions rising.
#[rstest::rstest]
#[case("true")]
#[case("false")]
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_and_double_nothing(#[case] shared: &str) {
    let db = migrated().await;
    let backend = open(settings(db.url()).with("shared_commits", shared)).await;
    let store = backend.events(&scope(), &tenant("acme")).await.unwrap();
    let streams = [stream("A"), stream("B"), stream("C")];
    let tasks: Vec<_> = (0..12)
        .zip(streams.iter().cycle())
        .map(|(task, stream)| {
            let (store, stream) = (store.clone(), stream.clone());
            tokio::spawn(async move {
                for number in 0..20 {
                    store.append(one(&stream, Expected::Any, task * 100 + number)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = store.read_all(ReadAll::default()).await.unwrap();
    let numbers: BTreeSet<_> = all.events.iter().map(|event| event.data.as_str().to_owned()).collect();
    assert_eq!((all.events.len(), numbers.len()), (240, 240));
    assert!(all.events.is_sorted_by(|a, b| a.checkpoint.position() < b.checkpoint.position()));
    assert!(all.events.is_sorted_by_key(|event| event.recorded_at));
    for stream in streams {
        let page = store.read_stream(ReadStream::all(stream)).await.unwrap();
        let versions: Vec<_> = page.events.iter().map(|event| event.version.get()).collect();
        assert_eq!(versions, (1..=80).collect::<Vec<_>>());
    }
}

// E100: callers that go away harm nobody; what they asked for is stored whole or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_caller_harms_nobody() {
    let db = migrated().await;
    let store = store(&db).await;
    let held = hold_positions(&db).await;
    let target = stream("Order");
    let mut tasks: Vec<_> = (0..8)
        .map(|number| {
            let (store, request) = (store.clone(), one(&target, Expected::Any, number));
            tokio::spawn(async move { store.append(request).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for task in tasks.drain(..4) {
        task.abort();
    }
    drop(held);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    // What was cancelled may be on its way still, and come between.
    for left in (0..5).rev() {
        let page = store.read_stream(ReadStream::all(target.clone())).await.unwrap();
        assert!((4..=8).contains(&page.events.len()), "{}", page.events.len());
        match store.append(one(&target, Expected::Exactly(page.head.unwrap()), 9)).await {
            Err(error) if error.kind() == ErrorKind::VersionConflict && left > 0 => {}
            appended => {
                appended.unwrap();
                break;
            }
        }
    }
}

// E81, E82: tracking moves with the events, once.
#[tokio::test(flavor = "multi_thread")]
async fn tracking_moves_with_the_events_and_only_forward() {
    let db = migrated().await;
    let store = store(&db).await;
    let at = store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap().checkpoint;
    let consumer = ConsumerName::new("billing").unwrap();
    let mut derived = one(&stream("Bill"), Expected::Any, 2);
    derived.track = Some(Track { consumer: consumer.clone(), checkpoint: at });
    store.append(derived).await.unwrap();
    assert_eq!(store.tracked(consumer.clone()).await.unwrap(), Some(at));

    let bill = stream("Bill");
    let mut again = one(&bill, Expected::Any, 3);
    again.track = Some(Track { consumer: consumer.clone(), checkpoint: at });
    let refused = store.append(again).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    assert_eq!(refused.detail(), Some(&Detail::Tracked { recorded: at }));
    assert_eq!(store.head(HeadOf::Stream(bill)).await.unwrap().version, None);
    let alone = Append { streams: vec![], track: Some(Track { consumer, checkpoint: at }) };
    assert_eq!(store.append(alone).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.tracked(ConsumerName::new("other").unwrap()).await.unwrap(), None);
}

// A switch of the owner stops writers: Moved, with the owner, nothing stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_owned_elsewhere_is_moved() {
    let db = migrated().await;
    let store = store(&db).await;
    db.execute("UPDATE changeover.module SET owner = 'sqlite', epoch = epoch + 1").await.unwrap();
    let error = store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap_err();
    assert_eq!((error.kind(), error.was_applied()), (ErrorKind::Moved, Some(Applied::No)));
    assert_eq!(error.detail(), Some(&Detail::Moved { owner: "sqlite".to_owned() }));
    assert_eq!(store.ready().await.unwrap_err().kind(), ErrorKind::Moved);
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap_err().kind(), ErrorKind::Moved);
    db.execute("UPDATE changeover.module SET owner = 'postgres'").await.unwrap();
    assert!(store.read_all(ReadAll::default()).await.unwrap().events.is_empty());
}

// X-ES-022, DEF-9: nobody changes what is recorded, a superuser neither.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_events_cannot_be_changed_by_anybody() {
    let db = migrated().await;
    let store = store(&db).await;
    store.append(one(&stream("Order"), Expected::Any, 1)).await.unwrap();
    for (role, expected) in
        [("postgres", "COIMM"), ("changeover_owner", "COIMM"), ("changeover_app", "42501")]
    {
        for sql in [
            "UPDATE event_store.domain_event SET event_type = 'x'",
            "DELETE FROM event_store.domain_event",
            "TRUNCATE event_store.domain_event",
            "DELETE FROM event_store.event_stream",
            "TRUNCATE event_store.event_stream CASCADE",
        ] {
            let client = db.client().await.unwrap();
            if role != "postgres" {
                client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
            }
            client.batch_execute("SELECT set_config('changeover.tenant_id', 'acme', false)").await.unwrap();
            let error = client.batch_execute(sql).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), expected, "{role}: {sql}");
        }
    }
    assert_eq!(store.read_all(ReadAll::default()).await.unwrap().events.len(), 1);
}

// A module of the user's own has tables, positions, owner and lock of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespaced_module_stands_beside_the_plain_one() {
    let db = migrated().await;
    let backend = open(settings(db.url())).await;
    let own = namespaced("scheduler");
    backend.migrations(&own, changeover_core::backend::Family::Events).unwrap().up().await.unwrap();
    assert_eq!(backend.owner(&own).await.unwrap().as_deref(), Some("none"));
    let theirs = backend.events(&own, &tenant("acme")).await.unwrap();
    let refused = theirs.append(one(&stream("Job"), Expected::Any, 1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Moved);
    assert!(backend.claim(&own).await.unwrap());
    // While a writer of the one holds its turn, the other goes on.
    let _held = hold_positions(&db).await;
    theirs.append(one(&stream("Job"), Expected::Any, 1)).await.unwrap();
    theirs.ready().await.unwrap();
    let plain = backend.events(&scope(), &tenant("acme")).await.unwrap();
    assert!(plain.read_all(ReadAll::default()).await.unwrap().events.is_empty());
    let after = theirs.head(HeadOf::Log).await.unwrap().checkpoint;
    let foreign = ReadAll { after, ..ReadAll::default() };
    assert_eq!(plain.read_all(foreign).await.unwrap_err().kind(), ErrorKind::Invalid);
}

// The database sorts keys and spells numbers in ways of its own; what is read is what was written.
#[tokio::test(flavor = "multi_thread")]
async fn json_is_read_as_it_was_written() {
    let db = migrated().await;
    let store = store(&db).await;
    let text = r#"{"zz":1.10,"a":[1e2,-0.0,12345678901234567890.5,{"b":null,"aaa":"é\u0001\"\\"}],"":{}}"#;
    let target = stream("Order");
    let mut new = event(0);
    new.data = Json::parse(text).unwrap();
    store.append(Append::one(target.clone(), Expected::Any, vec![new.clone()])).await.unwrap();
    let page = store.read_stream(ReadStream::all(target.clone())).await.unwrap();
    assert_eq!(page.events[0].data, new.data);
    assert!(page.events[0].is_repeat_of(&target, &new));
}

// S0-ES-017: a stream without events, which only somebody else can have made, is counted on from 0 whatever is expected.
#[rstest::rstest]
#[case::nothing(Expected::Any)]
#[case::that_it_does_not_exist(Expected::NoStream)]
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_events_is_begun_like_a_new_one(#[case] expected: Expected) {
    let db = migrated().await;
    let store = store(&db).await;
    let target = stream("Order");
    let sql = format!(
        "INSERT INTO event_store.event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at) \
         VALUES ('acme', gen_random_uuid(), 'Order', '{}', now())",
        target.aggregate_id
    );
    db.execute(&sql).await.unwrap();
    let stored = store.append(one(&target, expected, 1)).await.unwrap();
    assert_eq!(stored.streams[0].last, Version::FIRST);
    let next = store.append(one(&target, Expected::Exactly(Version::FIRST), 2)).await.unwrap();
    assert_eq!(next.streams[0].last.get(), 2);
    assert_eq!(store.head(HeadOf::Stream(target)).await.unwrap().version.map(Version::get), Some(2));
}

// One that an old program made and never used is none; one whose events all stayed out of a cutover keeps its version.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_events_is_read() {
    let db = migrated().await;
    let store = store(&db).await;
    for version in [0, 3] {
        let target = stream("Order");
        let sql = format!(
            "INSERT INTO event_store.event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version) \
             VALUES ('acme', gen_random_uuid(), 'Order', '{}', now(), {version})",
            target.aggregate_id
        );
        db.execute(&sql).await.unwrap();
        let expected = Version::new(version).ok();
        let head = store.head(HeadOf::Stream(target.clone())).await.unwrap();
        assert_eq!((head.version, head.checkpoint), (expected, None), "{version}");
        let page = store.read_stream(ReadStream::all(target)).await.unwrap();
        assert_eq!((page.events.len(), page.head, page.next), (0, expected, None), "{version}");
    }
}

// S2-TEN-004: the write functions refuse a call without a tenant by their own error, on a fresh session too.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_without_a_tenant_is_refused() {
    let db = migrated().await;
    let client = db.client().await.unwrap();
    for tenant in ["NULL", "''"] {
        let call = format!(
            "SELECT * FROM event_store.append({tenant}, '{{1}}', ARRAY[gen_random_uuid()], '{{Order}}', \
             ARRAY[gen_random_uuid()], '{{-1}}', '{{1}}', ARRAY[gen_random_uuid()], '{{Placed}}', '{{1}}', \
             ARRAY['1'::jsonb], ARRAY['{{}}'::jsonb], ARRAY[NULL::timestamptz], ARRAY[NULL::uuid], ARRAY[NULL::uuid])"
        );
        let error = client.query(&call, &[]).await.unwrap_err();
        assert_eq!(error.code().map(|code| code.code().to_owned()), Some("CO400".to_owned()), "{tenant}");
    }
    let left = db.query("SELECT count(*) FROM event_store.event_stream", &[]).await.unwrap();
    assert_eq!(left[0].get::<_, i64>(0), 0);
}
