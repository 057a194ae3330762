//! `cutover`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use changeover::cutover::Goal;
use changeover::cutover::contract::Raw;
use changeover::cutover::convert::Loss;
use changeover::{ModuleName, Uuid};
use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::parse::{duration, loss, module, share, size, value};

#[derive(Subcommand)]
pub enum Cutover {
    /// Read the whole file and tell what a run would convert, leave out or refuse; nothing is changed
    #[command(after_help = PLAN_HELP)]
    Plan(Box<Plan>),
    /// Move the module while the service goes on writing, or go on with a run that stopped
    #[command(after_help = RUN_HELP)]
    Run(Box<Run>),
    /// Do all of it on a copy of the file and in a scratch database: move, write, go back, compare, move again
    #[command(after_help = DRILL_HELP)]
    Drill(Box<Drill>),
    /// Tell where the module stands
    #[command(after_help = "Changes nothing.\n\nExamples:\n  changeover cutover status events\n  \
                            changeover cutover status events --format json | jq -r .phase")]
    Status {
        #[command(flatten)]
        of: Of,
    },
    /// Compare every row of both stores as they are
    #[command(
        after_help = "Before the switch only, since afterwards the new store takes writes. While writers are on, rows that \
                            differ are looked at once more. Exit status 3 if the stores differ.\n\n\
                            Examples:\n  changeover cutover verify events"
    )]
    Verify {
        #[command(flatten)]
        of: Of,
    },
    /// Give a run up before its switch: the new store is emptied, the file goes on as it is
    #[command(after_help = "Examples:\n  changeover cutover abort events")]
    Abort {
        #[command(flatten)]
        of: Of,
    },
    /// Go back after a switch: what was written to the new store since goes into the file
    #[command(
        after_help = "Writers stand still while the last changes go back, and longest while they are compared. After an \
                            interruption run it again: until then nobody owns the module.\n\n\
                            Examples:\n  changeover cutover revert events"
    )]
    Revert {
        #[command(flatten)]
        of: Of,
    },
    /// Close the way back for good, and archive the file with its last module
    #[command(after_help = FINALIZE_HELP)]
    Finalize {
        #[command(flatten)]
        of: Of,
        /// Leave the file where it is, closed to writers
        #[arg(long)]
        keep_file: bool,
    },
    /// Look at rows that stay out of the new store, and decide about them
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Write the evidence of a run, or check it
    #[command(after_help = REPORT_HELP)]
    Report(Box<Report>),
}

const PLAN_HELP: &str = "\
Bad values come first: table, column, key, the first bytes in hex, the hazard (docs/guides/cutover.md),
and what a run does: quarantine (the row stays out until somebody decides), convert (nothing is lost,
or its loss was accepted) or refuse. At most 100 of a kind are listed; all are counted. With
--format json each is one object: table, key, column, hazard, found, treatment, sample_hex.

Exit status 3 if a run would not begin, or would stop before its switch for rows that have to be
decided about.

Examples:
  changeover cutover plan events
  changeover cutover plan events --accept zoneless_times --out plan.json --findings findings.jsonl
  changeover cutover plan billing --tables billing.toml";

const RUN_HELP: &str = "\
Everything is looked at before anything is touched. The file takes writes until the very end; then
writers stand still for at most --max-pause while the last changes go over and are compared, and the
new store is the owner. A pause that gets too long is taken back and tried again.

A run that was interrupted or killed anywhere is gone on with by the same command. It stops with exit
status 3 for rows in quarantine that nobody decided about, and goes on after that.

With --format json every step is one object.

Examples:
  changeover cutover run events
  changeover cutover run events --plan plan.json --max-pause 2s --busy 0.5
  changeover cutover run events --to verified && changeover cutover run events";

const FINALIZE_HELP: &str = "\
What is written to the new store is no longer kept for a revert.

With the last module of a file the file is archived: it becomes FILE.archive, read-only, and what stands
in its place tells every program that opens it where the data went (E_FENCED). It stays as it is, closed
to writers, while another module lives in it, while some program has it open, and where FILE.archive is
another file; the command says which, and is no failure. The same command again tries again.

Examples:
  changeover cutover finalize events
  changeover cutover finalize events --keep-file";

const DRILL_HELP: &str = "\
The file is copied while the service goes on writing, and is not written to. The copy is planned with,
moved, written to on the new side, reverted, compared with what it was, moved again and finalized, under
the terms given: those of the run that it is for. The real new store gets one entry in its record, and
nothing else; settings can demand it before a run (cutover.drill_within).

The database is made beside that of the new backend, which needs the right CREATEDB; or name an empty
one: --scratch. Copy and database are removed at the end, after an error and after Ctrl-C too.

Exit status as of run: 3 if a run would not begin, or would stop for rows that have to be decided about.
With --format json the result is one object.

Examples:
  changeover cutover drill events
  changeover cutover drill events --accept zoneless_times --max-pause 2s --dir /var/tmp --out drill
  changeover cutover drill billing --tables billing.toml --scratch rehearsal";

const REPORT_HELP: &str = "\
manifest.json has the record of the module with the hash of every entry, what the run was made under,
and the rows in quarantine with their bytes; report.html shows the same to people.

--check looks at a manifest alone: chain, counts, roots. It needs no settings and no store. Nothing is
signed: a record that was written anew as a whole cannot be told from a true one by it. --against also
compares it with the record in the new store and computes the data root of the file once more.

Exit status 3 if something is wrong.

Examples:
  changeover cutover report events --out evidence
  changeover cutover report --check evidence/manifest.json
  changeover cutover report events --against evidence/manifest.json";

/// What is moved, and between which backends.
#[derive(Args, Clone)]
pub struct Of {
    /// The module
    #[arg(value_name = "MODULE", value_parser = module)]
    pub module: ModuleName,
    #[command(flatten)]
    pub stores: Stores,
}

/// As it is written on a command line, for the commands that come next.
impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.module.fmt(f)?;
        let Stores { old, new, tables, who: _ } = &self.stores;
        let tables = tables.as_ref().map(|file| file.display().to_string());
        for (option, value) in [("old", old), ("new", new), ("tables", &tables)] {
            if let Some(value) = value {
                write!(f, " --{option} {}", quoted(value))?;
            }
        }
        Ok(())
    }
}

/// In quotes where a shell would take it for something else.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./@+,:".contains(c);
    if value.chars().all(is_plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

#[derive(Args, Clone)]
pub struct Stores {
    /// The backend that it is moved from [default: the one of the settings that can be]
    #[arg(long, value_name = "BACKEND")]
    pub old: Option<String>,
    /// The backend that it is moved to [default: the one of the settings that can be]
    #[arg(long, value_name = "BACKEND")]
    pub new: Option<String>,
    /// Tables of your own, as docs/guides/cutover-declarations.md describes
    #[arg(long, value_name = "FILE")]
    pub tables: Option<PathBuf>,
    /// Who does it, for the record
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true, default_value = "unknown")]
    pub who: String,
}

/// What is accepted.
#[derive(Args)]
pub struct Accept {
    /// Losses that are accepted, by name
    #[arg(long = "accept", value_name = "LOSS", value_delimiter = ',', value_parser = loss)]
    pub losses: Vec<Loss>,
    /// So many rows in quarantine are approved without being asked about
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_quarantined: u64,
}

#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub accept: Accept,
    /// Write the plan here, for `cutover run --plan`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the findings here, as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub findings: Option<PathBuf>,
    /// An earlier plan: tell what is different
    #[arg(long = "plan", value_name = "EARLIER")]
    pub earlier: Option<PathBuf>,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Everything is copied and compared; the file stays the owner
    Verified,
    /// The new store is the owner
    Switched,
}

impl From<To> for Goal {
    fn from(to: To) -> Self {
        match to {
            To::Verified => Self::Verified,
            To::Switched => Self::Switched,
        }
    }
}

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    pub of: Of,
    /// How far it goes
    #[arg(long, value_enum, default_value = "switched")]
    pub to: To,
    #[command(flatten)]
    pub terms: Terms,
}

/// What a run is made under.
#[derive(Args)]
pub struct Terms {
    #[command(flatten)]
    pub accept: Accept,
    /// Refuse a file that differs from the one of this plan
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// The longest time that writers may stand still
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub max_pause: Duration,
    /// How often the switch is tried
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub attempts: u32,
    /// The most rows read at once
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    pub chunk_rows: u32,
    /// The share of time in which the copy may read the file, above 0 up to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub busy: f64,
    /// The copy waits while a replica of the new store is further behind than this, in bytes of its log: 64MiB, 1GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_replica_lag: Option<u64>,
    /// How long another process waits for this one's turn to end after it died
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub lease: Duration,
}

#[derive(Args)]
pub struct Drill {
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub terms: Terms,
    /// A backend of the settings to move to, whose database has nothing of the module [default: a database that is made on the
    /// server of the new backend, and dropped]
    #[arg(long, value_name = "BACKEND")]
    pub scratch: Option<String>,
    /// Where the copy of the file is made, and removed [default: the folder of temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the copy and the database that was made
    #[arg(long)]
    pub keep: bool,
    /// Write manifest.json and report.html of the drill into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decided {
    Undecided,
    Approved,
    Rejected,
    Repaired,
}

impl Decided {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Repaired => "repaired",
        }
    }
}

#[derive(Subcommand)]
pub enum Quarantine {
    /// List them
    #[command(after_help = "Examples:\n  changeover cutover quarantine list events\n  \
                            changeover cutover quarantine list events --decision undecided --format json")]
    List {
        #[command(flatten)]
        of: Of,
        /// Only those of this table
        #[arg(long, value_name = "TABLE")]
        table: Option<String>,
        /// Only those with this decision
        #[arg(long, value_enum)]
        decision: Option<Decided>,
        /// Only those after this number
        #[arg(long, value_name = "ID", default_value_t = 0)]
        after: i64,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Print one with the bytes of every value and all that speaks against it
    #[command(after_help = "Examples:\n  changeover cutover quarantine show events 17")]
    Show {
        #[command(flatten)]
        of: Of,
        /// Its number
        id: i64,
    },
    /// They stay out of the new store, and that is accepted
    #[command(after_help = "Examples:\n  changeover cutover quarantine approve events 17 18 21")]
    Approve {
        #[command(flatten)]
        of: Of,
        /// Their numbers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
    /// They may not stay out: there is no switch until the file is corrected
    #[command(after_help = "Examples:\n  changeover cutover quarantine reject events 17")]
    Reject {
        #[command(flatten)]
        of: Of,
        /// Their numbers
        #[arg(required = true, value_name = "ID")]
        ids: Vec<i64>,
    },
    /// Store one with other values
    #[command(
        after_help = "Values are those of the old store's columns and are converted as the row's own would be. A value is \
                            text unless the column says more: COLUMN:int=7, COLUMN:real=0.5, COLUMN:hex=00ff (bytes), \
                            COLUMN:null.\n\n\
                            Examples:\n  changeover cutover quarantine repair events 17 --set occurred_at=2024-03-01T00:00:00Z"
    )]
    Repair {
        #[command(flatten)]
        of: Of,
        /// Its number
        id: i64,
        /// A column and its new value; may be given several times
        #[arg(long = "set", required = true, value_name = "COLUMN=VALUE", value_parser = value)]
        values: Vec<(String, Raw)>,
    },
}

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["out", "check", "against"]))]
pub struct Report {
    /// The module
    #[arg(value_name = "MODULE", value_parser = module, required_unless_present = "check")]
    pub module: Option<ModuleName>,
    #[command(flatten)]
    pub stores: Stores,
    /// A run of the module [default: its last]
    #[arg(long, value_name = "ID", requires = "out")]
    pub run: Option<Uuid>,
    /// Write manifest.json and report.html into this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Check a manifest by itself
    #[arg(long, value_name = "FILE", conflicts_with = "module")]
    pub check: Option<PathBuf>,
    /// Check a manifest, and compare it with the stores of the settings
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_is_about_is_written_as_it_was_given() {
        let stores = Stores { old: None, new: None, tables: None, who: "me".to_owned() };
        let mut of = Of { module: ModuleName::new("billing").unwrap(), stores };
        assert_eq!(of.to_string(), "billing");
        of.stores.new = Some("main".to_owned());
        of.stores.tables = Some(PathBuf::from("it's mine/billing.toml"));
        assert_eq!(of.to_string(), r"billing --new main --tables 'it'\''s mine/billing.toml'");
    }
}
