SET ROLE changeover_owner;

DROP POLICY whole ON playbook_store.playbook_catalog;

CREATE OR REPLACE FUNCTION playbook_store.refuse_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse_removal$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: versions are kept', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Set the status to archived.';
END
$refuse_removal$;
COMMENT ON FUNCTION playbook_store.refuse_removal() IS 'Refuses to remove versions, whoever asks';

CREATE OR REPLACE FUNCTION playbook_store.guard_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard_write$
BEGIN
    PERFORM playbook_store.check_owner();
    RETURN NULL;
END
$guard_write$;
COMMENT ON FUNCTION playbook_store.guard_write() IS 'Refuses writes while this database does not own the module';

RESET ROLE;
