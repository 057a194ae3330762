//! Storing versions of playbooks.

use changeover_core::playbooks::{GetPlaybook, Lookup, Put, PutReport};

use crate::harness::AnyHarness;
use crate::support::Must;
use crate::support::playbooks::{open, playbook, version};

/// A version that was put is found again, latest and exact, equal in every field. (P1, S3-PB-010)
pub async fn version_put_is_read_back_equal_in_every_field(h: &dyn AnyHarness) {
    let catalog = open(h).await;
    let new = playbook("restart-pod", "v1.0.0");
    let answer = catalog.put(Put { versions: vec![new.clone()] }).await.must("put");
    assert_eq!(answer, PutReport { stored: 1, repeated: 0 });
    for which in
        [Lookup::Latest, Lookup::LatestActive, Lookup::Exact(version("v1.0.0")), Lookup::Hash(new.hash())]
    {
        let request = GetPlaybook { playbook_id: new.playbook_id.clone(), which: which.clone() };
        let found = catalog.get(request).await.must("get").must("the version");
        assert_eq!(found.playbook.name, new.name, "{which:?}");
        assert_eq!(found.playbook.description, new.description, "{which:?}");
        assert_eq!(found.playbook.content, new.content, "{which:?}");
        assert_eq!(found.playbook.labels, new.labels, "{which:?}");
        assert_eq!(found.playbook.status, new.status, "{which:?}");
        assert_eq!((found.total_executions, found.successful_executions), (0, 0), "{which:?}");
    }
}
