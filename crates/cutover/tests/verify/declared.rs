//! Declarations written by hand, so that a slip in ours does not hide one in the verifier.

use changeover_core::Json;
use changeover_core::cutover::{Also, Column, From, SourceColumn, Table, TimeUnit, Type, Unique, Value};

/// A column a line: name, type, and `null`, `{}` (null becomes that), `tenant`, `rowid`, `computed:RULE`, `from:COLUMN`.
pub fn table(name: &str, target: &str, key: &[&str], columns: &str) -> Table {
    let columns: Vec<_> =
        columns.lines().map(str::trim).filter(|line| !line.is_empty()).map(column).collect();
    Table {
        name: name.to_owned(),
        source: name.to_owned(),
        target: target.to_owned(),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        columns,
        unique: Vec::new(),
        references: Vec::new(),
        partition_by: None,
        transform: None,
        also: Vec::new(),
        reads: Vec::new(),
        rules: Vec::new(),
        goes_back: false,
    }
}

fn column(line: &str) -> Column {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap().to_owned();
    let to = match words.next().unwrap() {
        "text" => Type::Text { max: 255, not_empty: true, words: Vec::new() },
        "long" => Type::Text { max: 65_536, not_empty: false, words: Vec::new() },
        "outcome" => words_of(&["success", "failure", "pending", "skipped"]),
        "actor" => words_of(&["system", "user", "service", "operator", "controller"]),
        "uuid" => Type::Uuid,
        "int" => Type::Int { min: 0, max: i64::MAX },
        "bool" => Type::Bool,
        "double" => Type::Double,
        "decimal" => Type::Decimal { precision: 8, scale: 3 },
        "json" => Type::Json { object: true },
        "time" => Type::Timestamp(TimeUnit::Text { zoneless: true, epoch_digits: false }),
        "seconds" => Type::Timestamp(TimeUnit::Seconds),
        "date" => Type::Date,
        "bytes" => Type::Bytes { len: None },
        "vector" => Type::Vector { dims: 4 },
        other => panic!("no type {other}"),
    };
    let mut made = Column {
        from: From::Source(SourceColumn::Named(name.clone())),
        name,
        to,
        nullable: false,
        null_becomes: None,
    };
    for word in words {
        match word.split_once(':') {
            None if word == "null" => made.nullable = true,
            None if word == "{}" => made.null_becomes = Some(Value::Json(Json::empty())),
            None if word == "tenant" => made.from = From::Tenant,
            None if word == "rowid" => made.from = From::Source(SourceColumn::Rowid),
            Some(("computed", rule)) => made.from = From::Computed(rule.to_owned()),
            Some(("from", column)) => made.from = From::Source(SourceColumn::Named(column.to_owned())),
            _ => panic!("{word}"),
        }
    }
    made
}

fn words_of(words: &[&str]) -> Type {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Type::Text { max: usize::MAX, not_empty: false, words }
}

/// The tables of an adopted file, a native one with its tenants, and a user's own with every type.
pub fn all() -> Vec<Table> {
    let mut tables = vec![streams(), events(), audit(), notifications(), playbooks(), native_events(), own()];
    tables[5].unique =
        vec![Unique { columns: vec!["tenant_id".into(), "event_id".into()], only_where: None }];
    tables
}

fn streams() -> Table {
    table(
        "event_stream",
        "event_store.event_stream",
        &["stream_id"],
        "tenant_id text tenant
         stream_id uuid
         aggregate_type text
         aggregate_id uuid
         created_at time
         version int",
    )
}

fn events() -> Table {
    table(
        "domain_event",
        "event_store.domain_event",
        &["position"],
        "tenant_id text tenant
         position int rowid
         event_id uuid
         stream_id uuid
         event_type text
         event_version int
         aggregate_version int
         event_data json
         metadata json {}
         occurred_at time
         recorded_at time computed:same_as:occurred_at
         causation_id uuid null
         correlation_id uuid null",
    )
}

const AUDIT: &str = "tenant_id text tenant
     sequence int rowid
     event_id uuid
     event_type text
     event_category text
     event_outcome outcome
     event_timestamp time
     event_date date computed:date_of:event_timestamp
     service_name text
     service_version text null
     actor_type actor
     actor_id text null
     actor_name text null
     resource_type text
     resource_id text
     resource_name text null
     event_data json
     correlation_id text null
     parent_event_id uuid null
     trace_id text null
     span_id text null
     metadata json {}
     recorded_at time computed:same_as:event_timestamp
     content_digest bytes computed:audit_digest";

fn also() -> Also {
    let columns = [
        ("tenant_id", "tenant_id"),
        ("event_id", "event_id"),
        ("event_date", "event_date"),
        ("digest", "content_digest"),
    ];
    Also {
        target: "audit_store.audit_event_id".into(),
        columns: columns.map(|(name, of)| (name.into(), of.into())).into(),
        key: vec!["tenant_id".into(), "event_id".into()],
    }
}

fn audit() -> Table {
    let made = table("audit_events", "audit_store.audit_events", &["sequence"], AUDIT);
    Table { also: vec![also()], ..made }
}

pub const NOTIFICATION: [&str; 13] = [
    "id",
    "notification_id",
    "remediation_id",
    "recipient",
    "channel",
    "message_summary",
    "status",
    "sent_at",
    "delivery_status",
    "error_message",
    "escalation_level",
    "created_at",
    "updated_at",
];

fn notifications() -> Table {
    let mut made = table("notification_audit", "audit_store.audit_events", &["event_id"], AUDIT);
    for column in &mut made.columns {
        column.from = match (&*column.name, &column.from) {
            ("event_id", _) => From::Source(SourceColumn::Named("id".into())),
            (_, From::Source(_)) => From::Computed("transform".into()),
            (_, other) => other.clone(),
        };
    }
    let reads = NOTIFICATION.map(|name| SourceColumn::Named(name.to_owned())).into();
    Table { also: vec![also()], transform: Some("notification_audit".into()), reads, ..made }
}

fn playbooks() -> Table {
    table(
        "playbook_catalog",
        "playbook_store.playbook_catalog",
        &["playbook_id", "version"],
        "tenant_id text tenant
         playbook_id text
         version text
         name text
         description long
         owner text null
         content long
         content_hash text
         labels json
         embedding vector null
         status text
         disabled_at time null
         disabled_by text null
         is_latest_version bool
         previous_version text null
         approved_at time null
         expected_success_rate decimal null
         expected_duration_seconds int null
         actual_success_rate decimal null
         total_executions int
         successful_executions int
         created_at time
         updated_at time",
    )
}

fn native_events() -> Table {
    table(
        "native_event",
        "native_store.domain_event",
        &["position"],
        "tenant_id text
         position int
         event_id uuid
         event_data json
         occurred_at time",
    )
}

fn own() -> Table {
    table(
        "orders",
        "shop.orders",
        &["code", "placed"],
        "code bytes
         placed seconds
         paid bool
         tested bool
         weight double
         height double null
         price decimal
         rebate decimal
         due date
         sent date null
         seen seconds null
         note long null
         other long
         scan bytes from:scanned
         print bytes
         shape vector
         place vector
         opened_at seconds computed:constant:1970-01-01T00:00:00Z",
    )
}
