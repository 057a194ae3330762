//! The cases of the audit repository.

pub mod create;
