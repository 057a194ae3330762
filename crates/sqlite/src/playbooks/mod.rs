//! The playbook catalog on SQLite.

mod decode;
mod matrix;
mod read;
mod search;
mod statements;
pub(crate) mod tables;
mod write;

use async_trait::async_trait;
use changeover_core::events::Readiness;
use changeover_core::playbooks::{
    Change, GetPlaybook, ListPlaybooks, Playbook, PlaybookCatalog, PlaybookPage, Put, PutReport, Search,
    SearchResult, VersionsOf,
};
use changeover_core::{Capabilities, Result};

use crate::handle::Handle;
use tables::PlaybookTables;

/// The playbooks of one module and tenant.
pub(crate) struct SqlitePlaybooks(pub(crate) Handle<PlaybookTables>);

impl SqlitePlaybooks {
    fn check(&self, operation: &'static str, valid: Result<()>) -> Result<()> {
        self.0.still_open().and(valid).map_err(|error| self.0.place(error, operation))
    }
}

#[async_trait]
impl PlaybookCatalog for SqlitePlaybooks {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        let (valid, versions) = (request.validate(), request.versions.len());
        let write = self.0.write(
            "playbooks.put",
            valid,
            versions,
            |_| false,
            move |conn, tables| write::put(conn, tables, &request),
        );
        write.await
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        let write = self.0.write(
            "playbooks.change",
            request.validate(),
            1,
            |_| false,
            move |conn, tables| write::change(conn, tables, &request),
        );
        write.await
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        self.check("playbooks.get", request.validate())?;
        self.0.read("playbooks.get", move |conn, tables| read::get(conn, tables, &request)).await
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        self.check("playbooks.list", request.validate())?;
        self.0.read("playbooks.list", move |conn, tables| read::list(conn, tables, &request)).await
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        self.0.read("playbooks.versions", move |conn, tables| read::versions(conn, tables, &request)).await
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        search::search(&self.0, request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.0.ready("playbooks.ready", |conn, tables| tables.verify(conn)).await
    }

    async fn close(&self) -> Result<()> {
        self.0.close();
        Ok(())
    }
}
