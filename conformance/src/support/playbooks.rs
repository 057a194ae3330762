//! What the cases of the playbook catalog share.

use std::collections::BTreeMap;
use std::sync::Arc;

use changeover_core::backend::Family;
use changeover_core::playbooks::{NewPlaybook, PlaybookVersion, Status};
use changeover_core::{PlaybookCatalog, Text};

use super::Must;
use crate::harness::AnyHarness;

/// The catalog of the harness's module and tenant, by a new client.
pub(crate) async fn open(h: &dyn AnyHarness) -> Arc<dyn PlaybookCatalog> {
    let client = h.client().await;
    client.playbooks(&h.scope_of(Family::Playbooks), &h.tenant()).await.must("open the catalog")
}

/// A version that is known to be one.
pub(crate) fn version(text: &str) -> PlaybookVersion {
    PlaybookVersion::new(text).must("a version")
}

/// An active latest version with content, a label and nothing else.
pub(crate) fn playbook(id: &str, at: &str) -> NewPlaybook {
    NewPlaybook {
        playbook_id: Text::new("playbook_id", id).must("an id"),
        version: version(at),
        name: Text::new("name", format!("{id} {at}")).must("a name"),
        description: format!("What to do: {id}"),
        owner: None,
        maintainer: None,
        content: format!("# {id}\nSteps of {at}\n"),
        content_hash: None,
        labels: BTreeMap::from([("component".to_owned(), id.to_owned())]),
        embedding: None,
        status: Status::Active,
        is_latest: true,
        previous_version: None,
        version_notes: None,
        change_summary: None,
        approved_by: None,
        approved_at: None,
        expected_success_rate: None,
        expected_duration_seconds: None,
        created_at: None,
        created_by: None,
    }
}
