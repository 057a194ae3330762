//! Pages and counts: each answer from one read transaction.

use changeover_core::audit::{ActorType, AuditFilter, AuditOrder, AuditPage, AuditQuery, Outcome};
use changeover_core::{Result, Text, Timestamp};
use diesel::SqliteConnection;

use super::decode;
use super::scan;
use super::tables::{Audit, AuditTables};
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// The filter's values, from `?2` on.
pub(super) fn filters(filter: &AuditFilter) -> [Bind<'_>; 9] {
    fn text<const MAX: usize>(value: Option<&Text<MAX>>) -> Bind<'_> {
        Bind::Optional(value.map(Text::as_str))
    }
    [
        text(filter.event_type.as_ref()),
        text(filter.event_category.as_ref()),
        Bind::Optional(filter.event_outcome.map(Outcome::as_str)),
        text(filter.service_name.as_ref()),
        Bind::Optional(filter.actor_type.map(ActorType::as_str)),
        text(filter.actor_id.as_ref()),
        text(filter.resource_type.as_ref()),
        text(filter.resource_id.as_ref()),
        text(filter.correlation_id.as_ref()),
    ]
}

pub(super) fn page(
    conn: &mut SqliteConnection,
    tables: &AuditTables,
    request: &AuditQuery,
) -> Result<AuditPage, Failure> {
    let audit = tables.open(conn)?;
    if audit.adopted {
        return scan::page(conn, &audit, request);
    }
    native_page(conn, &audit, request)
}

fn native_page(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    request: &AuditQuery,
) -> Result<AuditPage, Failure> {
    let token = request.page;
    let Some((mut low, mut high)) = range(&request.filter) else {
        return Ok(AuditPage { events: Vec::new(), next: None });
    };
    let after = token.map(|token| Timestamp::from_micros(token.at()));
    let id = token.map(|token| token.id().to_string());
    let mut binds = vec![Bind::Text(audit.tenant())];
    binds.extend(filters(&request.filter));
    let at = match (request.order, after) {
        (AuditOrder::Recorded, _) | (_, None) => None,
        (order, Some(after)) => {
            let after = after?;
            // As a bound of the range, so that the index leads there.
            match order {
                AuditOrder::OldestFirst => low = low.max(after),
                _ => high = high.min(after),
            }
            Some(after.to_string())
        }
    };
    let (low, high) = (low.to_string(), high.to_string());
    binds.extend([Bind::Text(&low), Bind::Text(&high)]);
    if request.order == AuditOrder::Recorded {
        binds.push(Bind::Int(token.map_or(0, |token| token.at())));
    } else {
        binds.extend([Bind::Optional(at.as_deref()), Bind::Optional(id.as_deref())]);
    }
    // One more shows whether there is a next page.
    binds.push(Bind::Int(i64::from(request.limit.get()) + 1));
    // No file holds more rows than that.
    binds.push(Bind::Int(i64::try_from(request.offset).unwrap_or(i64::MAX)));
    let rows = sql::rows(conn, audit.sql.page(&request.filter, request.order), &binds)?;
    let limit = request.limit.get() as usize;
    let shown = rows.iter().take(limit).map(|row| decode::event(row, audit.epoch()));
    let events: Vec<_> = shown.collect::<Result<_>>()?;
    let next = events.last().filter(|_| rows.len() > limit).map(|event| request.token_after(event));
    Ok(AuditPage { events, next })
}

pub(super) fn count(
    conn: &mut SqliteConnection,
    tables: &AuditTables,
    filter: &AuditFilter,
) -> Result<u64, Failure> {
    let audit = tables.open(conn)?;
    let Some((low, high)) = range(filter) else { return Ok(0) };
    if audit.adopted && (filter.start.is_some() || filter.end.is_some()) {
        return scan::count(conn, &audit, filter);
    }
    let (low, high) = (low.to_string(), high.to_string());
    let mut binds = vec![Bind::Text(audit.tenant())];
    binds.extend(filters(filter));
    if !audit.adopted {
        binds.extend([Bind::Text(&low), Bind::Text(&high)]);
    }
    let row = sql::first(conn, audit.sql.count(filter), &binds)?;
    Ok(row.and_then(|row| row.cell(0).as_int()).map_or(0, i64::unsigned_abs))
}

/// The times that pass, both ends included; `None` if none can.
pub(super) fn range(filter: &AuditFilter) -> Option<(Timestamp, Timestamp)> {
    let low = filter.start.unwrap_or(Timestamp::MIN);
    let high = match filter.end {
        None => Timestamp::MAX,
        Some(end) => Timestamp::from_micros(end.as_micros() - 1).ok()?,
    };
    (low <= high).then_some((low, high))
}
