-- description: a stream without events is begun like a new one, and a write without a tenant is refused on any session

SET ROLE changeover_owner;

-- As in 0004, but a tenant of NULL is refused as an empty one is.
CREATE OR REPLACE FUNCTION event_store.begin_write(p_tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $begin_write$
DECLARE
    v_owner text;
    v_had   boolean;
BEGIN
    -- Snapshots older than the locks would let a writer miss a switch.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends run in READ COMMITTED transactions, not in %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;

    v_had := pg_advisory_xact_lock_shared(changeover.lock_key(event_store.module_name(), 'module')) IS NULL;
    SELECT m.owner INTO v_owner FROM changeover.module AS m WHERE m.module = event_store.module_name();
    IF v_owner IS DISTINCT FROM 'postgres' THEN
        RAISE EXCEPTION 'module "%" is not owned by this database but by: %', event_store.module_name(),
            coalesce(v_owner, 'nobody known')
            USING ERRCODE = 'COMVD', HINT = 'Ask changeover.module for the owner; a module nobody owns is had by changeover.claim.';
    END IF;

    -- NULL is as the unset setting of a fresh session.
    IF coalesce(p_tenant, '') = '' OR current_setting('changeover.tenant_id', true) IS DISTINCT FROM p_tenant THEN
        PERFORM event_store.set_tenant(p_tenant);
    END IF;
    v_had := pg_advisory_xact_lock(changeover.lock_key(event_store.module_name(), 'position')) IS NULL;
END
$begin_write$;

-- As in 0004, but a stream that is there without an event is left to append_judged.
CREATE OR REPLACE FUNCTION event_store.append(
    p_tenant text,
    s_request integer[], s_id uuid[], s_type text[], s_aggregate uuid[], s_expected bigint[],
    e_stream integer[], e_id uuid[], e_type text[], e_version integer[], e_data jsonb[], e_metadata jsonb[],
    e_occurred timestamptz[], e_causation uuid[], e_correlation uuid[],
    t_request integer[] DEFAULT '{}', t_consumer text[] DEFAULT '{}', t_position bigint[] DEFAULT '{}'
) RETURNS TABLE (
    request integer, stream integer, outcome text, first_version bigint, last_version bigint, last_position bigint,
    actual_version bigint, event_id uuid
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $append$
#variable_conflict use_column
DECLARE
    -- One entry a stream.
    v_actual bigint[];    -- its version before this call
    v_sid    uuid[];      -- its id
    v_begin  bigint[];    -- the place of its first event
    v_count  bigint[];    -- how many events it is given
    -- Of the call.
    v_plain  boolean := cardinality(t_request) = 0;   -- nothing speaks against any of it, as far as is known
    v_new    boolean;
    v_old    boolean;
    v_before bigint;      -- the position before the first event's
    v_now    timestamptz;
    v_had    boolean;
BEGIN
    v_had := event_store.begin_write(p_tenant) IS NULL;

    IF v_plain THEN
        SELECT array_agg(coalesce(x.version, 0) ORDER BY s.i), array_agg(coalesce(x.stream_id, s.id) ORDER BY s.i),
               array_agg(e.first ORDER BY s.i), array_agg(e.n ORDER BY s.i),
               -- A stream without events was made by somebody else: neither written as new nor found as old below.
               bool_and(event_store.is_expected(s.expected, coalesce(x.version, 0)) AND x.version IS DISTINCT FROM 0
                        AND e.last - e.first + 1 IS NOT DISTINCT FROM e.n),
               bool_or(x.version IS NULL), bool_or(x.version IS NOT NULL)
          INTO v_actual, v_sid, v_begin, v_count, v_plain, v_new, v_old
          FROM unnest(s_id, s_type, s_aggregate, s_expected) WITH ORDINALITY AS s (id, type, aggregate, expected, i)
          LEFT JOIN (SELECT e.stream, min(e.i) AS first, max(e.i) AS last, count(*) AS n
                       FROM unnest(e_stream) WITH ORDINALITY AS e (stream, i) GROUP BY e.stream) AS e ON e.stream = s.i
          LEFT JOIN LATERAL (
              SELECT t.stream_id, t.version FROM event_store.event_stream AS t
               WHERE s.expected <> 0
                 AND t.tenant_id = p_tenant AND t.aggregate_type = s.type AND t.aggregate_id = s.aggregate LIMIT 1
          ) AS x ON true;
    END IF;

    IF v_plain THEN
        BEGIN
            SELECT greatest(clock_timestamp(), d.recorded_at) INTO v_now FROM event_store.domain_event AS d
             WHERE d.tenant_id = p_tenant ORDER BY d.position DESC LIMIT 1;
            v_now := coalesce(v_now, clock_timestamp());
            v_before := nextval('event_store.event_position') - 1;
            v_had := setval('event_store.event_position', v_before + cardinality(e_id)) IS NULL;

            IF v_new THEN
                INSERT INTO event_store.event_stream (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version)
                SELECT p_tenant, s.id, s.type, s.aggregate, v_now, s.n
                  FROM unnest(v_sid, s_type, s_aggregate, v_actual, v_count) AS s (id, type, aggregate, actual, n)
                 WHERE s.actual = 0;
            END IF;
            IF v_old THEN
                UPDATE event_store.event_stream AS t SET version = t.version + s.n
                  FROM unnest(v_sid, v_actual, v_count) AS s (id, actual, n)
                 WHERE s.actual > 0 AND t.tenant_id = p_tenant AND t.stream_id = s.id;
            END IF;

            INSERT INTO event_store.domain_event (
                tenant_id, position, event_id, stream_id, event_type, event_version, aggregate_version, event_data, metadata,
                occurred_at, recorded_at, causation_id, correlation_id)
            SELECT p_tenant, v_before + e.i, e.id, v_sid[e.stream], e.type, e.version,
                   v_actual[e.stream] + e.i - v_begin[e.stream] + 1,
                   e.data, e.metadata, coalesce(e.occurred, v_now), v_now, e.causation, e.correlation
              FROM unnest(e_stream, e_id, e_type, e_version, e_data, e_metadata, e_occurred, e_causation, e_correlation)
                   WITH ORDINALITY AS e (stream, id, type, version, data, metadata, occurred, causation, correlation, i);
        EXCEPTION WHEN unique_violation THEN
            v_plain := false;
        END;
    END IF;

    IF v_plain THEN
        RETURN QUERY
        SELECT s.request, s.i::integer, 'stored', s.actual + 1, s.actual + s.n, v_before + s.first + s.n - 1, s.actual, NULL::uuid
          FROM unnest(s_request, v_actual, v_begin, v_count) WITH ORDINALITY AS s (request, actual, first, n, i);
    ELSE
        RETURN QUERY
        SELECT * FROM event_store.append_judged(
            p_tenant, s_request, s_id, s_type, s_aggregate, s_expected, e_stream, e_id, e_type, e_version, e_data, e_metadata,
            e_occurred, e_causation, e_correlation, t_request, t_consumer, t_position);
    END IF;
END
$append$;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0005_streams_without_events', 'a stream without events is begun like a new one, and a write without a tenant is refused on any session', '0f36eacf4fccbb1a916ab2365b03e0294be58f6bcbc9f924afcedb2b26bc5243') ON CONFLICT (module, id) DO NOTHING;
