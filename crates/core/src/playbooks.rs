//! placeholder
#[allow(missing_docs)]
pub trait PlaybookCatalog: Send + Sync {}
