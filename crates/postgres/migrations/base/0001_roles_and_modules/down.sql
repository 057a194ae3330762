-- The roles stay: they belong to the cluster, and other databases may be using them.
DROP SCHEMA IF EXISTS changeover CASCADE;

DO $search_path$
BEGIN
    IF EXISTS (
        SELECT FROM pg_catalog.pg_db_role_setting AS s
        JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
        WHERE d.datname = pg_catalog.current_database() AND s.setrole = 0
          AND 'search_path="$user", public, event_store, read_model, command_model' = ANY (s.setconfig)
    ) THEN
        EXECUTE pg_catalog.format('ALTER DATABASE %I RESET search_path', pg_catalog.current_database());
    END IF;
END
$search_path$;
