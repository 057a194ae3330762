//! `playbooks`.

use std::path::PathBuf;

use changeover::playbooks::PlaybookId;
use changeover::{Limit, ModuleName};
use clap::{Args, Subcommand};

use super::parse::{confidence, label, limit, module, playbook, searched};

#[derive(Subcommand)]
pub enum Playbooks {
    /// Store the versions of a JSON Lines file
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The file; - for standard input
        file: PathBuf,
        #[command(flatten)]
        module: Module,
    },
    /// Print versions as JSON Lines, by playbook, the oldest version first
    #[command(after_help = EXPORT_HELP)]
    Export {
        /// Only these playbooks [default: all that have a latest version]
        #[arg(value_name = "ID", value_parser = playbook)]
        ids: Vec<PlaybookId>,
        #[command(flatten)]
        module: Module,
    },
    /// Find playbooks by meaning
    #[command(after_help = SEARCH_HELP)]
    Search(Search),
    /// List the versions of a playbook, the newest first
    #[command(after_help = VERSIONS_HELP)]
    Versions {
        /// The playbook
        #[arg(value_name = "ID", value_parser = playbook)]
        id: PlaybookId,
        #[command(flatten)]
        module: Module,
    },
}

const IMPORT_HELP: &str = "\
One version of a playbook a line, a JSON object with these fields:
  playbook_id, version, name, description, content                                         required
  owner, maintainer, content_hash, labels, embedding, status, is_latest_version, previous_version,
  version_notes, change_summary, approved_by, approved_at, expected_success_rate,
  expected_duration_seconds, created_at, created_by                                        optional
  disabled_at, disabled_by, disabled_reason, deprecation_notice, actual_success_rate, total_executions,
  successful_executions, updated_at, updated_by   the store's own, as in an export: not read
Any other field, or one that stands twice, rejects the line. Null counts as absent. content_hash must
be the SHA-256 of the content. Where is_latest_version is absent, the version is the latest one if no
higher version is.

A version that is stored already with the same content, name, description and labels is counted and
nothing of it is changed; with others the line is rejected. Rejected lines are reported with their
number and the reason, the others are imported, and the exit status is 3. After an interruption run the
same command again.

Examples:
  changeover playbooks import playbooks.jsonl
  changeover playbooks export | changeover playbooks import - --tenant acme";

const EXPORT_HELP: &str = "\
The fields are those that import reads, the store's own added; every line can be imported again. The
output is JSON Lines whatever --format says. A playbook of which no version is the latest is printed
only if it is named.

Examples:
  changeover playbooks export > playbooks.jsonl
  changeover playbooks export etcd-members-down";

const SEARCH_HELP: &str = "\
Of each playbook the latest version is searched, if it is active. The vector of the query is made here,
from words and their parts and without a model; so are those of playbooks that are stored without one.
Confidence is 0 to 1, and lower than a model's: so everything is shown, best first, unless
--min-confidence says otherwise. 1 means an exact match.

Examples:
  changeover playbooks search 'pods crash loop'
  changeover playbooks search 'disk is full' --label component=etcd --min-confidence 0.3
  changeover playbooks search 'node not ready' --max-results 3 --format json";

const VERSIONS_HELP: &str = "\
An unknown playbook is exit status 3. As JSON every version comes whole, as in an export.

Examples:
  changeover playbooks versions etcd-members-down
  changeover playbooks versions etcd-members-down --format json | jq -r .content";

#[derive(Args)]
pub struct Module {
    /// The module whose playbooks are meant
    #[arg(long, value_name = "MODULE", default_value = "playbooks", value_parser = module)]
    pub module: ModuleName,
}

#[derive(Args)]
pub struct Search {
    /// What is searched for
    #[arg(value_name = "TEXT", value_parser = searched)]
    pub text: String,
    /// Only playbooks that have this label with this value; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The lowest confidence wanted, 0 to 1
    #[arg(long, value_name = "N", default_value = "0", value_parser = confidence)]
    pub min_confidence: f64,
    /// At most this many playbooks
    #[arg(long, value_name = "N", default_value = "10", value_parser = limit)]
    pub max_results: Limit,
    #[command(flatten)]
    pub module: Module,
}
