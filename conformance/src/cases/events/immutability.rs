//! What was stored stays as it is, and what somebody broke all the same is said to be broken.

use changeover_core::events::{Expected, ReadStream};
use changeover_core::{Detail, ErrorKind};

use crate::harness::{AnyHarness, RawRow};
use crate::support::{append, events, look, open, or_note, refused, stream};

/// Stored events cannot be changed or deleted by SQL, by no role that the store's users have. (X-ES-022, X-EDGE-118)
pub async fn stored_events_cannot_be_changed(h: &dyn AnyHarness) {
    let store = open(h).await;
    append(&*store, &stream(), Expected::NoStream, events(3)).await;
    let before = look(h, &*store).await;
    if let Some(let_through) = or_note("change stored events by SQL", h.faults().tamper().await) {
        assert_eq!(let_through, Vec::<String>::new());
    }
    assert_eq!(look(h, &*store).await, before);
}

/// A stored value that breaks the contract is Corrupt and named by table, key and column, and its content is not shown. (X14)
pub async fn broken_value_is_corrupt_and_named(h: &dyn AnyHarness) {
    let table: [(&'static str, &[u8]); 5] = [
        ("event_data", b"{\"hidden\": "),
        ("event_data", b"\"hidden\xff\""),
        ("event_type", b"hidden\xc3("),
        ("occurred_at", b"hidden"),
        ("causation_id", b"hidden"),
    ];
    for (column, value) in table {
        let store = open(h).await;
        let (broken, sound) = (stream(), stream());
        let batch = events(2);
        let key = batch[1].id.to_string();
        append(&*store, &broken, Expected::NoStream, batch).await;
        append(&*store, &sound, Expected::NoStream, events(1)).await;
        let row = RawRow { table: "domain_event", key: key.clone(), column, value: value.to_vec() };
        if or_note("break a stored value", h.faults().plant(row).await).is_none() {
            return assert_eq!(crate::support::read(&*store, &broken).await.len(), 2);
        }
        let error = refused(store.read_stream(ReadStream::all(broken)).await, ErrorKind::Corrupt);
        let Some(Detail::Row { table, key: named, column: of }) = error.detail() else {
            panic!("the row is not named: {error}");
        };
        assert_eq!((table.as_str(), of.as_str()), ("domain_event", column), "{error}");
        assert!(named.contains(&key), "{named} is not {key}");
        assert!(!error.to_string().contains("hidden"), "{error}");
        assert_eq!(crate::support::read(&*store, &sound).await.len(), 1, "other streams are served");
    }
}
