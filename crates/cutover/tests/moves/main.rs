//! Whole moves between a real file and a real database.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../support/mod.rs"]
mod support;

mod asleep;
mod changed;
mod deadlocks;
mod faults;
mod followers;
mod full;
mod killed;
mod process;
mod quarantine;
mod races;
mod readers;
mod restarts;
mod roots;
mod served;
mod stage;
mod stays;
mod storms;
mod under_writers;
mod whole;
