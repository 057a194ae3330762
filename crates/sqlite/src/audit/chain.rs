//! The hash chains: one for each correlation id, its last record kept apart, and an anchor where retention removed.

use changeover_core::audit::{ChainHead, ChainReport, ChainWalk, Link, NewAuditEvent};
use changeover_core::{Error, Result};
use diesel::SqliteConnection;
use std::ops::ControlFlow;

use super::decode;
use super::statements::column;
use super::tables::{Audit, AuditTables};
use crate::classify::Failure;
use crate::schema::render;
use crate::sql::{self, Bind, Row};
use crate::values::parse_id;

/// `?1` tenant, `?2` correlation id.
#[derive(Debug)]
pub(crate) struct ChainStatements {
    head: String,
    /// `?3` event, `?4` link.
    set_head: String,
    move_head: String,
    anchors: String,
    /// `?3` place, `?4` link.
    pub(super) set_anchor: String,
    /// Anchors before `?3` between which and there no record is kept.
    pub(super) merge_anchors: String,
}

impl ChainStatements {
    pub(super) fn new(prefix: &str) -> Self {
        let made = |sql: &str| render(sql, prefix);
        Self {
            head: made("SELECT event_id, link FROM audit_chain WHERE tenant_id = ?1 AND correlation_id = ?2"),
            set_head: made(
                "INSERT INTO audit_chain (tenant_id, correlation_id, event_id, link) VALUES (?1, ?2, ?3, ?4)",
            ),
            move_head: made(
                "UPDATE audit_chain SET event_id = ?3, link = ?4 WHERE tenant_id = ?1 AND correlation_id = ?2",
            ),
            anchors: made(
                "SELECT sequence, link FROM audit_anchor WHERE tenant_id = ?1 AND correlation_id = ?2
                 ORDER BY sequence",
            ),
            set_anchor: made(
                "INSERT INTO audit_anchor (tenant_id, correlation_id, sequence, link) VALUES (?1, ?2, ?3, ?4)",
            ),
            merge_anchors: made(
                "DELETE FROM audit_anchor WHERE tenant_id = ?1 AND correlation_id = ?2 AND EXISTS (
                    SELECT 1 FROM audit_anchor n WHERE n.tenant_id = ?1 AND n.correlation_id = ?2
                    AND n.sequence > audit_anchor.sequence AND NOT EXISTS (
                        SELECT 1 FROM audit_events e WHERE e.tenant_id = ?1 AND e.correlation_id = ?2
                        AND e.sequence > audit_anchor.sequence AND e.sequence < n.sequence))",
            ),
        }
    }
}

/// A chain's end while records are added to it.
pub(super) struct Tail {
    head: Option<ChainHead>,
    stored: bool,
}

impl Tail {
    pub(super) fn of(
        audit: &Audit<'_>,
        conn: &mut SqliteConnection,
        correlation: &str,
    ) -> Result<Self, Failure> {
        let head = head(audit, conn, correlation)?;
        Ok(Self { stored: head.is_some(), head })
    }

    /// The link of the next record.
    pub(super) fn extend(&mut self, event: &NewAuditEvent) -> Link {
        let link = Link::of(self.head.as_ref().map(|head| &head.link), event);
        self.head = Some(ChainHead { event_id: event.event_id, link: link.link });
        link
    }

    pub(super) fn store(
        &self,
        audit: &Audit<'_>,
        conn: &mut SqliteConnection,
        correlation: &str,
    ) -> Result<(), Failure> {
        let Some(head) = &self.head else { return Ok(()) };
        let sql = if self.stored { &audit.chain().move_head } else { &audit.chain().set_head };
        let id = head.event_id.to_string();
        let binds = [
            Bind::Text(audit.tenant()),
            Bind::Text(correlation),
            Bind::Text(&id),
            Bind::Blob(Some(&head.link)),
        ];
        sql::execute(conn, sql, &binds)?;
        Ok(())
    }
}

fn head(
    audit: &Audit<'_>,
    conn: &mut SqliteConnection,
    correlation: &str,
) -> Result<Option<ChainHead>, Failure> {
    let binds = [Bind::Text(audit.tenant()), Bind::Text(correlation)];
    let Some(row) = sql::first(conn, &audit.chain().head, &binds)? else { return Ok(None) };
    let corrupt =
        |column| Error::corrupt("audit_chain", "a correlation id", column, "is not as it was stored");
    Ok(Some(ChainHead {
        event_id: row.cell(0).as_str().and_then(parse_id).ok_or_else(|| corrupt("event_id"))?,
        link: digest(&row, 1).ok_or_else(|| corrupt("link"))?,
    }))
}

pub(super) fn digest(row: &Row, index: usize) -> Option<[u8; 32]> {
    row.cell(index).as_blob()?.try_into().ok()
}

pub(super) fn verify(
    conn: &mut SqliteConnection,
    tables: &AuditTables,
    correlation: &str,
) -> Result<ChainReport, Failure> {
    let audit = tables.open(conn)?;
    let binds = [Bind::Text(audit.tenant()), Bind::Text(correlation)];
    let head = head(&audit, conn, correlation)?;
    let mut anchors = Vec::new();
    for row in sql::rows(conn, &audit.chain().anchors, &binds)? {
        let link = digest(&row, 1);
        let link =
            link.ok_or_else(|| Error::corrupt("audit_anchor", "a correlation id", "link", "is no digest"))?;
        anchors.push((row.cell(0).as_int().unwrap_or_default(), link));
    }
    let mut anchors = anchors.into_iter().peekable();
    let mut walk = ChainWalk::new();
    sql::each(conn, &audit.sql.chain, &binds, |row| {
        let event = decode::event(&row, audit.epoch())?;
        while let Some((_, link)) = anchors.next_if(|(place, _)| *place < event.sequence) {
            walk.anchor(link);
        }
        let kept = digest(&row, column::DIGEST).zip(digest(&row, column::LINK));
        walk.record(&event.event, kept.map(|(content, link)| Link { content, link }).as_ref());
        Ok(ControlFlow::Continue(()))
    })?;
    for (_, link) in anchors {
        walk.anchor(link);
    }
    Ok(walk.end(head.as_ref()))
}
