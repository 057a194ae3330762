//! One module's playbooks: how versions are judged, stored, changed and found. No lock and no waiting in here, so that it
//! reads like the contract.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use changeover_core::playbooks::{
    Change, Edit, GetPlaybook, ListPlaybooks, Lookup, NewPlaybook, Playbook, PlaybookId, PlaybookPage,
    PlaybookVersion, Put, PutReport, Search, Status, VersionsOf,
};
use changeover_core::{Limit, Result, TenantId, Text, Timestamp};

/// The playbooks of all tenants of a module.
#[derive(Default)]
pub(crate) struct Catalog(HashMap<TenantId, Playbooks>);

/// What one tenant has: versions in semantic order, by playbook.
type Playbooks = BTreeMap<PlaybookId, BTreeMap<PlaybookVersion, Playbook>>;

impl Catalog {
    pub(crate) fn put(&mut self, tenant: &TenantId, request: Put, now: Timestamp) -> Result<PutReport> {
        request.validate()?;
        let playbooks = self.0.entry(tenant.clone()).or_default();
        let mut new = Vec::new();
        let mut repeated = 0;
        for version in request.versions {
            match stored(playbooks, &version.playbook_id, &version.version) {
                None => new.push(version),
                Some(stored) if version.is_repeat_of(&stored.playbook) => repeated += 1,
                Some(_) => return Err(version.taken()),
            }
        }
        let report = PutReport { stored: new.len(), repeated };
        for version in new {
            store(playbooks, version, now);
        }
        Ok(report)
    }

    pub(crate) fn change(&mut self, tenant: &TenantId, request: Change, now: Timestamp) -> Result<Playbook> {
        request.validate()?;
        let missing = request.missing();
        let Change { playbook_id, version, edit, by } = request;
        let versions = self.0.get_mut(tenant).and_then(|playbooks| playbooks.get_mut(&playbook_id));
        let Some(versions) = versions.filter(|versions| versions.contains_key(&version)) else {
            return Err(missing);
        };
        if edit == Edit::MakeLatest {
            take_mark(versions, &version, by.as_ref(), now);
        }
        let playbook = versions.get_mut(&version).ok_or(missing)?;
        playbook.apply(edit, by, now);
        Ok(playbook.clone())
    }

    pub(crate) fn get(&self, tenant: &TenantId, request: &GetPlaybook) -> Result<Option<Playbook>> {
        request.validate()?;
        let Some(versions) = self.0.get(tenant).and_then(|playbooks| playbooks.get(&request.playbook_id))
        else {
            return Ok(None);
        };
        let found = match &request.which {
            Lookup::Latest => latest(versions),
            Lookup::LatestActive => latest(versions).filter(|found| found.playbook.status == Status::Active),
            Lookup::Exact(version) => versions.get(version),
            Lookup::Hash(hash) => {
                versions.values().rev().find(|version| version.playbook.content_hash.as_ref() == Some(hash))
            }
        };
        Ok(found.cloned())
    }

    pub(crate) fn list(&self, tenant: &TenantId, request: &ListPlaybooks) -> Result<PlaybookPage> {
        request.validate()?;
        let after = request.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let playbooks =
            self.0.get(tenant).into_iter().flat_map(|all| all.range((after.clone(), Bound::Unbounded)));
        let found = playbooks
            .filter_map(|(_, versions)| latest(versions))
            .filter(|found| request.status.is_none_or(|status| found.playbook.status == status))
            .filter(|found| has(found, &request.labels));
        Ok(page(found, request.limit))
    }

    pub(crate) fn versions(&self, tenant: &TenantId, request: &VersionsOf) -> Result<PlaybookPage> {
        let versions = self.0.get(tenant).and_then(|playbooks| playbooks.get(&request.playbook_id));
        let versions = versions.ok_or_else(|| request.missing())?;
        let below = request.below.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = versions.range((Bound::Unbounded, below)).rev().map(|(_, version)| version);
        Ok(page(newest_first, request.limit))
    }

    /// What a search ranks.
    pub(crate) fn candidates(&self, tenant: &TenantId, search: &Search) -> Vec<Playbook> {
        let versions = self.0.get(tenant).into_iter().flat_map(BTreeMap::values).filter_map(latest);
        versions
            .filter(|found| found.playbook.status == Status::Active && has(found, &search.labels))
            .cloned()
            .collect()
    }
}

fn stored<'a>(
    playbooks: &'a Playbooks,
    playbook_id: &PlaybookId,
    version: &PlaybookVersion,
) -> Option<&'a Playbook> {
    playbooks.get(playbook_id)?.get(version)
}

/// Stores what was judged.
fn store(playbooks: &mut Playbooks, new: NewPlaybook, now: Timestamp) {
    let versions = playbooks.entry(new.playbook_id.clone()).or_default();
    if new.is_latest {
        take_mark(versions, &new.version, new.created_by.as_ref(), now);
    }
    versions.insert(new.version.clone(), new.stored(now));
}

/// Takes the mark of the latest from every version but this one.
fn take_mark(
    versions: &mut BTreeMap<PlaybookVersion, Playbook>,
    but: &PlaybookVersion,
    by: Option<&Text<255>>,
    now: Timestamp,
) {
    let others = versions.iter_mut().filter(|(version, other)| *version != but && other.playbook.is_latest);
    others.for_each(|(_, other)| other.lose_mark(by.cloned(), now));
}

fn latest(versions: &BTreeMap<PlaybookVersion, Playbook>) -> Option<&Playbook> {
    versions.values().find(|version| version.playbook.is_latest)
}

/// Whether all of these labels are there with these values.
fn has(found: &Playbook, labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(key, value)| found.playbook.labels.get(key) == Some(value))
}

fn page<'a>(mut found: impl Iterator<Item = &'a Playbook>, limit: Limit) -> PlaybookPage {
    let playbooks = found.by_ref().take(limit.get() as usize).cloned().collect();
    PlaybookPage { playbooks, more: found.next().is_some() }
}
