//! The cases of the playbook catalog.

pub mod put;
