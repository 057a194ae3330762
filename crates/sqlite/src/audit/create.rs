//! A batch of audit events inside of a write transaction: judged as a whole by reading, then written.
//!
//! The judgement writes nothing, so a refusal needs no savepoint and leaves the transaction as it was for the writes
//! that share it.

use std::collections::{BTreeMap, HashSet};

use changeover_core::audit::{Create, Created, NewAuditEvent};
use changeover_core::{Error, ErrorKind, Result, Text, Timestamp, Uuid};
use diesel::SqliteConnection;

use super::chain::Tail;
use super::tables::{Audit, AuditTables};
use crate::classify::Failure;
use crate::sql::{self, Bind};

/// Judges and writes. In a write transaction, so that nothing changes between the two.
pub(crate) fn create(
    conn: &mut SqliteConnection,
    tables: &AuditTables,
    request: &Create,
) -> Result<Created, Failure> {
    let audit = tables.open(conn)?;
    let now = audit.now(conn)?;
    request.check_times(now)?;
    let mut new = Vec::new();
    for event in &request.events {
        match audit.event(conn, event.event_id)? {
            None => new.push(event),
            Some(stored) if stored.event == *event => {}
            Some(_) => return Err(Error::exists("audit event", event.event_id).into()),
        }
    }
    let parents = parents(conn, &audit, &new)?;
    let mut tails: BTreeMap<&str, Tail> = BTreeMap::new();
    for event in &new {
        let correlation = event.correlation_id.as_ref().filter(|_| audit.chained);
        let mut link = None;
        if let Some(correlation) = correlation {
            let correlation = correlation.as_str();
            if !tails.contains_key(correlation) {
                tails.insert(correlation, Tail::of(&audit, conn, correlation)?);
            }
            link = tails.get_mut(correlation).map(|tail| tail.extend(event));
        }
        let (digest, link) = match link {
            Some(link) => (link.content, Some(link.link)),
            None => (event.content_digest(), None),
        };
        insert(conn, &audit, event, &parents, now, (&digest, link.as_ref()))?;
    }
    for (correlation, tail) in &tails {
        tail.store(&audit, conn, correlation)?;
    }
    Ok(Created { stored: new.len(), repeated: request.events.len() - new.len() })
}

/// The parents that are stored already, as they are spelled there. `NotFound` for one that is neither stored nor earlier
/// in the batch.
fn parents(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    new: &[&NewAuditEvent],
) -> Result<BTreeMap<Uuid, String>, Failure> {
    let (mut earlier, mut stored) = (HashSet::new(), BTreeMap::new());
    for event in new {
        if let Some(parent) = event.parent_event_id
            && !earlier.contains(&parent)
            && !stored.contains_key(&parent)
        {
            let spelled = audit.stored_id(conn, parent)?.ok_or_else(|| {
                let message = format!(
                    "parent {parent} of audit event {} is not stored, and not earlier in the batch; store it first",
                    event.event_id
                );
                Error::new(ErrorKind::NotFound, message)
            })?;
            stored.insert(parent, spelled);
        }
        earlier.insert(event.event_id);
    }
    Ok(stored)
}

fn insert(
    conn: &mut SqliteConnection,
    audit: &Audit<'_>,
    event: &NewAuditEvent,
    parents: &BTreeMap<Uuid, String>,
    now: Timestamp,
    (digest, link): (&[u8; 32], Option<&[u8; 32]>),
) -> Result<(), Failure> {
    let id = event.event_id.to_string();
    let at = event.event_timestamp.to_string();
    let date = event.event_timestamp.date().to_string();
    let parent = event.parent_event_id.map(|parent| match parents.get(&parent) {
        Some(spelled) => spelled.clone(),
        None => parent.to_string(),
    });
    let now = now.to_string();
    let mut binds = vec![
        // An adopted file has no place for the tenant, and its statement leaves the number out.
        Bind::Text(audit.tenant()),
        Bind::Text(&id),
        Bind::Text(event.event_type.as_str()),
        Bind::Text(event.event_category.as_str()),
        Bind::Text(event.event_outcome.as_str()),
        Bind::Text(&at),
        Bind::Text(&date),
        Bind::Text(event.service_name.as_str()),
        Bind::Optional(event.service_version.as_ref().map(Text::as_str)),
        Bind::Text(event.actor_type.as_str()),
        Bind::Optional(event.actor_id.as_ref().map(Text::as_str)),
        Bind::Optional(event.actor_name.as_ref().map(Text::as_str)),
        Bind::Text(event.resource_type.as_str()),
        Bind::Text(event.resource_id.as_str()),
        Bind::Optional(event.resource_name.as_ref().map(Text::as_str)),
        Bind::Text(event.event_data.as_str()),
        Bind::Optional(event.correlation_id.as_ref().map(Text::as_str)),
        Bind::Optional(parent.as_deref()),
        Bind::Optional(event.trace_id.as_ref().map(Text::as_str)),
        Bind::Optional(event.span_id.as_ref().map(Text::as_str)),
        Bind::Text(event.metadata.as_str()),
    ];
    if !audit.adopted {
        binds.extend([
            Bind::Text(&now),
            Bind::Blob(Some(digest)),
            Bind::Blob(link.map(<[u8; 32]>::as_slice)),
        ]);
    }
    sql::execute(conn, &audit.sql.insert, &binds)?;
    Ok(())
}
