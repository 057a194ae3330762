//! One call of the write function: requests into arrays, outcomes into answers.

use changeover_core::events::{Append, Appended, AppendedStream};
use changeover_core::events::{Expected, Version};
use changeover_core::{Applied, Checkpoint, Detail, Error, ErrorKind, LogId, Result, Uuid};
use tokio_postgres::Row;

use crate::codec::{JsonOut, Micros};
use crate::params::Param;

/// The arguments of the write function, borrowed from the requests.
#[derive(Default)]
pub(crate) struct Arrays<'a> {
    pub s_request: Vec<i32>,
    pub s_id: Vec<Uuid>,
    pub s_type: Vec<&'a str>,
    pub s_aggregate: Vec<Uuid>,
    pub s_expected: Vec<i64>,
    pub e_stream: Vec<i32>,
    pub e_id: Vec<Uuid>,
    pub e_type: Vec<&'a str>,
    pub e_version: Vec<i32>,
    pub e_data: Vec<JsonOut<'a>>,
    pub e_metadata: Vec<JsonOut<'a>>,
    pub e_occurred: Vec<Option<Micros>>,
    pub e_causation: Vec<Option<Uuid>>,
    pub e_correlation: Vec<Option<Uuid>>,
    pub t_request: Vec<i32>,
    pub t_consumer: Vec<&'a str>,
    pub t_position: Vec<i64>,
}

impl<'a> Arrays<'a> {
    pub(crate) fn of(requests: &[&'a Append]) -> Self {
        let mut arrays = Self::default();
        for (request, number) in requests.iter().zip(1..) {
            for part in &request.streams {
                arrays.s_request.push(number);
                arrays.s_id.push(Uuid::now_v7());
                arrays.s_type.push(part.stream.aggregate_type.as_str());
                arrays.s_aggregate.push(part.stream.aggregate_id);
                arrays.s_expected.push(match part.expected {
                    Expected::Any => -1,
                    Expected::Exists => -2,
                    Expected::NoStream => 0,
                    Expected::Exactly(version) => version.get(),
                });
                // At most `Append::MAX_EVENTS` a request and a bounded number of requests.
                let place = i32::try_from(arrays.s_id.len()).unwrap_or(i32::MAX);
                for event in &part.events {
                    arrays.e_stream.push(place);
                    arrays.e_id.push(event.id);
                    arrays.e_type.push(event.event_type.as_str());
                    arrays.e_version.push(event.schema_version.get());
                    arrays.e_data.push(JsonOut(&event.data));
                    arrays.e_metadata.push(JsonOut(&event.metadata));
                    arrays.e_occurred.push(event.occurred_at.map(Micros::from));
                    arrays.e_causation.push(event.causation_id);
                    arrays.e_correlation.push(event.correlation_id);
                }
            }
            if let Some(track) = &request.track {
                arrays.t_request.push(number);
                arrays.t_consumer.push(track.consumer.as_str());
                arrays.t_position.push(track.checkpoint.position());
            }
        }
        arrays
    }

    pub(crate) fn params<'s>(&'s self, tenant: &'s &'s str) -> [&'s dyn Param; 18] {
        [
            tenant,
            &self.s_request,
            &self.s_id,
            &self.s_type,
            &self.s_aggregate,
            &self.s_expected,
            &self.e_stream,
            &self.e_id,
            &self.e_type,
            &self.e_version,
            &self.e_data,
            &self.e_metadata,
            &self.e_occurred,
            &self.e_causation,
            &self.e_correlation,
            &self.t_request,
            &self.t_consumer,
            &self.t_position,
        ]
    }
}

/// A row of the answer: of a stream, or of a refused tracking.
pub(crate) struct Outcome {
    pub request: i32,
    pub stream: Option<i32>,
    pub verdict: String,
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub position: Option<i64>,
    pub actual: Option<i64>,
    pub event: Option<Uuid>,
}

impl Outcome {
    pub(crate) fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            request: row.try_get(0)?,
            stream: row.try_get(1)?,
            verdict: row.try_get(2)?,
            first: row.try_get(3)?,
            last: row.try_get(4)?,
            position: row.try_get(5)?,
            actual: row.try_get(6)?,
            event: row.try_get(7)?,
        })
    }
}

/// The answer to each request. `outcomes` stand in the order of the request's streams.
pub(crate) fn answers(requests: &[&Append], outcomes: &[Outcome], log: LogId) -> Vec<Result<Appended>> {
    let mut of = vec![Vec::new(); requests.len()];
    for outcome in outcomes {
        // Requests are numbered from 1.
        let place = usize::try_from(outcome.request - 1).ok().and_then(|place| of.get_mut(place));
        if let Some(of) = place {
            of.push(outcome);
        }
    }
    let answers = requests.iter().zip(of).map(|(request, of)| answer(request, &of, log));
    answers.map(|answer| answer.map_err(|error| error.applied(Applied::No))).collect()
}

fn answer(request: &Append, outcomes: &[&Outcome], log: LogId) -> Result<Appended> {
    if let Some(refused) = outcomes.iter().find(|outcome| outcome.verdict == "tracked") {
        let recorded = Checkpoint::new(log, refused.position.unwrap_or_default())?;
        let consumer = request.track.as_ref().map(|track| track.consumer.to_string()).unwrap_or_default();
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!("consumer {consumer:?} already recorded {recorded}, which is not before the one given"),
        )
        .with_detail(Detail::Tracked { recorded }));
    }
    let parts: Vec<_> = outcomes.iter().filter(|outcome| outcome.stream.is_some()).collect();
    if parts.len() != request.streams.len() {
        return Err(Error::new(ErrorKind::Unexpected, "the write function did not answer for every stream"));
    }
    for (part, outcome) in request.streams.iter().zip(&parts) {
        if outcome.verdict == "conflict" {
            let actual = outcome.actual.and_then(|version| Version::new(version).ok());
            return Err(Error::conflict(part.stream.clone(), part.expected, actual));
        }
    }
    if let Some(taken) = parts.iter().find(|outcome| outcome.verdict == "exists") {
        return Err(Error::exists("event", taken.event.unwrap_or_default()));
    }
    let mut position = request.track.as_ref().map_or(0, |track| track.checkpoint.position());
    if !parts.is_empty() {
        position = parts.iter().filter_map(|outcome| outcome.position).max().unwrap_or_default();
    }
    let streams = request
        .streams
        .iter()
        .zip(&parts)
        .map(|(part, outcome)| {
            Ok(AppendedStream {
                stream: part.stream.clone(),
                first: Version::new(outcome.first.unwrap_or_default())?,
                last: Version::new(outcome.last.unwrap_or_default())?,
            })
        })
        .collect::<Result<_>>()?;
    let repeated = parts.first().is_some_and(|outcome| outcome.verdict == "replayed");
    Ok(Appended { streams, checkpoint: Checkpoint::new(log, position)?, repeated })
}
