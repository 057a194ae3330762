//! `audit query` and `audit export`.

use changeover::audit::{AuditEvent, AuditOrder, AuditQuery, AuditRepositoryExt, AuditToken};
use changeover::{AuditRepository, Limit, Timestamp};
use serde::Serialize;

use super::line::stored;
use crate::args::{AuditFilter, Query};
use crate::exit::{Failure, Status};
use crate::output::{Out, short};

pub async fn query(
    repository: &dyn AuditRepository,
    options: Query,
    out: &mut Out,
) -> Result<Status, Failure> {
    let filter = options.filter.at(Timestamp::now());
    filter.validate().map_err(|error| Failure::usage(error.message()))?;
    if options.count {
        let count = repository.count(filter).await?;
        if out.is_json() {
            out.object(&Count { count })?;
        } else {
            out.line(&count.to_string())?;
        }
        return Ok(Status::Done);
    }
    let (order, offset, page) = (options.order.into(), options.offset, options.page);
    let request = AuditQuery { filter, order, limit: options.limit, offset, page };
    request.validate().map_err(|error| Failure::usage(error.message()))?;
    let page = repository.query(request.clone()).await?;
    print(&page.events, out)?;
    if let Some(next) = page.next {
        out.note(&format!("more match: {} goes on from here", going_on(&request, next)))?;
    }
    Ok(Status::Done)
}

#[derive(Serialize)]
struct Count {
    count: u64,
}

/// The options that change for the next page: a span before now would no longer mean the same.
fn going_on(request: &AuditQuery, next: AuditToken) -> String {
    let time = |option: &str, at: Option<Timestamp>| {
        at.map_or_else(String::new, |at| format!("--{option} {} ", short(at)))
    };
    format!("{}{}--page {next}", time("start", request.filter.start), time("end", request.filter.end))
}

/// Records as a table, or one object a line.
pub fn print(events: &[AuditEvent], out: &mut Out) -> Result<(), Failure> {
    if out.is_json() {
        return events.iter().try_for_each(|event| out.object(&stored(event)?));
    }
    let headings = ["event_timestamp", "event_type", "outcome", "service", "actor", "resource", "event_id"];
    let rows: Vec<_> = events.iter().map(row).collect();
    out.rows(headings, &rows)
}

fn row(AuditEvent { event, .. }: &AuditEvent) -> [String; 7] {
    let actor = event.actor_name.as_ref().or(event.actor_id.as_ref());
    [
        short(event.event_timestamp),
        event.event_type.to_string(),
        event.event_outcome.to_string(),
        event.service_name.to_string(),
        actor.map_or_else(|| event.actor_type.to_string(), |actor| format!("{} {actor}", event.actor_type)),
        format!("{} {}", event.resource_type, event.resource_id),
        event.event_id.to_string(),
    ]
}

/// Everything that passes the filter, as lines that import reads, in recorded order.
pub async fn export(
    repository: &dyn AuditRepository,
    filter: &AuditFilter,
    page: Option<AuditToken>,
    out: &mut Out,
) -> Result<Status, Failure> {
    let filter = filter.at(Timestamp::now());
    let first = AuditQuery { filter, order: AuditOrder::Recorded, limit: Limit::default(), offset: 0, page };
    first.validate().map_err(|error| Failure::usage(error.message()))?;
    let (mut count, mut last): (u64, _) = (0, page);
    let mut pages = repository.pages(first.clone());
    while let Some(page) = pages.next().await? {
        count += page.events.len() as u64;
        for event in &page.events {
            out.line(event.event.to_json().as_str())?;
        }
        last = page.events.last().map(|event| first.token_after(event)).or(last);
    }
    let after =
        last.map_or_else(String::new, |last| format!("; {} goes on from here", going_on(&first, last)));
    out.note(&format!("{count} records{after}"))?;
    Ok(Status::Done)
}
