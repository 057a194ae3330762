//! Tenants: one never sees, learns of or hinders another. Where only one can be kept, others are refused.

use std::sync::Arc;
use std::time::Duration;

use changeover_core::events::{Append, EventFilter, Expected, HeadOf, ReadAll, Subscribe, Track};
use changeover_core::{ConsumerName, Detail, ErrorKind, EventStore, Message, OpenBackend, Support, TenantId};
use futures::future::join_all;

use crate::harness::{AnyHarness, OpenOptions};
use crate::support::{
    Must, append, event, events, head, ids, json, log_head, look, new_ids, open, or_note, read, read_log,
    read_on, refused, stream, version, versions, without,
};

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).must("a tenant")
}

async fn store_of(h: &dyn AnyHarness, client: &dyn OpenBackend, name: &str) -> Arc<dyn EventStore> {
    client.events(&h.scope(), &tenant(name)).await.must("open the store of a tenant")
}

/// The stores of two tenants, `acme` first. Where one tenant is all that is served, the refusal of another one is
/// what there is to check: it names no tenant's data and changes nothing.
async fn two(h: &dyn AnyHarness) -> Option<[Arc<dyn EventStore>; 2]> {
    let own = open(h).await;
    let client = h.client().await;
    if let Support::No(why) = own.capabilities().tenants {
        without("keep a second tenant", why);
        append(&*own, &stream(), Expected::NoStream, events(1)).await;
        let before = look(h, &*own).await;
        for other in ["acme", "globex"] {
            let answer = client.events(&h.scope(), &tenant(other)).await.map(drop);
            refused(answer, ErrorKind::Unsupported);
        }
        assert_eq!(look(h, &*own).await, before);
        return None;
    }
    Some([store_of(h, &*client, "acme").await, store_of(h, &*client, "globex").await])
}

/// The same stream in two tenants is two streams, each with versions from 1. (T1, S2-TEN-008)
pub async fn same_stream_in_two_tenants_is_two_streams(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let stream = stream();
    append(&*a, &stream, Expected::NoStream, events(3)).await;
    append(&*b, &stream, Expected::NoStream, events(1)).await;
    append(&*b, &stream, Expected::Exactly(version(1)), events(1)).await;
    assert_eq!(versions(&read(&*a, &stream).await), [1, 2, 3]);
    assert_eq!(versions(&read(&*b, &stream).await), [1, 2]);
}

/// The same event id with other content can be stored by two tenants: an id does not show that another has it. (T2)
pub async fn same_event_id_in_two_tenants_is_accepted(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let original = event("OrderPlaced", 1);
    let mut other = original.clone();
    other.data = json(r#"{"number":2}"#);
    append(&*a, &stream(), Expected::NoStream, vec![original.clone()]).await;
    assert!(!append(&*b, &stream(), Expected::NoStream, vec![other.clone()]).await.repeated);
    assert_eq!(read_log(&*a).await.0[0].data, original.data);
    assert_eq!(read_log(&*b).await.0[0].data, other.data);
}

/// One tenant's append again by another tenant is a first append, not a repeated one. (T3)
pub async fn repeated_append_is_judged_within_the_tenant(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let request = Append::one(stream(), Expected::NoStream, events(2));
    for store in [&a, &b] {
        assert!(!store.append(request.clone()).await.must("the first append").repeated);
        assert!(store.append(request.clone()).await.must("the repeated append").repeated);
    }
}

/// Reading a stream of another tenant gives what a missing stream gives. (T4)
pub async fn stream_of_another_tenant_does_not_exist(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let stream = stream();
    append(&*a, &stream, Expected::NoStream, events(2)).await;
    assert!(read(&*b, &stream).await.is_empty());
    let head = head(&*b, &stream).await;
    assert_eq!((head.version, head.checkpoint), (None, None));
    let answer = b.append(Append::one(stream.clone(), Expected::Exists, events(1))).await;
    let error = refused(answer, ErrorKind::VersionConflict);
    assert!(matches!(error.detail(), Some(Detail::Conflict { actual: None, .. })), "{:?}", error.detail());
}

/// The head of the log is that of the tenant: it does not move with another's appends. (T5)
pub async fn head_of_the_log_is_the_tenants_own(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    assert_eq!(log_head(&*b).await.position(), 0);
    append(&*a, &stream(), Expected::NoStream, events(3)).await;
    assert_eq!(log_head(&*b).await.position(), 0);
    let of_b = append(&*b, &stream(), Expected::NoStream, events(1)).await;
    append(&*a, &stream(), Expected::NoStream, events(3)).await;
    let head = b.head(HeadOf::Log).await.must("the head of the log");
    assert_eq!(head.checkpoint, Some(of_b.checkpoint));
}

/// Reading the log shows the tenant's own events only, and gets caught up at its own end. (T6)
pub async fn log_shows_the_tenants_own_events_only(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let mut given = [Vec::new(), Vec::new()];
    for round in 1..=4 {
        for (store, given) in [&a, &b].into_iter().zip(&mut given) {
            let batch = events(round);
            given.extend(new_ids(&batch));
            append(&**store, &stream(), Expected::NoStream, batch).await;
        }
    }
    for (store, given) in [&a, &b].into_iter().zip(given) {
        let (log, reached) = read_log(&**store).await;
        assert_eq!(ids(&log), given);
        assert!(reached >= log_head(&**store).await);
    }
}

/// A checkpoint of one tenant, given to another, shows that one's own later events and nothing else. (T7)
pub async fn checkpoint_of_another_tenant_opens_nothing(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    append(&*b, &stream(), Expected::NoStream, events(1)).await;
    let of_a = append(&*a, &stream(), Expected::NoStream, events(2)).await.checkpoint;
    append(&*a, &stream(), Expected::NoStream, events(2)).await;
    let later = events(1);
    append(&*b, &stream(), Expected::NoStream, later.clone()).await;
    match b.read_all(ReadAll { after: Some(of_a), ..ReadAll::default() }).await {
        // Tenants share the module's log.
        Ok(page) => assert_eq!(ids(&page.events), new_ids(&later)),
        // Each tenant has a log of its own.
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
    }
}

/// A subscription delivers the tenant's own events only, and goes on past others' appends. (T8)
pub async fn subscription_delivers_the_tenants_own_events_only(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let (before, live) = (events(2), events(2));
    append(&*a, &stream(), Expected::NoStream, events(2)).await;
    append(&*b, &stream(), Expected::NoStream, before.clone()).await;
    let mut subscription = b.subscribe(Subscribe::default()).await.must("subscribe");
    append(&*a, &stream(), Expected::NoStream, events(2)).await;
    append(&*b, &stream(), Expected::NoStream, live.clone()).await;
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
        if let Message::Event(event) = next.must("a message in time").must("a message").must("a message") {
            seen.push(event.id);
        }
    }
    assert_eq!(seen, [new_ids(&before), new_ids(&live)].concat());
}

/// A conflict tells the version within the tenant and nothing of another's: no name, no version, no id. (T9)
pub async fn conflict_tells_nothing_of_another_tenant(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let stream = stream();
    append(&*a, &stream, Expected::NoStream, events(77)).await;
    append(&*b, &stream, Expected::NoStream, events(2)).await;
    let stale = Expected::Exactly(version(1));
    let error =
        refused(b.append(Append::one(stream.clone(), stale, events(1))).await, ErrorKind::VersionConflict);
    let actual_is_own =
        matches!(error.detail(), Some(Detail::Conflict { actual: Some(actual), .. }) if actual.get() == 2);
    assert!(actual_is_own, "{:?}", error.detail());
    // The name of the stream is the caller's own and may hold any digits.
    let text = format!("{error} {error:?}").replace(&stream.to_string(), "");
    assert!(!text.contains("acme") && !text.contains("77"), "{text}");
    let taken = read(&*b, &stream).await[0].id;
    let mut again = vec![event("OrderPlaced", 99)];
    again[0].id = taken;
    let error = refused(b.append(Append::one(stream, Expected::Any, again)).await, ErrorKind::AlreadyExists);
    assert!(!error.to_string().contains("acme"), "{error}");
}

/// Consumers of two tenants may have one name, and each has its own progress. (T10)
pub async fn tracked_progress_is_the_tenants_own(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let consumer = ConsumerName::new("projection").must("a consumer");
    let checkpoint = append(&*a, &stream(), Expected::NoStream, events(1)).await.checkpoint;
    let track = Some(Track { consumer: consumer.clone(), checkpoint });
    a.append(Append { streams: Vec::new(), track }).await.must("track");
    assert_eq!(a.tracked(consumer.clone()).await.must("tracked"), Some(checkpoint));
    assert_eq!(b.tracked(consumer.clone()).await.must("tracked"), None);
    let checkpoint_of_b = append(&*b, &stream(), Expected::NoStream, events(1)).await.checkpoint;
    let track = Some(Track { consumer: consumer.clone(), checkpoint: checkpoint_of_b });
    b.append(Append { streams: Vec::new(), track }).await.must("track");
    assert_eq!(a.tracked(consumer).await.must("tracked"), Some(checkpoint));
}

/// Names with quotes, semicolons, newlines, percent signs and any script are tenants like others. (T11, S2-TEN-008, X-EDGE-086)
pub async fn hostile_tenant_names_are_names_like_others(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let long = "\u{1f980}".repeat(255);
    let names = [
        "o'brien",
        "a\"b",
        "'; drop table domain_event; --",
        "a;b",
        "line\nbreak",
        "tab\there",
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
        "../../etc",
        "public",
        "*",
        "${HOME}",
    ];
    let client = h.client().await;
    let mut given = Vec::new();
    for name in names {
        let store = store_of(h, &*client, name).await;
        assert!(read_log(&*store).await.0.is_empty(), "{name:?} sees what another stored");
        let batch = events(1);
        append(&*store, &stream(), Expected::NoStream, batch.clone()).await;
        given.push((name, new_ids(&batch)));
    }
    let second = h.client().await;
    for (name, given) in given {
        let store = store_of(h, &*second, name).await;
        assert_eq!(ids(&read_log(&*store).await.0), given, "{name:?}");
    }
}

/// An empty name, one with NUL and one of 256 characters cannot be made; one of 255 works. (T12, X-EDGE-086)
pub async fn tenant_names_have_limits(h: &dyn AnyHarness) {
    for bad in [String::new(), "a\0b".to_owned(), "a".repeat(256), "\u{fc}".repeat(256), "a".repeat(1000)] {
        refused(TenantId::new(bad), ErrorKind::Invalid);
    }
    let longest = TenantId::new("\u{fc}".repeat(255)).must("255 characters");
    if two(h).await.is_some() {
        let store = h.client().await.events(&h.scope(), &longest).await.must("open the store");
        append(&*store, &stream(), Expected::NoStream, events(1)).await;
        assert_eq!(read_log(&*store).await.0.len(), 1);
    }
}

/// Two tenants in turn on the only connection of a pool: what one set does not stay for the other. (T13, X-EDGE-087)
pub async fn tenants_take_turns_on_one_connection(h: &dyn AnyHarness) {
    if two(h).await.is_none() {
        return;
    }
    let one = OpenOptions { pool_size: Some(1), ..OpenOptions::default() };
    let client = match or_note("open a pool of one connection", h.faults().client_with(one).await) {
        Some(client) => client,
        None => h.client().await,
    };
    let stores = [store_of(h, &*client, "acme").await, store_of(h, &*client, "globex").await];
    let stream = stream();
    for round in 1..=5 {
        for store in &stores {
            append(&**store, &stream, Expected::Any, events(1)).await;
            assert_eq!(versions(&read(&**store, &stream).await), (1..=round).collect::<Vec<_>>());
            assert_eq!(read_log(&**store).await.0.len(), usize::try_from(round).must("a count"));
        }
    }
}

/// Filters that name another tenant's streams match nothing of it. (T14)
pub async fn filters_do_not_reach_another_tenant(h: &dyn AnyHarness) {
    let Some([a, b]) = two(h).await else { return };
    let stream = stream();
    append(&*a, &stream, Expected::NoStream, events(2)).await;
    append(&*b, &crate::support::stream(), Expected::NoStream, events(1)).await;
    let filter = EventFilter { streams: Some(vec![stream]), ..EventFilter::default() };
    assert!(read_on(&*b, None, filter).await.0.is_empty());
    let types = Some(vec![events(1)[0].event_type.clone()]);
    let by_type = EventFilter { event_types: types, ..EventFilter::default() };
    assert_eq!(read_on(&*b, None, by_type).await.0.len(), 1);
}

/// Tenants that write the same streams and ids at once do not hinder each other. (T15)
pub async fn tenants_write_at_once_without_conflict(h: &dyn AnyHarness) {
    let Some(stores) = two(h).await else { return };
    let stream = stream();
    let batches: Vec<_> = (0..10).map(|_| events(2)).collect();
    let writers = stores.iter().map(|store| {
        let (stream, batches) = (stream.clone(), batches.clone());
        async move {
            for (index, batch) in batches.into_iter().enumerate() {
                let at = i64::try_from(index * 2).must("a version");
                let expected = if at == 0 { Expected::NoStream } else { Expected::Exactly(version(at)) };
                append(&**store, &stream, expected, batch).await;
            }
        }
    });
    join_all(writers).await;
    for store in &stores {
        assert_eq!(
            ids(&read(&**store, &stream).await),
            batches.iter().flat_map(|batch| new_ids(batch)).collect::<Vec<_>>()
        );
    }
}

/// The tenant of the settings is served without naming it again, and its data are not those of others. (T16)
pub async fn tenant_of_the_settings_is_served(h: &dyn AnyHarness) {
    let own = open(h).await;
    let batch = events(2);
    append(&*own, &stream(), Expected::NoStream, batch.clone()).await;
    if let Some([a, b]) = two(h).await {
        assert!(read_log(&*a).await.0.is_empty() && read_log(&*b).await.0.is_empty());
        assert_eq!(ids(&read_log(&*open(h).await).await.0), new_ids(&batch));
    } else {
        assert_eq!(ids(&read_log(&*open(h).await).await.0)[..2], new_ids(&batch));
    }
}
