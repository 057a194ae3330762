-- description: the catalogue of playbooks, with vectors

-- Vectors are the playbooks' alone: no other module needs the extension (X-EDGE-116).
DO $vector$
DECLARE
    v_installed text := (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector');
BEGIN
    IF v_installed IS NULL THEN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_available_extensions AS a WHERE a.name = 'vector') THEN
            RAISE EXCEPTION 'the server does not offer the extension "vector" (pgvector), which playbooks are searched by'
                USING ERRCODE = 'undefined_object',
                      HINT = 'Install pgvector 0.8 or later on the server and migrate again, or keep the module playbooks in another backend; other modules do without it.';
        END IF;
        BEGIN
            CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
        EXCEPTION
            WHEN insufficient_privilege OR invalid_schema_name THEN
                RAISE EXCEPTION 'the extension "vector" (pgvector) could not be created by "%": %', current_user, SQLERRM
                    USING ERRCODE = SQLSTATE,
                          HINT = 'Let a superuser run CREATE EXTENSION vector in this database, then migrate again.';
        END;
        v_installed := (SELECT e.extversion FROM pg_catalog.pg_extension AS e WHERE e.extname = 'vector');
    END IF;
    IF pg_catalog.string_to_array(pg_catalog.regexp_replace(v_installed, '[^0-9.].*$', ''), '.')::integer[] < ARRAY[0, 8] THEN
        RAISE EXCEPTION 'the extension "vector" (pgvector) is of version %, 0.8 or later is needed', v_installed
            USING ERRCODE = 'undefined_object', HINT = 'Update it: ALTER EXTENSION vector UPDATE.';
    END IF;
END
$vector$;

CREATE SCHEMA IF NOT EXISTS playbook_store AUTHORIZATION changeover_owner;

-- The extension may live in any schema; its type is found there, whatever the path of the session was.
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector';

SET ROLE changeover_owner;

COMMENT ON SCHEMA playbook_store IS 'Playbooks and their versions, found by meaning';

-- The one place that names the module: another module of this kind has the same SQL under a schema of its own.
CREATE OR REPLACE FUNCTION playbook_store.module_name() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'playbooks'::text;
COMMENT ON FUNCTION playbook_store.module_name() IS 'Name of the module that this schema belongs to';

-- Whoever writes rows by hand names the tenant once a session: SET changeover.tenant_id = 'default'.
CREATE OR REPLACE FUNCTION playbook_store.current_tenant() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $current_tenant$
DECLARE
    v_tenant constant text := NULLIF(current_setting('changeover.tenant_id', true), '');
BEGIN
    IF v_tenant IS NULL THEN
        RAISE EXCEPTION 'no tenant is set'
            USING ERRCODE = 'CO400', HINT = 'Name it first: SET changeover.tenant_id = ''default''.';
    END IF;
    RETURN v_tenant;
END
$current_tenant$;
COMMENT ON FUNCTION playbook_store.current_tenant() IS 'The tenant in changeover.tenant_id; an error if none is set';

-- Semantic order as text in the order of bytes: 20 digits for each number; then ~ for a release, or the identifiers of a
-- pre-release: a number as its length in two hexadecimal digits and itself, anything else as x, itself, and !, which is
-- below every character of an identifier. Build parts do not count. Null for what is not a semantic version.
CREATE OR REPLACE FUNCTION playbook_store.version_key(p_version text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $version_key$
DECLARE
    v_parts constant text[] := regexp_match(
        p_version COLLATE "C",
        '^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)'
        '(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$');
    v_key   text := '';
    v_part  text;
BEGIN
    IF v_parts IS NULL OR octet_length(p_version) > 255 THEN
        RETURN NULL;
    END IF;
    FOREACH v_part IN ARRAY v_parts[1:3] LOOP
        IF v_part::numeric > 18446744073709551615 THEN
            RETURN NULL;
        END IF;
        v_key := v_key || lpad(v_part, 20, '0');
    END LOOP;
    IF v_parts[4] IS NULL THEN
        RETURN v_key || '~';
    END IF;
    FOREACH v_part IN ARRAY string_to_array(v_parts[4], '.') LOOP
        IF v_part COLLATE "C" !~ '^[0-9]+$' THEN
            v_key := v_key || 'x' || v_part || '!';
        ELSIF v_part COLLATE "C" ~ '^0.' THEN
            RETURN NULL;
        ELSE
            v_key := v_key || lpad(to_hex(char_length(v_part)), 2, '0') || v_part;
        END IF;
    END LOOP;
    RETURN v_key;
END
$version_key$;
COMMENT ON FUNCTION playbook_store.version_key(text) IS 'What orders versions by meaning when compared byte by byte; null for text that is no semantic version';

CREATE OR REPLACE FUNCTION playbook_store.are_labels(p_labels jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(p_labels) = 'object' THEN
    (SELECT count(*) <= 100
            AND coalesce(bool_and(char_length(l.key) BETWEEN 1 AND 255 AND jsonb_typeof(l.value) = 'string'
                                  AND char_length(l.value #>> '{}') <= 255), true)
       FROM jsonb_each(p_labels) AS l)
    ELSE false END;
COMMENT ON FUNCTION playbook_store.are_labels(jsonb) IS 'Whether it is an object of at most 100 strings of at most 255 characters each';

CREATE TABLE IF NOT EXISTS playbook_store.playbook_catalog (
    tenant_id    text COLLATE "C" NOT NULL DEFAULT playbook_store.current_tenant()
                 CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    playbook_id  text COLLATE "C" NOT NULL CHECK (char_length(playbook_id) BETWEEN 1 AND 255),
    version      text COLLATE "C" NOT NULL,
    version_key  text COLLATE "C" GENERATED ALWAYS AS (playbook_store.version_key(version)) STORED,
    name         text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 255),
    description  text NOT NULL CHECK (char_length(description) <= 65536),
    owner        text CHECK (char_length(owner) BETWEEN 1 AND 255),
    maintainer   text CHECK (char_length(maintainer) BETWEEN 1 AND 255),
    content      text NOT NULL CHECK (octet_length(convert_to(content, 'UTF8')) <= 4194304),
    content_hash text COLLATE "C" NOT NULL,
    labels       jsonb NOT NULL DEFAULT '{}',
    embedding    vector(384) STORAGE PLAIN,   -- beside its row: a search reads a thousand of them
    status       text COLLATE "C" NOT NULL DEFAULT 'active',
    disabled_at     timestamptz,
    disabled_by     text CHECK (char_length(disabled_by) BETWEEN 1 AND 255),
    disabled_reason text CHECK (char_length(disabled_reason) <= 65536),
    is_latest_version  boolean NOT NULL DEFAULT false,
    previous_version   text COLLATE "C",
    deprecation_notice text CHECK (char_length(deprecation_notice) <= 65536),
    version_notes      text CHECK (char_length(version_notes) <= 65536),
    change_summary     text CHECK (char_length(change_summary) <= 65536),
    approved_by        text CHECK (char_length(approved_by) BETWEEN 1 AND 255),
    approved_at        timestamptz,
    expected_success_rate     numeric(4,3),
    expected_duration_seconds bigint,
    actual_success_rate       numeric(4,3),
    total_executions          bigint NOT NULL DEFAULT 0,
    successful_executions     bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text CHECK (char_length(created_by) BETWEEN 1 AND 255),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by text CHECK (char_length(updated_by) BETWEEN 1 AND 255),
    CONSTRAINT playbook_catalog_pkey PRIMARY KEY (tenant_id, playbook_id, version),
    CONSTRAINT playbook_catalog_version_check CHECK (version_key IS NOT NULL),
    CONSTRAINT playbook_catalog_previous_version_check
        CHECK (previous_version IS NULL OR playbook_store.version_key(previous_version) IS NOT NULL),
    CONSTRAINT playbook_catalog_content_hash_check
        CHECK (content_hash = encode(sha256(convert_to(content, 'UTF8')), 'hex')),
    CONSTRAINT playbook_catalog_labels_check CHECK (playbook_store.are_labels(labels)),
    CONSTRAINT playbook_catalog_status_check CHECK (status IN ('active', 'disabled', 'deprecated', 'archived')),
    CONSTRAINT playbook_catalog_disabled_check
        CHECK (disabled_at IS NOT NULL OR num_nonnulls(disabled_by, disabled_reason) = 0),
    CONSTRAINT playbook_catalog_expected_success_rate_check CHECK (expected_success_rate BETWEEN 0 AND 1),
    CONSTRAINT playbook_catalog_expected_duration_check CHECK (expected_duration_seconds BETWEEN 0 AND 4294967295),
    CONSTRAINT playbook_catalog_actual_success_rate_check CHECK (actual_success_rate BETWEEN 0 AND 1),
    CONSTRAINT playbook_catalog_executions_check
        CHECK (total_executions >= 0 AND successful_executions BETWEEN 0 AND total_executions),
    CONSTRAINT playbook_catalog_times_check CHECK (
        least(disabled_at, approved_at, created_at, updated_at) >= '0001-01-01 00:00:00+00'
        AND greatest(disabled_at, approved_at, created_at, updated_at) < '10000-01-01 00:00:00+00')
);

CREATE UNIQUE INDEX IF NOT EXISTS playbook_catalog_latest
    ON playbook_store.playbook_catalog (tenant_id, playbook_id) WHERE is_latest_version;
CREATE INDEX IF NOT EXISTS playbook_catalog_version_order
    ON playbook_store.playbook_catalog (tenant_id, playbook_id, version_key);
CREATE INDEX IF NOT EXISTS playbook_catalog_status ON playbook_store.playbook_catalog (tenant_id, status);
CREATE INDEX IF NOT EXISTS playbook_catalog_created_at ON playbook_store.playbook_catalog (tenant_id, created_at DESC);
CREATE INDEX IF NOT EXISTS playbook_catalog_success_rate
    ON playbook_store.playbook_catalog (tenant_id, actual_success_rate DESC) WHERE actual_success_rate IS NOT NULL;
CREATE INDEX IF NOT EXISTS playbook_catalog_without_vector
    ON playbook_store.playbook_catalog (tenant_id, playbook_id)
    WHERE is_latest_version AND status = 'active' AND embedding IS NULL;
-- Only latest versions are looked for by label or by meaning, so old ones are kept out of the way.
CREATE INDEX IF NOT EXISTS playbook_catalog_labels
    ON playbook_store.playbook_catalog USING gin (labels jsonb_path_ops) WHERE is_latest_version;
CREATE INDEX IF NOT EXISTS playbook_catalog_embedding
    ON playbook_store.playbook_catalog USING hnsw (embedding vector_cosine_ops) WITH (m = 16, ef_construction = 64)
    WHERE is_latest_version AND status = 'active';

COMMENT ON TABLE playbook_store.playbook_catalog IS 'One row a version of a playbook. Content, name, description and labels of a version never change; one version of a playbook at most is the latest';
COMMENT ON COLUMN playbook_store.playbook_catalog.tenant_id IS 'Tenant that the playbook belongs to; taken from changeover.tenant_id when left out';
COMMENT ON COLUMN playbook_store.playbook_catalog.playbook_id IS 'The playbook';
COMMENT ON COLUMN playbook_store.playbook_catalog.version IS 'Semantic version as written, like v1.10.0';
COMMENT ON COLUMN playbook_store.playbook_catalog.version_key IS 'Made of version: orders versions by meaning when compared byte by byte';
COMMENT ON COLUMN playbook_store.playbook_catalog.name IS 'What the playbook is called; embedded together with the description';
COMMENT ON COLUMN playbook_store.playbook_catalog.description IS 'What the playbook is for';
COMMENT ON COLUMN playbook_store.playbook_catalog.owner IS 'Who owns the playbook';
COMMENT ON COLUMN playbook_store.playbook_catalog.maintainer IS 'Who maintains it';
COMMENT ON COLUMN playbook_store.playbook_catalog.content IS 'The text itself, at most 4 MiB; never embedded';
COMMENT ON COLUMN playbook_store.playbook_catalog.content_hash IS 'SHA-256 of the content in UTF-8, in hexadecimal; computed when left out, checked when given';
COMMENT ON COLUMN playbook_store.playbook_catalog.labels IS 'Object of strings that searches are narrowed by, such as {"severity": "critical", "component": "etcd", "environment": "production"}: at most 100 keys of 1 to 255 characters, values of at most 255';
COMMENT ON COLUMN playbook_store.playbook_catalog.embedding IS 'Vector of name and description: 384 numbers, compared by cosine, all of one model (all-MiniLM-L6-v2 has this size); null: made for each search';
COMMENT ON COLUMN playbook_store.playbook_catalog.status IS 'active: offered; disabled: not for now; deprecated: replaced; archived: kept for the record';
COMMENT ON COLUMN playbook_store.playbook_catalog.disabled_at IS 'When it was disabled; filled in when the status becomes disabled';
COMMENT ON COLUMN playbook_store.playbook_catalog.disabled_by IS 'By whom it was disabled';
COMMENT ON COLUMN playbook_store.playbook_catalog.disabled_reason IS 'Why it was disabled';
COMMENT ON COLUMN playbook_store.playbook_catalog.is_latest_version IS 'Whether this is the latest version; at most one of a playbook is';
COMMENT ON COLUMN playbook_store.playbook_catalog.previous_version IS 'The version before this one';
COMMENT ON COLUMN playbook_store.playbook_catalog.deprecation_notice IS 'What to use instead';
COMMENT ON COLUMN playbook_store.playbook_catalog.version_notes IS 'Notes on this version';
COMMENT ON COLUMN playbook_store.playbook_catalog.change_summary IS 'What changed with this version';
COMMENT ON COLUMN playbook_store.playbook_catalog.approved_by IS 'Who approved it';
COMMENT ON COLUMN playbook_store.playbook_catalog.approved_at IS 'When it was approved';
COMMENT ON COLUMN playbook_store.playbook_catalog.expected_success_rate IS 'Share of success that is expected, 0 to 1 in thousandths';
COMMENT ON COLUMN playbook_store.playbook_catalog.expected_duration_seconds IS 'How long it is expected to take';
COMMENT ON COLUMN playbook_store.playbook_catalog.actual_success_rate IS 'Share of success that was seen, 0 to 1 in thousandths';
COMMENT ON COLUMN playbook_store.playbook_catalog.total_executions IS 'How often it ran';
COMMENT ON COLUMN playbook_store.playbook_catalog.successful_executions IS 'How often it ran with success';
COMMENT ON COLUMN playbook_store.playbook_catalog.created_at IS 'When it was made';
COMMENT ON COLUMN playbook_store.playbook_catalog.created_by IS 'By whom it was made';
COMMENT ON COLUMN playbook_store.playbook_catalog.updated_at IS 'When the row was stored or changed last, by the server''s clock; moves on with every change';
COMMENT ON COLUMN playbook_store.playbook_catalog.updated_by IS 'By whom it was changed last';

-- Row security is forced, so that the owner, as whom the functions run and people write, sees one tenant as well. An
-- unset tenant and an empty one (what remains of a transaction's setting on a pooled connection) see nothing.
ALTER TABLE playbook_store.playbook_catalog ENABLE ROW LEVEL SECURITY;
ALTER TABLE playbook_store.playbook_catalog FORCE ROW LEVEL SECURITY;
DO $row_security$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                   WHERE p.schemaname = 'playbook_store' AND p.tablename = 'playbook_catalog' AND p.policyname = 'tenant') THEN
        CREATE POLICY tenant ON playbook_store.playbook_catalog
            USING (tenant_id = NULLIF(pg_catalog.current_setting('changeover.tenant_id', true), ''));
    END IF;
    -- A condition of a query may not use an index before row security has spoken, unless its operator is known to leak
    -- nothing, and containment is not. So the labels that a search asks for come in here, where GIN serves them. They
    -- only ever take rows away.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                   WHERE p.schemaname = 'playbook_store' AND p.tablename = 'playbook_catalog' AND p.policyname = 'labels') THEN
        CREATE POLICY labels ON playbook_store.playbook_catalog AS RESTRICTIVE FOR SELECT
            USING (labels @> (SELECT coalesce(NULLIF(pg_catalog.current_setting('changeover.labels', true), ''), '{}')::jsonb));
    END IF;
END
$row_security$;

-- Whoever writes, by the functions or by hand, does so only while this database owns the module. A switch takes the
-- module's lock exclusively; the owner is read by a statement of its own and so from a snapshot taken after the lock.
CREATE OR REPLACE FUNCTION playbook_store.check_owner() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $check_owner$
DECLARE
    v_module constant text := playbook_store.module_name();
    v_owner  text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'playbooks are written in READ COMMITTED transactions, not in %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;
    PERFORM pg_advisory_xact_lock_shared(changeover.lock_key(v_module, 'module'));
    SELECT m.owner INTO v_owner FROM changeover.module AS m WHERE m.module = v_module;
    IF v_owner IS DISTINCT FROM 'postgres' THEN
        RAISE EXCEPTION 'module "%" is not owned by this database but by: %', v_module, coalesce(v_owner, 'nobody known')
            USING ERRCODE = 'COMVD', HINT = 'Ask changeover.module for the owner; a module nobody owns is had by changeover.claim.';
    END IF;
END
$check_owner$;
COMMENT ON FUNCTION playbook_store.check_owner() IS 'Takes the module''s lock for the transaction and checks that this database owns the module';

CREATE OR REPLACE FUNCTION playbook_store.guard_write() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard_write$
BEGIN
    PERFORM playbook_store.check_owner();
    RETURN NULL;
END
$guard_write$;
COMMENT ON FUNCTION playbook_store.guard_write() IS 'Refuses writes while this database does not own the module';

CREATE OR REPLACE FUNCTION playbook_store.refuse_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse_removal$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: versions are kept', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Set the status to archived.';
END
$refuse_removal$;
COMMENT ON FUNCTION playbook_store.refuse_removal() IS 'Refuses to remove versions, whoever asks';

CREATE OR REPLACE FUNCTION playbook_store.complete_row() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $complete_row$
BEGIN
    NEW.content_hash := coalesce(NEW.content_hash, encode(sha256(convert_to(NEW.content, 'UTF8')), 'hex'));
    RETURN NEW;
END
$complete_row$;
COMMENT ON FUNCTION playbook_store.complete_row() IS 'Computes the hash of the content where none is given';

CREATE OR REPLACE FUNCTION playbook_store.guard_row() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $guard_row$
DECLARE
    v_now     constant timestamptz := greatest(clock_timestamp(), OLD.updated_at + interval '1 microsecond');
    v_changed text;
BEGIN
    v_changed := CASE
        WHEN NEW.tenant_id <> OLD.tenant_id THEN 'tenant_id'
        WHEN NEW.playbook_id <> OLD.playbook_id THEN 'playbook_id'
        WHEN NEW.version <> OLD.version THEN 'version'
        WHEN NEW.name IS DISTINCT FROM OLD.name THEN 'name'
        WHEN NEW.description IS DISTINCT FROM OLD.description THEN 'description'
        WHEN NEW.content IS DISTINCT FROM OLD.content THEN 'content'
        WHEN NEW.content_hash IS DISTINCT FROM OLD.content_hash THEN 'content_hash'
        WHEN NEW.labels IS DISTINCT FROM OLD.labels THEN 'labels'
        WHEN NEW.created_at <> OLD.created_at THEN 'created_at'
        WHEN NEW.created_by IS DISTINCT FROM OLD.created_by THEN 'created_by' END;
    IF v_changed IS NOT NULL THEN
        RAISE EXCEPTION 'column % of %.% does not change once a version is stored', v_changed, TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'COIMM', HINT = 'Store another version.';
    END IF;
    IF NEW.updated_at <= OLD.updated_at OR NEW.updated_at > v_now THEN
        NEW.updated_at := v_now;
    END IF;
    IF NEW.status = 'disabled' AND OLD.status <> 'disabled' THEN
        NEW.disabled_at := coalesce(NEW.disabled_at, NEW.updated_at);
    END IF;
    RETURN NEW;
END
$guard_row$;
COMMENT ON FUNCTION playbook_store.guard_row() IS 'Keeps what never changes, and moves updated_at on';

CREATE OR REPLACE TRIGGER owned BEFORE INSERT OR UPDATE ON playbook_store.playbook_catalog
    FOR EACH STATEMENT EXECUTE FUNCTION playbook_store.guard_write();
CREATE OR REPLACE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON playbook_store.playbook_catalog
    FOR EACH STATEMENT EXECUTE FUNCTION playbook_store.refuse_removal();
CREATE OR REPLACE TRIGGER complete BEFORE INSERT ON playbook_store.playbook_catalog
    FOR EACH ROW EXECUTE FUNCTION playbook_store.complete_row();
CREATE OR REPLACE TRIGGER only_lifecycle_changes BEFORE UPDATE ON playbook_store.playbook_catalog
    FOR EACH ROW EXECUTE FUNCTION playbook_store.guard_row();

-- What a row is checked and completed by is for everybody who may write one.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA playbook_store FROM PUBLIC;
GRANT EXECUTE ON FUNCTION playbook_store.module_name(), playbook_store.current_tenant(), playbook_store.version_key(text),
    playbook_store.are_labels(jsonb), playbook_store.check_owner() TO PUBLIC;
GRANT USAGE ON SCHEMA playbook_store TO changeover_app, changeover_copier;
GRANT SELECT ON playbook_store.playbook_catalog TO changeover_app, changeover_copier;

INSERT INTO changeover.module AS m (module, log_id, owner, tables)
VALUES (playbook_store.module_name(), gen_random_uuid(), 'none', ARRAY['playbook_store.playbook_catalog'])
ON CONFLICT (module) DO UPDATE SET tables = m.tables || EXCLUDED.tables WHERE NOT m.tables @> EXCLUDED.tables;

RESET ROLE;
RESET search_path;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0001_catalog', 'the catalogue of playbooks, with vectors', '2cf1e6e2dad49feb091ce58f31385cc00334b6df5769008ce27f132748132975') ON CONFLICT (module, id) DO NOTHING;
