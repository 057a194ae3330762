-- removes-records
DELETE FROM changeover.module WHERE module = event_store.module_name();
DROP SCHEMA event_store CASCADE;

-- Shared with other modules and filled by the service: dropped only when nothing is left in them.
DO $empty_schemas$
DECLARE
    shared text;
BEGIN
    FOREACH shared IN ARRAY ARRAY['read_model', 'command_model'] LOOP
        BEGIN
            EXECUTE pg_catalog.format('DROP SCHEMA IF EXISTS %I', shared);
        EXCEPTION
            WHEN dependent_objects_still_exist THEN
                RAISE NOTICE 'schema "%" is kept: it is not empty', shared;
        END;
    END LOOP;
END
$empty_schemas$;
