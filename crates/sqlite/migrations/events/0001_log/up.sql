-- description: the identity of the log and the positions of consumers
-- One row: `adopted` says whether the events lie in tables of legacy programs, `high_water` and `high_water_event` are
-- the highest position given out there and the event that has it.
CREATE TABLE changeover_log (
    one              INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    log_id           TEXT NOT NULL CHECK (typeof(log_id) = 'text' AND length(log_id) = 36),
    adopted          INTEGER NOT NULL CHECK (adopted IN (0, 1)),
    high_water       INTEGER NOT NULL DEFAULT 0 CHECK (typeof(high_water) = 'integer' AND high_water >= 0),
    high_water_event TEXT
);

CREATE TABLE changeover_consumer (
    tenant_id TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    consumer  TEXT NOT NULL CHECK (typeof(consumer) = 'text' AND length(consumer) BETWEEN 1 AND 255),
    position  INTEGER NOT NULL CHECK (typeof(position) = 'integer' AND position >= 0),
    PRIMARY KEY (tenant_id, consumer)
);
