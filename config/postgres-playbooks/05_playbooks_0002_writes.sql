-- description: the write functions of the catalogue

-- The extension's type is found wherever the extension lives.
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector';

SET ROLE changeover_owner;

-- Sets the tenant for the rest of the transaction.
CREATE OR REPLACE FUNCTION playbook_store.set_tenant(p_tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $set_tenant$
DECLARE
    v_current constant text := current_setting('changeover.tenant_id', true);
BEGIN
    IF coalesce(p_tenant, '') = '' THEN
        RAISE EXCEPTION 'a tenant is required' USING ERRCODE = 'CO400';
    END IF;
    IF v_current = p_tenant THEN
        RETURN;
    END IF;
    IF v_current <> '' THEN
        RAISE EXCEPTION 'this transaction already serves another tenant'
            USING ERRCODE = 'CO400', HINT = 'Use one transaction a tenant.';
    END IF;
    PERFORM set_config('changeover.tenant_id', p_tenant, true);
END
$set_tenant$;
COMMENT ON FUNCTION playbook_store.set_tenant(text) IS 'Sets the tenant for the rest of the transaction; refuses an empty one and a second one';

-- What every write begins with; the locks are held to the end of the transaction. Writers of one tenant's catalogue take
-- turns, so that what is judged is still so when it is written, and the mark of the latest changes hands in one step.
CREATE OR REPLACE FUNCTION playbook_store.begin_write(p_tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $begin_write$
BEGIN
    PERFORM playbook_store.check_owner();
    PERFORM playbook_store.set_tenant(p_tenant);
    PERFORM pg_advisory_xact_lock(changeover.lock_key(playbook_store.module_name() || '/' || p_tenant, 'catalogue'));
END
$begin_write$;
COMMENT ON FUNCTION playbook_store.begin_write(text) IS 'Checks that this database owns the module, sets the tenant, and takes the locks of a write';

-- Stores versions, one entry of the arrays each, all or nothing. One row comes back: how many were stored and how many
-- were there before with equal content, name, description and labels; or the place, from 1, of the first that is there
-- with others, and then nothing is stored.
--
-- Nothing depends on the table's statistics: plans are kept for the session, and one that was made while the table was
-- small must not read it whole when it has grown. Hence look-ups under LIMIT 1, generic plans and no sequential scans.
CREATE OR REPLACE FUNCTION playbook_store.put(
    p_tenant text, p_id text[], p_version text[], p_name text[], p_description text[], p_owner text[], p_maintainer text[],
    p_content text[], p_content_hash text[], p_labels jsonb[], p_embedding vector[], p_status text[], p_is_latest boolean[],
    p_previous text[], p_notes text[], p_summary text[], p_approved_by text[], p_approved_at timestamptz[],
    p_expected_thousandths integer[], p_expected_seconds bigint[], p_created_at timestamptz[], p_created_by text[]
) RETURNS TABLE (stored integer, repeated integer, taken integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $put$
#variable_conflict use_column
DECLARE
    v_known integer[];   -- places of versions that are stored
    v_taken integer;
    v_place integer;
    v_now   timestamptz;
BEGIN
    PERFORM playbook_store.begin_write(p_tenant);

    SELECT array_agg(n.i::integer),
           min(n.i) FILTER (WHERE (n.content, n.name, n.description, n.labels)
                                  IS DISTINCT FROM (x.content, x.name, x.description, x.labels))
      INTO v_known, v_taken
      FROM unnest(p_id, p_version, p_name, p_description, p_content, p_labels)
           WITH ORDINALITY AS n (id, version, name, description, content, labels, i)
     CROSS JOIN LATERAL (SELECT c.name, c.description, c.content, c.labels FROM playbook_store.playbook_catalog AS c
                          WHERE c.tenant_id = p_tenant AND c.playbook_id = n.id AND c.version = n.version LIMIT 1) AS x;
    IF v_taken IS NOT NULL THEN
        RETURN QUERY SELECT 0, 0, v_taken;
        RETURN;
    END IF;
    v_known := coalesce(v_known, '{}');
    v_now := clock_timestamp();

    FOR v_place IN SELECT i FROM generate_subscripts(p_id, 1) AS i WHERE p_is_latest[i] AND i <> ALL (v_known) LOOP
        UPDATE playbook_store.playbook_catalog AS c SET is_latest_version = false, updated_by = p_created_by[v_place]
         WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id[v_place] AND c.is_latest_version;
    END LOOP;

    INSERT INTO playbook_store.playbook_catalog (
        tenant_id, playbook_id, version, name, description, owner, maintainer, content, content_hash, labels, embedding,
        status, is_latest_version, previous_version, version_notes, change_summary, approved_by, approved_at,
        expected_success_rate, expected_duration_seconds, created_at, created_by, updated_at)
    SELECT p_tenant, n.id, n.version, n.name, n.description, n.owner, n.maintainer, n.content, n.content_hash, n.labels,
           n.embedding, n.status, n.is_latest, n.previous, n.notes, n.summary, n.approved_by, n.approved_at,
           n.expected_thousandths / 1000.0, n.expected_seconds, coalesce(n.created_at, v_now), n.created_by, v_now
      FROM unnest(p_id, p_version, p_name, p_description, p_owner, p_maintainer, p_content, p_content_hash, p_labels,
                  p_embedding, p_status, p_is_latest, p_previous, p_notes, p_summary, p_approved_by, p_approved_at,
                  p_expected_thousandths, p_expected_seconds, p_created_at, p_created_by)
           WITH ORDINALITY AS n (id, version, name, description, owner, maintainer, content, content_hash, labels,
                  embedding, status, is_latest, previous, notes, summary, approved_by, approved_at,
                  expected_thousandths, expected_seconds, created_at, created_by, i)
     WHERE n.i <> ALL (v_known);

    RETURN QUERY SELECT cardinality(p_id) - cardinality(v_known), cardinality(v_known), NULL::integer;
END
$put$;
COMMENT ON FUNCTION playbook_store.put IS 'Stores versions of playbooks, all or nothing; storing an equal one again changes nothing';

-- p_edit says which of the values count:
--   latest     it takes the mark from the version that had it
--   status     p_status, and p_text as reason or notice
--   figures    p_total, p_successful, p_thousandths
--   embedding  p_embedding
-- No row comes back if there is no such version.
CREATE OR REPLACE FUNCTION playbook_store.change(
    p_tenant text, p_id text, p_version text, p_edit text, p_by text, p_status text DEFAULT NULL, p_text text DEFAULT NULL,
    p_total bigint DEFAULT NULL, p_successful bigint DEFAULT NULL, p_thousandths integer DEFAULT NULL,
    p_embedding vector DEFAULT NULL
) RETURNS SETOF playbook_store.playbook_catalog
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $change$
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM playbook_store.begin_write(p_tenant);
    SELECT greatest(clock_timestamp(), c.updated_at + interval '1 microsecond') INTO v_now
      FROM playbook_store.playbook_catalog AS c
     WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    CASE p_edit
        WHEN 'latest' THEN
            UPDATE playbook_store.playbook_catalog AS c SET is_latest_version = false, updated_by = p_by
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.is_latest_version AND c.version <> p_version;
            UPDATE playbook_store.playbook_catalog AS c SET is_latest_version = true, updated_by = p_by
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version;
        WHEN 'status' THEN
            UPDATE playbook_store.playbook_catalog AS c
               SET status = p_status, updated_by = p_by, updated_at = v_now,
                   disabled_at = CASE p_status WHEN 'active' THEN NULL WHEN 'disabled' THEN v_now ELSE c.disabled_at END,
                   disabled_by = CASE p_status WHEN 'active' THEN NULL WHEN 'disabled' THEN p_by ELSE c.disabled_by END,
                   disabled_reason = CASE p_status WHEN 'active' THEN NULL WHEN 'disabled' THEN p_text ELSE c.disabled_reason END,
                   deprecation_notice = CASE p_status WHEN 'active' THEN NULL WHEN 'deprecated' THEN p_text
                                                      ELSE c.deprecation_notice END
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version;
        WHEN 'figures' THEN
            UPDATE playbook_store.playbook_catalog AS c
               SET total_executions = p_total, successful_executions = p_successful,
                   actual_success_rate = p_thousandths / 1000.0, updated_by = p_by
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version;
        WHEN 'embedding' THEN
            UPDATE playbook_store.playbook_catalog AS c SET embedding = p_embedding, updated_by = p_by
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version;
        ELSE
            RAISE EXCEPTION 'unknown change: %', p_edit USING ERRCODE = 'CO400';
    END CASE;

    RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
                  WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_version;
END
$change$;
COMMENT ON FUNCTION playbook_store.change IS 'Changes lifecycle, figures or vector of one version and returns the row; no row if there is none';

REVOKE ALL ON FUNCTION playbook_store.set_tenant, playbook_store.begin_write, playbook_store.put, playbook_store.change
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION playbook_store.put, playbook_store.change TO changeover_app;

RESET ROLE;
RESET search_path;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0002_writes', 'the write functions of the catalogue', '33f4132514372ca8f24b9efae2b8b69fadcdf4bc729686a3491479a2656c04aa') ON CONFLICT (module, id) DO NOTHING;
