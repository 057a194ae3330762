//! Declarations: which tables a module has, and what their columns become.
//!
//! Ours are TOML files that are part of the program; a user's own are TOML of the same form, which
//! `docs/guides/cutover-declarations.md` describes.
//!
//! ```
//! use changeover_cutover::declare;
//!
//! let declared = declare::parse(
//!     r#"
//!     [[table]]
//!     name = "invoice"
//!     target = "billing.invoice"
//!     key = ["id"]
//!     columns = [
//!         { name = "id", type = "int", min = 1 },
//!         { name = "total", from = "amount", type = "decimal", precision = 10, scale = 2 },
//!     ]
//!     "#,
//!     "invoice.toml",
//! )?;
//! assert_eq!(declared.tables[0].source, "invoice");
//! # Ok::<(), changeover_core::Error>(())
//! ```

mod check;
mod json;
mod keys;
mod read;

use changeover_core::backend::Family;
use changeover_core::cutover::{SourceFacts, Table};
use changeover_core::{Json, ModuleScope, Result, sha256_hex};

pub use check::check;

/// Declared tables, as read.
#[derive(Clone, Debug, PartialEq)]
pub struct Declarations {
    /// The tables, in the order in which they are copied.
    pub tables: Vec<Table>,
}

impl Declarations {
    /// As [`to_json`].
    pub fn to_json(&self) -> Result<Json> {
        to_json(&self.tables)
    }

    /// As [`fingerprint`].
    pub fn fingerprint(&self) -> Result<String> {
        fingerprint(&self.tables)
    }
}

/// Reads declarations; `place` is what errors call the text.
///
/// # Errors
///
/// `Config` names all mistakes at once, each with table, column, key, what was found and what is allowed.
pub fn parse(text: &str, place: &str) -> Result<Declarations> {
    read::tables(text, place).map(|tables| Declarations { tables })
}

/// The tables of a module of ours: of a file of legacy programs if `adopted`, else of one that `migrate up` made. Names
/// are those that the stores give the module's tables.
///
/// Not every file has all of them: see [`present`].
///
/// # Panics
///
/// Never: a test reads all the texts.
pub fn ours(family: Family, adopted: bool, scope: &ModuleScope) -> Vec<Table> {
    let text = match (family, adopted) {
        (Family::Events, true) => include_str!("../../declarations/events_adopted.toml"),
        (Family::Events, false) => include_str!("../../declarations/events_native.toml"),
        (Family::Audit, true) => include_str!("../../declarations/audit_adopted.toml"),
        (Family::Audit, false) => include_str!("../../declarations/audit_native.toml"),
        (Family::Playbooks, true) => include_str!("../../declarations/playbooks_adopted.toml"),
        (Family::Playbooks, false) => include_str!("../../declarations/playbooks_native.toml"),
    };
    let mut tables = read::tables(text, "declarations of the program").expect("a test reads all of them");
    if let Some(namespace) = &scope.namespace {
        // The oldest table belongs to nobody's namespace.
        tables.retain(|table| table.transform.is_none());
        for table in &mut tables {
            table.source = format!("{namespace}_{}", table.source);
            table.target = format!("{namespace}_{}", table.target);
            for also in &mut table.also {
                also.target = format!("{namespace}_{}", also.target);
            }
        }
    }
    tables
}

/// Tables of ours that a file may lack: what was never used was never made.
const OPTIONAL: &[&str] = &["notification_audit", "changeover_consumer"];

/// The tables without those of ours that this file has no need to have, and has not.
pub fn present(mut tables: Vec<Table>, facts: &SourceFacts) -> Vec<Table> {
    let there =
        |table: &Table| facts.tables.iter().any(|found| found.name.eq_ignore_ascii_case(&table.source));
    tables.retain(|table| there(table) || !OPTIONAL.contains(&table.name.as_str()));
    tables
}

/// The tables as a document, complete, under the keys of the TOML form.
///
/// # Errors
///
/// Those of [`Json::of`]: declarations of more than four MiB.
pub fn to_json(tables: &[Table]) -> Result<Json> {
    json::of(tables)
}

/// SHA-256, in hex, of [`to_json`]: equal exactly for equal declarations.
///
/// # Errors
///
/// As [`to_json`].
pub fn fingerprint(tables: &[Table]) -> Result<String> {
    Ok(sha256_hex(to_json(tables)?.as_str().as_bytes()))
}
