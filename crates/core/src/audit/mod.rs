//! The audit trail: who did what to which resource, appended once and kept until retention removes it.

mod chain;
mod ext;
mod factories;
mod request;
mod values;
mod wire;

use async_trait::async_trait;

pub use chain::{ChainHead, ChainWalk, Link, link};
pub use ext::{AuditPages, AuditRepositoryExt};
pub use factories::{AiAnalysis, EventContext, Notification, NotificationStatus, Workflow, WorkflowStatus};
pub use request::{
    AuditFilter, AuditOrder, AuditPage, AuditQuery, AuditToken, Break, ChainReport, Create, Created, Keep,
    Retain, Retained, VerifyChain,
};
pub use values::{ActorType, AuditEvent, KNOWN_CATEGORIES, NewAuditEvent, Outcome};
pub use wire::COLUMNS;

use crate::Uuid;
use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::events::Readiness;

/// The audit repository of one module and one tenant. Append-only but for [`AuditRepository::retain`].
///
/// Handles are cheap to share (`Arc<dyn AuditRepository>`), and every operation may be dropped at any point: a write then
/// happened whole or not at all, and the repository stays usable. After [`AuditRepository::close`] every operation fails
/// with `Unavailable`; on a database without the schema with `SchemaMismatch`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AuditRepository: Send + Sync + 'static {
    /// What this set-up offers.
    fn capabilities(&self) -> Capabilities;

    /// Stores one event or many, all or nothing.
    ///
    /// # Behavior
    /// - [`Create::validate`] holds before anything is asked of the database.
    /// - An id already stored with equal content is a success without a second record, alone or within a batch; with
    ///   other content `AlreadyExists` with the id, and nothing of the batch is stored. Ids are unique within the
    ///   tenant, over all months.
    /// - A parent must be stored already or stand earlier in the batch, else `NotFound` with its id.
    /// - All ids of the batch are judged before all parents; of several mistakes of one sort the first in the batch is
    ///   told.
    /// - Any time from 1970 until now plus the allowed skew is stored, whatever month it falls in; others are
    ///   `Invalid` ([`Create::check_times`]). The date is the UTC date of the time.
    /// - `recorded_at` and the recorded order are given by the store and never go backwards; within a batch the order is
    ///   the one given. Nothing ever appears before what a query in recorded order has shown.
    /// - With [`Capabilities::hash_chain`] each new record with a correlation id is linked to the one recorded before it
    ///   under that id ([`Link::of`]). A repeated one is not linked again.
    /// - Errors say whether the write may have happened: [`Error::was_applied`](crate::Error::was_applied). A refused
    ///   create leaves nothing behind.
    async fn create(&self, request: Create) -> Result<Created>;

    /// One event by its id, `None` if it is not stored.
    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>>;

    /// A page of events.
    ///
    /// # Behavior
    /// - [`AuditQuery::validate`] holds. Every filter that is given holds; values compare by bytes. `start` is inclusive,
    ///   `end` exclusive.
    /// - By time: newest or oldest first, equal times by id (the same ids in both directions, mirrored). By recorded
    ///   order: what is recorded while somebody pages comes at the end and never shifts a page.
    /// - `next` is there exactly when more events match. Pages joined give what one read gives.
    /// - `offset` events are passed over first; beyond the end the page is empty.
    /// - A token of another query is `Invalid`.
    async fn query(&self, request: AuditQuery) -> Result<AuditPage>;

    /// How many events pass the filter; [`AuditFilter::validate`] holds.
    async fn count(&self, filter: AuditFilter) -> Result<u64>;

    /// Recomputes the hash chain of a correlation id in recorded order, as [`ChainWalk`] does.
    ///
    /// # Behavior
    /// - Finds an edited, removed, inserted or moved record and names the first place that does not fit. A missing end
    ///   shows at the event that was recorded last.
    /// - Where retention removed records, at the beginning, in between or at the end, the chain goes on from the recorded
    ///   anchor.
    /// - A correlation id that nothing was recorded under has a chain of no events, which holds.
    /// - Without [`Capabilities::hash_chain`]: `Unsupported`.
    async fn verify(&self, request: VerifyChain) -> Result<ChainReport>;

    /// Removes events older than their category's days, whole expired months first.
    ///
    /// # Behavior
    /// - [`Retain::validate`] holds. Only what is due goes, at most `limit` events a call, whole months included; `done`
    ///   says that nothing more can go. Again: nothing.
    /// - Months of which every event of the tenant goes are first, the oldest first, each whole or (beyond the limit) not
    ///   at all; then single events, the oldest time first, equal times by id.
    /// - Parents of kept events stay, also of those that are due and still to be removed: children go before their
    ///   parents. Categories without a rule stay.
    /// - `months` names the months that the store dropped at once; a store without partitions names none, nor does one
    ///   whose partition holds events of other tenants.
    /// - Of every chain it removes from, the link of the last removed record of each gap is kept as an anchor, in the same
    ///   transaction.
    /// - A removed id is free again.
    /// - A dry run counts what the same call would remove, and removes nothing.
    /// - Without [`Capabilities::retention`]: `Unsupported`.
    async fn retain(&self, request: Retain) -> Result<Retained>;

    /// Whether the repository can serve now.
    async fn ready(&self) -> Result<Readiness>;

    /// Ends the use of this handle: later operations are `Unavailable`. Closing twice is fine; other handles live on.
    async fn close(&self) -> Result<()>;
}
