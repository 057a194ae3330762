//! One contract, every backend: the suite that holds a store to the `# Behavior` lists of `changeover-core`.
//!
//! Two databases stay equal only if something asks both of them the same questions. A backend, also one of a user's
//! own, is put under the suite by a [`Harness`] of about fifteen lines and one macro, which makes one test a case:
//!
//! ```
//! # use std::sync::Arc;
//! # use async_trait::async_trait;
//! # use changeover_conformance::{EventsOnly, Family, Harness, StartError};
//! # use changeover_core::{EventStore, OpenBackend};
//! # async fn open_my_store() -> Result<Arc<dyn EventStore>, StartError> { Err("yours goes here".into()) }
//! struct MyHarness {
//!     store: Arc<dyn EventStore>,
//! }
//!
//! #[async_trait]
//! impl Harness for MyHarness {
//!     const NAME: &str = "mine";
//!     const STORES: &[Family] = &[Family::Events];
//!
//!     async fn start() -> Result<Self, StartError> {
//!         Ok(Self { store: open_my_store().await? })
//!     }
//!
//!     async fn client(&self) -> Arc<dyn OpenBackend> {
//!         EventsOnly::serving(self.tenant(), Arc::clone(&self.store))
//!     }
//! }
//!
//! mod mine {
//!     use super::MyHarness;
//!     changeover_conformance::event_store_suite!(MyHarness);
//! }
//! # fn main() {}
//! ```
//!
//! A backend that brings audit repositories or playbook catalogs too says so in `STORES` and is asked by `audit_suite!`
//! and `playbook_suite!` as well.
//!
//! No case is skipped. Where a backend cannot do a thing, its capabilities say so and the case asks for the refusal;
//! where a harness cannot cause a fault ([`Faults`]), the case asks for what can be seen without it, and the reason
//! stands in the matrix.

#[deny(dead_code, reason = "a case that the lists in `lists` do not name would never run")]
mod cases;
mod catalogue;
mod events_only;
mod forward;
mod harness;
mod lists;
mod model;
mod report;
mod runner;
mod support;

pub use catalogue::{Case, cases};
pub use changeover_core::backend::Family;
pub use events_only::EventsOnly;
pub use harness::{
    AnyHarness, AuditTamper, Fault, Faults, Harness, Held, NoFaults, OpenOptions, RawRow, StartError,
    Unsupported,
};
pub use report::{CaseResult, Column, Mutant, Outcome, Report};
pub use runner::{Subject, check, left_out, run};
