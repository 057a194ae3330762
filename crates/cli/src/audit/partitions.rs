//! `audit partitions`: the months that PostgreSQL keeps records in.

use changeover::audit::AuditFilter;
use changeover::{Audit, AuditRepository, Timestamp};
use serde::Serialize;

use crate::exit::{Failure, Status};
use crate::output::Out;

pub async fn partitions(
    audit: &Audit,
    repository: &dyn AuditRepository,
    create: bool,
    out: &mut Out,
) -> Result<Status, Failure> {
    todo!()
}
