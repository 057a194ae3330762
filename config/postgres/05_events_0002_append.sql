-- description: the write functions

SET ROLE changeover_owner;

-- What every write begins with. The locks are held to the end of the transaction, and in this order everywhere, so
-- that no deadlock is possible:
--   1. the module's lock, shared: a switch of the owner takes it exclusively and so waits for writers in flight;
--   2. the owner, read by a statement of its own and therefore from a snapshot taken after the lock was had;
--   3. the module's position lock: until the commit no other writer takes a position, so positions grow in the order
--      of commits, and what the next statements read cannot change under them.
CREATE OR REPLACE FUNCTION event_store.begin_write(p_tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $begin_write$
DECLARE
    v_module constant text := event_store.module_name();
    v_owner  text;
BEGIN
    -- Snapshots older than the locks would let a writer miss a switch.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'appends run in READ COMMITTED transactions, not in %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;

    PERFORM pg_advisory_xact_lock_shared(changeover.lock_key(v_module, 'module'));
    SELECT m.owner INTO v_owner FROM changeover.module AS m WHERE m.module = v_module;
    IF v_owner IS DISTINCT FROM 'postgres' THEN
        RAISE EXCEPTION 'module "%" is not owned by this database but by: %', v_module, coalesce(v_owner, 'nobody known')
            USING ERRCODE = 'COMVD', HINT = 'Ask changeover.module for the owner; a module nobody owns is had by changeover.claim.';
    END IF;

    PERFORM event_store.set_tenant(p_tenant);
    PERFORM pg_advisory_xact_lock(changeover.lock_key(v_module, 'position'));
END
$begin_write$;
COMMENT ON FUNCTION event_store.begin_write(text) IS 'Takes the locks of a write, checks that this database owns the module, and sets the tenant';

-- Sets the tenant for the rest of the transaction.
CREATE OR REPLACE FUNCTION event_store.set_tenant(p_tenant text) RETURNS void
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
COMMENT ON FUNCTION event_store.set_tenant(text) IS 'Sets the tenant for the rest of the transaction; refuses an empty one and a second one';

-- Whether a stream at a version (0: no such stream) is as expected; see append for the numbers.
CREATE OR REPLACE FUNCTION event_store.is_expected(p_expected bigint, p_actual bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE p_expected WHEN -1 THEN true WHEN -2 THEN p_actual > 0 ELSE p_actual = p_expected END;
COMMENT ON FUNCTION event_store.is_expected(bigint, bigint) IS 'Whether a stream at a version is as expected';

-- The write of everything: set-based, one call for several independent requests.
--
-- Streams are parallel arrays (s_...), one entry a stream: the request it belongs to, the id it gets when it is new, its
-- aggregate, and what is expected of its version (-1 anything, -2 that it exists, 0 that it does not, n exactly that).
-- Events (e_...) stand stream by stream and name their stream by its place, from 1. Tracking (t_...) moves a consumer's
-- position together with the request. Requests of one call share neither streams nor event ids nor consumers.
--
-- A request is stored whole or not at all, whatever becomes of the others. It is judged in this order:
--   replayed   all its event ids are stored, in the same streams, in a row, with equal content: the first answer again
--   conflict   a stream's version is not the expected one: actual_version says what it is (0: no such stream)
--   exists     an event id is stored already: event_id names the first
--   tracked    the consumer has come as far before: stream is null, last_position is the position recorded
--   stored
-- One row comes back a stream, and one a refused tracking; 'refused' marks the streams of a refused request that were
-- not at fault.
--
-- Nothing depends on the tables' statistics: plans are kept for the session, and one that was made while a table was
-- small must not read it whole when it has grown. Hence look-ups under LIMIT 1, generic plans and no sequential scans.
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
$append$;
COMMENT ON FUNCTION event_store.append(text, integer[], uuid[], text[], uuid[], bigint[], integer[], uuid[], text[], integer[], jsonb[], jsonb[], timestamptz[], uuid[], uuid[], integer[], text[], bigint[])
    IS 'Stores events of several requests in one round trip; see the migration for the arguments and outcomes';

-- For people who write SQL: one stream, events as objects with event_id (a new one if absent), event_type, event_version,
-- event_data, metadata, occurred_at (RFC 3339 with offset), causation_id and correlation_id. The tenant is the setting
-- changeover.tenant_id. Raises CO400 for what is not valid, CO409 for a version that is not the expected one (with
-- expected and actual in DETAIL), CO410 for an event id that other content holds. Other sessions are told by NOTIFY.
CREATE OR REPLACE FUNCTION event_store.append_events(p_type text, p_id uuid, p_expected bigint, p_events jsonb[])
RETURNS uuid
-- Nothing here may depend on the session's time zone: occurred_at has an offset of its own.
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $append_events$
DECLARE
    v_tenant constant text := current_setting('changeover.tenant_id', true);
    v_event  jsonb;
    v_key    text;
    v_place  integer := 0;
    v_ids    uuid[] := '{}';
    v_answer record;
BEGIN
    IF coalesce(v_tenant, '') = '' THEN
        RAISE EXCEPTION 'no tenant is set' USING ERRCODE = 'CO400', HINT = 'SET changeover.tenant_id = ''<tenant>'';';
    END IF;
    IF p_type IS NULL OR char_length(p_type) NOT BETWEEN 1 AND 255 OR p_id IS NULL THEN
        RAISE EXCEPTION 'aggregate type (1 to 255 characters) and aggregate id are required' USING ERRCODE = 'CO400';
    END IF;
    IF p_expected IS NULL OR p_expected < -2 THEN
        RAISE EXCEPTION 'an expected version is required: -1 anything, -2 the stream exists, 0 it does not, n exactly that'
            USING ERRCODE = 'CO400';
    END IF;
    IF p_events IS NULL OR cardinality(p_events) = 0 OR array_ndims(p_events) <> 1 THEN
        RAISE EXCEPTION 'a list of at least one event is required' USING ERRCODE = 'CO400';
    END IF;

    FOREACH v_event IN ARRAY p_events LOOP
        v_place := v_place + 1;
        IF v_event IS NULL OR jsonb_typeof(v_event) <> 'object' THEN
            RAISE EXCEPTION 'event %: an object is required', v_place USING ERRCODE = 'CO400';
        END IF;
        SELECT k INTO v_key FROM jsonb_object_keys(v_event) AS k
         WHERE k NOT IN ('event_id', 'event_type', 'event_version', 'event_data', 'metadata', 'occurred_at',
                         'causation_id', 'correlation_id') LIMIT 1;
        IF v_key IS NOT NULL THEN
            RAISE EXCEPTION 'event %: unknown key %', v_place, to_json(v_key) USING ERRCODE = 'CO400';
        END IF;
        IF coalesce(jsonb_typeof(v_event -> 'event_type'), '') <> 'string'
           OR char_length(v_event ->> 'event_type') NOT BETWEEN 1 AND 255 THEN
            RAISE EXCEPTION 'event %: event_type is required, 1 to 255 characters', v_place USING ERRCODE = 'CO400';
        END IF;
        IF coalesce(jsonb_typeof(v_event -> 'event_version'), '') <> 'number'
           OR NOT pg_input_is_valid(v_event ->> 'event_version', 'integer')
           OR (v_event ->> 'event_version')::integer < 1 THEN
            RAISE EXCEPTION 'event %: event_version is required, a whole number from 1', v_place USING ERRCODE = 'CO400';
        END IF;
        IF coalesce(jsonb_typeof(v_event -> 'event_data'), 'null') = 'null' THEN
            RAISE EXCEPTION 'event %: event_data is required and not null', v_place USING ERRCODE = 'CO400';
        END IF;
        IF jsonb_typeof(v_event -> 'metadata') <> 'object' THEN
            RAISE EXCEPTION 'event %: metadata is an object', v_place USING ERRCODE = 'CO400';
        END IF;
        FOREACH v_key IN ARRAY ARRAY['event_id', 'causation_id', 'correlation_id'] LOOP
            IF NOT pg_input_is_valid(v_event ->> v_key, 'uuid') THEN
                RAISE EXCEPTION 'event %: % is not a UUID', v_place, v_key USING ERRCODE = 'CO400';
            END IF;
        END LOOP;
        IF v_event ->> 'occurred_at' !~ '^\d{4}-\d\d-\d\d[Tt ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$'
           OR NOT pg_input_is_valid(v_event ->> 'occurred_at', 'timestamptz') THEN
            RAISE EXCEPTION 'event %: occurred_at is not a time with an offset, like 2024-01-31T12:00:00Z', v_place
                USING ERRCODE = 'CO400';
        END IF;
        v_ids := v_ids || coalesce((v_event ->> 'event_id')::uuid, gen_random_uuid());
    END LOOP;
    IF cardinality(v_ids) <> (SELECT count(DISTINCT i) FROM unnest(v_ids) AS i) THEN
        RAISE EXCEPTION 'an event id stands twice in the list' USING ERRCODE = 'CO400';
    END IF;

    SELECT a.* INTO v_answer
      FROM (SELECT array_agg(e ->> 'event_type' ORDER BY i) AS types,
                   array_agg((e ->> 'event_version')::integer ORDER BY i) AS versions,
                   array_agg(e -> 'event_data' ORDER BY i) AS data,
                   array_agg(coalesce(e -> 'metadata', '{}') ORDER BY i) AS metadata,
                   -- Digits below a microsecond are cut, as everywhere, where a cast would round.
                   array_agg(regexp_replace(e ->> 'occurred_at', '(\.\d{6})\d+', '\1')::timestamptz ORDER BY i) AS occurred,
                   array_agg((e ->> 'causation_id')::uuid ORDER BY i) AS causation,
                   array_agg((e ->> 'correlation_id')::uuid ORDER BY i) AS correlation
              FROM unnest(p_events) WITH ORDINALITY AS u (e, i)) AS e
     CROSS JOIN LATERAL event_store.append(
           v_tenant, ARRAY[1], ARRAY[gen_random_uuid()], ARRAY[p_type], ARRAY[p_id], ARRAY[p_expected],
           array_fill(1, ARRAY[cardinality(v_ids)]), v_ids, e.types, e.versions, e.data, e.metadata, e.occurred,
           e.causation, e.correlation) AS a;
    CASE v_answer.outcome
        WHEN 'conflict' THEN
            RAISE EXCEPTION 'version conflict on stream %/%: expected %, actual %', p_type, p_id, p_expected,
                v_answer.actual_version
                USING ERRCODE = 'CO409', DETAIL = format('expected=%s actual=%s', p_expected, v_answer.actual_version),
                      HINT = 'Load the stream again and decide anew; 0 means that it does not exist.';
        WHEN 'exists' THEN
            RAISE EXCEPTION 'event id % is already stored with other content', v_answer.event_id
                USING ERRCODE = 'CO410', HINT = 'Give a new event an id of its own.';
        WHEN 'stored' THEN
            PERFORM pg_notify('changeover_' || event_store.module_name(), '');
        ELSE NULL;   -- replayed: nobody has anything new to read
    END CASE;
    RETURN (SELECT t.stream_id FROM event_store.event_stream AS t
             WHERE t.tenant_id = v_tenant AND t.aggregate_type = p_type AND t.aggregate_id = p_id);
END
$append_events$;
COMMENT ON FUNCTION event_store.append_events(text, uuid, bigint, jsonb[])
    IS 'Appends events to one stream of the tenant in changeover.tenant_id and returns the stream''s id';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA event_store FROM PUBLIC;
GRANT EXECUTE ON FUNCTION event_store.module_name() TO PUBLIC;
GRANT EXECUTE ON FUNCTION event_store.append, event_store.append_events TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0002_append', 'the write functions', '9d37246cca7cef28e155a9d9afbc490d037b7957606058faa3855f54fbf1aa8e') ON CONFLICT (module, id) DO NOTHING;
