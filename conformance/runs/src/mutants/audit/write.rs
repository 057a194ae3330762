//! Records that are stored though they must not be, or otherwise than said.

use async_trait::async_trait;
use changeover_conformance::Subject;
use changeover_core::audit::{Create, Created, NewAuditEvent};
use changeover_core::{AuditRepository, ErrorKind, Result};

use super::{Flaw, subject};

pub(super) fn subjects() -> Vec<Subject> {
    vec![
        subject::<ConflictSwallowed>(),
        subject::<RepeatStoredAnew>(),
        subject::<NotAtomic>(),
        subject::<ParentUnchecked>(),
    ]
}

#[derive(Default)]
struct ConflictSwallowed;

#[async_trait]
impl Flaw for ConflictSwallowed {
    const NAME: &'static str = "a taken id with other content is taken for a repeated one";

    async fn create(&self, store: &dyn AuditRepository, request: Create) -> Result<Created> {
        let repeated = request.events.len();
        match store.create(request).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created { stored: 0, repeated }),
            other => other,
        }
    }
}

#[derive(Default)]
struct RepeatStoredAnew;

#[async_trait]
impl Flaw for RepeatStoredAnew {
    const NAME: &'static str = "a repeated event is said to be stored anew";

    async fn create(&self, store: &dyn AuditRepository, request: Create) -> Result<Created> {
        let answer = store.create(request).await?;
        Ok(Created { stored: answer.stored + answer.repeated, repeated: 0 })
    }
}

#[derive(Default)]
struct NotAtomic;

#[async_trait]
impl Flaw for NotAtomic {
    const NAME: &'static str = "the events before a refused one are stored though the batch is refused";

    async fn create(&self, store: &dyn AuditRepository, request: Create) -> Result<Created> {
        let answer = store.create(request.clone()).await;
        if matches!(&answer, Err(error) if [ErrorKind::AlreadyExists, ErrorKind::NotFound].contains(&error.kind()))
        {
            for event in request.events {
                if store.create(Create { events: vec![event] }).await.is_err() {
                    break;
                }
            }
        }
        answer
    }
}

#[derive(Default)]
struct ParentUnchecked;

#[async_trait]
impl Flaw for ParentUnchecked {
    const NAME: &'static str = "a missing parent is dropped in silence";

    async fn create(&self, store: &dyn AuditRepository, mut request: Create) -> Result<Created> {
        loop {
            match store.create(request.clone()).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let missing = |event: &NewAuditEvent| {
                        event.parent_event_id.is_some_and(|id| error.message().contains(&id.to_string()))
                    };
                    for event in request.events.iter_mut().filter(|event| missing(event)) {
                        event.parent_event_id = None;
                    }
                }
                other => return other,
            }
        }
    }
}
