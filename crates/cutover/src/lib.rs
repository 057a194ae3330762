//! The cutover: a module moves from one backend (SQLite) to another (PostgreSQL) while it goes on taking writes.
//!
//! This crate knows the contract of [`changeover_core`] and no database. What is here: the tables by declaration
//! ([`declare`]), rows of the old store as rows of the new one with every reason that speaks against them ([`convert`]), what a
//! file holds before anything is touched ([`plan`]), the comparison of both stores ([`verify`]), the coordinator that runs
//! the protocol ([`engine`]), and the evidence of a run as files ([`report`]). The protocol is checked by a model of it, `crates/cutover-model`, which uses the names of [`phase`].

pub mod convert;
pub mod declare;
pub mod engine;
pub mod hazards;
pub mod phase;
pub mod plan;
pub mod report;
pub mod verify;

pub use changeover_core::cutover as contract;
pub use engine::{Copied, Cutover, Drilled, DrilledTable, Goal, Pause, Status, Step, Terms};
