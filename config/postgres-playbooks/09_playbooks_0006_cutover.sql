-- description: the copier of a cutover is let through

SET ROLE changeover_owner;

-- As before, and the copier of a cutover may write and replace until the module is this database's.
CREATE OR REPLACE FUNCTION playbook_store.guard_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard_write$
BEGIN
    IF NOT cutover.is_copier(playbook_store.module_name()) THEN
        PERFORM playbook_store.check_owner();
    END IF;
    RETURN NULL;
END
$guard_write$;
COMMENT ON FUNCTION playbook_store.guard_write() IS 'Refuses writes while this database does not own the module, but those of a cutover';

CREATE OR REPLACE FUNCTION playbook_store.refuse_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse_removal$
BEGIN
    IF cutover.is_copier(playbook_store.module_name()) THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on %.% is refused: versions are kept', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Set the status to archived.';
END
$refuse_removal$;
COMMENT ON FUNCTION playbook_store.refuse_removal() IS 'Refuses to remove versions, whoever asks but the copier of a cutover';

-- For a role of its own, so that the plans of everybody else stay what they were.
DO $policies$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                   WHERE p.schemaname = 'playbook_store' AND p.tablename = 'playbook_catalog' AND p.policyname = 'whole') THEN
        CREATE POLICY whole ON playbook_store.playbook_catalog FOR SELECT TO changeover_copier USING (true);
    END IF;
END
$policies$;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0006_cutover', 'the copier of a cutover is let through', '740135375ee0a1faf1605d409c2686d2781746e3d36d57bb3fcff7318387abbd') ON CONFLICT (module, id) DO NOTHING;
