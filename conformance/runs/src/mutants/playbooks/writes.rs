//! Versions that are judged or stored wrongly.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::playbooks::{
    Change, Edit, NewPlaybook, Playbook, PlaybookId, PlaybookVersion, Put, PutReport,
};
use changeover_core::{ErrorKind, PlaybookCatalog, Result, TenantId};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<TwoLatest>(),
        subject::<RepeatTakesMark>(),
        subject::<HashUnchecked>(),
        subject::<ConflictSwallowed>(),
        subject::<StoresHalf>(),
        subject::<LosesReturns>(),
        subject::<EmptyIsAbsent>(),
        subject::<TimeStandsStill>(),
        subject::<TenantsShare>(),
        subject::<ClosedGoesOn>(),
    ]
}

#[derive(Default)]
struct TwoLatest(Mutex<HashSet<(PlaybookId, PlaybookVersion)>>);

#[async_trait]
impl Flaw for TwoLatest {
    const NAME: &'static str = "a version keeps the mark of the latest when another gets it";

    async fn put(&self, catalog: &dyn PlaybookCatalog, request: Put) -> Result<PutReport> {
        let marked = request.versions.iter().filter(|new| new.is_latest);
        let marked: Vec<_> = marked.map(|new| (new.playbook_id.clone(), new.version.clone())).collect();
        let report = catalog.put(request).await?;
        // A version put again gets no mark.
        if report.repeated == 0 {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(marked);
        }
        Ok(report)
    }

    fn shown(&self, playbook: &mut Playbook) {
        let new = &mut playbook.playbook;
        let key = (new.playbook_id.clone(), new.version.clone());
        new.is_latest |= self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
    }
}

#[derive(Default)]
struct RepeatTakesMark;

#[async_trait]
impl Flaw for RepeatTakesMark {
    const NAME: &'static str = "a version put again takes the mark of the latest";

    async fn put(&self, catalog: &dyn PlaybookCatalog, request: Put) -> Result<PutReport> {
        let report = catalog.put(request.clone()).await?;
        for new in request.versions.into_iter().filter(|new| new.is_latest && report.repeated > 0) {
            let NewPlaybook { playbook_id, version, created_by, .. } = new;
            catalog.change(Change { playbook_id, version, edit: Edit::MakeLatest, by: created_by }).await?;
        }
        Ok(report)
    }
}

#[derive(Default)]
struct HashUnchecked;

#[async_trait]
impl Flaw for HashUnchecked {
    const NAME: &'static str = "a content hash that is given is not checked";

    async fn put(&self, catalog: &dyn PlaybookCatalog, mut request: Put) -> Result<PutReport> {
        request.versions.iter_mut().for_each(|new| new.content_hash = None);
        catalog.put(request).await
    }
}

#[derive(Default)]
struct ConflictSwallowed;

#[async_trait]
impl Flaw for ConflictSwallowed {
    const NAME: &'static str = "a version with other content is taken for a repeated one";

    async fn put(&self, catalog: &dyn PlaybookCatalog, request: Put) -> Result<PutReport> {
        let repeated = request.versions.len();
        match catalog.put(request).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(PutReport { stored: 0, repeated }),
            other => other,
        }
    }
}

#[derive(Default)]
struct StoresHalf;

#[async_trait]
impl Flaw for StoresHalf {
    const NAME: &'static str = "the versions before a taken one are stored though the put is refused";

    async fn put(&self, catalog: &dyn PlaybookCatalog, request: Put) -> Result<PutReport> {
        let answer = catalog.put(request.clone()).await;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::AlreadyExists) {
            for new in request.versions {
                if catalog.put(Put { versions: vec![new] }).await.is_err() {
                    break;
                }
            }
        }
        answer
    }
}

#[derive(Default)]
struct LosesReturns;

#[async_trait]
impl Flaw for LosesReturns {
    const NAME: &'static str = "carriage returns of a content are lost";

    async fn put(&self, catalog: &dyn PlaybookCatalog, mut request: Put) -> Result<PutReport> {
        for new in &mut request.versions {
            new.validate()?;
            new.content = new.content.replace('\r', "");
            new.content_hash = None;
        }
        catalog.put(request).await
    }
}

#[derive(Default)]
struct EmptyIsAbsent;

#[async_trait]
impl Flaw for EmptyIsAbsent {
    const NAME: &'static str = "empty notes are taken for absent ones";

    fn shown(&self, playbook: &mut Playbook) {
        let new = &mut playbook.playbook;
        for notes in [&mut new.version_notes, &mut new.change_summary] {
            notes.take_if(|notes| notes.is_empty());
        }
    }
}

#[derive(Default)]
struct TimeStandsStill;

#[async_trait]
impl Flaw for TimeStandsStill {
    const NAME: &'static str = "updated_at stays what it was at first";

    fn shown(&self, playbook: &mut Playbook) {
        playbook.updated_at = playbook.created_at;
    }
}

#[derive(Default)]
struct TenantsShare;

#[async_trait]
impl Flaw for TenantsShare {
    const NAME: &'static str = "tenants share their playbooks";

    fn tenant(&self, tenant: &TenantId) -> TenantId {
        TenantId::new("one").unwrap_or_else(|_| tenant.clone())
    }
}

#[derive(Default)]
struct ClosedGoesOn;

#[async_trait]
impl Flaw for ClosedGoesOn {
    const NAME: &'static str = "a closed catalog goes on";

    async fn close(&self, _: &dyn PlaybookCatalog) -> Result<()> {
        Ok(())
    }
}
