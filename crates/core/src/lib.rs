//! The contract of Changeover: what a module may ask of a store, whatever database is behind it.
//!
//! A module talks to one of three traits: [`EventStore`], [`AuditRepository`], [`PlaybookCatalog`]. Backends implement
//! them, the conformance suite holds each backend to the `# Behavior` lists written here, and settings decide which
//! backend serves. This crate knows no database, no runtime and no settings library.
//!
//! Values are checked when they are made, so that a backend never sees text with NUL, a time outside of its range or
//! JSON that two databases would store differently:
//!
//! ```
//! use changeover_core::{ErrorKind, Json, Timestamp};
//!
//! let json = Json::parse(r#"{"b": 1.10, "a": -0, "b": 2e1}"#)?;
//! assert_eq!(json.as_str(), r#"{"a":0,"b":20}"#);
//! assert_eq!(Json::parse(r#""\u0000""#).unwrap_err().kind(), ErrorKind::Invalid);
//!
//! let at = Timestamp::parse("2024-02-29T23:30:00.1234567+05:30")?;
//! assert_eq!(at.to_string(), "2024-02-29T18:00:00.123456Z");
//! # Ok::<(), changeover_core::Error>(())
//! ```

pub mod audit;
pub mod backend;
pub mod cutover;
pub mod events;
pub mod playbooks;

mod capabilities;
mod checkpoint;
mod closing;
mod digest;
mod error;
mod json;
mod settings;
mod subscription;
mod text;
mod time;
mod words;

pub use audit::AuditRepository;
pub use backend::{Backend, ModuleScope, OpenBackend, Registry};
pub use capabilities::{Capabilities, Support};
pub use checkpoint::{Checkpoint, LogId};
pub use closing::Closing;
pub use digest::{hex, sha256_hex};
pub use error::{Applied, Detail, Error, ErrorKind, Result};
pub use events::EventStore;
pub use json::Json;
pub use playbooks::PlaybookCatalog;
pub use settings::{BackendSettings, SettingKey, ValueKind};
pub use subscription::{Feed, Message, Subscription, subscription};
pub use text::{AggregateType, ConsumerName, EventType, Limit, ModuleName, Namespace, TenantId, Text};
pub use time::Timestamp;
pub use uuid::Uuid;
