//! Reads: a page is one round trip and one snapshot.

use changeover_core::audit::{AuditEvent, AuditFilter, AuditOrder, AuditPage, AuditQuery, NewAuditEvent};

use changeover_core::{Error, Json, Result, Text, Timestamp, Uuid};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::Trail;
use crate::codec::{JsonIn, Micros};
use crate::module::unreadable;

impl Trail {
    pub(super) async fn get(&self, id: Uuid) -> Result<Option<AuditEvent>> {
        let mut conn = self.conn().await?;
        let rows = conn.read_owned(&self.gate, &self.statements.get, &[&self.tenant.as_str(), &id]).await?;
        rows.first().map(|row| event(row, 0)).transpose()
    }

    pub(super) async fn query(&self, request: &AuditQuery) -> Result<AuditPage> {
        request.validate()?;
        let wanted = request.limit.get() as usize;
        let Ok(offset) = i64::try_from(request.offset) else {
            // Beyond what any table holds.
            return Ok(AuditPage { events: Vec::new(), next: None });
        };
        let (order, by_time) = match request.order {
            AuditOrder::NewestFirst => ("newest", true),
            AuditOrder::OldestFirst => ("oldest", true),
            AuditOrder::Recorded => ("recorded", false),
        };
        let after = request.page.as_ref();
        let mut conn = self.conn().await?;
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.query,
                &[
                    &self.tenant.as_str(),
                    &values(&request.filter),
                    &request.filter.start.map(Micros::from),
                    &request.filter.end.map(Micros::from),
                    &order,
                    // One more than asked for says whether there is a next page.
                    &(i64::from(request.limit.get()) + 1),
                    &offset,
                    &after.filter(|_| by_time).map(|token| Micros(token.at())),
                    &after.map(changeover_core::audit::AuditToken::id),
                    &after.filter(|_| !by_time).map(changeover_core::audit::AuditToken::at),
                ],
            )
            .await?;
        drop(conn);
        let events = rows.iter().take(wanted).map(|row| event(row, 0)).collect::<Result<Vec<_>>>()?;
        let next = match events.last() {
            Some(last) if rows.len() > wanted => Some(request.token_after(last)),
            _ => None,
        };
        Ok(AuditPage { events, next })
    }

    pub(super) async fn count(&self, filter: &AuditFilter) -> Result<u64> {
        filter.validate()?;
        let mut conn = self.conn().await?;
        let (start, end) = (filter.start.map(Micros::from), filter.end.map(Micros::from));
        let rows = conn
            .read_owned(
                &self.gate,
                &self.statements.count,
                &[&self.tenant.as_str(), &values(filter), &start, &end],
            )
            .await?;
        let count: i64 = get(rows.first().ok_or_else(unreadable)?, 0)?;
        u64::try_from(count).map_err(|_| unreadable())
    }
}

/// The filter's values as the read functions take them.
fn values(filter: &AuditFilter) -> Vec<Option<&str>> {
    fn text<const MAX: usize>(value: Option<&Text<MAX>>) -> Option<&str> {
        value.map(Text::as_str)
    }
    vec![
        text(filter.event_type.as_ref()),
        text(filter.event_category.as_ref()),
        filter.event_outcome.map(changeover_core::audit::Outcome::as_str),
        text(filter.service_name.as_ref()),
        filter.actor_type.map(changeover_core::audit::ActorType::as_str),
        text(filter.actor_id.as_ref()),
        text(filter.resource_type.as_ref()),
        text(filter.resource_id.as_ref()),
        text(filter.correlation_id.as_ref()),
    ]
}

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|_| unreadable())
}

/// The event of a row, whose columns begin at `first` in the order of the statements.
pub(super) fn event(row: &Row, first: usize) -> Result<AuditEvent> {
    let id: Uuid = get(row, first)?;
    let at = |place: usize| first + place;
    let corrupt = |column: &'static str| Trail::corrupt(id, column);
    let json = |place: usize, column: &'static str| {
        Json::from_bytes(get::<JsonIn<'_>>(row, at(place))?.0).map_err(|error| {
            // What the reader says names a place, and may quote nothing.
            corrupt(column)(Error::new(error.kind(), "not JSON as the contract has it"))
        })
    };
    let time = |place: usize, column: &'static str| {
        Timestamp::from_micros(get::<Micros>(row, at(place))?.0).map_err(corrupt(column))
    };
    let word = |place: usize| get::<&str>(row, at(place));
    // A function of its own for each length.
    macro_rules! text {
        ($place:literal, $column:literal) => {
            Text::new($column, word($place)?).map_err(corrupt($column))?
        };
    }
    macro_rules! optional {
        ($place:literal, $column:literal) => {
            get::<Option<&str>>(row, at($place))?
                .map(|text| Text::new($column, text))
                .transpose()
                .map_err(corrupt($column))?
        };
    }
    let event = NewAuditEvent {
        event_id: id,
        event_type: text!(1, "event_type"),
        event_category: text!(2, "event_category"),
        event_outcome: word(3)?.parse().map_err(corrupt("event_outcome"))?,
        event_timestamp: time(4, "event_timestamp")?,
        service_name: text!(5, "service_name"),
        service_version: optional!(6, "service_version"),
        actor_type: word(7)?.parse().map_err(corrupt("actor_type"))?,
        actor_id: optional!(8, "actor_id"),
        actor_name: optional!(9, "actor_name"),
        resource_type: text!(10, "resource_type"),
        resource_id: text!(11, "resource_id"),
        resource_name: optional!(12, "resource_name"),
        event_data: json(13, "event_data")?,
        correlation_id: optional!(14, "correlation_id"),
        parent_event_id: get(row, at(15))?,
        trace_id: optional!(16, "trace_id"),
        span_id: optional!(17, "span_id"),
        metadata: json(18, "metadata")?,
    };
    Ok(AuditEvent { event, recorded_at: time(19, "recorded_at")?, sequence: get(row, at(20))? })
}
