use changeover_core::Json;
use changeover_core::events::{Expected, NewEvent, Track};

use super::*;

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn stream(id: u128) -> StreamId {
    StreamId::new("Order", Uuid::from_u128(id)).unwrap()
}

fn event(id: u128) -> NewEvent {
    let mut event = NewEvent::new("Opened", Json::parse(r#"{"n":1}"#).unwrap()).unwrap();
    event.id = Uuid::from_u128(id);
    event
}

fn track(log: &Log, position: i64) -> Track {
    let checkpoint = Checkpoint::new(log.id(), position).unwrap();
    Track { consumer: ConsumerName::new("mail").unwrap(), checkpoint }
}

/// Two streams at versions 2 and 1, event ids 1 to 3, the consumer `mail` at position 2.
fn filled() -> Log {
    let mut log = Log::new(LogId(Uuid::nil()));
    let mut first = Append::one(stream(1), Expected::NoStream, vec![event(1), event(2)]);
    first.track = Some(track(&log, 2));
    append(&mut log, first).unwrap();
    append(&mut log, Append::one(stream(2), Expected::NoStream, vec![event(3)])).unwrap();
    log
}

fn append(log: &mut Log, request: Append) -> Result<Appended> {
    log.append(&tenant(), request, Timestamp::now())
}

/// Everything a refusal must leave as it was.
fn state(log: &Log) -> (AllPage, Option<Checkpoint>, i64, Vec<Head>) {
    let all = log.read_all(&tenant(), &ReadAll::default()).unwrap();
    let heads = (1..=9).map(|id| log.head(&tenant(), &HeadOf::Stream(stream(id)))).collect();
    (all, log.tracked(&tenant(), &ConsumerName::new("mail").unwrap()), log.position, heads)
}

fn refused(request: impl FnOnce(&Log) -> Append) -> (ErrorKind, Option<Detail>) {
    let mut log = filled();
    let request = request(&log);
    let before = state(&log);
    let error = append(&mut log, request).unwrap_err();
    assert_eq!(state(&log), before);
    (error.kind(), error.detail().cloned())
}

// E30, E31, E37: repetition comes before the expectation, before ids and before progress; nobody is woken.
#[test]
fn a_repeated_append_gets_the_first_answer_whatever_it_expects_and_tracks() {
    let mut log = filled();
    let before = state(&log);
    let woken = log.watch();
    let mut again = Append::one(stream(1), Expected::NoStream, vec![event(1), event(2)]);
    again.streams.push(StreamAppend {
        stream: stream(2),
        expected: Expected::Exactly(Version::new(7).unwrap()),
        events: vec![event(3)],
    });
    again.track = Some(track(&log, 1));
    let answer = append(&mut log, again).unwrap();
    assert!(answer.repeated);
    assert_eq!(answer.checkpoint.position(), 3);
    let versions: Vec<_> = answer.streams.iter().map(|s| (s.first.get(), s.last.get())).collect();
    assert_eq!(versions, [(1, 2), (1, 1)]);
    assert_eq!(state(&log), before);
    assert!(!woken.has_changed().unwrap());
}

// E23, X-ES-026: a partial repetition is no repetition; then the expectation wins over the taken id.
#[test]
fn the_expectation_is_judged_before_taken_ids() {
    let found = refused(|_| Append::one(stream(1), Expected::NoStream, vec![event(1), event(9)]));
    let detail =
        Detail::Conflict { stream: stream(1), expected: Expected::NoStream, actual: Version::new(2).ok() };
    assert_eq!(found, (ErrorKind::VersionConflict, Some(detail)));
}

#[test]
fn the_first_stream_that_is_not_as_expected_is_named() {
    let (kind, detail) = refused(|_| Append {
        streams: [(5, Expected::NoStream), (6, Expected::Exists), (1, Expected::NoStream)]
            .map(|(id, expected)| StreamAppend { stream: stream(id), expected, events: vec![event(10 + id)] })
            .into(),
        track: None,
    });
    let expected = Detail::Conflict { stream: stream(6), expected: Expected::Exists, actual: None };
    assert_eq!((kind, detail), (ErrorKind::VersionConflict, Some(expected)));
}

// E32, E33, E34: other content, another stream, another order, a gap between versions, a part of a batch.
#[test]
fn taken_ids_are_named_in_the_callers_order() {
    let mut other = event(1);
    other.correlation_id = Some(Uuid::nil());
    let cases = [
        (stream(1), vec![other], 1),
        (stream(2), vec![event(2)], 2),
        (stream(1), vec![event(2), event(1)], 2),
        (stream(1), vec![event(8), event(2)], 2),
        (stream(7), vec![event(8), event(3), event(1)], 3),
    ];
    for (stream, events, taken) in cases {
        let found = refused(|_| Append::one(stream, Expected::Any, events));
        assert_eq!(found, (ErrorKind::AlreadyExists, Some(Detail::Exists { id: Uuid::from_u128(taken) })));
    }
}

// E81: progress is judged last, and the events that came with it are not stored.
#[test]
fn progress_is_judged_after_ids_and_must_move_on() {
    for position in [1, 2] {
        let (kind, detail) = refused(|log| Append {
            track: Some(track(log, position)),
            ..Append::one(stream(9), Expected::NoStream, vec![event(9)])
        });
        assert_eq!(kind, ErrorKind::AlreadyExists);
        assert!(matches!(detail, Some(Detail::Tracked { recorded }) if recorded.position() == 2));
    }
    let (_, detail) = refused(|log| Append {
        track: Some(track(log, 1)),
        ..Append::one(stream(9), Expected::NoStream, vec![event(1)])
    });
    assert_eq!(detail, Some(Detail::Exists { id: Uuid::from_u128(1) }));
}

#[test]
fn progress_alone_answers_with_its_checkpoint_and_foreign_progress_is_refused() {
    let mut log = filled();
    let alone = Append { streams: Vec::new(), track: Some(track(&log, 3)) };
    let answer = append(&mut log, alone).unwrap();
    assert_eq!((answer.checkpoint.position(), answer.streams.len(), answer.repeated), (3, 0, false));
    assert_eq!(log.tracked(&tenant(), &ConsumerName::new("mail").unwrap()), Some(answer.checkpoint));
    let (kind, _) =
        refused(|_| Append { streams: Vec::new(), track: Some(track(&Log::new(LogId(Uuid::max())), 9)) });
    assert_eq!(kind, ErrorKind::Invalid);
}

#[test]
fn ids_streams_and_progress_of_another_tenant_do_not_exist() {
    let mut log = filled();
    let other = TenantId::new("ACME").unwrap();
    let mut request = Append::one(stream(1), Expected::NoStream, vec![event(1)]);
    request.track = Some(track(&log, 1));
    let answer = log.append(&other, request, Timestamp::now()).unwrap();
    assert!(!answer.repeated);
    assert_eq!(answer.checkpoint.position(), 4);
    assert_eq!(log.head(&tenant(), &HeadOf::Log).checkpoint.unwrap().position(), 3);
    assert_eq!(log.read_all(&other, &ReadAll::default()).unwrap().events.len(), 1);
}

// E96: the clock goes back, recorded time does not; a time that was given is kept.
#[test]
fn recorded_time_never_goes_backwards() {
    let mut log = Log::new(LogId(Uuid::nil()));
    let at = |micros| Timestamp::from_micros(micros).unwrap();
    let mut given = event(3);
    given.occurred_at = Some(at(-5));
    for (event, now) in [(event(1), 100), (event(2), 40), (given, 90)] {
        log.append(&tenant(), Append::one(stream(1), Expected::Any, vec![event]), at(now)).unwrap();
    }
    let page = log.read_all(&tenant(), &ReadAll::default()).unwrap();
    let times: Vec<_> = page.events.iter().map(|e| (e.recorded_at, e.occurred_at)).collect();
    assert_eq!(times, [(at(100), at(100)), (at(100), at(100)), (at(100), at(-5))]);
}
