//! The event store: streams of events with optimistic concurrency, one global order, subscriptions.

mod request;
mod values;

use async_trait::async_trait;

pub use request::{
    AllPage, Append, Appended, AppendedStream, Direction, EventFilter, Head, HeadOf, PageToken, ReadAll,
    ReadStream, Readiness, StreamAppend, StreamPage, Subscribe, Track,
};
pub use values::{Expected, NewEvent, RecordedEvent, SchemaVersion, StreamId, Version};

use crate::capabilities::Capabilities;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::subscription::Subscription;
use crate::text::ConsumerName;

/// The event store of one module and one tenant.
///
/// Handles are cheap to share (`Arc<dyn EventStore>`), and every operation may be dropped at any point: a write then
/// happened whole or not at all, and the store stays usable. After [`EventStore::close`] every operation fails with
/// `Unavailable`; on a database without the schema with `SchemaMismatch`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// What this set-up offers.
    fn capabilities(&self) -> Capabilities;

    /// Appends events to one stream or several, all or nothing.
    ///
    /// # Behavior
    /// - The first append creates the stream; versions count up by one from 1, without gaps.
    /// - [`Append::validate`] holds before anything is asked of the database.
    /// - Judged over the whole request in this order: all event ids already stored, in the same streams, with equal
    ///   content, at consecutive versions in the order given -> success with the first answer (nothing is written,
    ///   nobody is woken, `track` is not applied again); else the first stream (in the caller's order) that is not as
    ///   expected -> `VersionConflict` with stream, expected and actual version; else the first event id that is
    ///   already stored, in any stream of the tenant -> `AlreadyExists` with the id; else a `track` at or before the
    ///   recorded one -> `AlreadyExists` with the recorded checkpoint.
    /// - Content is what the caller gave: type, schema version, data, metadata, causation, correlation, and
    ///   `occurred_at` if it was given.
    /// - The checkpoint of the answer is that of the last event stored, in the order of the log, also of a repeated append
    ///   that names its streams in another order than the first; `streams` stand in the caller's order.
    /// - A refused append leaves nothing behind: no stream, no version, no event.
    /// - Of several callers who expect the same version exactly one succeeds, the others get `VersionConflict`, also
    ///   when the database is busy.
    /// - Returns after the write can be read by every client. Positions rise in commit order.
    /// - Errors say whether the write may have happened: [`Error::was_applied`](crate::Error::was_applied).
    async fn append(&self, request: Append) -> Result<Appended>;

    /// Reads a page of one stream.
    ///
    /// # Behavior
    /// - A stream that does not exist gives an empty page without a head, not an error.
    /// - Forward by rising, backward by falling version; `first` and `last` are inclusive bounds in both directions,
    ///   inverted bounds give an empty page.
    /// - `next` is there exactly when more events match; pages joined give what one read gives. Events appended
    ///   between two pages come at the end of a forward read and never shift or repeat anything.
    /// - A token of another stream, direction, range or filter is `Invalid`.
    /// - `event_types: Some(vec![])` matches nothing.
    /// - A page never shows a part of an append that another client is committing.
    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage>;

    /// Reads a page of all events of the tenant in the module's log, in the order of their commit.
    ///
    /// # Behavior
    /// - Positions rise strictly; the order within a stream is the stream's order.
    /// - `after` is exclusive; `None` begins at the start. A checkpoint of another log is `Invalid`, and so is one beyond the
    ///   end of the log (over all tenants): this log never returned it, as after a restore from an older copy, and going
    ///   on from there would pass over events that are still to come.
    /// - **Nothing will ever appear at or before a checkpoint this method has returned.**
    /// - `checkpoint` moves on over everything that was looked at, also when nothing matched; a page may hold fewer
    ///   events than its limit while `caught_up` is false.
    /// - `caught_up` is true only if nothing newer was committed when the page was read. At the end: an empty page,
    ///   the same checkpoint, not an error.
    /// - Filters compare bytes: case counts, `%` and `_` are letters like others; an empty list matches nothing.
    async fn read_all(&self, request: ReadAll) -> Result<AllPage>;

    /// The latest version of a stream, or the end of the log.
    ///
    /// # Behavior
    /// - Of a stream that does not exist: no version, no checkpoint.
    /// - Of the log: the checkpoint after the last committed event of the tenant, position 0 if there is none. It
    ///   never goes backwards.
    async fn head(&self, of: HeadOf) -> Result<Head>;

    /// The progress a consumer recorded by [`Append::track`], `None` if it never did. Consumers do not share names.
    async fn tracked(&self, consumer: ConsumerName) -> Result<Option<Checkpoint>>;

    /// Follows the log: what is there after the checkpoint, then what is appended, without gap or repeat.
    ///
    /// # Behavior
    /// - It begins where [`EventStore::read_all`] would; the same checkpoints are `Invalid`.
    /// - On an empty store the subscription stays open.
    /// - [`Message::Progress`](crate::Message::Progress) is delivered after events that did not match too.
    /// - At most `buffer` messages wait; a reader that takes nothing for `patience` is cut off with `Unavailable` and
    ///   the checkpoint to resume after.
    /// - Lost connections and lost notifications delay messages, they never lose or repeat one.
    /// - Dropping it ends it promptly and frees its connection.
    /// - Closing the store, or its backend, ends it promptly with `Unavailable` and the checkpoint to resume after.
    async fn subscribe(&self, request: Subscribe) -> Result<Subscription>;

    /// Whether the store can serve now: reached, at the right schema, owned by this backend. Ends by its own deadline
    /// when the database does not answer.
    async fn ready(&self) -> Result<Readiness>;

    /// Ends the use of this handle: later operations are `Unavailable`, its subscriptions end. Closing twice is fine; other handles live on.
    async fn close(&self) -> Result<()>;
}
