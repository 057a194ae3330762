-- description: rates of more decimals are refused, and a search does without the vector index

-- The extension's type and operator are found wherever the extension lives.
SELECT pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', n.nspname), false) AS search_path
  FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
 WHERE e.extname = 'vector';

-- Loads the extension's library: only then may its settings be named below.
SELECT '[1]'::vector AS loaded;

SET ROLE changeover_owner;


-- numeric(4,3) rounds what has more decimals before any check sees it.
ALTER TABLE playbook_store.playbook_catalog
    ALTER COLUMN expected_success_rate TYPE numeric,
    ALTER COLUMN actual_success_rate TYPE numeric,
    DROP CONSTRAINT IF EXISTS playbook_catalog_expected_success_rate_check,
    DROP CONSTRAINT IF EXISTS playbook_catalog_actual_success_rate_check,
    ADD CONSTRAINT playbook_catalog_expected_success_rate_check
        CHECK (expected_success_rate BETWEEN 0 AND 1 AND scale(trim_scale(expected_success_rate)) <= 3),
    ADD CONSTRAINT playbook_catalog_actual_success_rate_check
        CHECK (actual_success_rate BETWEEN 0 AND 1 AND scale(trim_scale(actual_success_rate)) <= 3);

-- Without its index (dropped, or made anew with its column) rows without a vector would come as well.
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
         WHERE c.tenant_id = p_tenant AND c.is_latest_version AND c.status = 'active' AND c.embedding IS NOT NULL
         ORDER BY c.embedding <=> p_query LIMIT p_limit;
        RETURN QUERY SELECT * FROM playbook_store.scan(p_tenant, p_labels, '', p_page, true);
    END IF;
    PERFORM playbook_store.ask_labels('{}');
END
$nearest$;
COMMENT ON FUNCTION playbook_store.nearest IS 'The rows with the nearest vectors, by the index, and the first ones without a vector';

RESET ROLE;
RESET search_path;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('playbooks', 'playbooks/0004_nothing_rounded', 'rates of more decimals are refused, and a search does without the vector index', 'b267fadff0ad7bf9ff706c60e39c54e0a029c4cd94d8cf9f8b59f883808995e7') ON CONFLICT (module, id) DO NOTHING;
