-- description: streams and their events, append-only
CREATE TABLE event_stream (
    tenant_id      TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    stream_id      TEXT NOT NULL CHECK (typeof(stream_id) = 'text' AND length(stream_id) = 36),
    aggregate_type TEXT NOT NULL CHECK (typeof(aggregate_type) = 'text' AND length(aggregate_type) BETWEEN 1 AND 255),
    aggregate_id   TEXT NOT NULL CHECK (typeof(aggregate_id) = 'text' AND length(aggregate_id) = 36),
    created_at     TEXT NOT NULL CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    version        INTEGER NOT NULL DEFAULT 0 CHECK (typeof(version) = 'integer' AND version >= 0),
    PRIMARY KEY (tenant_id, stream_id),
    UNIQUE (tenant_id, aggregate_type, aggregate_id)
);

-- `position` is the global order: AUTOINCREMENT never gives a number twice, and the one writer of a file gives them in
-- the order of commits.
CREATE TABLE domain_event (
    position          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT CHECK (position > 0),
    tenant_id         TEXT NOT NULL CHECK (typeof(tenant_id) = 'text'),
    event_id          TEXT NOT NULL CHECK (typeof(event_id) = 'text' AND length(event_id) = 36),
    stream_id         TEXT NOT NULL,
    event_type        TEXT NOT NULL CHECK (typeof(event_type) = 'text' AND length(event_type) BETWEEN 1 AND 255),
    event_version     INTEGER NOT NULL CHECK (typeof(event_version) = 'integer' AND event_version BETWEEN 1 AND 2147483647),
    aggregate_version INTEGER NOT NULL CHECK (typeof(aggregate_version) = 'integer' AND aggregate_version > 0),
    event_data        TEXT NOT NULL CHECK (typeof(event_data) = 'text' AND event_data <> 'null'),
    metadata          TEXT NOT NULL CHECK (typeof(metadata) = 'text' AND substr(metadata, 1, 1) = '{'),
    occurred_at       TEXT NOT NULL CHECK (occurred_at GLOB '????-??-??T??:??:??.??????Z'),
    recorded_at       TEXT NOT NULL CHECK (recorded_at GLOB '????-??-??T??:??:??.??????Z'),
    causation_id      TEXT CHECK (causation_id IS NULL OR length(causation_id) = 36),
    correlation_id    TEXT CHECK (correlation_id IS NULL OR length(correlation_id) = 36),
    UNIQUE (tenant_id, event_id),
    UNIQUE (tenant_id, stream_id, aggregate_version),
    FOREIGN KEY (tenant_id, stream_id) REFERENCES event_stream (tenant_id, stream_id)
);
CREATE INDEX domain_event_tenant ON domain_event (tenant_id, position);

CREATE TRIGGER domain_event_no_update BEFORE UPDATE ON domain_event
BEGIN SELECT RAISE(ABORT, 'domain_event is append-only: no update'); END;
CREATE TRIGGER domain_event_no_delete BEFORE DELETE ON domain_event
BEGIN SELECT RAISE(ABORT, 'domain_event is append-only: no delete'); END;
-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER domain_event_no_replace BEFORE INSERT ON domain_event
WHEN EXISTS (SELECT 1 FROM domain_event WHERE tenant_id = NEW.tenant_id AND event_id = NEW.event_id)
  OR EXISTS (SELECT 1 FROM domain_event WHERE tenant_id = NEW.tenant_id AND stream_id = NEW.stream_id
                AND aggregate_version = NEW.aggregate_version)
  OR EXISTS (SELECT 1 FROM domain_event WHERE position = NEW.position)
BEGIN SELECT RAISE(ABORT, 'domain_event is append-only: the event exists'); END;

CREATE TRIGGER event_stream_no_delete BEFORE DELETE ON event_stream
BEGIN SELECT RAISE(ABORT, 'event_stream is append-only: no delete'); END;
CREATE TRIGGER event_stream_keeps_its_name
BEFORE UPDATE OF tenant_id, stream_id, aggregate_type, aggregate_id, created_at ON event_stream
BEGIN SELECT RAISE(ABORT, 'event_stream: only the version of a stream changes'); END;
