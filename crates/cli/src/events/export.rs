//! `events export`: the log in its order, as lines that import reads.

use changeover::events::EventFilter;
use changeover::{Checkpoint, EventStore};

use super::each_page;
use super::line::Exported;
use crate::exit::{Failure, Status};
use crate::output::Out;

pub async fn export(
    store: &dyn EventStore,
    filter: EventFilter,
    after: Option<Checkpoint>,
    out: &mut Out,
) -> Result<Status, Failure> {
    let mut count: u64 = 0;
    let checkpoint = each_page(store, filter, after, |events| {
        count += events.len() as u64;
        events.iter().try_for_each(|event| out.object(&Exported::from(event)))
    })
    .await?;
    out.note(&format!("{count} events; --after {checkpoint} goes on from here"))?;
    Ok(Status::Done)
}
