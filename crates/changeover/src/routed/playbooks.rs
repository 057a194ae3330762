//! The playbook catalog of a module that may move.

use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::backend::Family;
use changeover_core::events::Readiness;
use changeover_core::playbooks::{
    Change, GetPlaybook, ListPlaybooks, Playbook, PlaybookPage, Put, PutReport, Search, SearchResult,
    VersionsOf,
};
use changeover_core::{Capabilities, ModuleScope, OpenBackend, PlaybookCatalog, Result, TenantId};

use super::{Kept, Routed};
use crate::home::Patience;

#[async_trait]
impl Kept for dyn PlaybookCatalog {
    const FAMILY: Family = Family::Playbooks;

    async fn open(backend: &dyn OpenBackend, scope: &ModuleScope, tenant: &TenantId) -> Result<Arc<Self>> {
        backend.playbooks(scope, tenant).await
    }

    async fn close(&self) -> Result<()> {
        PlaybookCatalog::close(self).await
    }
}

#[deny(clippy::missing_trait_methods, reason = "what is left out would not follow the module")]
#[async_trait]
impl PlaybookCatalog for Routed<dyn PlaybookCatalog> {
    fn capabilities(&self) -> Capabilities {
        self.current().store.capabilities()
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        let put = |store: Arc<dyn PlaybookCatalog>| {
            let request = request.clone();
            async move { store.put(request).await }
        };
        self.call(put).await
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        let change = |store: Arc<dyn PlaybookCatalog>| {
            let request = request.clone();
            async move { store.change(request).await }
        };
        self.call(change).await
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        self.read(request).await
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        self.read(request).await
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        self.read(request).await
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        self.read(request).await
    }

    async fn ready(&self) -> Result<Readiness> {
        self.call_within(Patience::short(), |current| async move { current.store.ready().await }).await
    }

    async fn close(&self) -> Result<()> {
        self.end().await
    }
}
