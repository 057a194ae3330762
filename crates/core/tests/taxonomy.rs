//! The taxonomy document says what the constructors do.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use changeover_core::audit::{
    AiAnalysis, EventContext, KNOWN_CATEGORIES, NewAuditEvent, Notification, NotificationStatus, Outcome,
    Workflow, WorkflowStatus,
};

/// The rows of all tables in a chapter, their cells without marks of code.
fn rows(chapter: &str) -> Vec<Vec<String>> {
    let document = include_str!("../../../docs/event-taxonomy.md");
    let begin = document.find(&format!("\n## {chapter}")).unwrap() + 1;
    let text = document[begin..].split("\n## ").next().unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|it| it.trim().replace('`', "")).collect();
    text.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

fn check(chapter: &str, first: &str, event: &NewAuditEvent) {
    let rows = rows(chapter);
    assert!(
        rows.iter().any(|row| row[0] == first && row[1] == event.event_outcome.as_str()),
        "{chapter}: {first} is {}",
        event.event_outcome
    );
    let data: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(event.event_data.as_str()).unwrap();
    for field in data.keys() {
        assert!(rows.iter().any(|row| row[0] == *field), "{chapter}: payload field {field}");
    }
}

// S3-AUD-032, S3-AUD-016 to 018
#[test]
fn every_event_of_the_constructors_is_in_the_document() {
    for status in NotificationStatus::ALL {
        let made = Notification {
            notification_id: "n".into(),
            recipient: "r".into(),
            channel: "c".into(),
            status: *status,
        };
        let event = made.event(EventContext::default()).unwrap();
        check("notification", event.event_type.as_str(), &event);
    }
    assert_eq!(rows("notification").len(), NotificationStatus::ALL.len() + 3);
    for status in WorkflowStatus::ALL {
        let made = Workflow { workflow_id: "w".into(), phase: "validation".into(), status: *status };
        let event = made.event(EventContext::default()).unwrap();
        check("workflow", status.as_str(), &event);
    }
    assert_eq!(rows("workflow").len(), WorkflowStatus::ALL.len() + 3);
    let made = AiAnalysis { analysis_id: "a".into(), kind: "root_cause".into(), outcome: Outcome::Success };
    let event = made.event(EventContext::default()).unwrap();
    let rows = rows("ai");
    let data: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(event.event_data.as_str()).unwrap();
    assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), data.keys().collect::<Vec<_>>());
}

// S3-AUD-007
#[test]
fn known_categories_are_in_the_document() {
    let document = include_str!("../../../docs/event-taxonomy.md");
    let line = document.lines().find(|line| line.ends_with("count them together as `other`.")).unwrap();
    let named: Vec<_> =
        line.split(" are known").next().unwrap().split(", ").map(|it| it.trim_matches('`')).collect();
    assert_eq!(named, KNOWN_CATEGORIES);
}
