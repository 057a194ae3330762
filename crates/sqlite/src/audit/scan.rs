//! Pages and counts of an adopted file.
//!
//! Old programs wrote times with different offsets, so their text has no order: SQL passes on what the other filters
//! let through, and times are compared here. A page in time order reads the time of each such row, about a second a
//! million; a correlation id finds its rows by the index of the legacy table. Pages in recorded order read no more than
//! they show and pass over.
//!
//! A time that cannot be read passes no filter of times. In time order it has no place, so it comes last: the pages
//! before hold every valid event, and the one that would hold the row names it.

use std::cmp::Reverse;
use std::ops::ControlFlow;

use changeover_core::audit::{AuditFilter, AuditOrder, AuditPage, AuditQuery};
use changeover_core::{Error, Result, Timestamp, Uuid};
use diesel::SqliteConnection;

use super::decode::{TABLE, time_in};
use super::query::{filters, range};
use super::tables::Audit;
use crate::classify::Failure;
use crate::sql::{self, Bind, Row};
use crate::values::parse_id;

/// A row that passes the filters.
struct Found {
    place: i64,
    /// `None` if it cannot be read.
    at: Option<Timestamp>,
    /// Nil if it cannot be read; showing the row says so.
    id: Uuid,
}

/// Gives every row that passes all filters to `take`, as recorded, after `place`.
fn each(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    filter: &AuditFilter,
    place: i64,
    mut take: impl FnMut(Found) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let Some((low, high)) = range(filter) else { return Ok(()) };
    let timed = filter.start.is_some() || filter.end.is_some();
    let mut binds = vec![Bind::Text(audit.tenant())];
    binds.extend(filters(filter));
    binds.push(Bind::Int(place));
    sql::each(conn, audit.sql.scan(filter), &binds, |row: Row| {
        let at = time_in(row.cell(1), audit.epoch());
        if timed && !at.is_some_and(|at| low <= at && at <= high) {
            return Ok(ControlFlow::Continue(()));
        }
        let id = row.cell(2).as_str().and_then(parse_id).unwrap_or_default();
        Ok(take(Found { place: row.cell(0).as_int().unwrap_or_default(), at, id }))
    })
}

pub(super) fn count(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    filter: &AuditFilter,
) -> Result<u64, Failure> {
    let mut count = 0;
    each(conn, audit, filter, i64::MIN, |_| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

pub(super) fn page(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    request: &AuditQuery,
) -> Result<AuditPage, Failure> {
    let limit = request.limit.get() as usize;
    // One more shows whether there is a next page.
    let mut places = match request.order {
        AuditOrder::Recorded => recorded(conn, audit, request, limit + 1)?,
        AuditOrder::NewestFirst => by_time(conn, audit, request, limit + 1, |at, id| (Reverse(at), id))?,
        AuditOrder::OldestFirst => by_time(conn, audit, request, limit + 1, |at, id| (at, Reverse(id)))?,
    };
    let more = places.len() > limit;
    places.truncate(limit);
    let mut events = Vec::with_capacity(places.len());
    for place in places {
        let event = audit.event_at(conn, place)?;
        let gone =
            || Error::corrupt(TABLE, format!("rowid {place}"), "rowid", "finds no row: its index is damaged");
        events.push(event.ok_or_else(gone)?);
    }
    let next = events.last().filter(|_| more).map(|event| request.token_after(event));
    Ok(AuditPage { events, next })
}

fn recorded(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    request: &AuditQuery,
    wanted: usize,
) -> Result<Vec<i64>, Failure> {
    let (mut pass_over, mut places) = (request.offset, Vec::new());
    let after = request.page.map_or(i64::MIN, |token| token.at());
    each(conn, audit, &request.filter, after, |found| {
        if pass_over > 0 {
            pass_over -= 1;
        } else {
            places.push(found.place);
        }
        if places.len() < wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(places)
}

/// The places of the first `wanted` rows behind offset and token, in the order of `key`; rows without a time last.
fn by_time<K: Ord + Copy>(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    request: &AuditQuery,
    wanted: usize,
    key: impl Fn(Timestamp, Uuid) -> K,
) -> Result<Vec<i64>, Failure> {
    let token =
        request.page.map(|token| Ok::<_, Error>(key(Timestamp::from_micros(token.at())?, token.id())));
    let token = token.transpose()?;
    let offset = usize::try_from(request.offset).unwrap_or(usize::MAX);
    let kept = offset.saturating_add(wanted);
    let (mut found, mut timeless) = (Vec::new(), Vec::new());
    each(conn, audit, &request.filter, i64::MIN, |row| {
        let Some(at) = row.at else {
            timeless.push(row.place);
            return ControlFlow::Continue(());
        };
        let key = key(at, row.id);
        if token.is_none_or(|token| token < key) {
            found.push((key, row.place));
            // Sorting out only now and then keeps this linear.
            if found.len() >= kept.saturating_mul(2).max(1_024) {
                found.select_nth_unstable(kept);
                found.truncate(kept);
            }
        }
        ControlFlow::Continue(())
    })?;
    found.sort_unstable();
    let places = found.into_iter().map(|(_, place)| place).chain(timeless);
    Ok(places.skip(offset).take(wanted).collect())
}
