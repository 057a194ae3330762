//! Constructors for audit events: what every event needs, and the events of notifications, workflows and AI analyses.
//!
//! ```
//! use changeover_core::audit::{EventContext, Notification, NotificationStatus, Outcome};
//! use changeover_core::Json;
//!
//! let event = Notification {
//!     notification_id: "n-17".into(),
//!     recipient: "oncall@example.org".into(),
//!     channel: "email".into(),
//!     status: NotificationStatus::Failed,
//! }
//! .event(EventContext { extra: Some(Json::parse(r#"{"attempt": 3, "status": "sent"}"#)?), ..EventContext::default() })?;
//! assert_eq!(event.event_type.as_str(), "notification.failed");
//! assert_eq!(event.event_outcome, Outcome::Failure);
//! assert!(event.event_data.as_str().contains(r#""status":"failed""#), "extra data never overwrites the event's own");
//! # Ok::<(), changeover_core::Error>(())
//! ```

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::values::{ActorType, NewAuditEvent, Outcome};
use crate::Uuid;
use crate::error::{Error, Result};
use crate::json::Json;
use crate::text::Text;
use crate::time::Timestamp;
use crate::words::words;

/// What an event may carry whatever it is about. Empty text counts as absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventContext {
    /// Which service tells, where it is not the usual one.
    pub service_name: Option<String>,
    /// The version of the service.
    pub service_version: Option<String>,
    /// The actor's id.
    pub actor_id: Option<String>,
    /// The actor's name.
    pub actor_name: Option<String>,
    /// The name of what was acted upon.
    pub resource_name: Option<String>,
    /// What the event belongs to.
    pub correlation_id: Option<String>,
    /// The event that led to it.
    pub parent_event_id: Option<Uuid>,
    /// The trace it was part of.
    pub trace_id: Option<String>,
    /// The span within the trace.
    pub span_id: Option<String>,
    /// More data: an object. Keys that the event has itself stay the event's.
    pub extra: Option<Json>,
    /// What else is known: an object.
    pub metadata: Option<Json>,
}

impl NewAuditEvent {
    /// An event of now with a new UUIDv7 and nothing but what every event needs.
    pub fn new(
        event_type: impl Into<String>,
        event_category: impl Into<String>,
        event_outcome: Outcome,
        service_name: impl Into<String>,
        actor_type: ActorType,
        resource_type: impl Into<String>,
        resource_id: impl Into<String>,
    ) -> Result<Self> {
        Ok(Self {
            event_id: Uuid::now_v7(),
            event_type: Text::new("event_type", event_type)?,
            event_category: Text::new("event_category", event_category)?,
            event_outcome,
            event_timestamp: Timestamp::now(),
            service_name: Text::new("service_name", service_name)?,
            service_version: None,
            actor_type,
            actor_id: None,
            actor_name: None,
            resource_type: Text::new("resource_type", resource_type)?,
            resource_id: Text::new("resource_id", resource_id)?,
            resource_name: None,
            event_data: Json::empty(),
            correlation_id: None,
            parent_event_id: None,
            trace_id: None,
            span_id: None,
            metadata: Json::empty(),
        })
    }

    /// The event with what the context says. `Invalid` for text out of bounds and for data that are not objects,
    /// `TooLarge` if the data together exceed [`Json::MAX_BYTES`].
    pub fn within(mut self, context: EventContext) -> Result<Self> {
        if let Some(name) = Text::optional("service_name", context.service_name)? {
            self.service_name = name;
        }
        self.service_version = Text::optional("service_version", context.service_version)?;
        self.actor_id = Text::optional("actor_id", context.actor_id)?;
        self.actor_name = Text::optional("actor_name", context.actor_name)?;
        self.resource_name = Text::optional("resource_name", context.resource_name)?;
        self.correlation_id = Text::optional("correlation_id", context.correlation_id)?;
        self.parent_event_id = context.parent_event_id;
        self.trace_id = Text::optional("trace_id", context.trace_id)?;
        self.span_id = Text::optional("span_id", context.span_id)?;
        if let Some(extra) = context.extra {
            self.event_data = joined(&extra, &self.event_data)?;
        }
        if let Some(metadata) = context.metadata {
            members("metadata", &metadata)?;
            self.metadata = metadata;
        }
        Ok(self)
    }
}

fn members<'a>(field: &str, json: &'a Json) -> Result<BTreeMap<String, &'a RawValue>> {
    serde_json::from_str(json.as_str())
        .map_err(|_| Error::invalid(format!("{field} of the audit event is not a JSON object")))
}

/// The members of both, `own` winning.
fn joined(extra: &Json, own: &Json) -> Result<Json> {
    let mut all = members("extra", extra)?;
    all.extend(members("event_data", own)?);
    let texts = all.iter().map(|(key, value)| (key.as_str(), value.get().to_owned())).collect();
    // Parsed again since together they may be too large.
    Json::parse(Json::object(&texts).as_str())
}

fn data(members: &[(&str, &str)]) -> Json {
    Json::object(&members.iter().map(|(key, text)| (*key, Json::quoted(text))).collect())
}

words!(
    /// Where a notification stands.
    NotificationStatus, "notification status" {
        /// Not sent yet.
        Pending = "pending",
        /// On its way.
        Sent = "sent",
        /// Arrived.
        Delivered = "delivered",
        /// The recipient has taken note.
        Acknowledged = "acknowledged",
        /// Passed on to somebody else.
        Escalated = "escalated",
        /// Not sent.
        Failed = "failed",
        /// Left out on purpose.
        Skipped = "skipped",
    }
);

impl NotificationStatus {
    /// How an event of this status ended.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Pending => Outcome::Pending,
            Self::Sent | Self::Delivered | Self::Acknowledged | Self::Escalated => Outcome::Success,
            Self::Failed => Outcome::Failure,
            Self::Skipped => Outcome::Skipped,
        }
    }
}

/// A notification: `notification.<status>`, by the service `notification-service` unless the context names another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Its id, the event's resource id.
    pub notification_id: String,
    /// To whom.
    pub recipient: String,
    /// By which way.
    pub channel: String,
    /// Where it stands; the outcome follows.
    pub status: NotificationStatus,
}

impl Notification {
    /// The event; fails as [`NewAuditEvent::within`] does.
    pub fn event(self, context: EventContext) -> Result<NewAuditEvent> {
        let status = self.status.as_str();
        let mut event = NewAuditEvent::new(
            format!("notification.{status}"),
            "notification",
            self.status.outcome(),
            "notification-service",
            ActorType::Service,
            "notification",
            self.notification_id,
        )?;
        event.event_data =
            data(&[("recipient", &self.recipient), ("channel", &self.channel), ("status", status)]);
        event.checked()?.within(context)
    }
}

words!(
    /// Where a workflow stands.
    WorkflowStatus, "workflow status" {
        /// Not begun.
        Pending = "pending",
        /// Under way.
        Running = "running",
        /// Done.
        Completed = "completed",
        /// Not done.
        Failed = "failed",
        /// Left out on purpose.
        Skipped = "skipped",
        /// Ended by somebody.
        Cancelled = "cancelled",
    }
);

impl WorkflowStatus {
    /// How an event of this status ended.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Pending | Self::Running => Outcome::Pending,
            Self::Completed => Outcome::Success,
            Self::Failed => Outcome::Failure,
            Self::Skipped | Self::Cancelled => Outcome::Skipped,
        }
    }
}

/// A step of a workflow: `workflow.<phase>`, by the controller of the service `workflow-execution-controller` unless the
/// context names another service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// Its id, the event's resource id.
    pub workflow_id: String,
    /// The phase it is in.
    pub phase: String,
    /// Where the phase stands; the outcome follows.
    pub status: WorkflowStatus,
}

impl Workflow {
    /// The event; fails as [`NewAuditEvent::within`] does, and with `Invalid` for an empty phase.
    pub fn event(self, context: EventContext) -> Result<NewAuditEvent> {
        let phase = Text::<91>::new("phase of the workflow", self.phase)?;
        let mut event = NewAuditEvent::new(
            format!("workflow.{phase}"),
            "workflow",
            self.status.outcome(),
            "workflow-execution-controller",
            ActorType::Controller,
            "workflow",
            self.workflow_id.clone(),
        )?;
        event.event_data = data(&[
            ("workflow_id", &self.workflow_id),
            ("phase", phase.as_str()),
            ("status", self.status.as_str()),
        ]);
        event.checked()?.within(context)
    }
}

/// An analysis by AI: `ai.analysis.<kind>`, by the service `ai-service` unless the context names another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AiAnalysis {
    /// Its id, the event's resource id.
    pub analysis_id: String,
    /// What kind of analysis.
    pub kind: String,
    /// How it ended, which only the caller knows.
    pub outcome: Outcome,
}

impl AiAnalysis {
    /// The event; fails as [`NewAuditEvent::within`] does, and with `Invalid` for an empty kind.
    pub fn event(self, context: EventContext) -> Result<NewAuditEvent> {
        let kind = Text::<88>::new("kind of the analysis", self.kind)?;
        let mut event = NewAuditEvent::new(
            format!("ai.analysis.{kind}"),
            "ai",
            self.outcome,
            "ai-service",
            ActorType::Service,
            "ai_analysis",
            self.analysis_id.clone(),
        )?;
        event.event_data = data(&[("analysis_id", &self.analysis_id), ("kind", kind.as_str())]);
        event.checked()?.within(context)
    }
}

impl NewAuditEvent {
    /// The event, its data having been put together from text that may hold what JSON may not.
    fn checked(mut self) -> Result<Self> {
        self.event_data = Json::parse(self.event_data.as_str())?;
        Ok(self)
    }
}
