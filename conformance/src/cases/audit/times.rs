//! Times and months: any month from 1970 on is there when an event needs it, under every session's time zone.

use changeover_core::audit::{AuditFilter, AuditOrder, Create, NewAuditEvent};
use changeover_core::{Applied, ErrorKind, Timestamp};
use futures::future::join_all;

use crate::harness::AnyHarness;
use crate::support::audit::{
    at, create, event, event_at, get, ids, look, new_ids, open, open_on, query, recorded,
};
use crate::support::{Must, or_note, refused};

const LAST: &str = "2024-02-29T23:59:59.999999Z";
const FIRST: &str = "2024-03-01T00:00:00Z";

/// The last moment of a month and the first of the next are stored apart and found by their months, under every time zone
/// of a session. (A34, S3-EDGE-013, S3-AUD-003, DEF-12, X-EDGE-055, X-EDGE-117)
pub async fn time_zone_of_a_session_moves_no_event(h: &dyn AnyHarness) {
    let usual = open(h).await;
    let february = AuditFilter {
        start: Some(at("2024-02-01T00:00:00Z")),
        end: Some(at(FIRST)),
        ..AuditFilter::default()
    };
    let march = AuditFilter {
        start: Some(at(FIRST)),
        end: Some(at("2024-04-01T00:00:00Z")),
        ..AuditFilter::default()
    };
    let (mut of_february, mut of_march) = (Vec::new(), Vec::new());
    for zone in ["Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati"] {
        let backend = match or_note("a session's time zone", h.faults().client_in_time_zone(zone).await) {
            Some(backend) => backend,
            None => h.client().await,
        };
        let shifted = open_on(h, &*backend).await;
        for writer in [&shifted, &usual] {
            let events = [
                event_at(1, LAST),
                event_at(2, FIRST),
                event_at(3, "2024-02-29T19:00:00-05:00"),
                event_at(4, "2024-03-01T05:29:59.999999+05:30"),
            ];
            create(&**writer, &events).await;
            of_february.extend([events[0].event_id, events[3].event_id]);
            of_march.extend([events[1].event_id, events[2].event_id]);
            for reader in [&usual, &shifted] {
                for event in &events {
                    assert_eq!(
                        &get(&**reader, event.event_id).await.must("the event").event,
                        event,
                        "{zone}"
                    );
                }
                let found = query(&**reader, february.clone(), AuditOrder::Recorded).await;
                assert_eq!(ids(&found), of_february, "{zone}");
                let found = query(&**reader, march.clone(), AuditOrder::Recorded).await;
                assert_eq!(ids(&found), of_march, "{zone}");
            }
        }
    }
}

/// Times outside of 1970 to now plus the skew are Invalid, and nothing of their batch is stored. (A61, S3-EDGE-007, X-EDGE-053)
pub async fn times_outside_of_the_range_are_invalid(h: &dyn AnyHarness) {
    let store = open(h).await;
    create(&*store, &[event(1)]).await;
    let before = look(h, &*store).await;
    let tomorrow = Timestamp::from_micros(Timestamp::now().as_micros() + 86_400_000_000).must("a time");
    for bad in [at("1969-12-31T23:59:59.999999Z"), tomorrow, Timestamp::MIN, Timestamp::MAX] {
        let new = NewAuditEvent { event_timestamp: bad, ..event(2) };
        let error = refused(store.create(Create { events: vec![event(3), new] }).await, ErrorKind::Invalid);
        assert_eq!(error.was_applied(), Some(Applied::No), "{error}");
        assert_eq!(look(h, &*store).await, before, "{bad}");
    }
}

/// Every month from 1970 on is there when an event needs it, many in one batch too. (A62, S3-AUD-002, S3-AUD-014, DEF-11, S3-EDGE-008, S3-EDGE-012, S3-EDGE-046)
pub async fn month_that_an_event_needs_is_there(h: &dyn AnyHarness) {
    let store = open(h).await;
    for time in [
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999999Z",
        "2000-01-01T00:00:00Z",
        "2019-02-28T12:00:00Z",
    ] {
        let new = event_at(1, time);
        create(&*store, std::slice::from_ref(&new)).await;
        assert_eq!(get(&*store, new.event_id).await.must("the event").event, new);
    }
    let many: Vec<_> = (0..36)
        .map(|number| {
            event_at(number, &format!("{}-{:02}-15T00:00:00Z", 1980 + number / 12, 1 + number % 12))
        })
        .collect();
    create(&*store, &many).await;
    assert_eq!(ids(&recorded(&*store).await)[4..], new_ids(&many));
    let end = AuditFilter { end: Some(at("1990-01-01T00:00:00Z")), ..AuditFilter::default() };
    assert_eq!(store.count(end).await.must("count"), 37);
}

/// Several clients that need one new month at once are all served. (A63, S3-EDGE-010, X-EDGE-061)
pub async fn month_needed_by_many_at_once_serves_all(h: &dyn AnyHarness) {
    let stores = [open(h).await, open(h).await, open(h).await];
    for year in [1985, 1986, 1987] {
        let events: Vec<_> = (0..9)
            .map(|number| event_at(number, &format!("{year}-05-{:02}T00:00:00Z", 1 + number)))
            .collect();
        let writers = events
            .iter()
            .zip(stores.iter().cycle())
            .map(|(event, store)| create(&**store, std::slice::from_ref(event)));
        assert!(join_all(writers).await.iter().all(|answer| answer.stored == 1));
        for event in &events {
            assert_eq!(&get(&*stores[0], event.event_id).await.must("the event").event, event);
        }
    }
}

/// Times come back to the microsecond; digits below are cut before a backend sees them. (A64, X-EDGE-054)
pub async fn times_are_kept_to_the_microsecond(h: &dyn AnyHarness) {
    let store = open(h).await;
    for (given, kept) in [
        ("2024-05-06T07:08:09.123456Z", "2024-05-06T07:08:09.123456Z"),
        ("2024-05-06T07:08:09.000001Z", "2024-05-06T07:08:09.000001Z"),
        ("2024-05-06T07:08:09.999999999Z", "2024-05-06T07:08:09.999999Z"),
        ("2024-12-31T23:59:59.9999999Z", "2024-12-31T23:59:59.999999Z"),
    ] {
        let new = event_at(1, given);
        create(&*store, std::slice::from_ref(&new)).await;
        assert_eq!(
            get(&*store, new.event_id).await.must("the event").event.event_timestamp.to_string(),
            kept
        );
    }
}
