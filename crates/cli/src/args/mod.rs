//! What can be typed: the commands, their options and the help texts.

mod audit;
mod cutover;
mod events;
mod parse;
mod playbooks;

use std::path::PathBuf;

use changeover::backend::Family;
use changeover::{ModuleName, TenantId};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::audit::{Audit, Filter as AuditFilter, Query, Retain};
pub use self::cutover::{
    Accept, Cutover, Decided, Drill as CutoverDrill, Of, Plan as CutoverPlan, Quarantine, Report,
    Run as CutoverRun, Stores, Terms as CutoverTerms,
};
pub use self::events::{Events, Module, Read, Tail};
use self::parse::{family, module, tenant};
pub use self::playbooks::{Module as PlaybookModule, Playbooks, Search};

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
  changeover events import history.jsonl
  changeover audit query --category notification --start 24h
  changeover playbooks search 'pods crash loop'
  changeover cutover plan events";

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
    /// Show what this is: real events, audit records and playbooks into a new SQLite file, and a look at them
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
    /// Import, export and query audit records, verify their chains, remove what is old
    #[command(subcommand)]
    Audit(Audit),
    /// Import, export and search playbooks, list their versions
    #[command(subcommand)]
    Playbooks(Playbooks),
    /// Move a module from SQLite to PostgreSQL while it takes writes, and back
    #[command(subcommand)]
    Cutover(Cutover),
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
in tables of a module named demo, for a tenant of this run alone; and then a cutover, on a copy of the
file and in a database that is made for it and dropped (its login has to have CREATEDB).

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
    #[command(
        after_help = "Again, it changes nothing. Two at once: one works, the other waits. A module of your own gets \
                            the tables of events unless --family says more; what it has is kept up to date.\n\n\
                            Examples:\n  changeover migrate up\n  changeover migrate up --backend main\n  \
                            changeover migrate up --module orders --family events --family audit"
    )]
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
    /// These tables only: events, audit or playbooks; may be given several times
    #[arg(long = "family", value_name = "FAMILY", value_parser = family)]
    pub families: Vec<Family>,
}
