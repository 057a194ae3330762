//! Text, JSON, sizes and ids: kept as given or refused, never changed.

use changeover_core::audit::{
    AiAnalysis, AuditFilter, AuditOrder, Create, EventContext, NewAuditEvent, Notification,
    NotificationStatus, Outcome, Workflow, WorkflowStatus,
};
use changeover_core::{ErrorKind, Json, Text, Uuid};

use crate::harness::AnyHarness;
use crate::support::audit::{create, event, full, get, look, open, query, recorded, text};
use crate::support::{Must, json, logged, refused};

/// Text of any script is kept as given and up to its length in characters; NUL and longer text cannot be made.
/// (A18, S3-AUD-004, S3-EDGE-006, X-EDGE-051)
pub async fn text_is_kept_as_given(h: &dyn AnyHarness) {
    fn longest<const MAX: usize>() -> Text<MAX> {
        text(&"\u{1f600}".repeat(MAX))
    }
    let store = open(h).await;
    let mut new = vec![NewAuditEvent {
        event_type: longest(),
        event_category: longest(),
        service_name: longest(),
        service_version: Some(longest()),
        actor_id: Some(longest()),
        actor_name: Some(longest()),
        resource_type: longest(),
        resource_id: longest(),
        resource_name: Some(longest()),
        correlation_id: Some(longest()),
        trace_id: Some(longest()),
        span_id: Some(longest()),
        ..full(1)
    }];
    for name in
        ["\u{e9}", "e\u{301}", "\u{202e}abc", " a ", "a\tb\n", "'; DROP TABLE x; --", "\\", "\u{feff}", "0"]
    {
        new.push(NewAuditEvent { actor_name: Some(text(name)), resource_id: text(name), ..event(2) });
    }
    let agent = "Mozilla/5.0 (X11; \u{1f427}) ".repeat(2_000);
    new.push(NewAuditEvent {
        event_data: Json::of(&[("agent", agent)].into_iter().collect::<std::collections::BTreeMap<_, _>>())
            .must("JSON"),
        ..event(3)
    });
    create(&*store, &new).await;
    for event in &new {
        assert_eq!(&get(&*store, event.event_id).await.must("the event").event, event);
    }
    for bad in ["a\0b".to_owned(), "\u{e9}".repeat(101), String::new()] {
        refused(Text::<100>::new("event_type", bad), ErrorKind::Invalid);
    }
}

/// Data and metadata come back as equal JSON values: exact numbers, nested, any keys; what is no object is refused.
/// (A20, S3-AUD-020, X-EDGE-056, X-EDGE-057, X-EDGE-059)
pub async fn data_are_kept_as_values(h: &dyn AnyHarness) {
    let store = open(h).await;
    let values = [
        r#"{"z":1,"a":{"y":[1,{"x":null}],"b":""},"":"","\u00e9":"\ud83d\ude00"}"#,
        r#"{"n":[9007199254740993,-0,1.10,1e20,0.000001,123456789012345678901234567890.5,1e-300]}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"control":"\b\f\n\r\t\u001f","quote":"\"\\/"}"#,
        r#"{"text":"1","true":"true","null":null,"empty":[],"object":{}}"#,
    ];
    for value in values {
        let new = NewAuditEvent { event_data: json(value), metadata: json(value), ..event(1) };
        create(&*store, std::slice::from_ref(&new)).await;
        let stored = get(&*store, new.event_id).await.must("the event").event;
        assert_eq!((&stored.event_data, &stored.metadata), (&new.event_data, &new.metadata), "{value}");
    }
    let before = look(h, &*store).await;
    for bad in ["[1]", "null", "\"{}\"", "1"] {
        for new in [
            NewAuditEvent { event_data: json(bad), ..event(2) },
            NewAuditEvent { metadata: json(bad), ..event(2) },
        ] {
            refused(store.create(Create { events: vec![event(3), new] }).await, ErrorKind::Invalid);
        }
    }
    assert_eq!(look(h, &*store).await, before);
}

fn of_size(bytes: usize) -> Json {
    json(&format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8)))
}

/// Data up to the limit are stored whole; above it, and a batch above its own, is refused as `TooLarge` before any write.
/// (A43, S3-EDGE-005, X-EDGE-058)
pub async fn data_have_a_largest_size(h: &dyn AnyHarness) {
    let store = open(h).await;
    for bytes in [8, 1 << 20, Json::MAX_BYTES] {
        let new = NewAuditEvent { event_data: of_size(bytes), ..event(1) };
        create(&*store, std::slice::from_ref(&new)).await;
        let stored = get(&*store, new.event_id).await.must("the event").event;
        assert_eq!(stored.event_data.as_str().len(), bytes);
        assert!(stored == new, "data of {bytes} bytes came back changed");
    }
    let deep =
        format!("{}{}{}", r#"{"a":"#.repeat(Json::MAX_DEPTH - 1), "{}", "}".repeat(Json::MAX_DEPTH - 1));
    let new = NewAuditEvent { metadata: json(&deep), ..event(2) };
    create(&*store, std::slice::from_ref(&new)).await;
    assert_eq!(get(&*store, new.event_id).await.must("the event").event, new);
    let too_large = format!(r#"{{"a":"{}"}}"#, "x".repeat(Json::MAX_BYTES - 7));
    refused(Json::parse(&too_large), ErrorKind::TooLarge);
    let large = of_size(Json::MAX_BYTES);
    let count = Create::MAX_BYTES / Json::MAX_BYTES;
    let many = (0..count).map(|_| NewAuditEvent { event_data: large.clone(), ..event(3) }).collect();
    refused(store.create(Create { events: many }).await, ErrorKind::TooLarge);
    assert_eq!(store.count(AuditFilter::default()).await.must("count"), 4);
}

/// Ids of any version, nil and the largest too, survive as id and as parent, and order events of one time by their bytes.
/// (A52, X-EDGE-060)
pub async fn every_uuid_survives(h: &dyn AnyHarness) {
    let store = open(h).await;
    let odd = Uuid::parse_str("A0B1C2D3-E4F5-0607-8809-0A0B0C0D0E0F").must("a UUID");
    let mut ids = vec![Uuid::max(), Uuid::nil(), odd, Uuid::from_u128(1), Uuid::from_u128(1 << 127)];
    let mut parent = None;
    for id in &ids {
        let new = NewAuditEvent {
            event_id: *id,
            parent_event_id: parent,
            event_timestamp: full(1).event_timestamp,
            ..event(1)
        };
        create(&*store, std::slice::from_ref(&new)).await;
        assert_eq!(get(&*store, *id).await.must("the event").event, new);
        parent = Some(*id);
    }
    ids.sort();
    let found = query(&*store, AuditFilter::default(), AuditOrder::NewestFirst).await;
    assert_eq!(crate::support::audit::ids(&found), ids);
}

/// Events of the factories are stored and read back as they were made. (A53, S3-AUD-015, S3-AUD-016, S3-AUD-017, S3-AUD-018, S3-AUD-019, DEF-19, DEF-20)
pub async fn events_of_the_factories_are_stored_as_made(h: &dyn AnyHarness) {
    let store = open(h).await;
    let context = || EventContext {
        service_version: Some("v1".into()),
        actor_id: Some(String::new()),
        resource_name: Some("a name".into()),
        correlation_id: Some("c-1".into()),
        extra: Some(json(r#"{"status":"sent","kind":"x","phase":"y","more":[1.10]}"#)),
        ..EventContext::default()
    };
    let notification = Notification {
        notification_id: "n-1".into(),
        recipient: "ops".into(),
        channel: "mail".into(),
        status: NotificationStatus::Failed,
    };
    let workflow =
        Workflow { workflow_id: "w-1".into(), phase: "drain".into(), status: WorkflowStatus::Running };
    let analysis =
        AiAnalysis { analysis_id: "a-1".into(), kind: "root_cause".into(), outcome: Outcome::Success };
    let made = [notification.event(context()), workflow.event(context()), analysis.event(context())];
    let made = made.map(|event| event.must("an event"));
    create(&*store, &made).await;
    let stored: Vec<_> = recorded(&*store).await.into_iter().map(|stored| stored.event).collect();
    assert_eq!(stored, made);
    let seen: Vec<_> = stored.iter().map(|event| (event.event_type.as_str(), event.event_outcome)).collect();
    assert_eq!(
        seen,
        [
            ("notification.failed", Outcome::Failure),
            ("workflow.drain", Outcome::Pending),
            ("ai.analysis.root_cause", Outcome::Success)
        ]
    );
    let data =
        r#"{"channel":"mail","kind":"x","more":[1.1],"phase":"y","recipient":"ops","status":"failed"}"#;
    assert_eq!(stored[0].event_data.as_str(), data);
    // S3-AUD-007: a category that the library does not know is stored alike.
    let unknown = NewAuditEvent { event_category: text("kubernetes"), ..event(1) };
    create(&*store, std::slice::from_ref(&unknown)).await;
    assert_eq!(get(&*store, unknown.event_id).await.must("the event").event, unknown);
}

/// What is secret in the data is stored as given, since redaction is the caller's, and no error shows it. (A42)
pub async fn data_are_stored_as_given_and_never_shown(h: &dyn AnyHarness) {
    let backend = h.client().await;
    let store = crate::support::audit::open_on(h, &*backend).await;
    let secret = NewAuditEvent {
        event_data: json(r#"{"password":"hush-hush"}"#),
        metadata: json(r#"{"token":"hush-hush"}"#),
        ..event(1)
    };
    create(&*store, std::slice::from_ref(&secret)).await;
    assert_eq!(get(&*store, secret.event_id).await.must("the event").event, secret);
    let other = NewAuditEvent { event_category: text("other"), ..secret.clone() };
    let orphan =
        NewAuditEvent { event_id: Uuid::now_v7(), parent_event_id: Some(Uuid::now_v7()), ..secret.clone() };
    let mut errors = Vec::new();
    for (bad, kind) in [(other, ErrorKind::AlreadyExists), (orphan, ErrorKind::NotFound)] {
        errors.push(refused(store.create(Create { events: vec![bad] }).await, kind));
    }
    backend.close().await;
    errors.push(refused(store.create(Create { events: vec![secret] }).await, ErrorKind::Unavailable));
    for error in errors {
        let shown = logged(&error);
        for hidden in ["hush-hush", "://"] {
            assert!(!shown.contains(hidden), "{hidden:?} is shown in: {shown}");
        }
    }
}
