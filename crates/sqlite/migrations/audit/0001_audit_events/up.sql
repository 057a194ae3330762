-- description: audit events, append-only, and the hash chains over them
-- `sequence` is the recorded order: AUTOINCREMENT never gives a number twice, and the one writer of a file gives them in
-- the order of commits.
CREATE TABLE audit_events (
    sequence        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT CHECK (sequence > 0),
    tenant_id       TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    event_id        TEXT NOT NULL CHECK (typeof(event_id) = 'text' AND length(event_id) = 36 AND event_id = lower(event_id)),
    event_type      TEXT NOT NULL CHECK (typeof(event_type) = 'text' AND length(event_type) BETWEEN 1 AND 100),
    event_category  TEXT NOT NULL CHECK (typeof(event_category) = 'text' AND length(event_category) BETWEEN 1 AND 50),
    event_outcome   TEXT NOT NULL CHECK (event_outcome IN ('success', 'failure', 'pending', 'skipped')),
    event_timestamp TEXT NOT NULL CHECK (typeof(event_timestamp) = 'text' AND event_timestamp GLOB '????-??-??T??:??:??.??????Z'),
    event_date      TEXT NOT NULL CHECK (event_date = substr(event_timestamp, 1, 10)),
    service_name    TEXT NOT NULL CHECK (typeof(service_name) = 'text' AND length(service_name) BETWEEN 1 AND 100),
    service_version TEXT CHECK (service_version IS NULL OR (typeof(service_version) = 'text' AND length(service_version) BETWEEN 1 AND 50)),
    actor_type      TEXT NOT NULL CHECK (actor_type IN ('system', 'user', 'service', 'operator', 'controller')),
    actor_id        TEXT CHECK (actor_id IS NULL OR (typeof(actor_id) = 'text' AND length(actor_id) BETWEEN 1 AND 255)),
    actor_name      TEXT CHECK (actor_name IS NULL OR (typeof(actor_name) = 'text' AND length(actor_name) BETWEEN 1 AND 255)),
    resource_type   TEXT NOT NULL CHECK (typeof(resource_type) = 'text' AND length(resource_type) BETWEEN 1 AND 100),
    resource_id     TEXT NOT NULL CHECK (typeof(resource_id) = 'text' AND length(resource_id) BETWEEN 1 AND 255),
    resource_name   TEXT CHECK (resource_name IS NULL OR (typeof(resource_name) = 'text' AND length(resource_name) BETWEEN 1 AND 255)),
    event_data      TEXT NOT NULL DEFAULT '{}' CHECK (typeof(event_data) = 'text' AND substr(event_data, 1, 1) = '{'),
    correlation_id  TEXT CHECK (correlation_id IS NULL OR (typeof(correlation_id) = 'text' AND length(correlation_id) BETWEEN 1 AND 255)),
    parent_event_id TEXT CHECK (parent_event_id IS NULL OR parent_event_id <> event_id),
    trace_id        TEXT CHECK (trace_id IS NULL OR (typeof(trace_id) = 'text' AND length(trace_id) BETWEEN 1 AND 255)),
    span_id         TEXT CHECK (span_id IS NULL OR (typeof(span_id) = 'text' AND length(span_id) BETWEEN 1 AND 255)),
    metadata        TEXT NOT NULL DEFAULT '{}' CHECK (typeof(metadata) = 'text' AND substr(metadata, 1, 1) = '{'),
    recorded_at     TEXT NOT NULL CHECK (typeof(recorded_at) = 'text' AND recorded_at GLOB '????-??-??T??:??:??.??????Z'),
    content_digest  BLOB NOT NULL CHECK (typeof(content_digest) = 'blob' AND length(content_digest) = 32),
    -- Null without a correlation id, and while chains are off.
    link            BLOB CHECK (link IS NULL OR (typeof(link) = 'blob' AND length(link) = 32 AND correlation_id IS NOT NULL)),
    UNIQUE (tenant_id, event_id),
    FOREIGN KEY (tenant_id, parent_event_id) REFERENCES audit_events (tenant_id, event_id)
);

CREATE INDEX audit_events_tenant ON audit_events (tenant_id, sequence);
CREATE INDEX audit_events_parent ON audit_events (tenant_id, parent_event_id) WHERE parent_event_id IS NOT NULL;
CREATE INDEX audit_events_chain ON audit_events (tenant_id, correlation_id, sequence) WHERE correlation_id IS NOT NULL;
CREATE INDEX idx_audit_events_event_timestamp ON audit_events (tenant_id, event_timestamp DESC, event_id);
CREATE INDEX idx_audit_events_event_type ON audit_events (tenant_id, event_type, event_timestamp DESC, event_id);
CREATE INDEX idx_audit_events_event_category ON audit_events (tenant_id, event_category, event_timestamp DESC, event_id);
CREATE INDEX idx_audit_events_service_name ON audit_events (tenant_id, service_name, event_timestamp DESC, event_id);
CREATE INDEX idx_audit_events_resource ON audit_events (tenant_id, resource_type, resource_id, event_timestamp DESC, event_id);
CREATE INDEX idx_audit_events_actor ON audit_events (tenant_id, actor_id, event_timestamp DESC, event_id) WHERE actor_id IS NOT NULL;
CREATE INDEX idx_audit_events_correlation_id ON audit_events (tenant_id, correlation_id, event_timestamp DESC, event_id)
    WHERE correlation_id IS NOT NULL;

-- The last record of each chain, so that a missing end is found. No foreign key: retention may take the record.
CREATE TABLE audit_chain (
    tenant_id      TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    correlation_id TEXT NOT NULL CHECK (typeof(correlation_id) = 'text' AND length(correlation_id) BETWEEN 1 AND 255),
    event_id       TEXT NOT NULL CHECK (typeof(event_id) = 'text' AND length(event_id) = 36),
    link           BLOB NOT NULL CHECK (typeof(link) = 'blob' AND length(link) = 32),
    PRIMARY KEY (tenant_id, correlation_id)
);

-- Where retention removed records of a chain: the place and the link of the last one of each gap.
CREATE TABLE audit_anchor (
    tenant_id      TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    correlation_id TEXT NOT NULL CHECK (typeof(correlation_id) = 'text' AND length(correlation_id) BETWEEN 1 AND 255),
    sequence       INTEGER NOT NULL CHECK (typeof(sequence) = 'integer' AND sequence > 0),
    link           BLOB NOT NULL CHECK (typeof(link) = 'blob' AND length(link) = 32),
    PRIMARY KEY (tenant_id, correlation_id, sequence)
);

-- The key to the delete trigger: retention writes what is due here, deletes, and takes it away again, all in one
-- transaction, so nobody else ever sees it.
CREATE TABLE audit_retention (
    tenant_id      TEXT NOT NULL,
    event_category TEXT NOT NULL,
    last_date      TEXT NOT NULL CHECK (last_date GLOB '????-??-??'),
    PRIMARY KEY (tenant_id, event_category)
);

CREATE TRIGGER audit_events_no_update BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit_events is append-only: no update'); END;
CREATE TRIGGER audit_events_no_delete BEFORE DELETE ON audit_events
WHEN NOT EXISTS (SELECT 1 FROM audit_retention r WHERE r.tenant_id = OLD.tenant_id
                 AND r.event_category = OLD.event_category AND OLD.event_date <= r.last_date)
BEGIN SELECT RAISE(ABORT, 'audit_events is append-only: only retention deletes, and only what is due'); END;
-- INSERT OR REPLACE deletes without asking the trigger above.
CREATE TRIGGER audit_events_no_replace BEFORE INSERT ON audit_events
WHEN EXISTS (SELECT 1 FROM audit_events WHERE tenant_id = NEW.tenant_id AND event_id = NEW.event_id)
  OR EXISTS (SELECT 1 FROM audit_events WHERE sequence = NEW.sequence)
BEGIN SELECT RAISE(ABORT, 'audit_events is append-only: the event exists'); END;
