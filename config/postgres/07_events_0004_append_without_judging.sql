-- description: appends that nothing speaks against are stored without look-ups; the end of the log over all tenants

SET ROLE changeover_owner;

-- The append of 0002 looks up every event id and every stream before it writes. Nearly always it finds that nothing
-- speaks against the call, and the unique keys would have found out anyway while writing. From now on it has a name of
-- its own and is asked only when that was not so; 0002 explains its arguments and outcomes.
CREATE OR REPLACE FUNCTION event_store.append_judged(
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
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $append_judged$
#variable_conflict use_column
DECLARE
    -- One entry a stream.
    v_actual   bigint[];    -- its version before this call
    v_sid      uuid[];      -- its id
    v_begin    bigint[];    -- the place of its first event
    v_count    bigint[];    -- how many events it is given
    v_outcome  text[];      -- null where the request is stored
    v_first    bigint[];    -- of a replay: the first answer
    v_last     bigint[];
    v_position bigint[];
    v_offender uuid[];
    -- Of the call.
    v_faults   bigint;
    v_split    boolean;
    v_refused  integer[] := '{}';   -- requests that are not stored
    v_tracked  integer[] := '{}';   -- requests refused for their tracking
    v_before   bigint := 0;         -- the position before the first event's
    v_now      timestamptz;
BEGIN
    PERFORM event_store.begin_write(p_tenant);

    SELECT array_agg(coalesce(x.version, 0) ORDER BY s.i), array_agg(coalesce(x.stream_id, s.id) ORDER BY s.i),
           array_agg(e.first ORDER BY s.i), array_agg(e.n ORDER BY s.i),
           count(*) FILTER (WHERE NOT event_store.is_expected(s.expected, coalesce(x.version, 0))),
           bool_or(e.last - e.first + 1 IS DISTINCT FROM e.n)
      INTO v_actual, v_sid, v_begin, v_count, v_faults, v_split
      FROM unnest(s_id, s_type, s_aggregate, s_expected) WITH ORDINALITY AS s (id, type, aggregate, expected, i)
      LEFT JOIN (SELECT e.stream, min(e.i) AS first, max(e.i) AS last, count(*) AS n
                   FROM unnest(e_stream) WITH ORDINALITY AS e (stream, i) GROUP BY e.stream) AS e ON e.stream = s.i
      LEFT JOIN LATERAL (
          SELECT t.stream_id, t.version FROM event_store.event_stream AS t
           WHERE t.tenant_id = p_tenant AND t.aggregate_type = s.type AND t.aggregate_id = s.aggregate LIMIT 1
      ) AS x ON true;
    IF v_split THEN
        RAISE EXCEPTION 'every stream needs events, and they have to stand together' USING ERRCODE = 'CO400';
    END IF;

    IF cardinality(t_request) > 0 THEN
        v_tracked := ARRAY(
            SELECT t.request FROM unnest(t_request, t_consumer, t_position) AS t (request, consumer, position)
             CROSS JOIN LATERAL (SELECT FROM event_store.consumer_position AS c
                                  WHERE c.tenant_id = p_tenant AND c.consumer = t.consumer AND c.position >= t.position
                                  LIMIT 1) AS c);
    END IF;

    IF v_faults > 0 OR cardinality(v_tracked) > 0 OR EXISTS (
        SELECT FROM unnest(e_id) AS e (id)
         CROSS JOIN LATERAL (SELECT FROM event_store.domain_event AS d
                              WHERE d.tenant_id = p_tenant AND d.event_id = e.id LIMIT 1) AS d)
    THEN
        WITH event AS (
            SELECT e.stream, e.i, e.id, d.event_id IS NOT NULL AS is_stored, d.position, d.aggregate_version,
                   coalesce(d.stream_id = v_sid[e.stream] AND d.event_type = e.type AND d.event_version = e.version
                            AND d.event_data = e.data AND d.metadata = e.metadata
                            AND (e.occurred IS NULL OR d.occurred_at = e.occurred), false)
                   AND d.causation_id IS NOT DISTINCT FROM e.causation
                   AND d.correlation_id IS NOT DISTINCT FROM e.correlation AS is_same
              FROM unnest(e_stream, e_id, e_type, e_version, e_data, e_metadata, e_occurred, e_causation, e_correlation)
                   WITH ORDINALITY AS e (stream, id, type, version, data, metadata, occurred, causation, correlation, i)
              LEFT JOIN LATERAL (SELECT * FROM event_store.domain_event AS d
                                  WHERE d.tenant_id = p_tenant AND d.event_id = e.id LIMIT 1) AS d ON true
        ), stream AS (
            SELECT s.i, s.request, e.first_version, e.last_version, e.last_position, e.taken,
                   NOT event_store.is_expected(s.expected, v_actual[s.i]) AS is_fault,
                   bool_and(e.is_replay) OVER request AS is_replay,
                   bool_or(NOT event_store.is_expected(s.expected, v_actual[s.i])) OVER request AS has_fault,
                   min(e.taken) OVER request AS first_taken
              FROM unnest(s_request, s_expected) WITH ORDINALITY AS s (request, expected, i)
              JOIN (SELECT e.stream, bool_and(e.is_same) AND min(e.aggregate_version - e.i) = max(e.aggregate_version - e.i)
                           AS is_replay,
                           min(e.aggregate_version) AS first_version, max(e.aggregate_version) AS last_version,
                           max(e.position) AS last_position, min(e.i) FILTER (WHERE e.is_stored) AS taken
                      FROM event AS e GROUP BY e.stream) AS e ON e.stream = s.i
            WINDOW request AS (PARTITION BY s.request)
        ), verdict AS (
            SELECT s.*, CASE WHEN s.is_replay THEN 'replayed'
                             WHEN s.has_fault THEN CASE WHEN s.is_fault THEN 'conflict' ELSE 'refused' END
                             WHEN s.first_taken IS NOT NULL THEN CASE WHEN s.taken = s.first_taken THEN 'exists' ELSE 'refused' END
                        END AS outcome
              FROM stream AS s
        )
        SELECT array_agg(v.outcome ORDER BY v.i), array_agg(v.first_version ORDER BY v.i),
               array_agg(v.last_version ORDER BY v.i), array_agg(v.last_position ORDER BY v.i),
               array_agg(e_id[v.taken] ORDER BY v.i),
               coalesce(array_agg(DISTINCT v.request) FILTER (WHERE v.outcome IS NOT NULL), '{}')
          INTO v_outcome, v_first, v_last, v_position, v_offender, v_refused
          FROM verdict AS v;

        v_tracked := ARRAY(SELECT t FROM unnest(v_tracked) AS t WHERE t <> ALL (v_refused));
        v_refused := v_refused || v_tracked;
    END IF;

    v_now := greatest(clock_timestamp(), (SELECT d.recorded_at FROM event_store.domain_event AS d
                                           WHERE d.tenant_id = p_tenant ORDER BY d.position DESC LIMIT 1));

    IF EXISTS (SELECT FROM unnest(s_request) AS s (request) WHERE s.request <> ALL (v_refused)) THEN
        v_before := nextval('event_store.event_position') - 1;
        PERFORM setval('event_store.event_position', v_before + cardinality(e_id));

        INSERT INTO event_store.event_stream AS t (tenant_id, stream_id, aggregate_type, aggregate_id, created_at, version)
        SELECT p_tenant, v_sid[s.i], s.type, s.aggregate, v_now, v_actual[s.i] + v_count[s.i]
          FROM unnest(s_request, s_type, s_aggregate) WITH ORDINALITY AS s (request, type, aggregate, i)
         WHERE s.request <> ALL (v_refused)
        ON CONFLICT (tenant_id, stream_id) DO UPDATE SET version = EXCLUDED.version;

        INSERT INTO event_store.domain_event (
            tenant_id, position, event_id, stream_id, event_type, event_version, aggregate_version, event_data, metadata,
            occurred_at, recorded_at, causation_id, correlation_id)
        SELECT p_tenant, v_before + e.i, e.id, v_sid[e.stream], e.type, e.version,
               v_actual[e.stream] + e.i - v_begin[e.stream] + 1,
               e.data, e.metadata, coalesce(e.occurred, v_now), v_now, e.causation, e.correlation
          FROM unnest(e_stream, e_id, e_type, e_version, e_data, e_metadata, e_occurred, e_causation, e_correlation)
               WITH ORDINALITY AS e (stream, id, type, version, data, metadata, occurred, causation, correlation, i)
         WHERE s_request[e.stream] <> ALL (v_refused);
    END IF;

    IF cardinality(t_request) > 0 THEN
        INSERT INTO event_store.consumer_position AS c (tenant_id, consumer, position, updated_at)
        SELECT p_tenant, t.consumer, t.position, v_now
          FROM unnest(t_request, t_consumer, t_position) AS t (request, consumer, position)
         WHERE t.request <> ALL (v_refused)
        ON CONFLICT (tenant_id, consumer) DO UPDATE SET position = EXCLUDED.position, updated_at = EXCLUDED.updated_at;
    END IF;

    RETURN QUERY
    SELECT s.request, s.i::integer,
           CASE WHEN s.request = ANY (v_tracked) THEN 'refused' ELSE coalesce(v_outcome[s.i], 'stored') END,
           CASE WHEN s.request = ANY (v_refused) THEN v_first[s.i] ELSE v_actual[s.i] + 1 END,
           CASE WHEN s.request = ANY (v_refused) THEN v_last[s.i] ELSE v_actual[s.i] + v_count[s.i] END,
           CASE WHEN s.request = ANY (v_refused) THEN v_position[s.i] ELSE v_before + v_begin[s.i] + v_count[s.i] - 1 END,
           v_actual[s.i], v_offender[s.i]
      FROM unnest(s_request) WITH ORDINALITY AS s (request, i);
    IF cardinality(v_tracked) > 0 THEN
        RETURN QUERY
        SELECT t.request, NULL::integer, 'tracked', NULL::bigint, NULL::bigint, c.position, NULL::bigint, NULL::uuid
          FROM unnest(t_request, t_consumer) AS t (request, consumer)
          JOIN event_store.consumer_position AS c ON c.tenant_id = p_tenant AND c.consumer = t.consumer
         WHERE t.request = ANY (v_tracked);
    END IF;
END
$append_judged$;
COMMENT ON FUNCTION event_store.append_judged(text, integer[], uuid[], text[], uuid[], bigint[], integer[], uuid[], text[], integer[], jsonb[], jsonb[], timestamptz[], uuid[], uuid[], integer[], text[], bigint[])
    IS 'Judges each request and stores those that nothing speaks against; see append';
REVOKE ALL ON FUNCTION event_store.append_judged FROM PUBLIC;

-- As begin_write of 0002, in expressions where that had statements: each statement inside of a function has a cost.
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

    IF current_setting('changeover.tenant_id', true) IS DISTINCT FROM p_tenant OR p_tenant = '' THEN
        PERFORM event_store.set_tenant(p_tenant);
    END IF;
    v_had := pg_advisory_xact_lock(changeover.lock_key(event_store.module_name(), 'position')) IS NULL;
END
$begin_write$;

-- Arguments and answer are those of append_judged.
--
-- A request for a new stream is written without a look; one for a stream that should exist is checked against its
-- version. If a version is not the expected one, or a unique key finds a stream or an event that is there already, all
-- that was written is taken back to the savepoint that the block is, and append_judged finds out which request is at
-- fault and what becomes of it. The locks stay held, so nothing changes in between.
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
               bool_and(event_store.is_expected(s.expected, coalesce(x.version, 0))
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
COMMENT ON FUNCTION event_store.append(text, integer[], uuid[], text[], uuid[], bigint[], integer[], uuid[], text[], integer[], jsonb[], jsonb[], timestamptz[], uuid[], uuid[], integer[], text[], bigint[])
    IS 'Stores events of several requests in one round trip; see the migrations for the arguments and outcomes';

-- No checkpoint beyond this one was ever returned. It says nothing of another tenant but how far its log may be.
CREATE OR REPLACE FUNCTION event_store.log_end() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM event_store.event_position AS s);
COMMENT ON FUNCTION event_store.log_end() IS 'The last position given to any tenant''s event, 0 if there was none';

REVOKE ALL ON FUNCTION event_store.append, event_store.log_end() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_store.append, event_store.log_end() TO changeover_app;

-- A module may keep audit events or playbooks beside its events, and those may have come first: claiming it looks at the
-- tables of all.
UPDATE changeover.module AS m SET tables = ARRAY(
    SELECT DISTINCT t FROM pg_catalog.unnest(m.tables || ARRAY['event_store.event_stream', 'event_store.domain_event']) AS t ORDER BY t)
 WHERE m.module = event_store.module_name();

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0004_append_without_judging', 'appends that nothing speaks against are stored without look-ups; the end of the log over all tenants', '5e6156c73d98ee61a0e44e6d011afaab6df7236f8fa7a7021feb19080004c6f0') ON CONFLICT (module, id) DO NOTHING;
