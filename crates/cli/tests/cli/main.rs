//! The command as its users meet it: the real binary, its exit status, what it prints and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy takes for no tests")]

mod audit;
mod common;
mod cutover;
mod cutover_declared;
mod cutover_drill;
mod cutover_modules;
mod cutover_quarantine;
mod cutover_refused;
mod demo;
mod import;
mod playbooks;
mod postgres;
mod read;
mod schema;
mod settings;
mod usage;
