//! Audit events.

use crate::Uuid;
use crate::json::Json;
use crate::text::Text;
use crate::time::Timestamp;
use crate::words::words;

words!(
    /// How it ended.
    Outcome, "event_outcome" {
        /// Done.
        Success = "success",
        /// Not done.
        Failure = "failure",
        /// Not ended yet.
        Pending = "pending",
        /// Left out on purpose.
        Skipped = "skipped",
    }
);
words!(
    /// Who acted.
    ActorType, "actor_type" {
        /// The platform itself.
        System = "system",
        /// A person.
        User = "user",
        /// Another service.
        Service = "service",
        /// An operator of a cluster.
        Operator = "operator",
        /// A controller.
        Controller = "controller",
    }
);

/// The categories this library knows. Others are stored alike.
pub const KNOWN_CATEGORIES: [&str; 6] =
    ["notification", "workflow", "ai", "orchestrator", "gateway", "effectiveness"];

/// An audit event to be stored. The date is derived from the time.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAuditEvent {
    /// The client's id, unique within the tenant over all months.
    pub event_id: Uuid,
    /// What happened.
    pub event_type: Text<100>,
    /// What part of the service it concerns.
    pub event_category: Text<50>,
    /// How it ended.
    pub event_outcome: Outcome,
    /// When.
    pub event_timestamp: Timestamp,
    /// Which service tells.
    pub service_name: Text<100>,
    /// Its version.
    pub service_version: Option<Text<50>>,
    /// Who acted.
    pub actor_type: ActorType,
    /// The actor's id.
    pub actor_id: Option<Text<255>>,
    /// The actor's name.
    pub actor_name: Option<Text<255>>,
    /// What was acted upon.
    pub resource_type: Text<100>,
    /// Its id.
    pub resource_id: Text<255>,
    /// Its name.
    pub resource_name: Option<Text<255>>,
    /// The payload: an object.
    pub event_data: Json,
    /// What it belongs to.
    pub correlation_id: Option<Text<255>>,
    /// The event that led to it.
    pub parent_event_id: Option<Uuid>,
    /// The trace it was part of.
    pub trace_id: Option<Text<255>>,
    /// The span within the trace.
    pub span_id: Option<Text<255>>,
    /// What else is known: an object.
    pub metadata: Json,
}

/// An audit event as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// What the caller gave.
    pub event: NewAuditEvent,
    /// When the store recorded it: never goes backwards.
    pub recorded_at: Timestamp,
    /// Its place in the recorded order, rising, not contiguous.
    pub sequence: i64,
}

impl NewAuditEvent {
    /// The category as a label of metrics: one of [`KNOWN_CATEGORIES`], `other` for all others, so that labels stay few.
    pub fn category_label(&self) -> &'static str {
        let known = KNOWN_CATEGORIES.into_iter().find(|known| *known == self.event_category.as_str());
        known.unwrap_or("other")
    }
}
