//! The checked model of the cutover: every order of steps, in small configurations.
//!
//! It is the protocol with the stores reduced to what decides. One step is one transaction in one store, or one
//! reading; between a coordinator's reading (`decide`) and its transaction (`commit`) anything may happen, so each
//! transaction checks again what its decision relied on. The words are those of `changeover_cutover::phase`.
//!
//! | protocol | model |
//! |---|---|
//! | prepare, SQLite then PostgreSQL | `PrepareSqlite`, `PreparePostgres` |
//! | copy a chunk: read, then write | `Decide(CopyWrite)`, its `Commit` |
//! | apply dirty keys: read, then write | `Decide(ApplyWrite)`, its `Commit` |
//! | verify online | `Verify` (looks at nothing) |
//! | fence; drain; seal; switch | `Fence`, `RecordFence`; `RecordDrain`; `Seal`; `Switch` |
//! | abort, PostgreSQL then SQLite | `Abort`, `Unfence` |
//! | revert (1); through the gate; (4); (5) | `RevertFence`; `GateWrite`; `RevertOwn`; `Unfence` |
//! | a revert that the file refuses: back to (1) | `Stay`, decided at any time behind the fence |
//! | finalize | `Finalize` |
//! | a crash at any point | the process takes no more steps, and comes back by `Lease` with nothing in memory |
//! | a lease lost to the other coordinator | `Lease`; the older one keeps token and transaction, a zombie |
//! | a reply lost, the commit done now, later or never | `LoseReply`, `Deliver` |
//! | a writer with old settings | `WriteSqlite` is tried in every state; the store alone says no |
//! | quarantine: approved; repaired | `Approve`; a later write of the service, applied |
//!
//! Not modelled: partial chunks, damage to a store or its loss, spill files, the clock (a lease may be lost at any time),
//! and a writer's own transaction, which is one step since SQLite's lock and PostgreSQL's advisory lock make it one.
//!
//! `CHANGEOVER_MODEL=large cargo test -p changeover-cutover-model -- --nocapture` searches a bigger configuration: minutes, and
//! some gigabytes.
//!
//! A crate of its own, and tests alone, since it is compiled with optimisations: it searches millions of states.

#[cfg(test)]
mod commit;
#[cfg(test)]
mod decide;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod liveness;
#[cfg(test)]
mod mutants;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod searches;
#[cfg(test)]
mod state;
