DROP FUNCTION audit_store.retain(text, text[], integer[], bigint, boolean);
DROP FUNCTION audit_store.add_counts(bigint[], text[], text[]);
DROP FUNCTION audit_store.is_due(text, date, text[], date[]);
DROP FUNCTION audit_store.forget(text, uuid[], text[], bigint[], bytea[]);
DROP FUNCTION audit_store.drop_month(regclass);
