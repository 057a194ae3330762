//! The contract's helpers for audit: wire form, digests and links, factories.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use changeover_core::audit::{
    ActorType, AiAnalysis, COLUMNS, ChainHead, ChainWalk, Create, EventContext, KNOWN_CATEGORIES, Link,
    NewAuditEvent, Notification, NotificationStatus, Outcome, Workflow, WorkflowStatus, link,
};
use changeover_core::{ErrorKind, Json, Text, Timestamp, Uuid};
use proptest::prelude::*;
use proptest::{option, sample};
use rstest::rstest;

fn text<const MAX: usize>() -> impl Strategy<Value = Text<MAX>> {
    "[^\\x00]{1,20}".prop_map(|text| Text::new("field", text).unwrap())
}

fn object() -> impl Strategy<Value = Json> {
    ("[^\\x00]{0,12}", any::<i64>(), any::<bool>()).prop_map(|(text, number, yes)| {
        let value = serde_json::json!({ "t": text, "n": number, "nested": { "yes": yes, "none": null } });
        Json::of(&value).unwrap()
    })
}

prop_compose! {
    fn event()(
        (ids, words) in (
            (any::<u128>(), option::of(any::<u128>())),
            (sample::select(Outcome::ALL), sample::select(ActorType::ALL)),
        ),
        at in Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros(),
        (event_type, event_category, service_name, resource_type, resource_id)
            in (text(), text(), text(), text(), text()),
        (service_version, actor_id, actor_name, resource_name, correlation_id, trace_id, span_id)
            in (option::of(text()), option::of(text()), option::of(text()), option::of(text()), option::of(text()),
                option::of(text()), option::of(text())),
        (event_data, metadata) in (object(), object()),
    ) -> NewAuditEvent {
        NewAuditEvent {
            event_id: Uuid::from_u128(ids.0),
            event_type, event_category,
            event_outcome: words.0,
            event_timestamp: Timestamp::from_micros(at).unwrap(),
            service_name, service_version,
            actor_type: words.1,
            actor_id, actor_name, resource_type, resource_id, resource_name, event_data, correlation_id,
            parent_event_id: ids.1.map(Uuid::from_u128),
            trace_id, span_id, metadata,
        }
    }
}

proptest! {
    // S3-AUD-001, S3-AUD-003, S3-AUD-020, DEF-12
    #[test]
    fn every_event_survives_its_wire_form(event in event()) {
        let json = event.to_json();
        prop_assert_eq!(&NewAuditEvent::from_json(&json).unwrap(), &event);
        // Canonical already: reading it anew changes nothing.
        prop_assert_eq!(&Json::parse(json.as_str()).unwrap(), &json);
        let value: serde_json::Value = serde_json::from_str(json.as_str()).unwrap();
        let object = value.as_object().unwrap();
        prop_assert_eq!(object.len(), COLUMNS.len());
        prop_assert!(COLUMNS.iter().all(|column| object.contains_key(*column)));
        prop_assert_eq!(value["event_date"].as_str().unwrap(), &event.event_timestamp.to_string()[..10]);
    }

    // S3-AUD-027: equal content, equal digest; other content, another digest.
    #[test]
    fn digests_are_equal_for_equal_content_only(a in event(), b in event()) {
        prop_assert_eq!(a.content_digest(), NewAuditEvent::from_json(&a.to_json()).unwrap().content_digest());
        prop_assert_eq!(a == b, a.content_digest() == b.content_digest());
    }
}

fn sample() -> NewAuditEvent {
    NewAuditEvent::new("pod.deleted", "gateway", Outcome::Success, "gate", ActorType::User, "pod", "p-1")
        .unwrap()
}

fn changed(column: &str, value: &str) -> changeover_core::Result<NewAuditEvent> {
    let text = sample().to_json();
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text.as_str()).unwrap();
    object.insert(column.to_owned(), serde_json::from_str(value).unwrap());
    NewAuditEvent::from_json(&Json::of(&object).unwrap())
}

// S3-AUD-003, S3-AUD-004, S3-AUD-005, S3-AUD-006, S3-EDGE-001, S3-EDGE-003, S3-EDGE-006, X-EDGE-051, X-EDGE-059, X-EDGE-060
#[rstest]
#[case("event_id", "null")]
#[case("event_id", r#""0""#)]
#[case("event_id", r#""01890000000070008000000000000001""#)]
#[case("event_type", r#""""#)]
#[case("event_type", "7")]
#[case("event_category", "null")]
#[case("event_outcome", r#""maybe""#)]
#[case("event_timestamp", r#""yesterday""#)]
#[case("event_timestamp", "1700000000")]
#[case("event_date", r#""2001-01-01""#)]
#[case("service_name", r#""""#)]
#[case("service_version", r#""""#)]
#[case("actor_type", r#""robot""#)]
#[case("actor_id", "[]")]
#[case("event_data", "null")]
#[case("event_data", "[1]")]
#[case("metadata", "1")]
#[case("parent_event_id", r#""none""#)]
#[case("colour", "1")]
fn what_does_not_fit_is_refused_and_named(#[case] column: &str, #[case] value: &str) {
    let error = changed(column, value).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(column), "{error}");
}

// S3-AUD-004: characters, not bytes.
#[test]
fn lengths_are_counted_in_characters() {
    for (column, max) in
        [("event_type", 100), ("event_category", 50), ("service_version", 50), ("span_id", 255)]
    {
        assert!(changed(column, &format!("{:?}", "é".repeat(max))).is_ok(), "{column}");
        let error = changed(column, &format!("{:?}", "é".repeat(max + 1))).unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.message().contains(column), "{error}");
    }
}

// S3-AUD-008, X-EDGE-055, X-EDGE-060
#[test]
fn what_may_be_absent_is_absent_and_offsets_are_applied() {
    let text = r#"{"event_id":"0189AAAA-0000-7000-8000-000000000001","event_type":"t","event_category":"c",
        "event_outcome":"success","event_timestamp":"2024-03-31T23:30:00.5-02:00","service_name":"s",
        "actor_type":"user","resource_type":"r","resource_id":"i","event_data":{},"event_date":"2024-04-01"}"#;
    let event = NewAuditEvent::from_text(text).unwrap();
    assert_eq!(event.event_timestamp.to_string(), "2024-04-01T01:30:00.500000Z");
    assert_eq!((event.metadata.as_str(), event.actor_id.is_none()), ("{}", true));
    assert_eq!(event.event_id.to_string(), "0189aaaa-0000-7000-8000-000000000001");
    assert!(event.to_json().as_str().contains(r#""actor_id":null"#));
}

// S3-AUD-020: data at the limits of JSON make a row beyond them, which is written and read all the same.
#[test]
fn data_at_their_limits_survive() {
    let deep = format!("{}{}", r#"{"a":"#.repeat(127), "{}") + &"}".repeat(127);
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(Json::MAX_BYTES - 8));
    let event = NewAuditEvent {
        event_data: Json::parse(&large).unwrap(),
        metadata: Json::parse(&deep).unwrap(),
        ..sample()
    };
    assert_eq!(NewAuditEvent::from_json(&event.to_json()).unwrap(), event);
}

// S3-AUD-026, S3-EDGE-005
#[test]
fn a_batch_has_a_largest_size() {
    let large = Json::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(Json::MAX_BYTES - 8))).unwrap();
    let event = || NewAuditEvent { event_data: large.clone(), metadata: large.clone(), ..sample() };
    assert!(Create { events: (0..8).map(|_| event()).collect() }.validate().is_ok());
    let error = Create { events: (0..9).map(|_| event()).collect() }.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

// S3-EDGE-007, S3-EDGE-008
#[test]
fn times_are_allowed_from_1970_until_the_skew() {
    let now = Timestamp::parse("2024-06-01T00:00:00Z").unwrap();
    let at = |text: &str| {
        let event = NewAuditEvent { event_timestamp: Timestamp::parse(text).unwrap(), ..sample() };
        Create { events: vec![sample_at(now), event] }.check_times(now)
    };
    for fine in ["1970-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z", "2024-06-01T00:05:00Z"] {
        assert!(at(fine).is_ok(), "{fine}");
    }
    for bad in ["1969-12-31T23:59:59.999999Z", "2024-06-01T00:05:00.000001Z", "9999-01-01T00:00:00Z"] {
        assert_eq!(at(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
    }
}

fn sample_at(at: Timestamp) -> NewAuditEvent {
    NewAuditEvent { event_timestamp: at, ..sample() }
}

// S3-AUD-015, S3-AUD-016, S3-AUD-017, S3-AUD-018, DEF-19: the outcome follows the status.
#[test]
fn factories_say_how_it_ended() {
    let notification = |status| {
        let made = Notification {
            notification_id: "n-1".into(),
            recipient: "ops".into(),
            channel: "mail".into(),
            status,
        };
        made.event(EventContext::default()).unwrap()
    };
    for (status, outcome) in [
        (NotificationStatus::Pending, Outcome::Pending),
        (NotificationStatus::Sent, Outcome::Success),
        (NotificationStatus::Delivered, Outcome::Success),
        (NotificationStatus::Acknowledged, Outcome::Success),
        (NotificationStatus::Escalated, Outcome::Success),
        (NotificationStatus::Failed, Outcome::Failure),
        (NotificationStatus::Skipped, Outcome::Skipped),
    ] {
        let event = notification(status);
        assert_eq!(event.event_outcome, outcome);
        assert_eq!(event.event_type.as_str(), format!("notification.{status}"));
        let data = format!(r#"{{"channel":"mail","recipient":"ops","status":"{status}"}}"#);
        assert_eq!(event.event_data.as_str(), data);
    }
    let workflow = |status| {
        let made = Workflow { workflow_id: "w-1".into(), phase: "rollback".into(), status };
        made.event(EventContext::default()).unwrap()
    };
    for (status, outcome) in [
        (WorkflowStatus::Pending, Outcome::Pending),
        (WorkflowStatus::Running, Outcome::Pending),
        (WorkflowStatus::Completed, Outcome::Success),
        (WorkflowStatus::Failed, Outcome::Failure),
        (WorkflowStatus::Skipped, Outcome::Skipped),
        (WorkflowStatus::Cancelled, Outcome::Skipped),
    ] {
        let event = workflow(status);
        assert_eq!((event.event_outcome, event.actor_type), (outcome, ActorType::Controller));
        assert_eq!(event.event_type.as_str(), "workflow.rollback");
        assert_eq!(event.service_name.as_str(), "workflow-execution-controller");
    }
    let ai = AiAnalysis { analysis_id: "a-1".into(), kind: "root_cause".into(), outcome: Outcome::Failure };
    let event = ai.event(EventContext::default()).unwrap();
    assert_eq!((event.event_outcome, event.actor_type), (Outcome::Failure, ActorType::Service));
    assert_eq!(
        (event.event_type.as_str(), event.service_name.as_str()),
        ("ai.analysis.root_cause", "ai-service")
    );
    for event in [notification(NotificationStatus::Sent), workflow(WorkflowStatus::Running), event] {
        assert!(KNOWN_CATEGORIES.contains(&event.event_category.as_str()));
        assert_eq!(event.category_label(), event.event_category.as_str());
        assert!(Create { events: vec![event] }.validate().is_ok());
    }
    let unknown = NewAuditEvent { event_category: Text::new("c", "kubernetes").unwrap(), ..sample() };
    assert_eq!(unknown.category_label(), "other");
}

// S3-AUD-015, S3-AUD-019, DEF-20: extra data never overwrite, what was hard-coded is a parameter, empty is absent.
#[test]
fn context_adds_and_never_overwrites() {
    let workflow =
        || Workflow { workflow_id: "w-1".into(), phase: "drain".into(), status: WorkflowStatus::Failed };
    let context = EventContext {
        service_name: Some("my-controller".into()),
        service_version: Some("v2".into()),
        resource_name: Some("drain node 7".into()),
        actor_id: Some(String::new()),
        correlation_id: Some("c-1".into()),
        extra: Some(Json::parse(r#"{"status":"completed","phase":"x","node":9007199254740993}"#).unwrap()),
        metadata: Some(Json::parse(r#"{"source":"test"}"#).unwrap()),
        ..EventContext::default()
    };
    let event = workflow().event(context).unwrap();
    let data = r#"{"node":9007199254740993,"phase":"drain","status":"failed","workflow_id":"w-1"}"#;
    assert_eq!(event.event_data.as_str(), data);
    assert_eq!(event.service_name.as_str(), "my-controller");
    assert_eq!(event.service_version.unwrap().as_str(), "v2");
    assert_eq!(event.resource_name.unwrap().as_str(), "drain node 7");
    assert!(event.actor_id.is_none());
    assert_eq!(event.metadata.as_str(), r#"{"source":"test"}"#);

    let list = || Some(Json::parse("[1]").unwrap());
    for bad in [
        EventContext { extra: list(), ..EventContext::default() },
        EventContext { metadata: list(), ..EventContext::default() },
        EventContext { trace_id: Some("x".repeat(256)), ..EventContext::default() },
    ] {
        assert_eq!(workflow().event(bad).unwrap_err().kind(), ErrorKind::Invalid);
    }
    // S3-EDGE-004
    let nameless = Workflow { workflow_id: String::new(), ..workflow() };
    assert_eq!(nameless.event(EventContext::default()).unwrap_err().kind(), ErrorKind::Invalid);
    let nul = Workflow { workflow_id: "a\0b".into(), ..workflow() };
    assert_eq!(nul.event(EventContext::default()).unwrap_err().kind(), ErrorKind::Invalid);
}

// X-AUD-030, A24, A25, A31: what a walk finds.
#[test]
fn a_walk_finds_the_first_place_that_does_not_fit() {
    let events: Vec<_> = (0..4).map(|_| sample()).collect();
    let mut links: Vec<Link> = Vec::new();
    for event in &events {
        links.push(Link::of(links.last().map(|last| &last.link), event));
    }
    let head = ChainHead { event_id: events[3].event_id, link: links[3].link };
    let walk = |order: &[usize], anchor: Option<usize>| {
        let mut walk = ChainWalk::new();
        if let Some(anchor) = anchor {
            walk.anchor(links[anchor].link);
        }
        for at in order {
            walk.record(&events[*at], Some(&links[*at]));
        }
        let report = walk.end(Some(&head));
        assert_eq!(report.events, order.len() as u64);
        report.broken.map(|place| place.event_id)
    };
    assert_eq!(links[0].link, link(None, &events[0].content_digest()));
    assert_eq!(walk(&[0, 1, 2, 3], None), None);
    assert_eq!(walk(&[2, 3], Some(1)), None);
    assert_eq!(walk(&[2, 3], None), Some(events[2].event_id));
    assert_eq!(walk(&[0, 2, 3], None), Some(events[2].event_id));
    assert_eq!(walk(&[0, 2, 1, 3], None), Some(events[2].event_id));
    assert_eq!(walk(&[0, 1, 2], None), Some(head.event_id));
    assert_eq!(walk(&[], None), Some(head.event_id));

    let mut edited = ChainWalk::new();
    edited.record(&events[0], Some(&links[0]));
    edited.record(
        &NewAuditEvent { metadata: Json::parse(r#"{"a":1}"#).unwrap(), ..events[1].clone() },
        Some(&links[1]),
    );
    edited.record(&events[2], None);
    let report = edited.end(Some(&head));
    assert_eq!(report.broken.unwrap().event_id, events[1].event_id);
    assert_eq!((report.head, report.events), (Some(links[0].link), 3));

    let mut inserted = ChainWalk::new();
    inserted.record(&events[0], None);
    assert_eq!(inserted.end(None).broken.unwrap().event_id, events[0].event_id);
    let mut headless = ChainWalk::new();
    headless.record(&events[0], Some(&links[0]));
    assert_eq!(headless.end(None).broken.unwrap().event_id, events[0].event_id);
    let report = ChainWalk::new().end(None);
    assert_eq!((report.events, report.head, report.broken), (0, None, None));
}
