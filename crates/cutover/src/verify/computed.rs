//! What columns have to be that the engine computes.

use changeover_core::audit::NewAuditEvent;
use changeover_core::cutover::Column;
use changeover_core::{Json, Text, Timestamp, Uuid};

use super::canon::Canon;
use super::source::bad;

/// How a column follows from others, by their places in the row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    SameAs(usize),
    DateOf(usize),
    AuditDigest,
}

impl Rule {
    /// The rule of a name in a declaration; `None` for one that is not known here.
    pub(super) fn parse(name: &str, columns: &[Column]) -> Option<Self> {
        let place = |of: &str| columns.iter().position(|column| column.name == of);
        match name.split_once(':') {
            Some(("same_as", of)) => place(of).map(Self::SameAs),
            Some(("date_of", of)) => place(of).map(Self::DateOf),
            None if name == "audit_digest" => Some(Self::AuditDigest),
            _ => None,
        }
    }

    /// The value, out of the others.
    pub(super) fn value(&self, columns: &[Column], row: &[Canon]) -> Canon {
        match self {
            Self::SameAs(of) => row[*of].clone(),
            Self::DateOf(of) => match &row[*of] {
                Canon::Timestamp(micros) => i32::try_from(micros.div_euclid(86_400_000_000))
                    .map_or_else(|_| bad("date", &[]), Canon::Date),
                Canon::Null => Canon::Null,
                _ => bad("date", &[]),
            },
            Self::AuditDigest => match event(columns, row) {
                Ok(event) => Canon::Bytes(event.content_digest().to_vec()),
                Err(Misfit) => bad("digest", &[]),
            },
        }
    }
}

/// A value that no audit event has.
struct Misfit;

/// The audit event of a row, whose columns bear the names of the event's.
fn event(columns: &[Column], row: &[Canon]) -> Result<NewAuditEvent, Misfit> {
    let row = Row { columns, row };
    Ok(NewAuditEvent {
        event_id: row.uuid("event_id")?.ok_or(Misfit)?,
        event_type: row.text("event_type")?.ok_or(Misfit)?,
        event_category: row.text("event_category")?.ok_or(Misfit)?,
        event_outcome: row.word("event_outcome")?.parse().map_err(|_| Misfit)?,
        event_timestamp: row.time("event_timestamp")?,
        service_name: row.text("service_name")?.ok_or(Misfit)?,
        service_version: row.text("service_version")?,
        actor_type: row.word("actor_type")?.parse().map_err(|_| Misfit)?,
        actor_id: row.text("actor_id")?,
        actor_name: row.text("actor_name")?,
        resource_type: row.text("resource_type")?.ok_or(Misfit)?,
        resource_id: row.text("resource_id")?.ok_or(Misfit)?,
        resource_name: row.text("resource_name")?,
        event_data: row.json("event_data")?,
        correlation_id: row.text("correlation_id")?,
        parent_event_id: row.uuid("parent_event_id")?,
        trace_id: row.text("trace_id")?,
        span_id: row.text("span_id")?,
        metadata: row.json("metadata")?,
    })
}

struct Row<'a> {
    columns: &'a [Column],
    row: &'a [Canon],
}

impl Row<'_> {
    fn get(&self, name: &str) -> Result<&Canon, Misfit> {
        let at = self.columns.iter().position(|column| column.name == name);
        at.and_then(|at| self.row.get(at)).ok_or(Misfit)
    }

    fn text<const MAX: usize>(&self, name: &str) -> Result<Option<Text<MAX>>, Misfit> {
        match self.get(name)? {
            Canon::Null => Ok(None),
            Canon::Text(text) => Text::new(name, text.as_str()).map(Some).map_err(|_| Misfit),
            _ => Err(Misfit),
        }
    }

    fn word(&self, name: &str) -> Result<&str, Misfit> {
        match self.get(name)? {
            Canon::Text(text) => Ok(text),
            _ => Err(Misfit),
        }
    }

    fn uuid(&self, name: &str) -> Result<Option<Uuid>, Misfit> {
        match self.get(name)? {
            Canon::Null => Ok(None),
            Canon::Uuid(bytes) => Ok(Some(Uuid::from_bytes(*bytes))),
            _ => Err(Misfit),
        }
    }

    fn time(&self, name: &str) -> Result<Timestamp, Misfit> {
        match self.get(name)? {
            Canon::Timestamp(micros) => Timestamp::from_micros(*micros).map_err(|_| Misfit),
            _ => Err(Misfit),
        }
    }

    fn json(&self, name: &str) -> Result<Json, Misfit> {
        match self.get(name)? {
            Canon::Json(json) => Ok(json.clone()),
            _ => Err(Misfit),
        }
    }
}
