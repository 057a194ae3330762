-- description: the read functions of the catalogue

-- Reads take the tenant as an argument, so that a page costs one round trip and leaves nothing on the connection. Each
-- page is one statement, and so one snapshot. As in the write functions no plan depends on statistics.

-- The extension's type and operator are found wherever the extension lives.
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector';

-- Loads the extension's library: only then may its settings be named below.
SELECT '[1]'::vector AS loaded;

SET ROLE changeover_owner;

-- p_which: latest, active (the latest, if it is), exact (p_text is the version), hash (p_text is the content's; the
-- highest version that has it).
CREATE OR REPLACE FUNCTION playbook_store.get(p_tenant text, p_id text, p_which text, p_text text DEFAULT NULL)
RETURNS SETOF playbook_store.playbook_catalog
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $get$
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    CASE p_which
        WHEN 'latest', 'active' THEN
            RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.is_latest_version
               AND (p_which = 'latest' OR c.status = 'active');
        WHEN 'exact' THEN
            RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version = p_text;
        WHEN 'hash' THEN
            RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
             WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.content_hash = p_text
             ORDER BY c.version_key DESC, c.version DESC LIMIT 1;
        ELSE
            RAISE EXCEPTION 'unknown look-up: %', p_which USING ERRCODE = 'CO400';
    END CASE;
END
$get$;
COMMENT ON FUNCTION playbook_store.get(text, text, text, text) IS 'One version of a playbook; no row if there is none';

-- All versions of a playbook, highest first.
CREATE OR REPLACE FUNCTION playbook_store.versions(p_tenant text, p_id text, p_below text, p_limit bigint)
RETURNS SETOF playbook_store.playbook_catalog
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $versions$
DECLARE
    v_below constant text := playbook_store.version_key(p_below);
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    IF p_below IS NULL THEN
        RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id
         ORDER BY c.version_key DESC, c.version DESC LIMIT p_limit;
    ELSE
        RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id AND c.version_key <= v_below
           AND (c.version_key < v_below OR c.version < p_below)
         ORDER BY c.version_key DESC, c.version DESC LIMIT p_limit;
    END IF;
END
$versions$;
COMMENT ON FUNCTION playbook_store.versions(text, text, text, bigint)
    IS 'A page of the versions of a playbook in semantic order, highest first; p_below is exclusive';

CREATE OR REPLACE FUNCTION playbook_store.is_known(p_tenant text, p_id text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $is_known$
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    RETURN EXISTS (SELECT FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.playbook_id = p_id);
END
$is_known$;
COMMENT ON FUNCTION playbook_store.is_known(text, text) IS 'Whether any version of a playbook is stored';

-- Narrows what row security shows to rows with these labels; '{}' takes that back. Whoever narrows it does so.
CREATE OR REPLACE FUNCTION playbook_store.ask_labels(p_labels jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE AS $ask_labels$
BEGIN
    PERFORM set_config('changeover.labels', p_labels::text, true);
END
$ask_labels$;
COMMENT ON FUNCTION playbook_store.ask_labels(jsonb) IS 'Narrows what row security shows to rows with these labels';

-- The latest versions by id. Without labels an index gives the order. With them GIN finds the rows; OFFSET 0 keeps the other
-- conditions from other indexes, which would be read for a whole tenant to be combined with it.
CREATE OR REPLACE FUNCTION playbook_store.list(p_tenant text, p_labels jsonb, p_status text, p_after text, p_limit bigint)
RETURNS SETOF playbook_store.playbook_catalog
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexscan = on
SET plan_cache_mode = force_generic_plan AS $list$
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    IF p_labels = '{}' THEN
        RETURN QUERY SELECT c.* FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.playbook_id > p_after AND c.is_latest_version
           AND (p_status IS NULL OR c.status = p_status)
         ORDER BY c.playbook_id LIMIT p_limit;
    ELSE
        PERFORM playbook_store.ask_labels(p_labels);
        PERFORM set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', 'off', true);
        RETURN QUERY SELECT c.* FROM (
            SELECT * FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.is_latest_version OFFSET 0) AS c
         WHERE c.playbook_id > p_after AND (p_status IS NULL OR c.status = p_status)
         ORDER BY c.playbook_id LIMIT p_limit;
        PERFORM playbook_store.ask_labels('{}');
    END IF;
END
$list$;
COMMENT ON FUNCTION playbook_store.list(text, jsonb, text, text, bigint)
    IS 'A page of the latest versions by id, only those with the labels; p_after is exclusive';

-- What a search may find, by id: the vector, or where there is none what one is made of. The mark of the latest is held
-- by one version of a playbook, so the id alone is where a page goes on. A description is given as far as it is embedded.
CREATE OR REPLACE FUNCTION playbook_store.scan(
    p_tenant text, p_labels jsonb, p_after text, p_limit bigint, p_without_vector boolean
) RETURNS TABLE (playbook_id text, version text, embedding vector, name text, description text, labels jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexscan = on
SET plan_cache_mode = force_generic_plan AS $scan$
#variable_conflict use_column
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    PERFORM playbook_store.ask_labels(p_labels);
    IF p_without_vector THEN
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, c.name, left(c.description, 10240),
               CASE c.content WHEN '' THEN c.labels END
          FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.playbook_id > p_after AND c.is_latest_version AND c.status = 'active'
           AND c.embedding IS NULL
         ORDER BY c.playbook_id LIMIT p_limit;
    ELSIF p_labels = '{}' THEN
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, CASE WHEN c.embedding IS NULL THEN c.name END,
               CASE WHEN c.embedding IS NULL THEN left(c.description, 10240) END,
               CASE WHEN c.embedding IS NULL AND c.content = '' THEN c.labels END
          FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.playbook_id > p_after AND c.is_latest_version AND c.status = 'active'
         ORDER BY c.playbook_id LIMIT p_limit;
    ELSE
        PERFORM set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', 'off', true);
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, CASE WHEN c.embedding IS NULL THEN c.name END,
               CASE WHEN c.embedding IS NULL THEN left(c.description, 10240) END,
               CASE WHEN c.embedding IS NULL AND c.content = '' THEN c.labels END
          FROM (SELECT * FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.is_latest_version OFFSET 0) AS c
         WHERE c.playbook_id > p_after AND c.status = 'active'
         ORDER BY c.playbook_id LIMIT p_limit;
    END IF;
    PERFORM playbook_store.ask_labels('{}');
END
$scan$;
COMMENT ON FUNCTION playbook_store.scan(text, jsonb, text, bigint, boolean)
    IS 'A page of what a search may find, by id, only those with the labels; p_after is exclusive';

-- The p_limit rows with the nearest vectors, and the first p_page rows without one; none at all where fewer than
-- p_at_least rows match, which are better compared one by one. The index is approximate, and its walk goes on until
-- enough rows passed the filters or hnsw.max_scan_tuples were looked at.
CREATE OR REPLACE FUNCTION playbook_store.nearest(
    p_tenant text, p_labels jsonb, p_query vector, p_limit integer, p_at_least bigint, p_page bigint
) RETURNS TABLE (playbook_id text, version text, embedding vector, name text, description text, labels jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexscan = on
SET enable_sort = on SET plan_cache_mode = force_generic_plan
SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = 100 AS $nearest$
#variable_conflict use_column
DECLARE
    v_found bigint;
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    PERFORM playbook_store.ask_labels(p_labels);
    IF p_labels = '{}' THEN
        v_found := (SELECT count(*) FROM (
            SELECT FROM playbook_store.playbook_catalog AS c
             WHERE c.tenant_id = p_tenant AND c.is_latest_version AND c.status = 'active' LIMIT p_at_least) AS c);
    ELSE
        PERFORM set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', 'off', true);
        v_found := (SELECT count(*) FROM (
            SELECT FROM (SELECT * FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.is_latest_version
                         OFFSET 0) AS c
             WHERE c.status = 'active' LIMIT p_at_least) AS c);
        PERFORM set_config('enable_bitmapscan', 'off', true), set_config('enable_indexscan', 'on', true);
    END IF;
    IF v_found >= p_at_least THEN
        PERFORM set_config('enable_sort', 'off', true),
                set_config('hnsw.ef_search', least(greatest(100, 2 * p_limit), 1000)::text, true);
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, NULL::text, NULL::text, NULL::jsonb
          FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.is_latest_version AND c.status = 'active'
         ORDER BY c.embedding <=> p_query LIMIT p_limit;
        RETURN QUERY SELECT * FROM playbook_store.scan(p_tenant, p_labels, '', p_page, true);
    END IF;
    PERFORM playbook_store.ask_labels('{}');
END
$nearest$;
COMMENT ON FUNCTION playbook_store.nearest IS 'The rows with the nearest vectors, by the index, and the first ones without a vector';

-- Of the versions named, those that a search may still show.
CREATE OR REPLACE FUNCTION playbook_store.found(p_tenant text, p_id text[], p_version text[])
RETURNS SETOF playbook_store.playbook_catalog
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $found$
BEGIN
    PERFORM playbook_store.set_tenant(p_tenant);
    RETURN QUERY
    SELECT x.* FROM unnest(p_id, p_version) AS n (id, version)
     CROSS JOIN LATERAL (SELECT c.* FROM playbook_store.playbook_catalog AS c
                          WHERE c.tenant_id = p_tenant AND c.playbook_id = n.id AND c.version = n.version
                            AND c.is_latest_version AND c.status = 'active' LIMIT 1) AS x;
END
$found$;
COMMENT ON FUNCTION playbook_store.found(text, text[], text[]) IS 'The rows of a search''s best versions that are still active and latest';

REVOKE ALL ON FUNCTION playbook_store.get, playbook_store.versions, playbook_store.is_known, playbook_store.ask_labels,
    playbook_store.list, playbook_store.scan, playbook_store.nearest, playbook_store.found FROM PUBLIC;
GRANT EXECUTE ON FUNCTION playbook_store.get, playbook_store.versions, playbook_store.is_known, playbook_store.list,
    playbook_store.scan, playbook_store.nearest, playbook_store.found TO changeover_app;

RESET ROLE;
RESET search_path;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0003_reads', 'the read functions of the catalogue', '54008d24d03568680633ebf82fcf1f1687ed78d0289d475e452831b35f1ea6b2') ON CONFLICT (module, id) DO NOTHING;
