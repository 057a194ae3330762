-- description: the copier of a cutover is let through; what a cutover moves on at its end

SET ROLE changeover_owner;

-- As before, and the copier of a cutover may replace what it stored until the module is this database's.
CREATE OR REPLACE FUNCTION event_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    IF cutover.is_copier(event_store.module_name()) THEN
        RETURN CASE WHEN TG_LEVEL = 'STATEMENT' THEN NULL WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Append an event that corrects the earlier one.';
END
$refuse$;
COMMENT ON FUNCTION event_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks but the copier of a cutover';

-- The next position is above p_high and above every event. Again: nothing happens.
CREATE OR REPLACE FUNCTION event_store.cutover_seal(p_high bigint, p_tenants text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $cutover_seal$
DECLARE
    v_high bigint;
BEGIN
    SELECT greatest(p_high, (SELECT max(d.position) FROM event_store.domain_event AS d),
                    (SELECT max(c.position) FROM event_store.consumer_position AS c),
                    (SELECT s.last_value FROM event_store.event_position AS s WHERE s.is_called)) INTO v_high;
    IF v_high > 0 THEN
        PERFORM setval('event_store.event_position', v_high);
    END IF;
END
$cutover_seal$;
COMMENT ON FUNCTION event_store.cutover_seal(bigint, text[]) IS 'Moves the position on to a high water and the highest one stored; part of a cutover';
REVOKE ALL ON FUNCTION event_store.cutover_seal(bigint, text[]) FROM PUBLIC;

-- For a role of its own, so that the plans of everybody else stay what they were.
DO $policies$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['event_stream', 'domain_event', 'consumer_position'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                       WHERE p.schemaname = 'event_store' AND p.tablename = relation AND p.policyname = 'whole') THEN
            EXECUTE pg_catalog.format(
                'CREATE POLICY whole ON event_store.%I FOR SELECT TO changeover_copier USING (true)', relation);
        END IF;
    END LOOP;
END
$policies$;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0006_cutover', 'the copier of a cutover is let through; what a cutover moves on at its end', '5589e616343e54dbb7fb1138acbf08e2a04badf1a72a38e697112b70ec20778f') ON CONFLICT (module, id) DO NOTHING;
