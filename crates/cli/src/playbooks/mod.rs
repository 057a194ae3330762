//! `playbooks`: the door to a module's catalog.

mod export;
mod import;
mod line;
mod search;

use changeover::Db;

use crate::args::Playbooks;
use crate::exit::{Failure, Status};
use crate::lines;
use crate::output::Out;

pub use import::Versions as Import;
pub use line::parse;
pub use search::search;

pub async fn run(command: Playbooks, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let module = match &command {
        Playbooks::Import { module, .. }
        | Playbooks::Export { module, .. }
        | Playbooks::Versions { module, .. } => module,
        Playbooks::Search(search) => &search.module,
    };
    if let Playbooks::Search(search) = &command {
        search::check(search)?;
    }
    let catalog = db.playbooks(module.module.as_str())?.catalog().await?;
    match command {
        Playbooks::Import { file, .. } => lines::run(Import::new(catalog), &file, parse, out).await,
        Playbooks::Export { ids, .. } => export::export(&*catalog, ids, out).await,
        Playbooks::Search(options) => search(&*catalog, options, out).await,
        Playbooks::Versions { id, .. } => export::versions(&*catalog, id, out).await,
    }
}
