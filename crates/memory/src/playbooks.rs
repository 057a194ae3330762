//! The playbook catalog over a [`Catalog`]: the lock, the closed handles, and embedding, which may wait.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use changeover_core::events::Readiness;
use changeover_core::playbooks::{
    Candidate, Change, Embedding, GetPlaybook, ListPlaybooks, Match, Playbook, PlaybookPage, Put, PutReport,
    Search, SearchResult, VersionsOf, embed, embedding_text, rank,
};
use changeover_core::{Applied, Capabilities, ModuleScope, PlaybookCatalog, Result, TenantId};

use crate::catalog::Catalog;
use crate::latch::Latch;
use crate::{OpenMemory, Shared, capabilities};

/// The handle of one module and tenant.
pub(crate) struct MemoryPlaybooks {
    shared: Arc<Shared>,
    scope: ModuleScope,
    tenant: TenantId,
    hash_chain: bool,
    latch: Latch,
}

impl MemoryPlaybooks {
    pub(crate) fn new(backend: &OpenMemory, scope: ModuleScope, tenant: TenantId) -> Self {
        let latch = Latch::new(&backend.closed);
        Self { shared: Arc::clone(&backend.shared), scope, tenant, hash_chain: backend.hash_chain, latch }
    }

    /// Does `work` on the catalog, unless the handle was closed, and names the operation in its error.
    async fn with_catalog<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Catalog) -> Result<T>,
    ) -> Result<T> {
        self.latch.check(operation).await?;
        work(self.shared.catalogs().entry(self.scope.clone()).or_default())
            .map_err(|error| error.during(operation))
    }

    async fn find(&self, request: &Search) -> Result<SearchResult> {
        let query = request.vector().await?;
        // The lock is not held while an embedder may wait.
        let found = self
            .with_catalog("playbooks.search", |catalog| Ok(catalog.candidates(&self.tenant, request)))
            .await?;
        let vectors = vectors(request, &found).await?;
        let candidates = found.iter().zip(&vectors).map(|(found, vector)| Candidate {
            playbook_id: found.playbook.playbook_id.clone(),
            version: found.playbook.version.clone(),
            confidence: query.confidence(vector),
        });
        let best = rank(candidates, request.min_confidence, request.max_results);
        // One version of a playbook is the latest, so its id names it.
        let mut found: HashMap<_, _> =
            found.into_iter().map(|found| (found.playbook.playbook_id.clone(), found)).collect();
        let matches = best.into_iter().filter_map(|candidate| {
            let playbook = found.remove(&candidate.playbook_id)?;
            Some(Match { playbook, confidence: candidate.confidence })
        });
        Ok(SearchResult { matches: matches.collect() })
    }
}

/// The vector of each, made where there is none.
async fn vectors(request: &Search, found: &[Playbook]) -> Result<Vec<Embedding>> {
    let texts: Vec<_> = found
        .iter()
        .filter(|found| found.playbook.embedding.is_none())
        .map(|found| embedding_text(&found.playbook))
        .collect();
    let mut made = embed(&*request.embedder, &texts).await?.into_iter();
    Ok(found.iter().filter_map(|found| found.playbook.embedding.clone().or_else(|| made.next())).collect())
}

#[async_trait]
impl PlaybookCatalog for MemoryPlaybooks {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.hash_chain)
    }

    async fn put(&self, request: Put) -> Result<PutReport> {
        let now = (self.shared.clock)();
        self.with_catalog("playbooks.put", |catalog| catalog.put(&self.tenant, request, now))
            .await
            .map_err(|error| error.applied(Applied::No))
    }

    async fn change(&self, request: Change) -> Result<Playbook> {
        let now = (self.shared.clock)();
        self.with_catalog("playbooks.change", |catalog| catalog.change(&self.tenant, request, now))
            .await
            .map_err(|error| error.applied(Applied::No))
    }

    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>> {
        self.with_catalog("playbooks.get", |catalog| catalog.get(&self.tenant, &request)).await
    }

    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage> {
        self.with_catalog("playbooks.list", |catalog| catalog.list(&self.tenant, &request)).await
    }

    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage> {
        self.with_catalog("playbooks.versions", |catalog| catalog.versions(&self.tenant, &request)).await
    }

    async fn search(&self, request: Search) -> Result<SearchResult> {
        let operation = "playbooks.search";
        self.with_catalog(operation, |_| request.validate()).await?;
        self.find(&request).await.map_err(|error| error.during(operation))
    }

    async fn ready(&self) -> Result<Readiness> {
        let notes = vec!["records in memory, which end with the process".to_owned()];
        self.with_catalog("playbooks.ready", |_| Ok(Readiness { notes })).await
    }

    async fn close(&self) -> Result<()> {
        self.latch.close();
        Ok(())
    }
}
