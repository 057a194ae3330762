//! Playbook catalogs that are broken on purpose.

mod expected;
mod reads;
mod searches;
mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use changeover_conformance::{Family, Subject};
use changeover_core::events::Readiness;
use changeover_core::playbooks::{
    Change, GetPlaybook, ListPlaybooks, Playbook, PlaybookPage, Put, PutReport, Search, SearchResult,
    VersionsOf,
};
use changeover_core::{Capabilities, PlaybookCatalog, Result, TenantId};

use super::{Place, Spoils};

pub(super) use expected::EXPECTED;

pub(super) fn subjects() -> Vec<Subject> {
    [writes::subjects(), reads::subjects(), searches::subjects()].concat()
}

fn subject<F: Flaw>() -> Subject {
    Subject::of::<Place<Over<F>>>()
}

/// What is wrong with a catalog. What a flaw leaves out is as it should be.
#[async_trait]
trait Flaw: Default + Send + Sync + 'static {
    const NAME: &'static str;

    async fn put(&self, catalog: &dyn PlaybookCatalog, request: Put) -> Result<PutReport> {
        catalog.put(request).await
    }

    async fn get(&self, catalog: &dyn PlaybookCatalog, request: GetPlaybook) -> Result<Option<Playbook>> {
        catalog.get(request).await
    }

    async fn list(&self, catalog: &dyn PlaybookCatalog, request: ListPlaybooks) -> Result<PlaybookPage> {
        catalog.list(request).await
    }

    async fn versions(&self, catalog: &dyn PlaybookCatalog, request: VersionsOf) -> Result<PlaybookPage> {
        catalog.versions(request).await
    }

    async fn search(&self, catalog: &dyn PlaybookCatalog, request: Search) -> Result<SearchResult> {
        catalog.search(request).await
    }

    async fn close(&self, catalog: &dyn PlaybookCatalog) -> Result<()> {
        catalog.close().await
    }

    /// What is shown of a version, wherever it is shown.
    fn shown(&self, _playbook: &mut Playbook) {}

    /// Whose playbooks are shown to a tenant.
    fn tenant(&self, tenant: &TenantId) -> TenantId {
        tenant.clone()
    }
}

/// A flaw of the catalog as one of a backend.
#[derive(Default)]
struct Over<F>(F);

impl<F: Flaw> Spoils for Over<F> {
    const NAME: &'static str = F::NAME;
    const STORE: &'static [Family] = &[Family::Playbooks];

    fn tenant(&self, tenant: &TenantId) -> TenantId {
        self.0.tenant(tenant)
    }

    fn playbooks(self: Arc<Self>, inner: Arc<dyn PlaybookCatalog>) -> Arc<dyn PlaybookCatalog> {
        Arc::new(Broken { inner, flaw: self })
    }
}

struct Broken<F> {
    inner: Arc<dyn PlaybookCatalog>,
    flaw: Arc<Over<F>>,
}

#[async_trait]
impl<F: Flaw> PlaybookCatalog for Broken<F> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        self.flaw.0.put(&*self.inner, request).await
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        let mut changed = self.inner.change(request).await?;
        self.flaw.0.shown(&mut changed);
        Ok(changed)
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        let mut found = self.flaw.0.get(&*self.inner, request).await?;
        if let Some(found) = &mut found {
            self.flaw.0.shown(found);
        }
        Ok(found)
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        let mut page = self.flaw.0.list(&*self.inner, request).await?;
        page.playbooks.iter_mut().for_each(|found| self.flaw.0.shown(found));
        Ok(page)
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        let mut page = self.flaw.0.versions(&*self.inner, request).await?;
        page.playbooks.iter_mut().for_each(|found| self.flaw.0.shown(found));
        Ok(page)
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        let mut result = self.flaw.0.search(&*self.inner, request).await?;
        result.matches.iter_mut().for_each(|found| self.flaw.0.shown(&mut found.playbook));
        Ok(result)
    }

    async fn ready(&self) -> Result<Readiness> {
        self.inner.ready().await
    }

    async fn close(&self) -> Result<()> {
        self.flaw.0.close(&*self.inner).await
    }
}
