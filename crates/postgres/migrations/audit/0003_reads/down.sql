DROP FUNCTION audit_store.read_chain(text, text, bigint, bigint);
DROP FUNCTION audit_store.get(text, uuid);
DROP FUNCTION audit_store.count(text, text[], timestamptz, timestamptz);
DROP FUNCTION audit_store.query;
DROP FUNCTION audit_store.conditions(text[], timestamptz, timestamptz);
