//! The cases of the playbook catalog.

pub mod changes;
pub mod durability;
pub mod embedding;
pub mod latest;
pub mod lifecycle;
pub mod parity;
pub mod put;
pub mod reads;
pub mod search;
pub mod tenants;
pub mod values;
