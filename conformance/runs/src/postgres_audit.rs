//! What is done to the audit records of a PostgreSQL database past the repository.

use changeover_conformance::AuditTamper;
use changeover_core::audit::Create;
use changeover_core::{ModuleScope, Result, TenantId};
use changeover_postgres::OpenPostgres;
use changeover_testkit::tokio_postgres::Client;
use diesel_async::SimpleAsyncConnection;

use crate::attempts::on_rows_of;
use crate::sqlite::must;

/// `client` is a superuser's, whom neither row security nor (so set) triggers hold up.
pub(crate) async fn tamper(client: &Client, tenant: &TenantId, tamper: AuditTamper) {
    must("switch triggers off", client.batch_execute("SET session_replication_role = replica").await);
    let (tenant, table) = (tenant.as_str(), "audit_store.audit_events");
    let edit = |what: &str| format!("UPDATE {table} SET {what} WHERE tenant_id = $1 AND event_id = $2");
    let changed = match tamper {
        AuditTamper::Edit(id) => {
            client.execute(&edit("event_data = '{\"tampered\": true}'"), &[&tenant, &id]).await
        }
        AuditTamper::Remove(id) => {
            let ids = "DELETE FROM audit_store.audit_event_id WHERE tenant_id = $1 AND event_id = $2";
            must("remove the id", client.execute(ids, &[&tenant, &id]).await);
            let sql = format!("DELETE FROM {table} WHERE tenant_id = $1 AND event_id = $2");
            client.execute(&sql, &[&tenant, &id]).await
        }
        AuditTamper::Swap(one, other) => {
            let sql = format!(
                "UPDATE {table} AS e SET sequence = o.sequence FROM {table} AS o \
                  WHERE e.tenant_id = $1 AND o.tenant_id = $1 AND e.event_id <> o.event_id \
                    AND e.event_id IN ($2, $3) AND o.event_id IN ($2, $3)"
            );
            client.execute(&sql, &[&tenant, &one, &other]).await.map(|changed| changed / 2)
        }
        AuditTamper::Insert(event) => {
            let sql = format!(
                "INSERT INTO {table} (tenant_id, sequence, event_id, event_type, event_category, event_outcome, \
                     event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, event_data, \
                     correlation_id, recorded_at, content_digest) \
                 SELECT $1, (SELECT max(sequence) + 1 FROM {table}), $2, $3, $4, $5, t.at, (t.at AT TIME ZONE 'UTC')::date, \
                     $7, $8, $9, $10, $11::text::jsonb, $12, now(), $13 FROM (SELECT $6::text::timestamptz AS at) AS t"
            );
            client
                .execute(
                    &sql,
                    &[
                        &tenant,
                        &event.event_id,
                        &event.event_type.as_str(),
                        &event.event_category.as_str(),
                        &event.event_outcome.as_str(),
                        &event.event_timestamp.to_string(),
                        &event.service_name.as_str(),
                        &event.actor_type.as_str(),
                        &event.resource_type.as_str(),
                        &event.resource_id.as_str(),
                        &event.event_data.as_str(),
                        &event.correlation_id.as_ref().map(changeover_core::Text::as_str),
                        &event.content_digest().as_slice(),
                    ],
                )
                .await
        }
    };
    assert_eq!(must("tamper", changed), 1, "one record is tampered with");
}

/// Statements that must be refused, for every role.
pub(crate) fn changes() -> Vec<String> {
    let events = "audit_store.audit_events";
    let leaf = format!(
        "DO $$ DECLARE leaf regclass; BEGIN \
           SELECT tableoid INTO STRICT leaf FROM {events} LIMIT 1; \
           EXECUTE format('DELETE FROM %s', leaf); END $$"
    );
    let mut changes = vec![
        on_rows_of(events, &format!("UPDATE {events} SET event_data = '{{}}'")),
        on_rows_of(events, &leaf),
    ];
    for table in ["audit_events", "audit_event_id", "audit_chain", "audit_anchor", "audit_head"] {
        let table = format!("audit_store.{table}");
        changes.push(on_rows_of(&table, &format!("DELETE FROM {table}")));
        // Row security does not hold this up, so it is tried without rows to be seen too.
        changes.push(format!("TRUNCATE {table} CASCADE"));
    }
    changes
}

/// A row in a table of the user's own and audit events in one transaction; how that ended.
pub(crate) async fn business_write(
    client: &OpenPostgres,
    scope: &ModuleScope,
    tenant: &TenantId,
    request: Create,
    commit: bool,
) -> Result<()> {
    let mut transaction = client.begin(scope, tenant).await?;
    must("write a row", transaction.conn().batch_execute("INSERT INTO public.business VALUES (1)").await);
    if let Err(error) = transaction.record(scope, request).await {
        transaction.rollback().await?;
        return Err(error);
    }
    if commit { transaction.commit().await } else { transaction.rollback().await }
}

/// The queries whose plan goes through a whole table that has rows, or reads more rows of it than it should.
pub(crate) async fn full_scans(client: &Client, tenant: &TenantId, rows: u64) -> Vec<String> {
    must("switch triggers off", client.batch_execute("SET session_replication_role = replica").await);
    for day in ["2023-01-01", "2023-05-01", "2023-09-01"] {
        let sql = format!("SELECT audit_store.create_audit_events_partition('{day}')");
        must("make months", client.batch_execute(&sql).await);
    }
    let tenant = tenant.as_str();
    let fill = format!(
        "WITH bulk AS (SELECT n, md5('bulk' || n)::uuid AS id, sha256(n::text::bytea) AS digest, \
             CASE WHEN n % 2 = 0 THEN '2023-03-01 00:00:00+00'::timestamptz + n % 31 * interval '1 day' \
                  ELSE '2023-01-01 00:00:00+00'::timestamptz + n % 365 * interval '1 day' END AS at \
           FROM generate_series(1, {rows}) AS n), \
         ids AS (INSERT INTO audit_store.audit_event_id \
           SELECT '{tenant}', id, (at AT TIME ZONE 'UTC')::date, digest FROM bulk) \
         INSERT INTO audit_store.audit_events (tenant_id, sequence, event_id, event_type, event_category, event_outcome, \
             event_timestamp, event_date, service_name, actor_type, resource_type, resource_id, correlation_id, recorded_at, \
             content_digest) \
         SELECT '{tenant}', 1000000 + n, id, 'bulk', 'gateway', 'success', at, (at AT TIME ZONE 'UTC')::date, 'shop', 'user', \
             'order', 'bulk-' || n / 10, 'bulk-' || n / 10, now(), digest FROM bulk"
    );
    must("put the events in", client.batch_execute(&fill).await);
    let statistics = "ANALYZE audit_store.audit_events; ANALYZE audit_store.audit_event_id; SELECT pg_stat_force_next_flush()";
    must("make statistics", client.batch_execute(statistics).await);

    let query = |values: &str, range: &str| {
        format!("SELECT * FROM audit_store.query('{tenant}', '{{{values}}}', {range}, 'newest', 20)")
    };
    let calls = [
        ("by correlation id", query("NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,bulk-77", "NULL, NULL")),
        ("by resource", query("NULL,NULL,NULL,NULL,NULL,NULL,order,bulk-77,NULL", "NULL, NULL")),
        ("by id", format!("SELECT * FROM audit_store.get('{tenant}', md5('bulk777')::uuid)")),
        (
            "the newest of a month",
            query(
                "NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL",
                "'2023-03-01T00:00:00Z', '2023-04-01T00:00:00Z'",
            ),
        ),
    ];
    let mut scans = Vec::new();
    for (name, call) in calls {
        must("begin", client.batch_execute("BEGIN").await);
        assert!(!must("query", client.query(&call, &[]).await).is_empty(), "{name}: nothing is found");
        let counts = "SELECT coalesce(sum(seq_scan), 0)::bigint, coalesce(sum(idx_tup_fetch), 0)::bigint, \
                        count(*) FILTER (WHERE relname LIKE 'audit\\_events\\_%' AND idx_scan > 0) \
                      FROM pg_stat_xact_user_tables WHERE schemaname = 'audit_store'";
        let row = must("count", client.query_one(counts, &[]).await);
        must("end", client.batch_execute("SELECT pg_stat_force_next_flush(); COMMIT").await);
        let (whole, fetched, months): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        if whole > 0 || fetched > 1_000 || (name == "the newest of a month" && months > 1) {
            scans.push(format!("{name}: {whole} whole tables, {fetched} rows, {months} months"));
        }
    }
    scans
}
