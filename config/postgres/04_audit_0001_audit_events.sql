-- description: audit events in a partition a month

CREATE SCHEMA IF NOT EXISTS audit_store AUTHORIZATION changeover_owner;

SET ROLE changeover_owner;

COMMENT ON SCHEMA audit_store IS 'Audit events, append-only, in a partition a month';

-- The one place that names the module: another module of this kind has the same SQL under a schema of its own.
CREATE OR REPLACE FUNCTION audit_store.module_name() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'audit'::text;
COMMENT ON FUNCTION audit_store.module_name() IS 'Name of the module that this schema belongs to';

-- A key of the partitioned table has to hold the month, so an id could stand once in each. Here it stands once (DEF-13),
-- and here the link to a parent finds its key (DEF-16).
CREATE TABLE IF NOT EXISTS audit_store.audit_event_id (
    tenant_id  text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    event_id   uuid NOT NULL,
    event_date date NOT NULL,
    digest     bytea NOT NULL CHECK (octet_length(digest) = 32),
    CONSTRAINT audit_event_id_pkey PRIMARY KEY (tenant_id, event_id)
);
COMMENT ON TABLE audit_store.audit_event_id IS 'Every id of an audit event, over all months; removed with its event by retention only';
COMMENT ON COLUMN audit_store.audit_event_id.tenant_id IS 'Tenant that the event belongs to';
COMMENT ON COLUMN audit_store.audit_event_id.event_id IS 'Identity given by the writer';
COMMENT ON COLUMN audit_store.audit_event_id.event_date IS 'The event''s date, which says in what partition it is';
COMMENT ON COLUMN audit_store.audit_event_id.digest IS 'SHA-256 of the event''s canonical text; the same event written again has the same';

CREATE TABLE IF NOT EXISTS audit_store.audit_events (
    tenant_id       text COLLATE "C" NOT NULL,
    sequence        bigint NOT NULL CHECK (sequence > 0),
    event_id        uuid NOT NULL,
    event_type      text COLLATE "C" NOT NULL CHECK (char_length(event_type) BETWEEN 1 AND 100),
    event_category  text COLLATE "C" NOT NULL CHECK (char_length(event_category) BETWEEN 1 AND 50),
    event_outcome   text COLLATE "C" NOT NULL CHECK (event_outcome IN ('success', 'failure', 'pending', 'skipped')),
    event_timestamp timestamptz NOT NULL,
    event_date      date NOT NULL,
    service_name    text COLLATE "C" NOT NULL CHECK (char_length(service_name) BETWEEN 1 AND 100),
    service_version text COLLATE "C" CHECK (char_length(service_version) BETWEEN 1 AND 50),
    actor_type      text COLLATE "C" NOT NULL
        CHECK (actor_type IN ('system', 'user', 'service', 'operator', 'controller')),
    actor_id        text COLLATE "C" CHECK (char_length(actor_id) BETWEEN 1 AND 255),
    actor_name      text COLLATE "C" CHECK (char_length(actor_name) BETWEEN 1 AND 255),
    resource_type   text COLLATE "C" NOT NULL CHECK (char_length(resource_type) BETWEEN 1 AND 100),
    resource_id     text COLLATE "C" NOT NULL CHECK (char_length(resource_id) BETWEEN 1 AND 255),
    resource_name   text COLLATE "C" CHECK (char_length(resource_name) BETWEEN 1 AND 255),
    event_data      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(event_data) = 'object'),
    correlation_id  text COLLATE "C" CHECK (char_length(correlation_id) BETWEEN 1 AND 255),
    parent_event_id uuid CHECK (parent_event_id <> event_id),
    trace_id        text COLLATE "C" CHECK (char_length(trace_id) BETWEEN 1 AND 255),
    span_id         text COLLATE "C" CHECK (char_length(span_id) BETWEEN 1 AND 255),
    metadata        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    recorded_at     timestamptz NOT NULL,
    content_digest  bytea NOT NULL CHECK (octet_length(content_digest) = 32),
    chain_link      bytea CHECK (chain_link IS NULL OR (octet_length(chain_link) = 32 AND correlation_id IS NOT NULL)),
    CONSTRAINT audit_events_pkey PRIMARY KEY (tenant_id, event_id, event_date),
    CONSTRAINT audit_events_parent_fkey FOREIGN KEY (tenant_id, parent_event_id) REFERENCES audit_store.audit_event_id,
    -- A trigger or a generated column would come too late for the choice of the partition (DEF-12).
    CONSTRAINT audit_events_utc_date_check CHECK (event_date = (event_timestamp AT TIME ZONE 'UTC')::date),
    CONSTRAINT audit_events_range_check
        CHECK (event_timestamp >= '1970-01-01 00:00:00+00' AND event_timestamp < '10000-01-01 00:00:00+00')
) PARTITION BY RANGE (event_date);
CREATE INDEX IF NOT EXISTS idx_audit_events_event_type
    ON audit_store.audit_events (tenant_id, event_type, event_timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_events_event_category
    ON audit_store.audit_events (tenant_id, event_category, event_timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_events_correlation_id
    ON audit_store.audit_events (tenant_id, correlation_id, event_timestamp DESC) WHERE correlation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_audit_events_chain
    ON audit_store.audit_events (tenant_id, correlation_id, sequence) WHERE correlation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_audit_events_service_name
    ON audit_store.audit_events (tenant_id, service_name, event_timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_events_event_timestamp
    ON audit_store.audit_events (tenant_id, event_timestamp DESC, event_id);
CREATE INDEX IF NOT EXISTS idx_audit_events_resource
    ON audit_store.audit_events (tenant_id, resource_type, resource_id, event_timestamp DESC);
CREATE INDEX IF NOT EXISTS idx_audit_events_actor
    ON audit_store.audit_events (tenant_id, actor_id, event_timestamp DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_audit_events_event_data
    ON audit_store.audit_events USING gin (event_data jsonb_path_ops);
CREATE INDEX IF NOT EXISTS idx_audit_events_sequence ON audit_store.audit_events (tenant_id, sequence);
CREATE INDEX IF NOT EXISTS idx_audit_events_parent
    ON audit_store.audit_events (tenant_id, parent_event_id) WHERE parent_event_id IS NOT NULL;
COMMENT ON TABLE audit_store.audit_events IS 'The audit trail, append-only; update, delete and truncate are refused for everybody but retention';
COMMENT ON COLUMN audit_store.audit_events.tenant_id IS 'Tenant that the event belongs to';
COMMENT ON COLUMN audit_store.audit_events.sequence IS 'Place in the order of recording, which is the order of commits';
COMMENT ON COLUMN audit_store.audit_events.event_id IS 'Identity given by the writer, unique over all months; writing it again changes nothing';
COMMENT ON COLUMN audit_store.audit_events.event_type IS 'What happened';
COMMENT ON COLUMN audit_store.audit_events.event_category IS 'What part of the service it concerns; retention is by category';
COMMENT ON COLUMN audit_store.audit_events.event_outcome IS 'How it ended: success, failure, pending or skipped';
COMMENT ON COLUMN audit_store.audit_events.event_timestamp IS 'When it happened, by the writer';
COMMENT ON COLUMN audit_store.audit_events.event_date IS 'Date of event_timestamp in UTC, which decides the partition';
COMMENT ON COLUMN audit_store.audit_events.service_name IS 'Service that tells';
COMMENT ON COLUMN audit_store.audit_events.service_version IS 'Version of that service';
COMMENT ON COLUMN audit_store.audit_events.actor_type IS 'Who acted: system, user, service, operator or controller';
COMMENT ON COLUMN audit_store.audit_events.actor_id IS 'Id of who acted';
COMMENT ON COLUMN audit_store.audit_events.actor_name IS 'Name of who acted';
COMMENT ON COLUMN audit_store.audit_events.resource_type IS 'Kind of what was acted upon';
COMMENT ON COLUMN audit_store.audit_events.resource_id IS 'Id of what was acted upon';
COMMENT ON COLUMN audit_store.audit_events.resource_name IS 'Name of what was acted upon';
COMMENT ON COLUMN audit_store.audit_events.event_data IS 'The payload, an object';
COMMENT ON COLUMN audit_store.audit_events.correlation_id IS 'What the event belongs together with, over services';
COMMENT ON COLUMN audit_store.audit_events.parent_event_id IS 'Event that led to this one';
COMMENT ON COLUMN audit_store.audit_events.trace_id IS 'Trace that the event was part of';
COMMENT ON COLUMN audit_store.audit_events.span_id IS 'Span within the trace';
COMMENT ON COLUMN audit_store.audit_events.metadata IS 'What the writer says beside the payload, an object';
COMMENT ON COLUMN audit_store.audit_events.recorded_at IS 'When it was recorded, by the server; never goes back along the sequence';
COMMENT ON COLUMN audit_store.audit_events.content_digest IS 'SHA-256 of the event''s canonical text';
COMMENT ON COLUMN audit_store.audit_events.chain_link IS 'SHA-256 of the link before it in the chain of the correlation id and of content_digest; null outside of chains';

CREATE TABLE IF NOT EXISTS audit_store.audit_head (
    tenant_id   text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    sequence    bigint NOT NULL CHECK (sequence > 0),
    recorded_at timestamptz NOT NULL,
    CONSTRAINT audit_head_pkey PRIMARY KEY (tenant_id)
) WITH (fillfactor = 20);   -- changes with every write
COMMENT ON TABLE audit_store.audit_head IS 'How far the trail of each tenant has come';
COMMENT ON COLUMN audit_store.audit_head.tenant_id IS 'Tenant whose trail it is';
COMMENT ON COLUMN audit_store.audit_head.sequence IS 'The last place given';
COMMENT ON COLUMN audit_store.audit_head.recorded_at IS 'Time of the last recording';

CREATE TABLE IF NOT EXISTS audit_store.audit_chain (
    tenant_id      text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    correlation_id text COLLATE "C" NOT NULL CHECK (char_length(correlation_id) BETWEEN 1 AND 255),
    sequence       bigint NOT NULL,
    event_id       uuid NOT NULL,
    link           bytea NOT NULL CHECK (octet_length(link) = 32),
    CONSTRAINT audit_chain_pkey PRIMARY KEY (tenant_id, correlation_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE audit_store.audit_chain IS 'Head of the hash chain of each correlation id, so that a missing end is found';
COMMENT ON COLUMN audit_store.audit_chain.tenant_id IS 'Tenant that the chain belongs to';
COMMENT ON COLUMN audit_store.audit_chain.correlation_id IS 'Correlation id that the chain is of';
COMMENT ON COLUMN audit_store.audit_chain.sequence IS 'Place of the last record in the order of recording';
COMMENT ON COLUMN audit_store.audit_chain.event_id IS 'The last record';
COMMENT ON COLUMN audit_store.audit_chain.link IS 'Its link';

-- Retention removes by category, so a gap can be anywhere in a chain and not only at its beginning.
CREATE TABLE IF NOT EXISTS audit_store.audit_anchor (
    tenant_id      text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    correlation_id text COLLATE "C" NOT NULL CHECK (char_length(correlation_id) BETWEEN 1 AND 255),
    sequence       bigint NOT NULL,
    link           bytea NOT NULL CHECK (octet_length(link) = 32),
    CONSTRAINT audit_anchor_pkey PRIMARY KEY (tenant_id, correlation_id, sequence)
);
COMMENT ON TABLE audit_store.audit_anchor IS 'Where retention removed records of a chain: the link that the chain goes on from';
COMMENT ON COLUMN audit_store.audit_anchor.tenant_id IS 'Tenant that the chain belongs to';
COMMENT ON COLUMN audit_store.audit_anchor.correlation_id IS 'Correlation id that the chain is of';
COMMENT ON COLUMN audit_store.audit_anchor.sequence IS 'Place of the last record removed in this gap';
COMMENT ON COLUMN audit_store.audit_anchor.link IS 'Its link';

-- Row security is forced, so that the owner, as whom the functions run, sees one tenant as well. An unset tenant and
-- an empty one (what remains of a transaction's setting on a pooled connection) see nothing.
DO $row_security$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['audit_event_id', 'audit_events', 'audit_head', 'audit_chain', 'audit_anchor'] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE audit_store.%I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE pg_catalog.format('ALTER TABLE audit_store.%I FORCE ROW LEVEL SECURITY', relation);
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                       WHERE p.schemaname = 'audit_store' AND p.tablename = relation AND p.policyname = 'tenant') THEN
            EXECUTE pg_catalog.format(
                $policy$CREATE POLICY tenant ON audit_store.%I
                    USING (tenant_id = NULLIF(pg_catalog.current_setting('changeover.tenant_id', true), ''))$policy$,
                relation);
        END IF;
        EXECUTE pg_catalog.format('GRANT SELECT ON audit_store.%I TO changeover_app, changeover_copier', relation);
    END LOOP;
END
$row_security$;

-- The one place that decides whether stored rows may be changed. Statement triggers call it, because row security
-- would let a row trigger see nothing and the statement pass as "0 rows". The key of retention is the number of its
-- transaction: a setting that somebody forgot opens nothing.
CREATE OR REPLACE FUNCTION audit_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    IF TG_OP = 'DELETE' AND TG_ARGV[0] = 'retention'
       AND current_setting('changeover.retention', true) = pg_current_xact_id_if_assigned()::text THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Record an event that corrects the earlier one; retention removes what has expired.';
END
$refuse$;
COMMENT ON FUNCTION audit_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks; retention is let through where its name is the argument';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR TRUNCATE ON audit_store.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE ON audit_store.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change('retention');
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR TRUNCATE ON audit_store.audit_event_id
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE ON audit_store.audit_event_id
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change('retention');
CREATE OR REPLACE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON audit_store.audit_head
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER only_grows BEFORE UPDATE ON audit_store.audit_head
    FOR EACH ROW WHEN (NEW.tenant_id <> OLD.tenant_id OR NEW.sequence <= OLD.sequence OR NEW.recorded_at < OLD.recorded_at)
    EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON audit_store.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER only_grows BEFORE UPDATE ON audit_store.audit_chain
    FOR EACH ROW WHEN ((NEW.tenant_id, NEW.correlation_id) IS DISTINCT FROM (OLD.tenant_id, OLD.correlation_id)
                       OR NEW.sequence <= OLD.sequence)
    EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR TRUNCATE ON audit_store.audit_anchor
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE DELETE ON audit_store.audit_anchor
    FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change('retention');

-- The first day of a month. date_trunc would go through the session's time zone.
CREATE OR REPLACE FUNCTION audit_store.month_of(p_day date) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.make_date(extract(year FROM p_day)::integer, extract(month FROM p_day)::integer, 1);
COMMENT ON FUNCTION audit_store.month_of(date) IS 'First day of the day''s month';

-- The partition of a month, null if there is none. Only a partition of this schema's table counts (DEF-14). Found in the
-- catalogue's rows and not by to_regclass, which may still remember that there was none when another session, which this
-- one has just waited for, has made it.
CREATE OR REPLACE FUNCTION audit_store.partition_of(p_month date) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT c.oid::regclass FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
         WHERE i.inhparent = to_regclass('audit_store.audit_events')
           AND c.relname = 'audit_events_' || to_char(p_month::timestamp, 'YYYY_MM'));
COMMENT ON FUNCTION audit_store.partition_of(date) IS 'Partition of the month that begins on a day; null if there is none';

-- Creates a month's partition apart and then attaches it: to create it in place would lock readers and writers out
-- (DEF-15). Attaching needs the table of ids to itself for a moment, because of the foreign key, so the position lock
-- comes first: then no writer is in between, and none can be in a deadlock with this. Readers are never in the way.
CREATE OR REPLACE FUNCTION audit_store.ensure_month(p_day date) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $ensure_month$
DECLARE
    v_from constant date := audit_store.month_of(p_day);
    v_to   constant date := audit_store.month_of(v_from + 31);
    v_name constant text := 'audit_events_' || to_char(v_from::timestamp, 'YYYY_MM');
BEGIN
    IF v_from IS NULL OR v_from < '1970-01-01' OR v_from >= '9999-01-01' THEN
        RAISE EXCEPTION 'audit events have dates from 1970 to 9998, not %', p_day USING ERRCODE = 'CO400';
    END IF;
    IF audit_store.partition_of(v_from) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(changeover.lock_key(audit_store.module_name(), 'position'));
    IF audit_store.partition_of(v_from) IS NOT NULL THEN
        RETURN NULL;   -- somebody else made it meanwhile
    END IF;

    EXECUTE format('CREATE TABLE audit_store.%I (LIKE audit_store.audit_events INCLUDING ALL)', v_name);
    EXECUTE format('COMMENT ON TABLE audit_store.%I IS %L', v_name, 'Audit events of ' || to_char(v_from::timestamp, 'YYYY-MM'));
    EXECUTE format('CREATE TRIGGER immutable BEFORE UPDATE OR TRUNCATE ON audit_store.%I
        FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change()', v_name);
    EXECUTE format('CREATE TRIGGER kept BEFORE DELETE ON audit_store.%I
        FOR EACH STATEMENT EXECUTE FUNCTION audit_store.refuse_change(''retention'')', v_name);
    -- Not forced here: retention, which is the owner's, has to see whether a month holds records of other tenants.
    EXECUTE format('ALTER TABLE audit_store.%I ENABLE ROW LEVEL SECURITY', v_name);
    EXECUTE format($policy$CREATE POLICY tenant ON audit_store.%I
        USING (tenant_id = NULLIF(pg_catalog.current_setting('changeover.tenant_id', true), ''))$policy$, v_name);
    EXECUTE format('GRANT SELECT ON audit_store.%I TO changeover_app, changeover_copier', v_name);
    EXECUTE format('ALTER TABLE audit_store.audit_events ATTACH PARTITION audit_store.%I FOR VALUES FROM (%L) TO (%L)',
                   v_name, v_from, v_to);
    RETURN v_name;
END
$ensure_month$;
COMMENT ON FUNCTION audit_store.ensure_month(date) IS 'Makes the partition for a day''s month and returns its name; null if it was there. Waits at most five seconds for each lock';

-- Made of today's date and not of fixed ones, each missing month and not the last alone, so that it may be run as
-- seldom or as often as one likes (DEF-14).
CREATE OR REPLACE FUNCTION audit_store.create_audit_events_partition(
    p_today date DEFAULT (pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')::date
) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $create_partition$
DECLARE
    v_month date;
    v_name  text;
    v_made  text[] := '{}';
BEGIN
    IF p_today IS NULL OR p_today < '1970-01-01' OR p_today > (clock_timestamp() AT TIME ZONE 'UTC') + interval '10 years' THEN
        RAISE EXCEPTION 'partitions are made for a day from 1970 to ten years from now, not for %', p_today USING ERRCODE = 'CO400';
    END IF;
    v_month := audit_store.month_of(p_today);
    FOR ahead IN 0..3 LOOP
        v_name := audit_store.ensure_month(v_month);
        IF v_name IS NOT NULL THEN
            v_made := v_made || v_name;
        END IF;
        v_month := audit_store.month_of(v_month + 31);
    END LOOP;
    RETURN v_made;
END
$create_partition$;
COMMENT ON FUNCTION audit_store.create_audit_events_partition(date) IS 'Makes the partitions that are missing for the month of a day and the next three, and returns their names';

-- The coming months that a partition is missing for.
CREATE OR REPLACE FUNCTION audit_store.missing_months(
    p_today date DEFAULT (pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')::date
) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT coalesce(array_agg(to_char(m.month, 'YYYY-MM') ORDER BY m.month), '{}')
          FROM generate_series(audit_store.month_of(p_today)::timestamp,
                               audit_store.month_of(p_today)::timestamp + interval '3 months', interval '1 month') AS m (month)
         WHERE audit_store.partition_of(m.month::date) IS NULL);
COMMENT ON FUNCTION audit_store.missing_months(date) IS 'Of the month of a day and the next three, those without a partition';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA audit_store FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_store.module_name() TO PUBLIC;
GRANT EXECUTE ON FUNCTION audit_store.month_of, audit_store.partition_of, audit_store.missing_months,
    audit_store.create_audit_events_partition TO changeover_app;
GRANT USAGE ON SCHEMA audit_store TO changeover_app, changeover_copier;

DO $months$
BEGIN
    PERFORM audit_store.create_audit_events_partition();
END
$months$;

INSERT INTO changeover.module AS m (module, log_id, owner, tables)
VALUES (audit_store.module_name(), pg_catalog.gen_random_uuid(), 'none',
        ARRAY['audit_store.audit_events', 'audit_store.audit_event_id'])
ON CONFLICT (module) DO UPDATE SET tables = ARRAY(
    SELECT DISTINCT t FROM pg_catalog.unnest(m.tables || EXCLUDED.tables) AS t ORDER BY t);

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('audit', 'audit/0001_audit_events', 'audit events in a partition a month', 'b3cdd0c080792223271415262edd3c5bec3ede040731c8b14bc2fab8b284a22d') ON CONFLICT (module, id) DO NOTHING;
