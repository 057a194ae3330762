-- description: roles, the record of applied migrations, and who owns each module
--
-- Roles belong to the whole cluster, so another database's migration may be creating them at this moment:
-- every statement about a role tolerates that it lost the race.

DO $roles$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['changeover_owner', 'changeover_app', 'changeover_copier'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE EXCEPTION 'the role "%" is missing and "%" may not create roles', wanted, current_user
                        USING ERRCODE = 'insufficient_privilege',
                              HINT = 'Run migrate with a login that has CREATEROLE (setting migrate_url), or create the role first.';
            END;
        END IF;
    END LOOP;

    -- From version 16 on, who creates a role may grant it but is not a member that can act as it.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
       AND NOT pg_catalog.pg_has_role(current_user, 'changeover_owner', 'SET') THEN
        BEGIN
            EXECUTE pg_catalog.format('GRANT changeover_owner TO %I WITH INHERIT TRUE, SET TRUE', current_user);
        EXCEPTION
            WHEN unique_violation OR internal_error THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION '"%" may not act as "changeover_owner"', current_user
                    USING ERRCODE = 'insufficient_privilege',
                          HINT = 'Grant it: GRANT changeover_owner TO <login> WITH INHERIT TRUE, SET TRUE.';
        END;
    END IF;

    -- Who may act as the owner may step down to the application's role, which is what the pool does.
    IF NOT pg_catalog.pg_has_role('changeover_owner', 'changeover_app', 'SET') THEN
        BEGIN
            GRANT changeover_app TO changeover_owner;
        EXCEPTION
            WHEN unique_violation OR internal_error THEN NULL;   -- another migration of the cluster granted it
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'changeover_app is not granted to changeover_owner: %', SQLERRM;
        END;
    END IF;
END
$roles$;

CREATE SCHEMA IF NOT EXISTS changeover AUTHORIZATION changeover_owner;

-- Offered and allowed, they are there for people who write SQL; nothing of ours needs them (DEF-4).
DO $extensions$
DECLARE
    offered text;
BEGIN
    FOR offered IN
        SELECT a.name FROM pg_catalog.pg_available_extensions AS a
        WHERE a.name IN ('uuid-ossp', 'pgcrypto') AND a.installed_version IS NULL
    LOOP
        BEGIN
            EXECUTE pg_catalog.format('CREATE EXTENSION IF NOT EXISTS %I', offered);
        EXCEPTION
            WHEN insufficient_privilege OR unique_violation OR duplicate_object OR invalid_schema_name THEN
                RAISE NOTICE 'extension "%" was not created: %', offered, SQLERRM;
        END;
    END LOOP;
END
$extensions$;

-- For people at a prompt only: every statement of ours names its schema. A path that somebody set is kept.
DO $search_path$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_db_role_setting AS s
        JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
        WHERE d.datname = pg_catalog.current_database() AND s.setrole = 0
          AND EXISTS (SELECT FROM pg_catalog.unnest(s.setconfig) AS c WHERE c LIKE 'search\_path=%')
    ) THEN
        EXECUTE pg_catalog.format(
            'ALTER DATABASE %I SET search_path = "$user", public, event_store, read_model, command_model',
            pg_catalog.current_database());
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'the search path of the database stays as it is: %', SQLERRM;
END
$search_path$;

SET ROLE changeover_owner;

COMMENT ON SCHEMA changeover IS 'Changeover: applied migrations and the owner of each module';

CREATE TABLE IF NOT EXISTS changeover._migrations (
    module      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    description text NOT NULL,
    checksum    text COLLATE "C" NOT NULL CHECK (char_length(checksum) = 64),
    applied_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (module, id)
);
COMMENT ON TABLE changeover._migrations IS 'Migrations applied to this database; written by the migration runner only';
COMMENT ON COLUMN changeover._migrations.module IS 'Module whose schema the migration made; "base" for what all modules share';
COMMENT ON COLUMN changeover._migrations.id IS 'Name of the migration''s folder; ids are applied in bytewise order';
COMMENT ON COLUMN changeover._migrations.description IS 'First line of the migration''s up.sql';
COMMENT ON COLUMN changeover._migrations.checksum IS 'SHA-256, in hexadecimal, of up.sql and down.sql as shipped';
COMMENT ON COLUMN changeover._migrations.applied_at IS 'When the migration was committed, by the server''s clock';

CREATE TABLE IF NOT EXISTS changeover.module (
    module text COLLATE "C" PRIMARY KEY CHECK (char_length(module) BETWEEN 1 AND 255),
    log_id uuid NOT NULL,
    owner  text COLLATE "C" NOT NULL CHECK (owner IN ('none', 'sqlite', 'postgres')),
    epoch  bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    tables text[] NOT NULL
);
COMMENT ON TABLE changeover.module IS 'The authority: which store owns a module. Writers read it under a shared advisory lock of the module, a switch changes it under the exclusive one';
COMMENT ON COLUMN changeover.module.module IS 'Name of the module';
COMMENT ON COLUMN changeover.module.log_id IS 'Identity of the module''s log, named by every checkpoint; it travels with a cutover';
COMMENT ON COLUMN changeover.module.owner IS 'none: nobody yet, writes are refused; sqlite: another store; postgres: this database';
COMMENT ON COLUMN changeover.module.epoch IS 'Grows by one whenever the owner changes';
COMMENT ON COLUMN changeover.module.tables IS 'The module''s tables by qualified name; all must be empty for a first claim';

-- Advisory locks of this database: one number a module and purpose.
--   'module'    shared by writers for their transaction, exclusive for whoever changes the owner
--   'position'  exclusive for writers that take global positions, up to their commit
--   'migrate'   exclusive for the migration runner (module name '*')
CREATE OR REPLACE FUNCTION changeover.lock_key(p_module text, p_purpose text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.hashtextextended('changeover/' || p_purpose || '/' || p_module, 0);
COMMENT ON FUNCTION changeover.lock_key(text, text) IS 'Number of the advisory lock of a module for a purpose: module, position or migrate';

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

REVOKE ALL ON FUNCTION changeover.claim(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA changeover TO changeover_app, changeover_copier;
GRANT SELECT ON changeover.module, changeover._migrations TO changeover_app, changeover_copier;
GRANT EXECUTE ON FUNCTION changeover.claim(text) TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('base', 'base/0001_roles_and_modules', 'roles, the record of applied migrations, and who owns each module', 'dd380be303f6feb131334401776b7f4e52a87750f590ab61bdb08056ae52880f') ON CONFLICT (module, id) DO NOTHING;
