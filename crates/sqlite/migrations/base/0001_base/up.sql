-- description: the record of migrations
-- Old programs open adopted files too: whatever is stored in the file keeps to the syntax of SQLite 3.8.
CREATE TABLE _migrations (
    id          TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    checksum    TEXT NOT NULL,
    applied_at  TEXT NOT NULL,
    mode        TEXT NOT NULL CHECK (mode IN ('native', 'adopted'))
);
