//! The verifier: says whether the new store holds what the old one does.
//!
//! It shares no code with what copies, converts and follows: it looks through [`SourceWitness`] and [`TargetWitness`], which
//! have statements of their own, knows the declarations, and has its own decoders for both sides, so that a fault of the
//! copy cannot hide in the check. Both sides become typed canonical values, rows become digests, tables become Merkle
//! roots, and all tables together the *data root*, which an independent program can compute from the frozen file: the format
//! is in `docs/guides/cutover-digests.md`.
//!
//! Both sides are walked in the order of the keys, chunk by chunk, at once; where the digests of a chunk differ, its rows
//! are compared by key. While writers are on, what differs is a [`Suspect`] only: [`Verifier::recheck`] looks again when the
//! follower has come so far.
//!
//! ```ignore
//! let verifier = Verifier::new(&tables, world, source_witness, target_witness)?;
//! let verified = verifier.run(Mode::Frozen, None, &quarantine, &mut |_| ControlFlow::Continue(())).await?;
//! assert!(verified.is_sound());
//! ```

mod calendar;
mod canon;
mod computed;
mod cursor;
mod describe;
mod excused;
mod finding;
mod look;
mod losses;
mod notification;
mod relation;
mod rules;
mod source;
mod stream;
mod target;
mod tree;
mod walk;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use changeover_core::cutover::{SourceWitness, Table, TargetWitness};
use changeover_core::{Error, Result, sha256_hex};

pub use cursor::VerifyCursor;
pub use excused::{Excuse, Excused, ExcusedKeys};
pub use finding::{ChangedKey, Kind, Mismatch, Suspect, TableVerified, Verified};
pub use relation::World;
pub use tree::{Digest, data_root};

use relation::Relation;

/// Whether the stores can change while they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Writers are on: what differs is suspect, and rows are not counted.
    Online,
    /// Both stand still: what differs is wrong, and every row is accounted for.
    Frozen,
}

/// What a verification may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a page.
    pub rows: u32,
    /// Bytes of a page, as far as the rows before it let one know.
    pub bytes: usize,
    /// Keys kept at once of an old table that has to be sorted.
    pub sorted: usize,
    /// Mismatches, and suspects, that are listed; those beyond are counted.
    pub listed: usize,
}

impl Default for Limits {
    /// Together below 64 MB of memory.
    fn default() -> Self {
        Self { rows: 2_048, bytes: 1 << 20, sorted: 50_000, listed: 2_000 }
    }
}

/// A chunk that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkVerified {
    /// The table of the new store.
    pub target: String,
    /// Rows of the old store.
    pub rows: u64,
    /// Merkle tree hash over the digests of the rows: old store.
    pub source: Digest,
    /// The same of the new store.
    pub target_digest: Digest,
}

/// Compares an old store with a new one.
pub struct Verifier {
    relations: Vec<Arc<Relation>>,
    /// Digest of what is compared and how.
    plan: String,
    source: Arc<dyn SourceWitness>,
    target: Arc<dyn TargetWitness>,
    limits: Limits,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("relations", &self.relations.len()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// For these declarations.
    ///
    /// # Errors
    ///
    /// `Invalid` for a declaration that the verifier does not understand: an unknown computation or transformation, a key
    /// whose type has no order.
    pub fn new(
        tables: &[Table],
        world: &World,
        source: Arc<dyn SourceWitness>,
        target: Arc<dyn TargetWitness>,
    ) -> Result<Self> {
        Ok(Self::of(Relation::all(tables, world, relation::is_told)?, world, source, target))
    }

    /// For the way back: of what was written to the new store only that is compared which the old one has room for. What
    /// it has no column for was given the value of another one on the way there (`same_as`), and stays behind.
    ///
    /// # Errors
    ///
    /// As [`Verifier::new`].
    pub fn of_way_back(
        tables: &[Table],
        world: &World,
        source: Arc<dyn SourceWitness>,
        target: Arc<dyn TargetWitness>,
    ) -> Result<Self> {
        Ok(Self::of(Relation::all(tables, world, relation::goes_back)?, world, source, target))
    }

    fn of(
        relations: Vec<Relation>,
        world: &World,
        source: Arc<dyn SourceWitness>,
        target: Arc<dyn TargetWitness>,
    ) -> Self {
        let relations: Vec<_> = relations.into_iter().map(Arc::new).collect();
        let plan = sha256_hex(describe::document(&relations, world).to_string().as_bytes());
        Self { relations, plan, source, target, limits: Limits::default() }
    }

    /// With other limits.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The tables of the new store that are compared, in their order.
    pub fn targets(&self) -> Vec<&str> {
        self.relations.iter().map(|relation| &*relation.target).collect()
    }

    /// The document from which an independent program can compute the data root of the old file: what is read from where and
    /// how values are encoded. Rows in quarantine are to be added to it, see the guide.
    pub fn describe(tables: &[Table], world: &World) -> Result<serde_json::Value> {
        let relations: Vec<_> =
            Relation::all(tables, world, relation::is_told)?.into_iter().map(Arc::new).collect();
        Ok(describe::document(&relations, world))
    }

    /// Compares all tables, from the beginning or from where a cursor says.
    ///
    /// `watch` sees each chunk and where the walk stands behind it; it ends the walk by `Break`, and the answer is not
    /// `finished` then.
    ///
    /// # Errors
    ///
    /// Those of the witnesses. `Invalid` for a cursor that was made under other declarations, and for a table of the new
    /// store that does not come in the order of its key.
    pub async fn run(
        &self,
        mode: Mode,
        from: Option<VerifyCursor>,
        excused: &dyn Excused,
        watch: &mut (dyn FnMut(&ChunkVerified, &VerifyCursor) -> ControlFlow<()> + Send),
    ) -> Result<Verified> {
        let mut cursor = match from {
            Some(cursor) if cursor.plan != self.plan => {
                return Err(Error::invalid(
                    "the cursor belongs to a verification under other declarations; begin anew without it",
                ));
            }
            Some(cursor) => cursor,
            None => VerifyCursor { plan: self.plan.clone(), ..VerifyCursor::default() },
        };
        while let Some(relation) = self.relations.get(cursor.relation) {
            if self.walk(relation, mode, &mut cursor, excused, watch).await?.is_break() {
                return Ok(cursor.so_far);
            }
            cursor.relation += 1;
        }
        cursor.so_far.finished = true;
        Ok(cursor.so_far)
    }

    /// Compares one table of the new store, by its name.
    ///
    /// # Errors
    ///
    /// As of [`Verifier::run`]; `Invalid` for a name that is not among [`Verifier::targets`].
    pub async fn table(&self, target: &str, mode: Mode, excused: &dyn Excused) -> Result<Verified> {
        let relation = self.relation(target)?;
        let mut cursor = VerifyCursor::default();
        let flow =
            self.walk(relation, mode, &mut cursor, excused, &mut |_, _| ControlFlow::Continue(())).await?;
        cursor.so_far.finished = flow.is_continue();
        Ok(cursor.so_far)
    }

    fn relation(&self, target: &str) -> Result<&Arc<Relation>> {
        let found = self.relations.iter().find(|relation| relation.target == target);
        found.ok_or_else(|| {
            Error::invalid(format!(
                "no table {target:?} is verified, there are {}",
                self.targets().join(", ")
            ))
        })
    }
}
