//! Instants: microseconds in UTC, the same under every clock and time zone.

use changeover_core::events::{Expected, RecordedEvent, StreamId};
use changeover_core::{ErrorKind, EventStore, Timestamp};

use crate::harness::AnyHarness;
use crate::support::{Must, append, event, open, or_note, read, read_log, refused, stream};

async fn append_at(store: &dyn EventStore, stream: &StreamId, times: &[Timestamp]) -> Vec<RecordedEvent> {
    let new = times.iter().enumerate().map(|(number, at)| {
        let mut event = event("At", number);
        event.occurred_at = Some(*at);
        event
    });
    append(store, stream, Expected::Any, new.collect()).await;
    read(store, stream).await
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).must("a time")
}

fn times(events: &[RecordedEvent]) -> Vec<Timestamp> {
    events.iter().map(|event| event.occurred_at).collect()
}

/// Times round-trip at microseconds; digits below are cut, not rounded, before a backend sees them. (E93, X-EDGE-054)
pub async fn times_are_kept_to_the_microsecond(h: &dyn AnyHarness) {
    let store = open(h).await;
    let given = ["2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.999999Z", "2024-05-06T07:08:09.000001Z"];
    let stored = append_at(&*store, &stream(), &given.map(at)).await;
    assert_eq!(times(&stored).iter().map(Timestamp::to_string).collect::<Vec<_>>(), given);
    let cut = append_at(&*store, &stream(), &[at("2024-05-06T07:08:09.123456999Z")]).await;
    assert_eq!(cut[0].occurred_at.to_string(), given[0]);
}

/// Every instant of the years 1 to 9999 survives; others and leap seconds are Invalid. (E94, X-EDGE-053, X-EDGE-055)
pub async fn every_instant_of_the_years_1_to_9999_survives(h: &dyn AnyHarness) {
    let store = open(h).await;
    let given = [
        Timestamp::MIN,
        at("0099-12-31T23:59:59.999999Z"),
        at("1582-10-10T12:00:00Z"),
        at("1900-02-28T23:59:59.5Z"),
        at("1969-12-31T23:59:59.999999Z"),
        at("1970-01-01T00:00:00Z"),
        at("2024-02-29T23:59:59.999999Z"),
        at("2024-03-31T02:30:00+01:00"),
        at("2024-10-27T02:30:00+02:00"),
        at("2038-01-19T03:14:08Z"),
        Timestamp::MAX,
    ];
    assert_eq!(times(&append_at(&*store, &stream(), &given).await), given);
    for bad in ["0000-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2016-12-31T23:59:60Z", "infinity"] {
        refused(Timestamp::parse(bad), ErrorKind::Invalid);
    }
}

/// The time zone of a session changes no instant. (E95, X-EDGE-117)
pub async fn time_zone_of_a_session_changes_nothing(h: &dyn AnyHarness) {
    let usual = open(h).await;
    let given = ["2024-03-10T02:30:00Z", "2024-11-03T05:30:00.000001Z", "1900-01-01T00:00:00Z"].map(at);
    for zone in ["Asia/Kolkata", "America/St_Johns"] {
        let backend = match or_note("a session's time zone", h.faults().client_in_time_zone(zone).await) {
            Some(backend) => backend,
            None => h.client().await,
        };
        let shifted = backend.events(&h.scope(), &h.tenant()).await.must("open the store");
        for (writer, reader) in [(&shifted, &usual), (&usual, &shifted)] {
            let stream = stream();
            let written = append_at(&**writer, &stream, &given).await;
            assert_eq!(times(&written), given, "{zone}");
            assert_eq!(read(&**reader, &stream).await, written, "{zone}");
        }
    }
}

/// `recorded_at` never goes backwards in a log, also when a clock does; where the store keeps no such time it repeats
/// `occurred_at`. (E96, X-EDGE-112)
pub async fn recorded_time_never_goes_backwards(h: &dyn AnyHarness) {
    const HOUR: i64 = 3_600_000_000;
    let usual = open(h).await;
    let slow = match or_note("a clock of its own", h.faults().client_with_clock_off_by(-HOUR).await) {
        Some(backend) => backend.events(&h.scope(), &h.tenant()).await.must("open the store"),
        None => open(h).await,
    };
    let stream = stream();
    let before = Timestamp::now().as_micros();
    for writer in [&usual, &slow, &usual, &slow] {
        append(&**writer, &stream, Expected::Any, vec![event("Unset", 1)]).await;
    }
    append_at(&*usual, &stream, &[at("2001-01-01T00:00:00Z")]).await;
    let (log, _) = read_log(&*usual).await;
    let after = Timestamp::now().as_micros();
    let kept = usual.capabilities().recorded_time.is_yes();
    for event in &log {
        if kept {
            // A minute of tolerance: the clock may be the database's.
            let recorded = event.recorded_at.as_micros();
            assert!((before - 60_000_000..after + 60_000_000).contains(&recorded), "{}", event.recorded_at);
        } else {
            assert_eq!(event.recorded_at, event.occurred_at);
        }
    }
    assert!(!kept || log.is_sorted_by_key(|event| event.recorded_at), "recorded time went backwards");
    assert_eq!(log[4].occurred_at, at("2001-01-01T00:00:00Z"));
}
