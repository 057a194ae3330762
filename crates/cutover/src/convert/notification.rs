//! `notification_audit`, the oldest audit table: each of its rows becomes an audit event.
//!
//! | new | old |
//! | --- | --- |
//! | `event_id` | UUIDv5 of the file's nonce (as namespace) and the decimal text of `id` |
//! | `sequence` | `id` above the base: 10^12, or its next multiple above the highest place of an audit event |
//! | `event_type`, `event_category`, `event_outcome` | `notification.<status>`, `notification`, what follows from the status |
//! | `event_timestamp`, `recorded_at` | `sent_at` |
//! | `service_name`, `actor_type`, `resource_type` | `notification-service`, `service`, `notification` |
//! | `resource_id` | `notification_id` |
//! | `correlation_id` | `remediation_id`; null if that is null or empty |
//! | `event_data` | every old column by its name, as it stands: text, number or null |
//! | `metadata` | `{}` |
//!
//! The other columns are null.

use std::collections::BTreeMap;

use changeover_core::audit::{EventContext, NewAuditEvent, Notification, NotificationStatus};
use changeover_core::cutover::{Raw, SourceColumn, Table, TimeUnit, Type, Value};
use changeover_core::{ErrorKind, Json, TenantId, Uuid};

use super::cell;
use super::notes::Notes;
use crate::hazards::number;

/// The least base of the sequence.
const BASE: i64 = 1_000_000_000_000;

/// The columns of text; `true`: null is allowed.
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

/// Where the sequence of notifications begins.
pub(super) fn base(highest: i64) -> Option<i64> {
    highest.max(0).checked_div(BASE)?.checked_add(1)?.checked_mul(BASE)
}

/// The id of the event of row `id`.
pub(super) fn event_id(nonce: Uuid, id: i64) -> Uuid {
    Uuid::new_v5(&nonce, id.to_string().as_bytes())
}

/// The transformation of one declared table.
#[derive(Clone, Debug)]
pub(super) struct Transform {
    /// Where `id`, [`TEXTS`] and `escalation_level` stand in a raw row.
    id: usize,
    texts: [usize; 11],
    level: usize,
    /// The columns wanted.
    columns: Vec<String>,
}

impl Transform {
    /// What is missing, where the table does not read all the columns.
    pub(super) fn of(table: &Table) -> Result<Self, String> {
        let sources = table.source_columns();
        let place = |name: &str| {
            let wanted = SourceColumn::Named(name.to_owned());
            let found = sources.iter().position(|source| *source == wanted);
            found.ok_or_else(|| {
                format!("table {:?}: reads lacks {name:?}, which the transform needs", table.name)
            })
        };
        let mut texts = [0; 11];
        for (at, (name, _)) in texts.iter_mut().zip(TEXTS) {
            *at = place(name)?;
        }
        let columns: Vec<_> = table.columns.iter().map(|column| column.name.clone()).collect();
        Ok(Self { id: place("id")?, texts, level: place("escalation_level")?, columns })
    }

    /// The values of a row, in the order of the columns; `None`: the notes say why.
    pub(super) fn row(
        &self,
        raw: &[Raw],
        context: (&TenantId, Uuid, i64),
        notes: &mut Notes,
    ) -> Option<Vec<Value>> {
        let (tenant, nonce, base) = context;
        let id = match &raw[self.id] {
            Raw::Null => notes.at("id").bad(number::NULL_KEY, "is null"),
            found => cell::convert(found, &Type::Int { min: 0, max: BASE - 1 }, false, &mut notes.at("id")),
        };
        let level = optional(&raw[self.level], |found| {
            cell::convert(
                found,
                &Type::Int { min: i64::MIN, max: i64::MAX },
                false,
                &mut notes.at("escalation_level"),
            )
        });
        let mut texts = Vec::with_capacity(TEXTS.len());
        for ((name, nullable), at) in TEXTS.into_iter().zip(self.texts) {
            let any = Type::Text { max: usize::MAX, not_empty: false, words: Vec::new() };
            let at = &raw[at];
            texts.push(match at {
                Raw::Null if nullable => Some(Value::Null),
                Raw::Null => notes.at(name).bad(number::MISSING, "is null"),
                found => cell::convert(found, &any, false, &mut notes.at(name)),
            });
        }
        let text =
            |at: usize| if let Some(Value::Text(text)) = &texts[at] { Some(text.as_str()) } else { None };
        let sent = text(6).map(|text| Raw::Text(text.as_bytes().to_vec()));
        let unit = TimeUnit::Text { zoneless: true, epoch_digits: false };
        let sent = sent.and_then(|raw| super::time::timestamp(&raw, unit, &mut notes.at("sent_at")));
        if sent.is_some_and(|sent| sent.as_micros() < 0) {
            notes.at("sent_at").bad::<()>(number::YEAR, "is before 1970");
        }
        let status = text(5).and_then(|text| {
            let words: Vec<_> = NotificationStatus::ALL.iter().map(|word| word.as_str()).collect();
            let problem = || format!("is none of the words allowed there: {}", words.join(", "));
            text.parse()
                .ok()
                .or_else(|| notes.at("status").bad::<NotificationStatus>(number::LIMIT, problem()))
        });
        for (at, name) in [(0, "notification_id"), (1, "remediation_id")] {
            let found = text(at).map_or(0, |text| text.chars().count());
            if found > 255 {
                let problem = format!("has {found} characters, at most 255 are allowed");
                notes.at(name).bad::<()>(number::LIMIT, problem);
            }
        }
        if text(0) == Some("") {
            notes.at("notification_id").bad::<()>(number::EMPTY, "is empty");
        }
        if !notes.reasons.is_empty() {
            return None;
        }
        let Some(Value::Int(id)) = id else { return None };
        let all = whole_row(id, &level?, &texts)?;
        let context = EventContext {
            correlation_id: text(1).filter(|text| !text.is_empty()).map(str::to_owned),
            extra: Some(all),
            ..EventContext::default()
        };
        let notification = Notification {
            notification_id: text(0)?.to_owned(),
            recipient: text(2)?.to_owned(),
            channel: text(3)?.to_owned(),
            status: status?,
        };
        let mut event = match notification.event(context) {
            Ok(event) => event,
            Err(error) => {
                let hazard =
                    if error.kind() == ErrorKind::TooLarge { number::TOO_LARGE } else { number::LIMIT };
                return notes.at("").bad(hazard, error.message());
            }
        };
        event.event_id = event_id(nonce, id);
        event.event_timestamp = sent?;
        Some(self.columns.iter().map(|name| column(name, &event, tenant, base + id)).collect())
    }
}

fn optional(raw: &Raw, read: impl FnOnce(&Raw) -> Option<Value>) -> Option<Value> {
    if *raw == Raw::Null { Some(Value::Null) } else { read(raw) }
}

/// Every old column by its name.
fn whole_row(id: i64, level: &Value, texts: &[Option<Value>]) -> Option<Json> {
    let node = |value: &Value| match value {
        Value::Int(number) => serde_json::Value::from(*number),
        Value::Text(text) => serde_json::Value::from(text.as_str()),
        _ => serde_json::Value::Null,
    };
    let mut all = BTreeMap::from([("id", serde_json::Value::from(id)), ("escalation_level", node(level))]);
    for ((name, _), value) in TEXTS.iter().zip(texts) {
        all.insert(name, node(value.as_ref()?));
    }
    Json::of(&all).ok()
}

fn column(name: &str, event: &NewAuditEvent, tenant: &TenantId, sequence: i64) -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    let optional = |found: Option<&str>| found.map_or(Value::Null, text);
    match name {
        "tenant_id" => text(tenant.as_str()),
        "sequence" => Value::Int(sequence),
        "event_id" => Value::Uuid(event.event_id),
        "event_type" => text(event.event_type.as_str()),
        "event_category" => text(event.event_category.as_str()),
        "event_outcome" => text(event.event_outcome.as_str()),
        "event_timestamp" | "recorded_at" => Value::Timestamp(event.event_timestamp),
        "event_date" => Value::Date(event.event_timestamp.date()),
        "service_name" => text(event.service_name.as_str()),
        "actor_type" => text(event.actor_type.as_str()),
        "resource_type" => text(event.resource_type.as_str()),
        "resource_id" => text(event.resource_id.as_str()),
        "event_data" => Value::Json(event.event_data.clone()),
        "metadata" => Value::Json(event.metadata.clone()),
        "correlation_id" => optional(event.correlation_id.as_ref().map(changeover_core::Text::as_str)),
        "content_digest" => Value::Bytes(event.content_digest().to_vec()),
        _ => Value::Null,
    }
}
