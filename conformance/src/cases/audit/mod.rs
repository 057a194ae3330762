//! The cases of the audit repository.

pub mod chain;
pub mod create;
pub mod faults;
pub mod filters;
pub mod lifecycle;
pub mod parity;
pub mod query;
pub mod recorded_order;
pub mod retention;
pub mod tenants;
pub mod times;
pub mod values;
