//! The doors of the catalogue on PostgreSQL: what people do by SQL, and what the tables must refuse.

use changeover_core::Text;
use changeover_core::playbooks::{NewPlaybook, PlaybookId, PlaybookVersion};
use changeover_testkit::TestDatabase;
use changeover_testkit::tokio_postgres::Client;

use crate::attempts::{let_through, on_rows_of};
use crate::sqlite::must;

/// As people who manage the catalogue by hand: the owner's role, and the tenant named once a session.
async fn by_hand(database: &TestDatabase) -> Client {
    let client = must("connect", database.client().await);
    let sql = "SET ROLE changeover_owner; SET changeover.tenant_id = 'default'";
    must("become the owner", client.batch_execute(sql).await);
    client
}

/// Every column as it stands in `new`, but the hash (computed where none is given) and the vector.
pub(crate) async fn insert(database: &TestDatabase, tenant: &str, new: &NewPlaybook) -> Result<(), String> {
    let client = by_hand(database).await;
    must(
        "name the tenant",
        client.execute("SELECT set_config('changeover.tenant_id', $1, false)", &[&tenant]).await,
    );
    // Labels and times go as text: what reads them is the database's own cast.
    let sql = "INSERT INTO playbook_store.playbook_catalog (playbook_id, version, name, description, owner, maintainer, \
                   content, content_hash, labels, status, is_latest_version, previous_version, version_notes, \
                   change_summary, approved_by, approved_at, expected_success_rate, expected_duration_seconds, \
                   created_at, created_by) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, \
                   coalesce((SELECT jsonb_object_agg(l.k, l.v) FROM unnest($9::text[], $10::text[]) AS l (k, v)), '{}'), \
                   $11, $12, $13, $14, $15, $16, $17::text::timestamptz, $18::text::numeric, $19, \
                   coalesce($20::text::timestamptz, clock_timestamp()), $21)";
    let keys: Vec<_> = new.labels.keys().map(String::as_str).collect();
    let values: Vec<_> = new.labels.values().map(String::as_str).collect();
    let done = client
        .execute(
            sql,
            &[
                &new.playbook_id.as_str(),
                &new.version.as_str(),
                &new.name.as_str(),
                &new.description,
                &new.owner.as_ref().map(Text::as_str),
                &new.maintainer.as_ref().map(Text::as_str),
                &new.content,
                &new.content_hash,
                &keys,
                &values,
                &new.status.as_str(),
                &new.is_latest,
                &new.previous_version.as_ref().map(PlaybookVersion::as_str),
                &new.version_notes,
                &new.change_summary,
                &new.approved_by.as_ref().map(Text::as_str),
                &new.approved_at.map(|time| time.to_string()),
                &new.expected_success_rate.map(|rate| rate.to_string()),
                &new.expected_duration_seconds.map(i64::from),
                &new.created_at.map(|time| time.to_string()),
                &new.created_by.as_ref().map(Text::as_str),
            ],
        )
        .await;
    match done {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned()))
        }
    }
}

/// Past every rule: as a superuser, without triggers, and without the check of the hash.
pub(crate) async fn overwrite(
    database: &TestDatabase,
    id: &PlaybookId,
    version: &PlaybookVersion,
    content: &str,
) {
    let client = must("connect", database.client().await);
    let sql = "ALTER TABLE playbook_store.playbook_catalog DROP CONSTRAINT IF EXISTS playbook_catalog_content_hash_check; \
               SET session_replication_role = replica";
    must("take the rules away", client.batch_execute(sql).await);
    let sql =
        "UPDATE playbook_store.playbook_catalog SET content = $3 WHERE playbook_id = $1 AND version = $2";
    let changed = must("overwrite", client.execute(sql, &[&id.as_str(), &version.as_str(), &content]).await);
    assert_eq!(changed, 1, "no row was overwritten");
}

/// The attempts that were let through; each is made of a stored version.
pub(crate) async fn break_rules(database: &TestDatabase) -> Vec<String> {
    let changes = [
        "content = content || '!', content_hash = encode(sha256(convert_to(content || '!', 'UTF8')), 'hex')",
        "content = content || '!'",
        "name = name || '!'",
        "description = description || '!'",
        "labels = labels || '{\"a\": \"b\"}'",
        "content_hash = repeat('0', 64)",
        "is_latest_version = true",
        "status = 'gone'",
        "status = NULL",
        "expected_success_rate = 1.001",
        "expected_success_rate = 0.1234",
        "actual_success_rate = -0.001",
        "actual_success_rate = 0.9999",
        "actual_success_rate = 'NaN'",
        "successful_executions = total_executions + 1",
        "total_executions = NULL",
        "successful_executions = NULL",
        "total_executions = -1, successful_executions = -1",
        "embedding = '[1,2,3]'",
    ];
    let table = "playbook_store.playbook_catalog";
    let updates = changes.iter().map(|change| format!("UPDATE {table} SET {change}"));
    let on_rows = updates.chain([format!("DELETE FROM {table}")]).map(|attempt| on_rows_of(table, &attempt));
    // Row security does not hold a TRUNCATE up, so it is tried without rows to be seen too.
    let attempts: Vec<_> = on_rows.chain([format!("TRUNCATE {table}")]).collect();
    let mut done = Vec::new();
    for role in ["RESET ROLE", "SET ROLE changeover_owner", "SET ROLE changeover_app"] {
        done.extend(let_through(&by_hand(database).await, role, &attempts).await);
    }
    done
}

/// The reads whose plan reads the whole table, by the counters of the session that runs them.
pub(crate) async fn full_scans(database: &TestDatabase) -> Vec<String> {
    let client = must("connect", database.client().await);
    must("become the service", client.batch_execute("SET ROLE changeover_app").await);
    let scans = "SELECT pg_stat_get_xact_numscans('playbook_store.playbook_catalog'::regclass)";
    let mut found = Vec::new();
    for call in [
        "get('default', 'a', 'latest')",
        "get('default', 'a', 'active')",
        "get('default', 'a', 'exact', 'v1.0.0')",
        "get('default', 'a', 'hash', repeat('0', 64))",
        "versions('default', 'a', NULL, 10)",
        "versions('default', 'a', 'v1.0.0', 10)",
        "list('default', '{}', NULL, 'a', 10)",
    ] {
        must("begin", client.batch_execute("BEGIN").await);
        let before: i64 = must("count", client.query_one(scans, &[]).await).get(0);
        must("read", client.query(&format!("SELECT * FROM playbook_store.{call}"), &[]).await);
        let after: i64 = must("count", client.query_one(scans, &[]).await).get(0);
        must("end", client.batch_execute("COMMIT").await);
        if after > before {
            found.push(call.to_owned());
        }
    }
    found
}
