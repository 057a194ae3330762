-- description: streams, events and the positions of consumers

CREATE SCHEMA IF NOT EXISTS event_store AUTHORIZATION changeover_owner;
CREATE SCHEMA IF NOT EXISTS read_model AUTHORIZATION changeover_owner;
CREATE SCHEMA IF NOT EXISTS command_model AUTHORIZATION changeover_owner;

SET ROLE changeover_owner;

COMMENT ON SCHEMA event_store IS 'Streams and their events, append-only';
COMMENT ON SCHEMA read_model IS 'Projections; everything here can be rebuilt from the events alone';
COMMENT ON SCHEMA command_model IS 'Normalised tables of the write side';

-- The one place that names the module: another module of this kind has the same SQL under a schema of its own.
CREATE OR REPLACE FUNCTION event_store.module_name() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'events'::text;
COMMENT ON FUNCTION event_store.module_name() IS 'Name of the module that this schema belongs to';

CREATE TABLE IF NOT EXISTS event_store.event_stream (
    tenant_id      text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    stream_id      uuid NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL CHECK (char_length(aggregate_type) BETWEEN 1 AND 255),
    aggregate_id   uuid NOT NULL,
    created_at     timestamptz NOT NULL,
    version        bigint NOT NULL DEFAULT 0 CHECK (version >= 0),
    CONSTRAINT event_stream_pkey PRIMARY KEY (tenant_id, stream_id),
    CONSTRAINT event_stream_aggregate_key UNIQUE (tenant_id, aggregate_type, aggregate_id)
) WITH (fillfactor = 80);   -- room for the version to change in place
COMMENT ON TABLE event_store.event_stream IS 'One row a stream; only event_store.append writes it';
COMMENT ON COLUMN event_store.event_stream.tenant_id IS 'Tenant that the stream belongs to';
COMMENT ON COLUMN event_store.event_stream.stream_id IS 'Identity of the stream inside this store';
COMMENT ON COLUMN event_store.event_stream.aggregate_type IS 'Kind of aggregate, the stream''s category';
COMMENT ON COLUMN event_store.event_stream.aggregate_id IS 'The aggregate, unique within its type and tenant';
COMMENT ON COLUMN event_store.event_stream.created_at IS 'When the first event was recorded';
COMMENT ON COLUMN event_store.event_stream.version IS 'Version of the last event, which is also their number';

CREATE SEQUENCE IF NOT EXISTS event_store.event_position AS bigint;
COMMENT ON SEQUENCE event_store.event_position IS 'Global positions; taken under the position lock of the module only';

CREATE TABLE IF NOT EXISTS event_store.domain_event (
    tenant_id         text COLLATE "C" NOT NULL,
    position          bigint NOT NULL CHECK (position > 0),
    event_id          uuid NOT NULL,
    stream_id         uuid NOT NULL,
    event_type        text COLLATE "C" NOT NULL CHECK (char_length(event_type) BETWEEN 1 AND 255),
    event_version     integer NOT NULL CHECK (event_version > 0),
    aggregate_version bigint NOT NULL CHECK (aggregate_version > 0),
    event_data        jsonb NOT NULL CHECK (event_data <> 'null'::jsonb),
    metadata          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    occurred_at       timestamptz NOT NULL,
    recorded_at       timestamptz NOT NULL,
    causation_id      uuid,
    correlation_id    uuid,
    CONSTRAINT domain_event_pkey PRIMARY KEY (tenant_id, event_id),
    CONSTRAINT domain_event_position_key UNIQUE (tenant_id, position),
    CONSTRAINT domain_event_version_key UNIQUE (tenant_id, stream_id, aggregate_version),
    CONSTRAINT domain_event_stream_fkey FOREIGN KEY (tenant_id, stream_id) REFERENCES event_store.event_stream,
    CONSTRAINT domain_event_occurred_at_check
        CHECK (occurred_at >= '0001-01-01 00:00:00+00' AND occurred_at < '10000-01-01 00:00:00+00')
);
CREATE INDEX IF NOT EXISTS domain_event_type ON event_store.domain_event (tenant_id, event_type, position);
CREATE INDEX IF NOT EXISTS domain_event_occurred_at ON event_store.domain_event (tenant_id, occurred_at DESC);
CREATE INDEX IF NOT EXISTS domain_event_correlation ON event_store.domain_event (tenant_id, correlation_id)
    WHERE correlation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS domain_event_data ON event_store.domain_event USING gin (event_data jsonb_path_ops);
COMMENT ON TABLE event_store.domain_event IS 'The events, append-only; update, delete and truncate are refused for everybody';
COMMENT ON COLUMN event_store.domain_event.tenant_id IS 'Tenant that the event belongs to';
COMMENT ON COLUMN event_store.domain_event.position IS 'Place in the global order: grows in the order of commits, with gaps';
COMMENT ON COLUMN event_store.domain_event.event_id IS 'Identity given by the writer; writing it again changes nothing';
COMMENT ON COLUMN event_store.domain_event.stream_id IS 'Stream that the event belongs to';
COMMENT ON COLUMN event_store.domain_event.event_type IS 'What happened';
COMMENT ON COLUMN event_store.domain_event.event_version IS 'Version of the payload''s schema, from 1';
COMMENT ON COLUMN event_store.domain_event.aggregate_version IS 'Place in the stream, from 1 without gaps';
COMMENT ON COLUMN event_store.domain_event.event_data IS 'Payload';
COMMENT ON COLUMN event_store.domain_event.metadata IS 'What the writer says about the event beside its payload';
COMMENT ON COLUMN event_store.domain_event.occurred_at IS 'When it happened, by the writer; the time of recording when the writer gave none';
COMMENT ON COLUMN event_store.domain_event.recorded_at IS 'When it was recorded, by the server; never goes back within a tenant';
COMMENT ON COLUMN event_store.domain_event.causation_id IS 'What caused the event';
COMMENT ON COLUMN event_store.domain_event.correlation_id IS 'What the event belongs together with';

CREATE TABLE IF NOT EXISTS event_store.consumer_position (
    tenant_id  text COLLATE "C" NOT NULL CHECK (char_length(tenant_id) BETWEEN 1 AND 255),
    consumer   text COLLATE "C" NOT NULL CHECK (char_length(consumer) BETWEEN 1 AND 255),
    position   bigint NOT NULL CHECK (position >= 0),
    updated_at timestamptz NOT NULL,
    CONSTRAINT consumer_position_pkey PRIMARY KEY (tenant_id, consumer)
) WITH (fillfactor = 80);
COMMENT ON TABLE event_store.consumer_position IS 'How far each consumer has come; written in the transaction of what the consumer derived';
COMMENT ON COLUMN event_store.consumer_position.tenant_id IS 'Tenant whose log is consumed';
COMMENT ON COLUMN event_store.consumer_position.consumer IS 'Name of the consumer';
COMMENT ON COLUMN event_store.consumer_position.position IS 'Last position dealt with; only ever grows';
COMMENT ON COLUMN event_store.consumer_position.updated_at IS 'When the position was last moved';

-- Row security is forced, so that the owner, as whom the functions run, sees one tenant as well. An unset tenant and
-- an empty one (what remains of a transaction's setting on a pooled connection) see nothing.
DO $row_security$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['event_stream', 'domain_event', 'consumer_position'] LOOP
        EXECUTE pg_catalog.format('ALTER TABLE event_store.%I ENABLE ROW LEVEL SECURITY', relation);
        EXECUTE pg_catalog.format('ALTER TABLE event_store.%I FORCE ROW LEVEL SECURITY', relation);
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policies AS p
                       WHERE p.schemaname = 'event_store' AND p.tablename = relation AND p.policyname = 'tenant') THEN
            EXECUTE pg_catalog.format(
                $policy$CREATE POLICY tenant ON event_store.%I
                    USING (tenant_id = NULLIF(pg_catalog.current_setting('changeover.tenant_id', true), ''))$policy$,
                relation);
        END IF;
        EXECUTE pg_catalog.format('GRANT SELECT ON event_store.%I TO changeover_app, changeover_copier', relation);
    END LOOP;
END
$row_security$;

-- The one place that decides whether stored rows may be changed. Statement triggers call it, because row security
-- would let a row trigger see nothing and the statement pass as "0 rows".
CREATE OR REPLACE FUNCTION event_store.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $refuse$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: what is recorded does not change', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'COIMM', HINT = 'Append an event that corrects the earlier one.';
END
$refuse$;
COMMENT ON FUNCTION event_store.refuse_change() IS 'Refuses to change or remove recorded rows, whoever asks';

CREATE OR REPLACE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON event_store.domain_event
    FOR EACH STATEMENT EXECUTE FUNCTION event_store.refuse_change();
CREATE OR REPLACE TRIGGER immutable BEFORE DELETE OR TRUNCATE ON event_store.event_stream
    FOR EACH STATEMENT EXECUTE FUNCTION event_store.refuse_change();
CREATE OR REPLACE TRIGGER only_version_grows BEFORE UPDATE ON event_store.event_stream
    FOR EACH ROW WHEN (NEW.version <= OLD.version OR NEW.created_at <> OLD.created_at
                       OR (NEW.tenant_id, NEW.stream_id, NEW.aggregate_type, NEW.aggregate_id)
                       IS DISTINCT FROM (OLD.tenant_id, OLD.stream_id, OLD.aggregate_type, OLD.aggregate_id))
    EXECUTE FUNCTION event_store.refuse_change();

GRANT USAGE ON SCHEMA event_store TO changeover_app, changeover_copier;
GRANT USAGE ON SCHEMA read_model, command_model TO changeover_app;

INSERT INTO changeover.module (module, log_id, owner, tables)
VALUES (event_store.module_name(), pg_catalog.gen_random_uuid(), 'none',
        ARRAY['event_store.event_stream', 'event_store.domain_event'])
ON CONFLICT (module) DO NOTHING;

RESET ROLE;

INSERT INTO changeover._migrations (module, id, description, checksum) VALUES ('events', 'events/0001_streams_and_events', 'streams, events and the positions of consumers', '5a90991f4ea69e44d9e496eb2b32586570e2a3670e9a92b9096de7562d42fe60') ON CONFLICT (module, id) DO NOTHING;
