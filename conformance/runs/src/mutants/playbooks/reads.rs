//! Versions and pages that are shown wrongly.

use std::cmp::Reverse;

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::playbooks::{GetPlaybook, ListPlaybooks, Lookup, Playbook, PlaybookPage, VersionsOf};
use changeover_core::{Limit, PlaybookCatalog, Result};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<TextOrder>(),
        subject::<AfterInclusive>(),
        subject::<AlwaysMore>(),
        subject::<OlderOffered>(),
        subject::<SpellingsAreOne>(),
        subject::<HashFindsFirst>(),
    ]
}

fn all() -> Limit {
    // Cannot fail: it is the largest limit.
    Limit::new(i64::from(Limit::MAX)).expect("a limit")
}

#[derive(Default)]
struct TextOrder;

#[async_trait]
impl Flaw for TextOrder {
    const NAME: &'static str = "versions are ordered as text";

    async fn versions(&self, catalog: &dyn PlaybookCatalog, request: VersionsOf) -> Result<PlaybookPage> {
        let of = VersionsOf { below: None, limit: all(), ..request.clone() };
        let mut playbooks = catalog.versions(of).await?.playbooks;
        let text = |found: &Playbook| found.playbook.version.to_string();
        playbooks.sort_by_key(|found| Reverse(text(found)));
        if let Some(below) = request.below {
            playbooks.retain(|found| text(found) < below.to_string());
        }
        let more = playbooks.len() > request.limit.get() as usize;
        playbooks.truncate(request.limit.get() as usize);
        Ok(PlaybookPage { playbooks, more })
    }
}

#[derive(Default)]
struct AfterInclusive;

#[async_trait]
impl Flaw for AfterInclusive {
    const NAME: &'static str = "a page of the list begins with the id it should begin after";

    async fn list(&self, catalog: &dyn PlaybookCatalog, request: ListPlaybooks) -> Result<PlaybookPage> {
        let after = request.after.clone();
        let mut page = catalog.list(request.clone()).await?;
        if let Some(after) = after {
            let first = ListPlaybooks { after: None, limit: all(), ..request };
            let found = catalog.list(first).await?.playbooks.into_iter();
            page.playbooks.splice(0..0, found.filter(|found| found.playbook.playbook_id == after));
        }
        Ok(page)
    }
}

#[derive(Default)]
struct AlwaysMore;

#[async_trait]
impl Flaw for AlwaysMore {
    const NAME: &'static str = "a full page of versions promises another";

    async fn versions(&self, catalog: &dyn PlaybookCatalog, request: VersionsOf) -> Result<PlaybookPage> {
        let limit = request.limit.get() as usize;
        let mut page = catalog.versions(request).await?;
        page.more |= page.playbooks.len() == limit;
        Ok(page)
    }
}

#[derive(Default)]
struct OlderOffered;

#[async_trait]
impl Flaw for OlderOffered {
    const NAME: &'static str = "the latest active version is an older one where the latest is not active";

    async fn get(&self, catalog: &dyn PlaybookCatalog, request: GetPlaybook) -> Result<Option<Playbook>> {
        let found = catalog.get(request.clone()).await?;
        if found.is_some() || request.which != Lookup::LatestActive {
            return Ok(found);
        }
        let of = VersionsOf { playbook_id: request.playbook_id, below: None, limit: all() };
        let Ok(page) = catalog.versions(of).await else { return Ok(None) };
        let active = |found: &Playbook| found.playbook.status == changeover_core::playbooks::Status::Active;
        Ok(page.playbooks.into_iter().find(active))
    }
}

#[derive(Default)]
struct SpellingsAreOne;

#[async_trait]
impl Flaw for SpellingsAreOne {
    const NAME: &'static str = "versions with and without v are one";

    async fn get(&self, catalog: &dyn PlaybookCatalog, request: GetPlaybook) -> Result<Option<Playbook>> {
        let found = catalog.get(request.clone()).await?;
        let Lookup::Exact(version) = &request.which else { return Ok(found) };
        if found.is_some() {
            return Ok(found);
        }
        let wanted = version.as_str().trim_start_matches('v').to_owned();
        let of = VersionsOf { playbook_id: request.playbook_id, below: None, limit: all() };
        let Ok(page) = catalog.versions(of).await else { return Ok(None) };
        let same = |found: &Playbook| found.playbook.version.as_str().trim_start_matches('v') == wanted;
        Ok(page.playbooks.into_iter().find(same))
    }
}

#[derive(Default)]
struct HashFindsFirst;

#[async_trait]
impl Flaw for HashFindsFirst {
    const NAME: &'static str = "of versions with one content hash the lowest is found";

    async fn get(&self, catalog: &dyn PlaybookCatalog, request: GetPlaybook) -> Result<Option<Playbook>> {
        let found = catalog.get(request.clone()).await?;
        let (Lookup::Hash(_), Some(found)) = (&request.which, &found) else { return Ok(found) };
        let of = VersionsOf { playbook_id: request.playbook_id, below: None, limit: all() };
        let hash = found.playbook.content_hash.clone();
        let page = catalog.versions(of).await?;
        Ok(page.playbooks.into_iter().rfind(|found| found.playbook.content_hash == hash))
    }
}
