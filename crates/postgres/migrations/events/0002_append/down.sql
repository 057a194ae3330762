DROP FUNCTION event_store.append_events(text, uuid, bigint, jsonb[]);
DROP FUNCTION event_store.append(text, integer[], uuid[], text[], uuid[], bigint[], integer[], uuid[], text[], integer[],
    jsonb[], jsonb[], timestamptz[], uuid[], uuid[], integer[], text[], bigint[]);
DROP FUNCTION event_store.is_expected(bigint, bigint);
DROP FUNCTION event_store.begin_write(text);
DROP FUNCTION event_store.set_tenant(text);
