//! One call of the write function: batches into arrays, outcomes into answers.

use changeover_core::audit::{Create, Created, NewAuditEvent};
use changeover_core::{Applied, Error, ErrorKind, Result, Text, Uuid};
use tokio_postgres::Row;

use super::Trail;
use crate::codec::{JsonOut, Micros};
use crate::module::{explained, unreadable};
use crate::params::Param;

/// A validated create with the digests of its events, which are made before the batch waits for its turn.
pub(crate) struct Batch {
    request: Create,
    digests: Vec<[u8; 32]>,
}

impl Batch {
    pub(crate) fn new(request: Create) -> Result<Self> {
        request.validate()?;
        let digests = request.events.iter().map(NewAuditEvent::content_digest).collect();
        Ok(Self { request, digests })
    }

    pub(crate) fn events(&self) -> &[NewAuditEvent] {
        &self.request.events
    }
}

impl Trail {
    /// Stores the batches by one call, each on its own terms.
    pub(crate) async fn create_all(&self, batches: &[&Batch]) -> Result<Vec<Result<Created>>> {
        let mut conn = self.conn().await.map_err(|error| error.applied(Applied::No))?;
        let arrays = Arrays::of(batches);
        let tenant = self.tenant.as_str();
        let rows = match conn.write(&self.statements.record, &arrays.params(&tenant, &self.chained)).await {
            Ok(rows) => rows,
            Err(error) => return Err(explained(&mut conn, &self.scope, error).await),
        };
        let outcomes = rows.iter().map(Outcome::of).collect::<Result<Vec<_>, _>>();
        Ok(answers(batches, &outcomes.map_err(|_| unreadable().applied(Applied::Unknown))?))
    }
}

/// The arguments of the write function, borrowed from the batches.
#[derive(Default)]
pub(super) struct Arrays<'a> {
    pub request: Vec<i32>,
    pub id: Vec<Uuid>,
    pub event_type: Vec<&'a str>,
    pub category: Vec<&'a str>,
    pub outcome: Vec<&'static str>,
    pub timestamp: Vec<Micros>,
    pub service: Vec<&'a str>,
    pub service_version: Vec<Option<&'a str>>,
    pub actor_type: Vec<&'static str>,
    pub actor_id: Vec<Option<&'a str>>,
    pub actor_name: Vec<Option<&'a str>>,
    pub resource_type: Vec<&'a str>,
    pub resource_id: Vec<&'a str>,
    pub resource_name: Vec<Option<&'a str>>,
    pub data: Vec<JsonOut<'a>>,
    pub correlation: Vec<Option<&'a str>>,
    pub parent: Vec<Option<Uuid>>,
    pub trace: Vec<Option<&'a str>>,
    pub span: Vec<Option<&'a str>>,
    pub metadata: Vec<JsonOut<'a>>,
    pub digest: Vec<&'a [u8]>,
}

impl<'a> Arrays<'a> {
    pub(super) fn of(batches: &[&'a Batch]) -> Self {
        let mut arrays = Self::default();
        for (batch, number) in batches.iter().zip(1..) {
            for (event, digest) in batch.request.events.iter().zip(&batch.digests) {
                arrays.request.push(number);
                arrays.id.push(event.event_id);
                arrays.event_type.push(event.event_type.as_str());
                arrays.category.push(event.event_category.as_str());
                arrays.outcome.push(event.event_outcome.as_str());
                arrays.timestamp.push(event.event_timestamp.into());
                arrays.service.push(event.service_name.as_str());
                arrays.service_version.push(event.service_version.as_ref().map(Text::as_str));
                arrays.actor_type.push(event.actor_type.as_str());
                arrays.actor_id.push(event.actor_id.as_ref().map(Text::as_str));
                arrays.actor_name.push(event.actor_name.as_ref().map(Text::as_str));
                arrays.resource_type.push(event.resource_type.as_str());
                arrays.resource_id.push(event.resource_id.as_str());
                arrays.resource_name.push(event.resource_name.as_ref().map(Text::as_str));
                arrays.data.push(JsonOut(&event.event_data));
                arrays.correlation.push(event.correlation_id.as_ref().map(Text::as_str));
                arrays.parent.push(event.parent_event_id);
                arrays.trace.push(event.trace_id.as_ref().map(Text::as_str));
                arrays.span.push(event.span_id.as_ref().map(Text::as_str));
                arrays.metadata.push(JsonOut(&event.metadata));
                arrays.digest.push(digest);
            }
        }
        arrays
    }

    fn params<'s>(&'s self, tenant: &'s &'s str, chained: &'s bool) -> [&'s dyn Param; 23] {
        [
            tenant,
            chained,
            &self.request,
            &self.id,
            &self.event_type,
            &self.category,
            &self.outcome,
            &self.timestamp,
            &self.service,
            &self.service_version,
            &self.actor_type,
            &self.actor_id,
            &self.actor_name,
            &self.resource_type,
            &self.resource_id,
            &self.resource_name,
            &self.data,
            &self.correlation,
            &self.parent,
            &self.trace,
            &self.span,
            &self.metadata,
            &self.digest,
        ]
    }
}

/// What became of one batch.
pub(super) struct Outcome {
    pub request: i32,
    pub verdict: String,
    pub stored: i64,
    pub repeated: i64,
    pub event: Option<Uuid>,
}

impl Outcome {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            request: row.try_get(0)?,
            verdict: row.try_get(1)?,
            stored: row.try_get(2)?,
            repeated: row.try_get(3)?,
            event: row.try_get(4)?,
        })
    }
}

/// The answer to each batch.
pub(super) fn answers(batches: &[&Batch], outcomes: &[Outcome]) -> Vec<Result<Created>> {
    let numbers = 1..;
    numbers
        .zip(batches)
        .map(|(number, batch)| match outcomes.iter().find(|outcome| outcome.request == number) {
            Some(outcome) => answer(batch, outcome).map_err(|error| error.applied(Applied::No)),
            None => {
                Err(Error::new(ErrorKind::Unexpected, "the write function did not answer for every batch")
                    .applied(Applied::Unknown))
            }
        })
        .collect()
}

fn answer(batch: &Batch, outcome: &Outcome) -> Result<Created> {
    let id = outcome.event.unwrap_or_default();
    match outcome.verdict.as_str() {
        "stored" => Ok(Created {
            stored: usize::try_from(outcome.stored).unwrap_or(usize::MAX),
            repeated: usize::try_from(outcome.repeated).unwrap_or(usize::MAX),
        }),
        "exists" => Err(Error::exists("audit event", id)),
        "no_parent" => Err(Error::new(
            ErrorKind::NotFound,
            format!("the parent {id} is neither stored nor stands earlier in the batch; record it first"),
        )),
        "time" => {
            let time = batch.events().iter().find(|event| event.event_id == id);
            let time = time.map(|event| event.event_timestamp.to_string()).unwrap_or_default();
            Err(Error::invalid(format!(
                "audit event {id}: event_timestamp is {time}, allowed is 1970 until 5 minutes ahead of the database's clock"
            )))
        }
        _ => Err(unreadable()),
    }
}
