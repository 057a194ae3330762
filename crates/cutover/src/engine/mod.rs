//! The coordinator: takes a module from the old store to the new one, back again, or gives it up.
//!
//! What is done next is decided from the two stores alone, each time anew, so that a run can be killed anywhere and gone on
//! with by any process. One coordinator at a time has the lease, and every transaction in the new store checks it. The order
//! of steps is the one that the checked model (`crates/cutover-model`) knows.
//!
//! ```no_run
//! # use changeover_core::{OpenBackend, ModuleScope, TenantId};
//! # use changeover_cutover::{Cutover, Goal, Terms};
//! # async fn example(old: &dyn OpenBackend, new: &dyn OpenBackend, scope: &ModuleScope,
//! #     tables: Vec<changeover_core::cutover::Table>) -> changeover_core::Result<()> {
//! let cutover = Cutover::new(scope, tables, old.cutover(scope)?, new.cutover(scope)?, "an operator")?;
//! let status = cutover.run(&Terms::new(TenantId::new("acme")?), Goal::Switched).await?;
//! assert_eq!(status.owner.as_str(), "postgres");
//! # Ok(())
//! # }
//! ```

mod away;
mod back;
mod batch;
mod copy;
mod cut;
mod drill;
mod drive;
pub mod fail;
mod follow;
mod guard;
mod prove;
mod recover;
mod root;
mod rounds;
mod session;
mod settle;
mod status;
mod terms;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use changeover_core::cutover::{
    Archiving, CutoverSide, CutoverSource, CutoverTarget, Recorded, Run, SourceWitness, Table, TargetWitness,
};
use changeover_core::{Error, ErrorKind, ModuleScope, Result, Uuid};

pub use drill::{Drilled, DrilledTable};
pub use drive::Goal;
pub use status::Status;
pub use terms::Terms;

use crate::phase::{Owner, Phase};

/// Where writers that meet the fence are sent: the kind of the new store.
const MOVED_TO: &str = "postgres";

type Watch = Arc<dyn Fn(&Step) + Send + Sync>;

/// One module on its way between two stores.
#[derive(Clone)]
pub struct Cutover {
    module: String,
    tables: Vec<Table>,
    source: Arc<dyn CutoverSource>,
    source_witness: Arc<dyn SourceWitness>,
    target: Arc<dyn CutoverTarget>,
    target_witness: Arc<dyn TargetWitness>,
    /// Who does it, for the record.
    who: String,
    /// The same, told apart from every other process.
    holder: String,
    watch: Watch,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The run is in another phase.
    Phase(Phase),
    /// A chunk was stored.
    Copied(Copied),
    /// Everything is copied, and the indexes that were left off for that are being built.
    Indexing,
    /// Captured changes were applied; so many are left.
    Followed {
        /// Captured changes that are not applied yet.
        left: u64,
    },
    /// Rows were compared.
    Compared {
        /// The table of the new store.
        table: String,
        /// Rows of all tables that were compared so far.
        rows: u64,
    },
    /// Changes of the new store were written to the file.
    WroteBack {
        /// Rows written.
        rows: u64,
        /// Changes left.
        left: u64,
    },
    /// The file was opened again before the switch.
    WentBack {
        /// Why.
        why: String,
    },
    /// Writers stood still.
    Paused(Pause),
    /// The module is finalized, and this became of the old store.
    Archive(Archiving),
    /// A store cannot be had, somebody else has the lease, or replicas are behind: it is tried again.
    Waiting {
        /// Why.
        why: String,
    },
}

/// How far a copy is.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// Name of the declaration.
    pub table: String,
    /// Rows of it that were read.
    pub rows: u64,
    /// Rows that it had.
    pub of: u64,
    /// Bytes of content that were read of it.
    pub bytes: u64,
    /// Rows a second, of all tables, since this process began to copy.
    pub rows_per_second: f64,
    /// How long the copy of all tables takes at that rate.
    pub left: Option<Duration>,
}

/// How long nobody could write, as the coordinator saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// From before the fence to after the owner was there.
    pub took: Duration,
    /// Who takes writes since.
    pub ended: Owner,
}

impl Cutover {
    /// Of a module, by the declarations of its tables ([`crate::declare::present`] leaves out what a file need not have). `who`
    /// is for the record.
    ///
    /// # Errors
    ///
    /// `Unsupported` unless `old` can be moved from and `new` moved to; `Config` for a module without tables.
    pub fn new(
        scope: &ModuleScope,
        tables: Vec<Table>,
        old: CutoverSide,
        new: CutoverSide,
        who: impl Into<String>,
    ) -> Result<Self> {
        let module = scope.module.to_string();
        let (source, source_witness) = match old {
            CutoverSide::Old { source, witness } => (source, witness),
            CutoverSide::New { .. } => {
                let message = format!("module {module} cannot be moved from this backend, only to it");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let (target, target_witness) = match new {
            CutoverSide::New { target, witness } => (target, witness),
            CutoverSide::Old { .. } => {
                let message = format!("module {module} cannot be moved to this backend, only from it");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        if tables.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!("module {module} has no table that could be moved"),
            ));
        }
        let who = who.into();
        let holder =
            format!("{who} (process {}, {})", std::process::id(), &Uuid::new_v4().simple().to_string()[..8]);
        let watch: Watch = Arc::new(|_| {});
        Ok(Self { module, tables, source, source_witness, target, target_witness, who, holder, watch })
    }

    /// With somebody who is told of every step; called often, and must not block.
    #[must_use]
    pub fn watching(self, watch: impl Fn(&Step) + Send + Sync + 'static) -> Self {
        Self { watch: Arc::new(watch), ..self }
    }

    /// Name of the module.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The tables of the module.
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// The old store, for the plan.
    pub fn source(&self) -> &dyn CutoverSource {
        &*self.source
    }

    /// The new store, for the plan.
    pub fn target(&self) -> &dyn CutoverTarget {
        &*self.target
    }

    /// The last run.
    ///
    /// # Errors
    ///
    /// `NotFound` if the module never had one; those of the store.
    pub async fn last_run(&self) -> Result<Run> {
        self.target.run().await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("module {} never had a cutover here", self.module))
        })
    }

    /// The record of a run, whole, in its order.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn record(&self, run: Option<Uuid>) -> Result<Vec<Recorded>> {
        let mut all: Vec<Recorded> = Vec::new();
        loop {
            let after = all.last().map_or(0, |it| it.number);
            let page = self.target.entries(run, after, session::PAGE).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
}

impl fmt::Debug for Cutover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutover")
            .field("module", &self.module)
            .field("tables", &self.tables.len())
            .finish_non_exhaustive()
    }
}
