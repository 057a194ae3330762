DROP FUNCTION audit_store.record;
DROP AGGREGATE audit_store.chain(bytea, bytea);
DROP FUNCTION audit_store.link(bytea, bytea, bytea);
DROP FUNCTION audit_store.set_tenant(text);
DROP FUNCTION audit_store.begin_write(text);
