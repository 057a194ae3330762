SET ROLE changeover_owner;

DROP POLICY whole ON event_store.event_stream;
DROP POLICY whole ON event_store.domain_event;
DROP POLICY whole ON event_store.consumer_position;
DROP FUNCTION event_store.cutover_seal(bigint, text[]);

CREATE OR REPLACE FUNCTION event_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Append an event that corrects the earlier one.';
END
$refuse$;
COMMENT ON FUNCTION event_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks';

RESET ROLE;
