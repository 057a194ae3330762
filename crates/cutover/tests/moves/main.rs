//! Whole moves between a real file and a real database.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../support/mod.rs"]
mod support;

mod faults;
mod killed;
mod quarantine;
mod stage;
mod under_writers;
mod whole;
