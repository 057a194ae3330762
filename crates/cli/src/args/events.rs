//! `events`.

use std::path::PathBuf;

use changeover::events::{Direction, EventFilter, StreamId, Version};
use changeover::{AggregateType, Checkpoint, EventType, ModuleName};
use clap::{Args, Subcommand};

use super::parse::{aggregate_type, checkpoint, event_type, module, stream, version};

#[derive(Subcommand)]
pub enum Events {
    /// Append the events of a JSON Lines file
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The file; - for standard input
        file: PathBuf,
        #[command(flatten)]
        module: Module,
    },
    /// Print the log as JSON Lines, in its order
    #[command(after_help = EXPORT_HELP)]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Only what comes after this checkpoint
        #[arg(long, value_name = "CHECKPOINT", value_parser = checkpoint)]
        after: Option<Checkpoint>,
        #[command(flatten)]
        module: Module,
    },
    /// Print the events of one stream
    #[command(after_help = READ_HELP)]
    Read(Read),
    /// Print the end of the log, and follow it
    #[command(after_help = TAIL_HELP)]
    Tail(Tail),
}

const IMPORT_HELP: &str = "\
One event a line, a JSON object with these fields:
  aggregate_type, aggregate_id, aggregate_version, event_type, event_version, event_data   required
  metadata, occurred_at, correlation_id, causation_id, event_id                            optional
  global_order, recorded_at, checkpoint                      the store's own, as in an export: not read
Any other field, or one that stands twice, rejects the line.

The stream must be at the version before aggregate_version. The order of the file becomes the order of
the log. A line without event_id gets the UUIDv5 of TYPE/ID/VERSION in the namespace
d177c5ff-3d62-5ca9-a69d-2d4a1bbe2527, so that importing a file again changes nothing. Blank lines and a
byte order mark at the start are skipped and reported.

A line that is rejected is reported with its number and the reason, the others are imported, and the
exit status is 3. After an interruption run the same command again: it goes on where it stopped.

Examples:
  changeover events import history.jsonl
  gunzip -c history.jsonl.gz | changeover events import - --tenant acme";

const EXPORT_HELP: &str = "\
The fields are those that import reads, the store's own added; every line can be imported again.
The output is JSON Lines whatever --format says. The checkpoint to go on after goes to standard error.

Examples:
  changeover events export > events.jsonl
  changeover events export --type OrderPlaced --type OrderShipped
  changeover events export --after c1.018f…d2.1200 --module orders";

const READ_HELP: &str = "\
A stream that does not exist is exit status 3; a range without events prints nothing.

Examples:
  changeover events read Order/018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01
  changeover events read Order/018f4e5a-7c1b-7d2e-9f3a-5b6c7d8e9f01 --backward --limit 1 --format json";

const TAIL_HELP: &str = "\
Examples:
  changeover events tail
  changeover events tail --follow --format json
  changeover events tail --after c1.018f…d2.1200 --follow";

#[derive(Args)]
pub struct Module {
    /// The module whose event store is meant
    #[arg(long, value_name = "MODULE", default_value = "events", value_parser = module)]
    pub module: ModuleName,
}

#[derive(Args)]
pub struct Filter {
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    event_types: Vec<EventType>,
    /// Only this stream, TYPE/ID; may be given several times
    #[arg(long = "stream", value_name = "STREAM", value_parser = stream)]
    streams: Vec<StreamId>,
    /// Only streams of this aggregate type; may be given several times
    #[arg(long = "category", value_name = "TYPE", value_parser = aggregate_type)]
    categories: Vec<AggregateType>,
}

impl Filter {
    /// As the store takes it: a list that was not given does not filter.
    pub fn into_filter(self) -> EventFilter {
        fn given<T>(list: Vec<T>) -> Option<Vec<T>> {
            (!list.is_empty()).then_some(list)
        }
        EventFilter {
            streams: given(self.streams),
            aggregate_types: given(self.categories),
            event_types: given(self.event_types),
        }
    }
}

#[derive(Args)]
pub struct Read {
    /// The stream, TYPE/ID
    #[arg(value_parser = stream)]
    pub stream: StreamId,
    /// The lowest version wanted
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub from: Option<Version>,
    /// The highest version wanted
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub to: Option<Version>,
    /// By falling version
    #[arg(long)]
    pub backward: bool,
    /// At most this many events [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub module: Module,
}

impl Read {
    pub fn direction(&self) -> Direction {
        if self.backward { Direction::Backward } else { Direction::Forward }
    }
}

#[derive(Args)]
pub struct Tail {
    #[command(flatten)]
    pub filter: Filter,
    /// Begin after this checkpoint
    #[arg(long, value_name = "CHECKPOINT", value_parser = checkpoint, conflicts_with = "lines")]
    pub after: Option<Checkpoint>,
    /// Begin with the last N events
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub lines: u32,
    /// Go on with what is appended from now on, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    pub module: Module,
}
