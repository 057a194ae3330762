//! `events read`: one stream.

use changeover::events::{ReadStream, RecordedEvent};
use changeover::{EventStore, Limit};

use super::line::Exported;
use crate::args::Read;
use crate::exit::{Failure, Status};
use crate::output::{Out, short};

pub async fn read(store: &dyn EventStore, options: Read, out: &mut Out) -> Result<Status, Failure> {
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut request = ReadStream {
        direction: options.direction(),
        first: options.from,
        last: options.to,
        ..ReadStream::all(options.stream)
    };
    let mut rows = Vec::new();
    while left > 0 {
        // Cannot fail: both bounds lie within those of a limit.
        request.limit = Limit::new(left.min(u64::from(Limit::default().get())).try_into().unwrap_or(1))?;
        let page = store.read_stream(request.clone()).await?;
        if page.head.is_none() {
            return Err(Failure::refused(format!("there is no stream {}", request.stream)));
        }
        left -= page.events.len() as u64;
        for event in &page.events {
            if out.is_json() {
                out.object(&Exported::from(event))?;
            } else {
                rows.push(row(event));
            }
        }
        request.page = page.next;
        if request.page.is_none() {
            break;
        }
    }
    if !out.is_json() {
        out.rows(["version", "event_type", "occurred_at", "event_data"], &rows)?;
    }
    Ok(Status::Done)
}

fn row(event: &RecordedEvent) -> [String; 4] {
    [
        event.version.to_string(),
        event.event_type.to_string(),
        short(event.occurred_at),
        event.data.as_str().to_owned(),
    ]
}
