//! The playbook catalog: versions whose content never changes, one of them the latest, found by meaning.

mod embed;
mod hashing;
mod lifecycle;
mod rank;
mod request;
mod values;
mod wire;

use async_trait::async_trait;

pub use embed::{MAX_EMBEDDED, embed, embedding_text};
pub use hashing::HashingEmbedder;
pub use rank::{Candidate, Ranking, floor, rank};
pub use request::{
    Change, Edit, GetPlaybook, ListPlaybooks, Lookup, Match, PlaybookPage, Put, PutReport, Query, Search,
    SearchResult, VersionsOf,
};
pub use values::{Embedding, NewPlaybook, Playbook, PlaybookId, PlaybookVersion, Rate, Status};

use crate::capabilities::Capabilities;
use crate::error::Result;
use crate::events::Readiness;

/// Makes vectors of text. Deterministic: equal text gives an equal vector.
#[async_trait]
pub trait Embedder: Send + Sync + 'static {
    /// Which model it is; vectors of different models are never compared.
    fn model(&self) -> &str;

    /// One vector a text, in order. `Unavailable` or `Timeout` if the model cannot be reached.
    async fn embed(&self, texts: &[String]) -> Result<Vec<Embedding>>;
}

/// The playbook catalog of one module and one tenant.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait PlaybookCatalog: Send + Sync + 'static {
    /// What this set-up offers.
    fn capabilities(&self) -> Capabilities;

    /// Stores versions, all or nothing.
    ///
    /// # Behavior
    /// - [`Put::validate`] holds before anything is asked of the database.
    /// - A version already stored with equal content, name, description and labels is a success and changes nothing,
    ///   the mark of the latest neither; with others `AlreadyExists`, and nothing of the batch is stored.
    /// - `content_hash` is the SHA-256 of the content; one that is given and differs is `Invalid`.
    /// - A version marked latest takes the mark from the one that had it; at most one is latest at any moment. To the
    ///   one that loses it this is a change at that time, by the new version's `created_by`.
    /// - `updated_at` is when the store stored it; `created_at` is the same where none is given. The previous version
    ///   need not be stored.
    async fn put(&self, request: Put) -> Result<PutReport>;

    /// Changes the lifecycle or the figures of one version; content, name, description and labels never change.
    ///
    /// # Behavior
    /// - [`Change::validate`] holds before anything is asked of the database.
    /// - A version that does not exist is `NotFound`.
    /// - Making a version latest and taking the mark from the other is one step, and a change to both.
    /// - Disabled: `disabled` says when, by whom and why. Deprecated: the notice is kept, none removes it. Active: both
    ///   are removed. Archived: both stay. A version of any status can be the latest.
    /// - Successes above executions are `Invalid`. `updated_at` moves on, also when the clock does not; `updated_by` is
    ///   who changed it.
    async fn change(&self, request: Change) -> Result<Playbook>;

    /// One version: the latest, the latest that is active, an exact one, or the one with a content hash.
    ///
    /// # Behavior
    /// - `None` if there is no such playbook or version. An exact version is found by its text: `1.0.0` is not `v1.0.0`.
    /// - The latest that is active is the latest if that is active, else none: an older one is never offered for it.
    /// - Two versions marked latest, which a file written by hand can hold, are `Corrupt` where the latest is asked for.
    /// - A content hash that is not 64 hex digits in lower case is `Invalid`.
    /// - A stored row whose content does not have its hash is `Corrupt`, here and wherever it would be shown.
    async fn get(&self, request: GetPlaybook) -> Result<Option<Playbook>>;

    /// The latest versions, by id (bytes), in pages.
    ///
    /// # Behavior
    /// - Playbooks without a latest version are not listed. Labels must all be there with these values.
    /// - `after` is exclusive and need not exist. Pages joined give what one read gives; what is stored meanwhile
    ///   shifts nothing.
    async fn list(&self, request: ListPlaybooks) -> Result<PlaybookPage>;

    /// All versions of one playbook, newest first by semantic order, in pages. `NotFound` for an unknown playbook.
    ///
    /// # Behavior
    /// - `below` is exclusive and need not exist; a page below the lowest version is empty.
    async fn versions(&self, request: VersionsOf) -> Result<PlaybookPage>;

    /// The active latest versions nearest in meaning.
    ///
    /// # Behavior
    /// - Confidence is the cosine similarity held to 0..=1, 0 where a vector is zero. Rows below `min_confidence` are
    ///   dropped; rows at it stay, and at 1 those within 1e-6 of it.
    /// - Exactly `min(max_results, matches)` rows, also under narrow filters; equal confidence by id, then version.
    /// - Labels must all be there with these values. Rows without a vector are embedded for the search.
    /// - The query is embedded first, also where nothing is stored. An embedder's error is the search's error; one that
    ///   answers zeros or another number of vectors is `Unexpected`. No vector is stored by a search.
    /// - Every backend ranks alike within 1e-5. With more than 5,000 rows to compare a backend may ask an approximate
    ///   index: the page is as full and every confidence as exact, but a row may be missed for the next one.
    async fn search(&self, request: Search) -> Result<SearchResult>;

    /// Whether the catalog can serve now.
    async fn ready(&self) -> Result<Readiness>;

    /// Ends the use of this handle: later operations are `Unavailable`. Closing twice is fine.
    async fn close(&self) -> Result<()>;
}
