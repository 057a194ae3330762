//! `events`: the door to a module's log.

mod batch;
mod export;
mod import;
mod line;
mod read;
mod tail;

use std::sync::Arc;

use changeover::events::{EventFilter, ReadAll, RecordedEvent};
use changeover::{Checkpoint, Db, EventStore};

use self::line::Exported;
use crate::args::Events;
use crate::exit::{Failure, Status};
use crate::lines;
use crate::output::{Out, printable, short};

pub use import::Events as Import;
pub use line::parse;
pub use read::read;

pub async fn run(command: Events, db: &Db, out: &mut Out) -> Result<Status, Failure> {
    let module = match &command {
        Events::Import { module, .. } | Events::Export { module, .. } => module,
        Events::Read(read) => &read.module,
        Events::Tail(tail) => &tail.module,
    };
    let store: Arc<dyn EventStore> = db.events(module.module.as_str())?.store().await?;
    match command {
        Events::Import { file, .. } => lines::run(Import::new(store), &file, parse, out).await,
        Events::Export { filter, after, .. } => {
            export::export(&*store, filter.into_filter(), after, out).await
        }
        Events::Read(options) => read::read(&*store, options, out).await,
        Events::Tail(options) => tail::tail(&*store, options, out).await,
    }
}

/// Gives every page of the log to `take`, to the end; returns the checkpoint to go on after.
async fn each_page(
    store: &dyn EventStore,
    filter: EventFilter,
    after: Option<Checkpoint>,
    mut take: impl FnMut(Vec<RecordedEvent>) -> Result<(), Failure>,
) -> Result<Checkpoint, Failure> {
    let mut request = ReadAll { after, filter, ..ReadAll::default() };
    loop {
        let page = store.read_all(request.clone()).await?;
        take(page.events)?;
        if page.caught_up {
            return Ok(page.checkpoint);
        }
        request.after = Some(page.checkpoint);
    }
}

/// Events as `tail` prints them.
fn print(events: &[RecordedEvent], out: &mut Out) -> Result<(), Failure> {
    for event in events {
        if out.is_json() {
            out.object(&Exported::from(event))?;
        } else {
            out.line(&row(event))?;
        }
    }
    Ok(())
}

/// A line without fixed columns: the log may be followed, so later widths are not known.
fn row(event: &RecordedEvent) -> String {
    let at = short(event.occurred_at);
    printable(&format!("{at}  {}  {}  {}  {}", event.stream, event.version, event.event_type, event.data))
}
