//! What a cutover needs of a backend: tables by declaration, raw values out of the old store, typed ones into the new.
//!
//! The engine is in `changeover-cutover` and knows nothing but this. The old store is a [`CutoverSource`] (ordered chunks
//! of raw rows, the keys that changed, a fence in the store itself), the new one a [`CutoverTarget`] (every method one
//! transaction, and none that changes anything for a coordinator whose lease is gone). The verifier looks through doors of its
//! own, [`SourceWitness`] and [`TargetWitness`], which share no code with those.

mod declaration;
mod source;
mod target;
mod values;

use std::fmt;
use std::sync::Arc;

pub use declaration::{Also, Column, From, Reference, SourceColumn, Table, TimeUnit, Type, Unique};
pub use source::{
    Archive, Archiving, BackBatch, BackChange, CaptureTable, Chunk, ChunkRead, Cloned, CutoverSource, Dirty,
    DirtyKey, Meta, ReadRows, SourceFacts, SourceTable, SourceWitness, Witnessed,
};
pub use target::{
    Apply, Authority, BackChanges, BackKey, ChunkDone, CopyChunk, CutoverTarget, Decision, Entry, Lease,
    NewRun, Progress, QuarantineFilter, Quarantined, Reason, Recorded, RefusedRow, Run, Seal, Switch,
    TableProgress, TargetColumn, TargetFacts, TargetTable, TargetWitness,
};
pub use values::{Change, Raw, RawKey, RawRow, Value};

/// What a backend is in a cutover.
#[derive(Clone)]
pub enum CutoverSide {
    /// It can be moved from.
    Old {
        /// What the engine works with.
        source: Arc<dyn CutoverSource>,
        /// What the verifier looks through.
        witness: Arc<dyn SourceWitness>,
    },
    /// It can be moved to.
    New {
        /// What the engine works with.
        target: Arc<dyn CutoverTarget>,
        /// What the verifier looks through.
        witness: Arc<dyn TargetWitness>,
    },
}

impl fmt::Debug for CutoverSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Old { .. } => "CutoverSide::Old",
            Self::New { .. } => "CutoverSide::New",
        })
    }
}
