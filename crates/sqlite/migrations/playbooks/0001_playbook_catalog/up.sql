-- description: playbooks and their versions, whose content never changes
CREATE TABLE playbook_catalog (
    tenant_id   TEXT NOT NULL CHECK (typeof(tenant_id) = 'text' AND length(tenant_id) BETWEEN 1 AND 255),
    playbook_id TEXT NOT NULL CHECK (typeof(playbook_id) = 'text' AND length(playbook_id) BETWEEN 1 AND 255),
    version     TEXT NOT NULL CHECK (typeof(version) = 'text' AND length(version) BETWEEN 1 AND 255),
    name        TEXT NOT NULL CHECK (typeof(name) = 'text' AND length(name) BETWEEN 1 AND 255),
    description TEXT NOT NULL CHECK (typeof(description) = 'text' AND length(description) <= 65536),
    owner       TEXT CHECK (owner IS NULL OR (typeof(owner) = 'text' AND length(owner) BETWEEN 1 AND 255)),
    maintainer  TEXT CHECK (maintainer IS NULL OR (typeof(maintainer) = 'text' AND length(maintainer) BETWEEN 1 AND 255)),
    content     TEXT NOT NULL CHECK (typeof(content) = 'text' AND length(CAST(content AS BLOB)) <= 4194304),
    -- SHA-256 of the content, in hex. SQLite cannot compute it; it is checked whenever the row is read.
    content_hash TEXT NOT NULL CHECK (typeof(content_hash) = 'text' AND length(content_hash) = 64 AND content_hash NOT GLOB '*[^0-9a-f]*'),
    -- A JSON object of texts.
    labels      TEXT NOT NULL DEFAULT '{}' CHECK (typeof(labels) = 'text' AND substr(labels, 1, 1) = '{'),
    -- 384 numbers of 32 bits, little-endian; null: made when it is searched for.
    embedding   BLOB CHECK (embedding IS NULL OR (typeof(embedding) = 'blob' AND length(embedding) = 1536)),
    status      TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deprecated', 'archived')),
    disabled_at TEXT CHECK (disabled_at IS NULL OR disabled_at GLOB '????-??-??T??:??:??.??????Z'),
    disabled_by TEXT CHECK (disabled_by IS NULL OR (disabled_at IS NOT NULL AND length(disabled_by) BETWEEN 1 AND 255)),
    disabled_reason   TEXT CHECK (disabled_reason IS NULL OR disabled_at IS NOT NULL),
    is_latest_version INTEGER NOT NULL DEFAULT 0 CHECK (typeof(is_latest_version) = 'integer' AND is_latest_version IN (0, 1)),
    previous_version  TEXT CHECK (previous_version IS NULL OR length(previous_version) BETWEEN 1 AND 255),
    deprecation_notice TEXT,
    version_notes     TEXT CHECK (version_notes IS NULL OR length(version_notes) <= 65536),
    change_summary    TEXT CHECK (change_summary IS NULL OR length(change_summary) <= 65536),
    approved_by TEXT CHECK (approved_by IS NULL OR length(approved_by) BETWEEN 1 AND 255),
    approved_at TEXT CHECK (approved_at IS NULL OR approved_at GLOB '????-??-??T??:??:??.??????Z'),
    -- 0 to 1 with three decimals.
    expected_success_rate REAL CHECK (expected_success_rate IS NULL OR (typeof(expected_success_rate) = 'real'
        AND expected_success_rate BETWEEN 0 AND 1
        AND expected_success_rate = CAST(expected_success_rate * 1000 + 0.5 AS INTEGER) / 1000.0)),
    expected_duration_seconds INTEGER CHECK (expected_duration_seconds IS NULL OR (typeof(expected_duration_seconds) = 'integer'
        AND expected_duration_seconds BETWEEN 0 AND 4294967295)),
    actual_success_rate REAL CHECK (actual_success_rate IS NULL OR (typeof(actual_success_rate) = 'real'
        AND actual_success_rate BETWEEN 0 AND 1
        AND actual_success_rate = CAST(actual_success_rate * 1000 + 0.5 AS INTEGER) / 1000.0)),
    total_executions      INTEGER NOT NULL DEFAULT 0 CHECK (typeof(total_executions) = 'integer' AND total_executions >= 0),
    successful_executions INTEGER NOT NULL DEFAULT 0 CHECK (typeof(successful_executions) = 'integer'
        AND successful_executions BETWEEN 0 AND total_executions),
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) CHECK (created_at GLOB '????-??-??T??:??:??.??????Z'),
    updated_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')) CHECK (updated_at GLOB '????-??-??T??:??:??.??????Z'),
    created_by TEXT CHECK (created_by IS NULL OR length(created_by) BETWEEN 1 AND 255),
    updated_by TEXT CHECK (updated_by IS NULL OR length(updated_by) BETWEEN 1 AND 255),
    PRIMARY KEY (tenant_id, playbook_id, version)
);

-- At most one latest version of a playbook.
CREATE UNIQUE INDEX playbook_catalog_latest ON playbook_catalog (tenant_id, playbook_id) WHERE is_latest_version = 1;
CREATE INDEX playbook_catalog_hash ON playbook_catalog (tenant_id, playbook_id, content_hash);
CREATE INDEX idx_playbook_catalog_status ON playbook_catalog (tenant_id, status);
CREATE INDEX idx_playbook_catalog_created_at ON playbook_catalog (tenant_id, created_at);
CREATE INDEX idx_playbook_catalog_success_rate ON playbook_catalog (tenant_id, actual_success_rate)
    WHERE actual_success_rate IS NOT NULL;

CREATE TRIGGER playbook_catalog_keeps_its_content
BEFORE UPDATE OF tenant_id, playbook_id, version, name, description, content, content_hash, labels, created_at ON playbook_catalog
BEGIN SELECT RAISE(ABORT, 'playbook_catalog: a stored version keeps its content, name, description and labels; add a version'); END;
CREATE TRIGGER playbook_catalog_no_delete BEFORE DELETE ON playbook_catalog
BEGIN SELECT RAISE(ABORT, 'playbook_catalog: a stored version stays; set its status to archived'); END;
-- INSERT OR REPLACE and UPDATE OR REPLACE delete without asking the trigger above.
CREATE TRIGGER playbook_catalog_no_replace BEFORE INSERT ON playbook_catalog
WHEN EXISTS (SELECT 1 FROM playbook_catalog WHERE tenant_id = NEW.tenant_id AND playbook_id = NEW.playbook_id
             AND version = NEW.version)
  OR (NEW.is_latest_version = 1 AND EXISTS (SELECT 1 FROM playbook_catalog WHERE tenant_id = NEW.tenant_id
      AND playbook_id = NEW.playbook_id AND is_latest_version = 1))
BEGIN SELECT RAISE(ABORT, 'playbook_catalog: the version exists, or another one is the latest: take its mark first'); END;
CREATE TRIGGER playbook_catalog_one_latest BEFORE UPDATE OF is_latest_version ON playbook_catalog
WHEN NEW.is_latest_version = 1 AND EXISTS (SELECT 1 FROM playbook_catalog WHERE tenant_id = NEW.tenant_id
     AND playbook_id = NEW.playbook_id AND is_latest_version = 1 AND version <> NEW.version)
BEGIN SELECT RAISE(ABORT, 'playbook_catalog: another version is the latest: take its mark first'); END;
CREATE TRIGGER playbook_catalog_touch AFTER UPDATE ON playbook_catalog
WHEN NEW.updated_at = OLD.updated_at AND NEW.updated_at < strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
BEGIN
    UPDATE playbook_catalog SET updated_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    WHERE tenant_id = NEW.tenant_id AND playbook_id = NEW.playbook_id AND version = NEW.version;
END;

-- Moves with every change that a search can see, whoever makes it: what lets a program keep the vectors in memory.
CREATE TABLE playbook_catalog_stamp (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    changes INTEGER NOT NULL CHECK (typeof(changes) = 'integer')
);
INSERT INTO playbook_catalog_stamp (one, changes) VALUES (1, 0);
CREATE TRIGGER playbook_catalog_stamp_insert AFTER INSERT ON playbook_catalog
BEGIN UPDATE playbook_catalog_stamp SET changes = changes + 1; END;
CREATE TRIGGER playbook_catalog_stamp_update AFTER UPDATE OF status, is_latest_version, embedding ON playbook_catalog
BEGIN UPDATE playbook_catalog_stamp SET changes = changes + 1; END;
