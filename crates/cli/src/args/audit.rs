//! `audit`.

use std::path::PathBuf;
use std::str::FromStr;

use changeover::audit::{ActorType, AuditFilter, AuditOrder, AuditToken, Keep, Outcome};
use changeover::{Limit, ModuleName, Text, Timestamp};
use clap::{Args, Subcommand, ValueEnum};

use super::parse::{actor_type, audit_token, keep, limit, module, outcome, text, when};

#[derive(Subcommand)]
pub enum Audit {
    /// Store the audit records of a JSON Lines file
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The file; - for standard input
        file: PathBuf,
        #[command(flatten)]
        module: Module,
    },
    /// Print audit records as JSON Lines, in the order in which they were recorded
    #[command(after_help = EXPORT_HELP)]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// Go on here: the page that an export told at its end
        #[arg(long, value_name = "TOKEN", value_parser = audit_token)]
        page: Option<AuditToken>,
        #[command(flatten)]
        module: Module,
    },
    /// Print the audit records that are asked for
    #[command(after_help = QUERY_HELP)]
    Query(Box<Query>),
    /// Recompute the hash chain of a correlation id
    #[command(after_help = VERIFY_HELP)]
    Verify {
        /// Whose chain
        #[arg(value_name = "CORRELATION_ID", value_parser = text::<255>)]
        correlation_id: Text<255>,
        #[command(flatten)]
        module: Module,
    },
    /// List the months that records are kept in, and whether the coming ones are there
    #[command(after_help = PARTITIONS_HELP)]
    Partitions {
        /// Make the months that are missing, from this one to the third from now
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        module: Module,
    },
    /// Remove what is older than its category is kept
    #[command(after_help = RETAIN_HELP)]
    Retain(Retain),
}

const IMPORT_HELP: &str = "\
One audit record a line, a JSON object with these fields:
  event_id, event_type, event_category, event_outcome, event_timestamp, service_name, actor_type,
  resource_type, resource_id, event_data                                                   required
  event_date, service_version, actor_id, actor_name, resource_name, correlation_id,
  parent_event_id, trace_id, span_id, metadata                                             optional
  recorded_at, sequence                      the store's own, as in a query: not read
Any other field, or one that stands twice, rejects the line. Null counts as absent. event_date must be
the UTC date of event_timestamp.

The order of the file becomes the recorded order, which the hash chains follow. A line whose parent is
not stored yet waits: it is stored right after its parent, wherever that stands in the file, and
rejected at the end if its parent does not come. Waiting lines are kept in a temporary file.

A record that is stored already with the same content is counted and not stored again; with other
content the line is rejected. Rejected lines are reported with their number and the reason, the others
are imported, and the exit status is 3. After an interruption run the same command again.

Examples:
  changeover audit import audit.jsonl
  gunzip -c audit.jsonl.gz | changeover audit import - --tenant acme";

const EXPORT_HELP: &str = "\
The fields are the 20 that import reads. The output is JSON Lines whatever --format says. What is
recorded while it runs is in it or comes after it: the --page to go on with goes to standard error.

Examples:
  changeover audit export > audit.jsonl
  changeover audit export --category notification --start 2026-01-01T00:00:00Z";

const QUERY_HELP: &str = "\
Every filter that is given must hold; texts are compared as they are, without patterns. Times are
RFC 3339 or a span before now: 90s, 30m, 24h, 7d.

Where more matches than --limit allows, the --page to go on with goes to standard error.

Examples:
  changeover audit query --start 24h --outcome failure
  changeover audit query --correlation-id 2c9e… --order oldest --limit 1000 --format json
  changeover audit query --service payment --count";

const VERIFY_HELP: &str = "\
Exit status 3 if a record of the chain was edited, removed, inserted or moved past the store.

Examples:
  changeover audit verify 841d3e6d-90d2-43df-8da4-684738bee3d5
  changeover audit verify order-17 --format json";

const PARTITIONS_HELP: &str = "\
On PostgreSQL records are kept by month of their date. A month that is missing is also made when its
first record comes; making it before spares that record the wait. Exit status 3 if a month from this one to the
third from now is missing. SQLite has no partitions.

Examples:
  changeover audit partitions
  changeover audit partitions --create";

const RETAIN_HELP: &str = "\
Records of a category whose date lies as many days back as --keep says, or more, are removed, whole
months first; categories without a --keep stay, and so do the parents of what stays. The chains of
what stays can be verified as before. It works in steps of --limit records, and may be interrupted
between two of them.

Examples:
  changeover audit retain --keep notification=90 --keep workflow=365 --dry-run
  changeover audit retain --keep notification=90 --keep workflow=365 --yes";

#[derive(Args)]
pub struct Module {
    /// The module whose audit trail is meant
    #[arg(long, value_name = "MODULE", default_value = "audit", value_parser = module)]
    pub module: ModuleName,
}

#[derive(Args, Default)]
pub struct Filter {
    /// Only this event type
    #[arg(long = "type", value_name = "TYPE", value_parser = text::<100>)]
    pub event_type: Option<Text<100>>,
    /// Only this category
    #[arg(long, value_name = "CATEGORY", value_parser = text::<50>)]
    pub category: Option<Text<50>>,
    /// Only this outcome: success, failure, pending or skipped
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub outcome: Option<Outcome>,
    /// Only this service
    #[arg(long, value_name = "NAME", value_parser = text::<100>)]
    pub service: Option<Text<100>>,
    /// Only this kind of actor: system, user, service, operator or controller
    #[arg(long, value_name = "TYPE", value_parser = actor_type)]
    pub actor_type: Option<ActorType>,
    /// Only this actor
    #[arg(long, value_name = "ID", value_parser = text::<255>)]
    pub actor_id: Option<Text<255>>,
    /// Only this type of resource
    #[arg(long, value_name = "TYPE", value_parser = text::<100>)]
    pub resource_type: Option<Text<100>>,
    /// Only this resource
    #[arg(long, value_name = "ID", value_parser = text::<255>)]
    pub resource_id: Option<Text<255>>,
    /// Only this correlation id
    #[arg(long, value_name = "ID", value_parser = text::<255>)]
    pub correlation_id: Option<Text<255>>,
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub start: Option<When>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub end: Option<When>,
}

impl Filter {
    /// As the repository takes it, spans counted back from `now`.
    pub fn at(&self, now: Timestamp) -> AuditFilter {
        AuditFilter {
            event_type: self.event_type.clone(),
            event_category: self.category.clone(),
            event_outcome: self.outcome,
            service_name: self.service.clone(),
            actor_type: self.actor_type,
            actor_id: self.actor_id.clone(),
            resource_type: self.resource_type.clone(),
            resource_id: self.resource_id.clone(),
            correlation_id: self.correlation_id.clone(),
            start: self.start.map(|when| when.at(now)),
            end: self.end.map(|when| when.at(now)),
        }
    }
}

#[derive(Args)]
pub struct Query {
    #[command(flatten)]
    pub filter: Filter,
    /// Newest or oldest time first, equal times by id, or as recorded
    #[arg(long, value_enum, default_value_t)]
    pub order: Order,
    /// At most this many records
    #[arg(long, value_name = "N", default_value = "100", value_parser = limit)]
    pub limit: Limit,
    /// Pass over this many records first
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u64,
    /// Go on here: the page that a query with the same filters and order told at its end
    #[arg(long, value_name = "TOKEN", value_parser = audit_token, conflicts_with = "offset")]
    pub page: Option<AuditToken>,
    /// Only how many there are in all
    #[arg(long, conflicts_with_all = ["offset", "page", "limit", "order"])]
    pub count: bool,
    #[command(flatten)]
    pub module: Module,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Order {
    #[default]
    Newest,
    Oldest,
    Recorded,
}

impl From<Order> for AuditOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Newest => Self::NewestFirst,
            Order::Oldest => Self::OldestFirst,
            Order::Recorded => Self::Recorded,
        }
    }
}

#[derive(Args)]
pub struct Retain {
    /// Keep this category for so many days; may be given several times
    #[arg(long = "keep", value_name = "CATEGORY=DAYS", required = true, value_parser = keep)]
    pub rules: Vec<Keep>,
    /// Only count what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Really remove it
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// At most this many records a step
    #[arg(long, value_name = "N", default_value = "10000", value_parser = limit)]
    pub limit: Limit,
    #[command(flatten)]
    pub module: Module,
}

/// A point in time as it is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    At(Timestamp),
    /// Microseconds before now.
    Ago(i64),
}

impl When {
    /// Spans that reach back before the year 1 begin there.
    fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(micros) => {
                Timestamp::from_micros(now.as_micros().saturating_sub(micros)).unwrap_or(Timestamp::MIN)
            }
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const SECOND: i64 = 1_000_000;
        let refuse = || {
            "allowed is RFC 3339, like 2024-01-31T12:00:00Z, or a span before now, like 90s, 30m, 24h, 7d"
                .to_owned()
        };
        let Some(unit) = text.strip_suffix(['s', 'm', 'h', 'd']).map(|digits| &text[digits.len()..]) else {
            return Timestamp::parse(text).map(Self::At).map_err(|_| refuse());
        };
        let digits =
            text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => 86_400,
        };
        let number: i64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(refuse)?;
        number.checked_mul(seconds * SECOND).map(Self::Ago).ok_or_else(refuse)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // S3-HTTP-003: RFC 3339 and spans; negative spans are refused.
    #[rstest]
    #[case("90s", 90)]
    #[case("30m", 1_800)]
    #[case("24h", 86_400)]
    #[case("7d", 604_800)]
    #[case("0d", 0)]
    fn spans_count_back_from_now(#[case] text: &str, #[case] seconds: i64) {
        let now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
        let when: When = text.parse().unwrap();
        assert_eq!(now.as_micros() - when.at(now).as_micros(), seconds * 1_000_000);
    }

    #[rstest]
    #[case("-7d")]
    #[case("+7d")]
    #[case("d")]
    #[case("7")]
    #[case("7w")]
    #[case("1e3s")]
    #[case("1.5h")]
    #[case("7 d")]
    #[case("9223372036854775807d")]
    #[case("yesterday")]
    #[case("2024-01-31")]
    #[case("2024-01-31T12:00:00")]
    #[case("infinity")] // X-EDGE-053
    #[case("")]
    fn other_text_is_no_time(#[case] text: &str) {
        assert!(text.parse::<When>().unwrap_err().contains("allowed is RFC 3339"), "{text}");
    }

    #[test]
    fn a_span_longer_than_time_begins_with_it() {
        let when: When = "99999999d".parse().unwrap();
        assert_eq!(when.at(Timestamp::now()), Timestamp::MIN);
        let at: When = "2024-01-31T12:00:00+02:00".parse().unwrap();
        assert_eq!(at.at(Timestamp::now()).to_string(), "2024-01-31T10:00:00.000000Z"); // X-EDGE-055
    }
}
