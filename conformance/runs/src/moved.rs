//! A database that modules were moved to for good: what a legacy file held is there, of a tenant of its own.

use changeover_core::backend::Family;
use changeover_core::cutover::CutoverSide;
use changeover_core::{Backend, BackendSettings, Error, ErrorKind, OpenBackend, Result, TenantId};
use changeover_cutover::{Cutover, Goal, Terms, declare};
use changeover_sqlite::Sqlite;
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::postgres::module_of;

/// Whose rows the file has; the cases have tenants of their own.
const TENANT: &str = "moved";

/// Rows of each store, some of which are spelled as only old programs spell them.
const ROWS: &str = "
    WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 30)
    INSERT INTO event_stream
    SELECT printf('00000000-0000-4000-8000-%012d', n), 'Order', printf('00000000-0000-4000-9000-%012d', n),
        '2024-01-02 03:04:05', 10 FROM s;
    WITH RECURSIVE e (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM e WHERE n < 299)
    INSERT INTO domain_event
    SELECT printf('00000000-0000-4000-A000-%012d', n), printf('00000000-0000-4000-8000-%012d', n % 30 + 1), 'Placed', 1,
        n / 30 + 1, json_object('n', n, 'price', 1.5), NULL, '2024-01-02T03:04:05.123456+02:00', NULL, NULL FROM e;
    DELETE FROM domain_event WHERE rowid = 300;
    UPDATE event_stream SET version = 9 WHERE stream_id = '00000000-0000-4000-8000-000000000030';
    WITH RECURSIVE a (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 200)
    INSERT INTO audit_events (event_id, event_type, event_category, event_outcome, event_timestamp, event_date, service_name,
        actor_type, resource_type, resource_id, event_data, correlation_id)
    SELECT printf('00000000-0000-4000-B000-%012d', n), 'gateway.signal.received', 'gateway', 'success',
        printf('2024-%02d-02T07:08:09Z', n % 12 + 1), printf('2024-%02d-02', n % 12 + 1), 's', 'system', 'r', n, '{\"a\":1}',
        'of old' FROM a;
    INSERT INTO notification_audit (id, notification_id, recipient, channel, status, sent_at)
    VALUES (7, 'n', 'ops', 'email', 'sent', '2024-05-06T07:08:09Z');
    INSERT INTO playbook_catalog (playbook_id, version, name, description, content, content_hash, labels, is_latest_version,
        created_at, updated_at)
    VALUES ('p', '1.0.0', 'P', 'd', 'c', '2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6', '{\"a\":\"b\"}', 0,
            '2024-05-06T07:08:09Z', '2024-05-06T07:08:09Z'),
        ('p', '1.1.0', 'P', 'd', 'c', '2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6', '{\"a\":\"b\"}', 1,
            '2024-05-06T07:08:09Z', '2024-05-06T07:08:09Z');
";

/// Moves each module out of a legacy file into the database of `new`.
pub(crate) async fn into(new: &dyn OpenBackend, families: &[Family]) -> Result<()> {
    let unexpected = |error: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Unexpected, format!("the legacy file: {error}"))
    };
    let folder = tempfile::tempdir().map_err(|error| unexpected(&error))?;
    let path = folder.path().join("app.db");
    let mut file =
        SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| unexpected(&error))?;
    let legacy = include_str!("../../../crates/sqlite/tests/legacy.sql");
    file.batch_execute(legacy).map_err(|error| unexpected(&error))?;
    file.batch_execute(ROWS).map_err(|error| unexpected(&error))?;
    drop(file);
    let settings = BackendSettings::new("legacy").with("path", path.to_string_lossy()).with("tenant", TENANT);
    let old = Sqlite.open(&settings).await?;
    for family in families {
        let scope = module_of(*family)?;
        old.migrations(&scope, *family)?.up().await?;
        let side = old.cutover(&scope)?;
        let CutoverSide::Old { source, .. } = &side else {
            return Err(unexpected(&"it cannot be moved from"));
        };
        let tables = declare::present(declare::ours(*family, true, &scope), &source.facts().await?);
        let cutover = Cutover::new(&scope, tables, side, new.cutover(&scope)?, "the suite")?;
        let terms = Terms::new(TenantId::new(TENANT)?);
        cutover.run(&terms, Goal::Switched).await?;
        cutover.finalize(&terms).await?;
    }
    old.close().await;
    Ok(())
}
