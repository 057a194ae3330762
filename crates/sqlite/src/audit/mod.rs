//! The audit repository on SQLite.

mod chain;
pub(crate) mod create;
mod decode;
mod query;
mod retain;
mod scan;
mod statements;
pub(crate) mod tables;

use async_trait::async_trait;
use changeover_core::audit::{
    AuditEvent, AuditFilter, AuditPage, AuditQuery, AuditRepository, ChainReport, Create, Created, Retain,
    Retained, VerifyChain,
};
use changeover_core::events::Readiness;
use changeover_core::{Capabilities, Result, Uuid};

use crate::handle::Handle;
use tables::AuditTables;

/// The audit events of one module and tenant.
pub(crate) struct SqliteAudit(pub(crate) Handle<AuditTables>);

impl SqliteAudit {
    fn check(&self, operation: &'static str, valid: Result<()>) -> Result<()> {
        self.0.still_open().and(valid).map_err(|error| self.0.place(error, operation))
    }
}

#[async_trait]
impl AuditRepository for SqliteAudit {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(&self, request: Create) -> Result<Created> {
        let (valid, events) = (request.validate(), request.events.len());
        let write = self.0.write(
            "audit.create",
            valid,
            events,
            |_| false,
            move |conn, tables| create::create(conn, tables, &request),
        );
        write.await
    }

    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>> {
        self.0.read("audit.get", move |conn, tables| tables.open(conn)?.event(conn, event_id)).await
    }

    async fn query(&self, request: AuditQuery) -> Result<AuditPage> {
        self.check("audit.query", request.validate())?;
        self.0.read("audit.query", move |conn, tables| query::page(conn, tables, &request)).await
    }

    async fn count(&self, filter: AuditFilter) -> Result<u64> {
        self.check("audit.count", filter.validate())?;
        self.0.read("audit.count", move |conn, tables| query::count(conn, tables, &filter)).await
    }

    async fn verify(&self, request: VerifyChain) -> Result<ChainReport> {
        self.check("audit.verify", self.capabilities().hash_chain.require("a hash chain"))?;
        let verify = self.0.read("audit.verify", move |conn, tables| {
            chain::verify(conn, tables, request.correlation_id.as_str())
        });
        verify.await
    }

    async fn retain(&self, request: Retain) -> Result<Retained> {
        let (valid, events) = (request.validate(), request.limit.get() as usize);
        let write = self.0.write(
            "audit.retain",
            valid,
            events,
            |_| false,
            move |conn, tables| retain::retain(conn, tables, &request),
        );
        write.await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready("audit.ready", |conn, tables| tables.verify(conn)).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}
