//! Recording audit events.

use changeover_core::audit::{Create, Created};

use crate::harness::AnyHarness;
use crate::support::Must;
use crate::support::audit::{full, open};

/// An event that was recorded is found by its id, equal in every field. (A1, S3-AUD-001, S3-AUD-020)
pub async fn recorded_event_is_read_back_equal_in_every_field(h: &dyn AnyHarness) {
    let store = open(h).await;
    let event = full(1);
    let answer = store.create(Create { events: vec![event.clone()] }).await.must("create");
    assert_eq!(answer, Created { stored: 1, repeated: 0 });
    let stored = store.get(event.event_id).await.must("get").must("the event");
    assert_eq!(stored.event, event);
}
