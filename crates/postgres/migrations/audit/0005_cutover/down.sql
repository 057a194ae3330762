SET ROLE changeover_owner;

DROP POLICY whole ON audit_store.audit_event_id;
DROP POLICY whole ON audit_store.audit_events;
DROP POLICY whole ON audit_store.audit_head;
DROP POLICY whole ON audit_store.audit_chain;
DROP POLICY whole ON audit_store.audit_anchor;
DROP FUNCTION audit_store.cutover_seal(bigint, text[]);

CREATE OR REPLACE FUNCTION audit_store.drop_month(p_partition regclass) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '400ms' AS $drop_month$
BEGIN
    EXECUTE format('DROP TABLE %s', p_partition);
    RETURN true;
EXCEPTION
    WHEN lock_not_available THEN
        RETURN false;
END
$drop_month$;

CREATE OR REPLACE FUNCTION audit_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    IF TG_OP = 'DELETE' AND TG_ARGV[0] = 'retention'
       AND current_setting('changeover.retention', true) = pg_current_xact_id_if_assigned()::text THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Record an event that corrects the earlier one; retention removes what has expired.';
END
$refuse$;
COMMENT ON FUNCTION audit_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks; retention is let through where its name is the argument';

RESET ROLE;
