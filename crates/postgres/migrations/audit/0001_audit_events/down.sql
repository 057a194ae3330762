-- removes-records
UPDATE changeover.module AS m SET tables = ARRAY(
    SELECT t FROM pg_catalog.unnest(m.tables) AS t WHERE NOT pg_catalog.starts_with(t, 'audit_store.') ORDER BY t)
 WHERE m.module = audit_store.module_name();
-- A module may have tables of other families beside these.
DELETE FROM changeover.module AS m WHERE m.module = audit_store.module_name() AND m.tables = '{}';
DROP SCHEMA audit_store CASCADE;
