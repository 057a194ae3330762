//! Rows of `notification_audit`, the oldest audit table, as audit events: what each column of the event has to be.

use std::collections::BTreeMap;

use changeover_core::Json;
use changeover_core::cutover::{Column, From, SourceColumn, TimeUnit, Type, Witnessed};

use super::canon::Canon;
use super::relation::World;
use super::source::{self, Accepted, bad};

/// Columns of the old table, each as it stands in `event_data`; `true`: null is allowed.
const TEXTS: [(&str, bool); 11] = [
    ("notification_id", false),
    ("remediation_id", true),
    ("recipient", false),
    ("channel", false),
    ("message_summary", true),
    ("status", false),
    ("sent_at", false),
    ("delivery_status", true),
    ("error_message", true),
    ("created_at", true),
    ("updated_at", true),
];

/// What a column of the event follows from by a rule that other tables name.
pub(super) fn rule(column: &str) -> Option<&'static str> {
    match column {
        "event_date" => Some("date_of:event_timestamp"),
        "recorded_at" => Some("same_as:event_timestamp"),
        "content_digest" => Some("audit_digest"),
        _ => None,
    }
}

/// How a row becomes an event.
#[derive(Debug)]
pub(super) struct Mapping {
    nonce: uuid::Uuid,
    from: i64,
    accepted: Accepted,
}

impl Mapping {
    pub(super) fn new(world: &World) -> Self {
        Self { nonce: world.nonce, from: world.notifications_from, accepted: Accepted::of(&world.accepted) }
    }

    /// The columns by their names; those that are computed or the tenant's stay null.
    pub(super) fn row(&self, columns: &[Column], read: &[SourceColumn], seen: &Witnessed) -> Vec<Canon> {
        let value = |name: &str, nullable: bool, to: Type| {
            let wanted = SourceColumn::Named(name.to_owned());
            let column = Column {
                name: name.to_owned(),
                from: From::Source(wanted.clone()),
                to,
                nullable,
                null_becomes: None,
            };
            match read.iter().position(|column| *column == wanted).and_then(|at| seen.values.get(at)) {
                Some(value) => source::decode(&column, value, &self.accepted),
                None => bad("not read", &[]),
            }
        };
        let text = |name: &str, nullable| {
            value(name, nullable, Type::Text { max: usize::MAX, not_empty: false, words: Vec::new() })
        };
        let number = |name: &str, nullable| value(name, nullable, Type::Int { min: i64::MIN, max: i64::MAX });
        let short = |value: Canon, empty: bool| match value {
            Canon::Text(text) if text.chars().count() > 255 || (text.is_empty() && !empty) => {
                bad("length", &[])
            }
            other => other,
        };
        let id = match number("id", false) {
            Canon::Int(id) if id >= 0 => Some(id),
            _ => None,
        };
        let level = number("escalation_level", true);
        let outcome = match text("status", false) {
            Canon::Text(status) => match status.as_str() {
                "pending" => Some((status, "pending")),
                "sent" | "delivered" | "acknowledged" | "escalated" => Some((status, "success")),
                "failed" => Some((status, "failure")),
                "skipped" => Some((status, "skipped")),
                _ => None,
            },
            _ => None,
        };
        let unit = TimeUnit::Text { zoneless: true, epoch_digits: false };
        let sent = match value("sent_at", false, Type::Timestamp(unit)) {
            Canon::Timestamp(micros) if micros < 0 => bad("before 1970", &[]),
            other => other,
        };
        let known = |value: Option<Canon>| value.unwrap_or_else(|| bad("transformed", &[]));
        let fixed = |text: &str| Canon::Text(text.to_owned());
        let column = |column: &Column| match column.name.as_str() {
            "sequence" => known(id.and_then(|id| self.from.checked_add(id)).map(Canon::Int)),
            "event_id" => known(id.map(|id| {
                Canon::Uuid(uuid::Uuid::new_v5(&self.nonce, id.to_string().as_bytes()).into_bytes())
            })),
            "event_type" => {
                known(outcome.as_ref().map(|(status, _)| Canon::Text(format!("notification.{status}"))))
            }
            "event_outcome" => known(outcome.as_ref().map(|(_, outcome)| fixed(outcome))),
            "event_category" | "resource_type" => fixed("notification"),
            "event_timestamp" => sent.clone(),
            "service_name" => fixed("notification-service"),
            "actor_type" => fixed("service"),
            "resource_id" => short(text("notification_id", false), false),
            "correlation_id" => match short(text("remediation_id", true), true) {
                Canon::Text(text) if text.is_empty() => Canon::Null,
                other => other,
            },
            "event_data" => known(id.and_then(|id| all(id, &level, &text))),
            "metadata" => Canon::Json(Json::empty()),
            _ => Canon::Null,
        };
        columns.iter().map(column).collect()
    }
}

/// Every column of the old row by its name, as canonical JSON.
fn all(id: i64, level: &Canon, text: &impl Fn(&str, bool) -> Canon) -> Option<Canon> {
    let node = |value: &Canon| match value {
        Canon::Null => Some(serde_json::Value::Null),
        Canon::Int(number) => Some((*number).into()),
        Canon::Text(text) => Some(text.as_str().into()),
        _ => None,
    };
    let mut object = BTreeMap::from([("id", id.into()), ("escalation_level", node(level)?)]);
    for (name, nullable) in TEXTS {
        object.insert(name, node(&text(name, nullable))?);
    }
    Some(Canon::Json(Json::of(&object).ok()?))
}
