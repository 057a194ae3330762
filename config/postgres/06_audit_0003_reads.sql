-- description: the read functions

SET ROLE changeover_owner;

-- Reads take the tenant as an argument, so that a page costs one round trip and leaves nothing on the connection. Each
-- page is one statement, and so one snapshot.

-- The conditions of a filter as SQL, with the values left as parameters of query and count: no text of a caller becomes
-- SQL. Only what is asked for is there, so that the plan is made for it; a time range is given as dates as well, since
-- these are what partitions are left out by. It is built anew each time and planned for its values.
--   $1 tenant  $2 filter values in the order of p_given  $3 start  $4 end
CREATE OR REPLACE FUNCTION audit_store.conditions(p_values text[], p_start timestamptz, p_end timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN concat_ws(' AND ', 'e.tenant_id = $1',
    CASE WHEN p_values[1] IS NOT NULL THEN 'e.event_type = $2[1]' END,
    CASE WHEN p_values[2] IS NOT NULL THEN 'e.event_category = $2[2]' END,
    CASE WHEN p_values[3] IS NOT NULL THEN 'e.event_outcome = $2[3]' END,
    CASE WHEN p_values[4] IS NOT NULL THEN 'e.service_name = $2[4]' END,
    CASE WHEN p_values[5] IS NOT NULL THEN 'e.actor_type = $2[5]' END,
    CASE WHEN p_values[6] IS NOT NULL THEN 'e.actor_id = $2[6]' END,
    CASE WHEN p_values[7] IS NOT NULL THEN 'e.resource_type = $2[7]' END,
    CASE WHEN p_values[8] IS NOT NULL THEN 'e.resource_id = $2[8]' END,
    CASE WHEN p_values[9] IS NOT NULL THEN 'e.correlation_id = $2[9]' END,
    CASE WHEN p_start IS NOT NULL THEN 'e.event_timestamp >= $3 AND e.event_date >= ($3 AT TIME ZONE ''UTC'')::date' END,
    CASE WHEN p_end IS NOT NULL THEN 'e.event_timestamp < $4'
        ' AND e.event_date <= (($4 - interval ''1 microsecond'') AT TIME ZONE ''UTC'')::date' END);
COMMENT ON FUNCTION audit_store.conditions(text[], timestamptz, timestamptz) IS 'The conditions of a filter as SQL over parameters';

-- A page. p_values: type, category, outcome, service, actor type, actor id, resource type, resource id, correlation id;
-- null where any will do. p_order: newest, oldest or recorded. p_at and p_id: the last event of the page before, by its
-- time in microseconds since 1970 and its id, or by its place alone in the order of recording.
CREATE OR REPLACE FUNCTION audit_store.query(
    p_tenant text, p_values text[], p_start timestamptz, p_end timestamptz, p_order text, p_limit bigint,
    p_offset bigint DEFAULT 0, p_at timestamptz DEFAULT NULL, p_id uuid DEFAULT NULL, p_after bigint DEFAULT NULL
) RETURNS SETOF audit_store.audit_events
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $query$
DECLARE
    v_where text := audit_store.conditions(p_values, p_start, p_end);
    v_order text;
BEGIN
    PERFORM audit_store.set_tenant(p_tenant);
    CASE p_order
        WHEN 'newest' THEN
            v_order := 'e.event_timestamp DESC, e.event_id';
            IF p_at IS NOT NULL THEN
                v_where := v_where || ' AND e.event_timestamp <= $5 AND (e.event_timestamp < $5 OR e.event_id > $6)'
                                      ' AND e.event_date <= ($5 AT TIME ZONE ''UTC'')::date';
            END IF;
        WHEN 'oldest' THEN
            v_order := 'e.event_timestamp, e.event_id DESC';
            IF p_at IS NOT NULL THEN
                v_where := v_where || ' AND e.event_timestamp >= $5 AND (e.event_timestamp > $5 OR e.event_id < $6)'
                                      ' AND e.event_date >= ($5 AT TIME ZONE ''UTC'')::date';
            END IF;
        WHEN 'recorded' THEN
            v_order := 'e.sequence';
            IF p_after IS NOT NULL THEN
                v_where := v_where || ' AND e.sequence > $7';
            END IF;
    END CASE;
    RETURN QUERY EXECUTE 'SELECT e.* FROM audit_store.audit_events AS e WHERE ' || v_where || ' ORDER BY ' || v_order
                         || ' LIMIT $8 OFFSET $9'
        USING p_tenant, p_values, p_start, p_end, p_at, p_id, p_after, p_limit, p_offset;
END
$query$;
COMMENT ON FUNCTION audit_store.query IS 'A page of audit events that pass a filter; see the migration for the arguments';

CREATE OR REPLACE FUNCTION audit_store.count(p_tenant text, p_values text[], p_start timestamptz, p_end timestamptz)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $count$
DECLARE
    v_count bigint;
BEGIN
    PERFORM audit_store.set_tenant(p_tenant);
    EXECUTE 'SELECT count(*) FROM audit_store.audit_events AS e WHERE ' || audit_store.conditions(p_values, p_start, p_end)
       INTO v_count USING p_tenant, p_values, p_start, p_end;
    RETURN v_count;
END
$count$;
COMMENT ON FUNCTION audit_store.count(text, text[], timestamptz, timestamptz) IS 'How many audit events pass a filter; the values as for query';

CREATE OR REPLACE FUNCTION audit_store.get(p_tenant text, p_id uuid) RETURNS SETOF audit_store.audit_events
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $get$
DECLARE
    v_date date;
BEGIN
    PERFORM audit_store.set_tenant(p_tenant);
    SELECT k.event_date INTO v_date FROM audit_store.audit_event_id AS k
     WHERE k.tenant_id = p_tenant AND k.event_id = p_id;
    RETURN QUERY SELECT e.* FROM audit_store.audit_events AS e
     WHERE e.tenant_id = p_tenant AND e.event_id = p_id AND e.event_date = v_date;
END
$get$;
COMMENT ON FUNCTION audit_store.get(text, uuid) IS 'One audit event; no row if it is not stored';

-- The records of a chain and the anchors that retention left between them, in the order of recording. The head of the
-- chain stands on every row; where there is nothing else one row has it alone.
CREATE OR REPLACE FUNCTION audit_store.read_chain(p_tenant text, p_correlation text, p_after bigint, p_limit bigint)
RETURNS TABLE (head bytea, head_event uuid, place bigint, anchor bytea, event audit_store.audit_events)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $read_chain$
#variable_conflict use_column
BEGIN
    PERFORM audit_store.set_tenant(p_tenant);
    RETURN QUERY
    SELECT c.link, c.event_id, i.sequence, i.link, i.event
      FROM (VALUES (true)) AS one
      LEFT JOIN audit_store.audit_chain AS c ON c.tenant_id = p_tenant AND c.correlation_id = p_correlation
      LEFT JOIN LATERAL (
          (SELECT e.sequence, NULL::bytea AS link, e AS event FROM audit_store.audit_events AS e
            WHERE e.tenant_id = p_tenant AND e.correlation_id = p_correlation AND e.sequence > p_after
            ORDER BY e.sequence LIMIT p_limit)
          UNION ALL
          (SELECT a.sequence, a.link, NULL FROM audit_store.audit_anchor AS a
            WHERE a.tenant_id = p_tenant AND a.correlation_id = p_correlation AND a.sequence > p_after
            ORDER BY a.sequence LIMIT p_limit)
          ORDER BY sequence LIMIT p_limit) AS i ON true
     ORDER BY i.sequence;
END
$read_chain$;
COMMENT ON FUNCTION audit_store.read_chain(text, text, bigint, bigint) IS 'A page of the hash chain of a correlation id in the order of recording: records, anchors of what retention removed, and the head';

REVOKE ALL ON FUNCTION audit_store.conditions, audit_store.query, audit_store.count(text, text[], timestamptz, timestamptz),
    audit_store.get, audit_store.read_chain FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_store.query, audit_store.count(text, text[], timestamptz, timestamptz), audit_store.get,
    audit_store.read_chain TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('audit', 'audit/0003_reads', 'the read functions', '4e487afde9a6b87d119e21fec4fb38abb911e9f30a088835942959c69c84b681') ON CONFLICT (module, id) DO NOTHING;
