//! placeholder
#[allow(missing_docs)]
pub trait AuditRepository: Send + Sync {}
