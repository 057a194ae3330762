//! The cases of the event store.

pub mod append;
pub mod cancellation;
pub mod errors;
pub mod expected_version;
pub mod faults;
pub mod gap_safety;
pub mod idempotency;
pub mod immutability;
pub mod lifecycle;
pub mod migrations;
pub mod parity;
pub mod read_all;
pub mod read_stream;
pub mod subscription;
pub mod tenants;
pub mod time;
pub mod tracking;
pub mod values;
