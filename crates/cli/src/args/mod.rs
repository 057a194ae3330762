//! What can be typed: the commands, their options and the help texts.

use std::path::PathBuf;

use changeover::events::{Direction, EventFilter, StreamId, Version};
use changeover::{AggregateType, Checkpoint, EventType, ModuleName, Result, TenantId};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Keep a service's records on SQLite or PostgreSQL, chosen by settings.
#[derive(Parser)]
#[command(name = "changeover", version, arg_required_else_help = true, max_term_width = 100, after_help = HELP)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const HELP: &str = "\
Exit status:
  0  done
  1  failed or interrupted
  2  wrong usage or wrong settings
  3  refused because the data say no: a conflict, rejected lines, a schema that is not up to date
  4  a backend cannot be reached

Environment:
  CHANGEOVER_CONFIG  the settings file, instead of ./changeover.toml
  CHANGEOVER_LOG     what is logged to standard error: error, warn (default), info, debug, or by module
  CHANGEOVER_…       any setting, __ between levels: CHANGEOVER_BACKENDS__MAIN__URL

Examples:
  changeover demo
  changeover doctor
  changeover events import history.jsonl";

/// What every command understands.
#[derive(Args)]
pub struct Common {
    /// The settings file [default: the one that `CHANGEOVER_CONFIG` names, else ./changeover.toml if it is there]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Common options")]
    pub config: Option<PathBuf>,
    /// Whose records: a tenant other than the one in the settings
    #[arg(long, global = true, value_name = "TENANT", value_parser = tenant, help_heading = "Common options")]
    pub tenant: Option<TenantId>,
    /// Tables for people, or JSON with one object a line for programs
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Common options")]
    pub format: Format,
    /// Only results and errors: no notices, no progress
    #[arg(long, short, global = true, help_heading = "Common options")]
    pub quiet: bool,
}

/// For whom the output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Subcommand)]
pub enum Command {
    /// Show what this is: real events into a new SQLite file, and a look at them
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
    /// Check settings, backends, schemas and rights
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
    /// Look at the settings
    #[command(subcommand)]
    Config(Config),
    /// Bring schemas up to date, take them back, list what is applied
    #[command(subcommand)]
    Migrate(Migrate),
    /// Import, export and read events
    #[command(subcommand)]
    Events(Events),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  changeover completions bash > ~/.local/share/bash-completion/completions/changeover\n  \
                            source <(changeover completions zsh)"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const DEMO_HELP: &str = "\
Needs nothing: no server, no settings. The file is temporary unless --file names one to keep.
With the address of a PostgreSQL database in CHANGEOVER_DEMO_POSTGRES_URL the same is done there too,
in tables of a module named demo, for a tenant of this run alone.

Examples:
  changeover demo
  changeover demo --file var/demo.db
  CHANGEOVER_DEMO_POSTGRES_URL=postgres://me@localhost/scratch changeover demo";

const DOCTOR_HELP: &str = "\
Applies no migration and claims no module; a SQLite file that is missing may be made, as its settings
say. Exit status 2 if the settings are wrong, 4 if a backend cannot be reached, 3 if
anything else is not as it should be.

Examples:
  changeover doctor
  changeover doctor --config config/production.toml --format json";

#[derive(Args)]
pub struct Demo {
    /// Make the SQLite file here and keep it; it must not exist
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Config {
    /// Print every setting that holds and where it came from; secrets are hidden
    #[command(
        after_help = "Examples:\n  changeover config show\n  changeover config show --format json | jq -r .key"
    )]
    Show,
}

#[derive(Subcommand)]
pub enum Migrate {
    /// Apply what is missing
    #[command(after_help = "Again, it changes nothing. Two at once: one works, the other waits.\n\n\
                            Examples:\n  changeover migrate up\n  changeover migrate up --backend main")]
    Up {
        #[command(flatten)]
        target: Target,
    },
    /// Take back the last migrations of one module on one backend
    #[command(after_help = "Examples:\n  changeover migrate down --backend main --module events\n  \
                            changeover migrate down --backend main --steps 2 --accept-data-loss")]
    Down {
        #[command(flatten)]
        target: Target,
        /// How many
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
        steps: u32,
        /// Also where tables go that hold records
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// List what is applied and what is missing
    #[command(
        after_help = "Exit status 3 if an applied migration was changed or is unknown to this program.\n\n\
                            Examples:\n  changeover migrate status\n  changeover migrate status --backend main --format json"
    )]
    Status {
        #[command(flatten)]
        target: Target,
    },
}

/// Which schemas are meant.
#[derive(Args)]
pub struct Target {
    /// Every module's tables on this backend [default: each module's on the backend the settings give it]
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// This module only
    #[arg(long, value_name = "MODULE", value_parser = module)]
    pub module: Option<ModuleName>,
}

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

fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::new(text).map_err(told)
}

fn module(text: &str) -> Result<ModuleName, String> {
    ModuleName::new(text).map_err(told)
}

fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(told)
}

fn aggregate_type(text: &str) -> Result<AggregateType, String> {
    AggregateType::new(text).map_err(told)
}

fn stream(text: &str) -> Result<StreamId, String> {
    text.parse().map_err(told)
}

fn checkpoint(text: &str) -> Result<Checkpoint, String> {
    text.parse().map_err(told)
}

fn version(text: &str) -> Result<Version, String> {
    let number = text.parse().map_err(|_| "not a whole number; allowed is 1 and above".to_owned())?;
    Version::new(number).map_err(told)
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: changeover::Error) -> String {
    error.message().to_owned()
}
