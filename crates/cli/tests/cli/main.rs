//! The command as its users meet it: the real binary, its exit status, what it prints and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy takes for no tests")]

mod common;
mod demo;
mod import;
mod postgres;
mod read;
mod schema;
mod settings;
mod usage;
