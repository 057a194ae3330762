//! Whole moves between a real file and a real database.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[path = "../support/mod.rs"]
mod support;

mod archived;
mod asleep;
mod changed;
mod clocks;
mod deadlocks;
mod faults;
mod followers;
mod full;
mod full_server;
mod killed;
mod load;
mod parted;
mod process;
mod quarantine;
mod races;
mod readers;
mod recent;
mod replicas;
mod restarts;
mod roots;
mod served;
mod stage;
mod stays;
mod storms;
mod under_writers;
mod whole;
