//! The audit trail: who did what to which resource, appended once and kept until retention removes it.

mod request;
mod values;

use async_trait::async_trait;

pub use request::{
    AuditFilter, AuditOrder, AuditPage, AuditQuery, AuditToken, Break, ChainReport, Create, Created, Keep,
    Retain, Retained, VerifyChain,
};
pub use values::{ActorType, AuditEvent, NewAuditEvent, Outcome};

use crate::Uuid;
use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::events::Readiness;

/// The audit repository of one module and one tenant. Append-only but for [`AuditRepository::retain`].
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
    /// - Any time from 1970 until now plus the allowed skew is stored, whatever month it falls in; others are
    ///   `Invalid`. The date is the UTC date of the time.
    /// - `recorded_at` and the recorded order are given by the store and never go backwards.
    async fn create(&self, request: Create) -> Result<Created>;

    /// One event by its id, `None` if it is not stored.
    async fn get(&self, event_id: Uuid) -> Result<Option<AuditEvent>>;

    /// A page of events.
    ///
    /// # Behavior
    /// - Every filter that is given holds; values compare by bytes. `start` is inclusive, `end` exclusive.
    /// - By time: newest or oldest first, equal times by id (the same ids in both directions, mirrored). By recorded
    ///   order: what is recorded while somebody pages comes at the end and never shifts a page.
    /// - `next` is there exactly when more events match. Pages joined give what one read gives.
    /// - A token of another query is `Invalid`.
    async fn query(&self, request: AuditQuery) -> Result<AuditPage>;

    /// How many events pass the filter.
    async fn count(&self, filter: AuditFilter) -> Result<u64>;

    /// Recomputes the hash chain of a correlation id in recorded order.
    ///
    /// # Behavior
    /// - Finds an edited, removed, inserted or moved record and names the first place that does not fit.
    /// - Where retention removed the beginning, the chain starts at the recorded anchor.
    /// - Without [`Capabilities::hash_chain`]: `Unsupported`.
    async fn verify(&self, request: VerifyChain) -> Result<ChainReport>;

    /// Removes events older than their category's days, whole expired months first.
    ///
    /// # Behavior
    /// - Only what is due goes, oldest first, at most `limit` a call; `done` says whether more is due. Again: nothing.
    /// - Parents of kept events stay. Categories without a rule stay.
    /// - A dry run counts the same and removes nothing.
    /// - Without [`Capabilities::retention`]: `Unsupported`.
    async fn retain(&self, request: Retain) -> Result<Retained>;

    /// Whether the repository can serve now.
    async fn ready(&self) -> Result<Readiness>;

    /// Ends the use of this handle: later operations are `Unavailable`. Closing twice is fine.
    async fn close(&self) -> Result<()>;
}
