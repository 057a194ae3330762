//! The statements, written once a module. All data are bound; the schema's name is a checked word.

use std::sync::Arc;

use changeover_core::ModuleScope;
use changeover_core::backend::Family;

use crate::shipped::plain_schema;

/// The columns of an event, in the order `read.rs` takes them.
const EVENT: &str = "position, event_id, aggregate_version, event_type, event_version, event_data, metadata, occurred_at, \
                     recorded_at, causation_id, correlation_id";

/// The columns of an audit event, in the order `audit/read.rs` takes them.
const AUDIT_EVENT: [&str; 21] = [
    "event_id",
    "event_type",
    "event_category",
    "event_outcome",
    "event_timestamp",
    "service_name",
    "service_version",
    "actor_type",
    "actor_id",
    "actor_name",
    "resource_type",
    "resource_id",
    "resource_name",
    "event_data",
    "correlation_id",
    "parent_event_id",
    "trace_id",
    "span_id",
    "metadata",
    "recorded_at",
    "sequence",
];

/// What a module's event store asks of the database.
pub(crate) struct Statements {
    pub append: Arc<str>,
    pub read_stream: Arc<str>,
    pub read_all: Arc<str>,
    pub stream_head: Arc<str>,
    pub log_head: Arc<str>,
    pub log_end: Arc<str>,
    pub tracked: Arc<str>,
    pub module: Arc<str>,
    pub ready: Arc<str>,
}

/// The schema of a module's tables of one family: `event_store`, or `scheduler_event_store` with a namespace.
pub(crate) fn schema(scope: &ModuleScope, plain: &str) -> String {
    scope.namespace.as_ref().map_or_else(|| plain.to_owned(), |namespace| format!("{namespace}_{plain}"))
}

/// The channel on which a module's appends are announced.
pub(crate) fn channel(scope: &ModuleScope) -> String {
    format!("changeover_{}", scope.module)
}

/// What a module's readiness is judged by; of its migrations those of one family.
pub(crate) fn ready(family: Family) -> Arc<str> {
    format!(
        "SELECT current_setting('server_version'), \
           (SELECT owner FROM changeover.module WHERE module = $1), \
           (SELECT string_agg(id, ' ' ORDER BY id) FROM changeover._migrations \
             WHERE module = $1 AND starts_with(id, '{}/')), \
           (SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND NOT granted \
               AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))",
        family.as_str()
    )
    .into()
}

impl Statements {
    pub(crate) fn of(scope: &ModuleScope) -> Self {
        let schema = schema(scope, "event_store");
        Self {
            append: format!(
                "SELECT request, stream, outcome, first_version, last_version, last_position, actual_version, event_id \
                   FROM {schema}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)"
            )
            .into(),
            read_stream: format!("SELECT {EVENT}, head FROM {schema}.read_stream($1, $2, $3, $4, $5, $6, $7, $8)").into(),
            read_all: format!(
                "SELECT {EVENT}, head, scanned_to, aggregate_type, aggregate_id \
                   FROM {schema}.read_all($1, $2, $3, $4, $5, $6, $7, $8)"
            )
            .into(),
            stream_head: format!("SELECT version, position FROM {schema}.stream_head($1, $2, $3)").into(),
            log_head: format!("SELECT {schema}.log_head($1)").into(),
            log_end: format!("SELECT {schema}.log_end()").into(),
            tracked: format!("SELECT {schema}.tracked($1, $2)").into(),
            module: "SELECT log_id FROM changeover.module WHERE module = $1".into(),
            ready: ready(Family::Events),
        }
    }
}

/// What a module's audit repository asks of the database.
pub(crate) struct Audit {
    pub record: Arc<str>,
    pub get: Arc<str>,
    pub query: Arc<str>,
    pub count: Arc<str>,
    pub read_chain: Arc<str>,
    pub retain: Arc<str>,
    pub missing_months: Arc<str>,
}

impl Audit {
    pub(crate) fn of(scope: &ModuleScope) -> Self {
        let schema = schema(scope, plain_schema(Family::Audit));
        let columns = AUDIT_EVENT.join(", ");
        let of_event = AUDIT_EVENT.map(|column| format!("(event).{column}")).join(", ");
        Self {
            record: format!(
                "SELECT request, outcome, stored, repeated, event_id \
                   FROM {schema}.record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
                        $19, $20, $21, $22, $23)"
            )
            .into(),
            get: format!("SELECT {columns} FROM {schema}.get($1, $2)").into(),
            query: format!("SELECT {columns} FROM {schema}.query($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)").into(),
            count: format!("SELECT {schema}.count($1, $2, $3, $4)").into(),
            read_chain: format!(
                "SELECT head, head_event, place, anchor, (event).content_digest, (event).chain_link, {of_event} \
                   FROM {schema}.read_chain($1, $2, $3, $4)"
            )
            .into(),
            retain: format!("SELECT removed, months, done FROM {schema}.retain($1, $2, $3, $4, $5)").into(),
            missing_months: format!("SELECT {schema}.missing_months()").into(),
        }
    }
}
