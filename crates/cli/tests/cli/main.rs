//! The command as its users meet it: the real binary, its exit status, what it prints and what it leaves behind.

mod common;
mod demo;
mod import;
mod postgres;
mod read;
mod schema;
mod settings;
mod usage;
