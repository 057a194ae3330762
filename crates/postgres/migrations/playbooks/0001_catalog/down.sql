-- removes-records
UPDATE changeover.module SET tables = pg_catalog.array_remove(tables, 'playbook_store.playbook_catalog')
 WHERE module = playbook_store.module_name();
DELETE FROM changeover.module WHERE module = playbook_store.module_name() AND tables = '{}';
DROP SCHEMA playbook_store CASCADE;
-- The extension stays: other tables of the database may use it.
