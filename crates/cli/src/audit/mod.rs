//! `audit`: the door to a module's audit trail.

mod import;
mod line;
mod partitions;
mod query;
mod retain;
mod verify;

use changeover::Db;

use crate::args::Audit;
use crate::exit::{Failure, Status};
use crate::lines;
use crate::output::Out;

pub use import::Records as Import;
pub use line::parse;
pub use query::print;
pub use verify::verify;

pub async fn run(command: Audit, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let module = match &command {
        Audit::Import { module, .. }
        | Audit::Export { module, .. }
        | Audit::Verify { module, .. }
        | Audit::Partitions { module, .. } => module,
        Audit::Query(query) => &query.module,
        Audit::Retain(retain) => &retain.module,
    };
    if let Audit::Retain(retain) = &command {
        retain::check(retain)?;
    }
    let audit = db.audit(module.module.as_str())?;
    let repository = audit.repository().await?;
    match command {
        Audit::Import { file, .. } => lines::run(Import::new(repository)?, &file, parse, out).await,
        Audit::Export { filter, page, .. } => query::export(&*repository, &filter, page, out).await,
        Audit::Query(options) => query::query(&*repository, *options, out).await,
        Audit::Verify { correlation_id, .. } => verify(&*repository, correlation_id, out).await,
        Audit::Partitions { create, .. } => partitions::partitions(&audit, &*repository, create, out).await,
        Audit::Retain(options) => retain::retain(&*repository, options, out).await,
    }
}
