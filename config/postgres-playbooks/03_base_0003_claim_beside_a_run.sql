-- description: a module whose revert is under way is claimed by nobody

SET ROLE changeover_owner;

CREATE OR REPLACE FUNCTION changeover.claim(p_module text) RETURNS changeover.module
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $claim$
DECLARE
    found_row changeover.module;
    relation  text;
BEGIN
    PERFORM pg_advisory_xact_lock(changeover.lock_key(p_module, 'module'));
    SELECT * INTO found_row FROM changeover.module AS m WHERE m.module = p_module;
    IF found_row.module IS NULL THEN
        RAISE EXCEPTION 'module "%" is not in this database', p_module
            USING ERRCODE = 'undefined_object', HINT = 'Run the migrations of the module.';
    END IF;
    IF found_row.owner <> 'none' THEN
        RETURN found_row;
    END IF;
    -- A revert that is under way leaves nobody the owner for a moment; the module is not free.
    IF EXISTS (SELECT FROM cutover.run AS r WHERE r.module = p_module AND r.phase NOT IN ('idle', 'finalized')) THEN
        RETURN found_row;
    END IF;
    FOREACH relation IN ARRAY found_row.tables LOOP
        -- By size, because row security hides the rows of every tenant from the owner as well.
        IF pg_relation_size(relation::regclass) > 0 THEN
            RETURN found_row;
        END IF;
    END LOOP;
    UPDATE changeover.module AS m SET owner = 'postgres', epoch = m.epoch + 1
     WHERE m.module = p_module AND m.owner = 'none'
    RETURNING * INTO found_row;
    RETURN found_row;
END
$claim$;
COMMENT ON FUNCTION changeover.claim(text) IS 'Makes this database the owner of a module that nobody owns, that no run of a cutover moves and whose tables are empty; returns the module''s row as it then is';

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('base', 'base/0003_claim_beside_a_run', 'a module whose revert is under way is claimed by nobody', '73217038e6628a9c9f0890036d9cac5b28516ef6f478067fb75e43960d990a57') ON CONFLICT (module, id) DO NOTHING;
