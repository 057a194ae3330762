DROP FUNCTION event_store.tracked(text, text);
DROP FUNCTION event_store.log_head(text);
DROP FUNCTION event_store.stream_head(text, text, uuid);
DROP FUNCTION event_store.read_all(text, bigint, bigint, text[], uuid[], text[], text[], bigint);
DROP FUNCTION event_store.read_stream(text, text, uuid, bigint, bigint, boolean, bigint, text[]);
