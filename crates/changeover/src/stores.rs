//! The stores of a module, each opened at its first use.

use std::fmt;
use std::sync::Arc;

use changeover_core::audit::{AuditRepositoryExt, Created, NewAuditEvent};
use changeover_core::{AuditRepository, EventStore, PlaybookCatalog, Result};
use tokio::sync::OnceCell;

use crate::module::Module;
use crate::retry;
use crate::routed::Routed;
use crate::typed::{StreamEvent, TypedStreams};

/// The event store of a module and tenant, opened at its first use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Events(Handle<dyn EventStore>);

impl Events {
    pub(crate) fn of(module: Module) -> Self {
        Self(Handle::of(module))
    }

    /// The store itself, opened (and its schema migrated, where the backend's settings say so) if this is the first
    /// use. It follows the module: after a cutover, or its way back, the same handle serves from the other backend.
    pub async fn store(&self) -> Result<Arc<dyn EventStore>> {
        self.0.open(async |module| Ok(Arc::new(Routed::open(module).await?) as Arc<dyn EventStore>)).await
    }

    /// The module, unless the store was given.
    pub fn module(&self) -> Option<&Module> {
        self.0.module()
    }

    /// Streams of events of the type `E`.
    pub fn typed<E: StreamEvent>(&self) -> TypedStreams<E> {
        TypedStreams::new(self.clone())
    }
}

/// Any store, for tests and stores of one's own.
impl From<Arc<dyn EventStore>> for Events {
    fn from(store: Arc<dyn EventStore>) -> Self {
        Self(Handle::Given(store))
    }
}

/// The audit trail of a module and tenant, opened at its first use. Cheap to clone.
///
/// ```
/// use changeover::audit::{AuditQuery, EventContext, Notification, NotificationStatus};
/// # #[tokio::main]
/// # async fn main() -> changeover::Result<()> {
/// # let options = changeover::PersistenceOptions::new()
/// #     .with("persistence.default", "m")
/// #     .with("backends.m.kind", "memory");
/// # let db = changeover::connect_with(options, changeover::registry()).await?;
/// let audit = db.audit("audit")?;
/// let sent = Notification {
///     notification_id: "n-17".into(),
///     recipient: "oncall@example.org".into(),
///     channel: "email".into(),
///     status: NotificationStatus::Sent,
/// };
/// audit.record(sent.event(EventContext::default())?).await?;
/// assert_eq!(audit.repository().await?.query(AuditQuery::default()).await?.events.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Audit(Handle<dyn AuditRepository>);

impl Audit {
    pub(crate) fn of(module: Module) -> Self {
        Self(Handle::of(module))
    }

    /// The repository itself, opened (and its schema migrated, where the backend's settings say so) if this is the
    /// first use. It follows the module, as [`Events::store`] does.
    pub async fn repository(&self) -> Result<Arc<dyn AuditRepository>> {
        self.0
            .open(async |module| Ok(Arc::new(Routed::open(module).await?) as Arc<dyn AuditRepository>))
            .await
    }

    /// The module, unless the repository was given.
    pub fn module(&self) -> Option<&Module> {
        self.0.module()
    }

    /// Stores one event. Transient errors are retried, which its id makes harmless; other errors as
    /// [`AuditRepository::create`]. To store it together with rows of your own: [`Tx::record`](crate::Tx::record).
    pub async fn record(&self, event: NewAuditEvent) -> Result<Created> {
        let repository = self.repository().await?;
        retry::transient(|| repository.record(event.clone())).await
    }
}

/// Any repository, for tests and repositories of one's own.
impl From<Arc<dyn AuditRepository>> for Audit {
    fn from(repository: Arc<dyn AuditRepository>) -> Self {
        Self(Handle::Given(repository))
    }
}

/// The playbooks of a module and tenant, their catalog opened at its first use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Playbooks(Handle<dyn PlaybookCatalog>);

impl Playbooks {
    pub(crate) fn of(module: Module) -> Self {
        Self(Handle::of(module))
    }

    /// The catalog itself, opened (and its schema migrated, where the backend's settings say so) if this is the first
    /// use.
    pub async fn catalog(&self) -> Result<Arc<dyn PlaybookCatalog>> {
        self.0
            .open(async |module| Ok(Arc::new(Routed::open(module).await?) as Arc<dyn PlaybookCatalog>))
            .await
    }

    /// The module, unless the catalog was given.
    pub fn module(&self) -> Option<&Module> {
        self.0.module()
    }
}

/// Any catalog, for tests and catalogs of one's own.
impl From<Arc<dyn PlaybookCatalog>> for Playbooks {
    fn from(catalog: Arc<dyn PlaybookCatalog>) -> Self {
        Self(Handle::Given(catalog))
    }
}

/// A store of a module, opened at its first use, or one that was given.
enum Handle<S: ?Sized> {
    Module(Module, Arc<OnceCell<Arc<S>>>),
    Given(Arc<S>),
}

impl<S: ?Sized> Handle<S> {
    fn of(module: Module) -> Self {
        Self::Module(module, Arc::default())
    }

    async fn open(&self, open: impl AsyncFnOnce(&Module) -> Result<Arc<S>>) -> Result<Arc<S>> {
        match self {
            Self::Module(module, store) => store.get_or_try_init(|| open(module)).await.cloned(),
            Self::Given(store) => Ok(Arc::clone(store)),
        }
    }

    fn module(&self) -> Option<&Module> {
        match self {
            Self::Module(module, _) => Some(module),
            Self::Given(_) => None,
        }
    }
}

impl<S: ?Sized> Clone for Handle<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Module(module, store) => Self::Module(module.clone(), Arc::clone(store)),
            Self::Given(store) => Self::Given(Arc::clone(store)),
        }
    }
}

impl<S: ?Sized> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("module", &self.module()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use changeover_core::audit::{ActorType, AuditQuery, MockAuditRepository, Outcome};
    use changeover_core::{Applied, Error, ErrorKind};

    use super::*;

    fn event() -> NewAuditEvent {
        NewAuditEvent::new("t", "c", Outcome::Success, "s", ActorType::System, "r", "1").unwrap()
    }

    fn audit(mock: MockAuditRepository) -> Audit {
        let repository: Arc<dyn AuditRepository> = Arc::new(mock);
        Audit::from(repository)
    }

    // S3-ERR-008, S3-ERR-010: the id makes it harmless to repeat what may have been stored.
    #[tokio::test(start_paused = true)]
    async fn a_record_is_repeated_after_transient_errors_only() {
        let mut mock = MockAuditRepository::new();
        let mut answers = vec![
            Ok(Created { stored: 0, repeated: 1 }),
            Err(Error::new(ErrorKind::Unavailable, "lost").applied(Applied::Unknown)),
        ];
        mock.expect_create().times(2).returning(move |_| answers.pop().unwrap());
        assert_eq!(audit(mock).record(event()).await.unwrap().repeated, 1);

        let mut mock = MockAuditRepository::new();
        mock.expect_create().times(1).returning(|_| Err(Error::invalid("no")));
        assert_eq!(audit(mock).record(event()).await.unwrap_err().kind(), ErrorKind::Invalid);
    }

    // A page that fails is asked for again; an offset is passed over once.
    #[tokio::test]
    async fn pages_are_walked_to_the_end() {
        let mut recorded = event();
        recorded.event_id = changeover_core::Uuid::from_u128(1);
        let found = changeover_core::audit::AuditEvent {
            recorded_at: recorded.event_timestamp,
            event: recorded,
            sequence: 1,
        };
        let first = AuditQuery { offset: 3, ..AuditQuery::default() };
        let next = first.token_after(&found);
        let mut asked = Vec::new();
        let mut mock = MockAuditRepository::new();
        mock.expect_query().times(3).returning(move |query| {
            asked.push((query.offset, query.page));
            let page = |next| Ok(changeover_core::audit::AuditPage { events: vec![found.clone()], next });
            match asked.as_slice() {
                [(3, None)] => page(Some(next)),
                [_, (0, Some(token))] if *token == next => Err(Error::new(ErrorKind::Timeout, "slow")),
                [_, _, (0, Some(token))] if *token == next => page(None),
                _ => Err(Error::invalid(format!("{asked:?}"))),
            }
        });
        let mut pages = mock.pages(first);
        assert!(pages.next().await.unwrap().is_some());
        assert_eq!(pages.next().await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(pages.next().await.unwrap().is_some());
        assert!(pages.next().await.unwrap().is_none());
    }
}
