-- description: the read functions

SET ROLE changeover_owner;

-- Reads take the tenant as an argument, so that a page costs one round trip and leaves nothing on the connection. Each
-- page is one statement, and so one snapshot. As in the write functions no plan depends on statistics.

-- One row an event; a stream without a matching event gives one row with its head alone, a missing stream none.
CREATE OR REPLACE FUNCTION event_store.read_stream(
    p_tenant text, p_type text, p_id uuid, p_first bigint DEFAULT 1, p_last bigint DEFAULT 9223372036854775807,
    p_backward boolean DEFAULT false, p_limit bigint DEFAULT 500, p_event_types text[] DEFAULT NULL
) RETURNS TABLE (
    head bigint, aggregate_version bigint, "position" bigint, event_id uuid, event_type text, event_version integer,
    event_data jsonb, metadata jsonb, occurred_at timestamptz, recorded_at timestamptz, causation_id uuid,
    correlation_id uuid
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $read_stream$
#variable_conflict use_column
BEGIN
    PERFORM event_store.set_tenant(p_tenant);
    IF p_backward THEN
        RETURN QUERY
        SELECT s.version, e.* FROM event_store.event_stream AS s
          LEFT JOIN LATERAL (
              SELECT d.aggregate_version, d.position, d.event_id, d.event_type, d.event_version, d.event_data, d.metadata,
                     d.occurred_at, d.recorded_at, d.causation_id, d.correlation_id
                FROM event_store.domain_event AS d
               WHERE d.tenant_id = p_tenant AND d.stream_id = s.stream_id
                 AND d.aggregate_version >= p_first AND d.aggregate_version <= p_last
                 AND (p_event_types IS NULL OR d.event_type = ANY (p_event_types))
               ORDER BY d.aggregate_version DESC LIMIT p_limit) AS e ON true
         WHERE s.tenant_id = p_tenant AND s.aggregate_type = p_type AND s.aggregate_id = p_id;
    ELSE
        RETURN QUERY
        SELECT s.version, e.* FROM event_store.event_stream AS s
          LEFT JOIN LATERAL (
              SELECT d.aggregate_version, d.position, d.event_id, d.event_type, d.event_version, d.event_data, d.metadata,
                     d.occurred_at, d.recorded_at, d.causation_id, d.correlation_id
                FROM event_store.domain_event AS d
               WHERE d.tenant_id = p_tenant AND d.stream_id = s.stream_id
                 AND d.aggregate_version >= p_first AND d.aggregate_version <= p_last
                 AND (p_event_types IS NULL OR d.event_type = ANY (p_event_types))
               ORDER BY d.aggregate_version LIMIT p_limit) AS e ON true
         WHERE s.tenant_id = p_tenant AND s.aggregate_type = p_type AND s.aggregate_id = p_id;
    END IF;
END
$read_stream$;
COMMENT ON FUNCTION event_store.read_stream(text, text, uuid, bigint, bigint, boolean, bigint, text[])
    IS 'A page of a stream by version, bounds inclusive; every row also carries the stream''s latest version';

-- Every row carries the end of the log (head) and the last position that was looked at (scanned_to); a page without a
-- matching event is one row with these alone. A filtered page looks at no more than p_scan events, so that a rare match
-- does not make it long; the reader goes on after scanned_to.
CREATE OR REPLACE FUNCTION event_store.read_all(
    p_tenant text, p_after bigint DEFAULT 0, p_limit bigint DEFAULT 500,
    p_stream_types text[] DEFAULT NULL, p_stream_ids uuid[] DEFAULT NULL, p_aggregate_types text[] DEFAULT NULL,
    p_event_types text[] DEFAULT NULL, p_scan bigint DEFAULT 10000
) RETURNS TABLE (
    head bigint, scanned_to bigint, "position" bigint, event_id uuid, aggregate_type text, aggregate_id uuid,
    aggregate_version bigint, event_type text, event_version integer, event_data jsonb, metadata jsonb,
    occurred_at timestamptz, recorded_at timestamptz, causation_id uuid, correlation_id uuid
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $read_all$
#variable_conflict use_column
DECLARE
    v_filtered constant boolean := num_nonnulls(p_stream_ids, p_aggregate_types, p_event_types) > 0;
BEGIN
    PERFORM event_store.set_tenant(p_tenant);
    RETURN QUERY
    WITH bound AS MATERIALIZED (
        SELECT h.head, coalesce(CASE WHEN v_filtered THEN (
                   SELECT d.position FROM event_store.domain_event AS d
                    WHERE d.tenant_id = p_tenant AND d.position > p_after
                    ORDER BY d.position OFFSET p_scan - 1 LIMIT 1) END, h.head) AS scanned_to
          FROM (SELECT coalesce((SELECT d.position FROM event_store.domain_event AS d WHERE d.tenant_id = p_tenant
                                  ORDER BY d.position DESC LIMIT 1), 0) AS head) AS h
    ), wanted AS MATERIALIZED (
        SELECT array_agg(t.stream_id) AS streams
          FROM unnest(p_stream_types, p_stream_ids) AS w (type, id)
         CROSS JOIN LATERAL (SELECT t.stream_id FROM event_store.event_stream AS t
                              WHERE t.tenant_id = p_tenant AND t.aggregate_type = w.type AND t.aggregate_id = w.id
                              LIMIT 1) AS t
    )
    SELECT b.head, b.scanned_to, e.position, e.event_id, t.aggregate_type, t.aggregate_id, e.aggregate_version,
           e.event_type, e.event_version, e.event_data, e.metadata, e.occurred_at, e.recorded_at, e.causation_id,
           e.correlation_id
      FROM bound AS b CROSS JOIN wanted AS w
      LEFT JOIN LATERAL (
          SELECT d.* FROM event_store.domain_event AS d
           WHERE d.tenant_id = p_tenant AND d.position > p_after AND d.position <= b.scanned_to
             AND (p_event_types IS NULL OR d.event_type = ANY (p_event_types))
             AND (p_stream_ids IS NULL OR d.stream_id = ANY (w.streams))
             AND (p_aggregate_types IS NULL OR (
                 SELECT t.aggregate_type FROM event_store.event_stream AS t
                  WHERE t.tenant_id = p_tenant AND t.stream_id = d.stream_id) = ANY (p_aggregate_types))
           ORDER BY d.position LIMIT p_limit) AS e ON true
      LEFT JOIN LATERAL (
          SELECT t.aggregate_type, t.aggregate_id FROM event_store.event_stream AS t
           WHERE t.tenant_id = p_tenant AND t.stream_id = e.stream_id LIMIT 1) AS t ON true;
END
$read_all$;
COMMENT ON FUNCTION event_store.read_all(text, bigint, bigint, text[], uuid[], text[], text[], bigint)
    IS 'A page of the log by position; nothing will ever appear at or before the positions it returns';

CREATE OR REPLACE FUNCTION event_store.stream_head(p_tenant text, p_type text, p_id uuid)
RETURNS TABLE (version bigint, "position" bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $stream_head$
#variable_conflict use_column
BEGIN
    PERFORM event_store.set_tenant(p_tenant);
    RETURN QUERY
    SELECT s.version, (SELECT d.position FROM event_store.domain_event AS d
                        WHERE d.tenant_id = p_tenant AND d.stream_id = s.stream_id
                        ORDER BY d.aggregate_version DESC LIMIT 1)
      FROM event_store.event_stream AS s
     WHERE s.tenant_id = p_tenant AND s.aggregate_type = p_type AND s.aggregate_id = p_id;
END
$stream_head$;
COMMENT ON FUNCTION event_store.stream_head(text, text, uuid) IS 'Latest version of a stream and the position of that event; no row if there is no such stream';

CREATE OR REPLACE FUNCTION event_store.log_head(p_tenant text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $log_head$
BEGIN
    PERFORM event_store.set_tenant(p_tenant);
    RETURN coalesce((SELECT d.position FROM event_store.domain_event AS d WHERE d.tenant_id = p_tenant
                      ORDER BY d.position DESC LIMIT 1), 0);
END
$log_head$;
COMMENT ON FUNCTION event_store.log_head(text) IS 'Position of the tenant''s last event, 0 if there is none';

CREATE OR REPLACE FUNCTION event_store.tracked(p_tenant text, p_consumer text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $tracked$
BEGIN
    PERFORM event_store.set_tenant(p_tenant);
    RETURN (SELECT c.position FROM event_store.consumer_position AS c
             WHERE c.tenant_id = p_tenant AND c.consumer = p_consumer);
END
$tracked$;
COMMENT ON FUNCTION event_store.tracked(text, text) IS 'How far a consumer has come, null if it never said';

REVOKE ALL ON FUNCTION event_store.read_stream, event_store.read_all, event_store.stream_head, event_store.log_head,
    event_store.tracked FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_store.read_stream, event_store.read_all, event_store.stream_head, event_store.log_head,
    event_store.tracked TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0003_reads', 'the read functions', '937adefa4b5a92a46c0fa257008238556e76bd8158dda6e719c179f9e69bf3ab') ON CONFLICT (module, id) DO NOTHING;
