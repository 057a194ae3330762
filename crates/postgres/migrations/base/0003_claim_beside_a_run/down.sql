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
COMMENT ON FUNCTION changeover.claim(text) IS 'Makes this database the owner of a module that nobody owns and whose tables are empty; returns the module''s row as it then is';

RESET ROLE;
