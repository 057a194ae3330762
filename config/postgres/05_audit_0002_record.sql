-- description: the write function

SET ROLE changeover_owner;

-- What every write begins with. The locks are held to the end of the transaction, and in this order everywhere, so
-- that no deadlock is possible:
--   1. the module's lock, shared: a switch of the owner takes it exclusively and so waits for writers in flight;
--   2. the owner, read by a statement of its own and therefore from a snapshot taken after the lock was had;
--   3. the module's position lock: until the commit no other writer takes a place in the order of recording, so places
--      grow in the order of commits, chains are continued by one writer at a time, and no partition is attached.
CREATE OR REPLACE FUNCTION audit_store.begin_write(p_tenant text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $begin_write$
DECLARE
    v_module constant text := audit_store.module_name();
    v_owner  text;
BEGIN
    -- Snapshots older than the locks would let a writer miss a switch.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'audit events are recorded in READ COMMITTED transactions, not in %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'feature_not_supported', HINT = 'Begin the transaction with ISOLATION LEVEL READ COMMITTED.';
    END IF;

    PERFORM pg_advisory_xact_lock_shared(changeover.lock_key(v_module, 'module'));
    SELECT m.owner INTO v_owner FROM changeover.module AS m WHERE m.module = v_module;
    IF v_owner IS DISTINCT FROM 'postgres' THEN
        RAISE EXCEPTION 'module "%" is not owned by this database but by: %', v_module, coalesce(v_owner, 'nobody known')
            USING ERRCODE = 'COMVD', HINT = 'Ask changeover.module for the owner; a module nobody owns is had by changeover.claim.';
    END IF;

    PERFORM audit_store.set_tenant(p_tenant);
    PERFORM pg_advisory_xact_lock(changeover.lock_key(v_module, 'position'));
END
$begin_write$;
COMMENT ON FUNCTION audit_store.begin_write(text) IS 'Takes the locks of a write, checks that this database owns the module, and sets the tenant';

-- Sets the tenant for the rest of the transaction.
CREATE OR REPLACE FUNCTION audit_store.set_tenant(p_tenant text) RETURNS void
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
COMMENT ON FUNCTION audit_store.set_tenant(text) IS 'Sets the tenant for the rest of the transaction; refuses an empty one and a second one';

-- One link of a hash chain: of the link before it, or of 32 zero bytes, and of the record's content. As an aggregate over
-- a window it runs along a chain; p_head is the link that the first record of the window goes on from.
CREATE OR REPLACE FUNCTION audit_store.link(p_link bytea, p_head bytea, p_content bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $link$
BEGIN
    RETURN sha256(coalesce(p_link, p_head, '\x0000000000000000000000000000000000000000000000000000000000000000'::bytea)
                  || p_content);
END
$link$;
COMMENT ON FUNCTION audit_store.link(bytea, bytea, bytea) IS 'The next link of a hash chain';

CREATE OR REPLACE AGGREGATE audit_store.chain(p_head bytea, p_content bytea) (SFUNC = audit_store.link, STYPE = bytea);
COMMENT ON AGGREGATE audit_store.chain(bytea, bytea) IS 'The last link of a hash chain, after a head, over contents in their order';

-- The write of everything: set-based, one call for several independent requests.
--
-- Events are parallel arrays, in the order they are recorded in; e_request numbers the request each belongs to. e_digest
-- is the SHA-256 of the event's canonical text, which says whether two events are equal. Requests of one call share no
-- event ids, and none names an event of another as a parent.
--
-- A request is stored whole or not at all, whatever becomes of the others. An event whose id is stored with the same
-- digest is repeated and nothing more is asked of it. Otherwise a request is judged in this order:
--   time       an event is before 1970 or more than five minutes ahead of this server's clock: event_id names the first
--   exists     an id is stored with another digest: event_id names the first
--   no_parent  a parent is neither stored nor stands earlier in the request: event_id names the first missing parent
--   stored     stored says how many are new, repeated how many were there
CREATE OR REPLACE FUNCTION audit_store.record(
    p_tenant text, p_chained boolean,
    e_request integer[], e_id uuid[], e_type text[], e_category text[], e_outcome text[], e_timestamp timestamptz[],
    e_service text[], e_service_version text[], e_actor_type text[], e_actor_id text[], e_actor_name text[],
    e_resource_type text[], e_resource_id text[], e_resource_name text[], e_data jsonb[], e_correlation text[],
    e_parent uuid[], e_trace text[], e_span text[], e_metadata jsonb[], e_digest bytea[]
) RETURNS TABLE (request integer, outcome text, stored bigint, repeated bigint, event_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $record$
#variable_conflict use_column
DECLARE
    v_verdict  text[];               -- of each event: new, repeated, time, exists or no_parent
    v_refused  integer[];            -- requests that are not stored
    v_months   date[];               -- months of what is stored
    v_count    bigint;               -- how many events are stored
    v_sequence bigint;               -- the place before the first one's
    v_now      timestamptz;
    v_latest   constant timestamptz := clock_timestamp() + interval '5 minutes';
BEGIN
    PERFORM audit_store.begin_write(p_tenant);

    SELECT array_agg(v.verdict ORDER BY v.i),
           coalesce(array_agg(DISTINCT v.request) FILTER (WHERE v.verdict NOT IN ('new', 'repeated')), '{}'),
           coalesce(array_agg(DISTINCT audit_store.month_of((v.at AT TIME ZONE 'UTC')::date))
                    FILTER (WHERE v.verdict = 'new'), '{}')
      INTO v_verdict, v_refused, v_months
      FROM (SELECT e.i, e.request, e.at,
                   CASE WHEN k.digest = e.digest THEN 'repeated'
                        WHEN (e.at >= '1970-01-01 00:00:00+00' AND e.at <= v_latest) IS NOT TRUE THEN 'time'
                        WHEN k.digest IS NOT NULL THEN 'exists'
                        WHEN e.parent IS NOT NULL AND p.is_stored IS NULL
                             AND NOT coalesce(e_request[array_position(e_id, e.parent)] = e.request
                                              AND array_position(e_id, e.parent) < e.i, false) THEN 'no_parent'
                        ELSE 'new' END AS verdict
              FROM unnest(e_request, e_id, e_timestamp, e_parent, e_digest)
                   WITH ORDINALITY AS e (request, id, at, parent, digest, i)
              LEFT JOIN LATERAL (SELECT k.digest FROM audit_store.audit_event_id AS k
                                  WHERE k.tenant_id = p_tenant AND k.event_id = e.id LIMIT 1) AS k ON true
              LEFT JOIN LATERAL (SELECT true AS is_stored FROM audit_store.audit_event_id AS p
                                  WHERE p.tenant_id = p_tenant AND p.event_id = e.parent LIMIT 1) AS p ON true) AS v;

    SELECT count(*) INTO v_count FROM unnest(e_request, v_verdict) AS e (request, verdict)
     WHERE e.verdict = 'new' AND e.request <> ALL (v_refused);

    IF v_count > 0 THEN
        PERFORM audit_store.ensure_month(m.month) FROM unnest(v_months) AS m (month)
          WHERE audit_store.partition_of(m.month) IS NULL;

        INSERT INTO audit_store.audit_head AS h (tenant_id, sequence, recorded_at)
        VALUES (p_tenant, v_count, clock_timestamp())
        ON CONFLICT (tenant_id) DO UPDATE SET sequence = h.sequence + EXCLUDED.sequence,
                                              recorded_at = greatest(h.recorded_at, EXCLUDED.recorded_at)
        RETURNING h.sequence - v_count, h.recorded_at INTO v_sequence, v_now;

        INSERT INTO audit_store.audit_event_id (tenant_id, event_id, event_date, digest)
        SELECT p_tenant, e.id, (e.at AT TIME ZONE 'UTC')::date, e.digest
          FROM unnest(e_request, v_verdict, e_id, e_timestamp, e_digest) AS e (request, verdict, id, at, digest)
         WHERE e.verdict = 'new' AND e.request <> ALL (v_refused);

        -- No join of these, whose sizes the planner cannot know: it would compare each with each.
        WITH fresh AS MATERIALIZED (
            SELECT e.*, v_sequence + row_number() OVER (ORDER BY e.i) AS sequence,
                   audit_store.chain(c.link, e.digest) FILTER (WHERE p_chained AND e.correlation IS NOT NULL)
                       OVER (PARTITION BY e.correlation ORDER BY e.i) AS link
              FROM unnest(e_request, v_verdict, e_id, e_type, e_category, e_outcome, e_timestamp, e_service,
                          e_service_version, e_actor_type, e_actor_id, e_actor_name, e_resource_type, e_resource_id,
                          e_resource_name, e_data, e_correlation, e_parent, e_trace, e_span, e_metadata, e_digest)
                   WITH ORDINALITY AS e (request, verdict, id, type, category, outcome, at, service, service_version,
                          actor_type, actor_id, actor_name, resource_type, resource_id, resource_name, data, correlation,
                          parent, trace, span, metadata, digest, i)
              LEFT JOIN LATERAL (SELECT c.link FROM audit_store.audit_chain AS c
                                  WHERE p_chained AND c.tenant_id = p_tenant AND c.correlation_id = e.correlation LIMIT 1) AS c
                ON true
             WHERE e.verdict = 'new' AND e.request <> ALL (v_refused)
        ), heads AS (
            INSERT INTO audit_store.audit_chain (tenant_id, correlation_id, sequence, event_id, link)
            SELECT DISTINCT ON (f.correlation) p_tenant, f.correlation, f.sequence, f.id, f.link
              FROM fresh AS f WHERE f.link IS NOT NULL ORDER BY f.correlation, f.sequence DESC
            ON CONFLICT (tenant_id, correlation_id) DO UPDATE
                SET sequence = EXCLUDED.sequence, event_id = EXCLUDED.event_id, link = EXCLUDED.link
        )
        INSERT INTO audit_store.audit_events (
            tenant_id, sequence, event_id, event_type, event_category, event_outcome, event_timestamp, event_date,
            service_name, service_version, actor_type, actor_id, actor_name, resource_type, resource_id, resource_name,
            event_data, correlation_id, parent_event_id, trace_id, span_id, metadata, recorded_at, content_digest, chain_link)
        SELECT p_tenant, f.sequence, f.id, f.type, f.category, f.outcome, f.at, (f.at AT TIME ZONE 'UTC')::date,
               f.service, f.service_version, f.actor_type, f.actor_id, f.actor_name, f.resource_type, f.resource_id,
               f.resource_name, f.data, f.correlation, f.parent, f.trace, f.span, f.metadata, v_now, f.digest, f.link
          FROM fresh AS f ORDER BY f.sequence;
    END IF;

    RETURN QUERY
    SELECT v.request, coalesce(v.fault, 'stored'),
           CASE WHEN v.fault IS NULL THEN v.fresh ELSE 0 END, CASE WHEN v.fault IS NULL THEN v.repeated ELSE 0 END,
           CASE v.fault WHEN 'no_parent' THEN e_parent[v.place] ELSE e_id[v.place] END
      FROM (SELECT e.request, count(*) FILTER (WHERE e.verdict = 'new') AS fresh,
                   count(*) FILTER (WHERE e.verdict = 'repeated') AS repeated,
                   CASE WHEN bool_or(e.verdict = 'time') THEN 'time'
                        WHEN bool_or(e.verdict = 'exists') THEN 'exists'
                        WHEN bool_or(e.verdict = 'no_parent') THEN 'no_parent' END AS fault,
                   coalesce(min(e.i) FILTER (WHERE e.verdict = 'time'), min(e.i) FILTER (WHERE e.verdict = 'exists'),
                            min(e.i) FILTER (WHERE e.verdict = 'no_parent')) AS place
              FROM unnest(e_request, v_verdict) WITH ORDINALITY AS e (request, verdict, i) GROUP BY e.request) AS v;
END
$record$;
COMMENT ON FUNCTION audit_store.record IS 'Stores audit events of several requests in one round trip; see the migration for the arguments and outcomes';

REVOKE ALL ON FUNCTION audit_store.begin_write, audit_store.set_tenant, audit_store.link, audit_store.chain(bytea, bytea),
    audit_store.record FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_store.record, audit_store.link TO changeover_app;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('audit', 'audit/0002_record', 'the write function', '7b1ac4e4a95e7d337e206f4fbd7f2c1d9a2534fde4c70d2db8cc01e3683d3a22') ON CONFLICT (module, id) DO NOTHING;
