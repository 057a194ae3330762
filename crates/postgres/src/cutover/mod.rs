//! PostgreSQL as the new store of a cutover: the authority on who owns the module, and where rows arrive.
//!
//! Rules every method keeps: one transaction; the run's row locked and its token compared first; the module's lock before
//! that, where the owner changes. What is kept of a run lies in the schema `cutover` (`migrations/base/0002_cutover`).

mod back;
mod begin;
mod binary;
mod conflict;
mod connections;
mod evidence;
mod facts;
mod lease;
mod line;
mod link;
mod load;
mod locks;
mod raw;
mod refused;
mod scratch;
mod shape;
mod structure;
mod switch;
mod witness;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use changeover_core::cutover::{
    Apply, Authority, BackChanges, ChunkDone, CopyChunk, CutoverSide, CutoverTarget, Decision, Entry, Lease,
    NewRun, Progress, QuarantineFilter, Quarantined, Recorded, RefusedRow, Run, Seal, Switch, Table,
    TargetFacts, Value,
};
use changeover_core::{Applied, Error, ErrorKind, LogId, ModuleScope, Result, TenantId, Timestamp, Uuid};

use connections::{Connections, Tx};
use lease::{Held, hold_leased, keep};
use line::Lines;
use load::Refused;
use shape::Shape;

use crate::settings::Settings;

/// The module as a cutover moves it into this database.
pub(crate) fn side(settings: &Arc<Settings>, scope: &ModuleScope) -> CutoverSide {
    let lines = Lines::new(settings, scope);
    let target = PostgresTarget {
        module: scope.module.to_string(),
        connections: Connections::new(&lines),
        shape: Mutex::default(),
    };
    CutoverSide::New { target: Arc::new(target), witness: Arc::new(witness::PostgresWitness::new(&lines)) }
}

struct PostgresTarget {
    module: String,
    connections: Connections,
    /// The tables of the run that was dealt with last.
    shape: Mutex<Option<(Uuid, Arc<Shape>)>>,
}

impl PostgresTarget {
    async fn shape(&self, tx: &Tx<'_>, held: &Held) -> Result<Arc<Shape>> {
        let known = self.shape.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((run, shape)) = known
            && run == held.run
        {
            return Ok(shape);
        }
        let shape = Arc::new(Shape::load(tx, &held.tables, &held.tenant).await?);
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = Some((held.run, Arc::clone(&shape)));
        Ok(shape)
    }

    /// What a unique key refused, found out in a transaction that is taken back.
    async fn conflict_of_copy(&self, lease: &Lease, chunk: &CopyChunk) -> Result<ChunkDone> {
        let tx = self.connections.begin().await?;
        let found = async {
            let held = hold_leased(&tx, &self.module, lease).await?;
            let shape = self.shape(&tx, &held).await?;
            let table = shape.table_at(chunk.table)?;
            load::remove(&tx, table, &chunk.replace).await?;
            let rows: Vec<_> = chunk.rows.iter().map(Vec::as_slice).collect();
            conflict::find(&tx, chunk.table, table, &rows)
                .await?
                .ok_or_else(|| conflict::unexplained(&table.target))
        }
        .await;
        tx.roll_back().await;
        found
    }

    async fn conflict_of_apply(&self, lease: &Lease, apply: &Apply) -> Result<ChunkDone> {
        let tx = self.connections.begin().await?;
        let found = async {
            let held = hold_leased(&tx, &self.module, lease).await?;
            let shape = self.shape(&tx, &held).await?;
            for (index, table) in shape.tables.iter().enumerate() {
                let of: Vec<_> =
                    apply.changes.iter().filter(|it| it.table == index).map(|it| it.key.clone()).collect();
                load::remove(&tx, table, &of).await?;
            }
            for (index, table) in shape.tables.iter().enumerate() {
                let of: Vec<(usize, &[Value])> = apply
                    .changes
                    .iter()
                    .enumerate()
                    .filter(|(_, it)| it.table == index)
                    .filter_map(|(place, it)| Some((place, it.row.as_deref()?)))
                    .collect();
                let rows: Vec<_> = of.iter().map(|(_, row)| *row).collect();
                match conflict::find(&tx, index, table, &rows).await? {
                    Some(ChunkDone::Conflict { row, stored, constraint }) => {
                        let row = of.get(row).map_or(row, |(place, _)| *place);
                        return Ok(ChunkDone::Conflict { row, stored, constraint });
                    }
                    Some(other) => return Ok(other),
                    None => {}
                }
                // Two declarations may have one table, so what comes later is compared with these as well.
                load::store(&tx, table, &rows).await.map_err(|refused| {
                    refused.into_error(&table.target, || conflict::unexplained(&table.target))
                })?;
            }
            Err(conflict::unexplained("of the run"))
        }
        .await;
        tx.roll_back().await;
        found
    }

    /// The rows that a constraint refused, found out in a transaction that is taken back.
    async fn refused_of_copy(&self, lease: &Lease, chunk: &CopyChunk, by: &str) -> Result<ChunkDone> {
        let tx = self.connections.begin().await?;
        let found = async {
            let held = hold_leased(&tx, &self.module, lease).await?;
            let shape = self.shape(&tx, &held).await?;
            let table = shape.table_at(chunk.table)?;
            load::remove(&tx, table, &chunk.replace).await?;
            let rows: Vec<_> = chunk.rows.iter().map(Vec::as_slice).collect();
            let found = refused::find(&tx, table, &rows).await?;
            if found.is_empty() {
                Err(load::at_fault(&table.target, by))
            } else {
                Ok(ChunkDone::Refused(found))
            }
        }
        .await;
        tx.roll_back().await;
        found
    }

    async fn refused_of_apply(&self, lease: &Lease, apply: &Apply, by: &str) -> Result<ChunkDone> {
        let tx = self.connections.begin().await?;
        let found = async {
            let held = hold_leased(&tx, &self.module, lease).await?;
            let shape = self.shape(&tx, &held).await?;
            for (index, table) in shape.tables.iter().enumerate() {
                let of: Vec<_> =
                    apply.changes.iter().filter(|it| it.table == index).map(|it| it.key.clone()).collect();
                load::remove(&tx, table, &of).await?;
            }
            let mut found = Vec::new();
            for (index, table) in shape.tables.iter().enumerate() {
                let of = apply.changes.iter().enumerate().filter(|(_, it)| it.table == index);
                let of: Vec<(usize, &[Value])> =
                    of.filter_map(|(place, it)| Some((place, it.row.as_deref()?))).collect();
                let rows: Vec<_> = of.iter().map(|(_, row)| *row).collect();
                for it in refused::find(&tx, table, &rows).await? {
                    found.push(RefusedRow {
                        row: of.get(it.row).map_or(it.row, |(place, _)| *place),
                        by: it.by,
                    });
                }
            }
            if found.is_empty() {
                Err(load::at_fault("of the run", by))
            } else {
                Ok(ChunkDone::Refused(found))
            }
        }
        .await;
        tx.roll_back().await;
        found
    }
}

/// Runs a method's work in a transaction of its own, and names the method in its error.
macro_rules! in_transaction {
    ($self:ident, $operation:literal, |$tx:ident| $work:expr) => {{
        let done = async {
            let $tx = $self.connections.begin().await?;
            let outcome = async { $work }.await;
            $tx.end(outcome).await
        };
        done.await.map_err(|error: Error| error.during($operation))
    }};
}

#[async_trait]
impl CutoverTarget for PostgresTarget {
    async fn facts(&self, tables: &[Table]) -> Result<TargetFacts> {
        in_transaction!(self, "cutover.facts", |tx| facts::facts(&tx, &self.connections, tables).await)
    }

    async fn authority(&self) -> Result<Option<Authority>> {
        in_transaction!(self, "cutover.authority", |tx| {
            if !facts::is_there(&tx, "changeover.module").await? {
                return Ok(None);
            }
            let sql = "SELECT owner, epoch, log_id FROM changeover.module WHERE module = $1";
            let row = tx.optional(sql, &[&self.module]).await?;
            Ok(row.map(|row| Authority { owner: row.get(0), epoch: row.get(1), log: LogId(row.get(2)) }))
        })
    }

    async fn run(&self) -> Result<Option<Run>> {
        in_transaction!(self, "cutover.run", |tx| {
            if !facts::is_there(&tx, "cutover.run").await? {
                return Ok(None);
            }
            lease::last(&tx, &self.module).await
        })
    }

    async fn begin(&self, new: &NewRun, entry: Entry) -> Result<Lease> {
        in_transaction!(self, "cutover.begin", |tx| begin::begin(&tx, &self.module, new, &entry).await)
    }

    async fn lease(&self, run: Uuid, holder: &str, ttl: Duration) -> Result<Lease> {
        in_transaction!(self, "cutover.lease", |tx| lease::take(&tx, &self.module, run, holder, ttl).await)
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        in_transaction!(self, "cutover.renew", |tx| {
            hold_leased(&tx, &self.module, lease).await?;
            keep(&tx, lease).await
        })
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        in_transaction!(self, "cutover.release", |tx| {
            hold_leased(&tx, &self.module, lease).await?;
            let sql = "UPDATE cutover.run SET holder = NULL, until = NULL WHERE run = $1";
            tx.execute(sql, &[&lease.run]).await.map(drop)
        })
    }

    async fn enter(&self, lease: &Lease, from: &[&str], to: &str, entry: Entry) -> Result<()> {
        in_transaction!(self, "cutover.enter", |tx| {
            lease::enter(&tx, &self.module, lease, from, to, &entry).await
        })
    }

    async fn copy(&self, lease: &Lease, chunk: &CopyChunk) -> Result<ChunkDone> {
        let done = async {
            let tx = self.connections.begin().await?;
            let outcome = async {
                let held = hold_leased(&tx, &self.module, lease).await?;
                let shape = self.shape(&tx, &held).await?;
                load::copy(&tx, &held, &shape, lease, chunk).await
            }
            .await;
            match outcome {
                Err(Refused::Taken) => {
                    tx.roll_back().await;
                    self.conflict_of_copy(lease, chunk).await
                }
                Err(Refused::Row(by)) => {
                    tx.roll_back().await;
                    self.refused_of_copy(lease, chunk, &by).await
                }
                Err(Refused::Other(error)) => tx.end(Err(error)).await,
                Ok(done) => tx.end(Ok(done)).await,
            }
        };
        done.await.map_err(|error| error.during("cutover.copy"))
    }

    async fn progress(&self, run: Uuid) -> Result<Progress> {
        let done = async {
            let tx = self.connections.snapshot().await?;
            let found = evidence::progress(&tx, &self.module, run).await;
            tx.end(found).await
        };
        done.await.map_err(|error| error.during("cutover.progress"))
    }

    async fn apply(&self, lease: &Lease, apply: &Apply) -> Result<ChunkDone> {
        let done = async {
            let tx = self.connections.begin().await?;
            let outcome = async {
                let held = hold_leased(&tx, &self.module, lease).await?;
                let shape = self.shape(&tx, &held).await?;
                load::apply(&tx, &held, &shape, lease, apply).await
            }
            .await;
            match outcome {
                Err(Refused::Taken) => {
                    tx.roll_back().await;
                    self.conflict_of_apply(lease, apply).await
                }
                Err(Refused::Row(by)) => {
                    tx.roll_back().await;
                    self.refused_of_apply(lease, apply, &by).await
                }
                Err(Refused::Other(error)) => tx.end(Err(error)).await,
                Ok(done) => tx.end(Ok(done)).await,
            }
        };
        done.await.map_err(|error| error.during("cutover.apply"))
    }

    async fn unlinked(
        &self,
        table: &Table,
        reference: usize,
        parent: &Table,
        limit: u32,
    ) -> Result<Vec<Vec<Value>>> {
        in_transaction!(self, "cutover.unlinked", |tx| {
            let run = lease::last(&tx, &self.module).await?;
            let tenant = run.map_or_else(|| TenantId::new("default"), |run| Ok(run.tenant))?;
            link::unlinked(&tx, &tenant, table, reference, parent, limit).await
        })
    }

    async fn replicas_behind(&self) -> Result<u64> {
        in_transaction!(self, "cutover.replicas_behind", |tx| facts::replicas_behind(&tx).await)
    }

    async fn index(&self, lease: &Lease, entry: Entry) -> Result<usize> {
        in_transaction!(self, "cutover.index", |tx| {
            let held = hold_leased(&tx, &self.module, lease).await?;
            link::index(&tx, &self.module, &held, lease, &entry).await
        })
    }

    async fn link(&self, lease: &Lease, entry: Entry) -> Result<()> {
        in_transaction!(self, "cutover.link", |tx| {
            let held = hold_leased(&tx, &self.module, lease).await?;
            link::link(&tx, &self.module, &held, lease, &entry).await
        })
    }

    async fn seal(&self, lease: &Lease, seal: &Seal, entry: Entry) -> Result<()> {
        in_transaction!(self, "cutover.seal", |tx| {
            let held = hold_leased(&tx, &self.module, lease).await?;
            let shape = self.shape(&tx, &held).await?;
            link::seal(&tx, &self.module, &held, &shape, lease, seal, &entry).await
        })
    }

    async fn switch(&self, lease: &Lease, switch: &Switch, entry: Entry) -> Result<bool> {
        in_transaction!(self, "cutover.switch", |tx| {
            switch::switch(&tx, &self.module, lease, switch, &entry).await
        })
    }

    async fn unfence(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>> {
        in_transaction!(self, "cutover.unfence", |tx| {
            switch::unfence(&tx, &self.module, lease, epoch, &entry).await
        })
    }

    async fn abort(&self, run: Uuid, epoch: i64, entry: Entry) -> Result<Option<i64>> {
        in_transaction!(self, "cutover.abort", |tx| {
            switch::abort(&tx, &self.module, run, epoch, &entry).await
        })
    }

    async fn fence(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>> {
        in_transaction!(self, "cutover.fence", |tx| {
            switch::fence(&tx, &self.module, lease, epoch, &entry).await
        })
    }

    async fn changes(&self, after: i64, limit: u32) -> Result<BackChanges> {
        back::changes(&self.connections, &self.module, after, limit)
            .await
            .map_err(|error| error.during("cutover.changes"))
    }

    async fn stay(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>> {
        in_transaction!(self, "cutover.stay", |tx| {
            switch::stay(&tx, &self.module, lease, epoch, &entry).await
        })
    }

    async fn give_back(&self, lease: &Lease, epoch: i64, entry: Entry) -> Result<Option<i64>> {
        in_transaction!(self, "cutover.give_back", |tx| {
            switch::give_back(&tx, &self.module, lease, epoch, &entry).await
        })
    }

    async fn finalize(&self, lease: &Lease, entry: Entry) -> Result<()> {
        in_transaction!(self, "cutover.finalize", |tx| {
            switch::finalize(&tx, &self.module, lease, &entry).await
        })
    }

    async fn quarantined(&self, filter: &QuarantineFilter) -> Result<Vec<Quarantined>> {
        in_transaction!(self, "cutover.quarantined", |tx| {
            evidence::quarantined(&tx, &self.module, filter).await
        })
    }

    async fn decide(&self, run: Uuid, ids: &[i64], decision: &Decision, entry: Entry) -> Result<u64> {
        in_transaction!(self, "cutover.decide", |tx| {
            let taken = || {
                Error::new(
                    ErrorKind::AlreadyExists,
                    "a unique value of a repaired row is stored already; nothing was decided: give other values, or approve it",
                )
                .applied(Applied::No)
            };
            let decided = evidence::decide(&tx, &self.module, run, ids, decision, &entry).await;
            decided.map_err(|refused| refused.into_error("of a repaired row", taken))
        })
    }

    async fn record(&self, run: Uuid, entry: Entry) -> Result<()> {
        in_transaction!(self, "cutover.record", |tx| {
            lease::hold(&tx, &self.module, run).await?;
            lease::append(&tx, &self.module, run, &entry).await
        })
    }

    async fn entries(&self, run: Option<Uuid>, after: i64, limit: u32) -> Result<Vec<Recorded>> {
        in_transaction!(self, "cutover.entries", |tx| {
            evidence::entries(&tx, &self.module, run, after, limit).await
        })
    }

    async fn record_drill(&self, about: Uuid, entry: Entry) -> Result<i64> {
        in_transaction!(self, "cutover.record_drill", |tx| {
            scratch::record(&tx, &self.module, about, &entry).await
        })
    }

    async fn now(&self) -> Result<Timestamp> {
        in_transaction!(self, "cutover.now", |tx| scratch::now(&tx).await)
    }

    async fn make_scratch(&self, name: &str) -> Result<()> {
        let made = scratch::make(&self.connections, name).await;
        made.map_err(|error| error.during("cutover.make_scratch"))
    }

    async fn drop_scratch(&self, name: &str) -> Result<()> {
        let dropped = scratch::remove(&self.connections, name).await;
        dropped.map_err(|error| error.during("cutover.drop_scratch"))
    }

    async fn touch(&self, table: &Table, rows: u32) -> Result<u64> {
        in_transaction!(self, "cutover.touch", |tx| scratch::touch(&tx, table, rows).await)
    }
}
