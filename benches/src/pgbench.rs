//! The raw limit of PostgreSQL: pgbench, with prepared statements, on the same schema.

use std::io::Write as _;
use std::process::Stdio;

use changeover_testkit::TestDatabase;

use crate::AnyError;
use crate::measure::{Plan, Round};

/// The same tables and indexes beside ours, and the function people write first: a loop over the events.
const SCHEMA: &str = r"
CREATE SCHEMA raw;
CREATE TABLE raw.event_stream (LIKE event_store.event_stream INCLUDING ALL);
CREATE TABLE raw.domain_event (LIKE event_store.domain_event INCLUDING ALL);
ALTER TABLE raw.domain_event ADD FOREIGN KEY (tenant_id, stream_id) REFERENCES raw.event_stream;
CREATE SEQUENCE raw.position;
CREATE FUNCTION raw.append(p_type text, p_id uuid, p_expected bigint, p_events jsonb[]) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    v_stream uuid;
    v_version bigint;
    v_event jsonb;
BEGIN
    SELECT stream_id, version INTO v_stream, v_version FROM raw.event_stream
     WHERE tenant_id = 'default' AND aggregate_type = p_type AND aggregate_id = p_id FOR UPDATE;
    IF v_stream IS NULL THEN
        v_stream := gen_random_uuid();
        v_version := 0;
        INSERT INTO raw.event_stream VALUES ('default', v_stream, p_type, p_id, clock_timestamp(), 0);
    END IF;
    IF v_version <> p_expected THEN
        RAISE EXCEPTION 'conflict';
    END IF;
    FOREACH v_event IN ARRAY p_events LOOP
        v_version := v_version + 1;
        INSERT INTO raw.domain_event (tenant_id, position, event_id, stream_id, event_type, event_version,
            aggregate_version, event_data, metadata, occurred_at, recorded_at)
        VALUES ('default', nextval('raw.position'), (v_event ->> 'event_id')::uuid, v_stream,
            v_event ->> 'event_type', (v_event ->> 'event_version')::int, v_version, v_event -> 'event_data',
            coalesce(v_event -> 'metadata', '{}'), clock_timestamp(), clock_timestamp());
    END LOOP;
    UPDATE raw.event_stream SET version = v_version WHERE tenant_id = 'default' AND stream_id = v_stream;
    RETURN v_stream;
END $$;
";

const DATA: &str = "jsonb_build_object('n', md5(random()::text), 'pad', repeat('x', 240))";

/// Makes the raw schema in a migrated database.
pub async fn prepare(database: &TestDatabase) -> Result<(), AnyError> {
    Ok(database.execute(SCHEMA).await?)
}

/// A script that appends `batch` events to a new stream by the looping function.
pub fn looping_function(batch: usize) -> String {
    let event = format!(
        "jsonb_build_object('event_id', gen_random_uuid(), 'event_type', 'OrderPlaced', 'event_version', 1, \
         'event_data', {DATA})"
    );
    let events = vec![event; batch].join(", ");
    format!("SELECT raw.append('Order', gen_random_uuid(), 0, ARRAY[{events}]);")
}

/// A script that appends `batch` events to a new stream by our own function, under its position lock.
pub fn own_function(batch: usize) -> String {
    let repeat = |value: &str| vec![value; batch].join(", ");
    format!(
        "SELECT count(*) FROM event_store.append('default', '{{1}}'::int[], ARRAY[gen_random_uuid()], ARRAY['Order'], \
         ARRAY[gen_random_uuid()], ARRAY[0::bigint], ARRAY[{ones}]::int[], ARRAY[{ids}], ARRAY[{types}], \
         ARRAY[{ones}]::int[], ARRAY[{data}], ARRAY[{metadata}], ARRAY[{nulls}]::timestamptz[], \
         ARRAY[{nulls}]::uuid[], ARRAY[{nulls}]::uuid[]);",
        ones = repeat("1"),
        ids = repeat("gen_random_uuid()"),
        types = repeat("'OrderPlaced'"),
        data = repeat(DATA),
        metadata = repeat("'{}'::jsonb"),
        nulls = repeat("NULL"),
    )
}

/// A script that inserts a stream and `batch` events by one plain statement.
pub fn plain_insert(batch: usize) -> String {
    format!(
        "WITH s AS (INSERT INTO raw.event_stream VALUES ('default', gen_random_uuid(), 'Order', gen_random_uuid(), \
         clock_timestamp(), {batch}) RETURNING stream_id) \
         INSERT INTO raw.domain_event (tenant_id, position, event_id, stream_id, event_type, event_version, \
         aggregate_version, event_data, metadata, occurred_at, recorded_at) \
         SELECT 'default', nextval('raw.position'), gen_random_uuid(), s.stream_id, 'OrderPlaced', 1, n, {DATA}, '{{}}', \
         clock_timestamp(), clock_timestamp() FROM s, generate_series(1, {batch}) AS n;"
    )
}

/// The same tables and indexes of the audit trail beside ours, with the month we are in.
const AUDIT_SCHEMA: &str = r"
CREATE SCHEMA IF NOT EXISTS raw;
CREATE TABLE raw.audit_event_id (LIKE audit_store.audit_event_id INCLUDING ALL);
CREATE TABLE raw.audit_events (LIKE audit_store.audit_events INCLUDING ALL) PARTITION BY RANGE (event_date);
ALTER TABLE raw.audit_events ADD FOREIGN KEY (tenant_id, parent_event_id) REFERENCES raw.audit_event_id;
CREATE TABLE raw.audit_events_all PARTITION OF raw.audit_events FOR VALUES FROM ('1970-01-01') TO ('9999-01-01');
CREATE SEQUENCE raw.sequence;
";

/// Makes the raw schema of the audit trail in a migrated database.
pub async fn prepare_audit(database: &TestDatabase) -> Result<(), AnyError> {
    Ok(database.execute(AUDIT_SCHEMA).await?)
}

/// A script that inserts so many audit records by one plain statement, chains left out.
pub fn audit_insert(batch: usize) -> String {
    format!(
        "WITH i AS (INSERT INTO raw.audit_event_id SELECT 'default', gen_random_uuid(),          (now() AT TIME ZONE 'UTC')::date, sha256(n::text::bytea) FROM generate_series(1, {batch}) AS n          RETURNING event_id, digest)          INSERT INTO raw.audit_events (tenant_id, sequence, event_id, event_type, event_category, event_outcome,          event_timestamp, event_date, service_name, actor_type, actor_id, resource_type, resource_id, event_data,          correlation_id, recorded_at, content_digest)          SELECT 'default', nextval('raw.sequence'), event_id, 'workflow.step', 'workflow', 'success', now(),          (now() AT TIME ZONE 'UTC')::date, 'orders', 'service', 'worker-1', 'order', event_id::text, {DATA},          'order-' || (random() * 2000)::int, clock_timestamp(), digest FROM i;"
    )
}

/// What a run of pgbench found.
pub struct Found {
    /// Transactions a second.
    pub tps: f64,
    /// Milliseconds of each transaction, if they were asked for.
    pub latencies: Vec<f64>,
}

/// Runs a script with so many clients.
pub async fn run(
    database: &TestDatabase,
    script: &str,
    clients: usize,
    plan: Plan,
    log: bool,
) -> Result<Found, AnyError> {
    let folder = tempfile::tempdir()?;
    let mut file = tempfile::NamedTempFile::new()?;
    writeln!(file, "{script}")?;
    let seconds = plan.seconds.ceil().max(1.0);
    let mut command = tokio::process::Command::new("pgbench");
    command
        .args([
            "-n",
            "-M",
            "prepared",
            "-j",
            "2",
            "-c",
            &clients.to_string(),
            "-T",
            &seconds.to_string(),
            "-f",
        ])
        .arg(file.path())
        .current_dir(folder.path())
        .stdin(Stdio::null());
    if log {
        command.arg("-l");
    }
    let output = command.arg(database.url()).output().await.map_err(|error| {
        format!("pgbench cannot be run ({error}); it comes with PostgreSQL's contributed programs, put it on the PATH")
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    let tps = tps
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("pgbench failed: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(folder.path())? {
        let text = std::fs::read_to_string(entry?.path())?;
        latencies.extend(
            text.lines().filter_map(|line| Some(line.split(' ').nth(2)?.parse::<f64>().ok()? / 1_000.0)),
        );
    }
    Ok(Found { tps, latencies })
}

/// As [`run`], as events a second.
pub async fn events_a_second(
    database: &TestDatabase,
    script: &str,
    clients: usize,
    batch: usize,
    plan: Plan,
) -> Result<Round, AnyError> {
    let found = run(database, script, clients, plan, false).await?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let figure = found.tps * batch as f64;
    Ok(Round { figure, errors: 0 })
}
