-- description: a search compares few rows and asks the vector index for many

-- The extension's type and operator are found wherever the extension lives.
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector';

-- Loads the extension's library: only then may its settings be named below.
SELECT '[1]'::vector AS loaded;

SET ROLE changeover_owner;

-- The p_limit rows with the nearest vectors, and the first p_page rows without one. Where fewer than p_at_least rows match,
-- all of them are compared, by normalised vectors, so that no length overflows single precision; above that the index is
-- asked, which is approximate: its walk goes on until enough rows passed the filters or hnsw.max_scan_tuples were looked at.
-- by_index says which of both it was. Rows without a vector would come too where the index is gone.
DROP FUNCTION playbook_store.nearest;
CREATE OR REPLACE FUNCTION playbook_store.candidates(
    p_tenant text, p_labels jsonb, p_query vector, p_limit integer, p_at_least bigint, p_page bigint
) RETURNS TABLE (playbook_id text, version text, embedding vector, name text, description text, labels jsonb, by_index boolean)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off SET enable_indexscan = on
SET enable_sort = on SET plan_cache_mode = force_generic_plan
SET hnsw.iterative_scan = 'relaxed_order' SET hnsw.ef_search = 100 AS $candidates$
#variable_conflict use_column
DECLARE
    v_unit     constant vector := l2_normalize(p_query);
    v_found    bigint;
    v_by_index boolean;
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
    END IF;
    v_by_index := v_found >= p_at_least;
    IF v_by_index THEN
        PERFORM set_config('enable_bitmapscan', 'off', true), set_config('enable_indexscan', 'on', true),
                set_config('enable_sort', 'off', true),
                set_config('hnsw.ef_search', least(greatest(100, 2 * p_limit), 1000)::text, true);
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, NULL::text, NULL::text, NULL::jsonb, v_by_index
          FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.is_latest_version AND c.status = 'active' AND c.embedding IS NOT NULL
         ORDER BY c.embedding <=> p_query LIMIT p_limit;
    ELSIF p_labels = '{}' THEN
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, NULL::text, NULL::text, NULL::jsonb, v_by_index
          FROM playbook_store.playbook_catalog AS c
         WHERE c.tenant_id = p_tenant AND c.is_latest_version AND c.status = 'active' AND c.embedding IS NOT NULL
         ORDER BY l2_normalize(c.embedding) <#> v_unit LIMIT p_limit;
    ELSE
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, NULL::text, NULL::text, NULL::jsonb, v_by_index
          FROM (SELECT * FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.is_latest_version OFFSET 0) AS c
         WHERE c.status = 'active' AND c.embedding IS NOT NULL
         ORDER BY l2_normalize(c.embedding) <#> v_unit LIMIT p_limit;
    END IF;
    IF p_labels = '{}' THEN
        RETURN QUERY SELECT s.*, v_by_index FROM playbook_store.scan(p_tenant, p_labels, '', p_page, true) AS s;
    ELSE
        PERFORM set_config('enable_bitmapscan', 'on', true), set_config('enable_indexscan', 'off', true),
                set_config('enable_sort', 'on', true);
        RETURN QUERY
        SELECT c.playbook_id, c.version, c.embedding, c.name, left(c.description, 10240),
               CASE c.content WHEN '' THEN c.labels END, v_by_index
          FROM (SELECT * FROM playbook_store.playbook_catalog AS c WHERE c.tenant_id = p_tenant AND c.is_latest_version OFFSET 0) AS c
         WHERE c.status = 'active' AND c.embedding IS NULL
         ORDER BY c.playbook_id LIMIT p_page;
    END IF;
    PERFORM playbook_store.ask_labels('{}');
END
$candidates$;
COMMENT ON FUNCTION playbook_store.candidates IS 'The rows with the nearest vectors, by comparing few or by the index, and the first ones without a vector';
REVOKE ALL ON FUNCTION playbook_store.candidates FROM PUBLIC;
GRANT EXECUTE ON FUNCTION playbook_store.candidates TO changeover_app;

RESET ROLE;
RESET search_path;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0005_candidates', 'a search compares few rows and asks the vector index for many', 'c7dac0906c2d0b373c0140608cdcb3dd862a730cd454df2ad91def143157b5f0') ON CONFLICT (module, id) DO NOTHING;
