//! Reads compared with the store that a module is moved to: what is found, what is no difference, and that no caller notices.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod adopted;
mod budget;
#[path = "../common/mod.rs"]
mod common;
mod found;
mod legacy;
mod losses;
mod quarantine;
mod reads;
mod settings;
mod stage;
mod writers;
