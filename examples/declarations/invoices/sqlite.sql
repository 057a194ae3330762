-- The file as a program of somebody's own made it. Row F-3 has an amount with three digits, F-4 a flag that is neither 0 nor 1.
CREATE TABLE invoice (
    number   TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    amount   REAL NOT NULL,
    paid     INTEGER NOT NULL DEFAULT 0,
    due_ms   INTEGER NOT NULL,
    token    BLOB NOT NULL,
    note     TEXT
);
CREATE TABLE invoice_line (
    number TEXT NOT NULL REFERENCES invoice (number),
    line   INTEGER NOT NULL,
    what   TEXT NOT NULL,
    PRIMARY KEY (number, line)
);
INSERT INTO invoice VALUES
    ('F-1', 'Ada',   10.25, 1, 1767225600000, x'00112233445566778899aabbccddeeff', NULL),
    ('F-2', 'Grace', 99.9,  0, 1767225600001, x'0123456789abcdef0123456789abcdef', ''),
    ('F-3', 'Edsger', 0.305, 0, 1767225600002, x'11112222333344445555666677778888', 'three digits'),
    ('F-4', 'Barbara', 7,    2, 1767225600003, x'99990000aaaabbbbccccddddeeeeffff', 'what does 2 mean?');
INSERT INTO invoice_line VALUES
    ('F-1', 1, '{"item": "tea", "count": 2}'),
    ('F-2', 1, '{"item": "paper"}'),
    ('F-2', 2, '{"item": "ink", "weight": 1e2}'),
    ('F-4', 1, '{"item": "chairs"}');
