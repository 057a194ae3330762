//! `events tail`: the end of the log, and what comes after it.

use changeover::events::{EventFilter, HeadOf, RecordedEvent, Subscribe};
use changeover::{Checkpoint, Error, EventStore, Message};

use super::{each_page, print};
use crate::args::Tail;
use crate::exit::{Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::Out;

pub async fn tail(store: &dyn EventStore, options: Tail, out: &mut Out) -> Result<Status, Failure> {
    let filter = options.filter.into_filter();
    let mut after = match options.after {
        Some(after) if options.follow => after,
        Some(after) => each_page(store, filter.clone(), Some(after), |events| print(&events, out)).await?,
        None => {
            let (events, checkpoint) = last(store, &filter, options.lines as usize).await?;
            print(&events, out)?;
            checkpoint
        }
    };
    if options.follow {
        follow(store, filter, &mut after, out).await?;
    }
    out.note(&format!("--after {after} goes on from here"))?;
    Ok(Status::Done)
}

/// Prints what comes until an interruption.
async fn follow(
    store: &dyn EventStore,
    filter: EventFilter,
    after: &mut Checkpoint,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut messages =
        store.subscribe(Subscribe { after: Some(*after), filter, ..Subscribe::default() }).await?;
    out.flush()?;
    loop {
        let message = tokio::select! {
            biased;
            () = interrupt.wait() => return Ok(()),
            message = messages.next() => message,
        };
        let message = message.ok_or_else(|| Failure::failed("the subscription ended"))?;
        let message = message.map_err(|error| resumable(error, *after))?;
        *after = message.checkpoint();
        if let Message::Event(event) = message {
            print(&[*event], out)?;
            out.flush()?;
        }
    }
}

fn resumable(error: Error, after: Checkpoint) -> Failure {
    let failure = Failure::from(error);
    Failure::new(failure.status, format!("{failure}\n  --after {after} goes on from here"))
}

/// The last `count` events that match, in their order, and the checkpoint after everything looked at.
async fn last(
    store: &dyn EventStore,
    filter: &EventFilter,
    count: usize,
) -> Result<(Vec<RecordedEvent>, Checkpoint), Failure> {
    let head = store.head(HeadOf::Log).await?.checkpoint;
    let head = head.ok_or_else(|| Failure::failed("the log has no end; this is a defect of the backend"))?;
    if count == 0 {
        return Ok((Vec::new(), head));
    }
    // Positions are not contiguous and a log is read forward only, so look further back until enough is found.
    let mut back = i64::try_from(count).unwrap_or(i64::MAX);
    loop {
        let begin = Checkpoint::new(head.log(), head.position().saturating_sub(back).max(0))?;
        let mut found = Vec::new();
        let checkpoint = each_page(store, filter.clone(), Some(begin), |events| {
            found.extend(events);
            found.drain(..found.len().saturating_sub(count));
            Ok(())
        })
        .await?;
        if found.len() == count || begin.position() == 0 {
            return Ok((found, checkpoint));
        }
        back = back.saturating_mul(8);
    }
}
